//! Places in sorted lists: where a page ended, and so where the next one starts.
//!
//! What must hold: following the cursor ends, and shows every row that was there all along exactly once, whatever is made or
//! deleted meanwhile. So a cursor is a place in the order and not a row.

use std::fmt;

use crate::error::{Error, Result};

/// The place of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// What the list is sorted by.
    pub key: String,
    /// Its id, as rows can be alike in that.
    pub id: String,
}

impl Cursor {
    /// The place of a row in a list that is sorted by a time. To SQLite the key is `printf('%020d', at_us)`.
    pub fn at(at_us: i64, id: &str) -> Self {
        Self { key: format!("{at_us:020}"), id: id.to_owned() }
    }

    /// The place that a client sent as a cursor; none if it sent an empty one.
    ///
    /// # Errors
    /// `Malformed` for what no page gave.
    pub fn parse(cursor: &str) -> Result<Option<Self>> {
        if cursor.is_empty() {
            return Ok(None);
        }
        let read = || {
            let (key, id) = cursor.split_once('.')?;
            Some(Self { key: String::from_utf8(hex::decode(key).ok()?).ok()?, id: id.to_owned() })
        };
        let refused = || Error::malformed(format!("{cursor:?} is not the cursor of a page"));
        read().map(Some).ok_or_else(refused)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", hex::encode(&self.key), self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        for place in
            [Cursor::at(17, "ep-a-b-c"), Cursor { key: "a.b \u{fc}".to_owned(), id: "br-1".to_owned() }]
        {
            assert_eq!(Cursor::parse(&place.to_string()).unwrap(), Some(place));
        }
        assert!(Cursor::at(9, "b") < Cursor::at(10, "a") && Cursor::at(9, "a") < Cursor::at(9, "b"));
        assert_eq!(Cursor::parse("").unwrap(), None);
        for bad in ["ep-a-b-c", "x.ep-a-b-c", "ff.ep-a-b-c"] {
            assert_eq!(Cursor::parse(bad).unwrap_err().kind, Kind::Malformed, "{bad}");
        }
    }
}
