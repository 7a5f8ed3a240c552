//! scion.
fn main() {}
