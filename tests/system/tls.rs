//! Clients reach every endpoint over TLS, with a certificate they can check and bind their login to.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use scion_tests::process::{output, pg_program, wait_for};
use scion_tests::{Endpoint, Scion};
use serde_json::json;

const SHOW: &str = "select ssl, version, current_user from pg_stat_ssl where pid = pg_backend_pid()";

fn psql(uri: &str, more: &str) -> Output {
    let name = format!("{uri}{more}");
    output(Command::new(pg_program("psql")).args(["-XAtc", SHOW, "-d", &name]))
}

fn uri(scion: &Scion, endpoint: &Endpoint) -> String {
    let query =
        format!("/connection_uri?branch_id={}&role_name=neondb_owner&database_name=neondb", endpoint.branch);
    scion.api().get(&scion.path(&query)).unwrap()["uri"].as_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn a_login_is_encrypted_bound_to_the_channel_and_checked_against_the_certificate() {
    let scion = Scion::start();
    let child = scion.branch("child", json!({}));
    let root = format!("&sslrootcert={}", scion.data_dir().join("tls-cert.pem").display());
    for endpoint in [scion.root(), &child] {
        let uri = uri(&scion, endpoint);
        // Clients of libpq take TLS where it is offered.
        for more in ["", "?sslmode=require", "?sslmode=require&channel_binding=require"] {
            let answer = psql(&uri, more);
            assert!(said(&answer).starts_with("t|TLSv1.3|neondb_owner"), "{more}: {}", said(&answer));
        }
        let strict = format!("{uri}?sslmode=verify-full");
        let answer = psql(&strict, &format!("{root}&channel_binding=require"));
        assert!(answer.status.success(), "{}", said(&answer));
        let other = psql(&strict, "&sslrootcert=/etc/ssl/certs/ca-certificates.crt");
        assert!(!other.status.success(), "a certificate that nobody vouches for was taken");
    }
    let plain = endpoint_files(&scion, scion.root());
    assert!(!plain.contains("PRIVATE KEY"), "the key lies in the endpoint's directory");
}

/// The text of every file that an endpoint has on disk, outside of its mount.
fn endpoint_files(scion: &Scion, endpoint: &Endpoint) -> String {
    let dir = scion.data_dir().join("endpoints").join(&endpoint.id);
    let files = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()).collect()
}

#[test]
fn the_certificate_outlives_the_server_and_another_can_be_named() {
    let mut scion = Scion::start();
    let first = std::fs::read(scion.data_dir().join("tls-cert.pem")).unwrap();
    scion.stop_serve();
    scion.relaunch();
    assert_eq!(std::fs::read(scion.data_dir().join("tls-cert.pem")).unwrap(), first);

    let path = |name: &str| scion.data_dir().join(name).to_str().unwrap().to_owned();
    let named = ["--tls-cert", &path("tls-cert.pem"), "--tls-key", &path("tls-key.pem")].map(str::to_owned);
    let other = Scion::start_with(&named, json!({"name": "named"}));
    assert!(!other.data_dir().join("tls-cert.pem").exists());
    let strict = format!("{}?sslmode=verify-full", uri(&other, other.root()));
    let answer = psql(&strict, &format!("&sslrootcert={}", path("tls-cert.pem")));
    assert!(answer.status.success(), "{}", said(&answer));
    let refused = output(
        Command::new(scion_tests::process::scion_binary())
            .args(["serve", "--http", "127.0.0.1:0", "--data-dir", &path("elsewhere")])
            .args(["--tls-cert", "/etc/hostname", "--tls-key", &path("tls-key.pem")]),
    );
    assert!(!refused.status.success() && said(&refused).contains("/etc/hostname holds no certificate"));
}

#[test]
fn a_running_postgres_takes_another_certificate_and_keeps_its_own_while_there_is_no_pair() {
    let (first, second) = (Scion::start(), Scion::start());
    let pair = tempfile::tempdir().unwrap();
    let file = |name: &str| pair.path().join(name).to_str().unwrap().to_owned();
    // Whole at any time, as programs that renew certificates do it.
    let put = |from: &Path, name: &str| {
        std::fs::copy(from.join(name), file("beside")).unwrap();
        std::fs::rename(file("beside"), file(name)).unwrap();
    };
    for name in ["tls-cert.pem", "tls-key.pem"] {
        put(first.data_dir(), name);
    }
    let named = ["--tls-cert", &file("tls-cert.pem"), "--tls-key", &file("tls-key.pem")].map(str::to_owned);
    let scion = Scion::start_with(&named, json!({"name": "renewed"}));
    let strict = format!("{}?sslmode=verify-full", uri(&scion, scion.root()));
    let shows = |of: &Scion| {
        let root = of.data_dir().join("tls-cert.pem");
        psql(&strict, &format!("&sslrootcert={}", root.display())).status.success()
    };
    let mut session = scion.root().connect();
    assert!(shows(&first) && !shows(&second));

    let log = scion.data_dir().join("endpoints").join(&scion.root().id).join("postgres.log");
    put(second.data_dir(), "tls-cert.pem");
    wait_for("postgres to refuse what is no pair", Duration::from_secs(60), || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("SSL configuration was not reloaded").then_some(())
    });
    assert!(shows(&first) && !shows(&second));
    put(second.data_dir(), "tls-key.pem");
    wait_for("the new certificate", Duration::from_secs(60), || shows(&second).then_some(()));
    assert!(!shows(&first));
    let kept: i32 = session.query_one("select 1", &[]).unwrap().get(0);
    assert_eq!(kept, 1, "no session ended for it");
}
