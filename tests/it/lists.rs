//! Lists that others publish: followed by their address, looked at before anything of them counts, and held back where they
//! would change too much.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use shearwater::clock::{Clock, Timestamp};
use shearwater::demo::{Family, Options};
use shearwater::ids::Authority;
use shearwater::relay::lists::ListError;
use shearwater::store::{Act, ListFeed, Rule, Severity, Source, Subscriber};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TestRelay, authority};

/// Somebody who publishes a list.
#[derive(Clone)]
struct Publisher {
    url: String,
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
    async fn start(text: &str) -> Self {
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

    fn says(&self, status: u16, text: &str) {
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
fn names(count: usize) -> String {
    (0..count).map(|number| format!("evil{number:03}.example\n")).collect()
}

fn rules_of(relay: &TestRelay, list: &str) -> Vec<String> {
    let source = Source::list(list).expect("a name");
    let rules = relay.relay().rules().set();
    rules.iter().filter(|one| one.rule.source == source).map(|one| one.rule.target.to_string()).collect()
}

async fn fetch(relay: &TestRelay, clock: &Clock, list: &str) -> ListFeed {
    clock.advance(Duration::from_secs(60));
    relay.relay().fetch_list(list).await.expect("it is followed")
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

    let review = relay.relay().review("dni").expect("it reads").expect("something waits");
    assert_eq!((review.plan.diff.add.len(), review.plan.diff.share()), (20, 100));
    let version = review.version.version.clone();
    let refused = relay.relay().apply_list("dni", Some(&version), false, &act()).await.expect_err("all of it is new");
    assert!(refused.to_string().contains("100 %") && refused.to_string().contains("--approve"), "{refused}");
    let other = relay.relay().apply_list("dni", Some("000000000000"), true, &act()).await.expect_err("another text");
    assert!(other.to_string().contains("changed since"), "{other}");
    assert_eq!(rules_of(&relay, "dni"), [""; 0], "nothing is changed by what is refused");
    relay.relay().apply_list("dni", Some(&version), true, &act()).await.expect("approved");
    assert_eq!(rules_of(&relay, "dni").len(), 20);
    assert!(relay.relay().review("dni").expect("it reads").is_none(), "nothing waits any more");

    // It is asked whether it changed, and sent only if it did.
    let feed = fetch(&relay, &clock, "dni").await;
    assert_eq!((feed.waits(), feed.trouble, publisher.says.lock().expect("sound").sent), (false, None, 1));
    publisher.says(200, &format!("{}new.example\n", names(19)));
    assert!(fetch(&relay, &clock, "dni").await.waits());
    let (review, _impact) = relay.relay().apply_list("dni", None, false, &act()).await.expect("it is a tenth");
    assert_eq!((review.plan.diff.share(), rules_of(&relay, "dni").len()), (10, 20));

    // It survives a restart, and goes as a whole.
    let relay = relay.restart().await;
    assert_eq!(relay.relay().feeds().expect("rows").len(), 1);
    let kept = relay.store().all::<Rule>().expect("rows").len();
    relay.relay().unfollow_list("dni", false, &act()).await.expect("it is followed");
    assert_eq!((kept, rules_of(&relay, "dni").len(), relay.relay().feeds().expect("rows").len()), (20, 0, 0));
    assert!(matches!(relay.relay().review("dni"), Err(ListError::Unknown(_))));
    let audited = relay.store().audited("", 100, |one| one.target == "dni").expect("the store reads");
    let mut done: Vec<_> =
        audited.iter().map(|(_, one)| (one.what.as_str(), one.who.as_str(), one.why.as_str())).collect();
    // The restart has set the clock back, and they stand by their times.
    done.sort_unstable();
    let what = ["list.apply", "list.apply", "list.follow", "list.unfollow"];
    assert_eq!(done, what.map(|what| (what, "local", "a test")), "who did it, and why, is written down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_applies_itself_only_where_it_changes_little_and_touches_nobody_who_is_here() {
    let (clock, relay) = started().await;
    let publisher = Publisher::start(&names(50)).await;
    relay.relay().follow_list("auto", ListFeed { auto: true, ..publisher.feed() }, &act()).await.expect("followed");
    let feed = fetch(&relay, &clock, "auto").await;
    assert!(feed.waits() && feed.trouble.is_some_and(|text| text.contains("100 %")), "the first time takes a person");
    relay.relay().apply_list("auto", None, true, &act()).await.expect("approved");
    publisher.says(200, &names(54));
    let feed = fetch(&relay, &clock, "auto").await;
    assert_eq!((feed.waits(), feed.trouble, rules_of(&relay, "auto").len()), (false, None, 54));
    // Emptied, or taken over.
    publisher.says(200, &names(20));
    let feed = fetch(&relay, &clock, "auto").await;
    assert!(feed.waits() && feed.trouble.is_some_and(|text| text.contains("63 %")), "{:?}", feed.fetched);
    assert_eq!(rules_of(&relay, "auto").len(), 54);
    let refused = relay.relay().apply_list("auto", None, false, &act()).await.expect_err("too much");
    assert!(matches!(refused, ListError::Conflict(_)), "{refused}");
    assert_eq!(rules_of(&relay, "auto").len(), 54);

    // Lists name no addresses, as those of tests are: so one who is here gets a name.
    let member = relay.joined_with(Family::Mastodon, Options { clock: clock.clone(), ..Options::default() }).await;
    let mut named = Subscriber::clone(&relay.store().subscriber(&authority(&member)).expect("it joined"));
    named.authority = Authority::parse("evil054.example").expect("a name");
    relay.store().write(move |tx| tx.put_subscriber(named)).await.expect("written");
    publisher.says(200, &names(55));
    let feed = fetch(&relay, &clock, "auto").await;
    assert!(feed.waits() && feed.trouble.as_deref().is_some_and(|text| text.contains("touches 1")), "{feed:?}");
    let (_review, impact) = relay.relay().apply_list("auto", None, false, &act()).await.expect("little changes");
    assert_eq!(impact.removed.iter().map(Authority::as_str).collect::<Vec<_>>(), ["evil054.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_leaves_the_rules_as_they_were_and_says_why() {
    let (clock, relay) = started().await;
    let publisher = Publisher::start(&names(20)).await;
    relay.relay().follow_list("dni", publisher.feed(), &act()).await.expect("followed");
    fetch(&relay, &clock, "dni").await;
    relay.relay().apply_list("dni", None, true, &act()).await.expect("approved");
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
    let refused = relay.relay().apply_list("dni", None, true, &act()).await.expect_err("bad rows").to_string();
    assert!(refused.contains("line 22, column severity") && refused.contains("line 23, column domain"), "{refused}");
    assert!(refused.contains("nothing is changed") && refused.contains("--skip-bad"), "{refused}");
    let lenient = ListFeed { skip_bad: true, ..publisher.feed() };
    relay.relay().follow_list("lenient", lenient, &act()).await.expect("followed");
    fetch(&relay, &clock, "lenient").await;
    relay.relay().apply_list("lenient", None, true, &act()).await.expect("the good rows");
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
