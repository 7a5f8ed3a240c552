//! `scion connection-string`: how to connect to a branch.

use api::connection::ConnectionUri;
use api::percent;
use clap::Args;

use crate::failure::Failure;
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, no_endpoint, session};

/// Print the connection string of a branch.
#[derive(Args)]
pub struct ConnectionString {
    /// Name or id of the branch.
    branch: String,
    #[command(flatten)]
    who: Who,
}

/// Whom to connect as, and to what.
#[derive(Args)]
pub struct Who {
    /// Database to connect to.
    #[arg(short, long, default_value = "neondb")]
    pub database: String,
    /// Role to connect as.
    #[arg(short, long, default_value = "neondb_owner")]
    pub role: String,
}

impl ConnectionString {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        let branch = session.branch(&self.branch)?;
        if session.endpoint_of(&branch.id)?.is_none() {
            return Err(no_endpoint(&branch.name));
        }
        let uri = uri(&session, &branch.id, &self.who)?;
        match global.output {
            Format::Json => output::json(&serde_json::json!({ "uri": uri })),
            Format::Table => output::data(&uri),
        }
        Ok(())
    }
}

/// The connection string of the branch with id `branch`.
pub fn uri(session: &Session, branch: &str, who: &Who) -> Result<String, Failure> {
    let path = format!(
        "/connection_uri?branch_id={}&database_name={}&role_name={}",
        percent::encoded(branch),
        percent::encoded(&who.database),
        percent::encoded(&who.role)
    );
    let answer = session.client.get::<ConnectionUri>(&session.path(&path))?;
    Ok(answer.uri.clone())
}
