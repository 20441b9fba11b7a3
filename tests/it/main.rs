//! What we promise, one file per promise, through the front door: a real relay on loopback (`TestRelay`), simulated
//! servers around it (`shearwater::demo::Instance`). The list of files is the table of contents.

mod crash;
mod delivering;
mod demo;
mod doors;
mod following;
mod inbox;
mod joining;
mod relaying;
mod serving;
mod support;
mod tidy;
