//! The commands about subscribers, publishers and what is delivered to them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{HostArgs, ListArgs, PageArgs, Query, WhyArg, call, cell, each, encoded, one, page};
use crate::cli::print;

#[derive(Debug, Args)]
pub(in crate::cli) struct SubscribersArgs {
    /// Only servers whose name holds this.
    like: Option<String>,
    /// Only those that stand so.
    #[arg(long, value_parser = ["active", "pending", "checking"])]
    state: Option<String>,
    /// Only those whose deliveries fare so.
    #[arg(long, value_parser = ["healthy", "failing", "paused", "dormant"])]
    health: Option<String>,
    /// Only those that run this, by its name in NodeInfo: mastodon.
    #[arg(long)]
    software: Option<String>,
    /// Only those of which nothing came since then: a time (2026-08-21T12:00:00Z), or a span up to now (14d).
    #[arg(long, value_name = "WHEN", value_parser = super::moment)]
    unseen_since: Option<String>,
    /// Those first that are behind most.
    #[arg(long, conflicts_with = "after")]
    by_lag: bool,
    /// Every column.
    #[arg(long, short)]
    long: bool,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReasonArgs {
    /// The server: small.example; or several.
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    /// Why. Who is turned away or removed gets to read it; it goes to the audit log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ModeArgs {
    /// The server: small.example.
    host: String,
    /// "auto": forward what its software takes, announce the rest. "announce": always announce. "forward": always forward
    /// what can be forwarded.
    #[arg(value_parser = ["auto", "announce", "forward"])]
    mode: String,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PublisherArgs {
    #[command(subcommand)]
    command: PublisherCommand,
}

#[derive(Debug, Subcommand)]
enum PublisherCommand {
    /// Let a server send although it never follows (WordPress, for one). Nothing is sent to it.
    Add(ReasonArgs),
    /// Take that back.
    Remove(ReasonArgs),
    /// List the servers that may.
    List(PageArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ProbeArgs {
    /// The server: small.example.
    host: String,
    /// Only read what it shows; send it no message.
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RetryArgs {
    /// The server: small.example.
    host: String,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeliveriesArgs {
    /// Only those that fare so.
    #[arg(long, value_parser = ["healthy", "failing", "paused", "dormant"])]
    health: Option<String>,
    /// Only those that are behind.
    #[arg(long)]
    behind: bool,
    #[command(flatten)]
    page: PageArgs,
}

const SHORT: [&str; 9] = ["host", "state", "mode", "software", "health", "lag", "posts_in", "delivered", "last_reason"];
const LONG: [&str; 21] = [
    "host",
    "state",
    "mode",
    "announce_until",
    "shared_signatures",
    "styles",
    "software",
    "version",
    "search",
    "search_since",
    "health",
    "lag",
    "posts_in",
    "delivered",
    "dropped",
    "expired",
    "failures_in_a_row",
    "last_reason",
    "joined_at",
    "seen_at",
    "paused_since",
];

pub(in crate::cli) fn list(args: &SubscribersArgs) -> anyhow::Result<()> {
    let query = Query::new()
        .with("like", args.like.as_deref())
        .with("state", args.state.as_deref())
        .with("health", args.health.as_deref())
        .with("software", args.software.as_deref())
        .with("unseen_since", args.unseen_since.as_deref())
        .with("by_lag", args.by_lag.then_some("true"));
    page(&args.page, "subscribers", query, if args.long { &LONG } else { &SHORT })
}

pub(in crate::cli) fn pending(args: &PageArgs) -> anyhow::Result<()> {
    let columns = ["host", "software", "version", "styles", "joined_at", "actors"];
    page(args, "subscribers", Query::new().with("state", Some("pending")), &columns)
}

pub(in crate::cli) fn show(args: &HostArgs) -> anyhow::Result<()> {
    one(&args.list, "GET", &format!("subscribers/{}", encoded(&args.host)), None)
}

/// Does something to servers, by a POST to a path that ends in the name of each.
pub(in crate::cli) fn change(args: &ReasonArgs, verb: &str) -> anyhow::Result<()> {
    each(&args.hosts, |host| {
        let path = format!("subscribers/{}/{verb}", encoded(host));
        one(&args.list, "POST", &path, Some(json!({ "reason": args.reason })))
    })
}

pub(in crate::cli) fn remove(args: &ReasonArgs) -> anyhow::Result<()> {
    each(&args.hosts, |host| {
        let path = format!("subscribers/{}?reason={}", encoded(host), encoded(&args.reason));
        one(&args.list, "DELETE", &path, None)
    })
}

pub(in crate::cli) fn mode(args: &ModeArgs) -> anyhow::Result<()> {
    let path = format!("subscribers/{}/mode", encoded(&args.host));
    one(&args.list, "POST", &path, Some(json!({ "mode": args.mode, "reason": args.reason })))
}

pub(in crate::cli) fn publisher(args: &PublisherArgs) -> anyhow::Result<()> {
    match &args.command {
        PublisherCommand::Add(args) => each(&args.hosts, |host| {
            let path = format!("publishers/{}", encoded(host));
            one(&args.list, "POST", &path, Some(json!({ "reason": args.reason })))
        }),
        PublisherCommand::Remove(args) => each(&args.hosts, |host| {
            let path = format!("publishers/{}?reason={}", encoded(host), encoded(&args.reason));
            one(&args.list, "DELETE", &path, None)
        }),
        PublisherCommand::List(args) => page(args, "publishers", Query::new(), &["host", "since", "reason", "by"]),
    }
}

pub(in crate::cli) fn probe(args: &ProbeArgs) -> anyhow::Result<()> {
    let path = format!("servers/{}/probe", encoded(&args.host));
    let body = json!({ "deliver": !args.read_only, "reason": args.why.reason });
    let text = call(&args.list.config, "POST", &path, Some(body))?;
    if args.list.json {
        return print(&format!("{text}\n"));
    }
    print(&steps(&serde_json::from_str(&text)?))
}

/// A look, a paragraph for each step.
fn steps(look: &Value) -> String {
    let mut text = String::new();
    for step in look["steps"].as_array().into_iter().flatten() {
        let mark = match step["outcome"].as_str() {
            Some("good") => "ok  ",
            Some("doubtful") => "odd ",
            Some("skipped") => "-   ",
            _ => "BAD ",
        };
        text.push_str(&format!("{mark}{}: {}\n", cell(step.get("what")), cell(step.get("found"))));
        if step["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()) {
            text.push_str(&format!("    {}\n", cell(step.get("remedy"))));
        }
        if step.get("detail").is_some_and(|detail| !detail.is_null()) {
            text.push_str(&format!("    ({})\n", cell(step.get("detail"))));
        }
    }
    text
}

pub(in crate::cli) fn deliveries(args: &DeliveriesArgs) -> anyhow::Result<()> {
    let query = Query::new().with("health", args.health.as_deref()).with("behind", args.behind.then_some("true"));
    let columns = ["host", "health", "lag", "messages", "in_flight", "window", "next_attempt", "last_reason"];
    page(&args.page, "deliveries", query, &columns)
}

pub(in crate::cli) fn retry(args: &RetryArgs) -> anyhow::Result<()> {
    one(&args.list, "POST", &format!("deliveries/{}/retry", encoded(&args.host)), Some(args.why.body()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_told_step_by_step_with_what_to_do() {
        let look = json!({ "steps": [
            { "what": "rules", "outcome": "good", "found": "It may speak.", "remedy": "" },
            { "what": "delivery", "outcome": "bad", "found": "It says no.", "remedy": "Look there.", "detail": "HTTP\u{1b} 401" },
        ] });
        assert_eq!(
            steps(&look),
            "ok  rules: It may speak.\nBAD delivery: It says no.\n    Look there.\n    (HTTP\u{fffd} 401)\n"
        );
    }
}
