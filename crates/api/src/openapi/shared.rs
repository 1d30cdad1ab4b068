//! What calls share: headers, parameters, credentials, problems.

use serde_json::{Map, Value, json};

use crate::problem::{Kind, Problem};

/// Headers of answers: name, schema, what they say.
fn header_table() -> Vec<(&'static str, Value, &'static str)> {
    let string = || json!({ "type": "string" });
    vec![
        (
            "X-Request-Id",
            json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$" }),
            "The request's id: the caller's, if it sent a sane one.",
        ),
        (
            "Cache-Control",
            string(),
            "Whether, and for whom, a cache may keep it.",
        ),
        ("Link", string(), "Where the next page is (RFC 8288)."),
        ("X-User-Id", string(), "Who the user's token names."),
        (
            "X-Tollgate-Status",
            json!({ "const": "429" }),
            "What the refusal is, where `deny=403` asks for another status.",
        ),
        (
            "RateLimit-Policy",
            string(),
            "The policies that matched: `\"default\";q=100;w=10`; `q` requests, `w` seconds to fill it from empty.",
        ),
        (
            "RateLimit",
            string(),
            "Where they stand: `\"default\";r=42;t=3`; `r` requests left, full again in `t` seconds.",
        ),
        (
            "Retry-After",
            json!({ "type": "integer", "minimum": 1 }),
            "Seconds after which it may be tried again. On a 401: the keys of tokens may have been fetched by then.",
        ),
        (
            "Location",
            // As browsers read one (WHATWG), which takes more than RFC 3986 does.
            json!({ "type": "string", "minLength": 1 }),
            "Where it is, or where it leads.",
        ),
        (
            "WWW-Authenticate",
            json!({ "enum": ["Bearer", "Bearer error=\"invalid_token\""] }),
            "What is asked for (RFC 9110, section 11.6.1).",
        ),
        ("Allow", string(), "The methods that the path takes."),
        (
            "X-Amzn-Query-Error",
            string(),
            "SQS's older code of the refusal, and whose fault it is: `Sender` or `Receiver`.",
        ),
        (
            "Idempotency-Replayed",
            json!({ "const": "true" }),
            "There if the answer is that of an earlier request with the same `Idempotency-Key`.",
        ),
        (
            "ETag",
            string(),
            "Names this version; send it as `If-None-Match`, or to change what it names as `If-Match`.",
        ),
        ("Content-Security-Policy", string(), "What the page may do."),
        (
            "X-Content-Type-Options",
            json!({ "const": "nosniff" }),
            "The content type is meant.",
        ),
        (
            "X-Frame-Options",
            json!({ "const": "DENY" }),
            "No page may hold it in a frame.",
        ),
        (
            "Cross-Origin-Resource-Policy",
            json!({ "const": "same-origin" }),
            "No other site may embed it.",
        ),
        (
            "Cross-Origin-Opener-Policy",
            json!({ "const": "same-origin" }),
            "No other site's window may reach into it.",
        ),
        (
            "Referrer-Policy",
            string(),
            "What a browser tells of where it comes from.",
        ),
        (
            "Vary",
            string(),
            "Which headers of the request the answer depends on.",
        ),
        (
            "Content-Encoding",
            json!({ "const": "gzip" }),
            "There where `Accept-Encoding` takes it.",
        ),
        (
            "Set-Cookie",
            string(),
            "Begins a session, or ends it; opens a link whose password was sent; or keeps a place in a waiting room.",
        ),
        (
            "X-Accel-Buffering",
            string(),
            "Asks proxies to pass events on at once.",
        ),
        ("X-Robots-Tag", string(), "What crawlers may do with it."),
        ("X-User-Id", string(), "Who the user's token names."),
        (
            "X-Tollgate-Status",
            json!({ "type": "integer", "minimum": 400, "maximum": 599 }),
            "The status that a refusal would have had; forward auth was asked for 403 instead.",
        ),
    ]
}

/// `components.headers`.
pub(super) fn headers() -> Value {
    let mut all = Map::new();
    for (name, schema, about) in header_table() {
        for (suffix, required) in [("", false), ("-Always", true)] {
            let header = json!({ "description": about, "required": required, "schema": schema });
            all.insert(format!("{name}{suffix}"), header);
        }
    }
    all.into()
}

/// One of them.
pub(super) fn header(name: &str, always: bool) -> Value {
    let suffix = if always { "-Always" } else { "" };
    json!({ "$ref": format!("#/components/headers/{name}{suffix}") })
}

/// Those of every answer; `limited` where the limiter's belong to them.
pub(super) fn usual_headers(limited: bool) -> Value {
    let mut usual = json!({
        "X-Request-Id": header("X-Request-Id", true),
        "Cache-Control": header("Cache-Control", false),
    });
    if limited {
        usual["RateLimit-Policy"] = header("RateLimit-Policy", false);
        usual["RateLimit"] = header("RateLimit", false);
    }
    usual
}

/// `components.parameters`.
pub(super) fn parameters() -> Value {
    let header = |name: &str, schema: Value, about: &str, example: &str| json!({ "name": name, "in": "header", "description": about, "schema": schema, "example": example });
    json!({
        "RequestId": header(
            "x-request-id",
            json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$" }),
            "Taken over for the answer and the log. One of another form is replaced.",
            "checkout-5f2c",
        ),
        "ClientId": header(
            "x-client-id",
            json!({ "type": "string", "pattern": "^[!-~]{1,128}$" }),
            "Whom the limiter counts by, where no API key says so. Without it the peer's address counts.",
            "ann",
        ),
        "IdempotencyKey": header(
            "Idempotency-Key",
            json!({ "type": "string", "pattern": "^(\"[ !#-\\[\\]-~]{1,128}\"|[!#-+\\--:<-\\[\\]-~]{1,128})$" }),
            "A text in quotes (RFC 9651) or a bare word, remembered for 24 hours. The same key and request replay the answer \
             with `Idempotency-Replayed: true`; the same key with another request is a 422.",
            "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"",
        ),
        "PartitionKey": header(
            "x-partition-key",
            json!({ "type": "string", "pattern": "^[!-~]{1,128}$" }),
            "The ordering key: messages with the same one are delivered in order. It is in the caller's own namespace, unless the \
             caller's key has the scope `topics`.",
            "order-7",
        ),
        "DeliverAt": header(
            "x-deliver-at",
            json!({ "type": "string", "format": "date-time" }),
            "When the message comes, at most 30 days ahead; at once if that has passed. Not with `x-delay`.",
            "2027-01-15T20:00:00Z",
        ),
        "Delay": header(
            "x-delay",
            json!({ "type": "integer", "minimum": 0, "maximum": 2_592_000 }),
            "In how many seconds the message comes. Not with `x-deliver-at`.",
            "600",
        ),
        "LastEventId": header(
            "Last-Event-ID",
            json!({ "type": "integer", "minimum": 0 }),
            "The `id` of the last event that was received, as browsers send it when they connect again.",
            "41",
        ),
        "IfMatch": header(
            "If-Match",
            json!({ "type": "string" }),
            "The `ETag` of what the caller has seen: what was changed since is left alone (412).",
            "\"3f6hK2pXw9QvB4nTzLrM.7\"",
        ),
        "IfNoneMatch": header(
            "If-None-Match",
            json!({ "type": "string" }),
            "The `ETag` of what the caller has: it is answered with 304 if that is still so.",
            "\"5d41402abc4b2a76\"",
        ),
    })
}

/// One of them.
pub(super) fn parameter(name: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{name}") })
}

/// `components.securitySchemes`.
pub(super) fn security_schemes() -> Value {
    let header = |name: &str, about: &str| json!({ "type": "apiKey", "in": "header", "name": name, "description": about });
    json!({
        "apiKey": {
            "type": "http", "scheme": "bearer",
            "description": "An API key. What is listed beside it is the scope that it needs: `links`, `campaigns`, `topics`, or \
                            `admin`, which may do everything.",
        },
        "manageToken": {
            "type": "http", "scheme": "bearer",
            "description": "The `manageToken` that an anonymous creator of a link was given; good for that link alone.",
        },
        "session": {
            "type": "apiKey", "in": "cookie", "name": "tollgate",
            "description": "The session of somebody who is logged in at the dashboard; the cookie's name also holds the port, and \
                            `__Host-` over TLS. The page's own calls send `x-tollgate-csrf` with it.",
        },
        "clientId": header("x-client-id", "A client that names itself: 1 to 128 visible ASCII characters."),
        "userToken": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "A JWT of the issuer that `[users.jwt]` names, where that is set; the header counts for nothing then.",
        },
        "userId": header("x-user-id", "The user that a campaign counts by: 1 to 128 visible ASCII characters."),
    })
}

/// The schema of what a request is answered with that is a message now: `tollgate-rules` has the type.
pub(super) fn accepted() -> Value {
    json!({ "$ref": "#/components/schemas/Accepted" })
}

fn problem_name(kind: Kind) -> String {
    format!("{kind:?}Problem")
}

/// The schemas of problem documents: one for each kind, and one for any.
pub(super) fn problems() -> Map<String, Value> {
    let errors = json!({
        "type": "array", "minItems": 1, "description": "The fields at fault.",
        "items": { "$ref": "#/components/schemas/FieldError" },
    });
    let detail =
        json!({ "type": "string", "minLength": 1, "description": "This occurrence, in a sentence." });
    let mut all = Map::new();
    for kind in Kind::ALL {
        let mut properties = json!({
            "type": { "const": Problem::new(*kind, "").type_uri() },
            "title": { "const": kind.title() },
            "status": { "const": kind.status() },
            "detail": detail,
        });
        let mut required = vec!["type", "title", "status", "detail"];
        match kind {
            Kind::InvalidRequest => properties["errors"] = errors.clone(),
            Kind::Conflict => {
                properties["errors"] = errors.clone();
                properties["claim"] = json!({ "$ref": "#/components/schemas/Claim" });
                properties["remaining"] = json!({
                    "type": "integer", "minimum": 1,
                    "description": "Units that are left: there is no line, and one can be claimed.",
                });
            }
            Kind::SoldOut => {
                properties["held"] = json!({
                    "type": "integer", "minimum": 1,
                    "description": "Units that are only held: some may come back. `Retry-After` tells when the next hold ends.",
                });
                properties["remaining"] = json!({
                    "type": "integer", "minimum": 1, "description": "Units that are left, where more were asked for.",
                });
                properties["waiting"] = json!({
                    "type": "integer", "minimum": 1, "description": "Users in line, who come first.",
                });
            }
            Kind::QuotaExceeded => {
                properties["violated-policies"] = json!({
                    "type": "array", "minItems": 1, "items": { "type": "string" },
                    "description": "The names of the policies that had not enough left.",
                });
                required.push("violated-policies");
            }
            Kind::ChallengeRequired => {
                properties["challenge"] = json!({ "type": "string", "description": "Its name." });
                properties["url"] = json!({ "type": "string", "description": "Where there are more." });
                properties["altcha"] = json!({ "$ref": "#/components/schemas/Altcha" });
                properties["siteverify"] = json!({ "$ref": "#/components/schemas/Siteverify" });
                required.extend(["challenge", "url"]);
            }
            Kind::WaitingRoom => {
                properties["room"] = json!({ "type": "string", "description": "The room." });
                properties["tickets"] = json!({
                    "type": "string", "description": "Where a ticket is drawn, by `POST`. `Retry-After` tells about when to ask again.",
                });
                properties["position"] = json!({
                    "type": ["integer", "null"], "minimum": 0, "description": "Turns until the caller's, where a ticket was sent.",
                });
                required.extend(["room", "tickets", "position"]);
            }
            Kind::AlreadyEntered => {
                properties["entry"] = json!({ "$ref": "#/components/schemas/DrawEntry" });
            }
            Kind::AlreadyClaimed | Kind::HoldExpired => {
                properties["claim"] = json!({ "$ref": "#/components/schemas/Claim" });
                required.push("claim");
            }
            Kind::Gone => {
                properties["state"] = json!({
                    "enum": ["expired", "idle", "exhausted", "archived"],
                    "description": "Why the link leads nowhere any more.",
                });
                required.push("state");
            }
            _ => {}
        }
        let schema = json!({
            "type": "object", "description": kind.title(), "properties": properties, "required": required,
        });
        all.insert(problem_name(*kind), schema);
    }
    all.insert(
        "Problem".into(),
        json!({
            "type": "object",
            "description": "A problem document (RFC 9457). The kinds differ by `type`.",
            "properties": {
                "type": { "type": "string", "format": "uri" },
                "title": { "type": "string", "minLength": 1 },
                "status": { "type": "integer", "minimum": 400, "maximum": 599 },
                "detail": detail,
                "errors": errors,
            },
            "required": ["type", "title", "status", "detail"],
        }),
    );
    all
}

fn claim(status: &str, expires_at: Option<&str>) -> Value {
    json!({
        "id": "8Jq3vTzLrM4nBw9QpX2K", "campaign": "spring", "user": "ann", "sequence": 41, "units": 1, "code": null,
        "status": status, "expiresAt": expires_at, "receipt": null,
    })
}

fn altcha() -> Value {
    json!({
        "algorithm": "SHA-256", "challenge": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", "maxnumber": 50000,
        "salt": "01010101010101010101010101010101?expires=1800000600&",
        "signature": "2c78901d3fb33738768511a30617afa01d6e340b9cffb37a989ca544e6bb780a",
    })
}

fn example(kind: Kind) -> Value {
    let problem = match kind {
        Kind::InvalidRequest => Problem::field("query:limit", "must be a whole number from 1 to 500"),
        _ => Problem::new(kind, format!("{}.", kind.title())),
    };
    let problem = match kind {
        Kind::QuotaExceeded => problem.with_member("violated-policies", vec!["default"]),
        Kind::ChallengeRequired => problem
            .with_member("challenge", "claims")
            .with_member("url", "/api/challenges/claims")
            .with_member("altcha", altcha()),
        Kind::WaitingRoom => problem
            .with_member("room", "sale")
            .with_member("tickets", "/api/rooms/sale/tickets")
            .with_member("position", 42),
        Kind::Gone => problem.with_member("state", "expired"),
        Kind::AlreadyClaimed => problem.with_member("claim", claim("confirmed", None)),
        Kind::HoldExpired => problem.with_member("claim", claim("expired", Some("2027-01-15T08:10:00Z"))),
        _ => problem,
    };
    serde_json::from_slice(&problem.into_response().body).unwrap_or_default()
}

fn schema_of(kinds: &[Kind]) -> Value {
    let mut refs = kinds
        .iter()
        .map(|kind| json!({ "$ref": format!("#/components/schemas/{}", problem_name(*kind)) }));
    match kinds.len() {
        1 => refs.next().unwrap_or_default(),
        _ => json!({ "oneOf": refs.collect::<Vec<_>>() }),
    }
}

/// The headers of a refusal that a browser gets as a page.
const OF_PAGES: [&str; 4] = [
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "Vary",
];

/// The answer of a status in which other refusals may be told too.
pub(super) fn response_for_all(kinds: &[Kind], usual: &Value) -> Value {
    let mut all = response(kinds, usual);
    for name in OF_PAGES.iter().chain(&["X-Tollgate-Status", "Retry-After"]) {
        all["headers"][*name] = header(name, false);
    }
    all
}

/// The answer of a status that these kinds of problems have.
pub(super) fn response(kinds: &[Kind], usual: &Value) -> Value {
    let mut headers = usual.clone();
    let mut also = |name: &str, always: bool| headers[name] = header(name, always);
    match kinds {
        _ if kinds.iter().all(|kind| kind.status() == 429) => {
            also("Retry-After", true);
            OF_PAGES.iter().for_each(|name| also(name, false));
        }
        _ if kinds.iter().any(|kind| {
            matches!(
                kind,
                Kind::Unavailable | Kind::BacklogFull | Kind::NotStarted | Kind::SoldOut
            )
        }) =>
        {
            also("Retry-After", false);
        }
        [Kind::MethodNotAllowed] => also("Allow", true),
        _ if kinds.iter().all(|kind| kind.status() == 401) => {
            also("WWW-Authenticate", true);
            if kinds.contains(&Kind::InvalidToken) {
                also("Retry-After", false);
            }
        }
        _ => {}
    }
    let titles: Vec<_> = kinds.iter().map(|kind| format!("{}.", kind.title())).collect();
    let mut examples = Map::new();
    for kind in kinds {
        examples.insert(format!("{kind:?}"), json!({ "value": example(*kind) }));
    }
    let mut content =
        json!({ "application/problem+json": { "schema": schema_of(kinds), "examples": examples } });
    if kinds.contains(&Kind::QuotaExceeded) {
        content["text/html"] = json!({ "schema": { "type": "string" } });
    }
    json!({ "description": titles.join(" Or: "), "headers": headers, "content": content })
}

/// The two that nearly every call shares.
const TOO_MANY: [Kind; 2] = [Kind::QuotaExceeded, Kind::WaitingRoom];

/// `components.responses`: one for each kind of problem, on a call of the API.
pub(super) fn responses() -> Value {
    let usual = usual_headers(true);
    let mut all: Map<_, _> = Kind::ALL
        .iter()
        .map(|kind| (format!("{kind:?}"), response(&[*kind], &usual)))
        .collect();
    all.insert("TooMany".to_owned(), response(&TOO_MANY, &usual));
    all.into()
}

/// A refusal, and what else an answer of its status may be.
pub(super) fn merged(mut refusal: Value, answer: &Value) -> Value {
    for part in ["headers", "content"] {
        for (name, value) in answer[part].as_object().into_iter().flatten() {
            if refusal[part].get(name).is_none() {
                refusal[part][name] = value.clone();
            }
        }
    }
    refusal
}

/// The answer to a refused request: the shared one where a status has one kind.
pub(super) fn refusal(kinds: &[Kind], usual: &Value) -> Value {
    match kinds {
        [kind] => json!({ "$ref": format!("#/components/responses/{kind:?}") }),
        _ if *kinds == TOO_MANY => json!({ "$ref": "#/components/responses/TooMany" }),
        _ => response(kinds, usual),
    }
}
