//! What this thread works for, and whether anybody still waits for it.
//!
//! Work that changes nothing ends when its client hangs up. What changes something is carried through or undone, so it
//! does not ask.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static UNWANTED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// The work of this thread, until this is dropped.
#[derive(Debug)]
pub struct Begun(PhantomData<*const ()>);

impl Drop for Begun {
    fn drop(&mut self) {
        UNWANTED.set(None);
    }
}

/// Begins work that nobody waits for once `unwanted` is set.
pub fn begin(unwanted: Arc<AtomicBool>) -> Begun {
    UNWANTED.set(Some(unwanted));
    Begun(PhantomData)
}

/// Whether nobody waits for the work of this thread any more.
pub fn unwanted() -> bool {
    UNWANTED.with_borrow(|flag| flag.as_ref().is_some_and(|flag| flag.load(Ordering::Acquire)))
}

/// What tells that, for another thread that works for the same client.
pub fn flag() -> Arc<AtomicBool> {
    UNWANTED.with_borrow(|flag| flag.clone().unwrap_or_default())
}
