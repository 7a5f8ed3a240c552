//! The HTTP API as a client sees it: JSON in, JSON or an error out.

use serde_json::Value;

/// A refused request.
#[derive(Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// The body's `message`.
    pub message: String,
}

/// A client with a key.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    key: String,
    agent: ureq::Agent,
}

impl Api {
    /// A client of the server at `url` (without `/api/v2`).
    pub fn new(url: &str, key: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        Self { base: format!("{url}/api/v2"), key: key.to_owned(), agent: config.into() }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Value, ApiError> {
        let request = self.agent.get(format!("{}{path}", self.base)).header("Authorization", self.bearer());
        answer(path, request.call())
    }

    /// POST with a JSON body.
    pub fn post(&self, path: &str, body: Value) -> Result<Value, ApiError> {
        let request = self.agent.post(format!("{}{path}", self.base)).header("Authorization", self.bearer());
        answer(path, request.send_json(body))
    }

    /// POST with a JSON body and one more header.
    pub fn post_with(&self, path: &str, header: (&str, &str), body: Value) -> Result<Value, ApiError> {
        let request = self.agent.post(format!("{}{path}", self.base)).header("Authorization", self.bearer());
        answer(path, request.header(header.0, header.1).send_json(body))
    }

    /// PUT with a JSON body.
    pub fn put(&self, path: &str, body: Value) -> Result<Value, ApiError> {
        let request = self.agent.put(format!("{}{path}", self.base)).header("Authorization", self.bearer());
        answer(path, request.send_json(body))
    }

    /// PATCH with a JSON body.
    pub fn patch(&self, path: &str, body: Value) -> Result<Value, ApiError> {
        let request = self.agent.patch(format!("{}{path}", self.base)).header("Authorization", self.bearer());
        answer(path, request.send_json(body))
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Result<Value, ApiError> {
        let request =
            self.agent.delete(format!("{}{path}", self.base)).header("Authorization", self.bearer());
        answer(path, request.call())
    }

    /// Any request; its status and its body, whatever they are. No body is sent if it is null.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.try_ask(method, path, body).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// As `ask`, of a server that may die; `None` if it gives no whole answer.
    pub fn try_ask(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        self.ask_with(method, path, &[], body)
    }

    /// As `try_ask`, with more headers.
    pub fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Option<(u16, Value)> {
        let plain = ureq::http::Request::builder()
            .method(method.to_uppercase().as_str())
            .uri(format!("{}{path}", self.base))
            .header("Authorization", self.bearer())
            .header("Content-Type", "application/json");
        let request = headers.iter().fold(plain, |request, (name, value)| request.header(*name, *value));
        let sent = if body.is_null() { String::new() } else { body.to_string() };
        let mut response = self.agent.run(request.body(sent).unwrap()).ok()?;
        let text = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// The address of the API, with its path.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The key that requests carry.
    pub fn key(&self) -> &str {
        &self.key
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }
}

fn answer(
    path: &str,
    sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, ApiError> {
    let lost = |error: ureq::Error| ApiError { status: 0, message: format!("{path}: {error}") };
    let mut response = sent.map_err(lost)?;
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().map_err(lost)?;
    let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if (200..300).contains(&status) {
        return Ok(value);
    }
    let message = value["message"].as_str().map_or(text, str::to_owned);
    Err(ApiError { status, message })
}
