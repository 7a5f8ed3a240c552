//! Pages of tables, and the visibility map beside them.
//!
//! ```text
//!  rows (Heap) --> update        heap2 (Heap2) --> prune        visibility_map: what both say of it
//!     all of them: op, tuple, page_bits
//! ```

pub(crate) mod heap2;
mod op;
mod page_bits;
mod prune;
pub(crate) mod rows;
mod tuple;
mod update;
pub(crate) mod visibility_map;
