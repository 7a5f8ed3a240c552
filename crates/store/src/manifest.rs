//! Which branches, timelines and layers exist: one JSON object, replaced as a whole.
//!
//! Manifest N+1 is written with `put_if_absent`, so of two writers one loses. Readers take the highest number. Old
//! manifests are deleted, therefore a writer that was away for long could still win an old number: after its put it
//! looks, and has lost too if its number is not the highest or if the manifest it started from is gone. The second is
//! needed because a directory that changes while it is listed need not show what came and what went meanwhile.
//!
//! What no manifest lists does not exist; the next open removes it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use types::{BranchId, Lsn};
use wal::WalFormat;

use crate::error::{Result, StoreError};
use crate::object::{ObjectStore, Put};

const FORMAT_VERSION: u32 = 1;
/// How often the highest manifest is looked for before there is none.
const ATTEMPTS: u32 = 10;
/// Bytes of `pg_control`; trailing zeros are not stored.
const CONTROL_BYTES: usize = 8192;

/// The manifest's content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// `FORMAT_VERSION`; a reader refuses any other.
    pub(crate) format: u32,
    /// Grows by one with each open; who has an older one may not write.
    pub(crate) epoch: u64,
    /// Postgres major version.
    pub(crate) major: u32,
    /// Bytes of a WAL segment.
    pub(crate) segment_bytes: u64,
    /// The cluster's system identifier.
    pub(crate) system_id: u64,
    /// `pg_control` as imported, in hex, without its trailing zeros.
    pub(crate) control: String,
    /// Time of the imported checkpoint, in microseconds after 2000-01-01 UTC.
    pub(crate) imported_us: i64,
    /// Number of the next timeline.
    pub(crate) next_timeline: u32,
    /// Number of the next layer.
    pub(crate) next_layer: u64,
    /// By name.
    pub(crate) branches: BTreeMap<String, BranchEntry>,
}

/// A branch in the manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BranchEntry {
    /// The branch it starts from; `None` for the root.
    pub(crate) parent: Option<String>,
    /// Where it starts.
    pub(crate) start: Position,
    /// Its timelines and where each begins, oldest first.
    pub(crate) timelines: Vec<(u32, Position)>,
    /// Everything up to here is in layers.
    pub(crate) flushed: Position,
    /// Its layers, oldest first.
    pub(crate) layers: Vec<u64>,
    /// End and resource manager of the first record in them that is an extension's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extension: Option<(Position, u8)>,
}

/// An LSN in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Position(pub(crate) Lsn);

impl TryFrom<String> for Position {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        Lsn::from_str(&text).map(Self).map_err(|error| error.to_string())
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.0.to_string()
    }
}

impl Manifest {
    /// A manifest without branches.
    pub(crate) fn new(format: WalFormat, control: &[u8], imported_us: i64, next_timeline: u32) -> Self {
        let used = control.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Self {
            format: FORMAT_VERSION,
            epoch: 0,
            major: format.major,
            segment_bytes: format.segment_bytes,
            system_id: format.system_id,
            control: hex::encode(control.get(..used).unwrap_or(&[])),
            imported_us,
            next_timeline,
            next_layer: 1,
            branches: BTreeMap::new(),
        }
    }

    /// What the WAL looks like.
    pub(crate) fn wal_format(&self) -> WalFormat {
        WalFormat { major: self.major, segment_bytes: self.segment_bytes, system_id: self.system_id }
    }

    /// The whole of `pg_control`.
    pub(crate) fn control_template(&self) -> Result<Vec<u8>> {
        let mut bytes = hex::decode(&self.control)
            .map_err(|error| StoreError::corrupt("the manifest", 0, error.to_string()))?;
        bytes.resize(CONTROL_BYTES, 0);
        Ok(bytes)
    }

    /// The entry of a branch.
    pub(crate) fn branch(&mut self, id: &BranchId) -> Result<&mut BranchEntry> {
        self.branches.get_mut(id.as_str()).ok_or_else(|| StoreError::NotFound { branch: id.clone() })
    }
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
    manifest: Manifest,
}

/// The current manifest and the right to replace it.
pub(crate) struct ManifestStore {
    objects: Arc<dyn ObjectStore>,
    current: Mutex<Current>,
}

impl ManifestStore {
    /// Writes the first manifest; fails if there is one.
    pub(crate) fn create(objects: Arc<dyn ObjectStore>, manifest: Manifest) -> Result<Self> {
        if let Some(sequence) = highest(&*objects)? {
            return Err(StoreError::Superseded { sequence });
        }
        put(&*objects, 1, &manifest)?;
        Ok(Self { objects, current: Mutex::new(Current { sequence: 1, manifest }) })
    }

    /// Reads the highest manifest and takes over under a new epoch. Older ones go.
    pub(crate) fn open(objects: Arc<dyn ObjectStore>) -> Result<Self> {
        let (sequence, bytes) = newest(&*objects)?;
        let name = object_name(sequence);
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::corrupt(&*name, error.column() as u64, error.to_string()))?;
        if manifest.format != FORMAT_VERSION {
            let reason = format!("manifest format {}, this program reads {FORMAT_VERSION}", manifest.format);
            return Err(StoreError::corrupt(name, 0, reason));
        }
        let store = Self { objects, current: Mutex::new(Current { sequence, manifest }) };
        store.commit(|manifest| {
            manifest.epoch += 1;
            Ok(())
        })?;
        // A crash may have come before the deletion of the one before, a power failure may have undone it.
        for name in store.objects.list("manifest/")? {
            if sequence_of(&name).is_some_and(|found| found <= sequence) {
                store.objects.delete(&name)?;
            }
        }
        Ok(store)
    }

    /// A copy of the manifest.
    pub(crate) fn get(&self) -> Manifest {
        self.current.lock().manifest.clone()
    }

    /// Applies `change` and makes the result durable; on an error nothing has changed. After `Superseded` whoever took
    /// over may have taken the change over too.
    pub(crate) fn commit<T>(&self, change: impl FnOnce(&mut Manifest) -> Result<T>) -> Result<T> {
        let mut current = self.current.lock();
        let mut manifest = current.manifest.clone();
        let answer = change(&mut manifest)?;
        let sequence = current.sequence + 1;
        put(&*self.objects, sequence, &manifest)?;
        let old = std::mem::replace(&mut *current, Current { sequence, manifest });
        // An old manifest that stays is never read; the commit itself has succeeded.
        let _ = self.objects.delete(&object_name(old.sequence));
        Ok(answer)
    }
}

fn put(objects: &dyn ObjectStore, sequence: u64, manifest: &Manifest) -> Result<()> {
    let name = object_name(sequence);
    let bytes =
        serde_json::to_vec(manifest).map_err(|error| StoreError::corrupt(&*name, 0, error.to_string()))?;
    if objects.put_if_absent(&name, &bytes)? == Put::Taken {
        return Err(StoreError::Superseded { sequence });
    }
    if sequence > 1 && objects.len(&object_name(sequence - 1))?.is_none() {
        objects.delete(&name)?;
        return Err(StoreError::Superseded { sequence });
    }
    if highest(objects)? != Some(sequence) {
        // It stays: who put a higher one may have started from it, and looks whether it is there.
        return Err(StoreError::Superseded { sequence });
    }
    Ok(())
}

#[cfg(test)]
mod races;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::memory::{Faulty, Memory};

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
