//! What a record changes, by key.

use types::{BlockNumber, RelFork, RelTag, SlruKind};

/// How a record makes a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockChange {
    /// Replay rebuilds the page from the record alone: an applicable image, or `BKPBLOCK_WILL_INIT`.
    Rebuilds,
    /// Replay changes what the page held before.
    Modifies,
}

/// One effect of a record on one key. The key's new version is at the record's end LSN.
///
/// A record touches one key at most once, however many of its block references map to it (both heap pages of an
/// UPDATE may share a visibility map page). Blocks of the free space map are never reported: it is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// A relation block: apply the record to it. Creates and extends the fork as needed.
    Block {
        /// The fork.
        rel: RelFork,
        /// The block.
        block: BlockNumber,
        /// Whether the earlier content matters.
        how: BlockChange,
    },
    /// A fork exists from now on, empty unless it existed (`XLOG_SMGR_CREATE`).
    ForkCreated(RelFork),
    /// A fork has exactly this many blocks from now on, if it existed and was longer (`XLOG_SMGR_TRUNCATE`).
    ForkTruncated {
        /// The fork.
        rel: RelFork,
        /// Its new length.
        blocks: u32,
    },
    /// All forks of a relation are gone.
    RelDropped(RelTag),
    /// A database's directory exists in a tablespace.
    DatabaseCreated {
        /// The new database's tablespace.
        tablespace: u32,
        /// The new database.
        database: u32,
        /// For a copy by file: (tablespace, database) all of whose relations and map the new one has at this LSN.
        copy_of: Option<(u32, u32)>,
    },
    /// A database's directory in a tablespace is gone with all relations in it.
    DatabaseDropped {
        /// The tablespace.
        tablespace: u32,
        /// The database.
        database: u32,
    },
    /// A tablespace exists.
    TablespaceCreated(u32),
    /// A tablespace is gone.
    TablespaceDropped(u32),
    /// A relation map's new content: `pg_filenode.map`, whole.
    RelMap {
        /// Its tablespace.
        tablespace: u32,
        /// Its database; 0 for the shared map.
        database: u32,
        /// The file's bytes.
        bytes: &'a [u8],
    },
    /// A page of an SLRU: apply the record to it.
    Slru {
        /// Which SLRU.
        kind: SlruKind,
        /// Page number, counted over all segments.
        page: u32,
        /// Whether the earlier content matters.
        how: BlockChange,
    },
    /// Segments of an SLRU that lie wholly before the one that holds page `cutoff` are gone (`SimpleLruTruncate`).
    SlruTruncated {
        /// Which SLRU.
        kind: SlruKind,
        /// First page that is still needed.
        cutoff: u32,
    },
    /// A transaction was prepared: what its two-phase file holds, without the CRC.
    Prepared {
        /// The transaction, without its epoch.
        xid: u64,
        /// The file's bytes.
        bytes: &'a [u8],
    },
    /// A prepared transaction was committed or rolled back.
    PreparedDone {
        /// The transaction.
        xid: u64,
    },
    /// A replication origin's changes were applied up to a position (`replorigin_advance`).
    OriginAdvanced {
        /// The origin.
        origin: u16,
        /// Position in the origin's log.
        upto: u64,
        /// Whether a lower position than before counts too.
        backward: bool,
    },
    /// A replication origin was dropped.
    OriginDropped {
        /// The origin.
        origin: u16,
    },
    /// The record is of an extension's resource manager; what it changes besides the blocks it names is not known.
    Extension {
        /// The extension's resource manager.
        rmgr: u8,
    },
    /// A resource manager of an extension touched this block; its content is unknown from here on.
    Unreadable {
        /// The fork.
        rel: RelFork,
        /// The block.
        block: BlockNumber,
        /// The extension's resource manager.
        rmgr: u8,
    },
}
