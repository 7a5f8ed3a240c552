//! The bytes of one file: which come from the page source, which from the overlay.
//!
//! ```text
//!   0            base.end             len
//!   |--B--OO-BBB-O--|-----O-----------|        B from the source, O from the overlay (zero where it has a hole)
//! ```
//!
//! Invariants
//! - A byte comes from the source iff it lies below `base.end` and its 4 KiB unit is not in `base.written`.
//! - `base.end` is a multiple of the unit and never rises: truncation lowers it, so that a later extension cannot
//!   bring back what was cut off.
//! - Without a base, up to `MEMORY_BYTES` live in memory; most files of a database stay below that.
//! - No lock is held while the source is asked, and `try_*` never asks it: who must not wait hands what needs the source
//!   to somebody who may.

use crate::backing::Backing;
use crate::limits::FREED_APART_BYTES;
use crate::overlay::OverlayFile;
use crate::source::Origin;
use parking_lot::RwLock;
use rustix::io::Errno;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use types::BLOCK_SIZE;

/// Granularity of "Postgres wrote this": the kernel's page, which is what writeback sends.
pub(crate) const UNIT: u64 = 4096;
/// Largest file that is held in memory.
const MEMORY_BYTES: u64 = 8192;
/// Largest file there can be; far above a segment, far below arithmetic trouble.
const MAX_LEN: u64 = 1 << 44;
const BLOCK: u64 = BLOCK_SIZE as u64;

/// The bytes of one file; shared by all threads.
pub(crate) struct Content {
    state: RwLock<State>,
    /// A copy of the state's length, so that `stat` never waits for a write.
    len: AtomicU64,
}

struct State {
    len: u64,
    base: Option<Base>,
    written: Written,
}

/// What the page source still answers for.
struct Base {
    origin: Origin,
    /// Its block at offset 0 of this file.
    first: u32,
    /// Bytes below this come from the source unless written.
    end: u64,
    /// One bit per unit below `end`.
    bits: Vec<u64>,
}

/// What came of something that the source may be needed for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attempt<T> {
    Done(T),
    /// Nothing was done: the source has to be asked first.
    NeedsSource,
}

/// What a change of the length took off a file. Dropping it frees the space, which can take as long as it is large.
pub(crate) struct Cut(Option<OverlayFile>);

impl Cut {
    /// True if it is better dropped where nobody waits.
    pub(crate) fn is_large(&self) -> bool {
        self.0.as_ref().is_some_and(|file| file.disk_bytes() >= FREED_APART_BYTES)
    }
}

/// Where written bytes are. Shorter than the file's length means zeros behind.
enum Written {
    Memory(Vec<u8>),
    File(OverlayFile),
}

/// A unit that has to come from the source before anything else can be done.
struct Missing {
    unit: u64,
    origin: Origin,
    first: u32,
}

/// A stretch of a read that one place answers.
enum Run {
    Overlay(u64),
    Source { bytes: u64, origin: Origin, first: u32 },
}

impl Base {
    fn is_source(&self, unit: u64) -> bool {
        let word = self.bits.get((unit / 64) as usize).copied().unwrap_or(0);
        unit * UNIT < self.end && word >> (unit % 64) & 1 == 0
    }

    fn mark_written(&mut self, from: u64, to: u64) {
        for unit in from / UNIT..to.min(self.end).div_ceil(UNIT) {
            let word = (unit / 64) as usize;
            if word >= self.bits.len() {
                self.bits.resize(word + 1, 0);
            }
            if let Some(bits) = self.bits.get_mut(word) {
                *bits |= 1 << (unit % 64);
            }
        }
    }
}

impl State {
    /// The longest stretch from `at` on, at most `want` bytes, that has one answer.
    fn run(&self, at: u64, want: u64) -> Run {
        let Some(base) = self.base.as_ref().filter(|base| at < base.end) else {
            return Run::Overlay(want);
        };
        let source = base.is_source(at / UNIT);
        let mut unit = at / UNIT + 1;
        while unit * UNIT < at + want && base.is_source(unit) == source {
            unit += 1;
        }
        let bytes = (unit * UNIT - at).min(want);
        if source {
            Run::Source { bytes, origin: base.origin, first: base.first }
        } else {
            Run::Overlay(bytes)
        }
    }

    fn read_written(&self, at: u64, out: &mut [u8]) -> Result<(), Errno> {
        match &self.written {
            Written::File(file) => {
                file.read_at(at, out).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
            }
            Written::Memory(bytes) => {
                let have = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let n = have.len().min(out.len());
                let (filled, zeros) = out.split_at_mut(n);
                filled.copy_from_slice(have.split_at(n).0);
                zeros.fill(0);
                Ok(())
            }
        }
    }

    /// True if all of a range is already the overlay's and below the end: writing it changes no state.
    fn is_plain_overwrite(&self, offset: u64, end: u64) -> bool {
        end <= self.len && matches!(self.run(offset, end - offset), Run::Overlay(n) if n == end - offset)
    }

    /// The overlay file, made now if there is none.
    fn file(&mut self, backing: &Backing) -> Result<&OverlayFile, Errno> {
        if let Written::Memory(bytes) = &self.written {
            let file = backing.new_overlay_file()?;
            file.write_at(0, bytes).map_err(|e| backing.overlay_failure("move a file to the overlay", &e))?;
            self.written = Written::File(file);
        }
        match &self.written {
            Written::File(file) => Ok(file),
            Written::Memory(_) => Err(Errno::IO),
        }
    }

    /// The unit of the source at the first of `edges` that lies inside one: it is to be written in part only, so all of
    /// it has to be in the overlay before.
    fn unit_to_copy(&self, edges: &[u64]) -> Option<Missing> {
        let base = self.base.as_ref()?;
        let inside = edges.iter().filter(|edge| !edge.is_multiple_of(UNIT)).map(|edge| edge / UNIT);
        let unit = inside.into_iter().find(|&unit| base.is_source(unit))?;
        Some(Missing { unit, origin: base.origin, first: base.first })
    }

    fn write(&mut self, backing: &Backing, offset: u64, data: &[u8], end: u64) -> Result<(), Errno> {
        let stays_small = self.base.is_none() && end.max(self.len) <= MEMORY_BYTES;
        if let Written::Memory(bytes) = &mut self.written
            && stays_small
        {
            bytes.resize(bytes.len().max(end as usize), 0);
            if let Some(slot) = bytes.get_mut(offset as usize..end as usize) {
                slot.copy_from_slice(data);
            }
            self.len = self.len.max(end);
            return Ok(());
        }
        let file = self.file(backing)?;
        file.write_at(offset, data).map_err(|e| backing.overlay_failure("write the overlay", &e))?;
        if let Some(base) = &mut self.base {
            base.mark_written(offset, end);
        }
        self.len = self.len.max(end);
        Ok(())
    }

    fn set_len(&mut self, backing: &Backing, len: u64) -> Result<Cut, Errno> {
        if let Some(base) = &mut self.base
            && len < base.end
        {
            base.end = len - len % UNIT;
            base.bits.truncate(base.end.div_ceil(64 * UNIT) as usize);
        }
        self.base.take_if(|base| base.end == 0);
        let mut cut = Cut(None);
        if len == 0
            && let Written::File(file) = std::mem::replace(&mut self.written, Written::Memory(Vec::new()))
        {
            cut = Cut(Some(file));
        }
        if len < self.len {
            match &mut self.written {
                Written::Memory(bytes) => bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX)),
                Written::File(file) => {
                    file.cut(len).map_err(|e| backing.overlay_failure("truncate the overlay", &e))?;
                }
            }
        }
        self.len = len;
        Ok(cut)
    }
}

impl Content {
    /// A file with these bytes.
    pub(crate) fn plain(bytes: &[u8]) -> Self {
        Self::with(bytes.len() as u64, None, bytes.to_vec())
    }

    /// A segment file of `blocks` blocks of `origin`, from block `first` on.
    pub(crate) fn of(origin: Origin, first: u32, blocks: u32) -> Self {
        let end = u64::from(blocks) * BLOCK;
        let base = Base { origin, first, end, bits: Vec::new() };
        Self::with(end, Some(base).filter(|base| base.end > 0), Vec::new())
    }

    fn with(len: u64, base: Option<Base>, bytes: Vec<u8>) -> Self {
        let state = State { len, base, written: Written::Memory(bytes) };
        Self { state: RwLock::new(state), len: AtomicU64::new(len) }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Relaxed)
    }

    /// Overlay bytes on disk; `None` while there is no overlay file.
    pub(crate) fn overlay_bytes(&self) -> Option<u64> {
        match &self.state.read().written {
            Written::File(file) => Some(file.disk_bytes()),
            Written::Memory(_) => None,
        }
    }

    /// Fills `out` from `offset` on; fewer bytes only at the end of the file.
    pub(crate) fn read(&self, backing: &Backing, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        loop {
            let at = offset + done as u64;
            let rest = out.get_mut(done..).unwrap_or_default();
            let (held, then) = self.read_held(at, rest)?;
            done += held;
            let (Some(Run::Source { bytes, origin, first }), Some(rest)) = (then, rest.get_mut(held..))
            else {
                return Ok(done);
            };
            let at = at + held as u64;
            fetch(backing, origin, first, at, rest.split_at_mut(bytes as usize).0)?;
            // Somebody may have written or cut the range meanwhile; then it is read again.
            let state = self.state.read();
            let unchanged = matches!(state.run(at, bytes), Run::Source { bytes: n, .. } if n == bytes);
            if unchanged && at + bytes <= state.len {
                done += bytes as usize;
            }
        }
    }

    /// As `read`, if the source is not needed for it.
    pub(crate) fn try_read(&self, offset: u64, out: &mut [u8]) -> Result<Attempt<usize>, Errno> {
        Ok(match self.read_held(offset, out)? {
            (held, None) => Attempt::Done(held),
            (_, Some(_)) => Attempt::NeedsSource,
        })
    }

    /// Fills `out` up to the first byte that is not held here, and gives how many those were and the stretch that comes
    /// next: `None` if there is none, at the end of the file or of `out`.
    fn read_held(&self, offset: u64, out: &mut [u8]) -> Result<(usize, Option<Run>), Errno> {
        let state = self.state.read();
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let want = state.len.saturating_sub(at).min(rest.len() as u64);
            if want == 0 {
                break;
            }
            match state.run(at, want) {
                Run::Overlay(bytes) => {
                    state.read_written(at, rest.split_at_mut(bytes as usize).0)?;
                    done += bytes as usize;
                }
                source @ Run::Source { .. } => return Ok((done, Some(source))),
            }
        }
        Ok((done, None))
    }

    /// Writes all of `data`, extending the file if need be.
    pub(crate) fn write(&self, backing: &Backing, offset: u64, data: &[u8]) -> Result<(), Errno> {
        loop {
            match self.write_or_miss(backing, offset, data)? {
                Ok(()) => return Ok(()),
                Err(missing) => self.copy_up(backing, &missing)?,
            }
        }
    }

    /// As `write`, if the source is not needed for it.
    pub(crate) fn try_write(
        &self,
        backing: &Backing,
        offset: u64,
        data: &[u8],
    ) -> Result<Attempt<()>, Errno> {
        let written = self.write_or_miss(backing, offset, data)?;
        Ok(written.map_or(Attempt::NeedsSource, Attempt::Done))
    }

    fn write_or_miss(
        &self,
        backing: &Backing,
        offset: u64,
        data: &[u8],
    ) -> Result<Result<(), Missing>, Errno> {
        let end = checked_end(offset, data.len() as u64)?;
        if data.is_empty() {
            return Ok(Ok(()));
        }
        {
            let state = self.state.read();
            if let Written::File(file) = &state.written
                && state.is_plain_overwrite(offset, end)
            {
                let written = file.write_at(offset, data);
                return written.map(Ok).map_err(|e| backing.overlay_failure("write the overlay", &e));
            }
        }
        let mut state = self.state.write();
        if let Some(missing) = state.unit_to_copy(&[offset, end]) {
            return Ok(Err(missing));
        }
        let written = state.write(backing, offset, data, end);
        self.len.store(state.len, Relaxed);
        written.map(Ok)
    }

    /// Cuts the file, or extends it with zeros.
    pub(crate) fn set_len(&self, backing: &Backing, len: u64) -> Result<Cut, Errno> {
        loop {
            match self.set_len_or_miss(backing, len)? {
                Ok(cut) => return Ok(cut),
                Err(missing) => self.copy_up(backing, &missing)?,
            }
        }
    }

    /// As `set_len`, if the source is not needed for it.
    pub(crate) fn try_set_len(&self, backing: &Backing, len: u64) -> Result<Attempt<Cut>, Errno> {
        Ok(self.set_len_or_miss(backing, len)?.map_or(Attempt::NeedsSource, Attempt::Done))
    }

    fn set_len_or_miss(&self, backing: &Backing, len: u64) -> Result<Result<Cut, Missing>, Errno> {
        checked_end(len, 0)?;
        let mut state = self.state.write();
        if let Some(missing) = state.unit_to_copy(&[len]) {
            return Ok(Err(missing));
        }
        let done = state.set_len(backing, len);
        self.len.store(state.len, Relaxed);
        done.map(Ok)
    }

    /// Copies a unit from the source into the overlay, unless it was written or cut off meanwhile.
    fn copy_up(&self, backing: &Backing, missing: &Missing) -> Result<(), Errno> {
        let Missing { unit, origin, first } = *missing;
        let mut bytes = [0; UNIT as usize];
        fetch(backing, origin, first, unit * UNIT, &mut bytes)?;
        let mut state = self.state.write();
        if !state.base.as_ref().is_some_and(|base| base.is_source(unit)) {
            return Ok(());
        }
        let file = state.file(backing)?;
        file.write_at(unit * UNIT, &bytes).map_err(|e| backing.overlay_failure("copy a page up", &e))?;
        if let Some(base) = &mut state.base {
            base.mark_written(unit * UNIT, (unit + 1) * UNIT);
        }
        Ok(())
    }

    /// Reserves disk for a range, and extends the file over it unless `keep_len`. A full disk is the caller's to
    /// hear: nothing was lost, so it is no overlay failure.
    pub(crate) fn allocate(
        &self,
        backing: &Backing,
        offset: u64,
        bytes: u64,
        keep_len: bool,
    ) -> Result<(), Errno> {
        let end = checked_end(offset, bytes)?;
        let mut state = self.state.write();
        if end > MEMORY_BYTES {
            state.file(backing)?.reserve(offset, bytes)?;
        }
        if !keep_len && end > state.len {
            state.len = end;
            self.len.store(end, Relaxed);
        }
        Ok(())
    }
}

fn checked_end(offset: u64, bytes: u64) -> Result<u64, Errno> {
    offset.checked_add(bytes).filter(|&end| end <= MAX_LEN).ok_or(Errno::FBIG)
}

/// Bytes `at..` of a segment file from the source, which speaks in whole blocks.
fn fetch(backing: &Backing, origin: Origin, first: u32, at: u64, out: &mut [u8]) -> Result<(), Errno> {
    let from = at / BLOCK;
    let block = u32::try_from(from).ok().and_then(|n| first.checked_add(n)).ok_or(Errno::FBIG)?;
    let skip = (at % BLOCK) as usize;
    if skip == 0 && out.len().is_multiple_of(BLOCK_SIZE) {
        return backing.fetch(origin, block, out);
    }
    let mut blocks = vec![0; (skip + out.len()).next_multiple_of(BLOCK_SIZE)];
    backing.fetch(origin, block, &mut blocks)?;
    let wanted = blocks.get(skip..skip + out.len()).ok_or(Errno::IO)?;
    out.copy_from_slice(wanted);
    Ok(())
}
