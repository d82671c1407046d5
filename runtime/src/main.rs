//! The ring1 program.

fn main() {}
