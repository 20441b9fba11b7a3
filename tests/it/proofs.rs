//! Proofs in documents (FEP-8b32): ours can be checked by anybody, and an author's word is the author's whoever brings it.

use std::time::Duration;

use serde_json::{Value, json};
use shearwater::clock::Clock;
use shearwater::demo::{As, Composed, Family, Fault, Instance, Options, PostSpec, Tweaks, Where};
use shearwater::store::SubscriberState;

use crate::support::{TestRelay, arrival, authority, eventually, json as read, publish, receipts_of, silence_about};

/// A way to make a forgery of a good document.
type Bend<'a> = Box<dyn Fn(&mut Value) + 'a>;

fn ada() -> As {
    As::Author("ada".to_owned())
}

/// An author whose server joined, another member that brings what she wrote, and a reader.
struct Scene {
    relay: TestRelay,
    author: Instance,
    bringer: Instance,
    reader: Instance,
}

impl Scene {
    async fn set() -> Self {
        let relay = TestRelay::start().await;
        let author = relay.joined(Family::Mastodon, "author").await;
        let bringer = relay.joined(Family::Mastodon, "bringer").await;
        let reader = relay.joined(Family::Mastodon, "reader").await;
        Self { relay, author, bringer, reader }
    }

    /// A post of Ada's with her proof.
    fn proven(&self, text: &str) -> Composed {
        let mut composed = self.author.compose(&PostSpec::public(text));
        self.author.prove(&mut composed.activity, &ada());
        composed
    }

    /// The bringer sends it, signed over HTTP by one of its own; it is valid, whatever becomes of it.
    async fn bring(&self, activity: &Value) {
        let answer = self.bringer.send_raw(activity.to_string(), &ada(), &Tweaks::default()).await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    }

    fn came(&self, reason: &str) -> f64 {
        self.relay.metric(&format!("shearwater_inbound_total{{reason=\"{reason}\""))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_with_its_authors_proof_is_the_authors_whoever_brings_it() {
    let scene = Scene::set().await;
    let post = scene.proven("brought by somebody else");
    scene.bring(&post.activity).await;
    let receipts = arrival(&scene.reader, &post.id).await;
    assert_eq!((receipts.len(), receipts[0].kind.as_str()), (1, "Announce"), "bytes with a proof are not carried");
    assert_eq!((scene.came("relayed"), scene.came("hint")), (1.0, 0.0), "its origin need not be asked");
    // Brought again, by her too: it is the same activity.
    scene.bring(&post.activity).await;
    scene.author.send(&post).await.expect("an answer");
    assert_eq!(scene.came("seen-before"), 2.0);
    // Her deletion, brought by the same: our Announce is taken back, and the post does not come again.
    let mut deletion = scene.author.compose_deletion(&post.id).expect("her post");
    scene.author.prove(&mut deletion.activity, &ada());
    scene.bring(&deletion.activity).await;
    let undone = |kind: &str| scene.reader.received().iter().any(|one| one.kind == kind);
    eventually("the Announce is undone", || undone("Undo")).await;
    // The bringer, who has joined, hears of it like everybody who did not bring it.
    assert!(receipts_of(&scene.bringer, &post.id).is_empty(), "nothing goes back to who brought it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_not_the_authors_over_this_document_goes_nowhere() {
    let scene = Scene::set().await;
    let other = scene.proven("another post, which is not sent");
    let elsewhere = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    let bends: Vec<(&str, Bend<'_>)> = vec![
        ("of a key elsewhere", Box::new(|one| elsewhere.prove(one, &ada()))),
        ("without", Box::new(|one| drop(one.as_object_mut().unwrap().remove("proof")))),
        ("one letter of the text", Box::new(|one| one["object"]["content"] = json!("<p>forgery</p>"))),
        (
            "one letter of the value",
            Box::new(|one| {
                let value = one["proof"]["proofValue"].as_str().unwrap();
                let (head, last) = value.split_at(value.len() - 1);
                one["proof"]["proofValue"] = json!(format!("{head}{}", if last == "2" { "3" } else { "2" }));
            }),
        ),
        ("moved from another document", Box::new(|one| one["proof"] = other.activity["proof"].clone())),
        ("two of them", Box::new(|one| one["proof"] = json!([one["proof"], one["proof"]]))),
        (
            "an hour and a bit old",
            Box::new(|one| {
                let then = Clock::system().now().minus(Duration::from_secs(3700));
                one["proof"]["created"] = json!(then.rfc3339());
            }),
        ),
        ("of another of her server", Box::new(|one| scene.author.prove(one, &As::Author("grace".to_owned())))),
        ("of her server", Box::new(|one| scene.author.prove(one, &As::Server))),
        ("of the bringer's", Box::new(|one| scene.bringer.prove(one, &ada()))),
        (
            "her name on the bringer's",
            Box::new(|one| {
                let method = one["proof"]["verificationMethod"].clone();
                scene.bringer.prove(one, &ada());
                one["proof"]["verificationMethod"] = method;
            }),
        ),
        (
            "of a key that is not there",
            Box::new(|one| {
                one["proof"]["verificationMethod"] = json!(format!("{}/nowhere#ed25519-key", scene.author.origin()));
            }),
        ),
        (
            "of her RSA key",
            Box::new(|one| {
                one["proof"]["verificationMethod"] = json!(scene.author.key_id(&ada()));
            }),
        ),
    ];
    for (what, bend) in &bends {
        let post = scene.proven(what);
        let mut forged = post.activity.clone();
        bend(&mut forged);
        scene.bring(&forged).await;
        silence_about(&post.id, &scene.bringer, &[&scene.reader]).await;
        // Nor does the forgery keep the real one away.
        scene.bring(&post.activity).await;
        arrival(&scene.reader, &post.id).await;
    }
    assert!(elsewhere.fetches().is_empty(), "a proof sends us to no other server than its author's");
    assert_eq!(scene.came("said-by-somebody-else"), bends.len() as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_moves_nobody_in_or_out_and_costs_a_stranger_nothing() {
    let scene = Scene::set().await;
    // The author's server leaves, by a copy of its word that somebody else sends.
    let follow = scene.author.follow_id().expect("it joined");
    let server = scene.author.actor(&As::Server);
    let mut undo = json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/undo/1", scene.author.origin()),
        "type": "Undo", "actor": server, "object": follow,
    });
    scene.author.prove(&mut undo, &As::Server);
    scene.bring(&undo).await;
    let subscriber = scene.relay.store().subscriber(&authority(&scene.author)).expect("it is still there");
    assert_eq!(subscriber.state, SubscriberState::Active);
    // Her account is gone, by a copy of that.
    let actor = scene.author.actor(&ada());
    let mut deletion = json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{actor}#delete"), "type": "Delete",
        "actor": actor, "object": actor,
    });
    publish(&scene.author, "known here").await;
    scene.author.prove(&mut deletion, &ada());
    scene.bring(&deletion).await;
    assert_eq!(scene.came("said-by-somebody-else"), 2.0);
    let post = publish(&scene.author, "still here").await;
    arrival(&scene.reader, &post.id).await;

    // Somebody who never joined: neither brought by a member nor itself with another's post is its key asked for.
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    let mut theirs = stranger.compose(&PostSpec::public("of a stranger"));
    stranger.prove(&mut theirs.activity, &ada());
    scene.bring(&theirs.activity).await;
    assert!(stranger.fetches().is_empty(), "{:?}", stranger.fetches());
    let hers = scene.proven("brought by a stranger");
    let before = scene.author.fetches();
    let tweaks = Tweaks { url: Some(format!("{}/inbox", scene.relay.url())), ..Tweaks::default() };
    let answer = stranger.send_raw(hers.activity.to_string(), &ada(), &tweaks).await.expect("an answer");
    assert_eq!((answer.status, scene.author.fetches()), (202, before));
    silence_about(&hers.id, &scene.bringer, &[&scene.reader]).await;
    // An ordinary request that bears a proof has no key of it read either.
    scene.author.send(&hers).await.expect("an answer");
    arrival(&scene.reader, &hers.id).await;
}

/// Whoever fetches an Announce of ours by its id finds the bytes that were sent, with a proof that our actor document
/// answers for. (Each simulated server checks that proof with code of its own.)
#[tokio::test(flavor = "multi_thread")]
async fn our_announces_bear_our_proof_and_are_served_as_they_were_sent() {
    let relay = TestRelay::start().await;
    let author = relay.joined(Family::Mastodon, "author").await;
    let reader = relay.joined(Family::Akkoma, "reader").await;
    let post = publish(&author, "announced").await;
    let receipts = arrival(&reader, &post.id).await;
    let sent = read(receipts[0].body.as_bytes());
    let served = reader.fetch(sent["id"].as_str().expect("an id")).await.expect("an answer");
    assert_eq!(String::from_utf8_lossy(&served.body), receipts[0].body);
    let actor = read(&reader.fetch(&format!("{}/actor", relay.url())).await.expect("an answer").body);
    assert_eq!(sent["proof"]["verificationMethod"], actor["assertionMethod"][0]["id"]);
    assert_eq!((&sent["proof"]["created"], &sent["proof"]["@context"]), (&sent["published"], &sent["@context"]));
    assert!(sent["proof"]["proofValue"].as_str().is_some_and(|value| value.starts_with('z')));
}

/// An account that was deleted says so with a key that its server shows no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_is_heard_by_the_last_key_that_it_showed() {
    let clock = Clock::manual(Clock::system().now());
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    let options = |name: &str| Options { name: name.to_owned(), clock: clock.clone(), ..Options::default() };
    let author = relay.joined_with(Family::Mastodon, options("author")).await;
    let reader = relay.joined_with(Family::Mastodon, options("reader")).await;
    let post = publish(&author, "my last post").await;
    arrival(&reader, &post.id).await;
    clock.advance(Duration::from_secs(25 * 3600));
    let actor = author.actor(&ada());
    let deletion = json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{actor}#delete"), "type": "Delete",
        "actor": actor, "to": ["https://www.w3.org/ns/activitystreams#Public"], "object": actor,
        "signature": { "type": "RsaSignature2017", "creator": author.key_id(&ada()), "signatureValue": "x" },
    });
    let send =
        async || author.send_raw(deletion.to_string(), &ada(), &Tweaks::default()).await.expect("an answer").status;
    author.set_fault_at(Where::Documents, Fault::Status(410));
    let forged = Tweaks { spoilt: true, ..Tweaks::default() };
    assert_eq!(author.send_raw(deletion.to_string(), &ada(), &forged).await.expect("an answer").status, 503);
    // Nothing but the goodbye counts with that key.
    let other = author.compose(&PostSpec::public("from beyond"));
    assert_eq!(author.send(&other).await.expect("an answer").status(), 503);
    assert_eq!(send().await, 202);
    let told = |one: &shearwater::demo::Receipt| one.kind == "Delete" && one.object.as_deref() == Some(actor.as_str());
    eventually("the reader is told", || reader.received().iter().any(told)).await;
}
