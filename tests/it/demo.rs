//! The demo as its user runs it, and broken on purpose: a check that cannot fail would prove nothing.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::json;

/// Small and quick; the README's command has more of everything.
fn demo(limit: &str, more: &[&str]) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shearwater"));
    command.args(["demo", "--instances", "6", "--posts", "24", "--rate", "40", "--for", limit, "--json"]).args(more);
    let output = command.output().expect("it runs");
    let summary = json(&output.stdout);
    (output, summary)
}

#[test]
fn the_demo_keeps_every_promise_and_its_counts_add_up() {
    let (output, summary) = demo("60s", &[]);
    assert!(output.status.success(), "{summary:#}");
    let number =
        |part: &str, name: &str| summary[part][name].as_u64().unwrap_or_else(|| panic!("{part}.{name} in {summary:#}"));
    assert!(number("posts", "public") > 0 && number("deliveries", "expected") > 0);
    let kinds: u64 = ["public", "unlisted", "followers", "direct"].iter().map(|kind| number("posts", kind)).sum();
    assert_eq!(number("posts", "made"), kinds);
    assert_eq!(number("deliveries", "expected"), number("deliveries", "received"));
    for none in ["missing", "duplicates", "leaks"] {
        assert_eq!(number("deliveries", none), 0, "{none}");
    }
}

/// What is broken never comes right, so it is not waited for: the limit is short, and being late breaks no other promise.
#[test]
fn each_promise_that_is_broken_on_purpose_is_noticed_by_name() {
    let promises = [
        "handshake",
        "everyone",
        "exactly-once",
        "private",
        "signature",
        "fresh-date",
        "not-back",
        "follow-ups",
        "consent",
    ];
    std::thread::scope(|scope| {
        for promise in promises {
            scope.spawn(move || {
                let (output, summary) = demo("15s", &["--break", promise]);
                assert_eq!(output.status.code(), Some(1), "{promise}: {summary:#}");
                let promises = summary["promises"].as_array().expect("promises");
                let kept = promises.iter().find(|one| one["name"] == promise).expect("the promise")["kept"].as_bool();
                assert_eq!(kept, Some(false), "{promise}: {summary:#}");
            });
        }
    });
}
