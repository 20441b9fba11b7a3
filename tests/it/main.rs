//! What we promise, one file per promise, through the front door: a real relay on loopback (`TestRelay`), simulated
//! servers around it (`shearwater::demo::Instance`). The list of files is the table of contents.

#![expect(clippy::expect_used, reason = "a test that cannot go on panics, in its helpers too")]

mod asking;
mod attacks;
mod blocking;
mod caring;
mod clients;
mod crash;
mod delivering;
mod demo;
mod doors;
mod editing;
mod explaining;
mod floods;
mod following;
mod full;
mod hints;
mod inbox;
mod joining;
mod keeping;
mod keys;
mod listing;
mod lists;
mod observing;
mod operating;
mod proofs;
mod relaying;
mod screening;
mod searching;
mod serving;
mod sharing;
mod support;
mod switching;
mod threats;
mod tidy;
mod trending;
mod trends;
mod walking;
mod withdrawing;
