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

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(self.budget.refuse(JsonFault::DuplicateKey));
            }
            let value = map.next_value_seed(inner)?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}
