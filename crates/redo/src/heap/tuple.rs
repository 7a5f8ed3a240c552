//! Headers of heap tuples.
//!
//! ```text
//!  xmin 4 | xmax 4 | command id or xvac 4 | ctid: block high 2, block low 2, item 2 | infomask2 2 | infomask 2 | hoff 1
//! ```
//!
//! 23 bytes, then the null bitmap and the data, which begin at `hoff`. Follows `access/htup_details.h`.

use crate::Fault;
use crate::bytes::{array_at, array_at_mut};
use crate::page::{PageBytes, normal_item};

/// Bytes of a tuple header (`SizeofHeapTupleHeader`).
pub(crate) const HEADER_SIZE: usize = 23;

/// `HEAP_COMBOCID`
const COMBO_CID: u16 = 0x0020;
/// `HEAP_XMAX_KEYSHR_LOCK`
const XMAX_KEY_SHARE_LOCK: u16 = 0x0010;
/// `HEAP_XMAX_EXCL_LOCK`
const XMAX_EXCLUSIVE_LOCK: u16 = 0x0040;
/// `HEAP_XMAX_LOCK_ONLY`
const XMAX_LOCK_ONLY: u16 = 0x0080;
/// `HEAP_XMAX_IS_MULTI`
const XMAX_IS_MULTI: u16 = 0x1000;
/// `HEAP_XMAX_BITS | HEAP_MOVED`: all that a new xmax replaces.
const XMAX_BITS_AND_MOVED: u16 = 0x1CD0 | 0xC000;
/// `HEAP_KEYS_UPDATED`, in infomask2.
const KEYS_UPDATED: u16 = 0x2000;
/// `HEAP_HOT_UPDATED`, in infomask2.
const HOT_UPDATED: u16 = 0x4000;

/// `MovedPartitionsBlockNumber` and `MovedPartitionsOffsetNumber`: the row went to another partition.
const MOVED_PARTITIONS: (u32, u16) = (u32::MAX, 0xFFFD);

/// A tuple header in a page, to change.
pub(crate) struct TupleHeader<'a>(&'a mut [u8; HEADER_SIZE]);

impl<'a> TupleHeader<'a> {
    /// The header that begins at `at`.
    pub(crate) fn at(page: &'a mut PageBytes, at: usize) -> Result<Self, Fault> {
        array_at_mut(page, at).map(Self)
    }

    /// The header of the item numbered `number`, which must be normal.
    pub(crate) fn of_item(page: &'a mut PageBytes, number: u16) -> Result<Self, Fault> {
        let item = normal_item(page, number)?;
        Self::at(page, item.start())
    }

    fn infomask(&self) -> u16 {
        u16::from_le_bytes([self.0[20], self.0[21]])
    }

    pub(crate) fn set_infomask(&mut self, value: u16) {
        [self.0[20], self.0[21]] = value.to_le_bytes();
    }

    fn infomask2(&self) -> u16 {
        u16::from_le_bytes([self.0[18], self.0[19]])
    }

    pub(crate) fn set_infomask2(&mut self, value: u16) {
        [self.0[18], self.0[19]] = value.to_le_bytes();
    }

    pub(crate) fn set_xmin(&mut self, xid: u32) {
        [self.0[0], self.0[1], self.0[2], self.0[3]] = xid.to_le_bytes();
    }

    pub(crate) fn set_xmax(&mut self, xid: u32) {
        [self.0[4], self.0[5], self.0[6], self.0[7]] = xid.to_le_bytes();
    }

    /// Sets the transaction of an old `VACUUM FULL` (`HeapTupleHeaderSetXvac`).
    pub(crate) fn set_xvac(&mut self, xid: u32) {
        [self.0[8], self.0[9], self.0[10], self.0[11]] = xid.to_le_bytes();
    }

    /// `HeapTupleHeaderSetCmax(tuple, FirstCommandId, false)`: command ids mean nothing after replay.
    pub(crate) fn clear_command_id(&mut self) {
        self.set_xvac(0);
        self.set_infomask(self.infomask() & !COMBO_CID);
    }

    pub(crate) fn set_ctid(&mut self, block: u32, item: u16) {
        [self.0[12], self.0[13]] = ((block >> 16) as u16).to_le_bytes();
        [self.0[14], self.0[15]] = (block as u16).to_le_bytes();
        [self.0[16], self.0[17]] = item.to_le_bytes();
    }

    pub(crate) fn set_moved_partitions(&mut self) {
        let (block, item) = MOVED_PARTITIONS;
        self.set_ctid(block, item);
    }

    pub(crate) fn set_hot_updated(&mut self, hot: bool) {
        let infomask2 = self.infomask2();
        self.set_infomask2(if hot { infomask2 | HOT_UPDATED } else { infomask2 & !HOT_UPDATED });
    }

    /// Replaces everything the masks say about xmax by `infobits` (`fix_infomask_from_infobits`, `XLHL_*`).
    pub(crate) fn replace_xmax_bits(&mut self, infobits: u8) {
        let mut infomask = self.infomask() & !XMAX_BITS_AND_MOVED;
        let mut infomask2 = self.infomask2() & !KEYS_UPDATED;
        let pairs = [
            (0x01, XMAX_IS_MULTI),
            (0x02, XMAX_LOCK_ONLY),
            (0x04, XMAX_EXCLUSIVE_LOCK),
            (0x08, XMAX_KEY_SHARE_LOCK),
        ];
        for (infobit, bit) in pairs {
            if infobits & infobit != 0 {
                infomask |= bit;
            }
        }
        if infobits & 0x10 != 0 {
            infomask2 |= KEYS_UPDATED;
        }
        self.set_infomask(infomask);
        self.set_infomask2(infomask2);
    }

    /// True if xmax only locks the row (`HEAP_XMAX_IS_LOCKED_ONLY`).
    pub(crate) fn is_locked_only(&self) -> bool {
        let infomask = self.infomask();
        let lock_bits = XMAX_IS_MULTI | XMAX_KEY_SHARE_LOCK | XMAX_EXCLUSIVE_LOCK;
        infomask & XMAX_LOCK_ONLY != 0 || infomask & lock_bits == XMAX_EXCLUSIVE_LOCK
    }
}

/// What a record keeps of a new tuple's header (`xl_heap_header`): infomask2, infomask, hoff.
#[derive(Clone, Copy)]
pub(crate) struct LoggedHeader {
    infomask2: u16,
    infomask: u16,
    pub(crate) hoff: u8,
}

impl LoggedHeader {
    /// Bytes in a record (`SizeOfHeapHeader`).
    pub(crate) const SIZE: usize = 5;

    /// The header at `at` of a block's data.
    pub(crate) fn at(data: &[u8], at: usize) -> Result<Self, Fault> {
        let [a, b, c, d, hoff] = array_at(data, at)?;
        Ok(Self { infomask2: u16::from_le_bytes([a, b]), infomask: u16::from_le_bytes([c, d]), hoff })
    }

    /// Writes the header of a tuple inserted by `xid` as item `item` of block `block`, at `at` of the page.
    pub(crate) fn write(
        self,
        page: &mut PageBytes,
        at: usize,
        xid: u32,
        (block, item): (u32, u16),
    ) -> Result<(), Fault> {
        let header: &mut [u8; HEADER_SIZE] = array_at_mut(page, at)?;
        header.fill(0);
        header[22] = self.hoff;
        let mut header = TupleHeader(header);
        header.set_infomask2(self.infomask2);
        header.set_infomask(self.infomask & !COMBO_CID);
        header.set_xmin(xid);
        header.set_ctid(block, item);
        Ok(())
    }
}
