//! The relay's own keys change, and nobody loses a post over it.

use std::process::Command;
use std::time::Duration;

use shearwater::clock::{Clock, Timestamp};
use shearwater::demo::{Family, Instance};
use shearwater::identity::{FAREWELL, HOLD, Rotate};
use shearwater::ids::Iri;
use shearwater::net::Keys;
use shearwater::wire::key::{KeyFault, SigningKey};

use crate::serving::{Running, shearwater};
use crate::support::{TestRelay, arrival, eventually, json, place_keys, publish};

/// A pair made before: making an RSA key takes a second.
fn second_pair(rsa: Iri, ed25519: Iri) -> Result<Keys, KeyFault> {
    Ok(Keys {
        rsa: SigningKey::from_pem(rsa, include_str!("../fixtures/keys/author.rsa.pk8.pem"))?,
        ed25519: SigningKey::generate_ed25519(ed25519, &mut rand::rng())?,
    })
}

async fn actor(relay: &TestRelay, asker: &Instance) -> serde_json::Value {
    json(&asker.fetch(&format!("{}/actor", relay.url())).await.expect("an answer").body)
}

fn was_told(instance: &Instance) -> bool {
    instance
        .received()
        .iter()
        .any(|one| one.kind == "Update" && one.object.as_deref().is_some_and(|id| id.ends_with("/actor")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_signs_after_two_days_and_every_family_goes_on_reading() {
    let relay = TestRelay::start().await;
    let mut readers = Vec::new();
    for family in [Family::Mastodon, Family::Misskey, Family::Akkoma, Family::GoToSocial, Family::Friendica] {
        readers.push(relay.joined(family, &format!("{family:?}")).await);
    }
    let writer = relay.joined(Family::Mastodon, "writer").await;
    let post = publish(&writer, "before").await;
    for reader in &readers {
        arrival(reader, &post.id).await;
    }
    let identity = &relay.server.app().state.identity;
    let rotate = identity.rotation.clone();
    rotate.rotate(Rotate::After(Duration::from_secs(3)), Clock::system().now(), second_pair).expect("it begins");
    let document = actor(&relay, &writer).await;
    assert!(document["publicKey"]["id"].as_str().is_some_and(|id| id.ends_with("/actor#main-key")), "{document}");
    assert!(document["assertionMethod"].to_string().contains("#main-key-2"), "both are listed: {document}");
    let mut posts = Vec::new();
    // While it turns, without a pause.
    while posts.len() < 20 || !readers.iter().all(was_told) {
        posts.push(publish(&writer, &format!("while it turns, {}", posts.len())).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually("all are told", || identity.keys.standing().untold == shearwater::net::Untold::Nobody).await;
    posts.push(publish(&writer, "after").await);
    for reader in &readers {
        for post in &posts {
            arrival(reader, &post.id).await;
        }
        let bad: Vec<_> = reader.received().into_iter().filter(|one| one.status == 401).collect();
        assert!(bad.is_empty(), "{}: {bad:#?}", reader.name());
    }
    let document = actor(&relay, &writer).await;
    assert!(document["publicKey"]["id"].as_str().is_some_and(|id| id.ends_with("/actor#main-key-2")), "{document}");
    assert!(document["assertionMethod"].to_string().contains("#main-key\""), "the old one is still listed: {document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_key_is_out_of_use_at_once() {
    let relay = TestRelay::start().await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let writer = relay.joined(Family::Mastodon, "writer").await;
    let rotation = relay.server.app().state.identity.rotation.clone();
    rotation.rotate(Rotate::Now, Clock::system().now(), second_pair).expect("it is done");
    assert!(!relay.config.data_dir.join("keys/rsa.pem").exists());
    let document = actor(&relay, &writer).await;
    assert!(!document.to_string().contains("#main-key\""), "{document}");
    let post = publish(&writer, "with the new key").await;
    arrival(&reader, &post.id).await;
    eventually("the reader is told", || was_told(&reader)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_alone_takes_a_rotation_through_its_steps() {
    let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    let identity = relay.server.app().state.identity.clone();
    identity.rotation.rotate(Rotate::After(HOLD), clock.now(), second_pair).expect("it begins");
    let main_key = || identity.document()["publicKey"]["id"].as_str().unwrap_or_default().to_owned();
    clock.advance(HOLD - Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(main_key().ends_with("#main-key"));
    clock.advance(Duration::from_secs(60));
    eventually("the new key signs", || main_key().ends_with("#main-key-2")).await;
    clock.advance(FAREWELL);
    eventually("the old key is gone", || identity.keys.standing().leaving.is_none()).await;
    assert!(!relay.config.data_dir.join("keys/rsa.pem").exists());
}

/// The real program, with real keys: this is the one test that makes some.
#[test]
fn the_command_rotates_with_and_without_a_running_relay() {
    let dir = tempfile::tempdir().expect("a folder");
    place_keys(&dir.path().join("data"));
    let run = |args: &[&str], change: &dyn Fn(&mut Command)| {
        let mut command = shearwater(dir.path());
        command.args(args).env("SHEARWATER_PUBLIC_URL", "https://relay.example");
        change(&mut command);
        let output = command.output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let plain = |args: &[&str]| run(args, &|_command| {});
    let (done, said) = plain(&["keys", "rotate"]);
    assert!(!done && said.contains("no keys yet"), "{said}");

    let running = Running::start(dir.path(), |command| {
        command.env("SHEARWATER_PUBLIC_URL", "https://relay.example");
    });
    let (done, said) = plain(&["keys", "rotate", "--dry-run"]);
    assert!(done && said.contains("Nothing is done") && said.contains("#main-key-2"), "{said}");
    assert!(!dir.path().join("data/keys/rsa-2.pem").exists());
    let (done, said) = plain(&["keys", "rotate"]);
    assert!(done && said.contains("Until 20") && !said.contains("next start"), "{said}");
    let (done, said) = plain(&["keys", "rotate"]);
    assert!(!done && said.contains("a rotation is under way"), "{said}");
    let (_done, shown) = plain(&["keys", "show"]);
    for part in
        ["actor#main-key\n  signs since", "actor#main-key-2\n  listed; signs from", "sha256:", "BEGIN PUBLIC KEY"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("PRIVATE"));

    // Killed, and one of the keys is lost: a new pair is made for a relay that does not run.
    drop(running);
    std::fs::remove_file(dir.path().join("data/keys/rsa.pem")).expect("removed");
    let (done, said) = plain(&["serve"]);
    assert!(!done && said.contains("rsa.pem: it is gone") && said.contains("keys rotate --now"), "{said}");
    let own_file = dir.path().join("own.pem");
    std::fs::copy(dir.path().join("data/keys/rsa-2.pem"), &own_file).expect("copied");
    let own = |command: &mut Command| {
        command.env("SHEARWATER_IDENTITY__RSA_KEY_FILE", "own.pem");
    };
    let (done, said) = run(&["keys", "rotate", "--now"], &own);
    assert!(!done && said.contains("identity.rsa_key_file names a key of your own"), "{said}");
    let (done, said) = plain(&["keys", "rotate", "--now"]);
    assert!(done && said.contains("next start") && said.contains("#main-key-3"), "{said}");
    let running = Running::start(dir.path(), |command| {
        command.env("SHEARWATER_PUBLIC_URL", "https://relay.example");
    });
    let (_done, shown) = plain(&["keys", "show", "--json"]);
    let shown = json(shown.as_bytes());
    assert_eq!(shown["signs"]["rsa"]["id"], "https://relay.example/actor#main-key-3");
    assert_eq!((&shown["coming"], &shown["leaving"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    drop(running);
}
