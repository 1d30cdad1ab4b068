//! Leases that callers who ask at once share: what each asks for, and the answer that is split among them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Body, LIMIT, MS_PER_SECOND};
use tollgate_api::json;

/// How long a request for leases waits, milliseconds, and its body without the wait; `None` for one that is refused.
pub fn without_wait(body: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut body: Body = json::decode(body).ok()?;
    let wait = body.wait.take()?.checked_mul(MS_PER_SECOND)?;
    Some((wait, serde_json::to_vec(&body).ok()?))
}

/// What a request for leases asks for that does not wait: a caller that has several puts them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseWish {
    /// The most messages.
    pub limit: usize,
    /// For how long, if it says so.
    pub seconds: Option<u64>,
}

/// The most messages of one lease.
pub const MAX_LEASED: usize = LIMIT.0 as usize;

impl LeaseWish {
    /// `None` for a body that is refused, or waits.
    pub fn of(body: &[u8]) -> Option<Self> {
        let (most, default) = LIMIT;
        let Body {
            limit,
            lease_seconds,
            wait,
        } = match body {
            [] => Body::default(),
            body => json::decode(body).ok()?,
        };
        let limit = limit.unwrap_or(default);
        let is_plain = (1..=most).contains(&limit) && wait.is_none();
        is_plain.then_some(Self {
            limit: limit as usize,
            seconds: lease_seconds,
        })
    }

    /// The body that asks for it.
    pub fn to_body(self) -> Vec<u8> {
        let body = Body {
            limit: Some(self.limit as u64),
            lease_seconds: self.seconds,
            wait: None,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// The body of an answer, by its leases as they are written.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    leases: Vec<&'a RawValue>,
}

/// The leases of an answer's body; none for a body that is something else.
pub fn split_leases(body: &[u8]) -> Vec<&RawValue> {
    serde_json::from_slice(body).map_or_else(|_| Vec::new(), |written: Written<'_>| written.leases)
}

/// The body of an answer with these of them.
pub fn join_leases(leases: &[&RawValue]) -> Vec<u8> {
    let leases = leases.to_vec();
    serde_json::to_vec(&Written { leases }).unwrap_or_default()
}

/// Whether the body is an answer without leases, here or where SQS is spoken.
pub fn is_empty_answer(body: &[u8]) -> bool {
    body.starts_with(br#"{"leases":[]"#) || body == crate::groups::sqs::NOTHING
}
