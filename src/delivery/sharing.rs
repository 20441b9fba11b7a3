//! What a message is signed with: for one server, or once for all that have an inbox at the same path. Pure: who gets the
//! one and who the other, what is knocked with after a refusal, and what is learned of an answer. Why this is no harm is in
//! docs/decisions/0011.

use super::plan::Plan;
use crate::config::SharedSignature;
use crate::log::Kind;
use crate::store::{AuthorityFacts, Sharing};
use crate::wire::discovery::{Family, family};
use crate::wire::http_sig::Scheme;

/// What a message is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// A signature that names no host.
    Shared,
    /// One for this server, in this profile.
    Own(Scheme),
}

impl Manner {
    /// What to knock with when this was refused, in an attempt that began with `first`; `None`: all was tried.
    pub(super) fn next(self, first: Self) -> Option<Self> {
        match (self, first) {
            (Self::Shared, _) => Some(Self::Own(Scheme::Cavage)),
            (Self::Own(Scheme::Cavage), Self::Shared) => Some(Self::Own(Scheme::Rfc9421)),
            (Self::Own(scheme), first) if self == first => Some(Self::Own(scheme.other())),
            (Self::Own(_), _) => None,
        }
    }

    /// The profile that went through, if an attempt that began with `first` refused another one before.
    pub(super) fn learned(self, first: Self) -> Option<Scheme> {
        match self {
            Self::Own(scheme) if self != first && (first, scheme) != (Self::Shared, Scheme::Cavage) => Some(scheme),
            Self::Own(_) | Self::Shared => None,
        }
    }
}

/// What an entry of this kind is signed with that goes out as `plan` to a server of which `facts` are known. While one is on
/// `trial`, whose answer says whether this server takes a shared signature at all, the others have their own.
pub(super) fn manner(
    setting: SharedSignature,
    facts: &AuthorityFacts,
    plan: Plan,
    kind: Kind,
    on_trial: bool,
) -> Manner {
    let scheme = facts.scheme.unwrap_or(Scheme::Cavage);
    // An Undo is ours to say, to each. All else that the log holds is for everybody.
    let is_for_all = matches!(plan, Plan::Forward | Plan::Announce);
    let takes_it = family(facts.software.as_deref().unwrap_or_default()) == Family::Mastodon;
    let is_known_to = match facts.shared {
        Some(Sharing::Taken) => true,
        Some(Sharing::Refused) => false,
        // Mastodon says 202 to an Update or Delete by an actor that it does not know before it looks at the signature.
        None => kind == Kind::Create && !on_trial,
    };
    let wanted = setting == SharedSignature::Auto && scheme == Scheme::Cavage;
    if wanted && is_for_all && takes_it && is_known_to { Manner::Shared } else { Manner::Own(scheme) }
}

/// What a server made of a shared signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It took it.
    Taken,
    /// It refused it, and took the same message with a signature of its own.
    Refused,
    /// It refused that too: sharing is not what is wrong.
    AllRefused,
    /// It refused it, and said neither yes nor no to the same message with a signature of its own.
    Unclear,
}

impl Heard {
    /// What is heard of the `status` of an attempt's `last` knock; `None`: nothing.
    pub(super) fn of(first: Manner, last: Manner, status: u16) -> Option<Self> {
        match (first, last, status) {
            (Manner::Shared, Manner::Shared, 200..=299) => Some(Self::Taken),
            (Manner::Shared, Manner::Own(_), 200..=299) => Some(Self::Refused),
            (Manner::Shared, Manner::Own(_), 400 | 401) => Some(Self::AllRefused),
            (Manner::Shared, Manner::Own(_), _) => Some(Self::Unclear),
            _ => None,
        }
    }

    /// Whether the next one is to wait a while, lest everything be knocked with three times.
    pub(super) const fn is_vain(self) -> bool {
        matches!(self, Self::AllRefused | Self::Unclear)
    }

    /// What of it is news where so much is known. A refusal is for good: of several that were under way, one may have gone
    /// to a machine of theirs that takes what the others do not.
    pub(super) fn news(self, known: Option<Sharing>) -> Option<Sharing> {
        match (self, known) {
            (Self::Taken, None) => Some(Sharing::Taken),
            (Self::Refused, None | Some(Sharing::Taken)) => Some(Sharing::Refused),
            _ => None,
        }
    }

    /// The label that it is counted under.
    pub(super) const fn word(self, known: Option<Sharing>) -> &'static str {
        match (self, known) {
            (Self::Taken, _) => "taken",
            (Self::Refused, Some(Sharing::Taken)) => "refused-later",
            (Self::Refused, _) => "refused",
            (Self::AllRefused, _) => "all-refused",
            (Self::Unclear, _) => "unclear",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Manner = Manner::Shared;
    const OWN: Manner = Manner::Own(Scheme::Cavage);
    const MODERN: Manner = Manner::Own(Scheme::Rfc9421);

    fn facts(software: &str) -> AuthorityFacts {
        AuthorityFacts { software: Some(software.to_owned()), ..AuthorityFacts::default() }
    }

    fn ask(facts: &AuthorityFacts, plan: Plan, kind: Kind) -> Manner {
        manner(SharedSignature::Auto, facts, plan, kind, false)
    }

    #[test]
    fn only_content_and_only_to_mastodons_family() {
        let taken = |software| AuthorityFacts { shared: Some(Sharing::Taken), ..facts(software) };
        for software in ["mastodon", "glitch-soc", "hometown", "kmyblue", "fedibird"] {
            for (plan, kind) in [
                (Plan::Forward, Kind::Create),
                (Plan::Announce, Kind::Create),
                (Plan::Forward, Kind::Update),
                (Plan::Forward, Kind::Delete),
            ] {
                assert_eq!(ask(&taken(software), plan, kind), SHARED, "{software} {plan:?} {kind:?}");
            }
            assert_eq!(ask(&facts(software), Plan::Announce, Kind::Create), SHARED, "the first is a trial");
            assert_eq!(ask(&taken(software), Plan::UndoAnnounce, Kind::Delete), OWN, "never an Undo");
        }
        for software in ["", "misskey", "sharkey", "akkoma", "pleroma", "gotosocial", "friendica", "mastodon-like"] {
            assert_eq!(ask(&taken(software), Plan::Forward, Kind::Create), OWN, "{software}");
        }
        assert_eq!(ask(&AuthorityFacts::default(), Plan::Announce, Kind::Create), OWN, "NodeInfo was not read");
    }

    #[test]
    fn not_where_it_was_refused_or_another_profile_is_wanted_or_it_is_switched_off() {
        let mastodon = facts("mastodon");
        let refused = AuthorityFacts { shared: Some(Sharing::Refused), ..mastodon.clone() };
        assert_eq!(ask(&refused, Plan::Forward, Kind::Create), OWN);
        let modern = AuthorityFacts { scheme: Some(Scheme::Rfc9421), ..mastodon.clone() };
        assert_eq!(ask(&modern, Plan::Forward, Kind::Create), MODERN);
        let off = manner(SharedSignature::Off, &mastodon, Plan::Forward, Kind::Create, false);
        assert_eq!(off, OWN);
    }

    #[test]
    fn one_at_a_time_is_on_trial_and_what_is_taken_unread_proves_nothing() {
        let mastodon = facts("mastodon");
        let ask = |facts: &AuthorityFacts, kind, on_trial| {
            manner(SharedSignature::Auto, facts, Plan::Forward, kind, on_trial)
        };
        assert_eq!(ask(&mastodon, Kind::Create, false), SHARED);
        assert_eq!(ask(&mastodon, Kind::Create, true), OWN, "another is on trial");
        for kind in [Kind::Update, Kind::Delete] {
            assert_eq!(ask(&mastodon, kind, false), OWN, "{kind:?}");
        }
        let taken = AuthorityFacts { shared: Some(Sharing::Taken), ..mastodon };
        assert_eq!(ask(&taken, Kind::Create, true), SHARED);
    }

    #[test]
    fn after_a_refusal_each_other_way_is_tried_once() {
        let knocks = |first: Manner| std::iter::successors(Some(first), |last| last.next(first)).collect::<Vec<_>>();
        assert_eq!(knocks(SHARED), [SHARED, OWN, MODERN]);
        assert_eq!(knocks(OWN), [OWN, MODERN]);
        assert_eq!(knocks(MODERN), [MODERN, OWN]);
        let learned = |first: Manner| knocks(first).into_iter().map(|last| last.learned(first)).collect::<Vec<_>>();
        assert_eq!(learned(SHARED), [None, None, Some(Scheme::Rfc9421)]);
        assert_eq!(learned(OWN), [None, Some(Scheme::Rfc9421)]);
        assert_eq!(learned(MODERN), [None, Some(Scheme::Cavage)]);
    }

    #[test]
    fn a_refusal_is_for_good_and_only_one_that_sharing_is_the_reason_of() {
        assert_eq!(Heard::of(SHARED, SHARED, 202), Some(Heard::Taken));
        for last in [OWN, MODERN] {
            assert_eq!(Heard::of(SHARED, last, 200), Some(Heard::Refused));
            assert_eq!(Heard::of(SHARED, last, 401), Some(Heard::AllRefused));
            assert_eq!(Heard::of(SHARED, last, 400), Some(Heard::AllRefused));
            assert_eq!(Heard::of(OWN, last, 202), None, "none was shared");
            assert_eq!(Heard::of(SHARED, last, 503), Some(Heard::Unclear), "who knows");
        }
        assert_eq!(Heard::of(SHARED, SHARED, 403), None, "refused, but not for its signature");
        let (taken, refused) = (Some(Sharing::Taken), Some(Sharing::Refused));
        let table = [
            (Heard::Taken, None, taken, "taken"),
            (Heard::Taken, taken, None, "taken"),
            (Heard::Taken, refused, None, "taken"),
            (Heard::Refused, None, refused, "refused"),
            (Heard::Refused, taken, refused, "refused-later"),
            (Heard::Refused, refused, None, "refused"),
            (Heard::AllRefused, None, None, "all-refused"),
            (Heard::AllRefused, taken, None, "all-refused"),
            (Heard::Unclear, taken, None, "unclear"),
        ];
        for (heard, known, news, word) in table {
            assert_eq!((heard.news(known), heard.word(known)), (news, word), "{heard:?} {known:?}");
        }
    }
}
