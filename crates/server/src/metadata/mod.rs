//! What the server knows beside the stores: names, wishes, passwords, what was done. SQLite.
//!
//! What must hold
//! - A row is written after the thing it names exists, or says that it does not exist yet (`creating`, `gone`).
//!   After a crash between the two, `recover` finishes or undoes.
//! - One transaction per request on the path of creating a branch: one flush to disk.
//! - The file holds passwords: 0600.
//!
//! Not here: positions and sizes, which the store knows better; whether an endpoint runs, which its process knows.

/// A row as a struct whose fields are the columns of its table, the key first: so a column is named here and in the
/// migration that makes it, and nowhere else.
macro_rules! row {
    (
        $(#[$meta:meta])*
        pub struct $Row:ident in $table:literal {
            $(#[$key_doc:meta])* pub $key:ident: $key_type:ty,
            $(#[$first_doc:meta])* pub $first:ident: $first_type:ty,
            $($(#[$doc:meta])* pub $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$meta])*
        pub struct $Row {
            $(#[$key_doc])* pub $key: $key_type,
            $(#[$first_doc])* pub $first: $first_type,
            $($(#[$doc])* pub $field: $type,)+
        }

        impl super::Columns for $Row {
            const COLUMNS: &'static str =
                concat!(stringify!($key), ", ", stringify!($first), $(", ", stringify!($field)),+);
            const INSERT: &'static str = concat!(
                "INSERT INTO ", $table, " (", stringify!($key), ", ", stringify!($first),
                $(", ", stringify!($field),)+ ") VALUES (:", stringify!($key), ", :", stringify!($first),
                $(", :", stringify!($field),)+ ")"
            );
            const UPDATE: &'static str = concat!(
                "UPDATE ", $table, " SET ", stringify!($first), " = :", stringify!($first),
                $(", ", stringify!($field), " = :", stringify!($field),)+
                " WHERE ", stringify!($key), " = :", stringify!($key)
            );
            const PUT: &'static str = concat!(
                "INSERT INTO ", $table, " (", stringify!($key), ", ", stringify!($first),
                $(", ", stringify!($field),)+ ") VALUES (:", stringify!($key), ", :", stringify!($first),
                $(", :", stringify!($field),)+ ") ON CONFLICT (", stringify!($key), ") DO UPDATE SET ",
                stringify!($first), " = excluded.", stringify!($first),
                $(", ", stringify!($field), " = excluded.", stringify!($field)),+
            );

            fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
                let mut columns = 0..;
                let mut next = || columns.next().unwrap_or_default();
                Ok(Self {
                    $key: row.get(next())?,
                    $first: row.get(next())?,
                    $($field: row.get(next())?,)+
                })
            }

            fn values(&self) -> Vec<(&'static str, &dyn rusqlite::ToSql)> {
                vec![
                    (concat!(":", stringify!($key)), &self.$key),
                    (concat!(":", stringify!($first)), &self.$first),
                    $((concat!(":", stringify!($field)), &self.$field),)+
                ]
            }
        }
    };
}

/// What [`row`] makes of the columns of a table.
trait Columns: Sized {
    /// Their names, as a list for `SELECT`.
    const COLUMNS: &'static str;
    /// Writes a new row.
    const INSERT: &'static str;
    /// Writes a row as it is now.
    const UPDATE: &'static str;
    /// Writes a row, new or as it is now.
    const PUT: &'static str;

    /// A row of what `SELECT` with `COLUMNS` finds.
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self>;

    /// The values of a row, by the names that the statements have for them.
    fn values(&self) -> Vec<(&'static str, &dyn rusqlite::ToSql)>;
}

pub mod api_key;
pub mod branch;
pub mod catalog;
pub mod cursor;
pub mod endpoint;
pub mod idempotency;
pub mod operation;
pub mod password;
pub mod project;
pub mod quarantine;
pub mod role;
pub mod schedule;
pub mod secret;
pub mod snapshot;

use std::cell::Cell;
use std::path::Path;

use parking_lot::Mutex;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, Transaction};

use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::limits::METADATA_WITHIN;

/// Every change of the schema, oldest first; `user_version` counts those applied.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE project (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        pg_version INTEGER NOT NULL,
        history_retention_s INTEGER NOT NULL,
        settings TEXT NOT NULL,
        default_endpoint_settings TEXT NOT NULL,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE branch (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        parent_id TEXT REFERENCES branch (id),
        parent_lsn TEXT,
        parent_time_us INTEGER,
        requested_lsn TEXT,
        is_default INTEGER NOT NULL,
        protected INTEGER NOT NULL,
        deleting INTEGER NOT NULL,
        annotation TEXT,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        UNIQUE (project_id, name)
    ) STRICT;
    CREATE INDEX branch_parent ON branch (parent_id);
    CREATE TABLE endpoint (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        branch_id TEXT NOT NULL REFERENCES branch (id) ON DELETE CASCADE,
        port INTEGER NOT NULL UNIQUE,
        desired TEXT NOT NULL,
        options TEXT NOT NULL,
        started_us INTEGER,
        suspended_us INTEGER,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX endpoint_branch ON endpoint (branch_id);
    CREATE TABLE role (
        branch_id TEXT NOT NULL REFERENCES branch (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        password TEXT NOT NULL,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        PRIMARY KEY (branch_id, name)
    ) STRICT;
    CREATE TABLE database (
        id INTEGER PRIMARY KEY,
        branch_id TEXT NOT NULL REFERENCES branch (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        owner_name TEXT NOT NULL,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        UNIQUE (branch_id, name)
    ) STRICT;
    CREATE TABLE operation (
        sequence INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        branch_id TEXT,
        endpoint_id TEXT,
        action TEXT NOT NULL,
        status TEXT NOT NULL,
        error TEXT,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX operation_project ON operation (project_id, sequence);
",
    "
    CREATE TABLE new_role (
        version INTEGER PRIMARY KEY,
        branch_id TEXT NOT NULL REFERENCES branch (id) ON DELETE CASCADE,
        oid INTEGER,
        name TEXT NOT NULL,
        login INTEGER NOT NULL,
        password TEXT,
        verifier TEXT,
        from_lsn INTEGER NOT NULL,
        until_lsn INTEGER,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL
    ) STRICT;
    INSERT INTO new_role (branch_id, name, login, password, from_lsn, created_us, updated_us)
        SELECT branch_id, name, 1, password, 0, created_us, updated_us FROM role ORDER BY rowid;
    DROP TABLE role;
    ALTER TABLE new_role RENAME TO role;
    CREATE INDEX role_branch ON role (branch_id);
    CREATE INDEX role_verifier ON role (verifier);
    CREATE TABLE role_pending (
        branch_id TEXT NOT NULL REFERENCES branch (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        password TEXT NOT NULL,
        verifier TEXT NOT NULL,
        PRIMARY KEY (branch_id, name)
    ) STRICT;
    CREATE TABLE new_database (
        version INTEGER PRIMARY KEY,
        id INTEGER NOT NULL,
        branch_id TEXT NOT NULL REFERENCES branch (id) ON DELETE CASCADE,
        oid INTEGER,
        name TEXT NOT NULL,
        owner_name TEXT NOT NULL,
        from_lsn INTEGER NOT NULL,
        until_lsn INTEGER,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL
    ) STRICT;
    INSERT INTO new_database (id, branch_id, name, owner_name, from_lsn, created_us, updated_us)
        SELECT id, branch_id, name, owner_name, 0, created_us, updated_us FROM database ORDER BY id;
    DROP TABLE database;
    ALTER TABLE new_database RENAME TO database;
    CREATE INDEX database_branch ON database (branch_id);
",
    // What the store calls a branch changes when it is restored; a deleted one keeps its row and lets its name go.
    "
    CREATE TABLE branch_2 (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        store_id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        parent_id TEXT REFERENCES branch (id),
        parent_lsn TEXT,
        parent_time_us INTEGER,
        requested_lsn TEXT,
        is_default INTEGER NOT NULL,
        protected INTEGER NOT NULL,
        purging INTEGER NOT NULL,
        annotation TEXT,
        expires_us INTEGER,
        ttl_s INTEGER,
        last_reset_us INTEGER,
        deleted_us INTEGER,
        expired INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL
    ) STRICT;
    INSERT INTO branch_2 SELECT id, project_id, id, name, parent_id, parent_lsn, parent_time_us, requested_lsn,
        is_default, protected, deleting, annotation, NULL, NULL, NULL, iif(deleting, updated_us, NULL), 0,
        created_us, updated_us FROM branch ORDER BY rowid;
    DROP TABLE branch;
    ALTER TABLE branch_2 RENAME TO branch;
    CREATE INDEX branch_parent ON branch (parent_id);
    CREATE UNIQUE INDEX branch_name ON branch (project_id, name) WHERE deleted_us IS NULL;
    CREATE TABLE role_kept (
        branch_id TEXT NOT NULL REFERENCES branch (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        verifier TEXT NOT NULL,
        PRIMARY KEY (branch_id, name)
    ) STRICT;
    CREATE TABLE idempotency (
        project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        request TEXT NOT NULL,
        branch_id TEXT NOT NULL,
        created_us INTEGER NOT NULL,
        PRIMARY KEY (project_id, key)
    ) STRICT;
",
    "
    CREATE TABLE api_key (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        hash BLOB NOT NULL UNIQUE,
        project_id TEXT REFERENCES project (id) ON DELETE CASCADE,
        created_us INTEGER NOT NULL,
        used_us INTEGER,
        used_from TEXT NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE quarantine (
        branch_id TEXT PRIMARY KEY REFERENCES branch (id) ON DELETE CASCADE,
        settled_us INTEGER NOT NULL
    ) STRICT;
    INSERT INTO quarantine (branch_id, settled_us) SELECT id, created_us FROM branch;
    ALTER TABLE operation ADD COLUMN detail TEXT;
",
    // Roles and databases are those of a branch or of a snapshot, so what removes them is no reference any more.
    "
    CREATE TABLE snapshot (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        store_id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        slug TEXT,
        source_branch_id TEXT NOT NULL,
        lsn TEXT NOT NULL,
        time_us INTEGER,
        manual INTEGER NOT NULL,
        expires_us INTEGER,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        UNIQUE (project_id, name),
        UNIQUE (project_id, slug)
    ) STRICT;
    ALTER TABLE branch ADD COLUMN restored_from TEXT;
    ALTER TABLE branch ADD COLUMN restored_as TEXT;
    ALTER TABLE branch ADD COLUMN finalized INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE role_3 (
        version INTEGER PRIMARY KEY,
        branch_id TEXT NOT NULL,
        oid INTEGER,
        name TEXT NOT NULL,
        login INTEGER NOT NULL,
        password TEXT,
        verifier TEXT,
        from_lsn INTEGER NOT NULL,
        until_lsn INTEGER,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL
    ) STRICT;
    INSERT INTO role_3 SELECT version, branch_id, oid, name, login, password, verifier, from_lsn, until_lsn,
        created_us, updated_us FROM role;
    DROP TABLE role;
    ALTER TABLE role_3 RENAME TO role;
    CREATE INDEX role_branch ON role (branch_id);
    CREATE INDEX role_verifier ON role (verifier);
    CREATE TABLE database_3 (
        version INTEGER PRIMARY KEY,
        id INTEGER NOT NULL,
        branch_id TEXT NOT NULL,
        oid INTEGER,
        name TEXT NOT NULL,
        owner_name TEXT NOT NULL,
        from_lsn INTEGER NOT NULL,
        until_lsn INTEGER,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL
    ) STRICT;
    INSERT INTO database_3 SELECT version, id, branch_id, oid, name, owner_name, from_lsn, until_lsn, created_us,
        updated_us FROM database;
    DROP TABLE database;
    ALTER TABLE database_3 RENAME TO database;
    CREATE INDEX database_branch ON database (branch_id);
    CREATE TRIGGER branch_removed AFTER DELETE ON branch BEGIN
        DELETE FROM role WHERE branch_id = OLD.id;
        DELETE FROM database WHERE branch_id = OLD.id;
    END;
    CREATE TRIGGER snapshot_removed AFTER DELETE ON snapshot BEGIN
        DELETE FROM role WHERE branch_id = OLD.id;
        DELETE FROM database WHERE branch_id = OLD.id;
    END;
",
    "
    CREATE TABLE backup_schedule (
        branch_id TEXT NOT NULL REFERENCES branch (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        line TEXT NOT NULL,
        planned_us INTEGER NOT NULL,
        PRIMARY KEY (branch_id, position)
    ) STRICT;
    CREATE TABLE branch_schedule (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        cron TEXT NOT NULL,
        time_zone TEXT,
        template TEXT NOT NULL,
        planned_us INTEGER NOT NULL,
        branch_id TEXT,
        last_run_us INTEGER,
        last_error TEXT,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        UNIQUE (project_id, name)
    ) STRICT;
    CREATE TABLE scheduled_branch (
        branch_id TEXT PRIMARY KEY REFERENCES branch (id) ON DELETE CASCADE,
        schedule_id TEXT NOT NULL REFERENCES branch_schedule (id) ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX scheduled_branch_schedule ON scheduled_branch (schedule_id);
",
    "ALTER TABLE branch ADD COLUMN schema_only INTEGER NOT NULL DEFAULT 0",
    // Of a branch or of a snapshot, like its roles.
    "
    CREATE TABLE foreign_password (
        branch_id TEXT PRIMARY KEY,
        until_lsn INTEGER
    ) STRICT;
    CREATE TRIGGER branch_removed_passwords AFTER DELETE ON branch BEGIN
        DELETE FROM foreign_password WHERE branch_id = OLD.id;
    END;
    CREATE TRIGGER snapshot_removed_passwords AFTER DELETE ON snapshot BEGIN
        DELETE FROM foreign_password WHERE branch_id = OLD.id;
    END;
",
    "
    ALTER TABLE project ADD COLUMN deleted_us INTEGER;
    ALTER TABLE endpoint ADD COLUMN tried TEXT;
",
    "
    ALTER TABLE snapshot ADD COLUMN full_bytes INTEGER;
    ALTER TABLE snapshot ADD COLUMN diff_bytes INTEGER;
",
    "
    ALTER TABLE endpoint ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0;
",
    "
    CREATE TABLE os_user (
        project_id TEXT PRIMARY KEY REFERENCES project (id) ON DELETE CASCADE,
        number INTEGER NOT NULL UNIQUE
    ) STRICT;
",
    // The branch whose history it began in, if that is not its parent or source; it may be gone.
    "
    ALTER TABLE branch ADD COLUMN history_id TEXT;
    ALTER TABLE snapshot ADD COLUMN history_id TEXT;
",
    // What a client notes on a branch may be large, and nearly nothing that reads branches needs it.
    "
    CREATE TABLE annotation (
        branch_id TEXT PRIMARY KEY REFERENCES branch (id) ON DELETE CASCADE,
        value TEXT NOT NULL
    ) STRICT;
    INSERT INTO annotation (branch_id, value)
        SELECT id, annotation FROM branch WHERE annotation IS NOT NULL;
    ALTER TABLE branch DROP COLUMN annotation;
    CREATE INDEX branch_project ON branch (project_id);
    CREATE INDEX branch_purging ON branch (project_id) WHERE purging;
    CREATE INDEX branch_deleted ON branch (deleted_us) WHERE deleted_us IS NOT NULL;
    CREATE INDEX branch_expires ON branch (expires_us) WHERE expires_us IS NOT NULL;
    CREATE INDEX branch_protected ON branch (project_id) WHERE protected;
    CREATE INDEX branch_schema_only ON branch (project_id) WHERE schema_only;
    CREATE INDEX branch_default ON branch (project_id) WHERE is_default;
    CREATE INDEX branch_restored_as ON branch (restored_as) WHERE restored_as IS NOT NULL;
    CREATE INDEX endpoint_project ON endpoint (project_id);
    CREATE INDEX snapshot_source ON snapshot (source_branch_id);
    CREATE INDEX snapshot_expires ON snapshot (expires_us) WHERE expires_us IS NOT NULL;
",
];

/// The open metadata file.
pub struct Metadata {
    connection: Mutex<Connection>,
}

impl Metadata {
    /// Opens the file, makes it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// Those of SQLite; `Internal` for a file of a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::File::options().create(true).append(true).mode(0o600).open(path);
        drop(file.map_err(Error::io(format!("open {}", path.display())))?);
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(METADATA_WITHIN)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Off while the schema changes, or dropping a table would empty those that refer to it.
        connection.pragma_update(None, "foreign_keys", false)?;
        let applied: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if applied as usize > MIGRATIONS.len() {
            let text = format!("{} was written by a newer version of scion", path.display());
            return Err(Error::internal(text));
        }
        for (version, migration) in (1_u32..).zip(MIGRATIONS).skip(applied as usize) {
            let change = connection.transaction()?;
            change.execute_batch(migration)?;
            change.pragma_update(None, "user_version", version)?;
            change.commit()?;
        }
        connection.pragma_update(None, "foreign_keys", true)?;
        // SQLite's own `lower` knows ASCII only.
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        let lowered = |context: &Context<'_>| Ok(context.get::<String>(0)?.to_lowercase());
        connection.create_scalar_function("lowered", 1, flags, lowered)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// Reads.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let connection = self.connection.lock();
        let _held = Held::begin();
        work(&connection)
    }

    /// Changes, all or nothing, durable on return.
    ///
    /// # Errors
    /// Those of `work`, and of SQLite.
    pub fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.connection.lock();
        let _held = Held::begin();
        let before = connection.total_changes();
        let change = connection.transaction()?;
        let value = work(&change)?;
        change.commit()?;
        if connection.total_changes() > before {
            failpoint::passed(Step::MetadataChanged);
        }
        Ok(value)
    }
}

thread_local! {
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has the metadata, for which all others wait.
pub fn is_held() -> bool {
    HELD.get()
}

/// For as long as it has.
struct Held;

impl Held {
    fn begin() -> Self {
        HELD.set(true);
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(false);
    }
}

/// At most one row.
fn one<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    use rusqlite::OptionalExtension;
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement.query_row(parameters, read).optional()?;
    #[cfg(test)]
    work::note(&statement);
    Ok(row)
}

/// All rows.
fn many<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, read)?.collect::<rusqlite::Result<Vec<T>>>()?;
    #[cfg(test)]
    work::note(&statement);
    Ok(rows)
}

/// Runs a statement; how many rows it changed.
fn run(connection: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Result<usize> {
    let mut statement = connection.prepare_cached(sql)?;
    let changed = statement.execute(parameters)?;
    #[cfg(test)]
    work::note(&statement);
    Ok(changed)
}

/// How much SQLite did for this thread: steps of its virtual machine, which grow with the rows that it looks at.
#[cfg(test)]
pub mod work {
    use std::cell::Cell;

    use rusqlite::{Statement, StatementStatus};

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub fn note(statement: &Statement<'_>) {
        let steps = statement.reset_status(StatementStatus::VmStep);
        STEPS.set(STEPS.get() + u64::try_from(steps).unwrap_or_default());
    }

    /// Of what `work` asked for.
    pub fn steps<T>(work: impl FnOnce() -> T) -> (u64, T) {
        let before = STEPS.get();
        let done = work();
        (STEPS.get() - before, done)
    }
}

#[cfg(test)]
pub mod tests;
