//! What was acknowledged survives `kill -9` in the middle of a fan-out. The witnesses (the senders' record of 202s and the
//! receivers' receipts) live in this process, which is not the one that is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shearwater::demo::{Family, Instance, Options, PostSpec};

use crate::serving::Running;
use crate::support::{LONG, eventually, place_keys, receipts_of};

#[tokio::test(flavor = "multi_thread")]
async fn every_202_reaches_every_subscriber_although_the_relay_is_killed_in_the_middle() {
    let dir = tempfile::tempdir().expect("a folder");
    place_keys(&dir.path().join("data"));
    let mut running = Running::start(dir.path(), |command| {
        command.env("SHEARWATER_DELIVERY__SAVE_EVERY", "200ms");
    });
    let (url, listen) = (running.url(), running.endpoints["http"].as_str().expect("an address").to_owned());
    let poster = Arc::new(joined(&url, Family::Mastodon, "poster").await);
    let mut readers = Vec::new();
    for (index, family) in [Family::Mastodon, Family::Misskey, Family::Akkoma, Family::GoToSocial].into_iter().enumerate() {
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
    for round in 0..4 {
        // Somewhere in the middle: some of the posts of this round are delivered, some not.
        let seen = readers[0].received().len();
        eventually("a fan-out under way", || readers[0].received().len() > seen + 10 * (round + 1)).await;
        running.child.kill().expect("killed");
        running.child.wait().expect("a status");
        running = Running::start(dir.path(), |command| {
            command.env("SHEARWATER_DELIVERY__SAVE_EVERY", "200ms").env("SHEARWATER_HTTP__LISTEN", &listen);
        });
        assert_eq!(running.url(), url);
    }
    stop.store(true, Ordering::SeqCst);
    let acknowledged: Vec<String> = sending.join_all().await.into_iter().flatten().collect();
    assert!(acknowledged.len() > 40, "only {} posts: too few to prove anything", acknowledged.len());

    for reader in &readers {
        let missing = || -> Vec<&String> {
            let received = reader.received();
            let objects: std::collections::HashSet<&str> =
                received.iter().filter(|one| one.outcome.is_taken()).filter_map(|one| one.object.as_deref()).collect();
            acknowledged.iter().filter(|id| !objects.contains(id.as_str())).collect()
        };
        eventually(&format!("all of {} at {}", acknowledged.len(), reader.name()), || missing().is_empty()).await;
        // What was sent since the places reached were last written may come twice, and nothing else.
        let again = acknowledged.iter().filter(|id| receipts_of(reader, id).iter().filter(|one| one.outcome.is_taken()).count() > 1).count();
        assert!(again <= acknowledged.len() / 2, "{again} of {} came twice to {}", acknowledged.len(), reader.name());
    }
}

async fn joined(url: &str, family: Family, name: &str) -> Instance {
    let instance = Instance::start(family, Options { name: name.to_owned(), ..Options::default() }).await.expect("an instance");
    instance.join(url).await.expect("an answer");
    assert!(instance.wait_accepted(LONG).await, "{name} is accepted");
    instance
}
