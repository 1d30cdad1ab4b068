//! How a command ends: what it tells, and its exit code. `docs/command-line.md` lists the codes; clap itself ends with 2
//! where the command line cannot be read.

use serde_json::Value;

/// The command did not do what it was asked for.
const FAILED: u8 = 1;
/// The command line makes no sense.
const USAGE: u8 = 2;
/// There is no gateway at the URL, or it stopped answering.
const UNREACHABLE: u8 = 3;
/// The gateway answered, and refused.
const REFUSED: u8 = 4;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// Anything that is none of the others.
    Failed(anyhow::Error),
    /// What was asked for makes no sense.
    Usage(String),
    /// No connection, or no answer.
    Unreachable(String),
    /// An answer that is no success.
    Refused(Box<Refusal>),
    /// The reader of stdout has seen enough (`… | head -1`): no fault.
    Closed,
}

/// The gateway's answer to a call that it refused.
#[derive(Debug)]
pub struct Refusal {
    /// The call, `POST /api/links`.
    pub call: String,
    /// The status.
    pub status: u16,
    /// The problem document (RFC 9457), or null if it sent none.
    pub problem: Value,
}

impl Refusal {
    /// What is wrong, in one line: the detail and the fields at fault.
    pub fn reason(&self) -> String {
        let text = |name: &str| self.problem[name].as_str();
        let what = text("detail").or_else(|| text("title"));
        let what = what.map_or_else(|| format!("status {}", self.status), str::to_owned);
        let fields = self.problem["errors"].as_array().into_iter().flatten();
        let fields: Vec<String> = fields
            .filter_map(|field| {
                Some(format!(
                    "{} {}",
                    field["pointer"].as_str()?,
                    field["detail"].as_str()?
                ))
            })
            .collect();
        match fields.is_empty() {
            true => what,
            false => format!("{what} ({})", fields.join("; ")),
        }
    }

    /// The same, with what to do about it.
    fn told(&self) -> String {
        let hint = match self.status {
            401 => ": give a key with --key-file or TOLLGATE_KEY",
            403 => ": give a key with the scope that this call needs",
            _ => "",
        };
        format!(
            "{} was refused ({}): {}{hint}",
            self.call,
            self.status,
            self.reason().trim_end_matches('.')
        )
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Failure {
    /// A failure in one's own words.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(why.into()))
    }

    /// The exit code of the command.
    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => FAILED,
            Self::Usage(_) => USAGE,
            Self::Unreachable(_) => UNREACHABLE,
            Self::Refused(_) => REFUSED,
            Self::Closed => 0,
        }
    }

    /// What went wrong, in one line.
    pub fn message(&self) -> String {
        match self {
            Self::Failed(error) => format!("{error:#}"),
            Self::Usage(why) | Self::Unreachable(why) => why.clone(),
            Self::Refused(refusal) => refusal.told(),
            Self::Closed => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_names_the_fields_at_fault() {
        let refusal = Refusal {
            call: "POST /api/links".into(),
            status: 409,
            problem: json!({"title": "Conflict", "detail": "The code a is taken.",
                "errors": [{"pointer": "#/code", "detail": "is taken"}]}),
        };
        assert_eq!(refusal.reason(), "The code a is taken. (#/code is taken)");
        let silent = Refusal {
            problem: Value::Null,
            status: 502,
            ..refusal
        };
        assert_eq!(silent.reason(), "status 502");
        assert_eq!(Failure::Refused(Box::new(silent)).code(), REFUSED);
    }
}
