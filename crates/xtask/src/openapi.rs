//! Writes the checked-in description of the HTTP API; a test of `api` compares it with the code.

use anyhow::{Context, Result};

use crate::cargo::{cargo, output_of, root};

/// Writes `crates/api/openapi.json`.
pub fn openapi() -> Result<()> {
    let document = output_of(cargo().args(["run", "--quiet", "--package", "scion", "--", "openapi"]))?;
    let path = root().join("crates/api/openapi.json");
    std::fs::write(&path, document).with_context(|| format!("write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
