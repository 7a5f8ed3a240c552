//! Which branches a list holds, in which order, and where its next page starts.
//!
//! Not here: what a cursor is, and what it promises (`metadata::place`).

use api::branch::BranchPagination;
use rusqlite::Connection;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::limits::BRANCHES_OF_PAGE;
use crate::metadata::branch::{self, BranchRow, Listed, SortedBy};
use crate::metadata::cursor::Cursor;

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
    /// Ours: the default branch only.
    default: bool,
}

/// One page.
pub struct Page {
    /// Its rows.
    pub rows: Vec<BranchRow>,
    /// What it is sorted by, and where the next one starts.
    pub pagination: BranchPagination,
}

impl Wanted {
    /// Which those are.
    pub fn listed(&self) -> Listed<'_> {
        Listed { search: &self.search, deleted: self.include_deleted, default: self.default }
    }

    /// The page asked for.
    ///
    /// # Errors
    /// 400 for an order that there is not, and a cursor that no page gave.
    pub fn page(&self, connection: &Connection, project: &str) -> Result<Page> {
        let (sort_by, by, descending) = self.order()?;
        let after = Cursor::parse(&self.cursor)?;
        // Some clients send no limit and expect everything.
        let limit = self.limit.unwrap_or(usize::MAX).clamp(1, BRANCHES_OF_PAGE);
        let place = (after.as_ref(), limit + 1);
        let mut rows = branch::page(connection, project, self.listed(), (by, descending), place)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| by.place(row).to_string());
        let sort_order = if descending { "DESC" } else { "ASC" }.to_owned();
        let pagination = BranchPagination { next, sort_by: sort_by.to_owned(), sort_order };
        Ok(Page { rows, pagination })
    }

    fn order(&self) -> Result<(&'static str, SortedBy, bool)> {
        let (sort_by, by) = match self.sort_by.as_str() {
            "" | "created_at" => ("created_at", SortedBy::Created),
            "name" => ("name", SortedBy::Name),
            "updated_at" => ("updated_at", SortedBy::Updated),
            other => {
                let text = format!("cannot sort by {other:?}\nhint: name, created_at or updated_at");
                return Err(Error::malformed(text));
            }
        };
        match self.sort_order.to_lowercase().as_str() {
            "" | "asc" => Ok((sort_by, by, false)),
            "desc" => Ok((sort_by, by, true)),
            other => Err(Error::malformed(format!("sort_order {other:?} is neither asc nor desc"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::metadata::tests::{branch_row, project_row};
    use crate::metadata::{Metadata, project, work};

    fn row(at: i64, name: &str) -> BranchRow {
        BranchRow { created_us: at, updated_us: 100 - at, ..branch_row(&format!("br-x-y-{at}"), name) }
    }

    /// The metadata of a project that has these branches.
    fn with(dir: &tempfile::TempDir, rows: &[BranchRow]) -> Metadata {
        let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
        let write = metadata.write(|change| {
            project::put(change, &project_row("p", project::READY))?;
            rows.iter().try_for_each(|row| branch::insert(change, row))
        });
        write.unwrap();
        metadata
    }

    fn rows() -> Vec<BranchRow> {
        vec![row(1, "main"), row(2, "dev"), row(3, "\u{c4}Dev2"), row(4, "a")]
    }

    fn names(page: &Page) -> Vec<&str> {
        page.rows.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn pages_end_and_show_each_branch_once_even_if_the_last_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = with(&dir, &rows());
        let page = |wanted: &Wanted| metadata.read(|connection| wanted.page(connection, "p"));
        let wanted = Wanted { limit: Some(2), ..Wanted::default() };
        let first = page(&wanted).unwrap();
        assert_eq!(names(&first), ["main", "dev"]);
        let cursor = first.pagination.next.clone().unwrap();
        metadata.write(|change| branch::remove(change, "br-x-y-2")).unwrap();
        let second = page(&Wanted { limit: Some(2), cursor, ..Wanted::default() }).unwrap();
        assert_eq!(names(&second), ["\u{c4}Dev2", "a"]);
        assert_eq!(second.pagination.next, None);
        let unknown = Wanted { cursor: "x".to_owned(), ..Wanted::default() };
        assert_eq!(page(&unknown).err().unwrap().kind, Kind::Malformed);
    }

    #[test]
    fn the_order_is_the_one_asked_for_and_holds_over_pages() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = with(&dir, &rows());
        let sorted = |by: &str, order: &str| -> Result<String> {
            let mut wanted =
                Wanted { sort_by: by.to_owned(), sort_order: order.to_owned(), ..Wanted::default() };
            let read = |wanted: &Wanted| metadata.read(|connection| wanted.page(connection, "p"));
            let whole = names(&read(&wanted)?).join(" ");
            let mut one_by_one = Vec::new();
            wanted.limit = Some(1);
            loop {
                let page = read(&wanted)?;
                one_by_one.extend(page.rows.into_iter().map(|row| row.name));
                let Some(next) = page.pagination.next else { break };
                wanted.cursor = next;
            }
            assert_eq!(one_by_one.join(" "), whole);
            Ok(whole)
        };
        assert_eq!(sorted("", "").unwrap(), "main dev \u{c4}Dev2 a");
        assert_eq!(sorted("name", "asc").unwrap(), "a dev main \u{c4}Dev2");
        assert_eq!(sorted("updated_at", "").unwrap(), "a \u{c4}Dev2 dev main");
        assert_eq!(sorted("created_at", "DESC").unwrap(), "a \u{c4}Dev2 dev main");
        assert_eq!(sorted("size", "").unwrap_err().kind, Kind::Malformed);
        assert_eq!(sorted("", "up").unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn what_is_searched_for_is_found_whatever_its_case_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = rows();
        rows[0].is_default = true;
        rows[1].deleted_us = Some(1);
        let metadata = with(
            &dir,
            &[rows.clone(), vec![BranchRow { deleted_us: Some(1), purging: true, ..row(5, "dev3") }]]
                .concat(),
        );
        let found = |wanted: &Wanted| {
            let (page, count) = metadata
                .read(|connection| {
                    Ok((wanted.page(connection, "p")?, branch::count(connection, "p", wanted.listed())?))
                })
                .unwrap();
            assert_eq!(i64::try_from(page.rows.len()).unwrap(), count);
            names(&page).join(" ")
        };
        let search = |search: &str, include_deleted: bool| {
            found(&Wanted { search: search.to_owned(), include_deleted, ..Wanted::default() })
        };
        assert_eq!(search("DEV", false), "\u{c4}Dev2");
        assert_eq!(search("DEV", true), "dev \u{c4}Dev2", "purged ones are never listed");
        assert_eq!(search("\u{e4}dev", false), "\u{c4}Dev2");
        assert_eq!(search("BR-X-Y-4", false), "a");
        assert_eq!(search("nothing", true), "");
        assert_eq!(found(&Wanted { default: true, ..Wanted::default() }), "main");
    }

    /// A page, the search for one branch and a count read each row once, and no annotation.
    #[test]
    fn what_a_request_reads_grows_with_branches_once_and_not_with_what_is_noted_on_them() {
        let cost = |branches: i64| {
            let dir = tempfile::tempdir().unwrap();
            let rows: Vec<BranchRow> = (1..=branches).map(|at| row(at, &format!("branch-{at}"))).collect();
            let metadata = with(&dir, &rows);
            let wanted = Wanted { search: "branch-7".to_owned(), limit: Some(1), ..Wanted::default() };
            let default = Wanted { default: true, ..Wanted::default() };
            let read = |wanted: &Wanted| {
                work::steps(|| metadata.read(|connection| wanted.page(connection, "p")).unwrap()).0
            };
            (read(&wanted), read(&default))
        };
        let ((few, one), (many, also_one)) = (cost(200), cost(2000));
        assert!(many < few * 12, "{few} steps for 200 branches, {many} for 2000");
        assert_eq!(one, also_one, "the default branch is found without looking at the others");
    }
}
