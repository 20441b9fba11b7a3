//! SIGKILL and SIGTERM at random instants under load, the data folder kept from round to round so that it ages. And
//! members that all stand still for a while.

use std::time::Duration;

use anyhow::{bail, ensure};

use crate::Call;
use crate::ledger::REPEATS;
use crate::stage::{Setting, Stage};

const MEMBERS: usize = 12;
/// The last one is dead; these are out of sorts by turns.
const MOODY: [usize; 4] = [3, 4, 5, 6];
const MOODS: [&str; 5] = ["well", "down", "busy", "slow", "well"];
const CLIENTS: usize = 64;
/// Longer than the two seconds after which an attempt must make room for others.
const STALL: Duration = Duration::from_secs(4);
/// Rounds until everything has to have arrived; between those, kills meet lanes that still catch up.
const DRAIN_EVERY: usize = 4;

fn setting() -> Setting {
    Setting { dead: true, env: vec![("SHEARWATER_DELIVERY__RAMP", "2s".to_owned())], ..Setting::of(MEMBERS) }
}

/// SIGKILL.
pub(crate) fn kills(call: &Call) -> anyhow::Result<String> {
    rounds(call, "SIGKILL", REPEATS, |stage| stage.kill().map(|()| Duration::ZERO))
}

/// SIGTERM: nothing is repeated at all.
pub(crate) fn stops(call: &Call) -> anyhow::Result<String> {
    rounds(call, "SIGTERM", 0, |stage| {
        let (status, took) = stage.stop()?;
        ensure!(status.success(), "SIGTERM ended it with {status}:\n{}", stage.said());
        Ok(took)
    })
}

/// All members stand still at once for longer than an attempt may keep its place, and nothing is repeated.
pub(crate) fn stalls(call: &Call) -> anyhow::Result<String> {
    let mut stage = Stage::set(Setting::of(MEMBERS))?;
    for round in 1..=call.count {
        stage.load(CLIENTS)?;
        std::thread::sleep(Duration::from_millis(rand::random_range(300..1500)));
        stage.freeze(STALL)?;
        std::thread::sleep(Duration::from_millis(500));
        stage.pause()?;
        stage.drain()?;
        std::thread::sleep(Duration::from_millis(500));
        let verdict = stage.judge()?;
        if let Some(broken) = verdict.broken(0) {
            bail!("round {round}: {broken}\n{verdict}\nthe relay said:\n{}", stage.said());
        }
    }
    ensure!(stage.panics() == 0, "a panic:\n{}", stage.said());
    let verdict = stage.judge()?;
    Ok(format!("  {} times all {MEMBERS} members stood still for {STALL:?}\n{verdict}", call.count))
}

fn rounds(
    call: &Call,
    what: &str,
    allowed: usize,
    end: impl Fn(&mut Stage) -> anyhow::Result<Duration>,
) -> anyhow::Result<String> {
    let mut stage = Stage::set(setting())?;
    let (mut longest_drain, mut longest_end) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=call.count {
        for member in MOODY {
            let mood = MOODS[rand::random_range(0..MOODS.len())];
            stage.mood(member, mood)?;
        }
        stage.load(CLIENTS)?;
        std::thread::sleep(Duration::from_millis(rand::random_range(20..900)));
        longest_end = longest_end.max(end(&mut stage)?);
        stage.start()?;
        if round % DRAIN_EVERY == 0 || round == call.count {
            for member in MOODY {
                stage.mood(member, "well")?;
            }
        }
        stage.pause()?;
        if round % DRAIN_EVERY == 0 || round == call.count {
            longest_drain = longest_drain.max(stage.drain()?);
            // What is sent a second time comes soon.
            std::thread::sleep(Duration::from_millis(100));
            let verdict = stage.judge()?;
            if let Some(broken) = verdict.broken(allowed) {
                bail!("round {round}: {broken}\n{verdict}\nthe relay said:\n{}", stage.said());
            }
            if !call.brief && round % 20 == 0 {
                println!("  .. round {round}\n{verdict}");
            }
        }
    }
    let (verdict, panics) = (stage.judge()?, stage.panics());
    ensure!(panics == 0, "{panics} panics:\n{}", stage.said());
    let mut said = format!(
        "  {} rounds of {what}, {CLIENTS} clients, {MEMBERS} members, one of them dead\n{verdict}\n",
        call.count
    );
    said += &format!(
        "  ready again after {}; all had arrived {} ms later at most",
        stage.start_times(),
        longest_drain.as_millis()
    );
    if !longest_end.is_zero() {
        said += &format!("; stopped within {} ms", longest_end.as_millis());
    }
    Ok(said)
}
