//! The loads: PostgreSQL's own test suites, pgbench, and an index churn of ours.
//!
//! The suites' files come from `scripts/postgres-source`. A test of theirs that fails does not matter here, as what it
//! logged is judged all the same; how many passed is reported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::churn;
use crate::extensions;
use crate::server::{Postgres, Server, run};

/// Modules of contrib that make indexes, and whose suites are run.
const CONTRIB: [&str; 9] =
    ["bloom", "btree_gin", "btree_gist", "hstore", "intarray", "ltree", "pg_trgm", "cube", "tablefunc"];

/// Tests of the core suite that are not run, by version or major. Those of 17.10 end a server that is older than the suite,
/// by a bug fixed since: a crash is no load. That of 18 is a test of its psql; the psql of 15 waits in it for ever.
const LEFT_OUT: [(&str, &str); 3] = [("17.10", "hash_part"), ("17.10", "sqljson"), ("18", "psql_pipeline")];

/// A load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// The core regression suite.
    Core,
    /// The isolation suite: several sessions, step by step.
    Isolation,
    /// The suites of contrib modules with index types or operator classes.
    Contrib,
    /// pgbench's own load, with full-page images and checkpoints.
    Pgbench,
    /// Random changes and maintenance of every index type, several sessions.
    Churn,
    /// The suites of extensions that are not Postgres's own.
    Extensions,
}

impl Suite {
    /// Every suite that needs nothing but Postgres.
    pub const ALL: [Self; 5] = [Self::Churn, Self::Pgbench, Self::Contrib, Self::Isolation, Self::Core];

    /// The suite of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Extensions]).find(|suite| suite.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Isolation => "isolation",
            Self::Contrib => "contrib",
            Self::Pgbench => "pgbench",
            Self::Churn => "churn",
            Self::Extensions => "extensions",
        }
    }

    /// Its name, and what the name does not say of it on that server: whose suite it is, what is not run, how long it runs.
    pub fn described(self, postgres: &Postgres, plan: Plan) -> String {
        let (name, major) = (self.name(), postgres.major());
        let own = match self {
            Self::Pgbench => return format!("{name}, {} s", plan.seconds),
            Self::Churn => return format!("{name}, up to {} s", plan.seconds),
            Self::Extensions => return name.to_owned(),
            Self::Isolation => 15,
            Self::Core | Self::Contrib => source(major).0,
        };
        let of = if own == major { String::new() } else { format!(" of {own}") };
        let left_out = if self == Self::Core { left_out(postgres) } else { Vec::new() };
        let without = if left_out.is_empty() { "" } else { " without " };
        format!("{name}{of}{without}{}", left_out.join(" "))
    }

    /// What the load adds to the settings.
    pub fn settings(self) -> &'static str {
        match self {
            Self::Pgbench => "full_page_writes = on\nmax_wal_size = 64MB\n",
            Self::Churn => "autovacuum = on\nautovacuum_naptime = 1s\n",
            _ => "max_connections = 60\n",
        }
    }

    /// Runs it.
    pub fn load(self, server: &Server, plan: Plan) -> Outcome {
        match self {
            Self::Core => regress(server, Driver::Regress, &core_inputs(server), "core"),
            Self::Isolation => regress(server, Driver::Isolation, &isolation_inputs(), "isolation"),
            Self::Contrib => contrib(server),
            Self::Pgbench => Outcome { said: pgbench(server, plan), failed: Vec::new() },
            Self::Churn => Outcome { said: churn::run(server, plan), failed: Vec::new() },
            Self::Extensions => extensions::load(server),
        }
    }
}

/// What came of a load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What it did, or what the suite's driver said of it, such as `All 213 tests passed`.
    pub said: String,
    /// The suite's tests that failed.
    pub failed: Vec<String>,
}

/// How long and with which random numbers a load runs that has no end of its own.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Seconds.
    pub seconds: u64,
    /// Seed.
    pub seed: u64,
}

#[derive(Clone, Copy)]
enum Driver {
    Regress,
    Isolation,
}

/// What `pg_regress` is given.
struct Inputs {
    dir: PathBuf,
    schedule: Option<&'static str>,
    tests: Vec<String>,
    left_out: Vec<&'static str>,
    libraries: Option<PathBuf>,
}

/// Where the source of a major is, or of another one: what fails for another major still logs. A suite that is older than
/// the server has no test of a bug that this server still has.
fn source(major: u32) -> (u32, PathBuf) {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres-source");
    let candidates = [major, 15, 17, 18].map(|major| (major, store.join(major.to_string())));
    let found = candidates.into_iter().find(|(_, dir)| dir.join("version").is_file());
    let (major, dir) = found.expect("no source of PostgreSQL: run scripts/postgres-source first");
    (major, dir.canonicalize().unwrap())
}

/// Tests of the core suite that are not run on that server.
fn left_out(postgres: &Postgres) -> Vec<&'static str> {
    let (version, major) = (postgres.version(), postgres.major().to_string());
    LEFT_OUT.iter().filter(|(of, _)| *of == version || *of == major).map(|(_, test)| *test).collect()
}

fn core_inputs(server: &Server) -> Inputs {
    let (_, source) = source(server.postgres().major());
    let dir = source.join("src/test/regress");
    Inputs {
        libraries: Some(libraries(server, &source)),
        dir,
        schedule: Some("parallel_schedule"),
        tests: Vec::new(),
        left_out: left_out(server.postgres()),
    }
}

fn isolation_inputs() -> Inputs {
    // The isolation tester is 15's, so are the specifications it reads.
    let dir = source(15).1.join("src/test/isolation");
    let schedule = Some("isolation_schedule");
    Inputs { dir, schedule, tests: Vec::new(), left_out: Vec::new(), libraries: None }
}

/// A directory with the libraries that the core suite loads.
fn libraries(server: &Server, source: &Path) -> PathBuf {
    let dir = server.dir().join("lib");
    fs::create_dir_all(&dir).unwrap();
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-w", "-I"])
        .arg(server.postgres().headers().unwrap_or_else(|| source.join("include")))
        // 15's needs it, and gets it there from another header.
        .args(["-include", "postgres.h", "-include", "utils/array.h"])
        .arg(source.join("src/test/regress/regress.c"))
        .arg("-o")
        .arg(dir.join("regress.so")));
    for name in ["autoinc.so", "refint.so"] {
        let installed = server.postgres().library_dir().join(name);
        if installed.exists() {
            fs::copy(installed, dir.join(name)).unwrap();
        }
    }
    dir
}

fn contrib(server: &Server) -> Outcome {
    let (_, source) = source(server.postgres().major());
    let (mut said, mut failed) = (Vec::new(), Vec::new());
    for module in CONTRIB {
        let dir = source.join("contrib").join(module);
        let tests = makefile_list(&fs::read_to_string(dir.join("Makefile")).unwrap(), "REGRESS");
        let inputs = Inputs { dir, schedule: None, tests, left_out: Vec::new(), libraries: None };
        let outcome = regress(server, Driver::Regress, &inputs, module);
        said.push(format!("{module}: {}", outcome.said));
        failed.extend(outcome.failed);
    }
    Outcome { said: said.join("; "), failed }
}

/// The words that a Makefile assigns to `variable`.
pub(crate) fn makefile_list(makefile: &str, variable: &str) -> Vec<String> {
    let text = makefile.replace("\\\n", " ");
    let assigned = |line: &str| Some(line.strip_prefix(variable)?.trim_start().strip_prefix('=')?.to_owned());
    let words = text.lines().find_map(assigned).unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}

/// Runs a suite in a database that it makes anew.
fn regress(server: &Server, driver: Driver, inputs: &Inputs, name: &str) -> Outcome {
    let program = match driver {
        Driver::Regress => "regress/pg_regress",
        Driver::Isolation => "isolation/pg_isolation_regress",
    };
    let clients = Postgres::v15();
    let program = clients.library_dir().join("pgxs/src/test").join(program);
    let work = server.dir().join(name);
    let _ = fs::remove_dir_all(&work);
    run(Command::new("cp").arg("-a").arg(&inputs.dir).arg(&work));
    fs::create_dir_all(work.join("out")).unwrap();
    if let Some(schedule) = inputs.schedule.map(|file| work.join(file)) {
        leave_out(&schedule, &inputs.left_out);
    }
    server.give_away(&work);
    let mut command = clients.as_server_user(&program);
    command.arg("--inputdir").arg(&work).arg("--outputdir").arg(work.join("out"));
    command.arg("--bindir").arg(clients.bin());
    // Expected output names the database.
    let database = match name {
        "core" => "regression".to_owned(),
        "isolation" => "isolation_regression".to_owned(),
        module => format!("suite_{module}"),
    };
    command.arg(format!("--dbname={database}"));
    command.arg("--host").arg(server.sockets()).args(["--port", server.port(), "--user=postgres"]);
    command.args(inputs.libraries.iter().map(|dir| format!("--dlpath={}", dir.display())));
    command.args(inputs.schedule.iter().map(|file| format!("--schedule={}", work.join(file).display())));
    command.args(&inputs.tests).current_dir(&work);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = |line: &&str| line.contains("tests passed") || line.contains("tests failed");
    let verdict = text.lines().find(said).map(|line| line.trim_matches(['#', '=', ' ', '.', ',']).to_owned());
    let said = verdict.unwrap_or_else(|| panic!("{name}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let failed = text.lines().filter(|line| line.contains("... FAILED"));
    let test = |line: &str| {
        line.trim_start().trim_start_matches("test ").split_whitespace().next().map(str::to_owned)
    };
    let failed: Vec<_> = failed.filter_map(test).collect();
    if !failed.is_empty() {
        let differences = fs::read_to_string(work.join("out/regression.diffs")).unwrap_or_default();
        println!("{}", differences.lines().take(60).collect::<Vec<_>>().join("\n"));
    }
    Outcome { said, failed }
}

/// Takes tests out of a schedule.
fn leave_out(schedule: &Path, tests: &[&str]) {
    let text = fs::read_to_string(schedule).unwrap();
    let kept =
        |line: &str| line.split(' ').filter(|word| !tests.contains(word)).collect::<Vec<_>>().join(" ");
    fs::write(schedule, text.lines().map(|line| kept(line) + "\n").collect::<String>()).unwrap();
}

fn pgbench(server: &Server, plan: Plan) -> String {
    let mut init = server.client("pgbench");
    run(init.args(["-i", "-q", "-s", "10", "postgres"]).stderr(Stdio::null()));
    let (seconds, seed) = (plan.seconds.to_string(), format!("--random-seed={}", plan.seed));
    let mut load = server.client("pgbench");
    load.args(["-n", "-c", "8", "-j", "2", "-T", &seconds, &seed, "postgres"]);
    run(load.stdout(Stdio::null()).stderr(Stdio::null()));
    format!("8 clients, {seconds} s, scale 10")
}
