//! Full-page images.

use types::{Lsn, Page};
use wal::BlockImage;

use crate::Fault;
use crate::bytes::Done;
use crate::page;

/// Replaces `page` by `image`. A page that is new in the image keeps its zero LSN, as in `xlogutils.c`.
pub(crate) fn restore(image: &BlockImage<'_>, page: &mut Page, end: Lsn) -> Done {
    wal::image::restore(image, page)
        .map_err(|_| Fault::Malformed("its full-page image cannot be decompressed"))?;
    if !page::is_new(page) {
        page::set_lsn(page, end);
    }
    Ok(())
}
