//! What all parts of the running server share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use compute::TlsFiles;
use parking_lot::Mutex;
use store::StoreOptions;
use types::BranchId;

use crate::access::keys::Keys;
use crate::control::catalog::change::CatalogTurn;
use crate::control::endpoint::settings::Known;
use crate::control::locks::Locks;
use crate::control::operations::UnderWay;
use crate::error::{Error, Result};
use crate::fleet::places::Places;
use crate::fleet::reconcile::Queue;
use crate::fleet::runtime::Endpoints;
use crate::fleet::watch::Bell;
use crate::limits::{HIDDEN_SERVERS, STARTS};
use crate::machine::data_dir::DataDir;
use crate::machine::postgres::Postgres;
use crate::metadata::Metadata;
use crate::metadata::endpoint::EndpointRow;
use crate::storage::stores::Stores;
use crate::storage::sweep::Unborn;

/// The running server, without its HTTP side.
pub struct Server {
    /// The data directory.
    pub dir: DataDir,
    /// The metadata.
    pub metadata: Metadata,
    /// The API keys.
    pub keys: Keys,
    /// The Postgres installations.
    pub postgres: Postgres,
    /// What endpoints show their clients.
    pub tls: TlsFiles,
    /// The program that is started as `PROGRAM compute --spec FILE`.
    pub compute_exe: PathBuf,
    /// What else of this machine every Postgres may reach.
    pub postgres_paths: Vec<PathBuf>,
    /// Extensions that owners may create, whatever their packages say.
    pub owner_extensions: Vec<String>,
    /// What the installations of Postgres say of their settings.
    pub settings: Known,
    /// Sizes every project's store is opened with.
    pub store_options: StoreOptions,
    /// What is known of each endpoint's process.
    pub endpoints: Endpoints,
    /// Which branches are being changed.
    pub locks: Locks,
    /// Branches of stores that no row names yet.
    pub unborn: Unborn,
    /// Set while the server stops its endpoints: none is started any more. The loops wait, for a shutdown may fail.
    pub closing: AtomicBool,
    /// Set when the process ends: the loops do.
    pub ending: AtomicBool,
    /// Wakes the reconciler.
    pub bell: Arc<Bell>,
    /// When the server started, microseconds since 1970.
    pub started_us: i64,
    /// Places for Postgres servers that nobody is shown.
    pub hidden_servers: Places,
    /// Places for starts of endpoints. Who has one waits for no other lock.
    pub starts: Places,
    /// What the reconciler has to do.
    pub queue: Queue,
    /// Hidden endpoints that run now, by id. They have no row, and their branch is one of the store only.
    pub temporaries: Mutex<HashMap<String, EndpointRow>>,
    /// Who looks at or changes the catalog of a branch, by its id.
    pub catalogs: Mutex<HashMap<String, Arc<Mutex<CatalogTurn>>>>,
    /// The stores of projects.
    pub stores: Stores,
    /// What is done for clients now.
    pub under_way: UnderWay,
}

impl Server {
    /// A server over an opened data directory.
    pub fn new(
        dir: DataDir,
        metadata: Metadata,
        postgres: Postgres,
        tls: TlsFiles,
        compute_exe: PathBuf,
    ) -> Self {
        Self {
            dir,
            metadata,
            keys: Keys::new(None),
            postgres,
            tls,
            compute_exe,
            postgres_paths: Vec::new(),
            owner_extensions: Vec::new(),
            settings: Known::default(),
            store_options: StoreOptions::default(),
            endpoints: Endpoints::default(),
            locks: Locks::default(),
            unborn: Unborn::default(),
            closing: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            bell: Arc::default(),
            started_us: crate::machine::clock::now_us(),
            hidden_servers: Places::new(HIDDEN_SERVERS),
            starts: Places::new(STARTS),
            queue: Queue::default(),
            temporaries: Mutex::default(),
            catalogs: Mutex::default(),
            stores: Stores::default(),
            under_way: UnderWay::default(),
        }
    }

    /// Does `pass` every `pause` until the process ends, except while the server stops its endpoints. `pause` is the
    /// bell's where the reconciler waits, and a sleep elsewhere.
    pub fn again_and_again(&self, pause: impl Fn(), mut pass: impl FnMut()) {
        while !self.ending.load(Ordering::Acquire) {
            if !self.closing.load(Ordering::Acquire) {
                pass();
            }
            pause();
        }
    }
}

/// A branch id out of the metadata or of a generator.
///
/// # Errors
/// 404 for text that cannot be one.
pub fn branch_id(text: &str) -> Result<BranchId> {
    text.parse().map_err(|_| Error::not_found("branch", text))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A server in `dir` with empty metadata, which no request reaches.
    pub fn server(dir: &tempfile::TempDir) -> Server {
        let data_dir = DataDir::open(dir.path()).unwrap();
        let metadata = Metadata::open(&data_dir.metadata()).unwrap();
        let postgres = Postgres::find(&[], None).unwrap();
        let tls = TlsFiles { certificate: PathBuf::new(), key: PathBuf::new() };
        Server::new(data_dir, metadata, postgres, tls, PathBuf::from("/nonexistent"))
    }
}
