//! Decompressed blocks of layers, kept while there is room: one cache for all projects of a server.
//!
//! Not here: how a block is read (`table::layer`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone)]
struct ByLength;

/// Which block: project, layer and file offset.
type BlockId = (u64, u64, u64);

impl quick_cache::Weighter<BlockId, Arc<Vec<u8>>> for ByLength {
    fn weight(&self, _: &BlockId, block: &Arc<Vec<u8>>) -> u64 {
        block.len() as u64 + 64
    }
}

struct Shared {
    cache: quick_cache::sync::Cache<BlockId, Arc<Vec<u8>>, ByLength>,
    projects: AtomicU64,
}

/// Decompressed blocks of layers, for those of one project; the memory is shared with others.
pub(crate) struct BlockCache {
    shared: Arc<Shared>,
    project: u64,
}

impl BlockCache {
    /// A cache of at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let blocks = usize::try_from(bytes >> 15).unwrap_or(usize::MAX).max(16);
        let cache = quick_cache::sync::Cache::with_weighter(blocks, bytes, ByLength);
        Self { shared: Arc::new(Shared { cache, projects: AtomicU64::new(1) }), project: 0 }
    }

    /// The same memory, for the layers of another project.
    pub(crate) fn of_another_project(&self) -> Self {
        let project = self.shared.projects.fetch_add(1, Ordering::Relaxed);
        Self { shared: self.shared.clone(), project }
    }

    /// Bytes kept for all projects.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.cache.weight()
    }

    /// The block of `layer` at that offset in its file.
    pub(crate) fn get(&self, layer: u64, at: u64) -> Option<Arc<Vec<u8>>> {
        self.shared.cache.get(&(self.project, layer, at))
    }

    /// Keeps it for a while.
    pub(crate) fn insert(&self, layer: u64, at: u64, block: Arc<Vec<u8>>) {
        self.shared.cache.insert((self.project, layer, at), block);
    }
}
