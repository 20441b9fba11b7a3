//! The checker itself, on made-up ledgers.

use super::*;
use crate::demo::ledger::{Shown, Via};

fn member(name: &str, family: Family) -> Member {
    Member { name: name.to_owned(), family, health: Health::Well, joined: true, refused: None }
}

fn post(id: &str) -> Made {
    Made {
        id: id.to_owned(),
        activity_id: format!("{id}/activity"),
        from: 0,
        author: "ada".to_owned(),
        visibility: Visibility::Public,
        tagged: false,
        is_boost: false,
        marker: format!("marker of {id}"),
        at: Timestamp::from_secs(100),
        status: 202,
        follow_ups: Vec::new(),
    }
}

fn receipt(seq: u64, outcome: Outcome, id: &str, object: &str) -> Receipt {
    Receipt {
        seq,
        at: Timestamp::from_secs(101),
        path: "/inbox".to_owned(),
        date: Some(Timestamp::from_secs(100)),
        scheme: None,
        signer: None,
        kind: "Announce".to_owned(),
        id: Some(id.to_owned()),
        actor: None,
        object: Some(object.to_owned()),
        to: Vec::new(),
        status: 202,
        outcome,
        detail: String::new(),
        body: object.to_owned(),
    }
}

fn ledger(receipts: Vec<Receipt>) -> Option<Ledger> {
    let shown = |receipt: &Receipt| Shown {
        id: receipt.object.clone().unwrap_or_default(),
        via: Via::Announce,
        standing: Standing::Shown,
        edits: 0,
    };
    let posts = receipts.iter().filter(|receipt| receipt.outcome == Outcome::Post).map(shown).collect();
    let (name, origin) = (String::new(), String::new());
    Some(Ledger {
        name,
        family: Family::Mastodon,
        origin,
        accepted: true,
        followed_back: false,
        receipts,
        posts,
        served: 0,
    })
}

fn check(made: Vec<Made>, receipts: Vec<Receipt>, expected: &[Promise]) {
    let members = [member("origin", Family::Misskey), member("reader", Family::Mastodon)];
    let found = judge(&made, &members, &[ledger(Vec::new()), ledger(receipts)]);
    let broken: Vec<Promise> = found.broken.keys().copied().collect();
    assert_eq!(broken, expected, "{:?}", found.broken);
}

#[test]
fn a_post_that_came_once_is_right_and_anything_else_is_not() {
    let came = || receipt(1, Outcome::Post, "a1", "p");
    check(vec![post("p")], vec![came()], &[]);
    check(vec![post("p")], vec![], &[Promise::Everyone]);
    check(vec![post("p")], vec![came(), receipt(2, Outcome::Known, "a1", "p")], &[Promise::ExactlyOnce]);
    check(vec![post("p")], vec![came(), receipt(2, Outcome::Fault, "a1", "p")], &[]);
    check(vec![post("p")], vec![came(), receipt(2, Outcome::Digest, "a1", "p")], &[Promise::Signature]);
    check(vec![Made { status: 500, ..post("p") }], vec![], &[Promise::Everyone]);
    check(vec![], vec![], &[Promise::Everyone]);
}

#[test]
fn what_is_not_public_must_not_come_in_any_form() {
    for visibility in [Visibility::Unlisted, Visibility::Followers, Visibility::Direct] {
        let secret = || Made { visibility, ..post("s") };
        let public = || receipt(1, Outcome::Post, "a", "p");
        check(vec![post("p"), secret()], vec![public()], &[]);
        let leaked = receipt(2, Outcome::Ignored, "a", "s");
        check(vec![post("p"), secret()], vec![public(), leaked], &[Promise::Private]);
        let quoted = Receipt { body: "<p>marker of s</p>".to_owned(), ..receipt(2, Outcome::Ignored, "a", "x") };
        check(vec![post("p"), secret()], vec![public(), quoted], &[Promise::Private]);
    }
    let public = || receipt(1, Outcome::Post, "a", "p");
    let boost = || Made { is_boost: true, activity_id: "boost-1".to_owned(), ..post("p") };
    check(vec![post("p"), boost()], vec![public()], &[]);
    let relayed = Receipt { body: "boost-1".to_owned(), ..receipt(2, Outcome::Ignored, "boost-1", "p") };
    check(vec![post("p"), boost()], vec![public(), relayed], &[Promise::Private]);
}

#[test]
fn a_stale_date_is_seen_whatever_the_receiver_thought() {
    let stale = Receipt { date: Some(Timestamp::from_secs(101 - 301)), ..receipt(1, Outcome::Post, "a", "p") };
    check(vec![post("p")], vec![stale], &[Promise::FreshDate]);
}

#[test]
fn signed_edits_and_deletions_follow_their_post_once() {
    let follow_up = |embedded, is_deletion| {
        let activity_id = "f".to_owned();
        Made { follow_ups: vec![FollowUp { activity_id, is_deletion, embedded, status: 202 }], ..post("p") }
    };
    let came = || receipt(2, Outcome::Post, "a", "p");
    let edit = |seq| receipt(seq, Outcome::Edit, "f", "p");
    check(vec![follow_up(true, false)], vec![came(), edit(3)], &[]);
    check(vec![follow_up(true, false)], vec![came()], &[Promise::FollowUps]);
    check(vec![follow_up(false, false)], vec![came()], &[]);
    check(vec![follow_up(true, false)], vec![edit(1), came()], &[Promise::FollowUps]);
    check(vec![follow_up(true, false)], vec![came(), edit(3), edit(4)], &[Promise::FollowUps]);
    // What is deleted again need not come at all.
    let gone = Made { id: "q".to_owned(), ..follow_up(true, true) };
    check(vec![post("p"), gone], vec![receipt(1, Outcome::Post, "a", "p")], &[]);
}

#[test]
fn nobody_gets_their_own_posts_back() {
    let members = [member("origin", Family::Mastodon)];
    let back = ledger(vec![receipt(1, Outcome::Ignored, "a", "p")]);
    let found = judge(&[post("p")], &members, &[back]);
    assert_eq!(found.count(Promise::NotBack), 1);
}

#[test]
fn the_dead_are_owed_nothing() {
    let dead = Member { health: Health::Dead, ..member("dead", Family::Mastodon) };
    let members = [member("origin", Family::Misskey), dead, member("reader", Family::Mastodon)];
    let came = ledger(vec![receipt(1, Outcome::Post, "a", "p")]);
    let found = judge(&[post("p")], &members, &[ledger(Vec::new()), None, came]);
    assert!(found.all_kept());
    assert_eq!(found.expected, 1);
}

#[test]
fn quantiles_are_values_that_occurred() {
    assert_eq!(quantile(&[], 0.5), None);
    assert_eq!(quantile(&[7], 0.99), Some(7));
    assert_eq!(quantile(&[3, 1, 2], 0.5), Some(2));
    assert_eq!(quantile(&[1, 2, 3, 4], 1.0), Some(4));
}
