//! What this process takes of its machine, as the system tells it: memory, descriptors, threads, time on the processors.
//! Nothing is kept. What the system does not tell (`/proc` is not there, or closed) is `None`, never a wrong figure.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// As many descriptors as a busy relay wants, and what the unit in `deploy/` allows: some systems give a program 1,024 and let
/// it ask for more.
const DESCRIPTORS: u64 = 65_536;

/// How many descriptors this process may have; `None`: no limit.
#[must_use]
pub fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises that, if it is less than a busy relay wants, as far as the system lets us; how many there may be now. For the
/// whole process: who runs it calls this, not a part of it.
pub fn raise_descriptors() -> Option<u64> {
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    if limits.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limits })
    {
        tracing::warn!(%error, "the limit of descriptors cannot be raised");
    }
    most_descriptors()
}

/// Who takes descriptors by the thousand. Together they leave a quarter: for requests of ours that are under way, and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// Connections from the world.
    World,
    /// Those of each of the operator's two listeners.
    Operator,
    /// Connections to other servers that are kept open.
    Kept,
}

impl Taker {
    /// How many descriptors it may have of `most`, if it wants so many; `None` is no limit. One at least.
    #[must_use]
    pub fn room(self, most: Option<u64>, wanted: usize) -> usize {
        let sixteenths = match self {
            Self::World => 6,
            Self::Operator => 1,
            Self::Kept => 4,
        };
        let room = most.map_or(usize::MAX, |most| usize::try_from(most / 16 * sixteenths).unwrap_or(usize::MAX));
        wanted.min(room).max(1)
    }
}

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
            most_descriptors: most_descriptors(),
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
    fn what_is_taken_by_the_thousand_fits_into_the_descriptors_that_there_are() {
        // As the defaults are.
        let wanted = [(Taker::World, 8192), (Taker::Kept, 16_384), (Taker::Operator, 256), (Taker::Operator, 256)];
        for most in [256, 1024, 4096, 16_384, DESCRIPTORS, 1 << 20] {
            let taken: usize = wanted.iter().map(|(taker, wanted)| taker.room(Some(most), *wanted)).sum();
            assert!(taken as u64 <= most - most / 4, "{taken} of {most}");
        }
        for (taker, wanted) in wanted {
            for most in [Some(DESCRIPTORS), None] {
                assert_eq!(taker.room(most, wanted), wanted, "as much as is wanted of {most:?}");
            }
        }
        let few = [Taker::World, Taker::Kept, Taker::Operator].map(|taker| taker.room(Some(1024), 100_000));
        assert_eq!(few, [384, 256, 64]);
    }

    /// The test below runs this one in a process of its own: the limit holds for all of it.
    #[test]
    #[ignore = "run by the_limit_of_descriptors_is_raised_as_far_as_it_may_be"]
    fn child_of_the_limit_test() {
        let allowed = getrlimit(Resource::Nofile).maximum;
        let set = |current, maximum| {
            setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap();
            raise_descriptors().unwrap()
        };
        let wanted = allowed.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
        assert_eq!(set(256, allowed), wanted, "as many as are wanted, or allowed");
        assert_eq!(set(256, Some(512)), 512, "no more than are allowed");
        assert_eq!(set(512, Some(512)), 512);
    }

    #[test]
    fn the_limit_of_descriptors_is_raised_as_far_as_it_may_be() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args(["telemetry::process::tests::child_of_the_limit_test", "--exact", "--ignored"]);
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
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
