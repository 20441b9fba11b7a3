//! Commands that talk to a running relay, over the Unix socket in its `data_dir`: no token, since only the operator can
//! open it.

mod rules;
mod search;
mod tokens;
mod trends;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{ConfigArg, block_on, print};
use crate::clock::Clock;
use crate::config::Config;
use crate::log::Log;
use crate::store::{Store, import, make_private};

#[derive(Debug, Args)]
pub(super) struct FollowArgs {
    /// The actor: its id (https://relay.example/actor) or its handle (@relay@relay.example).
    target: String,
    /// How: "litepub" follows the actor, "mastodon" follows the public collection at its inbox.
    #[arg(long, default_value = "litepub", value_parser = ["litepub", "mastodon"])]
    style: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct UnfollowArgs {
    /// The actor, as given to `follow`.
    target: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) config: ConfigArg,
}

#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// The server: small.example.
    host: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct RejectArgs {
    /// The server: small.example.
    host: String,
    /// What the other admin gets to read.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct ModeArgs {
    /// The server: small.example.
    host: String,
    /// "auto": forward what its software takes, announce the rest. "announce": always announce. "forward": always forward
    /// what can be forwarded.
    #[arg(value_parser = ["auto", "announce", "forward"])]
    mode: String,
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
    /// The server (small.example), or the id of one post (https://small.example/posts/1).
    target: String,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub(super) struct DiscardArgs {
    /// The server (small.example), or the id of one post (https://small.example/posts/1).
    target: String,
    /// Only say how many posts it would be.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
    /// List servers that joined or wait, and how delivery to them fares.
    Subscribers(ListArgs),
    /// Let a waiting server in.
    Approve(HostArgs),
    /// Turn a waiting server away, or remove one that joined.
    Reject(RejectArgs),
    /// Set what a server gets. Also ends a downgrade: the time in which all is announced because it refused a forward.
    Mode(ModeArgs),
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
    /// The servers whose posts may be searched here: list them, switch search on or off for one.
    Search(search::SearchArgs),
    /// What people talk about: list it, hide or let through something, see what is kept back.
    Trends(trends::TrendsArgs),
    /// Tokens of programs that may search here (`search.api = "tokens"`): make, list and revoke them.
    Token(tokens::TokenArgs),
    /// List what was refused lately, and why; the newest first.
    Refusals(ListArgs),
    /// List what is held back for you to look at, and why: servers, or the posts of one.
    Held(HeldArgs),
    /// End the hold of a server and relay its held posts after all; or relay one post.
    Release(ReleaseArgs),
    /// Drop held posts of a server, or one post, for good. A hold of the server goes on.
    Discard(DiscardArgs),
    /// List the background workers and how they fare.
    Workers(ListArgs),
    /// Print the whole state as NDJSON.
    Export(ConfigArg),
    /// Read what `export` printed from standard input. The relay must not be running.
    Import(ConfigArg),
}

pub(super) fn run(command: AdminCommand) -> anyhow::Result<()> {
    match command {
        AdminCommand::Subscribers(list) => {
            let columns = [
                "host",
                "state",
                "mode",
                "announce_until",
                "styles",
                "software",
                "version",
                "search",
                "search_since",
                "health",
                "lag",
                "last_reason",
                "seen_at",
            ];
            table(&list, "GET", "subscribers", None, &columns)
        }
        AdminCommand::Approve(args) => one(&args.list, "POST", &format!("subscribers/{}/approve", args.host), None),
        AdminCommand::Reject(args) => {
            let path = format!("subscribers/{}/reject", args.host);
            one(&args.list, "POST", &path, Some(json!({ "reason": args.reason })))
        }
        AdminCommand::Mode(args) => {
            let path = format!("subscribers/{}/mode", args.host);
            one(&args.list, "POST", &path, Some(json!({ "mode": args.mode })))
        }
        AdminCommand::Block(args) => rules::make("block", &args),
        AdminCommand::Silence(args) => rules::make("silence", &args),
        AdminCommand::NoSearch(args) => rules::make("no-search", &args),
        AdminCommand::Allow(args) => rules::make("allow", &args),
        AdminCommand::Unrule(args) => rules::unrule(&args),
        AdminCommand::Rules(args) => rules::run(&args),
        AdminCommand::Search(args) => search::run(args),
        AdminCommand::Trends(args) => trends::run(args),
        AdminCommand::Token(args) => tokens::run(args),
        AdminCommand::Refusals(list) => {
            table(&list, "GET", "refusals", None, &["at", "claimed", "status", "check", "count", "detail"])
        }
        AdminCommand::Held(args) => held(&args),
        AdminCommand::Release(args) => one(&args.list, "POST", "held/release", Some(json!({ "target": args.target }))),
        AdminCommand::Discard(args) => {
            let body = json!({ "target": args.target, "dry_run": args.dry_run });
            one(&args.list, "POST", "held/discard", Some(body))
        }
        AdminCommand::Workers(list) => workers(&list),
        AdminCommand::Export(arg) => print(&call(&arg, "GET", "export", None)?),
        AdminCommand::Import(arg) => read_in(&arg),
    }
}

pub(super) fn follow(args: FollowArgs) -> anyhow::Result<()> {
    one(&args.list, "POST", "following", Some(json!({ "target": args.target, "style": args.style })))
}

pub(super) fn unfollow(args: UnfollowArgs) -> anyhow::Result<()> {
    one(&args.list, "DELETE", &format!("following?target={}", encoded(&args.target)), None)
}

pub(super) fn following(list: &ListArgs) -> anyhow::Result<()> {
    table(list, "GET", "following", None, &["actor", "style", "state", "by_operator", "at"])
}

fn held(args: &HeldArgs) -> anyhow::Result<()> {
    let Some(host) = &args.host else {
        return table(&args.list, "GET", "held", None, &["host", "held", "reason", "since", "posts"]);
    };
    let host = encoded(host);
    let path = format!("held?host={host}&text={}", args.text);
    let columns = ["id", "author", "kind", "reason", "at", "text"];
    table(&args.list, "GET", &path, None, if args.text { &columns } else { &columns[..5] })
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn workers(list: &ListArgs) -> anyhow::Result<()> {
    let text = call(&list.config, "GET", "workers", None)?;
    if list.json {
        return print(&format!("{text}\n"));
    }
    let rows: Vec<Value> = serde_json::from_str(&text)?;
    print(&render(&rows, &["worker", "state", "units", "restarts", "last_error"]))
}

fn table(list: &ListArgs, method: &str, path: &str, body: Option<Value>, columns: &[&str]) -> anyhow::Result<()> {
    let text = call(&list.config, method, path, body)?;
    if list.json {
        return print(&format!("{text}\n"));
    }
    let rows: Vec<Value> = serde_json::from_str(&text)?;
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
    members.map(|(key, value)| format!("{key}: {}\n", cell(Some(value)))).collect()
}

/// Rows as a table with these columns.
pub(super) fn rows_table(rows: &[Value], columns: &[&str]) -> String {
    render(rows, columns)
}

/// Columns as wide as their widest cell; what a stranger wrote is shown without control characters.
fn render(rows: &[Value], columns: &[&str]) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row.get(*column))).collect()).collect();
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

fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(","),
        Some(Value::Object(members)) => {
            members.iter().map(|(key, value)| format!("{key} {}", cell(Some(value)))).collect::<Vec<_>>().join(", ")
        }
        // Times are stored as milliseconds; nobody reads those.
        Some(Value::Number(number)) if number.as_i64().is_some_and(|millis| millis > 1_000_000_000_000) => {
            crate::clock::Timestamp::from_millis(number.as_i64().unwrap_or_default()).rfc3339()
        }
        Some(other) => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn call(arg: &ConfigArg, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<String> {
    call_with(arg, method, path, body.map(|body| body.to_string().into_bytes()))
}

/// The same with a body that is no JSON.
fn call_with_bytes(arg: &ConfigArg, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<String> {
    call_with(arg, method, path, Some(body))
}

fn call_with(arg: &ConfigArg, method: &str, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<String> {
    let data_dir = Config::data_dir(arg.config.as_deref())?;
    match ask_socket(&data_dir, method, path, body)? {
        Socket::Answered(text) => Ok(text),
        Socket::Silent(why) => Err(why),
    }
}

/// What came of a question to the running relay; its refusals are errors.
pub(super) enum Socket {
    /// Its answer.
    Answered(String),
    /// No relay runs with this `data_dir`.
    Silent(anyhow::Error),
}

pub(super) fn ask_socket(data_dir: &Path, method: &str, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<Socket> {
    block_on(ask(data_dir.join("admin.sock"), method.to_owned(), path.to_owned(), body))
}

#[expect(clippy::disallowed_methods, reason = "it dials a Unix socket on this machine and nothing else")]
async fn ask(socket: PathBuf, method: String, path: String, body: Option<Vec<u8>>) -> anyhow::Result<Socket> {
    let client = reqwest::Client::builder().unix_socket(socket.clone()).no_proxy().build()?;
    let mut request = client.request(method.parse()?, format!("http://localhost/api/admin/v1/{path}"));
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body);
    }
    let hint =
        || format!("no relay answers at {}: is `shearwater serve` running with this data_dir?", socket.display());
    let response = match request.send().await {
        Ok(response) => response,
        Err(cause) if cause.is_connect() => return Ok(Socket::Silent(anyhow::Error::new(cause).context(hint()))),
        Err(cause) => return Err(cause).with_context(hint),
    };
    let (status, text) = (response.status(), response.text().await?);
    if status.is_success() {
        return Ok(Socket::Answered(text));
    }
    let problem = serde_json::from_str::<Value>(&text).ok();
    let detail = problem.and_then(|body| body.get("detail").and_then(Value::as_str).map(str::to_owned));
    anyhow::bail!(detail.unwrap_or_else(|| format!("the relay answered {status}")))
}

fn read_in(arg: &ConfigArg) -> anyhow::Result<()> {
    let data_dir = Config::data_dir(arg.config.as_deref())?;
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    make_private(&data_dir)?;
    let store = Store::open(&data_dir, Clock::system())?;
    let done = block_on(async { import(&store, &mut text.as_slice(), Log::next_in).await })?;
    print(&format!("{}\n", json!(done)))
}
