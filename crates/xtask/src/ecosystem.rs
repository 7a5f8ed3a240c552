//! Real extensions, drivers and tools on scion: installs what Debian, PyPI and npm have of them in a private tree, and runs
//! the one protocol of `tests/ecosystem` over all of it.
//!
//! What is tried is listed there, in `subjects.rs`, and nowhere else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{cargo, output_of, root, run};

/// What the program names that is to be installed.
struct Packages(String);

impl Packages {
    fn named() -> Result<Self> {
        run(cargo().args(["build", "--workspace", "--all-targets"]))?;
        output_of(Command::new(program()).arg("packages")).map(Self)
    }

    fn of(&self, list: &str) -> Result<Vec<String>> {
        let line =
            self.0.lines().find_map(|line| line.strip_prefix(list)).context("the program lists them")?;
        Ok(line.split_whitespace().map(str::to_owned).collect())
    }
}

fn program() -> PathBuf {
    root().join("target/debug/ecosystem")
}

/// Installs the extensions; the directory of PostgreSQL's majors that have them.
pub fn extensions() -> Result<PathBuf> {
    install_extensions(&Packages::named()?)
}

fn install_extensions(packages: &Packages) -> Result<PathBuf> {
    let postgres = root().join("target/ecosystem/postgres");
    let names = packages.of("debian")?;
    let mut majors = Command::new(root().join("scripts/postgres-majors"));
    majors.args(["--newest", "15", "16"]).env("SCION_PG_CACHE", &postgres);
    run(majors.env("SCION_PG_EXTENSIONS", names.join(" ")))?;
    let names = names.into_iter().map(|name| format!("postgresql-15-{name}"));
    finish_packages(&postgres, &names.chain(packages.of("tools")?).collect::<Vec<_>>())?;
    Ok(postgres)
}

/// Installs and runs all of it.
pub fn ecosystem() -> Result<()> {
    let packages = Packages::named()?;
    let postgres = install_extensions(&packages)?;
    let tree = root().join("target/ecosystem");
    let clients = tree.join("clients");
    run(Command::new("python3").args(["-m", "venv"]).arg(clients.join("python")))?;
    let mut missing = Vec::new();
    for package in packages.of("pypi")? {
        let mut pip = Command::new(clients.join("python/bin/pip"));
        if run(pip.args(["install", "--quiet", "--upgrade", &package])).is_err() {
            missing.push(package);
        }
    }
    for package in packages.of("npm")? {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        if run(npm.arg(&clients).arg(&package)).is_err() {
            missing.push(package);
        }
    }
    let tools = tree.join("tools");
    for package in packages.of("tools")? {
        let script = "mkdir -p \"$1\" && cd \"$1\" && apt-get -qq download \"$2\" && dpkg-deb -x \"$2\"_*.deb . && rm -f ./*.deb";
        if run(Command::new("sh").args(["-c", script, "sh"]).arg(&tools).arg(&package)).is_err() {
            missing.push(package);
        }
    }
    let mut protocol = Command::new(program());
    protocol.env("SCION_PG_CACHE", &postgres).env("SCION_PG_BIN", postgres.join("15/bin"));
    protocol.env("SCION_TOOLS", &tools);
    let outcome = run(protocol.env("SCION_CLIENTS", &clients));
    for package in missing {
        eprintln!("NOT TRIED {package}: its registry did not give it");
    }
    outcome
}

/// What installing packages does and unpacking them does not: the libraries that they need, where root may, and the names
/// that alternatives give to control files (`postgis.control` of `postgis-3.control`).
fn finish_packages(postgres: &Path, packages: &[String]) -> Result<()> {
    let script = r#"
        cd "$1" && shift
        if [ "$(id -u)" = 0 ]; then
            apt-cache depends "$@" | sed -n 's/^  Depends: \(lib.*\)/\1/p' | sort -u |
                xargs apt-get -qq install --no-install-recommends >/dev/null || true
        fi
        for control in *-3.control; do
            [ ! -e "$control" ] || ln -sf "$control" "${control%-3.control}.control"
        done"#;
    let controls = postgres.join(".15/tree/usr/share/postgresql/15/extension");
    run(Command::new("sh").args(["-c", script, "sh"]).arg(controls).args(packages))
}
