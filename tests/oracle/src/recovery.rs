//! Stock recovery of a recorded load: the whole directory as Postgres itself leaves it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use types::Lsn;

use crate::server::{Postgres, Recorded, run};

const TAKES_AT_MOST: Duration = Duration::from_secs(600);

/// The data directory of a copy of the cluster before the load after recovery, promotion and a clean stop: of all WAL,
/// or of the records before the first that starts at or after `upto`. Nobody connected, so no page has hints.
///
/// # Panics
/// If recovery fails.
pub fn recover(postgres: &Postgres, recorded: &Recorded, upto: Option<Lsn>) -> PathBuf {
    let data = recorded.base.with_file_name("recovered");
    let _ = std::fs::remove_dir_all(&data);
    run(Command::new("cp").arg("-a").arg(&recorded.base).arg(&data));
    let from = recorded.after.display();
    let mut settings = format!("hot_standby = off\nrestore_command = 'cp {from}/pg_wal/%f %p 2>/dev/null'\n");
    // What runs by itself after the promotion prunes what it reads: the launcher pg_subscription.
    settings += "autovacuum = off\nmax_logical_replication_workers = 0\n";
    if let Some(upto) = upto {
        settings += &format!("recovery_target_lsn = '{upto}'\nrecovery_target_inclusive = off\n");
        settings += "recovery_target_action = promote\n";
    }
    let conf = data.join("postgresql.auto.conf");
    let before = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, before + &settings).unwrap();
    std::fs::write(data.join("recovery.signal"), "").unwrap();
    let log = data.join("log");
    run(postgres.tool("pg_ctl").args(["-w", "-s", "start", "-D"]).arg(&data).arg("-l").arg(&log));
    let waiting = Instant::now();
    loop {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("ready to accept connections") {
            break; // not before all WAL is recovered, as it is no hot standby
        }
        let failed = said.contains("database system is shut down");
        assert!(!failed && waiting.elapsed() < TAKES_AT_MOST, "{said}");
        std::thread::sleep(Duration::from_millis(100));
    }
    run(postgres.tool("pg_ctl").args(["-w", "-s", "-m", "fast", "stop", "-D"]).arg(&data));
    data
}
