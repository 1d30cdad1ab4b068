//! The trigger's verdict: the row of a commit that was carried out, or the message that it aborted with.

use tollgate_store::commit::{Committed, Outcome, Refusal, StoreError};

use crate::database::{Failure, Row};
use crate::sql::PREFIX;

/// The row of [`crate::sql::COMMIT`].
pub fn committed(mut row: Row) -> Result<Committed, Failure> {
    let numbers = |text: String| Failure::Failed(format!("the database answered {text:?} for numbers"));
    let (sums, sequences) = (row.text(2)?, row.text(3)?);
    Ok(Committed {
        version: row.number(0)?,
        time: row.number(1)?,
        sums: serde_json::from_str(&sums).map_err(|_| numbers(sums))?,
        sequences: serde_json::from_str(&sequences).map_err(|_| numbers(sequences))?,
    })
}

/// The outcome or error that a failed commit means.
pub fn failed(failure: Failure) -> Result<Outcome, StoreError> {
    match failure {
        Failure::Busy(message) | Failure::NotDone(message) => Err(StoreError::Unavailable(message)),
        Failure::Failed(message) => match message
            .split_once(PREFIX)
            .and_then(|(_, said)| spoken(said.trim()))
        {
            Some(decided) => decided,
            None => Err(StoreError::Unknown(message)),
        },
    }
}

/// The verdict in a message of the trigger; `None` if the message is not one of the trigger's.
fn spoken(said: &str) -> Option<Result<Outcome, StoreError>> {
    if said == "conflict" {
        return Some(Ok(Outcome::Conflict));
    }
    let (what, rest) = said.rsplit_once(':')?;
    Some(match what {
        "replayed" => Ok(Outcome::Replayed(unhex(rest)?)),
        "refused:condition" => Ok(Outcome::Refused(Refusal::Condition(rest.parse().ok()?))),
        "refused:mutation" => Ok(Outcome::Refused(Refusal::Mutation(rest.parse().ok()?))),
        "invalid:counter" => Err(StoreError::Invalid(format!(
            "mutation {rest} adds to an entry that is not a counter"
        ))),
        _ => return None,
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Result<Outcome, StoreError> {
        failed(Failure::from_message(message.to_owned()))
    }

    #[test]
    fn what_the_trigger_says_is_understood() {
        assert_eq!(said("tollgate:conflict"), Ok(Outcome::Conflict));
        assert_eq!(
            said("tollgate:replayed:00FF7a"),
            Ok(Outcome::Replayed(vec![0, 255, 0x7a]))
        );
        assert_eq!(said("tollgate:replayed:"), Ok(Outcome::Replayed(Vec::new())));
        let refused = Ok(Outcome::Refused(Refusal::Condition(12)));
        assert_eq!(said("execution failed: tollgate:refused:condition:12"), refused);
        assert_eq!(
            said("tollgate:refused:mutation:0"),
            Ok(Outcome::Refused(Refusal::Mutation(0)))
        );
        assert!(matches!(
            said("tollgate:invalid:counter:1"),
            Err(StoreError::Invalid(_))
        ));
    }

    #[test]
    fn a_failure_tells_whether_anything_may_have_been_done() {
        for message in ["database is locked", "database or disk is full"] {
            assert!(
                matches!(said(message), Err(StoreError::Unavailable(_))),
                "{message}"
            );
        }
        for message in [
            "disk I/O error",
            "tollgate:replayed:0",
            "tollgate:refused:condition:x",
            "",
        ] {
            assert!(matches!(said(message), Err(StoreError::Unknown(_))), "{message}");
        }
    }
}
