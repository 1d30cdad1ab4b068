//! How far a topic reaches, and where a time lies in it.

use crate::commit::{StoreError, Topic};
use crate::ports::Store;

/// The extent of one topic; `None` if it never had a message.
///
/// # Errors
/// The store does not answer.
pub async fn extent<S: Store>(store: &S, name: &str) -> Result<Option<Topic>, StoreError> {
    let before = just_before(name);
    let found = store.topics(before.as_deref(), 1).await?;
    Ok(found.into_iter().next().filter(|topic| topic.name == name))
}

/// The sequence of the first message that was written at `time` (Unix milliseconds) or later; one past the newest if there is
/// none. Times never fall within a topic, so this looks at some thirty messages at most.
///
/// # Errors
/// The store does not answer.
pub async fn sequence_at<S: Store>(
    store: &S,
    topic: &str,
    extent: &Topic,
    time: u64,
) -> Result<u64, StoreError> {
    let (mut low, mut high) = (extent.first, extent.last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let found = store.read(topic, middle - 1, 1, 0).await?;
        match found.first() {
            // Retention may have taken some meanwhile.
            Some(message) if message.time < time => low = message.sequence + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// A text below the name and above every name below it: the port lists names after a text only. DEL is above every
/// character of a name.
fn just_before(name: &str) -> Option<String> {
    let last = name.bytes().last()?;
    let head = name.get(..name.len() - 1)?;
    Some(format!("{head}{}\u{7f}", char::from(last.saturating_sub(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn just_before_lies_between_a_name_and_all_names_below_it() {
        let mut names = vec![
            "a", "a-", "a-z", "a.", "a.b", "a0", "ab", "az", "az.z", "b", "b-", "0", "9z", "z",
        ];
        names.sort_unstable();
        for pair in names.windows(2) {
            let before = just_before(pair[1]).unwrap();
            assert!(pair[0] < before.as_str() && before.as_str() < pair[1], "{pair:?}");
        }
        assert!(just_before("0").unwrap().as_str() < "0");
    }
}
