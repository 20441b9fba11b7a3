//! The search's index against its ledger: after SIGKILL at random instants of a relay that indexes, removes, withdraws and
//! expunges, both hold the same posts. Compared by the program's own command, on the files and while it runs.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::Call;
use crate::stage::{Setting, Stage};

const MEMBERS: usize = 4;
const CLIENTS: usize = 8;
/// Everything came to the index, or is a fault.
const LONG: Duration = Duration::from_secs(60);

/// `index ROUNDS`.
pub(crate) fn index(call: &Call) -> anyhow::Result<String> {
    let env = vec![("SHEARWATER_SEARCH__API", "public".to_owned()), ("SHEARWATER_DELIVERY__RAMP", "0s".to_owned())];
    let mut stage = Stage::set(Setting { env, ..Setting::of(MEMBERS) })?;
    let hosts = stage.hosts()?;
    for host in &hosts {
        ask(&stage, &["admin", "search", "on", host, "--reason", "the crash suite"])?;
    }
    let (mut compared, mut most, mut purged) = (0, 0, 0);
    for round in 1..=call.count {
        stage.load(CLIENTS)?;
        let about_to = Instant::now() + Duration::from_millis(rand::random_range(50..1600));
        // Something of each kind may be under way when it dies.
        let busy = match rand::random_range(0..5) {
            0 => Some(vec!["index", "expunge"]),
            1 => Some(vec!["index", "rebuild"]),
            2 => {
                purged += 1;
                Some(vec!["index", "purge", hosts[rand::random_range(0..hosts.len())].as_str(), "--yes"])
            }
            _ => None,
        };
        let mut busy = busy.map(|words| command(&stage, &words).spawn()).transpose()?;
        std::thread::sleep(about_to.saturating_duration_since(Instant::now()));
        stage.kill()?;
        if let Some(child) = &mut busy {
            child.wait()?;
        }
        stage.pause()?;
        if round % 2 == 0 {
            let found = compare(&stage).with_context(|| format!("round {round}, on the files"))?;
            compared += 1;
            most = most.max(found);
        }
        stage.start()?;
        let found = compare(&stage).with_context(|| format!("round {round}, while it runs"))?;
        compared += 1;
        most = most.max(found);
        if !call.brief && round % 20 == 0 {
            println!("  .. round {round}: {found} posts");
        }
    }
    // What was acknowledged while nobody purged is there: the comparison is not one of two empty shelves.
    settle(&stage)?;
    let left = compare(&stage)?;
    ensure!(most > 0 && left > 0, "nothing was indexed: this proves nothing");
    let panics = stage.panics();
    ensure!(panics == 0, "{panics} panics:\n{}", stage.said());
    Ok(format!(
        "  {} kills, {purged} purges of a server under way; compared {compared} times, at most {most} posts: always equal\n  \
         ready again after {}",
        call.count,
        stage.start_times()
    ))
}

/// How many posts index and ledger both hold; an error if they differ.
fn compare(stage: &Stage) -> anyhow::Result<u64> {
    let found: Value = serde_json::from_str(&ask(stage, &["index", "check", "--json"])?)?;
    found["held"].as_u64().context("no number")
}

/// Waits until the search looked at all that came.
fn settle(stage: &Stage) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut before = (0, Instant::now());
    loop {
        let stats: Value = serde_json::from_str(&ask(stage, &["index", "stats", "--json"])?)?;
        let posts = stats["posts"].as_u64().context("no number")?;
        if posts != before.0 {
            before = (posts, Instant::now());
        }
        if posts > 0 && stats["waiting"] == 0 && before.1.elapsed() > Duration::from_secs(2) {
            return Ok(());
        }
        if began.elapsed() > LONG {
            bail!("the search does not come to rest: {stats}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn command(stage: &Stage, words: &[&str]) -> Command {
    let mut command = stage.program();
    command.args(words).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command
}

fn ask(stage: &Stage, words: &[&str]) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        let output = stage.program().args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        // A killed process lets go of its files a moment later; the index may just be opened.
        let passing = ["in use", "cannot be used just now", "no index just now"].iter().any(|one| said.contains(one));
        if !passing || began.elapsed() > LONG {
            bail!("{words:?}: {said}{}\nthe relay said:\n{}", String::from_utf8_lossy(&output.stdout), stage.said());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
