//! What differs between major versions of Postgres in the files this crate writes.

/// One major version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Major {
    /// Content of `PG_VERSION`, without its newline.
    pub version: &'static str,
    /// First two bytes of every WAL page (`XLOG_PAGE_MAGIC`).
    pub wal_magic: u16,
    /// `PG_CONTROL_VERSION`.
    pub control_version: u32,
    /// Offset of `pg_control`'s CRC.
    pub control_crc_at: usize,
}

/// PostgreSQL 15.
pub const PG15: Major =
    Major { version: "15", wal_magic: 0xD110, control_version: 1300, control_crc_at: 288 };

/// The major version whose `pg_control` has this version number.
pub fn of_control_version(control_version: u32) -> Option<&'static Major> {
    [&PG15].into_iter().find(|major| major.control_version == control_version)
}
