//! The predefined roles that run programs and use the server's files, out of reach for whoever may create roles.
//!
//! In PostgreSQL 15 a role with CREATEROLE may make itself a member of every role that is not a superuser
//! (`AddRoleMems` in `user.c`), of `pg_execute_server_program` too. Only a superuser may touch the membership of a role
//! that is one. So the three roles are superusers on 15: they cannot log in, nobody can be made a member of them, and what
//! they may do they could do already. Since 16 membership is given by who has ADMIN OPTION on the role.
//!
//! What must hold
//! - It is so before the first client, whatever data a branch begins with: made by an older scion, or of a moment before.
//! - Data that has it pays for the read of one page beside its start, and for no session. So what is looked at are rows
//!   that every snapshot sees; doubt is settled by SQL.
//!
//! Not here: a new cluster, which `server` makes so.

use types::{BLOCK_SIZE, BlockNumber, Fork, GLOBAL_TABLESPACE, Lsn, RelFork, RelTag, StateAt};
use wal::Major;

use crate::client::{Client, ClientError};
use crate::cluster::major::createrole_reaches_all;
use crate::sql::pg_client::PgError;
use crate::sql::session::Own;

/// `pg_read_server_files`, `pg_write_server_files` and `pg_execute_server_program` (`catalog/pg_authid.dat`).
const ROLES: [u32; 3] = [4569, 4570, 4571];
/// The number of `pg_authid`, and of its file until it is rewritten whole.
const PG_AUTHID: u32 = 1260;
/// Pages of it beyond which SQL is asked at once; the predefined roles are on the first.
const BLOCKS_MAX: u32 = 8;
/// What makes the roles superusers. The old rows go at once, so that the pages show that it is done.
const GUARD: [&str; 2] = [
    "UPDATE pg_catalog.pg_authid SET rolsuper = true WHERE oid IN (4569, 4570, 4571) AND NOT rolsuper",
    "VACUUM (FREEZE) pg_catalog.pg_authid",
];

/// What a superuser has to run in a new cluster of this major, one statement at a time, before anybody else may make
/// roles in it.
pub fn guard_of_roles(version: &str) -> &'static [&'static str] {
    let major = version.parse().ok().and_then(wal::major::of);
    if major.is_some_and(|major| !createrole_reaches_all(major)) { &[] } else { &GUARD }
}

/// Whether SQL has to look: false only if nobody can be made a member of the roles in the state at `lsn`.
///
/// # Errors
/// Those of reading pages.
pub fn is_exposed(client: &Client, major: &Major, state: &StateAt, lsn: Lsn) -> Result<bool, ClientError> {
    if !createrole_reaches_all(major) {
        return Ok(false);
    }
    let tag = RelTag { tablespace: GLOBAL_TABLESPACE, database: 0, relation: PG_AUTHID };
    let file = RelFork { rel: tag, fork: Fork::Main };
    // One that was rewritten has another number.
    let Some((_, blocks)) = state.relations.iter().find(|(rel, _)| *rel == file) else { return Ok(true) };
    if *blocks > BLOCKS_MAX {
        return Ok(true);
    }
    let mut pages = vec![0; *blocks as usize * BLOCK_SIZE];
    client.read_pages(lsn, file, BlockNumber::new(0), &mut pages)?;
    Ok(!are_guarded(&pages))
}

/// Whether each of the roles has one row on these pages, which every snapshot sees, and is a superuser by it.
pub(crate) fn are_guarded(pages: &[u8]) -> bool {
    let rows: Vec<Row> = pages.chunks_exact(BLOCK_SIZE).flat_map(rows_on).collect();
    ROLES.iter().all(|role| {
        let mut of_role = rows.iter().filter(|row| row.role == *role);
        of_role.next().is_some_and(|row| row.superuser && row.settled) && of_role.next().is_none()
    })
}

/// A version of a row of `pg_authid`.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    role: u32,
    superuser: bool,
    /// Whether it is there for everybody: written by a transaction that all saw end, and not deleted.
    settled: bool,
}

/// Rows on one page (`storage/bufpage.h`, `access/htup_details.h`); none of one that is damaged.
fn rows_on(page: &[u8]) -> Vec<Row> {
    const HEADER: usize = 24;
    const NORMAL: u32 = 1;
    let u16_at = |at: usize| Some(u16::from_le_bytes(page.get(at..at + 2)?.try_into().ok()?));
    let lower = u16_at(12).map_or(HEADER, usize::from).clamp(HEADER, BLOCK_SIZE);
    let pointers = page.get(HEADER..lower).unwrap_or_default().chunks_exact(4);
    let tuples = pointers.filter_map(|bytes| {
        let pointer = u32::from_le_bytes(bytes.try_into().ok()?);
        let (at, len) = ((pointer & 0x7FFF) as usize, (pointer >> 17) as usize);
        ((pointer >> 15) & 3 == NORMAL).then(|| page.get(at..at + len)).flatten()
    });
    tuples.filter_map(row).collect()
}

fn row(tuple: &[u8]) -> Option<Row> {
    const XMIN_FROZEN: u16 = 0x0300;
    const XMAX_INVALID: u16 = 0x0800;
    const NAME_BYTES: usize = 64;
    let xmax = u32::from_le_bytes(tuple.get(4..8)?.try_into().ok()?);
    let mask = u16::from_le_bytes(tuple.get(20..22)?.try_into().ok()?);
    let data = tuple.get(usize::from(*tuple.get(22)?)..)?;
    let role = u32::from_le_bytes(data.get(..4)?.try_into().ok()?);
    let frozen = mask & XMIN_FROZEN == XMIN_FROZEN;
    let kept = xmax == 0 || mask & XMAX_INVALID != 0;
    Some(Row { role, superuser: *data.get(4 + NAME_BYTES)? == 1, settled: frozen && kept })
}

/// Guards the roles of a started server and takes them from every member that is not a superuser, who would be one by
/// them; those members, with the role that each had.
///
/// # Errors
/// Those of its session; doing it again is harmless.
pub fn guard(own: &Own<'_>) -> Result<Vec<(String, String)>, PgError> {
    let mut pg = own.connect_any()?;
    // One message is one transaction.
    let members = "DELETE FROM pg_catalog.pg_auth_members m USING pg_catalog.pg_authid r, pg_catalog.pg_authid member \
                   WHERE m.roleid = r.oid AND m.member = member.oid AND r.oid IN (4569, 4570, 4571) \
                   AND NOT member.rolsuper RETURNING r.rolname, member.rolname";
    let [mark, settle] = GUARD;
    let rows = pg.command(&format!("{mark}; {members}"))?;
    pg.command(settle)?;
    let names = |row| <[Option<String>; 2]>::try_from(row).ok();
    Ok(rows.into_iter().filter_map(names).filter_map(|[role, member]| Some((role?, member?))).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A page with these rows: role, whether superuser, xmax, flags.
    pub(crate) fn page(rows: &[(u32, bool, u32, u16)]) -> Vec<u8> {
        let mut page = vec![0; BLOCK_SIZE];
        let mut at = BLOCK_SIZE;
        for (slot, (role, superuser, xmax, flags)) in rows.iter().enumerate() {
            let mut tuple = vec![0; 104];
            tuple[4..8].copy_from_slice(&xmax.to_le_bytes());
            tuple[20..22].copy_from_slice(&flags.to_le_bytes());
            tuple[22] = 24;
            tuple[24..28].copy_from_slice(&role.to_le_bytes());
            tuple[92] = u8::from(*superuser);
            at -= tuple.len();
            page[at..at + tuple.len()].copy_from_slice(&tuple);
            let pointer = at as u32 | 1 << 15 | (tuple.len() as u32) << 17;
            page[24 + slot * 4..28 + slot * 4].copy_from_slice(&pointer.to_le_bytes());
        }
        page[12..14].copy_from_slice(&(24 + rows.len() as u16 * 4).to_le_bytes());
        page
    }

    #[test]
    fn only_rows_that_everybody_sees_count_and_all_of_them() {
        const FROZEN: u16 = 0x0B00;
        let marked = |role| (role, true, 0, FROZEN);
        let all = ROLES.map(marked);
        assert!(are_guarded(&page(&all)));
        assert!(are_guarded(&[page(&[(10, true, 0, FROZEN), all[0]]), page(&all[1..])].concat()));
        assert!(!are_guarded(&page(&all[1..])), "a role is missing");
        assert!(!are_guarded(&page(&[all[0], all[1], (4571, false, 0, FROZEN)])));
        assert!(
            !are_guarded(&page(&[all[0], all[1], (4571, true, 0, 0x0800)])),
            "its writer may have failed"
        );
        assert!(!are_guarded(&page(&[all[0], all[1], (4571, true, 7, 0x0300)])), "it may be deleted");
        let two = [all[0], all[1], all[2], (4571, false, 7, 0x0300)];
        assert!(!are_guarded(&page(&two)), "an old version is there");
        assert!(!are_guarded(&[]) && !are_guarded(&vec![0xFF; BLOCK_SIZE]));
    }
}
