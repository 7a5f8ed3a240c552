//! A scion server in a data directory of its own.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::Api;
use crate::process::{self, scion_binary, wait_for};

/// A running server with one project, and everything it started.
pub struct Scion {
    dir: TempDir,
    child: Child,
    api: Api,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    project: String,
    root_branch: String,
    root_endpoint: Endpoint,
}

/// How to reach one endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// The branch it serves.
    pub branch: String,
    /// A connection string with the owner's password.
    pub uri: String,
    /// Its directory below the data directory.
    pub dir: PathBuf,
}

impl Scion {
    /// Starts a server and makes a project in it.
    pub fn start() -> Self {
        Self::start_with(&[], json!({"name": "test"}))
    }

    /// The same, in a data directory whose name begins with `prefix`.
    pub fn start_below(prefix: &str) -> Self {
        Self::start_at(prefix, &[], json!({"name": "test"}), |_| Vec::new())
    }

    /// Starts a server that knows the Postgres of this major in `bin`, and makes a project of that major in it.
    pub fn start_major(major: i32, bin: &Path) -> Self {
        let arguments = ["--pg-bin".to_owned(), format!("{major}={}", bin.display())];
        Self::start_with(&arguments, json!({"name": "test", "pg_version": major}))
    }

    /// Starts a server with more arguments for `scion serve`, and makes a project in it.
    pub fn start_with(arguments: &[String], project: Value) -> Self {
        Self::start_in(arguments, project, |_| Vec::new())
    }

    /// The same, with an environment that is made for the data directory.
    pub fn start_in(
        arguments: &[String],
        project: Value,
        environment: impl FnOnce(&Path) -> Vec<(String, String)>,
    ) -> Self {
        Self::start_at("scion-", arguments, project, environment)
    }

    fn start_at(
        prefix: &str,
        arguments: &[String],
        project: Value,
        environment: impl FnOnce(&Path) -> Vec<(String, String)>,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        open_to_others(dir.path());
        let environment = environment(dir.path());
        let (child, api) = launch(dir.path(), arguments, &environment);
        let arguments = arguments.to_vec();
        let none =
            Endpoint { id: String::new(), branch: String::new(), uri: String::new(), dir: PathBuf::new() };
        let (project_id, root_branch) = (String::new(), String::new());
        let mut scion = Self {
            dir,
            child,
            api,
            arguments,
            environment,
            project: project_id,
            root_branch,
            root_endpoint: none,
        };
        let made = scion.api.post("/projects", json!({"project": project})).unwrap();
        scion.project = text(&made["project"]["id"]);
        scion.root_branch = text(&made["branch"]["id"]);
        scion.root_endpoint = scion.endpoint_of(&made);
        scion
    }

    /// The API.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Process id of `scion serve`.
    pub fn serve_pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// `/projects/<id>` followed by `rest`.
    pub fn path(&self, rest: &str) -> String {
        format!("/projects/{}{rest}", self.project)
    }

    /// The project's id.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The branch `main`.
    pub fn root_branch(&self) -> &str {
        &self.root_branch
    }

    /// The endpoint of `main`.
    pub fn root(&self) -> &Endpoint {
        &self.root_endpoint
    }

    /// Makes a branch with an endpoint. `branch` holds the request's fields besides the name.
    pub fn branch(&self, name: &str, branch: Value) -> Endpoint {
        let made =
            self.try_branch(name, branch, true).unwrap_or_else(|error| panic!("branch {name}: {error:?}"));
        self.endpoint_of(&made)
    }

    /// Makes a branch with an endpoint that only reads.
    pub fn reader(&self, name: &str, mut branch: Value) -> Endpoint {
        branch["name"] = json!(name);
        let body = json!({"branch": branch, "endpoints": [{"type": "read_only"}]});
        let made = self.api.post(&self.path("/branches"), body);
        self.endpoint_of(&made.unwrap_or_else(|error| panic!("branch {name}: {error:?}")))
    }

    /// Makes a branch; with an endpoint if `endpoint`.
    pub fn try_branch(
        &self,
        name: &str,
        mut branch: Value,
        endpoint: bool,
    ) -> Result<Value, crate::ApiError> {
        branch["name"] = json!(name);
        let endpoints = if endpoint { json!([{"type": "read_write"}]) } else { json!([]) };
        self.api.post(&self.path("/branches"), json!({"branch": branch, "endpoints": endpoints}))
    }

    /// The endpoint in the answer to a create request.
    pub fn endpoint_of(&self, made: &Value) -> Endpoint {
        let id = text(&made["endpoints"][0]["id"]);
        let uri = text(&made["connection_uris"][0]["connection_uri"]);
        let branch = text(&made["branch"]["id"]);
        let dir = self.dir.path().join("endpoints").join(&id);
        Endpoint { id, branch, uri, dir }
    }

    /// The owner's connection string of a branch.
    pub fn uri_of(&self, branch: &str) -> String {
        let query = format!("/connection_uri?branch_id={branch}&database_name=neondb&role_name=neondb_owner");
        text(&self.api.get(&self.path(&query)).unwrap()["uri"])
    }

    /// What `GET` says of a branch.
    pub fn branch_info(&self, branch: &str) -> Value {
        self.api.get(&self.path(&format!("/branches/{branch}"))).unwrap()["branch"].clone()
    }

    /// What `GET` says of an endpoint.
    pub fn endpoint_info(&self, endpoint: &Endpoint) -> Value {
        self.api.get(&self.path(&format!("/endpoints/{}", endpoint.id))).unwrap()["endpoint"].clone()
    }

    /// Runs the `scion` binary as a user would, against this server.
    pub fn cli(&self, arguments: &[&str]) -> std::process::Output {
        process::output(Command::new(scion_binary()).args(arguments).env("SCION_DATA_DIR", self.dir.path()))
    }

    /// How many branches the store keeps a log of.
    pub fn stored(&self) -> usize {
        let wal = self.data_dir().join("projects").join(&self.project).join("wal");
        std::fs::read_dir(wal).unwrap().count()
    }

    /// Sends a request, kills the server so much later, and starts it again; gives the answer, if there was one.
    pub fn killed_during<T: Send>(&mut self, after_ms: u64, request: impl FnOnce(&Api) -> T + Send) -> T {
        let api = self.api.clone();
        let answer = std::thread::scope(|scope| {
            let sent = scope.spawn(|| request(&api));
            std::thread::sleep(Duration::from_millis(after_ms));
            self.kill_serve();
            sent.join().unwrap()
        });
        self.relaunch();
        answer
    }

    /// `kill -9` of `scion serve`; its endpoints go on.
    pub fn kill_serve(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends `scion serve` alone, in good order.
    pub fn stop_serve(&mut self) {
        process::signal(self.serve_pid(), libc::SIGTERM);
        self.child.wait().unwrap();
    }

    /// Starts `scion serve` again on the same directory.
    pub fn relaunch(&mut self) {
        let (child, api) = launch(self.dir.path(), &self.arguments, &self.environment);
        self.child = child;
        self.api = api;
    }

    /// Starts `scion serve` again with one more variable in its environment; false if it ended before it listened.
    pub fn relaunch_with(&mut self, variable: (&str, String)) -> bool {
        let mut environment = self.environment.clone();
        environment.push((variable.0.to_owned(), variable.1));
        match try_launch(self.dir.path(), &self.arguments, &environment) {
            Ok((child, api)) => {
                self.child = child;
                self.api = api;
                true
            }
            Err(_) => false,
        }
    }

    /// Whether `scion serve` has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until `scion serve` ends by itself.
    pub fn wait_for_its_end(&mut self, limit: Duration) {
        wait_for("scion serve to end by itself", limit, || self.child.try_wait().unwrap());
    }
}

impl Drop for Scion {
    fn drop(&mut self) {
        let _ = self.api.post("/shutdown", json!({}));
        let gone = (0..1500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            matches!(self.child.try_wait(), Ok(Some(_)))
        });
        if !gone {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let left = processes_in(self.dir.path());
        for pid in &left {
            process::signal(*pid, libc::SIGKILL);
        }
        let mounts = unmount_below(self.dir.path());
        if std::thread::panicking() {
            print_logs(self.dir.path());
            return;
        }
        assert!(gone, "scion serve did not end after shutdown");
        assert!(left.is_empty(), "processes left behind: {left:?}");
        assert!(mounts.is_empty(), "mounts left behind: {mounts:?}");
    }
}

fn serve(dir: &Path, arguments: &[String], environment: &[(String, String)]) -> Command {
    let log = File::options().create(true).append(true).open(dir.join("serve.log")).unwrap();
    let mut command = Command::new(scion_binary());
    command.args(["serve", "--http", "127.0.0.1:0", "--data-dir"]).arg(dir).args(arguments);
    command.envs(environment.iter().cloned());
    command.stdin(std::process::Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

fn launch(dir: &Path, arguments: &[String], environment: &[(String, String)]) -> (Child, Api) {
    try_launch(dir, arguments, environment).unwrap_or_else(|status| {
        panic!("scion serve ended: {status}\n{}", std::fs::read_to_string(dir.join("serve.log")).unwrap())
    })
}

/// How it ended if it did before it listened.
fn try_launch(
    dir: &Path,
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<(Child, Api), ExitStatus> {
    let _ = std::fs::remove_file(dir.join("server.json"));
    let mut child = serve(dir, arguments, environment).spawn().unwrap();
    let url = wait_for("scion serve to listen", Duration::from_secs(30), || {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(Err(status));
        }
        let server: Value = serde_json::from_slice(&std::fs::read(dir.join("server.json")).ok()?).ok()?;
        server["url"].as_str().map(|url| Ok(url.to_owned()))
    })?;
    let key = std::fs::read_to_string(dir.join("api-key")).unwrap();
    Ok((child, Api::new(&url, key.trim())))
}

/// A temporary directory is private; the user that Postgres runs as must be able to pass through it.
fn open_to_others(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).unwrap();
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text in {value}")).to_owned()
}

/// Processes whose command line or working directory lies in `dir`.
pub fn processes_in(dir: &Path) -> Vec<i32> {
    let wanted = dir.to_str().unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    let numbers = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|pid| *pid != own && process::alive(*pid))
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(wanted) || cwd.starts_with(dir)
        })
        .collect()
}

/// The file systems of endpoints below `dir`.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    table
        .lines()
        .filter(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("fuse")))
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|at| Path::new(at).starts_with(dir))
        .map(str::to_owned)
        .collect()
}

/// Takes away the file systems of endpoints below `dir` and names them.
pub fn unmount_below(dir: &Path) -> Vec<String> {
    let mounts = mounts_below(dir);
    for at in &mounts {
        let _ = Command::new("umount").args(["-l", at]).output();
    }
    mounts
}

/// Waits until no shared memory is abandoned that was not `before`: the Postgres of another test may just have been
/// killed, and what it left goes when that test has it started again.
///
/// # Panics
/// If some stays.
pub fn assert_abandoned_no_more_than(before: &BTreeSet<String>) {
    const WITHIN: Duration = Duration::from_secs(60);
    wait_for("no shared memory of what was killed", WITHIN, || {
        abandoned_shared_memory().is_subset(before).then_some(())
    });
}

/// The shared memory on this machine that some Postgres made and no process uses: System V segments, and files.
pub fn abandoned_shared_memory() -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let unused = rows.filter(|row| row[6] == "0" && !process::alive(row[4].parse().unwrap()));
    let mut abandoned: BTreeSet<String> = unused.map(|row| format!("segment {}", row[1])).collect();

    let files = std::fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().path());
    let files = files.map(|path| path.display().to_string()).filter(|path| path.contains("/PostgreSQL."));
    // Before what uses them, as more may come to be meanwhile.
    let files: Vec<String> = files.collect();
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let maps = processes.filter_map(|process| std::fs::read_to_string(process.join("maps")).ok());
    let maps: Vec<String> = maps.collect();
    abandoned.extend(files.into_iter().filter(|file| !maps.iter().any(|maps| maps.contains(file.as_str()))));
    abandoned
}

fn print_logs(dir: &Path) {
    let mut logs = vec![dir.join("serve.log")];
    if let Ok(endpoints) = std::fs::read_dir(dir.join("endpoints")) {
        for endpoint in endpoints.flatten() {
            logs.extend(["compute.log", "postgres.log"].map(|name| endpoint.path().join(name)));
        }
    }
    for log in logs {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(40).collect();
        eprintln!("--- {}", log.display());
        for line in tail.iter().rev() {
            eprintln!("{line}");
        }
    }
}
