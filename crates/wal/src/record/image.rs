//! Full-page images back to pages.
//!
//! Follows `RestoreBlockImage` in `xlogreader.c` and `pglz_decompress` in `pg_lzcompress.c`. An image is the page
//! without its hole of zeros, perhaps compressed.
//!
//! Not here: the page's LSN, which the one who restores sets (`redo`).

use types::{BLOCK_SIZE, Page};

use crate::{BlockImage, Compression};

/// Why an image could not be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The compressed bytes do not decompress to a page without its hole.
    #[error("{0} image does not decompress to a page")]
    Decompress(&'static str),
    /// The stored bytes and the hole do not make a page.
    #[error("image of {stored} bytes with a hole of {hole} at {hole_at} does not make a page")]
    Size {
        /// Bytes without the hole, decompressed.
        stored: usize,
        /// Where the hole begins.
        hole_at: usize,
        /// Its length.
        hole: usize,
    },
}

/// Writes the page that `image` holds over `page`.
///
/// # Errors
/// If the image does not decompress to exactly one page; `page` is then as it was.
pub fn restore(image: &BlockImage<'_>, page: &mut Page) -> Result<(), ImageError> {
    let mut buffer = [0; BLOCK_SIZE];
    let stored = match image.compression {
        Compression::None => image.bytes,
        compression => {
            let size = BLOCK_SIZE.saturating_sub(usize::from(image.hole_len));
            let (out, _) = buffer.split_at_mut(size);
            decompress(compression, image.bytes, out)?;
            &*out
        }
    };
    let (hole_at, hole) = (usize::from(image.hole_offset), usize::from(image.hole_len));
    let wrong = ImageError::Size { stored: stored.len(), hole_at, hole };
    if stored.len() + hole != BLOCK_SIZE {
        return Err(wrong);
    }
    let (before, after) = stored.split_at_checked(hole_at).ok_or_else(|| wrong.clone())?;
    let (head, rest) = page.split_at_mut(hole_at);
    let (middle, tail) = rest.split_at_mut_checked(hole).ok_or(wrong)?;
    head.copy_from_slice(before);
    middle.fill(0);
    tail.copy_from_slice(after);
    Ok(())
}

fn decompress(compression: Compression, bytes: &[u8], out: &mut [u8]) -> Result<(), ImageError> {
    let (name, written) = match compression {
        Compression::None => return Ok(()),
        Compression::Pglz => ("pglz", pglz_decompress(bytes, out).map(|()| out.len())),
        Compression::Lz4 => ("lz4", lz4_flex::block::decompress_into(bytes, out).ok()),
        Compression::Zstd => ("zstd", zstd::bulk::decompress_to_buffer(bytes, out).ok()),
    };
    if written == Some(out.len()) { Ok(()) } else { Err(ImageError::Decompress(name)) }
}

/// Decompresses Postgres's LZ into the whole of `out`; `None` unless the input is used up when `out` is full.
///
/// A control byte governs eight items, lowest bit first: 0 is a literal byte, 1 a match of 2 or 3 bytes:
///
/// ```text
/// | offset bits 11..8, length - 3 | offset bits 7..0 | [length - 18, if the length above is 18] |
/// ```
pub fn pglz_decompress(bytes: &[u8], out: &mut [u8]) -> Option<()> {
    let mut input = bytes.iter().copied();
    let mut at = 0;
    while input.len() > 0 && at < out.len() {
        let control = input.next()?;
        for bit in 0..8 {
            if input.len() == 0 || at >= out.len() {
                break;
            }
            if control >> bit & 1 == 0 {
                *out.get_mut(at)? = input.next()?;
                at += 1;
                continue;
            }
            let (first, second) = (usize::from(input.next()?), usize::from(input.next()?));
            let mut len = (first & 0x0F) + 3;
            if len == 18 {
                len += usize::from(input.next()?);
            }
            let back = (first & 0xF0) << 4 | second;
            at = copy_match(out, at, back, len)?;
        }
    }
    (input.len() == 0 && at == out.len()).then_some(())
}

/// Repeats `len` bytes from `back` before `at`, which may run into what is being written; gives the new end.
fn copy_match(out: &mut [u8], at: usize, back: usize, len: usize) -> Option<usize> {
    if back == 0 {
        return None;
    }
    let end = (at + len).min(out.len());
    let mut from = at.checked_sub(back)?;
    let mut to = at;
    while to < end {
        // What lies between `from` and `to` is final, and twice as long after each round.
        let step = (to - from).min(end - to);
        out.copy_within(from..from + step, to);
        to += step;
        if step < back {
            from += step;
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pglz_repeats_a_match_that_overlaps_what_it_writes() {
        // Literals "11234", then a match of 16 bytes 4 back, as in the comment in pg_lzcompress.c.
        let input = [0b0010_0000, b'1', b'1', b'2', b'3', b'4', 0x0D, 4];
        let mut out = [0; 21];
        assert_eq!(pglz_decompress(&input, &mut out), Some(()));
        assert_eq!(&out, b"112341234123412341234");
    }

    #[test]
    fn pglz_refuses_matches_from_before_the_start_and_of_nothing() {
        let mut out = [0; 8];
        assert_eq!(pglz_decompress(&[1, 0x00, 1], &mut out), None);
        assert_eq!(pglz_decompress(&[2, b'a', 0x00, 0], &mut out), None);
        assert_eq!(pglz_decompress(&[1, 0x0F, 1], &mut out), None);
    }

    #[test]
    fn pglz_refuses_input_that_is_too_short_or_too_long() {
        assert_eq!(pglz_decompress(&[0, b'a', b'b'], &mut [0; 3]), None);
        assert_eq!(pglz_decompress(&[0, b'a', b'b'], &mut [0; 1]), None);
        assert_eq!(pglz_decompress(&[0, b'a', b'b'], &mut [0; 2]), Some(()));
    }

    #[test]
    fn the_hole_is_filled_with_zeros() {
        let bytes: Vec<u8> = (0..8000u32).map(|n| n as u8 | 1).collect();
        let mut image = BlockImage {
            bytes: &bytes,
            hole_offset: 100,
            hole_len: 192,
            compression: Compression::None,
            apply: true,
        };
        let mut page = Page::from_slice(&[7; BLOCK_SIZE]).unwrap();
        restore(&image, &mut page).unwrap();
        assert_eq!(page[..100], bytes[..100]);
        assert!(page[100..292].iter().all(|&byte| byte == 0));
        assert_eq!(page[292..], bytes[100..]);
        image.hole_len = 191;
        assert!(restore(&image, &mut page).is_err());
    }

    #[test]
    fn each_compression_gives_the_page_back() {
        let plain: Vec<u8> = (0..BLOCK_SIZE).map(|n| (n / 50) as u8).collect();
        let lz4 = lz4_flex::block::compress(&plain);
        let zstd = zstd::bulk::compress(&plain, 1).unwrap();
        for (bytes, compression) in [(&lz4, Compression::Lz4), (&zstd, Compression::Zstd)] {
            let image = BlockImage { bytes, hole_offset: 0, hole_len: 0, compression, apply: true };
            let mut page = Page::zeroed();
            restore(&image, &mut page).unwrap();
            assert_eq!(page[..], plain[..]);
            let cut = BlockImage { bytes: &bytes[..bytes.len() - 1], ..image };
            assert!(restore(&cut, &mut page).is_err());
        }
    }
}
