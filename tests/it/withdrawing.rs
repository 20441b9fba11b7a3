//! How people get out of the search when their own server does not tell us, and what becomes of who moves, cannot be reached,
//! or is shown to us no more.

use std::time::Duration;

use serde_json::{Value, json};
use shearwater::clock::Clock;
use shearwater::config::Access;
use shearwater::demo::{Answer, As, Author, Family, Fault, Instance, Options, PostSpec, Tweaks, Where};
use shearwater::ids::Iri;
use shearwater::search::authors::AuthorToRead;
use shearwater::store::{IndexedAuthor, Wish};

use crate::searching::{eventually, found, gathered, held, member, searching, switch_on, tell_profile};
use crate::support::{TestRelay, authority, json as parse, publish};

const DAY: Duration = Duration::from_secs(86_400);
/// The longest that may pass at once without being a sleep.
const HOUR: Duration = Duration::from_secs(3600);

/// A relay whose time a test moves.
async fn at_will() -> (TestRelay, Clock) {
    let clock = Clock::manual(Clock::system().now());
    let change = |config: &mut shearwater::config::Config| {
        (config.search.api, config.search.rate, config.search.retention) = (Access::Public, 0, 365 * DAY);
    };
    (TestRelay::start_at(clock.clone(), change).await, clock)
}

/// A server with the same time, whose admin wants search.
async fn member_at(relay: &TestRelay, clock: &Clock, name: &str) -> Instance {
    let authors = ["ada", "grace", "lin"].map(Author::named).to_vec();
    let options = Options { name: name.to_owned(), clock: clock.clone(), authors, ..Options::default() };
    let instance = relay.joined_with(Family::Mastodon, options).await;
    switch_on(relay, &instance).await;
    instance
}

/// Asks about somebody, from some server's address; it is signed, which nobody looks at.
async fn ask(relay: &TestRelay, from: &Instance, what: &str, body: Value) -> Answer {
    ask_behind(relay, from, what, body, "127.0.0.1").await
}

/// The same from another address.
async fn ask_behind(relay: &TestRelay, from: &Instance, what: &str, body: Value, address: &str) -> Answer {
    let headers = vec![("x-forwarded-for".to_owned(), address.to_owned())];
    let tweaks = Tweaks { url: Some(format!("{}/api/v1/search/{what}", relay.url())), headers, ..Tweaks::default() };
    from.send_raw(body.to_string(), &As::Server, &tweaks).await.expect("an answer")
}

fn actor_of(instance: &Instance, name: &str) -> Iri {
    Iri::parse(&instance.actor(&As::Author(name.to_owned()))).expect("an id")
}

fn words(relay: &TestRelay, actor: &Iri) -> Vec<String> {
    let no = relay.store().refused(actor).expect("the store reads");
    no.map_or_else(Vec::new, |no| no.words().into_iter().map(str::to_owned).collect())
}

fn author(relay: &TestRelay, actor: &Iri) -> Option<IndexedAuthor> {
    relay.store().ledger().expect("the store reads").author(actor).expect("the store reads")
}

/// The word of this week.
fn word(relay: &TestRelay, actor: &Iri, wish: Wish) -> String {
    relay.store().token(actor, wish, relay.server.app().state.clock.now())
}

/// Their profile was read so much earlier.
async fn aged(relay: &TestRelay, actor: &Iri, by: Duration) {
    let (actor, row) = (actor.clone(), author(relay, actor).expect("held"));
    let row = IndexedAuthor { read_at: row.read_at.minus(by), ..row };
    relay.store().write(move |tx| tx.put_indexed_author(&actor, row)).await.expect("written");
}

fn waits_to_be_read(relay: &TestRelay) -> bool {
    !relay.store().all::<AuthorToRead>().expect("the store reads").is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_that_the_account_is_theirs_is_taken_out_for_good_and_may_return() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    let (ada, handle) = (actor_of(&yes, "ada"), format!("ada@{}", authority(&yes)));
    let post = publish(&yes, "a kittiwake").await;
    eventually(&relay, "it is found", || found(&relay, "kittiwake") == [post.id.clone()]).await;

    let asked = ask(&relay, &yes, "remove", json!({ "acct": handle })).await;
    assert_eq!(asked.status, 200, "{}", asked.text());
    let token = parse(&asked.body)["token"].as_str().expect("a token").to_owned();
    assert_eq!(token, word(&relay, &ada, Wish::Removal), "the same each time: nothing is kept of it");
    let with = |token: &str| json!({ "acct": handle, "token": token });
    let check = async |body: Value, status: u16, reason: &str| {
        let answer = ask(&relay, &yes, "remove", body).await;
        let said = parse(&answer.body);
        assert_eq!((answer.status, said["reason"].as_str()), (status, Some(reason)), "{said}");
        assert!(said["remedy"].as_str().is_some_and(|remedy| remedy.len() > 20), "{said}");
    };
    let read = yes.fetches();
    check(with("shearwater-remove-00000000000000000000"), 403, "wrong-token").await;
    check(with(&word(&relay, &ada, Wish::Return)), 403, "wrong-token").await;
    check(json!({ "acct": "nobody" }), 400, "nobody").await;
    check(json!({ "acct": format!("who@{}", authority(&yes)) }), 404, "unknown-handle").await;
    assert_eq!(yes.fetches(), read, "for none of these is anybody asked");
    check(with(&token), 422, "not-shown").await;
    check(with(&token), 429, "too-soon").await;
    assert_eq!(
        found(&relay, "kittiwake"),
        std::slice::from_ref(&post.id),
        "anybody may ask, and only the profile counts"
    );

    yes.set_profile("ada", json!({ "summary": format!("<p>I like birds.</p><p>{token}</p>") }));
    check(with(&token), 429, "too-soon").await;
    clock.advance(Duration::from_secs(601));
    let done = ask(&relay, &yes, "remove", with(&token)).await;
    let said = parse(&done.body);
    assert_eq!((done.status, &said["state"], &said["posts"]), (200, &json!("removed"), &json!(1)), "{said}");
    assert!(found(&relay, "kittiwake").is_empty(), "at once");
    eventually(&relay, "nothing is left", || held(&relay) == (0, 0)).await;

    // Nothing else lifts it: no Undo of a Block, no profile.
    let block = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/block", yes.origin()),
                        "type": "Block", "actor": ada, "object": format!("{}/actor", relay.url()) });
    let undo = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/undo", yes.origin()),
                       "type": "Undo", "actor": ada, "object": block });
    for activity in [&block, &undo] {
        let sent = yes.send_raw(activity.to_string(), &As::Author("ada".to_owned()), &Tweaks::default()).await;
        assert_eq!(sent.expect("an answer").status, 202);
    }
    tell_profile(&yes, "ada").await;
    let before = gathered(&relay, "removed");
    publish(&yes, "a kittiwake again").await;
    eventually(&relay, "it was looked at", || gathered(&relay, "removed") > before).await;
    assert!(found(&relay, "kittiwake").is_empty() && held(&relay) == (0, 0));
    assert!(words(&relay, &ada).contains(&"removed".to_owned()));

    // And back, by the address of the account, since no handle is kept of who is not in it.
    clock.advance(Duration::from_secs(601));
    let back = word(&relay, &ada, Wish::Return);
    yes.set_profile("ada", json!({ "summary": back }));
    let returned = ask(&relay, &yes, "remove", json!({ "actor": ada, "token": back, "wish": "return" })).await;
    assert_eq!(returned.status, 200, "{}", returned.text());
    clock.advance(Duration::from_secs(5));
    let later = publish(&yes, "a kittiwake that came back").await;
    eventually(&relay, "what is written from then on is found", || found(&relay, "kittiwake") == [later.id.clone()])
        .await;
    assert!(words(&relay, &ada).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_to_be_read_again_is_within_ten_minutes_and_strangers_are_not_read() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    let (ada, handle) = (actor_of(&yes, "ada"), format!("ada@{}", authority(&yes)));
    let post = publish(&yes, "a guillemot").await;
    eventually(&relay, "it is found", || found(&relay, "guillemot") == [post.id.clone()]).await;
    let read = yes.fetches();
    for stranger in [format!("grace@{}", authority(&yes)), actor_of(&yes, "grace").to_string()] {
        let answer = ask(&relay, &yes, "check", json!({ "acct": stranger })).await;
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
    assert_eq!(yes.fetches(), read, "nothing is read because somebody typed it");
    // Its server tells us nothing of this.
    yes.set_profile("ada", json!({ "indexable": false }));
    let answer = ask(&relay, &yes, "check", json!({ "acct": handle })).await;
    let said = parse(&answer.body);
    assert_eq!((answer.status, &said["indexed"]), (200, &json!(false)), "{said}");
    assert_eq!(said["reasons"][0]["reason"], "not-indexable", "{said}");
    assert!(found(&relay, "guillemot").is_empty(), "what was read counts");
    let read = yes.fetches();
    let soon = ask(&relay, &yes, "check", json!({ "actor": ada })).await;
    assert_eq!((soon.status, yes.fetches()), (404, read), "she is as unknown as any stranger: {}", soon.text());
    yes.set_profile("ada", json!({ "indexable": true }));
    clock.advance(Duration::from_secs(601));
    let read = gathered(&relay, "author-read");
    let again = ask(&relay, &yes, "check", json!({ "actor": ada })).await;
    assert_eq!(again.status, 404, "nothing is held of her: {}", again.text());
    eventually(&relay, "she is read all the same", || gathered(&relay, "author-read") > read).await;
    clock.advance(Duration::from_secs(5));
    let later = publish(&yes, "a guillemot after the new yes").await;
    eventually(&relay, "what is written from then on is found", || found(&relay, "guillemot") == [later.id.clone()])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_from_before_a_consent_are_taken_only_if_their_author_asked() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    let ada = actor_of(&yes, "ada");
    clock.advance(2 * HOUR);
    publish(&yes, "a gannet").await;
    eventually(&relay, "it is found", || found(&relay, "gannet").len() == 1).await;
    for indexable in [false, true] {
        yes.set_profile("ada", json!({ "indexable": indexable }));
        tell_profile(&yes, "ada").await;
        eventually(&relay, "it is heard", || (held(&relay).0 == 0) != indexable || indexable).await;
    }
    clock.advance(Duration::from_secs(5));
    publish(&yes, "a gannet after the new yes").await;
    eventually(&relay, "it is found", || found(&relay, "gannet").len() == 1).await;

    let older = PostSpec { published: Some(clock.now().minus(HOUR)), ..PostSpec::public("a razorbill, an hour ago") };
    let before = gathered(&relay, "before-consent");
    yes.post(older.clone()).await.expect("an answer");
    eventually(&relay, "it is looked at", || gathered(&relay, "before-consent") > before).await;
    assert!(found(&relay, "razorbill").is_empty());

    let token = word(&relay, &ada, Wish::Older);
    let body = json!({ "actor": ada, "wish": "older", "token": token });
    assert_eq!(ask(&relay, &yes, "remove", body.clone()).await.status, 422, "only the profile counts");
    yes.set_profile("ada", json!({ "summary": token }));
    clock.advance(Duration::from_secs(601));
    let done = ask(&relay, &yes, "remove", body).await;
    assert_eq!((done.status, &parse(&done.body)["state"]), (200, &json!("older")), "{}", done.text());
    yes.post(older).await.expect("an answer");
    eventually(&relay, "she asked", || found(&relay, "razorbill").len() == 1).await;
    // But nobody asked for her admin, who said yes two hours before.
    let oldest = PostSpec { published: Some(clock.now().minus(4 * HOUR)), ..PostSpec::public("a razorbill long ago") };
    let before = gathered(&relay, "before-consent");
    yes.post(oldest).await.expect("an answer");
    eventually(&relay, "it is looked at", || gathered(&relay, "before-consent") > before).await;
    assert_eq!(found(&relay, "razorbill").len(), 1);
}

/// Whoever asks for whatever: who tries to use up somebody's readings does their work.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_the_word_of_a_removal_counts() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    for (name, what) in [("ada", "remove"), ("grace", "check")] {
        let actor = actor_of(&yes, name);
        yes.post(PostSpec::public("a little auk").by(name)).await.expect("an answer");
        eventually(&relay, "it is found", || found(&relay, "auk").len() == 1).await;
        let removal = word(&relay, &actor, Wish::Removal);
        let body = json!({ "actor": actor, "wish": "return", "token": word(&relay, &actor, Wish::Return) });
        let early = ask_behind(&relay, &yes, what, body.clone(), "192.0.2.7").await;
        assert_eq!(early.status, if what == "remove" { 422 } else { 200 }, "{}", early.text());
        yes.set_profile(name, json!({ "summary": format!("<p>{removal}</p>") }));
        // They are the first again, and hers comes too soon: it is done nevertheless.
        clock.advance(Duration::from_secs(600));
        let theirs = ask_behind(&relay, &yes, what, body, "192.0.2.7").await;
        assert_eq!(theirs.status, 200, "{}", theirs.text());
        assert!(found(&relay, "auk").is_empty() && words(&relay, &actor).contains(&"removed".to_owned()));
    }
    // And who comes a minute after somebody whose wish was not granted need not wait for ten.
    let lin = actor_of(&yes, "lin");
    let with = |wish| json!({ "actor": lin, "wish": if wish == Wish::Return { "return" } else { "" }, "token": word(&relay, &lin, wish) });
    assert_eq!(ask_behind(&relay, &yes, "remove", with(Wish::Return), "192.0.2.8").await.status, 422);
    yes.set_profile("lin", json!({ "summary": word(&relay, &lin, Wish::Removal) }));
    assert_eq!(ask_behind(&relay, &yes, "remove", with(Wish::Removal), "192.0.2.9").await.status, 429);
    clock.advance(Duration::from_secs(60));
    assert_eq!(ask_behind(&relay, &yes, "remove", with(Wish::Removal), "192.0.2.9").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_word_brings_nobody_back() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    let ada = actor_of(&yes, "ada");
    let (removal, back) = (word(&relay, &ada, Wish::Removal), word(&relay, &ada, Wish::Return));
    let with = |token: &str, wish: &str| json!({ "actor": ada, "wish": wish, "token": token });
    // She once returned and left the word standing, and now wants out again.
    yes.set_profile("ada", json!({ "summary": format!("{back} {removal}") }));
    assert_eq!(ask(&relay, &yes, "remove", with(&removal, "remove")).await.status, 200);
    clock.advance(Duration::from_secs(601));
    let both = ask(&relay, &yes, "remove", with(&back, "return")).await;
    assert_eq!(parse(&both.body)["state"], "removed", "of two words the no counts: {}", both.text());
    assert!(words(&relay, &ada).contains(&"removed".to_owned()));
    yes.set_profile("ada", json!({ "summary": back }));
    clock.advance(15 * DAY);
    let old = ask(&relay, &yes, "remove", with(&back, "return")).await;
    assert_eq!(old.status, 403, "a word of three weeks ago: {}", old.text());
    let new = ask(&relay, &yes, "remove", with(&word(&relay, &ada, Wish::Return), "return")).await;
    assert_eq!(new.status, 422, "and the one of today stands nowhere: {}", new.text());
    assert!(words(&relay, &ada).contains(&"removed".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_of_last_week_is_good_still_and_no_older_one() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    let lin = actor_of(&yes, "lin");
    let removal = word(&relay, &lin, Wish::Removal);
    yes.set_profile("lin", json!({ "summary": removal }));
    let with = json!({ "actor": lin, "token": removal });
    clock.advance(14 * DAY);
    assert_eq!(ask(&relay, &yes, "remove", with).await.status, 403);
    let removal = word(&relay, &lin, Wish::Removal);
    yes.set_profile("lin", json!({ "summary": removal }));
    clock.advance(7 * DAY);
    assert_ne!(word(&relay, &lin, Wish::Removal), removal, "there is a new one");
    let granted = ask(&relay, &yes, "remove", json!({ "actor": lin, "token": removal })).await;
    assert_eq!(granted.status, 200, "{}", granted.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_said_no_looks_like_a_stranger_to_strangers() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    let (ada, grace, nobody) = (actor_of(&yes, "ada"), actor_of(&yes, "grace"), actor_of(&yes, "nobody"));
    let (no, removed) = (ada.clone(), grace.clone());
    let write = move |tx: &mut shearwater::store::Tx<'_>| {
        tx.refuse_author(&no, "not-indexable", shearwater::clock::Timestamp::default())?;
        tx.note_removal(&removed)
    };
    relay.store().write(write).await.expect("written");
    let mut told = std::collections::BTreeSet::new();
    for actor in [&ada, &grace, &nobody] {
        for _ in 0..3 {
            let answer = ask(&relay, &yes, "check", json!({ "actor": actor })).await;
            told.insert((answer.status, answer.text()));
        }
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    let mut told = std::collections::BTreeSet::new();
    for actor in [&ada, &grace, &nobody] {
        let answer =
            yes.fetch(&format!("{}/api/v1/search/consent?acct={actor}", relay.url())).await.expect("an answer");
        told.insert((answer.status, answer.text()));
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    let (_, text) = told.pop_first().expect("one");
    // Nor does who asks for their removal, with the word that anybody is given for anybody.
    clock.advance(Duration::from_secs(600));
    let mut refused = std::collections::BTreeSet::new();
    for actor in [&ada, &grace, &actor_of(&yes, "lin")] {
        let wish = json!({ "actor": actor, "token": word(&relay, actor, Wish::Removal) });
        for _ in 0..2 {
            let answer = ask(&relay, &yes, "remove", wish.clone()).await;
            refused.insert((answer.status, answer.text().replace(actor.as_str(), "WHO")));
        }
    }
    assert_eq!(refused.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [422, 429], "{refused:#?}");
    assert!(
        text.contains("\"indexed\":false") && text.contains("said against it") && !text.contains("unread"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn how_one_stands_is_told_by_the_accounts_address_too() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let ada = actor_of(&yes, "ada");
    let post = publish(&yes, "a scoter").await;
    eventually(&relay, "it is found", || found(&relay, "scoter") == [post.id.clone()]).await;
    let ask = async |who: &str| {
        let answer = yes.fetch(&format!("{}/api/v1/search/consent?acct={who}", relay.url())).await.expect("an answer");
        (answer.status, parse(&answer.body))
    };
    let (_, by_address) = ask(ada.as_str()).await;
    assert_eq!((&by_address["indexed"], &by_address["posts"]), (&json!(true), &json!(1)), "{by_address}");
    assert!(by_address["note"].is_null(), "{by_address}");
    let (_, by_handle) = ask(&format!("ada@{}", authority(&yes))).await;
    assert_eq!(by_handle, by_address);
    // On a server whose handles are shorter than its addresses.
    let (_, unknown) = ask("ada@short.example").await;
    assert!(unknown["note"].as_str().is_some_and(|note| note.contains("acct=https://")), "{unknown}");
    assert_eq!(ask("https://").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_plain_words_for_who_reads_those_and_only_where_there_is_a_search() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let post = |url: String, form: &'static str| async move {
        let socket = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.expect("a connection");
        let (host, length) = (url.trim_start_matches("http://").to_owned(), form.len());
        let request = format!(
            "POST /api/v1/search/remove HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        );
        let mut socket = socket;
        tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut answer).await.expect("read");
        answer
    };
    let url = relay.url().to_owned();
    let said = post(url.clone(), "actor=https%3A%2F%2Fa.example%2Fusers%2Fada").await;
    assert!(said.contains("200 OK") && said.contains("put this word anywhere into your profile"), "{said}");
    assert!(said.contains("cache-control: no-store") && !said.contains('{'), "{said}");
    let said = post(url.clone(), "acct=ada").await;
    assert!(said.contains("400 Bad Request") && said.contains("Say whose: one handle"), "{said}");
    let said = post(url, "colour=blue").await;
    assert!(said.contains("400 Bad Request") && said.contains("Send acct=name@host"), "{said}");
    let off = TestRelay::start().await;
    for what in ["remove", "check"] {
        assert_eq!(ask(&off, &yes, what, json!({ "acct": "ada@a.example" })).await.status, 404);
        assert_eq!(ask(&relay, &yes, what, json!({ "acct": "x".repeat(20_000) })).await.status, 413);
        assert_eq!(ask(&relay, &yes, what, json!("\u{0}")).await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_freezes_and_takes_no_consent_along() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let ada = actor_of(&yes, "ada");
    let post = publish(&yes, "a fulmar before the move").await;
    eventually(&relay, "it is found", || found(&relay, "fulmar") == [post.id.clone()]).await;
    yes.set_profile("ada", json!({ "movedTo": "https://elsewhere.example/users/ada" }));
    tell_profile(&yes, "ada").await;
    eventually(&relay, "the move is known", || author(&relay, &ada).is_some_and(|author| author.signals.moved)).await;
    assert_eq!(found(&relay, "fulmar"), std::slice::from_ref(&post.id), "the old account still says yes");
    publish(&yes, "a fulmar after the move").await;
    eventually(&relay, "it was looked at", || gathered(&relay, "moved") == 1).await;
    assert_eq!(found(&relay, "fulmar"), [post.id], "nothing new is taken");
    let new = Iri::parse("https://elsewhere.example/users/ada").expect("an id");
    assert!(author(&relay, &new).is_none(), "the new account has to say for itself");
    yes.set_profile("ada", json!({ "indexable": false }));
    tell_profile(&yes, "ada").await;
    eventually(&relay, "and no ends it", || held(&relay) == (0, 0) && found(&relay, "fulmar").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_is_hidden_after_two_weeks_comes_back_and_is_gone_after_thirty_days() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    let ada = actor_of(&yes, "ada");
    let post = publish(&yes, "an albatross").await;
    eventually(&relay, "it is found", || found(&relay, "albatross") == [post.id.clone()]).await;
    yes.set_fault_at(Where::Documents, Fault::Status(503));
    let pass = async |days: u32| {
        aged(&relay, &ada, days * DAY).await;
        clock.advance(HOUR);
    };
    pass(8).await;
    eventually(&relay, "it is time to read it again", || waits_to_be_read(&relay)).await;
    assert_eq!(found(&relay, "albatross"), std::slice::from_ref(&post.id), "a week is nothing");
    pass(6).await;
    let hidden = || author(&relay, &ada).and_then(|author| author.hidden).map(|hidden| hidden.reason);
    eventually(&relay, "it is hidden", || hidden().as_deref() == Some("unreachable")).await;
    assert!(found(&relay, "albatross").is_empty() && held(&relay) == (1, 1), "hidden, and not gone");
    yes.set_fault_at(Where::Documents, Fault::None);
    for _ in 0..5 {
        clock.advance(HOUR);
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    eventually(&relay, "it is back", || found(&relay, "albatross") == [post.id.clone()]).await;
    yes.set_fault_at(Where::Documents, Fault::Status(503));
    pass(8).await;
    eventually(&relay, "it is time again", || waits_to_be_read(&relay)).await;
    aged(&relay, &ada, 23 * DAY).await;
    for _ in 0..5 {
        clock.advance(HOUR);
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    eventually(&relay, "it is gone", || held(&relay) == (0, 0)).await;
    assert_eq!(words(&relay, &ada), ["unreachable"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_us_a_profile_hides_it_and_a_day_later_it_is_gone() {
    for status in [401, 403] {
        let (relay, clock) = at_will().await;
        let yes = member_at(&relay, &clock, &format!("yes {status}")).await;
        let ada = actor_of(&yes, "ada");
        let post = publish(&yes, "a noddy").await;
        eventually(&relay, "it is found", || found(&relay, "noddy") == [post.id.clone()]).await;
        yes.set_fault_at(Where::Documents, Fault::Status(status));
        clock.advance(8 * DAY);
        let hidden = || author(&relay, &ada).and_then(|author| author.hidden).map(|hidden| hidden.reason);
        eventually(&relay, "it is hidden", || hidden().as_deref() == Some("forbidden")).await;
        assert!(found(&relay, "noddy").is_empty() && held(&relay) == (1, 1), "once is not enough");
        clock.advance(DAY);
        eventually(&relay, "it is gone", || held(&relay) == (0, 0)).await;
        assert_eq!(words(&relay, &ada), ["forbidden"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_blocks_us_is_not_even_read() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let ada = actor_of(&yes, "ada");
    let blocked = Iri::parse(&format!("{}/actor", relay.url())).expect("an id");
    let actor = ada.clone();
    relay.store().write(move |tx| tx.note_block(&actor, &blocked)).await.expect("written");
    let reads = || yes.fetches().iter().filter(|(path, _)| path.contains("ada")).map(|(_, count)| *count).sum::<u64>();
    let before = reads();
    let post = yes.post(PostSpec::public("a prion")).await.expect("an answer");
    assert_eq!(post.status(), 202);
    eventually(&relay, "it was looked at", || gathered(&relay, "blocked") == 1).await;
    assert!(!waits_to_be_read(&relay) && held(&relay) == (0, 0));
    // The key that the request was signed with is read for the relay, if anything.
    assert!(reads() <= before + 1, "{:?}", yes.fetches());
}

/// It is also how a restored backup looks: whatever was taken back meanwhile was said to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_sleep_nobody_is_shown_before_their_profile_was_read_anew() {
    let clock = Clock::manual(Clock::system().now().minus(3 * DAY));
    let change = |config: &mut shearwater::config::Config| {
        (config.search.api, config.search.rate) = (Access::Public, 0);
    };
    let relay = TestRelay::start_at(clock.clone(), change).await;
    let (yes, no) = (member_at(&relay, &clock, "yes").await, member_at(&relay, &clock, "no").await);
    let ada = actor_of(&yes, "ada");
    let post = publish(&yes, "a murre").await;
    publish(&no, "a murre too").await;
    eventually(&relay, "both are found", || found(&relay, "murre").len() == 2).await;
    no.set_profile("ada", json!({ "indexable": false }));
    yes.set_fault_at(Where::Documents, Fault::Status(503));
    let relay = relay.restart().await;
    eventually(&relay, "who said no meanwhile is gone", || held(&relay) == (1, 1)).await;
    let hidden = || author(&relay, &ada).and_then(|author| author.hidden).map(|hidden| hidden.reason);
    eventually(&relay, "and the other one waits", || hidden().as_deref() == Some("not-read-since-a-long-sleep")).await;
    assert!(found(&relay, "murre").is_empty());
    yes.set_fault_at(Where::Documents, Fault::None);
    let answer = ask(&relay, &yes, "check", json!({ "actor": ada })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually(&relay, "until it was read", || found(&relay, "murre") == [post.id.clone()]).await;
    // A short one is none.
    let relay = relay.restart().await;
    eventually(&relay, "the index is open", || !found(&relay, "murre").is_empty()).await;
    assert!(author(&relay, &ada).is_some_and(|author| author.hidden.is_none()));
}

/// A laptop that was closed, a machine that was suspended.
#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_without_a_restart_is_a_sleep() {
    let (relay, clock) = at_will().await;
    let yes = member_at(&relay, &clock, "yes").await;
    let post = publish(&yes, "a smew").await;
    eventually(&relay, "it is found", || found(&relay, "smew") == [post.id.clone()]).await;
    yes.set_fault_at(Where::Documents, Fault::Status(503));
    clock.advance(Duration::from_secs(3 * 3600));
    let ada = actor_of(&yes, "ada");
    let hidden = || author(&relay, &ada).and_then(|author| author.hidden).map(|hidden| hidden.reason);
    eventually(&relay, "she is hidden", || hidden().as_deref() == Some("not-read-since-a-long-sleep")).await;
    assert!(found(&relay, "smew").is_empty());
}
