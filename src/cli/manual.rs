//! What a package ships beside the binary, made from the command tree itself: manual pages, and completions for shells.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, print};

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder to write a page for each command to, such as /usr/local/share/man/man1; without it the page of
    /// `shearwater` itself is printed.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let Some(dir) = &args.dir else { return print(&String::from_utf8(page()?)?) };
    clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("writing pages to {}", dir.display()))
}

fn page() -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    Ok(text)
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    print(&String::from_utf8(script(args.shell))?)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "shearwater", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_command_has_a_page_and_the_first_names_them_all() {
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { dir: Some(dir.path().to_owned()) }).unwrap();
        let mut pages: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        pages.sort();
        let mut expected = Vec::new();
        let mut command = Cli::command();
        command.build();
        names(&command, "shearwater", &mut expected);
        expected.sort();
        assert_eq!(pages, expected);
        let first = String::from_utf8(page().unwrap()).unwrap();
        for command in Cli::command().get_subcommands() {
            assert!(first.contains(&format!("shearwater\\-{}", command.get_name())), "{}", command.get_name());
        }
        for section in ["SYNOPSIS", "EXIT STATUS", "FILES", "ENVIRONMENT"] {
            assert!(first.to_uppercase().contains(section), "{section}\n{first}");
        }
        for variable in ["SHEARWATER_ADMIN_URL", "SHEARWATER_ADMIN_TOKEN"] {
            assert!(first.contains(variable), "{variable}\n{first}");
        }
    }

    /// The files that pages are in.
    fn names(command: &clap::Command, path: &str, all: &mut Vec<String>) {
        all.push(format!("{path}.1"));
        for below in command.get_subcommands().filter(|one| one.get_name() != "help") {
            names(below, &format!("{path}-{}", below.get_name()), all);
        }
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
