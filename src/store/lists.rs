//! Lists of servers that others publish and the operator follows: from where, how it went, what came and waits to be looked
//! at. The rules that they brought are rows of [`super::rules`], by the list's name; what comes of a text is `policy`'s to
//! say, and fetching it is `relay`'s.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Record, Severity, StoreError, Tx};
use crate::clock::Timestamp;

/// Lists that may be followed: each text is kept, and each change of one is looked at by a person.
pub const MAX_FEEDS: u64 = 20;

/// A list that is followed. Keyed by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFeed {
    /// Where it is published.
    pub url: String,
    /// What rows ask for that do not say so themselves.
    pub severity: Severity,
    /// What changes little, and nobody who is here, is applied without being looked at.
    #[serde(default)]
    pub auto: bool,
    /// Rows that cannot be read are left out, instead of holding up the others.
    #[serde(default)]
    pub skip_bad: bool,
    /// Since when it is followed.
    pub added: Timestamp,
    /// How the publisher marked the text that we have: asked with it, an unchanged list is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// Times in a row that it could not be had.
    #[serde(default)]
    pub failures: u32,
    /// What is wrong, or what is to be done, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The text that we have: its version, and when it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<ListVersion>,
    /// The text that the rules were made of: its version, and when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<ListVersion>,
}

/// A text of a list, and when something was done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListVersion {
    /// The text's SHA-256 in hex digits.
    pub version: String,
    /// When.
    pub at: Timestamp,
}

impl Record for ListFeed {
    const TABLE: &'static str = "list_feeds";
}

impl ListFeed {
    /// How it stands, in a word.
    #[must_use]
    pub fn state(&self) -> FeedState {
        match &self.fetched {
            Some(_) if self.waits() => FeedState::Waits,
            _ if self.failures > 0 && self.trouble.is_some() => FeedState::Failing,
            None => FeedState::Empty,
            Some(_) => FeedState::Current,
        }
    }

    /// Whether a text is here that the rules were not made of.
    #[must_use]
    pub fn waits(&self) -> bool {
        let version = |one: &Option<ListVersion>| one.as_ref().map(|one| one.version.clone());
        self.fetched.is_some() && version(&self.fetched) != version(&self.applied)
    }
}

/// How a followed list stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeedState {
    /// Its rules are what it says.
    Current,
    /// A text came that nobody looked at.
    Waits,
    /// None came yet.
    Empty,
    /// It could not be had when it was asked for last.
    Failing,
}

impl FeedState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Current, Self::Waits, Self::Empty, Self::Failing];

    /// For labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Waits => "waits",
            Self::Empty => "empty",
            Self::Failing => "failing",
        }
    }
}

/// What a followed list said when it was fetched last. Keyed by the list's name. It does not travel: it is fetched again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListText {
    /// As it came.
    pub text: String,
}

impl Record for ListText {
    const TABLE: &'static str = "list_texts";
}

impl Tx<'_> {
    /// Writes down that a list is followed.
    ///
    /// # Errors
    /// [`StoreError::Declined`] if there is one of this name, or there are [`MAX_FEEDS`]; the engine's.
    pub fn add_feed(&mut self, name: &str, feed: &ListFeed) -> Result<(), StoreError> {
        if self.get::<ListFeed>(name)?.is_some() {
            return Err(StoreError::Declined(format!("a list called {name} is followed already")));
        }
        if self.count::<ListFeed>()? >= MAX_FEEDS {
            return Err(StoreError::Declined(format!("{MAX_FEEDS} lists may be followed, and no more")));
        }
        self.put(name, feed)
    }

    /// Changes what is known of a followed list; whether it is followed still.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn change_feed(&mut self, name: &str, change: impl FnOnce(&mut ListFeed)) -> Result<bool, StoreError> {
        let Some(mut feed) = self.get::<ListFeed>(name)? else { return Ok(false) };
        change(&mut feed);
        self.put(name, &feed)?;
        Ok(true)
    }

    /// Follows a list no more; whether it was followed. Its rules are for the caller to take out.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove_feed(&mut self, name: &str) -> Result<bool, StoreError> {
        self.remove::<ListText>(name)?;
        self.remove::<ListFeed>(name)
    }
}
