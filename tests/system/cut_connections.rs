//! A connection that is cut between a command and the server costs nothing: what the server did is done once, and the command
//! says what it did.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use scion_tests::Scion;
use scion_tests::process::{self, scion_binary};
use serde_json::{Value, json};

/// What becomes of the next POST.
const PASSES: u8 = 0;
const CUT_WHEN_DONE: u8 = 1;
const CUT_WHEN_SENT: u8 = 2;

/// Passes requests on, and cuts those that it is told to.
struct Proxy {
    url: String,
    next: Arc<AtomicU8>,
}

impl Proxy {
    fn of(scion: &Scion) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let base = scion.api().base();
        let server = base.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
        let next = Arc::new(AtomicU8::new(PASSES));
        let told = Arc::clone(&next);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, told) = (server.clone(), Arc::clone(&told));
                // Whoever hangs up ends it.
                std::thread::spawn(move || pass(&client, &server, &told).ok());
            }
        });
        Self { url, next }
    }
}

fn pass(client: &TcpStream, server: &str, next: &AtomicU8) -> io::Result<()> {
    let mut from_client = BufReader::new(client);
    loop {
        let request = message(&mut from_client)?;
        let does = if request.starts_with(b"POST") { next.swap(PASSES, Ordering::SeqCst) } else { PASSES };
        let mut upstream = TcpStream::connect(server)?;
        upstream.write_all(&request)?;
        if does == CUT_WHEN_SENT {
            // The server may see its client go before or after it has begun.
            return Ok(());
        }
        let answer = message(&mut BufReader::new(&upstream))?;
        if does == CUT_WHEN_DONE {
            return Ok(());
        }
        (&mut &*client).write_all(&answer)?;
    }
}

/// A request or an answer, whole.
fn message(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut len = 0;
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line).to_lowercase();
        if let Some(number) = text.strip_prefix("content-length:") {
            len = number.trim().parse().unwrap();
        }
        bytes.extend_from_slice(&line);
        if text.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    bytes.extend(body);
    Ok(bytes)
}

fn scion(server: &Scion, proxy: &Proxy, arguments: &[&str]) -> Output {
    let mut command = Command::new(scion_binary());
    command.args(arguments).env("SCION_API", &proxy.url).env("SCION_API_KEY", server.api().key());
    process::output(command.env("SCION_PROJECT", server.project()))
}

/// Names of objects of a kind.
fn names(server: &Scion, path: &str, kind: &str) -> Vec<String> {
    let listed = server.api().get(path).unwrap();
    let list = if listed.is_array() { &listed } else { &listed[kind] };
    let name = |it: &Value| it["name"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn whatever_a_command_makes_is_made_once_though_its_answer_is_lost() {
    let server = Scion::start();
    let proxy = Proxy::of(&server);
    let of_main = |kind: &str| server.path(&format!("/branches/{}/{kind}", server.root_branch()));
    let commands: &[(&[&str], String, &str)] = &[
        (&["project", "create", "NAME"], "/projects".to_owned(), "projects"),
        (&["branch", "create", "NAME"], server.path("/branches"), "branches"),
        (&["role", "create", "main", "NAME"], of_main("roles"), "roles"),
        (&["database", "create", "main", "NAME"], of_main("databases"), "databases"),
        (&["snapshot", "create", "NAME"], server.path("/snapshots"), "snapshots"),
        (&["api-key", "create", "NAME"], "/api_keys".to_owned(), "api_keys"),
    ];
    for (command, path, kind) in commands {
        for (cut, name) in [(CUT_WHEN_DONE, "cut_when_done"), (CUT_WHEN_SENT, "cut_when_sent")] {
            let name = name.replace('_', if *kind == "roles" || *kind == "databases" { "_" } else { "-" });
            let arguments: Vec<&str> =
                command.iter().map(|it| if *it == "NAME" { name.as_str() } else { it }).collect();
            proxy.next.store(cut, Ordering::SeqCst);
            let output = scion(&server, &proxy, &arguments);
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            assert_eq!(proxy.next.load(Ordering::SeqCst), PASSES, "{arguments:?} was not cut");
            let made = names(&server, path, kind).into_iter().filter(|it| *it == name).count();
            assert_eq!(made, 1, "{arguments:?}");
        }
    }
}

#[test]
fn a_request_sent_twice_is_answered_with_the_outcome_of_the_first_and_with_a_refusal_if_it_is_another() {
    let server = Scion::start();
    let roles = server.path(&format!("/branches/{}/roles", server.root_branch()));
    let ask = |key: &str, name: &str| {
        server
            .api()
            .ask_with("POST", &roles, &[("Idempotency-Key", key)], &json!({"role": {"name": name}}))
            .unwrap()
    };
    let first = ask("one", "alice");
    assert_eq!(first.0, 201, "{}", first.1);
    assert_eq!(ask("one", "alice"), first, "the password too");
    assert_eq!(ask("two", "alice").0, 409);
    let (status, body) = ask("one", "bob");
    assert_eq!((status, body["code"].as_str()), (422, Some("IDEMPOTENCY_KEY_REUSED")));
    // What was not done is done when it can be.
    server.api().delete(&format!("{roles}/alice")).unwrap();
    assert_eq!(ask("two", "alice").0, 201);

    // All at once: one does it, and everybody hears of that one.
    let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..8).map(|_| scope.spawn(|| ask("three", "carol"))).collect();
        asks.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == 201), "{answers:?}");
}
