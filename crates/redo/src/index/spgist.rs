//! Records of the `SPGist` resource manager, except those of VACUUM.
//!
//! Follows `spgxlog.c` and `spgxlog.h`. Which block a reference's id means:
//!
//! | record      | 0           | 1                  | 2      | 3      |
//! |-------------|-------------|--------------------|--------|--------|
//! | ADD_LEAF    | leaf        | parent             |        |        |
//! | MOVE_LEAFS  | source leaf | destination leaf   | parent |        |
//! | ADD_NODE    | old inner   | new inner          | parent |        |
//! | SPLIT_TUPLE | prefix      | postfix            |        |        |
//! | PICKSPLIT   | source leaf | destination leaf   | inner  | parent |
//! | VACUUM_*    | page        |                    |        |        |
//!
//! A page has one reference even if it has two roles; then the record says so and the lower id is missing or has both:
//! the parent may be the old, the new or the inner page, the postfix may be with the prefix. Main data:
//!
//! | record      | fields                                                                                          |
//! |-------------|-------------------------------------------------------------------------------------------------|
//! | ADD_LEAF    | new page 1, nulls 1, leaf 2, head of its chain 2, parent 2, its node 2, leaf tuple              |
//! | MOVE_LEAFS  | moved 2, new page 1, replaces dead 1, nulls 1, pad 1, parent 2, its node 2, pad 2, state 8,     |
//! |             | numbers of the moved, of the inserted, leaf tuples                                              |
//! | ADD_NODE    | old 2, new 2, new page 1, where the parent is 1, parent 2, its node 2, pad 2, state 8, tuple    |
//! | SPLIT_TUPLE | prefix 2, postfix 2, new page 1, same page 1, prefix tuple, postfix tuple                       |
//! | PICKSPLIT   | root 1, pad 1, deleted 2, inserted 2, new source 1, new destination 1, inner 2, new inner 1,    |
//! |             | nulls 1, inner is parent 1, pad 1, parent 2, its node 2, pad 2, state 8, numbers of the deleted,|
//! |             | of the inserted, page of each inserted 1 each, inner tuple, leaf tuples                         |
//!
//! Not here: tuples and the special area (`layout`), VACUUM (`vacuum`).

mod layout;
mod vacuum;

use crate::Fault;
use crate::bytes::{Done, slice_at, u8_at, u16_at};
use crate::index::spgist::layout::{
    Filler, State, add_or_replace, init, kill_items, replace, replace_by_dead, set_next, set_node_link,
    split_inner_tuple, split_leaf_tuple,
};
use crate::page::PageBytes;
use crate::step::{Effect, Step};

const ADD_LEAF: u8 = 0x10;
const MOVE_LEAFS: u8 = 0x20;
const ADD_NODE: u8 = 0x30;
const SPLIT_TUPLE: u8 = 0x40;
const PICKSPLIT: u8 = 0x50;
const VACUUM_LEAF: u8 = 0x60;
const VACUUM_ROOT: u8 = 0x70;
const VACUUM_REDIRECT: u8 = 0x80;

/// Applies an `SPGist` record to one of its pages.
pub(crate) fn apply(step: &mut Step<'_, '_>) -> Result<Effect, Fault> {
    let main = step.record.main;
    match (step.record.op(), step.block.id) {
        (ADD_LEAF, 0) => add_leaf(step),
        (ADD_LEAF, 1) => Link::read(main, 6)?.set(step.page, block_number(step, 0)?, u16_at(main, 2)?),
        (MOVE_LEAFS, id) => MoveLeafs::read(main)?.apply(step, id),
        (ADD_NODE, id) => add_node(step, id),
        (SPLIT_TUPLE, id) => split_tuple(step, id),
        (PICKSPLIT, id) => PickSplit::read(main)?.apply(step, id),
        (VACUUM_LEAF, 0) => vacuum::leaf(step),
        (VACUUM_ROOT, 0) => vacuum::root(step),
        (VACUUM_REDIRECT, 0) => vacuum::redirects(step),
        _ => Err(Fault::Unsupported),
    }?;
    Ok(Effect::Changed)
}

/// Where a downlink is: parent's item 2, its node 2.
struct Link {
    parent: u16,
    node: u16,
}

impl Link {
    fn read(main: &[u8], at: usize) -> Result<Self, Fault> {
        Ok(Self { parent: u16_at(main, at)?, node: u16_at(main, at + 2)? })
    }

    /// Lets the downlink, which is on `page`, lead to `block` and `item`.
    fn set(&self, page: &mut PageBytes, block: u32, item: u16) -> Done {
        set_node_link(page, self.parent, self.node, block, item)
    }
}

fn add_leaf(step: &mut Step<'_, '_>) -> Done {
    let main = step.record.main;
    let (number, head) = (u16_at(main, 2)?, u16_at(main, 4)?);
    let (tuple, _) = split_leaf_tuple(main.get(10..).unwrap_or_default())?;
    if u8_at(main, 0)? != 0 {
        init(step.page, true, u8_at(main, 1)? != 0)?;
    }
    if number == head {
        return replace(step.page, number, tuple); // the dead tuple that was the chain
    }
    add_or_replace(step.page, number, tuple)?;
    if head == 0 { Ok(()) } else { set_next(step.page, head, number) }
}

struct MoveLeafs<'a> {
    init_destination: bool,
    stores_nulls: bool,
    link: Link,
    state: State,
    moved: &'a [u8],
    inserted: &'a [u8],
    tuples: &'a [u8],
}

impl<'a> MoveLeafs<'a> {
    fn read(main: &'a [u8]) -> Result<Self, Fault> {
        let moved = usize::from(u16_at(main, 0)?);
        // A dead tuple is not moved; only the new one takes a place.
        let inserted = if u8_at(main, 3)? != 0 { 1 } else { moved + 1 };
        Ok(Self {
            init_destination: u8_at(main, 2)? != 0,
            stores_nulls: u8_at(main, 4)? != 0,
            link: Link::read(main, 6)?,
            state: State::at(main, 12)?,
            moved: slice_at(main, 20, moved * 2)?,
            inserted: slice_at(main, 20 + moved * 2, inserted * 2)?,
            tuples: main.get(20 + (moved + inserted) * 2..).unwrap_or_default(),
        })
    }

    fn apply(&self, step: &mut Step<'_, '_>, id: u8) -> Done {
        let destination = block_number(step, 1)?;
        // The chain's new head is the last tuple that was inserted.
        let head = u16_at(self.inserted, self.inserted.len() - 2)?;
        match id {
            0 => {
                let redirect = self.state.moved_to(destination, head);
                kill_items(step.page, self.moved, redirect, Filler::Placeholder)
            }
            1 => self.insert(step.page),
            2 => self.link.set(step.page, destination, head),
            _ => Err(Fault::Unsupported),
        }
    }

    fn insert(&self, page: &mut PageBytes) -> Done {
        if self.init_destination {
            init(page, true, self.stores_nulls)?;
        }
        let mut tuples = self.tuples;
        for number in self.inserted.chunks_exact(2) {
            let (tuple, rest) = split_leaf_tuple(tuples)?;
            add_or_replace(page, u16_at(number, 0)?, tuple)?;
            tuples = rest;
        }
        Ok(())
    }
}

/// An inner tuple gets one more node, in its place if there is room.
fn add_node(step: &mut Step<'_, '_>, id: u8) -> Done {
    let main = step.record.main;
    let (old, new, parent_is_on) = (u16_at(main, 0)?, u16_at(main, 2)?, u8_at(main, 5)?);
    let (link, state) = (Link::read(main, 6)?, State::at(main, 12)?);
    let (tuple, _) = split_inner_tuple(main.get(20..).unwrap_or_default())?;
    let Some(target) = step.record.block(1) else {
        return if id == 0 { replace(step.page, old, tuple) } else { Err(Fault::Unsupported) };
    };
    let target = target.block.get();
    match id {
        0 => replace_by_dead(step.page, old, state.moved_to(target, new))?,
        1 => {
            if u8_at(main, 4)? != 0 {
                init(step.page, false, false)?;
            }
            add_or_replace(step.page, new, tuple)?;
        }
        2 => {}
        _ => return Err(Fault::Unsupported),
    }
    if parent_is_on == id { link.set(step.page, target, new) } else { Ok(()) }
}

/// An inner tuple's prefix is divided: the part that all have stays, a new tuple has the rest.
fn split_tuple(step: &mut Step<'_, '_>, id: u8) -> Done {
    let main = step.record.main;
    let (prefix, postfix) = (u16_at(main, 0)?, u16_at(main, 2)?);
    let is_same_page = u8_at(main, 5)? != 0;
    let (prefix_tuple, rest) = split_inner_tuple(main.get(6..).unwrap_or_default())?;
    let (postfix_tuple, _) = split_inner_tuple(rest)?;
    match id {
        0 => {
            replace(step.page, prefix, prefix_tuple)?;
            if is_same_page { add_or_replace(step.page, postfix, postfix_tuple) } else { Ok(()) }
        }
        1 if !is_same_page => {
            if u8_at(main, 4)? != 0 {
                init(step.page, false, false)?;
            }
            add_or_replace(step.page, postfix, postfix_tuple)
        }
        _ => Err(Fault::Unsupported),
    }
}

/// A chain of leaf tuples becomes an inner tuple with a chain for each node.
struct PickSplit<'a> {
    main: &'a [u8],
    stores_nulls: bool,
    inner: u16,
    link: Link,
    deleted: &'a [u8],
    inserted: &'a [u8],
    /// For each inserted tuple 1 if it goes to the destination page, 0 to the source page.
    pages: &'a [u8],
    inner_tuple: &'a [u8],
    leaf_tuples: &'a [u8],
}

impl<'a> PickSplit<'a> {
    fn read(main: &'a [u8]) -> Result<Self, Fault> {
        let (deleted, inserted) = (usize::from(u16_at(main, 2)?), usize::from(u16_at(main, 4)?));
        let inserted_at = 28 + deleted * 2;
        let pages_at = inserted_at + inserted * 2;
        let (inner_tuple, leaf_tuples) =
            split_inner_tuple(main.get(pages_at + inserted..).unwrap_or_default())?;
        Ok(Self {
            main,
            stores_nulls: u8_at(main, 11)? != 0,
            inner: u16_at(main, 8)?,
            link: Link::read(main, 14)?,
            deleted: slice_at(main, 28, deleted * 2)?,
            inserted: slice_at(main, inserted_at, inserted * 2)?,
            pages: slice_at(main, pages_at, inserted)?,
            inner_tuple,
            leaf_tuples,
        })
    }

    fn flag(&self, at: usize) -> Result<bool, Fault> {
        Ok(u8_at(self.main, at)? != 0)
    }

    fn apply(&self, step: &mut Step<'_, '_>, id: u8) -> Done {
        let inner_block = block_number(step, 2)?;
        match id {
            0 if !self.flag(0)? => {
                if self.flag(6)? {
                    init(step.page, true, self.stores_nulls)?;
                } else {
                    let redirect = State::at(self.main, 20)?.moved_to(inner_block, self.inner);
                    kill_items(step.page, self.deleted, redirect, Filler::Placeholder)?;
                }
                self.insert(step.page, false)
            }
            1 => {
                if self.flag(7)? {
                    init(step.page, true, self.stores_nulls)?;
                }
                self.insert(step.page, true)
            }
            2 => {
                if self.flag(10)? {
                    init(step.page, false, self.stores_nulls)?;
                }
                add_or_replace(step.page, self.inner, self.inner_tuple)?;
                let inner_is_parent = self.flag(12)?;
                if inner_is_parent { self.link.set(step.page, inner_block, self.inner) } else { Ok(()) }
            }
            3 => self.link.set(step.page, inner_block, self.inner),
            _ => Err(Fault::Unsupported),
        }
    }

    /// Adds those of the leaf tuples that belong to the destination page, or to the source page.
    fn insert(&self, page: &mut PageBytes, is_destination: bool) -> Done {
        let mut tuples = self.leaf_tuples;
        for (number, &to_destination) in self.inserted.chunks_exact(2).zip(self.pages) {
            let (tuple, rest) = split_leaf_tuple(tuples)?;
            if (to_destination != 0) == is_destination {
                add_or_replace(page, u16_at(number, 0)?, tuple)?;
            }
            tuples = rest;
        }
        Ok(())
    }
}

fn block_number(step: &Step<'_, '_>, id: u8) -> Result<u32, Fault> {
    let block = step.record.block(id).ok_or(Fault::Malformed("a block that others link to is missing"))?;
    Ok(block.block.get())
}
