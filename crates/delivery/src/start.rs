//! Where a consumer begins in a topic.

use serde::{Deserialize, Serialize};

use tollgate_api::time;
use tollgate_store::commit::{StoreError, Topic};
use tollgate_store::extent::{extent, sequence_at};
use tollgate_store::ports::Store;

const RULE: &str = "must be oldest, newest, a sequence, or an RFC 3339 time with an offset";

/// `oldest`, `newest`, a sequence, or an RFC 3339 time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "StartFrom")
)]
#[serde(try_from = "Written", into = "Written")]
pub enum StartFrom {
    /// With the oldest message that is kept.
    #[default]
    Oldest,
    /// With the next one that is written.
    Newest,
    /// With this one, or the next one that is kept.
    Sequence(u64),
    /// With the first that was written then or later, Unix milliseconds.
    Time(u64),
}

/// As it stands in a file or a body.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(
    untagged,
    expecting = "must be oldest, newest, a sequence, or an RFC 3339 time with an offset"
)]
enum Written {
    /// A sequence.
    Sequence(u64),
    /// `oldest`, `newest`, or an RFC 3339 time: the first message that was written then or later.
    Text(String),
}

impl TryFrom<Written> for StartFrom {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Sequence(0) => Err("must be 1 or more"),
            Written::Sequence(sequence) => Ok(Self::Sequence(sequence)),
            Written::Text(text) => match text.as_str() {
                "oldest" => Ok(Self::Oldest),
                "newest" => Ok(Self::Newest),
                text => time::parse(text).map(Self::Time).ok_or(RULE),
            },
        }
    }
}

impl From<StartFrom> for Written {
    fn from(start: StartFrom) -> Self {
        match start {
            StartFrom::Oldest => Self::Text("oldest".to_owned()),
            StartFrom::Newest => Self::Text("newest".to_owned()),
            StartFrom::Sequence(sequence) => Self::Sequence(sequence),
            StartFrom::Time(at) => Self::Text(time::format(at)),
        }
    }
}

impl StartFrom {
    /// The first sequence, 1 or more; `extent`: of the topic, `None` if that never had a message.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn first<S: Store>(
        self,
        store: &S,
        topic: &str,
        extent: Option<&Topic>,
    ) -> Result<u64, StoreError> {
        match (self, extent) {
            (Self::Oldest, _) | (Self::Newest | Self::Time(_), None) => Ok(1),
            (Self::Newest, Some(extent)) => Ok(extent.last.saturating_add(1)),
            (Self::Sequence(sequence), _) => Ok(sequence.max(1)),
            (Self::Time(at), Some(extent)) => sequence_at(store, topic, extent, at).await,
        }
    }

    /// The same, of a topic as it is now.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn first_now<S: Store>(self, store: &S, topic: &str) -> Result<u64, StoreError> {
        if self == Self::Oldest {
            return Ok(1);
        }
        self.first(store, topic, extent(store, topic).await?.as_ref())
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_and_written_in_four_forms() {
        let read = |text: &str| serde_json::from_str::<StartFrom>(text);
        for (text, start) in [
            ("\"oldest\"", StartFrom::Oldest),
            ("\"newest\"", StartFrom::Newest),
            ("7", StartFrom::Sequence(7)),
            ("\"2027-01-15T08:00:00Z\"", StartFrom::Time(1_800_000_000_000)),
        ] {
            assert_eq!(read(text).unwrap(), start);
            assert_eq!(serde_json::to_string(&start).unwrap(), text);
        }
        for bad in [
            "0",
            "-1",
            "1.5",
            "\"\"",
            "\"yesterday\"",
            "\"2027-01-15\"",
            "null",
            "[]",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.starts_with("must be "), "{bad}: {error}");
        }
    }
}
