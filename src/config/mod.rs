//! What the operator decided. Layers, bottom to top: `config/default.toml` (built in), a file, the environment.
//!
//! A config is read or refused as a whole, and a refusal names every wrong key at once, with where the value came from.
//! One file per section would be one struct each; they are short, so they stand together in `sections.rs`.

mod keyword;
mod sections;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use figment::providers::{Env, Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

pub use keyword::Keyword;
pub use sections::{
    Access, Admission, AnnounceAudience, Delivery, Fetch, Http, Identity, Listen, LogFormat, Net, Ops, Policy, Relay,
    Search, SharedSignature, Site, Store, Strictness, Trends,
};

use crate::ids::{Authority, Iri};

/// No post is kept for longer than this to be found.
const MAX_SEARCH_RETENTION: Duration = Duration::from_secs(365 * 24 * 3600);

/// Less than this is no room for trends.
const MIN_TRENDS_MEMORY: ByteSize = ByteSize::mib(1);

/// The documented defaults: also what `shearwater config default` prints.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// Every setting, typed. `config/default.toml` documents each key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The https origin that the world knows the relay by; empty only for development.
    pub public_url: String,
    /// The folder of store, keys and cache.
    pub data_dir: PathBuf,
    /// The public listener.
    pub http: Http,
    /// The operator's listener and the log.
    pub ops: Ops,
    /// The relay's actor and keys.
    pub identity: Identity,
    /// Joining and relaying.
    pub relay: Relay,
    /// Whom not to deal with.
    pub policy: Policy,
    /// Reading remote documents.
    pub fetch: Fetch,
    /// The outbound client.
    pub net: Net,
    /// Sending.
    pub delivery: Delivery,
    /// Keeping.
    pub store: Store,
    /// Posts whose authors asked to be found.
    pub search: Search,
    /// What people talk about.
    pub trends: Trends,
    /// What people read.
    pub site: Site,
}

/// One wrong key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, dotted: `http.listen`.
    pub key: String,
    /// What is wrong and what would be right.
    pub text: String,
}

/// All that is wrong with a config.
#[derive(Debug, Error)]
#[error("{}", list(.0))]
pub struct ConfigError(pub Vec<Problem>);

fn list(problems: &[Problem]) -> String {
    let mut text = format!("{} wrong in the configuration:", plural(problems.len()));
    for problem in problems {
        let _ = write!(text, "\n  {}: {}", problem.key, problem.text);
    }
    text.push_str("\n`shearwater config default` prints every key with its explanation.");
    text
}

fn plural(count: usize) -> String {
    if count == 1 { "1 key is".to_owned() } else { format!("{count} keys are") }
}

impl Config {
    /// The embedded defaults alone.
    ///
    /// # Panics
    /// Never in a build that passes its tests: they read the same text.
    #[must_use]
    pub fn embedded() -> Self {
        #[expect(clippy::expect_used, reason = "a test reads the very same text")]
        Figment::from(Toml::string(DEFAULT)).extract().expect("config/default.toml fits the structs")
    }

    /// Reads the layers: defaults, `file` if given, environment.
    ///
    /// # Errors
    /// [`ConfigError`] with every wrong key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_figment(&Self::layers(file)?)
    }

    /// `data_dir` alone, for commands that talk to a running relay and need nothing else of the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if the file is not there or the value is no path.
    pub fn data_dir(file: Option<&Path>) -> Result<PathBuf, ConfigError> {
        Self::layers(file)?
            .extract_inner("data_dir")
            .map_err(|error| ConfigError(vec![Problem { key: "data_dir".to_owned(), text: explain(&error) }]))
    }

    fn layers(file: Option<&Path>) -> Result<Figment, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULT));
        if let Some(path) = file {
            if !path.is_file() {
                let text = format!("{} is not there or is no file", path.display());
                return Err(ConfigError(vec![Problem { key: "--config".to_owned(), text }]));
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        // Those two say which relay the commands ask, and set nothing of this one.
        let env = Env::prefixed("SHEARWATER_").ignore(&["admin_url", "admin_token"]).split("__").lowercase(true);
        let texts: Vec<_> = env.iter().map(|(key, value)| (key.as_str().to_owned(), value)).collect();
        Ok(texts_as_texts(figment.merge(env.clone()), &env, texts))
    }

    /// Tries each key by itself over the defaults, which are right: so that one mistake hides no other.
    fn from_figment(figment: &Figment) -> Result<Self, ConfigError> {
        let values: Dict = figment
            .extract()
            .map_err(|error| ConfigError(vec![Problem { key: "file".to_owned(), text: error.to_string() }]))?;
        let defaults = Figment::from(Toml::string(DEFAULT));
        let mut problems = Vec::new();
        for key in leaves(&values) {
            let Some(value) = Value::Dict(figment::value::Tag::Default, values.clone()).find(&key) else { continue };
            let alone = defaults.clone().merge((key.as_str(), value));
            if let Err(error) = alone.extract::<Self>() {
                let from =
                    figment.find_metadata(&key).map_or_else(String::new, |meta| format!(" (from {})", meta.name));
                problems.push(Problem { key: key.clone(), text: format!("{}{from}", explain(&error)) });
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        let config: Self = figment
            .extract()
            .map_err(|error| ConfigError(vec![Problem { key: "file".to_owned(), text: error.to_string() }]))?;
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }

    /// Where each value came from: pairs of dotted key and the name of its layer, for `shearwater config show`.
    ///
    /// # Errors
    /// [`ConfigError`] if the file is not there.
    pub fn sources(file: Option<&Path>) -> Result<Vec<(String, String)>, ConfigError> {
        let figment = Self::layers(file)?;
        let values: Dict = figment
            .extract()
            .map_err(|error| ConfigError(vec![Problem { key: "file".to_owned(), text: error.to_string() }]))?;
        let name = |key: &str| {
            figment.find_metadata(key).map_or_else(String::new, |meta| {
                if meta.source.is_none() && !meta.name.contains("environment") {
                    "default".to_owned()
                } else {
                    meta.source.as_ref().map_or_else(|| meta.name.to_string(), ToString::to_string)
                }
            })
        };
        Ok(leaves(&values)
            .into_iter()
            .map(|key| {
                let from = name(&key);
                (key, from)
            })
            .collect())
    }

    /// What no single key can know: how they fit together.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |key: &str, text: String| problems.push(Problem { key: key.to_owned(), text });
        if let Err(text) = self.check_public_url() {
            wrong("public_url", text);
        }
        if let Err(text) = check_actor_path(&self.identity.actor_path) {
            wrong("identity.actor_path", text);
        }
        let plain =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !plain(&self.identity.username) {
            wrong(
                "identity.username",
                "letters, digits, `_`, `.` and `-` only: other servers refuse the rest".to_owned(),
            );
        }
        if !plain(&self.search.username) {
            wrong(
                "search.username",
                "letters, digits, `_`, `.` and `-` only: other servers refuse the rest".to_owned(),
            );
        } else if self.search.username.eq_ignore_ascii_case(&self.identity.username) {
            wrong("search.username", "must not be `identity.username`: two actors cannot share a handle".to_owned());
        }
        if !plain(&self.identity.key_fragment) {
            wrong("identity.key_fragment", "letters, digits, `_`, `.` and `-` only".to_owned());
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.ops.log) {
            wrong("ops.log", format!("{:?} is no filter such as \"info\": {error}", self.ops.log));
        }
        if !self.ops.traces.is_empty() {
            if !cfg!(feature = "otlp") {
                wrong(
                    "ops.traces",
                    "this program was built without traces: build it with `--features otlp`".to_owned(),
                );
            } else if let Err(error) = Url::parse(&self.ops.traces) {
                wrong("ops.traces", format!("{:?} is no URL: {error}", self.ops.traces));
            }
        }
        let files = [
            ("identity.rsa_key_file", &self.identity.rsa_key_file),
            ("identity.ed25519_key_file", &self.identity.ed25519_key_file),
        ];
        let files = files.into_iter().filter(|(_, path)| !path.as_os_str().is_empty());
        for (key, path) in files.chain(self.net.extra_roots.iter().map(|path| ("net.extra_roots", path))) {
            if !path.is_file() {
                wrong(key, format!("{} is not there, is no file, or is hidden from this user", path.display()));
            }
        }
        if let Err(text) = check_proxy(&self.net.proxy) {
            wrong("net.proxy", text);
        }
        self.check_rules(&mut wrong);
        if self.delivery.retry.is_empty() {
            wrong("delivery.retry", "needs at least one gap, such as [\"30s\"]".to_owned());
        }
        if self.search.retention > MAX_SEARCH_RETENTION {
            wrong("search.retention", "must be at most 365d: no post is kept for longer than a year".to_owned());
        }
        if self.trends.memory < MIN_TRENDS_MEMORY {
            wrong(
                "trends.memory",
                format!("must be at least {MIN_TRENDS_MEMORY}: with less there is room for nothing"),
            );
        }
        if self.store.retention < self.delivery.horizon {
            wrong(
                "store.retention",
                "must be at least `delivery.horizon`: late subscribers read from the log".to_owned(),
            );
        }
        for (key, count) in [
            ("http.connections", self.http.connections),
            ("http.connections_per_address", self.http.connections_per_address),
            ("http.inbox_in_flight", self.http.inbox_in_flight),
            ("fetch.in_flight", self.fetch.in_flight),
            ("fetch.in_flight_per_host", self.fetch.in_flight_per_host),
            ("net.connections", self.net.connections),
            ("delivery.in_flight", self.delivery.in_flight),
            ("delivery.in_flight_per_host", self.delivery.in_flight_per_host),
        ] {
            if count == 0 {
                wrong(key, "must be at least 1".to_owned());
            }
        }
        if self.policy.repeated_text_authors > 100 {
            wrong("policy.repeated_text_authors", "must be at most 100: more authors are not told apart".to_owned());
        }
        if self.delivery.in_flight_per_host > 64 {
            wrong("delivery.in_flight_per_host", "must be at most 64".to_owned());
        }
        problems
    }

    /// A rule that is none would protect nobody.
    fn check_rules(&self, wrong: &mut impl FnMut(&str, String)) {
        let domains = [
            ("policy.block", &self.policy.block),
            ("policy.silence", &self.policy.silence),
            ("policy.no_search", &self.policy.no_search),
            ("relay.allowlist", &self.relay.allowlist),
            ("trends.grown", &self.trends.grown),
        ];
        for (key, names) in domains {
            for name in names {
                let plain = name.trim().trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
                if !Authority::parse(plain).is_ok_and(|name| name.is_plain()) {
                    wrong(key, format!("{name:?} is no server's name such as \"evil.example\""));
                }
            }
        }
        for denied in &self.trends.deny {
            let is_site = |name: &str| Authority::parse(name).is_ok_and(|name| name.is_plain());
            let is_fit = match denied.trim().split_once(':') {
                Some(("site", name)) => is_site(name),
                Some(("post", id)) => Iri::parse(id).is_ok(),
                Some(("http" | "https", _)) => Url::parse(denied.trim()).is_ok(),
                _ => denied.chars().any(char::is_alphabetic) && !denied.trim().contains(char::is_whitespace),
            };
            if !is_fit {
                let forms = "\"cats\", \"https://…\", \"post:https://…\" or \"site:news.example\"";
                wrong("trends.deny", format!("{denied:?} is no hashtag, link, post or site such as {forms}"));
            }
        }
        for actor in &self.policy.block_actors {
            if let Err(fault) = Iri::parse(actor) {
                wrong("policy.block_actors", format!("{actor:?} is no actor's id (https://…): {fault}"));
            }
        }
        for name in &self.policy.block_software {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                wrong(
                    "policy.block_software",
                    format!("{name:?} is no name as NodeInfo gives it, such as \"mastodon\""),
                );
            }
        }
        for pattern in &self.policy.keywords {
            if let Err(why) = Keyword::parse(pattern) {
                wrong("policy.keywords", why);
            }
        }
    }

    fn check_public_url(&self) -> Result<(), String> {
        if self.public_url.is_empty() {
            return if self.fetch.allow_http {
                Ok(())
            } else {
                Err("is not set: give the https origin of the relay, such as \"https://relay.example\"".to_owned())
            };
        }
        let iri = Iri::parse(&self.public_url).map_err(|fault| format!("{:?}: {fault}", self.public_url))?;
        if iri.as_str() != iri.origin() {
            return Err(format!("must be an origin without a path: {:?}", iri.origin()));
        }
        if !self.public_url.starts_with("https://") && !self.fetch.allow_http {
            return Err("must begin with https:// (http:// needs `fetch.allow_http`, for development)".to_owned());
        }
        Ok(())
    }
}

/// Addresses that are others' already: no actor may lie at them or below them.
const TAKEN: [&str; 8] = [".well-known", "activities", "announces", "api", "check", "nodeinfo", "robots.txt", "search"];
/// What lies beside the actor; see `wire::author::OurIds`.
const BESIDE: [&str; 4] = ["inbox", "outbox", "followers", "following"];

fn check_proxy(proxy: &str) -> Result<(), String> {
    let is_plain = |url: &Url| {
        url.scheme() == "http"
            && url.host_str().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && (url.path(), url.query(), url.fragment()) == ("/", None, None)
    };
    if proxy.is_empty() || Url::parse(proxy).is_ok_and(|url| is_plain(&url)) {
        return Ok(());
    }
    // Not repeated: it may hold a password.
    Err("is no address of an HTTP proxy such as \"http://127.0.0.1:3128\", without user and path".to_owned())
}

/// A path that makes a canonical id, means nothing special to the router, and is no other address of ours.
fn check_actor_path(path: &str) -> Result<(), String> {
    let names: Vec<&str> = path.strip_prefix('/').ok_or("must be a path such as \"/actor\"")?.split('/').collect();
    let plain = |name: &str| {
        !matches!(name, "" | "." | "..") && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-~@".contains(c))
    };
    if !names.iter().all(|name| plain(name)) {
        return Err(format!(
            "{path:?}: letters, digits, `_`, `.`, `-`, `~` and `@` between single slashes only, none at the end"
        ));
    }
    if names.first().is_some_and(|name| TAKEN.contains(name)) || names.last().is_some_and(|name| BESIDE.contains(name))
    {
        return Err(format!("{path:?} is an address of something else that the relay serves"));
    }
    Ok(())
}

/// Environment variables say no types, so figment guesses them: `2024` becomes a number. Where the defaults have a text,
/// what was written is the text.
fn texts_as_texts(mut figment: Figment, from: &Env, variables: Vec<(String, String)>) -> Figment {
    let defaults = Figment::from(Toml::string(DEFAULT));
    let is_text = |figment: &Figment, key: &str| matches!(figment.find_value(key), Ok(Value::String(..)));
    for (key, text) in variables {
        if is_text(&defaults, &key) && !is_text(&figment, &key) {
            figment = figment.merge(Text { from: from.metadata(), key, text });
        }
    }
    figment
}

/// One text of the environment, as a layer.
struct Text {
    from: Metadata,
    key: String,
    text: String,
}

impl Provider for Text {
    fn metadata(&self) -> Metadata {
        self.from.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, Value::from(self.text.as_str()));
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

/// Figment says which key twice; the first line of its reason is enough beside the key.
fn explain(error: &figment::Error) -> String {
    error.clone().into_iter().map(|one| one.kind.to_string()).collect::<Vec<_>>().join("; ")
}

fn leaves(dict: &Dict) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in dict {
        match value {
            Value::Dict(_, inner) => keys.extend(leaves(inner).into_iter().map(|rest| format!("{name}.{rest}"))),
            _ => keys.push(name.clone()),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::from_figment(&Figment::from(Toml::string(DEFAULT)).merge(Toml::string(text)))
    }

    fn wrong_keys(text: &str) -> Vec<String> {
        read(text).expect_err("must be refused").0.into_iter().map(|problem| problem.key).collect()
    }

    /// Struct and file document each other: a key that one has and the other lacks fails here.
    #[test]
    fn the_default_file_has_every_key_and_no_other() {
        let file: toml::Table = DEFAULT.parse().expect("default.toml");
        let structs: toml::Table = toml::Table::try_from(Config::embedded()).expect("config");
        let keys = |table: &toml::Table| -> Vec<String> {
            let mut keys: Vec<String> = table
                .iter()
                .flat_map(|(name, value)| match value {
                    toml::Value::Table(inner) => inner.keys().map(|key| format!("{name}.{key}")).collect(),
                    _ => vec![name.clone()],
                })
                .collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&file), keys(&structs));
    }

    #[test]
    fn a_config_survives_being_written_and_read() {
        let mut config = Config::embedded();
        config.public_url = "https://relay.example".to_owned();
        let text = toml::to_string(&config).expect("written");
        let again = read(&text).expect("read");
        assert_eq!(toml::to_string(&again).expect("written again"), text);
    }

    #[test]
    fn every_wrong_key_is_named_at_once() {
        let text = r#"
            public_url = 5
            colour = "blue"
            [http]
            listen = "nowhere"
            head_timeout = "soon"
            [relay]
            admission = "maybe"
            [delivery]
            retry = ["30s", "later"]
            turbo = true
        "#;
        let mut keys = wrong_keys(text);
        keys.sort();
        let expected = [
            "colour",
            "delivery.retry",
            "delivery.turbo",
            "http.head_timeout",
            "http.listen",
            "public_url",
            "relay.admission",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn the_public_url_is_a_canonical_https_origin() {
        for text in [
            "",
            "relay.example",
            "https://relay.example/",
            "https://Relay.example",
            "https://relay.example:443",
            "http://relay.example",
        ] {
            assert_eq!(wrong_keys(&format!("public_url = {text:?}")), ["public_url"], "{text}");
        }
        assert!(read("public_url = \"https://relay.example\"").is_ok());
        assert!(read("public_url = \"\"\n[fetch]\nallow_http = true").is_ok());
        assert!(read("public_url = \"http://127.0.0.1:80\"\n[fetch]\nallow_http = true").is_err());
    }

    #[test]
    fn keys_that_do_not_fit_together_are_named_together() {
        let text =
            "public_url = \"https://r.example\"\n[store]\nretention = \"1h\"\n[delivery]\nretry = []\nin_flight = 0";
        let mut keys = wrong_keys(text);
        keys.sort();
        assert_eq!(keys, ["delivery.in_flight", "delivery.retry", "store.retention"]);
    }

    #[test]
    fn a_proxy_is_the_address_of_one_and_its_mistake_is_told_without_what_it_says() {
        let refusal =
            |proxy: &str| read(&format!("public_url = \"https://r.example\"\n[net]\nproxy = \"{proxy}\"")).err();
        for proxy in ["", "http://127.0.0.1:3128", "http://proxy.lan:3128/", "http://[::1]:3128"] {
            assert!(refusal(proxy).is_none(), "{proxy}");
        }
        for proxy in ["127.0.0.1:3128", "https://p.lan", "socks5://p.lan", "http://u:secret@p.lan", "http://p.lan/x"] {
            let text = refusal(proxy).expect(proxy).to_string();
            assert!(text.contains("net.proxy") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_rule_that_is_none_is_named_before_it_protects_nobody() {
        let text = "public_url = \"https://r.example\"\n[relay]\nallowlist = [\"good.example\", \"g**d.example\"]\n\
            [policy]\nblock = [\"evil.example/\", \"*.bad.example\"]\nsilence = [\"two words\"]\nno_search = [\"b/\"]\n\
            block_actors = [\"@eve@evil.example\"]\nblock_software = [\"two words\"]\nkeywords = [\"(\", \"fine\"]\n\
            [trends]\ndeny = [\"cats\", \"#dogs\", \"https://a.example/1\", \"post:https://a.example/1\", \"site:a.example\", \"2026\",\
            \"two words\", \"site:/\", \"post:cats\"]";
        let mut keys = wrong_keys(text);
        keys.sort();
        let expected = [
            "policy.block",
            "policy.block_actors",
            "policy.block_software",
            "policy.keywords",
            "policy.no_search",
            "policy.silence",
            "relay.allowlist",
            "trends.deny",
            "trends.deny",
            "trends.deny",
            "trends.deny",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn an_actor_path_is_plain_and_nobody_elses() {
        let with = |path: &str| read(&format!("public_url = \"https://r.example\"\n[identity]\nactor_path = {path:?}"));
        for path in ["/actor", "/relay", "/users/relay", "/@relay", "/research/actor", "/a/b/c", "/inbox/actor"] {
            assert!(with(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "/",
            "actor",
            "/actor/",
            "//actor",
            "/users//relay",
            "/../actor",
            "/{actor}",
            "/{*actor}",
            "/*actor",
            "/:actor",
            "/the actor",
            "/actor#key",
            "/actor?x",
            "/%61ctor",
            "/inbox",
            "/users/following",
            "/robots.txt",
            "/nodeinfo/2.1",
            "/.well-known/webfinger",
            "/announces/actor",
            "/search",
            "/search/actor",
            "/check",
        ] {
            let error = with(path).expect_err(path);
            assert_eq!(
                error.0.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(),
                ["identity.actor_path"],
                "{path}"
            );
        }
    }

    #[test]
    fn the_search_is_off_unless_it_is_said_and_its_actor_has_a_name_of_its_own() {
        let with = |text: &str| read(&format!("public_url = \"https://r.example\"\n{text}"));
        assert!(!with("").expect("read").search.is_on());
        assert!(with("[search]\napi = \"public\"").expect("read").search.is_on());
        for wrong in ["[search]\nusername = \"Relay\"", "[search]\nusername = \"\"", "[search]\napi = \"yes\""] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_would_fail_at_the_start_is_named_before() {
        let text = "public_url = \"https://r.example\"\n[ops]\nlog = \"info,shearwater=loud\"\n\
            traces = \"collector\"\n\
            [identity]\nrsa_key_file = \"/nowhere/rsa.pem\"\ned25519_key_file = \"/nowhere/ed.pem\"\n\
            [net]\nextra_roots = [\"/nowhere/ca.pem\", \"/\"]";
        let mut keys = wrong_keys(text);
        keys.sort();
        let expected = [
            "identity.ed25519_key_file",
            "identity.rsa_key_file",
            "net.extra_roots",
            "net.extra_roots",
            "ops.log",
            "ops.traces",
        ];
        assert_eq!(keys, expected);
        assert!(read("public_url = \"https://r.example\"\n[ops]\nlog = \"info,shearwater::net=debug\"").is_ok());
    }
}
