//! How stretches of work are timed, and rows of them compared round by round.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{amount, columns};

/// `/proc` counts processor time in these, on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

/// One stretch of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    per_second: f64,
    /// Processor time of the whole process for each, in microseconds.
    cpu: Option<f64>,
}

/// Times a stretch of work.
pub(crate) struct Watch {
    started: Instant,
    cpu: Option<Duration>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { cpu: cpu_time(), started: Instant::now() }
    }

    /// `count` things were done.
    pub(crate) fn stop(&self, count: usize) -> Sample {
        let count = number(count).max(1.0);
        let took = self.started.elapsed().as_secs_f64();
        let spent = cpu_time().zip(self.cpu).map(|(now, then)| now.saturating_sub(then));
        // Counted in hundredths of a second: of less than a few of them nothing can be said.
        let cpu = spent.filter(|spent| spent.as_millis() >= 100).map(|spent| spent.as_secs_f64() * 1e6 / count);
        Sample { per_second: count / took.max(1e-9), cpu }
    }
}

/// The rounds of a comparison: each row is measured once per round.
#[derive(Default)]
pub(crate) struct Rounds {
    rows: Vec<(String, Vec<Sample>)>,
}

impl Rounds {
    /// Notes this round's figure of a row.
    pub(crate) fn note(&mut self, row: &str, sample: Sample) {
        match self.rows.iter_mut().find(|(name, _)| name == row) {
            Some((_, samples)) => samples.push(sample),
            None => self.rows.push((row.to_owned(), vec![sample])),
        }
    }

    /// Writes the medians as a table, with the ratio of each row to each of `beside`, round by round.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn write(&self, out: &mut dyn Write, title: &str, beside: &[&str]) -> io::Result<()> {
        let mut lines =
            vec![vec!["".to_owned(), "per second".to_owned(), "from .. to".to_owned(), "CPU µs each".to_owned()]];
        lines[0].extend(beside.iter().map(|name| format!("times \"{name}\"")));
        for (name, samples) in &self.rows {
            let rates: Vec<f64> = samples.iter().map(|one| one.per_second).collect();
            let cpu: Vec<f64> = samples.iter().filter_map(|one| one.cpu).collect();
            let (low, high) =
                rates.iter().fold((f64::MAX, 0.0_f64), |(low, high), one| (low.min(*one), high.max(*one)));
            let mut line = vec![name.clone(), amount(median(&rates)), format!("{} .. {}", amount(low), amount(high))];
            line.push(if cpu.is_empty() { "-".to_owned() } else { amount(median(&cpu)) });
            line.extend(beside.iter().map(|other| self.ratio(&rates, other)));
            lines.push(line);
        }
        writeln!(out, "\n{title}\n")?;
        columns(out, &lines)
    }

    fn ratio(&self, rates: &[f64], other: &str) -> String {
        let Some((_, others)) = self.rows.iter().find(|(name, _)| name == other) else { return "-".to_owned() };
        let ratios: Vec<f64> = rates.iter().zip(others).map(|(one, other)| one / other.per_second).collect();
        if ratios.is_empty() { "-".to_owned() } else { amount(median(&ratios)) }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub(crate) const fn number(count: usize) -> f64 {
    count as f64
}

/// Processor time of this process, all threads, user and system; `None` where there is no `/proc`.
pub(crate) fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may hold blanks: the fields are counted from its closing bracket, `utime` is the 12th after it.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Appends each body to a plain file: what any durable way of keeping them costs at least. With `sync`, the disk has each
/// one before the next is written.
///
/// # Errors
/// The file's.
pub(crate) fn append<'a>(file: &Path, bodies: impl Iterator<Item = &'a [u8]>, sync: bool) -> io::Result<Sample> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    let (watch, mut count) = (Watch::start(), 0);
    for body in bodies {
        file.write_all(body)?;
        if sync {
            file.sync_data()?;
        }
        count += 1;
    }
    Ok(watch.stop(count))
}
