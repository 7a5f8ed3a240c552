//! Lenient reading of the API's JSON: a field that is absent or of another type reads as nothing.
//!
//! The server may be newer than this program, so no answer is refused for its shape.

use serde_json::Value;

/// The text of field `name`; empty if there is none.
pub fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or("")
}

/// The text of field `name`, if it is there and not empty.
pub fn some_text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    Some(text(object, name)).filter(|text| !text.is_empty())
}

/// The whole number of field `name`.
pub fn number(object: &Value, name: &str) -> Option<u64> {
    object.get(name).and_then(Value::as_u64)
}

/// The objects of the array field `name`; empty if there is none.
pub fn list<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Bytes of data a branch holds that its parent does not.
pub fn own_bytes(branch: &Value) -> Option<u64> {
    number(branch, "own_bytes").or_else(|| number(branch, "own_data_bytes"))
}

/// What is to be said of an endpoint beside its state: that it cannot be written on, why it is in that state, and the page
/// it could not read last.
pub fn endpoint_note(endpoint: &Value) -> String {
    let more = list(endpoint, "read_errors").len().saturating_sub(1);
    let unreadable = some_text(endpoint, "last_read_error").map(|text| match more {
        0 => format!("last read error: {text}"),
        _ => format!("last read error: {text}; `scion branch get` lists all"),
    });
    let reason = some_text(endpoint, "state_reason").map(str::to_owned);
    let reader = (text(endpoint, "type") == "read_only").then(|| "only reads".to_owned());
    let parts: Vec<String> = reader.into_iter().chain(reason).chain(unreadable).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_tells_the_reason_and_the_page_that_could_not_be_read() {
        let note = |object| endpoint_note(&object);
        assert_eq!(note(serde_json::json!({})), "");
        assert_eq!(note(serde_json::json!({"type": "read_write", "state_reason": "it died"})), "it died");
        assert_eq!(note(serde_json::json!({"type": "read_only"})), "only reads");
        let both = serde_json::json!({"state_reason": "it died", "last_read_error": "block 3"});
        assert_eq!(note(both), "it died; last read error: block 3");
    }

    #[test]
    fn absent_fields_read_as_nothing() {
        let object = serde_json::json!({"name": 7});
        assert_eq!(text(&object, "name"), "");
        assert_eq!(number(&object, "size"), None);
        assert!(list(&object, "branches").is_empty());
    }
}
