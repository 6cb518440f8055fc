//! The onwire command.
#![forbid(unsafe_code)]
fn main() {}
