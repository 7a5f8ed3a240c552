//! `scion api-key`: keys for the server's API. A key is shown once, when it is made.

use api::api_key::{
    ApiKey as Held, ApiKeyCreateRequest, ApiKeyCreateResponse, ApiKeyList, ApiKeyRevokeResponse,
};
use clap::Subcommand;
use jiff::Timestamp;

use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::wire::{self, Said};
use crate::{confirm, place, resolve};

/// Create, list and revoke keys for the server's API.
#[derive(Subcommand)]
pub enum ApiKey {
    /// Make a key and print it; it is not shown again.
    Create {
        /// What it is for.
        name: String,
        /// Project that it is to reach, by name or id, and nothing else [default: everything].
        #[arg(long, value_name = "PROJECT")]
        for_project: Option<String>,
    },
    /// All keys, without the keys themselves.
    List,
    /// End a key, at once.
    Revoke {
        /// Name or id of the key.
        key: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

impl ApiKey {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(place::server(global)?)?;
        match self {
            Self::Create { name, for_project } => {
                create(&client, global.output, name, for_project.as_deref())
            }
            Self::List => list(&client, global.output),
            Self::Revoke { key, yes } => revoke(&client, global.output, key, *yes),
        }
    }
}

fn create(client: &Client, format: Format, name: &str, project: Option<&str>) -> Result<(), Failure> {
    let project = project.map(|wanted| resolve::project(client, Some(wanted))).transpose()?;
    let project_id = project.as_ref().map(|project| project.id.clone());
    let body = ApiKeyCreateRequest { key_name: name.to_owned(), project_id };
    let answer: Said<ApiKeyCreateResponse> = client.post("/api_keys", body)?;
    if format == Format::Json {
        output::json(answer.json());
        return Ok(());
    }
    let reach = project.as_ref().map_or("everything", |project| &project.name);
    let number = answer.id;
    output::words(&format!("{name}   id {number}   reaches {reach}   keep it now: it is not shown again"));
    output::data(&answer.key);
    Ok(())
}

fn keys(client: &Client) -> Result<Said<ApiKeyList>, Failure> {
    client.get("/api_keys")
}

fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let keys = keys(client)?;
    if format == Format::Json {
        output::json(keys.json());
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = keys
        .0
        .iter()
        .map(|key| {
            let from = Some(&key.last_used_from_addr).filter(|address| !address.is_empty());
            vec![
                key.id.to_string(),
                key.name.clone(),
                key.project_id.as_deref().unwrap_or("everything").to_owned(),
                output::age(&key.created_at, now),
                key.last_used_at.as_deref().map_or("-".to_owned(), |at| output::age(at, now)),
                from.map_or("-", |address| address).to_owned(),
            ]
        })
        .collect();
    output::table(&["ID", "NAME", "REACHES", "CREATED", "LAST USED", "FROM"], &rows);
    Ok(())
}

fn revoke(client: &Client, format: Format, wanted: &str, yes: bool) -> Result<(), Failure> {
    let keys = keys(client)?;
    let Held { id, name, .. } = pick(&keys.0, wanted)?;
    confirm::destructive(&format!("revoke the API key {name} ({id})"), yes)?;
    let answer: Option<Said<ApiKeyRevokeResponse>> = client.delete(&format!("/api_keys/{id}"))?;
    if format == Format::Json {
        output::json(wire::json_or_null(answer.as_ref()));
    } else {
        output::words(&format!("revoked {name} ({id})"));
    }
    Ok(())
}

/// The key with the id or the name `wanted`; names need not be unique.
fn pick<'a>(keys: &'a [Held], wanted: &str) -> Result<&'a Held, Failure> {
    if let Some(key) = keys.iter().find(|key| key.id.to_string() == wanted) {
        return Ok(key);
    }
    let mut named = keys.iter().filter(|key| key.name == wanted);
    match (named.next(), named.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => {
            Err(Failure::new(Kind::Usage, format!("several API keys are called {wanted:?}"))
                .hint("say which by its id; `scion api-key list` shows them"))
        }
        (None, _) => Err(Failure::new(Kind::NotFound, format!("there is no API key {wanted:?}"))
            .hint("`scion api-key list` shows those there are")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::samples;
    use serde_json::json;

    #[test]
    fn a_key_is_meant_by_its_id_or_by_a_name_that_is_its_own() {
        let key = |(id, name): (i64, &str)| {
            let by = json!({"id": "u", "name": "u", "image": ""});
            samples::said::<Held>(json!({
                "id": id, "name": name, "created_at": "2026-03-01T12:00:00Z", "created_by": by, "last_used_at": null,
                "last_used_from_addr": ""
            }))
        };
        let keys = [(1, "ci"), (2, "ci"), (3, "1"), (4, "laptop")].map(|it| Held::clone(&key(it)));
        let id = |wanted: &str| pick(&keys, wanted).map(|key| key.id).map_err(|failure| failure.kind);
        assert_eq!(id("1"), Ok(1), "an id wins");
        assert_eq!(id("laptop"), Ok(4));
        assert_eq!(id("ci"), Err(Kind::Usage));
        assert_eq!(id("5"), Err(Kind::NotFound));
    }
}
