//! What names a relation's file: tablespace, database, relation, fork, block.

use std::fmt;

/// `pg_default`: relations under `base/<database>/`.
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// `pg_global`: shared relations under `global/`, with database 0.
pub const GLOBAL_TABLESPACE: u32 = 1664;

/// One relation on disk, Postgres's `RelFileNode` (`RelFileLocator` from 16 on).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelTag {
    /// OID of the tablespace.
    pub tablespace: u32,
    /// OID of the database; 0 for shared relations.
    pub database: u32,
    /// `relfilenode`: the file's number, not the relation's OID.
    pub relation: u32,
}

/// `1663/5/16384`, as `pg_waldump` prints it.
impl fmt::Display for RelTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.relation)
    }
}

impl fmt::Debug for RelTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The files of one relation (`ForkNumber`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Fork {
    /// The data.
    Main = 0,
    /// Free space map. Hardly logged; never served from the store.
    FreeSpace = 1,
    /// Visibility map.
    Visibility = 2,
    /// What an unlogged relation is reset to.
    Init = 3,
}

impl Fork {
    /// Every fork, in file order.
    pub const ALL: [Self; 4] = [Self::Main, Self::FreeSpace, Self::Visibility, Self::Init];

    /// The fork with number `raw`; `None` above 3.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            0 => Some(Self::Main),
            1 => Some(Self::FreeSpace),
            2 => Some(Self::Visibility),
            3 => Some(Self::Init),
            _ => None,
        }
    }

    /// What follows the relation's number in a file name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::FreeSpace => "_fsm",
            Self::Visibility => "_vm",
            Self::Init => "_init",
        }
    }
}

/// One fork of one relation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelFork {
    /// The relation.
    pub rel: RelTag,
    /// Which of its files.
    pub fork: Fork,
}

impl fmt::Display for RelFork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.rel, self.fork.suffix())
    }
}

impl fmt::Debug for RelFork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Index of a block in its fork, counted from 0 over all of the fork's segment files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockNumber(u32);

impl BlockNumber {
    /// The block at index `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The index.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for BlockNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for BlockNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
