//! The story of an ordinary user: no root anywhere, mounts through `fusermount3`, Postgres as the user.
//!
//! Run as root, the test plays the user `postgres`; otherwise whoever runs it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use scion_tests::process::{self, as_postgres, give_to_postgres, scion_binary, skipped, wait_for};
use scion_tests::server::{processes_in, unmount_below};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn an_ordinary_user_branches_outlives_a_crash_and_leaves_nothing() {
    let Some(mut user) = User::with_a_table() else { return };
    user.scion(&["branch", "create", "fix"]);
    user.sql("fix", "delete from t where id <= 400");

    // What a role of scion may not do does not depend on who runs the server.
    for sql in [
        "copy t from '/etc/passwd'",
        "copy t to '/tmp/out-of-the-database'",
        "copy (select 1) to program 'id'",
        "select pg_read_file('PG_VERSION')",
        "grant pg_execute_server_program to neondb_owner",
        "grant pg_read_server_files to neondb_owner",
        "set session authorization postgres",
        "load '/lib/x86_64-linux-gnu/libm.so.6'",
        "create function f() returns int language c as '/lib/x86_64-linux-gnu/libm.so.6', 'sin'",
        "alter system set archive_command = 'id'",
    ] {
        assert!(user.try_sql("main", sql).is_none(), "{sql}");
    }

    // What is the user's is not Postgres's, where the kernel has Landlock.
    if user.try_scion(&["doctor"]).stdout.windows(20).any(|it| it == b"own directories and ") {
        let key = user.home.path().join(".local/share/scion/api-key");
        assert!(key.is_file());
        let read = format!("select pg_read_file('{}')", key.display());
        for sql in [&read, "copy (select 1) to program 'id'", "select pg_read_file('/etc/passwd')"] {
            let refused = user.try_scion(&["psql", "main", "--superuser", "--", "-XAtqc", sql]);
            assert!(!refused.status.success(), "{sql}");
        }
    }

    user.sql("fix", "create extension pg_stat_statements");
    assert!(user.try_sql("fix", "create extension dblink").is_none());
    let tablespace = "create tablespace t location '/nowhere/to/be/found'";
    user.scion(&["psql", "fix", "--superuser", "--", "-XAtqc", tablespace]);

    let (postgres, compute) = user.pids().unwrap();
    let uid = |path: &Path| std::fs::metadata(path).unwrap().uid();
    assert_eq!(uid(Path::new(&format!("/proc/{postgres}"))), uid(user.home.path()));
    process::signal(compute, libc::SIGKILL);
    wait_for("the endpoint to come back", Duration::from_secs(60), || {
        user.pids().filter(|pids| pids.1 != compute)?;
        user.try_sql("main", "insert into t values (1001)")
    });

    assert_eq!(user.sql("main", "select count(*) from t where id <= 1000"), "1000");
    assert_eq!(user.sql("fix", "select count(*) from t"), "600");
    user.stop();
}

/// One line to the control socket of an endpoint, and the one that comes back.
fn ask(dir: &Path) -> std::io::Result<String> {
    let mut socket = UnixStream::connect(dir.join("control.sock"))?;
    // Who refuses does so without reading it.
    let _ = socket.write_all(b"{\"cmd\":\"status\"}\n");
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer)?;
    Ok(answer)
}

/// Rule 11 of the README of `compute`.
#[test]
fn an_endpoint_whose_process_gets_no_thread_or_descriptor_says_so_and_lives() {
    let Some(mut user) = User::with_a_table() else { return };
    let (postgres, compute) = user.pids().unwrap();
    let dir = std::fs::read_dir(user.home.path().join(".local/share/scion/endpoints")).unwrap();
    let dir = dir.map(|it| it.unwrap().path()).next().unwrap();
    let log = || std::fs::read_to_string(dir.join("compute.log")).unwrap();
    let limit = |pid: i32, limit: &str| {
        process::run(as_postgres("prlimit").args(["--pid", &pid.to_string(), limit]));
    };

    // Its user has more processes than one, so it gets no thread.
    limit(compute, "--nproc=1:");
    for _ in 0..3 {
        let answer = ask(&dir).unwrap();
        assert!(answer.contains("error") && answer.contains("start a thread"), "{answer}");
    }
    assert_eq!(user.sql("main", "select count(*) from t"), "1000");
    // Nor can it start Postgres again, which ends it as any start that fails does.
    process::signal(postgres, libc::SIGKILL);
    wait_for("the endpoint to come back", Duration::from_secs(60), || {
        user.pids().filter(|pids| pids.1 != compute)?;
        user.try_sql("main", "insert into t values (1001)")
    });
    assert!(!log().contains("panicked"), "{}", log());

    // Nor a descriptor: whoever asks waits, and is answered when there is one.
    let compute = user.pids().unwrap().1;
    limit(compute, "--nofile=3:");
    let asked = std::thread::spawn({
        let dir = dir.clone();
        move || ask(&dir).unwrap()
    });
    wait_for("it to have none", Duration::from_secs(30), || {
        log().contains("Too many open files").then_some(())
    });
    limit(compute, "--nofile=1024:");
    assert!(asked.join().unwrap().contains("\"state\":\"running\""));
    assert_eq!(user.sql("main", "select count(*) from t"), "1001");
    assert!(!log().contains("panicked"), "{}", log());
    user.stop();
}

/// What this machine lacks for mounts of ordinary users.
fn missing() -> Option<&'static str> {
    let fusermount = process::output(Command::new("sh").args(["-c", "command -v fusermount3"]));
    if !fusermount.status.success() {
        return Some("there is no fusermount3");
    }
    let open = process::output(as_postgres("sh").args(["-c", ": <>/dev/fuse"]));
    (!open.status.success()).then_some("/dev/fuse cannot be opened")
}

/// A user with a home, a copy of the program in it, and a server on the default data directory.
struct User {
    home: TempDir,
    server: Child,
}

impl User {
    /// One with a project and a table of a thousand rows; `None`, and said so, if users have no mounts here.
    fn with_a_table() -> Option<Self> {
        if let Some(missing) = missing() {
            skipped("users", &format!("{missing}; run scripts/setup --for-users"));
            return None;
        }
        let user = Self::start();
        user.scion(&["project", "create", "demo"]);
        user.sql("main", "create table t as select generate_series(1, 1000) as id");
        Some(user)
    }

    fn start() -> Self {
        let home = tempfile::Builder::new().prefix("scion-").tempdir().unwrap();
        // The build may be where only root can go.
        std::fs::copy(scion_binary(), home.path().join("scion")).unwrap();
        give_to_postgres(home.path());
        let log = File::create(home.path().join("serve.log")).unwrap();
        let server = command(home.path())
            .args(["serve", "--http", "127.0.0.1:0", "--owner-extensions", "pg_stat_statements"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let user = Self { home, server };
        wait_for("the server to answer", Duration::from_secs(30), || {
            user.try_scion(&["status"]).status.success().then_some(())
        });
        user
    }

    fn try_scion(&self, arguments: &[&str]) -> Output {
        process::output(command(self.home.path()).args(arguments))
    }

    fn scion(&self, arguments: &[&str]) -> String {
        process::run(command(self.home.path()).args(arguments)).trim().to_owned()
    }

    fn sql(&self, branch: &str, sql: &str) -> String {
        self.scion(&["psql", branch, "--", "-XAtqc", sql])
    }

    fn try_sql(&self, branch: &str, sql: &str) -> Option<()> {
        self.try_scion(&["psql", branch, "--", "-XAtqc", sql]).status.success().then_some(())
    }

    /// Process ids of main's `postgres` and of its `scion compute`.
    fn pids(&self) -> Option<(i32, i32)> {
        let list: Value =
            serde_json::from_str(&self.scion(&["endpoint", "list", "--output", "json"])).unwrap();
        let all = list.as_array().or_else(|| list["endpoints"].as_array()).unwrap();
        let main = all.iter().min_by_key(|it| it["created_at"].as_str().map(str::to_owned))?;
        let pid =
            |name: &str| main[name].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|it| *it > 1);
        Some((pid("postgres_pid")?, pid("compute_pid")?))
    }

    fn stop(&mut self) {
        self.scion(&["stop"]);
        assert!(self.server.wait().unwrap().success());
        assert_eq!(processes_in(self.home.path()), Vec::<i32>::new());
        assert_eq!(unmount_below(self.home.path()), Vec::<String>::new());
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for pid in processes_in(self.home.path()) {
            process::signal(pid, libc::SIGKILL);
        }
        let _ = self.server.wait();
        unmount_below(self.home.path());
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.home.path().join("serve.log")).unwrap_or_default());
        }
    }
}

/// The program as this user starts it: from home, with nothing in the environment but the way there.
fn command(home: &Path) -> Command {
    let mut command = as_postgres(home.join("scion"));
    command.env_clear().env("HOME", home).env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(home);
    command
}
