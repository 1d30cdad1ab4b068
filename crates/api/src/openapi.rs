//! The contract as an OpenAPI 3.1 document, made from the table of [`calls`](crate::calls) and the types that are read and
//! written. `cargo xtask openapi` writes it to a file, which a test holds to this, and which the gateway serves.
//!
//! What a call takes and gives is described beside its rule, with an [`Operation`]; what all calls have in common is here.

mod operation;
mod schemas;
mod shared;

pub use operation::{Operation, number, pattern, text};
pub use schemas::{Base64, Schemas, Time, Uri, WebUrl};

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::calls::{Access, Call, Scope};
use crate::problem::{FieldError, Kind};

/// What the document says first.
const ABOUT: &str = include_str!("openapi/about.md");

/// The tags, in the order in which they are shown, and what their calls are about.
const TAGS: &[(&str, &str)] = &[
    ("links", "Short links: the redirect, and what manages them."),
    ("dub", "Short links for clients that were written for Dub."),
    ("shlink", "Short links for clients that were written for Shlink."),
    ("yourls", "Short links for clients that were written for YOURLS."),
    (
        "campaigns",
        "Coupon campaigns: exactly N claims, each user at most `perUser` of them.",
    ),
    (
        "topics",
        "The origin queue: durable topics, their messages, and push subscriptions.",
    ),
    (
        "sqs",
        "Consumer groups and topics for clients that were written for SQS.",
    ),
    ("keys", "API keys."),
    ("limits", "Rate limits."),
    (
        "dashboard",
        "The page at `/admin`, and what it is made of. For that page alone, and for the `tollgate` binary: under Spin they are 404.",
    ),
    ("operations", "What operators and browsers ask for."),
];

/// The document. `describe` says of a call what its table does not.
///
/// # Errors
/// What contradicts itself: two types of one name, or a call that is described with less than it has.
pub fn document(version: &str, describe: impl Fn(Call, &mut Operation<'_>)) -> Result<Value, String> {
    let mut schemas = Schemas::default();
    let mut paths = BTreeMap::<String, Map<String, Value>>::new();
    for call in Call::ALL {
        let mut operation = Operation::new(*call, &mut schemas);
        describe(*call, &mut operation);
        let path = template(call.path());
        let written = operation.finish()?;
        paths
            .entry(path)
            .or_default()
            .insert(call.method().to_lowercase(), written);
    }
    let forward = forward_route(&mut schemas)?;
    schemas.written::<FieldError>();
    let mut definitions = schemas.finish()?;
    definitions.extend(shared::problems());
    let tags: Vec<_> = TAGS
        .iter()
        .map(|(name, about)| json!({ "name": name, "description": about }))
        .collect();
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": version,
            "summary": "Short links, rate limits, coupon claims, and a durable queue in front of your origin.",
            "description": ABOUT.trim(),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The gateway that this document is from." }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": definitions,
            "responses": shared::responses(),
            "headers": shared::headers(),
            "parameters": shared::parameters(),
            "securitySchemes": shared::security_schemes(),
            "pathItems": { "ForwardRoute": forward },
        },
    }))
}

/// `/api/links/:code` as OpenAPI writes it.
fn template(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// A path of `[[forward]]`: which there are, only the configuration knows.
fn forward_route(schemas: &mut Schemas) -> Result<Value, String> {
    let mut operation = Operation::new(Call::PostMessage, schemas);
    operation.about(
        "A path that `[[forward]]` in tollgate.toml adds, with the methods given there (the default is POST): the request, \
         whole, becomes a durable message of the route's topic, whatever its method. Neither a key nor a client id is needed.",
    );
    operation.takes_anything();
    operation.accepts_as(&shared::accepted());
    operation.refuses(&[
        Kind::MethodNotAllowed,
        Kind::InvalidSignature,
        Kind::IdempotencyMismatch,
        Kind::BacklogFull,
    ]);
    let mut written = operation.finish_open()?;
    if let Some(written) = written.as_object_mut() {
        written.insert("operationId".into(), json!("forwardRoute"));
        written.insert(
            "summary".into(),
            json!("A configured route: the request as a message."),
        );
        written.insert("security".into(), json!([]));
        written.insert("x-tollgate-access".into(), json!("anyone"));
    }
    Ok(json!({ "post": written }))
}

/// Whom a call is open to, in words, and as OpenAPI's security requirements.
fn access(access: Access) -> (String, Value) {
    let name = |scope: Scope| format!("{scope:?}").to_lowercase();
    match access {
        Access::Anyone => ("anyone".into(), json!([])),
        Access::Proxy => ("proxy".into(), json!([])),
        Access::AnyKey => ("key".into(), json!([{ "apiKey": [] }])),
        Access::Session => ("session".into(), json!([{ "session": [] }])),
        Access::Key(scope) => {
            let scope = name(scope);
            (format!("key:{scope}"), json!([{ "apiKey": [scope] }]))
        }
        Access::KeyOrClient(scope) => {
            let scope = name(scope);
            let either = json!([{ "apiKey": [scope] }, { "clientId": [] }]);
            (format!("key:{scope} or client"), either)
        }
        Access::AnyKeyOrClient => (
            "key or client".into(),
            json!([{ "apiKey": [] }, { "clientId": [] }]),
        ),
        Access::Owner => {
            let either = json!([{ "apiKey": ["links"] }, { "manageToken": [] }]);
            ("owner".into(), either)
        }
        Access::SenderOrKey(scope) => {
            let scope = name(scope);
            let either = json!([{ "apiKey": [scope] }, { "clientId": [] }]);
            (format!("sender or key:{scope}"), either)
        }
        Access::User => ("user".into(), json!([{ "userId": [] }, { "userToken": [] }])),
        Access::UserOrKey(scope) => {
            let scope = name(scope);
            let either = json!([{ "userId": [] }, { "userToken": [] }, { "apiKey": [scope] }]);
            (format!("user or key:{scope}"), either)
        }
    }
}
