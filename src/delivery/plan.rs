//! What a subscriber gets of an entry: its bytes as they came, our Announce of it, our Undo of that Announce, or nothing.
//! Pure: a table of what software does with what it is sent, in one function.
//!
//! Forwarded bytes are believed only by software that checks the signature inside them (Mastodon's and Misskey's
//! families), and spare the origin one fetch per subscriber. Everything else understands exactly one message from a relay:
//! an Announce that names the post.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::log::{Entry, Kind};
use crate::policy::{self, RuleSet, Verdict};
use crate::store::{AuthorityFacts, Mode, Subscriber};
use crate::wire::discovery::{Family, family};

/// The largest body we forward to Misskey's family, whose servers read 64 KiB and no more (413).
const FORWARD_BYTES: usize = 60 * 1024;

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The bytes as they came.
    Forward,
    /// Our Announce of the object.
    Announce,
    /// The Undo of our Announce.
    UndoAnnounce,
    /// Nothing, and why in a word.
    Skip(&'static str),
}

/// What an entry that is too old is skipped for: the one reason that people are told of.
pub const EXPIRED: &str = "expired";

/// What an entry is skipped for that a rule of the operator keeps back, and the label it is counted under.
pub const BLOCKED: &str = "blocked";

/// What bounds a plan.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Entries older than this are skipped.
    pub horizon: Duration,
    /// Bodies older than this are not forwarded: Mastodon 4.7 lets its signatures die after 48 h.
    pub forward_horizon: Duration,
    /// With whom the operator does not deal: asked at every use, so that a rule covers what was taken before.
    pub policy: policy::Rules,
}

/// What `subscriber` gets of `entry` at `now`.
#[must_use]
pub fn plan(entry: &Entry, subscriber: &Subscriber, facts: &AuthorityFacts, rules: &Rules, now: Timestamp) -> Plan {
    if !entry.relayed {
        return Plan::Skip("for-search");
    }
    let age = now.since(entry.at);
    if age > rules.horizon {
        return Plan::Skip(EXPIRED);
    }
    if entry.kind == Kind::Hint {
        return Plan::Skip("hint");
    }
    if let Some(why) = kept_from(entry, subscriber, &rules.policy.set(), now) {
        return Plan::Skip(why);
    }
    let fresh = entry.carried && age <= rules.forward_horizon;
    let reader = Reader::of(subscriber, facts, now);
    match entry.kind {
        Kind::Create if fresh && reader.takes_creates && entry.body.len() <= FORWARD_BYTES => Plan::Forward,
        Kind::Create => Plan::Announce,
        Kind::Update if fresh && reader.takes_updates(entry.body.len()) => Plan::Forward,
        // No message of ours can say "edited": everybody ignores the Announce of an object that is known.
        Kind::Update => Plan::Skip("no-form-of-an-edit"),
        Kind::Delete if fresh && reader.takes_deletes => Plan::Forward,
        Kind::Delete if entry.object == entry.actor => Plan::Skip("no-form-of-an-actors-deletion"),
        Kind::Delete => Plan::UndoAnnounce,
        Kind::Hint => Plan::Skip("hint"),
        Kind::Boost => Plan::Skip("boost"),
    }
}

/// What to send instead of a forward that was refused; `None`: nothing says the same.
#[must_use]
pub fn instead_of_forward(entry: &Entry) -> Option<Plan> {
    match entry.kind {
        Kind::Create => Some(Plan::Announce),
        Kind::Delete if entry.object != entry.actor => Some(Plan::UndoAnnounce),
        Kind::Update | Kind::Delete | Kind::Hint | Kind::Boost => None,
    }
}

/// Nothing goes back to whoever brought it, to the author's server, or past the operator's rules.
fn kept_from(entry: &Entry, subscriber: &Subscriber, rules: &RuleSet, now: Timestamp) -> Option<&'static str> {
    let authors = [entry.actor.authority(), entry.object.authority()];
    let inbox = subscriber.served().map(|one| one.inbox.authority());
    let is_theirs = |one: &Authority| *one == subscriber.authority || inbox.as_ref() == Some(one);
    if is_theirs(&entry.supplier) {
        return Some("came-from-it");
    }
    if authors.iter().any(is_theirs) {
        return Some("its-own");
    }
    is_barred(entry, subscriber, rules, now).then_some(BLOCKED)
}

/// Whether the operator's rules keep `entry` from `subscriber`. Asked again just before it leaves.
#[must_use]
pub fn is_barred(entry: &Entry, subscriber: &Subscriber, rules: &RuleSet, now: Timestamp) -> bool {
    rules.verdict(&subscriber.authority, now) == Verdict::Block || is_kept_back(entry, rules, now)
}

/// Whether the rules keep `entry` from everybody. A deletion is passed on whatever we think of the author: it takes back
/// what others have.
#[must_use]
pub fn is_kept_back(entry: &Entry, rules: &RuleSet, now: Timestamp) -> bool {
    entry.kind != Kind::Delete
        && rules.post(&entry.actor, &entry.object, &entry.supplier, now).verdict != Verdict::Allow
}

/// What of forwarded bytes a subscriber's software makes use of.
struct Reader {
    takes_creates: bool,
    takes_deletes: bool,
    checks_signatures: bool,
    small_bodies: bool,
}

impl Reader {
    fn of(subscriber: &Subscriber, facts: &AuthorityFacts, now: Timestamp) -> Self {
        let software = facts.software.as_deref().unwrap_or_default();
        let kin = family(software);
        let refused = facts.announce_until.is_some_and(|until| until > now);
        let forced = subscriber.mode == Mode::Forward;
        let checks = kin != Family::Other;
        Self {
            takes_creates: !refused && (forced || (subscriber.mode == Mode::Auto && checks)),
            checks_signatures: !refused && (forced || checks),
            // Iceshrimp.NET answers 403 to a forwarded Create or Update, Friendica fetches what it does not know and
            // ignores edits; both honour a Delete whose signature they can check.
            takes_deletes: forced || checks || matches!(software, "friendica" | "iceshrimp.net"),
            small_bodies: kin == Family::Misskey,
        }
    }

    fn takes_updates(&self, bytes: usize) -> bool {
        self.checks_signatures && !(self.small_bodies && bytes > FORWARD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, subscriber};
    use super::*;
    use crate::ids::Iri;

    const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn rules() -> Rules {
        let config = crate::config::Config::embedded();
        Rules {
            horizon: config.delivery.horizon,
            forward_horizon: config.delivery.forward_horizon,
            policy: policy::Rules::new(&config.policy, &config.relay),
        }
    }

    fn facts(software: &str) -> AuthorityFacts {
        let software = (!software.is_empty()).then(|| software.to_owned());
        AuthorityFacts { software, ..AuthorityFacts::default() }
    }

    /// Kind, carried; software, mode; expected.
    #[test]
    fn each_software_gets_what_it_makes_use_of() {
        use Kind::{Create, Delete, Hint, Update};
        use Mode::{Announce as Announced, Auto, Forward as Forwarded};
        let undo = Plan::UndoAnnounce;
        let no_edit = Plan::Skip("no-form-of-an-edit");
        let table = [
            (Create, true, "mastodon", Auto, Plan::Forward),
            (Create, true, "hometown", Auto, Plan::Forward),
            (Create, true, "sharkey", Auto, Plan::Forward),
            (Create, true, "iceshrimp", Auto, Plan::Forward),
            (Create, true, "iceshrimp.net", Auto, Plan::Announce),
            (Create, true, "akkoma", Auto, Plan::Announce),
            (Create, true, "gotosocial", Auto, Plan::Announce),
            (Create, true, "", Auto, Plan::Announce),
            (Create, false, "mastodon", Auto, Plan::Announce),
            (Create, true, "mastodon", Announced, Plan::Announce),
            (Create, true, "akkoma", Forwarded, Plan::Forward),
            (Create, false, "akkoma", Forwarded, Plan::Announce),
            (Update, true, "mastodon", Auto, Plan::Forward),
            (Update, true, "mastodon", Announced, Plan::Forward),
            (Update, true, "misskey", Auto, Plan::Forward),
            (Update, false, "mastodon", Auto, no_edit),
            (Update, true, "friendica", Auto, no_edit),
            (Update, true, "iceshrimp.net", Auto, no_edit),
            (Update, true, "", Auto, no_edit),
            (Delete, true, "mastodon", Auto, Plan::Forward),
            (Delete, true, "misskey", Announced, Plan::Forward),
            (Delete, true, "friendica", Auto, Plan::Forward),
            (Delete, true, "iceshrimp.net", Auto, Plan::Forward),
            (Delete, true, "akkoma", Auto, undo),
            (Delete, true, "", Auto, undo),
            (Delete, false, "mastodon", Auto, undo),
            (Delete, false, "mitra", Auto, undo),
            (Hint, false, "mastodon", Auto, Plan::Skip("hint")),
        ];
        for (kind, carried, software, mode, expected) in table {
            let entry = entry(1, |draft| (draft.kind, draft.carried, draft.at) = (kind, carried, NOW));
            let mut to = subscriber("sub.example", 0);
            to.mode = mode;
            let got = plan(&entry, &to, &facts(software), &rules(), NOW);
            assert_eq!(got, expected, "{kind:?} carried={carried} to {software:?} {mode:?}");
        }
    }

    /// Nor is it "expired": nobody was owed it.
    #[test]
    fn what_came_for_the_search_goes_to_nobody() {
        for kind in [Kind::Create, Kind::Update, Kind::Delete, Kind::Hint, Kind::Boost] {
            for age in [0, 72] {
                let entry = entry(1, |draft| {
                    (draft.kind, draft.relayed) = (kind, false);
                    draft.at = NOW.minus(Duration::from_secs(age * 3600));
                });
                for software in ["mastodon", "misskey", "akkoma", ""] {
                    let plan = plan(&entry, &subscriber("sub.example", 0), &facts(software), &rules(), NOW);
                    assert_eq!(plan, Plan::Skip("for-search"), "{kind:?}");
                }
            }
        }
    }

    /// A body may be there for the search to read: what decides is whether it is carried.
    #[test]
    fn a_body_that_is_not_carried_is_forwarded_to_nobody() {
        let to = subscriber("sub.example", 0);
        for (kind, expected) in [
            (Kind::Create, Plan::Announce),
            (Kind::Update, Plan::Skip("no-form-of-an-edit")),
            (Kind::Delete, Plan::UndoAnnounce),
        ] {
            let entry = entry(1, |draft| (draft.kind, draft.carried, draft.at) = (kind, false, NOW));
            assert!(!entry.body.is_empty());
            assert_eq!(plan(&entry, &to, &facts("mastodon"), &rules(), NOW), expected);
        }
    }

    #[test]
    fn an_actors_own_deletion_is_forwarded_or_nothing() {
        let entry = entry(1, |draft| {
            (draft.kind, draft.carried, draft.at) = (Kind::Delete, true, NOW);
            draft.object = draft.actor.clone();
        });
        let to = subscriber("sub.example", 0);
        let skipped = Plan::Skip("no-form-of-an-actors-deletion");
        assert_eq!(plan(&entry, &to, &facts("mastodon"), &rules(), NOW), Plan::Forward);
        assert_eq!(plan(&entry, &to, &facts("akkoma"), &rules(), NOW), skipped);
        assert_eq!(instead_of_forward(&entry), None);
    }

    #[test]
    fn age_and_size_decide_between_forward_announce_and_nothing() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let to = subscriber("sub.example", 0);
        let check = |kind: Kind, age: Duration, bytes: usize, software: &str, expected: Plan| {
            let entry = entry(1, |draft| {
                (draft.kind, draft.carried, draft.at) = (kind, true, NOW.minus(age));
                draft.body = vec![b'x'; bytes].into();
            });
            assert_eq!(plan(&entry, &to, &facts(software), &rules(), NOW), expected, "{kind:?} {age:?} {bytes}");
        };
        check(Kind::Create, hours(36), 60 * 1024, "mastodon", Plan::Forward);
        check(Kind::Create, hours(37), 100, "mastodon", Plan::Announce);
        check(Kind::Create, hours(48), 100, "mastodon", Plan::Announce);
        check(Kind::Create, hours(49), 100, "mastodon", Plan::Skip(EXPIRED));
        check(Kind::Create, hours(0), 60 * 1024 + 1, "mastodon", Plan::Announce);
        check(Kind::Update, hours(37), 100, "mastodon", Plan::Skip("no-form-of-an-edit"));
        check(Kind::Update, hours(0), 70 * 1024, "mastodon", Plan::Forward);
        check(Kind::Update, hours(0), 70 * 1024, "misskey", Plan::Skip("no-form-of-an-edit"));
        check(Kind::Delete, hours(37), 100, "mastodon", Plan::UndoAnnounce);
    }

    #[test]
    fn a_subscriber_that_refused_a_forward_is_announced_to_until_then() {
        let to = subscriber("sub.example", 0);
        let refused = AuthorityFacts { announce_until: Some(NOW), ..facts("mastodon") };
        let check = |kind: Kind, now: Timestamp, expected: Plan| {
            let entry = entry(1, |draft| (draft.kind, draft.carried, draft.at) = (kind, true, NOW));
            assert_eq!(plan(&entry, &to, &refused, &rules(), now), expected, "{kind:?}");
        };
        let before = NOW.minus(Duration::from_secs(1));
        check(Kind::Create, before, Plan::Announce);
        check(Kind::Update, before, Plan::Skip("no-form-of-an-edit"));
        check(Kind::Delete, before, Plan::Forward);
        check(Kind::Create, NOW, Plan::Forward);
    }

    #[test]
    fn nothing_goes_back_to_where_it_came_from() {
        let iri = |text: &str| Iri::parse(text).unwrap();
        let check = |change: fn(&mut crate::log::Draft), expected: Plan| {
            let entry = entry(1, |draft| {
                draft.at = NOW;
                change(draft);
            });
            assert_eq!(plan(&entry, &subscriber("sub.example", 0), &facts(""), &rules(), NOW), expected);
        };
        check(|_| {}, Plan::Announce);
        check(|draft| draft.supplier = Authority::parse("sub.example").unwrap(), Plan::Skip("came-from-it"));
        check(|draft| draft.supplier = Authority::parse("sub.example:8443").unwrap(), Plan::Announce);
        check(|draft| draft.actor = Iri::parse("https://sub.example/u").unwrap(), Plan::Skip("its-own"));
        check(|draft| draft.object = Iri::parse("https://sub.example/n").unwrap(), Plan::Skip("its-own"));
        let mut elsewhere = subscriber("www.sub.example", 0);
        elsewhere.registrations[0].inbox = iri("https://sub.example/inbox");
        let own = entry(1, |draft| {
            draft.at = NOW;
            draft.actor = iri("https://sub.example/u");
        });
        assert_eq!(plan(&own, &elsewhere, &facts(""), &rules(), NOW), Plan::Skip("its-own"));
    }

    #[test]
    fn rules_of_the_operator_hold_for_what_was_taken_before_them() {
        let mut config = crate::config::Config::embedded();
        config.policy.block = vec!["blocked.example".to_owned()];
        config.policy.silence = vec!["author.example".to_owned()];
        let rules = Rules { policy: policy::Rules::new(&config.policy, &config.relay), ..rules() };
        let check = |kind: Kind, to: &str, expected: Plan| {
            let entry = entry(1, |draft| (draft.kind, draft.at) = (kind, NOW));
            assert_eq!(plan(&entry, &subscriber(to, 0), &facts(""), &rules, NOW), expected, "{kind:?} {to}");
        };
        check(Kind::Create, "sub.example", Plan::Skip("blocked"));
        check(Kind::Update, "sub.example", Plan::Skip("blocked"));
        check(Kind::Delete, "sub.example", Plan::UndoAnnounce);
        check(Kind::Delete, "a.blocked.example", Plan::Skip("blocked"));
    }
}
