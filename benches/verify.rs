//! Stub until the benches are in.
fn main() {}
