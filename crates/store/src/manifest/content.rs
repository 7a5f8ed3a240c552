//! What a manifest says: the project, its branches, and of each branch its timelines and layers.
//!
//! Not here: the bytes (`format`), who may replace a manifest (`manifest`).

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use types::{BranchId, Lsn};
use wal::WalFormat;

use crate::error::{Result, StoreError};

/// The format that is written.
pub(super) const FORMAT_VERSION: u32 = 2;
/// Bytes of `pg_control`; trailing zeros are not stored.
const CONTROL_BYTES: usize = 8192;

/// The manifest's content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// See `format`; a reader refuses what it does not know.
    pub(crate) format: u32,
    /// Grows by one with each open. Whoever has an older one than the newest manifest may not write: neither a manifest
    /// (`commit`) nor WAL (`check_epoch`).
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
    /// Number of the next incarnation of a branch.
    #[serde(default = "first_incarnation")]
    pub(crate) next_incarnation: u64,
    /// By name.
    pub(crate) branches: BTreeMap<String, BranchEntry>,
    /// Differs in all manifests that any writer has put, in hex.
    #[serde(default)]
    pub(crate) nonce: String,
}

fn first_incarnation() -> u64 {
    1
}

/// A branch in the manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BranchEntry {
    /// Differs in all branches that ever had this name; 0 for those made before there were incarnations.
    #[serde(default)]
    pub(crate) incarnation: u64,
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

impl BranchEntry {
    /// A branch without a timeline or a layer.
    pub(crate) fn new(parent: Option<&BranchId>, start: Lsn) -> Self {
        Self {
            incarnation: 0,
            parent: parent.map(|parent| parent.as_str().to_owned()),
            start: Position(start),
            timelines: Vec::new(),
            flushed: Position(start),
            layers: Vec::new(),
            extension: None,
        }
    }
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
            next_incarnation: first_incarnation(),
            branches: BTreeMap::new(),
            nonce: String::new(),
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

    /// The entry of a branch, if it is still the one that was meant: the name may have gone to another since.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn branch(&self, id: &BranchId, incarnation: u64) -> Result<&BranchEntry> {
        let entry = self.branches.get(id.as_str()).filter(|entry| entry.incarnation == incarnation);
        entry.ok_or_else(|| StoreError::NotFound { branch: id.clone() })
    }

    /// As `branch`, to be changed.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn branch_mut(&mut self, id: &BranchId, incarnation: u64) -> Result<&mut BranchEntry> {
        let entry = self.branches.get_mut(id.as_str()).filter(|entry| entry.incarnation == incarnation);
        entry.ok_or_else(|| StoreError::NotFound { branch: id.clone() })
    }

    /// Adds a branch under an incarnation of its own; gives its entry.
    pub(crate) fn add(&mut self, id: &BranchId, mut entry: BranchEntry) -> BranchEntry {
        entry.incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        self.branches.insert(id.as_str().to_owned(), entry.clone());
        entry
    }
}
