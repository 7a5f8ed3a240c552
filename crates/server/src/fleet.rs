//! The processes of endpoints: how one starts, stops, is looked at, reaches its store and is never forgotten.
//!
//! Not here: which branch one is for and what a user may ask of it (`control`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use compute::TlsFiles;
use parking_lot::Mutex;

use crate::fleet::queue::Queue;
use crate::fleet::runtime::Endpoints;
use crate::fleet::watch::Bell;
use crate::limits::{HIDDEN_SERVERS, STARTS};
use crate::machine::data_dir::DataDir;
use crate::machine::life::Life;
use crate::machine::permits::Permits;
use crate::machine::postgres::Postgres;
use crate::metadata::Metadata;
use crate::metadata::endpoint::EndpointRow;
use crate::operations::Operations;
use crate::storage::Storage;

pub(crate) mod endpoints;
pub(crate) mod flushed;
pub(crate) mod hidden;
pub(crate) mod last_run;
pub(crate) mod page_service;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod quarantine;
pub(crate) mod queue;
pub(crate) mod reconcile;
pub(crate) mod runtime;
pub(crate) mod sessions;
pub(crate) mod spec;
pub(crate) mod watch;

/// What every process of an endpoint is started with.
pub struct Launch {
    /// The program that is started as `PROGRAM compute --spec FILE`.
    pub compute_exe: PathBuf,
    /// What endpoints show their clients.
    pub tls: TlsFiles,
    /// What else of this machine every Postgres may reach.
    pub postgres_paths: Vec<PathBuf>,
    /// Extensions that owners may create, whatever their packages say.
    pub owner_extensions: Vec<String>,
}

/// The endpoints of all projects, and what is known of their processes.
pub struct Fleet {
    /// The data directory.
    pub dir: Arc<DataDir>,
    /// The metadata.
    pub metadata: Arc<Metadata>,
    /// The Postgres installations.
    pub postgres: Arc<Postgres>,
    /// The stores that endpoints read and write.
    pub storage: Arc<Storage>,
    /// What is done now.
    pub operations: Arc<Operations>,
    /// How far the server is in its life.
    pub life: Arc<Life>,
    /// What every process is started with.
    pub launch: Launch,
    /// What is known of each endpoint's process.
    pub endpoints: Endpoints,
    /// Hidden endpoints that run now, by id. They have no row, and their branch is one of the store only.
    pub hidden: Mutex<HashMap<String, EndpointRow>>,
    /// Permits for Postgres servers that nobody is shown.
    pub hidden_servers: Permits,
    /// Permits for starts of endpoints. Who has one waits for no other lock.
    pub starts: Permits,
    /// What the reconciler has to do.
    pub queue: Queue,
    /// Wakes the reconciler.
    pub bell: Arc<Bell>,
}

impl Fleet {
    /// Nothing is known of any endpoint yet.
    pub fn new(
        storage: Arc<Storage>,
        postgres: Arc<Postgres>,
        operations: Arc<Operations>,
        life: Arc<Life>,
        launch: Launch,
    ) -> Self {
        Self {
            dir: Arc::clone(&storage.dir),
            metadata: Arc::clone(&storage.metadata),
            postgres,
            storage,
            operations,
            life,
            launch,
            endpoints: Endpoints::default(),
            hidden: Mutex::default(),
            hidden_servers: Permits::new(HIDDEN_SERVERS),
            starts: Permits::new(STARTS),
            queue: Queue::default(),
            bell: Arc::default(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use store::StoreOptions;

    use super::*;

    /// Endpoints in `dir` with empty metadata.
    pub fn fleet(dir: &tempfile::TempDir) -> Fleet {
        fleet_with(dir, Postgres::find(&[], None).unwrap())
    }

    /// The same with these installations.
    pub fn fleet_with(dir: &tempfile::TempDir, postgres: Postgres) -> Fleet {
        let data_dir = Arc::new(DataDir::open(dir.path()).unwrap());
        let metadata = Arc::new(Metadata::open(&data_dir.metadata()).unwrap());
        let operations = Arc::new(Operations::new(Arc::clone(&metadata)));
        let storage = Arc::new(Storage::new(data_dir, metadata, StoreOptions::default()));
        let launch = Launch {
            compute_exe: PathBuf::from("/nonexistent"),
            tls: TlsFiles { certificate: PathBuf::new(), key: PathBuf::new() },
            postgres_paths: Vec::new(),
            owner_extensions: Vec::new(),
        };
        Fleet::new(storage, Arc::new(postgres), operations, Arc::default(), launch)
    }
}
