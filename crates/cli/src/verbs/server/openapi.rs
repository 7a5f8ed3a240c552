//! `scion openapi`: the description of the HTTP API, for `cargo xtask openapi` and for client generators.

use crate::failure::{Failure, Kind};
use crate::output;

/// Prints the document.
pub fn run() -> Result<(), Failure> {
    let document = api::openapi().to_pretty_json().map_err(|error| {
        Failure::new(Kind::Failed, format!("the API's description cannot be printed: {error}"))
    })?;
    output::data(&document);
    Ok(())
}
