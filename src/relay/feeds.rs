//! Lists that are followed are fetched: once a day, or when the operator says so; and applied where they may apply themselves.
//!
//! Promises: a list that cannot be fetched, or says nonsense, leaves its rules as they were. That it is asked for is written
//! down before it is asked, and two who want the same are answered by one request. A list that may apply itself only adds
//! and sharpens rules: below the brake, where nobody who is here is touched, and without its publisher's words, which are
//! told in the operator's name and so are looked at first.
//!
//! A publisher is a stranger: its text is bounded (`policy::lists`), its answer goes through the address guard, redirects stay
//! within https, and it is asked no oftener than once a day, or twice a minute by command, whatever name the list has.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::Relay;
pub(super) use super::lists::Desk;
use super::lists::ListError;
use crate::clock::Timestamp;
use crate::net::{Answer, NetFault, Outgoing};
use crate::policy::lists;
use crate::store::{Act, ListFeed, ListText, ListVersion, Tx};
use crate::supervise::Worker;

/// How often a list is asked for, and after what time again when it could not be had: doubled each time, up to the first.
const EVERY: Duration = Duration::from_secs(24 * 3600);
const RETRY: Duration = Duration::from_secs(3600);
/// How often it is looked whether one is due.
const POLL: Duration = Duration::from_secs(60);
/// One request, from name look-up to the last byte: lists are of megabytes, and some publishers slow.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How soon one address may be asked again, and how often one host may be within [`LATELY`].
const LEAST_GAP: Duration = Duration::from_secs(30);
const OF_HOST: usize = 30;
const LATELY: Duration = Duration::from_secs(600);
const REDIRECTS: usize = 3;
/// The longest address, and the longest `ETag` that is kept, in bytes.
const MAX_URL: usize = 1000;
const MAX_ETAG: usize = 256;

/// What came of asking for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Came {
    /// It is as it was.
    Same,
    /// A text.
    Text { text: String, etag: Option<String> },
}

/// Which addresses were asked lately. Kept whether the list is followed still or not.
#[derive(Debug, Default)]
pub(super) struct Asks(VecDeque<(Timestamp, Url)>);

impl Asks {
    /// Notes that `url` is asked now, if it may be.
    fn take(&mut self, url: &Url, now: Timestamp) -> Result<(), String> {
        self.0.retain(|(at, _)| now.since(*at) < LATELY);
        if self.0.iter().any(|(at, asked)| asked == url && now.since(*at) < LEAST_GAP) {
            return Err("was asked for just now; try again in half a minute".to_owned());
        }
        if self.0.iter().filter(|(_, asked)| asked.host() == url.host()).count() >= OF_HOST {
            return Err("is on a host that was asked often; try again in ten minutes".to_owned());
        }
        self.0.push_back((now, url.clone()));
        Ok(())
    }
}

impl Relay {
    /// Asks for a list now, and applies it where it may apply itself. How it stands then. `by`: who wants it, if it is not
    /// because it is due. Who comes while it is asked for waits for what comes of that.
    ///
    /// # Errors
    /// [`ListError`]; that it could not be had is none, but stands in [`ListFeed::trouble`].
    pub async fn fetch_list(&self, name: &str, by: Option<&Act>) -> Result<ListFeed, ListError> {
        let (relay, name, by) = (self.clone(), name.to_owned(), by.cloned());
        // Whoever hangs up does not leave it half done.
        self.0.supervisor.spawn(async move { Box::pin(relay.fetch_once(&name, by.as_ref())).await }).await?
    }

    async fn fetch_once(&self, name: &str, by: Option<&Act>) -> Result<ListFeed, ListError> {
        let before = self.feed(name)?.asked_at;
        let _turn = self.turn_of(name).await;
        let (feed, now) = (self.feed(name)?, self.0.clock.now());
        if feed.asked_at != before {
            return Ok(feed);
        }
        let url = feed_url(&feed.url).map_err(ListError::Unfit)?;
        let may = self.0.lists.asks.lock().unwrap_or_else(PoisonError::into_inner).take(&url, now);
        may.map_err(|why| ListError::Conflict(format!("{name} {why}")))?;
        self.note_asked(name, &feed, by, now).await?;
        let came = {
            let _place = self.0.lists.fetching.acquire().await;
            Box::pin(self.ask_for(&feed)).await
        };
        self.note_fetch(name, &feed, came, now).await?;
        if feed.auto {
            self.apply_itself(name, by).await?;
        }
        self.feed(name)
    }

    /// Before it is asked, so that however this ends it is not asked again at once. Until something came it counts as a
    /// failure, and is tried again as soon as one.
    async fn note_asked(&self, name: &str, feed: &ListFeed, by: Option<&Act>, now: Timestamp) -> Result<(), ListError> {
        let (key, by, url) = (name.to_owned(), by.cloned(), feed.url.clone());
        let write = move |tx: &mut Tx<'_>| {
            if let Some(act) = &by {
                tx.audit(act, "list.fetch", &key, Value::Null, json!({ "url": url }))?;
            }
            let asked = |feed: &mut ListFeed| {
                (feed.asked_at, feed.failures) = (Some(now), feed.failures.saturating_add(1));
            };
            tx.change_feed(&key, asked).map(drop)
        };
        Ok(self.0.store.write(write).await?)
    }

    async fn note_fetch(
        &self,
        name: &str,
        asked: &ListFeed,
        came: Result<Came, String>,
        now: Timestamp,
    ) -> Result<(), ListError> {
        let (key, url) = (name.to_owned(), asked.url.clone());
        let check = move || {
            came.and_then(|came| match came {
                Came::Text { text, etag } => {
                    let list =
                        lists::parse(text.as_bytes()).map_err(|fault| format!("what came is no list: {fault}"))?;
                    // A page of an error, or a list that was emptied by a slip: it would take out all that it brought.
                    if list.rows.is_empty() {
                        return Err("what came names no server".to_owned());
                    }
                    Ok(Some((version_of(&text), text, etag)))
                }
                Came::Same => Ok(None),
            })
        };
        let checked = tokio::task::spawn_blocking(check).await?;
        if let Err(why) = &checked {
            tracing::warn!(list = name, why, "a list could not be fetched");
        }
        let write = move |tx: &mut Tx<'_>| {
            // It may be published elsewhere by now.
            let Some(mut feed) = tx.get::<ListFeed>(&key)?.filter(|feed| feed.url == url) else { return Ok(()) };
            match checked {
                Ok(new) => {
                    (feed.failures, feed.trouble) = (0, None);
                    if let Some((version, text, etag)) = new {
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
                // It was counted when it was asked.
                Err(why) => feed.trouble = Some(why),
            }
            tx.put(&key, &feed)
        };
        Ok(self.0.store.write(write).await?)
    }

    /// Applies what came where it takes nothing back, changes little and touches nobody who is here; else says what is to be
    /// done.
    async fn apply_itself(&self, name: &str, by: Option<&Act>) -> Result<(), ListError> {
        let Some(review) = self.review(name).await? else { return Ok(()) };
        let (diff, comments) = review.plan.diff.without_comments();
        let milder = diff.milder();
        let why = if review.is_hindered() {
            "some of its rows are bad or obfuscated".to_owned()
        } else if diff.share() > lists::BRAKE {
            format!("it changes {} % of what the list brought", diff.share())
        } else if milder > 0 {
            format!("it takes back what it said of {milder}")
        } else {
            let (_after, impact) = self.weigh(Arc::new(diff.changes())).await?;
            match impact.touched() {
                0 => String::new(),
                touched => format!("it touches {touched} who are here"),
            }
        };
        let why = if why.is_empty() {
            let who = by.map_or(String::new(), |by| format!("; it was fetched for {}", by.who));
            let act = Act::relay(&format!("the list applies itself{who}"));
            if comments == 0 || !diff.changes().is_empty() {
                self.carry_out(name, &review.version, &diff, comments == 0, &act).await?;
                let version = review.version.version;
                tracing::info!(list = name, version, comments, "a list was applied by itself");
            }
            if comments == 0 {
                return Ok(());
            }
            format!("its rules are applied, and {comments} comments are to be read before others are told them")
        } else {
            format!("a new text waits, since {why}")
        };
        let (key, why) = (name.to_owned(), format!("{why}: `shearwater admin lists review {name}`"));
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
pub(super) fn feed_url(text: &str) -> Result<Url, String> {
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

/// The name of a text: who looked at one has looked at no other.
pub(super) fn version_of(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
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
pub(super) struct ListKeeper {
    relay: Relay,
}

impl ListKeeper {
    /// A worker.
    #[must_use]
    pub(super) fn new(relay: Relay) -> Self {
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
        match self.relay.fetch_list(&name, None).await {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Severity;

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
        assert_eq!(version_of("a").len(), 64, "what is compared is all of it");
        assert!(version_of("a").starts_with("ca978112ca1b"));
    }

    #[test]
    fn one_address_is_asked_twice_a_minute_and_one_host_thirty_times_in_ten_whatever_lists_are_called() {
        let (mut asks, at) = (Asks::default(), |seconds: u64| NOON.plus(Duration::from_secs(seconds)));
        let url = |path: usize| feed_url(&format!("https://lists.example/{path}")).unwrap();
        assert!(asks.take(&url(0), at(0)).is_ok());
        assert!(asks.take(&url(0), at(29)).is_err_and(|why| why.contains("half a minute")));
        assert!(asks.take(&url(0), at(30)).is_ok());
        let taken = (1..100).filter(|path| asks.take(&url(*path), at(31)).is_ok()).count();
        assert_eq!(taken, OF_HOST - 2);
        assert!(asks.take(&feed_url("https://other.example/").unwrap(), at(31)).is_ok());
        assert!(asks.take(&url(0), at(631)).is_ok());
        assert_eq!(asks.0.len(), 1, "nothing is remembered longer");
    }
}
