//! What developers run: `cargo xtask try | test | bench | tidy`.

fn main() {}
