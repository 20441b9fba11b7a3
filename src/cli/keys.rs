//! `keys show` reads the files of this machine, whether or not the relay runs. `keys rotate` asks the relay that is meant, which
//! takes the new keys up at once; where that is the one here and it does not run, it changes the files, and the next start reads
//! them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{AtArgs, Socket, WhyArg, ask_or_silent, is_elsewhere, only_here};
use super::{ConfigArg, block_on, print};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::identity::{HOLD, Identity, KeyStatus, PairLine, Rotate, Rotation, new_pair};
use crate::store::{Act, Store, make_private};

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Print the public keys and their ids, and how a rotation stands; makes the keys if there are none yet.
    Show(ShowArgs),
    /// Replace the relay's keys: the new pair is listed at once and signs after 48 hours; the old one stays listed a week
    /// longer. Other servers go on believing the relay throughout.
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The keys are stolen or lost: drop all of them and sign with a new pair at once.
    #[arg(long)]
    now: bool,
    /// Say what would happen, and do nothing. On the relay's machine alone.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    why: WhyArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: AtArgs,
}

pub(super) fn run(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Show(args) => show(&args),
        KeysCommand::Rotate(args) => rotate(&args),
    }
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    only_here("shearwater keys show")?;
    let config = Config::load(args.config.config.as_deref())?;
    make_private(&config.data_dir)?;
    let identity = Identity::load_or_create(&config, &config.public_url, Clock::system().now())?;
    let status = identity.rotation.status()?;
    if args.json { print(&format!("{}\n", json!(status))) } else { print(&table(&status)) }
}

fn rotate(args: &RotateArgs) -> anyhow::Result<()> {
    let how = if args.now { Rotate::Now } else { Rotate::After(HOLD) };
    let now = Clock::system().now();
    if args.dry_run {
        anyhow::ensure!(
            !is_elsewhere(&args.at),
            "--dry-run looks at the keys of this machine: run it where the relay is"
        );
        let config = Config::load(args.at.config.as_deref())?;
        let said = Rotation::of_files(&config, &config.public_url)?.foretell(how, now)?;
        return tell(args, &json!({ "said": said, "done": false }), &said);
    }
    let body = json!({ "now": args.now, "reason": args.why.reason }).to_string().into_bytes();
    if let Socket::Answered(text) = ask_or_silent(&args.at, "POST", "keys/rotate", Some(body))? {
        let answer: Value = serde_json::from_str(&text)?;
        let said = answer["said"].as_array().into_iter().flatten();
        let said: Vec<String> = said.filter_map(Value::as_str).map(str::to_owned).collect();
        return tell(args, &answer, &said);
    }
    let config = Config::load(args.at.config.as_deref())?;
    let (said, status) = rotate_files(&config, how, now, &args.why.reason)?;
    tell(args, &json!({ "said": said, "keys": status }), &said)
}

/// For a relay that does not run. Holding its store keeps one from starting meanwhile, which would not see the change.
fn rotate_files(
    config: &Config,
    how: Rotate,
    now: Timestamp,
    reason: &str,
) -> anyhow::Result<(Vec<String>, KeyStatus)> {
    let held = Store::open(&config.data_dir, Clock::system())?;
    let rotation = Rotation::of_files(config, &config.public_url)?;
    let mut said = rotation.foretell(how, now)?;
    let (act, after) = (Act::local(reason), json!({ "now": how == Rotate::Now, "said": said }));
    let note = held.write(move |tx| tx.audit(&act, "keys.rotate", "this relay", Value::Null, after));
    block_on(async { Ok(note.await?) })?;
    rotation.rotate(how, now, new_pair)?;
    said.push("No relay runs with this data_dir: the next start takes the new keys up.".to_owned());
    Ok((said, rotation.status()?))
}

fn tell(args: &RotateArgs, answer: &Value, said: &[String]) -> anyhow::Result<()> {
    if args.json {
        return print(&format!("{answer}\n"));
    }
    let head = if args.dry_run { "Nothing is done. Without --dry-run:\n" } else { "" };
    print(&format!("{head}{}", said.iter().map(|line| format!("* {line}\n")).collect::<String>()))
}

fn table(status: &KeyStatus) -> String {
    let mut text = pair(&status.signs, "signs since");
    if let Some(coming) = &status.coming {
        text += &pair(coming, "listed; signs from");
    }
    if let Some(leaving) = &status.leaving {
        text += &pair(leaving, "signed before; listed until");
    }
    text
}

fn pair(pair: &PairLine, what: &str) -> String {
    let mut text = String::new();
    for key in [&pair.rsa, &pair.ed25519] {
        text += &format!("{}\n  {what} {}\n  sha256:{}\n{}\n", key.id, pair.at, key.fingerprint, key.public.trim_end());
    }
    text
}
