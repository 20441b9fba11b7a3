//! One attempt: a message to an inbox, knocked at once more with another signature where that may help, and what the answer
//! means. What the lane does about it is the lane's business.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, HeaderValue, RETRY_AFTER};

use super::backoff;
use super::outgoing::Message;
use super::sharing::{Heard, Manner};
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
    /// 400 or 401 with every signature of ours: it cannot verify us, or does not like what we say.
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
    /// Not now, for want of something here: the server has no part in it.
    Ours,
}

/// An attempt's outcome with what there is to say and to learn about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    /// `HTTP 403`, `timeout`; for people.
    pub(super) reason: Cow<'static, str>,
    /// The signature profile that went through after the other had been refused.
    pub(super) learned: Option<Scheme>,
    /// What the server made of a signature that it shares with others.
    pub(super) heard: Option<Heard>,
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
    /// Posts once.
    async fn post(&self, letter: &Letter<'_>, manner: Manner, timeout: Duration) -> Result<Reply, NetFault> {
        let Letter { inbox, message, from, .. } = letter;
        match self {
            Self::Signed(client) => {
                let client = from.map_or_else(|| SignedClient::clone(client), |actor| client.speaking_as(actor));
                let Message { body, digest } = message;
                let sent = match manner {
                    Manner::Shared => client.post_shared(inbox, body, digest, timeout).await,
                    Manner::Own(scheme) => client.post(inbox, body, digest, scheme, timeout).await,
                };
                let answer = sent?;
                if let Some(fault) = not_an_answer(&answer) {
                    return Err(fault);
                }
                let retry_after = answer.header(&RETRY_AFTER).map(str::to_owned);
                Ok(Reply { status: answer.status, retry_after })
            }
            #[cfg(test)]
            Self::Scripted(world) => world.post(inbox, message, manner, timeout).await,
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
    /// The signature to begin with.
    pub(super) manner: Manner,
    /// The actor of ours that signs, where that is not the relay's.
    pub(super) from: Option<&'a Iri>,
}

/// Sends `letter`: once, and again with another signature each time that one is refused.
pub(super) async fn send(courier: &Courier, letter: &Letter<'_>, timeout: Duration, clock: &Clock) -> Report {
    let mut manner = letter.manner;
    loop {
        let next = manner.next(letter.manner);
        let reply = match courier.post(letter, manner, timeout).await {
            Ok(reply) => reply,
            Err(fault) => {
                let outcome = match fault {
                    NetFault::Exhausted => Outcome::Ours,
                    _ => Outcome::Later { after: None, answered: false },
                };
                let heard = (manner != letter.manner && letter.manner == Manner::Shared).then_some(Heard::Unclear);
                return Report { outcome, reason: Cow::Borrowed(fault.word()), learned: None, heard };
            }
        };
        let outcome = match (judge(reply.status, letter.forwarded), next) {
            (Outcome::Unverified, Some(next)) => {
                manner = next;
                continue;
            }
            (Outcome::Unverified, None) if letter.forwarded => Outcome::Downgrade,
            (outcome, _) => outcome,
        };
        let outcome = match outcome {
            Outcome::Later { answered, .. } => {
                let asked = reply.retry_after.as_deref();
                Outcome::Later { answered, after: asked.and_then(|value| backoff::retry_after(value, clock.now())) }
            }
            other => other,
        };
        let reason = format!("HTTP {}", reply.status).into();
        let learned = manner.learned(letter.manner).filter(|_| outcome == Outcome::Delivered);
        let heard = Heard::of(letter.manner, manner, reply.status);
        return Report { outcome, reason, learned, heard };
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

/// What a status means. Akkoma says 400 where others say 401.
fn judge(status: u16, forwarded: bool) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        300..=399 => Outcome::Moved,
        400 | 401 => Outcome::Unverified,
        403 if forwarded => Outcome::Downgrade,
        403 => Outcome::Forbidden,
        410 => Outcome::Gone,
        501 => Outcome::Done,
        408 | 425 | 429 | 500..=599 => Outcome::Later { after: None, answered: true },
        _ => Outcome::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, World, iri};
    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        let later = Outcome::Later { after: None, answered: true };
        for status in 100..=999 {
            let own = match status {
                200..=299 => Outcome::Delivered,
                300..=399 => Outcome::Moved,
                403 => Outcome::Forbidden,
                410 => Outcome::Gone,
                408 | 425 | 429 => later,
                400 | 401 => Outcome::Unverified,
                501 => Outcome::Done,
                500 | 502..=599 => later,
                _ => Outcome::Done,
            };
            assert_eq!(judge(status, false), own, "{status}");
            let forwarded = if status == 403 { Outcome::Downgrade } else { own };
            assert_eq!(judge(status, true), forwarded, "{status}, forwarded");
        }
    }

    /// Statuses in the order of the knocks; what comes of it, after how many knocks, and what is learned.
    #[tokio::test(start_paused = true)]
    async fn the_second_knock_is_tried_once_and_remembered_if_it_helped() {
        let knock = async |manner, answers: &[&str], forwarded| {
            let world = World::scripted(answers);
            let message = Message::new("{}".into());
            let inbox = iri("https://sub.example/inbox");
            let letter = Letter { inbox: &inbox, message: &message, forwarded, manner, from: None };
            let courier = Courier::Scripted(world.clone());
            let report = send(&courier, &letter, Duration::from_secs(10), &Clock::manual(NOON)).await;
            (report, world.posts())
        };
        let check = async |answers: &[&str], forwarded, outcome, knocks, learned| {
            let (report, posts) = knock(Manner::Own(Scheme::Cavage), answers, forwarded).await;
            assert_eq!((report.outcome, report.learned), (outcome, learned), "{answers:?}");
            assert_eq!((posts.len(), report.heard), (knocks, None), "{answers:?}");
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

        // What begins with a shared signature, in which order the others are tried, and what is heard.
        let shared = async |answers: &[&str], forwarded, outcome, knocks, learned, heard| {
            let (report, posts) = knock(Manner::Shared, answers, forwarded).await;
            assert_eq!((report.outcome, report.learned, report.heard), (outcome, learned, heard), "{answers:?}");
            let order = [Manner::Shared, Manner::Own(Scheme::Cavage), Manner::Own(Scheme::Rfc9421)];
            assert_eq!(posts.iter().map(|post| post.manner).collect::<Vec<_>>(), order[..knocks], "{answers:?}");
        };
        let (taken, refused, all) = (Some(Heard::Taken), Some(Heard::Refused), Some(Heard::AllRefused));
        shared(&["202"], false, Outcome::Delivered, 1, None, taken).await;
        shared(&["401", "202"], true, Outcome::Delivered, 2, None, refused).await;
        shared(&["400", "202"], false, Outcome::Delivered, 2, None, refused).await;
        shared(&["401", "401", "202"], false, Outcome::Delivered, 3, Some(Scheme::Rfc9421), refused).await;
        shared(&["401", "401", "401"], false, Outcome::Unverified, 3, None, all).await;
        shared(&["401", "400", "401"], true, Outcome::Downgrade, 3, None, all).await;
        let unclear = Some(Heard::Unclear);
        shared(&["401", "503"], false, later(None, true), 2, None, unclear).await;
        shared(&["401", "hang"], false, later(None, false), 2, None, unclear).await;
        shared(&["401", "403"], true, Outcome::Downgrade, 2, None, unclear).await;
        check(&["exhausted"], false, Outcome::Ours, 1, None).await;
        shared(&["403"], true, Outcome::Downgrade, 1, None, None).await;
    }
}
