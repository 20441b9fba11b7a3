//! May this be found? One pure decision for a post in search, an account in search, and a post that trends count. Nothing
//! is read, fetched or remembered here: who asks brings what is known as a [`Case`], times included.
//!
//! Two keys, and no more than that: the author's own document says `indexable: true`, *and* the admin of the author's server
//! switched search on. Each is a yes that somebody said; what is absent is never one. Anything said against it wins, by
//! whomever: the post, the author, their server, the operator of this relay. Operators choose a [`Strictness`], which only
//! adds conditions.
//!
//! **How to read it.** A [`Reason`] is something that stands against it; [`Reason::stands`] says in one line each what it
//! is, in the order in which they are reported. It is allowed if nothing stands. So a new sign is one more line, and can
//! only deny. What can be known without the author's document comes before [`Reason::Unread`] and [`Reason::Stale`]: who is
//! answered with one of these two knows that reading the document is worth it, and that nothing is read for nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::config::Strictness;

use crate::clock::Timestamp;
use crate::wire::searchable::{ActorSignals, ObjectKind, ObjectSignals, Said, Searchers};

const DAY: Duration = Duration::from_secs(86_400);

/// How old the author's document may be when a post is taken, at most.
pub const READ_TO_TAKE: Duration = DAY;
/// How old it may be while the post is shown, at most. It is read again every week; who cannot be read for another week is
/// hidden.
pub const READ_TO_KEEP: Duration = DAY.saturating_mul(14);
/// How long a post is kept, at most, whatever the operator says.
pub const MAX_RETENTION: Duration = DAY.saturating_mul(365);

/// What it is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// A post is found by its text, and shown. Also without a post: whether the author's are, in general.
    Posts,
    /// The account is found by name, bio and tags, and shown. A post in the case means nothing here.
    Account,
    /// A post is counted: its tags and links, one vote for each person. No text is kept, so the server's key is not asked
    /// for; an example that is shown needs [`Use::Posts`].
    Trends,
}

/// Whether something new comes in, or what is here stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Occasion {
    /// A post is written down, or an account.
    #[default]
    Taking,
    /// It is here, and it is asked whether it may stay and be shown.
    Keeping,
}

/// The author's document, and when it came from its origin.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// What it said.
    pub signals: &'a ActorSignals,
    /// When we read it, or were told it by an `Update` that its author signed.
    pub at: Timestamp,
}

/// What we know of the author, apart from the document. The default: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Author {
    /// The account was deleted, or its removal was asked for and proven.
    pub removed: bool,
    /// They block one of our actors. It counts although their posts come through a relay.
    pub blocks: bool,
    /// Their server refuses us the document, or does not answer, for so long that they are hidden.
    pub refused: bool,
    /// Since when their consent counts, as [`consent_since`] said it, or since ever, because they asked for that by a word
    /// in their profile. `None`: this document is the first of theirs.
    pub since: Option<Timestamp>,
}

/// What we know of the author's server. The default: nothing, and so search is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Server {
    /// Since when its admin has search switched on: the second key.
    pub on_since: Option<Timestamp>,
    /// A rule of the operator speaks against the server, the author, their software, or the words of the post.
    pub ruled_out: bool,
}

/// A post, and whether it was taken back.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// What its document said.
    pub signals: &'a ObjectSignals,
    /// There is a tombstone: it was deleted, or suppressed for good.
    pub deleted: bool,
}

/// The terms of this relay, and of the moment.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// What time it is.
    pub now: Timestamp,
    /// Whether it is to come in or to stay.
    pub occasion: Occasion,
    /// How much an author must have said.
    pub strictness: Strictness,
    /// How old the document may be; more than [`READ_TO_TAKE`] or [`READ_TO_KEEP`] counts as that.
    pub read_within: Duration,
    /// How long posts are kept; more than [`MAX_RETENTION`] counts as that.
    pub retention: Duration,
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The author's document; `None`: not read yet.
    pub reading: Option<Reading<'a>>,
    /// What else is known of the author.
    pub author: Author,
    /// What is known of their server.
    pub server: Server,
    /// The post; `None`: the author's posts in general, as far as it does not depend on the post.
    pub post: Option<Post<'a>>,
    /// The terms.
    pub terms: Terms,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It may be found.
    Allow,
    /// It may not, and this is the first reason.
    Deny(Reason),
}

impl Decision {
    /// Whether it may be found.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allow)
    }

    /// As a label of a counter: `allow`, or the reason's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(reason) => reason.as_str(),
        }
    }
}

/// Decides.
#[must_use]
pub fn consent(wanted: Use, case: &Case<'_>) -> Decision {
    reasons(wanted, case).next().map_or(Decision::Allow, Decision::Deny)
}

/// Why a profile ends the consent of its owner to this use, by what it says and nothing else, if it does.
#[must_use]
pub fn profile_says_no(wanted: Use, signals: &ActorSignals) -> Option<Reason> {
    let case = Case {
        reading: Some(Reading { signals, at: Timestamp::default() }),
        author: Author::default(),
        server: Server::default(),
        post: None,
        terms: Terms {
            now: Timestamp::default(),
            occasion: Occasion::Keeping,
            strictness: Strictness::Standard,
            read_within: READ_TO_KEEP,
            retention: MAX_RETENTION,
        },
    };
    // Whose profile it is was asked before, and the server's part is not the profile's to say.
    reasons(wanted, &case).find(|reason| *reason > Reason::OtherAuthor)
}

/// Everything that stands against it, in the order of [`Reason::ALL`]; nothing: it is allowed.
pub fn reasons(wanted: Use, case: &Case<'_>) -> impl Iterator<Item = Reason> {
    Reason::ALL.into_iter().filter(move |reason| reason.stands(wanted, case))
}

/// What stands against it. The order is that in which reasons are reported: what was taken back, the operator and the
/// server, the post, whether the author's document was read, what it says, when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each has its word and its sentence in `Reason::row`")]
pub enum Reason {
    Deleted,
    Removed,
    Blocked,
    Refused,
    Ruled,
    ServerOff,
    Boost,
    Vote,
    NoPost,
    NotPublic,
    ForeignAuthor,
    SharedAuthors,
    PostSearchers,
    PostNoindex,
    PostTag,
    Undated,
    TooOld,
    Unread,
    Stale,
    OtherAuthor,
    Suspended,
    Memorial,
    Moved,
    Bot,
    NotIndexable,
    Searchers,
    Noindex,
    OptOutWord,
    MembersOnly,
    NotDiscoverable,
    Locked,
    NoAct,
    BeforeConsent,
}

impl Reason {
    /// All of them, in their order.
    pub const ALL: [Self; 33] = [
        Self::Deleted,
        Self::Removed,
        Self::Blocked,
        Self::Refused,
        Self::Ruled,
        Self::ServerOff,
        Self::Boost,
        Self::Vote,
        Self::NoPost,
        Self::NotPublic,
        Self::ForeignAuthor,
        Self::SharedAuthors,
        Self::PostSearchers,
        Self::PostNoindex,
        Self::PostTag,
        Self::Undated,
        Self::TooOld,
        Self::Unread,
        Self::Stale,
        Self::OtherAuthor,
        Self::Suspended,
        Self::Memorial,
        Self::Moved,
        Self::Bot,
        Self::NotIndexable,
        Self::Searchers,
        Self::Noindex,
        Self::OptOutWord,
        Self::MembersOnly,
        Self::NotDiscoverable,
        Self::Locked,
        Self::NoAct,
        Self::BeforeConsent,
    ];

    /// Whether this is the word of one of them; other words tell what else became of a post.
    #[must_use]
    pub fn is_word(word: &str) -> bool {
        Self::ALL.iter().any(|reason| reason.as_str() == word)
    }

    /// Whether it stands against the use in this case.
    #[must_use]
    pub fn stands(self, wanted: Use, case: &Case<'_>) -> bool {
        let Case { reading, author, server, post, terms } = case;
        let post = post.filter(|_| wanted != Use::Account);
        let (posts, accounts, trends) = (wanted == Use::Posts, wanted == Use::Account, wanted == Use::Trends);
        let of_actor = |test: fn(&ActorSignals) -> bool| reading.is_some_and(|reading| test(reading.signals));
        let of_post = |test: fn(&ObjectSignals) -> bool| post.is_some_and(|post| test(post.signals));
        match self {
            Self::Deleted => post.is_some_and(|post| post.deleted),
            Self::Removed => author.removed,
            Self::Blocked => author.blocks,
            Self::Refused => author.refused,
            Self::Ruled => server.ruled_out,
            Self::ServerOff => !trends && server.on_since.is_none(),

            Self::Boost => of_post(|post| post.kind == ObjectKind::Boost),
            Self::Vote => of_post(|post| post.kind == ObjectKind::Vote),
            Self::NoPost => of_post(|post| post.kind == ObjectKind::Other),
            Self::NotPublic => of_post(|post| !post.to_public),
            Self::ForeignAuthor => of_post(|post| post.author.is_none()),
            Self::SharedAuthors => of_post(|post| post.shared),
            Self::PostSearchers => of_post(|post| is_closed(post.searchable_by, post.can_search)),
            Self::PostNoindex => of_post(|post| post.noindex || post.indexable == Said::No),
            Self::PostTag => of_post(|post| post.opt_out_tag),
            Self::Undated => of_post(|post| post.published.is_none()),
            Self::TooOld => case.published().is_some_and(|at| !accounts && terms.now.since(at) > terms.retention()),

            Self::Unread => reading.is_none(),
            Self::Stale => reading.is_some_and(|reading| terms.now.since(reading.at) > terms.read_within()),
            Self::OtherAuthor => reading.is_some_and(|Reading { signals, .. }| {
                signals.id.is_none() || post.is_some_and(|post| post.signals.author != signals.id)
            }),
            Self::Suspended => of_actor(|actor| actor.suspended),
            Self::Memorial => of_actor(|actor| actor.memorial),
            // What was taken before the move stays while the old account says so; what it wrote is still there.
            Self::Moved => of_actor(|actor| actor.moved) && (accounts || terms.occasion == Occasion::Taking),
            Self::Bot => trends && of_actor(|actor| actor.bot),
            Self::NotIndexable => {
                of_actor(|actor| !actor.indexable.is_yes())
                    && (posts || trends && of_actor(|actor| !actor.discoverable.is_yes()))
            }
            Self::Searchers => of_actor(|actor| is_closed(actor.searchable_by, actor.can_search)),
            Self::Noindex => of_actor(|actor| actor.noindex),
            Self::OptOutWord => of_actor(|actor| actor.opt_out_word),
            Self::MembersOnly => of_actor(|actor| actor.members_only),

            Self::NotDiscoverable => {
                (accounts || posts && terms.strictness >= Strictness::Strict)
                    && of_actor(|actor| !actor.discoverable.is_yes())
            }
            Self::Locked => !trends && terms.strictness >= Strictness::Strict && of_actor(|actor| actor.locked),
            Self::NoAct => !trends && terms.strictness >= Strictness::Explicit && of_actor(|actor| !actor.magic_word),
            Self::BeforeConsent => posts && case.published().is_some_and(|at| case.is_before_consent(at)),
        }
    }

    /// Its word: a label of counters, and what the API says.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Its sentence, for the author.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        self.row().1
    }

    const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::Deleted => ("deleted", "The post was deleted or taken out of search."),
            Self::Removed => ("removed", "The account was deleted, or its removal from search was asked for."),
            Self::Blocked => ("blocked", "The account blocks this service."),
            Self::Refused => ("refused", "The server does not show us the account."),
            Self::Ruled => ("ruled", "A rule of this relay's operator keeps it out of search."),
            Self::ServerOff => ("server-off", "The admin of the account's server has not switched search on."),
            Self::Boost => ("boost", "It is a boost: only the post itself can be found."),
            Self::Vote => ("vote", "It is a vote in a poll, which is never indexed."),
            Self::NoPost => ("no-post", "It is not a kind of post that is indexed."),
            Self::NotPublic => ("not-public", "The post is not addressed to everyone: only public posts are indexed."),
            Self::ForeignAuthor => ("foreign-author", "The post does not name an author on its own server."),
            Self::SharedAuthors => ("shared-authors", "The post has several authors, who would all have to agree."),
            Self::PostSearchers => ("post-searchers", "The post says that not everyone may search it."),
            Self::PostNoindex => ("post-noindex", "The post says that it is not to be indexed."),
            Self::PostTag => ("post-tag", "The post has a hashtag such as #noindex or #nobot."),
            Self::Undated => ("undated", "The post does not say when it was written."),
            Self::TooOld => ("too-old", "The post is older than posts are kept here."),
            Self::Unread => ("unread", "The profile has not been read yet."),
            Self::Stale => ("stale", "The profile has not been read for too long: its answer may have changed."),
            Self::OtherAuthor => ("other-author", "The profile that was read is not that of the post's author."),
            Self::Suspended => ("suspended", "The account is suspended by its server."),
            Self::Memorial => ("memorial", "The account is in memory of somebody, who cannot be asked any more."),
            Self::Moved => {
                ("moved", "The account has moved. The new one has to say for itself whether it may be found.")
            }
            Self::Bot => ("bot", "The account says that it is automated: it does not count for trends."),
            Self::NotIndexable => (
                "not-indexable",
                "The profile does not say that public posts may be indexed (`indexable` is not true). On Mastodon: \
                 Preferences, Public profile, Privacy and reach, \u{201c}Include public posts in search results\u{201d}.",
            ),
            Self::Searchers => ("searchers", "The profile says that not everyone may search the account's posts."),
            Self::Noindex => ("noindex", "The profile says that it is not to be indexed (`noindex`)."),
            Self::OptOutWord => (
                "opt-out-word",
                "The profile holds a word such as #nobot, #noindex or #nosearch, or is too long to be read to its end.",
            ),
            Self::MembersOnly => {
                ("members-only", "The profile shows posts only to those who are signed in, or for a time.")
            }
            Self::NotDiscoverable => (
                "not-discoverable",
                "The profile does not say that the account may be recommended (`discoverable` is not true). On Mastodon: \
                 Preferences, Public profile, Privacy and reach, \u{201c}Feature profile and posts in discovery \
                 algorithms\u{201d}.",
            ),
            Self::Locked => ("locked", "The account is locked, and this relay indexes only those that are not."),
            Self::NoAct => ("no-act", "This relay indexes only who asked for it: write #searchable in the profile."),
            Self::BeforeConsent => {
                ("before-consent", "The post was written before the account and its server agreed to search.")
            }
        }
    }
}

impl Case<'_> {
    fn published(&self) -> Option<Timestamp> {
        self.post?.signals.published
    }

    fn is_before_consent(&self, at: Timestamp) -> bool {
        let first = || {
            let reading = self.reading.filter(|_| self.terms.occasion == Occasion::Taking)?;
            Some(consent_since(reading.at, false))
        };
        let (author, server) = (self.author.since.or_else(first), self.server.on_since);
        // Most servers date posts to the second.
        author.into_iter().chain(server).any(|since| at.secs() < since.secs())
    }
}

impl Terms {
    fn read_within(&self) -> Duration {
        self.read_within.min(match self.occasion {
            Occasion::Taking => READ_TO_TAKE,
            Occasion::Keeping => READ_TO_KEEP,
        })
    }

    fn retention(&self) -> Duration {
        self.retention.min(MAX_RETENTION)
    }
}

/// Since when an author's consent counts ([`Author::since`]), to be written down when a document that was read at `at` says
/// yes for the first time. After a no, or a withdrawal, that is the moment itself. Where none is known the yes was there
/// before us, and speaks for the day in which a document counts as fresh: the post for whose sake it is read is a little
/// older than the reading.
#[must_use]
pub fn consent_since(at: Timestamp, after_a_no: bool) -> Timestamp {
    if after_a_no { at } else { at.minus(READ_TO_TAKE) }
}

fn is_closed(searchable_by: Searchers, can_search: Searchers) -> bool {
    searchable_by == Searchers::Fewer || can_search == Searchers::Fewer
}

#[cfg(test)]
mod tests;
