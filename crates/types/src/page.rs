//! One block of a relation or an SLRU.

use std::ops::{Deref, DerefMut};

/// Bytes of one block (`BLCKSZ`). Clusters built with another size are refused at import.
pub const BLOCK_SIZE: usize = 8192;
/// Bytes of `PageHeaderData` before the line pointers (`SizeOfPageHeaderData`).
pub const PAGE_HEADER_SIZE: usize = 24;

/// The bytes of one block, on the heap.
#[derive(Clone, PartialEq, Eq)]
pub struct Page(Box<[u8; BLOCK_SIZE]>);

impl Page {
    /// A page of zeros, what Postgres calls new (`PageIsNew`).
    pub fn zeroed() -> Self {
        Self(Box::new([0; BLOCK_SIZE]))
    }

    /// A copy of `bytes`; `None` unless they are exactly one block.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let array: &[u8; BLOCK_SIZE] = bytes.try_into().ok()?;
        Some(Self(Box::new(*array)))
    }
}

impl Deref for Page {
    type Target = [u8; BLOCK_SIZE];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Page {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({} bytes)", BLOCK_SIZE)
    }
}
