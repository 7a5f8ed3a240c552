//! While the server is away, an endpoint goes on with all it has: whoever needs a page that only the store has waits, and
//! nobody else does.

use std::sync::mpsc;
use std::time::Duration;

use postgres::Client;
use scion_tests::process::{self, wait_for};
use scion_tests::{Endpoint, Scion, sql};
use serde_json::json;

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;
/// Sessions that wait for a page each: more than the endpoint has threads for.
const READERS: usize = 40;

/// Rule 9 of the README of `compute`.
#[test]
fn cold_reads_wait_for_the_server_and_cached_work_and_writes_go_on() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    for n in 0..2 * READERS {
        root.execute(&format!("create table cold{n} as select generate_series(1, 1000) as id"));
    }
    root.execute("create table warm as select generate_series(1, 1000) as id");
    restart(&scion, &root);
    let mut warm = root.reconnect();
    read_catalogs(&root);
    work(&mut warm, "before");

    let readers = sessions(&root, 0..READERS);
    process::signal(scion.serve_pid(), SIGSTOP);
    let reading = read_all(readers);
    goes_on_meanwhile(&root, warm, "stopped", || process::signal(scion.serve_pid(), SIGCONT));
    process::signal(scion.serve_pid(), SIGCONT);
    assert_all_read(&reading);

    let mut warm = root.reconnect();
    work(&mut warm, "between");
    let readers = sessions(&root, READERS..2 * READERS);
    scion.kill_serve();
    let reading = read_all(readers);
    goes_on_meanwhile(&root, warm, "killed", || ());
    let status = wait_for("the status to say what it waits for", Duration::from_secs(20), || {
        let status = status(&root);
        status["reason"].as_str().filter(|text| text.contains("waits for the store")).map(str::to_owned)
    });
    assert!(status.contains("scion serve does not answer"), "{status}");
    scion.relaunch();
    assert_all_read(&reading);
    root.amcheck();
    assert_eq!(root.number("select count(*) from warm"), 1000 + 4);
    let child = scion.branch("child", json!({}));
    assert_eq!(child.number("select count(*) from warm"), 1000 + 4);
}

/// Puts all catalogs into the kernel's page cache: a split of a page of an index reads the page beside it.
fn read_catalogs(endpoint: &Endpoint) {
    const FIRST_OF_USERS: u32 = 16_384;
    let is_catalogs = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.split(['_', '.']).next().and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| number < FIRST_OF_USERS)
    };
    let mount = endpoint.dir.join("mnt");
    let databases = std::fs::read_dir(mount.join("base")).unwrap().map(|entry| entry.unwrap().path());
    for directory in databases.chain([mount.join("global")]) {
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        files.filter(is_catalogs).for_each(|path| drop(std::fs::read(path).unwrap()));
    }
}

/// What an endpoint says of itself on its own socket, while no server is there to ask it.
fn status(endpoint: &Endpoint) -> serde_json::Value {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(endpoint.dir.join("control.sock")).unwrap();
    stream.write_all(b"{\"cmd\":\"status\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str::<serde_json::Value>(&line).unwrap()["status"].clone()
}

/// Reads, writes, creates, and connects anew; everything it touches was touched before.
fn work(client: &mut Client, round: &str) {
    assert!(sql::number(client, "select count(*) from warm") >= 1000);
    client.batch_execute("insert into warm values (0)").unwrap();
    client
        .batch_execute(&format!(
            "create table made_{round}(id int primary key); insert into made_{round} values (1)"
        ))
        .unwrap();
    assert_eq!(sql::number(client, &format!("select count(*) from made_{round}")), 1);
}

/// Sessions that have planned a scan of a table each, but not read it.
fn sessions(root: &Endpoint, tables: std::ops::Range<usize>) -> Vec<(usize, Client)> {
    tables
        .map(|n| {
            let mut client = root.connect();
            client.batch_execute(&format!("explain select count(*) from cold{n}")).unwrap();
            (n, client)
        })
        .collect()
}

fn read_all(sessions: Vec<(usize, Client)>) -> mpsc::Receiver<i64> {
    let (done, reading) = mpsc::channel();
    for (n, mut client) in sessions {
        let done = done.clone();
        std::thread::spawn(move || {
            done.send(sql::number(&mut client, &format!("select count(*) from cold{n}"))).ok();
        });
    }
    reading
}

fn goes_on_meanwhile(root: &Endpoint, mut warm: Client, round: &'static str, give_up: impl FnOnce()) {
    let (done, working) = mpsc::channel();
    let root = root.clone();
    std::thread::spawn(move || {
        work(&mut warm, round);
        root.superuser_client("neondb").batch_execute("checkpoint").unwrap();
        done.send(()).ok();
    });
    let worked = working.recv_timeout(Duration::from_secs(60));
    if worked.is_err() {
        give_up();
    }
    worked.expect("cached work waits for the server");
}

fn assert_all_read(reading: &mpsc::Receiver<i64>) {
    for _ in 0..READERS {
        assert_eq!(reading.recv_timeout(Duration::from_secs(90)), Ok(1000));
    }
}

fn restart(scion: &Scion, endpoint: &Endpoint) {
    for verb in ["suspend", "start"] {
        let path = scion.path(&format!("/endpoints/{}/{verb}", endpoint.id));
        let _: serde_json::Value = scion.api().post(&path, json!({})).unwrap();
    }
}
