//! Records of the `Hash` resource manager.
//!
//! Follows `hash_xlog.c` and the structs of `hash_xlog.h`. What a reference's id means differs by record:
//!
//! | record              | 0            | 1            | 2            | 3           | 4          | 5      | 6        |
//! |---------------------|--------------|--------------|--------------|-------------|------------|--------|----------|
//! | INIT_META_PAGE      | metapage     |              |              |             |            |        |          |
//! | INIT_BITMAP_PAGE    | bitmap       | metapage     |              |             |            |        |          |
//! | INSERT              | page         | metapage     |              |             |            |        |          |
//! | ADD_OVFL_PAGE       | new page     | page before  | bitmap       | new bitmap  | metapage   |        |          |
//! | SPLIT_ALLOCATE_PAGE | old bucket   | new bucket   | metapage     |             |            |        |          |
//! | SPLIT_PAGE          | page         |              |              |             |            |        |          |
//! | SPLIT_COMPLETE      | old bucket   | new bucket   |              |             |            |        |          |
//! | MOVE_PAGE_CONTENTS  | (bucket)     | page written | page read    |             |            |        |          |
//! | SQUEEZE_PAGE        | (bucket)     | page written | freed page   | page before | page after | bitmap | metapage |
//! | DELETE              | (bucket)     | page         |              |             |            |        |          |
//! | SPLIT_CLEANUP       | bucket       |              |              |             |            |        |          |
//! | UPDATE_META_PAGE    | metapage     |              |              |             |            |        |          |
//! | VACUUM_ONE_PAGE     | page         | metapage     |              |             |            |        |          |
//!
//! A bucket in parentheses is only locked. Main data, from offset 0:
//!
//! | record              | fields                                                            |
//! |---------------------|-------------------------------------------------------------------|
//! | INIT_META_PAGE      | tuples 8, function 4, fill factor 2                               |
//! | INIT_BITMAP_PAGE    | bitmap bytes 2                                                    |
//! | INSERT              | item 2                                                            |
//! | ADD_OVFL_PAGE       | bitmap bytes 2, page recycled 1                                   |
//! | SPLIT_ALLOCATE_PAGE | new bucket 4, old bucket's flags 2, new bucket's flags 2, flags 1 |
//! | SPLIT_COMPLETE      | old bucket's flags 2, new bucket's flags 2                        |
//! | MOVE_PAGE_CONTENTS  | tuples 2, bucket is page written 1                                |
//! | SQUEEZE_PAGE        | prev 4, next 4, tuples 2, bucket is page written 1, page before is page written 1 |
//! | DELETE              | clear the dead tuples' mark 1, bucket is page 1                   |
//! | UPDATE_META_PAGE    | tuples 8                                                          |
//! | VACUUM_ONE_PAGE     | xid 4, tuples 2, 2 (see [`vacuum_one_page`]), items 2 each        |
//!
//! SPLIT_ALLOCATE_PAGE and SPLIT_COMPLETE: Postgres sets the buckets' flags even after it restored them from images. It
//! had set them before it made the images, so that here an image is enough.
//!
//! Not here: what pages hold (`layout`).

pub(crate) mod layout;

use crate::Fault;
use crate::bytes::{Done, array_at, max_align, slice_at, u8_at, u16_at, u32_at};
use crate::index::hash::layout::{
    HAS_DEAD_TUPLES, Meta, NEEDS_SPLIT_CLEANUP, NONE, OVERFLOW, Opaque, UNUSED, put_bit,
};
use crate::index::tuple::tuple_len;
use crate::page::compact::delete_index_items;
use crate::page::{Numbering, add_item};
use crate::step::{Effect, Step};

const INIT_META_PAGE: u8 = 0x00;
const INIT_BITMAP_PAGE: u8 = 0x10;
const INSERT: u8 = 0x20;
const ADD_OVFL_PAGE: u8 = 0x30;
const SPLIT_ALLOCATE_PAGE: u8 = 0x40;
const SPLIT_PAGE: u8 = 0x50;
const SPLIT_COMPLETE: u8 = 0x60;
const MOVE_PAGE_CONTENTS: u8 = 0x70;
const SQUEEZE_PAGE: u8 = 0x80;
const DELETE: u8 = 0x90;
const SPLIT_CLEANUP: u8 = 0xA0;
const UPDATE_META_PAGE: u8 = 0xB0;
const VACUUM_ONE_PAGE: u8 = 0xC0;

/// ADD_OVFL_PAGE: the reference to a new bitmap page, which only some have.
const NEW_BITMAP: u8 = 3;
/// `XLH_SPLIT_META_UPDATE_MASKS`
const UPDATE_MASKS: u8 = 1 << 0;
/// `XLH_SPLIT_META_UPDATE_SPLITPOINT`
const UPDATE_SPLIT_POINT: u8 = 1 << 1;

/// Applies a `Hash` record to one of its pages.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    let main = step.record.main;
    match (step.record.op(), step.block.id) {
        (INIT_META_PAGE, 0) => init_meta(step),
        (INIT_BITMAP_PAGE, 0) | (ADD_OVFL_PAGE, NEW_BITMAP) => {
            layout::init_bitmap(step.page, u16_at(main, 0)?)
        }
        (INIT_BITMAP_PAGE, 1) => first_bitmap_in_meta(step),
        (INSERT, 0) => add_item(step.page, u16_at(main, 0)?, step.block.data, Numbering::Index).map(|_| ()),
        (INSERT, 1) => Meta::of(step.page).add_tuples(1.0),
        (ADD_OVFL_PAGE, 0) => overflow_page(step),
        (ADD_OVFL_PAGE, 1) => link_overflow_page(step),
        (ADD_OVFL_PAGE, 2) => put_bit(step.page, u32_at(step.block.data, 0)?, true),
        (ADD_OVFL_PAGE, 4) => overflow_page_in_meta(step),
        (SPLIT_ALLOCATE_PAGE, 0) => begin_split(step),
        (SPLIT_ALLOCATE_PAGE, 1) => {
            let bucket = u32_at(main, 0)?;
            layout::init(step.page, bucket, bucket, u16_at(main, 6)?)
        }
        (SPLIT_ALLOCATE_PAGE, 2) => new_bucket_in_meta(step),
        (SPLIT_PAGE, 0) => Err(Fault::Malformed("a split page without its image")),
        (SPLIT_COMPLETE, 0) => set_flags(step, u16_at(main, 0)?),
        (SPLIT_COMPLETE, 1) => set_flags(step, u16_at(main, 2)?),
        (MOVE_PAGE_CONTENTS | SQUEEZE_PAGE | DELETE, 0) => return Ok(Effect::Unchanged),
        (MOVE_PAGE_CONTENTS, 1) => add_moved_tuples(step, u16_at(main, 0)?),
        (MOVE_PAGE_CONTENTS, 2) => delete_index_items(step.page, step.block.data),
        (SQUEEZE_PAGE, 1) => return squeeze_into(step),
        (SQUEEZE_PAGE, 2) => layout::init(step.page, NONE, NONE, UNUSED),
        (SQUEEZE_PAGE, 3) => set_next(step, u32_at(main, 4)?),
        (SQUEEZE_PAGE, 4) => set_prev(step, u32_at(main, 0)?),
        (SQUEEZE_PAGE, 5) => put_bit(step.page, u32_at(step.block.data, 0)?, false),
        (SQUEEZE_PAGE, 6) => Meta::of(step.page).set_first_free(u32_at(step.block.data, 0)?),
        (DELETE, 1) => delete(step),
        (SPLIT_CLEANUP, 0) => clear_flag(step, NEEDS_SPLIT_CLEANUP),
        (UPDATE_META_PAGE, 0) => Meta::of(step.page).set_tuples(f64::from_le_bytes(array_at(main, 0)?)),
        (VACUUM_ONE_PAGE, 0) => vacuum_one_page(step),
        (VACUUM_ONE_PAGE, 1) => Meta::of(step.page).add_tuples(-f64::from(u16_at(main, 4)?)),
        _ => Err(Fault::Unsupported),
    }?;
    Ok(Effect::Changed)
}

fn init_meta(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (tuples, function) = (f64::from_le_bytes(array_at(main, 0)?), u32_at(main, 8)?);
    Meta::init(step.page, tuples, function, u16_at(main, 12)?)
}

/// The first bitmap comes right after the first buckets, which come after the metapage.
fn first_bitmap_in_meta(step: &mut Step<'_, '_>) -> Done {
    let mut meta = Meta::of(step.page);
    let block = meta.max_bucket()?.wrapping_add(2);
    meta.add_bitmap(block)
}

/// Block data: bucket 4.
fn overflow_page(step: &mut Step<'_, '_>) -> Done {
    let before = block_number(step, 1)?;
    layout::init(step.page, before, u32_at(step.block.data, 0)?, OVERFLOW)
}

fn link_overflow_page(step: &mut Step<'_, '_>) -> Done {
    let new = block_number(step, 0)?;
    set_next(step, new)
}

/// Block data: first free bit 4. A page that is not a recycled one was added at the end, after its bitmap if that
/// is new too.
fn overflow_page_in_meta(step: &mut Step<'_, '_>) -> Done {
    let recycled = u8_at(step.record.main, 2)? != 0;
    let new_bitmap = block_number(step, NEW_BITMAP).ok();
    let mut meta = Meta::of(step.page);
    meta.set_first_free(u32_at(step.block.data, 0)?)?;
    if !recycled {
        meta.add_spare()?;
        if let Some(block) = new_bitmap {
            meta.add_bitmap(block)?;
            meta.add_spare()?;
        }
    }
    Ok(())
}

fn begin_split(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (new_bucket, flags) = (u32_at(main, 0)?, u16_at(main, 4)?);
    set_prev(step, new_bucket)?;
    set_flags(step, flags)
}

/// Block data, as the flags say: low mask 4, high mask 4; split point 4, spare pages before it 4.
fn new_bucket_in_meta(step: &mut Step<'_, '_>) -> Done {
    let (main, data) = (step.record.main, step.block.data);
    let flags = u8_at(main, 8)?;
    let mut meta = Meta::of(step.page);
    meta.set_max_bucket(u32_at(main, 0)?)?;
    let mut at = 0;
    if flags & UPDATE_MASKS != 0 {
        meta.set_masks(u32_at(data, 0)?, u32_at(data, 4)?)?;
        at = 8;
    }
    if flags & UPDATE_SPLIT_POINT != 0 {
        meta.set_split_point(u32_at(data, at)?, u32_at(data, at + 4)?)?;
    }
    Ok(())
}

/// Block data: item numbers 2 each, then the tuples, aligned.
fn add_moved_tuples(step: &mut Step<'_, '_>, count: u16) -> Done {
    let data = step.block.data;
    let mut at = usize::from(count) * 2;
    for index in 0..usize::from(count) {
        let rest = data.get(at..).unwrap_or_default();
        let len = max_align(tuple_len(rest)?);
        add_item(step.page, u16_at(data, index * 2)?, slice_at(rest, 0, len)?, Numbering::Index)?;
        at += len;
    }
    if count > 0 && at != data.len() {
        return Err(Fault::Malformed("more moved tuples than the record says"));
    }
    Ok(())
}

/// The page that takes in what a freed page still held. If it is the one before the freed page it is linked to the
/// one after that. Up to 16 the page gets the record's LSN even if nothing of it changes.
fn squeeze_into(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    let main = step.record.main;
    let (next, count, is_before) = (u32_at(main, 4)?, u16_at(main, 8)?, u8_at(main, 11)? != 0);
    add_moved_tuples(step, count)?;
    if is_before {
        set_next(step, next)?;
    }
    let changed = count > 0 || is_before || step.cx.major <= 16;
    Ok(if changed { Effect::Changed } else { Effect::Unchanged })
}

fn delete(step: &mut Step<'_, '_>) -> Done {
    delete_index_items(step.page, step.block.data)?;
    if u8_at(step.record.main, 0)? != 0 { clear_flag(step, HAS_DEAD_TUPLES) } else { Ok(()) }
}

/// Deletes tuples that were found dead. Up to 15 the count is an `int`, from 16 on a `uint16` before a flag: as a page
/// holds far fewer tuples than 65536, two bytes are right for all.
fn vacuum_one_page(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let count = usize::from(u16_at(main, 4)?);
    delete_index_items(step.page, slice_at(main, 8, count * 2)?)?;
    clear_flag(step, HAS_DEAD_TUPLES)
}

/// The block that the record's reference `id` is to.
fn block_number(step: &Step<'_, '_>, id: u8) -> Result<u32, Fault> {
    let reference = step.record.blocks().find(|candidate| candidate.id == id);
    reference
        .map(|found| found.block.get())
        .ok_or(Fault::Malformed("the record refers to fewer blocks than it must"))
}

fn set_prev(step: &mut Step<'_, '_>, block: u32) -> Done {
    Opaque::of(step.page)?.set_prev(block);
    Ok(())
}

fn set_next(step: &mut Step<'_, '_>, block: u32) -> Done {
    Opaque::of(step.page)?.set_next(block);
    Ok(())
}

fn set_flags(step: &mut Step<'_, '_>, flags: u16) -> Done {
    Opaque::of(step.page)?.set_flags(flags);
    Ok(())
}

fn clear_flag(step: &mut Step<'_, '_>, flag: u16) -> Done {
    Opaque::of(step.page)?.clear_flag(flag);
    Ok(())
}
