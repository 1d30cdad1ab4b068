//! Receipts of claims: compact JWS (RFC 7515) that anybody can keep and show. Signed with HMAC-SHA-256, or with Ed25519 (RFC 8037)
//! where others shall check them without us.
//!
//! A receipt says what is known for good once a claim is confirmed, and nothing that may change: two receipts of one claim are the
//! same bytes, for as long as the key is. It is made with the answer and kept nowhere.
//!
//! The keys are one entry of the store, made when the first is needed. A key is named in each receipt (`kid`), so a new one can take
//! over while receipts of earlier ones are still good. What a receipt of one algorithm is signed with never checks another's.

mod describing;
mod handlers;
mod keys;
#[cfg(test)]
mod tests;

#[cfg(feature = "schema")]
pub(crate) use describing::describe;
pub(crate) use handlers::{public_keys, rotate, verify};
pub(crate) use keys::signer;
pub use keys::{Receipts, Signer, Unverified, check};

use serde::{Deserialize, Serialize};

/// The longest receipt, bytes.
pub const MAX_RECEIPT: usize = 4_096;

/// What a receipt says besides who has signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Receipt")
)]
pub struct Facts<T = String> {
    /// The user.
    pub sub: T,
    /// The claim's id.
    pub jti: T,
    /// The campaign's id.
    pub campaign: T,
    /// The claim's place in the order of admission.
    pub sequence: u64,
    /// The units that it takes.
    pub units: u64,
    /// When it was admitted, Unix seconds.
    pub iat: u64,
}
