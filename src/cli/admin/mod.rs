//! Commands that ask a running relay by its API ([`client`] says which): a line for each here, one file for each noun that
//! has several. What comes is shown as a table, or as it is with `--json`.

mod client;
mod lists;
mod rules;
mod search;
mod state;
mod subscribers;
mod tokens;
mod trends;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use client::{AtArgs, Socket, answers, ask_or_silent, ask_socket, download_here, is_elsewhere, only_here};

use super::{print, tell};
use crate::clock::Clock;
use crate::ids::plain;

#[derive(Debug, Args)]
pub(super) struct FollowArgs {
    /// The actor: its id (https://relay.example/actor) or its handle (@relay@relay.example).
    target: String,
    /// How: "litepub" follows the actor, "mastodon" follows the public collection at its inbox.
    #[arg(long, default_value = "litepub", value_parser = ["litepub", "mastodon"])]
    style: String,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct UnfollowArgs {
    /// The actor, as given to `follow`.
    target: String,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) config: AtArgs,
}

/// Why something is changed: every command that changes something takes it.
#[derive(Debug, Args, Clone)]
pub(super) struct WhyArg {
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    pub(super) reason: String,
}

impl WhyArg {
    /// As the body of a request.
    pub(super) fn body(&self) -> Value {
        json!({ "reason": self.reason })
    }

    /// As the parameter of one that has no body.
    pub(super) fn parameter(&self) -> String {
        format!("reason={}", encoded(&self.reason))
    }
}

#[derive(Debug, Args)]
pub(super) struct PageArgs {
    /// So many rows at most.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on behind this row, as the command said that printed the rows before.
    #[arg(long)]
    after: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct AnnounceArgs {
    /// The post's id (https://small.example/users/ada/statuses/1).
    target: String,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Only by who is called this: local, token:NAME.
    #[arg(long)]
    who: Option<String>,
    /// Only what is called this or begins so: rule, subscriber.approve.
    #[arg(long)]
    what: Option<String>,
    /// Only what is about something that holds this.
    target: Option<String>,
    /// With what was there before and is there since.
    #[arg(long, short)]
    long: bool,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
pub(super) struct RefusalsArgs {
    /// Only of who claimed to be of this server.
    host: Option<String>,
    /// Only by this check: digest, blocked.
    #[arg(long)]
    check: Option<String>,
    /// Only from then on: a time (2026-08-21T12:00:00Z), or a span up to now (2h).
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<String>,
    /// Only before then.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// The server: small.example.
    host: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct HeldArgs {
    /// Show the posts of this server; without it, the servers.
    host: Option<String>,
    /// Show what the posts say, too.
    #[arg(long, requires = "host")]
    text: bool,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// The server (small.example), or the id of one post (https://small.example/posts/1); or several.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct DiscardArgs {
    /// The server (small.example), or the id of one post (https://small.example/posts/1); or several.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Only say how many posts it would be.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    why: WhyArg,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
    /// The relay at a glance, and what wants your attention.
    Stats(ListArgs),
    /// List servers that joined or wait, and how delivery to them fares.
    Subscribers(subscribers::SubscribersArgs),
    /// All that is known of one server that joined or waits.
    Subscriber(HostArgs),
    /// List the servers that wait for you to let them in.
    Pending(PageArgs),
    /// Let a waiting server in, or end the probation of one that is in.
    Approve(subscribers::ReasonArgs),
    /// Turn a waiting server away; its admin reads the reason.
    Reject(subscribers::ReasonArgs),
    /// Remove a server that joined; its admin reads the reason. It may ask again: `block` is for good.
    Remove(subscribers::ReasonArgs),
    /// Send a server nothing until it is resumed. What it misses waits for it, for two days or as `delivery.horizon` says.
    Pause(subscribers::ReasonArgs),
    /// Send it again what waits, and what comes.
    Resume(subscribers::ReasonArgs),
    /// Set what a server gets. Also ends a downgrade: the time in which all is announced because it refused a forward.
    Mode(subscribers::ModeArgs),
    /// Servers that may send although they never follow: list them, add or remove one.
    Publisher(subscribers::PublisherArgs),
    /// Look at a server now, step by step: its actor, WebFinger, NodeInfo, and whether it takes a signed message of ours.
    /// Nothing is changed, here or there.
    Probe(subscribers::ProbeArgs),
    /// List how deliveries fare: who is behind, who is tried again and when.
    Deliveries(subscribers::DeliveriesArgs),
    /// Try a server now, whatever its deliveries wait for.
    Retry(subscribers::RetryArgs),
    /// Pass a post of a server that joined on to everybody, as if it had come just now. It is no way to say something to
    /// subscribers.
    Announce(AnnounceArgs),
    /// Block a server, an actor, software or a keyword, at once and everywhere: nothing comes in from it or goes out to it.
    Block(rules::RuleArgs),
    /// Silence a server, or all that run some software: it receives, and its posts are not relayed.
    Silence(rules::RuleArgs),
    /// Keep a server, an actor, software or a keyword out of search and trends: its posts are relayed, and never found.
    /// Takes the place of what you said of this target before.
    NoSearch(rules::RuleArgs),
    /// Exempt a server from the rules on the domains above it and on its software; with `relay.admission = "allowlist"`,
    /// let it join.
    Allow(rules::RuleArgs),
    /// Take the rules on a target out again.
    Unrule(rules::UnruleArgs),
    /// List the rules, exchange them as lists, or ask what they say of somebody.
    Rules(rules::RulesArgs),
    /// Lists of servers that others publish: follow them by their address, look at what they would change, apply it.
    Lists(lists::ListsArgs),
    /// The servers whose posts may be searched here: list them, switch search on or off for one.
    Search(search::SearchArgs),
    /// What people talk about: list it, hide or let through something, see what is kept back.
    Trends(trends::TrendsArgs),
    /// Tokens, of programs that may search here and of people who look after this relay from elsewhere: make, list, revoke.
    Token(tokens::TokenArgs),
    /// List what was refused lately, and why; the newest first.
    Refusals(RefusalsArgs),
    /// Tell what this relay last saw of a server, step by step, and what its admin has to mend; with the address of the page
    /// that tells it to them.
    Check(HostArgs),
    /// List what is held back for you to look at, and why: servers, or the posts of one.
    Held(HeldArgs),
    /// End the hold of a server and relay its held posts after all; or relay one post.
    Release(ReleaseArgs),
    /// Drop held posts of a server, or one post, for good. A hold of the server goes on.
    Discard(DiscardArgs),
    /// List the background workers and how they fare.
    Workers(ListArgs),
    /// List what was changed, by whom and why; the newest first.
    Log(LogArgs),
    /// Write the whole state as NDJSON: a record in each line, and how many there were in the last one.
    Export(state::ExportArgs),
    /// Read what `export` wrote: all of it or nothing. What is there already is overwritten. The relay must not be running.
    Import(state::ImportArgs),
}

pub(super) fn run(command: AdminCommand) -> anyhow::Result<()> {
    match command {
        AdminCommand::Stats(list) => stats(&list),
        AdminCommand::Subscribers(args) => subscribers::list(&args),
        AdminCommand::Subscriber(args) => subscribers::show(&args),
        AdminCommand::Pending(args) => subscribers::pending(&args),
        AdminCommand::Approve(args) => subscribers::change(&args, "approve"),
        AdminCommand::Reject(args) => subscribers::change(&args, "reject"),
        AdminCommand::Remove(args) => subscribers::remove(&args),
        AdminCommand::Pause(args) => subscribers::change(&args, "pause"),
        AdminCommand::Resume(args) => subscribers::change(&args, "resume"),
        AdminCommand::Mode(args) => subscribers::mode(&args),
        AdminCommand::Publisher(args) => subscribers::publisher(&args),
        AdminCommand::Probe(args) => subscribers::probe(&args),
        AdminCommand::Deliveries(args) => subscribers::deliveries(&args),
        AdminCommand::Retry(args) => subscribers::retry(&args),
        AdminCommand::Announce(args) => {
            let body = json!({ "target": args.target, "reason": args.reason });
            one(&args.list, "POST", "announce", Some(body))
        }
        AdminCommand::Block(args) => rules::make("block", &args),
        AdminCommand::Silence(args) => rules::make("silence", &args),
        AdminCommand::NoSearch(args) => rules::make("no-search", &args),
        AdminCommand::Allow(args) => rules::make("allow", &args),
        AdminCommand::Unrule(args) => rules::unrule(&args),
        AdminCommand::Rules(args) => rules::run(&args),
        AdminCommand::Lists(args) => lists::run(&args),
        AdminCommand::Search(args) => search::run(args),
        AdminCommand::Trends(args) => trends::run(args),
        AdminCommand::Token(args) => tokens::run(args),
        AdminCommand::Refusals(args) => {
            let query = Query::new()
                .with("host", args.host.as_deref())
                .with("check", args.check.as_deref())
                .with("since", args.since.as_deref())
                .with("until", args.until.as_deref());
            page(
                &args.page,
                "refusals",
                query,
                &["at", "claimed", "signed", "status", "check", "count", "detail", "mend"],
            )
        }
        AdminCommand::Check(args) => check(&args),
        AdminCommand::Held(args) => held(&args),
        AdminCommand::Release(args) => each(&args.targets, |target| {
            let body = json!({ "target": target, "reason": args.why.reason });
            one(&args.list, "POST", "held/release", Some(body))
        }),
        AdminCommand::Discard(args) => each(&args.targets, |target| {
            let body = json!({ "target": target, "dry_run": args.dry_run, "reason": args.why.reason });
            one(&args.list, "POST", "held/discard", Some(body))
        }),
        AdminCommand::Workers(list) => {
            table(&list, "GET", "workers", None, &["worker", "state", "units", "restarts", "since", "last_error"])
        }
        AdminCommand::Log(args) => {
            let query = Query::new()
                .with("who", args.who.as_deref())
                .with("what", args.what.as_deref())
                .with("target", args.target.as_deref());
            let columns = ["at", "who", "what", "target", "why", "before", "after"];
            page(&args.page, "log", query, if args.long { &columns } else { &columns[..5] })
        }
        AdminCommand::Export(args) => state::export(&args),
        AdminCommand::Import(args) => state::import(&args),
    }
}

pub(super) fn follow(args: FollowArgs) -> anyhow::Result<()> {
    let body = json!({ "target": args.target, "style": args.style, "reason": args.why.reason });
    one(&args.list, "POST", "following", Some(body))
}

pub(super) fn unfollow(args: UnfollowArgs) -> anyhow::Result<()> {
    one(&args.list, "DELETE", &format!("following?target={}&{}", encoded(&args.target), args.why.parameter()), None)
}

pub(super) fn following(args: &PageArgs) -> anyhow::Result<()> {
    page(args, "following", Query::new(), &["actor", "style", "state", "by_operator", "at"])
}

/// Does the same to each of them. One that fails does not keep the others from it; then this fails as well.
fn each(targets: &[String], mut what: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if let [target] = targets {
        return what(target);
    }
    let mut failed = Vec::new();
    for target in targets {
        if let Err(error) = what(target) {
            tell(&format!("shearwater: {target}: {error:#}"));
            failed.push(target.as_str());
        }
    }
    anyhow::ensure!(failed.is_empty(), "{} of {} failed: {}", failed.len(), targets.len(), failed.join(", "));
    Ok(())
}

/// A moment as people write it: a time, or how long ago.
fn moment(text: &str) -> Result<String, String> {
    let at = crate::clock::Timestamp::from_rfc3339(text);
    let ago = || {
        let span = humantime_serde::re::humantime::parse_duration(text).ok()?;
        Some(Clock::system().now().minus(span))
    };
    let no = || format!("{text:?} is neither a time (2026-08-21T12:00:00Z) nor a span (2h)");
    at.or_else(ago).map(crate::clock::Timestamp::rfc3339).ok_or_else(no)
}

fn check(args: &HostArgs) -> anyhow::Result<()> {
    let text = call(&args.list.config, "GET", &format!("check/{}", encoded(&args.host)), None)?;
    if args.list.json {
        return print(&format!("{text}\n"));
    }
    let stands: Value = serde_json::from_str(&text)?;
    let steps = stands["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    print(&render(steps, &["about", "outcome", "found", "remedy", "count", "at"]))?;
    match stands.get("link") {
        Some(link) => print(&format!("\nFor its admin, and nobody else: {}\n", cell(Some(link)))),
        None => Ok(()),
    }
}

fn held(args: &HeldArgs) -> anyhow::Result<()> {
    let Some(host) = &args.host else {
        return table(&args.list, "GET", "held", None, &["host", "held", "reason", "since", "posts"]);
    };
    let host = encoded(host);
    let path = format!("held/{host}?text={}", args.text);
    let columns = ["id", "author", "kind", "reason", "at", "text"];
    table(&args.list, "GET", &path, None, if args.text { &columns } else { &columns[..5] })
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The relay at a glance; what wants attention comes last, where the eye is.
fn stats(list: &ListArgs) -> anyhow::Result<()> {
    let text = call(&list.config, "GET", "stats", None)?;
    if list.json {
        return print(&format!("{text}\n"));
    }
    let mut document: Value = serde_json::from_str(&text)?;
    let attention = document.as_object_mut().and_then(|members| members.remove("attention")).unwrap_or_default();
    let attention = attention.as_array().map(Vec::as_slice).unwrap_or_default();
    let said: String = attention.iter().map(|one| format!("* {}\n", cell(Some(one)))).collect();
    let said = if said.is_empty() { "Nothing wants your attention.\n".to_owned() } else { said };
    print(&format!("{}\n{said}", lines(&document)))
}

/// The parameters of a question.
struct Query(url::form_urlencoded::Serializer<'static, String>);

impl Query {
    fn new() -> Self {
        Self(url::form_urlencoded::Serializer::new(String::new()))
    }

    fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.append_pair(name, value);
        }
        self
    }
}

/// A page of a list, and how to get the next one.
fn page(args: &PageArgs, path: &str, query: Query, columns: &[&str]) -> anyhow::Result<()> {
    let limit = args.limit.to_string();
    let query = query.with("limit", Some(&limit)).with("after", args.after.as_deref()).0.finish();
    let answer = client::ask(&args.list.config, "GET", &format!("{path}?{query}"), None)?;
    if args.list.json {
        print(&format!("{}\n", answer.text))?;
    } else {
        rows(&answer.text, columns)?;
    }
    if let Some(next) = answer.next {
        tell(&format!("There are more: --after {next}"));
    }
    Ok(())
}

fn table(list: &ListArgs, method: &str, path: &str, body: Option<Value>, columns: &[&str]) -> anyhow::Result<()> {
    let text = call(&list.config, method, path, body)?;
    if list.json {
        return print(&format!("{text}\n"));
    }
    rows(&text, columns)
}

fn rows(text: &str, columns: &[&str]) -> anyhow::Result<()> {
    let rows: Vec<Value> = serde_json::from_str(text)?;
    if rows.is_empty() {
        return print("None.\n");
    }
    print(&render(&rows, columns))
}

fn one(list: &ListArgs, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<()> {
    let text = call(&list.config, method, path, body)?;
    if list.json {
        return print(&format!("{text}\n"));
    }
    print(&lines(&serde_json::from_str(&text)?))
}

/// A document as one line for each of its members.
pub(super) fn lines(document: &Value) -> String {
    let members = document.as_object().into_iter().flatten();
    members.map(|(key, value)| format!("{key}: {}\n", named_cell(key, Some(value)))).collect()
}

/// Rows as a table with these columns.
pub(super) fn rows_table(rows: &[Value], columns: &[&str]) -> String {
    render(rows, columns)
}

/// Columns as wide as their widest cell; what a stranger wrote is shown without control characters.
fn render(rows: &[Value], columns: &[&str]) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| named_cell(column, row.get(*column))).collect()).collect();
    let width = |index: usize| {
        let longest = cells.iter().filter_map(|row| row.get(index)).map(|text| text.chars().count()).max();
        longest.unwrap_or(0).max(columns.get(index).map_or(0, |name| name.len()))
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &[String]| {
        let padded = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}  "));
        format!("{}\n", padded.collect::<String>().trim_end())
    };
    let head: Vec<String> = columns.iter().map(|name| name.to_uppercase().replace('_', " ")).collect();
    std::iter::once(line(&head)).chain(cells.iter().map(|row| line(row))).collect()
}

/// Members that hold a moment where it is kept as milliseconds, as in what was before and after a change.
const MOMENTS: [&str; 8] = ["at", "since", "until", "expires", "expires_at", "made_at", "added", "asked_at"];

fn cell(value: Option<&Value>) -> String {
    named_cell("", value)
}

/// A value for people; its name tells a moment from a number.
fn named_cell(name: &str, value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| named_cell(name, Some(item))).collect::<Vec<_>>().join(",")
        }
        Some(Value::Object(members)) => {
            let members = members.iter().map(|(key, value)| format!("{key} {}", named_cell(key, Some(value))));
            members.collect::<Vec<_>>().join(", ")
        }
        Some(Value::Number(millis)) if MOMENTS.contains(&name) && millis.is_i64() => {
            crate::clock::Timestamp::from_millis(millis.as_i64().unwrap_or_default()).rfc3339()
        }
        Some(other) => other.to_string(),
    };
    plain(&text)
}

fn call(at: &AtArgs, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<String> {
    Ok(client::ask(at, method, path, body.map(|body| body.to_string().into_bytes()))?.text)
}

/// The same with a body that is no JSON.
fn call_with_bytes(at: &AtArgs, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<String> {
    Ok(client::ask(at, method, path, Some(body))?.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_from_a_large_number_by_its_name() {
        let disk = json!({ "free_bytes": 2_000_000_000_000_i64, "store_bytes": 12 });
        assert_eq!(lines(&disk), "free_bytes: 2000000000000\nstore_bytes: 12\n");
        let row = json!({ "before": { "since": 1_787_486_400_000_i64, "posts": 1_787_486_400_000_i64 }, "at": "now" });
        assert_eq!(
            rows_table(&[row], &["at", "before"]),
            "AT   BEFORE\nnow  posts 1787486400000, since 2026-08-23T12:00:00Z\n"
        );
    }

    #[test]
    fn words_of_strangers_move_no_cursor_and_turn_no_writing() {
        assert_eq!(
            cell(Some(&json!("a\u{1b}[2J\u{9b}1m\u{202e}b\u{2066}"))),
            "a\u{fffd}[2J\u{fffd}1m\u{fffd}b\u{fffd}"
        );
    }
}
