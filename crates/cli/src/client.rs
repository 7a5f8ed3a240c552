//! Talks to the server's HTTP API and turns its refusals into failures.
//!
//! A request that finds the object locked (HTTP 423), comes too soon (429) or finds no place (503 with `Retry-After`) was
//! not begun, so it is safe to repeat, and is repeated for a few seconds.
//!
//! Every POST carries an `Idempotency-Key`, the same for each time that it is sent. So one whose connection was cut is sent
//! once more: the server answers what became of the first.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::operation::{Operation, OperationStatus};
use api::percent;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::failure::{self, Failure, Kind};
use crate::place::Server;
use crate::wire::{self, Object, Said};

/// The longest one request may take: more than the longest time within which the server answers, or is sent the body.
const REQUEST_LIMIT: Duration = Duration::from_secs(server::ANSWERED_WITHIN.as_secs() + 60);
/// How long a locked object is asked for again.
const LOCKED_LIMIT: Duration = Duration::from_secs(10);
/// How long an operation is waited for before its outcome is left open: what the server answers with one has ended.
const OPERATION_LIMIT: Duration = REQUEST_LIMIT;
/// Objects asked for at once; the API allows no more for projects. Fewer in an answer means it was the last page.
const PAGE_LIMIT: usize = 400;
/// The largest answer read.
const ANSWER_LIMIT_BYTES: u64 = 256 << 20;

/// A connection to one server.
pub struct Client {
    agent: ureq::Agent,
    server: Server,
}

impl Client {
    /// A client of `server`; nothing is sent yet.
    ///
    /// # Errors
    /// When the certificates to trust cannot be read.
    pub fn new(server: Server) -> Result<Self, Failure> {
        Self::within(server, REQUEST_LIMIT)
    }

    /// As [`Self::new`], with requests that take no longer than `limit`.
    ///
    /// # Errors
    /// When the certificates to trust cannot be read.
    pub fn within(server: Server, limit: Duration) -> Result<Self, Failure> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(limit))
            .proxy(None);
        if server.url.starts_with("https://") {
            config = config.tls_config(trusting(&server.certificates)?);
        }
        Ok(Self { agent: config.build().into(), server })
    }

    /// Address of the server.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// `GET path`, with `path` below `/api/v2`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Said<T>, Failure> {
        Said::of(self.request("GET", path, None)?)
    }

    /// The object that `GET path` answers with.
    pub fn one<T: Object>(&self, path: &str) -> Result<Said<T>, Failure> {
        wire::one(self.request("GET", path, None)?)
    }

    /// The objects that `GET path` answers with, all at once.
    pub fn many<T: Object>(&self, path: &str) -> Result<Vec<Said<T>>, Failure> {
        wire::many(self.request("GET", path, None)?)
    }

    /// `POST path` with a JSON body.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: impl Serialize) -> Result<Said<T>, Failure> {
        Said::of(self.request("POST", path, Some(&json(body)))?)
    }

    /// `PATCH path` with a JSON body.
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: impl Serialize) -> Result<Said<T>, Failure> {
        Said::of(self.request("PATCH", path, Some(&json(body)))?)
    }

    /// `PUT path` with a JSON body.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: impl Serialize) -> Result<Said<T>, Failure> {
        Said::of(self.request("PUT", path, Some(&json(body)))?)
    }

    /// `DELETE path`; `None` when the object was already gone.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<Option<Said<T>>, Failure> {
        match self.request("DELETE", path, None)? {
            Value::Null => Ok(None),
            answer => Said::of(answer).map(Some),
        }
    }

    /// All objects of the paged list `path`.
    pub fn list<T: Object>(&self, path: &str) -> Result<Vec<Said<T>>, Failure> {
        let mut all = Vec::new();
        self.pages(path, |objects: Vec<Said<T>>| {
            all.extend(objects);
            None::<()>
        })?;
        Ok(all)
    }

    /// What `find` finds first among the objects of the paged list `path`: it sees one page after the other.
    pub fn pages<T: Object, F>(
        &self,
        path: &str,
        mut find: impl FnMut(Vec<Said<T>>) -> Option<F>,
    ) -> Result<Option<F>, Failure> {
        let path = format!("{path}{}limit={PAGE_LIMIT}", if path.contains('?') { '&' } else { '?' });
        let mut cursor = String::new();
        loop {
            let page = match cursor.as_str() {
                "" => self.request("GET", &path, None)?,
                cursor => {
                    let path = format!("{path}&cursor={}", percent::encoded(cursor));
                    self.request("GET", &path, None)?
                }
            };
            let next = next_page(&page);
            let objects = wire::many(page)?;
            let is_last = objects.len() < PAGE_LIMIT;
            if let Some(found) = find(objects) {
                return Ok(Some(found));
            }
            match next {
                Some(next) if !is_last && next != cursor => cursor = next,
                _ => return Ok(None),
            }
        }
    }

    /// Waits until every one of `operations` has finished.
    pub fn wait(&self, project: &str, operations: &[Operation]) -> Result<(), Failure> {
        operations.iter().try_for_each(|operation| self.wait_one(project, operation))
    }

    fn wait_one(&self, project: &str, operation: &Operation) -> Result<(), Failure> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(5);
        let mut current = operation.clone();
        loop {
            match current.status {
                OperationStatus::Finished => return Ok(()),
                OperationStatus::Failed => return Err(operation_failure(&current)),
                OperationStatus::Running if started.elapsed() > OPERATION_LIMIT => {
                    let (action, limit_s) = (&current.action, OPERATION_LIMIT.as_secs());
                    return Err(Failure::new(
                        Kind::Failed,
                        format!("{action} is still running after {limit_s} s"),
                    )
                    .hint("it goes on in the server; `scion status` shows how far it is"));
                }
                OperationStatus::Running => {}
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
            let (project, id) = (percent::encoded(project), percent::encoded(&operation.id));
            let path = format!("/projects/{project}/operations/{id}");
            current = Operation::clone(&*self.one::<Operation>(&path)?);
        }
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(50);
        let key = if method == "POST" { Some(new_key()?) } else { None };
        let mut cut = false;
        loop {
            let asked = self.request_once(method, path, key.as_deref(), body);
            let (status, retry_after, answer) = match asked {
                Err(Lost::Cut(_)) if key.is_some() && !cut => {
                    cut = true;
                    continue;
                }
                other => other.map_err(Failure::from)?,
            };
            match status {
                200..=299 => return Ok(answer),
                // A 503 that says when to come again was not begun.
                429 | 503 if retry_after.is_some() && started.elapsed() < LOCKED_LIMIT => {
                    std::thread::sleep(retry_after.unwrap_or_default().min(LOCKED_LIMIT));
                }
                429 if started.elapsed() < LOCKED_LIMIT => std::thread::sleep(Duration::from_secs(1)),
                423 if started.elapsed() < LOCKED_LIMIT => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                _ => {
                    return Err(failure::from_http(status, message(&answer)));
                }
            }
        }
    }

    /// The status of the answer, how long to wait before asking again, and its body.
    fn request_once(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, Option<Duration>, Value), Lost> {
        let url = format!("{}/api/v2{path}", self.server.url);
        let bearer = format!("Bearer {}", self.server.key);
        let mut builder =
            ureq::http::Request::builder().method(method).uri(&url).header("Authorization", bearer);
        if let Some(key) = key {
            builder = builder.header("Idempotency-Key", key);
        }
        let sent = match body {
            Some(body) => builder
                .header("Content-Type", "application/json")
                .body(body.to_string())
                .map(|request| self.agent.run(request)),
            None => builder.body(()).map(|request| self.agent.run(request)),
        };
        let mut response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.lost(&error)),
            Err(error) => {
                let text = format!("{url} cannot be asked for: {error}");
                return Err(Lost::Failed(Failure::new(Kind::Usage, text)));
            }
        };
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = retry_after.map(Duration::from_secs);
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT_BYTES)
            .read_to_string()
            .map_err(|error| self.lost(&error))?;
        Ok((status, retry_after, answer_of(status, &text).map_err(Lost::Failed)?))
    }

    fn lost(&self, error: &ureq::Error) -> Lost {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let failure = self.transport_failure(error);
        match error {
            ureq::Error::Io(error)
                if matches!(
                    error.kind(),
                    BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
                ) =>
            {
                Lost::Cut(failure)
            }
            _ => Lost::Failed(failure),
        }
    }

    fn transport_failure(&self, error: &ureq::Error) -> Failure {
        let url = &self.server.url;
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                Failure::new(Kind::Unreachable, format!("no server answered at {url} within 5 s"))
            }
            ureq::Error::Timeout(_) => Failure::new(
                Kind::Failed,
                format!("the server at {url} did not finish within {} s", REQUEST_LIMIT.as_secs()),
            )
            .hint("it may still be at it; `scion status` shows"),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Failure::new(Kind::Unreachable, format!("nothing listens at {url}"))
                    .hint("start the server with `scion serve`")
            }
            error => {
                Failure::new(Kind::Unreachable, format!("could not talk to the server at {url}: {error}"))
                    .hint("is it running? `scion doctor` shows what it needs")
            }
        }
    }
}

/// Why there is no whole answer.
enum Lost {
    /// The connection was cut, and what was asked may have been done.
    Cut(Failure),
    /// Anything else.
    Failed(Failure),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Cut(failure) | Lost::Failed(failure) => failure,
        }
    }
}

/// A key that no other request has.
fn new_key() -> Result<String, Failure> {
    server::uuid().map_err(|error| failure::from_words(Kind::Failed, &error.to_string()))
}

/// TLS with servers that these certificates vouch for.
fn trusting(path: &Path) -> Result<TlsConfig, Failure> {
    let wrong = |words: String| {
        Failure::new(Kind::Usage, format!("the certificates to trust, {}: {words}", path.display()))
            .hint("name the server's certificate, tls-cert.pem in its data directory, with SCION_API_CERT")
    };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(wrong("no certificate is in there".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(provider);
    Ok(config.build())
}

fn answer_of(status: u16, text: &str) -> Result<Value, Failure> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if status >= 300 => Ok(serde_json::json!({ "message": text.trim() })),
        Err(error) => Err(Failure::new(Kind::Failed, format!("the server's answer is not JSON: {error}"))
            .hint("is that address a scion server?")),
    }
}

/// What a body of `api` is as JSON.
fn json(body: impl Serialize) -> Value {
    serde_json::to_value(body)
        .expect("the types of the interface have names for fields, which is all JSON wants")
}

/// Where the next page of a list begins: branches say it in one field, everything else in another.
fn next_page(page: &Value) -> Option<String> {
    let pagination = page.get("pagination")?;
    let mut said = ["next", "cursor"].into_iter().filter_map(|field| pagination.get(field)?.as_str());
    said.find(|text| !text.is_empty()).map(str::to_owned)
}

/// What the server says of its refusal. What stands between may answer in its stead, so no field has to be there.
fn message(answer: &Value) -> &str {
    answer.get("message").and_then(Value::as_str).unwrap_or_default()
}

fn operation_failure(operation: &Operation) -> Failure {
    let Operation { action, error, .. } = operation;
    let message = match error {
        Some(error) => format!("{action}: {error}"),
        None => format!("{action} ended as {}", wire::word(operation.status)),
    };
    Failure::new(Kind::Failed, message).hint("the server's log says more; `scion doctor` checks this machine")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::wire::samples;
    use api::branch::Branch;
    use serde_json::json;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    fn at(url: String, key: &str) -> Server {
        Server { url, key: key.to_owned(), certificates: "/nonexistent".into() }
    }

    /// A server that gives `answers` one after the other, one connection each, and returns what it was asked.
    pub fn server_answering(answers: Vec<(u16, &'static str)>) -> (Client, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut buffer = [0u8; 8192];
                let len = stream.read(&mut buffer).unwrap();
                asked.push(String::from_utf8_lossy(&buffer[..len]).lines().next().unwrap().to_owned());
                let head = format!(
                    "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(body.as_bytes()).unwrap();
            }
            asked
        });
        (Client::new(at(url, "k")).unwrap_or_else(|_| panic!("a client")), thread)
    }

    #[test]
    fn a_refusal_carries_the_servers_words() {
        let (client, thread) = server_answering(vec![(422, r#"{"message":"branch has children"}"#)]);
        let failure = client.delete::<Value>("/projects/p/branches/b").unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::Refused, "branch has children"));
        assert_eq!(thread.join().unwrap(), ["DELETE /api/v2/projects/p/branches/b HTTP/1.1"]);
    }

    #[test]
    fn a_locked_object_is_asked_for_again() {
        let (client, thread) =
            server_answering(vec![(423, r#"{"message":"busy"}"#), (200, r#"{"ok":true}"#)]);
        assert_eq!(client.get::<Value>("/x").unwrap()["ok"], true);
        assert_eq!(thread.join().unwrap().len(), 2);
    }

    /// The second connection is answered, the first is cut when it has asked.
    fn cut_once(method: &str) -> (Result<Value, Failure>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new(at(url, "k")).unwrap_or_else(|_| panic!("a client"));
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in ["", "HTTP/1.1 201 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut buffer = [0u8; 8192];
                let len = stream.read(&mut buffer).unwrap();
                asked.push(String::from_utf8_lossy(&buffer[..len]).to_lowercase());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        let answer = client.request(method, "/x", Some(&Value::Null));
        // Whoever was not asked again is asked now.
        let asked_again = answer.is_ok() || client.request("GET", "/x", None).is_ok();
        assert!(asked_again);
        (answer, thread.join().unwrap())
    }

    #[test]
    fn a_post_that_was_cut_is_sent_once_more_with_its_key_and_nothing_else_is() {
        let key = |request: &String| {
            let line = request.lines().find(|line| line.starts_with("idempotency-key: "));
            line.map(str::to_owned)
        };
        let (answer, asked) = cut_once("POST");
        assert!(answer.is_ok());
        assert!(asked[1].starts_with("post") && key(&asked[0]).is_some());
        assert_eq!(key(&asked[0]), key(&asked[1]));
        let (answer, asked) = cut_once("PATCH");
        assert_eq!(answer.unwrap_err().kind, Kind::Unreachable);
        assert!(asked[1].starts_with("get") && key(&asked[0]).is_none());
    }

    #[test]
    fn a_request_is_given_up_later_than_the_server_gives_it_up() {
        assert!(REQUEST_LIMIT > server::ANSWERED_WITHIN && OPERATION_LIMIT > server::ANSWERED_WITHIN);
    }

    #[test]
    fn lists_are_read_to_the_last_page() {
        let branch = samples::branch(json!({}));
        let full = json!({"branches": vec![&branch; PAGE_LIMIT], "pagination": {"next": "a/1"}}).to_string();
        let last = json!({"branches": [branch], "pagination": {"next": "b"}}).to_string();
        let (client, thread) = server_answering(vec![(200, full.leak()), (200, last.leak())]);
        assert_eq!(client.list::<Branch>("/b").unwrap().len(), PAGE_LIMIT + 1);
        assert_eq!(thread.join().unwrap()[1], "GET /api/v2/b?limit=400&cursor=a%2F1 HTTP/1.1");
    }

    #[test]
    fn a_failed_operation_is_a_failure_with_its_reason() {
        let (client, _thread) = server_answering(vec![]);
        let failed =
            samples::operation(json!({"action": "start_compute", "status": "failed", "error": "no FUSE"}));
        let failed: Said<Operation> = samples::said(failed);
        let failure = client.wait("p", std::slice::from_ref(&*failed)).unwrap_err();
        assert_eq!(failure.message, "start_compute: no FUSE");
    }

    #[test]
    fn nothing_listening_is_unreachable() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client =
            Client::new(at(format!("http://127.0.0.1:{port}"), "")).unwrap_or_else(|_| panic!("a client"));
        assert_eq!(client.get::<Value>("/projects").unwrap_err().kind, Kind::Unreachable);
    }
}
