//! `cargo xtask ecosystem`: real extensions, drivers and tools, each by the same protocol on the same server.
//!
//! ```text
//!  parent  --writes--+--writes--+----------> restart, compare
//!                    |          +-- head --> compare, writes, restart, compare -- deep --> compare
//!                    +-- past, made while writes go on --> the same
//! ```
//!
//! To compare is to ask every question once of the table and once of its index alone, to check with amcheck what it knows,
//! and that drivers do their work. `--cut` is the short run that every change has.
//!
//! Not here: installing what is tried (`cargo xtask ecosystem` does).

mod subjects;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use scion_tests::process::{bin_with_extension, output, release_bin};
use scion_tests::{Endpoint, Scion};
use serde_json::json;
use subjects::{DRIVERS, Driver, SUBJECTS, Subject, TOOLS, Tool};

/// What each round of writes does to a table.
const WRITES: [&str; 5] = [
    "insert into {t} select g, {value} from generate_series({round} * 1000, {round} * 1000 + 600) g",
    "update {t} set id = id + 1 where id % 5 = {round} % 5",
    "delete from {t} where id % 7 = {round} % 7",
    "begin; insert into {t} select g, {value} from generate_series(1, 200) g; rollback",
    "vacuum {t}",
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["packages"] {
        let packages = SUBJECTS.iter().map(|it| it.package).filter(|package| !package.is_empty());
        println!("debian {}", packages.collect::<Vec<_>>().join(" "));
        let tools = TOOLS.iter().filter_map(|it| it.package).map(|(package, ..)| package);
        println!("tools {}", tools.collect::<Vec<_>>().join(" "));
        for (list, ending) in [("pypi", ".py"), ("npm", ".mjs")] {
            let of = DRIVERS.iter().filter(|it| it.program.ends_with(ending)).map(|it| it.package);
            println!("{list} {}", of.collect::<Vec<_>>().join(" "));
        }
        return ExitCode::SUCCESS;
    }
    let cut = words == ["--cut"];
    if !cut && !words.is_empty() {
        eprintln!("ecosystem [--cut | packages]");
        return ExitCode::from(2);
    }
    let Some(bin) = bin_with_extension("rum") else { return ExitCode::FAILURE };
    let mut found = on_major(15, &bin, cut);
    if !cut {
        match release_bin("16") {
            Some(bin) => found.extend(on_major(16, &bin, cut)),
            None => println!("NOT TRIED what comes with PostgreSQL 16: it is not here"),
        }
    }
    found.iter().for_each(|fault| println!("FAULT {fault}"));
    println!("{} faults", found.len());
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The protocol for all that is tried on a major; the faults.
fn on_major(major: i32, bin: &Path, cut: bool) -> Vec<String> {
    let scion = Scion::start_major(major, bin);
    let tried = prepared(scion.root(), major, cut);
    println!("PostgreSQL {major}: {} extensions", tried.len());
    // Where Postgres has TLS, and its own tools.
    let tools = (major == 15).then_some(bin);
    protocol(&scion, &tried, tools, cut)
}

/// Makes a table for each extension that can be created here; says of the others why not.
fn prepared(root: &Endpoint, major: i32, cut: bool) -> Vec<&'static Subject> {
    root.psql("neondb", "create table mark(n serial)");
    let can_be_made = |subject: &&Subject| {
        let Subject { name, extension, column, index, .. } = **subject;
        let sql = format!(
            "create extension if not exists {extension} cascade; create table t_{name}(id int, v {column}) with (autovacuum_enabled = off);
             create index i_{name} on t_{name} using {index}"
        );
        let made = tried(root, &sql);
        if let Err(why) = &made {
            println!("NOT TRIED {name}: {why}");
        }
        made.is_ok()
    };
    SUBJECTS.iter().filter(|it| it.major == major && (it.cut || !cut)).filter(can_be_made).collect()
}

fn protocol(scion: &Scion, tried: &[&Subject], tools: Option<&Path>, cut: bool) -> Vec<String> {
    let root = scion.root().clone();
    let mut found = Vec::new();
    for round in 0..3 {
        write(&root, tried, round, &mut found);
    }
    let (past_lsn, past_answers) = moment(&root, tried, &mut found);
    let stop = AtomicBool::new(false);
    let past = std::thread::scope(|scope| {
        let (writer, stop) = (root.clone(), &stop);
        let writing = scope.spawn(move || {
            let mut faults = Vec::new();
            for round in (3..).take_while(|round| *round < 5 || !stop.load(Ordering::Relaxed)) {
                write(&writer, tried, round, &mut faults);
            }
            faults
        });
        let past = scion.branch("past", json!({"parent_lsn": past_lsn}));
        stop.store(true, Ordering::Relaxed);
        found.extend(writing.join().unwrap());
        past
    });
    let (_, answers) = moment(&root, tried, &mut found);
    let head = scion.branch("head", json!({}));
    for (name, branch, expected) in [("past", past, past_answers), ("head", head, answers.clone())] {
        compare(&branch, tried, Some(&expected), name, &mut found);
        drive(&branch, tools, cut, &mut found);
        write(&branch, tried, 90, &mut found);
        compare(&branch, tried, None, &format!("{name}, written to"), &mut found);
        let (_, before) = moment(&branch, tried, &mut found);
        let deep = scion.branch(&format!("{name}-deep"), json!({"parent_id": branch.branch}));
        compare(&deep, tried, Some(&before), &format!("deep below {name}"), &mut found);
        restart(scion, &branch);
        compare(&branch, tried, Some(&before), &format!("{name}, after a restart"), &mut found);
    }
    drive(&root, tools, cut, &mut found);
    restart(scion, &root);
    compare(&root, tried, Some(&answers), "the parent, after a restart", &mut found);
    found
}

fn write(endpoint: &Endpoint, subjects: &[&Subject], round: u32, found: &mut Vec<String>) {
    for subject in subjects {
        for statement in WRITES {
            let table = format!("t_{}", subject.name);
            let sql = statement.replace("{t}", &table).replace("{value}", subject.value);
            let sql = sql.replace("{round}", &round.to_string());
            found.extend(tried(endpoint, &sql).err().map(|why| format!("{}: {sql}: {why}", subject.name)));
        }
    }
}

/// A position, and what the tables answered there. A commit flushes what a vacuum logged.
fn moment(endpoint: &Endpoint, subjects: &[&Subject], found: &mut Vec<String>) -> (String, Vec<String>) {
    endpoint.psql("neondb", "insert into mark default values");
    let lsn = endpoint.psql("neondb", "select pg_current_wal_flush_lsn()");
    let mut answers = Vec::new();
    for subject in subjects {
        answers.push(ask(endpoint, subject, false).unwrap_or_else(|why| {
            found.push(format!("{}: {why}", subject.name));
            String::new()
        }));
    }
    (lsn, answers)
}

/// Every table against what is expected, and every index against its table.
fn compare(
    endpoint: &Endpoint,
    subjects: &[&Subject],
    expected: Option<&[String]>,
    when: &str,
    found: &mut Vec<String>,
) {
    println!("compare {when}");
    for (n, subject) in subjects.iter().enumerate() {
        let (by_table, by_index) = (ask(endpoint, subject, false), ask(endpoint, subject, true));
        if by_table.is_err() || by_table != by_index {
            found.push(format!("{}, {when}: table {by_table:?}, index {by_index:?}", subject.name));
        } else if expected.is_some_and(|expected| by_table.as_ref() != Ok(&expected[n])) {
            found.push(format!("{}, {when}: {by_table:?} is not what its parent had", subject.name));
        }
    }
    let mut amcheck = endpoint.superuser("pg_amcheck");
    amcheck.args(["-d", "neondb", "--install-missing", "--heapallindexed", "--no-dependent-toast"]);
    let checked = output(&mut amcheck);
    if !checked.status.success() {
        found.push(format!("amcheck, {when}: {}", String::from_utf8_lossy(&checked.stdout)));
    }
}

/// For each `x` the rows found, by the table alone or by the index alone.
fn ask(endpoint: &Endpoint, subject: &Subject, by_index: bool) -> Result<String, String> {
    let table = format!("t_{}", subject.name);
    let from = if by_index { table } else { format!("(select * from {table} offset 0)") };
    let condition = subject.condition.replace("{t}", &format!("{from} i"));
    let query = format!(
        "select md5(string_agg(found, ' ' order by x)) from generate_series(0, 49) x,
            lateral (select x || ':' || count(*) || '/' || coalesce(sum(id), 0) found from {from} t where {condition}) s"
    );
    if !by_index {
        return tried(endpoint, &query);
    }
    // An index of pgvector finds nearly all unless it is told to look everywhere.
    let set = "set enable_seqscan = off; set hnsw.ef_search = 1000; set ivfflat.probes = 10";
    let plan = tried(endpoint, &format!("{set}; explain {query}"))?;
    if !plan.contains(&format!("i_{}", subject.name)) {
        return Err(format!("the index is not used: {plan}"));
    }
    tried(endpoint, &format!("{set}; {query}"))
}

fn tried(endpoint: &Endpoint, sql: &str) -> Result<String, String> {
    let mut psql = endpoint.superuser("psql");
    // One statement at a time: a vacuum is no part of a transaction.
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "neondb"]);
    for statement in sql.split(';').filter(|it| !it.trim().is_empty()) {
        psql.args(["-c", statement]);
    }
    let output = output(&mut psql);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Lets every driver and tool that is installed do its work; those of Postgres are in `tools`, of the same minor, as newer
/// ones leave out of a dump what older ones do not know.
fn drive(endpoint: &Endpoint, tools: Option<&Path>, cut: bool, found: &mut Vec<String>) {
    let Some(bin) = tools else { return };
    let named = std::env::var_os("SCION_CLIENTS").map(PathBuf::from);
    let clients = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients"));
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("ecosystem/drivers");
    for Driver { program, package, .. } in DRIVERS.iter().filter(|it| it.cut || !cut) {
        let is_python = program.ends_with(".py");
        let interpreter = if is_python { clients.join("python/bin/python") } else { "node".into() };
        if is_python && !interpreter.exists()
            || !is_python && !clients.join("node_modules").join(package).exists()
        {
            println!("NOT TRIED {package}: it is not in {}", clients.display());
            continue;
        }
        let mut run = Command::new(interpreter);
        let uri = format!("{}?sslmode=require", endpoint.uri.split('?').next().unwrap_or_default());
        run.arg(programs.join(program)).arg(uri).arg(&clients).env("NODE_TLS_REJECT_UNAUTHORIZED", "0");
        let output = output(&mut run);
        if !output.status.success() {
            found.push(format!("{package}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    for tool in TOOLS.iter().filter(|it| it.cut || !cut) {
        found.extend(use_tool(endpoint, bin, tool).err().map(|why| format!("{}: {why}", tool.script)));
    }
}

/// Lets a tool do its work, if what it needs is here.
fn use_tool(endpoint: &Endpoint, bin: &Path, tool: &Tool) -> Result<(), String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("ecosystem/tools");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut run = Command::new("bash");
    run.arg(scripts.join(tool.script)).arg(&endpoint.uri).env("PATH", path).env("PGUSER", "postgres");
    run.env("PGHOST", endpoint.dir.join("sock")).env("PGPORT", endpoint.port());
    if let Some((package, program, variable)) = tool.package {
        let tree = std::env::var_os("SCION_TOOLS").map(PathBuf::from).unwrap_or_default();
        let Some(found) =
            [tree.join(program), Path::new("/").join(program)].into_iter().find(|it| it.exists())
        else {
            println!("NOT TRIED {}: there is no {package}", tool.script);
            return Ok(());
        };
        run.env(variable, found);
    }
    let output = output(&mut run);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn restart(scion: &Scion, endpoint: &Endpoint) {
    for verb in ["suspend", "start"] {
        scion.api().post(&scion.path(&format!("/endpoints/{}/{verb}", endpoint.id)), json!({})).unwrap();
    }
}
