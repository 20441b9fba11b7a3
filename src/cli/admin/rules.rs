//! The commands about the operator's rules, and what they print: what a change does is told in sentences, before it is made
//! if `--dry-run` is given.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{ListArgs, PageArgs, Query, WhyArg, call, call_with_bytes, cell, encoded, one, page};
use crate::cli::print;

/// Names that are printed of each kind; the rest is a number.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(in crate::cli) struct RuleArgs {
    /// A server (evil.example; its subdomains too), an actor's id (https://evil.example/users/eve), software:NAME as in
    /// NodeInfo, or keyword:PATTERN.
    target: String,
    /// Why, for those it concerns: they are told.
    #[arg(long, default_value = "")]
    reason: String,
    /// Why, for you alone.
    #[arg(long, default_value = "")]
    note: String,
    /// How long the rule is in force ("30d"); without it, until it is taken out.
    #[arg(long, value_name = "SPAN", value_parser = humantime_serde::re::humantime::parse_duration)]
    expires: Option<std::time::Duration>,
    /// Put the rule on trial: it does nothing, and `admin rules` tells how often it would have.
    #[arg(long)]
    dry_run_rule: bool,
    /// Change nothing; tell what the rule would do to who is here now.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UnruleArgs {
    /// The target, as given to `block`, `silence`, `no-search` or `allow`.
    target: String,
    /// Take out only the rule of this source ("operator", "list:NAME").
    #[arg(long, default_value = "")]
    source: String,
    /// Change nothing; tell what it would do.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct RulesArgs {
    #[command(subcommand)]
    command: Option<RulesCommand>,
    #[command(flatten)]
    shown: ShownArgs,
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// List the rules: those of the configuration, of lists, and your own.
    List(ShownArgs),
    /// Tell what the rules say of a server or an actor, and which rule says it.
    Check(CheckArgs),
    /// Take in a list: Mastodon's domain blocks (CSV), or one name per line. Prints what it changes first.
    Import(ImportArgs),
    /// Note something on a rule, for you alone. It stays when the list that brought the rule is applied again.
    Note(NoteArgs),
    /// Print the domain rules as the CSV that Mastodon reads.
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct ShownArgs {
    /// Only targets that hold this.
    #[arg(default_value = "")]
    like: String,
    /// Only rules of this source ("config", "operator", "list:NAME").
    #[arg(long, default_value = "")]
    source: String,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// Only rules of this source ("config", "operator", "list:NAME").
    #[arg(long)]
    source: Option<String>,
    #[command(flatten)]
    config: super::AtArgs,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The server (evil.example) or the actor's id.
    target: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct NoteArgs {
    /// The target, as `admin rules` lists it.
    target: String,
    /// The note; empty takes it out.
    note: String,
    /// Whose rule ("operator", "list:NAME").
    #[arg(long, default_value = "operator")]
    source: String,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The file; "-" is standard input.
    file: PathBuf,
    /// What the list is called: its rules are known by it, and `--replace` takes out only those. Without it, the file's
    /// name.
    #[arg(long)]
    name: Option<String>,
    /// What rows ask for that do not say so themselves.
    #[arg(long, default_value = "block", value_parser = ["block", "silence", "no-search", "allow"])]
    severity: String,
    /// Take out what this list brought before and does not have any more.
    #[arg(long)]
    replace: bool,
    /// Take the good rows although some are bad, or were made unreadable with `*`; without it one such row stops it all.
    #[arg(long)]
    skip_bad: bool,
    /// Although `--replace` changes more than 10 % of what this list brought before.
    #[arg(long)]
    approve: bool,
    /// Change nothing; tell what it would do.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

pub(in crate::cli) fn make(severity: &str, args: &RuleArgs) -> anyhow::Result<()> {
    let span = args.expires.map(|span| humantime_serde::re::humantime::format_duration(span).to_string());
    let body = json!({
        "target": args.target, "severity": severity, "reason": args.reason, "note": args.note, "expires_in": span,
        "trial": args.dry_run_rule, "dry_run": args.dry_run,
    });
    show(&args.list, &call(&args.list.config, "POST", "rules", Some(body))?)
}

pub(in crate::cli) fn unrule(args: &UnruleArgs) -> anyhow::Result<()> {
    let (target, source) = (encoded(&args.target), encoded(&args.source));
    let why = args.why.parameter();
    let path = format!("rules?target={target}&source={source}&dry_run={}&{why}", args.dry_run);
    show(&args.list, &call(&args.list.config, "DELETE", &path, None)?)
}

pub(in crate::cli) fn run(args: &RulesArgs) -> anyhow::Result<()> {
    match &args.command {
        None => list(&args.shown),
        Some(RulesCommand::List(shown)) => list(shown),
        Some(RulesCommand::Check(args)) => {
            one(&args.list, "GET", &format!("rules/check?target={}", encoded(&args.target)), None)
        }
        Some(RulesCommand::Import(args)) => import(args),
        Some(RulesCommand::Note(args)) => {
            let body = json!({
                "target": args.target, "source": args.source, "note": args.note, "reason": args.why.reason,
            });
            one(&args.list, "POST", "rules/note", Some(body))
        }
        Some(RulesCommand::Export(args)) => {
            let query = Query::new().with("source", args.source.as_deref()).0.finish();
            print(&call(&args.config, "GET", &format!("rules/export?{query}"), None)?)
        }
    }
}

fn list(shown: &ShownArgs) -> anyhow::Result<()> {
    let query = Query::new().with("like", Some(&shown.like)).with("source", Some(&shown.source));
    let columns = ["target", "severity", "source", "dry_run", "in_force", "hits", "since", "expires", "reason", "note"];
    page(&shown.page, "rules", query, &columns)
}

fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let (bytes, stem) = if args.file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)?;
        (bytes, None)
    } else {
        let bytes = std::fs::read(&args.file).with_context(|| format!("reading {}", args.file.display()))?;
        (bytes, args.file.file_stem().map(|stem| plain(&stem.to_string_lossy())))
    };
    let name = args.name.clone().or(stem).context("give the list a name with --name")?;
    let (severity, replace, skip, approve) = (&args.severity, args.replace, args.skip_bad, args.approve);
    let ask = |dry_run: bool| {
        let (name, why) = (encoded(&name), args.why.parameter());
        let path = format!(
            "rules/import?name={name}&severity={severity}&replace={replace}&skip_bad={skip}&approve={approve}&dry_run={dry_run}&{why}"
        );
        call_with_bytes(&args.list.config, "POST", &path, bytes.clone())
    };
    if !args.dry_run && !args.list.json {
        print(&difference(&serde_json::from_str(&ask(true)?)?))?;
    }
    let text = ask(args.dry_run)?;
    if args.list.json {
        return print(&format!("{text}\n"));
    }
    let done: Value = serde_json::from_str(&text)?;
    let difference = if args.dry_run { difference(&done) } else { String::new() };
    print(&format!("{difference}{}", told(&done)))
}

/// A file's name as the name of a list.
fn plain(stem: &str) -> String {
    let stem = stem.to_ascii_lowercase();
    stem.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).take(64).collect()
}

pub(super) fn show(list: &ListArgs, text: &str) -> anyhow::Result<()> {
    if list.json {
        return print(&format!("{text}\n"));
    }
    print(&told(&serde_json::from_str(text)?))
}

/// What a list changes, as lines of a diff; what it holds that is not taken.
pub(super) fn difference(done: &Value) -> String {
    let mut text = String::new();
    for (sign, key) in [('+', "add"), ('~', "change"), ('-', "remove")] {
        for rule in done[key].as_array().into_iter().flatten() {
            text.push_str(&format!("{sign} {}\n", cell(Some(rule))));
        }
    }
    let left = &done["left_out"];
    let rows = ["bad", "obfuscated_rows"].into_iter().flat_map(|kind| left[kind].as_array().into_iter().flatten());
    for row in rows {
        let column = row["column"].as_str().map_or(String::new(), |name| format!(", column {name}"));
        text.push_str(&format!("! line {}{column}: {}\n", row["line"], cell(row.get("why"))));
    }
    let count = |key: &str| done[key].as_array().map_or(0, Vec::len) as u64;
    let number = |key: &str| left[key].as_u64().unwrap_or_default();
    text.push_str(&format!(
        "list:{}: {} new, {} changed, {} taken out, {} as before.\n",
        cell(done.get("list")),
        counted(count("add")),
        counted(count("change")),
        counted(count("remove")),
        counted(done["same"].as_u64().unwrap_or_default()),
    ));
    for (key, what) in [
        ("bad_count", "bad rows"),
        ("obfuscated", "rows whose name was made unreadable with `*`: nobody can know whom they mean"),
        ("noop", "rows that ask for nothing"),
        ("repeated", "names that came twice"),
        ("ours", "rows that would cover this relay itself"),
    ] {
        if number(key) > 0 {
            text.push_str(&format!("Left out ({what}): {}.\n", counted(number(key))));
        }
    }
    text
}

/// What a change does, or would do, in sentences.
pub(super) fn told(done: &Value) -> String {
    let dry = done["dry_run"].as_bool().unwrap_or_default();
    let mut text = String::new();
    for rule in done["changes"].as_array().into_iter().flatten() {
        text.push_str(&format!("{}{}.\n", if dry { "Would be the rule: " } else { "The rule is: " }, cell(Some(rule))));
    }
    let impact = &done["impact"];
    let mut effects = Vec::new();
    for (key, does, would, whom) in [
        ("removed", "removed", "remove", "subscriber"),
        ("silenced", "silenced", "silence", "subscriber"),
        ("freed", "freed", "free", "subscriber"),
        ("unsearched", "kept out of search", "keep out of search", "subscriber"),
        ("searchable", "let into search", "let into search", "subscriber"),
        ("search_ended", "switched search off for", "switch search off for", "server"),
        ("publishers", "turned away", "turn away", "publisher"),
        ("publishers_freed", "let in again", "let in again", "publisher"),
        ("unfollowed", "ended", "end", "Follow"),
    ] {
        let names = impact[key].as_array().map(Vec::as_slice).unwrap_or_default();
        if !names.is_empty() {
            let verb = if dry { would } else { does };
            effects.push(format!("{verb} {} ({})", several(names.len() as u64, whom), listed(names)));
        }
    }
    let messages = impact["messages_dropped"].as_u64().unwrap_or_default();
    if messages > 0 {
        effects.push(format!("{} {}", if dry { "drop" } else { "dropped" }, several(messages, "message")));
    }
    let kept = done["deliveries_kept_back"].as_u64().unwrap_or_default();
    let all = done["deliveries_all_counted"].as_bool().unwrap_or(true);
    if kept > 0 || !all {
        let least = if all { "" } else { "at least " };
        let verb = if dry { "skip" } else { "skipped" };
        effects.push(format!(
            "{verb} {least}{} that waited",
            if kept == 1 { "1 delivery".to_owned() } else { format!("{} deliveries", counted(kept)) }
        ));
    }
    let (posts, authors) = (&done["search"]["posts"], &done["search"]["authors"]);
    if posts.as_u64().is_some_and(|posts| posts > 0) || done["search"]["complete"] == false {
        let least = if done["search"]["complete"] == false { "at least " } else { "" };
        let (posts, authors) = (posts.as_u64().unwrap_or_default(), authors.as_u64().unwrap_or_default());
        let verb = if dry { "take" } else { "took" };
        let posts = several(posts, "indexed post");
        effects.push(format!("{verb} {least}{posts} of {} out of search", several(authors, "author")));
    }
    let effects = if effects.is_empty() { "nothing to who is here now".to_owned() } else { effects.join("; ") };
    text.push_str(&if dry {
        format!("Nothing was changed. This would do: {effects}.\n")
    } else {
        format!("Done at once, everywhere: {effects}.\n")
    });
    text
}

fn several(count: u64, what: &str) -> String {
    format!("{} {what}{}", counted(count), if count == 1 { "" } else { "s" })
}

fn listed(names: &[Value]) -> String {
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| cell(Some(name))).collect();
    if names.len() > SHOWN {
        text.push(format!("and {} more", counted((names.len() - SHOWN) as u64)));
    }
    text.join(", ")
}

/// A number with commas between thousands.
fn counted(number: u64) -> String {
    let digits = number.to_string();
    let lead = digits.len() % 3;
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 3 == lead {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_in_sentences() {
        let change = |dry: bool, removed: &[&str], kept: u64, all: bool| {
            told(&json!({
                "dry_run": dry, "changes": ["block domain:evil.example"], "deliveries_kept_back": kept,
                "deliveries_all_counted": all,
                "impact": { "removed": removed, "silenced": [], "freed": [], "unfollowed": [], "messages_dropped": 0 },
            }))
        };
        assert_eq!(
            change(true, &["a.evil.example", "evil.example"], 1204, true),
            "Would be the rule: block domain:evil.example.\nNothing was changed. This would do: remove 2 subscribers \
             (a.evil.example, evil.example); skip 1,204 deliveries that waited.\n"
        );
        assert_eq!(
            change(false, &["evil.example"], 1, false),
            "The rule is: block domain:evil.example.\nDone at once, everywhere: removed 1 subscriber (evil.example); \
             skipped at least 1 delivery that waited.\n"
        );
        assert!(change(true, &[], 0, true).ends_with("This would do: nothing to who is here now.\n"));
        let publisher = told(&json!({ "dry_run": true, "impact": { "publishers": ["blog.example"] } }));
        assert_eq!(publisher, "Nothing was changed. This would do: turn away 1 publisher (blog.example).\n");
    }

    #[test]
    fn numbers_have_commas_and_names_are_plain() {
        assert_eq!(
            [0, 12, 123, 1234, 123_456, 1_234_567].map(counted),
            ["0", "12", "123", "1,234", "123,456", "1,234,567"]
        );
        assert_eq!(plain("Domain Blocks (1)"), "domain-blocks--1-");
    }
}
