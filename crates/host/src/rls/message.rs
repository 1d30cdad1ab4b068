//! The messages of `envoy.service.ratelimit.v3` and `grpc.health.v1`, as far as they are read or written here. What else a message has is
//! skipped, as the encoding has it.

use prost::Message;
use tollgate_rules::limiter::described::{Descriptor, Told};

/// `RateLimitRequest`
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// What the descriptors belong to.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// What is asked about.
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<RequestDescriptor>,
    /// Requests that a descriptor stands for; 0 is 1.
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

/// `RateLimitDescriptor`
#[derive(Clone, PartialEq, Message)]
pub struct RequestDescriptor {
    /// Keys and values.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// In place of the call's.
    #[prost(message, optional, tag = "3")]
    pub hits_addend: Option<Number>,
}

/// `RateLimitDescriptor.Entry`
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// What it is.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Whose: text, but the caller's own, and so perhaps not UTF-8.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.protobuf.UInt64Value`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Number {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

/// `RateLimitResponse`
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// See [`code`].
    #[prost(int32, tag = "1")]
    pub overall_code: i32,
    /// Of each descriptor.
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<Status>,
    /// For the client.
    #[prost(message, repeated, tag = "3")]
    pub response_headers_to_add: Vec<HeaderValue>,
}

/// `RateLimitResponse.DescriptorStatus`
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// See [`code`].
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Absent where no limit counts it.
    #[prost(message, optional, tag = "2")]
    pub current_limit: Option<Limit>,
    /// Requests left.
    #[prost(uint32, tag = "3")]
    pub limit_remaining: u32,
    /// When there is room again.
    #[prost(message, optional, tag = "4")]
    pub duration_until_reset: Option<Duration>,
}

/// `RateLimitResponse.RateLimit`
#[derive(Clone, PartialEq, Message)]
pub struct Limit {
    /// Requests in a unit.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// See [`unit`].
    #[prost(int32, tag = "2")]
    pub unit: i32,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `google.protobuf.Duration`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
}

/// `envoy.config.core.v3.HeaderValue`
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, Message)]
pub struct HealthRequest {
    /// Empty for all.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HealthResponse {
    /// 1: it serves. 2: it does not.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// `RateLimitResponse.Code`: `OK` or `OVER_LIMIT`.
pub const fn code(is_over: bool) -> i32 {
    if is_over { 2 } else { 1 }
}

/// `RateLimitResponse.RateLimit.Unit`, of so many seconds; `UNKNOWN` where there is none.
pub const fn unit(seconds: Option<u64>) -> (i32, &'static str) {
    match seconds {
        Some(1) => (1, "SECOND"),
        Some(60) => (2, "MINUTE"),
        Some(3_600) => (3, "HOUR"),
        Some(86_400) => (4, "DAY"),
        Some(604_800) => (7, "WEEK"),
        _ => (0, "UNKNOWN"),
    }
}

/// As the rules read it.
pub fn descriptors(request: Request) -> Vec<Descriptor> {
    let of = |one: RequestDescriptor| Descriptor {
        entries: one
            .entries
            .into_iter()
            .map(|entry| (entry.key, String::from_utf8_lossy(&entry.value).into_owned()))
            .collect(),
        hits: one.hits_addend.map(|hits| hits.value),
    };
    request.descriptors.into_iter().map(of).collect()
}

/// What the rules say, as it is written.
pub fn response(told: &Told) -> Response {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let statuses = told.statuses.iter().map(|status| Status {
        code: code(status.is_over),
        current_limit: status.limit.as_ref().map(|limit| {
            let (unit, _) = unit(limit.interval);
            Limit {
                // Of an interval that has no name: what a full bucket has.
                requests_per_unit: small(if unit == 0 { limit.capacity } else { limit.refill }),
                unit,
                name: limit.name.clone(),
            }
        }),
        limit_remaining: status.limit.as_ref().map_or(0, |limit| small(limit.remaining)),
        duration_until_reset: status.limit.as_ref().map(|limit| Duration {
            seconds: i64::try_from(limit.reset).unwrap_or(i64::MAX),
        }),
    });
    let headers = told.headers.iter().map(|header| HeaderValue {
        key: header.name.to_string(),
        value: String::from_utf8_lossy(&header.value).into_owned(),
    });
    Response {
        overall_code: code(told.is_over),
        statuses: statuses.collect(),
        response_headers_to_add: headers.collect(),
    }
}
