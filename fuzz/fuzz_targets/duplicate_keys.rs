//! JSON, judged a second time: by `serde_json`'s own reader, and by a scanner that only counts colons, commas and
//! brackets outside of strings. We take a document exactly if `serde_json` does, no key stands twice, and it is neither
//! too deep, too large, too wide nor too long anywhere; and what we read is what `serde_json` reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use shearwater::wire::json::{self, JsonFault, MAX_DEPTH, MAX_ITEMS, MAX_KEY, MAX_NODES, MAX_STRING};

struct Scan {
    members: usize,
    depth: usize,
}

fn scan(bytes: &[u8]) -> Scan {
    let (mut members, mut depth, mut deepest) = (0, 0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b':' => members += 1,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Scan { members, depth: deepest }
}

/// Members of all objects, and values of all kinds.
fn count(value: &Value) -> (usize, usize) {
    match value {
        Value::Array(items) => items.iter().map(count).fold((0, 1), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
        Value::Object(fields) => {
            fields.values().map(count).fold((fields.len(), 1), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        }
        _ => (0, 1),
    }
}

/// Whether a value, or one within, is one of these.
fn holds(value: &Value, is: fn(&Value) -> bool) -> bool {
    is(value)
        || match value {
            Value::Array(items) => items.iter().any(|one| holds(one, is)),
            Value::Object(fields) => fields.values().any(|one| holds(one, is)),
            _ => false,
        }
}

fn is_long(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > MAX_STRING,
        Value::Object(fields) => fields.keys().any(|key| key.len() > MAX_KEY),
        _ => false,
    }
}

fn is_wide(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.len() > MAX_ITEMS,
        Value::Object(fields) => fields.len() > MAX_ITEMS,
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let ours = json::parse(data);
    let theirs = serde_json::from_slice::<Value>(data);
    let Scan { members, depth } = scan(data);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours, theirs, "read as something else");
            let (kept, nodes) = count(ours);
            assert_eq!(kept, members, "a key twice");
            assert!(depth <= MAX_DEPTH && nodes <= MAX_NODES && !holds(ours, is_long) && !holds(ours, is_wide));
        }
        (Ok(_), Err(fault)) => panic!("taken, though {fault}"),
        (Err(fault), Ok(theirs)) => {
            let (kept, nodes) = count(theirs);
            match fault {
                JsonFault::DuplicateKey => assert!(kept < members, "no key twice"),
                JsonFault::TooDeep => assert!(depth > MAX_DEPTH),
                // A key that stands twice has two values, of which one is left.
                JsonFault::TooMany => assert!(nodes > MAX_NODES || kept < members),
                JsonFault::TooLong => assert!(holds(theirs, is_long) || kept < members),
                JsonFault::TooWide => assert!(holds(theirs, is_wide) || kept < members),
                JsonFault::NotJson => panic!("a document was refused as none"),
            }
        }
        (Err(_), Err(_)) => {}
    }
});
