//! The worker that takes a rotation of our keys through its steps by the clock, and tells subscribers of the new key: an
//! `Update` of our actor as a message to each, signed with the old key while there is one. That is the only way in which
//! some servers ever take a new key (Misskey, Akkoma), and what Mastodon's own `tootctl accounts rotate` does.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::Identity;
use crate::clock::Clock;
use crate::ids::{Authority, Iri};
use crate::net::Untold;
use crate::store::{ControlRow, Directive, Store, StoreError, Tx};
use crate::supervise::Worker;
use crate::wire::author::update_actor;

/// How often the clock is looked at. A switch is late by no more.
const EVERY: Duration = Duration::from_secs(1);

/// The longest that a server which was told goes on being spoken to with the old key.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What these messages are called among those to single servers.
const WHAT: &str = "update";

/// Messages written in one transaction, and rows read in one go: each holds our whole actor.
const BATCH: usize = 100;

/// The worker.
pub struct KeyKeeper {
    identity: Identity,
    store: Store,
    clock: Clock,
    tidied: bool,
    /// When it is next looked who was told, and how long after that.
    look_at: Instant,
    look_gap: Duration,
}

impl KeyKeeper {
    /// A worker.
    #[must_use]
    pub fn new(identity: Identity, store: Store, clock: Clock) -> Self {
        Self { identity, store, clock, tidied: false, look_at: Instant::now(), look_gap: EVERY }
    }

    /// One step, if one is due.
    async fn step(&self) -> anyhow::Result<bool> {
        let (rotation, now, tidied) = (self.identity.rotation.clone(), self.clock.now(), self.tidied);
        let stepping = move || -> anyhow::Result<bool> {
            if !tidied {
                rotation.tidy()?;
            }
            rotation.advance(now)
        };
        tokio::task::spawn_blocking(stepping).await.context("a step of the key rotation")?
    }

    /// Writes a message to each subscriber. After a crash in the middle some are written twice, under the same activity id.
    async fn tell(&self, pair: u32) -> anyhow::Result<()> {
        let subscribers = self.store.subscribers();
        let active = subscribers.values().filter(|one| one.is_active()).filter_map(|one| one.served());
        let targets: Vec<(Iri, Iri)> = active.map(|one| (one.inbox.clone(), one.actor.clone())).collect();
        let id = self.identity.ids.activity(WHAT, &format!("keys-{pair}"));
        let document = self.identity.document();
        for batch in targets.chunks(BATCH) {
            let letter = |(inbox, actor): &(Iri, Iri)| {
                let body = update_actor(&self.identity.ids, &id, document.clone(), actor);
                Directive {
                    inbox: inbox.clone(),
                    what: WHAT.to_owned(),
                    body: String::from_utf8(body).unwrap_or_default(),
                    from: None,
                }
            };
            let letters: Vec<Directive> = batch.iter().map(letter).collect();
            loop {
                let letters = letters.clone();
                let queue = move |tx: &mut Tx<'_>| letters.into_iter().try_for_each(|one| tx.queue_control(one));
                match self.store.write(queue).await {
                    Err(StoreError::Busy) => tokio::time::sleep(EVERY).await,
                    written => break written.context("telling subscribers of the new key")?,
                }
            }
        }
        self.look()?;
        let rotation = self.identity.rotation.clone();
        tokio::task::spawn_blocking(move || rotation.told(pair)).await.context("a step of the key rotation")??;
        tracing::info!(subscribers = targets.len(), pair, "subscribers are being told of the new key");
        Ok(())
    }

    /// Who is still to be told: those whose message is not settled.
    fn look(&self) -> Result<(), StoreError> {
        let (mut waiting, mut from) = (HashSet::<Authority>::new(), String::new());
        loop {
            let page = self.store.page::<ControlRow>(&from, BATCH)?;
            let (full, last) = (page.len() == BATCH, page.last().map(|(key, _row)| format!("{key}\0")));
            waiting.extend(page.into_iter().filter(|(_key, row)| row.what == WHAT).map(|(_key, row)| row.authority()));
            match last {
                Some(last) if full => from = last,
                _ => break,
            }
        }
        let none = waiting.is_empty() || self.identity.keys.standing().leaving.is_none();
        self.identity.keys.set_untold(if none { Untold::Nobody } else { Untold::These(waiting) });
        Ok(())
    }
}

impl Worker for KeyKeeper {
    fn name(&self) -> &'static str {
        "keys"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let stepped = self.step().await?;
        self.tidied = true;
        if let Some(pair) = self.identity.rotation.untold() {
            self.tell(pair).await?;
            (self.look_at, self.look_gap) = (Instant::now() + EVERY, EVERY);
            return Ok(true);
        }
        // Each look reads all messages to single servers, and those to dead servers stay for a week.
        if self.identity.keys.standing().untold != Untold::Nobody && self.look_at <= Instant::now() {
            self.look().context("reading who is to be told of the new key")?;
            self.look_gap = self.look_gap.saturating_mul(2).min(LOOK_EVERY);
            self.look_at = Instant::now() + self.look_gap;
        }
        Ok(stepped)
    }

    async fn wait(&mut self) {
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, data, load, second_pair, third_pair};
    use super::super::{FAREWELL, HOLD, Rotate};
    use super::*;
    use crate::store::SubscriberState;
    use crate::store::testing::subscriber;

    struct Scene {
        _dir: tempfile::TempDir,
        config: crate::config::Config,
        clock: Clock,
        store: Store,
        keeper: KeyKeeper,
    }

    impl Scene {
        async fn set() -> Self {
            let (dir, config) = data();
            let clock = Clock::manual(NOON);
            let store = Store::open(&config.data_dir, clock.clone()).unwrap();
            for (slot, host) in (0..).zip(["a.example", "b.example", "waits.example"]) {
                let state = if slot == 2 { SubscriberState::Pending } else { SubscriberState::Active };
                let one = crate::store::Subscriber { slot, state, ..subscriber(host) };
                store.write(move |tx| tx.put_subscriber(one)).await.unwrap();
            }
            let identity = load(&config, NOON).unwrap();
            let keeper = KeyKeeper::new(identity, store.clone(), clock.clone());
            Self { _dir: dir, config, clock, store, keeper }
        }

        /// Works until there is nothing to do.
        async fn work(&mut self) {
            while self.keeper.work().await.unwrap() {}
        }

        fn restart(&mut self) {
            let identity = load(&self.config, self.clock.now()).unwrap();
            self.keeper = KeyKeeper::new(identity, self.store.clone(), self.clock.clone());
        }

        fn rows(&self) -> Vec<(String, ControlRow)> {
            self.store.all().unwrap()
        }

        fn signs_for(&self, host: &str) -> String {
            let authority = Authority::parse(host).unwrap();
            self.keeper.identity.keys.signs_for(&authority).rsa.key_id().as_str().rsplit_once('#').unwrap().1.to_owned()
        }
    }

    #[tokio::test]
    async fn at_the_switch_each_subscriber_is_told_once_and_spoken_to_with_the_old_key_until_then() {
        let mut scene = Scene::set().await;
        scene.keeper.identity.rotation.rotate(Rotate::After(HOLD), NOON, second_pair).unwrap();
        scene.work().await;
        scene.clock.advance(HOLD - Duration::from_secs(1));
        scene.work().await;
        assert!(scene.rows().is_empty());
        assert_eq!(scene.signs_for("a.example"), "main-key");
        scene.clock.advance(Duration::from_secs(1));
        scene.work().await;
        let rows = scene.rows();
        let inboxes: Vec<&str> = rows.iter().map(|(_, row)| row.inbox.as_str()).collect();
        assert!(inboxes.len() == 2 && inboxes.contains(&"https://a.example/inbox"), "{inboxes:?}");
        let body: serde_json::Value = serde_json::from_str(&rows[0].1.body).unwrap();
        assert_eq!(body["object"]["publicKey"]["id"], "https://relay.example/actor#main-key-2");
        assert_eq!(body["id"], "https://relay.example/activities/update/keys-2");

        // A restart neither repeats the messages nor forgets who was not told.
        scene.restart();
        assert_eq!([scene.signs_for("a.example"), scene.signs_for("c.example")], ["main-key", "main-key"]);
        scene.work().await;
        assert_eq!(scene.rows().len(), 2);
        assert_eq!([scene.signs_for("a.example"), scene.signs_for("c.example")], ["main-key", "main-key-2"]);
        let (told, row) = rows[0].clone();
        scene.store.write(move |tx| tx.remove::<ControlRow>(&told).map(drop)).await.unwrap();
        scene.keeper.look_at = Instant::now();
        scene.work().await;
        let other = if row.authority().as_str() == "a.example" { "b.example" } else { "a.example" };
        assert_eq!([scene.signs_for(row.authority().as_str()), scene.signs_for(other)], ["main-key-2", "main-key"]);

        // Who could not be told in a week is told by the key itself.
        scene.clock.advance(FAREWELL);
        scene.work().await;
        assert_eq!(scene.signs_for(other), "main-key-2");
        assert_eq!(scene.rows().len(), 1, "nothing more is written");
    }

    #[tokio::test]
    async fn a_kill_before_the_messages_are_written_writes_them_later() {
        let mut scene = Scene::set().await;
        scene.keeper.identity.rotation.rotate(Rotate::After(HOLD), NOON, second_pair).unwrap();
        scene.clock.advance(HOLD);
        assert!(scene.keeper.identity.rotation.advance(scene.clock.now()).unwrap());
        scene.restart();
        assert_eq!(scene.signs_for("a.example"), "main-key");
        scene.work().await;
        assert_eq!(scene.rows().len(), 2);
    }

    #[tokio::test]
    async fn of_a_stolen_key_subscribers_are_told_with_the_new_one() {
        let mut scene = Scene::set().await;
        scene.keeper.identity.rotation.rotate(Rotate::Now, NOON, third_pair).unwrap();
        scene.work().await;
        assert_eq!(scene.rows().len(), 2);
        assert_eq!(scene.signs_for("a.example"), "main-key-2");
    }
}
