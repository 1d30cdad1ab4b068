//! Between the values of this crate and the types that a bindings generator makes of `wit/edge.wit`: field by field,
//! nothing decided here. Macros, because every component and the host has generated types of its own, with the same
//! names and fields. Each expands to `From` in both directions; what is not used costs nothing.

mod plug;

/// Conversions of `interface buckets`, whose generated module is at the given path.
#[macro_export]
macro_rules! wit_buckets {
    ($($wit:tt)+) => {
        const _: () = {
            use $crate::bucket as ours;
            use $($wit)+ as wit;

            impl From<ours::Bucket> for wit::Bucket {
                fn from(bucket: ours::Bucket) -> Self {
                    let ours::Bucket { key, capacity, refill, interval_ns, cost } = bucket;
                    Self { key, capacity, refill, interval_ns, cost }
                }
            }

            impl From<wit::Bucket> for ours::Bucket {
                fn from(bucket: wit::Bucket) -> Self {
                    let wit::Bucket { key, capacity, refill, interval_ns, cost } = bucket;
                    Self { key, capacity, refill, interval_ns, cost }
                }
            }

            impl From<ours::Level> for wit::Level {
                fn from(level: ours::Level) -> Self {
                    let ours::Level { remaining, next_ns, full_ns } = level;
                    Self { remaining, next_ns, full_ns }
                }
            }

            impl From<wit::Level> for ours::Level {
                fn from(level: wit::Level) -> Self {
                    let wit::Level { remaining, next_ns, full_ns } = level;
                    Self { remaining, next_ns, full_ns }
                }
            }

            impl From<ours::TakeError> for wit::TakeError {
                fn from(error: ours::TakeError) -> Self {
                    match error {
                        ours::TakeError::Refused { index, levels } => Self::Refused(wit::Refusal {
                            index,
                            levels: levels.into_iter().map(Into::into).collect(),
                        }),
                        ours::TakeError::Unavailable(why) => Self::Unavailable(why),
                        ours::TakeError::Busy(why) => Self::Busy(why),
                        ours::TakeError::Invalid(why) => Self::Invalid(why),
                    }
                }
            }

            impl From<wit::TakeError> for ours::TakeError {
                fn from(error: wit::TakeError) -> Self {
                    match error {
                        wit::TakeError::Refused(refusal) => Self::Refused {
                            index: refusal.index,
                            levels: refusal.levels.into_iter().map(Into::into).collect(),
                        },
                        wit::TakeError::Unavailable(why) => Self::Unavailable(why),
                        wit::TakeError::Busy(why) => Self::Busy(why),
                        wit::TakeError::Invalid(why) => Self::Invalid(why),
                    }
                }
            }
        };
    };
}

/// Conversions of `interface store`, whose generated module is at the given path.
#[macro_export]
macro_rules! wit_store {
    ($($wit:tt)+) => {
        const _: () = {
            use $crate::commit as ours;
            use $($wit)+ as wit;

            fn list<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
                list.into_iter().map(Into::into).collect()
            }

            impl From<ours::Part> for wit::Part {
                fn from(part: ours::Part) -> Self {
                    match part {
                        ours::Part::Bytes(bytes) => Self::Bytes(bytes),
                        ours::Part::Sum(index) => Self::Sum(index),
                        ours::Part::Sequence(index) => Self::Sequence(index),
                        ours::Part::Time => Self::Time,
                    }
                }
            }

            impl From<wit::Part> for ours::Part {
                fn from(part: wit::Part) -> Self {
                    match part {
                        wit::Part::Bytes(bytes) => Self::Bytes(bytes),
                        wit::Part::Sum(index) => Self::Sum(index),
                        wit::Part::Sequence(index) => Self::Sequence(index),
                        wit::Part::Time => Self::Time,
                    }
                }
            }

            impl From<ours::Condition> for wit::Condition {
                fn from(condition: ours::Condition) -> Self {
                    match condition {
                        ours::Condition::Absent(key) => Self::Absent(key),
                        ours::Condition::Version { key, version } => {
                            Self::Version(wit::KeyVersion { key, version })
                        }
                        ours::Condition::NowIn { start, end } => Self::NowIn(wit::Window { start, end }),
                        ours::Condition::TopicBelow { topic, bytes } => {
                            Self::TopicBelow(wit::TopicSize { topic, bytes })
                        }
                    }
                }
            }

            impl From<wit::Condition> for ours::Condition {
                fn from(condition: wit::Condition) -> Self {
                    match condition {
                        wit::Condition::Absent(key) => Self::Absent(key),
                        wit::Condition::Version(wit::KeyVersion { key, version }) => {
                            Self::Version { key, version }
                        }
                        wit::Condition::NowIn(wit::Window { start, end }) => Self::NowIn { start, end },
                        wit::Condition::TopicBelow(wit::TopicSize { topic, bytes }) => {
                            Self::TopicBelow { topic, bytes }
                        }
                    }
                }
            }

            impl From<ours::Mutation> for wit::Mutation {
                fn from(mutation: ours::Mutation) -> Self {
                    match mutation {
                        ours::Mutation::Set { key, value, expires } => {
                            Self::Set(wit::Set { key, value: list(value), expires })
                        }
                        ours::Mutation::Delete { key } => Self::Delete(key),
                        ours::Mutation::Add { key, delta, min, max } => {
                            Self::Add(wit::Add { key, delta, min, max })
                        }
                    }
                }
            }

            impl From<wit::Mutation> for ours::Mutation {
                fn from(mutation: wit::Mutation) -> Self {
                    match mutation {
                        wit::Mutation::Set(wit::Set { key, value, expires }) => {
                            Self::Set { key, value: list(value), expires }
                        }
                        wit::Mutation::Delete(key) => Self::Delete { key },
                        wit::Mutation::Add(wit::Add { key, delta, min, max }) => {
                            Self::Add { key, delta, min, max }
                        }
                    }
                }
            }

            impl From<ours::Append> for wit::Append {
                fn from(append: ours::Append) -> Self {
                    Self {
                        topic: append.topic,
                        id: append.id,
                        key: append.key,
                        type_: append.kind,
                        content_type: append.content_type,
                        attributes: append.attributes,
                        payload: list(append.payload),
                    }
                }
            }

            impl From<wit::Append> for ours::Append {
                fn from(append: wit::Append) -> Self {
                    Self {
                        topic: append.topic,
                        id: append.id,
                        key: append.key,
                        kind: append.type_,
                        content_type: append.content_type,
                        attributes: append.attributes,
                        payload: list(append.payload),
                    }
                }
            }

            impl From<ours::Commit> for wit::Transaction {
                fn from(commit: ours::Commit) -> Self {
                    Self {
                        partition: commit.partition,
                        idempotence: commit.idempotence.map(|wanted| wit::Idempotence {
                            id: wanted.id,
                            fingerprint: wanted.fingerprint,
                            answer: list(wanted.answer),
                            ttl: wanted.ttl,
                        }),
                        conditions: list(commit.conditions),
                        mutations: list(commit.mutations),
                        appends: list(commit.appends),
                    }
                }
            }

            impl From<wit::Transaction> for ours::Commit {
                fn from(transaction: wit::Transaction) -> Self {
                    Self {
                        partition: transaction.partition,
                        idempotence: transaction.idempotence.map(|wanted| ours::Idempotence {
                            id: wanted.id,
                            fingerprint: wanted.fingerprint,
                            answer: list(wanted.answer),
                            ttl: wanted.ttl,
                        }),
                        conditions: list(transaction.conditions),
                        mutations: list(transaction.mutations),
                        appends: list(transaction.appends),
                    }
                }
            }

            impl From<ours::Outcome> for wit::Outcome {
                fn from(outcome: ours::Outcome) -> Self {
                    match outcome {
                        ours::Outcome::Committed(ours::Committed { version, sums, sequences, time }) => {
                            Self::Committed(wit::Committed { version, sums, sequences, time })
                        }
                        ours::Outcome::Replayed(answer) => Self::Replayed(answer),
                        ours::Outcome::Conflict => Self::Conflict,
                        ours::Outcome::Refused(ours::Refusal::Condition(index)) => {
                            Self::Refused(wit::Refusal::Condition(index))
                        }
                        ours::Outcome::Refused(ours::Refusal::Mutation(index)) => {
                            Self::Refused(wit::Refusal::Mutation(index))
                        }
                    }
                }
            }

            impl From<wit::Outcome> for ours::Outcome {
                fn from(outcome: wit::Outcome) -> Self {
                    match outcome {
                        wit::Outcome::Committed(wit::Committed { version, sums, sequences, time }) => {
                            Self::Committed(ours::Committed { version, sums, sequences, time })
                        }
                        wit::Outcome::Replayed(answer) => Self::Replayed(answer),
                        wit::Outcome::Conflict => Self::Conflict,
                        wit::Outcome::Refused(wit::Refusal::Condition(index)) => {
                            Self::Refused(ours::Refusal::Condition(index))
                        }
                        wit::Outcome::Refused(wit::Refusal::Mutation(index)) => {
                            Self::Refused(ours::Refusal::Mutation(index))
                        }
                    }
                }
            }

            impl From<ours::StoreError> for wit::StoreError {
                fn from(error: ours::StoreError) -> Self {
                    match error {
                        ours::StoreError::Unavailable(why) => Self::Unavailable(why),
                        ours::StoreError::Unknown(why) => Self::Unknown(why),
                        ours::StoreError::Invalid(why) => Self::Invalid(why),
                    }
                }
            }

            impl From<wit::StoreError> for ours::StoreError {
                fn from(error: wit::StoreError) -> Self {
                    match error {
                        wit::StoreError::Unavailable(why) => Self::Unavailable(why),
                        wit::StoreError::Unknown(why) => Self::Unknown(why),
                        wit::StoreError::Invalid(why) => Self::Invalid(why),
                    }
                }
            }

            impl From<ours::Entry> for wit::Entry {
                fn from(entry: ours::Entry) -> Self {
                    let ours::Entry { value, version, expires } = entry;
                    Self { value, version, expires }
                }
            }

            impl From<wit::Entry> for ours::Entry {
                fn from(entry: wit::Entry) -> Self {
                    let wit::Entry { value, version, expires } = entry;
                    Self { value, version, expires }
                }
            }

            impl From<ours::Item> for wit::Item {
                fn from(item: ours::Item) -> Self {
                    Self { key: item.key, entry: item.entry.into() }
                }
            }

            impl From<wit::Item> for ours::Item {
                fn from(item: wit::Item) -> Self {
                    Self { key: item.key, entry: item.entry.into() }
                }
            }

            impl From<ours::Message> for wit::Message {
                fn from(message: ours::Message) -> Self {
                    Self {
                        topic: message.topic,
                        sequence: message.sequence,
                        id: message.id,
                        key: message.key,
                        type_: message.kind,
                        content_type: message.content_type,
                        time: message.time,
                        attributes: message.attributes,
                        payload: message.payload,
                    }
                }
            }

            impl From<wit::Message> for ours::Message {
                fn from(message: wit::Message) -> Self {
                    Self {
                        topic: message.topic,
                        sequence: message.sequence,
                        id: message.id,
                        key: message.key,
                        kind: message.type_,
                        content_type: message.content_type,
                        time: message.time,
                        attributes: message.attributes,
                        payload: message.payload,
                    }
                }
            }

            impl From<ours::Topic> for wit::Topic {
                fn from(topic: ours::Topic) -> Self {
                    let ours::Topic { name, first, last, first_time, last_time, bytes } = topic;
                    Self { name, first, last, first_time, last_time, bytes }
                }
            }

            impl From<wit::Topic> for ours::Topic {
                fn from(topic: wit::Topic) -> Self {
                    let wit::Topic { name, first, last, first_time, last_time, bytes } = topic;
                    Self { name, first, last, first_time, last_time, bytes }
                }
            }
        };
    };
}

/// Conversions of `interface upkeep`, whose generated module is at the given path.
#[macro_export]
macro_rules! wit_upkeep {
    ($($wit:tt)+) => {
        const _: () = {
            use $crate::retention as ours;
            use $($wit)+ as wit;

            impl From<ours::Retention> for wit::Retention {
                fn from(retention: ours::Retention) -> Self {
                    let ours::Retention { age_ms, max_bytes, drop_beyond } = retention;
                    Self { age: age_ms, max_bytes, drop_beyond }
                }
            }

            impl From<wit::Retention> for ours::Retention {
                fn from(retention: wit::Retention) -> Self {
                    let wit::Retention { age, max_bytes, drop_beyond } = retention;
                    Self { age_ms: age, max_bytes, drop_beyond }
                }
            }
        };
    };
}
