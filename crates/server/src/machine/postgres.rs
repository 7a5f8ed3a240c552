//! The Postgres installations, the user they run as, and making a fresh cluster with one.
//!
//! Postgres refuses to run as root; a server that is root runs it as another user (`postgres` unless told).
//! A new project is a cluster made by `initdb`, given its owner role and database in single-user mode, and shut down
//! cleanly, so that the store can import it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::failpoint::{self, Step};
use crate::limits::{DUMP_LOCK_WITHIN, DUMP_WITHIN, PROGRAM_WITHIN};
use crate::machine::installed::{self, Installed, NamedBin};
use crate::machine::programs::{self, ProgramError};
use crate::machine::sql::{SUPERUSER, identifier, literal};
use crate::machine::users;

/// Which Postgres, and as whom.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// The majors there are.
    pub installed: Installed,
    /// User and group id it runs as; `None` is this process's.
    pub run_as: Option<(u32, u32)>,
    /// Whether each project's runs as a user of its own instead (`users`); new clusters are made by `run_as`, as
    /// `initdb` wants a user with a name.
    pub own_users: bool,
    /// How long a program that reads or writes a schema may run.
    pub dump_within: Duration,
}

/// The first role and database of a new cluster.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Name of the role.
    pub role: &'a str,
    /// What Postgres keeps of its password.
    pub verifier: &'a str,
    /// Name of the database it owns.
    pub database: &'a str,
}

impl Postgres {
    /// For programs that look at an endpoint (`pg_dump`), whose Postgres may still be that of an older scion: the same
    /// installations, run as the user whose Postgres has its socket in `directory`.
    pub fn as_owner_of(&self, directory: &Path) -> Self {
        let owner = std::fs::metadata(directory).ok().map(|found| (found.uid(), found.gid()));
        Self { run_as: self.run_as.and(owner).or(self.run_as), ..self.clone() }
    }

    /// Finds every supported major and the user they are to run as.
    ///
    /// # Errors
    /// `Unavailable` with a hint if there is no Postgres, a named directory does not have it, or there is no such user.
    pub fn find(named: &[NamedBin], run_as: Option<&str>) -> Result<Self> {
        let installed = installed::find(named);
        let none = || "there is no PostgreSQL".to_owned();
        let wrong = installed.wrong.first().cloned();
        if let Some(wrong) = wrong.or_else(|| installed.by_major.is_empty().then(none)) {
            let hint = installed::how_to_install(15);
            return Err(Error::unavailable(format!("{wrong}\nhint: {hint}")));
        }
        let root = rustix::process::geteuid().is_root();
        let own_users = root && run_as.is_none() && users::are_there();
        let run_as = match (root, run_as) {
            (true, user) => Some(user_ids(user.unwrap_or("postgres"))?),
            (false, None) => None,
            (false, Some(user)) => {
                let text = format!("only root can run Postgres as {user}\nhint: leave the user out");
                return Err(Error::unavailable(text));
            }
        };
        Ok(Self { installed, run_as, own_users, dump_within: DUMP_WITHIN })
    }

    /// The major to make a project with: the one asked for, or the default.
    ///
    /// # Errors
    /// `Refused` with a hint if it is not supported or not on this machine.
    pub fn choose(&self, asked: Option<i32>) -> Result<i32> {
        let major = asked.or_else(|| self.installed.default_major()).unwrap_or(15);
        if !installed::SUPPORTED.contains(&major) {
            let text = format!("{}\nhint: ask for one of these", installed::unsupported(major));
            return Err(Error::refused("PG_VERSION_NOT_SUPPORTED", text));
        }
        self.bin(major).map(|_| major)
    }

    /// Directory of a major's programs.
    ///
    /// # Errors
    /// `Refused` with a hint if it is not on this machine.
    pub fn bin(&self, major: i32) -> Result<&Path> {
        let found = self.installed.by_major.get(&major).map(|it| it.bin.as_path());
        found.ok_or_else(|| {
            let hint = installed::how_to_install(major);
            let text = format!(
                "PostgreSQL {major} is not on this machine\nhint: {hint}; then start `scion serve` again"
            );
            Error::refused("PG_VERSION_NOT_INSTALLED", text)
        })
    }

    /// Whether endpoints of this major can offer TLS; some builds cannot.
    pub fn offers_tls(&self, major: i32) -> bool {
        self.installed.by_major.get(&major).is_some_and(|it| it.tls)
    }

    /// Makes a cluster of this major in `dir` and shuts it down cleanly. `dir` must not exist.
    ///
    /// # Errors
    /// Those of the programs; what they printed is in the message.
    pub fn make_cluster(&self, major: i32, dir: &Path, owner: &Owner<'_>) -> Result<()> {
        let bin = self.bin(major)?;
        fs::create_dir_all(dir).map_err(Error::io(format!("create {}", dir.display())))?;
        if let Some((uid, gid)) = self.run_as {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).map_err(Error::io("change owner"))?;
        }
        let mut initdb = self.command(bin, "initdb");
        initdb.args(["-D"]).arg(dir).args(["-U", SUPERUSER, "--auth=trust", "--data-checksums"]);
        initdb.args(["--locale=C.UTF-8", "--encoding=UTF8", "--no-sync", "--no-instructions"]);
        run(initdb, "", PROGRAM_WITHIN)?;
        failpoint::tried(Step::ClusterMade)?;
        let mut single = self.command(bin, "postgres");
        single.args(["--single", "-j", "-F", "-c", "password_encryption=scram-sha-256", "-D"]).arg(dir);
        single.arg("postgres");
        let guard = compute::guard_of_roles(&major.to_string());
        let statements: Vec<String> =
            guard.iter().map(|&statement| statement.to_owned()).chain(owner_sql(owner)).collect();
        // In single-user mode with `-j`, a statement ends with an empty line.
        let input: String = statements.iter().map(|statement| format!("{statement};\n\n")).collect();
        run(single, &input, PROGRAM_WITHIN)?;
        failpoint::tried(Step::OwnerMade)?;
        Ok(())
    }

    /// A program of an installation, as the user that Postgres runs as.
    pub(crate) fn command(&self, bin: &Path, program: &str) -> Command {
        let mut command = Command::new(bin.join(program));
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
        // A directory that the other user may not enter would be inherited.
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            // A backend that works for one that was killed notices.
            .env("PGOPTIONS", "-c client_connection_check_interval=5s")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// A program whose sessions are those of scion, as a superuser.
    fn client(&self, major: i32, program: &str) -> Result<Command> {
        let mut command = self.command(self.bin(major)?, program);
        command.env("PGOPTIONS", compute::session_options(major));
        Ok(command)
    }

    /// Runs a program of a major to its end, for the time limit of dumps at most; what it printed.
    ///
    /// # Errors
    /// `Refused` if the major is not there; `Unavailable` with the program's last words if it failed, did not end in
    /// time or is not there.
    pub fn output(&self, major: i32, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.client(major, program)?;
        let output =
            programs::run(command.args(arguments), "", self.dump_within).map_err(|error| match error {
                ProgramError::Io(error) => {
                    let program = command.get_program().to_string_lossy().into_owned();
                    let hint =
                        "hint: install the client package of that PostgreSQL; `scion doctor` says more";
                    Error::unavailable(format!("{program} does not run: {error}\n{hint}"))
                }
                error => unfinished(program, &error),
            })?;
        if !output.status.success() {
            return Err(Error::unavailable(format!("{program} failed: {}", last_words(&output))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The argument of `pg_dump` and `pg_dumpall` that says how long they wait for a lock.
    pub fn lock_wait(&self) -> String {
        // Less than the whole, so that it can still say what it waited for.
        format!("--lock-wait-timeout={}", (self.dump_within / 2).min(DUMP_LOCK_WITHIN).as_millis())
    }

    /// Runs a program of a major that reads `input`.
    ///
    /// # Errors
    /// As [`Postgres::output`]; `DiskFull` if the disk is full.
    pub fn feed(&self, major: i32, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = self.client(major, program)?;
        command.args(arguments);
        run(command, input, self.dump_within)
    }
}

fn run(mut command: Command, input: &str, within: Duration) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |text: String| Error::unavailable(format!("{program} failed: {text}"));
    let output = programs::run(&mut command, input, within).map_err(|error| match error {
        ProgramError::Io(error) => failed(error.to_string()),
        error => unfinished(&program, &error),
    })?;
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

fn owner_sql(owner: &Owner<'_>) -> Vec<String> {
    let (role, database) = (identifier(owner.role), identifier(owner.database));
    let mut statements = role_sql(owner.role, Some(owner.verifier));
    statements.push(format!("CREATE DATABASE {database} OWNER {role}"));
    statements
}

/// What makes a role. One with the verifier of a password may log in, and may do all that a role that is not superuser
/// can be allowed; without it is nothing but a name to grant to.
pub fn role_sql(name: &str, verifier: Option<&str>) -> Vec<String> {
    let role = identifier(name);
    let Some(verifier) = verifier else { return vec![format!("CREATE ROLE {role} NOLOGIN")] };
    let granted = "pg_read_all_data, pg_write_all_data, pg_monitor, pg_signal_backend, pg_checkpoint";
    vec![
        format!("CREATE ROLE {role} LOGIN CREATEDB CREATEROLE BYPASSRLS PASSWORD {}", literal(verifier)),
        format!("GRANT {granted} TO {role} WITH ADMIN OPTION"),
    ]
}

fn unfinished(program: &str, error: &ProgramError) -> Error {
    let hint = "hint: `scion serve --dump-timeout` sets how long a schema may take";
    Error::unavailable(format!("{program}: {error}\n{hint}"))
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
    use crate::error::Kind;
    use std::path::PathBuf;

    #[test]
    fn clients_run_as_who_has_the_socket_if_that_is_another_user() {
        let postgres = Postgres {
            installed: Default::default(),
            run_as: None,
            own_users: false,
            dump_within: crate::limits::DUMP_WITHIN,
        };
        assert_eq!(postgres.as_owner_of(Path::new("/")).run_as, None);
        let root = Postgres { run_as: Some((7, 8)), ..postgres };
        assert_eq!(root.as_owner_of(Path::new("/")).run_as, Some((0, 0)));
        assert_eq!(root.as_owner_of(Path::new("/nonexistent")).run_as, Some((7, 8)));
    }

    #[test]
    fn names_and_passwords_cannot_leave_their_quotes() {
        let owner = Owner { role: "a\"b", verifier: "x'y", database: "d" };
        let sql = owner_sql(&owner).concat();
        assert!(sql.contains("CREATE ROLE \"a\"\"b\" LOGIN"));
        assert!(sql.contains("PASSWORD 'x''y'"));
    }

    #[test]
    fn a_new_cluster_is_shut_down_and_has_its_owner() {
        let temp = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(temp.path(), mode).unwrap();
        let postgres = Postgres::find(&[], None).unwrap();
        let dir = temp.path().join("cluster");
        let owner =
            Owner { role: "neondb_owner", verifier: "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", database: "neondb" };
        postgres.make_cluster(15, &dir, &owner).unwrap();
        let mut control = postgres.command(postgres.bin(15).unwrap(), "pg_controldata");
        let output = control.arg(&dir).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("Database cluster state").ends_with("shut down"), "{text}");
        assert!(line("Data page checksum version").ends_with('1'), "{text}");
        assert!(postgres.make_cluster(15, &dir, &owner).is_err(), "a directory in use was taken");
    }

    #[test]
    fn a_missing_postgres_says_what_to_install() {
        let named = NamedBin { major: None, dir: PathBuf::from("/nonexistent") };
        let error = Postgres::find(&[named], None).unwrap_err();
        assert!(error.message.contains("apt-get install"), "{}", error.message);
    }

    #[test]
    fn a_major_that_is_not_there_says_what_to_install() {
        let installed = Installed::default();
        let postgres = Postgres { installed, run_as: None, own_users: false, dump_within: DUMP_WITHIN };
        let error = postgres.choose(Some(17)).unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
        assert!(error.message.contains("apt-get install postgresql-17"), "{}", error.message);
        let error = postgres.choose(Some(14)).unwrap_err();
        assert!(error.message.contains("supported are 15, 16, 17 and 18"), "{}", error.message);
    }
}
