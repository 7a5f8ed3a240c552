//! Names of projects, branches, endpoints, Postgres timelines and transactions.

use std::fmt;
use std::str::FromStr;

/// A 32-bit transaction id, as WAL records carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Xid(u32);

impl Xid {
    /// The first id given to an ordinary transaction (`FirstNormalTransactionId`).
    pub const FIRST_NORMAL: Self = Self(3);

    /// The transaction id `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The id as Postgres stores it.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// True unless the id is invalid, bootstrap or frozen.
    pub const fn is_normal(self) -> bool {
        self.0 >= 3
    }

    /// Postgres's circular order (`TransactionIdPrecedes`).
    pub const fn precedes(self, other: Self) -> bool {
        if !self.is_normal() || !other.is_normal() {
            return self.0 < other.0;
        }
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
}

/// A Postgres timeline id. Each cold start of an endpoint begins a new one; it never names a branch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimelineId(u32);

impl TimelineId {
    /// The timeline `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The number Postgres prints as eight hex digits in WAL file names.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The text cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    kind: &'static str,
    text: String,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a {} id: 1 to 60 of a-z, 0-9 and -", self.text, self.kind)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! text_id {
    ($name:ident, $kind:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(String);

        impl $name {
            /// The id as it is written in URLs and file names.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                if (1..=60).contains(&text.len()) && text.bytes().all(plain) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId { kind: $kind, text: text.to_owned() })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(ProjectId, "project", "A project: one system identifier, one major version, a tree of branches.");
text_id!(BranchId, "branch", "A branch: (parent, LSN) and what was written since.");
text_id!(EndpointId, "endpoint", "The compute of a branch.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xids_are_ordered_on_a_circle() {
        assert!(Xid::new(u32::MAX - 10).precedes(Xid::new(5)));
        assert!(!Xid::new(5).precedes(Xid::new(u32::MAX - 10)));
        assert!(Xid::new(2).precedes(Xid::new(u32::MAX)));
    }

    #[test]
    fn an_id_cannot_leave_its_directory() {
        for text in ["", "..", "a/b", "A", "a b", &"x".repeat(61)] {
            assert!(text.parse::<BranchId>().is_err(), "{text}");
        }
        assert_eq!("br-calm-river-8q2k".parse::<BranchId>().unwrap().as_str(), "br-calm-river-8q2k");
    }
}
