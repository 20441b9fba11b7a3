//! No file descriptors left: the relay waits instead of spinning, and goes on when there are some again.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};

use crate::Call;
use crate::stage::{Setting, Stage};

/// Descriptors that the relay gets beside those it has: too few for the clients and the members.
const SPARE: usize = 24;
/// Connections that are opened and say nothing.
const IDLE: usize = 80;
const CLIENTS: usize = 32;
/// The share of a processor that it may use while it has nothing to do and no descriptors.
const IDLE_SHARE: f64 = 0.25;

/// The part.
pub(crate) fn descriptors(call: &Call) -> anyhow::Result<String> {
    let mut stage = Stage::set(Setting::of(6))?;
    let mut highest: f64 = 0.0;
    for _ in 0..call.count {
        let pid = stage.pid()?;
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let limit =
            Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={}:", open + SPARE)]).status();
        if !limit.is_ok_and(|status| status.success()) {
            return Ok("  SKIPPED: there is no `prlimit` here".to_owned());
        }
        stage.load(CLIENTS)?;
        std::thread::sleep(Duration::from_millis(700));
        let idle = hold(&stage.url())?;
        std::thread::sleep(Duration::from_millis(700));
        drop(idle);
        let before = stage.count()?.0;
        std::thread::sleep(Duration::from_millis(1500));
        let after = stage.count()?.0;
        ensure!(
            after > before,
            "with descriptors again, nothing is acknowledged, and {} refused:\n{}",
            stage.count()?.2,
            stage.said()
        );
        stage.pause()?;
        stage.drain()?;

        let idle = hold(&stage.url())?;
        std::thread::sleep(Duration::from_millis(300));
        let before = ticks(pid)?;
        std::thread::sleep(Duration::from_secs(1));
        let share = f64::from(ticks(pid)? - before) / 100.0;
        drop(idle);
        highest = highest.max(share);
        ensure!(share < IDLE_SHARE, "without descriptors and work it takes {share} of a processor");
        ensure!(stage.ended()?.is_none(), "it ended:\n{}", stage.said());
    }
    stage.drain()?;
    let verdict = stage.judge()?;
    if let Some(broken) = verdict.broken(0) {
        bail!("{broken}\n{verdict}\n{}", stage.said());
    }
    ensure!(stage.panics() == 0, "a panic:\n{}", stage.said());
    Ok(format!(
        "  {} times all descriptors taken: it went on by itself; idle meanwhile, it took {:.0} % of a processor at most\n{verdict}",
        call.count,
        highest * 100.0
    ))
}

fn hold(url: &str) -> anyhow::Result<Vec<TcpStream>> {
    let address = url.trim_start_matches("http://").parse()?;
    // The kernel takes some more than the relay accepts; those that it does not take are not needed.
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    Ok((0..IDLE).filter_map(connect).collect())
}

/// Processor time of a process so far, in hundredths of a second.
fn ticks(pid: u32) -> anyhow::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    match fields.get(11..13) {
        Some([user, system]) => Ok(user.parse::<u32>()? + system.parse::<u32>()?),
        _ => bail!("/proc/{pid}/stat has too few fields"),
    }
}
