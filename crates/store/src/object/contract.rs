//! What every object store must do, run against each of them.

use std::fs;
use std::sync::Arc;

use super::memory::{Faulty, Memory};
use super::{Local, ObjectStore, Put};
use crate::disk::System;

fn suite(store: &dyn ObjectStore) {
    assert_eq!(store.get("a/1").unwrap(), None);
    assert_eq!(store.settle("a/1").unwrap(), None);
    assert_eq!(store.len("a/1").unwrap(), None);
    assert_eq!(store.list("a/").unwrap(), Vec::<String>::new());
    store.delete("a/1").unwrap();

    assert_eq!(store.put_if_absent("a/1", b"first").unwrap(), Put::Stored);
    assert_eq!(store.put_if_absent("a/1", b"second").unwrap(), Put::Taken);
    assert_eq!(store.get("a/1").unwrap().unwrap(), b"first");
    assert_eq!(store.settle("a/1").unwrap().unwrap(), b"first");
    assert_eq!(store.len("a/1").unwrap(), Some(5));
    assert_eq!(store.get_range("a/1", 1, 3).unwrap(), b"irs");
    assert!(store.get_range("a/1", 4, 2).is_err());
    assert!(store.get_range("a/1", u64::MAX, 2).is_err());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    for (name, outcome) in [("a/2", Put::Stored), ("a/1", Put::Taken)] {
        fs::write(&file, b"from a file").unwrap();
        assert_eq!(store.put_file_if_absent(name, &file).unwrap(), outcome);
        assert!(!file.exists());
    }
    assert_eq!(store.get("a/2").unwrap().unwrap(), b"from a file");
    assert_eq!(store.get("a/1").unwrap().unwrap(), b"first");

    store.put_if_absent("b/1", b"").unwrap();
    assert_eq!(store.list("a/").unwrap(), ["a/1", "a/2"]);
    store.delete("a/1").unwrap();
    assert_eq!(store.list("a/").unwrap(), ["a/2"]);
    assert_eq!(store.put_if_absent("a/1", b"again").unwrap(), Put::Stored);
    assert_eq!(store.get_range("a/1", 0, 5).unwrap(), b"again");
}

#[test]
fn memory_keeps_the_contract() {
    suite(&Memory::default());
}

#[test]
fn a_wrapper_that_does_not_fail_keeps_the_contract() {
    suite(&Faulty::new(Arc::new(Memory::default()), usize::MAX));
}

#[test]
fn files_keep_the_contract() {
    // On the same file system as the objects, as layers are written in the project's own `tmp`.
    let dir = tempfile::tempdir().unwrap();
    suite(&Local::new(dir.path(), Arc::new(System)).unwrap());
}

#[test]
fn of_many_puts_of_one_name_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::new(dir.path(), Arc::new(System)).unwrap();
    let wins: usize = std::thread::scope(|scope| {
        let put = |byte: u8| {
            let store = &store;
            scope.spawn(move || store.put_if_absent("m/1", &[byte; 100]).unwrap() == Put::Stored)
        };
        (0..8).map(put).collect::<Vec<_>>().into_iter().map(|t| usize::from(t.join().unwrap())).sum()
    });
    assert_eq!(wins, 1);
    let bytes = store.get("m/1").unwrap().unwrap();
    assert!(bytes.iter().all(|&byte| byte == bytes[0]));
}
