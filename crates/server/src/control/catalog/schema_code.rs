//! Code of a schema's owner that would run as superuser while its script is restored.
//!
//! A script of `pg_dumpall` is restored by a superuser, and hardly any statement of one evaluates what a user wrote: bodies
//! of functions are not checked, tables are empty, indexes are made as their owner. What does, in PostgreSQL 15 to 18:
//!
//! | statement                   | evaluates, as who runs it                                                  |
//! |-----------------------------|----------------------------------------------------------------------------|
//! | `CREATE AGGREGATE`          | the initial condition: constraints of domains (`AggregateCreate`)          |
//! | `CREATE TABLE PARTITION OF` | bounds: constraints of domains (`transformPartitionBoundValue`)            |
//! | `ATTACH PARTITION`          | constants in the key and in CHECK constraints (`eval_const_expressions`)   |
//!
//! What must hold: a schema with one of these that is of a user's own functions or types is refused, before its script is made.
//! Types and functions of extensions are not a user's.

use crate::error::{Error, Result};
use crate::fleet::hidden::Hidden;

/// Finds one of each kind. The first number of what users make is 16384 (`FirstNormalObjectId`).
const FIND: &str = "
    WITH own AS (
        SELECT d.classid, d.objid FROM pg_depend d
        WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
        AND d.refobjid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.refclassid
            AND e.objid = d.refobjid AND e.deptype = 'e')
    )
    SELECT 'the initial condition of aggregate ' || a.aggfnoid::regprocedure FROM pg_aggregate a
        WHERE a.aggfnoid >= 16384 AND (a.agginitval IS NOT NULL AND a.aggtranstype >= 16384
            OR a.aggminitval IS NOT NULL AND a.aggmtranstype >= 16384)
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = a.aggfnoid
            AND e.deptype = 'e')
    UNION ALL
    SELECT 'the partition key of table ' || p.partrelid::regclass FROM pg_partitioned_table p
        WHERE EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = p.partrelid
            AND a.attnum = ANY (p.partattrs::int2[]) AND t.oid >= 16384 AND t.typtype <> 'e')
        OR p.partexprs IS NOT NULL AND EXISTS (SELECT FROM own WHERE own.classid = 'pg_class'::regclass
            AND own.objid = p.partrelid)
    UNION ALL
    SELECT 'constraint ' || k.conname || ' of partitioned table ' || c.oid::regclass
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.contype = 'c' AND (c.relkind = 'p' OR c.relispartition)
        AND EXISTS (SELECT FROM own WHERE own.classid = 'pg_constraint'::regclass AND own.objid = k.oid)
    LIMIT 1";

/// Refuses a schema whose restore would run code of its owner as superuser.
///
/// # Errors
/// `Refused` that names what would; those of SQL.
pub fn refuse_code(of: &Hidden<'_>) -> Result<()> {
    let list = "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY oid";
    let databases = of.connect_any()?.query(list, &[])?;
    for database in databases {
        let database: String = database.get(0);
        let found = of.connect(&database)?.query_opt(FIND, &[])?;
        if let Some(row) = found {
            let what: String = row.get(0);
            let text = format!(
                "the schema of database {database} cannot be copied: {what} is of a type or function of its own"
            );
            let hint = "hint: a copy would run that as superuser; make the branch with its data (`parent-data`) instead";
            return Err(Error::refused("SCHEMA_RUNS_CODE", format!("{text}\n{hint}")));
        }
    }
    Ok(())
}
