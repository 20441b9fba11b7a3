//! What delivery promises, with a world that answers as it is told. Time stands still but for what is waited for, so an
//! hour of retries takes a moment; the clock that ages are read from is moved by hand.

mod control;
mod measured;
mod pacing;
mod signatures;
mod sockets;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::attempt::{Courier, Found};
use super::sharing::Manner;
use super::testing::{NOON, World, draft, iri, subscriber};
use super::*;
use crate::config::Config;
use crate::ids::Iri;
use crate::log::{Draft, Kind};
use crate::net::testing::{CANARY, OPEN, Page, Site, beside, hose, raw_server, resetting, tls_server};
use crate::net::{Client, KeyRing, Names, Standing};
use crate::store::{ControlRow, Directive, Rule, RuleChange, Severity, Sharing, Source, Subscriber};
use crate::wire::actor::RemoteActor;
use crate::wire::http_sig::Scheme;

/// A relay's delivery on a store of its own.
struct Rig {
    store: Store,
    log: Log,
    clock: Clock,
    supervisor: Supervisor,
    delivery: Delivery,
    appended: u64,
}

impl Rig {
    fn open(dir: &Path, clock: &Clock, world: &Arc<World>, change: impl FnOnce(&mut config::Delivery)) -> Self {
        Self::carried_by(Courier::Scripted(world.clone()), dir, clock, change)
    }

    fn carried_by(courier: Courier, dir: &Path, clock: &Clock, change: impl FnOnce(&mut config::Delivery)) -> Self {
        let config = Config::embedded();
        let store = Store::open(dir, clock.clone()).unwrap();
        let log = Log::open(&store).unwrap();
        let supervisor = Supervisor::new(clock.clone());
        let mut services = Services {
            config: config.delivery.clone(),
            audience: config.relay.announce_audience,
            policy: policy::Rules::new(&config.policy, &config.relay),
            store: store.clone(),
            log: log.clone(),
            signed: crate::net::testing::signed_client(clock.clone(), &crate::net::testing::fetch()),
            ids: Arc::new(OurIds::new("https://relay.example", "/actor", "main-key", "relay").unwrap()),
            clock: clock.clone(),
            supervisor: supervisor.clone(),
            metrics: Metrics::new(),
        };
        change(&mut services.config);
        let delivery = Delivery::with_courier(services, courier).unwrap();
        delivery.start();
        // The store's writer works in real time: without this, paused time would leap over it.
        beside(async {
            loop {
                std::thread::sleep(Duration::from_micros(200));
                sleep(Duration::from_millis(5)).await;
            }
        });
        let appended = log.head().0;
        Self { store, log, clock: clock.clone(), supervisor, delivery, appended }
    }

    async fn join(&self, host: &str, software: &str) {
        let mut row = subscriber(host, 0);
        row.start = self.log.head().next();
        let facts = AuthorityFacts { software: Some(software.to_owned()), ..AuthorityFacts::default() };
        let put = self.store.write(move |tx| {
            row.slot = tx.new_slot()?;
            tx.put(row.authority.as_str(), &facts)?;
            tx.put_subscriber(row)
        });
        put.await.unwrap();
    }

    async fn append(&mut self, change: impl FnOnce(&mut Draft)) {
        self.appended += 1;
        let now = self.clock.now();
        let draft = draft(self.appended, |draft| {
            draft.at = now;
            change(draft);
        });
        let log = self.log.clone();
        self.store.write(move |tx| log.append(tx, draft)).await.unwrap();
    }

    /// As many as one commit.
    async fn append_at_once(&mut self, count: u64) {
        let first = self.appended + 1;
        self.appended += count;
        let (log, now) = (self.log.clone(), self.clock.now());
        let write = self.store.write(move |tx| {
            for number in first..first + count {
                log.append(tx, draft(number, |draft| draft.at = now))?;
            }
            Ok(())
        });
        write.await.unwrap();
    }

    async fn append_many(&mut self, count: u64) {
        for _ in 0..count {
            self.append(|_| {}).await;
        }
    }

    fn row(&self, host: &str) -> Option<Arc<Subscriber>> {
        self.store.subscriber(&Authority::parse(host).unwrap())
    }

    fn lane(&self, host: &str) -> Option<LaneStatus> {
        self.delivery.lanes().into_iter().find(|lane| lane.authority.as_str() == host)
    }

    fn state(&self, host: &str) -> Option<LaneState> {
        self.lane(host).map(|lane| lane.state)
    }

    /// Waits until `host` is owed nothing.
    async fn caught_up(&self, host: &str) {
        eventually(&format!("{host} has all"), || self.lane(host).is_some_and(|lane| lane.lag == 0)).await;
    }

    async fn stop(self) {
        assert!(self.supervisor.stop(Duration::from_secs(60)).await);
        assert_eq!(self.supervisor.fatal(), None);
    }
}

/// Waits for a condition, up to two days of the paused time.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(2 * 86_400), "waited in vain: {what}");
        pass(pause).await;
        pause = (pause * 5 / 4).min(Duration::from_secs(600));
    }
}

/// Lets time pass in one leap, and then what that woke do its work.
async fn pass(span: Duration) {
    tokio::time::advance(span).await;
    // The store's writer is a thread in real time: simulated days must not pass before it gets its turn, nor before a disk
    // that others keep busy has flushed. So a wait that gives up after two of them has lasted seconds.
    std::thread::sleep((span / 10_000).clamp(Duration::from_millis(2), Duration::from_millis(60)));
    sleep(Duration::from_millis(100)).await;
}

fn noon() -> (tempfile::TempDir, Clock, Arc<World>) {
    (tempfile::tempdir().unwrap(), Clock::manual(NOON), Arc::default())
}

/// The numbers of forwarded posts.
fn numbers(bodies: &[Value]) -> Vec<u64> {
    bodies.iter().filter_map(|body| body["n"].as_u64()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_subscriber_gets_each_post_once_in_the_form_it_takes() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.append_many(3).await;
    for (host, software) in [("masto.example", "mastodon"), ("akko.example", "akkoma"), ("author.example", "mastodon")]
    {
        rig.join(host, software).await;
    }
    rig.append_many(2).await;
    rig.append(|draft| draft.carried = false).await;
    rig.append(|draft| draft.kind = Kind::Hint).await;
    for host in ["masto.example", "akko.example", "author.example"] {
        rig.caught_up(host).await;
    }
    let masto = world.delivered("masto.example");
    assert_eq!((masto.len(), numbers(&masto)), (3, vec![4, 5]), "what came before it joined is not its business");
    assert_eq!(masto.iter().filter(|body| body["type"] == "Announce").count(), 1);
    let akko = world.delivered("akko.example");
    let announced: BTreeSet<_> = akko.iter().map(|body| body["object"].as_str().unwrap().to_owned()).collect();
    let expected = [4, 5, 6].map(|number| format!("https://author.example/notes/{number}"));
    assert_eq!((akko.len(), announced), (3, BTreeSet::from(expected)));
    assert!(akko.iter().all(|body| body["to"] == json!(["https://relay.example/followers"])));
    assert!(world.delivered("author.example").is_empty(), "its own posts do not come back");
    assert!(rig.delivery.waiting().iter().all(|one| one.entries == 0 && one.oldest.is_none()));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_down_gets_everything_in_order_when_it_answers_again() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    for down in ["refuse", "hang", "503", "500"] {
        let before = world.delivered("sub.example").len();
        world.set("sub.example", down);
        rig.append_many(20).await;
        eventually("it is found failing", || rig.state("sub.example") == Some(LaneState::Failing)).await;
        for _ in 0..36 {
            pass(Duration::from_secs(600)).await;
        }
        assert_eq!(world.delivered("sub.example").len(), before);
        let waiting = rig.delivery.waiting().into_iter().find(|one| one.state == LaneState::Failing).unwrap();
        assert!((15..=20).contains(&waiting.entries), "{waiting:?}");
        assert!(waiting.oldest.is_some() && rig.delivery.oldest_undelivered() == waiting.oldest, "{waiting:?}");
        world.set("sub.example", "202");
        rig.caught_up("sub.example").await;
        eventually("it is healthy", || rig.state("sub.example") == Some(LaneState::Healthy)).await;
    }
    let mut got = numbers(&world.delivered("sub.example"));
    // Those that had to wait long for an answer let one other pass.
    got.sort_unstable();
    assert_eq!(got, (1..=80).collect::<Vec<_>>(), "each exactly once");
    let attempts = world.posts().len() - got.len();
    assert!(attempts < 60, "the gaps grow: {attempts} attempts in four times six hours");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_about_one_post_arrives_in_order_whatever_happens() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    world.set("sub.example", "503 1");
    let post = iri("https://author.example/notes/one");
    for kind in [Kind::Create, Kind::Update, Kind::Update, Kind::Delete] {
        rig.append(|draft| (draft.kind, draft.object) = (kind, post.clone())).await;
        rig.append_many(3).await;
    }
    sleep(Duration::from_secs(3)).await;
    world.set("sub.example", "202");
    rig.caught_up("sub.example").await;
    let got = numbers(&world.delivered("sub.example"));
    let about_it: Vec<u64> = got.iter().copied().filter(|number| number % 4 == 1).collect();
    assert_eq!((about_it, got.len()), (vec![1, 5, 9, 13], 16));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_finishes_what_is_in_hand_and_nothing_is_sent_twice() {
    let (dir, clock, world) = noon();
    world.set("sub.example", "slow 1");
    for run in 0..3 {
        let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
        if run == 0 {
            rig.join("sub.example", "mastodon").await;
        }
        rig.append_many(10).await;
        eventually("some are delivered", || world.delivered("sub.example").len() >= 7 * (run + 1)).await;
        rig.stop().await;
    }
    world.set("sub.example", "202");
    let rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.caught_up("sub.example").await;
    let mut got = numbers(&world.delivered("sub.example"));
    assert_eq!(world.posts().len(), got.len(), "no request was cut off");
    got.sort_unstable();
    assert_eq!(got, (1..=30).collect::<Vec<_>>());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_however_fast_is_never_more_than_sixteen_entries_ahead_of_what_is_written_down() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("fast.example", "mastodon").await;
    let shared = rig.delivery.0.clone();
    let nothing_is_saved = shared.saving.lock().await;
    rig.append_many(60).await;
    eventually("as many are sent as a crash may repeat", || world.count() >= 16).await;
    for _ in 0..5 {
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(world.count(), 16);
    drop(nothing_is_saved);
    rig.caught_up("fast.example").await;
    assert_eq!(numbers(&world.delivered("fast.example")).len(), 60);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_written_down_grows_with_posts_and_not_with_posts_times_subscribers() {
    const SUBSCRIBERS: usize = 100;
    const POSTS: u64 = 60;
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    for number in 0..SUBSCRIBERS {
        rig.join(&format!("sub{number}.example"), "mastodon").await;
    }
    let (saved, began) = (rig.delivery.0.book.saved(), Instant::now());
    let before = *saved.borrow();
    rig.append_many(POSTS).await;
    for number in 0..SUBSCRIBERS {
        rig.caught_up(&format!("sub{number}.example")).await;
    }
    assert_eq!(world.count() as u64, POSTS * SUBSCRIBERS as u64);
    // Each save is one row here: 512 places are packed into one.
    let by_time = began.elapsed().as_millis() / rig.delivery.0.config.save_every.as_millis();
    let (saves, allowed) = (*saved.borrow() - before, 2 * POSTS + u64::try_from(by_time).unwrap());
    assert!(saves <= allowed, "{saves} saves for {} deliveries, {allowed} would do", world.count());
    rig.stop().await;
}

#[test]
fn a_kill_loses_nothing_and_repeats_only_what_was_not_yet_written_down() {
    let (dir, clock, world) = noon();
    let run = |story: &dyn Fn(&tokio::runtime::Runtime) -> Rig| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let rig = story(&runtime);
        // The runtime dies with all its tasks: nothing is finished, nothing is written.
        drop(runtime);
        let gone = Arc::downgrade(&rig.delivery.0);
        drop(rig);
        assert_eq!(gone.strong_count(), 0);
    };
    let open = |runtime: &tokio::runtime::Runtime| {
        let _entered = runtime.enter();
        // The writer of the last run lets go of the file a moment after its last handle.
        for _ in 0..500 {
            if Store::open(dir.path(), clock.clone()).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(50));
        Rig::open(dir.path(), &clock, &world, |_| {})
    };
    run(&|runtime| {
        let mut rig = open(runtime);
        runtime.block_on(async {
            rig.join("sub.example", "mastodon").await;
            rig.append_many(20).await;
            rig.caught_up("sub.example").await;
            sleep(rig.delivery.0.config.save_every * 2).await;
        });
        // Written down up to here, and then one more batch that is not.
        world.set("sub.example", "slow 1");
        runtime.block_on(async {
            rig.append_many(20).await;
            eventually("some more are delivered", || world.delivered("sub.example").len() >= 25).await;
        });
        rig
    });
    let first = numbers(&world.delivered("sub.example"));
    world.set("sub.example", "202");
    run(&|runtime| {
        let rig = open(runtime);
        runtime.block_on(rig.caught_up("sub.example"));
        rig
    });
    let all = numbers(&world.delivered("sub.example"));
    let repeated = first.iter().filter(|number| all[first.len()..].contains(number)).count();
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), (1..=40).collect());
    // What is promised whatever `delivery.save_every` is.
    assert!(repeated <= 16, "{repeated} were sent again");
}

#[tokio::test(start_paused = true)]
async fn a_refused_forward_is_announced_at_once_and_that_is_remembered() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    world.set("sub.example", "own");
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    let statuses: Vec<u16> = world.posts().iter().map(|post| post.status).collect();
    assert_eq!(statuses, [403, 202]);
    assert_eq!(rig.state("sub.example"), Some(LaneState::Healthy), "that is no failure");
    let facts: Option<AuthorityFacts> = rig.store.get("sub.example").unwrap();
    assert_eq!(facts.unwrap().announce_until, None, "one author's post may be written to be refused");
    rig.append(|draft| draft.actor = iri("https://other.example/users/grace")).await;
    rig.caught_up("sub.example").await;
    assert_eq!(world.posts().len(), 4);
    rig.append_many(5).await;
    rig.caught_up("sub.example").await;
    assert_eq!(world.posts().len(), 9, "no further forward was tried");
    let facts: AuthorityFacts = rig.store.get("sub.example").unwrap().unwrap();
    assert_eq!(facts.announce_until, Some(NOON.plus(Duration::from_secs(30 * 86_400))));
    // The edit has no form but the forward, and is not tried either.
    rig.append(|draft| draft.kind = Kind::Update).await;
    rig.caught_up("sub.example").await;
    assert_eq!(world.posts().len(), 9);
    rig.stop().await;
}

fn facts_of(rig: &Rig, host: &str) -> AuthorityFacts {
    rig.store.get(host).unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_subscriber_is_blamed_when_we_are_out_of_descriptors() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    world.set("sub.example", "exhausted");
    rig.append_many(3).await;
    pass(Duration::from_secs(60)).await;
    assert!((2..=80).contains(&world.count()), "{} attempts in a minute", world.count());
    let health = rig.row("sub.example").unwrap().health.clone();
    assert_eq!((health.consecutive, health.failed_days, health.last_failure), (0, 0, None));
    // What is the server's own fault meanwhile is.
    world.set("sub.example", "500");
    eventually("that counts", || rig.row("sub.example").unwrap().health.consecutive > 0).await;
    world.set("sub.example", "202");
    rig.caught_up("sub.example").await;
    assert_eq!(numbers(&world.delivered("sub.example")), [1, 2, 3]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn servers_that_do_not_answer_hold_up_nobody_else() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |config| config.in_flight = 32);
    for number in 0..80 {
        rig.join(&format!("live{number}.example"), "mastodon").await;
    }
    for number in 0..20 {
        rig.join(&format!("dead{number}.example"), "mastodon").await;
    }
    // They answer, and then they die while posts come.
    rig.append_many(3).await;
    for number in 0..20 {
        rig.caught_up(&format!("dead{number}.example")).await;
        world.set(&format!("dead{number}.example"), ["hang", "slow 9", "500", "refuse"][number % 4]);
    }
    let mut taken = HashMap::new();
    for _ in 0..150 {
        rig.append_many(1).await;
        taken.insert(rig.appended, Instant::now());
        sleep(Duration::from_millis(200)).await;
    }
    for number in 0..80 {
        rig.caught_up(&format!("live{number}.example")).await;
    }
    let posts = world.posts();
    let mut lags: Vec<Duration> = posts
        .iter()
        .filter(|post| post.host.starts_with("live"))
        .filter_map(|post| Some(post.at.duration_since(*taken.get(&post.body["n"].as_u64()?)?)))
        .collect();
    lags.sort_unstable();
    let (median, p99, worst) = (lags[lags.len() / 2], lags[lags.len() * 99 / 100], lags[lags.len() - 1]);
    assert_eq!(lags.len(), 80 * 150);
    assert!(median < Duration::from_millis(150), "{median:?}");
    assert!(p99 < Duration::from_millis(400), "{p99:?}");
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    rig.stop().await;
}

/// GoToSocial answers 429 to the 301st request within five minutes. A burst goes out at once all the same. Time is
/// simulated.
#[tokio::test(start_paused = true)]
async fn a_gotosocial_is_never_sent_more_than_300_requests_in_five_minutes() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "gotosocial").await;
    // Each from an origin of its own: the Announces of one are spread by another rule.
    for number in 0..320 {
        rig.append(|draft| draft.object = Iri::parse(&format!("https://origin{number}.example/notes/1")).unwrap())
            .await;
    }
    rig.caught_up("sub.example").await;
    let posts = world.posts();
    let span = |from: usize, to: usize| posts[to].at.duration_since(posts[from].at);
    assert!(span(0, 49) < Duration::from_secs(10), "fifty at once: {:?}", span(0, 49));
    for from in 0..posts.len() - 300 {
        assert!(span(from, from + 300) >= Duration::from_secs(299), "from {from}: {:?}", span(from, from + 300));
    }
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_us_is_paused_and_loses_no_more() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |config| config.in_flight_per_host = 1);
    rig.join("sub.example", "akkoma").await;
    world.set("sub.example", "403");
    for number in 0..40 {
        rig.append(|draft| draft.actor = iri(&format!("https://author{}.example/users/ada", number % 2))).await;
    }
    eventually("it is paused", || rig.state("sub.example") == Some(LaneState::Paused)).await;
    assert_eq!(world.posts().len(), 20);
    rig.delivery.wake(&Authority::parse("sub.example").unwrap());
    pass(Duration::from_secs(300)).await;
    assert_eq!(world.posts().len(), 20, "its own posts do not make us insist");
    world.set("sub.example", "202");
    assert!(rig.delivery.retry_now(&Authority::parse("sub.example").unwrap()));
    let started = Instant::now();
    rig.caught_up("sub.example").await;
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(world.delivered("sub.example").len(), 20);
    assert_eq!(rig.state("sub.example"), Some(LaneState::Healthy));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_goes_dormant_skips_what_comes_wakes_at_a_sign_of_life_and_in_the_end_is_gone() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    let host = Authority::parse("sub.example").unwrap();
    rig.join("sub.example", "mastodon").await;
    world.set("sub.example", "refuse");
    let mut days = 0;
    while rig.state("sub.example") != Some(LaneState::Dormant) {
        assert!(days < 9, "not dormant after a week");
        rig.append_many(5).await;
        pass(Duration::from_secs(86_400)).await;
        clock.advance(Duration::from_secs(86_400));
        days += 1;
    }
    assert!(days >= 7);
    eventually("that is written down", || rig.row("sub.example").is_some_and(|row| row.health.failed_days == 7)).await;
    let before = world.posts().len();
    for _ in 0..240 {
        pass(Duration::from_secs(3600)).await;
    }
    let probes = world.posts().len() - before;
    assert!((7..=10).contains(&probes), "{probes} probes in ten days");
    rig.append_many(5).await;
    world.set("sub.example", "202");
    rig.delivery.wake(&host);
    rig.caught_up("sub.example").await;
    assert!(world.delivered("sub.example").len() <= 1, "what came while it was dormant is skipped");
    rig.append_many(3).await;
    eventually("what comes now is delivered", || {
        numbers(&world.delivered("sub.example")).ends_with(&[rig.appended - 2, rig.appended - 1, rig.appended])
    })
    .await;
    world.set("sub.example", "refuse");
    for _ in 0..40 {
        rig.append_many(1).await;
        pass(Duration::from_secs(86_400)).await;
        clock.advance(Duration::from_secs(86_400));
    }
    eventually("the subscription has ended", || rig.row("sub.example").is_none()).await;
    eventually("its lane too", || rig.lane("sub.example").is_none()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_makes_a_failing_lane_try_at_once_but_not_against_its_wish() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    let host = Authority::parse("sub.example").unwrap();
    rig.join("sub.example", "mastodon").await;
    world.set("sub.example", "refuse");
    rig.append_many(1).await;
    eventually("it waits for hours", || {
        let wait = rig.lane("sub.example").and_then(|lane| lane.next_attempt);
        wait.is_some_and(|at| at.since(NOON) > Duration::from_secs(3600))
    })
    .await;
    world.set("sub.example", "202");
    let started = Instant::now();
    rig.delivery.wake(&host);
    rig.caught_up("sub.example").await;
    assert!(started.elapsed() < Duration::from_secs(10));
    world.set("sub.example", "429 3600");
    rig.append_many(1).await;
    eventually("it asks for an hour", || rig.state("sub.example") == Some(LaneState::Failing)).await;
    world.set("sub.example", "202");
    rig.delivery.wake(&host);
    pass(Duration::from_secs(3000)).await;
    assert_eq!(world.delivered("sub.example").len(), 1);
    rig.caught_up("sub.example").await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_moved_is_asked_after_and_one_that_is_gone_twice_ends_the_subscription() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    for host in ["moved.example", "gone.example"] {
        rig.join(host, "mastodon").await;
    }
    let document = json!({
        "id": "https://moved.example/actor", "type": "Application", "inbox": "https://moved.example/actor/inbox",
        "endpoints": { "sharedInbox": "https://moved.example/new" },
    });
    let actor = Box::new(RemoteActor::read(&document).unwrap());
    world.set_actor(&iri("https://moved.example/actor"), Found::Actor(actor));
    world.set_actor(&iri("https://gone.example/actor"), Found::Gone);
    world.set("moved.example", "301");
    world.set("gone.example", "410");
    rig.append_many(1).await;
    let new = iri("https://moved.example/new");
    eventually("the new inbox is known", || {
        rig.row("moved.example").is_some_and(|row| row.served().is_some_and(|one| one.inbox == new))
    })
    .await;
    world.set("moved.example", "202");
    rig.caught_up("moved.example").await;
    eventually("it was found gone once", || {
        rig.row("gone.example").is_some_and(|row| row.health.gone_since == Some(NOON))
    })
    .await;
    pass(Duration::from_secs(3600)).await;
    assert_eq!(world.posts().iter().filter(|post| post.host == "gone.example").count(), 1);
    clock.advance(Duration::from_secs(86_400));
    eventually("and the second time it was the end", || rig.row("gone.example").is_none()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_horizon_is_skipped_in_a_few_looks() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    world.set("sub.example", "refuse");
    rig.append_many(300).await;
    eventually("it fails", || rig.state("sub.example") == Some(LaneState::Failing)).await;
    clock.advance(Duration::from_secs(40 * 3600));
    rig.append_many(1).await;
    clock.advance(Duration::from_secs(9 * 3600));
    world.set("sub.example", "202");
    rig.caught_up("sub.example").await;
    assert_eq!(numbers(&world.delivered("sub.example")), [301]);
    let expired = rig.delivery.0.metrics.deliveries.with_label_values(&["expired"]).get();
    assert_eq!(expired, 300);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gets_nothing_more_and_who_comes_again_starts_anew() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    rig.append_many(2).await;
    rig.caught_up("sub.example").await;
    let host = Authority::parse("sub.example").unwrap();
    rig.store.write(move |tx| tx.remove_subscriber(&host)).await.unwrap();
    rig.append_many(2).await;
    eventually("its lane has ended", || rig.lane("sub.example").is_none()).await;
    rig.join("sub.example", "mastodon").await;
    rig.append_many(2).await;
    rig.caught_up("sub.example").await;
    assert_eq!(numbers(&world.delivered("sub.example")), [1, 2, 5, 6]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_long_has_no_task_and_goes_on_where_it_was() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    let tasks = |rig: &Rig| rig.delivery.0.lane_tasks.len();
    assert_eq!(tasks(&rig), 1);
    world.set("sub.example", "refuse");
    rig.append_many(3).await;
    eventually("it waits for an hour", || {
        let wait = rig.lane("sub.example").and_then(|lane| lane.next_attempt);
        wait.is_some_and(|at| at.since(NOON) > Duration::from_secs(1800))
    })
    .await;
    eventually("its task is over", || tasks(&rig) == 0).await;
    assert_eq!((rig.state("sub.example"), rig.lane("sub.example").unwrap().lag), (Some(LaneState::Failing), 3));
    world.set("sub.example", "202");
    rig.caught_up("sub.example").await;
    assert_eq!(numbers(&world.delivered("sub.example")), [1, 2, 3, 4]);
    // Also one that was dead before the relay was started.
    world.set("sub.example", "refuse");
    rig.append_many(1).await;
    eventually("it has failed four times", || rig.row("sub.example").is_some_and(|row| row.health.consecutive >= 4))
        .await;
    rig.stop().await;
    let rig = Rig::open(dir.path(), &clock, &world, |_| {});
    eventually("it is known", || rig.state("sub.example") == Some(LaneState::Failing)).await;
    assert_eq!((tasks(&rig), rig.lane("sub.example").unwrap().next_attempt.is_some()), (0, true));
    let before = world.posts().len();
    world.set("sub.example", "202");
    rig.delivery.wake(&Authority::parse("sub.example").unwrap());
    rig.caught_up("sub.example").await;
    assert_eq!(world.posts().len(), before + 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_many_that_are_due_together_a_few_have_a_task_and_each_gets_its_turn() {
    const DEAD: usize = 60;
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    let host = |number: usize| format!("sub{number}.example");
    for number in 0..DEAD {
        rig.join(&host(number), "mastodon").await;
        world.set(&host(number), "refuse");
    }
    rig.append_many(1).await;
    eventually("each has failed", || (0..DEAD).all(|number| rig.state(&host(number)) == Some(LaneState::Failing)))
        .await;
    rig.stop().await;
    clock.advance(Duration::from_secs(86_400));
    for number in 0..DEAD {
        world.set(&host(number), "slow 9");
    }
    let rig = Rig::open(dir.path(), &clock, &world, |config| config.in_flight = 8);
    let mut most = 0;
    for _ in 0..3000 {
        sleep(Duration::from_millis(100)).await;
        most = most.max(
            rig.delivery.0.lane_tasks.len()
                - (0..DEAD).filter(|n| rig.state(&host(*n)) == Some(LaneState::Healthy)).count(),
        );
    }
    assert!((1..=8).contains(&most), "{most} tried again at once");
    for number in 0..DEAD {
        rig.caught_up(&host(number)).await;
    }
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_those_that_are_due_who_waits_longest_goes_first() {
    let (dir, clock, world) = noon();
    // One turn, and one place.
    let mut rig = Rig::open(dir.path(), &clock, &world, |config| config.in_flight = 1);
    let mut hosts: Vec<String> = (0..8).map(|number| format!("sub{number}.example")).collect();
    for host in &hosts {
        rig.join(host, "mastodon").await;
        world.set(host, "refuse");
    }
    rig.append_many(1).await;
    let until = |host: &String| {
        let handle = rig.delivery.0.lanes().get(&Authority::parse(host).unwrap()).cloned();
        handle.and_then(|handle| handle.parked().as_ref().map(|parked| parked.until))
    };
    eventually("each has failed and waits", || hosts.iter().all(|host| until(host).is_some())).await;
    hosts.sort_by_key(until);
    // Each holds the turn for longer than their waits differ.
    hosts.iter().for_each(|host| world.set(host, "slow 9"));
    world.forget();
    for host in &hosts {
        rig.caught_up(host).await;
    }
    let went: Vec<String> = world.posts().into_iter().map(|post| post.host).collect();
    assert_eq!(went, hosts);
    rig.stop().await;
}

async fn block(rig: &Rig, target: &str) {
    let rule = Rule::new(target.parse().unwrap(), Severity::Block, Source::Operator, NOON);
    rig.delivery
        .0
        .rules
        .policy
        .change(&rig.store, Arc::new(vec![RuleChange::Put(rule)]), &crate::store::Act::local(""), None, |_after| Ok(()))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rule_holds_for_what_already_waits_for_a_place() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |config| config.in_flight = 2);
    rig.join("sub.example", "mastodon").await;
    let place = rig.delivery.0.slots.acquire(slots::Pool::Fresh).await;
    rig.append_many(1).await;
    pass(Duration::from_secs(1)).await;
    block(&rig, "author.example").await;
    drop(place);
    rig.append(|draft| {
        draft.supplier = Authority::parse("other.example").unwrap();
        draft.actor = iri("https://other.example/users/ada");
        draft.object = iri("https://other.example/notes/2");
    })
    .await;
    rig.caught_up("sub.example").await;
    assert_eq!(numbers(&world.delivered("sub.example")), [2]);
    let text = rig.delivery.0.metrics.render();
    assert!(text.contains("deliveries_total{result=\"blocked\"} 1"), "{text}");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_post_that_is_blocked_meanwhile_is_not_said_again_in_other_words() {
    let (dir, clock, world) = noon();
    let rig = Rig::open(dir.path(), &clock, &world, |_| {});
    world.set("sub.example", "own");
    let shared = &rig.delivery.0;
    let outgoing = shared.outbox.outgoing(&Arc::new(testing::entry(1, |_| {}))).await;
    let fly = async || {
        let slot = shared.slots.acquire(slots::Pool::Fresh).await.unwrap();
        let (shared, outgoing, inbox) = (shared.clone(), outgoing.clone(), iri("https://sub.example/inbox"));
        let plan = plan::Plan::Forward;
        flight::Flight { shared, outgoing, plan, inbox, manner: Manner::Own(Scheme::Cavage) }.fly(slot).await;
    };
    fly().await;
    assert_eq!(world.delivered("sub.example").len(), 1, "the forward is refused, the Announce taken");
    block(&rig, "author.example").await;
    fly().await;
    assert_eq!(world.delivered("sub.example").len(), 1, "{:?}", world.posts());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_blocked_server_is_told_that_it_is_over_and_nothing_else() {
    let (dir, clock, world) = noon();
    let rig = Rig::open(dir.path(), &clock, &world, |_| {});
    block(&rig, "gone.example").await;
    let kinds = ["accept", "follow", "reject", "undo"];
    for host in ["gone.example", "here.example"] {
        for what in kinds {
            let inbox = iri(&format!("https://{host}/inbox"));
            let row = Directive { inbox, what: what.to_owned(), body: json!({ "what": what }).to_string(), from: None };
            rig.store.write(move |tx| tx.queue_control(row)).await.unwrap();
        }
    }
    rig.delivery.wake_control();
    eventually("all are settled", || rig.store.all::<ControlRow>().unwrap().is_empty()).await;
    let told = |host: &str| world.delivered(host).iter().map(|body| body["what"].clone()).collect::<Vec<_>>();
    assert_eq!(told("gone.example"), ["reject", "undo"]);
    assert_eq!(told("here.example"), kinds);
    rig.stop().await;
}
