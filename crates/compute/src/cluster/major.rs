//! What differs between major versions of Postgres in the files this crate writes.
//!
//! Not here: what differs in WAL (`wal`, `redo`).

/// One major version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Major {
    /// Content of `PG_VERSION`, without its newline.
    pub version: &'static str,
    /// First two bytes of every WAL page (`XLOG_PAGE_MAGIC`).
    pub wal_magic: u16,
    /// `PG_CONTROL_VERSION`.
    pub control_version: u32,
    /// `CATALOG_VERSION_NO`.
    pub catalog_version: u32,
    /// Offset of `pg_control`'s CRC.
    pub control_crc_at: usize,
    /// A checkpoint says `wal_level`.
    pub checkpoint_has_wal_level: bool,
    /// The name of a prepared transaction's file begins with its epoch.
    pub two_phase_names_have_epoch: bool,
    /// A role with CREATEROLE may give membership in every role that is not a superuser.
    pub createrole_reaches_all: bool,
    /// Defaults of settings that other majors do not have.
    pub defaults: &'static [(&'static str, &'static str)],
}

impl Major {
    /// Its number.
    pub fn number(&self) -> i32 {
        self.version.parse().unwrap_or_default()
    }
}

/// PostgreSQL 15.
pub const PG15: Major = Major {
    version: "15",
    wal_magic: 0xD110,
    control_version: 1300,
    catalog_version: 202_209_061,
    control_crc_at: 288,
    checkpoint_has_wal_level: false,
    two_phase_names_have_epoch: false,
    createrole_reaches_all: true,
    defaults: &[],
};

const PG16: Major = Major {
    version: "16",
    wal_magic: 0xD113,
    catalog_version: 202_307_071,
    createrole_reaches_all: false,
    ..PG15
};

const PG17: Major = Major {
    version: "17",
    wal_magic: 0xD116,
    control_version: 1700,
    catalog_version: 202_406_281,
    checkpoint_has_wal_level: true,
    two_phase_names_have_epoch: true,
    ..PG16
};

const PG18: Major = Major {
    version: "18",
    wal_magic: 0xD118,
    control_version: 1800,
    catalog_version: 202_506_291,
    control_crc_at: 292,
    // Its workers read for all sessions: three reads that wait for the store would hold up everybody's scans.
    defaults: &[("io_method", "sync")],
    ..PG17
};

/// All that are supported.
pub const ALL: [&Major; 4] = [&PG15, &PG16, &PG17, &PG18];

/// The major version whose `pg_control` has these two version numbers.
pub fn of_control(control_version: u32, catalog_version: u32) -> Option<&'static Major> {
    ALL.into_iter()
        .find(|major| major.control_version == control_version && major.catalog_version == catalog_version)
}
