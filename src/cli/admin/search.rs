//! The commands about search: the operator's record of the servers that it is switched on for.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{ListArgs, PageArgs, Query, WhyArg, encoded, one, page};

#[derive(Debug, Args)]
pub(in crate::cli) struct SearchArgs {
    #[command(subcommand)]
    command: SearchCommand,
}

#[derive(Debug, Subcommand)]
enum SearchCommand {
    /// Switch search on for a server on its admin's word. Admins can do it themselves: they follow the search actor.
    On(OnArgs),
    /// Switch search off for a server, whoever switched it on. Its admin can switch it on again; `admin block` lasts.
    Off(OffArgs),
    /// List the servers that search is switched on for: since when, by whom, and why.
    List(PageArgs),
}

#[derive(Debug, Args)]
struct OnArgs {
    /// The server: small.example.
    host: String,
    /// On whose word, and when they gave it. It is kept with the date.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct OffArgs {
    /// The server: small.example.
    host: String,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

pub(in crate::cli) fn run(args: SearchArgs) -> anyhow::Result<()> {
    match args.command {
        SearchCommand::On(args) => {
            let path = format!("search/servers/{}", encoded(&args.host));
            one(&args.list, "POST", &path, Some(json!({ "reason": args.reason })))
        }
        SearchCommand::Off(args) => {
            let path = format!("search/servers/{}?{}", encoded(&args.host), args.why.parameter());
            one(&args.list, "DELETE", &path, None)
        }
        SearchCommand::List(args) => {
            page(&args, "search/servers", Query::new(), &["host", "since", "by", "actor", "reason"])
        }
    }
}
