//! What all files of one file system share: the page source, the overlay directory, counters, the failure hook.

use crate::overlay::{OverlayDir, OverlayFile};
use crate::source::{Failure, FailureHook, FailureKind, Origin, PageSource};
use parking_lot::RwLock;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use types::BlockNumber;

/// Counters, in calls and bytes.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) source_reads: AtomicU64,
    pub(crate) source_bytes: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
}

/// The world below the tree.
pub(crate) struct Backing {
    source: Arc<dyn PageSource>,
    pub(crate) overlay: OverlayDir,
    pub(crate) counters: Counters,
    hook: RwLock<Option<FailureHook>>,
    overlay_failed: AtomicBool,
}

impl Backing {
    pub(crate) fn new(source: Arc<dyn PageSource>, overlay: OverlayDir) -> Self {
        Self {
            source,
            overlay,
            counters: Counters::default(),
            hook: RwLock::new(None),
            overlay_failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_hook(&self, hook: FailureHook) {
        *self.hook.write() = Some(hook);
    }

    /// Blocks from the source; whatever it says, Postgres hears `EIO`.
    pub(crate) fn fetch(&self, origin: Origin, first: u32, out: &mut [u8]) -> Result<(), Errno> {
        self.counters.source_reads.fetch_add(1, Relaxed);
        self.counters.source_bytes.fetch_add(out.len() as u64, Relaxed);
        let read = match origin {
            Origin::Relation(rel) => self.source.read(rel, BlockNumber::new(first), out),
            Origin::Slru(kind) => self.source.read_slru(kind, first, out),
        };
        read.map_err(|error| {
            let text = format!("read {origin} {first}: {error}");
            self.report(Failure { kind: FailureKind::Source, text });
            Errno::IO
        })
    }

    /// A new overlay file; running out of descriptors or disk is an overlay failure.
    pub(crate) fn new_overlay_file(&self) -> Result<OverlayFile, Errno> {
        self.overlay.create().map_err(|errno| self.overlay_failure("create an overlay file", &errno.into()))
    }

    /// Reports that the overlay could not take what Postgres wrote; gives the errno to answer with.
    pub(crate) fn overlay_failure(&self, doing: &str, error: &io::Error) -> Errno {
        if !self.overlay_failed.swap(true, Relaxed) {
            self.report(Failure { kind: FailureKind::OverlayWrite, text: format!("{doing}: {error}") });
        }
        Errno::from_io_error(error).unwrap_or(Errno::IO)
    }

    fn report(&self, failure: Failure) {
        let hook = self.hook.read().clone();
        match hook {
            Some(hook) => hook(&failure),
            None => tracing::error!(kind = ?failure.kind, "{}", failure.text),
        }
    }
}
