//! `docs/THREATS.md` is true: each test that it names exists, each threat that the corpus covers stands in it, and what it
//! says is absent is absent. And each test that `docs/RELIABILITY.md` names exists.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the tables: id, attack, defence, tests.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| id ") && !line.starts_with("|---"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_threat_names_a_test_that_exists() -> io::Result<()> {
    let text = std::fs::read_to_string(root().join("docs/THREATS.md"))?;
    let mut source = String::new();
    for folder in ["src", "tests/it"] {
        gather(&root().join(folder), &mut source)?;
    }
    let (mut wrong, mut ids) = (Vec::new(), BTreeSet::new());
    let cases = crate::attacks::threats();
    for row in rows(&text) {
        let [id, _attack, defence, tests] = row.as_slice() else {
            wrong.push(format!("{row:?} has not four cells"));
            continue;
        };
        if !ids.insert((*id).to_owned()) {
            wrong.push(format!("{id} stands there twice"));
        }
        let names: Vec<&str> = quoted(tests).filter(|name| !name.ends_with(".toml")).collect();
        if names.is_empty() {
            wrong.push(format!("{id} names no test"));
        }
        for name in names {
            if !source.contains(&format!("fn {name}(")) {
                wrong.push(format!("{id} names the test {name}, which is not there"));
            }
        }
        for file in quoted(tests).filter(|name| name.ends_with(".toml")) {
            if !cases.contains(&(file.to_owned(), (*id).to_owned())) {
                wrong.push(format!("{id} names {file}, which has no case of it"));
            }
        }
        for file in quoted(defence).filter(|name| name.ends_with(".rs")) {
            if !root().join("src").join(file).is_file() {
                wrong.push(format!("{id} names src/{file}, which is not there"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/THREATS.md:\n{}", wrong.join("\n"));
    let missing: BTreeSet<&String> = cases.iter().map(|(_, id)| id).filter(|id| !ids.contains(*id)).collect();
    assert!(missing.is_empty(), "the corpus has cases of {missing:?}, which docs/THREATS.md does not name");
    Ok(())
}

#[test]
fn every_promise_of_reliability_names_a_test_that_exists() -> io::Result<()> {
    let text = std::fs::read_to_string(root().join("docs/RELIABILITY.md"))?;
    let begun = text.split_once("## Which test holds which promise").map_or("", |(_, rest)| rest);
    let table = begun.split("\n## ").next().unwrap_or_default();
    let mut source = String::new();
    for folder in ["src", "tests/it"] {
        gather(&root().join(folder), &mut source)?;
    }
    let parts = std::fs::read_to_string(root().join("tests/crash/main.rs"))?;
    let (mut wrong, mut count) = (Vec::new(), 0);
    for row in rows(table).iter().filter(|row| row.first() != Some(&"promise")) {
        let [promise, tests, taken_out] = row.as_slice() else {
            wrong.push(format!("{row:?} has not three cells"));
            continue;
        };
        let (mut named, sees) = (0, |name: &str| source.contains(&format!("fn {name}(")));
        // A word alone is a part of the crash suite.
        for name in quoted(tests) {
            named += 1;
            if !(sees(name) || parts.contains(&format!("(\"{name}\","))) {
                wrong.push(format!("{promise}: the test {name} is not there"));
            }
        }
        if named == 0 || taken_out.is_empty() {
            wrong.push(format!("{promise}: no test, or it was not tried"));
        }
        count += 1;
    }
    assert!(wrong.is_empty() && count > 20, "docs/RELIABILITY.md, {count} rows:\n{}", wrong.join("\n"));
    Ok(())
}

fn gather(folder: &Path, into: &mut String) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Canonicalising graphs can take for ever, and believing what comes of it was six advisories in three projects.
#[test]
fn no_crate_processes_json_ld() -> io::Result<()> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.len() > 100, "only {} packages were found in Cargo.lock", names.len());
    for name in names {
        let graph = ["json-ld", "json_ld", "jsonld", "sophia", "rdf", "oxrdf", "oxjsonld"]
            .iter()
            .any(|word| name.contains(word));
        assert!(!graph, "{name} reads JSON-LD as a graph: see docs/decisions/0002-no-json-ld-processor.md");
    }
    Ok(())
}

/// A switch that turns a check off is found in every list of relays that were broken into.
#[test]
fn no_setting_turns_a_check_off() -> io::Result<()> {
    let settings = std::fs::read_to_string(root().join("config/default.toml"))?;
    let keys = settings.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let mut count = 0;
    for (key, _value) in keys {
        count += 1;
        let turns_off = ["verify", "validate", "check", "insecure", "skip", "unsafe", "disable", "trust_"]
            .iter()
            .any(|word| key.contains(word));
        assert!(!turns_off, "the setting {key} sounds as if it turned a check off");
    }
    assert!(count > 30, "only {count} settings were found");
    Ok(())
}
