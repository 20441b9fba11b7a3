//! What the benches share: how they are called, and how a table is written. Beside this file, for those that want it: how
//! stretches of work are timed and compared (`rates`), a real relay in a temporary folder (`relay`), one with subscribers
//! (`stage`), the daemon's allocator (`allocator`), and posts for the search (`corpus`).
//!
//! Figures are comparisons: what is measured and what it is compared with run in turns within one run, and the ratio is
//! that of each turn. Nothing here asserts a time; a busy machine makes a figure worse, never a test red.

use std::io::{self, Write};

/// How the program was called.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// By `cargo bench`: measure. Otherwise, as a test: tiny input, and only whether it works.
    pub(crate) full: bool,
    words: Vec<String>,
}

impl Call {
    /// Reads the command line; `None` if there is nothing to do. What Cargo and libtest's users pass to tests is
    /// understood as far as it must be: a filter that does not fit our name, and `--list`.
    pub(crate) fn read(name: &str) -> Option<Self> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let full = arguments.iter().any(|one| one == "--bench");
        let listed = arguments.iter().any(|one| one == "--list");
        let words: Vec<String> = arguments.into_iter().filter(|one| !one.starts_with('-')).collect();
        let meant = full || words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
        (meant && !listed).then_some(Self { full, words })
    }

    /// Whether this part is to run: it was named, or none was.
    pub(crate) fn wants(&self, part: &str) -> bool {
        let none_named = self.words.iter().all(|word| word.parse::<usize>().is_ok());
        !self.full || none_named || self.says(part)
    }

    /// Whether the word was given.
    pub(crate) fn says(&self, word: &str) -> bool {
        self.full && self.words.iter().any(|one| one == word)
    }

    /// The numbers that were given.
    pub(crate) fn numbers(&self) -> Vec<usize> {
        let words = self.words.iter().filter(|_| self.full);
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// The input's size: as a bench, as a test.
    pub(crate) const fn size(&self, bench: usize, test: usize) -> usize {
        if self.full { bench } else { test }
    }

    /// Where figures go: as a test, nowhere.
    pub(crate) fn out(&self) -> Box<dyn Write> {
        if self.full { Box::new(io::stdout()) } else { Box::new(io::sink()) }
    }
}

/// Writes a Markdown table whose columns stand below each other.
pub(crate) fn columns(out: &mut dyn Write, lines: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    for (index, line) in lines.iter().enumerate() {
        write!(out, "|")?;
        for (column, cell) in line.iter().enumerate() {
            let width = width(column).unwrap_or_default();
            if column == 0 { write!(out, " {cell:<width$} |")? } else { write!(out, " {cell:>width$} |")? }
        }
        writeln!(out)?;
        if index == 0 {
            let rule = |column| if column == 0 { "---|".to_owned() } else { "---:|".to_owned() };
            writeln!(out, "|{}", (0..line.len()).map(rule).collect::<String>())?;
        }
    }
    Ok(())
}

/// Three digits are as many as any of this deserves.
pub(crate) fn amount(value: f64) -> String {
    match value {
        value if value >= 1000.0 => {
            let scale = 10_f64.powf(value.log10().floor() - 2.0);
            let digits = format!("{:.0}", (value / scale).round() * scale);
            let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
            groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value => format!("{value:.4}"),
    }
}
