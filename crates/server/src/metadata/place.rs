//! Places in lists that are sorted by when their rows were made: where a page ended, and so where the next one starts.
//!
//! What must hold: following the cursor ends, and shows every row that was there all along exactly once, whatever is made or
//! deleted meanwhile. So a cursor is a place in the order and not a row.

use std::fmt;

use crate::error::{Error, Result};

/// The place of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the row was made.
    pub created_us: i64,
    /// Its id, as rows can be made at once.
    pub id: String,
}

impl Place {
    /// The place that a client sent as a cursor; none if it sent an empty one.
    ///
    /// # Errors
    /// 400 for what no page gave.
    pub fn parse(cursor: &str) -> Result<Option<Self>> {
        if cursor.is_empty() {
            return Ok(None);
        }
        let read = || {
            let (created_us, id) = cursor.split_once('.')?;
            Some(Self { created_us: created_us.parse().ok()?, id: id.to_owned() })
        };
        let refused = || Error::malformed(format!("{cursor:?} is not the cursor of a page"));
        read().map(Some).ok_or_else(refused)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_us, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        let place = Place { created_us: 17, id: "ep-a-b-c".to_owned() };
        assert_eq!(Place::parse(&place.to_string()).unwrap(), Some(place));
        assert_eq!(Place::parse("").unwrap(), None);
        for bad in ["ep-a-b-c", "x.ep-a-b-c", "."] {
            assert_eq!(Place::parse(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
