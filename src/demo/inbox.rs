//! What happens to a request at an instance's inbox, step by step as a real server would: faults, size, type, JSON,
//! signature, then the family's judgement ([`super::judge`]), and a line in the ledger whatever came of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::family::Family;
use super::faults::{Fault, Tamper, Verdict};
use super::judge::{self, Arrival, Embedded, Judgement, Then};
use super::ledger::{Outcome, Receipt, Scheme};
use super::parts::As;
use super::remote::{id_of, text};
use super::serve::{HangUp, Reply, reply};
use super::state::{RemoteKey, Shared};
use super::verify::{Refusal, Request, claim};
use super::{ld, shapes};
use crate::clock::Timestamp;

/// A POST as it came.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) path: String,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// How many bodies [`Tamper::Alters`] changes before it lets the rest pass.
const ALTERED: u32 = 3;
/// How late [`Tamper::Delays`] makes everything arrive.
const DELAY: std::time::Duration = std::time::Duration::from_secs(600);

/// Handles a POST to one of the instance's inboxes.
pub(super) async fn receive(shared: &Arc<Shared>, mut post: Post) -> Result<Reply, HangUp> {
    let fault = shared.look(|state| state.inbox_fault.clone());
    let silently = match fault.strike().await {
        Verdict::Go => false,
        Verdict::GoSilently => true,
        Verdict::Stop(answer, status) => {
            let refusal = Refusal(Outcome::Fault, format!("{fault:?}"));
            note(shared, &post, None, Judgement::refused(refusal), status, shared.true_clock.now());
            return answer;
        }
    };
    if fault == Fault::Rewrites {
        let rewritten = HeaderValue::from_static("application/activity+json; charset=utf-8");
        post.headers.insert("content-type", rewritten);
    }
    let tamper = shared.look(|state| state.tamper);
    if tamper_loses(shared, tamper, &post) {
        return Ok(reply(StatusCode::ACCEPTED, "application/json", "{}"));
    }
    if tamper == Tamper::Alters && may_tamper(shared, ALTERED) {
        post.body = altered(&post.body);
    }
    let late = if tamper == Tamper::Delays { DELAY } else { std::time::Duration::ZERO };
    let status = handle(shared, &post, late).await;
    if tamper == Tamper::Twice && is_post(&post) {
        handle(shared, &post, late).await;
    }
    if silently {
        return Err(HangUp);
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED);
    let body = if status.is_success() { json!({}) } else { json!({ "error": status.as_str() }) };
    let mut reply = reply(status, "application/json", body.to_string());
    if fault == Fault::Closes {
        reply.headers_mut().insert("connection", HeaderValue::from_static("close"));
    }
    Ok(reply)
}

async fn handle(shared: &Arc<Shared>, post: &Post, late: std::time::Duration) -> u16 {
    let at = shared.true_clock.now().plus(late);
    let (signed, judgement) = match Box::pin(judged(shared, post, late)).await {
        Ok((signed, judgement)) => (Some(signed), judgement),
        Err(refusal) => (None, Judgement::refused(refusal)),
    };
    let status = shared.family.status(judgement.outcome);
    let then = judgement.then.clone();
    note(shared, post, signed.as_ref(), judgement, status, at);
    match then {
        Then::Nothing => {}
        Then::Fetch(id) => shared.fetch_later(id),
        Then::AcceptFollow(follow) => answer_follow(shared, "Accept", follow),
        Then::RejectFollow(follow) => answer_follow(shared, "Reject", follow),
    }
    status
}

struct Signed {
    scheme: Scheme,
    key: RemoteKey,
}

async fn judged(shared: &Arc<Shared>, post: &Post, late: std::time::Duration) -> Result<(Signed, Judgement), Refusal> {
    let family = shared.family;
    if post.body.len() > family.body_limit() {
        return Err(Refusal(Outcome::TooLarge, format!("{} bytes", post.body.len())));
    }
    let kind = post.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if family == Family::GoToSocial && !(kind == "application/activity+json" || kind.contains(shapes::AS2)) {
        return Err(Refusal(Outcome::ContentType, format!("content type {kind:?}")));
    }
    let Ok(activity) = serde_json::from_slice::<Value>(&post.body) else {
        return Err(Refusal(Outcome::Malformed, "the body is no JSON".to_owned()));
    };
    let mut rules = family.inbox_rules();
    if shared.options.rfc9421 {
        rules.takes = super::verify::Takes::Rfc9421Only;
    }
    if shared.look(|state| state.inbox_fault == Fault::WantsItsName) {
        rules.covered = &["host"];
    }
    let request = Request { method: "POST", target: &post.target, headers: &post.headers, body: &post.body };
    let claim = claim(&request, &rules, &shared.origin, shared.now().plus(late))?;
    let key = shared.verified(&claim).await?;
    let embedded = embedded(shared, &activity, &key).await;
    let arrival = Arrival { path: &post.path, activity: &activity, key: &key, embedded };
    let own = shared.path_of(&As::Server);
    let judgement = shared.with(|state| judge::judge(family, &format!("{}{own}", shared.origin), state, &arrival));
    Ok((Signed { scheme: claim.scheme, key }, judgement))
}

/// What the signature inside is worth; looked at only where somebody else's activity is passed on.
async fn embedded(shared: &Arc<Shared>, activity: &Value, key: &RemoteKey) -> Embedded {
    let actor = activity.get("actor").and_then(id_of).unwrap_or_default();
    if actor == key.owner {
        return Embedded::NotNeeded;
    }
    let Some(creator) = ld::creator(activity) else { return Embedded::Missing };
    match shared.known_key(creator).await {
        Ok(key) if key.owner == actor && ld::holds(activity, &key.pem) => Embedded::True,
        Ok(_) => Embedded::False("the embedded signature is not the author's".to_owned()),
        Err(why) => Embedded::False(why),
    }
}

/// Our `/relay` accepts whoever follows it; Mastodon's instance actor rejects every Follow.
fn answer_follow(shared: &Arc<Shared>, kind: &'static str, follow: Value) {
    let shared = Arc::clone(shared);
    shared.clone().spawn(async move {
        let server = As::Server;
        let id = format!("{}/activities/{}", shared.origin, shared.token());
        let follower = follow.get("actor").and_then(id_of).unwrap_or_default().to_owned();
        let body = json!({ "@context": shapes::AS2, "id": id, "type": kind, "actor": shared.id_of(&server),
                           "to": [follower], "object": follow });
        let Some(inbox) = shared.look(|state| state.relay.as_ref().map(|relay| relay.inbox.clone())) else { return };
        let sent = shared.deliver(&inbox, Bytes::from(body.to_string()), &server, &super::Tweaks::default()).await;
        tracing::debug!(instance = %shared.options.name, kind, ok = sent.is_ok(), "answered a Follow");
    });
}

fn note(shared: &Shared, post: &Post, signed: Option<&Signed>, judgement: Judgement, status: u16, at: Timestamp) {
    let activity: Value = serde_json::from_slice(&post.body).unwrap_or_default();
    let string = |member: &str| activity.get(member).and_then(id_of).map(str::to_owned);
    let to = match activity.get("to") {
        Some(Value::Array(members)) => members.iter().filter_map(id_of).map(str::to_owned).collect(),
        Some(one) => id_of(one).map(str::to_owned).into_iter().collect(),
        None => Vec::new(),
    };
    let date = post.headers.get("date").and_then(|value| value.to_str().ok()).and_then(Timestamp::from_http_date);
    shared.with(|state| {
        state.receipts.push(Receipt {
            seq: state.receipts.len() as u64 + 1,
            at,
            path: post.path.clone(),
            date,
            scheme: signed.map(|signed| signed.scheme),
            signer: signed.map(|signed| signed.key.owner.clone()),
            kind: text(&activity, "type").unwrap_or_default().to_owned(),
            id: string("id"),
            actor: string("actor"),
            object: string("object"),
            to,
            status,
            outcome: judgement.outcome,
            detail: judgement.detail,
            body: String::from_utf8_lossy(&post.body).into_owned(),
        });
    });
}

fn is_post(post: &Post) -> bool {
    kind_of(post).is_some_and(|kind| matches!(kind.as_str(), "Create" | "Announce"))
}

fn kind_of(post: &Post) -> Option<String> {
    let activity: Value = serde_json::from_slice(&post.body).ok()?;
    text(&activity, "type").map(str::to_owned)
}

/// Counts a chance to tamper; true as long as there were fewer than `limit`.
fn may_tamper(shared: &Shared, limit: u32) -> bool {
    shared.with(|state| {
        state.tampered += 1;
        state.tampered <= limit
    })
}

fn tamper_loses(shared: &Shared, tamper: Tamper, post: &Post) -> bool {
    let kind = kind_of(post).unwrap_or_default();
    match tamper {
        Tamper::Loses if is_post(post) => shared.with(|state| {
            state.tampered += 1;
            state.tampered % 3 == 1
        }),
        Tamper::LosesAccepts => kind == "Accept",
        Tamper::LosesFollowUps => matches!(kind.as_str(), "Update" | "Delete"),
        _ => false,
    }
}

/// The same body with one letter in the middle changed: still JSON, no longer what was signed.
fn altered(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.iter_mut().skip(middle).find(|byte| byte.is_ascii_lowercase()) {
        *byte = if *byte == b'z' { b'a' } else { *byte + 1 };
    }
    bytes.into()
}
