//! What delivery promises, with a world that answers as it is told. Time stands still but for what is waited for, so an
//! hour of retries takes a moment; the clock that ages are read from is moved by hand.

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

#[tokio::test(start_paused = true)]
async fn the_signature_profile_that_went_through_is_remembered() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mitra").await;
    world.set("sub.example", "new");
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    rig.append_many(3).await;
    rig.caught_up("sub.example").await;
    let manners: Vec<Manner> = world.posts().iter().map(|post| post.manner).collect();
    assert_eq!(manners, [[Manner::Own(Scheme::Cavage)].as_slice(), &[Manner::Own(Scheme::Rfc9421); 4]].concat());
    let facts: AuthorityFacts = rig.store.get("sub.example").unwrap().unwrap();
    assert_eq!(facts.scheme, Some(Scheme::Rfc9421));
    rig.stop().await;
}

fn facts_of(rig: &Rig, host: &str) -> AuthorityFacts {
    rig.store.get(host).unwrap().unwrap()
}

fn manners(world: &World, host: &str) -> Vec<Manner> {
    world.posts().iter().filter(|post| post.host == host).map(|post| post.manner).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_shared_signature_to_a_server_is_a_trial_and_a_yes_counts() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    for (host, software) in [("slow.example", "mastodon"), ("mk.example", "misskey"), ("gts.example", "gotosocial")] {
        rig.join(host, software).await;
    }
    let takes = Duration::from_secs(2);
    world.set("slow.example", "slow 2");
    // All are there before any is answered.
    rig.append_at_once(8).await;
    for host in ["slow.example", "mk.example", "gts.example"] {
        rig.caught_up(host).await;
    }
    let posts: Vec<_> = world.posts().into_iter().filter(|post| post.host == "slow.example").collect();
    let together = posts.iter().filter(|post| post.at < posts[0].at + takes).map(|post| post.manner);
    let (trials, others): (Vec<_>, Vec<_>) = together.partition(|manner| *manner == Manner::Shared);
    assert!(trials.len() == 1 && !others.is_empty(), "while one is on trial the others have their own: {others:?}");
    assert_eq!(facts_of(&rig, "slow.example").shared, Some(Sharing::Taken));
    world.forget();
    rig.append_many(8).await;
    for host in ["slow.example", "mk.example", "gts.example"] {
        rig.caught_up(host).await;
    }
    assert_eq!(manners(&world, "slow.example"), [Manner::Shared; 8]);
    for host in ["mk.example", "gts.example"] {
        assert_eq!(manners(&world, host), [Manner::Own(Scheme::Cavage); 8], "{host}");
    }
    assert_eq!(facts_of(&rig, "mk.example").shared, None);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_a_shared_signature_gets_its_own_at_once_and_for_good() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    assert_eq!(facts_of(&rig, "sub.example").shared, Some(Sharing::Taken));
    // It took one, and refuses the next.
    world.set("sub.example", "alone");
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    let own = Manner::Own(Scheme::Cavage);
    assert_eq!(manners(&world, "sub.example"), [Manner::Shared, Manner::Shared, own]);
    assert_eq!(rig.state("sub.example"), Some(LaneState::Healthy), "that is no failure");
    let facts = facts_of(&rig, "sub.example");
    assert_eq!((facts.shared, facts.scheme), (Some(Sharing::Refused), None));
    rig.append_many(20).await;
    rig.caught_up("sub.example").await;
    assert_eq!(world.count(), 23, "no other was tried");
    assert_eq!(numbers(&world.delivered("sub.example")), (1..=22).collect::<Vec<_>>());
    rig.stop().await;
    // Nor after a restart, although it would be taken now.
    world.set("sub.example", "202");
    world.forget();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.append_many(3).await;
    rig.caught_up("sub.example").await;
    assert_eq!(manners(&world, "sub.example"), [own; 3]);
    let counted = |word| rig.delivery.0.metrics.shared_signatures.with_label_values(&[word]).get();
    assert_eq!(["taken", "refused", "refused-later"].map(counted), [0; 3]);
    rig.stop().await;
}

/// A server that can verify nothing of ours just then, as Mastodon 4.3 when it cannot read our key, says nothing about
/// sharing.
#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_every_signature_says_nothing_about_shared_ones() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    world.set("sub.example", "401");
    rig.append(|draft| draft.carried = false).await;
    rig.caught_up("sub.example").await;
    assert_eq!(world.count(), 3, "each way once");
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    assert_eq!(world.count(), 7, "and in our own words; shared ones rest for an hour");
    assert_eq!(facts_of(&rig, "sub.example").shared, None);
    world.set("sub.example", "202");
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    assert_eq!(facts_of(&rig, "sub.example").shared, None);
    pass(Duration::from_secs(3600)).await;
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    assert_eq!(facts_of(&rig, "sub.example").shared, Some(Sharing::Taken));
    let counted = |word| rig.delivery.0.metrics.shared_signatures.with_label_values(&[word]).get();
    assert_eq!(["taken", "refused", "all-refused"].map(counted), [1, 0, 1]);
    rig.stop().await;
}

/// Nor that it refuses forwards: it may not be able to read our key for a minute, and would be announced to for a month.
#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_all_we_say_is_paused_and_not_announced_to() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |config| config.in_flight_per_host = 1);
    rig.join("sub.example", "mastodon").await;
    world.set("sub.example", "401");
    for number in 0..40 {
        rig.append(|draft| draft.actor = iri(&format!("https://author{}.example/users/ada", number % 2))).await;
    }
    eventually("it is paused", || rig.state("sub.example") == Some(LaneState::Paused)).await;
    assert_eq!(world.count(), 1 + 20 * 4, "and not asked for ever");
    assert_eq!(facts_of(&rig, "sub.example").announce_until, None);
    rig.stop().await;
}

/// A Delete that is forwarded, and refused, becomes an Undo of our Announce.
#[tokio::test(start_paused = true)]
async fn an_undo_in_place_of_a_refused_deletion_names_its_host() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    rig.append_many(1).await;
    rig.caught_up("sub.example").await;
    world.set("sub.example", "own");
    rig.append(|draft| draft.kind = Kind::Delete).await;
    rig.caught_up("sub.example").await;
    assert_eq!(manners(&world, "sub.example"), [Manner::Shared, Manner::Shared, Manner::Own(Scheme::Cavage)]);
    assert_eq!(world.posts()[2].body["type"], "Undo");
    rig.stop().await;
}

/// One that wants the other profile each time, as behind two machines of different versions.
#[tokio::test(start_paused = true)]
async fn which_profile_a_server_wants_is_written_down_once_an_hour_at_most() {
    let (dir, clock, _) = noon();
    let world = World::scripted(&["401", "202", "401", "202"]);
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "akkoma").await;
    for _ in 0..2 {
        rig.append_many(1).await;
        rig.caught_up("sub.example").await;
    }
    let schemes = [Scheme::Cavage, Scheme::Rfc9421, Scheme::Rfc9421, Scheme::Cavage];
    assert_eq!(manners(&world, "sub.example"), schemes.map(Manner::Own), "each time the one that went through");
    assert_eq!(facts_of(&rig, "sub.example").scheme, Some(Scheme::Rfc9421), "the first is what was written");
    rig.stop().await;
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

/// Lets time pass for the relay's clock too, a little at a time.
async fn both_pass(clock: &Clock, span: Duration) {
    const STEP: Duration = Duration::from_millis(250);
    for _ in 0..span.as_millis() / STEP.as_millis() {
        clock.advance(STEP);
        pass(STEP).await;
    }
}

#[tokio::test(start_paused = true)]
async fn forwards_and_small_origins_do_not_wait_behind_announces_that_have_to() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    // Of one origin, none of which can be forwarded: fifty leave at once, then twenty a second.
    for _ in 0..600 {
        rig.append(|draft| draft.carried = false).await;
    }
    both_pass(&clock, Duration::from_secs(3)).await;
    let before = world.count();
    assert!((50..200).contains(&before), "{before}");
    rig.append(|draft| draft.object = iri("https://other.example/notes/forward")).await;
    rig.append(|draft| (draft.carried, draft.object) = (false, iri("https://small.example/notes/1"))).await;
    both_pass(&clock, Duration::from_secs(2)).await;
    let bodies = world.delivered("sub.example");
    let place = |is_it: &dyn Fn(&Value) -> bool| bodies.iter().position(is_it);
    let (forward, small) =
        (place(&|body| body["n"] == 601), place(&|body| body["object"] == "https://small.example/notes/1"));
    assert!(forward.is_some() && small.is_some(), "{forward:?} {small:?} of {} after {before}", bodies.len());
    both_pass(&clock, Duration::from_secs(40)).await;
    rig.caught_up("sub.example").await;
    assert_eq!(world.delivered("sub.example").len(), 602, "each once");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_origin_sees_no_more_fetches_a_second_than_its_rate_after_an_outage_either() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |config| config.ramp = Duration::ZERO);
    for number in 0..60 {
        rig.join(&format!("sub{number}.example"), "akkoma").await;
        world.set(&format!("sub{number}.example"), "refuse");
    }
    // Nobody can be reached for ten minutes: all wait, for a deletion that has no turn to ask for, while posts come.
    rig.append(|draft| (draft.kind, draft.carried) = (Kind::Delete, false)).await;
    for number in 0..60 {
        let host = format!("sub{number}.example");
        eventually("it waits", || rig.state(&host) == Some(LaneState::Failing)).await;
    }
    for _ in 0..5 {
        rig.append(|draft| draft.carried = false).await;
    }
    clock.advance(Duration::from_secs(600));
    world.forget();
    for number in 0..60 {
        world.set(&format!("sub{number}.example"), "202");
        rig.delivery.retry_now(&Authority::parse(&format!("sub{number}.example")).unwrap());
    }
    let started = Instant::now();
    both_pass(&clock, Duration::from_secs(20)).await;
    for number in 0..60 {
        rig.caught_up(&format!("sub{number}.example")).await;
    }
    let mut seconds = std::collections::BTreeMap::new();
    for post in world.posts().iter().filter(|post| post.body["type"] == "Announce") {
        *seconds.entry(post.at.duration_since(started).as_secs()).or_insert(0) += 1;
    }
    assert_eq!(seconds.values().sum::<usize>(), 300);
    // Both clocks move in steps of a quarter, so that a second may have five quarters' worth.
    let (burst, a_second) = (50, 26);
    assert!(seconds.iter().skip(1).all(|(_, count)| *count <= a_second), "{seconds:?}");
    assert!(seconds[&0] <= burst + a_second, "{seconds:?}");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_one_servers_business_is_never_signed_for_many() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    rig.join("sub.example", "mastodon").await;
    rig.append(|draft| draft.carried = false).await;
    rig.caught_up("sub.example").await;
    assert_eq!(manners(&world, "sub.example"), [Manner::Shared], "it takes them");
    world.forget();
    // An Undo of our Announce, and one of each control message.
    rig.append(|draft| (draft.kind, draft.carried) = (Kind::Delete, false)).await;
    rig.caught_up("sub.example").await;
    let kinds = ["accept", "reject", "follow", "undo", "update"];
    let put = rig.store.write(move |tx| {
        for what in kinds {
            let (inbox, body) = (iri("https://sub.example/inbox"), json!({ "what": what }).to_string());
            tx.queue_control(Directive { inbox, body, what: what.to_owned(), from: None })?;
        }
        Ok(())
    });
    put.await.unwrap();
    rig.delivery.wake_control();
    eventually("all are sent", || world.count() == 1 + kinds.len()).await;
    assert_eq!(manners(&world, "sub.example"), [Manner::Own(Scheme::Cavage); 6]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shared_signatures_can_be_switched_off() {
    let (dir, clock, world) = noon();
    let off = |config: &mut config::Delivery| config.shared_signature = config::SharedSignature::Off;
    let mut rig = Rig::open(dir.path(), &clock, &world, off);
    rig.join("sub.example", "mastodon").await;
    rig.append_many(3).await;
    rig.caught_up("sub.example").await;
    assert_eq!(manners(&world, "sub.example"), [Manner::Own(Scheme::Cavage); 3]);
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

/// A look at what ten thousand lanes cost; run by hand: `cargo test --release ten_thousand -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn ten_thousand_lanes() {
    let (dir, clock, world) = noon();
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
    };
    eprintln!("empty: {}", memory());
    {
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let put = store.write(|tx| {
            for number in 0..10_000 {
                let mut row = subscriber(&format!("sub{number}.example"), tx.new_slot()?);
                row.start = Seq(1);
                let facts = AuthorityFacts { software: Some("mastodon".to_owned()), ..AuthorityFacts::default() };
                tx.put(row.authority.as_str(), &facts)?;
                tx.put_subscriber(row)?;
            }
            Ok(())
        });
        put.await.unwrap();
    }
    // The writer lets go of the file a moment after its last handle.
    sleep(Duration::from_secs(1)).await;
    eprintln!("rows written: {}", memory());
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    eprintln!("rows read: {}", memory());
    while rig.delivery.lanes().len() < 10_000 {
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_secs(1)).await;
    eprintln!("lanes: {}", memory());
    let started = std::time::Instant::now();
    rig.append_many(10).await;
    while world.count() < 100_000 {
        sleep(Duration::from_millis(10)).await;
    }
    eprintln!("100,000 deliveries in {:?}: {}", started.elapsed(), memory());
    rig.stop().await;
}

/// What ten thousand subscribers cost that never answer; by hand, as above with `ten_thousand_dead`. A day passes in
/// simulated time.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement"]
async fn ten_thousand_dead_lanes() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    eprintln!("empty: {}", memory());
    many(&rig, &world, 10_000, 10_000).await;
    eprintln!("rows written: {}", memory());
    rig.append_many(3).await;
    for hour in 1..=24 {
        for _ in 0..360 {
            clock.advance(Duration::from_secs(10));
            pass(Duration::from_secs(10)).await;
        }
        eprintln!("hour {hour}: {} attempts, {}", world.count(), memory());
        world.forget();
    }
    rig.stop().await;
}

/// What ten thousand subscribers cost of whom half are dead, over a simulated day with twenty posts an hour, and then half a
/// minute with five a second; by hand, as above with `half_of_ten_thousand`. No sockets are in it.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement"]
async fn half_of_ten_thousand_dead_for_a_day() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    many(&rig, &world, 10_000, 5_000).await;
    let body = format!("{{\"n\":0,\"content\":\"{}\"}}", "a".repeat(2_750));
    eprintln!("rows written: {}", memory());
    for hour in 1..=24 {
        for minute in 0..60 {
            if minute % 3 == 0 {
                rig.append(|draft| draft.body = body.clone().into()).await;
            }
            for _ in 0..6 {
                clock.advance(Duration::from_secs(10));
                pass(Duration::from_secs(10)).await;
            }
            if minute < 59 {
                world.forget();
            }
        }
        eprintln!("hour {hour}: {} attempts in the last minute, {}", world.count(), memory());
        world.forget();
    }
    for _ in 0..30 {
        for _ in 0..5 {
            rig.append(|draft| draft.body = body.clone().into()).await;
        }
        clock.advance(Duration::from_secs(1));
        pass(Duration::from_secs(1)).await;
        world.forget();
    }
    eprintln!("after half a minute with five posts a second: {}", memory());
    rig.stop().await;
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}

/// So many subscribers, of whom the first are dead.
async fn many(rig: &Rig, world: &World, count: usize, dead: usize) {
    for number in 0..dead {
        world.set(&format!("sub{number}.example"), "refuse");
    }
    let put = rig.store.write(move |tx| {
        let facts = AuthorityFacts { software: Some("mastodon".to_owned()), ..AuthorityFacts::default() };
        for number in 0..count {
            let mut row = subscriber(&format!("sub{number}.example"), tx.new_slot()?);
            row.start = Seq(1);
            tx.put(row.authority.as_str(), &facts)?;
            tx.put_subscriber(row)?;
        }
        Ok(())
    });
    put.await.unwrap();
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

#[tokio::test(start_paused = true)]
async fn messages_to_one_server_go_out_in_order_and_are_kept_until_settled() {
    let (dir, clock, world) = noon();
    let rig = Rig::open(dir.path(), &clock, &world, |config| config.retry = vec![Duration::from_millis(100)]);
    let queue = async |host: &str, what: &str| {
        let (inbox, what) = (iri(&format!("https://{host}/inbox")), what.to_owned());
        let directive = Directive { inbox, body: json!({ "what": what }).to_string(), what, from: None };
        rig.store.write(move |tx| tx.queue_control(directive)).await.unwrap();
        rig.delivery.wake_control();
    };
    world.set("late.example", "503");
    world.set("no.example", "404");
    world.set("slow.example", "slow 9");
    for what in ["accept", "follow"] {
        for host in ["slow.example", "late.example", "no.example", "good.example"] {
            queue(host, what).await;
        }
    }
    eventually("the good one has both", || world.delivered("good.example").len() == 2).await;
    let rows = || rig.store.all::<ControlRow>().unwrap();
    // Written down, not only sent: when it is due again is reckoned from a clock that this test moves.
    let waits = || rows().iter().any(|(_, row)| row.authority().as_str() == "late.example" && row.attempts > 0);
    eventually("the late one was tried", waits).await;
    eventually("what was refused is settled", || {
        rows().iter().all(|(_, row)| row.authority().as_str() != "no.example")
    })
    .await;
    assert!(world.posts().iter().filter(|post| post.host == "late.example").all(|post| post.body["what"] == "accept"));
    world.set("late.example", "202");
    clock.advance(Duration::from_secs(1));
    eventually("all is settled", || rows().is_empty()).await;
    for host in ["late.example", "good.example", "slow.example"] {
        let order: Vec<Value> = world.delivered(host).iter().map(|body| body["what"].clone()).collect();
        assert_eq!(order, ["accept", "follow"], "{host}");
    }
    world.set("late.example", "503");
    queue("late.example", "undo").await;
    eventually("it waits", waits).await;
    clock.advance(Duration::from_secs(8 * 86_400));
    eventually("and is given up after a week", || rows().is_empty()).await;
    rig.stop().await;
}

/// Puts an Accept for each of these hosts into one commit, in this order.
async fn queue_for(rig: &Rig, hosts: Vec<String>) {
    let write = rig.store.write(move |tx| {
        for host in hosts {
            let (inbox, body) = (iri(&format!("https://{host}/inbox")), json!({ "for": host }).to_string());
            tx.queue_control(Directive { inbox, body, what: "accept".to_owned(), from: None })?;
        }
        Ok(())
    });
    write.await.unwrap();
    rig.delivery.wake_control();
}

#[tokio::test(start_paused = true)]
async fn one_domain_whose_servers_hang_keeps_nobody_elses_messages() {
    let (dir, clock, world) = noon();
    let rig = Rig::open(dir.path(), &clock, &world, |_| {});
    let mut hosts: Vec<_> = (0..40).map(|number| format!("n{number}.evil.example")).collect();
    hosts.iter().for_each(|host| world.set(host, "hang"));
    hosts.push("honest.example".to_owned());
    queue_for(&rig, hosts.clone()).await;
    eventually("the honest one has its own", || world.delivered("honest.example").len() == 1).await;
    // A request that hangs is noted when it is given up.
    assert_eq!(world.count(), 1, "{:?}", world.posts());
    let evil = || world.posts().into_iter().filter(|post| post.host != "honest.example").collect::<Vec<_>>();
    eventually("some of the others were given up", || evil().len() >= 6).await;
    let mut ends: Vec<_> = evil().iter().map(|post| post.at).collect();
    ends.sort();
    assert!(ends.windows(3).all(|three| three[2] - three[0] >= Duration::from_secs(9)), "two at once: {ends:?}");
    // Their turn comes all the same.
    hosts.iter().for_each(|host| world.set(host, "202"));
    let all_have_theirs = || {
        // What hung until now is due after a gap that began later.
        clock.advance(Duration::from_secs(60));
        hosts.iter().all(|host| world.delivered(host).len() == 1)
    };
    eventually("all have theirs", all_have_theirs).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_is_told_first_and_not_who_was_to_be_told_first() {
    let (dir, clock, world) = noon();
    let rig = Rig::open(dir.path(), &clock, &world, |_| {});
    let of = |name: &str| (0..16).map(|number| format!("{name}{number}.example")).collect::<Vec<_>>();
    let (old, new) = (of("old"), of("new"));
    old.iter().chain(&new).for_each(|host| world.set(host, "hang"));
    queue_for(&rig, old).await;
    let tried = || rig.store.all::<ControlRow>().unwrap().iter().all(|(_, row)| row.attempts == 1);
    eventually("all places were taken, in vain", tried).await;
    // Of the same moment as the first were, but before they are due again.
    queue_for(&rig, new.into_iter().chain(["honest.example".to_owned()]).collect()).await;
    clock.advance(Duration::from_secs(3600));
    eventually("the honest one has its own", || world.delivered("honest.example").len() == 1).await;
    let of_old = world.posts().iter().filter(|post| post.host.starts_with("old")).count();
    assert_eq!(of_old, 16, "none of them was told again before it: {:?}", world.posts());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_knocks_of_a_message_to_one_server_have_one_deadline() {
    let (dir, clock, world) = noon();
    let rig = Rig::open(dir.path(), &clock, &world, |_| {});
    world.set("slow.example", "refuses 9");
    queue_for(&rig, vec!["slow.example".to_owned()]).await;
    let tried = || rig.store.all::<ControlRow>().unwrap().iter().all(|(_, row)| row.attempts == 1);
    eventually("it was tried", tried).await;
    assert_eq!(world.count(), 1, "the second knock was cut: {:?}", world.posts());
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

#[tokio::test]
async fn over_a_real_connection_posts_are_signed_and_answers_understood() {
    let (dir, clock, world) = noon();
    let site = Site::start("127.0.0.2").await;
    site.set("/inbox", Page::status(202));
    let config = Config::embedded();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    let supervisor = Supervisor::new(clock.clone());
    let delivery = Delivery::new(Services {
        config: config.delivery.clone(),
        audience: config.relay.announce_audience,
        policy: policy::Rules::new(&config.policy, &config.relay),
        store: rig.store.clone(),
        log: rig.log.clone(),
        signed: crate::net::testing::signed_client(clock.clone(), &crate::net::testing::fetch()),
        ids: Arc::new(OurIds::new("https://relay.example", "/actor", "main-key", "relay").unwrap()),
        clock: clock.clone(),
        supervisor: supervisor.clone(),
        metrics: Metrics::new(),
    })
    .unwrap();
    let host = site.addr.to_string();
    // The scripted delivery of the rig serves the same subscriber in its own world; only the real one is looked at.
    let mut row = subscriber("sub.example", 0);
    row.authority = Authority::parse(&host).unwrap();
    row.start = Seq(1);
    row.registrations[0].inbox = site.iri("/inbox");
    rig.store.write(move |tx| tx.put_subscriber(row)).await.unwrap();
    delivery.start();
    site.demand(Some((Scheme::Rfc9421, 401)));
    rig.append_many(3).await;
    let lane = || delivery.lanes().into_iter().find(|lane| lane.authority.as_str() == host);
    let started = std::time::Instant::now();
    while lane().is_none_or(|lane| lane.lag > 0) {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", lane());
        sleep(Duration::from_millis(20)).await;
    }
    let headers = site.headers_of("/inbox");
    assert_eq!(headers["content-type"], "application/activity+json");
    assert!(headers.contains_key("signature-input") && headers.contains_key("content-digest"));
    let facts: AuthorityFacts = rig.store.get(&host).unwrap().unwrap();
    assert_eq!(facts.scheme, Some(Scheme::Rfc9421));
    assert!(supervisor.stop(Duration::from_secs(5)).await);
    rig.stop().await;
}

/// Waits in real time.
async fn soon(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn whatever_an_inbox_does_instead_of_answering_is_a_counted_failure_with_a_named_reason() {
    const BOMB: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n\
        \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    const CHUNKS: &[u8] = b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n";
    let (dir, clock, _) = noon();
    let (canary, knocks) = raw_server(CANARY, b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    let away = format!("HTTP/1.1 301 Moved\r\nlocation: http://{canary}/\r\ncontent-length: 0\r\n\r\n");
    let plain = async |answer: &'static [u8]| raw_server(OPEN, answer).await.0;
    let redirects = plain(away.leak().as_bytes()).await;
    let short = plain(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\nnot so many").await;
    let silent = plain(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\nzzz").await;
    let bomb = plain(BOMB).await;
    let (body, body_taken) = hose(OPEN, CHUNKS, b"1000\r\n").await;
    let (lines, lines_taken) =
        hose(OPEN, b"HTTP/1.1 202 Accepted\r\n", b"x-more: and more and more and more\r\n").await;
    let (line, line_taken) = hose(OPEN, b"HTTP/1.1 202 Accepted\r\nx-long: ", &[b'x'; 4096]).await;
    // It has a certificate for `tls.example`, a name that leads outside once, and from then on inside.
    let tls = tls_server().await;
    let good = plain(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    let closed = tokio::net::TcpListener::bind((OPEN, 0)).await.unwrap().local_addr().unwrap();
    let inboxes = [
        (format!("http://{redirects}"), "HTTP 301"),
        (format!("http://{body}"), "too_big"),
        (format!("http://{silent}"), "timeout"),
        (format!("http://{lines}"), "broken"),
        (format!("http://{line}"), "broken"),
        (format!("http://{}", resetting(OPEN).await), "broken"),
        (format!("http://{closed}"), "connect"),
        (format!("http://{short}"), "broken"),
        (format!("http://{bomb}"), "coding"),
        (format!("https://other.example:{tls}"), "tls"),
        (format!("https://tls.example:{tls}"), "refused"),
        (format!("http://{good}"), ""),
    ];
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let names = Names::Scripted(Arc::new(move |name| {
        let inside = name == "tls.example" && asked.fetch_add(1, Ordering::SeqCst) > 0;
        vec![if inside { CANARY } else { OPEN }.parse().unwrap()]
    }));
    let fetch = crate::net::testing::fetch();
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");
    let net = config::Net { extra_roots: vec![ca.into()], ..Config::embedded().net };
    let client = Client::with_names(&net, &fetch, "shearwater/test", names).unwrap();
    let resolver = client.clone();
    let keys = KeyRing::new(Standing::only(crate::net::testing::keys()));
    let signed = SignedClient::new(client, keys, clock.clone(), &fetch);
    let mut rig = Rig::carried_by(Courier::Signed(Box::new(signed)), dir.path(), &clock, |config| {
        config.timeout = Duration::from_secs(2);
        config.retry = vec![Duration::from_secs(3600)];
    });
    let mut hosts = Vec::new();
    for (slot, (origin, reason)) in inboxes.iter().enumerate() {
        let mut row = subscriber("sub.example", u32::try_from(slot).unwrap());
        row.authority = iri(&format!("{origin}/inbox")).authority();
        row.registrations[0].inbox = iri(&format!("{origin}/inbox"));
        row.registrations[0].actor = iri(&format!("{origin}/actor"));
        hosts.push((row.authority.as_str().to_owned(), *reason));
        let facts = AuthorityFacts { software: Some("mastodon".to_owned()), ..AuthorityFacts::default() };
        let put = rig.store.write(move |tx| {
            tx.put(row.authority.as_str(), &facts)?;
            tx.put_subscriber(row)
        });
        put.await.unwrap();
    }
    let before = resident();
    rig.append_many(1).await;
    let turning = format!("tls.example:{tls}");
    soon("what turns has taken one post", || rig.lane(&turning).is_some_and(|lane| lane.lag == 0)).await;
    resolver.forget("tls.example").await;
    rig.append_many(1).await;
    let started = std::time::Instant::now();
    for (host, reason) in hosts.iter().filter(|(_, reason)| !reason.is_empty()) {
        let failed = || rig.lane(host).is_some_and(|lane| lane.state == LaneState::Failing);
        soon(&format!("{host} ({reason}) is found failing"), failed).await;
        assert_eq!(rig.lane(host).and_then(|lane| lane.last_reason).as_deref(), Some(*reason), "{host}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "each within its deadline: {:?}", started.elapsed());
    soon("the good one has all", || rig.lane(&good.to_string()).is_some_and(|lane| lane.lag == 0)).await;
    for (host, reason) in hosts.iter().filter(|(_, reason)| !reason.is_empty()) {
        let noted = || rig.row(host).is_some_and(|row| row.health.last_reason.as_deref() == Some(*reason));
        soon(&format!("{host} ({reason}) is written down"), noted).await;
        assert!(rig.row(host).is_some_and(|row| row.health.consecutive == 1), "{host}: counted once");
    }
    let later = rig.delivery.0.metrics.deliveries.with_label_values(&["later"]).get();
    assert!(later >= 11, "{later} attempts to be tried again");
    for (what, taken) in [("body", body_taken), ("lines", lines_taken), ("line", line_taken)] {
        // What was on its way when the connection was closed waits in buffers of the kernel.
        let taken = taken.load(Ordering::SeqCst);
        assert!(taken < 16 << 20, "an endless {what}: {taken} bytes were taken");
    }
    assert!(resident() < before + (24 << 20), "memory: {before} bytes before, {} after", resident());
    assert_eq!(knocks.load(Ordering::SeqCst), 0, "nobody is led inside");
    rig.stop().await;
}

/// Memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
