//! How much memory this process has.

use std::fmt;

use crate::support::amount;

/// In MiB; 0 where there is no `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Memory {
    /// Its own.
    anonymous: f64,
    /// Its own, and pages of files that the kernel keeps for it as long as there is room: the index is read that way.
    resident: f64,
}

impl Memory {
    pub(crate) fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let read = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kibibytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok());
            kibibytes.unwrap_or_default() / 1024.0
        };
        Self { anonymous: read("RssAnon"), resident: read("VmRSS") }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} MiB", amount(self.anonymous), amount(self.resident))
    }
}
