//! Measurements, by hand: what thousands of lanes cost.

use super::*;

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
