//! A secret in a configuration: it is there to be used, not to be shown.

use serde::{Deserialize, Serialize};

/// The text of a secret. Its `Debug` shows nothing of it, and it has no `Display`: code that needs the text
/// calls [`SecretText::expose`]. Serialising writes it out: that is how it is stored, and why a configuration
/// is masked before it is printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}
