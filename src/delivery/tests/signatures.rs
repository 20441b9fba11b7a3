//! Which signature each server gets, and what is learned of how it takes it.

use super::*;

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
