//! `backup`, `restore` and `check`: a relay's state taken to a folder, put back, looked through. The first and the last ask
//! the running relay; where none runs they are done on the files. A restore is for a relay that does not run.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::admin::{AtArgs, ListArgs, Socket, WhyArg, answers, ask_socket, download_here, lines, only_here};
use super::{ConfigArg, block_on, index, print, tell};
use crate::backup::{self, LEFT_OUT, Plan, Wanted};
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::Rotation;
use crate::log::Log;
use crate::search::sweep::oversleep;
use crate::store::{Store, make_private};

/// Stands for the origin where a test has none: ids of keys are made with it, and nobody sees them.
const NOWHERE: &str = "http://localhost";

#[derive(Debug, Args)]
pub(super) struct HereArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The backup: a folder that is not there yet. It will hold the relay's keys; keep it as you keep them.
    dir: PathBuf,
    /// Take the index of the search along, too. It can be made anew from what is in the backup; that takes a minute for each
    /// million posts or so.
    #[arg(long)]
    index: bool,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    here: HereArgs,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup.
    dir: PathBuf,
    /// The newest lines of `admin export`: who said no since the backup, and what was deleted or edited, does not come back.
    #[arg(long, value_name = "FILE")]
    newest: Option<PathBuf>,
    #[command(flatten)]
    here: HereArgs,
}

pub(super) fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    only_here("shearwater backup")?;
    let config = Config::load(args.here.config.config.as_deref())?;
    let data_dir = &config.data_dir;
    let is_running = answers(data_dir)?;
    let plan = Plan {
        to: &args.dir,
        data_dir,
        public_url: &config.public_url,
        online: is_running,
        index: args.index,
        now: Clock::system().now(),
    };
    let manifest = if is_running {
        backup::make(&plan, |file| download_here(data_dir, &format!("backup?{}", args.why.parameter()), file))?
    } else {
        // Holding the store keeps a relay from starting meanwhile.
        let store = there(&config)?;
        let head = Log::open(&store)?.head();
        backup::make(&plan, |file| {
            let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
            store.snapshot()?.write(&LEFT_OUT, head, &mut file)?;
            Ok(file.flush()?)
        })?
    };
    for (setting, file) in
        [("rsa_key_file", &config.identity.rsa_key_file), ("ed25519_key_file", &config.identity.ed25519_key_file)]
    {
        if !file.as_os_str().is_empty() {
            tell(&format!("identity.{setting} = {} is your own, and not in the backup.", file.display()));
        }
    }
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let said = json!({
        "backup": args.dir,
        "made_at": manifest.made_at.rfc3339(),
        "rows": manifest.rows,
        "files": manifest.files.len(),
        "bytes": bytes,
        "online": manifest.online,
    });
    say(&args.here, &said)
}

pub(super) fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    only_here("shearwater restore")?;
    let config = Config::load(args.here.config.config.as_deref())?;
    let mut newest = match &args.newest {
        Some(path) => Some(BufReader::new(File::open(path).with_context(|| format!("opening {}", path.display()))?)),
        None => None,
    };
    let wanted = Wanted {
        from: &args.dir,
        data_dir: &config.data_dir,
        newest: newest.as_mut().map(|lines| lines as &mut dyn BufRead),
        clock: Clock::system(),
        wake: oversleep,
    };
    let restored = block_on(backup::restore(wanted))?;
    if !config.public_url.is_empty() && restored.public_url != config.public_url {
        tell(&format!(
            "This is the backup of {}, and this configuration serves {}: other servers know the relay by the former.",
            restored.public_url, config.public_url
        ));
    }
    if restored.newest.is_none() {
        tell(
            "Who said no since the backup was made, and what was deleted, is not in it: if there are lines of a newer \
             `admin export`, read them in with `shearwater admin import` before you start the relay.",
        );
    }
    tell(
        "No token is in a backup, since one that was revoked since would open again: make new ones with `shearwater admin token \
         create`, for people and for programs.",
    );
    let origin = if config.public_url.is_empty() { NOWHERE } else { &config.public_url };
    if let Ok(keys) = Rotation::of_files(&config, origin).and_then(|rotation| rotation.status()) {
        tell(&format!(
            "The relay signs with the keys of {} again (RSA sha256:{}, since {}). If they were replaced since because somebody \
             else may have them: `shearwater keys rotate --now` before you start it.",
            restored.made_at, keys.signs.rsa.fingerprint, keys.signs.at
        ));
    }
    for fault in &restored.faults {
        tell(&format!("{}: {} row(s): {} ({})", fault.table, fault.count, fault.fault, fault.such_as.join(", ")));
    }
    say(&args.here, &json!(restored))
}

pub(super) fn check(here: &HereArgs) -> anyhow::Result<()> {
    only_here("shearwater check")?;
    let config = Config::load(here.config.config.as_deref())?;
    let (mut report, index) = match ask_socket(&config.data_dir, "GET", "store/check", None)? {
        Socket::Answered(text) => {
            let list = ListArgs { json: here.json, config: AtArgs { url: None, config: here.config.config.clone() } };
            let index = config.search.is_on().then(|| index::compared(&list)).transpose()?;
            (serde_json::from_str(&text)?, index)
        }
        Socket::Silent => {
            let store = there(&config)?;
            let origin = if config.public_url.is_empty() { NOWHERE } else { &config.public_url };
            let keys = Rotation::of_files(&config, origin).and_then(|rotation| rotation.status());
            let report: Value = json!(backup::check(&store.snapshot()?, keys)?);
            (report, index::compared_on_files(&config, store)?)
        }
    };
    let differ = index.as_ref().map_or(0, index::differences);
    report["index"] = index.unwrap_or_default();
    report["ok"] = (report["ok"] == true && differ == 0).into();
    if here.json {
        print(&format!("{report}\n"))?;
    } else {
        print(&told(&report, differ))?;
    }
    anyhow::ensure!(report["ok"] == true, "not everything is as it should be");
    Ok(())
}

fn say(here: &HereArgs, said: &Value) -> anyhow::Result<()> {
    print(&if here.json { format!("{said}\n") } else { lines(said) })
}

/// The report for people.
fn told(report: &Value, differ: u64) -> String {
    let rows = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let sum = |member: &str| rows("tables").iter().filter_map(|table| table[member].as_u64()).sum::<u64>();
    let mut text = format!("{} rows in {} tables, {} bytes.\n", sum("rows"), rows("tables").len(), sum("bytes"));
    for fault in rows("faults") {
        let such_as: Vec<_> = fault["such_as"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let [table, what] = ["table", "fault"].map(|member| fault[member].as_str().unwrap_or_default());
        text += &format!("{table}: {} row(s): {what}\n", fault["count"]);
        such_as.iter().for_each(|one| text += &format!("  {}\n", one.escape_debug()));
    }
    if differ > 0 {
        text += &format!("index: it differs from the ledger in {differ} posts: `shearwater index rebuild`\n");
    }
    if report["ok"] == true {
        text += "Nothing is wrong.\n";
    }
    text
}

/// The store, every page of it verified; it must be there.
fn there(config: &Config) -> anyhow::Result<Store> {
    let (dir, path) = (&config.data_dir, config.data_dir.join("shearwater.redb"));
    if dir.exists() {
        make_private(dir)?;
    }
    anyhow::ensure!(
        path.exists(),
        "there is no relay in data_dir = {}: {} is not there",
        dir.display(),
        path.display()
    );
    Ok(Store::open_thoroughly(dir, Clock::system())?)
}
