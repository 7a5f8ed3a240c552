//! What a branch held at each position of its log, as far as the test wrote it.
//!
//! ```text
//!   LSN ------ after ==== by ---------------- after ==== by ------>
//!              commit 1 is in here            commit 2 is in here
//! ```
//!
//! A commit happened somewhere after the position seen before it was sent and by the one seen when it had returned.
//! Between two such windows the content is known exactly, whatever else was logged there.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::Lsn;

/// Rows of the table that the test writes: a sequence number and a random token each.
pub type Rows = Arc<BTreeMap<i64, i64>>;

/// One commit of the test.
#[derive(Clone)]
pub struct Point {
    /// It is not in what ends here.
    pub after: Option<Lsn>,
    /// It is in what ends here.
    pub by: Option<Lsn>,
    /// No commit of the test is later than it and earlier than this.
    pub time: Option<String>,
    /// Every row after it.
    pub rows: Rows,
}

/// What the store keeps under one name: the data of a branch or of a snapshot.
#[derive(Clone)]
pub struct Data {
    /// What it begins on.
    pub begins_on: Option<usize>,
    /// Where in the log of that.
    pub begin: Option<Lsn>,
    /// The last commit that it inherited, by its place in `points`.
    pub first: usize,
    /// Commits that it inherited, and its own.
    pub points: Vec<Point>,
    /// How far the log was seen to be flushed after the last of them.
    pub head: Option<Lsn>,
    /// Whether an endpoint ever ran on it.
    pub ran: bool,
}

impl Data {
    /// Data that begins with `rows`, of which nothing is known but them.
    pub fn beginning_with(rows: Rows, begins_on: Option<usize>) -> Self {
        let point = Point { after: None, by: None, time: None, rows };
        Self { begins_on, begin: None, first: 0, points: vec![point], head: None, ran: false }
    }

    /// Data that begins here after commit `point`.
    pub fn begun_at(&self, begins_on: usize, point: usize) -> Self {
        let points = self.points[..=point].to_vec();
        Self { begins_on: Some(begins_on), begin: None, first: point, points, head: None, ran: false }
    }

    /// The last commit.
    pub fn last(&self) -> usize {
        self.points.len() - 1
    }

    /// What it holds now.
    pub fn rows(&self) -> &Rows {
        &self.points[self.last()].rows
    }

    /// Notes a commit.
    pub fn push(&mut self, point: Point) {
        self.head = point.by;
        self.points.push(point);
    }

    /// Notes that the log is flushed up to `head` and the last commit is in that.
    pub fn seen(&mut self, head: Lsn) {
        self.head = self.head.max(Some(head));
        let last = self.last();
        let by = &mut self.points[last].by;
        // One that was inherited ends where this begins.
        if last > self.first || self.begin.is_none() {
            *by = by.or(Some(head));
        }
    }

    /// Where a branch of this may begin and what it holds is known: commit, first and last position.
    pub fn places(&self) -> Vec<(usize, Lsn, Lsn)> {
        let mut places = Vec::new();
        for point in self.first..self.points.len() {
            let from = if point == self.first && self.begins_on.is_some() {
                // Asked for by time it begins right after the commit, before the log was seen to be flushed.
                self.begin.or(self.points[point].by)
            } else {
                self.points[point].by
            };
            let upto = match self.points.get(point + 1) {
                Some(next) => next.after,
                None => self.head,
            };
            if let Some(from) = from {
                places.push((point, from, upto.unwrap_or(from).max(from)));
            }
        }
        places
    }

    /// Times since this began, and the last commit before each.
    pub fn times(&self) -> Vec<(usize, String)> {
        let own = self.points.iter().enumerate().skip(self.first + 1);
        own.filter_map(|(at, point)| Some((at, point.time.clone()?))).collect()
    }
}
