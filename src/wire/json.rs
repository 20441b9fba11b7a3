//! Strict JSON. One pass into a [`Value`] that refuses what parsers disagree about (duplicate keys) and what costs
//! more than an honest document does (depth, number of values); and a look over a document for JSON-LD that would make
//! other servers read something else than we do. Nothing here knows what a document means.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

mod context;

pub use context::restructured;

/// The deepest nesting we read. Real activities stay under ten; Pixelfed reads 8, Mastodon 100.
pub const MAX_DEPTH: usize = 32;

/// The most values (scalars, arrays and objects together) in one document. A post that mentions a thousand people has
/// about five thousand.
pub const MAX_NODES: usize = 20_000;

/// The longest string, in bytes of UTF-8. A body has at most a mebibyte; half of it is a novel.
pub const MAX_STRING: usize = 512 * 1024;

/// The longest key of an object, in bytes. Real ones are words, language tags, or the URL of a term.
pub const MAX_KEY: usize = 1024;

/// The most items of one array, and members of one object. What [`crate::wire::object`] reads has tighter limits.
pub const MAX_ITEMS: usize = 5_000;

/// Why a body is not JSON we read. The texts are fit for the other server's admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JsonFault {
    /// Not JSON (RFC 8259), or not UTF-8, or something follows the document.
    #[error("the body is not a JSON document")]
    NotJson,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the JSON is nested deeper than 32 levels")]
    TooDeep,
    /// More than [`MAX_NODES`] values.
    #[error("the JSON holds more than 20000 values")]
    TooMany,
    /// A string over [`MAX_STRING`], or a key over [`MAX_KEY`].
    #[error("a string in the JSON is longer than 524288 bytes, or a key longer than 1024")]
    TooLong,
    /// An array or object with more than [`MAX_ITEMS`].
    #[error("an array or object in the JSON has more than 5000 items")]
    TooWide,
    /// An object names a key twice: parsers disagree which one counts, so a signature over it proves nothing.
    #[error("an object in the JSON has the same key twice")]
    DuplicateKey,
}

/// Reads one JSON document.
///
/// # Errors
/// [`JsonFault`] says what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonFault> {
    let budget = Budget { nodes: Cell::new(0), fault: Cell::new(JsonFault::NotJson) };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Node { budget: &budget, depth: 1 }.deserialize(&mut reader).map_err(|_cause| budget.fault.get())?;
    reader.end().map_err(|_cause| JsonFault::NotJson)?;
    Ok(value)
}

struct Budget {
    nodes: Cell<usize>,
    /// What to tell when the parser gives up: its own complaint unless one of ours was first.
    fault: Cell<JsonFault>,
}

impl Budget {
    fn refuse<E: serde::de::Error>(&self, fault: JsonFault) -> E {
        self.fault.set(fault);
        E::custom(fault)
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    budget: &'a Budget,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let nodes = self.budget.nodes.get() + 1;
        self.budget.nodes.set(nodes);
        if nodes > MAX_NODES {
            return Err(self.budget.refuse(JsonFault::TooMany));
        }
        deserializer.deserialize_any(self)
    }
}

impl Node<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth > MAX_DEPTH {
            return Err(self.budget.refuse(JsonFault::TooDeep));
        }
        Ok(Self { budget: self.budget, depth: self.depth + 1 })
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        if value.len() > MAX_STRING {
            return Err(self.budget.refuse(JsonFault::TooLong));
        }
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            if items.len() >= MAX_ITEMS {
                return Err(self.budget.refuse(JsonFault::TooWide));
            }
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.len() > MAX_KEY {
                return Err(self.budget.refuse(JsonFault::TooLong));
            }
            if members.len() >= MAX_ITEMS {
                return Err(self.budget.refuse(JsonFault::TooWide));
            }
            if members.contains_key(&key) {
                return Err(self.budget.refuse(JsonFault::DuplicateKey));
            }
            let value = map.next_value_seed(inner)?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_as_every_parser_reads_them() {
        let text = r#" {"a": [1, -2, 3.5, 1e3, true, false, null, "ä\n\ud83d\ude00"], "b": {"a": {}}} "#;
        let expected = json!({"a": [1, -2, 3.5, 1e3, true, false, null, "ä\n😀"], "b": {"a": {}}});
        assert_eq!(parse(text.as_bytes()), Ok(expected));
        assert_eq!(parse(b"7"), Ok(json!(7)));
        assert_eq!(parse(b"18446744073709551615"), Ok(json!(u64::MAX)));
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        let table: [(&[u8], JsonFault); 26] = [
            (b"", JsonFault::NotJson),
            (b"{", JsonFault::NotJson),
            (b"{}x", JsonFault::NotJson),
            (b"{} {}", JsonFault::NotJson),
            (b"\xef\xbb\xbf{}", JsonFault::NotJson),
            (b"{'a':1}", JsonFault::NotJson),
            (b"{a:1}", JsonFault::NotJson),
            (b"{\"a\":1,}", JsonFault::NotJson),
            (b"[1,]", JsonFault::NotJson),
            (b"[01]", JsonFault::NotJson),
            (b"[NaN]", JsonFault::NotJson),
            (b"[1e999]", JsonFault::NotJson),
            (b"[\"\xff\"]", JsonFault::NotJson),
            (b"[\"\\ud800\"]", JsonFault::NotJson),
            (b"[\"\n\"]", JsonFault::NotJson),
            (b"[\"\\x\"]", JsonFault::NotJson),
            (b"// c\n{}", JsonFault::NotJson),
            (b"{\"a\":1,\"a\":1}", JsonFault::DuplicateKey),
            (b"{\"a\":1,\"b\":2,\"a\":3}", JsonFault::DuplicateKey),
            (b"{\"a\":1,\"\\u0061\":2}", JsonFault::DuplicateKey),
            (b"{\"\":1,\"\":2}", JsonFault::DuplicateKey),
            (b"[{\"x\":{\"a\":1,\"a\":2}}]", JsonFault::DuplicateKey),
            (b"{\"actor\":\"a\",\"actor\":\"b\"", JsonFault::DuplicateKey),
            (b"{\"a\":}", JsonFault::NotJson),
            (b"{\"a\"}", JsonFault::NotJson),
            (b"\x00", JsonFault::NotJson),
        ];
        for (bytes, fault) in table {
            assert_eq!(parse(bytes), Err(fault), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_at_any_depth() {
        for twice in [r#"{"id":1,"id":1}"#, r#"{"type":"a","x":[],"type":"b"}"#, r#"{"@context":{},"@context":{}}"#] {
            for levels in 0..MAX_DEPTH / 2 {
                let text = format!("{}{twice}{}", r#"{"object":["#.repeat(levels), "]}".repeat(levels));
                assert_eq!(parse(text.as_bytes()), Err(JsonFault::DuplicateKey), "{text}");
            }
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonFault::TooDeep));
        assert_eq!(parse("[".repeat(1_000_000).as_bytes()), Err(JsonFault::TooDeep));
        assert_eq!(parse("{\"a\":".repeat(100_000).as_bytes()), Err(JsonFault::TooDeep));

        let wide = |items: usize| format!("[{}]", vec!["1"; items].join(","));
        let five = |items: usize| format!("[{}]", [wide(items), wide(4998), wide(4999), wide(4999)].join(","));
        assert!(parse(five(MAX_NODES - 5 - 4998 - 2 * 4999).as_bytes()).is_ok());
        assert_eq!(parse(five(MAX_NODES - 4 - 4998 - 2 * 4999).as_bytes()), Err(JsonFault::TooMany));
    }

    #[test]
    fn strings_keys_arrays_and_objects_are_bounded_each() {
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
        assert_eq!(MAX_STRING, 524_288);
        assert!(parse(text(MAX_STRING).as_bytes()).is_ok());
        assert_eq!(parse(text(MAX_STRING + 1).as_bytes()), Err(JsonFault::TooLong));
        // In bytes, after escapes were undone.
        assert_eq!(parse(format!("\"{}\"", "\\u00e4".repeat(MAX_STRING / 2 + 1)).as_bytes()), Err(JsonFault::TooLong));
        let keyed = |bytes: usize| format!("[{{{}:1}}]", text(bytes));
        assert!(parse(keyed(MAX_KEY).as_bytes()).is_ok());
        assert_eq!(parse(keyed(MAX_KEY + 1).as_bytes()), Err(JsonFault::TooLong));
        let array = |items: usize| format!("{{\"to\":[{}]}}", vec!["1"; items].join(","));
        assert!(parse(array(MAX_ITEMS).as_bytes()).is_ok());
        assert_eq!(parse(array(MAX_ITEMS + 1).as_bytes()), Err(JsonFault::TooWide));
        let object = |items: usize| {
            let members: Vec<String> = (0..items).map(|number| format!("\"{number}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(parse(object(MAX_ITEMS).as_bytes()).is_ok());
        assert_eq!(parse(object(MAX_ITEMS + 1).as_bytes()), Err(JsonFault::TooWide));
    }

    proptest! {
        #[test]
        fn a_key_that_stands_twice_is_found_wherever_it_stands(
            around in prop::collection::vec(any::<bool>(), 0..MAX_DEPTH - 1),
            key in "[a-z\u{e4}]{0,4}",
            others in prop::collection::btree_set("[A-Z]{1,3}", 0..6),
            escaped: bool,
        ) {
            let again = if escaped { key.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect() } else { key.clone() };
            let others: String = others.iter().map(|other| format!("\"{other}\":[1],")).collect();
            let wrap = |inner: String| {
                around.iter().fold(inner, |inner, array| if *array { format!("[{inner}]") } else { format!("{{\"a\":{inner}}}") })
            };
            let twice = wrap(format!("{{\"{key}\":1,{others}\"{again}\":1}}"));
            prop_assert_eq!(parse(twice.as_bytes()), Err(JsonFault::DuplicateKey));
            let once = wrap(format!("{{\"{key}\":1,{others}\"{again}x\":1}}"));
            prop_assert!(parse(once.as_bytes()).is_ok(), "{}", once);
        }

        #[test]
        fn what_is_taken_is_what_any_reader_reads(text in r#"[\[\]{}:,"\\a0-9.eEtrufalsn +-]{0,40}"#) {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
            }
        }
    }
}
