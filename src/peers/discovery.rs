//! Finding out what a server runs (NodeInfo, FEP-f1d5) and whom a handle means (WebFinger, RFC 7033). Hints both: a
//! server says of itself what it likes, and an actor's id is proven by reading the actor.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;

use super::memory::Kept;
use super::{PeerFault, Peers};
use crate::cache::Kind;
use crate::ids::{Authority, Iri};
use crate::net::JsonKind;
use crate::wire::discovery::{Software, parse_nodeinfo, parse_nodeinfo_links, parse_webfinger_self};

/// How long a server is believed to run what it ran. Servers change software by updates, now and then.
const SOFTWARE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Two names of at most 64 characters.
const SOFTWARE_BYTES: usize = 256;

/// The origin of a server, as an id.
pub(super) fn origin(scheme: &str, authority: &Authority) -> Result<Iri, PeerFault> {
    Iri::parse(&format!("{scheme}://{authority}")).map_err(|fault| PeerFault::Invalid(fault.to_string()))
}

impl Peers {
    /// From the disk if it is young enough there, else from the server.
    pub(super) async fn load_software(&self, origin: &Iri) -> Kept<Software> {
        let now = self.clock.now();
        if let Some(kept) = self.stored_software(origin).filter(|kept| now < kept.until) {
            return kept;
        }
        self.read_software(origin).await
    }

    /// From the server; what it says goes to disk.
    pub(super) async fn read_software(&self, origin: &Iri) -> Kept<Software> {
        let now = self.clock.now();
        match self.ask_software(origin).await {
            Ok(software) => {
                let record = json!({ "name": software.name, "version": software.version }).to_string();
                self.disk.put(Kind::Software, origin.as_str(), record.as_bytes(), now);
                Kept::value(software, now.plus(SOFTWARE_LIFE), SOFTWARE_BYTES)
            }
            Err(fault) => {
                let until = now.plus(self.lifetimes.of(&fault));
                Kept::fault(fault, until)
            }
        }
    }

    fn stored_software(&self, origin: &Iri) -> Option<Kept<Software>> {
        let cached = self.disk.get(Kind::Software, origin.as_str())?;
        let record: Value = serde_json::from_slice(&cached.bytes).ok()?;
        let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
        let software = Software { name: text("name")?, version: text("version")? };
        Some(Kept::value(software, self.until(cached.at, SOFTWARE_LIFE), SOFTWARE_BYTES))
    }

    /// Index, then document; both must come from the server that is asked about, whatever they link to.
    async fn ask_software(&self, origin: &Iri) -> Result<Software, PeerFault> {
        let index = self.read_nodeinfo(origin, "/.well-known/nodeinfo").await?;
        let href = parse_nodeinfo_links(&index)
            .ok_or_else(|| PeerFault::Invalid("its NodeInfo index has no link we know".to_owned()))?;
        let document = self.read_nodeinfo(origin, &href).await?;
        parse_nodeinfo(&document).ok_or_else(|| PeerFault::Invalid("its NodeInfo names no software".to_owned()))
    }

    async fn read_nodeinfo(&self, origin: &Iri, href: &str) -> Result<Value, PeerFault> {
        let elsewhere = || PeerFault::Invalid("its NodeInfo is on another server".to_owned());
        let url = origin.url().join(href).map_err(|_cause| elsewhere())?;
        if url.origin() != origin.url().origin() {
            return Err(elsewhere());
        }
        let answer = self.client.get_json(&url, JsonKind::NODEINFO).await?;
        if answer.url.origin() != url.origin() { Err(elsewhere()) } else { Ok(answer.value) }
    }

    pub(super) async fn find_actor(&self, text: &str) -> Result<Iri, PeerFault> {
        if text.contains("://") {
            return Iri::parse(text).map_err(|fault| PeerFault::Invalid(format!("{text:?}: {fault}")));
        }
        let unfit = || PeerFault::Invalid(format!("{text:?} is neither user@host nor the URL of an actor"));
        let account = text.strip_prefix("acct:").unwrap_or(text);
        let (user, host) = account.strip_prefix('@').unwrap_or(account).split_once('@').ok_or_else(unfit)?;
        let host = Authority::parse(host).map_err(|_fault| unfit())?;
        if user.is_empty() || user.chars().any(|c| c.is_control() || c.is_whitespace() || c == '@') {
            return Err(unfit());
        }
        let answer = self.client.get_json(&self.webfinger_url(user, &host)?, JsonKind::WEBFINGER).await?;
        parse_webfinger_self(&answer.value)
            .ok_or_else(|| PeerFault::Invalid(format!("{host} answers, but names no actor for {user:?}")))
    }

    /// https, but on the addresses of a LAN or test where only http is to be expected.
    fn webfinger_url(&self, user: &str, host: &Authority) -> Result<Url, PeerFault> {
        let account = format!("acct:{user}@{host}");
        let resource = utf8_percent_encode(&account, NON_ALPHANUMERIC);
        let url = |scheme: &str| Url::parse(&format!("{scheme}://{host}/.well-known/webfinger?resource={resource}"));
        let (plain, secure) = (url("http"), url("https"));
        match plain {
            Ok(plain) if self.client.client().guard().check_url(&plain).is_ok() => Ok(plain),
            _ => secure.map_err(|_cause| PeerFault::Invalid(format!("{host} is no host"))),
        }
    }
}
