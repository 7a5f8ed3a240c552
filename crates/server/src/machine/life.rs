//! How far the server is in its life: serving, stopping its endpoints, ending.

use std::sync::atomic::{AtomicBool, Ordering};

/// How far the server is in its life.
#[derive(Debug, Default)]
pub struct Life {
    /// Set while the server stops its endpoints: none is started any more. The loops wait, for a shutdown may fail.
    pub closing: AtomicBool,
    /// Set when the process ends: the loops do.
    pub ending: AtomicBool,
}

impl Life {
    /// Does `pass` every `pause` until the process ends, except while the server stops its endpoints. `pause` is the
    /// bell's where the reconciler waits, and a sleep elsewhere.
    pub fn again_and_again(&self, pause: impl Fn(), mut pass: impl FnMut()) {
        while !self.ending.load(Ordering::Acquire) {
            if !self.closing.load(Ordering::Acquire) {
                pass();
            }
            pause();
        }
    }
}
