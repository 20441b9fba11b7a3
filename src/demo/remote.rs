//! What an instance knows of others: their keys, their actors and their posts, fetched with signed GETs and checked the
//! way real servers check them.

use std::sync::Arc;

use serde_json::Value;
use url::Url;

use super::family::Family;
use super::ledger::{Outcome, Standing};
use super::parts::As;
use super::shapes::{AS2, PUBLIC};
use super::state::{RemoteKey, Shared};
use super::verify::{Claim, Refusal};

impl Shared {
    /// The key that `claim` was really made with. A cached key that does not fit is fetched once more: keys rotate.
    pub(super) async fn verified(&self, claim: &Claim) -> Result<RemoteKey, Refusal> {
        let cached = self.look(|state| state.remote_keys.get(&claim.key_id).cloned());
        if let Some(key) = cached
            && claim.holds(&key.pem)
        {
            return Ok(key);
        }
        let key = self.remote_key(&claim.key_id).await.map_err(|why| Refusal(Outcome::Key, why))?;
        if claim.holds(&key.pem) {
            Ok(key)
        } else {
            Err(Refusal(Outcome::BadSignature, format!("the signature is not by {}", claim.key_id)))
        }
    }

    /// The key of an embedded signature, from the cache or freshly.
    pub(super) async fn known_key(&self, key_id: &str) -> Result<RemoteKey, String> {
        match self.look(|state| state.remote_keys.get(key_id).cloned()) {
            Some(key) => Ok(key),
            None => self.remote_key(key_id).await,
        }
    }

    /// Fetches a key and binds it to its owner: the owner's own document must list the very same key.
    async fn remote_key(&self, key_id: &str) -> Result<RemoteKey, String> {
        let place = key_id.split('#').next().unwrap_or(key_id);
        let document = self.document(place).await?;
        let (owner, pem) = listed(&document, key_id).ok_or_else(|| format!("{place} does not list {key_id}"))?;
        let actor = if text(&document, "inbox").is_some() && text(&document, "id") == Some(owner.as_str()) {
            document
        } else {
            self.document(&owner).await?
        };
        if listed(&actor, key_id) != Some((owner.clone(), pem.clone())) {
            return Err(format!("{owner} does not list {key_id}"));
        }
        importable(&actor, &owner)?;
        // First sight of an actor: Mastodon and its kin do not believe in it before WebFinger does.
        if self.family == Family::Mastodon {
            self.discover(&actor, &owner).await?;
        }
        let key = RemoteKey { owner, pem, actor };
        self.with(|state| state.remote_keys.insert(key_id.to_owned(), key.clone()));
        Ok(key)
    }

    /// A JSON document of type ActivityStreams, with a signed GET.
    pub(super) async fn document(&self, url: &str) -> Result<Value, String> {
        let answer = self.fetch(url, &As::Fetcher).await.map_err(|trouble| format!("{url}: {trouble}"))?;
        if answer.status != 200 {
            return Err(format!("{url} answered {}", answer.status));
        }
        let kind = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let main = kind.split(';').next().unwrap_or_default().trim();
        let profiled = main == "application/ld+json" && kind.contains(AS2);
        if main != "application/activity+json" && !profiled {
            return Err(format!("{url} is of type {kind:?}"));
        }
        serde_json::from_slice(&answer.body).map_err(|_cause| format!("{url} is no JSON"))
    }

    /// Mastodon's round trip: `acct:name@host` must lead back to the actor.
    async fn discover(&self, actor: &Value, id: &str) -> Result<(), String> {
        let name = text(actor, "preferredUsername").unwrap_or_default();
        let url = Url::parse(id).map_err(|_cause| format!("{id} is no URL"))?;
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let mut finger = url.clone();
        finger.set_path("/.well-known/webfinger");
        finger.set_query(Some(&format!("resource=acct:{name}@{authority}")));
        let answer = self.client.get(finger, "application/jrd+json").await;
        let answer = answer.map_err(|trouble| format!("WebFinger of {name}@{authority}: {trouble}"))?;
        let jrd: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let leads_back = |link: &Value| {
            text(link, "rel") == Some("self")
                && text(link, "type") == Some("application/activity+json")
                && text(link, "href") == Some(id)
        };
        match jrd.get("links").and_then(Value::as_array) {
            Some(links) if answer.status == 200 && links.iter().any(leads_back) => Ok(()),
            _ => Err(format!("WebFinger of {name}@{authority} ({}) does not lead to {id}", answer.status)),
        }
    }

    /// Fetches an announced post from its origin, beside the answer, and notes where that led.
    pub(super) fn fetch_later(self: &Arc<Self>, id: String) {
        let shared = Arc::clone(self);
        self.spawn(async move {
            let standing = shared.fetched_post(&id).await;
            shared.with(|state| {
                if let Some(post) = state.shown.get_mut(&id)
                    && post.standing == Standing::Fetching
                {
                    post.standing = standing;
                }
            });
        });
    }

    async fn fetched_post(&self, id: &str) -> Standing {
        let answer = match self.fetch(id, &As::Fetcher).await {
            Ok(answer) => answer,
            Err(trouble) => return Standing::Failed(trouble.to_string()),
        };
        match answer.status {
            200 => {}
            404 | 410 => return Standing::Gone,
            status => return Standing::Failed(format!("its origin answered {status}: {}", answer.text())),
        }
        let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if text(&document, "id") != Some(id) {
            return Standing::Failed("its origin served something else".to_owned());
        }
        let audience = format!("{}{}", document["to"], document["cc"]);
        if audience.contains(PUBLIC) { Standing::Shown } else { Standing::Failed("it is not public".to_owned()) }
    }
}

/// What every server needs of an actor before it believes its signature (Mastodon's list).
fn importable(actor: &Value, owner: &str) -> Result<(), String> {
    let context = actor.get("@context").is_some_and(names_as2);
    let kinds = ["Application", "Group", "Organization", "Person", "Service"];
    let kind = text(actor, "type").is_some_and(|kind| kinds.contains(&kind));
    let inbox = text(actor, "inbox").is_some_and(|inbox| inbox.starts_with("http"));
    let name = text(actor, "preferredUsername").is_some_and(|name| !name.is_empty());
    let empty = ["name", "summary"].iter().any(|member| text(actor, member) == Some(""));
    for (fine, what) in [
        (text(actor, "id") == Some(owner), "its id is not its address"),
        (context, "@context does not name ActivityStreams"),
        (kind, "its type is none of an actor"),
        (inbox, "it has no inbox"),
        (name, "it has no preferredUsername"),
        (!empty, "its name or summary is empty (Misskey refuses that)"),
    ] {
        if !fine {
            return Err(format!("{owner} cannot be imported: {what}"));
        }
    }
    Ok(())
}

/// Whether `@context` is, or has as a member, the literal ActivityStreams IRI.
pub(super) fn names_as2(context: &Value) -> bool {
    match context {
        Value::String(name) => name == AS2,
        Value::Array(members) => members.iter().any(|member| member.as_str() == Some(AS2)),
        _ => false,
    }
}

/// Owner and PEM of `key_id` in a document's `publicKey`, which may be one or many.
fn listed(document: &Value, key_id: &str) -> Option<(String, String)> {
    let keys = match document.get("publicKey")? {
        Value::Array(keys) => keys.as_slice(),
        one => std::slice::from_ref(one),
    };
    let key = keys.iter().find(|key| text(key, "id") == Some(key_id))?;
    Some((text(key, "owner")?.to_owned(), text(key, "publicKeyPem")?.to_owned()))
}

/// A member that is a string.
pub(super) fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member)?.as_str()
}

/// The id of a value that is a string or an object with an `id`.
pub(super) fn id_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| text(value, "id"))
}
