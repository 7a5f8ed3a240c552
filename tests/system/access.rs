//! Who may use the API: keys are made, are for one project or for all, and end at once.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use scion_tests::process::scion_binary;
use scion_tests::{Api, Endpoint, Scion, process};
use serde_json::{Value, json};

fn cli_with_key(scion: &Scion, key: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(scion_binary());
    command.args(arguments).env("SCION_DATA_DIR", scion.data_dir()).env("SCION_API_KEY", key);
    process::output(&mut command)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

#[test]
fn a_key_for_one_project_does_what_its_holder_needs_there_and_nothing_else() {
    let mut scion = Scion::start();
    let key = stdout(&scion.cli(&["api-key", "create", "ci", "--for-project", "test"]));
    assert!(key.starts_with("scion_"), "the key and nothing else: {key}");

    stdout(&cli_with_key(&scion, &key, &["branch", "create", "pr-1"]));
    let listed = stdout(&cli_with_key(&scion, &key, &["branch", "list"]));
    assert!(listed.contains("pr-1"), "{listed}");
    let refused = cli_with_key(&scion, &key, &["project", "delete", "test", "--yes"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    for verb in [vec!["status"], vec!["project", "create", "mine"], vec!["api-key", "list"], vec!["stop"]] {
        let refused = cli_with_key(&scion, &key, &verb);
        assert_eq!(refused.status.code(), Some(3), "{verb:?} {refused:?}");
    }

    scion.stop_serve();
    scion.relaunch();
    let listed = stdout(&scion.cli(&["api-key", "list"]));
    assert!(listed.contains("127.0.0.1"), "the last use is known after a restart: {listed}");
    stdout(&scion.cli(&["api-key", "revoke", "ci", "--yes"]));
    let refused = cli_with_key(&scion, &key, &["branch", "list"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(!String::from_utf8_lossy(&refused.stderr).contains(&key));
}

#[test]
fn other_machines_are_served_over_tls_only_unless_that_is_waived() {
    let dir = tempfile::Builder::new().prefix("scion-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let cli = |arguments: &[&str]| {
        let mut command = Command::new(scion_binary());
        command.args(arguments).env("SCION_DATA_DIR", dir.path());
        command
    };
    let refused = process::output(&mut cli(&["serve", "--http", "0.0.0.0:0"]));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{words}");
    assert!(words.contains("--http-tls") && !dir.path().join("api-key").exists(), "{words}");

    let mut serve = cli(&["serve", "--http", "0.0.0.0:0", "--http-tls"]);
    let mut serve = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let url = process::wait_for("scion serve to listen", Duration::from_secs(30), || {
        let text = std::fs::read(dir.path().join("server.json")).ok()?;
        serde_json::from_slice::<Value>(&text).ok()?["url"].as_str().map(str::to_owned)
    });
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let listed = stdout(&process::output(&mut cli(&["project", "list", "--output", "json"])));
    assert_eq!(listed, "[]");
    let elsewhere = |certificate: &Path| {
        let mut command = cli(&["project", "list", "--api", &url, "--output", "json"]);
        process::output(command.env("SCION_API_CERT", certificate))
    };
    assert_eq!(stdout(&elsewhere(&dir.path().join("tls-cert.pem"))), "[]");
    let stranger = elsewhere(Path::new("/etc/ssl/certs/ca-certificates.crt"));
    assert_eq!(stranger.status.code(), Some(6), "a certificate that nobody vouches for: {stranger:?}");
    let key = std::fs::read_to_string(dir.path().join("api-key")).unwrap();
    let plain = Api::new(&url.replace("https://", "http://"), key.trim());
    assert!(plain.get("/status").is_err(), "it spoke in the clear");
    stdout(&process::output(&mut cli(&["stop"])));
    assert!(serve.wait().unwrap().success());
}

/// A server that speaks TLS, killed unless it was stopped.
struct Serving(std::process::Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server in `dir` that speaks TLS, whose words go to a file there, once it listens.
fn serve_tls(dir: &Path) -> Serving {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).unwrap();
    let words = std::fs::File::create(dir.join("words")).unwrap();
    let mut serve = Command::new(scion_binary());
    serve.args(["serve", "--http", "127.0.0.1:0", "--http-tls", "--data-dir"]).arg(dir);
    let serve = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
    let serve = Serving(serve.spawn().unwrap());
    process::wait_for("scion serve to listen", Duration::from_secs(30), || {
        dir.join("server.json").exists().then_some(())
    });
    serve
}

fn stop_tls(dir: &Path, mut serve: Serving) {
    let mut stop = Command::new(scion_binary());
    stdout(&process::output(stop.args(["stop", "--data-dir"]).arg(dir)));
    assert!(serve.0.wait().unwrap().success());
}

#[test]
fn a_certificate_that_is_replaced_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let serve = serve_tls(other.path());
    stop_tls(other.path(), serve);
    let serve = serve_tls(dir.path());
    let first = dir.path().join("first.pem");
    std::fs::copy(dir.path().join("tls-cert.pem"), &first).unwrap();
    let new = other.path().join("tls-cert.pem");
    let trusts = |certificate: &Path| {
        let mut list = Command::new(scion_binary());
        list.args(["project", "list", "--data-dir"]).arg(dir.path()).env("SCION_API_CERT", certificate);
        let server = std::fs::read(dir.path().join("server.json")).unwrap();
        let url = serde_json::from_slice::<Value>(&server).unwrap()["url"].as_str().unwrap().to_owned();
        process::output(list.args(["--api", &url])).status.success()
    };
    assert!(trusts(&first) && !trusts(&new));
    // Whole at any time, as programs that renew certificates do it; between the two they are no pair.
    let replace = |name: &str| {
        let beside = dir.path().join("beside");
        std::fs::copy(other.path().join(name), &beside).unwrap();
        std::fs::rename(&beside, dir.path().join(name)).unwrap();
    };
    replace("tls-cert.pem");
    process::wait_for("the server to say what is wrong", Duration::from_secs(30), || {
        let words = std::fs::read_to_string(dir.path().join("words")).unwrap();
        words.contains("the API keeps the certificate that it has").then_some(())
    });
    assert!(trusts(&first) && !trusts(&new));
    replace("tls-key.pem");
    process::wait_for("the new certificate", Duration::from_secs(30), || trusts(&new).then_some(()));
    assert!(!trusts(&first));
    stop_tls(dir.path(), serve);
}

/// What the sessions of users do while the process list is looked at.
const SLEEP: &str = "select pg_sleep(600)";

/// Text of every log, of every command line, of what was answered with an error, and of what else lies below `dir`
/// readable by others.
struct Seen(Vec<(String, String)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    fn add_processes(&mut self) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            self.add(entry.path().display().to_string(), String::from_utf8_lossy(&line));
        }
    }

    fn add_error(&mut self, what: &str, result: Result<Value, scion_tests::ApiError>) {
        let error = result.err().unwrap_or_else(|| panic!("{what} was not refused"));
        self.add(format!("error of {what}"), error.message);
    }

    fn holding<'a>(&'a self, secret: &'a str) -> Vec<&'a str> {
        self.0.iter().filter(|(_, text)| text.contains(secret)).map(|(place, _)| place.as_str()).collect()
    }
}

/// Files below `dir`, without what is mounted there.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && entry.file_name() != "mnt" {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// Which of the files a user reads who is neither root nor Postgres; none if this user cannot become another.
fn readable_by_a_stranger(files: &[PathBuf]) -> Vec<PathBuf> {
    if !process::is_root() {
        return Vec::new();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sh", "-c"]);
    command.args(["for file; do [ -r \"$file\" ] && echo \"$file\"; done; true", "sh"]).args(files);
    process::run(&mut command).lines().map(PathBuf::from).collect()
}

#[test]
fn no_secret_is_in_a_log_a_process_list_an_error_or_a_file_that_others_can_read() {
    let mut scion = Scion::start();
    let path = |rest: &str| scion.path(rest);
    let mut seen = Seen(Vec::new());
    let mut secrets =
        vec![std::fs::read_to_string(scion.data_dir().join("api-key")).unwrap().trim().to_owned()];
    let made = scion.api().post("/api_keys", json!({"key_name": "ci"})).unwrap();
    secrets.push(made["key"].as_str().unwrap().to_owned());
    let child = scion.branch("child", json!({}));
    let roles = path(&format!("/branches/{}/roles", child.branch));
    let made = scion.api().post(&roles, json!({"role": {"name": "alice"}})).unwrap();
    secrets.push(made["role"]["password"].as_str().unwrap().to_owned());
    let reset = scion.api().post(&format!("{roles}/alice/reset_password"), json!({})).unwrap();
    secrets.push(reset["role"]["password"].as_str().unwrap().to_owned());
    let owner = scion.api().get(&format!("{roles}/neondb_owner/reveal_password")).unwrap();
    secrets.push(owner["password"].as_str().unwrap().to_owned());

    // Errors of all kinds, some of which quote what was sent.
    seen.add_error("a role that exists", scion.api().post(&roles, json!({"role": {"name": "alice"}})));
    seen.add_error("a role that cannot be", scion.api().post(&roles, json!({"role": {"name": "pg_x"}})));
    seen.add_error("no role", scion.api().get(&format!("{roles}/nobody/reveal_password")));
    seen.add_error("no project", scion.api().get("/projects/none"));
    let wrong = Api::new(&server_url(&scion), &format!("{}x", secrets[0]));
    seen.add_error("a wrong key", wrong.get("/projects"));
    let stranger = Endpoint { uri: child.uri.replace("npg_", "wrong_"), ..child.clone() };
    assert!(stranger.try_connect().is_err());
    let psql = |name: &str| {
        let mut command = Command::new(scion_binary());
        command.args(["psql", name, "--", "-Xc", SLEEP]).env("SCION_DATA_DIR", scion.data_dir());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut sessions = [psql("main"), psql("child")];
    for endpoint in [scion.root(), &child] {
        process::wait_for("a session that sleeps", Duration::from_secs(30), || {
            let asleep = format!("select count(*) from pg_stat_activity where query = '{SLEEP}'");
            (endpoint.psql("postgres", &asleep) == "1").then_some(())
        });
    }
    seen.add_processes();
    assert!(seen.holding(SLEEP).len() >= 2, "the sessions are in the process list");
    for (session, endpoint) in sessions.iter_mut().zip([scion.root(), &child]) {
        let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where query = '{SLEEP}'");
        assert_eq!(endpoint.psql("postgres", &end), "t");
        session.wait().unwrap();
    }
    scion.api().post(&path(&format!("/endpoints/{}/suspend", child.id)), json!({})).unwrap();
    scion.api().post(&path(&format!("/endpoints/{}/start", child.id)), json!({})).unwrap();
    seen.add_processes();
    scion.stop_serve();
    scion.relaunch();

    let text = |file: &Path| String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let files = files_below(scion.data_dir());
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "log")) {
        seen.add(file.display().to_string(), text(file));
    }
    assert!(
        seen.0.iter().any(|(place, text)| place.ends_with("serve.log") && text.contains("branch created"))
    );
    for secret in &secrets {
        assert_eq!(seen.holding(secret), [""; 0], "{secret}");
    }
    assert!(scion.root().dir.join("postgres.log").metadata().unwrap().len() > 0);
    let open = readable_by_a_stranger(&files);
    let meant = ["server.json", "tls-cert.pem", "serve.log"];
    let open = open.iter().filter(|file| !meant.iter().any(|name| file.ends_with(name)));
    assert_eq!(
        open.collect::<Vec<_>>(),
        Vec::<&PathBuf>::new(),
        "statements, rows and passwords may be in it"
    );
    // Hashes and keys are secrets too.
    let private = |text: &str| text.contains("PRIVATE KEY") || secrets.iter().any(|it| text.contains(it));
    let mut holders = 0;
    for file in &files {
        if private(&text(file))
            || file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("scion.sqlite"))
        {
            holders += 1;
            let mode = std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}: {mode:o}", file.display());
        }
    }
    assert!(holders >= 3, "the key, the metadata and the private key were looked at");
}

fn server_url(scion: &Scion) -> String {
    let text = std::fs::read(scion.data_dir().join("server.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["url"].as_str().unwrap().to_owned()
}
