//! The personalities: what differs between the families of servers, as plain tables. Paths, key ids, how a server asks
//! to be relayed, how it signs, how strict its inbox is and which status it answers. Observed from Mastodon 4.3 to 4.7,
//! Misskey 2026.5, Akkoma 2025.10, GoToSocial 0.22 and Friendica 2024.09; where a number looks arbitrary, it is theirs.

use serde::{Deserialize, Serialize};

use super::ledger::Outcome;
use super::sign::Profile;
use super::verify::{Rules, Takes};

/// What a simulated server imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Follows Public at the relay's inbox; authors sign, with an embedded signature unless in secure mode.
    Mastodon,
    /// Follows Public; 64 KiB bodies, dates within five minutes, and the Accept must embed the Follow.
    Misskey,
    /// Follows the relay's actor from `/relay`, wants to be followed back, announces its posts; refuses forwards.
    Akkoma,
    /// Follows the relay's actor from its instance account, which also signs what it pushes; no shared inbox.
    GoToSocial,
    /// Follows the relay's actor from `/friendica`; authors sign; dates within five minutes, digest to the letter.
    Friendica,
}

/// What a family does with a forwarded activity of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwards {
    /// Believes the embedded signature.
    Believed,
    /// Takes the id of a new post as a hint and fetches it.
    Hint,
    /// Refuses it.
    Refused,
}

const PAIRED: &str = "rsa-sha256";

impl Family {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Mastodon, Self::Misskey, Self::Akkoma, Self::GoToSocial, Self::Friendica];

    /// The name that NodeInfo gives.
    #[must_use]
    pub const fn software(self) -> &'static str {
        match self {
            Self::Mastodon => "mastodon",
            Self::Misskey => "misskey",
            Self::Akkoma => "akkoma",
            Self::GoToSocial => "gotosocial",
            Self::Friendica => "friendica",
        }
    }

    /// The version that NodeInfo gives.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::Mastodon => "4.5.15",
            Self::Misskey => "2026.5.0",
            Self::Akkoma => "3.16.0",
            Self::GoToSocial => "0.22.0",
            Self::Friendica => "2024.09",
        }
    }

    /// Its admin pastes the relay's inbox and it follows Public; the others follow the relay's actor.
    #[must_use]
    pub const fn follows_public(self) -> bool {
        matches!(self, Self::Mastodon | Self::Misskey)
    }

    /// The path of the actor that follows the relay.
    pub(super) fn server_path(self, host: &str) -> String {
        match self {
            Self::Mastodon => "/actor".to_owned(),
            Self::Misskey => "/users/9a0relay0actor".to_owned(),
            Self::Akkoma => "/relay".to_owned(),
            Self::GoToSocial => format!("/users/{host}"),
            Self::Friendica => "/friendica".to_owned(),
        }
    }

    /// That actor's `preferredUsername`. Mastodon and GoToSocial use the domain name, dots and all.
    pub(super) fn server_name(self, host: &str) -> String {
        match self {
            Self::Mastodon | Self::GoToSocial => host.to_owned(),
            Self::Misskey => "relay.actor".to_owned(),
            Self::Akkoma => "relay".to_owned(),
            Self::Friendica => "friendica".to_owned(),
        }
    }

    /// The path of the actor that signs GETs.
    pub(super) fn fetcher_path(self, host: &str) -> String {
        if self == Self::Akkoma { "/internal/fetch".to_owned() } else { self.server_path(host) }
    }

    pub(super) fn author_path(self, name: &str) -> String {
        match self {
            Self::Misskey => format!("/users/9b{name}"),
            Self::Friendica => format!("/profile/{name}"),
            Self::Mastodon | Self::Akkoma | Self::GoToSocial => format!("/users/{name}"),
        }
    }

    /// GoToSocial's key ids are documents of their own; everybody else uses a fragment.
    pub(super) fn key_id(self, actor: &str) -> String {
        if self == Self::GoToSocial { format!("{actor}/main-key") } else { format!("{actor}#main-key") }
    }

    pub(super) fn post_path(self, author_path: &str, token: &str) -> String {
        match self {
            Self::Mastodon | Self::GoToSocial => format!("{author_path}/statuses/{token}"),
            Self::Misskey => format!("/notes/{token}"),
            Self::Akkoma | Self::Friendica => format!("/objects/{token}"),
        }
    }

    pub(super) const fn has_shared_inbox(self) -> bool {
        !matches!(self, Self::GoToSocial)
    }

    /// How its requests are signed.
    pub(super) const fn profile(self) -> Profile {
        match self {
            Self::Mastodon => Profile::Cavage {
                algorithm: PAIRED,
                post: &["host", "date", "digest", "content-type", "(request-target)"],
                get: &["host", "date", "accept", "(request-target)"],
            },
            Self::Misskey => Profile::Cavage {
                algorithm: PAIRED,
                post: &["(request-target)", "date", "host", "digest"],
                get: &["(request-target)", "date", "host", "accept"],
            },
            Self::Akkoma => Profile::Cavage {
                algorithm: PAIRED,
                post: &["(request-target)", "content-length", "date", "digest", "host"],
                get: &["(request-target)", "date", "host"],
            },
            Self::GoToSocial => Profile::Cavage {
                algorithm: "hs2019",
                post: &["(request-target)", "host", "date", "digest"],
                get: &["(request-target)", "host", "date"],
            },
            Self::Friendica => Profile::Cavage {
                algorithm: PAIRED,
                post: &["(request-target)", "date", "content-length", "digest", "host"],
                get: &["(request-target)", "date", "host"],
            },
        }
    }

    /// Mastodon 4.7's second knock, which the demo's RFC 9421 instance uses from the start.
    pub(super) const fn modern_profile() -> Profile {
        Profile::Rfc9421 {
            label: "sig1",
            post: &["@method", "@target-uri", "content-digest"],
            get: &["@method", "@target-uri"],
        }
    }

    /// How strict its inbox is.
    pub(super) const fn inbox_rules(self) -> Rules {
        let loose = Rules { takes: Takes::Cavage, covered: &[], past: 3_900, future: 3_600, exact_digest: false };
        match self {
            // An hour of skew on both sides, and five minutes of life.
            Self::Mastodon => Rules { takes: Takes::Either, ..loose },
            Self::Misskey => {
                Rules { covered: &["(request-target)", "digest", "host", "date"], past: 300, future: 300, ..loose }
            }
            Self::Akkoma => Rules { past: 7_200, future: 2_400, ..loose },
            // No window for `Date` at all, ten seconds for `(created)`, which nobody sends here.
            Self::GoToSocial => Rules { covered: &["(request-target)"], past: i64::MAX, future: i64::MAX, ..loose },
            Self::Friendica => Rules { past: 300, future: 60, exact_digest: true, ..loose },
        }
    }

    /// How strict it is about signed GETs.
    pub(super) const fn fetch_rules(self) -> Rules {
        let rules = self.inbox_rules();
        match self {
            Self::Mastodon | Self::Misskey => Rules { covered: &["host"], ..rules },
            _ => Rules { covered: &["(request-target)"], ..rules },
        }
    }

    /// The longest body its inbox reads, in bytes.
    pub(super) const fn body_limit(self) -> usize {
        if matches!(self, Self::Misskey) { 64 * 1024 } else { 1024 * 1024 }
    }

    pub(super) const fn forwards(self) -> Forwards {
        match self {
            Self::Mastodon | Self::Misskey => Forwards::Believed,
            Self::GoToSocial | Self::Friendica => Forwards::Hint,
            Self::Akkoma => Forwards::Refused,
        }
    }

    /// The status it answers to a request with that outcome.
    pub(super) const fn status(self, outcome: Outcome) -> u16 {
        match outcome {
            Outcome::TooLarge => 413,
            Outcome::ContentType => 406,
            Outcome::Malformed => 400,
            Outcome::OtherProfile
            | Outcome::Unsigned
            | Outcome::BadSignature
            | Outcome::Digest
            | Outcome::Uncovered
            | Outcome::Host
            | Outcome::Date
            | Outcome::Key
            | Outcome::Forward => self.refusal(outcome),
            _ if matches!(self, Self::Akkoma) => 200,
            _ => 202,
        }
    }

    const fn refusal(self, outcome: Outcome) -> u16 {
        match self {
            // Akkoma authenticates with 400.
            Self::Akkoma => 400,
            // The signature itself is checked in a queue, long after the answer.
            Self::Misskey if matches!(outcome, Outcome::BadSignature | Outcome::Key | Outcome::Forward) => 202,
            // Unsigned forwards are dropped after the 202.
            _ if matches!(outcome, Outcome::Forward) => 202,
            _ => 401,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_akkoma_says_400_to_a_bad_signature_and_misskey_finds_out_too_late() {
        let check = |family: Family, outcome: Outcome, expected: u16| {
            assert_eq!(family.status(outcome), expected, "{family:?} {outcome:?}");
        };
        check(Family::Mastodon, Outcome::BadSignature, 401);
        check(Family::Misskey, Outcome::BadSignature, 202);
        check(Family::Misskey, Outcome::Digest, 401);
        check(Family::Akkoma, Outcome::BadSignature, 400);
        check(Family::Akkoma, Outcome::Forward, 400);
        check(Family::Akkoma, Outcome::Post, 200);
        check(Family::GoToSocial, Outcome::ContentType, 406);
        check(Family::Mastodon, Outcome::Forward, 202);
    }
}
