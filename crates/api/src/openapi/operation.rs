//! One call, as the document has it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use super::{access, shared};
use crate::calls::{Access, Call};
use crate::problem::Kind;

/// What every call may be refused with.
const ALWAYS: &[Kind] = &[
    Kind::InvalidRequest,
    Kind::TooLarge,
    Kind::HeadTooLarge,
    Kind::Internal,
    Kind::NotImplemented,
    Kind::Unavailable,
    Kind::Timeout,
];

/// A call that is being described. What the table of calls says of it is there already: its path, its summary, whom it is open to,
/// and the refusals that follow from that.
pub struct Operation<'s> {
    call: Call,
    schemas: &'s mut Schemas,
    tag: &'static str,
    about: String,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: BTreeMap<u16, Value>,
    refusals: Vec<Kind>,
    /// A status in which every refusal may be told, where that is asked for.
    told_as: Option<u16>,
}

impl<'s> Operation<'s> {
    pub(super) fn new(call: Call, schemas: &'s mut Schemas) -> Self {
        let mut operation = Self {
            call,
            schemas,
            tag: tag(call),
            about: String::new(),
            parameters: vec![shared::parameter("RequestId")],
            body: None,
            answers: BTreeMap::new(),
            refusals: ALWAYS.to_vec(),
            told_as: None,
        };
        match call.access() {
            Access::Anyone => {}
            Access::User => operation.refuses(&[Kind::UserRequired, Kind::InvalidToken]),
            Access::KeyOrClient(_) => {
                operation.refuses(&[Kind::ClientIdRequired, Kind::Unauthorized, Kind::Forbidden]);
            }
            Access::AnyKeyOrClient => operation.refuses(&[Kind::ClientIdRequired, Kind::Unauthorized]),
            Access::Proxy => operation.refuses(&[Kind::Forbidden]),
            Access::AnyKey => operation.refuses(&[Kind::Unauthorized]),
            Access::Session | Access::Key(_) | Access::Owner | Access::SenderOrKey(_) => {
                operation.refuses(&[Kind::Unauthorized, Kind::Forbidden])
            }
            Access::UserOrKey(_) => {
                operation.refuses(&[Kind::Unauthorized, Kind::InvalidToken, Kind::Forbidden]);
            }
        }
        let native = call.is_native();
        if !Call::is_health(call.path()) {
            operation.refuses(&[Kind::QuotaExceeded]);
            if !native {
                // Whom an access list turns away.
                operation.refuses(&[Kind::Forbidden]);
            }
            if may_be_held(call) {
                operation.refuses(&[Kind::WaitingRoom]);
            }
            // Calls of strangers; a key passes.
            if may_be_held(call) && !matches!(call.access(), Access::Key(_) | Access::AnyKey) {
                operation.refuses(&[Kind::ChallengeRequired]);
            }
        }
        let names_the_client = matches!(
            call.access(),
            Access::KeyOrClient(_) | Access::AnyKeyOrClient | Access::SenderOrKey(_)
        );
        if !native && !names_the_client {
            operation.parameters.push(shared::parameter("ClientId"));
        }
        operation
    }

    /// What there is to know, in Markdown.
    pub fn about(&mut self, text: &str) {
        self.about = text.to_owned();
    }

    /// A parameter of the path.
    pub fn path(&mut self, name: &str, schema: Value, about: &str) {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": about, "schema": schema,
        }));
    }

    /// A field of the query.
    pub fn query(&mut self, name: &str, schema: Value, about: &str) {
        self.parameters
            .push(json!({ "name": name, "in": "query", "description": about, "schema": schema }));
    }

    /// `limit` and `cursor`.
    pub fn pages(&mut self, most: u64, default: u64) {
        let mut limit = number(1, most);
        limit["default"] = json!(default);
        self.query("limit", limit, "How many at most.");
        self.query(
            "cursor",
            text(0, 1_024),
            "The `nextCursor` of the page before; anything else is refused.",
        );
    }

    /// A header of the request, one of those that calls share: `IdempotencyKey`, `PartitionKey`, `IfNoneMatch`.
    pub fn header(&mut self, name: &str) {
        self.parameters.push(shared::parameter(name));
    }

    /// A body that must be there.
    pub fn takes<T: JsonSchema>(&mut self, example: Value) {
        let media = self.media_types();
        let schema = self.schemas.read::<T>();
        self.set_body(media, schema, Some(example), true);
        self.refuses(&[Kind::UnsupportedMediaType]);
    }

    /// A body that must be there: one object with the members of both.
    pub fn takes_all<A: JsonSchema, B: JsonSchema>(&mut self, example: Value) {
        let (media, mut members) = (self.media_types(), Map::new());
        let mut required = Vec::new();
        for schema in [self.schemas.inlined::<A>(), self.schemas.inlined::<B>()] {
            members.extend(schema["properties"].as_object().cloned().unwrap_or_default());
            required.extend(schema["required"].as_array().cloned().unwrap_or_default());
        }
        let schema = json!({
            "type": "object", "properties": members, "required": required, "additionalProperties": false,
        });
        self.set_body(media, schema, Some(example), true);
        self.refuses(&[Kind::UnsupportedMediaType]);
    }

    /// A body that may be left out.
    pub fn may_take<T: JsonSchema>(&mut self, example: Value) {
        let media = self.media_types();
        let schema = self.schemas.read::<T>();
        self.set_body(media, schema, Some(example), false);
        self.refuses(&[Kind::UnsupportedMediaType]);
    }

    /// A body of any kind.
    pub fn takes_anything(&mut self) {
        self.header("IdempotencyKey");
        self.header("PartitionKey");
        self.body = Some(json!({
            "description": "Any body, of any content type; `application/octet-stream` where none is given.",
            "content": {
                "application/json": { "schema": true, "example": { "email": "ann@example.com" } },
                "*/*": { "schema": {} },
            },
        }));
    }

    /// A body of JSON that must be there, and has no type of its own.
    pub fn takes_json(&mut self, schema: Value, example: Value) {
        self.set_body(self.media_types(), schema, Some(example), true);
    }

    /// A form that must be there.
    pub fn takes_form(&mut self, schema: Value, example: Value) {
        self.set_body(
            &["application/x-www-form-urlencoded"],
            schema,
            Some(example),
            true,
        );
    }

    fn media_types(&self) -> &'static [&'static str] {
        match self.call.method() {
            "PATCH" => &["application/json", "application/merge-patch+json"],
            _ => &["application/json"],
        }
    }

    fn set_body(&mut self, media: &[&str], schema: Value, example: Option<Value>, required: bool) {
        let mut content = Map::new();
        for media in media {
            let mut described = json!({ "schema": schema });
            if let Some(example) = &example {
                described["example"] = example.clone();
            }
            content.insert((*media).to_owned(), described);
        }
        self.body = Some(json!({ "required": required, "content": content }));
    }

    /// An answer of JSON.
    pub fn gives<T: JsonSchema>(&mut self, status: u16, about: &str, example: Value) {
        let schema = self.schemas.written::<T>();
        let content = json!({ "application/json": { "schema": schema, "example": example } });
        self.answer(status, about, Some(content));
    }

    /// 202 with what became of a request that is a message now.
    pub fn accepts<T: JsonSchema>(&mut self) {
        let schema = self.schemas.written::<T>();
        self.accepts_as(&schema);
    }

    pub(super) fn accepts_as(&mut self, schema: &Value) {
        let content = json!({ "application/json": {
            "schema": schema,
            "example": { "id": "3f6hK2pXw9QvB4nTzLrM8c", "topic": "signup", "sequence": 7 },
        } });
        self.answer(202, "Durable, and to be delivered.", Some(content));
        self.answers_with(202, "Location", true);
        self.answers_with(202, "Idempotency-Replayed", false);
    }

    /// An answer of text.
    pub fn gives_text(&mut self, status: u16, about: &str, media: &str) {
        let described = json!({ "schema": { "type": "string" } });
        // There may be one of another media type.
        match self.answers.get_mut(&status) {
            Some(answer) => answer["content"][media] = described,
            None => {
                let mut content = Map::new();
                content.insert(media.to_owned(), described);
                self.answer(status, about, Some(content.into()));
            }
        }
    }

    /// An answer of one JSON document that this one does not describe any further.
    pub fn gives_document(&mut self, status: u16, about: &str, media: &str) {
        let mut content = Map::new();
        content.insert(media.to_owned(), json!({ "schema": { "type": "object" } }));
        self.answer(status, about, Some(content.into()));
    }

    /// With an example of it.
    pub fn shows(&mut self, status: u16, media: &str, example: Value) {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["content"][media]["example"] = example;
        }
    }

    /// The same beside what is described of the status already.
    pub fn also_gives_document(&mut self, status: u16, media: &str) {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["content"][media] = json!({ "schema": { "type": "object" } });
        }
    }

    /// An answer of JSON that has no type of its own.
    pub fn gives_json(&mut self, status: u16, about: &str, schema: Value, example: Value) {
        let content = json!({ "application/json": { "schema": schema, "example": example } });
        self.answer(status, about, Some(content));
    }

    /// The schema of a type that is written, for an answer that has no type of its own.
    pub fn schema<T: JsonSchema>(&mut self) -> Value {
        self.schemas.written::<T>()
    }

    /// An answer without a body.
    pub fn gives_nothing(&mut self, status: u16, about: &str) {
        self.answer(status, about, None);
    }

    fn answer(&mut self, status: u16, about: &str, content: Option<Value>) {
        let mut answer = json!({ "description": about, "headers": self.usual_headers() });
        if let Some(content) = content {
            answer["content"] = content;
        }
        self.answers.insert(status, answer);
    }

    /// A header of an answer.
    pub fn answers_with(&mut self, status: u16, header: &str, always: bool) {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["headers"][header] = shared::header(header, always);
        }
    }

    /// Refusals besides those that follow from whom the call is open to.
    pub fn refuses(&mut self, kinds: &[Kind]) {
        self.refusals.extend(kinds);
    }

    /// Refusals in a form of another API, with these statuses; the others stay the gateway's own. `media`: of a form that is no problem
    /// document; the gateway refuses by one of those before it looks at the call.
    pub fn refuses_otherwise(&mut self, statuses: &[u16], media: Option<&str>) {
        self.refusals.retain(|kind| !statuses.contains(&kind.status()));
        for status in statuses {
            self.gives_document(*status, "It is refused.", "application/problem+json");
            if let Some(media) = media {
                self.also_gives_document(*status, media);
            }
            if *status == 401 {
                self.answers_with(401, "WWW-Authenticate", true);
            }
        }
    }

    /// Every refusal may be told in this status instead, with `X-Tollgate-Status`, where that is asked for.
    pub fn may_tell_as(&mut self, status: u16) {
        self.told_as = Some(status);
    }

    fn usual_headers(&self) -> Value {
        shared::usual_headers(self.call.path().starts_with("/api/"))
    }

    /// # Errors
    /// What is missing, so that no call is described by half.
    pub(super) fn finish(self) -> Result<Value, String> {
        let call = self.call;
        let described = |parameter: &str| {
            self.parameters
                .iter()
                .any(|p| p["name"] == parameter && p["in"] == "path")
        };
        for name in call
            .path()
            .split('/')
            .filter_map(|segment| segment.strip_prefix(':'))
        {
            if !described(name) {
                return Err(format!(
                    "{call:?}: the parameter {name} of its path is not described"
                ));
            }
        }
        // A body that may be left out is no mark of the call.
        let may_take = self.body.as_ref().is_some_and(|body| body["required"] == false);
        if call.has_body() != self.body.is_some() && !may_take {
            return Err(format!("{call:?}: its body is not described, or it has none"));
        }
        self.finish_open()
    }

    pub(super) fn finish_open(self) -> Result<Value, String> {
        let call = self.call;
        if self.about.is_empty() || self.answers.is_empty() {
            return Err(format!("{call:?} has no description, or no answer"));
        }
        let headers = self.usual_headers();
        let mut responses: Map<String, Value> = Map::new();
        for (status, answer) in &self.answers {
            responses.insert(status.to_string(), answer.clone());
        }
        let statuses: BTreeSet<u16> = self.refusals.iter().map(|kind| kind.status()).collect();
        for status in statuses {
            let is_told_here = self.told_as == Some(status);
            let kinds: Vec<Kind> = Kind::ALL
                .iter()
                .copied()
                .filter(|kind| (kind.status() == status || is_told_here) && self.refusals.contains(kind))
                .collect();
            let refusal = match self.answers.get(&status) {
                None if is_told_here => shared::response_for_all(&kinds, &headers),
                None => shared::refusal(&kinds, &headers),
                // Some are told otherwise, as a page.
                Some(answer) => shared::merged(shared::response(&kinds, &headers), answer),
            };
            responses.insert(status.to_string(), refusal);
        }
        let (words, security) = access(call.access());
        let mut name = call.name().to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        let mut written = json!({
            "operationId": name,
            "summary": call.summary().trim(),
            "description": self.about,
            "tags": [self.tag],
            "security": security,
            "x-tollgate-access": words,
            "parameters": self.parameters,
            "responses": responses,
        });
        if let Some(body) = self.body {
            written["requestBody"] = body;
        }
        Ok(written)
    }
}

/// Whether a waiting room may be in front of a call.
fn may_be_held(call: Call) -> bool {
    let is_crowds = call.path().starts_with("/api/") || call.path() == "/:code";
    is_crowds
        && !["/api/rooms", "/api/challenges", "/api/keys"]
            .iter()
            .any(|own| call.path().starts_with(own))
}

/// By what a call is about.
fn tag(call: Call) -> &'static str {
    match call
        .path()
        .split('/')
        .nth(2)
        .filter(|_| call.path().starts_with("/api/"))
    {
        Some("links") => "links",
        Some("dub") => "dub",
        Some("campaigns" | "receipts" | "rooms" | "challenges") => "campaigns",
        Some("topics" | "messages") => "topics",
        Some("keys") => "keys",
        Some("limits") => "limits",
        _ if call.path().starts_with("/rest/") => "shlink",
        _ if call.path() == "/yourls-api.php" => "yourls",
        _ if crate::calls::is_sqs(call.path()) => "sqs",
        _ if call.path().starts_with("/admin") => "dashboard",
        _ if call.path() == "/:code" => "links",
        _ if call == Call::ReadJwks => "campaigns",
        _ => "operations",
    }
}

/// A whole number within bounds.
pub fn number(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

/// A text of so many characters.
pub fn text(least: u64, most: u64) -> Value {
    json!({ "type": "string", "minLength": least, "maxLength": most })
}

/// A text of this form (ECMA 262).
pub fn pattern(form: &str) -> Value {
    json!({ "type": "string", "pattern": form })
}
