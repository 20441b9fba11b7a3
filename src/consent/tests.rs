//! What is decided, case by case (`tests/fixtures/search/consent.json`, made to be read), and what holds for every case.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);
const USES: [(&str, Use); 3] = [("posts", Use::Posts), ("account", Use::Account), ("trends", Use::Trends)];

fn hours(count: u64) -> Duration {
    Duration::from_secs(3600 * count)
}

fn actor() -> Value {
    json!({
        "id": "https://a.example/users/ada", "type": "Person", "preferredUsername": "ada", "name": "Ada",
        "summary": "<p>birds</p>", "indexable": true, "discoverable": true, "manuallyApprovesFollowers": false,
    })
}

fn post() -> Value {
    json!({
        "id": "https://a.example/notes/1", "type": "Note", "attributedTo": "https://a.example/users/ada",
        "to": ["https://www.w3.org/ns/activitystreams#Public"], "cc": ["https://a.example/users/ada/followers"],
        "published": "2026-08-23T11:59:00Z", "content": "<p>a shearwater!</p>",
    })
}

/// A case that owns what it is made of.
#[derive(Debug, Clone)]
struct Scene {
    actor: Value,
    post: Value,
    read_at: Option<Timestamp>,
    author: Author,
    server: Server,
    deleted: bool,
    terms: Terms,
}

impl Scene {
    fn new() -> Self {
        Self {
            actor: actor(),
            post: post(),
            read_at: Some(NOW),
            author: Author::default(),
            server: Server { on_since: Some(NOW.minus(hours(720))), ruled_out: false },
            deleted: false,
            terms: Terms {
                now: NOW,
                occasion: Occasion::Taking,
                strictness: Strictness::Standard,
                read_within: Duration::MAX,
                retention: hours(720),
            },
        }
    }

    fn with_case<T>(&self, ask: impl FnOnce(&Case<'_>) -> T) -> T {
        let (actor, post) = (ActorSignals::of(&self.actor), ObjectSignals::of(&self.post));
        ask(&Case {
            reading: self.read_at.map(|at| Reading { signals: &actor, at }),
            author: self.author,
            server: self.server,
            post: Some(Post { signals: &post, deleted: self.deleted }),
            terms: self.terms,
        })
    }

    fn decide(&self, wanted: Use) -> Decision {
        self.with_case(|case| consent(wanted, case))
    }

    /// Changes what is known besides the documents, by the words of the table.
    fn know(&mut self, what: &str, value: &Value) {
        let number = || value.as_u64().unwrap_or_else(|| panic!("{what} is a number"));
        let ago = || value.as_u64().map(|count| NOW.minus(hours(count)));
        let is = value.as_bool().unwrap_or_default();
        match what {
            "read" => self.read_at = ago(),
            "read_within" => self.terms.read_within = hours(number()),
            "since" => self.author.since = ago(),
            "on_since" => self.server.on_since = ago(),
            "days" => self.terms.retention = hours(24 * number()),
            "strictness" => self.terms.strictness = serde_json::from_value(value.clone()).expect("a strictness"),
            "keep" => self.terms.occasion = Occasion::Keeping,
            "deleted" => self.deleted = is,
            "removed" => self.author.removed = is,
            "blocks" => self.author.blocks = is,
            "refused" => self.author.refused = is,
            "ruled_out" => self.server.ruled_out = is,
            other => panic!("{other} is nothing that can be known"),
        }
    }
}

fn extend(document: &mut Value, more: &Map<String, Value>) {
    document.as_object_mut().expect("an object").extend(more.clone());
}

#[test]
fn every_case_of_the_table_is_decided_as_it_says() {
    let rows: Vec<Map<String, Value>> =
        serde_json::from_str(include_str!("../../tests/fixtures/search/consent.json")).expect("the table");
    let (mut cases, mut wrong, mut seen) = (0, Vec::new(), HashSet::new());
    for row in rows.iter().filter(|row| !row.contains_key("about")) {
        let name = row["case"].as_str().expect("a name");
        let mut scene = Scene::new();
        let part =
            |key: &str| row.get(key).map(|part| part.as_object().expect("an object").clone()).unwrap_or_default();
        extend(&mut scene.actor, &part("actor"));
        extend(&mut scene.post, &part("post"));
        for path in row.get("without").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let (document, member) = path.split_once('.').expect("document.member");
            let document = if document == "actor" { &mut scene.actor } else { &mut scene.post };
            document.as_object_mut().expect("an object").remove(member).unwrap_or_else(|| panic!("{path} was there"));
        }
        part("known").iter().for_each(|(what, value)| scene.know(what, value));
        for (word, wanted) in USES {
            let Some(expected) = row.get(word).and_then(Value::as_str) else { continue };
            cases += 1;
            let found = scene.decide(wanted);
            seen.insert(found.as_str());
            if found.as_str() != expected {
                let all: Vec<_> = scene.with_case(|case| reasons(wanted, case).map(Reason::as_str).collect());
                wrong.push(format!("{name}: {word} should be {expected}, is {all:?}"));
            }
        }
        for key in row.keys() {
            let known = ["case", "actor", "post", "without", "known", "posts", "account", "trends"];
            assert!(known.contains(&key.as_str()), "{name}: {key}?");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases >= 150, "{cases} cases");
    let untold: Vec<_> = Reason::ALL.into_iter().filter(|reason| !seen.contains(reason.as_str())).collect();
    assert!(untold.is_empty(), "no case is denied for {untold:?}");
}

#[test]
fn reasons_have_an_order_a_word_and_a_sentence_each() {
    assert!(Reason::ALL.is_sorted());
    let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), json!(reason.as_str()));
        assert!(reason.sentence().ends_with('.'), "{reason:?}");
    }
    assert_eq!(Reason::ALL.last().map(|last| *last as usize + 1), Some(Reason::ALL.len()), "none is left out");
}

#[test]
fn all_reasons_are_told_in_order_and_the_first_decides() {
    let mut scene = Scene::new();
    extend(&mut scene.actor, json!({"indexable": false, "summary": "#nobot", "noindex": true}).as_object().unwrap());
    scene.server.on_since = None;
    let told: Vec<_> = scene.with_case(|case| reasons(Use::Posts, case).collect());
    assert_eq!(told, [Reason::ServerOff, Reason::NotIndexable, Reason::Noindex, Reason::OptOutWord]);
    assert_eq!(scene.decide(Use::Posts), Decision::Deny(Reason::ServerOff));
}

#[test]
fn without_a_post_it_is_told_how_the_author_stands() {
    let about = |scene: &Scene| {
        scene.with_case(|case| {
            reasons(Use::Posts, &Case { post: None, ..*case }).map(Reason::as_str).collect::<Vec<_>>()
        })
    };
    let mut scene = Scene::new();
    scene.deleted = true;
    assert_eq!(about(&scene), Vec::<&str>::new());
    extend(&mut scene.actor, json!({"indexable": false}).as_object().unwrap());
    assert_eq!(about(&scene), ["not-indexable"]);
    scene.read_at = None;
    assert_eq!(about(&scene), ["unread"]);
}

#[test]
fn what_is_unread_is_read_only_if_nothing_else_stands_against_it() {
    let known_before = Reason::ALL.iter().take_while(|reason| **reason != Reason::Unread);
    for reason in known_before {
        assert!(*reason < Reason::Unread && *reason < Reason::Stale);
    }
    let mut scene = Scene::new();
    scene.read_at = None;
    assert_eq!(scene.with_case(|case| reasons(Use::Posts, case).collect::<Vec<_>>()), [Reason::Unread]);
}

/// Members that deny, put into either document.
fn deny_signals() -> Vec<(bool, Value)> {
    let (on_actor, on_post) = (true, false);
    vec![
        (on_actor, json!({"indexable": false})),
        (on_actor, json!({"toot:indexable": false, "discoverable": false})),
        (on_actor, json!({"searchableBy": []})),
        (on_actor, json!({"searchableBy": ["as:Public", "kmyblue:Limited"]})),
        (on_actor, json!({"canSearch": []})),
        (on_actor, json!({"noindex": true})),
        (on_actor, json!({"isIndexable": false})),
        (on_actor, json!({"summary": "<p>#nobot</p>"})),
        (on_actor, json!({"name": "noindex"})),
        (on_actor, json!({"tag": [{"type": "Hashtag", "name": "#nosearch"}]})),
        (on_actor, json!({"summary": "[searchability:private]"})),
        (on_actor, json!({"suspended": true})),
        (on_actor, json!({"memorial": true})),
        (on_actor, json!({"_misskey_requireSigninToViewContents": true})),
        (on_post, json!({"searchableBy": ["https://a.example/users/ada/followers"]})),
        (on_post, json!({"canSearch": []})),
        (on_post, json!({"indexable": false})),
        (on_post, json!({"noindex": true})),
        (on_post, json!({"tag": [{"type": "Hashtag", "name": "#noarchive"}]})),
        (on_post, json!({"to": ["https://a.example/users/ada/followers"]})),
        (on_post, json!({"attributedTo": "https://b.example/users/ada"})),
    ]
}

/// Members that are harmless or deny or are odd, in either document.
fn quirks() -> Vec<(bool, Value)> {
    let mut all = deny_signals();
    for value in
        [json!(null), json!("true"), json!(1), json!([]), json!(["as:Public"]), json!({"id": "Public"}), json!(true)]
    {
        for name in
            ["indexable", "toot:indexable", "discoverable", "searchableBy", "canSearch", "isIndexable", "movedTo"]
        {
            all.push((true, json!({name: value})));
            all.push((false, json!({name: value})));
        }
    }
    all.push((true, json!({"summary": "#searchable", "manuallyApprovesFollowers": true})));
    all.push((true, json!({"type": "Service"})));
    all.push((false, json!({"type": "Video", "published": "2026-08-01T00:00:00Z"})));
    all
}

/// What is known, and speaks against it.
const DENIES: [(&str, bool); 6] = [
    ("deleted", true),
    ("removed", true),
    ("blocks", true),
    ("refused", true),
    ("ruled_out", true),
    ("on_since", false),
];

prop_compose! {
    fn scenes()(
        changes in subsequence(quirks(), 0..4),
        known in subsequence(DENIES.to_vec(), 0..2),
        strictness in select(vec![Strictness::Standard, Strictness::Strict, Strictness::Explicit]),
        keeps in any::<bool>(),
        (read, since) in (0_u64..400, proptest::option::of(0_u64..400)),
    ) -> Scene {
        let mut scene = Scene::new();
        for (on_actor, change) in &changes {
            extend(if *on_actor { &mut scene.actor } else { &mut scene.post }, change.as_object().expect("an object"));
        }
        known.iter().for_each(|(what, value)| scene.know(what, &json!(value)));
        scene.author.since = since.map(|count| NOW.minus(hours(count)));
        scene.terms.strictness = strictness;
        scene.terms.occasion = if keeps { Occasion::Keeping } else { Occasion::Taking };
        scene.read_at = Some(NOW.minus(hours(if read > 350 { read } else { read / 20 })));
        scene
    }
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        select(vec!["as:Public", "Note", "https://a.example/users/ada", "#nobot", "2026-08-23T11:59:00Z", "Hashtag"])
            .prop_map(Value::from),
    ];
    let names = || {
        prop_oneof![
            select(vec![
                "id",
                "type",
                "to",
                "tag",
                "name",
                "summary",
                "attachment",
                "indexable",
                "searchableBy",
                "attributedTo",
                "published",
                "value",
                "url",
                "href",
                "summaryMap",
            ])
            .prop_map(str::to_owned),
            "[a-z@:#]{0,6}",
        ]
    };
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((names(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_deny_signal_added_to_anything_denies(scene in scenes(), (on_actor, signal) in select(deny_signals())) {
        let mut after = scene.clone();
        extend(if on_actor { &mut after.actor } else { &mut after.post }, signal.as_object().expect("an object"));
        let decision = after.decide(Use::Posts);
        prop_assert!(!decision.is_allowed(), "{signal} after {:?}", scene.decide(Use::Posts));
    }

    #[test]
    fn what_is_known_against_it_denies(mut scene in scenes(), (what, value) in select(DENIES.to_vec())) {
        scene.know(what, &json!(value));
        prop_assert!(!scene.decide(Use::Posts).is_allowed());
        if what != "deleted" {
            prop_assert!(!scene.decide(Use::Account).is_allowed());
        }
        if what != "on_since" {
            prop_assert!(!scene.decide(Use::Trends).is_allowed());
        }
    }

    #[test]
    fn a_yes_taken_away_never_allows(mut scene in scenes(), which in 0..5) {
        match which {
            0 => { scene.actor.as_object_mut().expect("an object").remove("indexable"); }
            1 => { scene.post.as_object_mut().expect("an object").remove("to"); }
            2 => { scene.post.as_object_mut().expect("an object").remove("attributedTo"); }
            3 => scene.server.on_since = None,
            _ => scene.read_at = None,
        }
        prop_assert!(!scene.decide(Use::Posts).is_allowed());
        scene.actor.as_object_mut().expect("an object").remove("discoverable");
        prop_assert!(!scene.decide(Use::Account).is_allowed());
    }

    #[test]
    fn a_stricter_relay_allows_nothing_that_a_laxer_denies(scene in scenes()) {
        let at = |strictness, wanted| {
            let mut scene = scene.clone();
            scene.terms.strictness = strictness;
            scene.decide(wanted).is_allowed()
        };
        for (_, wanted) in USES {
            prop_assert!(at(Strictness::Strict, wanted) <= at(Strictness::Standard, wanted));
            prop_assert!(at(Strictness::Explicit, wanted) <= at(Strictness::Strict, wanted));
        }
    }

    #[test]
    fn shorter_terms_allow_nothing_that_longer_ones_deny(scene in scenes(), read in 0_u64..400, kept in 0_u64..800) {
        let mut tighter = scene.clone();
        tighter.terms.read_within = tighter.terms.read_within.min(hours(read));
        tighter.terms.retention = tighter.terms.retention.min(hours(kept));
        for (_, wanted) in USES {
            prop_assert!(tighter.decide(wanted).is_allowed() <= scene.decide(wanted).is_allowed());
        }
    }

    #[test]
    fn what_is_taken_may_stay(mut scene in scenes()) {
        scene.terms.occasion = Occasion::Taking;
        let taken = scene.decide(Use::Posts).is_allowed();
        scene.terms.occasion = Occasion::Keeping;
        prop_assert!(taken <= scene.decide(Use::Posts).is_allowed());
    }

    #[test]
    fn no_json_makes_it_panic_or_allows_without_a_yes(one in json_values(), two in json_values()) {
        let mut scene = Scene::new();
        (scene.actor, scene.post) = (one, two);
        for (_, wanted) in USES {
            if scene.decide(wanted).is_allowed() {
                let says = |name: &str| scene.actor.get(name) == Some(&json!(true));
                prop_assert!(says("indexable") || says("discoverable"));
            }
        }
    }

    #[test]
    fn no_moment_makes_it_panic(now in any::<i64>(), read in any::<i64>(), since in any::<i64>(), on in any::<i64>()) {
        let mut scene = Scene::new();
        scene.terms.now = Timestamp::from_millis(now);
        scene.read_at = Some(Timestamp::from_millis(read));
        scene.author.since = Some(Timestamp::from_millis(since));
        scene.server.on_since = Some(Timestamp::from_millis(on));
        let _ = scene.decide(Use::Posts);
    }
}
