//! Lists of domains, as Mastodon's CSV or plain: every row that is taken is a whole name in canonical form and names no
//! part of another, nothing is taken twice, and what we write of it is read back as the same.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use shearwater::ids::Authority;
use shearwater::policy::lists::{diff, export, parse};
use shearwater::policy::{RuleSet, Verdict};
use shearwater::store::{Severity, Source};
use shearwater_fuzz::NOON;

fuzz_target!(|data: &[u8]| {
    let Ok(list) = parse(data) else { return };
    assert!(list.bad.len() <= list.bad_count);
    let mut names = HashSet::new();
    for row in &list.rows {
        let name = row.name.as_str();
        assert!(names.insert(name), "{name} is taken twice");
        assert!(!name.contains(['*', '/', '@', ' ']) && name == name.to_ascii_lowercase(), "{name}");
        assert!(name.contains('.') && name.parse::<std::net::IpAddr>().is_err(), "{name}");
        assert_eq!(Authority::parse(name).expect("a name is read back"), row.name);
    }
    let changes = diff(&list, &Source::Operator, Severity::Block, true, &RuleSet::default(), NOON).changes();
    assert_eq!(changes.len(), list.rows.len());
    let rules = RuleSet::default().with(&changes);
    for row in list.rows.iter().take(20) {
        let below = Authority::parse(&format!("x.{}", row.name.as_str()));
        let wanted = match row.severity.unwrap_or(Severity::Block) {
            Severity::Block => Verdict::Block,
            Severity::Silence => Verdict::Silence,
            // Neither says anything about relaying.
            Severity::Allow | Severity::NoSearch => continue,
        };
        assert!(rules.verdict(&row.name, NOON) >= wanted);
        assert!(
            below.is_err()
                || below.is_ok_and(|name| rules.verdict(&name, NOON) >= wanted || names.contains(name.as_str()))
        );
    }
    let again = parse(&export(&rules, None, NOON)).expect("what we write is read back");
    assert!((again.bad_count, again.repeated) == (0, 0) && again.obfuscated.is_empty());
    let known: HashSet<&str> = again.rows.iter().map(|row| row.name.as_str()).collect();
    assert!(again.rows.iter().all(|row| names.contains(row.name.as_str())));
    assert_eq!(known.len(), list.rows.iter().filter(|row| row.severity != Some(Severity::Allow)).count());
});
