//! What a policy counts requests by.

use serde::{Deserialize, Serialize};

/// What stands before the name of a header.
const HEADER: &str = "header:";

/// A part of the key that a policy counts requests by: `client`, `ip`, `path`, `user`, `header:<name>`, `all`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Per {
    /// The client id.
    Client,
    /// The peer's address (IPv6 by /64).
    Ip,
    /// The path.
    Path,
    /// One bucket for everybody; the same as an empty list.
    All,
    /// The user; a caller that names none counts by its address.
    User,
    /// The value of this header (lower case), hashed; a request without it counts by its address.
    Header(String),
}

impl TryFrom<String> for Per {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(match text.as_str() {
            "client" => Self::Client,
            "ip" => Self::Ip,
            "path" => Self::Path,
            "all" => Self::All,
            "user" => Self::User,
            _ => match text.strip_prefix(HEADER) {
                Some(name) => Self::Header(name.to_owned()),
                None => {
                    return Err(
                        "must be \"client\", \"ip\", \"path\", \"user\", \"header:<name>\" or \"all\"",
                    );
                }
            },
        })
    }
}

impl From<Per> for String {
    fn from(per: Per) -> Self {
        match per {
            Per::Client => "client".into(),
            Per::Ip => "ip".into(),
            Per::Path => "path".into(),
            Per::All => "all".into(),
            Per::User => "user".into(),
            Per::Header(name) => [HEADER, &name].concat(),
        }
    }
}
