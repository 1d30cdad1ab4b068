//! `[[challenges]]`: what a caller has to solve first.

use serde::{Deserialize, Serialize};

use super::limit::{OnFailure, any_method};
use tollgate_api::secret::SecretText;
use tollgate_api::units::Span;

/// What is to be solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeKind {
    /// A proof of work, in the form of ALTCHA.
    Altcha,
    /// A provider's widget, whose token is checked at its `siteverify` URL.
    Siteverify,
}

/// A provider whose URL, widget and policy are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ChallengeProvider")
)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// [Cloudflare Turnstile](https://developers.cloudflare.com/turnstile/).
    Turnstile,
    /// [hCaptcha](https://docs.hcaptcha.com).
    Hcaptcha,
    /// [reCAPTCHA](https://developers.google.com/recaptcha/docs/verify), version 2, or 3 with `min_score`.
    Recaptcha,
}

/// `[[challenges]]`: requests that take a solved challenge, each another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeSettings {
    /// Unique; see [`super::is_topic_name`].
    pub name: String,
    /// A route pattern; see [`tollgate_api::pattern`].
    pub path: String,
    /// Upper case methods, or `*`.
    #[serde(default = "any_method")]
    pub methods: Vec<String>,
    /// What is to be solved.
    pub kind: ChallengeKind,
    /// The numbers among which a solution is searched for: a solver tries half of them on average.
    #[serde(default = "fifty_thousand")]
    pub max_number: u64,
    /// For how long one can be solved and sent; of tokens, for how long they are remembered.
    #[serde(default = "ten_minutes")]
    pub expires: Span,
    /// Whose tokens are checked, where it is one that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Where they are checked, else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the gateway shows the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretText>,
    /// What the widget is shown with. Public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_key: Option<String>,
    /// The hosts on whose pages a token may have been made; any if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The action that a token must be for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The least score that a token must have, of providers that give one; 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f64>,
    /// What becomes of a request when the provider cannot be asked.
    #[serde(default = "deny")]
    pub on_provider_failure: OnFailure,
}

fn fifty_thousand() -> u64 {
    50_000
}
fn ten_minutes() -> Span {
    Span::from_secs(600)
}
fn deny() -> OnFailure {
    OnFailure::Deny
}
