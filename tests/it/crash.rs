//! What was acknowledged survives `kill -9` in the middle of a fan-out. The witnesses (the senders' record of 202s and the
//! receivers' receipts) live in this process, which is not the one that is killed.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use shearwater::clock::Clock;
use shearwater::demo::{Family, Instance, Options, PostSpec};
use shearwater::log::Log;
use shearwater::store::{CursorBook, Store};

use crate::serving::Running;
use crate::support::{LONG, authority, eventually, place_keys};

#[tokio::test(flavor = "multi_thread")]
async fn every_202_reaches_every_subscriber_although_the_relay_is_killed_in_the_middle() {
    let dir = tempfile::tempdir().expect("a folder");
    place_keys(&dir.path().join("data"));
    let mut running = Running::start(dir.path(), |command| {
        command.env("SHEARWATER_DELIVERY__SAVE_EVERY", "200ms").env("SHEARWATER_DELIVERY__RAMP", "0s");
    });
    let (url, listen) = (running.url(), running.endpoints["http"].as_str().expect("an address").to_owned());
    let poster = Arc::new(joined(&url, Family::Mastodon, "poster").await);
    let mut readers = Vec::new();
    for (index, family) in
        [Family::Mastodon, Family::Misskey, Family::Akkoma, Family::Friendica].into_iter().enumerate()
    {
        readers.push(joined(&url, family, &format!("reader {index}")).await);
    }

    let stop = Arc::new(AtomicBool::new(false));
    let mut sending = tokio::task::JoinSet::new();
    for lane in 0..4 {
        let (poster, stop) = (poster.clone(), stop.clone());
        sending.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let composed = poster.compose(&PostSpec::public(&format!("lane {lane}, post {number}")));
                match poster.send(&composed).await {
                    Ok(posted) if posted.status() == 202 => acknowledged.push(composed.id),
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            acknowledged
        });
    }
    let mut settled: Vec<Settled> = Vec::new();
    for round in 0..4 {
        // Somewhere in the middle: some of the posts of this round are delivered, some not.
        let seen = readers[0].received().len();
        eventually("a fan-out under way", || readers[0].received().len() > seen + 10 * (round + 1)).await;
        running.child.kill().expect("killed");
        running.child.wait().expect("a status");
        settled.extend(readers.iter().map(|reader| Settled::read(dir.path(), reader)));
        running = Running::start(dir.path(), |command| {
            command.env("SHEARWATER_DELIVERY__SAVE_EVERY", "200ms").env("SHEARWATER_HTTP__LISTEN", &listen);
            command.env("SHEARWATER_DELIVERY__RAMP", "0s");
        });
        assert_eq!(running.url(), url);
    }
    stop.store(true, Ordering::SeqCst);
    let acknowledged: Vec<String> = sending.join_all().await.into_iter().flatten().collect();
    assert!(acknowledged.len() > 40, "only {} posts: too few to prove anything", acknowledged.len());

    for reader in &readers {
        let missing = || -> Vec<&String> {
            let received = reader.received();
            let objects: HashSet<&str> =
                received.iter().filter(|one| one.outcome.is_taken()).filter_map(|one| one.object.as_deref()).collect();
            acknowledged.iter().filter(|id| !objects.contains(id.as_str())).collect()
        };
        eventually(&format!("all of {} at {}", acknowledged.len(), reader.name()), || missing().is_empty()).await;
    }
    // What was sent since the places reached were last written may come twice, and nothing else.
    for Settled { reader, received, done } in settled {
        let reader = readers.iter().find(|one| one.name() == reader).expect("a reader");
        let later = reader.received().into_iter().skip(received).filter_map(|one| one.object);
        let again: Vec<String> = later.filter(|id| done.contains(id)).collect();
        assert!(again.is_empty(), "written down as delivered to {} and sent again: {again:?}", reader.name());
    }
}

/// What the killed relay had written down as delivered to one reader, read from a copy of its store.
struct Settled {
    reader: String,
    received: usize,
    done: HashSet<String>,
}

impl Settled {
    fn read(dir: &Path, reader: &Instance) -> Self {
        let copy = tempfile::tempdir().expect("a folder");
        std::fs::copy(dir.join("data/shearwater.redb"), copy.path().join("shearwater.redb")).expect("copied");
        let store = Store::open(copy.path(), Clock::system()).expect("a killed store opens");
        let (log, book) = (Log::open(&store).expect("the log"), CursorBook::load(&store).expect("the places"));
        let subscriber = store.subscriber(&authority(reader)).expect("a subscriber");
        let position = book.get(subscriber.slot);
        let receipts = reader.received();
        let delivered = receipts.iter().filter(|one| one.outcome.is_taken()).filter_map(|one| one.object.clone());
        let is_done = |id: &String| {
            let digest = Sha256::digest(id.as_bytes());
            let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            log.announced(&hash).expect("the log reads").is_some_and(|entry| position.is_done(entry.seq))
        };
        Self { reader: reader.name().to_owned(), received: receipts.len(), done: delivered.filter(is_done).collect() }
    }
}

pub(crate) async fn joined(url: &str, family: Family, name: &str) -> Instance {
    let instance =
        Instance::start(family, Options { name: name.to_owned(), ..Options::default() }).await.expect("an instance");
    instance.join(url).await.expect("an answer");
    assert!(instance.wait_accepted(LONG).await, "{name} is accepted");
    instance
}
