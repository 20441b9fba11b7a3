//! When Announces leave: an origin sees few fetches, and nothing else waits for that.

use super::*;

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

/// It forgets what it did not try, and would take turns for it again and again: they would never come, and others' would
/// come late.
#[tokio::test(start_paused = true)]
async fn a_lane_that_is_tried_again_takes_no_turns() {
    let (dir, clock, world) = noon();
    let mut rig = Rig::open(dir.path(), &clock, &world, |config| config.in_flight_per_host = 1);
    rig.join("sub.example", "akkoma").await;
    world.set("sub.example", "500");
    for _ in 0..5 {
        rig.append(|draft| draft.carried = false).await;
    }
    eventually("the first one failed", || world.count() == 1).await;
    let origin = Authority::parse("author.example").unwrap();
    let turn = |rig: &Rig| rig.delivery.0.pace.turn(&origin, clock.now());
    // Whatever asks for a turn now is told to wait for nearly two minutes.
    for _ in 0..200 {
        while turn(&rig).since(clock.now()) < Duration::from_secs(100) {}
        let objects: BTreeSet<String> = world.posts().iter().map(|post| post.body["object"].to_string()).collect();
        if objects.len() > 1 {
            break;
        }
        clock.advance(Duration::from_secs(30));
        pass(Duration::from_secs(30)).await;
    }
    let objects: Vec<String> = world.posts().iter().map(|post| post.body["object"].to_string()).collect();
    assert_ne!(objects.first(), objects.last(), "another one goes first: {objects:?}");
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
