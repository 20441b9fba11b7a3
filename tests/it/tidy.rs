//! Keeps the map true: the floors and the bans of `docs/ARCHITECTURE.md`, read from the source as text. What it finds it
//! says as a sentence, so that whoever adds the arrow knows which file to move.

use std::io;
use std::path::Path;

/// The floors, the highest first. A file may use rooms of lower lines and its own; rooms of one line do not know each
/// other.
const FLOORS: [&[&str]; 11] = [
    &["main", "lib"],
    &["cli"],
    &["server"],
    &["app"],
    &["http"],
    &["relay", "delivery", "search", "trends", "backup", "demo"],
    &["identity", "peers", "policy", "consent"],
    &["log"],
    &["store", "cache", "net"],
    &["wire", "config", "telemetry", "supervise"],
    &["ids", "clock"],
];

/// The demo is an independent witness: it starts a relay by its public face and shares no protocol code with it.
const DEMO_USES: [&str; 5] = ["demo", "server", "config", "ids", "clock"];

/// Names that only some rooms may speak: a library has one owner.
const OWNERS: [(&str, &[&str]); 3] =
    [("redb::", &["store", "log"]), ("sled::", &["cache"]), ("tantivy::", &["search"])];

/// Names that the protocol floor never speaks: it does no I/O and reads no clock.
const NOT_IN_WIRE: [&str; 6] = ["tokio", "reqwest", "std::fs", "std::net", "std::env", "Clock"];

#[test]
fn arrows_point_down_and_every_file_says_what_it_is() -> io::Result<()> {
    let mut wrong = Vec::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let count = visit(&src, &mut |path, text| {
        let name = path.strip_prefix(&src).unwrap_or(path).display().to_string();
        wrong.extend(faults(&name, text).into_iter().map(|fault| format!("src/{name} {fault}")));
    })?;
    assert!(count > 30, "only {count} files were found in {}", src.display());
    assert!(wrong.is_empty(), "\n{}\n`docs/ARCHITECTURE.md` has the map.", wrong.join("\n"));
    Ok(())
}

#[test]
fn the_map_names_every_file_and_none_that_is_gone() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (src, map) = (root.join("src"), std::fs::read_to_string(root.join("docs/ARCHITECTURE.md"))?);
    let mut wrong = Vec::new();
    visit(&src, &mut |path, _text| {
        let name = path.strip_prefix(&src).unwrap_or(path).display().to_string();
        if !is_for_tests(&name) && !map.contains(&format!("| `{name}` |")) {
            wrong.push(format!("src/{name} is not on the map: give it a line in `docs/ARCHITECTURE.md`"));
        }
    })?;
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    for (name, _says) in rows.filter(|(name, _says)| !src.join(name).is_file()) {
        wrong.push(format!("the map has a line for src/{name}, which is not there"));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn an_arrow_that_points_up_or_sideways_is_seen() {
    let check = |name: &str, text: &str, expected: usize| {
        let found = faults(name, &format!("//! A file.\n{text}"));
        assert_eq!(found.len(), expected, "{name}: {text}: {found:?}");
    };
    check("relay/route.rs", "use crate::log::Draft;\nuse crate::{clock::Clock, wire::{self, json}};", 0);
    check("relay/route.rs", "// crate::delivery is elsewhere\nuse crate::relay::trust;", 0);
    check("relay/route.rs", "use crate::delivery::Lane;", 1);
    check("relay/route.rs", "use crate::{clock::Clock, http::{error, state}, delivery};", 2);
    check("store/mod.rs", "fn f() { crate::log::g(); }", 1);
    check("demo/run.rs", "use crate::server::Server;\nuse crate::wire::json;", 1);
    check("relay/route.rs", "use crate::attic::Box;", 1);
    check("relay/route.rs", "use redb::Database;", 1);
    check("wire/key.rs", "use std::fs::File;", 1);
    assert_eq!(faults("ids.rs", "use std::fmt;").len(), 1);
}

/// What is wrong with one file, each as the rest of a sentence that begins with its name.
fn faults(name: &str, text: &str) -> Vec<String> {
    let room = name.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push("does not begin with `//!`: say what lives there, what does not, and what it promises".to_owned());
    }
    for used in rooms_used(&code) {
        let allowed = if room == "demo" {
            DEMO_USES.contains(&used.as_str())
        } else {
            used == room || floor(&used).zip(floor(room)).is_some_and(|(theirs, ours)| theirs > ours)
        };
        if !allowed {
            faults.push(format!(
                "uses `crate::{used}`, which does not lie below `{room}`: pass in what it needs, or move it"
            ));
        }
    }
    for (word, owners) in OWNERS {
        if code.contains(word) && !owners.contains(&room) {
            faults.push(format!("says `{word}`: only {} may", owners.join(" and ")));
        }
    }
    for word in NOT_IN_WIRE.iter().filter(|word| room == "wire" && !is_for_tests(name) && code.contains(**word)) {
        faults.push(format!("says `{word}`: the protocol floor does no I/O and reads no clock"));
    }
    faults
}

/// Files that hold the tests of their room, or what those are made of.
fn is_for_tests(name: &str) -> bool {
    ["tests.rs", "testing.rs", "fixtures.rs"].contains(&name.rsplit('/').next().unwrap_or_default())
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The first names after `crate::`, those of a group `crate::{…}` included.
fn rooms_used(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            rooms.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut outer = String::new();
        for c in group.chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth < 0 {
                break;
            }
            outer.push(if depth == 0 { c } else { ' ' });
        }
        rooms.extend(outer.split(',').map(|name| word(name.trim())).filter(|name| !name.is_empty()));
    }
    rooms.sort();
    rooms.dedup();
    rooms
}

/// Calls `see` for every Rust file below `folder`; how many there are.
fn visit(folder: &Path, see: &mut impl FnMut(&Path, &str)) -> io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            count += visit(&path, see)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            see(&path, &std::fs::read_to_string(&path)?);
            count += 1;
        }
    }
    Ok(count)
}
