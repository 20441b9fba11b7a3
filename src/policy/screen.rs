//! May this post go on at once, or does the operator look at it first? One pure function from what stands out about a
//! post, and how its author and server stand, to a [`Screened`]. Nothing is ever thrown away for what it says: a post that
//! is held waits to be released or discarded.

use std::fmt;

use super::wave::HARD;
use crate::config;
use crate::wire::text::Features;

/// What becomes of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screened {
    /// It goes on.
    Pass,
    /// The operator decides.
    Hold(Reason),
}

/// Why a post is held. The word is a metric's label and stands in the store; the sentence is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its whole server is held.
    Wave,
    /// Its server joined only just now.
    Probation,
    /// Too many hashtags.
    Hashtags,
    /// Many people are mentioned by somebody new.
    Mentions,
    /// Many links by somebody new.
    Links,
    /// Many people say the same.
    Repeated,
}

impl Reason {
    /// All of them, in the order in which they are looked at.
    pub const ALL: [Self; 6] =
        [Self::Wave, Self::Probation, Self::Hashtags, Self::Mentions, Self::Links, Self::Repeated];

    /// In a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wave => "wave",
            Self::Probation => "probation",
            Self::Hashtags => "hashtags",
            Self::Mentions => "mentions-of-new-account",
            Self::Links => "links-of-new-account",
            Self::Repeated => "repeated-text",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wave => "its server is held: far more of its authors are new than usual",
            Self::Probation => "its server joined only lately and is on probation",
            Self::Hashtags => "it has more hashtags than this relay takes",
            Self::Mentions => "an author who is new here mentions many people",
            Self::Links => "an author who is new here sets many links",
            Self::Repeated => "several authors say the same within an hour",
        })
    }
}

/// How author and server stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The server is held.
    pub is_held: bool,
    /// The server is on probation.
    pub on_probation: bool,
    /// The author was met less than a day ago.
    pub is_new: bool,
    /// The server has been known for a day, so that "new" means something.
    pub is_settled: bool,
    /// Different authors who said the same within the hour, this one included; 0 where the text is too short to tell.
    pub repeated_by: usize,
}

/// Judges one post. A figure of 0 switches its rule off.
///
/// Rules about new authors take [`HARD`] times the figure on a server's first day, when all its authors are new. So does
/// the rule about repeated texts for authors who are not new: people do share the same headline.
#[must_use]
pub fn screen(features: &Features, standing: &Standing, policy: &config::Policy) -> Screened {
    let reached = |count: usize, figure: u32| figure > 0 && count >= figure as usize;
    let over = |count: usize, figure: u32| figure > 0 && count > figure as usize;
    let tell_apart = standing.is_new && standing.is_settled;
    let figure = |figure: u32| if tell_apart { figure } else { figure.saturating_mul(HARD) };
    let applies = |reason: Reason| match reason {
        Reason::Wave => standing.is_held,
        Reason::Probation => standing.on_probation,
        Reason::Hashtags => over(features.hashtags, policy.max_hashtags),
        Reason::Mentions => standing.is_new && over(features.mentions, figure(policy.new_account_mentions)),
        Reason::Links => standing.is_new && over(features.links, figure(policy.new_account_links)),
        Reason::Repeated => reached(standing.repeated_by, figure(policy.repeated_text_authors)),
    };
    Reason::ALL.into_iter().find(|reason| applies(*reason)).map_or(Screened::Pass, Screened::Hold)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Standing =
        Standing { is_held: false, on_probation: false, is_new: true, is_settled: true, repeated_by: 0 };
    const KNOWN: Standing = Standing { is_new: false, ..NEW };
    const FIRST_DAY: Standing = Standing { is_settled: false, ..NEW };

    fn with(hashtags: usize, mentions: usize, links: usize) -> Features {
        Features { hashtags, mentions, links, ..Features::default() }
    }

    #[test]
    fn each_reason_has_its_figure_and_its_near_miss() {
        use Reason::{Hashtags, Links, Mentions, Probation, Repeated, Wave};
        let plain = || with(0, 0, 0);
        let table = [
            (plain(), NEW, None),
            (plain(), Standing { is_held: true, ..KNOWN }, Some(Wave)),
            (plain(), Standing { on_probation: true, ..KNOWN }, Some(Probation)),
            (with(30, 0, 0), KNOWN, None),
            (with(31, 0, 0), KNOWN, Some(Hashtags)),
            (with(31, 0, 0), FIRST_DAY, Some(Hashtags)),
            (with(0, 5, 0), NEW, None),
            (with(0, 6, 0), NEW, Some(Mentions)),
            (with(0, 6, 0), KNOWN, None),
            (with(0, 600, 0), KNOWN, None),
            (with(0, 50, 0), FIRST_DAY, None),
            (with(0, 51, 0), FIRST_DAY, Some(Mentions)),
            (with(0, 0, 3), NEW, None),
            (with(0, 0, 4), NEW, Some(Links)),
            (with(0, 0, 4), KNOWN, None),
            (with(0, 0, 30), FIRST_DAY, None),
            (with(0, 0, 31), FIRST_DAY, Some(Links)),
            (plain(), Standing { repeated_by: 4, ..NEW }, None),
            (plain(), Standing { repeated_by: 5, ..NEW }, Some(Repeated)),
            (plain(), Standing { repeated_by: 49, ..KNOWN }, None),
            (plain(), Standing { repeated_by: 50, ..KNOWN }, Some(Repeated)),
            (plain(), Standing { repeated_by: 49, ..FIRST_DAY }, None),
            (plain(), Standing { repeated_by: 50, ..FIRST_DAY }, Some(Repeated)),
            (with(99, 99, 99), Standing { is_held: true, ..NEW }, Some(Wave)),
        ];
        let policy = config::Config::embedded().policy;
        for (features, standing, expected) in table {
            let expected = expected.map_or(Screened::Pass, Screened::Hold);
            assert_eq!(screen(&features, &standing, &policy), expected, "{features:?} {standing:?}");
        }
    }

    #[test]
    fn a_figure_of_zero_switches_its_rule_off() {
        let policy = config::Policy {
            max_hashtags: 0,
            new_account_mentions: 0,
            new_account_links: 0,
            repeated_text_authors: 0,
            ..config::Config::embedded().policy
        };
        for standing in [NEW, KNOWN, FIRST_DAY] {
            let standing = Standing { repeated_by: 999, ..standing };
            assert_eq!(screen(&with(999, 999, 999), &standing, &policy), Screened::Pass);
        }
    }

    #[test]
    fn words_are_labels_and_sentences_are_for_people() {
        for reason in Reason::ALL {
            assert!(reason.word().chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            assert!(reason.to_string().len() > 20);
        }
    }
}
