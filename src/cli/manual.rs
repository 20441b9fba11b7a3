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

    /// What stands in backticks or in a block for a shell, and begins with `shearwater` or `admin`.
    fn documented(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (index, part) in text.split("```").enumerate() {
            if index % 2 == 1 {
                let lines = part.strip_prefix("sh\n").unwrap_or_default().lines();
                let lines = lines.flat_map(|line| line.split("&&")).map(|line| line.trim().trim_start_matches("sudo "));
                found.extend(lines.map(str::to_owned));
            } else {
                found.extend(part.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
        let spaced = found.iter().map(|one| one.split_whitespace().collect::<Vec<_>>().join(" "));
        let ours = spaced.filter_map(|one| match one.split_once(' ')? {
            ("shearwater", rest) => Some(rest.to_owned()),
            ("admin", _rest) => Some(one),
            _ => None,
        });
        ours.collect()
    }

    /// The words of a command as a shell has them, up to what it does itself; of several values the first.
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut word, mut marks) = (Vec::new(), String::new(), None);
        let command = match command.split_once("$(") {
            Some((before, rest)) => format!("{before}x{}", rest.split_once(')').map_or("", |(_, after)| after)),
            None => command.to_owned(),
        };
        for c in format!("{command} ").chars() {
            match (marks, c) {
                (None, '"' | '\'') => marks = Some(c),
                (Some(mark), c) if c == mark => marks = None,
                (None, '#' | '>') if word.is_empty() => break,
                (None, '|') if word.is_empty() => break,
                (None, ' ') if word.is_empty() => {}
                (None, ' ') => words.push(std::mem::take(&mut word)),
                (_, c) => word.push(c),
            }
        }
        words.iter().map(|word| word.split('|').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn every_command_in_the_documents_is_one() {
        let mut wrong = Vec::new();
        let mut tried = 0;
        for (name, text) in [
            ("README.md", include_str!("../../README.md")),
            ("docs/OPERATING.md", include_str!("../../docs/OPERATING.md")),
            ("SECURITY.md", include_str!("../../SECURITY.md")),
            ("docs/PRIVACY.md", include_str!("../../docs/PRIVACY.md")),
        ] {
            for command in documented(text) {
                let words = words(&command);
                let mut cli = Cli::command();
                cli.build();
                // A command that is only named takes no arguments yet.
                let mut at = Some(&cli);
                for word in &words {
                    at = at.and_then(|one| one.find_subcommand(word));
                }
                tried += 1;
                if at.is_some() {
                    continue;
                }
                let all = std::iter::once("shearwater").chain(words.iter().map(String::as_str));
                if let Err(error) = Cli::command().try_get_matches_from(all)
                    && !matches!(
                        error.kind(),
                        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
                    )
                {
                    wrong.push(format!(
                        "{name}: shearwater {}: {}",
                        words.join(" "),
                        error.to_string().lines().next().unwrap_or_default()
                    ));
                }
            }
        }
        assert!(tried > 60, "{tried}");
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}
