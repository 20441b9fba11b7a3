//! One attempt: a message to an inbox, knocked at once more with the other signature profile where that may help, and what
//! the answer means. What the lane does about it is the lane's business.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, HeaderValue, RETRY_AFTER};

use super::backoff;
use super::outgoing::Message;
use crate::clock::Clock;
use crate::ids::Iri;
use crate::net::{Answer, FetchFault, NetFault, SignedClient};
use crate::wire::actor::RemoteActor;
use crate::wire::http_sig::Scheme;

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 2xx.
    Delivered,
    /// A final no to this message: repeating it would change nothing.
    Done,
    /// 400 or 401 with both signature profiles: it cannot verify us, or does not like what we say.
    Unverified,
    /// A forward was refused: say it in our own words.
    Downgrade,
    /// 403 to our own words: a final no to this message, and perhaps to us.
    Forbidden,
    /// The inbox is gone: its actor is to be read again.
    Gone,
    /// The inbox seems to be elsewhere: its actor is to be read again.
    Moved,
    /// Not now.
    Later {
        /// How long the server asked us to wait.
        after: Option<Duration>,
        /// The server said so itself; otherwise nobody answered.
        answered: bool,
    },
}

/// An attempt's outcome with what there is to say and to learn about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    /// `HTTP 403`, `timeout`; for people.
    pub(super) reason: Cow<'static, str>,
    /// The signature profile that went through after the other had been refused.
    pub(super) learned: Option<Scheme>,
}

/// An answer, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
}

/// What was found where an actor should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The actor.
    Actor(Box<RemoteActor>),
    /// 404 or 410.
    Gone,
    /// Nothing is known.
    Unclear,
}

/// Who carries messages.
#[derive(Clone)]
pub(super) enum Courier {
    /// Our signing client.
    Signed(Box<SignedClient>),
    /// A world that a test has written.
    #[cfg(test)]
    Scripted(std::sync::Arc<super::testing::World>),
}

impl Courier {
    /// Posts once. The error is one word.
    async fn post(&self, letter: &Letter<'_>, scheme: Scheme, timeout: Duration) -> Result<Reply, &'static str> {
        let Letter { inbox, message, from, .. } = letter;
        match self {
            Self::Signed(client) => {
                let client = from.map_or_else(|| SignedClient::clone(client), |actor| client.speaking_as(actor));
                let sent = client.post(inbox, &message.body, &message.digest, scheme, timeout).await;
                let answer = sent.map_err(|fault| fault.word())?;
                if let Some(fault) = not_an_answer(&answer) {
                    return Err(fault.word());
                }
                let retry_after = answer.header(&RETRY_AFTER).map(str::to_owned);
                Ok(Reply { status: answer.status, retry_after })
            }
            #[cfg(test)]
            Self::Scripted(world) => world.post(inbox, message, scheme, timeout).await,
        }
    }

    /// Reads an actor from its origin.
    pub(super) async fn actor(&self, id: &Iri) -> Found {
        match self {
            Self::Signed(client) => match client.get(id).await {
                Ok(fetched) if fetched.id == *id => {
                    RemoteActor::read(&fetched.value).map_or(Found::Unclear, |actor| Found::Actor(Box::new(actor)))
                }
                Err(FetchFault::Gone { .. }) => Found::Gone,
                Ok(_) | Err(_) => Found::Unclear,
            },
            #[cfg(test)]
            Self::Scripted(world) => world.actor(id),
        }
    }
}

/// What is sent, and how.
pub(super) struct Letter<'a> {
    pub(super) inbox: &'a Iri,
    pub(super) message: &'a Message,
    /// It is somebody else's bytes that we forward.
    pub(super) forwarded: bool,
    /// The profile to begin with.
    pub(super) scheme: Scheme,
    /// The actor of ours that signs, where that is not the relay's.
    pub(super) from: Option<&'a Iri>,
}

/// Sends `letter`: once, or a second time with the other signature profile.
pub(super) async fn send(courier: &Courier, letter: &Letter<'_>, timeout: Duration, clock: &Clock) -> Report {
    let mut scheme = letter.scheme;
    loop {
        let second = scheme != letter.scheme;
        let reply = match courier.post(letter, scheme, timeout).await {
            Ok(reply) => reply,
            Err(word) => {
                let outcome = Outcome::Later { after: None, answered: false };
                return Report { outcome, reason: Cow::Borrowed(word), learned: None };
            }
        };
        let Some(outcome) = judge(reply.status, second, letter.forwarded) else {
            scheme = scheme.other();
            continue;
        };
        let outcome = match outcome {
            Outcome::Later { answered, .. } => {
                let asked = reply.retry_after.as_deref();
                Outcome::Later { answered, after: asked.and_then(|value| backoff::retry_after(value, clock.now())) }
            }
            other => other,
        };
        let reason = format!("HTTP {}", reply.status).into();
        let learned = (second && outcome == Outcome::Delivered).then_some(scheme);
        return Report { outcome, reason, learned };
    }
}

/// A yes whose body has no end, or comes packed although we asked for it plain, is no inbox's answer: what says so may not
/// have read what we sent. Other statuses speak for themselves, whatever comes with them.
fn not_an_answer(answer: &Answer) -> Option<NetFault> {
    if !(200..=299).contains(&answer.status) {
        return None;
    }
    let plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    let packed = !answer.body.is_empty() && !answer.headers.get_all(CONTENT_ENCODING).iter().all(plain);
    if answer.truncated {
        Some(NetFault::TooBig)
    } else if packed {
        Some(NetFault::Coding)
    } else {
        None
    }
}

/// What a status means; `None`: knock once more with the other signature profile. Akkoma says 400 where others say 401.
fn judge(status: u16, second: bool, forwarded: bool) -> Option<Outcome> {
    Some(match status {
        200..=299 => Outcome::Delivered,
        300..=399 => Outcome::Moved,
        400 | 401 if !second => return None,
        400 | 401 | 403 if forwarded => Outcome::Downgrade,
        400 | 401 => Outcome::Unverified,
        403 => Outcome::Forbidden,
        410 => Outcome::Gone,
        501 => Outcome::Done,
        408 | 425 | 429 | 500..=599 => Outcome::Later { after: None, answered: true },
        _ => Outcome::Done,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, World, iri};
    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        let later = Some(Outcome::Later { after: None, answered: true });
        for status in 100..=999 {
            let own = match status {
                200..=299 => Some(Outcome::Delivered),
                300..=399 => Some(Outcome::Moved),
                403 => Some(Outcome::Forbidden),
                410 => Some(Outcome::Gone),
                408 | 425 | 429 => later,
                400 | 401 => Some(Outcome::Unverified),
                501 => Some(Outcome::Done),
                500 | 502..=599 => later,
                _ => Some(Outcome::Done),
            };
            let first = if matches!(status, 400 | 401) { None } else { own };
            assert_eq!(judge(status, false, false), first, "{status}");
            assert_eq!(judge(status, true, false), own, "{status}, second knock");
            let refused = if matches!(status, 400 | 401 | 403) { Some(Outcome::Downgrade) } else { own };
            assert_eq!(judge(status, true, true), refused, "{status}, forwarded");
        }
        assert_eq!(judge(403, false, true), Some(Outcome::Downgrade), "no second knock for that");
    }

    /// Statuses in the order of the knocks; what comes of it, after how many knocks, and what is learned.
    #[tokio::test(start_paused = true)]
    async fn the_second_knock_is_tried_once_and_remembered_if_it_helped() {
        let check = async |answers: &[&str], forwarded, outcome, knocks, learned| {
            let world = World::scripted(answers);
            let message = Message::new("{}".into());
            let inbox = iri("https://sub.example/inbox");
            let letter = Letter { inbox: &inbox, message: &message, forwarded, scheme: Scheme::Cavage, from: None };
            let courier = Courier::Scripted(world.clone());
            let report = send(&courier, &letter, Duration::from_secs(10), &Clock::manual(NOON)).await;
            assert_eq!((report.outcome, report.learned), (outcome, learned), "{answers:?}");
            assert_eq!(world.posts().len(), knocks, "{answers:?}");
        };
        let later = |after: Option<u64>, answered| Outcome::Later { after: after.map(Duration::from_secs), answered };
        check(&["202"], false, Outcome::Delivered, 1, None).await;
        check(&["401", "202"], false, Outcome::Delivered, 2, Some(Scheme::Rfc9421)).await;
        check(&["400", "401"], false, Outcome::Unverified, 2, None).await;
        check(&["400", "400"], true, Outcome::Downgrade, 2, None).await;
        check(&["403"], true, Outcome::Downgrade, 1, None).await;
        check(&["403"], false, Outcome::Forbidden, 1, None).await;
        check(&["401", "503"], false, later(None, true), 2, None).await;
        check(&["429 7"], false, later(Some(7), true), 1, None).await;
        check(&["503 soon"], false, later(None, true), 1, None).await;
        check(&["hang"], false, later(None, false), 1, None).await;
        check(&["refuse"], false, later(None, false), 1, None).await;
    }
}
