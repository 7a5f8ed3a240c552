//! `scion serve`: the server, in the foreground until it is told to stop.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use compute::TlsFiles;
use server::installed::NamedBin;
use server::{ServeError, ServeOptions};

use crate::failure::{self, Failure, Kind};
use crate::global::Global;
use crate::place;

/// Run the server: API, page store and one compute process for each running endpoint.
#[derive(Args)]
pub struct Serve {
    /// Address of the HTTP API; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:7080", value_name = "ADDRESS")]
    http: SocketAddr,
    #[command(flatten)]
    pg_bin: PgBin,
    /// When run as root: the user PostgreSQL runs as [default: one for each project].
    #[arg(long, value_name = "USER")]
    run_as: Option<String>,
    /// A file or directory that PostgreSQL may use beside its own, for an extension that needs it; `/` is everything.
    #[arg(long, env = "SCION_POSTGRES_PATH", value_delimiter = ':', value_name = "PATH")]
    postgres_path: Vec<PathBuf>,
    /// Extensions that owners of databases may create though it takes a superuser otherwise, such as
    /// `pg_stat_statements,postgis`.
    #[arg(long, env = "SCION_OWNER_EXTENSIONS", value_delimiter = ',', value_name = "NAME", value_parser = extension_name)]
    owner_extensions: Vec<String>,
    /// Megabytes of a branch's recent changes kept in memory before they are written to disk in order.
    #[arg(long, env = "SCION_MEMTABLE_MB", default_value_t = 32, value_name = "MB",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    memtable_mb: u16,
    /// Megabytes of such changes kept of all branches together. At that bound, writes wait for the disk.
    #[arg(long, env = "SCION_MEMORY_MB", default_value_t = 256, value_name = "MB",
          value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    memory_mb: u32,
    /// Requests that one API key may make in a second, and as many at once after a pause; 0 is any number.
    #[arg(long, default_value_t = 1000, value_name = "REQUESTS")]
    rate_limit: u32,
    /// Seconds that reading or copying a schema may take with `pg_dump`, `pg_dumpall` and `psql` [default: 300].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    dump_timeout: Option<u32>,
    /// Speak HTTP over TLS, with the certificate that endpoints show.
    #[arg(long)]
    http_tls: bool,
    /// Certificate that endpoints show their clients, PEM [default: one made in the data directory].
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name or address by which other machines reach this server, for the certificate made in the data directory; may be
    /// given more than once. A certificate that lacks one is made again, with the same key.
    #[arg(long, value_name = "NAME", conflicts_with = "tls_cert")]
    tls_san: Vec<String>,
    /// Listen on an address other machines can reach without TLS, although the key travels in the clear.
    #[arg(long)]
    allow_remote: bool,
}

/// Where PostgreSQL's programs are.
#[derive(Args)]
pub struct PgBin {
    /// Directory with the programs of one major of PostgreSQL, for each that is not where packages put it.
    #[arg(long, env = "SCION_PG_BIN", value_delimiter = ',', value_name = "[MAJOR=]DIR")]
    pub pg_bin: Vec<NamedBin>,
}

impl Serve {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<ExitCode, Failure> {
        log_to_stderr();
        let compute_exe =
            std::env::current_exe().map_err(|error| failure::io("find the program scion itself", &error))?;
        let options = ServeOptions {
            data_dir: place::data_dir(global)?,
            http: self.http,
            http_tls: self.http_tls,
            rate: NonZeroU32::new(self.rate_limit),
            allow_remote: self.allow_remote,
            pg_bin: self.pg_bin.pg_bin.clone(),
            run_as: self.run_as.clone(),
            tls: self
                .tls_cert
                .clone()
                .zip(self.tls_key.clone())
                .map(|(certificate, key)| TlsFiles { certificate, key }),
            tls_names: self.tls_san.clone(),
            compute_exe,
            postgres_paths: self.postgres_path.clone(),
            owner_extensions: self.owner_extensions.clone(),
            dump_within: self.dump_timeout.map(|seconds| Duration::from_secs(seconds.into())),
            memtable_bytes: usize::from(self.memtable_mb) << 20,
            memory_bytes: (self.memory_mb as usize) << 20,
        };
        server::serve(&options).map(|()| ExitCode::SUCCESS).map_err(|error| explained(&error))
    }
}

/// A name as `CREATE EXTENSION` takes it (`check_valid_extension_name` in PostgreSQL's `extension.c`).
fn extension_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let ends = [text.as_bytes().first(), text.as_bytes().last()];
    if text.bytes().all(plain)
        && !text.contains("--")
        && !ends.iter().any(|it| matches!(it, None | Some(b'-')))
    {
        return Ok(text.to_owned());
    }
    Err("the name of an extension has letters, digits, `_` and `-` only".to_owned())
}

fn explained(error: &ServeError) -> Failure {
    match error {
        ServeError::NotLoopback(_) => Failure::new(Kind::Refused, error.to_string())
            .hint("add --http-tls, or listen on 127.0.0.1; --allow-remote serves them without TLS"),
        ServeError::Listen { address, source } => {
            let failure = failure::io(format!("listen on {address}"), source);
            if source.kind() == std::io::ErrorKind::AddrInUse {
                return Failure { kind: Kind::Conflict, ..failure }
                    .hint("another program listens there; name another address with --http");
            }
            failure.hint("name another address with --http")
        }
        ServeError::Http(source) => failure::io("serve HTTP", source),
        ServeError::InUse(words) => failure::from_words(Kind::Conflict, words),
        error => {
            let failure = failure::from_words(Kind::Failed, &error.to_string());
            if failure.hint.is_some() {
                return failure;
            }
            failure.hint("`scion doctor` says what this machine lacks")
        }
    }
}

/// Sends log lines to stderr; `SCION_LOG` chooses them as `RUST_LOG` does elsewhere.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SCION_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,fuser=error"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}
