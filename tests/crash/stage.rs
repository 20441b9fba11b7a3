//! The stage of a part: a folder for the relay on one file system, a ledger on another, the relay as a process, the
//! witness as another, and what can be done to them.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::ledger::{self, Verdict};

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(90);
/// After the relay died, requests that it had sent already are still read by members; they belong to its life.
const AFTERGLOW: Duration = Duration::from_millis(120);

/// How a stage is set.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) members: usize,
    /// The last member answers nothing but 500.
    pub(crate) dead: bool,
    /// How much text a post has, in bytes.
    pub(crate) padding: usize,
    /// Where the relay's folder is; a temporary one if not said.
    pub(crate) place: Option<PathBuf>,
    /// Added to the relay's environment.
    pub(crate) env: Vec<(&'static str, String)>,
    /// Put before the relay's command line.
    pub(crate) wrapper: Vec<String>,
}

impl Setting {
    pub(crate) fn of(members: usize) -> Self {
        Self { members, dead: false, padding: 200, place: None, env: Vec::new(), wrapper: Vec::new() }
    }
}

/// Everything of one part.
pub(crate) struct Stage {
    pub(crate) setting: Setting,
    dir: PathBuf,
    ledger: PathBuf,
    listen: String,
    witness: Witness,
    relay: Option<Child>,
    ended_at: Option<u64>,
    pub(crate) epoch: u32,
    /// How long each start took until the relay was ready.
    pub(crate) starts: Vec<Duration>,
    _folders: (Option<TempDir>, TempDir),
}

impl Stage {
    /// Starts relay and witness, and lets all members join.
    pub(crate) fn set(setting: Setting) -> anyhow::Result<Self> {
        let mut stage = Self::prepare(setting)?;
        stage.start()?;
        stage.join()?;
        Ok(stage)
    }

    /// Starts the witness; the relay has its keys and nothing else.
    pub(crate) fn prepare(setting: Setting) -> anyhow::Result<Self> {
        let (dir, temporary) = match &setting.place {
            Some(place) => (place.clone(), None),
            None => {
                let dir = tempfile::tempdir().context("a folder for the relay")?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let shm = Path::new("/dev/shm");
        let aside = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }
            .context("a folder for the ledger")?;
        let ledger = aside.path().join("ledger");
        place_keys(&dir.join("data"))?;
        let witness = Witness::start(&ledger, &setting)?;
        let port = std::net::TcpListener::bind("127.0.7.1:0")?.local_addr()?;
        Ok(Self {
            setting,
            dir,
            ledger,
            listen: port.to_string(),
            witness,
            relay: None,
            ended_at: None,
            epoch: 0,
            starts: Vec::new(),
            _folders: (temporary, aside),
        })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    pub(crate) fn join(&mut self) -> anyhow::Result<()> {
        let url = self.url();
        self.witness.ask(&format!("join {url}")).map(drop)
    }

    /// The relay's command line.
    pub(crate) fn command(&self) -> Command {
        let mut command = match self.setting.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(executable());
                command
            }
            None => Command::new(executable()),
        };
        command.arg("serve").stdout(Stdio::null());
        self.furnish(&mut command);
        command
    }

    /// The program, for a command that looks after the relay.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(executable());
        self.furnish(&mut command);
        command
    }

    fn furnish(&self, command: &mut Command) {
        command.current_dir(&self.dir).env_clear().stdin(Stdio::null());
        for (key, value) in [
            ("PATH", std::env::var("PATH").unwrap_or_default().as_str()),
            ("SHEARWATER_DATA_DIR", "data"),
            ("SHEARWATER_HTTP__LISTEN", self.listen.as_str()),
            ("SHEARWATER_OPS__LISTEN", "127.0.7.1:0"),
            ("SHEARWATER_OPS__LOG", "warn,shearwater::delivery=info"),
            ("SHEARWATER_OPS__LOG_FORMAT", "json"),
            ("SHEARWATER_FETCH__ALLOW_PRIVATE", "127.0.0.0/8"),
            ("SHEARWATER_FETCH__ALLOW_HTTP", "true"),
            ("SHEARWATER_DELIVERY__RETRY", "100ms,200ms,400ms"),
            // What is not answered in time is sent again, by right. A member on a busy machine may be late; with so much
            // time, what comes twice without a stop is a fault.
            ("SHEARWATER_DELIVERY__TIMEOUT", "60s"),
            ("SHEARWATER_POLICY__SERVER_RATE", "0"),
            ("SHEARWATER_POLICY__ACTOR_RATE", "0"),
        ] {
            command.env(key, value);
        }
        command.envs(self.setting.env.iter().map(|(key, value)| (key, value)));
    }

    /// The members, as names with a port.
    pub(crate) fn hosts(&mut self) -> anyhow::Result<Vec<String>> {
        Ok(self.witness.ask("hosts")?.split(' ').map(str::to_owned).collect())
    }

    /// Starts the relay and waits until it is ready.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        match self.try_start()? {
            None => Ok(()),
            Some(status) => bail!("the relay ended with {status}:\n{}", self.said()),
        }
    }

    /// Starts the relay; `Some` if it ended before it was ready.
    pub(crate) fn try_start(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        ensure!(self.relay.is_none(), "the relay runs already");
        let ready = self.data().join("endpoints.json");
        let _ = std::fs::remove_file(&ready);
        let errors = OpenOptions::new().create(true).append(true).open(self.errors())?;
        let mut child = self.command().stderr(errors).spawn().context("starting the relay")?;
        let began = Instant::now();
        loop {
            if ready.exists() {
                self.starts.push(began.elapsed());
                self.relay = Some(child);
                return Ok(None);
            }
            if let Some(status) = child.try_wait()? {
                // It may have sent something before it noticed that it cannot go on.
                self.turn()?;
                return Ok(Some(status));
            }
            if began.elapsed() > LONG {
                child.kill()?;
                child.wait()?;
                bail!("the relay does not become ready:\n{}", self.said());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Beside the data on the ledger's file system: the relay's own may be full.
    fn errors(&self) -> PathBuf {
        self.ledger.with_file_name("stderr")
    }

    /// The last that the relay wrote to stderr.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read(self.errors()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// How often the relay panicked. None of what is done here is a reason to.
    pub(crate) fn panics(&self) -> usize {
        let text = std::fs::read(self.errors()).unwrap_or_default();
        String::from_utf8_lossy(&text).matches("panicked at").count()
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let child = self.relay.as_ref().context("the relay does not run")?.id();
        if self.setting.wrapper.is_empty() {
            return Ok(child);
        }
        // strace stays the parent of what it runs.
        let children = std::fs::read_to_string(format!("/proc/{child}/task/{child}/children"))?;
        children.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok()).context("the wrapper runs nothing")
    }

    /// When the relay was seen to have ended by itself, in milliseconds since 1970.
    pub(crate) fn ended_at(&self) -> Option<u64> {
        self.ended_at
    }

    /// The thread of the relay that has this name.
    pub(crate) fn thread(&self, name: &str) -> anyhow::Result<u32> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            let task = task?;
            if std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name) {
                return Ok(task.file_name().to_string_lossy().parse()?);
            }
        }
        bail!("the relay has no thread {name}")
    }

    /// Whether the relay ended by itself.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.relay else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.ended_at = Some(now_millis());
            self.relay = None;
            self.turn()?;
        }
        Ok(status)
    }

    /// Waits until the relay ended by itself.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if self.relay.is_some() && !self.setting.wrapper.is_empty() {
            let _ = Command::new("kill").args(["-KILL", &self.pid()?.to_string()]).status();
        }
        if let Some(mut child) = self.relay.take() {
            child.kill()?;
            child.wait()?;
            self.turn()?;
        }
        Ok(())
    }

    /// SIGTERM; how it ended and how long that took.
    pub(crate) fn stop(&mut self) -> anyhow::Result<(ExitStatus, Duration)> {
        let (pid, began) = (self.pid()?, Instant::now());
        ensure!(Command::new("kill").args(["-TERM", &pid.to_string()]).status()?.success(), "kill -TERM");
        let status = self.wait_end(LONG)?.context("SIGTERM does not stop it")?;
        Ok((status, began.elapsed()))
    }

    /// The relay is gone: what comes from now on comes after it.
    fn turn(&mut self) -> anyhow::Result<()> {
        std::thread::sleep(AFTERGLOW);
        self.epoch += 1;
        let epoch = self.epoch;
        self.witness.ask(&format!("epoch {epoch}")).map(drop)
    }

    /// The members, and those who post, stand still for so long.
    pub(crate) fn freeze(&self, span: Duration) -> anyhow::Result<()> {
        let signal = |name: &str| Command::new("kill").args([name, &self.witness.child.id().to_string()]).status();
        ensure!(signal("-STOP")?.success(), "kill -STOP");
        std::thread::sleep(span);
        ensure!(signal("-CONT")?.success(), "kill -CONT");
        Ok(())
    }

    pub(crate) fn load(&mut self, clients: usize) -> anyhow::Result<()> {
        self.witness.ask(&format!("load {clients}")).map(drop)
    }

    pub(crate) fn pause(&mut self) -> anyhow::Result<()> {
        self.witness.ask("pause").map(drop)
    }

    /// Posts one after the other, each once; how many were acknowledged.
    pub(crate) fn post(&mut self, count: usize) -> anyhow::Result<usize> {
        Ok(self.witness.ask(&format!("post {count}"))?.parse()?)
    }

    pub(crate) fn mood(&mut self, member: usize, mood: &str) -> anyhow::Result<()> {
        self.witness.ask(&format!("mood {member} {mood}")).map(drop)
    }

    /// Acknowledged, received, refused.
    pub(crate) fn count(&mut self) -> anyhow::Result<(usize, usize, usize)> {
        let answer = self.witness.ask("count")?;
        let numbers: Vec<usize> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        match numbers.as_slice() {
            [acknowledged, received, refused] => Ok((*acknowledged, *received, *refused)),
            _ => bail!("the witness counted {answer}"),
        }
    }

    /// Waits until everybody has everything; how long that took.
    pub(crate) fn drain(&mut self) -> anyhow::Result<Duration> {
        let answer = self.witness.ask(&format!("drain {}", LONG.as_secs()))?;
        let millis = answer.strip_prefix("ok ").and_then(|millis| millis.parse().ok());
        let millis = millis.with_context(|| {
            let verdict = self.judge().map(|verdict| verdict.broken(usize::MAX).unwrap_or_default());
            format!("{answer} after {LONG:?}: {verdict:?}; the relay said:\n{}", self.said())
        })?;
        Ok(Duration::from_millis(millis))
    }

    pub(crate) fn judge(&self) -> anyhow::Result<Verdict> {
        ledger::judge(&self.ledger, self.setting.members, self.setting.dead)
    }

    /// The median and the longest start.
    pub(crate) fn start_times(&self) -> String {
        let mut sorted = self.starts.clone();
        sorted.sort();
        let at = |index: usize| sorted.get(index).map_or(0, Duration::as_millis);
        format!("{} ms (median), {} ms (longest)", at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut child) = self.relay.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Witness {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Witness {
    fn start(ledger: &Path, setting: &Setting) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("witness").arg(ledger).arg(setting.members.to_string()).arg(setting.padding.to_string());
        command.arg(if setting.dead { "dead" } else { "all-live" });
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the witness")?;
        let to = child.stdin.take().context("stdin")?;
        let from = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, to, from })
    }

    fn ask(&mut self, order: &str) -> anyhow::Result<String> {
        writeln!(self.to, "{order}").context("the witness is gone")?;
        let mut answer = String::new();
        self.from.read_line(&mut answer)?;
        let answer = answer.trim_end();
        ensure!(!answer.is_empty() && !answer.starts_with("error"), "witness: {order}: {answer}");
        Ok(answer.to_owned())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = writeln!(self.to, "quit");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another build of it, if that is asked for: the driver's own speed matters little.
fn executable() -> String {
    std::env::var("CRASH_RELAY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_shearwater").to_owned())
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "compared with what strace wrote down, in the driver and in the witness")]
pub(crate) fn now_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Puts keys where the relay looks: making an RSA key takes a second or so.
fn place_keys(data: &Path) -> anyhow::Result<()> {
    let keys = data.join("keys");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys)?;
    for (name, text) in [
        ("rsa.pem", include_str!("../fixtures/keys/relay.rsa.pk8.pem")),
        ("ed25519.pem", include_str!("../fixtures/keys/relay.ed25519.pk8.pem")),
    ] {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(keys.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    Ok(())
}
