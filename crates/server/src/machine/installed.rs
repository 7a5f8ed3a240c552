//! Which majors of Postgres are on this machine, and where.
//!
//! Looked at in this order; the first that has a major wins it: directories that are named, where Debian's and PGDG's
//! packages put them, where RPM packages do, the path.
//!
//! Not here: running their programs (`postgres`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The majors whose projects can be made, oldest first.
pub const SUPPORTED: [i32; 4] = [15, 16, 17, 18];

/// A directory with Postgres's programs, as named by the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedBin {
    /// Its major; `None` for whichever it is.
    pub major: Option<i32>,
    /// The directory.
    pub dir: PathBuf,
}

/// One installed server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installation {
    /// The major.
    pub major: i32,
    /// The release, such as `17.10`.
    pub version: String,
    /// Directory of `postgres` and `initdb`.
    pub bin: PathBuf,
    /// Whether it was built with TLS.
    pub tls: bool,
}

/// What was found.
#[derive(Clone, Default, Debug)]
pub struct Installed {
    /// By major.
    pub by_major: BTreeMap<i32, Installation>,
    /// What is wrong with named directories, for people.
    pub wrong: Vec<String>,
}

impl std::str::FromStr for NamedBin {
    type Err = String;

    /// Reads `DIR` or `MAJOR=DIR`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |major: &str| major.parse::<i32>().ok();
        match text.split_once('=').and_then(|(major, dir)| Some((number(major)?, dir))) {
            Some((major, _)) if !SUPPORTED.contains(&major) => Err(unsupported(major)),
            Some((major, dir)) => Ok(Self { major: Some(major), dir: PathBuf::from(dir) }),
            None => Ok(Self { major: None, dir: PathBuf::from(text) }),
        }
    }
}

/// What to say to somebody who asks for a major that scion does not know.
pub fn unsupported(major: i32) -> String {
    let [first @ .., last] = SUPPORTED.map(|major| major.to_string());
    format!("PostgreSQL {major} is not supported; supported are {} and {last}", first.join(", "))
}

/// How to get a major.
pub fn how_to_install(major: i32) -> String {
    format!(
        "install PostgreSQL {major} (Debian, if need be with the repository of PGDG: apt-get install \
         postgresql-{major}), or name its directory: --pg-bin {major}=DIR"
    )
}

/// Looks for every supported major.
pub fn find(named: &[NamedBin]) -> Installed {
    let mut found = Installed::default();
    for NamedBin { major, dir } in named {
        match installation_in(dir) {
            Some(it) if major.is_none_or(|major| major == it.major) && SUPPORTED.contains(&it.major) => {
                found.by_major.entry(it.major).or_insert(it);
            }
            Some(it) => {
                let wanted = major.map_or_else(|| unsupported(it.major), |major| format!("not {major}"));
                found.wrong.push(format!("{} has PostgreSQL {}: {wanted}", dir.display(), it.version));
            }
            None => found.wrong.push(format!("no postgres in {}", dir.display())),
        }
    }
    for major in SUPPORTED {
        for dir in [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")] {
            found.add(Path::new(&dir));
        }
    }
    for dir in std::env::var_os("PATH").iter().flat_map(std::env::split_paths) {
        found.add(&dir);
    }
    found
}

impl Installed {
    fn add(&mut self, dir: &Path) {
        if let Some(found) = installation_in(dir).filter(|found| SUPPORTED.contains(&found.major)) {
            self.by_major.entry(found.major).or_insert(found);
        }
    }

    /// The major of a project whose maker did not name one: 15, or else the newest there is.
    pub fn default_major(&self) -> Option<i32> {
        let newest = self.by_major.keys().next_back().copied();
        self.by_major.get(&15).map(|it| it.major).or(newest)
    }
}

/// The server in `dir`.
fn installation_in(dir: &Path) -> Option<Installation> {
    let program = dir.join("postgres");
    if !program.is_file() || !dir.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(&program).arg("--version").output().ok()?;
    let version = version_in(&String::from_utf8_lossy(&output.stdout))?;
    let major = version.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()?;
    Some(Installation { major, version, bin: dir.to_owned(), tls: has_tls(&program) })
}

/// Whether a server takes the setting `ssl = on`; one built without it refuses.
fn has_tls(program: &Path) -> bool {
    let ask = ["-C", "ssl", "-c", "ssl=on", "-c", "config_file=/dev/null", "-D", "/"];
    Command::new(program).args(ask).output().is_ok_and(|output| output.status.success())
}

/// `15.8` of `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`.
fn version_in(text: &str) -> Option<String> {
    let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    text.split_whitespace().find(is_number).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_postgres_says() {
        let said = "postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n";
        assert_eq!(version_in(said).as_deref(), Some("15.8"));
        assert_eq!(version_in("neon"), None);
    }

    #[test]
    fn a_directory_is_named_with_or_without_its_major() {
        let named = |text: &str| text.parse::<NamedBin>();
        assert_eq!(named("/a/b"), Ok(NamedBin { major: None, dir: "/a/b".into() }));
        assert_eq!(named("17=/a=b"), Ok(NamedBin { major: Some(17), dir: "/a=b".into() }));
        assert!(named("14=/a").unwrap_err().contains("supported are 15, 16, 17 and 18"));
    }

    #[test]
    fn a_named_directory_wins_and_a_wrong_one_is_reported() {
        let debian = PathBuf::from("/usr/lib/postgresql/15/bin");
        let found = find(&[NamedBin { major: Some(15), dir: debian.clone() }]);
        assert_eq!(found.by_major[&15].bin, debian);
        let wrong =
            [NamedBin { major: Some(17), dir: debian }, NamedBin { major: None, dir: "/none".into() }];
        let found = find(&wrong);
        assert_eq!(found.wrong.len(), 2, "{:?}", found.wrong);
        assert!(found.wrong[0].ends_with("not 17") && found.wrong[1].contains("/none"), "{:?}", found.wrong);
        assert_eq!(found.default_major(), Some(15));
    }
}
