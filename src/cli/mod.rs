//! The command tree, one line per arm. What a command prints for people goes to standard output, what it does meanwhile to
//! standard error; `--json` prints one JSON document instead of the table.

mod admin;
mod demo;
mod index;
mod keep;
mod keys;
mod manual;
mod serve;
mod trends;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError};
use crate::ids::plain;

/// The exit code for a configuration that is wrong (`EX_CONFIG` of sysexits.h): a supervisor should not try again.
const EX_CONFIG: u8 = 78;

/// What a manual page has beside the commands.
const BESIDE: &str = "Exit status:
  0   done
  1   not done; standard error says why
  2   the command line was not understood
  78  the configuration is wrong; trying again would not mend it

Files:
  /etc/shearwater/shearwater.toml  the configuration, by convention: name it with --config
  DATA_DIR/admin.sock              where a running relay listens for these commands

Environment:
  SHEARWATER_<SECTION>__<KEY>      any key of the configuration; wins over the file
  SHEARWATER_ADMIN_URL             the relay elsewhere that commands ask, as --url; those that work on the files of this
                                   machine refuse while it is set
  SHEARWATER_ADMIN_TOKEN           the token that they show it";

/// A fediverse relay and opt-in search indexer.
#[derive(Debug, Parser)]
#[command(name = "shearwater", version, about, propagate_version = true, after_long_help = BESIDE)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Which configuration to use.
#[derive(Debug, Args, Clone)]
struct ConfigArg {
    /// The configuration file; without it the defaults and the environment (SHEARWATER_<SECTION>__<KEY>) count.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay.
    Serve(ConfigArg),
    /// Run the relay with a small simulated fediverse around it, and check what it promises.
    Demo(demo::DemoArgs),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the relay's keys, and replace them.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Make the relay follow an instance's or another relay's actor, so that its posts come here.
    Follow(admin::FollowArgs),
    /// End such a Follow.
    Unfollow(admin::UnfollowArgs),
    /// List whom the relay follows.
    Following(admin::PageArgs),
    /// Look after the search's index: how it stands, whether it is right; make it anew, take something out.
    #[command(subcommand)]
    Index(index::IndexCommand),
    /// Check the trends: make the served lists from the journal again, or see what attacks would come to.
    #[command(subcommand)]
    Trends(trends::TrendsCommand),
    /// Take everything that must not be lost to a folder, whether the relay runs or not: store and keys, as of one moment. What
    /// is on its way at that moment is not in it.
    Backup(keep::BackupArgs),
    /// Put a backup back, where no relay runs and `data_dir` is empty.
    Restore(keep::RestoreArgs),
    /// Read everything that is kept, and say what is not as it should be. Exits 1 if anything is.
    Check(keep::HereArgs),
    /// Look after a running relay.
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Write manual pages, made from these commands.
    Man(manual::ManArgs),
    /// Print a script that completes these commands in a shell.
    Completions(manual::CompletionsArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the defaults with their explanations: a file to start from.
    Default,
    /// Check a configuration; names every wrong key and exits 78 if there is one.
    Check(ConfigArg),
    /// Print what is in force, and where each value came from.
    Show(ConfigArg),
}

/// Runs a command.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(arg) => serve::run(&arg),
        Command::Demo(args) => return demo::run(args),
        Command::Config(ConfigCommand::Default) => print(crate::config::DEFAULT),
        Command::Config(ConfigCommand::Check(arg)) => check(arg.config.as_deref()),
        Command::Config(ConfigCommand::Show(arg)) => show(arg.config.as_deref()),
        Command::Keys(command) => keys::run(command),
        Command::Follow(args) => admin::follow(args),
        Command::Unfollow(args) => admin::unfollow(args),
        Command::Following(args) => admin::following(&args),
        Command::Index(command) => index::run(command),
        Command::Trends(command) => trends::run(command),
        Command::Backup(args) => keep::backup(&args),
        Command::Restore(args) => keep::restore(&args),
        Command::Check(here) => keep::check(&here),
        Command::Admin(command) => admin::run(command),
        Command::Man(args) => manual::man(&args),
        Command::Completions(args) => manual::completions(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What others wrote may be in it: the words of a relay elsewhere, a name in a file.
            let said = format!("{error:#}");
            tell(&format!("shearwater: {}", said.lines().map(plain).collect::<Vec<_>>().join("\n")));
            ExitCode::from(if error.is::<ConfigError>() { EX_CONFIG } else { 1 })
        }
    }
}

fn check(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    print(&format!(
        "The configuration is right. The relay would serve {} on {}.\n",
        config.public_url, config.http.listen
    ))
}

fn show(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    let sources = Config::sources(file)?;
    let mut text = toml::to_string(&config)?;
    let set: Vec<_> = sources.into_iter().filter(|(_, from)| from != "default").collect();
    if !set.is_empty() {
        text.push_str("\n# Not the defaults:\n");
        for (key, from) in set {
            text.push_str(&format!("#   {key}  from {from}\n"));
        }
    }
    print(&text)
}

/// Prints to standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a line to standard error.
fn tell(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A runtime for commands that wait on something.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// What changes nothing that the audit log keeps: it looks, or works on the files of a relay that does not run.
    const LOOKS: &[&str] = &[
        "admin check",
        "admin deliveries",
        "admin held",
        "admin import",
        "admin lists fetch",
        "admin lists review",
        "admin log",
        "admin pending",
        "admin publisher list",
        "admin refusals",
        "admin rules check",
        "admin rules export",
        "admin rules list",
        "admin search list",
        "admin stats",
        "admin subscriber",
        "admin subscribers",
        "admin token list",
        "admin trends list",
        "admin trends review",
        "admin trends rulings",
        "admin workers",
        "check",
        "completions",
        "config check",
        "config default",
        "config show",
        "demo",
        "following",
        "index check",
        "index stats",
        "keys show",
        "man",
        "restore",
        "serve",
        "trends replay",
        "trends simulate",
    ];

    fn leaves(command: &clap::Command, path: &str, all: &mut Vec<(String, bool)>) {
        let below: Vec<_> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
        if below.is_empty() {
            all.push((path.to_owned(), command.get_arguments().any(|arg| arg.get_long() == Some("reason"))));
        }
        for one in below {
            leaves(one, format!("{path} {}", one.get_name()).trim(), all);
        }
    }

    #[test]
    fn every_command_that_changes_something_takes_a_reason() {
        let mut all = Vec::new();
        leaves(&Cli::command(), "", &mut all);
        assert!(all.len() > 60, "{}", all.len());
        for (command, takes_one) in all {
            assert_eq!(takes_one, !LOOKS.contains(&command.as_str()), "{command}");
        }
    }
}
