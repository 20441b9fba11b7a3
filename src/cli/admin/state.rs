//! The whole state as lines: written to a file by whichever relay is meant, and read in on this machine.
//!
//! Promise: a file that was there stays as it was until the new one is whole and on the disk. Whoever writes one every ten
//! minutes has a good one after any failure, that of the relay's disk above all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, IsTerminal as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::client::{download, only_here};
use super::{AtArgs, WhyArg};
use crate::cli::{ConfigArg, block_on, print, tell};
use crate::clock::Clock;
use crate::config::Config;
use crate::log::Log;
use crate::store::{self, Ended, Store, Whole, make_private};

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// Write it to this file. What was there is replaced when all of it has come, and not before; without it, standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    at: AtArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// What `export` wrote; "-" is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Change nothing; tell what is in it, and how many records that are here it would overwrite.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigArg,
}

pub(in crate::cli) fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let path =
        if args.why.reason.is_empty() { "export".to_owned() } else { format!("export?{}", args.why.parameter()) };
    let ended = match &args.to {
        Some(file) => in_place_of(file, |out| download(&args.at, &path, out))?,
        None => {
            anyhow::ensure!(
                !io::stdout().is_terminal(),
                "this is for a file and not for a screen: --to FILE, or > FILE"
            );
            let mut out = Whole::new(BufWriter::new(io::stdout().lock()));
            download(&args.at, &path, &mut out).and_then(|()| out.finish())?
        }
    };
    if ended.damaged > 0 {
        tell(&format!("{} record(s) cannot be read and are not in it: `shearwater check` names them.", ended.damaged));
    }
    Ok(())
}

/// Has a file written beside `to`, which takes its name when it is whole and on the disk.
fn in_place_of(to: &Path, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<Ended> {
    let name = to.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} is no name", to.display()))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = folder.join(format!("{name}.partial"));
    let making = || format!("making {}", partial.display());
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(making),
        _ => {}
    }
    // What it says is for its owner; and a file that somebody else put there meanwhile is not written to.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).with_context(making)?;
    let mut out = Whole::new(BufWriter::new(&file));
    let written = write(&mut out).and_then(|()| out.finish()).and_then(|ended| {
        file.sync_all().with_context(|| format!("writing {} to the disk", partial.display()))?;
        std::fs::rename(&partial, to).with_context(|| format!("giving {} its name", to.display()))?;
        Ok(ended)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    let ended = written.with_context(|| format!("{} is as it was", to.display()))?;
    File::open(folder)?.sync_all().with_context(|| format!("writing {} to the disk", folder.display()))?;
    Ok(ended)
}

pub(in crate::cli) fn import(args: &ImportArgs) -> anyhow::Result<()> {
    only_here("shearwater admin import")?;
    let mut input: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.file).with_context(|| format!("opening {}", args.file.display()))?;
        Box::new(BufReader::new(file))
    };
    let data_dir = Config::data_dir(args.config.config.as_deref())?;
    if args.dry_run {
        let found = if data_dir.join("shearwater.redb").exists() {
            store::foresee(&Store::open(&data_dir, Clock::system())?, &mut input, Log::next_in)?
        } else {
            nowhere(|store| store::foresee(store, &mut input, Log::next_in))?
        };
        return print(&format!("{}\n", json!({ "dry_run": true, "found": found })));
    }
    make_private(&data_dir)?;
    let store = Store::open(&data_dir, Clock::system())?;
    let done = block_on(async { store::import(&store, &mut input, Log::next_in).await })?;
    print(&format!("{}\n", json!(done)))
}

/// With an empty store, of which nothing is left.
fn nowhere<T>(look: impl FnOnce(&Store) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let folder = std::env::temp_dir().join(format!("shearwater-import-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("making {}", folder.display()))?;
    let found = Store::open(&folder, Clock::system()).map_err(Into::into).and_then(|store| look(&store));
    let _ = std::fs::remove_dir_all(&folder);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "{\"kind\":\"relay\",\"version\":1,\"key\":\"mark\",\"record\":\"x\"}\n";
    const END: &str = "{\"kind\":\"end\",\"version\":1,\"key\":\"\",\"record\":{\"lines\":1,\"damaged\":0}}\n";

    #[test]
    fn an_export_that_was_cut_short_leaves_the_good_file_of_before() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("newest.ndjson");
        let written = |parts: &[&str], fails: bool| {
            in_place_of(&to, |out| {
                parts.iter().try_for_each(|part| out.write_all(part.as_bytes()))?;
                anyhow::ensure!(!fails, "the relay is gone");
                Ok(())
            })
        };
        let names = || {
            let names = std::fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().file_name());
            names.collect::<Vec<_>>()
        };
        let whole = format!("{LINES}{END}");
        assert_eq!(written(&[LINES, END], false).unwrap(), Ended { lines: 1, damaged: 0 });
        for (parts, fails, said) in [
            (&[LINES, END][..], true, "the relay is gone"),
            (&[LINES], false, "cut short"),
            (&[], false, "cut short"),
            (&[LINES, LINES, END], false, "cut short"),
            (&[LINES, &END[..20]], false, "cut short"),
        ] {
            let error = format!("{:#}", written(parts, fails).unwrap_err());
            assert!(error.contains(said) && error.contains("is as it was"), "{error}");
            assert_eq!(std::fs::read_to_string(&to).unwrap(), whole);
            assert_eq!(names(), ["newest.ndjson"]);
        }
        // What a kill left is in nobody's way, and a link that somebody put there is not followed.
        let other = dir.path().join("other");
        std::fs::write(&other, "mine").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("newest.ndjson.partial")).unwrap();
        written(&[LINES, END], false).unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
    }
}
