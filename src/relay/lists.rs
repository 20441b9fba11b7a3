//! Lists of servers that others publish, taken in: what a text would change ([`Relay::plan`]), and lists that are followed by
//! their address: fetched once a day, looked at by the operator, applied on their word.
//!
//! Promises: a text with a row that cannot be read changes nothing, unless it was said beforehand that such rows are left
//! out; nor does one that would change more than [`BRAKE`] percent of what the list brought, unless it is approved; what is
//! applied is the very text that was looked at. A list that may apply itself does so below the brake, and only where nobody
//! who is here is touched. A list that cannot be fetched, or says nonsense, leaves its rules as they were.
//!
//! A publisher is a stranger: its text is bounded (`policy::lists`), its answer goes through the address guard, redirects stay
//! within https, and it is asked no oftener than once a day.

use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use url::Url;
use utoipa::ToSchema;

use super::Relay;
use super::enforce::Impact;
use crate::clock::Timestamp;
use crate::net::{Answer, NetFault, Outgoing};
use crate::policy::lists::{self, BRAKE, BadRow, Diff};
use crate::store::{Act, ListFeed, ListText, ListVersion, Rule, RuleChange, Severity, Source, StoreError, Tx};
use crate::supervise::Worker;

/// How often a list is asked for, and after what time again when it could not be had: doubled each time, up to the first.
const EVERY: Duration = Duration::from_secs(24 * 3600);
const RETRY: Duration = Duration::from_secs(3600);
/// How often it is looked whether one is due.
const POLL: Duration = Duration::from_secs(60);
/// One request, from name look-up to the last byte: lists are of megabytes, and some publishers slow.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How soon the operator may have a list fetched again.
const LEAST_GAP: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 3;
/// The longest address, and the longest `ETag` that is kept, in bytes.
const MAX_URL: usize = 1000;
const MAX_ETAG: usize = 256;

/// Why a command about lists is not carried out. Nothing has changed then.
#[derive(Debug, Error)]
pub enum ListError {
    /// No list of this name is followed.
    #[error("no list called {0} is followed; `shearwater admin lists` shows those that are")]
    Unknown(String),
    /// It cannot be, as things stand.
    #[error("{0}")]
    Conflict(String),
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
}

/// What came of asking for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Came {
    /// It is as it was.
    Same,
    /// A text.
    Text { text: String, etag: Option<String> },
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
        let url = feed_url(&feed.url).map_err(ListError::Unfit)?;
        self.0
            .signed
            .client()
            .guard()
            .check_url(&url)
            .map_err(|refused| ListError::Unfit(format!("{:?} is no address that is asked: {refused}", feed.url)))?;
        let feed = ListFeed { url: url.to_string(), added: self.0.clock.now(), ..feed };
        let (key, row, act) = (name.to_owned(), feed.clone(), act.clone());
        let write = move |tx: &mut Tx<'_>| {
            tx.audit(&act, "list.follow", &key, Value::Null, json!({ "url": row.url, "auto": row.auto }))?;
            tx.add_feed(&key, &row)
        };
        self.0.store.write(write).await?;
        Ok(feed)
    }

    /// Follows a list no more. The rules that it brought go as well, unless they are to be kept.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn unfollow_list(&self, name: &str, keep_rules: bool, act: &Act) -> Result<Impact, ListError> {
        let feed = self.feed(name)?;
        let changes = if keep_rules { Vec::new() } else { self.rules_of(name)? };
        // The rules first: a list that is followed still brings them again, rules that nobody follows stay for ever.
        let impact = if changes.is_empty() { Impact::default() } else { self.change_rules(changes, act).await? };
        let (key, act) = (name.to_owned(), act.clone());
        let write = move |tx: &mut Tx<'_>| {
            tx.audit(&act, "list.unfollow", &key, json!({ "url": feed.url }), json!({ "rules_kept": keep_rules }))?;
            tx.remove_feed(&key).map(drop)
        };
        self.0.store.write(write).await?;
        Ok(impact)
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

    fn feed(&self, name: &str) -> Result<ListFeed, ListError> {
        self.0.store.get::<ListFeed>(name)?.ok_or_else(|| ListError::Unknown(name.to_owned()))
    }

    /// What waits of a list to be looked at. `None`: nothing, its rules are what it says.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn review(&self, name: &str) -> Result<Option<Review>, ListError> {
        let feed = self.feed(name)?;
        if !feed.waits() {
            return Ok(None);
        }
        self.review_of(name, feed).map(Some)
    }

    fn review_of(&self, name: &str, feed: ListFeed) -> Result<Review, ListError> {
        let gone = || ListError::Conflict(format!("{name} was not fetched yet: `shearwater admin lists fetch {name}`"));
        let version = feed.fetched.clone().ok_or_else(gone)?;
        let text = self.0.store.get::<ListText>(name)?.ok_or_else(gone)?;
        let source = Source::list(name).map_err(|fault| ListError::Unfit(fault.to_string()))?;
        let plan = self.plan(text.text.as_bytes(), &source, feed.severity, true)?;
        Ok(Review { feed, version, plan })
    }

    /// Applies what was looked at. `version`: only if it is still that text; `approved`: whatever it changes.
    ///
    /// # Errors
    /// [`ListError`]: among others that it changes too much, or that another text came since.
    pub async fn apply_list(
        &self,
        name: &str,
        version: Option<&str>,
        approved: bool,
        act: &Act,
    ) -> Result<(Review, Impact), ListError> {
        let review = self.may_apply(name, version, approved)?;
        let impact = self.carry_out(name, &review, act).await?;
        Ok((review, impact))
    }

    /// What would be applied, if it may be.
    ///
    /// # Errors
    /// As [`Relay::apply_list`].
    pub fn may_apply(&self, name: &str, version: Option<&str>, approved: bool) -> Result<Review, ListError> {
        let review = self.review_of(name, self.feed(name)?)?;
        if version.is_some_and(|version| version != review.version.version) {
            return Err(ListError::Conflict(format!(
                "{name} changed since: it is version {} now. Look at it again: `shearwater admin lists review {name}`",
                review.version.version
            )));
        }
        if review.plan.left.is_in_the_way() && !review.feed.skip_bad {
            return Err(ListError::Unfit(review.plan.left.said()));
        }
        if review.is_over_the_brake() && !approved {
            return Err(ListError::Conflict(format!(
                "{name} would change {} % of what it brought ({} new, {} changed, {} taken out), and more than {BRAKE} % has \
                 to be approved. Look at it: `shearwater admin lists review {name}`; then `shearwater admin lists apply \
                 {name} --approve`",
                review.plan.diff.share(),
                review.plan.diff.add.len(),
                review.plan.diff.change.len(),
                review.plan.diff.remove.len()
            )));
        }
        Ok(review)
    }

    async fn carry_out(&self, name: &str, review: &Review, act: &Act) -> Result<Impact, ListError> {
        let changes = review.plan.diff.changes();
        let impact = if changes.is_empty() { Impact::default() } else { self.change_rules(changes, act).await? };
        let (key, act, at) = (name.to_owned(), act.clone(), self.0.clock.now());
        let version = review.version.version.clone();
        let write = move |tx: &mut Tx<'_>| {
            let Some(mut feed) = tx.get::<ListFeed>(&key)? else { return Ok(()) };
            let before = json!(feed.applied.map(|one| one.version));
            tx.audit(&act, "list.apply", &key, before, json!(version))?;
            (feed.applied, feed.trouble) = (Some(ListVersion { version, at }), None);
            tx.put(&key, &feed)
        };
        self.0.store.write(write).await?;
        Ok(impact)
    }

    /// Asks for a list now, and applies it where it may apply itself. How it stands then.
    ///
    /// # Errors
    /// [`ListError`]; that it could not be had is none, but stands in [`ListFeed::trouble`].
    pub async fn fetch_list(&self, name: &str) -> Result<ListFeed, ListError> {
        let (feed, now) = (self.feed(name)?, self.0.clock.now());
        if feed.asked_at.is_some_and(|at| now.since(at) < LEAST_GAP) {
            return Err(ListError::Conflict(format!("{name} was asked for just now; try again in half a minute")));
        }
        let came = Box::pin(self.ask_for(&feed)).await;
        self.note_fetch(name, &feed, came, now).await?;
        if feed.auto {
            self.apply_itself(name).await?;
        }
        self.feed(name)
    }

    async fn note_fetch(
        &self,
        name: &str,
        asked: &ListFeed,
        came: Result<Came, String>,
        now: Timestamp,
    ) -> Result<(), ListError> {
        let (key, url) = (name.to_owned(), asked.url.clone());
        let checked = came.and_then(|came| match came {
            Came::Text { text, etag } => {
                let list = lists::parse(text.as_bytes()).map_err(|fault| format!("what came is no list: {fault}"))?;
                // A page of an error, or a list that was emptied by a slip: it would take out all that it brought.
                if list.rows.is_empty() {
                    return Err("what came names no server".to_owned());
                }
                Ok(Some((text, etag)))
            }
            Came::Same => Ok(None),
        });
        if let Err(why) = &checked {
            tracing::warn!(list = name, why, "a list could not be fetched");
        }
        self.0
            .store
            .write(move |tx| {
                // It may have gone, or be another of the same name by now.
                let Some(mut feed) = tx.get::<ListFeed>(&key)?.filter(|feed| feed.url == url) else { return Ok(()) };
                feed.asked_at = Some(now);
                match checked {
                    Ok(new) => {
                        (feed.failures, feed.trouble) = (0, None);
                        if let Some((text, etag)) = new {
                            let version = version_of(&text);
                            feed.etag = etag;
                            if feed.fetched.as_ref().is_none_or(|one| one.version != version) {
                                feed.fetched = Some(ListVersion { version, at: now });
                                tx.put(&key, &ListText { text })?;
                            }
                        }
                        if feed.waits() {
                            feed.trouble = Some(format!("a new text waits: `shearwater admin lists review {key}`"));
                        }
                    }
                    Err(why) => {
                        feed.failures = feed.failures.saturating_add(1);
                        feed.trouble = Some(why);
                    }
                }
                tx.put(&key, &feed)
            })
            .await?;
        Ok(())
    }

    /// Applies what came where that changes little and touches nobody who is here; else says what is to be done.
    async fn apply_itself(&self, name: &str) -> Result<(), ListError> {
        let Some(review) = self.review(name)? else { return Ok(()) };
        let after = self.rules_after(&review.plan.diff.changes())?;
        let impact = self.impact(&after)?;
        let touched =
            impact.removed.len() + impact.silenced.len() + impact.unsearched.len() + impact.search_ended.len();
        let why = if review.plan.left.is_in_the_way() && !review.feed.skip_bad {
            "some of its rows are bad or obfuscated".to_owned()
        } else if review.is_over_the_brake() {
            format!("it changes {} % of what the list brought", review.plan.diff.share())
        } else if touched > 0 || !impact.unfollowed.is_empty() {
            format!("it touches {} who are here", touched + impact.unfollowed.len())
        } else {
            self.carry_out(name, &review, &Act::relay("the list applies itself")).await?;
            tracing::info!(list = name, version = review.version.version, "a list was applied by itself");
            return Ok(());
        };
        let (key, why) =
            (name.to_owned(), format!("a new text waits, since {why}: `shearwater admin lists review {name}`"));
        self.0.store.write(move |tx| tx.change_feed(&key, |feed| feed.trouble = Some(why)).map(drop)).await?;
        Ok(())
    }

    async fn ask_for(&self, feed: &ListFeed) -> Result<Came, String> {
        let mut url = feed_url(&feed.url)?;
        for _ in 0..=REDIRECTS {
            let answer = self
                .request(&url, feed.etag.as_deref())
                .await
                .map_err(|fault| format!("it could not be had: {fault}"))?;
            match answer.status {
                200 => {
                    let etag = answer.header(&ETAG).filter(|etag| etag.len() <= MAX_ETAG).map(str::to_owned);
                    let text = String::from_utf8(answer.body.to_vec())
                        .map_err(|_fault| "what came is no text in UTF-8".to_owned())?;
                    return Ok(Came::Text { text, etag });
                }
                304 if feed.etag.is_some() => return Ok(Came::Same),
                301 | 302 | 303 | 307 | 308 => url = led_to(&url, answer.header(&LOCATION).unwrap_or_default())?,
                status => return Err(format!("its server answers {status}")),
            }
        }
        Err(format!("its address leads on more than {REDIRECTS} times"))
    }

    async fn request(&self, url: &Url, etag: Option<&str>) -> Result<Answer, NetFault> {
        let mut headers = vec![(ACCEPT, HeaderValue::from_static("text/csv, text/plain;q=0.9, */*;q=0.1"))];
        headers.extend(etag.and_then(|etag| HeaderValue::from_str(etag).ok()).map(|etag| (IF_NONE_MATCH, etag)));
        let request = Outgoing {
            method: Method::GET,
            url: url.clone(),
            headers,
            body: None,
            timeout: TIMEOUT,
            read_limit: lists::MAX_BYTES,
            strict: true,
        };
        self.0.signed.client().send(request).await
    }
}

/// An address that a list may be followed by.
fn feed_url(text: &str) -> Result<Url, String> {
    let no = |why: &str| Err(format!("{text:?} is no address of a list: {why}"));
    if text.len() > MAX_URL {
        return no("it is too long");
    }
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "https" | "http") => no("it begins with neither https:// nor http://"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => no("it holds a name or a password"),
        Ok(mut url) => {
            url.set_fragment(None);
            Ok(url)
        }
        Err(fault) => no(&fault.to_string()),
    }
}

fn led_to(from: &Url, location: &str) -> Result<Url, String> {
    let to = from.join(location).map_err(|_fault| "its address leads to what is no address".to_owned())?;
    if to.scheme() != from.scheme() {
        return Err("its address leads to another scheme".to_owned());
    }
    feed_url(to.as_str())
}

fn version_of(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// When a list is to be asked for again.
fn due_at(feed: &ListFeed) -> Timestamp {
    let gap = match feed.failures {
        0 => EVERY,
        failures => RETRY.saturating_mul(1 << (failures - 1).min(5)).min(EVERY),
    };
    feed.asked_at.map_or(Timestamp::default(), |at| at.plus(gap))
}

/// Asks for lists when they are due, one after the other.
pub struct ListKeeper {
    relay: Relay,
}

impl ListKeeper {
    /// A worker.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self { relay }
    }
}

impl Worker for ListKeeper {
    fn name(&self) -> &'static str {
        "lists"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let now = self.relay.0.clock.now();
        let feeds = self.relay.feeds().context("reading which lists are followed")?;
        let Some((name, _)) =
            feeds.into_iter().filter(|(_, feed)| due_at(feed) <= now).min_by_key(|(_, feed)| feed.asked_at)
        else {
            return Ok(false);
        };
        match self.relay.fetch_list(&name).await {
            Ok(_) => Ok(true),
            // It went, or was asked for, meanwhile; or what it says cannot be a rule. That is for the operator to see.
            Err(ListError::Unknown(_) | ListError::Conflict(_)) => Ok(false),
            Err(error) => {
                tracing::warn!(list = name, %error, "a list could not be applied");
                Ok(false)
            }
        }
    }

    async fn wait(&mut self) {
        tokio::time::sleep(POLL).await;
    }
}

/// What a change of the rules would mean, for a [`Plan`]: the rules in words.
#[must_use]
pub fn in_words(rules: &[Rule]) -> Vec<String> {
    rules.iter().map(Rule::in_words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    #[test]
    fn a_list_is_asked_for_once_a_day_and_sooner_after_a_failure() {
        let check = |failures: u32, hours: u64| {
            let feed = ListFeed { failures, asked_at: Some(NOON), ..feed() };
            assert_eq!(due_at(&feed).since(NOON), Duration::from_secs(hours * 3600), "{failures}");
        };
        check(0, 24);
        check(1, 1);
        check(2, 2);
        check(5, 16);
        check(6, 24);
        check(4_000_000_000, 24);
        assert!(due_at(&feed()) < NOON, "a new one at once");
    }

    fn feed() -> ListFeed {
        ListFeed {
            url: "https://lists.example/block.csv".to_owned(),
            severity: Severity::Block,
            auto: false,
            skip_bad: false,
            added: NOON,
            etag: None,
            asked_at: None,
            failures: 0,
            trouble: None,
            fetched: None,
            applied: None,
        }
    }

    #[test]
    fn an_address_of_a_list_is_plain_and_leads_nowhere_else_than_on() {
        for good in
            ["https://lists.example/block.csv", "https://lists.example/raw?token=1#top", "http://127.0.0.1:81/l"]
        {
            assert!(!feed_url(good).unwrap().as_str().contains('#'), "{good}");
        }
        let long = format!("https://lists.example/{}", "x".repeat(MAX_URL));
        for bad in ["", "lists.example", "file:///etc/passwd", "ftp://a.example/x", "https://me:pass@a.example/", &long]
        {
            assert!(feed_url(bad).is_err(), "{bad}");
        }
        let from = feed_url("https://lists.example/a/block.csv").unwrap();
        assert_eq!(led_to(&from, "../b.csv").unwrap().as_str(), "https://lists.example/b.csv");
        assert_eq!(led_to(&from, "https://other.example/").unwrap().as_str(), "https://other.example/");
        for bad in ["http://lists.example/", "file:///etc/passwd", "https://a:b@other.example/", "https://[::"] {
            assert!(led_to(&from, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_waits_until_the_rules_are_made_of_it() {
        let version = |version: &str| Some(ListVersion { version: version.to_owned(), at: NOON });
        assert!(!feed().waits());
        assert!(ListFeed { fetched: version("1"), ..feed() }.waits());
        assert!(ListFeed { fetched: version("2"), applied: version("1"), ..feed() }.waits());
        assert!(!ListFeed { fetched: version("2"), applied: version("2"), ..feed() }.waits());
        assert_eq!(version_of("a"), "ca978112ca1b");
    }
}
