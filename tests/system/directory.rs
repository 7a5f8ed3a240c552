//! A short run of `cargo xtask oracle directory`: every page of the store at an LSN is what stock recovery leaves there,
//! and one wrong bit is found.

use std::process::Command;

/// Rule 7 of the README of `store`.
#[test]
fn the_directory_at_an_lsn_is_what_stock_recovery_leaves() {
    let load = ["--suite", "churn", "--seconds", "3", "--points", "2", "--keep", "no"];
    let output = Command::new(env!("CARGO_BIN_EXE_redo")).arg("directory").args(load).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("a flipped bit was found"), "{said}");
}
