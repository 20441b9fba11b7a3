//! `index`: how the search's index stands beside its ledger, whether it is right, to make it anew, to have words gone from
//! its files, to take something out. Asks the running relay; where none runs, all but `purge` is done on the files.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::admin::{ListArgs, Socket, WhyArg, ask_or_silent, lines};
use super::{block_on, print, tell};
use crate::clock::Clock;
use crate::config::Config;
use crate::search::index::Index;
use crate::search::shelf::Shelf;
use crate::store::{Act, Store, make_private};

/// How often it is asked how far a new index is.
const POLL: Duration = Duration::from_millis(300);

#[derive(Debug, Subcommand)]
pub(super) enum IndexCommand {
    /// Print how much is held and indexed, and since when something removed is still in the files.
    Stats(ListArgs),
    /// Read all files of the index, and compare its posts with those of the ledger. Exits 1 if anything differs.
    Check(ListArgs),
    /// Make a new index from the ledger beside the one in use, and put it in its place. Searches go on meanwhile.
    Rebuild(ChangeArgs),
    /// Take posts out of the search: one post, all of an author, all of a server. This cannot be undone: without --yes it
    /// only says what would go.
    Purge(PurgeArgs),
    /// Have the words of removed posts gone from the files of the index now. It happens by itself within a day.
    Expunge(ChangeArgs),
}

#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    /// A post (https://…), an author (https://… or @name@host), or a server with those below its name (small.example). A
    /// single post does not come again.
    target: String,
    /// Only say what would go; this is so without --yes as well.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// The author asked to be left alone: nothing is taken of them again, whatever their profile says, until they take that
    /// back themselves. Only a keyed hash of their address is kept. (`admin no-search` keeps somebody out by name.)
    #[arg(long)]
    for_good: bool,
    /// Why, for the audit log, which keeps the server and nobody's name: do not say it here either.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

pub(super) fn run(command: IndexCommand) -> anyhow::Result<()> {
    match command {
        IndexCommand::Stats(list) => {
            show(&list, &ask(&list, "GET", "index", None, |files| Ok(json!(files.report()?)))?)
        }
        IndexCommand::Check(list) => check(&list),
        IndexCommand::Rebuild(args) => rebuild(&args),
        IndexCommand::Purge(args) => purge(&args),
        IndexCommand::Expunge(ChangeArgs { why, list }) => {
            let done = ask(&list, "POST", "index/expunge", Some(why.body()), |files| {
                files.note("index.expunge", &why.reason)?;
                let (_index, mut writer) = files.shelf.open(&bar_of(&bar()))?;
                let done = writer.expunge(Clock::system().now())?;
                Ok(json!({ "segments": done.segments, "left": done.left }))
            });
            show(&list, &done?)
        }
    }
}

fn check(list: &ListArgs) -> anyhow::Result<()> {
    let found = compared(list)?;
    show(list, &found)?;
    let differ = differences(&found);
    anyhow::ensure!(
        differ == 0,
        "index and ledger differ in {differ} posts: `shearwater index rebuild` makes the index anew"
    );
    Ok(())
}

/// The index beside its ledger.
pub(super) fn compared(list: &ListArgs) -> anyhow::Result<Value> {
    let found = ask(list, "POST", "index/check", None, |files| files.compared()?.context("there is no index yet"));
    found.context("the index cannot be compared")
}

/// The same of a relay that does not run, whose store is held already; nothing where there is no index.
pub(super) fn compared_on_files(config: &Config, store: Store) -> anyhow::Result<Option<Value>> {
    Files::of(config, store).compared()
}

/// In how many posts they differ.
pub(super) fn differences(compared: &Value) -> u64 {
    ["missing", "surplus", "doubled"].iter().filter_map(|fault| compared[*fault].as_u64()).sum()
}

fn rebuild(args: &ChangeArgs) -> anyhow::Result<()> {
    let (bar, list) = (bar(), &args.list);
    let begun = ask(list, "POST", "index/rebuild", Some(args.why.body()), |files| {
        files.note("index.rebuild", &args.why.reason)?;
        let (_index, old) = files.shelf.open(&bar_of(&bar))?;
        let posts = files.shelf.build_beside(&bar_of(&bar))?;
        files.shelf.swap(Some(old))?;
        Ok(json!({ "state": "done", "posts": posts }))
    })?;
    if begun["state"] == "done" {
        bar.finish_and_clear();
        return show(list, &begun);
    }
    loop {
        std::thread::sleep(POLL);
        let now = ask(list, "GET", "index", None, |_files| {
            anyhow::bail!("the relay stopped; it begins anew when it runs again")
        })?;
        let state = &now["rebuild"];
        match state["state"].as_str() {
            Some("running") => {
                bar.set_length(state["total"].as_u64().unwrap_or_default());
                bar.set_position(state["done"].as_u64().unwrap_or_default());
            }
            Some("done") => {
                bar.finish_and_clear();
                return show(list, state);
            }
            Some("failed") => anyhow::bail!("{}", state["why"].as_str().unwrap_or("it came to nothing")),
            _ => anyhow::bail!("the relay was started anew meanwhile, and knows nothing of it: ask again"),
        }
    }
}

fn purge(args: &PurgeArgs) -> anyhow::Result<()> {
    let body = json!({ "target": args.target, "for_good": args.for_good, "dry_run": !args.yes, "reason": args.reason });
    let done = ask(&args.list, "POST", "index/purge", Some(body), |_files| {
        anyhow::bail!("no relay runs with this data_dir: start it, then purge")
    })?;
    show(&args.list, &done)?;
    match args.yes {
        true => tell(
            "It is in no result any more; its words leave the files within a day, or now with `shearwater index expunge`.",
        ),
        false => tell("Nothing is done. This cannot be undone: --yes does it."),
    }
    Ok(())
}

fn show(list: &ListArgs, document: &Value) -> anyhow::Result<()> {
    if list.json {
        return print(&format!("{document}\n"));
    }
    print(&lines(document))
}

/// Asks the relay that is meant; where that is the one here and it does not run, `offline` does it on the files.
fn ask(
    list: &ListArgs,
    method: &str,
    path: &str,
    body: Option<Value>,
    offline: impl FnOnce(&Files) -> anyhow::Result<Value>,
) -> anyhow::Result<Value> {
    match ask_or_silent(&list.config, method, path, body.map(|body| body.to_string().into_bytes()))? {
        Socket::Answered(text) => Ok(serde_json::from_str(&text)?),
        Socket::Silent => offline(&Files::open(list.config.config.as_deref())?),
    }
}

/// The files of a relay that does not run; holding the store keeps one from starting meanwhile.
struct Files {
    store: Store,
    shelf: Shelf,
    folder: std::path::PathBuf,
    heap: usize,
}

impl Files {
    fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let config = Config::load(file)?;
        make_private(&config.data_dir)?;
        let store = Store::open(&config.data_dir, Clock::system())?;
        Ok(Self::of(&config, store))
    }

    fn of(config: &Config, store: Store) -> Self {
        let heap = usize::try_from(config.search.heap.as_u64()).unwrap_or(usize::MAX);
        let folder = config.data_dir.join("search");
        Self { shelf: Shelf::new(store.clone(), folder.clone(), heap, Clock::system()), store, folder, heap }
    }

    /// Writes down what is about to be done, as the relay does when it runs.
    fn note(&self, what: &'static str, reason: &str) -> anyhow::Result<()> {
        let act = Act::local(reason);
        let note = self.store.write(move |tx| tx.audit(&act, what, "the index", Value::Null, Value::Null));
        block_on(async { Ok(note.await?) })
    }

    fn compared(&self) -> anyhow::Result<Option<Value>> {
        let Some(index) = self.index()? else { return Ok(None) };
        let mut writer = index.writer(self.heap)?;
        let (view, ids) = self.shelf.snapshot(&index, &mut writer)?;
        Ok(Some(json!(Shelf::compare(&view, ids)?)))
    }

    fn index(&self) -> anyhow::Result<Option<Index>> {
        Ok(if Index::exists(&self.folder) { Some(Index::open(&self.folder)?) } else { None })
    }

    fn report(&self) -> anyhow::Result<crate::search::shelf::Report> {
        self.shelf.report(self.index()?.as_ref())
    }
}

/// Drawn on a terminal only.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} posts, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn bar_of(bar: &ProgressBar) -> impl Fn(u64, u64) -> bool {
    let bar = bar.clone();
    move |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        true
    }
}
