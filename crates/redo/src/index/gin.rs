//! Records of the `Gin` resource manager: dispatch, the tree of entries, the pending list, the metapage.
//!
//! Follows `ginxlog.c`. Which block a reference's id means differs by record:
//!
//! | record                | 0                  | 1              | 2            | 3           |
//! |-----------------------|--------------------|----------------|--------------|-------------|
//! | CREATE_PTREE          | posting tree root  |                |              |             |
//! | INSERT                | page               | split child    |              |             |
//! | SPLIT                 | left half          | right half     | new root     | split child |
//! | VACUUM_PAGE           | entry tree leaf    |                |              |             |
//! | VACUUM_DATA_LEAF_PAGE | posting tree leaf  |                |              |             |
//! | DELETE_PAGE           | deleted page       | parent         | left sibling |             |
//! | UPDATE_META_PAGE      | metapage           | list's tail    |              |             |
//! | INSERT_LISTPAGE       | list page          |                |              |             |
//! | DELETE_LISTPAGE       | metapage           | deleted list pages, up to 16              |||
//!
//! SPLIT and VACUUM_PAGE are images of their pages; only a split child is changed otherwise.
//!
//! Not here: posting tree pages (`data`).

mod data;
pub(crate) mod layout;
mod posting;

use crate::Fault;
use crate::bytes::{Done, array_at, put_u16, slice_at, u8_at, u16_at, u32_at};
use crate::index::gin::layout::{
    DELETED, INCOMPLETE_SPLIT, LIST, LIST_FULL_ROW, META_SIZE, NO_BLOCK, Opaque, append_tuples, init,
    init_meta,
};
use crate::index::tuple::{set_tid_block, tid_block, tuple_len};
use crate::page::compact::delete_index_item;
use crate::page::{self, Numbering, add_item, normal_item};
use crate::step::{Effect, Step};

const CREATE_PTREE: u8 = 0x10;
const INSERT: u8 = 0x20;
const SPLIT: u8 = 0x30;
const VACUUM_PAGE: u8 = 0x40;
const DELETE_PAGE: u8 = 0x50;
const UPDATE_META_PAGE: u8 = 0x60;
const INSERT_LISTPAGE: u8 = 0x70;
const DELETE_LISTPAGE: u8 = 0x80;
const VACUUM_DATA_LEAF_PAGE: u8 = 0x90;

/// `GIN_INSERT_ISDATA`: the page is of a posting tree.
const IS_DATA: u16 = 0x01;
/// `GIN_INSERT_ISLEAF`
const IS_LEAF: u16 = 0x02;

/// Where the fields are in the main data of each record.
mod fields {
    /// CREATE_PTREE: length 4, segments.
    pub(super) const SEGMENTS: usize = 4;
    /// INSERT: flags 2; of an inner page also left child 4, right child 4, each as two halves.
    pub(super) const RIGHT_CHILD: usize = 6;
    /// DELETE_PAGE: parent's item 2, pad 2, right sibling 4, next xid 4.
    pub(super) const DELETED_RIGHT: usize = 4;
    pub(super) const DELETED_XID: usize = 8;
    /// UPDATE_META_PAGE: relation 12, pad 4, metapage 56, tail before 4, its new right 4, tuples 4, pad 4.
    pub(super) const META: usize = 16;
    pub(super) const PREVIOUS_TAIL: usize = 72;
    pub(super) const NEW_RIGHT: usize = 76;
    pub(super) const META_TUPLES: usize = 80;
    /// INSERT_LISTPAGE: right sibling 4, tuples 4.
    pub(super) const LIST_TUPLES: usize = 4;
    /// DELETE_LISTPAGE: metapage 56, pages 4.
    pub(super) const LIST_META: usize = 0;
}

/// Applies a `Gin` record to one of its pages.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    match (step.record.op(), step.block.id) {
        (CREATE_PTREE, 0) => create_posting_tree(step),
        (INSERT, 0) => insert(step),
        (INSERT, 1) | (SPLIT, 3) => clear_incomplete_split(step),
        (SPLIT, 0..=2) => Err(Fault::Malformed("a split without the image of a half")),
        (VACUUM_PAGE, 0) => Err(Fault::Malformed("a vacuumed page without its image")),
        (VACUUM_DATA_LEAF_PAGE, 0) => data::recompress(step.page, step.block.data),
        (DELETE_PAGE, 0) => delete_page(step),
        (DELETE_PAGE, 1) => data::delete_item(step.page, u16_at(step.record.main, 0)?),
        (DELETE_PAGE, 2) => set_right(step, fields::DELETED_RIGHT),
        (UPDATE_META_PAGE, 0) => restore_meta(step, fields::META),
        (UPDATE_META_PAGE, 1) => update_tail(step),
        (INSERT_LISTPAGE, 0) => init_list_page(step),
        (DELETE_LISTPAGE, 0) => restore_meta(step, fields::LIST_META),
        (DELETE_LISTPAGE, _) => init(step.page, DELETED),
        _ => Err(Fault::Unsupported),
    }?;
    Ok(Effect::Changed)
}

fn create_posting_tree(step: &mut Step<'_, '_>) -> Done {
    let len = u32_at(step.record.main, 0)? as usize;
    data::init_leaf(step.page, slice_at(step.record.main, fields::SEGMENTS, len)?)
}

fn clear_incomplete_split(step: &mut Step<'_, '_>) -> Done {
    let mut opaque = Opaque::of(step.page)?;
    opaque.set_flags(opaque.flags() & !INCOMPLETE_SPLIT);
    Ok(())
}

fn insert(step: &mut Step<'_, '_>) -> Done {
    let flags = u16_at(step.record.main, 0)?;
    let is_leaf = flags & IS_LEAF != 0;
    match (flags & IS_DATA != 0, is_leaf) {
        (true, true) => data::recompress(step.page, step.block.data),
        (true, false) => {
            // Block data: number 2, item 10.
            let right_child = array_at(step.record.main, fields::RIGHT_CHILD)?;
            let (number, item) = (u16_at(step.block.data, 0)?, array_at(step.block.data, 2)?);
            data::insert_item(step.page, number, &item, right_child)
        }
        (false, _) => insert_entry(step, is_leaf),
    }
}

/// Puts an entry into its tree. On a leaf it may replace the one in its place; on an inner page, the one in its place
/// moves up and now leads to the right half of the child that was split. Block data: number 2, replaces 1, pad 1, the
/// entry's tuple.
fn insert_entry(step: &mut Step<'_, '_>, is_leaf: bool) -> Done {
    let data = step.block.data;
    let number = u16_at(data, 0)?;
    if !is_leaf {
        let right_child = tid_block(step.record.main, fields::RIGHT_CHILD)?;
        let at = normal_item(step.page, number)?.start();
        set_tid_block(step.page, at, right_child)?;
        put_u16(step.page, at + 4, 0)?;
    }
    if u8_at(data, 2)? != 0 {
        delete_index_item(step.page, number)?;
    }
    let tuple = data.get(4..).unwrap_or_default();
    let tuple = slice_at(tuple, 0, tuple_len(tuple)?)?;
    add_item(step.page, number, tuple, Numbering::Index).map(|_| ())
}

/// The page keeps its content and its right sibling, which searches may be about to follow.
fn delete_page(step: &mut Step<'_, '_>) -> Done {
    let xid = u32_at(step.record.main, fields::DELETED_XID)?;
    let mut opaque = Opaque::of(step.page)?;
    opaque.set_flags(opaque.flags() | DELETED);
    page::set_prune_xid(step.page, xid);
    Ok(())
}

fn set_right(step: &mut Step<'_, '_>, field: usize) -> Done {
    let right = u32_at(step.record.main, field)?;
    Opaque::of(step.page)?.set_right(right);
    Ok(())
}

fn restore_meta(step: &mut Step<'_, '_>, field: usize) -> Done {
    let meta: [u8; META_SIZE] = array_at(step.record.main, field)?;
    init_meta(step.page, &meta)
}

/// The last page of the pending list: gets one more row's tuples, or a list that follows it.
fn update_tail(step: &mut Step<'_, '_>) -> Done {
    let tuples = u32_at(step.record.main, fields::META_TUPLES)? as i32;
    if tuples > 0 {
        append_tuples(step.page, tuples, step.block.data)?;
        let mut opaque = Opaque::of(step.page)?;
        opaque.set_max_offset(opaque.max_offset().wrapping_add(1));
        Ok(())
    } else if u32_at(step.record.main, fields::PREVIOUS_TAIL)? != NO_BLOCK {
        set_right(step, fields::NEW_RIGHT)
    } else {
        Err(Fault::Malformed("a new pending list does not change another page"))
    }
}

/// A page of the pending list; the last of a row's pages says that the row ends there.
fn init_list_page(step: &mut Step<'_, '_>) -> Done {
    let right = u32_at(step.record.main, 0)?;
    let tuples = u32_at(step.record.main, fields::LIST_TUPLES)? as i32;
    let is_last = right == NO_BLOCK;
    init(step.page, if is_last { LIST | LIST_FULL_ROW } else { LIST })?;
    let mut opaque = Opaque::of(step.page)?;
    opaque.set_right(right);
    opaque.set_max_offset(u16::from(is_last));
    append_tuples(step.page, tuples, step.block.data)
}
