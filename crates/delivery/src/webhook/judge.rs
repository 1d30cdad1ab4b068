//! Judges an answer over HTTP: its meaning for the message and for the origin.

use crate::relay::{Blame, Delivered};

/// Judges an answer. `finals`: statuses after which another attempt is of no use. `retry_after_ms`: what its
/// `Retry-After` asks for.
///
/// 2xx acknowledges; 410 says that the receiver wants no more, whatever `finals` holds. Redirects are not followed: they are
/// refusals like any other. 429 and 5xx are the origin's fault, and the rest is the message's.
pub fn status(status: u16, finals: &[u16], retry_after_ms: Option<u64>) -> Delivered {
    match status {
        200..=299 => Delivered::Accepted,
        410 => Delivered::Unwanted,
        _ => Delivered::Refused {
            why: format!("the origin answered {status}"),
            blame: match status {
                429 | 500..=599 => Blame::Origin,
                _ => Blame::Message,
            },
            is_final: finals.contains(&status),
            retry_after_ms: retry_after_ms.filter(|_| honours_retry_after(status)),
        },
    }
}

/// No answer within the time that the subscription allows.
pub fn timed_out() -> Delivered {
    Delivered::refused(Blame::Origin, "the origin did not answer in time")
}

/// There was no connection.
pub fn unreachable(why: String) -> Delivered {
    Delivered::refused(Blame::Unreachable, why)
}

/// The connection broke, or was of no use.
pub fn disconnected(why: String) -> Delivered {
    Delivered::refused(Blame::Origin, why)
}

/// Only these say that the origin wants to be asked later (RFC 9110, section 10.2.3; RFC 6585, section 4).
fn honours_retry_after(status: u16) -> bool {
    matches!(status, 429 | 503)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blame(judged: &Delivered) -> Option<(Blame, bool, Option<u64>)> {
        match judged {
            Delivered::Refused {
                blame,
                is_final,
                retry_after_ms,
                ..
            } => Some((*blame, *is_final, *retry_after_ms)),
            Delivered::Accepted | Delivered::Unwanted => None,
        }
    }

    #[test]
    fn success_acknowledges_and_gone_means_no_more_even_where_it_is_called_final() {
        for code in [200, 202, 204, 299] {
            assert_eq!(status(code, &[code], None), Delivered::Accepted);
        }
        assert_eq!(status(410, &[410], Some(1_000)), Delivered::Unwanted);
    }

    #[test]
    fn only_what_the_origin_is_to_blame_for_counts_against_it() {
        for code in [429, 500, 503, 599] {
            assert_eq!(
                blame(&status(code, &[], None)),
                Some((Blame::Origin, false, None))
            );
        }
        for code in [301, 302, 400, 404, 422, 600] {
            assert_eq!(
                blame(&status(code, &[], None)),
                Some((Blame::Message, false, None))
            );
        }
    }

    #[test]
    fn retry_after_counts_on_429_and_503_only() {
        for code in [429, 503] {
            assert_eq!(
                blame(&status(code, &[], Some(7))),
                Some((Blame::Origin, false, Some(7)))
            );
        }
        for code in [302, 404, 500] {
            assert_eq!(
                blame(&status(code, &[], Some(7))).and_then(|(_, _, asked)| asked),
                None
            );
        }
    }

    #[test]
    fn a_final_status_is_final_whoever_is_to_blame_and_says_which_it_was() {
        assert_eq!(
            blame(&status(503, &[503], Some(7))),
            Some((Blame::Origin, true, Some(7)))
        );
        let judged = status(422, &[400, 422], None);
        assert_eq!(blame(&judged), Some((Blame::Message, true, None)));
        assert!(matches!(judged, Delivered::Refused { why, .. } if why == "the origin answered 422"));
    }
}
