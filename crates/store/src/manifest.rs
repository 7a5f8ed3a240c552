//! Which branches, timelines and layers exist: one object, replaced as a whole.
//!
//! Manifest N+1 is written with `put_if_absent`, so of two writers one loses. Readers take the highest number. Old
//! manifests are deleted, therefore a writer that was away for long could still win an old number: after its put it
//! looks, and has lost too if its number is not the highest or if the manifest it started from is gone. The second is
//! needed because a directory that changes while it is listed need not show what came and what went meanwhile.
//!
//! A put that returns an error may have taken place. Each manifest carries a nonce, so its writer reads N+1 back: its own
//! bytes are a success, no bytes a failure, another's the end of its right to write. While it cannot even look, the change
//! is in doubt: its caller is told of the error, and before anything else is written the doubt is settled. What is found to
//! have taken place although its caller was told that it failed is undone by the manifest after it.
//!
//! What no manifest lists does not exist; the next open removes it.
//!
//! Not here: what one says (`content`), its bytes (`format`).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Result, StoreError};
use crate::limits::OLD_MANIFESTS_MAX;
use crate::object::{ObjectStore, Put};

mod content;
mod format;

pub(crate) use content::{BranchEntry, Manifest, Position};

/// How often a put of unknown outcome is looked for before its caller is told of an error.
const LOOKS: u32 = 3;
/// How often the removal of a manifest that must not stay is tried.
const UNDO_TRIES: u32 = 3;
/// How often the highest manifest is looked for before there is none.
const ATTEMPTS: u32 = 10;

#[cfg(any(test, fuzzing))]
impl Manifest {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        format::encode("a manifest", self)
    }
}

/// Reads what an object of that content holds, and its JSON if the line behind it is made right.
#[cfg(any(test, fuzzing))]
pub(crate) fn understood(bytes: &[u8]) -> Option<Manifest> {
    let read = |bytes: &[u8]| format::decode("a manifest", bytes).ok();
    read(bytes).or_else(|| read(&[bytes, format::trailer(bytes).as_bytes()].concat()))
}

fn object_name(sequence: u64) -> String {
    format!("manifest/{sequence:016}.json")
}

fn sequence_of(name: &str) -> Option<u64> {
    name.strip_prefix("manifest/")?.strip_suffix(".json")?.parse().ok()
}

fn highest(objects: &dyn ObjectStore) -> Result<Option<u64>> {
    Ok(objects.list("manifest/")?.iter().filter_map(|name| sequence_of(name)).max())
}

/// The highest manifest and its bytes.
fn newest(objects: &dyn ObjectStore) -> Result<(u64, Vec<u8>)> {
    // Another writer may put the next one and delete this one between the list and the read.
    for _ in 0..ATTEMPTS {
        if let Some(sequence) = highest(objects)?
            && let Some(bytes) = objects.get(&object_name(sequence))?
        {
            return Ok((sequence, bytes));
        }
    }
    Err(StoreError::corrupt("manifest", 0, "the project has no manifest"))
}

struct Current {
    sequence: u64,
    /// What callers were told.
    manifest: Arc<Manifest>,
    /// What was put under the next number, if it is not known whether it got there.
    doubt: Option<Vec<u8>>,
    /// True if the manifest of `sequence` says more than callers were told.
    untold: bool,
    /// The number that somebody else wrote: nothing is written any more.
    lost: Option<u64>,
    /// Manifests below this number are deleted.
    swept: u64,
}

/// What became of a put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It is the newest manifest.
    Ours,
    /// It did not take place.
    Absent,
    /// Somebody else's manifest took its place.
    Lost,
}

/// The current manifest and the right to replace it.
pub(crate) struct ManifestStore {
    objects: Arc<dyn ObjectStore>,
    epoch: u64,
    /// A copy of `Current::sequence`, to be read without the lock, which is held over I/O.
    sequence: AtomicU64,
    current: Mutex<Current>,
}

impl ManifestStore {
    /// Writes the first manifest; fails if there is one.
    pub(crate) fn create(objects: Arc<dyn ObjectStore>, manifest: Manifest) -> Result<Self> {
        if let Some(sequence) = highest(&*objects)? {
            return Err(StoreError::Superseded { sequence });
        }
        let store = Self::at(objects, 0, manifest);
        if let Err(error) = store.commit(|_| Ok(())) {
            if store.current.lock().doubt.is_some() {
                Self::undo_create(&*store.objects);
            }
            return Err(error);
        }
        Ok(store)
    }

    /// Takes back what `create` wrote: nobody is to find a project whose creator was told that there is none. A disk that
    /// refuses this too leaves one.
    pub(crate) fn undo_create(objects: &dyn ObjectStore) {
        let undo = || objects.list("manifest/")?.iter().try_for_each(|name| objects.delete(name));
        let _ = (0..UNDO_TRIES).any(|_| undo().is_ok());
    }

    fn at(objects: Arc<dyn ObjectStore>, sequence: u64, manifest: Manifest) -> Self {
        let epoch = manifest.epoch;
        let manifest = Arc::new(manifest);
        let current =
            Current { sequence, manifest, doubt: None, untold: false, lost: None, swept: sequence.max(1) };
        Self { objects, epoch, sequence: AtomicU64::new(sequence), current: Mutex::new(current) }
    }

    /// Reads the highest manifest and takes over under a new epoch. Older ones go.
    pub(crate) fn open(objects: Arc<dyn ObjectStore>) -> Result<Self> {
        let (sequence, bytes) = newest(&*objects)?;
        let manifest = format::decode(&object_name(sequence), &bytes)?;
        let mut store = Self::at(objects, sequence, manifest);
        // A crash may have come before the deletion of the one before, a power failure may have undone it.
        let listed = store.objects.list("manifest/")?;
        let oldest = listed.iter().filter_map(|name| sequence_of(name)).min().unwrap_or(sequence);
        store.current.get_mut().swept = oldest;
        store.epoch = store.commit(|manifest| {
            manifest.epoch += 1;
            Ok(manifest.epoch)
        })?;
        Ok(store)
    }

    /// The manifest.
    pub(crate) fn get(&self) -> Arc<Manifest> {
        self.current.lock().manifest.clone()
    }

    /// Refuses whoever may not write any more because the project was opened by another.
    ///
    /// Costs two looks at names. The manifest's own bytes are read only if one of them is not as expected.
    ///
    /// # Errors
    /// `Superseded`, and those of looking.
    pub(crate) fn check_epoch(&self) -> Result<()> {
        let sequence = self.sequence.load(Ordering::Acquire);
        let length = |sequence| self.objects.len(&object_name(sequence));
        if length(sequence)?.is_some() && length(sequence + 1)?.is_none() {
            return Ok(());
        }
        // A commit of this process may be under way. While the lock is held there is none.
        let mut current = self.current.lock();
        self.settle_doubt(&mut current)?;
        let (sequence, bytes) = newest(&*self.objects)?;
        let epoch = format::decode(&object_name(sequence), &bytes)?.epoch;
        if epoch != self.epoch {
            current.lost = Some(sequence);
            return Err(StoreError::Superseded { sequence });
        }
        Ok(())
    }

    /// Applies `change` and makes the result durable; on an error nothing has changed. After `Superseded` whoever took
    /// over may have taken the change over too, and after any other a process that is killed before the next call may
    /// leave it.
    pub(crate) fn commit<T>(&self, change: impl FnOnce(&mut Manifest) -> Result<T>) -> Result<T> {
        let mut current = self.current.lock();
        self.settle_doubt(&mut current)?;
        let mut manifest = (*current.manifest).clone();
        let answer = change(&mut manifest)?;
        self.put(&mut current, manifest)?;
        Ok(answer)
    }

    /// Does what errors have left to do: settles a put of unknown outcome, undoes it if it took place, deletes old
    /// manifests.
    pub(crate) fn settle(&self) -> Result<()> {
        let mut current = self.current.lock();
        self.settle_doubt(&mut current)?;
        if current.untold {
            let manifest = (*current.manifest).clone();
            self.put(&mut current, manifest)?;
        }
        self.sweep(&mut current);
        Ok(())
    }

    /// Whether `settle` has anything to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.current.try_lock().is_none_or(|current| {
            current.lost.is_some()
                || current.doubt.is_none() && !current.untold && current.swept == current.sequence
        })
    }

    fn put(&self, current: &mut Current, mut manifest: Manifest) -> Result<()> {
        let sequence = current.sequence + 1;
        let name = object_name(sequence);
        manifest.nonce = format!("{:016x}", RandomState::new().hash_one(sequence));
        let bytes = format::encode(&name, &manifest)?;
        let put = match self.objects.put_if_absent(&name, &bytes) {
            Ok(Put::Taken) => Ok(Outcome::Lost),
            Ok(Put::Stored) => self.stands(sequence),
            Err(error) => Err(error),
        };
        let outcome = put.or_else(|error| {
            let mut looks = (0..LOOKS).map(|_| self.outcome(sequence, &bytes));
            match looks.find(Result::is_ok) {
                Some(Ok(Outcome::Absent)) => Err((error, false)),
                Some(Ok(outcome)) => Ok(outcome),
                Some(Err(_)) | None => Err((error, true)),
            }
        });
        match outcome {
            Ok(Outcome::Ours) => {}
            Ok(Outcome::Absent | Outcome::Lost) => {
                current.lost = Some(sequence);
                return Err(StoreError::Superseded { sequence });
            }
            Err((error, in_doubt)) => {
                current.doubt = in_doubt.then_some(bytes);
                return Err(error);
            }
        }
        self.advance(current, sequence);
        current.manifest = Arc::new(manifest);
        current.untold = false;
        self.sweep(current);
        Ok(())
    }

    /// Finds out whether a put of unknown outcome took place.
    fn settle_doubt(&self, current: &mut Current) -> Result<()> {
        if let Some(sequence) = current.lost {
            return Err(StoreError::Superseded { sequence });
        }
        let Some(bytes) = &current.doubt else { return Ok(()) };
        let sequence = current.sequence + 1;
        match self.outcome(sequence, bytes)? {
            Outcome::Ours => {
                self.advance(current, sequence);
                current.untold = true;
            }
            Outcome::Absent => {}
            Outcome::Lost => {
                current.lost = Some(sequence);
                return Err(StoreError::Superseded { sequence });
            }
        }
        current.doubt = None;
        Ok(())
    }

    fn advance(&self, current: &mut Current, sequence: u64) {
        current.sequence = sequence;
        self.sequence.store(sequence, Ordering::Release);
    }

    fn outcome(&self, sequence: u64, bytes: &[u8]) -> Result<Outcome> {
        match self.objects.settle(&object_name(sequence))? {
            None => Ok(Outcome::Absent),
            Some(found) if found == bytes => self.stands(sequence),
            Some(_) => Ok(Outcome::Lost),
        }
    }

    /// Whether manifest `sequence`, which is ours, is the newest.
    fn stands(&self, sequence: u64) -> Result<Outcome> {
        if sequence > 1 && self.objects.len(&object_name(sequence - 1))?.is_none() {
            // Whoever deleted that one has put a higher one, so nobody reads ours if it stays.
            let _ = self.objects.delete(&object_name(sequence));
            return Ok(Outcome::Lost);
        }
        if highest(&*self.objects)? == Some(sequence) {
            return Ok(Outcome::Ours);
        }
        // It stays: who put a higher one may have started from it, and looks whether it is there.
        Ok(Outcome::Lost)
    }

    /// Deletes old manifests. One that stays is never read, and is tried again.
    fn sweep(&self, current: &mut Current) {
        for _ in 0..OLD_MANIFESTS_MAX {
            if current.swept >= current.sequence || self.objects.delete(&object_name(current.swept)).is_err()
            {
                return;
            }
            current.swept += 1;
        }
    }
}

#[cfg(test)]
mod races;

#[cfg(test)]
pub(crate) mod tests {
    use types::Lsn;
    use wal::WalFormat;

    use super::*;
    use crate::object::memory::{Faulty, Memory};

    /// A manifest with every field in use, as it is decoded.
    pub(crate) fn full() -> Manifest {
        let at = |raw| Lsn::from_raw(raw).unwrap();
        let mut manifest = empty();
        let entry = BranchEntry {
            timelines: vec![(1, Position(at(0x300_0028)))],
            layers: vec![1, 4],
            extension: Some((Position(at(0x400_0028)), 138)),
            ..BranchEntry::new(Some(&"br-parent".parse().unwrap()), at(0x300_0028))
        };
        manifest.branches.insert("br-a".to_owned(), entry);
        manifest
    }

    pub(super) fn empty() -> Manifest {
        let format = WalFormat { major: 15, segment_bytes: 16 << 20, system_id: u64::MAX };
        Manifest::new(format, &[1, 2, 0, 3, 0, 0], -7, 2)
    }

    fn bump(manifest: &mut Manifest, by: u64) -> Result<()> {
        manifest.next_layer += by;
        Ok(())
    }

    #[test]
    fn a_manifest_survives_reopening() {
        let objects: Arc<dyn ObjectStore> = Arc::new(Memory::default());
        let store = ManifestStore::create(objects.clone(), empty()).unwrap();
        store.commit(|manifest| bump(manifest, 8)).unwrap();
        let again = ManifestStore::open(objects.clone()).unwrap().get();
        assert_eq!(again.next_layer, 9);
        assert_eq!(again.epoch, 1);
        assert_eq!(again.wal_format(), empty().wal_format());
        assert_eq!(again.control_template().unwrap()[..6], [1, 2, 0, 3, 0, 0]);
        assert_eq!(objects.list("manifest/").unwrap().len(), 1);
    }

    #[test]
    fn a_manifest_of_the_older_format_is_written_anew_by_whoever_opens_the_project() {
        let memory = Arc::new(Memory::default());
        let new = String::from_utf8(format::encode("", &full()).unwrap()).unwrap();
        let old = new.lines().next().unwrap().replacen("\"format\":2", "\"format\":1", 1);
        memory.overwrite(&object_name(7), old.into_bytes());
        let opened = ManifestStore::open(memory.clone()).unwrap().get();
        assert_eq!(opened.branches, full().branches);
        let bytes = memory.get(&object_name(8)).unwrap().unwrap();
        assert!(bytes.starts_with(b"{\"format\":2,"));
        assert_eq!(format::decode("", &bytes).unwrap(), *opened);
        assert_eq!(memory.list("manifest/").unwrap().len(), 1);
    }

    #[test]
    fn of_two_writers_the_older_loses_however_late_it_writes() {
        let objects: Arc<dyn ObjectStore> = Arc::new(Memory::default());
        let old = ManifestStore::create(objects.clone(), empty()).unwrap();
        let new = ManifestStore::open(objects.clone()).unwrap();
        for _ in 0..5 {
            assert!(matches!(old.commit(|_| Ok(())), Err(StoreError::Superseded { .. })));
            new.commit(|manifest| bump(manifest, 1)).unwrap();
        }
        assert_eq!(ManifestStore::open(objects).unwrap().get().next_layer, 6);
    }

    #[test]
    fn a_crash_at_any_write_leaves_the_old_or_the_new_manifest() {
        for allowed in 0..12 {
            let objects: Arc<dyn ObjectStore> = Arc::new(Memory::default());
            ManifestStore::create(objects.clone(), empty()).unwrap();
            let faulty = Arc::new(Faulty::new(objects.clone(), allowed));
            let mut acknowledged = 1;
            let mut tried = 1;
            if let Ok(store) = ManifestStore::open(faulty.clone()) {
                for _ in 0..4 {
                    tried += 1;
                    if store.commit(|manifest| bump(manifest, 1)).is_err() {
                        break;
                    }
                    acknowledged += 1;
                }
            }
            let found = ManifestStore::open(objects).unwrap().get().next_layer;
            assert!(
                (acknowledged..=tried).contains(&found),
                "{allowed}: {found} of {acknowledged}..={tried}"
            );
            if faulty.left() > 0 {
                return;
            }
        }
    }

    #[test]
    fn a_damaged_manifest_is_refused_by_name() {
        let memory = Memory::default();
        memory.overwrite("manifest/0000000000000001.json", b"{".to_vec());
        let error = ManifestStore::open(Arc::new(memory)).err().unwrap();
        assert!(error.to_string().contains("manifest/0000000000000001.json"), "{error}");
    }
}
