//! Faults of the disk that need root: a simulated power cut, and a disk that is full. `tests/crash/as_root` makes the
//! file systems, starts these parts, and takes everything away again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::Call;
use crate::ledger::REPEATS;
use crate::stage::{Setting, Stage};

/// `power ROUNDS MOUNT IMAGE`: the image is mounted there. In each round its file system is cut off at a random instant,
/// as if the power had failed, and mounted anew.
pub(crate) fn power(call: &Call) -> anyhow::Result<String> {
    let [mount, image] = call.words.as_slice() else { bail!("which mount, and which image?") };
    let place = Path::new(mount).join("relay");
    std::fs::create_dir_all(&place)?;
    let setting =
        Setting { place: Some(place), env: vec![("SHEARWATER_DELIVERY__RAMP", "2s".to_owned())], ..Setting::of(6) };
    let mut stage = Stage::set(setting)?;
    // That the folder exists is not what is tested.
    run("sync", &["-f", mount])?;
    for round in 1..=call.count {
        stage.load(32)?;
        let cut = Cut::prepare(mount, stage.pid()?)?;
        std::thread::sleep(Duration::from_millis(rand::random_range(20..700)));
        let at = cut.now()?;
        // What it had answered before is still read.
        stage.kill()?;
        run("umount", &[mount])?;
        run("mount", &["-o", "loop", image, mount])?;
        stage.start().with_context(|| format!("round {round}"))?;
        stage.pause()?;
        stage.drain().with_context(|| format!("round {round}, cut at {at}"))?;
        let verdict = stage.judge()?;
        if let Some(broken) = verdict.broken(REPEATS) {
            bail!("round {round}: {broken}\n{verdict}\nthe relay said:\n{}", stage.said());
        }
    }
    let verdict = stage.judge()?;
    ensure!(stage.panics() == 0, "a panic:\n{}", stage.said());
    Ok(format!("  {} power cuts\n{verdict}\n  ready again after {}", call.count, stage.start_times()))
}

/// `full ROUNDS MOUNT [RESERVE]`: a small tmpfs is mounted there. It is filled by posts until nothing more is acknowledged;
/// then it is made larger. A relay that ends is started again after a moment, as a supervisor does; with a reserve it must
/// not come to that.
pub(crate) fn full(call: &Call) -> anyhow::Result<String> {
    let (mount, reserve) = match call.words.as_slice() {
        [mount] => (mount, "0"),
        [mount, reserve] => (mount, reserve.as_str()),
        _ => bail!("which mount?"),
    };
    let place = PathBuf::from(mount).join("relay");
    std::fs::create_dir_all(&place)?;
    let env = vec![("SHEARWATER_STORE__RESERVE", reserve.to_owned())];
    let mut stage = Stage::set(Setting { place: Some(place), padding: 8_000, env, ..Setting::of(4) })?;
    let mut megabytes: u64 = 24;
    let mut ends = Vec::new();
    for round in 1..=call.count {
        stage.load(16)?;
        let (mut acknowledged, mut since, began) = (0, Instant::now(), Instant::now());
        while since.elapsed() < Duration::from_secs(4) {
            supervise(&mut stage, &mut ends)?;
            let now = stage.count()?.0;
            if now > acknowledged {
                (acknowledged, since) = (now, Instant::now());
            }
            ensure!(began.elapsed() < Duration::from_secs(240), "round {round}: the disk does not fill");
            std::thread::sleep(Duration::from_millis(100));
        }
        megabytes += 24;
        run("mount", &["-o", &format!("remount,size={megabytes}m"), mount])?;
        let back = Instant::now();
        while stage.count()?.0 <= acknowledged {
            supervise(&mut stage, &mut ends)?;
            ensure!(back.elapsed() < Duration::from_secs(60), "round {round}: it does not recover:\n{}", stage.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        println!(
            "  .. round {round}: full after {acknowledged} posts, {} refused, back after {:?}",
            stage.count()?.2,
            back.elapsed()
        );
        stage.pause()?;
        while stage.pid().is_err() {
            supervise(&mut stage, &mut ends)?;
        }
        stage.drain()?;
        let verdict = stage.judge()?;
        if let Some(broken) = verdict.broken(REPEATS) {
            bail!("round {round}: {broken}\n{verdict}\nthe relay said:\n{}", stage.said());
        }
    }
    let verdict = stage.judge()?;
    ensure!(stage.panics() == 0, "a panic:\n{}", stage.said());
    ensure!(ends.iter().all(|code| *code == Some(1)), "it ended otherwise than with 1: {ends:?}");
    ensure!(reserve == "0" || ends.is_empty(), "it had a reserve of {reserve} and ended: {ends:?}");
    Ok(format!(
        "  {} times full, with a reserve of {reserve}; it ended with exit code 1 and was started again {} times\n{verdict}",
        call.count,
        ends.len()
    ))
}

fn supervise(stage: &mut Stage, ends: &mut Vec<Option<i32>>) -> anyhow::Result<()> {
    if let Some(status) = stage.ended()? {
        ends.push(status.code());
    }
    if stage.pid().is_err() {
        std::thread::sleep(Duration::from_millis(300));
        if let Some(status) = stage.try_start()? {
            ends.push(status.code());
        }
    }
    Ok(())
}

/// The program that cuts, waiting for its moment.
struct Cut(Child, BufReader<ChildStdout>);

impl Cut {
    fn prepare(mount: &str, pid: u32) -> anyhow::Result<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/power_cut.py");
        let mut command = Command::new("python3");
        command.arg(program).args([mount, &pid.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("python3")?;
        let mut ready = String::new();
        let mut said = BufReader::new(child.stdout.take().context("stdout")?);
        said.read_line(&mut ready)?;
        ensure!(ready.trim() == "ready", "power_cut.py: {ready}");
        Ok(Self(child, said))
    }

    /// Cuts; when that was, in milliseconds since 1970.
    fn now(mut self) -> anyhow::Result<String> {
        self.0.stdin.take().context("stdin")?.write_all(b"\n")?;
        let mut at = String::new();
        self.1.read_line(&mut at)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "power_cut.py: {status}");
        Ok(at.trim().to_owned())
    }
}

fn run(program: &str, words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(words).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
