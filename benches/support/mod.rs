//! What the benches share: how they are called, how a stretch of work is timed, how the table is written, and a real relay
//! in a temporary folder.
//!
//! Figures are comparisons: what is measured and what it is compared with run in turns within one run, and the ratio is
//! that of each turn. Nothing here asserts a time; a busy machine makes a figure worse, never a test red.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use shearwater::clock::Clock;
use shearwater::config::Config;
use shearwater::server::Server;
use tempfile::TempDir;

/// Longer than anything takes that is waited for; a wait that reaches it is an error.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// `/proc` counts processor time in these, on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

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

/// Writes a Markdown table whose columns stand below each other.
fn columns(out: &mut dyn Write, lines: &[Vec<String>]) -> io::Result<()> {
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
fn amount(value: f64) -> String {
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

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
const fn number(count: usize) -> f64 {
    count as f64
}

/// Processor time of this process, all threads, user and system; `None` where there is no `/proc`.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may hold blanks: the fields are counted from its closing bracket, `utime` is the 12th after it.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// A relay that runs until it is dropped.
pub(crate) struct TestRelay {
    pub(crate) server: Server,
    pub(crate) dir: TempDir,
}

impl TestRelay {
    /// Starts one with the settings of production, but for what loopback needs, and without rate limits: they would be all
    /// that is measured.
    ///
    /// # Errors
    /// A sentence about what is in the way.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("a temporary folder")?;
        let mut config = Config::embedded();
        (config.policy.server_rate, config.policy.actor_rate) = (0, 0);
        config.data_dir = dir.path().join("data");
        config.http.listen = "127.0.0.1:0".parse().map_err(|_cause| anyhow::anyhow!("http.listen"))?;
        config.ops.listen = config.http.listen.clone();
        config.fetch.allow_private = vec!["127.0.0.0/8".parse()?];
        config.fetch.allow_http = true;
        place_keys(&dir.path().join("data/keys")).context("the relay's keys")?;
        let server = Box::pin(Server::start(config, Clock::system())).await?;
        Ok(Self { server, dir })
    }

    pub(crate) fn url(&self) -> &str {
        self.server.public_url()
    }

    /// # Errors
    /// When it does not end in time.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.server.shutdown(LONG).await, "the relay does not stop");
        Ok(())
    }
}

/// Puts keys where the relay looks: making an RSA key takes a second or so.
fn place_keys(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for (name, text) in [
        ("rsa.pem", include_str!("../../tests/fixtures/keys/relay.rsa.pk8.pem")),
        ("ed25519.pem", include_str!("../../tests/fixtures/keys/relay.ed25519.pk8.pem")),
    ] {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(name))?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
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
