//! Whom the commands ask: the relay on this machine, over the Unix socket in its `data_dir` and without a token, since only
//! the operator can open it; or one elsewhere, by the URL of its `ops.listen` and with a token.
//!
//! Promises: a token leaves by https only, or stays on this machine; it is followed nowhere else (no redirects); it comes
//! from the environment, since others on the machine can read a command line.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use url::{Host, Url, form_urlencoded};

use crate::cli::block_on;
use crate::config::Config;
use crate::http::GENERAL_REMEDIES;
use crate::ids::is_plain;

/// Where the commands look for the URL and the token of a relay elsewhere.
const URL: &str = "SHEARWATER_ADMIN_URL";
const TOKEN: &str = "SHEARWATER_ADMIN_TOKEN";
/// The longest that an answer takes: making the index anew is asked for and not waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most that is read of an answer that is shown: what may be longer is passed on as it comes.
const MOST: usize = 1 << 30;
/// Where the API is.
const ROOT: &str = "api/admin/v1/";

/// Which relay.
#[derive(Debug, Args, Clone)]
pub(in crate::cli) struct AtArgs {
    /// Ask the relay whose `ops.listen` answers at this URL, with the token in SHEARWATER_ADMIN_TOKEN; without it, and
    /// without SHEARWATER_ADMIN_URL, the one on this machine.
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) url: Option<String>,
    /// The configuration file; without it the defaults and the environment (SHEARWATER_<SECTION>__<KEY>) count.
    #[arg(long, short, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
}

/// An answer.
pub(in crate::cli) struct Answer {
    /// Its body.
    pub(in crate::cli) text: String,
    /// Where the next page begins.
    pub(in crate::cli) next: Option<String>,
}

/// What came of a question to the running relay; its refusals are errors.
pub(in crate::cli) enum Socket {
    /// Its answer.
    Answered(String),
    /// No relay runs with this `data_dir`.
    Silent,
}

/// The relay elsewhere that is meant, if one is.
fn elsewhere(at: &AtArgs) -> Option<String> {
    at.url.clone().or_else(elsewhere_by_habit)
}

/// The one that the environment names.
fn elsewhere_by_habit() -> Option<String> {
    std::env::var(URL).ok().filter(|url| !url.is_empty())
}

/// For commands that work on this machine alone. Who has said in the environment that another relay is meant does not mean
/// this one, and is not to find out afterwards which one it was.
///
/// # Errors
/// If the environment names a relay elsewhere.
pub(in crate::cli) fn only_here(command: &str) -> anyhow::Result<()> {
    match elsewhere_by_habit() {
        None => Ok(()),
        Some(url) => anyhow::bail!(
            "{URL} names the relay at {url}, and `{command}` works on the files of this machine alone: `unset {URL}` if those \
             are meant, or run it on the relay's machine"
        ),
    }
}

/// Asks whichever relay `at` means.
pub(super) fn ask(at: &AtArgs, method: &str, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<Answer> {
    if let Some(url) = elsewhere(at) {
        return there(&url, method, path, body);
    }
    let data_dir = Config::data_dir(at.config.as_deref())?;
    block_on(async { ask_here(data_dir.join("admin.sock"), method, path, body).await? })
}

/// The same for commands that can do it on the files of this machine: only the relay here can be silent.
pub(in crate::cli) fn ask_or_silent(
    at: &AtArgs,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
) -> anyhow::Result<Socket> {
    match elsewhere(at) {
        Some(url) => Ok(Socket::Answered(there(&url, method, path, body)?.text)),
        None => ask_socket(&Config::data_dir(at.config.as_deref())?, method, path, body),
    }
}

/// Whether `at` means a relay elsewhere.
pub(in crate::cli) fn is_elsewhere(at: &AtArgs) -> bool {
    elsewhere(at).is_some()
}

fn there(url: &str, method: &str, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<Answer> {
    let (base, token) = (base(url)?, token()?);
    block_on(async { read(send_there(&base, &token, method, path, body, Waits::ForAll).await?).await })
}

fn token() -> anyhow::Result<String> {
    let token = std::env::var(TOKEN).ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    token.with_context(|| {
        format!("{TOKEN} is not set: `shearwater admin token create --scope read|moderate|admin` on the relay's machine makes one")
    })
}

/// Asks the relay on this machine.
pub(in crate::cli) fn ask_socket(
    data_dir: &Path,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
) -> anyhow::Result<Socket> {
    let asked = block_on(ask_here(data_dir.join("admin.sock"), method, path, body))?;
    Ok(asked.map_or(Socket::Silent, |answer| Socket::Answered(answer.text)))
}

/// Whether a relay runs with this `data_dir`.
///
/// # Errors
/// If it cannot be told, because the folder is somebody else's.
pub(in crate::cli) fn answers(data_dir: &Path) -> anyhow::Result<bool> {
    let socket = data_dir.join("admin.sock");
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_stream) => Ok(true),
        Err(error) if is_nobody(error.kind()) => Ok(false),
        Err(error) => {
            let hint = hint(&socket, error.kind());
            Err(error).context(hint)
        }
    }
}

/// Of the ways in which a socket cannot be opened, those that mean that nobody listens there.
const fn is_nobody(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// What to do where a socket cannot be opened.
fn hint(socket: &Path, kind: ErrorKind) -> String {
    let shown = socket.display();
    match kind {
        ErrorKind::PermissionDenied => format!(
            "{shown} is not yours to open: run this as the user that the relay runs as, or with sudo and --config \
             /etc/shearwater/shearwater.toml"
        ),
        _ => format!(
            "no relay answers at {shown}: is `shearwater serve` running with this data_dir? The usual settings are named by \
             --config /etc/shearwater/shearwater.toml, and take sudo"
        ),
    }
}

/// What the operating system said, somewhere below what others made of it.
fn kind_of(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind).last()
}

/// The URL that paths are joined to. In the clear a token goes nowhere but to this machine.
fn base(text: &str) -> anyhow::Result<Url> {
    let mut url = Url::parse(text).with_context(|| format!("{text:?} is no URL"))?;
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    anyhow::ensure!(
        url.scheme() == "https" || (url.scheme() == "http" && is_here),
        "a token is sent by https, or by http to this machine alone (an SSH tunnel, say): {text}"
    );
    anyhow::ensure!(
        url.username().is_empty() && url.password().is_none(),
        "the token comes from {TOKEN}, not from the URL"
    );
    let path = format!("{}/{ROOT}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// Writes an answer to `out` as it comes: it may be larger than memory. What was written is of use only if this succeeds.
pub(in crate::cli) fn download(at: &AtArgs, path: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    block_on(async {
        let response = match elsewhere(at) {
            Some(url) => send_there(&base(&url)?, &token()?, "GET", path, None, Waits::ForEachPart).await?,
            None => {
                let data_dir = Config::data_dir(at.config.as_deref())?;
                send_here(data_dir.join("admin.sock"), "GET", path, None).await??
            }
        };
        pass_on(response, out).await
    })
}

/// The same from the relay on this machine.
pub(in crate::cli) fn download_here(data_dir: &Path, path: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    block_on(async { pass_on(send_here(data_dir.join("admin.sock"), "GET", path, None).await??, out).await })
}

async fn pass_on(mut response: reqwest::Response, out: &mut dyn Write) -> anyhow::Result<()> {
    if !response.status().is_success() {
        return read(response).await.map(drop);
    }
    while let Some(part) = response.chunk().await.context("the relay's answer was cut short")? {
        out.write_all(&part)?;
    }
    Ok(())
}

/// `Err` within: nobody answers there.
async fn ask_here(
    socket: PathBuf,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
) -> anyhow::Result<Result<Answer, anyhow::Error>> {
    match send_here(socket, method, path, body).await? {
        Ok(response) => read(response).await.map(Ok),
        Err(nobody) => Ok(Err(nobody)),
    }
}

#[expect(clippy::disallowed_methods, reason = "it dials a Unix socket on this machine and nothing else")]
async fn send_here(
    socket: PathBuf,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
) -> anyhow::Result<Result<reqwest::Response, anyhow::Error>> {
    let client = reqwest::Client::builder().unix_socket(socket.clone()).no_proxy().build()?;
    let request = client.request(method.parse()?, format!("http://localhost/{ROOT}{path}"));
    match with_body(request, body).send().await {
        Ok(response) => Ok(Ok(response)),
        Err(cause) => {
            let kind = kind_of(&cause).unwrap_or(ErrorKind::Other);
            let is_nobody = cause.is_connect() && is_nobody(kind);
            let told = anyhow::Error::new(cause).context(hint(&socket, kind));
            if is_nobody { Ok(Err(told)) } else { Err(told) }
        }
    }
}

/// What must not take longer than [`PATIENCE`].
#[derive(Clone, Copy)]
enum Waits {
    /// The whole answer.
    ForAll,
    /// Each part of it.
    ForEachPart,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the operator's own machine asks the operator's own relay, which may well be at a private address: the guard of \
              `net::Client` is against addresses that strangers name"
)]
async fn send_there(
    base: &Url,
    token: &str,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
    waits: Waits,
) -> anyhow::Result<reqwest::Response> {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(PATIENCE);
    let builder = match waits {
        Waits::ForAll => builder.timeout(PATIENCE),
        Waits::ForEachPart => builder.read_timeout(PATIENCE),
    };
    let builder = if base.scheme() == "http" { builder.no_proxy() } else { builder };
    let request = builder.build()?.request(method.parse()?, base.join(path)?).bearer_auth(token);
    let sent = with_body(request, body).send().await;
    sent.with_context(|| format!("asking {base}"))
}

fn with_body(request: reqwest::RequestBuilder, body: Option<Vec<u8>>) -> reqwest::RequestBuilder {
    match body {
        Some(body) => request.header("content-type", "application/json").body(body),
        None => request,
    }
}

async fn read(mut response: reqwest::Response) -> anyhow::Result<Answer> {
    let status = response.status();
    let named = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let link = named("link").and_then(next_page);
    let is_json = named("content-type").is_some_and(|kind| kind.contains("json"));
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await? {
        anyhow::ensure!(bytes.len() + part.len() <= MOST, "the answer is too long");
        bytes.extend_from_slice(&part);
    }
    let text = String::from_utf8(bytes).context("the answer is no text")?;
    if status.is_success() {
        let text = if is_json { escaped(&text) } else { text };
        return Ok(Answer { text, next: link });
    }
    Err(refusal(&status.to_string(), &text))
}

/// What the relay said no with, and what to do, unless that is said of everything and so says nothing here: then the sentence
/// itself does.
fn refusal(status: &str, text: &str) -> anyhow::Error {
    let problem = serde_json::from_str::<Value>(text).unwrap_or_default();
    let Some(detail) = problem["detail"].as_str() else { return anyhow::anyhow!("the relay answered {status}") };
    let remedy = problem["remedy"].as_str().filter(|text| !GENERAL_REMEDIES.contains(text));
    anyhow::anyhow!("{detail}{}", remedy.map_or_else(String::new, |text| format!(". {text}")))
}

/// JSON in which the words of strangers move no cursor and turn no writing, whatever reads it: such characters can stand in
/// texts only, and mean the same when they are escaped.
fn escaped(json: &str) -> String {
    let may_stand = |c: char| is_plain(c) || matches!(c, '\n' | '\r' | '\t');
    if json.chars().all(may_stand) {
        return json.to_owned();
    }
    let one = |c: char| if may_stand(c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    json.chars().map(one).collect()
}

/// `after` of the link `<?…&after=KEY>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let query = link.strip_prefix("<?")?.split_once(">; rel=\"next\"")?.0;
    form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "after").map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_by_https_or_stays_on_this_machine() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(base(text).ok().map(String::from).as_deref(), expected, "{text}");
        };
        check("https://ops.relay.example", Some("https://ops.relay.example/api/admin/v1/"));
        check("https://relay.example/ops/?x=1#y", Some("https://relay.example/ops/api/admin/v1/"));
        check("http://127.0.0.1:9464", Some("http://127.0.0.1:9464/api/admin/v1/"));
        check("http://[::1]:9464/", Some("http://[::1]:9464/api/admin/v1/"));
        check("http://localhost:1", Some("http://localhost:1/api/admin/v1/"));
        for text in [
            "http://relay.example",
            "http://10.0.0.1:9464",
            "http://localhost.evil.example",
            "https://token@relay.example",
            "ftp://127.0.0.1",
            "relay.example",
            "",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn no_relay_is_told_from_one_that_is_not_ours_to_ask() {
        let socket = Path::new("/var/lib/shearwater/admin.sock");
        for kind in [ErrorKind::NotFound, ErrorKind::ConnectionRefused] {
            assert!(is_nobody(kind) && hint(socket, kind).contains("is `shearwater serve` running"), "{kind}");
        }
        let denied = ErrorKind::PermissionDenied;
        assert!(!is_nobody(denied), "it is not taken for a relay that does not run");
        for says in ["sudo", "--config /etc/shearwater/shearwater.toml"] {
            assert!(hint(socket, denied).contains(says), "{}", hint(socket, denied));
        }
        let error = anyhow::Error::new(std::io::Error::from(denied)).context("a").context("b");
        assert_eq!(kind_of(error.as_ref()), Some(denied));
    }

    #[test]
    fn a_refusal_says_what_to_do_where_that_is_more_than_it_says_already() {
        let check = |detail: &str, remedy: &str, expected: &str| {
            let text = serde_json::json!({ "detail": detail, "remedy": remedy }).to_string();
            assert_eq!(refusal("500", &text).to_string(), expected);
        };
        let failed = ("the relay failed while answering this", "Look into the relay's log for the cause.");
        check(failed.0, failed.1, &format!("{}. {}", failed.0, failed.1));
        for general in GENERAL_REMEDIES {
            check("x is no subscriber", general, "x is no subscriber");
        }
        assert_eq!(refusal("502 Bad Gateway", "<html>").to_string(), "the relay answered 502 Bad Gateway");
    }

    #[test]
    fn what_could_move_a_cursor_is_escaped_in_json_and_means_the_same() {
        let said = serde_json::json!({ "text": "a\u{9b}31m \u{202e}b\u{2066} ä\u{1b}" });
        let shown = escaped(&said.to_string());
        assert!(shown.chars().all(is_plain), "{shown:?}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), said);
        assert_eq!(escaped("{\n}\n"), "{\n}\n");
    }

    #[test]
    fn the_next_page_is_read_from_its_link() {
        let check = |link: &str, expected: Option<&str>| assert_eq!(next_page(link).as_deref(), expected, "{link}");
        check("<?limit=2&after=a.example%3A81>; rel=\"next\"", Some("a.example:81"));
        check("<?limit=2>; rel=\"next\"", None);
        check("<https://evil.example/?after=x>; rel=\"next\"", None);
        check("", None);
    }
}
