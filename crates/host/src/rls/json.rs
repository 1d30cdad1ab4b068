//! `/json` of envoyproxy/ratelimit: the same question as JSON, for people with `curl`. 200 or 429.

use super::{Answer, Context, body_of, message};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_api::http::Response;
use tollgate_api::problem::{Kind, Problem};
use tollgate_rules::limiter::described::{Failure, Told};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    domain: String,
    descriptors: Vec<Descriptor>,
    #[serde(default, alias = "hitsAddend")]
    hits_addend: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Descriptor {
    entries: Vec<Entry>,
    #[serde(default, alias = "hitsAddend")]
    hits_addend: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn answer(request: hyper::Request<Incoming>, is_trusted: bool, context: &Context) -> Answer {
    let response = decided(request, is_trusted, context).await;
    let response = response.unwrap_or_else(Problem::into_response);
    let mut answer = hyper::Response::new(BodyExt::boxed(Full::new(Bytes::from(response.body.clone()))));
    *answer.status_mut() = http::StatusCode::from_u16(response.status).unwrap_or_default();
    let kind = response
        .header("content-type")
        .and_then(|kind| HeaderValue::from_str(kind).ok());
    if let Some(kind) = kind {
        answer.headers_mut().insert(CONTENT_TYPE, kind);
    }
    answer
}

async fn decided(
    request: hyper::Request<Incoming>,
    is_trusted: bool,
    context: &Context,
) -> Result<Response, Problem> {
    if !is_trusted {
        let detail = "Only the proxies of server.trusted_proxies may ask about requests of others.";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    if request.method() != http::Method::POST {
        return Err(Problem::new(Kind::MethodNotAllowed, "It is a POST."));
    }
    let body = body_of(request).await;
    let body = body.map_err(|(_, words)| Problem::new(Kind::InvalidRequest, words))?;
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Kind::InvalidRequest, error.to_string()))?;
    let told = super::decide(request.into(), context)
        .await
        .map_err(|failure| match failure {
            Failure::Invalid(what) => Problem::new(Kind::InvalidRequest, what),
            Failure::Unavailable => Problem::new(Kind::Unavailable, "The rate limiter cannot be reached."),
        })?;
    let status = if told.is_over { 429 } else { 200 };
    Ok(Response::json(status, &document(&told)))
}

impl From<Request> for message::Request {
    fn from(request: Request) -> Self {
        let entry = |entry: Entry| message::Entry {
            key: entry.key,
            value: entry.value.into_bytes(),
        };
        let descriptor = |one: Descriptor| message::RequestDescriptor {
            entries: one.entries.into_iter().map(entry).collect(),
            hits_addend: one.hits_addend.map(|value| message::Number { value }),
        };
        Self {
            domain: request.domain,
            descriptors: request.descriptors.into_iter().map(descriptor).collect(),
            hits_addend: request.hits_addend,
        }
    }
}

/// As protobuf's JSON has it.
fn document(told: &Told) -> Value {
    let code = |is_over: bool| if is_over { "OVER_LIMIT" } else { "OK" };
    let response = message::response(told);
    let both = response.statuses.iter().zip(&told.statuses);
    let statuses = both.map(|(status, told)| {
        let mut document = json!({ "code": code(told.is_over) });
        if let (Some(limit), Some(counting)) = (&status.current_limit, &told.limit) {
            document["currentLimit"] = json!({
                "name": limit.name,
                "requestsPerUnit": limit.requests_per_unit,
                "unit": message::unit(counting.interval).1,
            });
            document["limitRemaining"] = json!(status.limit_remaining);
            document["durationUntilReset"] = json!(format!("{}s", counting.reset));
        }
        document
    });
    json!({ "overallCode": code(told.is_over), "statuses": statuses.collect::<Vec<_>>() })
}
