//! What this relay last saw of a server, told to its admin step by step: is it spoken to, what was refused and why, did it
//! join, what became of what it sent, do posts reach it, and how it looks from here. It shows what is known; how it looks is
//! found out by a [`probe`](super::probe) now and then.
//!
//! **Who is told what.** Anybody may ask about any name. So everybody is told only what they could find out by themselves, or
//! what proves nothing: that a name is blocked, with the reason that is said to it; which requests *named* it and were
//! refused; that it waits for an answer, has not been answered yet. Whether a server has joined, is silenced, or was seen at
//! all is told to who has its code ([`Store::check_code`](crate::store::Store::check_code)): the server itself is given it with a
//! refusal, and the operator may hand it out. Without it a server that joined looks like one that never came. The operator's
//! notes are told to nobody, and so is anything about people.
//!
//! **When is looked.** At a server of which something came in the last seven days (for who has no code: something that is
//! told to everybody), once in ten minutes, by so many at once, for so many servers of one domain, for so many askers'
//! wishes. What was found is shown half a minute after the look began, however long it took: how quickly somebody answers us
//! is nobody's business.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::Serialize;
use utoipa::ToSchema;

use super::Relay;
use super::explain::meaning;
use super::probe::{Depth, Outcome, Probe, Step};
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::policy::{Verdict, network};
use crate::store::{Health, KNOCK_LIFE, MOST_OF_DOMAIN, NOT_KEPT, Refusal, StoreError, Subscriber, SubscriberState};

/// How long a server is not looked at again.
pub const LOOK_GAP: Duration = Duration::from_secs(600);
/// After how long what was found is shown: longer than a look takes.
pub const SHOWN_AFTER: Duration = Duration::from_secs(30);
/// Looks under way at once, and of these so many only for who has the server's code, or at one that waits to be let in:
/// whoever names servers in bad requests must not take up all of them.
const AT_ONCE: usize = 6;
const AT_ONCE_KEPT: usize = 2;
/// Within [`LOOK_GAP`]: looks in all, of these so many only for the same, at servers of one registrable domain, and for one
/// address (of IPv6, its /64).
const IN_ALL: usize = 600;
const IN_ALL_KEPT: usize = 100;
const OF_DOMAIN: usize = 5;
const OF_ASKER: usize = 5;
/// How long the refusals are told as they were read: anybody may ask at any rate, and each reading looks at all of them.
const REFUSALS_LIFE: Duration = Duration::from_secs(5);
/// Kinds of refusals, and words, that are shown.
const SHOWN: usize = 12;

/// What is told about a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Its name.
    pub domain: Authority,
    /// Whether everything is told, or only what everybody may know.
    pub whole: bool,
    /// What is known, step by step.
    pub steps: Vec<Told>,
    /// How it looks from here.
    pub look: Look,
}

/// One thing that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Told {
    /// What it is about: `rules`, `requests`, `joining`, `received`, `deliveries`.
    pub about: &'static str,
    /// How it stands.
    pub outcome: Outcome,
    /// What was found, in a sentence.
    pub found: String,
    /// What to do about it; empty where there is nothing to be done.
    pub remedy: String,
    /// When last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// How often in the last seven days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// How a look stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Look {
    /// Nothing came from there, so nothing is asked there.
    NotDue,
    /// Too many were asked for just now.
    NotNow,
    /// One is under way.
    UnderWay {
        /// Since when.
        since: String,
    },
    /// One was taken.
    Done {
        /// When.
        at: String,
        /// What was found.
        steps: Vec<Step>,
    },
}

impl Told {
    fn new(about: &'static str, outcome: Outcome, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, outcome, found: found.into(), remedy: remedy.into(), at: None, count: None }
    }

    fn at(self, at: Timestamp) -> Self {
        Self { at: Some(at.rfc3339()), ..self }
    }

    fn counted(self, count: u32) -> Self {
        Self { count: Some(count), ..self }
    }
}

/// What the room remembers for this.
#[derive(Default)]
pub(super) struct Desk {
    refused: Mutex<Option<(Timestamp, Arc<RefusedOf>)>>,
    looks: Mutex<Looks>,
    hasher: RandomState,
}

impl Desk {
    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When last, and how often.
type Times = (Timestamp, u32);

/// What was refused in the last week.
#[derive(Default)]
struct RefusedOf {
    /// By the server that the request named, and by the failed check and the status.
    of: HashMap<String, HashMap<(String, u16), Times>>,
    /// How many rows name servers of a registrable domain.
    rows: HashMap<String, usize>,
    /// Some of it was not kept for want of room.
    lost: bool,
}

impl RefusedOf {
    /// Whether requests that named `domain` may have been refused of which nothing is kept.
    fn may_miss(&self, domain: &Authority) -> bool {
        self.lost || self.rows.get(domain.registrable()).is_some_and(|rows| *rows >= MOST_OF_DOMAIN)
    }
}

impl Relay {
    /// What is told about `domain` to who asks `from` this address and shows this `code`; begins a look if one is due.
    ///
    /// Blocks now and then, on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn check_server(
        &self,
        domain: &Authority,
        code: Option<&str>,
        from: Option<IpAddr>,
    ) -> Result<Standing, StoreError> {
        let whole = code.is_some_and(|code| self.is_code_of(code, domain));
        let mut standing = self.known(domain, whole)?;
        if self.is_due(domain, whole, &standing)? {
            standing.look = self.look(domain, whole, from);
        }
        Ok(standing)
    }

    /// The same for the operator: all of it, and nothing is asked for it.
    ///
    /// # Errors
    /// The store's.
    pub fn known(&self, domain: &Authority, whole: bool) -> Result<Standing, StoreError> {
        let subscriber = self.0.store.subscriber(domain);
        let mut steps = vec![self.ruled(domain, whole)];
        steps.extend(self.refused_requests(domain, whole)?);
        steps.push(self.joined(domain, subscriber.as_deref(), whole));
        if whole {
            steps.extend(self.received(domain)?);
            steps.extend(subscriber.filter(|one| one.is_active()).map(|one| match &one.paused {
                Some(paused) => {
                    let found = "The operator of this relay lets nothing be sent to it for now.";
                    let remedy = "Ask them; the home page names a contact.";
                    Told::new("deliveries", Outcome::Bad, found, remedy).at(paused.since)
                }
                None => deliveries(&one.health),
            }));
        }
        Ok(Standing { domain: domain.clone(), whole, steps, look: Look::NotDue })
    }

    /// The page that tells the admin of `domain` everything.
    #[must_use]
    pub fn check_link(&self, domain: &Authority) -> String {
        let (origin, code) = (&self.0.identity.ids.origin, self.0.store.check_code(domain));
        format!("{origin}/check?domain={domain}&code={code}")
    }

    fn is_code_of(&self, code: &str, domain: &Authority) -> bool {
        verify_slices_are_equal(code.as_bytes(), self.0.store.check_code(domain).as_bytes()).is_ok()
    }

    fn ruled(&self, domain: &Authority, whole: bool) -> Told {
        let (rules, now) = (self.0.rules.set(), self.0.clock.now());
        let ruling = if whole { rules.server(domain, now) } else { rules.name(domain, now) };
        let because = |says: &str, reason: &str| {
            if reason.is_empty() { format!("{says}.") } else { format!("{says}: {reason}") }
        };
        let ask = "Ask the operator of this relay; the home page names a contact.";
        match ruling.verdict {
            Verdict::Block => {
                let says = because("The operator of this relay does not deal with this server", ruling.reason());
                Told::new("rules", Outcome::Bad, says, ask)
            }
            Verdict::Silence if whole => {
                let says = because("It receives, and the operator passes nothing on of what it posts", ruling.reason());
                Told::new("rules", Outcome::Bad, says, ask)
            }
            Verdict::Silence | Verdict::Allow => {
                let found = rules.searchable_server(domain, now);
                if whole && self.0.search.is_on() && found.verdict == Verdict::Block {
                    let says = because("Its posts are passed on, and kept out of search and trends", found.reason());
                    return Told::new("rules", Outcome::Doubtful, says, ask);
                }
                Told::new("rules", Outcome::Good, "This relay speaks with servers of this name.", "")
            }
        }
    }

    /// What was refused of requests that named the server. Anybody may name it, so it is told to everybody; but not what is
    /// refused only to who has joined.
    fn refused_requests(&self, domain: &Authority, whole: bool) -> Result<Vec<Told>, StoreError> {
        let refused = self.refused_of()?;
        let mut kinds: Vec<_> = refused.of.get(domain.as_str()).into_iter().flatten().collect();
        kinds.retain(|((check, _), _)| whole || !OF_WHO_JOINED.contains(&check.as_str()));
        kinds.sort_by(|(check, (at, _)), (other, (than, _))| than.cmp(at).then_with(|| check.cmp(other)));
        let told = kinds.into_iter().take(SHOWN).map(|((check, status), (at, count))| {
            let meaning = meaning(check);
            let says = meaning.map_or("It was refused.", |meaning| meaning.says);
            let outcome = if *status >= 429 { Outcome::Doubtful } else { Outcome::Bad };
            let found = format!("{says} It was answered {status} ({check}).");
            Told::new("requests", outcome, found, meaning.map_or("", |meaning| meaning.mend)).at(*at).counted(*count)
        });
        let told: Vec<Told> = told.collect();
        if told.is_empty() && refused.may_miss(domain) {
            let found = "So much was refused in the last seven days that not all of it was kept; of what was kept, nothing \
                         named this server.";
            let remedy =
                "If yours sends something and nothing comes of it, let it send once more, and look here soon after.";
            return Ok(vec![Told::new("requests", Outcome::Doubtful, found, remedy)]);
        }
        if told.is_empty() {
            let found = "No request that named this server was refused in the last seven days.";
            let remedy = "If yours sent one, it did not arrive: see that its outgoing requests are not blocked, and that the \
                          address of the relay is spelt as on the home page.";
            return Ok(vec![Told::new("requests", Outcome::Good, found, remedy)]);
        }
        Ok(told)
    }

    fn joined(&self, domain: &Authority, subscriber: Option<&Subscriber>, whole: bool) -> Told {
        let told = |outcome, found: &str, remedy: &str| Told::new("joining", outcome, found, remedy);
        let is_shown = whole || self.0.config.show_subscribers;
        match subscriber {
            Some(one) if one.state == SubscriberState::Pending => {
                let personal = one.registrations.iter().all(|one| one.personal);
                let remedy = if personal {
                    "It was asked by a person's account. Join from the server's own relay settings, or ask the operator of \
                     this relay, whom the home page names."
                } else {
                    "Ask the operator of this relay; the home page names a contact."
                };
                told(Outcome::Doubtful, "It asked to join, and waits for the operator of this relay.", remedy)
                    .at(one.joined_at)
            }
            Some(one) if one.state == SubscriberState::Checking => told(
                Outcome::Doubtful,
                "It asked to join. Before it is answered its NodeInfo is read, which takes a minute.",
                "If it lasts, have the proxy pass /.well-known/nodeinfo, and what it links to, on to the server.",
            )
            .at(one.joined_at),
            Some(one) if is_shown => told(Outcome::Good, "It has joined.", "").at(one.joined_at),
            None if whole && self.0.store.publishes(domain) => told(
                Outcome::Good,
                "It may send without having joined; nothing is sent to it.",
                "To receive as well, join: the home page says which address to add where.",
            ),
            None if is_shown => {
                told(Outcome::Doubtful, "It has not joined.", "The home page says which address to add where.")
            }
            Some(_) | None => told(
                Outcome::Skipped,
                "It does not wait for an answer. Whether it has joined is told to its own admin alone.",
                "Its list of relays says so, or the page whose address the operator of this relay can give you.",
            ),
        }
    }

    /// What became of what it really signed.
    fn received(&self, domain: &Authority) -> Result<Vec<Told>, StoreError> {
        let knock = self.0.knocks.of(&self.0.store, domain, self.0.clock.now())?;
        let Some(knock) = knock.filter(|knock| !knock.said.is_empty()) else {
            let found = "In the last seven days nothing came that it signed well.";
            let remedy = "Send a public post. If nothing changes here, see what was refused.";
            return Ok(vec![Told::new("received", Outcome::Doubtful, found, remedy)]);
        };
        let told = knock.said.into_iter().take(SHOWN).map(|said| {
            let meaning = meaning(&said.word);
            let says = meaning.map_or("It was answered.", |meaning| meaning.says);
            let outcome = match said.status {
                202 if meaning.is_some_and(|meaning| meaning.mend.is_empty()) => Outcome::Good,
                202 | 429.. => Outcome::Doubtful,
                _ => Outcome::Bad,
            };
            Told::new("received", outcome, says, meaning.map_or("", |meaning| meaning.mend))
                .at(said.at)
                .counted(said.count)
        });
        Ok(told.collect())
    }

    fn refused_of(&self) -> Result<Arc<RefusedOf>, StoreError> {
        let now = self.0.clock.now();
        // Held while reading, so that of many who ask one reads.
        let mut last = self.0.desk.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, refused)) = &*last
            && *at <= now
            && now.since(*at) < REFUSALS_LIFE
        {
            return Ok(refused.clone());
        }
        let mut refused = RefusedOf::default();
        let page = self.0.store.sound_page::<Refusal>("", usize::MAX)?;
        // Of a row that cannot be read nobody knows whom it named.
        refused.lost = !page.damaged.is_empty();
        for (_, row) in page.rows {
            if now.since(row.at) >= KNOCK_LIFE {
                continue;
            }
            refused.lost |= row.check == NOT_KEPT;
            let Some(claimed) = row.claimed else { continue };
            // What is told only to who joined must not show in this either.
            if let Ok(server) = Authority::parse(&claimed)
                && !OF_WHO_JOINED.contains(&row.check.as_str())
            {
                *refused.rows.entry(server.registrable().to_owned()).or_default() += 1;
            }
            let (at, count) = refused.of.entry(claimed).or_default().entry((row.check, row.status)).or_default();
            *at = row.at.max(*at);
            *count = count.saturating_add(row.count);
        }
        let refused = Arc::new(refused);
        *last = Some((now, refused.clone()));
        Ok(refused)
    }

    /// Whether something came from there lately that who asks may know of.
    fn is_due(&self, domain: &Authority, whole: bool, standing: &Standing) -> Result<bool, StoreError> {
        let now = self.0.clock.now();
        if self.0.rules.set().name(domain, now).verdict == Verdict::Block {
            return Ok(false);
        }
        let is_refused = standing.steps.iter().any(|told| told.about == "requests" && told.at.is_some());
        let is_lately = |at: Timestamp| now.since(at) < KNOCK_LIFE;
        let known = self.0.store.subscriber(domain);
        let waits = known.as_ref().is_some_and(|one| !one.is_active() && is_lately(one.seen_at.max(one.joined_at)));
        if is_refused || waits || !whole {
            return Ok(is_refused || waits);
        }
        Ok(known.is_some_and(|one| is_lately(one.seen_at)) || self.0.knocks.of(&self.0.store, domain, now)?.is_some())
    }

    fn look(&self, domain: &Authority, whole: bool, from: Option<IpAddr>) -> Look {
        let now = self.0.clock.now();
        let asker = from.map(|from| self.0.desk.hasher.hash_one(network(from)));
        let waits = self.0.store.subscriber(domain).is_some_and(|one| !one.is_active());
        // That a server knocked is no reason to be preferred: it would show.
        let wish = Wish { whole, asker, first: whole || waits };
        if let Some(look) = self.0.desk.looks().take(domain, wish, now) {
            return look;
        }
        let (relay, domain) = (self.clone(), domain.clone());
        drop(self.0.supervisor.spawn(async move {
            // What is known of a server that joined must not show in how it is looked at.
            let depth = if whole || waits { Depth::Read } else { Depth::AsStranger };
            let probe = Box::pin(relay.probe(&domain, depth)).await;
            if let Some(look) = relay.0.desk.looks().0.get_mut(&domain) {
                look.ended = Some(probe);
            }
        }));
        Look::UnderWay { since: now.rfc3339() }
    }
}

/// Looks of the last ten minutes.
#[derive(Default)]
struct Looks(HashMap<Authority, Taken>);

/// Who wants a look.
#[derive(Clone, Copy)]
struct Wish {
    /// Who may know everything.
    whole: bool,
    /// From which network.
    asker: Option<u64>,
    /// The places that are kept free may be taken for it.
    first: bool,
}

/// A look, and for whom.
struct Taken {
    began: Timestamp,
    whole: bool,
    asker: Option<u64>,
    ended: Option<Probe>,
}

impl Looks {
    /// How the look at `domain` stands; `None`: it begins now, and is noted.
    fn take(&mut self, domain: &Authority, wish: Wish, now: Timestamp) -> Option<Look> {
        let Wish { whole, asker, first } = wish;
        self.0.retain(|_, look| now.since(look.began) < LOOK_GAP);
        if let Some(look) = self.0.get(domain) {
            return Some(match &look.ended {
                // Who may know less is not told what was found for who may know more.
                _ if look.whole && !whole => Look::NotNow,
                Some(probe) if now.since(look.began) >= SHOWN_AFTER => {
                    Look::Done { at: look.began.rfc3339(), steps: probe.clone().for_others().steps }
                }
                _ => Look::UnderWay { since: look.began.rfc3339() },
            });
        }
        let (mut under_way, mut of_domain, mut of_asker) = (0, 0, 0);
        for (name, look) in &self.0 {
            under_way += usize::from(look.ended.is_none());
            of_domain += usize::from(name.registrable() == domain.registrable());
            of_asker += usize::from(asker.is_some() && look.asker == asker);
        }
        let (in_all, at_once) = if first { (IN_ALL, AT_ONCE) } else { (IN_ALL - IN_ALL_KEPT, AT_ONCE - AT_ONCE_KEPT) };
        if self.0.len() >= in_all || under_way >= at_once || of_domain >= OF_DOMAIN || of_asker >= OF_ASKER {
            return Some(Look::NotNow);
        }
        self.0.insert(domain.clone(), Taken { began: now, whole, asker, ended: None });
        None
    }
}

/// Checks that only requests of who has joined, or of who is looked at as if, can fail: only what of them is kept needs
/// room on the disk, or the store to have time.
const OF_WHO_JOINED: [&str; 3] = ["held-full", "disk", "overload"];

/// How deliveries fare. Of a network that did not let us through it is not said how: see `probe`.
fn deliveries(health: &Health) -> Told {
    let told = |outcome, found: String, remedy: &str| Told::new("deliveries", outcome, found, remedy);
    let reason = health.last_reason.as_deref().filter(|reason| reason.starts_with("HTTP ")).unwrap_or("no answer");
    if let Some(until) = health.not_before {
        let found = "It asked this relay to wait (Retry-After).".to_owned();
        return told(Outcome::Doubtful, found, "Posts wait here and are sent then.").at(until);
    }
    match (health.failing_since, health.consecutive.max(health.refused)) {
        (Some(since), _) => {
            let found = format!("Posts do not reach it since {}: {reason}.", since.rfc3339());
            let remedy = "See in its log what it answers to our POST requests, and why; what it missed is sent when it answers \
                          again, as far back as two days.";
            let told = told(Outcome::Bad, found, remedy);
            if let Some(at) = health.last_failure { told.at(at) } else { told }
        }
        (None, 1..) => {
            told(Outcome::Doubtful, format!("The last post did not reach it yet: {reason}."), "It is sent again.")
        }
        (None, 0) => match health.last_success {
            Some(at) => told(Outcome::Good, "Posts reach it.".to_owned(), "").at(at),
            None => told(
                Outcome::Doubtful,
                "Nothing was sent to it yet.".to_owned(),
                "Posts of other servers come as they are written.",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn host(text: &str) -> Authority {
        Authority::parse(text).unwrap()
    }

    fn later(seconds: u64) -> Timestamp {
        NOON.plus(Duration::from_secs(seconds))
    }

    fn end(looks: &mut Looks) {
        for (host, look) in &mut looks.0 {
            look.ended = Some(Probe { host: host.clone(), at: look.began, steps: Vec::new() });
        }
    }

    #[test]
    fn looks_are_bounded_in_all_by_domain_and_by_asker() {
        let mut looks = Looks::default();
        let begins = |looks: &mut Looks, name: &str, asker: u64, at: Timestamp| {
            looks.take(&host(name), Wish { whole: false, asker: Some(asker), first: false }, at).is_none()
        };
        let first = |looks: &mut Looks, name: &str| {
            looks.take(&host(name), Wish { whole: true, asker: Some(9_999_999), first: true }, NOON).is_none()
        };
        let many = (0..10).filter(|number| begins(&mut looks, &format!("s{number}.example"), *number, NOON)).count();
        assert_eq!(many, AT_ONCE - AT_ONCE_KEPT, "so many at once");
        let kept = (0..10).filter(|number| first(&mut looks, &format!("w{number}.example"))).count();
        assert_eq!(kept, AT_ONCE_KEPT, "and a few that strangers cannot take");
        end(&mut looks);
        let of_domain = (0..10).filter(|number| {
            let begins = begins(&mut looks, &format!("s{number}.evil.example"), 100 + number, NOON);
            end(&mut looks);
            begins
        });
        assert_eq!(of_domain.count(), OF_DOMAIN);
        let of_asker = (0..10).filter(|number| {
            let begins = begins(&mut looks, &format!("t{number}.example"), 7777, NOON);
            end(&mut looks);
            begins
        });
        assert_eq!(of_asker.count(), OF_ASKER);
        let in_all = (0..2 * IN_ALL as u64).filter(|number| {
            let begins = begins(&mut looks, &format!("u{number}.example"), 10_000 + number, NOON);
            end(&mut looks);
            begins
        });
        assert_eq!(in_all.count() + AT_ONCE + OF_DOMAIN + OF_ASKER, IN_ALL - IN_ALL_KEPT);
        assert!(first(&mut looks, "x.example"), "what strangers used up is not used up for who waits");
        assert!(!begins(&mut looks, "v.example", 1, later(599)));
        assert!(begins(&mut looks, "v.example", 1, later(600)), "ten minutes later all of it is over");
    }

    #[test]
    fn what_was_found_is_shown_half_a_minute_after_it_began_and_not_to_who_may_know_less() {
        let (mut looks, a) = (Looks::default(), host("a.example"));
        let [wish, less] = [true, false].map(|whole| Wish { whole, asker: None, first: false });
        assert_eq!(looks.take(&a, wish, NOON), None);
        let under_way = Some(Look::UnderWay { since: NOON.rfc3339() });
        assert_eq!(looks.take(&a, wish, later(40)), under_way, "it takes its time");
        end(&mut looks);
        assert_eq!(looks.take(&a, wish, later(29)), under_way, "it was quick, and that is not told");
        assert_eq!(looks.take(&a, wish, later(30)), Some(Look::Done { at: NOON.rfc3339(), steps: Vec::new() }));
        assert_eq!(looks.take(&a, less, later(30)), Some(Look::NotNow));
        assert_eq!(looks.take(&a, less, later(600)), None, "once in ten minutes");
        end(&mut looks);
        assert!(matches!(looks.take(&a, wish, later(630)), Some(Look::Done { .. })), "less may be told to all");
        const { assert!(SHOWN_AFTER.as_secs() > crate::relay::probe::LONGEST.as_secs()) };
    }

    #[test]
    fn deliveries_are_told_without_saying_how_a_network_failed() {
        let failing = |reason: &str| Health {
            failing_since: Some(NOON),
            last_failure: Some(NOON),
            last_reason: Some(reason.to_owned()),
            consecutive: 3,
            ..Health::default()
        };
        let [refused, timeout] = ["refused", "timeout"].map(|reason| deliveries(&failing(reason)));
        assert_eq!(refused, timeout);
        assert!(deliveries(&failing("HTTP 503")).found.contains("HTTP 503"));
        let well = Health { last_success: Some(NOON), last_reason: Some("HTTP 500".to_owned()), ..Health::default() };
        assert_eq!(deliveries(&well).outcome, Outcome::Good);
    }
}
