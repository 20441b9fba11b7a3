//! Messages to one server.

use super::*;

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
