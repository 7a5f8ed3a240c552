//! `scion api-key`: keys for the server's API. A key is shown once, when it is made.

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::{confirm, place, resolve, wire};

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
    let id = project.as_ref().map(|project| wire::text(project, "id"));
    let answer = client.post("/api_keys", &json!({ "key_name": name, "project_id": id }))?;
    if format == Format::Json {
        output::json(&answer);
        return Ok(());
    }
    let reach = project.as_ref().map_or("everything", |project| wire::text(project, "name"));
    let number = wire::number(&answer, "id").unwrap_or_default();
    output::words(&format!("{name}   id {number}   reaches {reach}   keep it now: it is not shown again"));
    output::data(wire::text(&answer, "key"));
    Ok(())
}

fn keys(client: &Client) -> Result<Vec<Value>, Failure> {
    let answer = client.get("/api_keys")?;
    Ok(answer.as_array().cloned().unwrap_or_default())
}

fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let keys = keys(client)?;
    if format == Format::Json {
        output::json(&json!(keys));
        return Ok(());
    }
    let now = Timestamp::now();
    let age = |key: &Value, name: &str| {
        wire::some_text(key, name).map_or("-".to_owned(), |at| output::age(at, now))
    };
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            vec![
                wire::number(key, "id").unwrap_or_default().to_string(),
                wire::text(key, "name").to_owned(),
                wire::some_text(key, "project_id").unwrap_or("everything").to_owned(),
                age(key, "created_at"),
                age(key, "last_used_at"),
                wire::some_text(key, "last_used_from_addr").unwrap_or("-").to_owned(),
            ]
        })
        .collect();
    output::table(&["ID", "NAME", "REACHES", "CREATED", "LAST USED", "FROM"], &rows);
    Ok(())
}

fn revoke(client: &Client, format: Format, wanted: &str, yes: bool) -> Result<(), Failure> {
    let keys = keys(client)?;
    let key = pick(&keys, wanted)?;
    let (id, name) = (wire::number(key, "id").unwrap_or_default(), wire::text(key, "name"));
    confirm::destructive(&format!("revoke the API key {name} ({id})"), yes)?;
    let answer = client.delete(&format!("/api_keys/{id}"))?;
    if format == Format::Json {
        output::json(&answer);
    } else {
        output::words(&format!("revoked {name} ({id})"));
    }
    Ok(())
}

/// The key with the id or the name `wanted`; names need not be unique.
fn pick<'a>(keys: &'a [Value], wanted: &str) -> Result<&'a Value, Failure> {
    let has_id = |key: &&Value| wire::number(key, "id").is_some_and(|id| id.to_string() == wanted);
    if let Some(key) = keys.iter().find(has_id) {
        return Ok(key);
    }
    let mut named = keys.iter().filter(|key| wire::text(key, "name") == wanted);
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

    #[test]
    fn a_key_is_meant_by_its_id_or_by_a_name_that_is_its_own() {
        let keys = [
            json!({"id": 1, "name": "ci"}),
            json!({"id": 2, "name": "ci"}),
            json!({"id": 3, "name": "1"}),
            json!({"id": 4, "name": "laptop"}),
        ];
        let id =
            |wanted: &str| pick(&keys, wanted).map(|key| key["id"].clone()).map_err(|failure| failure.kind);
        assert_eq!(id("1"), Ok(json!(1)), "an id wins");
        assert_eq!(id("laptop"), Ok(json!(4)));
        assert_eq!(id("ci"), Err(Kind::Usage));
        assert_eq!(id("5"), Err(Kind::NotFound));
    }
}
