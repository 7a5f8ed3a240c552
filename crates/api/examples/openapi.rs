//! Prints the OpenAPI document; `cargo xtask openapi` writes it to `crates/api/openapi.json`.

fn main() -> Result<(), serde_json::Error> {
    println!("{}", api::openapi().to_pretty_json()?);
    Ok(())
}
