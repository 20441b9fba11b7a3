//! What this process takes of its machine, as the system tells it: memory, descriptors, threads, time on the processors.
//! Nothing is kept. What the system does not tell (`/proc` is not there, or closed) is `None`, never a wrong figure.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Looked at just now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in use, in bytes: what is in RAM of it, files that are mapped included.
    pub resident_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Descriptors in use: files, and every connection.
    pub open_descriptors: Option<u64>,
    /// How many there may be (`LimitNOFILE`).
    pub most_descriptors: Option<u64>,
    /// Time on processors since the start.
    pub processor: Duration,
}

impl Usage {
    /// Reads a few lines of `/proc/self`: tens of microseconds, and one per thousand descriptors.
    #[must_use]
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let descriptors = std::fs::read_dir("/proc/self/fd").ok();
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident_bytes: line(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: line(&status, "Threads:"),
            // One of them is the folder that is being read.
            open_descriptors: descriptors.map(|all| (all.count() as u64).saturating_sub(1)),
            most_descriptors: getrlimit(Resource::Nofile).current,
            processor: Duration::new(
                u64::try_from(spent.tv_sec).unwrap_or_default(),
                u32::try_from(spent.tv_nsec).unwrap_or_default(),
            ),
        }
    }

    /// Whether four fifths of the descriptors are in use: the next burst of connections may find none.
    #[must_use]
    pub fn is_short_of_descriptors(&self) -> bool {
        let (Some(open), Some(most)) = (self.open_descriptors, self.most_descriptors) else { return false };
        open > most / 5 * 4
    }
}

/// The number in a line such as `VmRSS:     29000 kB`.
fn line(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_this_process_takes() {
        let before = Usage::now();
        let held = std::fs::File::open("/dev/null").unwrap();
        let after = Usage::now();
        drop(held);
        assert!(before.resident_bytes.unwrap() > 1 << 20, "{before:?}");
        assert!(before.threads.unwrap() >= 1 && after.processor >= before.processor);
        assert!(after.open_descriptors.unwrap() > 3 && after.most_descriptors.unwrap() >= 1024, "{after:?}");
        assert!(!after.is_short_of_descriptors());
    }

    #[test]
    fn what_is_not_told_is_not_made_up() {
        let status = "Name:\tshearwater\nVmRSS:\t   29000 kB\nThreads:\tmany\n";
        assert_eq!(
            (line(status, "VmRSS:"), line(status, "Threads:"), line(status, "FDSize:")),
            (Some(29000), None, None)
        );
        let short = |open, most| {
            Usage { open_descriptors: open, most_descriptors: most, ..Usage::default() }.is_short_of_descriptors()
        };
        for (open, most, expected) in [
            (Some(800), Some(1000), false),
            (Some(801), Some(1000), true),
            (None, Some(1000), false),
            (Some(9), None, false),
        ] {
            assert_eq!(short(open, most), expected, "{open:?} of {most:?}");
        }
    }
}
