//! What clients ask for never holds up others: slow questions, hung-up clients, idle connections, a damaged project.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use scion_tests::Scion;
use scion_tests::process::{self, wait_for};
use serde_json::{Value, json};

/// The address of the server.
fn address(scion: &Scion) -> String {
    let base = scion.api().base();
    base.trim_start_matches("http://").split('/').next().unwrap().to_owned()
}

/// A connection on which a request was sent.
fn sent(scion: &Scion, method: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address(scion)).unwrap();
    let key = scion.api().key();
    let head = format!(
        "{method} /api/v2{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The status of the answer.
fn status(stream: &mut TcpStream) -> u16 {
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).unwrap();
    std::str::from_utf8(&line[9..12]).unwrap().parse().unwrap()
}

#[test]
fn a_shutdown_whose_client_hangs_up_ends_the_server() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table t(x int); insert into t values (1)");
    let asked = sent(&scion, "POST", "/shutdown");
    wait_for("the endpoint to be stopping", Duration::from_secs(30), || {
        let info = scion.api().get(&scion.path(&format!("/endpoints/{}", root.id)));
        info.ok().filter(|info| info["endpoint"]["current_state"] != "active")
    });
    drop(asked);
    scion.wait_for_its_end(Duration::from_secs(60));
    scion.relaunch();
    let count = wait_for("the endpoint to run again", Duration::from_secs(60), || {
        let mut client = root.try_connect().ok()?;
        client.query_one("select count(*) from t", &[]).ok().map(|row| row.get::<_, i64>(0))
    });
    assert_eq!(count, 1);
}

#[test]
fn a_project_with_a_damaged_store_is_named_and_the_others_work_and_stop() {
    let mut scion = Scion::start();
    let made = scion.api().post("/projects", json!({"project": {"name": "broken"}})).unwrap();
    let broken = made["project"]["id"].as_str().unwrap().to_owned();
    scion.stop_serve();
    for entry in std::fs::read_dir(scion.data_dir().join("projects").join(&broken).join("manifest")).unwrap()
    {
        std::fs::write(entry.unwrap().path(), b"not a manifest").unwrap();
    }
    scion.relaunch();

    let status = scion.api().get("/status").unwrap();
    let unusable = status["unusable_projects"].as_array().unwrap();
    assert_eq!((unusable.len(), &unusable[0]["name"]), (1, &json!("broken")), "{status}");
    assert!(status["branches"].as_array().unwrap().iter().any(|it| it["id"] == scion.root_branch()));
    let said = scion.cli(&["status"]);
    assert!(said.status.success(), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("project broken"), "{said:?}");
    scion.root().execute("create table t(x int)");
    assert_eq!(scion.api().get("/projects").unwrap()["projects"].as_array().unwrap().len(), 2);

    let stopped = scion.cli(&["stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    scion.wait_for_its_end(Duration::from_secs(10));
}

/// A lock on a table holds up every dump of its database. What holds up dumps holds up nothing else.
#[test]
fn questions_that_hang_hold_up_no_others() {
    let arguments = ["--dump-timeout".to_owned(), "3".to_owned()];
    let mut scion = Scion::start_with(&arguments, json!({"name": "test"}));
    let root = scion.root().clone();
    root.execute("create table t(x int)");
    let mut holder = root.connect();
    holder.batch_execute("begin; lock table t in access exclusive mode").unwrap();
    let path = scion.path(&format!("/branches/{}/schema?db_name=neondb", root.branch));
    let mut asked: Vec<TcpStream> = (0..520).map(|_| sent(&scion, "GET", &path)).collect();

    let began = Instant::now();
    assert!(scion.api().get("/projects").is_ok());
    assert!(scion.api().get(&scion.path("/branches")).is_ok());
    let made = scion.try_branch("meanwhile", json!({}), false).unwrap();
    assert_eq!(made["branch"]["name"], "meanwhile");
    assert!(began.elapsed() < Duration::from_secs(5), "they took {:?}", began.elapsed());

    // Some are told to come again, at once; those at work are given up.
    let (first, last) = asked.split_at_mut(8);
    let statuses: Vec<u16> = first.iter_mut().chain(last.iter_mut().rev().take(8)).map(status).collect();
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    drop(asked);
    wait_for("the dumps of clients that hung up to end", Duration::from_secs(30), || {
        dumps(&scion).is_empty().then_some(())
    });

    let _stuck = sent(&scion, "GET", &path);
    let one = wait_for("a dump", Duration::from_secs(30), || dumps(&scion).first().copied());
    scion.kill_serve();
    wait_for("a dump of a server that was killed to end", Duration::from_secs(10), || {
        (!process::alive(one)).then_some(())
    });
    drop(holder);
    scion.relaunch();
    assert!(scion.api().get(&path).is_ok(), "the schema comes once nobody holds the lock");
}

/// Processes that dump something of this server's endpoints.
fn dumps(scion: &Scion) -> Vec<i32> {
    let all = scion_tests::server::processes_in(scion.data_dir());
    let dumps = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("pg_dump"))
    };
    all.into_iter().filter(dumps).collect()
}

#[test]
fn idle_connections_take_nobodys_place() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t as select g from generate_series(1, 20000) g");
    let idle: Vec<TcpStream> = (0..1100).map(|_| TcpStream::connect(address(&scion)).unwrap()).collect();

    assert!(scion.api().get("/projects").is_ok());
    // Its pages come from the store, over new connections of its own.
    let branch = scion.branch("cold", json!({}));
    assert_eq!(branch.number("select count(*) from t"), 20_000);
    drop(idle);
}

#[test]
fn what_is_refused_is_in_the_log_by_its_id() {
    let scion = Scion::start();
    let (status, body) = scion.api().ask("GET", &scion.path("/branches?limit=x"), &Value::Null);
    assert_eq!(status, 400, "{body}");
    let log = std::fs::read_to_string(scion.data_dir().join("serve.log")).unwrap();
    let id = body["request_id"].as_str().unwrap();
    let line = log.lines().find(|line| line.contains(id)).expect("the id is in the log");
    assert!(line.contains("GET") && line.contains("/branches") && line.contains("400"), "{line}");
}
