//! The HTTP contract of Tollgate as types: the one table of [`calls`], requests and responses as values, bodies, queries,
//! problems, ids and times. Nothing here knows what a call does, or where anything is kept.

pub mod accept;
pub mod calls;
pub mod components;
pub mod headers;
pub mod http;
pub mod ids;
pub mod json;
#[cfg(feature = "schema")]
pub mod openapi;
pub mod pattern;
pub mod percent;
pub mod problem;
pub mod query;
pub mod secret;
pub mod time;
pub mod traceparent;
pub mod units;
