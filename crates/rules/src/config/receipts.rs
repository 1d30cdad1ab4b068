//! `[receipts]`: how the receipts of claims are signed.

use serde::{Deserialize, Serialize};

/// `[receipts]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiptSettings {
    /// What new receipts are signed with.
    pub algorithm: ReceiptAlgorithm,
}

/// What a receipt is signed with, by its name in JWS (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ReceiptAlgorithm")
)]
pub enum ReceiptAlgorithm {
    /// HMAC-SHA-256: checked by this gateway.
    #[default]
    #[serde(rename = "HS256")]
    Hs256,
    /// Ed25519: checked by anybody who has the public key.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// There are no receipts.
    #[serde(rename = "off")]
    Off,
}

impl ReceiptAlgorithm {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::EdDsa => "EdDSA",
            Self::Off => "off",
        }
    }
}
