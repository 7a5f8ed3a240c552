//! Which branches a list holds, in which order, and where its next page starts.
//!
//! Not here: what a cursor is, and what it promises (`metadata::place`).

use api::branch::BranchPagination;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::metadata::branch::BranchRow;
use crate::metadata::place::Place;

/// The most branches of one page.
const LIMIT_MAX: usize = 10_000;

/// Which branches of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    search: String,
    sort_by: String,
    sort_order: String,
    limit: Option<usize>,
    cursor: String,
    include_deleted: bool,
}

/// One page.
pub struct Page {
    /// Its rows.
    pub rows: Vec<BranchRow>,
    /// What it is sorted by, and where the next one starts.
    pub pagination: BranchPagination,
}

impl Wanted {
    /// The rows that match, in the order they came.
    pub fn matching(&self, mut rows: Vec<BranchRow>) -> Vec<BranchRow> {
        let search = self.search.to_lowercase();
        let there = |row: &BranchRow| row.deleted_us.is_none() || (self.include_deleted && !row.purging);
        rows.retain(|row| {
            there(row) && (row.name.to_lowercase().contains(&search) || row.id.contains(&search))
        });
        rows
    }

    /// The page asked for. `rows` are all branches.
    ///
    /// # Errors
    /// 400 for an order that there is not, and a cursor that no page gave.
    pub fn page(&self, rows: Vec<BranchRow>) -> Result<Page> {
        let (sort_by, descending) = self.order()?;
        let place = |row: &BranchRow| match sort_by {
            "name" => Place { key: row.name.to_lowercase(), id: row.id.clone() },
            "updated_at" => Place::at(row.updated_us, &row.id),
            _ => Place::at(row.created_us, &row.id),
        };
        let mut rows: Vec<_> = self.matching(rows).into_iter().map(|row| (place(&row), row)).collect();
        rows.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
        if let Some(after) = Place::parse(&self.cursor)? {
            rows.retain(|(place, _)| if descending { *place < after } else { *place > after });
        }
        // Some clients send no limit and expect everything.
        let limit = self.limit.unwrap_or(usize::MAX).clamp(1, LIMIT_MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(place, _)| place.to_string());
        Ok(Page {
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            pagination: BranchPagination {
                next,
                sort_by: sort_by.to_owned(),
                sort_order: if descending { "DESC" } else { "ASC" }.to_owned(),
            },
        })
    }

    fn order(&self) -> Result<(&str, bool)> {
        let sort_by = match self.sort_by.as_str() {
            "" => "created_at",
            known @ ("name" | "created_at" | "updated_at") => known,
            other => {
                let text = format!("cannot sort by {other:?}\nhint: name, created_at or updated_at");
                return Err(Error::malformed(text));
            }
        };
        match self.sort_order.to_lowercase().as_str() {
            "" | "asc" => Ok((sort_by, false)),
            "desc" => Ok((sort_by, true)),
            other => Err(Error::malformed(format!("sort_order {other:?} is neither asc nor desc"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<BranchRow> {
        let row = |at: i64, name: &str| BranchRow {
            created_us: at,
            updated_us: 100 - at,
            ..crate::metadata::tests::branch_row(&format!("br-x-y-{at}"), name)
        };
        vec![row(1, "main"), row(2, "dev"), row(3, "Dev2"), row(4, "a")]
    }

    fn names(page: &Page) -> Vec<&str> {
        page.rows.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn pages_end_and_show_each_branch_once_even_if_the_last_one_goes() {
        let wanted = Wanted { limit: Some(2), ..Wanted::default() };
        let page = wanted.page(rows()).unwrap();
        assert_eq!(names(&page), ["main", "dev"]);
        let cursor = page.pagination.next.clone().unwrap();
        let mut left = rows();
        left.retain(|row| row.name != "dev");
        let page = Wanted { limit: Some(2), cursor, ..Wanted::default() }.page(left).unwrap();
        assert_eq!(names(&page), ["Dev2", "a"]);
        assert_eq!(page.pagination.next, None);
        assert_eq!(
            Wanted { cursor: "x".to_owned(), ..Wanted::default() }.page(rows()).err().unwrap().status,
            400
        );
    }

    #[test]
    fn the_order_is_the_one_asked_for() {
        let sorted = |by: &str, order: &str| {
            let wanted = Wanted { sort_by: by.to_owned(), sort_order: order.to_owned(), ..Wanted::default() };
            wanted.page(rows()).map(|page| names(&page).join(" "))
        };
        assert_eq!(sorted("", "").unwrap(), "main dev Dev2 a");
        assert_eq!(sorted("name", "asc").unwrap(), "a dev Dev2 main");
        assert_eq!(sorted("updated_at", "").unwrap(), "a Dev2 dev main");
        assert_eq!(sorted("created_at", "DESC").unwrap(), "a Dev2 dev main");
        assert_eq!(sorted("size", "").unwrap_err().status, 400);
        assert_eq!(sorted("", "up").unwrap_err().status, 400);
    }

    #[test]
    fn deleted_branches_are_listed_if_asked_for_and_purged_ones_never() {
        let mut rows = rows();
        rows[1].deleted_us = Some(1);
        rows[2].deleted_us = Some(1);
        rows[2].purging = true;
        let search = |include_deleted: bool| {
            let wanted = Wanted { search: "DEV".to_owned(), include_deleted, ..Wanted::default() };
            wanted.matching(rows.clone()).len()
        };
        assert_eq!((search(false), search(true)), (0, 1));
    }
}
