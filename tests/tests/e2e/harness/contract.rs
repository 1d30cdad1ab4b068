//! Every answer that a case gets is held to the OpenAPI document: its status, its headers, its body. What the document does not
//! say of an answer fails the case that got it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use flate2::read::GzDecoder;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::Answer;

/// The file that the gateway serves.
const FILE: &str = include_str!("../../../../crates/api/openapi.json");
/// Headers that HTTP itself adds, or the settings to all answers.
const OF_HTTP: &[&str] = &[
    "access-control-allow-origin",
    "access-control-expose-headers",
    "connection",
    "content-length",
    "content-type",
    "date",
    "keep-alive",
    "transfer-encoding",
    // Of a waiting room, on whatever is behind it.
    "set-cookie",
    "upgrade",
    "vary",
];
/// Statuses of requests that never reach a call: a head that is too large, a transfer coding that is not understood.
const OF_HTTPS_PARSER: &[u16] = &[431, 501];
const PROBLEM: &str = "application/problem+json";

/// The document. A case must not get more than it says: unlike in the file, no object has other members.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document: Value = serde_json::from_str(FILE).expect("the file is JSON");
    close(&mut document["components"]["schemas"]);
    document
});

fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".into(), json!(false));
            }
            for (name, member) in members {
                match name.as_str() {
                    // The names in it are those of fields.
                    "properties" => member
                        .as_object_mut()
                        .into_iter()
                        .flatten()
                        .for_each(|(_, one)| close(one)),
                    _ => close(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Fails the case if the document does not have such an answer. `method` and `target` are those of the request.
#[track_caller]
pub fn check(method: &str, target: &str, answer: &Answer) {
    if let Err(why) = differences(method, target, answer) {
        panic!("openapi.json says something else: {why}\n{}", answer.shown());
    }
}

fn differences(method: &str, target: &str, answer: &Answer) -> Result<(), String> {
    let path = target.split(['?', '#']).next().unwrap_or(target);
    let documented = operations(method, path);
    let status = answer.status.to_string();
    let described: Vec<_> = documented
        .iter()
        .filter_map(|operation| operation["responses"].get(&status))
        .map(|response| described(resolved(response), method, answer))
        .collect();
    // Which routes there are, and which methods they take, is said by the configuration.
    let is_no_route = matches!(answer.status, 404 | 405) && may_be_a_route(path);
    // Another method, or no call: a problem like all others. What HTTP itself refuses stands in no call.
    let is_no_call = OF_HTTPS_PARSER.contains(&answer.status)
        || (answer.status >= 400 && (documented.is_empty() || is_no_route));
    match described.iter().find(|one| one.is_ok()).or(described.first()) {
        Some(one) => one.clone(),
        None if is_no_call => undescribed(method, answer),
        None => Err(format!("{method} {path} is not answered with {status}")),
    }
}

/// What may be meant: the call, and for a path that may be a configured route, that.
fn operations(method: &str, path: &str) -> Vec<&'static Value> {
    // Forward auth takes any method, and any path behind its own: one call stands for all.
    let is_check = path == "/api/check" || path.starts_with("/api/check/");
    let path = match path {
        _ if is_check => "/api/check",
        "/sqs/" => "/sqs",
        path => path,
    };
    let method = if is_check || method == "HEAD" {
        "get"
    } else {
        &*method.to_lowercase()
    };
    let paths = DOCUMENT["paths"].as_object().expect("the document has paths");
    let mut matching: Vec<_> = paths
        .iter()
        .filter(|(template, _)| matches(template, path))
        .collect();
    // What is written out comes before a parameter.
    matching.sort_by_key(|(template, _)| template.matches('{').count());
    let found = matching.first().and_then(|(_, item)| item.get(method));
    // It stands for every method that the configuration gives.
    let route = &DOCUMENT["components"]["pathItems"]["ForwardRoute"]["post"];
    let may_be_a_route =
        may_be_a_route(path) && found.is_none_or(|_| matching.iter().any(|(name, _)| *name == "/{code}"));
    found
        .into_iter()
        .chain(Some(route).filter(|_| may_be_a_route))
        .collect()
}

/// Whether `[[forward]]` may have it.
fn may_be_a_route(path: &str) -> bool {
    !path.starts_with("/api/")
}

fn matches(template: &str, path: &str) -> bool {
    // A reserved word is no code.
    if template == "/{code}" && path == "/api" {
        return false;
    }
    let path = match path.strip_suffix('/') {
        Some(code) if template == "/{code}" => code,
        _ => path,
    };
    let (expected, found): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(expected, found): (&&str, &&str)| {
        expected == found || (expected.starts_with('{') && !found.is_empty())
    };
    expected.len() == found.len() && expected.iter().zip(&found).all(fits)
}

fn resolved(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => DOCUMENT
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => value,
    }
}

fn described(response: &'static Value, method: &str, answer: &Answer) -> Result<(), String> {
    headers(response, answer)?;
    if method == "HEAD" {
        return Ok(());
    }
    let media = answer.maybe_header("content-type").unwrap_or_default();
    let content = response.get("content").and_then(Value::as_object);
    let Some(content) = content else {
        return match answer.body.is_empty() {
            true => Ok(()),
            false => Err("it has no body".into()),
        };
    };
    // Parameters of a media type are not described.
    let bare = media.split(';').next().unwrap_or(media);
    let Some(described) = content.get(media).or_else(|| content.get(bare)) else {
        let known: Vec<_> = content.keys().collect();
        return Err(format!("its content is {known:?}, not {media:?}"));
    };
    match media {
        PROBLEM => problem(Some(&described["schema"]), answer),
        "application/json" => conforms(&described["schema"], answer),
        _ => Ok(()),
    }
}

fn undescribed(method: &str, answer: &Answer) -> Result<(), String> {
    if answer.maybe_header("x-request-id").is_none() {
        return Err("every answer has an x-request-id".into());
    }
    if answer.status == 405 && answer.maybe_header("allow").is_none() {
        return Err("a 405 has Allow".into());
    }
    match method {
        "HEAD" => Ok(()),
        // Limits and waiting rooms hold whatever is asked for, and a browser gets a page.
        _ if answer.status == 429 => {
            described(&DOCUMENT["components"]["responses"]["TooMany"], method, answer)
        }
        _ => problem(None, answer),
    }
}

/// A problem document of one of the kinds that are allowed; of any, if nothing is said.
fn problem(allowed: Option<&Value>, answer: &Answer) -> Result<(), String> {
    if answer.maybe_header("content-type") != Some(PROBLEM) {
        return Err("it is no problem document".into());
    }
    let document = answer.json();
    let schemas = DOCUMENT["components"]["schemas"]
        .as_object()
        .expect("there are schemas");
    let kind = schemas.iter().find(|(_, schema)| {
        schema
            .pointer("/properties/type/const")
            .is_some_and(|uri| *uri == document["type"])
    });
    let Some((name, _)) = kind else {
        return Err(format!("no kind of problem is {}", document["type"]));
    };
    let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
    let listed = |allowed: &Value| {
        *allowed == reference
            || allowed["oneOf"]
                .as_array()
                .is_some_and(|all| all.contains(&reference))
    };
    if !allowed.is_none_or(listed) {
        return Err(format!("a {name} is not among the refusals of this call"));
    }
    conforms(&reference, answer)
}

fn headers(response: &'static Value, answer: &Answer) -> Result<(), String> {
    let described = response.get("headers").and_then(Value::as_object);
    let described: Vec<_> = described.into_iter().flatten().collect();
    for (name, header) in &described {
        let header = resolved(header);
        match answer.maybe_header(name) {
            None if header["required"] == true => return Err(format!("{name} is missing")),
            None => {}
            Some(text) => {
                let schema = &header["schema"];
                let value = match schema["type"] == "integer" {
                    true => text.parse::<u64>().map_or(json!(text), |number| json!(number)),
                    false => json!(text),
                };
                valid(schema, &value).map_err(|why| format!("{name}: {why}"))?;
            }
        }
    }
    let known = |name: &str| {
        OF_HTTP.contains(&name)
            || described
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    match answer.headers.keys().find(|name| !known(name.as_str())) {
        Some(name) => Err(format!("{name} is not among the headers of this answer")),
        None => Ok(()),
    }
}

fn conforms(schema: &Value, answer: &Answer) -> Result<(), String> {
    let is_gzip = answer
        .headers
        .get("content-encoding")
        .is_some_and(|coding| coding == "gzip");
    let body: Result<Value, _> = match is_gzip {
        true => serde_json::from_reader(GzDecoder::new(&*answer.body)),
        false => serde_json::from_slice(&answer.body),
    };
    valid(schema, &body.map_err(|error| format!("it is not JSON: {error}"))?)
}

/// Whether a value is as a schema of the document says. Each schema is compiled once.
fn valid(schema: &Value, value: &Value) -> Result<(), String> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let validator = {
        let mut compiled = COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = compiled.entry(schema.to_string()).or_insert_with(|| {
            let whole = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
            let options = jsonschema::options().should_validate_formats(true);
            Arc::new(options.build(&whole).expect("the document's schemas are schemas"))
        });
        Arc::clone(found)
    };
    let faults: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{error} (at {})", error.instance_path()))
        .collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults.join("; ")),
    }
}
