//! The routing table, row by row: one activity, the facts around it, and the effect in a word.

use std::cell::Cell;

use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::ids::Seq;
use crate::store::{Health, Mode, Registration, SubscriberState, SwitchedBy};

const ADA: &str = "https://a.example/users/ada";
const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";
const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);

fn iri(text: &str) -> Iri {
    Iri::parse(text).unwrap()
}

struct Scene {
    config: Config,
    state: Option<SubscriberState>,
    style: Style,
    registered: &'static str,
    following: Option<Following>,
    /// The actor's server, where that is another one than signed.
    author: Option<SubscriberState>,
    /// Whose proof holds.
    prover: Option<&'static str>,
    inbox: Inbox,
    /// Whether there is a search, and for which servers it is on: by whom.
    search: Option<Vec<(&'static str, SwitchedBy)>>,
    /// Whether posts of the actor may be found.
    known: bool,
    counted: bool,
    /// Whether the operator lets both servers send although they never follow.
    publishes: bool,
    /// Whether the last activity's proof was worth looking at.
    matters: Cell<bool>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            config: Config::embedded(),
            state: Some(SubscriberState::Active),
            style: Style::Mastodon,
            registered: "https://a.example/actor",
            following: None,
            author: None,
            prover: None,
            inbox: Inbox::Relay,
            search: None,
            known: false,
            counted: false,
            publishes: false,
            matters: Cell::default(),
        }
    }
}

impl Scene {
    fn route(&self, document: &Value, signer: &str) -> Vec<Effect> {
        let signer = iri(signer);
        let verified = Verified {
            inbox: self.inbox,
            authority: signer.authority(),
            signer,
            activity: Activity::read(document).expect("an activity"),
            document: document.clone(),
            body: document.to_string().into(),
            signature: "s".to_owned(),
            prover: self.prover.map(iri),
        };
        let joined = |authority: Authority, state| {
            let registered = Some(iri(self.registered)).filter(|actor| actor.authority() == authority);
            let registered = registered.unwrap_or_else(|| iri(&format!("https://{authority}/actor")));
            Arc::new(Subscriber {
                authority,
                slot: 0,
                state,
                start: Seq(1),
                mode: Mode::Auto,
                registrations: vec![Registration {
                    actor: registered,
                    style: self.style,
                    inbox: iri("https://a.example/inbox"),
                    actor_inbox: iri("https://a.example/inbox"),
                    follow: (&json!({})).into(),
                    at: NOW,
                    personal: false,
                }],
                joined_at: NOW,
                seen_at: NOW,
                health: Health::default(),
                vouched_for: false,
                paused: None,
                posts: 0,
            })
        };
        let author = verified.activity.actor.authority();
        let state = if author == verified.authority { self.state } else { self.author };
        let author = state.map(|state| joined(author, state));
        let subscriber = self.state.map(|state| joined(verified.authority.clone(), state));
        let rules = RuleSet::of_config(&self.config.policy, &self.config.relay);
        let key = |server: &Authority| {
            let on = self.search.iter().flatten().find(|(host, _)| *host == server.as_str());
            on.map(|(_, by)| {
                Arc::new(SearchServer { since: NOW, by: by.clone(), reason: String::new(), also: Vec::new() })
            })
        };
        let search = SearchFacts {
            on: self.search.is_some(),
            actor: &iri("https://relay.example/search/actor"),
            signer: key(&verified.authority),
            author: key(&verified.activity.actor.authority()),
            joined: key(&verified.authority).is_some(),
            known: self.known,
            counted: self.counted,
        };
        let facts = Facts {
            subscriber,
            author,
            publishes: self.publishes,
            author_publishes: self.publishes,
            following: self.following.clone(),
            search,
            rules: &rules,
            config: &self.config.relay,
            origin: "https://relay.example",
            actor: &iri("https://relay.example/actor"),
            now: NOW,
        };
        let matters = proof_matters(&verified, &facts);
        let effects = route(&verified, &facts);
        // What a proof makes us do, it was worth looking at for.
        assert!(
            matters
                || trust(&verified.activity, &verified.signer, verified.prover.as_ref()) != Trust::Proven
                || matches!(effects[..], [Effect::Ignore(_)]),
            "{effects:?}"
        );
        self.matters.set(matters);
        effects
    }

    /// The last effect in a word, as `kind[:detail]`.
    fn word(&self, document: &Value, signer: &str) -> String {
        match self.route(document, signer).pop().expect("an effect") {
            Effect::Ignore(why) => format!("ignore:{why}"),
            Effect::Relay(draft) if !draft.relayed => format!("search:{}", body(&draft)),
            Effect::Change(draft) if !draft.relayed => format!("change-for-search:{}", body(&draft)),
            Effect::Delete(draft) if !draft.relayed => "delete-for-search".to_owned(),
            Effect::Hint(draft) if !draft.relayed => format!("hint-for-search:{}", draft.object),
            Effect::Recheck(draft) if !draft.relayed => format!("recheck-for-search:{}", draft.object),
            Effect::Relay(draft) => format!("relay:{}", if draft.carried { "carried" } else { "plain" }),
            Effect::Change(draft) => format!("change:{}", if draft.carried { "carried" } else { "plain" }),
            Effect::Delete(draft) => format!("delete:{}", if draft.carried { "carried" } else { "plain" }),
            Effect::Hint(draft) => format!("hint:{}", draft.object),
            Effect::Recheck(draft) => format!("recheck:{}", draft.object),
            Effect::Join { style } => format!("join:{style:?}"),
            Effect::Leave { follow, style } => format!("leave:{}:{style:?}", follow.is_some()),
            Effect::Answer { accepted } => format!("answer:{accepted}"),
            Effect::Forget(_) => "forget".to_owned(),
            Effect::SearchOn => "search-on".to_owned(),
            Effect::SearchOff { follow } => format!("search-off:{}", follow.is_some()),
            Effect::Void(_) => "void".to_owned(),
            Effect::Withdraw(why) => format!("withdraw:{why}"),
            Effect::Uncount(why) => format!("uncount:{why}"),
            Effect::Boost(draft) => format!("boost:{}", draft.object),
            Effect::Unboost(object) => format!("unboost:{object}"),
            Effect::Blocked(_) => "blocked".to_owned(),
            Effect::Unblocked(_) => "unblocked".to_owned(),
        }
    }

    fn check(&self, document: &Value, signer: &str, expected: &str) {
        assert_eq!(self.word(document, signer), expected, "{document:#}");
    }
}

/// What is kept of the bytes.
fn body(draft: &Draft) -> &'static str {
    assert!(!draft.carried, "nobody is forwarded what is for the search alone");
    if draft.body.is_empty() { "empty" } else { "whole" }
}

fn note(changes: &Value) -> Value {
    let mut note = json!({
        "id": "https://a.example/notes/1", "type": "Note", "attributedTo": ADA, "content": "<p>hello</p>",
        "to": [PUBLIC], "cc": [format!("{ADA}/followers")], "published": "2026-08-23T11:59:00Z",
    });
    merge(&mut note, changes);
    note
}

fn activity(kind: &str, object: &Value, changes: &Value) -> Value {
    let mut activity = json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": "https://a.example/activities/1", "type": kind,
        "actor": ADA, "to": [PUBLIC], "cc": [format!("{ADA}/followers")], "object": object,
    });
    merge(&mut activity, changes);
    activity
}

fn merge(document: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            document.as_object_mut().unwrap().remove(key);
        } else {
            document[key] = value.clone();
        }
    }
}

fn signed_by(creator: &str) -> Value {
    json!({ "signature": { "type": "RsaSignature2017", "creator": creator, "created": "2026-08-23T11:59:59Z", "signatureValue": "AAAA" } })
}

#[test]
fn only_public_posts_of_a_members_own_author_are_relayed() {
    let scene = Scene::default();
    let create = |object: Value| activity("Create", &object, &json!({}));
    scene.check(&create(note(&json!({}))), ADA, "relay:plain");
    for public in ["as:Public", "Public", PUBLIC] {
        scene.check(&create(note(&json!({ "to": public }))), ADA, "relay:plain");
    }
    let rows = [
        (json!({ "to": [format!("{ADA}/followers")], "cc": [PUBLIC] }), "ignore:not-public"),
        (json!({ "to": [format!("{ADA}/followers")], "cc": [] }), "ignore:not-public"),
        (json!({ "to": ["https://b.example/users/bob"], "cc": null }), "ignore:not-public"),
        (json!({ "to": null, "cc": null }), "ignore:not-public"),
        (json!({ "to": [], "bto": [PUBLIC], "bcc": [PUBLIC], "audience": [PUBLIC] }), "ignore:not-public"),
        (json!({ "attributedTo": "https://a.example/users/eve" }), "ignore:object-of-another-author"),
        (json!({ "id": "https://b.example/notes/1" }), "ignore:object-of-another-origin"),
        (json!({ "id": "http://a.example/notes/1" }), "ignore:object-of-another-origin"),
        (json!({ "type": "Person" }), "ignore:object-kind-not-relayed"),
        (json!({ "name": "Yes", "content": null, "inReplyTo": "https://b.example/polls/1" }), "ignore:vote"),
        (json!({ "published": "2026-08-23T14:00:00Z" }), "ignore:dated-in-the-future"),
        (json!({ "published": "2026-08-01T12:00:00Z" }), "ignore:too-old"),
    ];
    for (changes, expected) in rows {
        scene.check(&create(note(&changes)), ADA, expected);
    }
    // The stricter of activity and object counts.
    let quiet = json!({ "to": [format!("{ADA}/followers")], "cc": [] });
    scene.check(&activity("Create", &note(&json!({})), &quiet), ADA, "ignore:not-public");
    scene.check(&activity("Create", &note(&json!({})), &json!({ "to": null, "cc": null })), ADA, "relay:plain");
}

#[test]
fn only_members_publish() {
    let create = activity("Create", &note(&json!({})), &json!({}));
    let scene = |state| Scene { state, ..Scene::default() };
    scene(None).check(&create, ADA, "ignore:not-a-subscriber");
    scene(Some(SubscriberState::Pending)).check(&create, ADA, "ignore:subscriber-pending");
    scene(Some(SubscriberState::Checking)).check(&create, ADA, "ignore:subscriber-pending");
    let mut silenced = Scene::default();
    silenced.config.policy.silence = vec!["a.example".into()];
    silenced.check(&create, ADA, "ignore:silenced");
    let mut quiet = Scene::default();
    quiet.config.relay.replies = false;
    let reply = activity("Create", &note(&json!({ "inReplyTo": "https://b.example/1" })), &json!({}));
    quiet.check(&reply, ADA, "ignore:reply");
    Scene::default().check(&reply, ADA, "relay:plain");
}

#[test]
fn bytes_are_carried_only_with_their_own_actors_signature_and_without_a_proof() {
    let scene = Scene::default();
    let create = |changes: &Value| activity("Create", &note(&json!({})), changes);
    scene.check(&create(&signed_by("https://a.example/users/ada#main-key")), ADA, "relay:carried");
    scene.check(&create(&signed_by("https://a.example/users/eve#main-key")), ADA, "relay:plain");
    scene.check(&create(&signed_by("https://b.example/users/ada#main-key")), ADA, "relay:plain");
    let mut both = signed_by("https://a.example/users/ada#main-key");
    both["proof"] = json!({ "type": "DataIntegrityProof", "cryptosuite": "eddsa-jcs-2022" });
    scene.check(&create(&both), ADA, "relay:plain");
}

#[test]
fn what_somebody_else_signed_is_a_hint_at_most() {
    let scene = Scene::default();
    let create = activity("Create", &note(&json!({})), &signed_by("https://a.example/users/ada#main-key"));
    scene.check(&create, "https://a.example/actor", "hint:https://a.example/notes/1");
    let delete = activity("Delete", &json!("https://a.example/notes/1"), &json!({}));
    scene.check(&delete, "https://a.example/actor", "recheck:https://a.example/notes/1");
    let update = activity("Update", &note(&json!({})), &json!({}));
    scene.check(&update, "https://a.example/actor", "recheck:https://a.example/notes/1");
    let about_actor = activity("Delete", &json!(ADA), &json!({}));
    scene.check(&about_actor, "https://a.example/actor", "ignore:hint-not-about-a-post");
    scene.check(
        &activity("Follow", &json!(PUBLIC), &json!({})),
        "https://a.example/actor",
        "ignore:hint-about-nothing",
    );
    scene.check(
        &activity("Like", &json!("https://a.example/notes/1"), &json!({})),
        "https://a.example/actor",
        "ignore:hint-not-wanted",
    );
    // Another server, even one that joined, speaks for nobody else.
    for kind in ["Create", "Update", "Delete", "Announce", "Follow", "Undo"] {
        let forged = activity(kind, &note(&json!({})), &json!({}));
        scene.check(&forged, "https://b.example/users/mallory", "ignore:said-by-somebody-else");
    }
    let other_id = activity("Create", &note(&json!({})), &json!({ "id": "https://b.example/activities/1" }));
    scene.check(&other_id, ADA, "ignore:id-of-another-origin");
}

const BOB: &str = "https://b.example/users/bob";

/// An activity of Ada's that Bob of another server brings, with her proof.
fn brought() -> Scene {
    Scene { author: Some(SubscriberState::Active), prover: Some(ADA), ..Scene::default() }
}

fn proof() -> Value {
    json!({ "proof": { "type": "DataIntegrityProof", "cryptosuite": "eddsa-jcs-2022" } })
}

#[test]
fn what_a_member_brings_with_its_authors_proof_is_the_authors_word() {
    let scene = brought();
    let post = |changes: Value| activity("Create", &note(&changes), &proof());
    scene.check(&post(json!({})), BOB, "relay:plain");
    assert!(scene.matters.get());
    // All that is asked of an author's own request is asked here.
    for (changes, expected) in [
        (json!({ "to": [], "cc": [PUBLIC] }), "ignore:not-public"),
        (json!({ "attributedTo": "https://a.example/users/eve" }), "ignore:object-of-another-author"),
        (json!({ "id": "https://b.example/notes/1" }), "ignore:object-of-another-origin"),
        (json!({ "published": "2026-08-01T12:00:00Z" }), "ignore:too-old"),
    ] {
        scene.check(&post(changes), BOB, expected);
    }
    // Never as bytes: what else is beside the proof is nobody's word.
    let mut both = signed_by("https://a.example/users/ada#main-key");
    both["proof"] = proof()["proof"].clone();
    scene.check(&activity("Create", &note(&json!({})), &both), BOB, "relay:plain");
    scene.check(&activity("Update", &note(&json!({})), &both), BOB, "change:plain");
    scene.check(&activity("Delete", &json!("https://a.example/notes/1"), &both), BOB, "delete:plain");
    scene.check(
        &activity("Delete", &json!("https://b.example/notes/1"), &both),
        BOB,
        "ignore:deletion-of-anothers-object",
    );
    scene.check(
        &activity("Create", &json!("https://a.example/notes/1"), &proof()),
        BOB,
        "hint:https://a.example/notes/1",
    );
    // Pushed by its own server, it need not be read from there.
    scene.check(&post(json!({})), "https://a.example/actor", "relay:plain");
    assert!(scene.matters.get());
}

#[test]
fn without_a_proof_that_holds_nothing_is_the_authors_word() {
    let create = activity("Create", &note(&json!({})), &proof());
    for prover in [None, Some("https://a.example/users/eve"), Some(BOB), Some("https://a.example/users/ada/")] {
        let scene = Scene { prover, ..brought() };
        scene.check(&create, BOB, "ignore:said-by-somebody-else");
        // It was worth looking at: who knows only then.
        assert!(scene.matters.get());
        scene.check(&create, "https://a.example/actor", "hint:https://a.example/notes/1");
    }
    let scene = brought();
    scene.check(&activity("Create", &note(&json!({})), &json!({})), ADA, "relay:plain");
    assert!(!scene.matters.get(), "there is none");
    scene.check(&create, ADA, "relay:plain");
    assert!(!scene.matters.get(), "the author signed");
}

#[test]
fn a_proof_changes_nothing_about_who_is_who() {
    let scene = brought();
    let (note, relay) = (json!("https://a.example/notes/1"), json!("https://relay.example/actor"));
    let follow = json!({ "id": "https://a.example/follows/1", "type": "Follow", "actor": ADA, "object": PUBLIC });
    for (kind, object) in [
        ("Follow", &json!(PUBLIC)),
        ("Follow", &relay),
        ("Undo", &follow),
        ("Accept", &json!("https://relay.example/activities/follow/1")),
        ("Reject", &json!("https://relay.example/activities/follow/1")),
        ("Block", &relay),
        ("Move", &json!(ADA)),
        ("Like", &note),
        ("Update", &json!({ "id": ADA, "type": "Person" })),
        ("Delete", &json!(ADA)),
        ("Announce", &json!(ADA)),
        ("Create", &json!(ADA)),
    ] {
        scene.check(&activity(kind, object, &proof()), BOB, "ignore:said-by-somebody-else");
        assert!(!scene.matters.get(), "{kind} {object}");
        let from_its_server = scene.word(&activity(kind, object, &proof()), "https://a.example/actor");
        assert!(from_its_server.starts_with("ignore:hint-"), "{kind} {object}: {from_its_server}");
    }
    let other_id =
        activity("Create", &self::note(&json!({})), &json!({ "id": "https://b.example/activities/1", "proof": {} }));
    scene.check(&other_id, BOB, "ignore:id-of-another-origin");
    assert!(!scene.matters.get());
}

#[test]
fn both_who_brings_a_post_and_its_authors_server_must_be_welcome() {
    use SubscriberState::{Active, Checking, Pending};
    let create = activity("Create", &note(&json!({})), &proof());
    let rows = [
        (None, Some(Active), "not-a-subscriber"),
        (Some(Pending), Some(Active), "subscriber-pending"),
        (Some(Checking), Some(Active), "subscriber-pending"),
        (Some(Active), None, "author-not-a-subscriber"),
        (Some(Active), Some(Pending), "author-not-a-subscriber"),
        (Some(Active), Some(Checking), "author-not-a-subscriber"),
    ];
    for (state, author, why) in rows {
        let scene = Scene { state, author, ..brought() };
        scene.check(&create, BOB, &format!("ignore:{why}"));
        assert!(!scene.matters.get(), "no key is read for it");
    }
    for (authority, rule) in [("a.example", false), ("a.example", true), ("b.example", false), ("b.example", true)] {
        let mut scene = brought();
        let (list, why) = match rule {
            true => (&mut scene.config.policy.block, "blocked"),
            false => (&mut scene.config.policy.silence, "silenced"),
        };
        list.push(authority.into());
        scene.check(&create, BOB, &format!("ignore:{why}"));
        assert!(!scene.matters.get(), "no key is read for it");
    }
    // Whom the operator follows brings others' posts; but not those of the unwelcome, nor ours.
    let following = Following {
        actor: iri(BOB),
        inbox: iri("https://b.example/inbox"),
        style: Style::Litepub,
        follow_id: "https://relay.example/activities/follow/1".into(),
        state: FollowState::Accepted,
        by_operator: true,
        at: NOW,
    };
    let followed = || Scene { state: None, author: None, following: Some(following.clone()), ..brought() };
    followed().check(&create, BOB, "relay:plain");
    let mut silenced = followed();
    silenced.config.policy.silence = vec!["a.example".into()];
    silenced.check(&create, BOB, "ignore:silenced");
    let ours =
        json!({ "id": "https://relay.example/announces/1", "actor": "https://relay.example/actor", "proof": {} });
    let ours = activity("Announce", &json!("https://a.example/notes/1"), &ours);
    let scene = Scene { prover: Some("https://relay.example/actor"), ..followed() };
    scene.check(&ours, BOB, "ignore:our-own");
    assert!(!scene.matters.get());
    // Without a proof such a relay's word is a hint, and a recheck of what it brought before.
    let unproven = || Scene { prover: None, ..followed() };
    unproven().check(&create, BOB, "hint:https://a.example/notes/1");
    for kind in ["Update", "Delete"] {
        let about = |object: &str| activity(kind, &json!(object), &json!({}));
        unproven().check(&about("https://a.example/notes/1"), BOB, "recheck:https://a.example/notes/1");
        unproven().check(&about("https://c.example/notes/1"), BOB, "ignore:said-by-somebody-else");
        unproven().check(&about(ADA), BOB, "ignore:said-by-somebody-else");
    }
}

#[test]
fn a_proven_announce_counts_only_if_it_is_of_the_servers_own_relay_actor() {
    let relay_actor = "https://a.example/relay";
    let announce = |actor: &str| {
        activity("Announce", &json!("https://a.example/objects/1"), &json!({ "actor": actor, "proof": {} }))
    };
    let litepub = || Scene { style: Style::Litepub, registered: relay_actor, prover: Some(relay_actor), ..brought() };
    litepub().check(&announce(relay_actor), BOB, "hint:https://a.example/objects/1");
    let boost = Scene { prover: Some(ADA), ..litepub() };
    boost.check(&announce(ADA), BOB, "ignore:boost");
    let mut followed = Scene { style: Style::Mastodon, ..litepub() };
    followed.following = Some(Following {
        actor: iri(BOB),
        inbox: iri("https://b.example/inbox"),
        style: Style::Litepub,
        follow_id: "https://relay.example/activities/follow/1".into(),
        state: FollowState::Accepted,
        by_operator: true,
        at: NOW,
    });
    followed.check(&announce(relay_actor), BOB, "ignore:boost");
}

#[test]
fn an_announce_counts_only_from_the_servers_own_relay_actor() {
    let relay_actor = "https://a.example/relay";
    let announce = |object: Value| {
        activity("Announce", &object, &json!({ "actor": relay_actor, "to": ["https://a.example/relay/followers"] }))
    };
    let litepub = || Scene { style: Style::Litepub, registered: relay_actor, ..Scene::default() };
    litepub().check(&announce(json!("https://a.example/objects/1")), relay_actor, "hint:https://a.example/objects/1");
    litepub().check(
        &announce(json!({ "id": "https://a.example/objects/1", "type": "Note" })),
        relay_actor,
        "hint:https://a.example/objects/1",
    );
    litepub().check(&announce(json!("https://b.example/objects/1")), relay_actor, "ignore:announce-of-anothers-post");
    litepub().check(
        &announce(json!({ "id": "https://a.example/c/1", "type": "Create" })),
        relay_actor,
        "ignore:announce-of-an-activity",
    );
    litepub().check(&activity("Announce", &json!("https://a.example/objects/1"), &json!({})), ADA, "ignore:boost");
    Scene::default().check(&announce(json!("https://a.example/objects/1")), relay_actor, "ignore:boost");
    let following = Some(Following {
        actor: iri(relay_actor),
        inbox: iri("https://a.example/inbox"),
        style: Style::Litepub,
        follow_id: "https://relay.example/activities/follow/1".into(),
        state: FollowState::Accepted,
        by_operator: true,
        at: NOW,
    });
    let followed = || Scene { state: None, following: following.clone(), ..Scene::default() };
    followed().check(&announce(json!("https://b.example/objects/1")), relay_actor, "hint:https://b.example/objects/1");
    followed().check(&announce(json!("https://relay.example/announces/1")), relay_actor, "ignore:our-own");
    let mut blocked = followed();
    blocked.config.policy.block = vec!["b.example".into()];
    blocked.check(&announce(json!("https://b.example/objects/1")), relay_actor, "ignore:origin-not-relayed");
    let mut rejected = followed();
    rejected.following.as_mut().unwrap().state = FollowState::Rejected;
    rejected.check(&announce(json!("https://b.example/objects/1")), relay_actor, "ignore:boost");
    let mut in_return = followed();
    in_return.following.as_mut().unwrap().by_operator = false;
    in_return.check(&announce(json!("https://b.example/objects/1")), relay_actor, "ignore:boost");
}

#[test]
fn changes_are_the_authors_own() {
    let scene = Scene::default();
    let ld = signed_by("https://a.example/users/ada#main-key");
    scene.check(&activity("Update", &note(&json!({})), &ld), ADA, "change:carried");
    scene.check(
        &activity("Update", &note(&json!({ "attributedTo": "https://a.example/users/eve" })), &ld),
        ADA,
        "ignore:object-of-another-author",
    );
    // An edit that withdraws the post from the public is a deletion, and its body is not kept.
    let withdrawn = scene.route(&activity("Update", &note(&json!({ "to": [], "cc": [] })), &ld), ADA);
    assert!(
        matches!(&withdrawn[..], [Effect::Delete(draft)] if draft.body.is_empty() && !draft.carried),
        "{withdrawn:?}"
    );
    scene.check(&activity("Update", &json!({ "id": ADA, "type": "Person" }), &ld), ADA, "change:carried");
    scene.check(
        &activity("Delete", &json!({ "id": "https://a.example/notes/1", "type": "Tombstone" }), &ld),
        ADA,
        "delete:carried",
    );
    scene.check(&activity("Delete", &json!("https://a.example/notes/1"), &json!({})), ADA, "delete:plain");
    scene.check(
        &activity("Delete", &json!("https://b.example/notes/1"), &ld),
        ADA,
        "ignore:deletion-of-anothers-object",
    );
    let of_actor = scene.route(&activity("Delete", &json!(ADA), &ld), ADA);
    assert!(matches!(&of_actor[..], [Effect::Forget(_), Effect::Delete(_)]), "{of_actor:?}");
}

#[test]
fn follows_are_of_the_public_or_of_the_relays_actor() {
    let scene = Scene { state: None, ..Scene::default() };
    for public in ["as:Public", "Public", PUBLIC] {
        scene.check(&activity("Follow", &json!(public), &json!({})), ADA, "join:Mastodon");
    }
    scene.check(
        &activity("Follow", &json!("https://relay.example/actor"), &json!({ "id": null })),
        ADA,
        "join:Litepub",
    );
    scene.check(
        &activity("Follow", &json!("https://relay.example/actor2"), &json!({})),
        ADA,
        "ignore:follow-of-somebody-else",
    );
    scene.check(
        &activity("Follow", &json!("https://b.example/users/bob"), &json!({})),
        ADA,
        "ignore:follow-of-somebody-else",
    );
}

#[test]
fn an_undo_names_its_follow_in_three_forms() {
    let scene = Scene::default();
    let undo = |object: Value| activity("Undo", &object, &json!({}));
    scene.check(&undo(json!("https://a.example/follows/1")), ADA, "leave:true:None");
    let follow = json!({ "id": "https://a.example/follows/1", "type": "Follow", "actor": ADA, "object": PUBLIC });
    scene.check(&undo(follow.clone()), ADA, "leave:true:Some(Mastodon)");
    let mut without = follow.clone();
    merge(&mut without, &json!({ "id": null, "object": ["https://relay.example/actor"] }));
    scene.check(&undo(without), ADA, "leave:false:Some(Litepub)");
    let mut anothers = follow;
    anothers["actor"] = "https://a.example/users/eve".into();
    scene.check(&undo(anothers), ADA, "ignore:undo-of-somebody-else");
    scene.check(
        &undo(json!({ "id": "https://a.example/likes/1", "type": "Like", "object": "https://b.example/1" })),
        ADA,
        "ignore:undo-not-relayed",
    );
}

#[test]
fn answers_count_only_for_the_follow_they_name() {
    let following = Following {
        actor: iri(ADA),
        inbox: iri("https://a.example/inbox"),
        style: Style::Litepub,
        follow_id: "https://relay.example/activities/follow/7".into(),
        state: FollowState::Pending,
        by_operator: false,
        at: NOW,
    };
    let scene = Scene { following: Some(following), ..Scene::default() };
    let ours = json!("https://relay.example/activities/follow/7");
    scene.check(&activity("Accept", &ours, &json!({})), ADA, "answer:true");
    scene.check(&activity("Reject", &ours, &json!({})), ADA, "answer:false");
    let embedded = json!({ "type": "Follow", "actor": "https://relay.example/actor", "object": ADA });
    scene.check(&activity("Accept", &embedded, &json!({})), ADA, "answer:true");
    scene.check(
        &activity("Accept", &json!("https://relay.example/activities/follow/8"), &json!({})),
        ADA,
        "ignore:answer-to-another",
    );
    Scene::default().check(&activity("Accept", &ours, &json!({})), ADA, "ignore:answer-to-nothing");
}

#[test]
fn nothing_private_is_ever_relayed() {
    let scene = Scene::default();
    for kind in
        ["Like", "EmojiReact", "Dislike", "Offer", "QuoteRequest", "Join", "Read", "View", "Add", "Remove", "Listen"]
    {
        scene.check(&activity(kind, &json!("https://b.example/notes/1"), &json!({})), ADA, "ignore:kind-not-relayed");
    }
    scene.check(
        &activity("Move", &json!(ADA), &json!({ "target": "https://b.example/users/ada" })),
        ADA,
        "ignore:move",
    );
}

#[test]
fn a_blocked_person_is_not_heard_but_may_leave_and_delete() {
    let mut scene = Scene::default();
    scene.config.policy.block_actors = vec![ADA.to_owned()];
    let create = activity("Create", &note(&json!({})), &json!({}));
    scene.check(&create, ADA, "ignore:blocked-actor");
    scene.check(&create, "https://a.example/actor", "ignore:blocked-actor");
    scene.check(&activity("Follow", &json!(PUBLIC), &json!({})), ADA, "ignore:blocked-actor");
    scene.check(&activity("Delete", &json!("https://a.example/notes/1"), &json!({})), ADA, "delete:plain");
    scene.check(&activity("Undo", &json!("https://a.example/follows/1"), &json!({})), ADA, "leave:true:None");
    // What a blocked relay actor passes on is not heard either.
    scene.config.policy.block_actors = vec!["https://a.example/actor".to_owned()];
    scene.check(&create, "https://a.example/actor", "ignore:blocked-actor");
    scene.check(&create, ADA, "relay:plain");
}

const SEARCH: &str = "https://relay.example/search/actor";

fn admin(actor: &str) -> SwitchedBy {
    SwitchedBy::Admin { actor: iri(actor), inbox: iri("https://a.example/inbox"), follow: json!({}) }
}

/// A server that is no subscriber and that search is on for, at the search actor's inbox.
fn searched() -> Scene {
    let search = Some(vec![("a.example", admin("https://a.example/actor"))]);
    Scene { state: None, inbox: Inbox::Search, search, ..Scene::default() }
}

#[test]
fn a_follow_of_the_search_actor_is_known_by_its_object_or_by_where_it_came() {
    let (at_relay, at_search) = (Scene { search: Some(vec![]), state: None, ..Scene::default() }, searched());
    let follow = |object: &str| activity("Follow", &json!(object), &json!({}));
    at_relay.check(&follow(PUBLIC), ADA, "join:Mastodon");
    at_search.check(&follow(PUBLIC), ADA, "search-on");
    for scene in [&at_relay, &at_search] {
        scene.check(&follow(SEARCH), ADA, "search-on");
        scene.check(&follow("https://relay.example/actor"), ADA, "join:Litepub");
        scene.check(&follow("https://relay.example/search"), ADA, "ignore:follow-of-somebody-else");
    }
    Scene { state: None, ..Scene::default() }.check(&follow(SEARCH), ADA, "ignore:follow-of-somebody-else");
    // Nobody switches it on for somebody else.
    at_search.check(&follow(SEARCH), "https://a.example/actor", "ignore:hint-not-about-a-post");
    at_search.check(&follow(SEARCH), BOB, "ignore:said-by-somebody-else");
}

#[test]
fn an_undo_of_it_is_understood_at_either_inbox() {
    let at_relay = Scene { inbox: Inbox::Relay, ..searched() };
    let undo = |object: Value| activity("Undo", &object, &json!({}));
    let follow =
        |object: &str| json!({ "id": "https://a.example/follows/1", "type": "Follow", "actor": ADA, "object": object });
    searched().check(&undo(json!("https://a.example/follows/1")), ADA, "search-off:true");
    at_relay.check(&undo(json!("https://a.example/follows/1")), ADA, "leave:true:None");
    searched().check(&undo(follow(PUBLIC)), ADA, "search-off:true");
    at_relay.check(&undo(follow(PUBLIC)), ADA, "leave:true:Some(Mastodon)");
    for scene in [searched(), at_relay] {
        scene.check(&undo(follow(SEARCH)), ADA, "search-off:true");
        let mut without = follow(SEARCH);
        merge(&mut without, &json!({ "id": null }));
        scene.check(&undo(without), ADA, "search-off:false");
        let mut anothers = follow(SEARCH);
        anothers["actor"] = "https://a.example/users/eve".into();
        scene.check(&undo(anothers), ADA, "ignore:undo-of-somebody-else");
    }
}

#[test]
fn posts_are_taken_for_the_search_alone_by_the_same_checks() {
    let create =
        |changes: Value| activity("Create", &note(&changes), &signed_by("https://a.example/users/ada#main-key"));
    searched().check(&create(json!({})), ADA, "search:whole");
    for (changes, expected) in [
        (json!({ "to": [], "cc": [PUBLIC] }), "ignore:not-public"),
        (json!({ "attributedTo": "https://a.example/users/eve" }), "ignore:object-of-another-author"),
        (json!({ "id": "https://b.example/notes/1" }), "ignore:object-of-another-origin"),
        (json!({ "published": "2026-08-01T12:00:00Z" }), "ignore:too-old"),
    ] {
        searched().check(&create(changes), ADA, expected);
    }
    let long = create(json!({ "content": "x".repeat(MAX_CARRIED) }));
    searched().check(&long, ADA, "search:empty");
    // Who is no subscriber gives the relay nothing, search or not; who is one gives the search nothing twice.
    Scene { inbox: Inbox::Relay, ..searched() }.check(&create(json!({})), ADA, "ignore:not-a-subscriber");
    let member = Scene { state: Some(SubscriberState::Active), ..searched() };
    for kind in ["Create", "Update"] {
        member.check(&activity(kind, &note(&json!({})), &json!({})), ADA, "ignore:comes-by-the-relay");
    }
    member.check(&activity("Announce", &json!("https://a.example/1"), &json!({})), ADA, "ignore:comes-by-the-relay");
    member.check(&activity("Delete", &json!("https://a.example/notes/1"), &json!({})), ADA, "delete:plain");
    Scene { state: Some(SubscriberState::Pending), ..searched() }.check(&create(json!({})), ADA, "search:whole");
    Scene { search: Some(vec![]), ..searched() }.check(&create(json!({})), ADA, "ignore:search-not-on");
    let mut silenced = searched();
    silenced.config.policy.silence = vec!["a.example".into()];
    silenced.check(&create(json!({})), ADA, "ignore:silenced");
    // Another's word is a hint here too, with a proof it is the author's; and the author's server decides as well.
    let server = "https://a.example/actor";
    searched().check(&create(json!({})), server, "hint-for-search:https://a.example/notes/1");
    let proven = activity("Create", &note(&json!({})), &proof());
    let both = || vec![("a.example", SwitchedBy::Operator), ("b.example", SwitchedBy::Operator)];
    let brought = || Scene { prover: Some(ADA), search: Some(both()), ..searched() };
    brought().check(&proven, BOB, "search:whole");
    let one = |host: &'static str| Scene { search: Some(vec![(host, SwitchedBy::Operator)]), ..brought() };
    one("b.example").check(&proven, BOB, "ignore:author-search-not-on");
    one("a.example").check(&proven, BOB, "ignore:search-not-on");
    Scene { prover: None, ..brought() }.check(&proven, BOB, "ignore:said-by-somebody-else");
}

#[test]
fn an_announce_is_a_hint_to_the_search_from_the_actor_that_switched_it_on() {
    let server = "https://a.example/actor";
    let announce = |object: &str, actor: &str| activity("Announce", &json!(object), &json!({ "actor": actor }));
    let own = "https://a.example/notes/1";
    searched().check(&announce(own, server), server, "hint-for-search:https://a.example/notes/1");
    searched().check(&announce("https://b.example/1", server), server, "ignore:announce-of-anothers-post");
    searched().check(&announce(own, ADA), ADA, "ignore:boost");
    let by_operator = Scene { search: Some(vec![("a.example", SwitchedBy::Operator)]), ..searched() };
    by_operator.check(&announce(own, server), server, "ignore:boost");
}

#[test]
fn bytes_are_kept_for_the_search_and_carried_for_nobody() {
    let member = Scene { search: searched().search, ..Scene::default() };
    let kept = |scene: &Scene, document: &Value| match scene.route(document, ADA).pop() {
        Some(Effect::Relay(draft) | Effect::Change(draft) | Effect::Delete(draft)) => {
            (draft.relayed, draft.carried, !draft.body.is_empty())
        }
        other => panic!("{other:?}"),
    };
    for kind in ["Create", "Update"] {
        let plain = activity(kind, &note(&json!({})), &json!({}));
        assert_eq!(kept(&member, &plain), (true, false, true), "{kind}");
        assert_eq!(kept(&Scene::default(), &plain), (true, false, false), "{kind}: nobody reads it");
        let signed = activity(kind, &note(&json!({})), &signed_by("https://a.example/users/ada#main-key"));
        assert_eq!(kept(&member, &signed), (true, true, true), "{kind}");
    }
    let delete = activity("Delete", &json!("https://a.example/notes/1"), &json!({}));
    assert_eq!(kept(&member, &delete), (true, false, false));
    let profile = activity("Update", &json!({ "id": ADA, "type": "Person" }), &json!({}));
    assert_eq!(kept(&member, &profile), (true, false, false), "a profile is read from its origin");
}

#[test]
fn who_is_in_the_search_gets_out_of_it_member_or_not() {
    let stranger = |known| Scene { state: None, known, ..Scene::default() };
    let at_search = |known| Scene { known, search: Some(vec![]), ..searched() };
    let delete = activity("Delete", &json!("https://a.example/notes/1"), &json!({}));
    let of_actor = activity("Delete", &json!(ADA), &json!({}));
    let quiet = activity("Update", &note(&json!({ "to": [], "cc": [] })), &json!({}));
    let edit = activity("Update", &note(&json!({})), &json!({}));
    for (scene, why) in [(stranger as fn(bool) -> Scene, "not-a-subscriber"), (at_search, "search-not-on")] {
        for gone in [&delete, &of_actor, &quiet] {
            scene(true).check(gone, ADA, "delete-for-search");
        }
        let ignored = format!("ignore:{why}");
        scene(true).check(&edit, ADA, &ignored);
        for gone in [&quiet, &edit] {
            scene(false).check(gone, ADA, &ignored);
        }
        scene(false).check(&delete, ADA, "ignore:not-a-subscriber");
        // Its server says so: it is read again.
        scene(true).check(&delete, "https://a.example/actor", "recheck-for-search:https://a.example/notes/1");
        scene(true).check(&delete, BOB, "ignore:said-by-somebody-else");
    }
    // Of a server that search is on for, what is not in it yet may be on its way.
    searched().check(&delete, ADA, "delete-for-search");
}

#[test]
fn a_profile_that_says_no_itself_is_believed_at_once() {
    let update = |changes: &Value| {
        let mut person = json!({ "id": ADA, "type": "Person", "indexable": true });
        merge(&mut person, changes);
        activity("Update", &person, &json!({}))
    };
    let words = |scene: &Scene, changes: &Value| -> Vec<String> {
        let effects = scene.route(&update(changes), ADA).into_iter();
        effects
            .map(|effect| match effect {
                Effect::Forget(_) => "forget".to_owned(),
                Effect::Withdraw(why) => why.to_owned(),
                Effect::Ignore(why) => why.to_owned(),
                Effect::Change(draft) => format!("change:{}", draft.relayed),
                other => format!("{other:?}"),
            })
            .collect()
    };
    let member = Scene { known: true, ..Scene::default() };
    assert_eq!(words(&member, &json!({})), ["forget", "change:true"]);
    assert_eq!(words(&member, &json!({ "suspended": true })), ["forget", "suspended", "change:true"]);
    assert_eq!(words(&member, &json!({ "indexable": false })), ["forget", "not-indexable", "change:true"]);
    // A no counts in any form; what a part of a profile leaves out is for its origin to say.
    assert_eq!(words(&member, &json!({ "indexable": "false" })), ["forget", "not-indexable", "change:true"]);
    assert_eq!(words(&member, &json!({ "summary": "#nosearch" })), ["forget", "opt-out-word", "change:true"]);
    assert_eq!(words(&member, &json!({ "searchableBy": [] })), ["forget", "searchers", "change:true"]);
    assert_eq!(words(&member, &json!({ "indexable": null })), ["forget", "change:true"]);
    let whole = json!({ "indexable": null, "inbox": "https://a.example/inbox" });
    assert_eq!(words(&member, &whole), ["forget", "not-indexable", "change:true"]);
    let no = json!({ "indexable": false });
    assert_eq!(words(&Scene::default(), &no), ["forget", "change:true"], "there is nothing to take out");
    assert_eq!(words(&searched(), &no), ["forget", "not-indexable", "change:false"], "but she may be being read");
    let known = Scene { known: true, ..searched() };
    assert_eq!(words(&known, &json!({})), ["forget", "change:false"]);
    let at_relay = Scene { inbox: Inbox::Relay, ..searched() };
    assert_eq!(words(&at_relay, &json!({})), ["forget", "change:false"]);
    let stranger = Scene { state: None, known: true, ..Scene::default() };
    assert_eq!(words(&stranger, &no), ["forget", "not-indexable"]);
    assert_eq!(words(&stranger, &json!({})), ["forget", "not-a-subscriber"]);
    let twice = Scene { state: Some(SubscriberState::Active), ..searched() };
    assert_eq!(words(&twice, &json!({})), ["forget", "comes-by-the-relay"]);
}

#[test]
fn a_block_of_any_actor_of_ours_counts_whoever_says_it() {
    let mut blocked = Scene::default();
    blocked.config.policy.block_actors = vec![ADA.to_owned()];
    let stranger = Scene { state: None, ..Scene::default() };
    for scene in [Scene::default(), stranger, searched(), blocked] {
        for object in ["https://relay.example/actor", SEARCH] {
            let block = activity("Block", &json!(object), &json!({ "id": "https://a.example/blocks/1" }));
            scene.check(&block, ADA, "blocked");
            let mut plain = block.clone();
            merge(&mut plain, &json!({ "@context": null }));
            scene.check(&activity("Undo", &plain, &json!({})), ADA, "unblocked");
            merge(&mut plain, &json!({ "actor": "https://a.example/users/eve" }));
            scene.check(&activity("Undo", &plain, &json!({})), ADA, "ignore:undo-of-somebody-else");
            // For somebody else nobody blocks us.
            let by_server = scene.word(&block, "https://a.example/actor");
            assert!(by_server.starts_with("ignore:"), "{by_server}");
        }
        scene.check(&activity("Block", &json!("https://b.example/actor"), &json!({})), ADA, "ignore:block");
    }
}

/// Whatever becomes of the new version: what came before it is found no longer.
#[test]
fn an_edit_voids_what_came_before_by_its_author_or_an_actor_that_speaks_for_them_and_nobody_else() {
    let on = || Some(vec![("a.example", SwitchedBy::Operator)]);
    let voids = |scene: &Scene, document: &Value, signer: &str| {
        let effects = scene.route(document, signer);
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Void(object) if object.as_str() == "https://a.example/notes/1"))
    };
    let edit = |object: &Value| activity("Update", object, &json!({}));
    let (id, whole, private) = (json!("https://a.example/notes/1"), note(&json!({})), note(&json!({ "to": [] })));
    let scene = Scene { search: on(), ..Scene::default() };
    for object in [&id, &whole, &private] {
        assert!(voids(&scene, &edit(object), ADA), "{object}");
        assert!(voids(&scene, &edit(object), "https://a.example/actor"), "{object}");
        assert!(!voids(&scene, &edit(object), "https://a.example/users/eve"), "{object}");
        assert!(!voids(&scene, &edit(object), "https://b.example/actor"), "{object}");
    }
    assert!(voids(&scene, &activity("Delete", &id, &json!({})), "https://a.example/actor"));
    assert!(!voids(&scene, &activity("Create", &whole, &json!({})), ADA));
    // Where there is no search, and nothing of theirs is found, there is nothing to be voided.
    assert!(!voids(&Scene::default(), &edit(&whole), ADA));
    assert!(voids(&Scene { known: true, ..Scene::default() }, &edit(&whole), ADA));
    let other = note(&json!({ "id": "https://b.example/notes/1" }));
    assert!(scene.route(&edit(&other), ADA).iter().all(|effect| !matches!(effect, Effect::Void(_))));
}

#[test]
fn where_there_are_trends_a_members_boost_is_noted_and_can_be_taken_back() {
    let boost = activity("Announce", &json!("https://b.example/notes/1"), &json!({}));
    let undo = activity("Undo", &boost, &json!({}));
    let counted = Scene { counted: true, ..Scene::default() };
    counted.check(&boost, ADA, "boost:https://b.example/notes/1");
    counted.check(&undo, ADA, "unboost:https://b.example/notes/1");
    let private = activity(
        "Announce",
        &json!("https://b.example/notes/1"),
        &json!({ "to": [format!("{ADA}/followers")], "cc": [] }),
    );
    counted.check(&private, ADA, "ignore:boost");
    let others = activity(
        "Undo",
        &json!({ "id": "https://a.example/1", "type": "Announce", "actor": "https://a.example/users/bo",
        "object": "https://b.example/notes/1" }),
        &json!({}),
    );
    counted.check(&others, ADA, "ignore:undo-of-somebody-else");
    Scene::default().check(&boost, ADA, "ignore:boost");
    Scene::default().check(&undo, ADA, "ignore:undo-not-relayed");
    Scene { state: None, counted: true, ..Scene::default() }.check(&boost, ADA, "ignore:boost");
    Scene { state: None, counted: true, ..Scene::default() }.check(&undo, ADA, "ignore:not-a-subscriber");
}

#[test]
fn where_there_are_trends_every_edit_voids_and_a_profile_that_says_no_to_both_uncounts() {
    let counted = Scene { counted: true, ..Scene::default() };
    let edit = activity("Update", &note(&json!({})), &json!({}));
    assert!(matches!(counted.route(&edit, ADA)[..], [Effect::Void(_), Effect::Change(_)]));
    assert!(matches!(Scene::default().route(&edit, ADA)[..], [Effect::Change(_)]));
    let says = |indexable: bool, discoverable: bool| {
        let person = json!({ "id": ADA, "type": "Person", "indexable": indexable, "discoverable": discoverable });
        let effects = counted.route(&activity("Update", &person, &json!({})), ADA);
        effects.iter().any(|effect| matches!(effect, Effect::Uncount(_)))
    };
    assert_eq!(
        [says(true, true), says(true, false), says(false, true), says(false, false)],
        [false, false, false, true]
    );
    // The body is kept for who counts to read.
    let Some(Effect::Relay(draft)) = counted.route(&activity("Create", &note(&json!({})), &json!({})), ADA).pop()
    else {
        panic!("it is relayed");
    };
    assert!(!draft.carried && !draft.body.is_empty());
}
