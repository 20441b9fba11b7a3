//! The commands about trends: what trends, what is kept back, what you said about it.

use std::time::Duration;

use clap::{Args, Subcommand};
use humantime_serde::re::humantime;
use serde_json::json;

use super::{ListArgs, WhyArg, encoded, one, table};

#[derive(Debug, Args)]
pub(in crate::cli) struct TrendsArgs {
    #[command(subcommand)]
    command: TrendsCommand,
}

#[derive(Debug, Subcommand)]
enum TrendsCommand {
    /// Hide a hashtag, a link, a post, or all links to a site and posts there. It is counted as before, and not shown; whoever asks is told the reason.
    Hide(RuleArgs),
    /// Let a hashtag, link or post through that a rule or a review keeps back.
    Show(RuleArgs),
    /// Take back what you said about it.
    Unrule(TargetArgs),
    /// List what trends, with its numbers.
    List(WhichArgs),
    /// List what trends and is not shown, and why: what waits for you to look at it is among it.
    Review(WhichArgs),
    /// List what you said, why, and until when.
    Rulings(ListArgs),
}

#[derive(Debug, Args)]
struct RuleArgs {
    /// A hashtag (cats), a link (https://…), a post by its id or the address of its page (post:https://…), or a site with
    /// those below it (site:news.example).
    target: String,
    /// Why, for whoever asks.
    #[arg(long)]
    reason: String,
    /// How long it holds (7d); without it, until you take it back.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct TargetArgs {
    /// As given to `hide` or `show`.
    target: String,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct WhichArgs {
    /// The window in hours.
    #[arg(long, default_value_t = 6)]
    within: u32,
    /// Only what is said in this language.
    #[arg(long)]
    language: Option<String>,
    /// Hashtags, links or posts.
    #[arg(long, default_value = "tag", value_parser = ["tag", "link", "post"])]
    kind: String,
    #[command(flatten)]
    list: ListArgs,
}

pub(in crate::cli) fn run(args: TrendsArgs) -> anyhow::Result<()> {
    match args.command {
        TrendsCommand::Hide(args) => rule(&args, true),
        TrendsCommand::Show(args) => rule(&args, false),
        TrendsCommand::Unrule(args) => {
            let path = format!("trends/rulings?target={}&{}", encoded(&args.target), args.why.parameter());
            one(&args.list, "DELETE", &path, None)
        }
        TrendsCommand::List(args) => {
            let columns = ["name", "rank", "score", "people", "servers", "usual_people", "usual_servers"];
            table(&args.list, "GET", &path("trends", &args), None, &columns)
        }
        TrendsCommand::Review(args) => table(
            &args.list,
            "GET",
            &path("trends/withheld", &args),
            None,
            &["name", "why", "rank", "score", "people", "servers"],
        ),
        TrendsCommand::Rulings(list) => {
            table(&list, "GET", "trends/rulings", None, &["target", "ruling", "reason", "at", "until"])
        }
    }
}

fn rule(args: &RuleArgs, hidden: bool) -> anyhow::Result<()> {
    let seconds = args.expires.map(|span| span.as_secs());
    let body = json!({ "target": args.target, "hidden": hidden, "reason": args.reason, "seconds": seconds });
    one(&args.list, "POST", "trends/rulings", Some(body))
}

fn path(what: &str, args: &WhichArgs) -> String {
    let language =
        args.language.as_ref().map_or_else(String::new, |language| format!("&language={}", encoded(language)));
    format!("{what}?within={}&subject={}{language}", args.within, args.kind)
}
