//! A claim: its record, its view in answers, and the data of its messages.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(feature = "schema")]
use super::MAX_PER_USER;
use tollgate_api::{ids, time};
use tollgate_store::template::Number;

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ClaimStatus")
)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// The user's until it expires, unless it is confirmed.
    Held,
    /// The user's for good.
    Confirmed,
    /// Given back.
    Released,
    /// Not confirmed in time.
    Expired,
    /// Taken back.
    Revoked,
}

impl Status {
    /// Whether a claim takes units.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Held | Self::Confirmed)
    }

    /// The type of the message that tells of it.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Held => "coupon.claimed",
            Self::Confirmed => "coupon.confirmed",
            Self::Released => "coupon.released",
            Self::Expired => "coupon.expired",
            Self::Revoked => "coupon.revoked",
        }
    }

    /// As answers and messages name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// The most bytes of a claim's metadata, as compact JSON.
pub const MAX_METADATA: usize = 1_024;

/// A claim as it is stored. `T`, `J`: its texts and its metadata, which are blanks where what claims have in common is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim<T = String, J = Value> {
    /// Unique; also the id of its message.
    pub id: T,
    /// The campaign's id.
    pub campaign: T,
    /// Whose it is.
    pub user: T,
    /// Dense per campaign from 1, in order of admission.
    pub sequence: Number,
    /// Units that it takes; they come back together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub units: u64,
    /// Where the campaign makes codes.
    pub code: Option<T>,
    /// How far it is.
    pub status: Status,
    /// The object that it was sent with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<J>,
    /// When it was admitted, Unix milliseconds.
    pub time: Number,
    /// When it expires, or would have, RFC 3339: where claims are held, until it is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<T>,
}

fn one() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_one(units: &u64) -> bool {
    *units == 1
}

/// A claim as answers show it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Claim"))]
#[serde(rename_all = "camelCase")]
pub struct ClaimView<'a, T = String, J = Value> {
    /// Unique; also the id of its message.
    id: &'a T,
    /// The campaign's id.
    campaign: &'a T,
    /// Whose it is.
    user: &'a T,
    /// Dense per campaign from 1, in order of admission.
    #[cfg_attr(feature = "schema", schemars(with = "u64", range(min = 1)))]
    sequence: Number,
    /// Units that it takes, or took; they come back together.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_PER_USER)))]
    units: u64,
    /// Where the campaign makes codes, once it is confirmed; one for all its units.
    code: Option<&'a T>,
    /// How far it is.
    status: Status,
    /// The object that it was sent with; left out where it was sent with none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, Value>>"))]
    metadata: Option<&'a J>,
    /// When it expires, or has; null once it is confirmed.
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    expires_at: Option<&'a T>,
    /// A compact JWS that says that the claim is the user's: once it is confirmed, in the answers about it alone and in its user's
    /// list. Null elsewhere, and where receipts are off. The last member: it is put in when the rest is known.
    pub receipt: Option<&'a str>,
}

/// The answer to an admitted claim.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Admitted")
)]
pub struct Admitted<'a, T = String, J = Value> {
    /// What became of it.
    #[cfg_attr(feature = "schema", schemars(extend("const" = "admitted")))]
    outcome: &'static str,
    /// The claim.
    claim: ClaimView<'a, T, J>,
}

/// The data of the message that announces a claim.
#[derive(Debug, Serialize)]
pub struct Announcement<'a, T = String, J = Value> {
    campaign: &'a T,
    user: &'a T,
    claim: &'a T,
    sequence: Number,
    units: u64,
    code: Option<&'a T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a J>,
    status: Status,
}

impl<T, J> Claim<T, J> {
    /// As answers show it.
    pub fn view(&self) -> ClaimView<'_, T, J> {
        ClaimView {
            id: &self.id,
            campaign: &self.campaign,
            user: &self.user,
            sequence: self.sequence,
            units: self.units,
            code: self.code.as_ref(),
            status: self.status,
            metadata: self.metadata.as_ref(),
            expires_at: self.expires_at.as_ref(),
            receipt: None,
        }
    }

    /// The answer to it.
    pub fn admitted(&self) -> Admitted<'_, T, J> {
        Admitted {
            outcome: "admitted",
            claim: self.view(),
        }
    }

    /// The data of its message.
    pub fn announcement(&self) -> Announcement<'_, T, J> {
        Announcement {
            campaign: &self.campaign,
            user: &self.user,
            claim: &self.id,
            sequence: self.sequence,
            units: self.units,
            code: self.code.as_ref(),
            metadata: self.metadata.as_ref(),
            status: self.status,
        }
    }
}

impl Claim {
    /// When its hold ends, Unix milliseconds; `None` unless it is held.
    pub fn hold_ends(&self) -> Option<u64> {
        let text = self.expires_at.as_deref().filter(|_| self.status == Status::Held);
        text.and_then(time::parse)
    }
}

/// Whether this can be a claim's id.
pub fn is_claim_id(text: &str) -> bool {
    text.len() == ids::ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
