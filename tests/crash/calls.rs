//! SIGKILL at the N-th write, flush, rename or resize, for every N; and flushes that fail. By `strace`, which counts per
//! thread: while the relay runs, it is attached to the store's writer alone, which is the one thread that writes what was
//! acknowledged; while the relay starts, it follows all threads.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::Call;
use crate::ledger::REPEATS;
use crate::stage::{Setting, Stage};

/// What the writer does to its file.
const WRITER_CALLS: [&str; 3] = ["pwrite64", "fdatasync", "ftruncate"];
/// What a start does.
const START_CALLS: [&str; 7] = ["pwrite64", "write", "fdatasync", "fsync", "rename", "ftruncate", "mkdir"];
/// The script: posts, one after the other; then the places reached are written down.
const POSTS: usize = 6;
const SAVED_BY_THEN: Duration = Duration::from_millis(700);
const WRITER: &str = "store-writer";
/// How soon after a failed flush the relay must have ended, and how long an answer that was given before it may be on
/// its way on a busy machine.
const END_WITHIN: Duration = Duration::from_secs(4);
const ON_ITS_WAY_MILLIS: u64 = 500;

/// Every write, flush and resize of a run of posts.
pub(crate) fn calls(call: &Call) -> anyhow::Result<String> {
    if !strace_works() {
        return Ok(skipped());
    }
    let env = vec![("SHEARWATER_DELIVERY__SAVE_EVERY", "500ms".to_owned())];
    let mut stage = Stage::set(Setting { env, ..Setting::of(4) })?;
    stage.post(POSTS)?;
    let mut said = String::new();
    for name in WRITER_CALLS {
        let mut rounds = 0;
        for round in 1..=call.count {
            // Briefly: here and there. At length: one after the other, until the script ends before its turn comes.
            let number = if call.brief { round * round * 3 - 2 } else { round };
            if !killed_at(&mut stage, name, number)? {
                break;
            }
            rounds += 1;
            stage.start()?;
            stage.drain()?;
            let verdict = stage.judge()?;
            if let Some(broken) = verdict.broken(REPEATS) {
                bail!("killed at {name} number {number}: {broken}\n{verdict}\nthe relay said:\n{}", stage.said());
            }
        }
        stage.kill()?;
        stage.start()?;
        said += &format!("  killed at each of {rounds} {name} of the store's writer\n");
    }
    stage.drain()?;
    let (verdict, panics) = (stage.judge()?, stage.panics());
    ensure!(panics == 0 && verdict.broken(REPEATS).is_none(), "{panics} panics\n{verdict}\n{}", stage.said());
    Ok(format!("{said}{verdict}"))
}

/// Whether the relay met its end in the script.
fn killed_at(stage: &mut Stage, name: &str, number: usize) -> anyhow::Result<bool> {
    let mut strace =
        Strace::attach(stage.thread(WRITER)?, &format!("inject={name}:signal=SIGKILL:when={number}"), name)?;
    stage.post(POSTS)?;
    let ended = stage.wait_end(SAVED_BY_THEN)?.is_some();
    strace.detach();
    Ok(ended)
}

/// Every write, flush, rename of a first start: the second one finds nothing that is in its way.
pub(crate) fn births(call: &Call) -> anyhow::Result<String> {
    if !strace_works() {
        return Ok(skipped());
    }
    let mut said = String::new();
    for name in START_CALLS {
        let mut rounds = 0;
        for round in 1..=call.count {
            let number = if call.brief { round * round } else { round };
            let mut stage = Stage::prepare(Setting::of(2))?;
            if !call.brief {
                // Then it makes its keys as well.
                std::fs::remove_dir_all(stage.data().join("keys"))?;
            }
            // Without --seccomp-bpf: with it, strace 6.1 injects at the first call only, whatever `when` says.
            let inject = format!("inject={name}:signal=SIGKILL:when={number}");
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"];
            stage.setting.wrapper = strace.iter().map(|word| (*word).to_owned()).collect();
            stage.setting.wrapper.extend([format!("trace={name}"), "-e".to_owned(), inject]);
            let ended = stage.try_start()?;
            stage.kill()?;
            stage.setting.wrapper = Vec::new();
            rounds += usize::from(ended.is_some());
            stage.start().with_context(|| format!("the first start was killed at {name} number {number}"))?;
            stage.join()?;
            ensure!(stage.post(2)? == 2, "it does not take posts");
            stage.drain()?;
            ensure!(stage.panics() == 0, "a panic after {name} number {number}:\n{}", stage.said());
            if ended.is_none() {
                break;
            }
        }
        said += &format!("  first start killed at {rounds} {name}, started again\n");
    }
    Ok(said.trim_end().to_owned())
}

/// The N-th flush fails: nothing more is acknowledged, nothing is flushed again, the relay ends with an error.
pub(crate) fn eio(call: &Call) -> anyhow::Result<String> {
    if !strace_works() {
        return Ok(skipped());
    }
    let mut stage = Stage::set(Setting::of(6))?;
    // Its requests in hand must not hold up the end.
    stage.mood(5, "late")?;
    stage.post(POSTS)?;
    let (mut slowest, mut latest) = (Duration::ZERO, 0);
    for round in 1..=call.count {
        let inject = format!("inject=fdatasync:error=EIO:when={}", round * 3 - 2);
        let mut strace = Strace::attach(stage.thread(WRITER)?, &inject, "fdatasync")?;
        stage.load(32)?;
        // From here on the flush fails within moments.
        let began = Instant::now();
        let status = stage.wait_end(Duration::from_secs(60))?;
        stage.pause()?;
        strace.detach();
        let status = status.with_context(|| format!("after {:?} it still runs:\n{}", began.elapsed(), stage.said()))?;
        ensure!(status.code() == Some(1), "a failed flush ended it with {status}");
        let log = strace.log()?;
        let mut flushes = log.lines().skip_while(|line| !line.contains("INJECTED"));
        let failed_at = flushes.next().and_then(millis).context("no flush failed")?;
        let again = flushes.filter(|line| line.contains("fdatasync(")).count();
        ensure!(again == 0, "it flushed {again} times more after a flush had failed:\n{log}");
        let ended_at = stage.ended_at().context("an end")?;
        let took = Duration::from_millis(ended_at.saturating_sub(failed_at));
        ensure!(took < END_WITHIN, "it went on for {took:?} after a flush had failed");
        slowest = slowest.max(took);
        stage.start()?;
        let verdict = stage.judge()?;
        let late = verdict.last_acknowledged_at.saturating_sub(failed_at);
        ensure!(late < ON_ITS_WAY_MILLIS, "it acknowledged {late} ms after a flush had failed");
        latest = latest.max(late);
        stage.drain()?;
        let verdict = stage.judge()?;
        if let Some(broken) = verdict.broken(REPEATS) {
            bail!("round {round}: {broken}\n{verdict}");
        }
    }
    let verdict = stage.judge()?;
    ensure!(stage.panics() == 0, "a panic:\n{}", stage.said());
    Ok(format!(
        "  {} flushes failed: exit code 1 each time, within {} ms; no flush after it; the last 202 came {latest} ms after it\n{verdict}",
        call.count,
        slowest.as_millis()
    ))
}

/// The time at the beginning of a line of strace, in milliseconds since 1970.
fn millis(line: &str) -> Option<u64> {
    let (seconds, rest) = line.split_once('.')?;
    Some(seconds.trim().parse::<u64>().ok()? * 1000 + rest.get(..3)?.parse::<u64>().ok()?)
}

fn skipped() -> String {
    "  SKIPPED: there is no `strace` here that may trace".to_owned()
}

fn strace_works() -> bool {
    // Attaching is what a hardened machine refuses, so that is what is tried.
    let Ok(mut sleeper) = Command::new("sleep").arg("60").spawn() else { return false };
    let works = Strace::attach(sleeper.id(), "trace=none", "none").is_ok();
    let _ = sleeper.kill();
    let _ = sleeper.wait();
    works
}

/// strace at one thread; ends when dropped.
struct Strace {
    child: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Strace {
    fn attach(thread: u32, inject: &str, trace: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(Path::new("/dev/shm")).or_else(|_error| tempfile::tempdir())?;
        let log = folder.path().join("strace");
        let mut command = Command::new("strace");
        command
            .args(["-ttt", "-p", &thread.to_string(), "-e", &format!("trace={trace}"), "-e", inject, "-o"])
            .arg(&log);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut said = String::new();
        let stderr = child.stderr.take().context("stderr")?;
        BufReader::new(stderr).read_line(&mut said)?;
        let strace = Self { child, log, _folder: folder };
        ensure!(said.contains("attached"), "strace: {said}");
        Ok(strace)
    }

    fn detach(&mut self) {
        // Not SIGKILL: that would leave the thread to itself in the middle of a call.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }

    fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.detach();
        }
    }
}
