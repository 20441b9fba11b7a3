//! The protocol floor: bytes and headers in, values out. What other servers say is read here ([`activity`],
//! [`object`], [`text`], [`language`], [`document`], [`actor`], [`searchable`], [`discovery`]), what we say is written here
//! ([`author`]), and signatures are made and checked here ([`key`], [`http_sig`], [`proof`]).
//!
//! No I/O at all: no network, no files, no clock (times come as arguments), no configuration. ActivityStreams is read
//! as plain JSON with an explicit list of shapes; there is no JSON-LD processor, and what only a JSON-LD processor
//! would understand is refused ([`json::restructured`]). Nothing in here panics, whatever it is fed.

pub mod activity;
pub mod actor;
pub mod author;
pub mod discovery;
pub mod document;
pub mod fold;
pub mod http_sig;
pub mod json;
pub mod key;
pub mod language;
pub mod object;
pub mod proof;
pub mod searchable;
pub mod text;

#[cfg(test)]
mod fixtures;
