//! `NAME=VALUE` on the command line: a setting of Postgres.

use serde_json::{Map, Value, json};

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    name: String,
    value: String,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(Self { name: name.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => Err("write it as NAME=VALUE, like work_mem=64MB".to_owned()),
        }
    }
}

/// The settings as the API takes them; of two for one name, the later.
pub fn settings(list: &[Setting]) -> Value {
    let map: Map<String, Value> = list.iter().map(|it| (it.name.clone(), json!(it.value))).collect();
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_a_name_and_a_value() {
        let read = |text: &str| text.parse::<Setting>();
        let list = [read("work_mem=8MB").unwrap(), read("search_path = a=b").unwrap()];
        assert_eq!(settings(&list), json!({"work_mem": "8MB", "search_path": "a=b"}));
        assert!(read("work_mem").is_err() && read("=8MB").is_err());
    }
}
