//! The Postgres installation, the user it runs as, and making a fresh cluster with it.
//!
//! Postgres refuses to run as root; a server that is root runs it as another user (`postgres` unless told).
//! A new project is a cluster made by `initdb`, given its owner role and database in single-user mode, and shut down
//! cleanly, so that the store can import it.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Result};

/// The superuser of every cluster; reached over the unix socket only.
pub const SUPERUSER: &str = "postgres";
/// The major version that projects are made with.
pub const MAJOR: i32 = 15;

/// Which Postgres, and as whom.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Directory of `postgres` and `initdb`.
    pub bin: PathBuf,
    /// User and group id it runs as; `None` is this process's.
    pub run_as: Option<(u32, u32)>,
}

/// The first role and database of a new cluster.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Name of the role.
    pub role: &'a str,
    /// Its password.
    pub password: &'a str,
    /// Name of the database it owns.
    pub database: &'a str,
}

impl Postgres {
    /// Finds Postgres and the user it is to run as.
    ///
    /// # Errors
    /// 503 with a hint if either is missing.
    pub fn find(bin: Option<&Path>, run_as: Option<&str>) -> Result<Self> {
        let debian = PathBuf::from(format!("/usr/lib/postgresql/{MAJOR}/bin"));
        let bin = bin.map_or(debian, Path::to_owned);
        if !bin.join("postgres").exists() || !bin.join("initdb").exists() {
            let hint =
                "hint: install PostgreSQL 15 (Debian: apt-get install postgresql-15), or name its directory";
            return Err(Error::unavailable(format!("no postgres in {}\n{hint}", bin.display())));
        }
        let root = rustix::process::geteuid().is_root();
        let run_as = match (root, run_as) {
            (true, user) => Some(user_ids(user.unwrap_or("postgres"))?),
            (false, None) => None,
            (false, Some(user)) => {
                let text = format!("only root can run Postgres as {user}\nhint: leave the user out");
                return Err(Error::unavailable(text));
            }
        };
        Ok(Self { bin, run_as })
    }

    /// Makes a cluster in `dir` and shuts it down cleanly. `dir` must not exist.
    ///
    /// # Errors
    /// Those of the programs; what they printed is in the message.
    pub fn make_cluster(&self, dir: &Path, owner: &Owner<'_>) -> Result<()> {
        fs::create_dir_all(dir).map_err(Error::io(format!("create {}", dir.display())))?;
        if let Some((uid, gid)) = self.run_as {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).map_err(Error::io("change owner"))?;
        }
        let mut initdb = self.command("initdb");
        initdb.args(["-D"]).arg(dir).args(["-U", SUPERUSER, "--auth=trust", "--data-checksums"]);
        initdb.args(["--locale=C.UTF-8", "--encoding=UTF8", "--no-sync", "--no-instructions"]);
        self.run(initdb, "")?;
        let mut single = self.command("postgres");
        single.args(["--single", "-j", "-F", "-c", "password_encryption=scram-sha-256", "-D"]).arg(dir);
        single.arg("postgres");
        self.run(single, &owner_sql(owner))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
        // A directory that the other user may not enter would be inherited.
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn run(&self, mut command: Command, input: &str) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |text: String| Error::unavailable(format!("{program} failed: {text}"));
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ended early says why on its standard error.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        let said = last_words(&output);
        // In single-user mode an error of SQL does not end the process.
        if !output.status.success() || said.contains("ERROR:") || said.contains("FATAL:") {
            if said.contains("No space left on device") {
                return Err(Error::disk_full(format!("{program}: {said}")));
            }
            let hint = if said.contains("Permission denied") {
                "\nhint: the user that Postgres runs as must be able to enter the data directory and all above it"
            } else {
                ""
            };
            return Err(failed(format!("{} {said}{hint}", output.status)));
        }
        Ok(())
    }
}

fn owner_sql(owner: &Owner<'_>) -> String {
    let role = quoted(owner.role, '"');
    let granted = "pg_read_all_data, pg_write_all_data, pg_monitor, pg_signal_backend, pg_checkpoint";
    [
        format!(
            "CREATE ROLE {role} LOGIN CREATEDB CREATEROLE BYPASSRLS PASSWORD {}",
            quoted(owner.password, '\'')
        ),
        format!("GRANT {granted} TO {role} WITH ADMIN OPTION"),
        format!("CREATE DATABASE {} OWNER {role}", quoted(owner.database, '"')),
    ]
    .map(|statement| format!("{statement};\n\n"))
    .concat()
}

fn quoted(text: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", text.replace(quote, &doubled))
}

fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join("; ")
}

fn user_ids(user: &str) -> Result<(u32, u32)> {
    let id = |flag: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, "--", user]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    id("-u").zip(id("-g")).ok_or_else(|| {
        let hint = "hint: Postgres does not run as root; create that user or name another one";
        Error::unavailable(format!("there is no user {user}\n{hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_cannot_leave_their_quotes() {
        let owner = Owner { role: "a\"b", password: "x'y", database: "d" };
        let sql = owner_sql(&owner);
        assert!(sql.contains("CREATE ROLE \"a\"\"b\" LOGIN"));
        assert!(sql.contains("PASSWORD 'x''y'"));
    }

    #[test]
    fn a_new_cluster_is_shut_down_and_has_its_owner() {
        let temp = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(temp.path(), mode).unwrap();
        let postgres = Postgres::find(None, None).unwrap();
        let dir = temp.path().join("cluster");
        let owner = Owner { role: "neondb_owner", password: "npg_x", database: "neondb" };
        postgres.make_cluster(&dir, &owner).unwrap();
        let mut control = postgres.command("pg_controldata");
        let output = control.arg(&dir).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("Database cluster state").ends_with("shut down"), "{text}");
        assert!(line("Data page checksum version").ends_with('1'), "{text}");
        assert!(postgres.make_cluster(&dir, &owner).is_err(), "a directory in use was taken");
    }

    #[test]
    fn a_missing_postgres_says_what_to_install() {
        let error = Postgres::find(Some(Path::new("/nonexistent")), None).unwrap_err();
        assert!(error.message.contains("apt-get install"), "{}", error.message);
    }
}
