//! `trends`: the served lists made from the journal once more, and the table of attacks, which needs no relay at all.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{ListArgs, Socket, ask_or_silent, rows_table};
use super::print;
use crate::clock::Clock;
use crate::config::Config;
use crate::policy::Rules;
use crate::store::{Store, make_private};
use crate::trends::replay::{Replayed, replay};
use crate::trends::simulate::{Outcome, Scale, simulate};

#[derive(Debug, Subcommand)]
pub(super) enum TrendsCommand {
    /// Make the lists that were served last from the journal once more, and compare them byte for byte. Asks the running
    /// relay; where none runs, reads its files. Exits 1 if one differs although nothing changed since; CONDITIONS CHANGED
    /// names what else is not as it was then.
    Replay(ListArgs),
    /// Simulate a day of honest posts, two real events, and everything that people do to make a trend; print where each ends
    /// up. Exits 1 if an attack trends or an event does not.
    Simulate(SimulateArgs),
}

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The chance that everything is made from: the same number gives the same day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: TrendsCommand) -> anyhow::Result<()> {
    match command {
        TrendsCommand::Replay(list) => again(&list),
        TrendsCommand::Simulate(args) => gaming(&args),
    }
}

fn again(list: &ListArgs) -> anyhow::Result<()> {
    let done: Vec<Replayed> = match ask_or_silent(&list.config, "GET", "trends/replay", None)? {
        Socket::Answered(text) => serde_json::from_str(&text)?,
        Socket::Silent => {
            let config = Config::load(list.config.config.as_deref())?;
            make_private(&config.data_dir)?;
            let store = Store::open(&config.data_dir, Clock::system())?;
            let rules = Rules::new(&config.policy, &config.relay);
            rules.load(&store)?;
            replay(&store, &config.trends, &rules.set(), Clock::system().now())?
        }
    };
    if list.json {
        print(&format!("{}\n", serde_json::to_string(&done)?))?;
    } else {
        let row = |one: &Replayed| {
            json!({
                "list": one.list,
                "at": one.served.at.rfc3339(),
                "served": one.served.entries.len(),
                "again": one.again.entries.len(),
                "equal": one.equal,
                "changes_since": one.changes_since,
                "conditions_changed": one.conditions_changed.join(", "),
            })
        };
        let rows: Vec<Value> = done.iter().map(row).collect();
        let columns = ["list", "at", "served", "again", "equal", "changes_since", "conditions_changed"];
        print(&rows_table(&rows, &columns))?;
    }
    let wrong = done.iter().filter(|one| one.differs()).count();
    anyhow::ensure!(wrong == 0, "{wrong} lists differ from what the journal gives");
    Ok(())
}

fn gaming(args: &SimulateArgs) -> anyhow::Result<()> {
    let outcomes = simulate(args.seed, Scale::Day);
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&outcomes)?))?;
    } else {
        let rows = outcomes.iter().map(|one| json!(one)).collect::<Vec<_>>();
        let columns =
            ["what", "people", "servers", "R", "N", "z", "short_of", "best_place", "after_minutes", "as_it_should"];
        print(&rows_table(&rows, &columns))?;
    }
    let wrong = outcomes.iter().filter(|one: &&Outcome| !one.as_it_should).count();
    anyhow::ensure!(wrong == 0, "{wrong} do not end up where they should");
    Ok(())
}
