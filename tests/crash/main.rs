//! The crash suite: what was acknowledged survives whatever ends the relay, and little of it is sent twice. The real
//! program is killed, cut off from its disk and starved, while a witness in a process of its own writes down every 202
//! and every receipt. `docs/RELIABILITY.md` says what is promised and how to run each part at length:
//!
//! ```text
//! cargo test --test crash -- kills 500
//! ```
//!
//! Without words, as part of `cargo test`, the parts that need no root run briefly. A part whose tool is missing says
//! that it was skipped. Parts that need root are started by `tests/crash/as_root`.

#![expect(clippy::print_stdout, reason = "what it found is its output")]

mod calls;
mod damage;
mod dead;
mod disk;
mod index;
mod kills;
mod ledger;
mod limits;
mod restart;
mod stage;
mod witness;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use shearwater::clock::Clock;

/// A part: its name, what it takes as a number and how many of them as part of `cargo test`, and what does it.
type Part = (&'static str, usize, fn(&Call) -> anyhow::Result<String>);

const PARTS: [Part; 12] = [
    ("kills", 20, kills::kills),
    ("stops", 4, kills::stops),
    ("stalls", 1, kills::stalls),
    ("calls", 2, calls::calls),
    ("births", 2, calls::births),
    ("eio", 1, calls::eio),
    ("descriptors", 1, limits::descriptors),
    ("damage", 80, damage::damage),
    ("million", 3_000, restart::million),
    ("ramp", 1, restart::ramp),
    ("dead", 100, dead::dead),
    ("index", 6, index::index),
];

/// These are given a folder of their own by a script that is root.
const ROOT_PARTS: [Part; 2] = [("power", 5, disk::power), ("full", 1, disk::full)];

/// How a part was called.
pub(crate) struct Call {
    /// How many rounds, flips or entries.
    pub(crate) count: usize,
    /// As part of `cargo test`: short.
    pub(crate) brief: bool,
    /// The words after the number.
    pub(crate) words: Vec<String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if std::env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["witness", ledger, members, padding, dead] => members
            .parse()
            .context("members")
            .and_then(|members| Ok((members, padding.parse()?)))
            .and_then(|(members, padding)| witness::run(ledger.as_ref(), members, *dead == "dead", padding)),
        [] => briefly(),
        [name, rest @ ..] => match PARTS.iter().chain(&ROOT_PARTS).find(|(part, ..)| part == name) {
            Some(part) => at_length(part, rest),
            // A filter meant for other tests.
            None => Ok(()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn briefly() -> anyhow::Result<()> {
    ledger::self_test().context("the scales of the crash suite")?;
    for (name, count, part) in PARTS {
        perform(name, part, &Call { count, brief: true, words: Vec::new() })?;
    }
    println!("skipped here, since they need root: power, full. `tests/crash/as_root` runs them.");
    Ok(())
}

fn at_length(part: &Part, rest: &[&str]) -> anyhow::Result<()> {
    let (name, _, run) = part;
    ledger::self_test().context("the scales of the crash suite")?;
    let number = rest.first().and_then(|word| word.parse().ok());
    let words = rest.iter().skip(usize::from(number.is_some())).map(|word| (*word).to_owned()).collect();
    perform(name, *run, &Call { count: number.unwrap_or(100), brief: false, words })
}

fn perform(name: &str, run: fn(&Call) -> anyhow::Result<String>, call: &Call) -> anyhow::Result<()> {
    let (at, began) = (Clock::system().now(), Instant::now());
    let said = run(call).with_context(|| format!("crash part {name}"))?;
    let build = match std::env::var("CRASH_RELAY") {
        Ok(path) => path,
        Err(_) if cfg!(debug_assertions) => "debug build".to_owned(),
        Err(_) => "release build".to_owned(),
    };
    println!("{name}, {}, {build}, {} s\n{said}", at.rfc3339(), began.elapsed().as_secs());
    Ok(())
}
