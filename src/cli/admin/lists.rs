//! The commands about lists that others publish, and what they print.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::rules::{difference, show, told};
use super::{ListArgs, call, encoded, one, table};
use crate::cli::print;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct ListsArgs {
    #[command(subcommand)]
    command: Option<ListsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum ListsCommand {
    /// Follow a list: it is fetched now and once a day. Nothing of it counts before you apply it.
    Add(AddArgs),
    /// Follow a list no more. The rules that it brought go with it.
    Remove(RemoveArgs),
    /// Fetch a list now.
    Fetch(NameArgs),
    /// Tell what a list would change, and whom that touches.
    Review(NameArgs),
    /// Apply what a list says.
    Apply(ApplyArgs),
    /// Change how a list is followed; what is not said stays as it is.
    Set(SetArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// Where it is published: Mastodon's domain blocks (CSV), or one name per line.
    #[arg(value_name = "URL")]
    published_at: String,
    /// What it is to be called: its rules are known by it.
    #[arg(long)]
    name: String,
    /// What rows ask for that do not say so themselves.
    #[arg(long, default_value = "block", value_parser = ["block", "silence", "no-search", "allow"])]
    severity: String,
    /// Apply by itself what only adds and sharpens, and changes at most 10 % of what the list brought and nobody who is here.
    /// Its comments are told to nobody before you have read them.
    #[arg(long)]
    auto: bool,
    /// Leave out rows that are bad or obfuscated; without it one of them stops the whole list.
    #[arg(long)]
    skip_bad: bool,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// The list.
    name: String,
    /// Leave the rules that it brought.
    #[arg(long)]
    keep_rules: bool,
    /// Change nothing; tell what it would do.
    #[arg(long)]
    dry_run: bool,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// The list.
    name: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The list.
    name: String,
    /// Where it is published.
    #[arg(long, value_name = "URL")]
    published_at: Option<String>,
    /// What rows ask for that do not say so themselves.
    #[arg(long, value_parser = ["block", "silence", "no-search", "allow"])]
    severity: Option<String>,
    /// Whether it applies by itself what is little: see `add`.
    #[arg(long, value_name = "true|false")]
    auto: Option<bool>,
    /// Whether rows that are bad or obfuscated are left out.
    #[arg(long, value_name = "true|false")]
    skip_bad: Option<bool>,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct ApplyArgs {
    /// The list.
    name: String,
    /// Only if it is this text, as `review` names it.
    #[arg(long, value_name = "VERSION")]
    reviewed: Option<String>,
    /// Although it changes more than 10 % of what the list brought.
    #[arg(long, requires = "reviewed")]
    approve: bool,
    /// Leave out rows that are bad or obfuscated.
    #[arg(long)]
    skip_bad: bool,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

pub(in crate::cli) fn run(args: &ListsArgs) -> anyhow::Result<()> {
    match &args.command {
        None => {
            let columns = ["name", "state", "rules", "auto", "asked_at", "trouble", "url"];
            table(&args.list, "GET", "lists", None, &columns)
        }
        Some(ListsCommand::Add(args)) => {
            let body = json!({
                "name": args.name, "url": args.published_at, "severity": args.severity, "auto": args.auto,
                "skip_bad": args.skip_bad, "reason": args.reason,
            });
            one(&args.list, "POST", "lists", Some(body))
        }
        Some(ListsCommand::Remove(args)) => {
            let (name, reason) = (encoded(&args.name), encoded(&args.reason));
            let path = format!("lists/{name}?keep_rules={}&dry_run={}&reason={reason}", args.keep_rules, args.dry_run);
            show(&args.list, &call(&args.list.config, "DELETE", &path, None)?)
        }
        Some(ListsCommand::Fetch(args)) => {
            one(&args.list, "POST", &format!("lists/{}/fetch", encoded(&args.name)), None)
        }
        Some(ListsCommand::Review(args)) => reviewed(
            &args.list,
            &call(&args.list.config, "GET", &format!("lists/{}/review", encoded(&args.name)), None)?,
        ),
        Some(ListsCommand::Apply(args)) => {
            let body = json!({
                "version": args.reviewed, "approve": args.approve, "skip_bad": args.skip_bad, "reason": args.reason,
            });
            let path = format!("lists/{}/apply", encoded(&args.name));
            reviewed(&args.list, &call(&args.list.config, "POST", &path, Some(body))?)
        }
        Some(ListsCommand::Set(args)) => {
            let body = json!({
                "url": args.published_at, "severity": args.severity, "auto": args.auto, "skip_bad": args.skip_bad,
                "reason": args.reason,
            });
            one(&args.list, "POST", &format!("lists/{}", encoded(&args.name)), Some(body))
        }
    }
}

fn reviewed(list: &ListArgs, text: &str) -> anyhow::Result<()> {
    if list.json {
        return print(&format!("{text}\n"));
    }
    print(&in_words(&serde_json::from_str(text)?))
}

fn in_words(review: &Value) -> String {
    let name = review["list"].as_str().unwrap_or_default();
    let Some(version) = review["version"].as_str() else {
        return format!("Nothing waits: the rules of list:{name} are what it says.\n");
    };
    let mut text = difference(review);
    let short: String = version.chars().take(12).collect();
    text.push_str(&format!("It is version {short}…, and changes {} % of what the list brought.\n", review["share"]));
    text.push_str(&told(review));
    if review["dry_run"] == true {
        let mut flags = String::new();
        if review["needs_approval"] == true {
            text.push_str("That is more than 10 %, so it has to be approved.\n");
            flags.push_str(" --approve");
        }
        if review["needs_skip_bad"] == true {
            text.push_str("Rows that are bad or obfuscated (!) stand in the way: --skip-bad leaves them out.\n");
            flags.push_str(" --skip-bad");
        }
        text.push_str(&format!("To apply it: shearwater admin lists apply {name} --reviewed {version}{flags}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_says_what_would_change_and_how_to_apply_it() {
        let review = json!({
            "list": "dni", "version": "0123456789abcdef", "share": 12, "needs_approval": true, "needs_skip_bad": true,
            "dry_run": true,
            "add": ["block domain:evil.example"], "change": [], "remove": [], "same": 8,
            "left_out": { "bad": [], "obfuscated_rows": [{ "line": 3, "column": "domain", "why": "\"e*l\" is obfuscated" }],
                          "obfuscated": 1 },
            "impact": { "removed": ["evil.example"] }, "deliveries_kept_back": 0, "deliveries_all_counted": true,
            "search": { "authors": 2, "posts": 1204, "complete": true },
        });
        let text = in_words(&review);
        for says in [
            "+ block domain:evil.example\n",
            "! line 3, column domain: \"e*l\" is obfuscated\n",
            "list:dni: 1 new, 0 changed, 0 taken out, 8 as before.",
            "version 0123456789ab…, and changes 12 % of what the list brought",
            "This would do: remove 1 subscriber (evil.example); take 1,204 indexed posts of 2 authors out of search",
            "lists apply dni --reviewed 0123456789abcdef --approve --skip-bad\n",
        ] {
            assert!(text.contains(says), "{says}\n{text}");
        }
        let nothing = in_words(&json!({ "list": "dni", "version": null }));
        assert_eq!(nothing, "Nothing waits: the rules of list:dni are what it says.\n");
    }
}
