//! Lists of servers that others publish, taken in: what a text would change ([`Relay::plan`]), and lists that are followed by
//! their address: fetched once a day (`feeds`), looked at by the operator, applied on their word.
//!
//! Promises: a text with a row that cannot be read changes nothing, unless it was said that such rows are left
//! out; nor does one that would change more than [`BRAKE`] percent of what the list brought, unless it is approved; what is
//! applied is the very text that was looked at, by the whole digest of it. One thing at a time is done with a list: nothing
//! of it is applied while it is let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use utoipa::ToSchema;

use super::Relay;
use super::enforce::Impact;
use super::feeds::{feed_url, version_of};
use crate::policy::lists::{self, BRAKE, BadRow, Diff};
use crate::policy::{Also, PER_WRITE};
use crate::store::{Act, ListFeed, ListText, ListVersion, RuleChange, Severity, Source, StoreError, Tx};

/// Why a command about lists is not carried out. Nothing has changed then.
#[derive(Debug, Error)]
pub enum ListError {
    /// No list of this name is followed.
    #[error("no list called {0} is followed; `shearwater admin lists` shows those that are")]
    Unknown(String),
    /// It cannot be, as things stand.
    #[error("{0}")]
    Conflict(String),
    /// Something is missing from what was asked.
    #[error("{0}")]
    Unsaid(String),
    /// What was asked makes no sense, or what came does not.
    #[error("{0}")]
    Unfit(String),
    /// The store's, or a rule that cannot be.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<StoreError> for ListError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Declined(why) => Self::Conflict(why),
            error => Self::Other(error.into()),
        }
    }
}

impl From<tokio::task::JoinError> for ListError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Other(error.into())
    }
}

/// What the room remembers for lists.
pub(super) struct Desk {
    /// Who does something with a list waits here for who does so already. By its name.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Held while it is found out what rules would be.
    pub(super) weighing: tokio::sync::Mutex<()>,
    /// A text may be of eight megabytes: one is fetched at a time.
    pub(super) fetching: Semaphore,
    /// Which addresses were asked lately, and when.
    pub(super) asks: Mutex<super::feeds::Asks>,
}

impl Default for Desk {
    fn default() -> Self {
        let (turns, weighing, asks) = (Mutex::default(), tokio::sync::Mutex::default(), Mutex::default());
        Self { turns, weighing, fetching: Semaphore::new(1), asks }
    }
}

/// What a text holds that is not taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Left {
    /// Rows that cannot be read: the first hundred.
    pub bad: Vec<BadRow>,
    /// How many there are.
    pub bad_count: usize,
    /// Rows whose name was made unreadable with `*`: the first hundred. Nobody can know whom they mean.
    pub obfuscated_rows: Vec<BadRow>,
    /// How many there are.
    pub obfuscated: usize,
    /// Rows that ask for nothing.
    pub noop: usize,
    /// Names that came twice: the harsher row counts.
    pub repeated: usize,
    /// Rows that would cover this relay itself.
    pub ours: usize,
}

impl Left {
    /// Whether a text with this is taken only if it was said that what cannot be read is left out.
    #[must_use]
    pub fn is_in_the_way(&self) -> bool {
        self.bad_count > 0 || self.obfuscated > 0
    }

    /// The same in words, each row by its line.
    #[must_use]
    pub fn said(&self) -> String {
        let line = |row: &BadRow| {
            let column = row.column.map_or(String::new(), |name| format!(", column {name}"));
            format!("\n  line {}{column}: {}", row.line, row.why)
        };
        let rows: String = self.bad.iter().chain(&self.obfuscated_rows).map(line).collect();
        let count = self.bad_count + self.obfuscated;
        let rows_are = if count == 1 { "row is" } else { "rows are" };
        format!(
            "{count} {rows_are} bad or obfuscated, so nothing is changed; mend the list, or take its other rows with \
             --skip-bad:{rows}"
        )
    }
}

/// What a text would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rules.
    pub diff: Diff,
    /// What is not taken of it.
    pub left: Left,
}

/// What waits to be looked at of a followed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The list.
    pub feed: ListFeed,
    /// Which text.
    pub version: ListVersion,
    /// What it would change.
    pub plan: Plan,
}

impl Review {
    /// Whether it changes so much that it has to be approved.
    #[must_use]
    pub fn is_over_the_brake(&self) -> bool {
        self.plan.diff.share() > BRAKE
    }

    /// Whether it holds rows that cannot be read, and nobody said that those are left out.
    #[must_use]
    pub fn is_hindered(&self) -> bool {
        self.plan.left.is_in_the_way() && !self.feed.skip_bad
    }
}

/// What is said of a text that is to be applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consent {
    /// It is this one.
    pub version: Option<String>,
    /// Whatever it changes. Only together with a version: nobody approves what they have not seen.
    pub approve: bool,
    /// Its good rows, although there are others.
    pub skip_bad: bool,
}

/// What may be changed of a list that is followed. `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Where it is published.
    pub url: Option<String>,
    /// What rows ask for that do not say.
    pub severity: Option<Severity>,
    /// Whether it may apply itself.
    pub auto: Option<bool>,
    /// Whether rows that cannot be read are left out.
    pub skip_bad: Option<bool>,
}

impl Relay {
    /// What a list with these bytes, by this source, would change. `replace`: what it does not have any more goes.
    ///
    /// # Errors
    /// If it is no list at all.
    pub fn plan(&self, bytes: &[u8], source: &Source, otherwise: Severity, replace: bool) -> Result<Plan, ListError> {
        let mut list = lists::parse(bytes).map_err(|fault| ListError::Unfit(fault.to_string()))?;
        let rows = list.rows.len();
        // Somebody's list may name us, or a domain above us. That is for us to know and not to do.
        list.rows.retain(|row| !self.is_ours(&row.name));
        let ours = rows - list.rows.len();
        let diff = lists::diff(&list, source, otherwise, replace, &self.0.rules.set(), self.0.clock.now());
        let left = Left {
            bad: list.bad,
            bad_count: list.bad_count,
            obfuscated_rows: list.obfuscated,
            obfuscated: list.obfuscated_count,
            noop: list.noop,
            repeated: list.repeated,
            ours,
        };
        Ok(Plan { diff, left })
    }

    /// The lists that are followed, by their names.
    ///
    /// # Errors
    /// The store's.
    pub fn feeds(&self) -> Result<Vec<(String, ListFeed)>, StoreError> {
        self.0.store.all()
    }

    /// Follows a list. Nothing of it is applied before somebody says so, unless it may apply itself.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn follow_list(&self, name: &str, feed: ListFeed, act: &Act) -> Result<ListFeed, ListError> {
        Source::list(name).map_err(|fault| ListError::Unfit(fault.to_string()))?;
        let feed = ListFeed { url: self.address(&feed.url)?, added: self.0.clock.now(), ..feed };
        let (key, row, act) = (name.to_owned(), feed.clone(), act.clone());
        let write = move |tx: &mut Tx<'_>| {
            tx.audit(&act, "list.follow", &key, Value::Null, json!({ "url": row.url, "auto": row.auto }))?;
            tx.add_feed(&key, &row)
        };
        self.0.store.write(write).await?;
        Ok(feed)
    }

    /// Changes how a list is followed. What it says is looked at anew then.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn set_list(&self, name: &str, wishes: Wishes, act: &Act) -> Result<ListFeed, ListError> {
        let url = wishes.url.as_deref().map(|url| self.address(url)).transpose()?;
        let _turn = self.turn_of(name).await;
        let before = self.feed(name)?;
        let mut feed = before.clone();
        if let Some(url) = url.filter(|url| *url != feed.url) {
            // What is here was published elsewhere.
            (feed.url, feed.etag, feed.asked_at, feed.fetched, feed.applied) = (url, None, None, None, None);
            (feed.failures, feed.trouble) = (0, None);
        }
        feed.severity = wishes.severity.unwrap_or(feed.severity);
        feed.auto = wishes.auto.unwrap_or(feed.auto);
        feed.skip_bad = wishes.skip_bad.unwrap_or(feed.skip_bad);
        if (feed.severity, feed.skip_bad) != (before.severity, before.skip_bad) && feed.fetched.is_some() {
            feed.applied = None;
            feed.trouble = Some(format!("it is read otherwise now: `shearwater admin lists review {name}`"));
        }
        let (key, row, act) = (name.to_owned(), feed.clone(), act.clone());
        let told = |feed: &ListFeed| json!({ "url": feed.url, "severity": feed.severity, "auto": feed.auto, "skip_bad": feed.skip_bad });
        let (before, after) = (told(&before), told(&feed));
        let write = move |tx: &mut Tx<'_>| {
            tx.audit(&act, "list.set", &key, before, after)?;
            if row.fetched.is_none() {
                tx.remove::<ListText>(&key)?;
            }
            tx.put(&key, &row)
        };
        self.0.store.write(write).await?;
        Ok(feed)
    }

    /// An address that a list may be followed by.
    fn address(&self, text: &str) -> Result<String, ListError> {
        let url = feed_url(text).map_err(ListError::Unfit)?;
        let checked = self.0.signed.client().guard().check_url(&url);
        checked.map_err(|refused| ListError::Unfit(format!("{text:?} is no address that is asked: {refused}")))?;
        Ok(url.to_string())
    }

    /// Whoever has it may do something with the list.
    pub(super) async fn turn_of(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lists.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits for these.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(name.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Follows a list no more. The rules that it brought go as well, unless they are to be kept.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn unfollow_list(&self, name: &str, keep_rules: bool, act: &Act) -> Result<Impact, ListError> {
        let _turn = self.turn_of(name).await;
        let feed = self.feed(name)?;
        let changes = if keep_rules { Vec::new() } else { self.rules_of(name)? };
        if changes.len() > PER_WRITE {
            // They go in several steps. Until the last of them it is no list that stands as it should.
            let key = name.to_owned();
            let mark = move |feed: &mut ListFeed| {
                (feed.auto, feed.applied) = (false, None);
                feed.trouble = Some(format!("it is being let go: `shearwater admin lists remove {key}`"));
            };
            let key = name.to_owned();
            self.0.store.write(move |tx| tx.change_feed(&key, mark).map(drop)).await?;
        }
        let (key, noted) = (name.to_owned(), act.clone());
        let also: Also = Box::new(move |tx| {
            tx.audit(&noted, "list.unfollow", &key, json!({ "url": feed.url }), json!({ "rules_kept": keep_rules }))?;
            tx.remove_feed(&key).map(drop)
        });
        Ok(self.change_rules_with(changes, act, Some(also)).await?)
    }

    /// The changes that take out what a list brought.
    ///
    /// # Errors
    /// If the name is none.
    pub fn rules_of(&self, name: &str) -> Result<Vec<RuleChange>, ListError> {
        let source = Source::list(name).map_err(|fault| ListError::Unfit(fault.to_string()))?;
        let rules = self.0.rules.set();
        let of_list = rules.iter().filter(|one| one.rule.source == source);
        Ok(of_list.map(|one| RuleChange::Remove(one.rule.target.clone(), source.clone())).collect())
    }

    pub(super) fn feed(&self, name: &str) -> Result<ListFeed, ListError> {
        self.0.store.get::<ListFeed>(name)?.ok_or_else(|| ListError::Unknown(name.to_owned()))
    }

    /// How a list stands.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn followed(&self, name: &str) -> Result<ListFeed, ListError> {
        self.feed(name)
    }

    /// What waits of a list to be looked at. `None`: nothing, its rules are what it says.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn review(&self, name: &str) -> Result<Option<Review>, ListError> {
        let feed = self.feed(name)?;
        if !feed.waits() {
            return Ok(None);
        }
        self.review_of(name, feed).await.map(Some)
    }

    async fn review_of(&self, name: &str, feed: ListFeed) -> Result<Review, ListError> {
        let (relay, name) = (self.clone(), name.to_owned());
        let read = move || {
            let gone =
                || ListError::Conflict(format!("{name} was not fetched yet: `shearwater admin lists fetch {name}`"));
            let at = feed.fetched.as_ref().map(|one| one.at).ok_or_else(gone)?;
            let text = relay.0.store.get::<ListText>(&name)?.ok_or_else(gone)?;
            let source = Source::list(&name).map_err(|fault| ListError::Unfit(fault.to_string()))?;
            let plan = relay.plan(text.text.as_bytes(), &source, feed.severity, true)?;
            // Of the very text that the plan was made of.
            Ok(Review { version: ListVersion { version: version_of(&text.text), at }, feed, plan })
        };
        tokio::task::spawn_blocking(read).await?
    }

    /// Applies what was looked at.
    ///
    /// # Errors
    /// [`ListError`]: among others that it changes too much, or that another text came since.
    pub async fn apply_list(&self, name: &str, consent: &Consent, act: &Act) -> Result<(Review, Impact), ListError> {
        let _turn = self.turn_of(name).await;
        let review = self.may_apply(name, consent).await?;
        let impact = self.carry_out(name, &review.version, &review.plan.diff, true, act).await?;
        Ok((review, impact))
    }

    /// What would be applied, if it may be.
    ///
    /// # Errors
    /// As [`Relay::apply_list`].
    pub async fn may_apply(&self, name: &str, consent: &Consent) -> Result<Review, ListError> {
        if consent.approve && consent.version.is_none() {
            return Err(ListError::Unsaid(format!(
                "what is approved is one text, so name its version: `shearwater admin lists review {name}` prints the command"
            )));
        }
        let review = self.review_of(name, self.feed(name)?).await?;
        if consent.version.as_ref().is_some_and(|version| *version != review.version.version) {
            return Err(ListError::Conflict(format!(
                "{name} changed since: it is version {} now. Look at it again: `shearwater admin lists review {name}`",
                review.version.version
            )));
        }
        if review.is_hindered() && !consent.skip_bad {
            return Err(ListError::Unfit(review.plan.left.said()));
        }
        if review.is_over_the_brake() && !consent.approve {
            return Err(ListError::Conflict(format!(
                "{name} would change {}, and more than {BRAKE} % has to be approved. Look at it: `shearwater admin lists \
                 review {name}`, which prints the command with --approve",
                share_of(&review.plan.diff)
            )));
        }
        Ok(review)
    }

    /// Makes the rules of a text. `wholly`: nothing of it is left to be looked at.
    pub(super) async fn carry_out(
        &self,
        name: &str,
        version: &ListVersion,
        diff: &Diff,
        wholly: bool,
        act: &Act,
    ) -> Result<Impact, ListError> {
        let (key, noted, at) = (name.to_owned(), act.clone(), self.0.clock.now());
        let version = version.version.clone();
        let also: Also = Box::new(move |tx| {
            let Some(mut feed) = tx.get::<ListFeed>(&key)? else { return Ok(()) };
            let before = json!(feed.applied.as_ref().map(|one| one.version.clone()));
            if !wholly {
                return tx.audit(&noted, "list.apply", &key, before, json!({ "version": version, "comments": false }));
            }
            tx.audit(&noted, "list.apply", &key, before, json!(version))?;
            if let Some(fetched) = &mut feed.fetched {
                fetched.version.clone_from(&version);
            }
            (feed.applied, feed.trouble) = (Some(ListVersion { version, at }), None);
            tx.put(&key, &feed)
        });
        Ok(self.change_rules_with(diff.changes(), act, Some(also)).await?)
    }
}

/// How much of what a list brought is changed, in words.
#[must_use]
pub fn share_of(diff: &Diff) -> String {
    format!(
        "{} % of what it brought ({} new, {} changed, {} taken out)",
        diff.share(),
        diff.add.len(),
        diff.change.len(),
        diff.remove.len()
    )
}
