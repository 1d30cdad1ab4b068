//! Redis as the component needs it: one command at a time, and scripts.

use tollgate_store::commit::StoreError;

use crate::reply::Reply;
use crate::script::Script;

/// Why a command did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was done: no connection could be had.
    NotConnected(String),
    /// Nothing was done: Redis says why, with its code (`OOM`, `READONLY`, …).
    Redis {
        /// In capitals.
        code: String,
        /// In one line.
        message: String,
    },
    /// The connection was lost on the way: it may have been done.
    Lost(String),
    /// Redis answered what it should not.
    Unexpected(String),
}

/// What Spin's texts of an error of Redis begin with, if it is one that its client has a name for.
const SIGNALLED: &str = "An error was signalled by the server - ";
/// How that client calls the codes that matter here.
const NAMES: [(&str, &str); 9] = [
    ("ResponseError", "ERR"),
    ("NoScriptError", "NOSCRIPT"),
    ("BusyLoadingError", "LOADING"),
    ("ReadOnly", "READONLY"),
    ("MasterDown", "MASTERDOWN"),
    ("ClusterDown", "CLUSTERDOWN"),
    ("Moved", "MOVED"),
    ("TryAgain", "TRYAGAIN"),
    ("NoPerm", "NOPERM"),
];

impl Failure {
    /// What Spin says of a command that failed: it has nothing but a text. What Redis itself says begins with its code; anything else
    /// is about the connection.
    pub fn of_text(text: &str) -> Self {
        let (code, message) = match text.strip_prefix(SIGNALLED) {
            Some(rest) => {
                let (name, message) = rest.split_once(": ").unwrap_or((rest, ""));
                let known = NAMES.iter().find(|(known, _)| *known == name);
                (known.map_or(name, |(_, code)| code), message)
            }
            None => match text.split_once(": ") {
                Some((code, message)) if is_code(code) => (code, message),
                _ => return Self::lost(),
            },
        };
        Self::Redis {
            code: code.to_owned(),
            message: message.lines().next().unwrap_or_default().to_owned(),
        }
    }

    /// The connection ended. What Spin says about it may have the address in it.
    pub fn lost() -> Self {
        Self::Lost("the connection to Redis was lost".to_owned())
    }

    fn is(&self, codes: &[&str]) -> bool {
        matches!(self, Self::Redis { code, .. } if codes.contains(&&**code))
    }

    /// Whether Redis does not know the script: it was restarted, or its scripts were flushed.
    pub fn lacks_script(&self) -> bool {
        self.is(&["NOSCRIPT"])
    }

    /// Whether the address may lead to another server by now, so that a new connection is the way on: a replica, or one that begins.
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::Redis { .. } => self.is(&["READONLY", "MASTERDOWN", "LOADING", "MOVED", "CLUSTERDOWN"]),
            Self::NotConnected(_) | Self::Lost(_) | Self::Unexpected(_) => true,
        }
    }

    /// Whether a script of somebody else keeps Redis.
    pub fn is_busy(&self) -> bool {
        self.is(&["BUSY"])
    }

    /// The error of a call that may be asked for again.
    pub fn unavailable(self) -> StoreError {
        StoreError::Unavailable(self.into_message())
    }

    /// The message.
    pub fn into_message(self) -> String {
        match self {
            Self::NotConnected(message) | Self::Lost(message) | Self::Unexpected(message) => message,
            Self::Redis { code, message } => format!("Redis refuses: {code} {message}"),
        }
    }
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// A connection to Redis, and the little else that waiting takes.
#[allow(async_fn_in_trait, reason = "single-threaded: nothing needs Send")]
pub trait Database {
    /// Sends one command over a connection that is kept, and forgets the connection where it failed.
    async fn execute(&self, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Reply>, Failure>;
    /// Waits, milliseconds.
    async fn pause(&self, ms: u64);
    /// The clock of buckets, nanoseconds since 1970; `None`: Redis' own.
    fn bucket_clock(&self) -> Option<u64>;
}

/// Whether a script whose connection was lost may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It reads, or does nothing the second time.
    Harmless,
    /// Only if it was not done.
    NotDone,
}

/// Runs a script, by its digest: with its text where Redis does not know it yet.
///
/// # Errors
/// The last one.
pub async fn run<D: Database>(
    database: &D,
    again: Again,
    script: &Script,
    arguments: Vec<Vec<u8>>,
) -> Result<Vec<Reply>, Failure> {
    let mut call = script.call(arguments);
    let (mut command, mut was_lost) = ("EVALSHA", false);
    loop {
        let failure = match database.execute(command, &call).await {
            Ok(replies) => return Ok(replies),
            Err(failure) => failure,
        };
        match &failure {
            // Only once: `EVAL` needs no script that is known.
            _ if command == "EVALSHA" && failure.lacks_script() => {
                command = "EVAL";
                if let Some(first) = call.first_mut() {
                    *first = script.text().as_bytes().to_vec();
                }
            }
            // One that was kept and is dead: the next is new.
            Failure::Lost(_) if again == Again::Harmless && !was_lost => was_lost = true,
            _ => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<String> {
        match Failure::of_text(text) {
            Failure::Redis { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Each as Spin 4.1 says it.
    #[test]
    fn what_redis_refuses_is_told_from_a_connection_that_was_lost() {
        for (text, wanted) in [
            (
                "An error was signalled by the server - NoScriptError: No matching script. Please use EVAL.",
                "NOSCRIPT",
            ),
            (
                "An error was signalled by the server - ReadOnly: You can't write against a read only replica.",
                "READONLY",
            ),
            (
                "An error was signalled by the server - BusyLoadingError: Redis is loading the dataset in memory",
                "LOADING",
            ),
            (
                "An error was signalled by the server - ResponseError: unknown command",
                "ERR",
            ),
            ("OOM: command not allowed when used memory > 'maxmemory'.", "OOM"),
            ("BUSY: Redis is busy running a script.", "BUSY"),
            ("TOLLGATE: the data are of another version", "TOLLGATE"),
        ] {
            assert_eq!(code(text).as_deref(), Some(wanted), "{text}");
        }
        for text in [
            "broken pipe",
            "Connection refused (os error 111)",
            "Connection reset by peer (os error 104)",
            "unexpected end of file",
            "failed to lookup address information: Name or service not known",
            "",
        ] {
            assert_eq!(Failure::of_text(text), Failure::lost(), "{text}");
        }
        assert!(Failure::of_text("BUSY: x").is_busy());
        let elsewhere = |text| Failure::of_text(text).is_elsewhere();
        assert!(elsewhere("broken pipe") && !elsewhere("OOM: x"));
        assert!(elsewhere("An error was signalled by the server - ReadOnly: x"));
    }
}
