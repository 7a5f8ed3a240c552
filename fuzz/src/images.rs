//! Full-page images: every compression, any hole.

use types::{BLOCK_SIZE, Page};
use wal::{BlockImage, Compression};

/// Restores the image that an input describes.
pub fn images(data: &[u8]) {
    let Some((header, bytes)) = data.split_first_chunk::<5>() else { return };
    let compression = match header[0] % 4 {
        0 => Compression::None,
        1 => Compression::Pglz,
        2 => Compression::Lz4,
        _ => Compression::Zstd,
    };
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let image = BlockImage { bytes, hole_offset: half(1), hole_len: half(3), compression, apply: true };
    let untouched = [0xA5; BLOCK_SIZE];
    let Some(mut page) = Page::from_slice(&untouched) else { return };
    if wal::image::restore(&image, &mut page).is_err() {
        assert!(*page == untouched, "an image that is refused must leave the page alone");
        return;
    }
    let mut again = Page::zeroed();
    wal::image::restore(&image, &mut again).expect("it was just restored");
    assert!(*page == *again, "what was in the page must not matter");
}
