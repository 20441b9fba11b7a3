//! The commands about tokens of programs and people.

use std::time::Duration;

use clap::{Args, Subcommand};
use humantime_serde::re::humantime;
use serde_json::json;

use super::{ListArgs, WhyArg, encoded, one, table};

#[derive(Debug, Args)]
pub(in crate::cli) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it, this once: nobody can read it again, only revoke it and make another.
    Create(CreateArgs),
    /// Take a token back by its name. It opens nothing from then on.
    Revoke(RevokeArgs),
    /// List the tokens: for whom, until when, and on which day each was used last.
    List(ListArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Who gets it, or what for: "ada's phone". Each name once.
    #[arg(long)]
    name: String,
    /// For how long it opens: 90d, 1year. Without it, until it is revoked.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// What it opens. For programs: the search and trends with it, or trends alone. For people who look after this relay
    /// from elsewhere: read, or also moderate (joins, rules, what is held), or all of it (admin).
    #[arg(long, default_value = "search", value_parser = ["search", "trends", "read", "moderate", "admin"])]
    scope: String,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The token's name.
    name: String,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

pub(in crate::cli) fn run(args: TokenArgs) -> anyhow::Result<()> {
    match args.command {
        TokenCommand::Create(args) => {
            let seconds = args.expires.map(|span| span.as_secs());
            let body = json!({ "name": args.name, "scope": args.scope, "seconds": seconds, "reason": args.why.reason });
            one(&args.list, "POST", "tokens", Some(body))
        }
        TokenCommand::Revoke(args) => {
            let path = format!("tokens?name={}&{}", encoded(&args.name), args.why.parameter());
            one(&args.list, "DELETE", &path, None)
        }
        TokenCommand::List(list) => {
            table(&list, "GET", "tokens", None, &["name", "id", "scope", "state", "made_at", "expires_at", "last_used"])
        }
    }
}
