//! The options that all verbs share.

use std::path::PathBuf;

use clap::Args;

use crate::output::Format;

/// Options every verb takes.
#[derive(Args, Clone)]
pub struct Global {
    /// How data is printed: a table for people, or the API's own objects.
    #[arg(short, long, global = true, help_heading = "Everywhere", value_enum, default_value = "table")]
    pub output: Format,

    /// The server's data directory [default: /var/lib/scion for root, else ~/.local/share/scion].
    #[arg(long, global = true, help_heading = "Everywhere", env = "SCION_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Address of the server, when its data directory is not at hand.
    #[arg(long, global = true, help_heading = "Everywhere", env = "SCION_API", value_name = "URL")]
    pub api: Option<String>,

    /// Certificate to trust, PEM, when that address is https:// [default: those of the system].
    #[arg(long, global = true, help_heading = "Everywhere", env = "SCION_API_CERT", value_name = "FILE")]
    pub api_cert: Option<PathBuf>,

    /// Key for the server [default: the file api-key in the data directory].
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        env = "SCION_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub api_key: Option<String>,

    /// Project, by name or id; may be left out while the server has exactly one.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Everywhere",
        env = "SCION_PROJECT",
        value_name = "PROJECT"
    )]
    pub project: Option<String>,
}
