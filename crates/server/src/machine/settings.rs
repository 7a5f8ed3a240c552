//! Which settings of Postgres an endpoint may be given. All that can be set from outside passes here.
//!
//! | setting                                             | may be given |
//! |-----------------------------------------------------|--------------|
//! | scion's own (`compute::is_fixed`)                   | no: it would have no effect |
//! | names files, programs, networks, who is let in      | no |
//! | lists libraries                                     | by the bare names of those in Postgres's own directory, or by path below `--postgres-path` |
//! | a superuser's                                       | if it is known to harm nobody |
//! | the server's, a text                                | if it is known to harm nobody |
//! | any other that `postgres --describe-config` names   | yes |
//! | of an extension, `prefix.name`                      | if the extension is known; by an unscoped key, of others too |
//! | of an extension, and names what is none of a client's business | no |
//!
//! What must hold: what is not known is refused, so a setting that a new Postgres brings is closed until somebody looks.
//!
//! Not here: whether Postgres starts with the values (`endpoint::trial`), what an endpoint is made with
//! (`endpoint::options`).

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// Texts of the server (`postmaster`, `sighup`) that name nothing outside of Postgres.
const HARMLESS_TEXTS: &[&str] = &[
    "cluster_name",
    "log_line_prefix",
    "log_timezone",
    "synchronized_standby_slots",
    "synchronous_standby_names",
];

/// What only superusers may set, and may be given here; so may all that begins with `log_` or `track_`.
const HARMLESS_OF_SUPERUSERS: &[&str] = &[
    "commit_delay",
    "compute_query_id",
    "deadlock_timeout",
    "lc_messages",
    "max_stack_depth",
    "temp_file_limit",
    "update_process_title",
    "vacuum_truncate",
    "wal_compression",
    "wal_init_zero",
];

/// Lists of libraries, and the directory below Postgres's own that theirs are in.
const LIBRARIES: &[(&str, &str)] = &[
    ("jit_provider", ""),
    ("local_preload_libraries", "plugins"),
    ("output_plugin_libraries", ""),
    ("session_preload_libraries", ""),
    ("shared_preload_libraries", ""),
];

/// Never given, whoever asks, with why. A name that ends with `*` stands for all that begin so.
const REFUSED: &[(&str, &str)] = &[
    ("archive_*", "a branch archives nothing: its log is in the store"),
    ("bonjour*", NETWORK),
    ("config_file", FILE),
    ("data_directory*", FILE),
    ("db_user_namespace", LOGIN),
    ("dynamic_library_path", FILE),
    ("event_source", FILE),
    ("extension_control_path", FILE),
    ("extension_destdir", FILE),
    ("external_pid_file", FILE),
    ("gss_accept_delegation", LOGIN),
    ("hba_file", FILE),
    ("ident_file", FILE),
    ("idle_replication_slot_timeout", SLOT),
    ("include*", FILE),
    ("krb_*", LOGIN),
    ("lo_compat_privileges", LOGIN),
    ("log_directory", FILE),
    ("log_file_mode", FILE),
    ("log_filename", FILE),
    ("log_rotation_*", "scion rotates the log of an endpoint"),
    ("log_truncate_on_rotation", "scion rotates the log of an endpoint"),
    ("max_slot_wal_keep_size", SLOT),
    ("oauth_validator_libraries", LOGIN),
    ("primary_*", RECOVERY),
    ("promote_trigger_file", RECOVERY),
    ("recovery_*", RECOVERY),
    ("restore_command", RECOVERY),
    ("session_replication_role", "it would switch triggers off for everybody"),
    ("shared_memory_type", "scion takes away the shared memory that a killed Postgres leaves"),
    ("ssl_*", "scion gives each endpoint its certificate, and TLS with it"),
    ("stats_temp_directory", FILE),
    ("sync_replication_slots", RECOVERY),
    ("syslog_*", "the log of an endpoint is a file in its directory"),
    ("unix_socket_*", NETWORK),
    ("wal_receiver_create_temp_slot", RECOVERY),
];
const FILE: &str = "it names files of the server's machine";
const LOGIN: &str = "it says who is let in, which scion does";
const NETWORK: &str = "it says where an endpoint is reached, which scion does";
const RECOVERY: &str = "it is about recovery, which scion does by itself";
const SLOT: &str = "it could drop the slot that keeps the log of an endpoint until the store has it";

/// Extensions whose settings name nothing outside of Postgres.
const EXTENSIONS: &[&str] = &[
    "auth_delay",
    "auto_explain",
    "cron",
    "hnsw",
    "hypopg",
    "isn",
    "ivfflat",
    "orafce",
    "passwordcheck",
    "pg_hint_plan",
    "pg_prewarm",
    "pg_qualstats",
    "pg_similarity",
    "pg_stat_kcache",
    "pg_stat_monitor",
    "pg_stat_statements",
    "pg_store_plans",
    "pg_trgm",
    "pg_wait_sampling",
    "pgaudit",
    "pgcrypto",
    "plperl",
    "plpgsql",
    "plpgsql_check",
    "postgres_fdw",
    "rum",
];

/// Of extensions, known or not: code that is run, what may become superuser, what is read, written or connected to.
const REFUSED_OF_EXTENSIONS: &[&str] = &[
    "allowlist",
    "cmd",
    "command",
    "conninfo",
    "dir",
    "directory",
    "drivers",
    "exec",
    "file",
    "host",
    "init",
    "lib",
    "libraries",
    "library",
    "location",
    "passfile",
    "path",
    "port",
    "proc",
    "program",
    "script",
    "server",
    "url",
    "vmoptions",
    "whitelist",
];
/// The same, all of an extension.
const REFUSED_EXTENSIONS: &[&str] = &[
    "basic_archive",
    "pljava",
    "plperlu",
    "plpython",
    "plpython2",
    "plpython3",
    "plpythonu",
    "set_user",
    "supautils",
];

/// Settings that scion needs enough of.
const AT_LEAST: &[(&str, u32)] = &[
    ("max_connections", 5),
    ("max_replication_slots", 2),
    ("max_wal_senders", 3),
    ("superuser_reserved_connections", 1),
];

/// What Postgres says of one of its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    context: String,
    kind: String,
}

/// What one installation of Postgres says of its settings, and where its libraries are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    settings: BTreeMap<String, Setting>,
    libraries: Option<PathBuf>,
}

/// What the installations said, each asked once.
#[derive(Default)]
pub struct Known(Mutex<HashMap<PathBuf, Arc<Described>>>);

impl Known {
    /// What the Postgres in `bin` says; `ask` runs its `postgres --describe-config`.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn of(&self, bin: &Path, ask: impl FnOnce() -> Result<String>) -> Result<Arc<Described>> {
        if let Some(known) = self.0.lock().get(bin) {
            return Ok(Arc::clone(known));
        }
        let described = Arc::new(Described::read(&ask()?, library_directory(bin)));
        self.0.lock().insert(bin.to_owned(), Arc::clone(&described));
        Ok(described)
    }
}

impl Described {
    /// Reads what `postgres --describe-config` prints: name, context, group, type, separated by tabs.
    fn read(text: &str, libraries: Option<PathBuf>) -> Self {
        let setting = |line: &str| {
            let mut fields = line.split('\t');
            let name = fields.next()?.to_ascii_lowercase();
            let (context, kind) = (fields.next()?.to_owned(), fields.nth(1)?.to_owned());
            Some((name, Setting { context, kind }))
        };
        Self { settings: text.lines().filter_map(setting).collect(), libraries }
    }

    /// Checks settings that are to be given to an endpoint, or to all new ones of a project. Libraries below `paths` may be
    /// named by path.
    ///
    /// # Errors
    /// `Malformed` that names each that is not given, and why.
    pub fn check(&self, settings: &BTreeMap<String, String>, paths: &[PathBuf]) -> Result<()> {
        let refused = settings.iter().filter_map(|(name, value)| {
            self.refusal(&name.to_ascii_lowercase(), value, paths)
                .map(|why| format!("{name} cannot be set: {why}"))
        });
        let refused: Vec<String> = refused.collect();
        if refused.is_empty() {
            return Ok(());
        }
        let hint = "hint: leave that out, or unset it if it was set before";
        Err(Error::malformed(format!("nothing was changed: {}\n{hint}", refused.join("; "))))
    }

    fn refusal(&self, name: &str, value: &str, paths: &[PathBuf]) -> Option<String> {
        if value.contains(['\n', '\r', '\0']) {
            return Some("its value has more than one line".to_owned());
        }
        if let Some(why) = never(name) {
            return Some(why);
        }
        if let Some((_, below)) = LIBRARIES.iter().find(|(list, _)| *list == name) {
            return library_by_path(name, value, paths).or_else(|| self.missing_library(value, below));
        }
        if name.contains('.') {
            return None;
        }
        let Some(setting) = self.settings.get(name) else {
            return Some("this PostgreSQL has no setting of that name that may be set".to_owned());
        };
        let harmless = match setting.context.as_str() {
            "user" | "backend" => true,
            "sighup" | "postmaster" => setting.kind != "STRING" || HARMLESS_TEXTS.contains(&name),
            "superuser" | "superuser-backend" => {
                HARMLESS_OF_SUPERUSERS.contains(&name)
                    || name.starts_with("log_")
                    || name.starts_with("track_")
            }
            _ => false,
        };
        if !harmless {
            return Some("it is for superusers of the whole server".to_owned());
        }
        refused_value(name, value)
    }

    fn missing_library(&self, list: &str, below: &str) -> Option<String> {
        for name in names_in(list) {
            let Some(dir) = self.libraries.as_ref().filter(|_| !name.contains('/')) else { continue };
            let dir = dir.join(below);
            if !dir.join(format!("{name}.so")).is_file() && !dir.join(name).is_file() {
                return Some(format!("there is no library {name} in {}", dir.display()));
            }
        }
        None
    }
}

fn names_in(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty())
}

/// Whether a library is named by its path, below one of the directories that the server was told Postgres may reach.
fn is_below(name: &str, paths: &[PathBuf]) -> bool {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain && paths.iter().any(|dir| path.starts_with(dir))
}

/// Why the value of a list of libraries may not be given, whichever Postgres it is.
pub fn library_by_path(setting: &str, list: &str, paths: &[PathBuf]) -> Option<String> {
    if !LIBRARIES.iter().any(|(name, _)| *name == setting) {
        return None;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte);
    let bare = |name: &&str| name.bytes().all(plain) && !name.contains("..") && !name.starts_with('.');
    let wrong = names_in(list).find(|name| !bare(name) && !is_below(name, paths))?;
    Some(format!("{wrong:?} is not the bare name of a library, like pg_stat_statements"))
}

/// Why nobody may give a setting, whichever Postgres it is.
pub fn never(name: &str) -> Option<String> {
    if compute::is_fixed(name) {
        return Some("scion sets it for every endpoint".to_owned());
    }
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    if name != "recovery_prefetch"
        && name != "ssl_min_protocol_version"
        && let Some((_, why)) = REFUSED.iter().find(|(pattern, _)| is(pattern))
    {
        return Some((*why).to_owned());
    }
    let (extension, rest) = name.split_once('.')?;
    let dangerous = |word: &str| REFUSED_OF_EXTENSIONS.contains(&word);
    if REFUSED_EXTENSIONS.contains(&extension) || rest.split(['_', '.']).any(dangerous) {
        return Some("it may run programs or name files, servers or superusers".to_owned());
    }
    None
}

/// The settings in the body of a request that only an unscoped key may give: of extensions that scion does not know.
pub fn of_unknown_extensions(body: &serde_json::Value) -> Vec<String> {
    use serde_json::Value;
    match body {
        Value::Array(items) => items.iter().flat_map(of_unknown_extensions).collect(),
        Value::Object(fields) => {
            let unknown = |name: &String| {
                let extension = name.split_once('.').map(|(extension, _)| extension.to_ascii_lowercase());
                extension.is_some_and(|extension| !EXTENSIONS.contains(&extension.as_str()))
            };
            let given = |value: &Value| -> Vec<String> {
                value
                    .as_object()
                    .into_iter()
                    .flat_map(|all| all.keys())
                    .filter(|it| unknown(it))
                    .cloned()
                    .collect()
            };
            let of = |(name, value): (&String, &Value)| match name.as_str() {
                "pg_settings" => given(value),
                _ => of_unknown_extensions(value),
            };
            fields.iter().flat_map(of).collect()
        }
        _ => Vec::new(),
    }
}

fn refused_value(name: &str, value: &str) -> Option<String> {
    if name == "wal_level" && value.trim().eq_ignore_ascii_case("minimal") {
        return Some("the store needs a wal_level of replica or logical".to_owned());
    }
    let (_, least) = AT_LEAST.iter().find(|(it, _)| *it == name)?;
    let given: i64 = value.trim().parse().ok()?;
    (given < i64::from(*least)).then(|| format!("scion needs at least {least} of them, and not {given}"))
}

/// The directory that Postgres calls `$libdir`, as far as it can be found beside its programs.
fn library_directory(bin: &Path) -> Option<PathBuf> {
    let program = bin.join("postgres").canonicalize().ok()?;
    let above = program.parent()?.parent()?;
    let dirs = ["lib", "lib/postgresql", "lib64", "lib64/postgresql"].map(|dir| above.join(dir));
    dirs.into_iter().find(|dir| dir.join("plpgsql.so").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use serde_json::json;

    fn described() -> Described {
        let postgres = crate::machine::postgres::Postgres::find(&[], None).unwrap();
        let major = postgres.installed.default_major().unwrap();
        let said = postgres.output(major, "postgres", &["--describe-config"]).unwrap();
        Described::read(&said, library_directory(postgres.bin(major).unwrap()))
    }

    fn given(described: &Described, name: &str, value: &str) -> Result<()> {
        described.check(&[(name.to_owned(), value.to_owned())].into(), &["/opt/ours".into()])
    }

    #[test]
    fn what_harms_nobody_may_be_given() {
        let described = described();
        assert!(described.libraries.is_some(), "no $libdir");
        for (name, value) in [
            ("work_mem", "64MB"),
            ("Work_Mem", "64MB"),
            ("TimeZone", "Europe/Berlin"),
            ("search_path", "a, b"),
            ("shared_buffers", "1GB"),
            ("wal_level", "logical"),
            ("track_commit_timestamp", "on"),
            ("log_statement", "all"),
            ("log_min_duration_statement", "0"),
            ("log_line_prefix", "%m "),
            ("autovacuum", "off"),
            ("shared_preload_libraries", "pg_stat_statements,auto_explain"),
            ("shared_preload_libraries", ""),
            ("shared_preload_libraries", "/opt/ours/x.so"),
            ("pg_stat_statements.max", "100"),
            ("cron.database_name", "neondb"),
            ("pgaudit.log", "all"),
            ("plperl.use_strict", "on"),
            ("mine.tenant", "5"),
            ("ssl_min_protocol_version", "TLSv1.3"),
        ] {
            assert_eq!(given(&described, name, value), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_names_files_programs_networks_or_is_scions_own_may_not() {
        let described = described();
        for (name, value) in [
            ("archive_command", "rm -rf /"),
            ("Archive_Command", "rm -rf /"),
            ("archive_mode", "on"),
            ("port", "5432"),
            ("ssl", "off"),
            ("listen_addresses", "*"),
            ("full_page_writes", "on"),
            ("unix_socket_directories", "/tmp"),
            ("restart_after_crash", "on"),
            ("data_directory", "/"),
            ("dynamic_library_path", "/tmp"),
            ("local_preload_libraries", "../../tmp/x"),
            ("shared_preload_libraries", "/tmp/x.so"),
            ("shared_preload_libraries", "pg_stat_statements,../x"),
            ("shared_preload_libraries", "$libdir/auto_explain"),
            ("shared_preload_libraries", "no_such_library"),
            ("shared_preload_libraries", "/opt/ours/../x.so"),
            ("shared_preload_libraries", "/opt/oursx.so"),
            ("session_preload_libraries", "/tmp/x"),
            ("jit_provider", "/tmp/x"),
            ("jit_provider", ".."),
            ("plperl.on_init", "`id`"),
            ("plperl.on_plperl_init", "1"),
            ("pltcl.start_proc", "f"),
            ("plpython3.x", "1"),
            ("pgsodium.getkey_script", "/tmp/x"),
            ("cron.host", "203.0.113.1"),
            ("set_user.superuser_allowlist", "*"),
            ("primary_conninfo", "host=x"),
            ("promote_trigger_file", "x"),
            ("recovery_target", "immediate"),
            ("max_slot_wal_keep_size", "1MB"),
            ("session_replication_role", "replica"),
            ("lo_compat_privileges", "on"),
            ("ssl_ciphers", "NULL"),
            ("zero_damaged_pages", "on"),
            ("ignore_checksum_failure", "on"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            ("work_mem", "4MB\nport = 1"),
            ("no_such_setting", "1"),
            ("in_hot_standby", "on"),
        ] {
            let error = given(&described, name, value).unwrap_err();
            assert_eq!(error.kind, Kind::Malformed, "{name}");
            assert!(error.message.contains(&format!("{name} cannot be set: ")), "{error}");
        }
        let two = [("jit", "off"), ("port", "1"), ("hba_file", "x")];
        let two = two.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let error = described.check(&two, &[]).unwrap_err();
        assert!(
            error.message.contains("port cannot") && error.message.contains("hba_file cannot"),
            "{error}"
        );
        assert!(error.message.contains("nothing was changed") && !error.message.contains("jit"), "{error}");
    }

    #[test]
    fn a_setting_of_a_new_postgres_is_closed_if_it_is_a_text_of_the_server() {
        let text = "new_text\tsighup\tG\tSTRING\t\t\t\tx\nnew_number\tsighup\tG\tINTEGER\t1\t0\t9\tx\n\
                    new_switch\tsuperuser\tG\tBOOLEAN\toff\t\t\tx\n";
        let described = Described::read(text, None);
        assert!(given(&described, "new_text", "x").is_err());
        assert_eq!(given(&described, "new_number", "1"), Ok(()));
        assert!(given(&described, "new_switch", "on").is_err());
    }

    #[test]
    fn settings_of_extensions_nobody_knows_are_found_wherever_they_are_in_a_request() {
        let body = json!({"endpoints": [{"settings": {"pg_settings": {"mine.x": 1, "cron.log_run": 1, "jit": "off"}}}],
            "project": {"default_endpoint_settings": {"pg_settings": {"Other.y": 1}}}});
        assert_eq!(of_unknown_extensions(&body), ["mine.x", "Other.y"]);
    }
}
