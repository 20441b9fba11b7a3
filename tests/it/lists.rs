//! Lists that others publish: followed by their address, looked at before anything of them counts, and held back where they
//! would change too much.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use shearwater::clock::{Clock, Timestamp};
use shearwater::demo::{Family, Options};
use shearwater::ids::Authority;
use shearwater::relay::enforce::Impact;
use shearwater::relay::lists::{Consent, ListError, Review, Wishes};
use shearwater::store::{Act, ListFeed, Publisher as MaySend, Rule, RuleChange, Severity, Source, Subscriber};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TestRelay, authority};

/// Somebody who publishes a list.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(crate) url: String,
    says: Arc<Mutex<Says>>,
}

struct Says {
    status: u16,
    text: String,
    /// Times that the whole text was sent.
    sent: usize,
}

/// Answers one request and closes.
async fn publish(says: Arc<Mutex<Says>>, mut stream: TcpStream) {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let answer = {
        let mut says = says.lock().expect("sound");
        let etag = format!("\"{}\"", says.text.len());
        let asked = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if asked.contains(&format!("if-none-match: {etag}\r\n")) {
            format!("HTTP/1.1 304 Not Modified\r\netag: {etag}\r\nconnection: close\r\n\r\n")
        } else {
            says.sent += 1;
            let (status, length) = (says.status, says.text.len());
            format!(
                "HTTP/1.1 {status} X\r\netag: {etag}\r\nlocation: /block.csv\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{}",
                says.text
            )
        }
    };
    let _gone = stream.write_all(answer.as_bytes()).await;
}

impl Publisher {
    pub(crate) async fn start(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/block.csv", listener.local_addr().expect("an address"));
        let says = Arc::new(Mutex::new(Says { status: 200, text: text.to_owned(), sent: 0 }));
        let said = says.clone();
        #[expect(clippy::disallowed_methods, reason = "a test's servers fall with its runtime")]
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                publish(said.clone(), stream).await;
            }
        }));
        Self { url, says }
    }

    pub(crate) fn says(&self, status: u16, text: &str) {
        let mut says = self.says.lock().expect("sound");
        (says.status, says.text) = (status, text.to_owned());
    }

    fn feed(&self) -> ListFeed {
        ListFeed {
            url: self.url.clone(),
            severity: Severity::Block,
            auto: false,
            skip_bad: false,
            added: Timestamp::default(),
            etag: None,
            asked_at: None,
            failures: 0,
            trouble: None,
            fetched: None,
            applied: None,
        }
    }
}

fn act() -> Act {
    Act::local("a test")
}

/// A list of so many servers.
pub(crate) fn names(count: usize) -> String {
    (0..count).map(|number| format!("evil{number:03}.example\n")).collect()
}

fn rules_of(relay: &TestRelay, list: &str) -> Vec<String> {
    let source = Source::list(list).expect("a name");
    let rules = relay.relay().rules().set();
    rules.iter().filter(|one| one.rule.source == source).map(|one| one.rule.target.to_string()).collect()
}

async fn fetch(relay: &TestRelay, clock: &Clock, list: &str) -> ListFeed {
    clock.advance(Duration::from_secs(60));
    match relay.relay().fetch_list(list, None).await {
        // The worker was quicker.
        Err(ListError::Conflict(_)) => relay.relay().followed(list).expect("it is followed"),
        fetched => fetched.expect("it is followed"),
    }
}

/// Applies the text that is here, unseen, as long as little changes.
async fn apply(relay: &TestRelay, list: &str) -> Result<(Review, Impact), ListError> {
    relay.relay().apply_list(list, &Consent::default(), &act()).await
}

/// Looks at the text that is here and approves it.
async fn approve(relay: &TestRelay, list: &str) -> Result<(Review, Impact), ListError> {
    let review = relay.relay().review(list).await.expect("it reads").expect("something waits");
    let consent = Consent { version: Some(review.version.version), approve: true, skip_bad: false };
    relay.relay().apply_list(list, &consent, &act()).await
}

async fn started() -> (Clock, TestRelay) {
    let clock = Clock::manual(Clock::system().now());
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    (clock, relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_list_counts_before_it_was_looked_at_and_applied() {
    let (clock, relay) = started().await;
    let publisher = Publisher::start(&names(20)).await;
    relay.relay().follow_list("dni", publisher.feed(), &act()).await.expect("followed");
    let again = relay.relay().follow_list("dni", publisher.feed(), &act()).await;
    assert!(matches!(again, Err(ListError::Conflict(_))), "{again:?}");
    let feed = fetch(&relay, &clock, "dni").await;
    assert!(feed.waits() && feed.trouble.as_deref().is_some_and(|text| text.contains("lists review dni")), "{feed:?}");
    assert_eq!(rules_of(&relay, "dni"), [""; 0]);

    let review = relay.relay().review("dni").await.expect("it reads").expect("something waits");
    assert_eq!((review.plan.diff.add.len(), review.plan.diff.share()), (20, 100));
    let version = review.version.version.clone();
    let with = |version: Option<&str>, approve: bool| Consent {
        version: version.map(str::to_owned),
        approve,
        skip_bad: false,
    };
    let apply_as = async |consent: Consent| relay.relay().apply_list("dni", &consent, &act()).await;
    let refused = apply_as(with(Some(&version), false)).await.expect_err("all of it is new");
    assert!(refused.to_string().contains("100 %") && refused.to_string().contains("--approve"), "{refused}");
    let unseen = apply_as(with(None, true)).await.expect_err("nobody approves what they have not seen");
    assert!(matches!(unseen, ListError::Unsaid(_)), "{unseen:?}");
    // Not by its first digits either: two texts that share those are found in a minute.
    for other in [&version[..12], &"0".repeat(64)] {
        let other = apply_as(with(Some(other), true)).await.expect_err("another text");
        assert!(other.to_string().contains("changed since"), "{other}");
    }
    assert_eq!(rules_of(&relay, "dni"), [""; 0], "nothing is changed by what is refused");
    apply_as(with(Some(&version), true)).await.expect("approved");
    assert_eq!(rules_of(&relay, "dni").len(), 20);
    assert!(relay.relay().review("dni").await.expect("it reads").is_none(), "nothing waits any more");

    // It is asked whether it changed, and sent only if it did.
    let feed = fetch(&relay, &clock, "dni").await;
    assert_eq!((feed.waits(), feed.trouble, publisher.says.lock().expect("sound").sent), (false, None, 1));
    publisher.says(200, &format!("{}new.example\n", names(19)));
    assert!(fetch(&relay, &clock, "dni").await.waits());
    let (review, _impact) = apply(&relay, "dni").await.expect("it is a tenth");
    assert_eq!((review.plan.diff.share(), rules_of(&relay, "dni").len()), (10, 20));

    // It survives a restart, and goes as a whole.
    let relay = relay.restart().await;
    assert_eq!(relay.relay().feeds().expect("rows").len(), 1);
    let kept = relay.store().all::<Rule>().expect("rows").len();
    relay.relay().unfollow_list("dni", false, &act()).await.expect("it is followed");
    assert_eq!((kept, rules_of(&relay, "dni").len(), relay.relay().feeds().expect("rows").len()), (20, 0, 0));
    assert!(matches!(relay.relay().review("dni").await, Err(ListError::Unknown(_))));
    let audited = relay.store().audited("", 100, |one| one.target == "dni").expect("the store reads");
    let mut done: Vec<_> =
        audited.iter().map(|(_, one)| (one.what.as_str(), one.who.as_str(), one.why.as_str())).collect();
    // The restart has set the clock back, and they stand by their times.
    done.sort_unstable();
    let what = ["list.apply", "list.apply", "list.follow", "list.unfollow"];
    assert_eq!(done, what.map(|what| (what, "local", "a test")), "who did it, and why, is written down");
}

/// A server that joined, under a name: lists name no addresses, as those of tests are.
async fn named_member(relay: &TestRelay, clock: &Clock, name: &str) {
    let member = relay.joined_with(Family::Mastodon, Options { clock: clock.clone(), ..Options::default() }).await;
    let mut named = Subscriber::clone(&relay.store().subscriber(&authority(&member)).expect("it joined"));
    named.authority = Authority::parse(name).expect("a name");
    relay.store().write(move |tx| tx.put_subscriber(named)).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_applies_itself_only_where_it_changes_little_and_touches_nobody_who_is_here() {
    let (clock, relay) = started().await;
    let publisher = Publisher::start(&names(50)).await;
    relay.relay().follow_list("auto", ListFeed { auto: true, ..publisher.feed() }, &act()).await.expect("followed");
    let feed = fetch(&relay, &clock, "auto").await;
    assert!(feed.waits() && feed.trouble.is_some_and(|text| text.contains("100 %")), "the first time takes a person");
    approve(&relay, "auto").await.expect("approved");
    publisher.says(200, &names(54));
    let feed = fetch(&relay, &clock, "auto").await;
    assert_eq!((feed.waits(), feed.trouble, rules_of(&relay, "auto").len()), (false, None, 54));
    // Emptied, or taken over.
    publisher.says(200, &names(20));
    let feed = fetch(&relay, &clock, "auto").await;
    assert!(feed.waits() && feed.trouble.is_some_and(|text| text.contains("63 %")), "{:?}", feed.fetched);
    assert_eq!(rules_of(&relay, "auto").len(), 54);
    let refused = apply(&relay, "auto").await.expect_err("too much");
    assert!(matches!(refused, ListError::Conflict(_)), "{refused}");
    assert_eq!(rules_of(&relay, "auto").len(), 54);

    named_member(&relay, &clock, "evil054.example").await;
    publisher.says(200, &names(55));
    let feed = fetch(&relay, &clock, "auto").await;
    assert!(feed.waits() && feed.trouble.as_deref().is_some_and(|text| text.contains("touches 1")), "{feed:?}");
    let (_review, impact) = apply(&relay, "auto").await.expect("little changes");
    assert_eq!(impact.removed.iter().map(Authority::as_str).collect::<Vec<_>>(), ["evil054.example"]);

    // Who may send without having joined is here as well.
    let may_send = MaySend { since: clock.now(), reason: String::new(), by: "local".to_owned() };
    relay.store().write(move |tx| tx.put("evil055.example", &may_send)).await.expect("written");
    publisher.says(200, &names(56));
    let feed = fetch(&relay, &clock, "auto").await;
    assert!(feed.waits() && feed.trouble.as_deref().is_some_and(|text| text.contains("touches 1")), "{feed:?}");
    let (_review, impact) = apply(&relay, "auto").await.expect("little changes");
    assert_eq!(impact.publishers.iter().map(Authority::as_str).collect::<Vec<_>>(), ["evil055.example"]);
}

/// A publisher that leaves somebody out, or speaks milder of them, would give them back what was taken, unseen.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_takes_nothing_back_by_itself_and_says_nothing_to_others_that_nobody_read() {
    let (clock, relay) = started().await;
    let list =
        |rows: &str| format!("#domain,#severity,#public_comment\n{}{rows}", names(30).replace('\n', ",suspend,\n"));
    let publisher = Publisher::start(&list("loud.example,silence,loud\n")).await;
    relay.relay().follow_list("auto", ListFeed { auto: true, ..publisher.feed() }, &act()).await.expect("followed");
    fetch(&relay, &clock, "auto").await;
    approve(&relay, "auto").await.expect("approved");
    named_member(&relay, &clock, "loud.example").await;
    let says = |name: &str| {
        let rules = relay.relay().rules().set();
        let ruling = rules.server(&Authority::parse(name).expect("a name"), clock.now());
        (ruling.verdict, ruling.reason().to_owned())
    };
    let before = says("loud.example");
    assert_eq!(before.1, "loud");
    for (rows, why) in [
        ("", "takes back what it said of 1"),
        ("loud.example,noop,\n", "takes back what it said of 1"),
        ("loud.example,no-search,loud\n", "takes back what it said of 1"),
    ] {
        publisher.says(200, &list(rows));
        let feed = fetch(&relay, &clock, "auto").await;
        assert!(feed.waits() && feed.trouble.as_deref().is_some_and(|text| text.contains(why)), "{rows}: {feed:?}");
        assert_eq!(says("loud.example"), before, "{rows}");
    }
    // It is seen by who looks, and then it is done.
    let review = relay.relay().review("auto").await.expect("it reads").expect("something waits");
    let (_after, impact) = relay.relay().weigh(Arc::new(review.plan.diff.changes())).await.expect("weighed");
    assert_eq!(impact.freed.len() + impact.unsearched.len(), 1, "{impact:?}");

    // A new rule counts at once; what its publisher wrote of others is told to nobody before somebody read it.
    publisher.says(200, &list("loud.example,silence,pay us\nnew.example,suspend,they are thieves\n"));
    let feed = fetch(&relay, &clock, "auto").await;
    assert!(feed.waits() && feed.trouble.as_deref().is_some_and(|text| text.contains("2 comments")), "{feed:?}");
    assert_eq!(says("loud.example"), before);
    assert_eq!(says("new.example"), (shearwater::policy::Verdict::Block, String::new()));
    let review = relay.relay().review("auto").await.expect("it reads").expect("something waits");
    let [add, change, remove] = review.plan.diff.in_words();
    assert_eq!((add.len(), remove.len()), (0, 0));
    assert!(change.iter().any(|text| text.contains("\"loud\" → \"pay us\"")), "{change:?}");
    assert!(change.iter().any(|text| text.contains("\"\" → \"they are thieves\"")), "{change:?}");
    apply(&relay, "auto").await.expect("little changes");
    assert_eq!(says("loud.example").1, "pay us");
    assert!(relay.relay().review("auto").await.expect("it reads").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_same_list_at_once_is_answered_by_one_request_and_letting_it_go_ends_the_turn() {
    let (clock, relay) = started().await;
    let publisher = Publisher::start(&names(5)).await;
    relay.relay().follow_list("dni", publisher.feed(), &act()).await.expect("followed");
    let asks = (0..20).map(|_| {
        let relay = relay.relay().clone();
        #[expect(clippy::disallowed_methods, reason = "a test's askers fall with its runtime")]
        tokio::spawn(async move { relay.fetch_list("dni", Some(&Act::local("again"))).await })
    });
    for ask in asks.collect::<Vec<_>>() {
        // The worker may have been quicker than all of them.
        let done = ask.await.expect("it ends");
        assert!(
            done.as_ref().is_ok_and(|feed| feed.waits()) || matches!(done, Err(ListError::Conflict(_))),
            "{done:?}"
        );
    }
    assert_eq!(publisher.says.lock().expect("sound").sent, 1);
    let soon = relay.relay().fetch_list("dni", None).await;
    assert!(matches!(soon, Err(ListError::Conflict(_))), "{soon:?}");
    // Under another name, and let go in between, the address is the same.
    relay.relay().unfollow_list("dni", false, &act()).await.expect("it is followed");
    relay.relay().follow_list("other", publisher.feed(), &act()).await.expect("followed");
    let soon = relay.relay().fetch_list("other", None).await;
    assert!(matches!(soon, Err(ListError::Conflict(_))), "{soon:?}");
    let asked = relay.store().audited("", 100, |one| one.what == "list.fetch").expect("the store reads");
    assert!(asked.len() <= 1 && asked.iter().all(|(_, one)| one.who == "local" && one.why == "again"), "{asked:?}");
    fetch(&relay, &clock, "other").await;
    assert_eq!(publisher.says.lock().expect("sound").sent, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_list_is_followed_can_be_changed_and_it_is_looked_at_anew() {
    let (clock, relay) = started().await;
    let publisher = Publisher::start(&names(20)).await;
    relay.relay().follow_list("dni", publisher.feed(), &act()).await.expect("followed");
    fetch(&relay, &clock, "dni").await;
    approve(&relay, "dni").await.expect("approved");
    let silence = Wishes { severity: Some(Severity::Silence), ..Wishes::default() };
    assert!(relay.relay().set_list("dni", silence, &act()).await.expect("set").waits());
    let review = relay.relay().review("dni").await.expect("it reads").expect("something waits");
    assert_eq!((review.plan.diff.change.len(), review.plan.diff.milder()), (20, 20));
    assert!(review.plan.diff.in_words()[1][0].contains("(was block)"));
    let elsewhere = Publisher::start("*l.example\nnew.example\n").await;
    let moved = Wishes { url: Some(elsewhere.url.clone()), auto: Some(true), ..Wishes::default() };
    let feed = relay.relay().set_list("dni", moved, &act()).await.expect("set");
    assert!(feed.auto && feed.fetched.is_none() && feed.url == elsewhere.url, "{feed:?}");
    let inside = Wishes { url: Some("https://10.0.0.1/".to_owned()), ..Wishes::default() };
    assert!(matches!(relay.relay().set_list("dni", inside, &act()).await, Err(ListError::Unfit(_))));
    let feed = fetch(&relay, &clock, "dni").await;
    assert!(feed.trouble.as_deref().is_some_and(|text| text.contains("obfuscated")), "{feed:?}");
    assert_eq!(rules_of(&relay, "dni").len(), 20);
    let skipping = Consent { skip_bad: true, approve: true, ..Consent::default() };
    let version = relay.relay().review("dni").await.expect("it reads").expect("something waits").version.version;
    let consent = Consent { version: Some(version), ..skipping };
    relay.relay().apply_list("dni", &consent, &act()).await.expect("its good row");
    assert_eq!(rules_of(&relay, "dni"), ["domain:new.example"]);
    let audited = relay.store().audited("", 100, |one| one.what == "list.set").expect("the store reads");
    assert_eq!(audited.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_expired_a_month_ago_are_taken_out_and_that_is_written_down() {
    let relay = TestRelay::start().await;
    let (now, day) = (Clock::system().now(), Duration::from_secs(24 * 3600));
    let rule = |name: &str, expires: Option<Timestamp>| {
        let rule = Rule::new(name.parse().expect("a target"), Severity::Block, Source::Operator, now.minus(60 * day));
        RuleChange::Put(Rule { expires, ..rule })
    };
    let changes = vec![
        rule("old.example", Some(now.minus(31 * day))),
        rule("lately.example", Some(now.minus(20 * day))),
        rule("ever.example", None),
    ];
    relay.relay().change_rules(changes, &act()).await.expect("made");
    // It looks when it starts, and once an hour.
    let relay = relay.restart().await;
    let left = || {
        let rules = relay.relay().rules().set();
        rules.iter().map(|one| one.rule.target.to_string()).collect::<Vec<_>>()
    };
    let expected = ["domain:ever.example", "domain:lately.example"];
    crate::support::eventually("it is gone", || left() == expected).await;
    let gone = relay.store().audited("", 9, |one| one.what == "rule.remove").expect("the store reads");
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].1.who.as_str(), gone[0].1.target.as_str()), ("relay", "domain:old.example"));
    assert!(gone[0].1.why.contains("expired"), "{:?}", gone[0].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_leaves_the_rules_as_they_were_and_says_why() {
    let (clock, relay) = started().await;
    let publisher = Publisher::start(&names(20)).await;
    relay.relay().follow_list("dni", publisher.feed(), &act()).await.expect("followed");
    fetch(&relay, &clock, "dni").await;
    approve(&relay, "dni").await.expect("approved");
    for (status, text, says) in [
        (500, "broken".to_owned(), "answers 500"),
        (404, String::new(), "answers 404"),
        (200, String::new(), "names no server"),
        (200, "<!doctype html>\n<p>Sign in</p>\n".to_owned(), "names no server"),
        (200, "name,severity\n".to_owned(), "no column #domain"),
        (302, String::new(), "leads on more than 3 times"),
        (200, "x".repeat(9 << 20), "too big"),
    ] {
        publisher.says(status, &text);
        let feed = fetch(&relay, &clock, "dni").await;
        let trouble = feed.trouble.clone().unwrap_or_default();
        assert!(trouble.contains(says) && feed.failures > 0 && !feed.waits(), "{status}: {feed:?}");
        assert_eq!(rules_of(&relay, "dni").len(), 20, "{says}");
    }
    // A row that cannot be read, or was made unreadable, stops the others: unless it was said that they go on.
    let bad = format!(
        "#domain,#severity\n{}evil.example,destroy\nl*ud.example,silence\n",
        names(20).replace('\n', ",suspend\n")
    );
    publisher.says(200, &bad);
    assert!(fetch(&relay, &clock, "dni").await.waits());
    let refused = approve(&relay, "dni").await.expect_err("bad rows").to_string();
    assert!(refused.contains("line 22, column severity") && refused.contains("line 23, column domain"), "{refused}");
    assert!(refused.contains("nothing is changed") && refused.contains("--skip-bad"), "{refused}");
    let lenient = ListFeed { skip_bad: true, ..publisher.feed() };
    relay.relay().follow_list("lenient", lenient, &act()).await.expect("followed");
    fetch(&relay, &clock, "lenient").await;
    approve(&relay, "lenient").await.expect("the good rows");
    assert_eq!(rules_of(&relay, "lenient").len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_fetched_by_itself_and_only_where_we_dial() {
    let (_clock, relay) = started().await;
    for url in
        ["https://10.0.0.1/l", "http://lists.example/l", "file:///etc/passwd", "https://me:pass@a.example/l", "x"]
    {
        let feed = ListFeed { url: url.to_owned(), ..Publisher::start("").await.feed() };
        let refused = relay.relay().follow_list("inside", feed, &act()).await;
        assert!(matches!(refused, Err(ListError::Unfit(_))), "{url}: {refused:?}");
    }
    let publisher = Publisher::start(&names(3)).await;
    for name in ["", "Big", "two words", &"x".repeat(65)] {
        let refused = relay.relay().follow_list(name, publisher.feed(), &act()).await;
        assert!(matches!(refused, Err(ListError::Unfit(_))), "{name}: {refused:?}");
    }
    for number in 0..20 {
        relay.relay().follow_list(&format!("list{number}"), publisher.feed(), &act()).await.expect("followed");
    }
    let more = relay.relay().follow_list("one-more", publisher.feed(), &act()).await;
    assert!(matches!(more, Err(ListError::Conflict(_))), "{more:?}");
}
