//! The codes that Kafka answers with, and what they mean for a batch.

/// What has become of a batch, as far as its code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is there: now, or since it came before.
    Taken,
    /// It is not, and never will be: what it says is at fault.
    Unfit,
    /// It is not: another server leads its partition, or soon will.
    Elsewhere,
    /// It is not: this producer is not known as it was. It has to begin anew.
    Anew,
    /// It is not: something of the server or of the subscription is at fault.
    Refused,
    /// It may be.
    Unknown,
}

/// Number, name and meaning; of others than these it is not known whether the batch is there.
/// From `org.apache.kafka.common.protocol.Errors` of Kafka 4.1.
const CODES: &[(i16, &str, Meaning)] = &[
    (-1, "UNKNOWN_SERVER_ERROR", Meaning::Unknown),
    (0, "NONE", Meaning::Taken),
    (2, "CORRUPT_MESSAGE", Meaning::Refused),
    (3, "UNKNOWN_TOPIC_OR_PARTITION", Meaning::Elsewhere),
    (5, "LEADER_NOT_AVAILABLE", Meaning::Elsewhere),
    (6, "NOT_LEADER_OR_FOLLOWER", Meaning::Elsewhere),
    (7, "REQUEST_TIMED_OUT", Meaning::Unknown),
    (9, "REPLICA_NOT_AVAILABLE", Meaning::Elsewhere),
    (10, "MESSAGE_TOO_LARGE", Meaning::Unfit),
    (14, "COORDINATOR_LOAD_IN_PROGRESS", Meaning::Refused),
    (15, "COORDINATOR_NOT_AVAILABLE", Meaning::Refused),
    (17, "INVALID_TOPIC_EXCEPTION", Meaning::Refused),
    (18, "RECORD_LIST_TOO_LARGE", Meaning::Unfit),
    (19, "NOT_ENOUGH_REPLICAS", Meaning::Refused),
    (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Meaning::Unknown),
    (29, "TOPIC_AUTHORIZATION_FAILED", Meaning::Refused),
    (31, "CLUSTER_AUTHORIZATION_FAILED", Meaning::Refused),
    (32, "INVALID_TIMESTAMP", Meaning::Unfit),
    (33, "UNSUPPORTED_SASL_MECHANISM", Meaning::Refused),
    (34, "ILLEGAL_SASL_STATE", Meaning::Refused),
    (35, "UNSUPPORTED_VERSION", Meaning::Refused),
    (42, "INVALID_REQUEST", Meaning::Refused),
    (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Meaning::Refused),
    (44, "POLICY_VIOLATION", Meaning::Refused),
    (45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Meaning::Anew),
    (46, "DUPLICATE_SEQUENCE_NUMBER", Meaning::Taken),
    (47, "INVALID_PRODUCER_EPOCH", Meaning::Anew),
    (49, "INVALID_PRODUCER_ID_MAPPING", Meaning::Anew),
    (53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Meaning::Refused),
    (56, "KAFKA_STORAGE_ERROR", Meaning::Unknown),
    (58, "SASL_AUTHENTICATION_FAILED", Meaning::Refused),
    (59, "UNKNOWN_PRODUCER_ID", Meaning::Anew),
    (74, "FENCED_LEADER_EPOCH", Meaning::Elsewhere),
    (75, "UNKNOWN_LEADER_EPOCH", Meaning::Elsewhere),
    (87, "INVALID_RECORD", Meaning::Unfit),
    (89, "THROTTLING_QUOTA_EXCEEDED", Meaning::Refused),
    (90, "PRODUCER_FENCED", Meaning::Anew),
];

/// What a code means for a batch.
pub(super) fn meaning(code: i16) -> Meaning {
    let known = CODES.iter().find(|(number, ..)| *number == code);
    known.map_or(Meaning::Unknown, |(.., meaning)| *meaning)
}

/// Whether it is said of the connection's login: over a new one it may be otherwise (KIP-368).
pub(super) fn is_of_login(code: i16) -> bool {
    matches!(code, 34 | 58)
}

/// For people.
pub(super) fn name(code: i16) -> String {
    match CODES.iter().find(|(number, ..)| *number == code) {
        Some((_, name, _)) => (*name).to_owned(),
        None => format!("error {code}"),
    }
}
