//! How to connect to an endpoint.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A connection string and its parts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionDetails {
    /// `postgresql://role:password@host:port/database`.
    pub connection_uri: String,
    /// Its parts.
    pub connection_parameters: ConnectionParameters,
}

/// The parts of a connection string.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionParameters {
    /// The database.
    pub database: String,
    /// The role.
    pub role: String,
    /// Its password.
    pub password: String,
    /// Host and port.
    pub host: String,
    /// Host and port of the pooler; the same, there is none.
    pub pooler_host: String,
}

/// Answer of `GET /projects/{project_id}/connection_uri`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionUri {
    /// `postgresql://role:password@host:port/database`.
    pub uri: String,
}
