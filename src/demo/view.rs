//! The live view: one line per instance on a terminal, a line of totals each second elsewhere, or nothing. Always on
//! standard error: standard output belongs to the summary.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::check::{Findings, Member, quantile};
use super::promise::{Health, Promise};

/// A log does not want to be told more often.
const EVERY: Duration = Duration::from_secs(2);

/// What to show while the demo runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A table that changes in place, if standard error is a terminal; lines otherwise.
    Auto,
    /// A line now and then.
    Lines,
    /// Nothing.
    Nothing,
}

pub(super) struct View {
    kind: Kind,
    last: String,
    printed: Option<Instant>,
}

enum Kind {
    Table { head: ProgressBar, bars: Vec<ProgressBar>, all: MultiProgress },
    Lines,
    Nothing,
}

impl View {
    pub(super) fn new(show: Show) -> Self {
        let kind = match show {
            Show::Nothing => Kind::Nothing,
            Show::Auto if io::stderr().is_terminal() => {
                let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
                let head = all.add(plain());
                head.enable_steady_tick(Duration::from_millis(200));
                Kind::Table { head, bars: Vec::new(), all }
            }
            Show::Auto | Show::Lines => Kind::Lines,
        };
        Self { kind, last: String::new(), printed: None }
    }

    /// Says what is going on.
    pub(super) fn say(&mut self, text: &str) {
        match &self.kind {
            Kind::Table { head, .. } => head.set_message(text.to_owned()),
            Kind::Lines => line(text),
            Kind::Nothing => {}
        }
    }

    /// Shows where everything stands.
    pub(super) fn update(&mut self, phase: &str, members: &[Member], found: &Findings) {
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Lines => {
                let text = totals(phase, members, found);
                if text != self.last && self.printed.is_none_or(|at| at.elapsed() >= EVERY) {
                    line(&text);
                    (self.last, self.printed) = (text, Some(Instant::now()));
                }
            }
            Kind::Table { head, bars, all } => {
                head.set_message(totals(phase, members, found));
                while bars.len() < members.len() {
                    bars.push(all.add(plain()));
                }
                for (bar, text) in bars.iter().zip(rows(members, found)) {
                    bar.set_message(text);
                }
            }
        }
    }

    /// Leaves the screen to the summary.
    pub(super) fn finish(self) {
        if let Kind::Table { head, bars, all } = self.kind {
            for bar in bars.iter().chain([&head]) {
                bar.finish_and_clear();
            }
            // A terminal that went away is no reason to fail.
            let _cleared = all.clear();
        }
    }
}

fn plain() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new_spinner().with_style(style)
}

fn line(text: &str) {
    // Standard error may be closed; the demo goes on.
    let _shown = writeln!(io::stderr().lock(), "{text}");
}

fn totals(phase: &str, members: &[Member], found: &Findings) -> String {
    let joined = members.iter().filter(|member| member.joined).count();
    let posted: u64 = found.rows.iter().map(|row| row.posted).sum();
    let reasons = found.refusals.iter().map(|(reason, count)| format!("{count} {}", reason.name()));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    format!(
        "{phase}: {joined} of {} joined, {posted} posts in, {} of {} deliveries out, refused: {}, {} leaked, {}",
        members.len(),
        found.received,
        found.expected,
        if reasons.is_empty() { "none" } else { &reasons },
        found.count(Promise::Private),
        lag(&found.lags),
    )
}

fn rows(members: &[Member], found: &Findings) -> Vec<String> {
    let row = |(member, row): (&Member, &super::check::Row)| {
        let state = match (member.joined, member.health) {
            (false, _) => "joining",
            (true, Health::Well) => "joined",
            (true, Health::Slow) => "slow",
            (true, Health::Flaky) => "flaky",
            (true, Health::Dead) => "dead",
        };
        let (name, software) = (&member.name, member.family.software());
        let (posted, received, expected, refused) = (row.posted, row.received, row.expected, row.refused);
        let lag = lag(&row.lags);
        format!(
            "  {name:<14} {software:<11} {state:<8} {posted:>4} posted  {received:>4} of {expected:<4} received  \
             {refused:>3} refused  {lag}"
        )
    };
    members.iter().zip(&found.rows).map(row).collect()
}

fn lag(values: &[u64]) -> String {
    match (quantile(values, 0.5), quantile(values, 0.99)) {
        (Some(p50), Some(p99)) => format!("lag {p50}/{p99} ms"),
        _ => "lag -".to_owned(),
    }
}
