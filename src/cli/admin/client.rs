//! Whom the commands ask: the relay on this machine, over the Unix socket in its `data_dir` and without a token, since only
//! the operator can open it; or one elsewhere, by the URL of its `ops.listen` and with a token.
//!
//! Promises: a token leaves by https only, or stays on this machine; it is followed nowhere else (no redirects); it comes
//! from the environment, since others on the machine can read a command line.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use url::{Host, Url, form_urlencoded};

use crate::cli::block_on;
use crate::config::Config;

/// Where the commands look for the URL and the token of a relay elsewhere.
const URL: &str = "SHEARWATER_ADMIN_URL";
const TOKEN: &str = "SHEARWATER_ADMIN_TOKEN";
/// The longest that an answer takes: making the index anew is asked for and not waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most that is read of an answer: the whole state of a large relay.
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

/// Asks whichever relay `at` means.
pub(super) fn ask(at: &AtArgs, method: &str, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<Answer> {
    let named = at.url.clone().or_else(|| std::env::var(URL).ok().filter(|url| !url.is_empty()));
    let Some(url) = named else {
        let data_dir = Config::data_dir(at.config.as_deref())?;
        return block_on(async { ask_here(data_dir.join("admin.sock"), method, path, body).await? });
    };
    let base = base(&url)?;
    let token = std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
    let token = token.with_context(|| {
        format!("{TOKEN} is not set: `shearwater admin token create --scope read|moderate|admin` on the relay's machine makes one")
    })?;
    block_on(async { ask_there(&base, token.trim(), method, path, body).await })
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

/// Writes an answer of the relay on this machine to a file, as it comes: it may be larger than memory. The file is of use
/// only if this succeeds.
pub(in crate::cli) fn download(data_dir: &Path, path: &str, file: &mut File) -> anyhow::Result<()> {
    block_on(async {
        let mut response = send_here(data_dir.join("admin.sock"), "GET", path, None).await??;
        if !response.status().is_success() {
            return read(response).await.map(drop);
        }
        while let Some(part) = response.chunk().await.context("the relay's answer was cut short")? {
            file.write_all(&part)?;
        }
        Ok(())
    })
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
    let hint =
        || format!("no relay answers at {}: is `shearwater serve` running with this data_dir?", socket.display());
    match with_body(request, body).send().await {
        Ok(response) => Ok(Ok(response)),
        Err(cause) if cause.is_connect() => Ok(Err(anyhow::Error::new(cause).context(hint()))),
        Err(cause) => Err(cause).with_context(hint),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the operator's own machine asks the operator's own relay, which may well be at a private address: the guard of \
              `net::Client` is against addresses that strangers name"
)]
async fn ask_there(base: &Url, token: &str, method: &str, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<Answer> {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
    let builder = if base.scheme() == "http" { builder.no_proxy() } else { builder };
    let request = builder.build()?.request(method.parse()?, base.join(path)?).bearer_auth(token);
    let sent = with_body(request, body).send().await;
    read(sent.with_context(|| format!("asking {base}"))?).await
}

fn with_body(request: reqwest::RequestBuilder, body: Option<Vec<u8>>) -> reqwest::RequestBuilder {
    match body {
        Some(body) => request.header("content-type", "application/json").body(body),
        None => request,
    }
}

async fn read(mut response: reqwest::Response) -> anyhow::Result<Answer> {
    let status = response.status();
    let link = response.headers().get("link").and_then(|value| value.to_str().ok()).and_then(next_page);
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await? {
        anyhow::ensure!(bytes.len() + part.len() <= MOST, "the answer is too long");
        bytes.extend_from_slice(&part);
    }
    let text = String::from_utf8(bytes).context("the answer is no text")?;
    if status.is_success() {
        return Ok(Answer { text, next: link });
    }
    let problem = serde_json::from_str::<Value>(&text).unwrap_or_default();
    let Some(detail) = problem["detail"].as_str() else { anyhow::bail!("the relay answered {status}") };
    // Of others the sentence itself says what to do.
    let is_of_use = matches!(status.as_u16(), 401 | 403 | 429 | 503);
    let remedy = problem["remedy"].as_str().filter(|_| is_of_use).map_or_else(String::new, |text| format!(". {text}"));
    anyhow::bail!("{detail}{remedy}")
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
    fn the_next_page_is_read_from_its_link() {
        let check = |link: &str, expected: Option<&str>| assert_eq!(next_page(link).as_deref(), expected, "{link}");
        check("<?limit=2&after=a.example%3A81>; rel=\"next\"", Some("a.example:81"));
        check("<?limit=2>; rel=\"next\"", None);
        check("<https://evil.example/?after=x>; rel=\"next\"", None);
        check("", None);
    }
}
