//! One operation of the API, put together word by word.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::schema;

/// What a method of a path does, takes and answers.
pub(in crate::http::owner) struct Operation {
    pub(in crate::http::owner) method: Method,
    pub(in crate::http::owner) path: &'static str,
    pub(in crate::http::owner) tag: &'static str,
    summary: &'static str,
    about: String,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Map<String, Value>,
}

/// Looks at something.
pub(super) fn get(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::GET, path, summary)
}

/// Makes or changes something.
pub(super) fn post(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::POST, path, summary)
}

/// Ends something.
pub(super) fn delete(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::DELETE, path, summary)
}

impl Operation {
    fn new(method: Method, path: &'static str, summary: &'static str) -> Self {
        Self { method, path, tag: "", summary, about: String::new(), parameters: Vec::new(), body: None, answers: Map::new() }
    }

    /// Says where it belongs.
    pub(super) fn of(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    /// Says more of it.
    pub(super) fn about(mut self, text: impl Into<String>) -> Self {
        self.about = text.into();
        self
    }

    /// Names a part of the path.
    pub(super) fn part(self, name: &str, schema: Value, about: &str) -> Self {
        self.parameter("path", name, schema, about)
    }

    /// Names a parameter of the query. Each may be left out, and counts as left out where it is empty.
    pub(super) fn query(mut self, name: &str, mut schema: Value, about: &str) -> Self {
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push("".into());
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            schema["pattern"] = format!("^$|{pattern}").into();
        }
        self = self.parameter("query", name, schema, about);
        if let Some(parameter) = self.parameters.last_mut() {
            parameter["allowEmptyValue"] = true.into();
        }
        self
    }

    /// Names a header.
    pub(super) fn header(self, name: &str, schema: Value, about: &str) -> Self {
        self.parameter("header", name, schema, about)
    }

    fn parameter(mut self, place: &str, name: &str, schema: Value, about: &str) -> Self {
        let is_required = place == "path";
        self.parameters.push(json!({ "name": name, "in": place, "required": is_required, "description": about, "schema": schema }));
        self
    }

    /// Takes a page's place and length.
    pub(super) fn pages(self, default: usize, most: usize) -> Self {
        let about = format!("How many; {default} where it is not said, and more than {most} is cut to that.");
        self.query("cursor", schema::text(), "The `next_cursor` of the page before.").query("limit", schema::whole(1), &about)
    }

    /// Takes an `Idempotency-Key`.
    pub(super) fn once(self) -> Self {
        let about = "Any text of your own. The same request sent again with it, because its answer was lost, is answered as the \
                     first one was and makes nothing twice; another request with it is refused.";
        self.header("Idempotency-Key", json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\t -~]+$" }), about)
    }

    /// Takes a body of JSON.
    pub(super) fn takes(mut self, schema: Value, example: Value) -> Self {
        let content = json!({ "application/json": { "schema": schema, "example": example } });
        self.body = Some(json!({ "required": true, "content": content }));
        self
    }

    /// Takes a body of JSON that may be left out.
    pub(super) fn may_take(mut self, schema: Value) -> Self {
        self.body = Some(json!({ "required": false, "content": { "application/json": { "schema": schema } } }));
        self
    }

    /// Takes a form.
    pub(super) fn takes_form(mut self, schema: Value) -> Self {
        self.body = Some(json!({ "required": true, "content": { "application/x-www-form-urlencoded": { "schema": schema } } }));
        self
    }

    /// Answers JSON of a schema that has a name.
    pub(super) fn answers(self, status: u16, name: &str, about: &str) -> Self {
        self.answers_json(status, schema::named(name), about)
    }

    /// Answers JSON.
    pub(super) fn answers_json(self, status: u16, schema: Value, about: &str) -> Self {
        self.answers_with(status, "application/json", schema, about)
    }

    /// Answers something that is no JSON; said twice of a status, either of the two.
    pub(super) fn answers_with(mut self, status: u16, media_type: &str, schema: Value, about: &str) -> Self {
        let answer = self.answers.entry(status.to_string()).or_insert_with(|| json!({ "description": about, "content": {} }));
        answer["content"][media_type] = json!({ "schema": schema });
        self
    }

    /// Answers without a body.
    pub(super) fn answers_empty(mut self, status: u16, about: &str) -> Self {
        self.answers.insert(status.to_string(), json!({ "description": about }));
        self
    }

    /// Leads elsewhere.
    pub(super) fn leads(mut self, status: u16, about: &str) -> Self {
        let location = json!({ "description": "Where to.", "schema": { "type": "string" } });
        self.answers.insert(status.to_string(), json!({ "description": about, "headers": { "Location": location } }));
        self
    }

    /// Answers a problem.
    pub(super) fn problem(mut self, status: u16, about: &str) -> Self {
        self.answers.insert(status.to_string(), problem(about));
        self
    }

    /// Returns in a few words what it does.
    pub(in crate::http::owner) fn summary(&self) -> &'static str {
        self.summary
    }

    pub(super) fn has_query(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter["in"] == "query")
    }

    pub(super) fn has_body(&self) -> bool {
        self.body.is_some()
    }

    /// Adds a problem where the operation says nothing of that status itself.
    pub(super) fn or_problem(&mut self, status: u16, about: &str) {
        self.answers.entry(status.to_string()).or_insert_with(|| problem(about));
    }

    /// Writes it down as OpenAPI has it; `who` says who may ask.
    pub(in crate::http::owner) fn json(&self, who: &str, security: Value) -> Value {
        let mut json = json!({
            "tags": [self.tag],
            "operationId": self.id(),
            "summary": self.summary,
            "security": security,
            "responses": self.answers,
        });
        let about: Vec<&str> = [self.about.as_str(), who].into_iter().filter(|text| !text.is_empty()).collect();
        if !about.is_empty() {
            json["description"] = about.join("\n\n").into();
        }
        if !self.parameters.is_empty() {
            json["parameters"] = self.parameters.clone().into();
        }
        if let Some(body) = &self.body {
            json["requestBody"] = body.clone();
        }
        json
    }

    /// Names it for programs that make clients of the document, as `get_api_v1_shares_id`.
    pub(in crate::http::owner) fn id(&self) -> String {
        let mut id = self.method.as_str().to_ascii_lowercase();
        for word in self.path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            id.push('_');
            id.push_str(word);
        }
        id
    }
}

fn problem(about: &str) -> Value {
    json!({ "description": about, "content": { "application/problem+json": { "schema": schema::named("Problem") } } })
}
