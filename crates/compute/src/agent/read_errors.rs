//! The page reads that the store refused: Postgres only tells its client of an I/O error, so somebody has to keep the rest.

use crate::control::FailedReads;
use crate::limits::READ_ERRORS_KEPT;

/// The first so many that differ, and how many reads more there were.
#[derive(Default)]
pub(super) struct ReadErrors {
    texts: Vec<String>,
    more: u64,
    count: u64,
}

impl ReadErrors {
    /// Keeps what is new.
    pub(super) fn note(&mut self, text: &str) {
        self.count += 1;
        if self.texts.iter().any(|known| known == text) {
            return;
        }
        if self.texts.len() < READ_ERRORS_KEPT {
            self.texts.push(text.to_owned());
        } else {
            self.more += 1;
        }
    }

    /// What is kept, and a line on what is not.
    pub(super) fn list(&self) -> FailedReads {
        let more = (self.more > 0).then(|| format!("{} more reads failed", self.more));
        FailedReads { count: self.count, texts: self.texts.iter().cloned().chain(more).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_listed_once_and_the_list_is_bounded() {
        let mut errors = ReadErrors::default();
        for n in 0..READ_ERRORS_KEPT + 5 {
            errors.note("the same");
            errors.note(&format!("block {n}"));
        }
        let FailedReads { count, texts: list } = errors.list();
        assert_eq!(list.len(), READ_ERRORS_KEPT + 1);
        assert_eq!((list[0].as_str(), list[1].as_str()), ("the same", "block 0"));
        assert_eq!(list.last().unwrap(), "6 more reads failed");
        assert_eq!(count, 2 * (READ_ERRORS_KEPT as u64 + 5));
    }
}
