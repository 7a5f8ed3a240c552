//! `NAME=VALUE` on the command line: a setting of Postgres.
//!
//! Postgres does not compare names of settings by case, so they are kept in lower case.

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
                Ok(Self { name: name.trim().to_ascii_lowercase(), value: value.trim().to_owned() })
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

/// The settings there were, with those of `set` and without those of `unset`.
pub fn changed(old: Option<&Value>, set: &[Setting], unset: &[String]) -> Value {
    let old = old.and_then(Value::as_object).into_iter().flatten();
    let mut all: Map<String, Value> =
        old.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    all.extend(settings(set).as_object().cloned().unwrap_or_default());
    all.retain(|name, _| !unset.iter().any(|it| it.eq_ignore_ascii_case(name)));
    Value::Object(all)
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

    #[test]
    fn settings_that_are_not_named_stay() {
        let old = json!({"work_mem": "4MB", "jit": "off"});
        let set = ["work_mem=8MB".parse().unwrap()];
        assert_eq!(changed(Some(&old), &set, &[]), json!({"work_mem": "8MB", "jit": "off"}));
        assert_eq!(changed(Some(&old), &[], &["jit".to_owned()]), json!({"work_mem": "4MB"}));
        assert_eq!(changed(None, &set, &[]), json!({"work_mem": "8MB"}));
    }

    #[test]
    fn names_that_differ_by_case_are_one() {
        let old = json!({"Work_Mem": "4MB", "JIT": "off"});
        let set = ["WORK_MEM=8MB".parse().unwrap()];
        assert_eq!(changed(Some(&old), &set, &["Jit".to_owned()]), json!({"work_mem": "8MB"}));
    }
}
