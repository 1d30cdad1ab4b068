//! Between the values of this crate and the types that a bindings generator makes of `wit/edge.wit`: field by field,
//! nothing decided here. Macros, because every component and the host has generated types of its own, with the same
//! names and fields. Each expands to `From` in both directions; what is not used costs nothing.

/// Conversions of `interface buckets`, whose generated module is at the given path.
#[macro_export]
macro_rules! wit_buckets {
    ($($wit:tt)+) => {
        const _: () = {
            use $crate::bucket as core;
            use $($wit)+ as wit;

            impl From<core::Bucket> for wit::Bucket {
                fn from(bucket: core::Bucket) -> Self {
                    let core::Bucket { key, capacity, refill, interval_ns, cost } = bucket;
                    Self { key, capacity, refill, interval_ns, cost }
                }
            }

            impl From<wit::Bucket> for core::Bucket {
                fn from(bucket: wit::Bucket) -> Self {
                    let wit::Bucket { key, capacity, refill, interval_ns, cost } = bucket;
                    Self { key, capacity, refill, interval_ns, cost }
                }
            }

            impl From<core::Level> for wit::Level {
                fn from(level: core::Level) -> Self {
                    let core::Level { remaining, next_ns, full_ns } = level;
                    Self { remaining, next_ns, full_ns }
                }
            }

            impl From<wit::Level> for core::Level {
                fn from(level: wit::Level) -> Self {
                    let wit::Level { remaining, next_ns, full_ns } = level;
                    Self { remaining, next_ns, full_ns }
                }
            }

            impl From<core::TakeError> for wit::TakeError {
                fn from(error: core::TakeError) -> Self {
                    match error {
                        core::TakeError::Refused { index, levels } => Self::Refused(wit::Refusal {
                            index,
                            levels: levels.into_iter().map(Into::into).collect(),
                        }),
                        core::TakeError::Unavailable(why) => Self::Unavailable(why),
                        core::TakeError::Busy(why) => Self::Busy(why),
                        core::TakeError::Invalid(why) => Self::Invalid(why),
                    }
                }
            }

            impl From<wit::TakeError> for core::TakeError {
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
            use $crate::commit as core;
            use $($wit)+ as wit;

            fn list<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
                list.into_iter().map(Into::into).collect()
            }

            impl From<core::Part> for wit::Part {
                fn from(part: core::Part) -> Self {
                    match part {
                        core::Part::Bytes(bytes) => Self::Bytes(bytes),
                        core::Part::Sum(index) => Self::Sum(index),
                        core::Part::Sequence(index) => Self::Sequence(index),
                        core::Part::Time => Self::Time,
                    }
                }
            }

            impl From<wit::Part> for core::Part {
                fn from(part: wit::Part) -> Self {
                    match part {
                        wit::Part::Bytes(bytes) => Self::Bytes(bytes),
                        wit::Part::Sum(index) => Self::Sum(index),
                        wit::Part::Sequence(index) => Self::Sequence(index),
                        wit::Part::Time => Self::Time,
                    }
                }
            }

            impl From<core::Condition> for wit::Condition {
                fn from(condition: core::Condition) -> Self {
                    match condition {
                        core::Condition::Absent(key) => Self::Absent(key),
                        core::Condition::Version { key, version } => {
                            Self::Version(wit::KeyVersion { key, version })
                        }
                        core::Condition::NowIn { start, end } => Self::NowIn(wit::Window { start, end }),
                        core::Condition::TopicBelow { topic, bytes } => {
                            Self::TopicBelow(wit::TopicSize { topic, bytes })
                        }
                    }
                }
            }

            impl From<wit::Condition> for core::Condition {
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

            impl From<core::Mutation> for wit::Mutation {
                fn from(mutation: core::Mutation) -> Self {
                    match mutation {
                        core::Mutation::Set { key, value, expires } => {
                            Self::Set(wit::Set { key, value: list(value), expires })
                        }
                        core::Mutation::Delete { key } => Self::Delete(key),
                        core::Mutation::Add { key, delta, min, max } => {
                            Self::Add(wit::Add { key, delta, min, max })
                        }
                    }
                }
            }

            impl From<wit::Mutation> for core::Mutation {
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

            impl From<core::Append> for wit::Append {
                fn from(append: core::Append) -> Self {
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

            impl From<wit::Append> for core::Append {
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

            impl From<core::Commit> for wit::Transaction {
                fn from(commit: core::Commit) -> Self {
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

            impl From<wit::Transaction> for core::Commit {
                fn from(transaction: wit::Transaction) -> Self {
                    Self {
                        partition: transaction.partition,
                        idempotence: transaction.idempotence.map(|wanted| core::Idempotence {
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

            impl From<core::Outcome> for wit::Outcome {
                fn from(outcome: core::Outcome) -> Self {
                    match outcome {
                        core::Outcome::Committed(core::Committed { version, sums, sequences, time }) => {
                            Self::Committed(wit::Committed { version, sums, sequences, time })
                        }
                        core::Outcome::Replayed(answer) => Self::Replayed(answer),
                        core::Outcome::Conflict => Self::Conflict,
                        core::Outcome::Refused(core::Refusal::Condition(index)) => {
                            Self::Refused(wit::Refusal::Condition(index))
                        }
                        core::Outcome::Refused(core::Refusal::Mutation(index)) => {
                            Self::Refused(wit::Refusal::Mutation(index))
                        }
                    }
                }
            }

            impl From<wit::Outcome> for core::Outcome {
                fn from(outcome: wit::Outcome) -> Self {
                    match outcome {
                        wit::Outcome::Committed(wit::Committed { version, sums, sequences, time }) => {
                            Self::Committed(core::Committed { version, sums, sequences, time })
                        }
                        wit::Outcome::Replayed(answer) => Self::Replayed(answer),
                        wit::Outcome::Conflict => Self::Conflict,
                        wit::Outcome::Refused(wit::Refusal::Condition(index)) => {
                            Self::Refused(core::Refusal::Condition(index))
                        }
                        wit::Outcome::Refused(wit::Refusal::Mutation(index)) => {
                            Self::Refused(core::Refusal::Mutation(index))
                        }
                    }
                }
            }

            impl From<core::StoreError> for wit::StoreError {
                fn from(error: core::StoreError) -> Self {
                    match error {
                        core::StoreError::Unavailable(why) => Self::Unavailable(why),
                        core::StoreError::Unknown(why) => Self::Unknown(why),
                        core::StoreError::Invalid(why) => Self::Invalid(why),
                    }
                }
            }

            impl From<wit::StoreError> for core::StoreError {
                fn from(error: wit::StoreError) -> Self {
                    match error {
                        wit::StoreError::Unavailable(why) => Self::Unavailable(why),
                        wit::StoreError::Unknown(why) => Self::Unknown(why),
                        wit::StoreError::Invalid(why) => Self::Invalid(why),
                    }
                }
            }

            impl From<core::Entry> for wit::Entry {
                fn from(entry: core::Entry) -> Self {
                    let core::Entry { value, version, expires } = entry;
                    Self { value, version, expires }
                }
            }

            impl From<wit::Entry> for core::Entry {
                fn from(entry: wit::Entry) -> Self {
                    let wit::Entry { value, version, expires } = entry;
                    Self { value, version, expires }
                }
            }

            impl From<core::Item> for wit::Item {
                fn from(item: core::Item) -> Self {
                    Self { key: item.key, entry: item.entry.into() }
                }
            }

            impl From<wit::Item> for core::Item {
                fn from(item: wit::Item) -> Self {
                    Self { key: item.key, entry: item.entry.into() }
                }
            }

            impl From<core::Message> for wit::Message {
                fn from(message: core::Message) -> Self {
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

            impl From<wit::Message> for core::Message {
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

            impl From<core::Topic> for wit::Topic {
                fn from(topic: core::Topic) -> Self {
                    let core::Topic { name, first, last, first_time, last_time } = topic;
                    Self { name, first, last, first_time, last_time }
                }
            }

            impl From<wit::Topic> for core::Topic {
                fn from(topic: wit::Topic) -> Self {
                    let wit::Topic { name, first, last, first_time, last_time } = topic;
                    Self { name, first, last, first_time, last_time }
                }
            }
        };
    };
}

/// Conversions of `interface rules`, whose generated module is at the given path. Needs those of `store`.
#[macro_export]
macro_rules! wit_rules {
    ($($wit:tt)+) => {
        const _: () = {
            use $crate::machine as core;
            use $($wit)+ as wit;

            fn list<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
                list.into_iter().map(Into::into).collect()
            }

            impl From<$crate::packed::Response> for wit::Response {
                fn from(response: $crate::packed::Response) -> Self {
                    let $crate::packed::Response { status, headers, body } = response;
                    Self { status, headers, body }
                }
            }

            impl From<wit::Response> for $crate::packed::Response {
                fn from(response: wit::Response) -> Self {
                    let wit::Response { status, headers, body } = response;
                    Self { status, headers, body }
                }
            }

            impl From<core::Stage> for wit::Stage {
                fn from(stage: core::Stage) -> Self {
                    match stage {
                        core::Stage::Arrived => Self::Arrived,
                        core::Stage::Admitted => Self::Admitted,
                    }
                }
            }

            impl From<wit::Stage> for core::Stage {
                fn from(stage: wit::Stage) -> Self {
                    match stage {
                        wit::Stage::Arrived => Self::Arrived,
                        wit::Stage::Admitted => Self::Admitted,
                    }
                }
            }

            impl From<core::Call> for wit::Call {
                fn from(call: core::Call) -> Self {
                    match call {
                        core::Call::Commit(commit) => {
                            Self::Commit($crate::packed::pack(&commit, $crate::packed::COMMIT_BYTES))
                        }
                        core::Call::Packed(packed) => Self::Commit(packed),
                        core::Call::Get(keys) => Self::Get(keys),
                        core::Call::Scan { prefix, after, limit } => {
                            Self::Scan(wit::Range { prefix, after, limit })
                        }
                        core::Call::Read { topic, after, limit, wait } => {
                            Self::Read(wit::Messages { topic, after, limit, wait })
                        }
                        core::Call::Topics { after, limit } => Self::Topics(wit::Names { after, limit }),
                        core::Call::Settle => Self::Settle,
                        core::Call::Body => Self::Body,
                    }
                }
            }

            impl From<wit::Call> for core::Call {
                fn from(call: wit::Call) -> Self {
                    match call {
                        wit::Call::Commit(packed) => Self::Packed(packed),
                        wit::Call::Get(keys) => Self::Get(keys),
                        wit::Call::Scan(wit::Range { prefix, after, limit }) => {
                            Self::Scan { prefix, after, limit }
                        }
                        wit::Call::Read(wit::Messages { topic, after, limit, wait }) => {
                            Self::Read { topic, after, limit, wait }
                        }
                        wit::Call::Topics(wit::Names { after, limit }) => Self::Topics { after, limit },
                        wit::Call::Settle => Self::Settle,
                        wit::Call::Body => Self::Body,
                    }
                }
            }

            impl From<core::Step> for wit::Step {
                fn from(step: core::Step) -> Self {
                    match step {
                        core::Step::Done(response) => Self::Done(response.into()),
                        core::Step::Admitted(added) => Self::Admitted(added),
                        core::Step::Waits(task, call) => {
                            Self::Waits(wit::Waiting { task, call: call.into() })
                        }
                        core::Step::Busy => Self::Busy,
                    }
                }
            }

            impl From<wit::Step> for core::Step {
                fn from(step: wit::Step) -> Self {
                    match step {
                        wit::Step::Done(response) => Self::Done(response.into()),
                        wit::Step::Admitted(added) => Self::Admitted(added),
                        wit::Step::Waits(waiting) => Self::Waits(waiting.task, waiting.call.into()),
                        wit::Step::Busy => Self::Busy,
                    }
                }
            }

            impl From<core::Reply> for wit::Reply {
                fn from(reply: core::Reply) -> Self {
                    match reply {
                        core::Reply::Commit(outcome) => Self::Commit(
                            outcome.map(|outcome| $crate::packed::pack(&outcome, $crate::packed::OUTCOME_BYTES)).map_err(Into::into),
                        ),
                        core::Reply::Get(entries) => Self::Get(
                            entries
                                .map(|entries| {
                                    entries.into_iter().map(|entry| entry.map(Into::into)).collect()
                                })
                                .map_err(Into::into),
                        ),
                        core::Reply::Scan(items) => Self::Scan(items.map(list).map_err(Into::into)),
                        core::Reply::Read(messages) => Self::Read(messages.map(list).map_err(Into::into)),
                        core::Reply::Topics(topics) => Self::Topics(topics.map(list).map_err(Into::into)),
                        core::Reply::Settle(settled) => Self::Settle(settled.map_err(Into::into)),
                        core::Reply::Body(body) => Self::Body(body),
                    }
                }
            }

            impl From<wit::Reply> for core::Reply {
                fn from(reply: wit::Reply) -> Self {
                    match reply {
                        wit::Reply::Commit(outcome) => {
                            let lost = || {
                                let why = "the outcome did not arrive whole".to_owned();
                                $crate::commit::StoreError::Unknown(why)
                            };
                            let unpack = |packed: Vec<u8>| $crate::packed::unpack(&packed).ok_or_else(lost);
                            Self::Commit(outcome.map_err(Into::into).and_then(unpack))
                        }
                        wit::Reply::Get(entries) => Self::Get(
                            entries
                                .map(|entries| {
                                    entries.into_iter().map(|entry| entry.map(Into::into)).collect()
                                })
                                .map_err(Into::into),
                        ),
                        wit::Reply::Scan(items) => Self::Scan(items.map(list).map_err(Into::into)),
                        wit::Reply::Read(messages) => Self::Read(messages.map(list).map_err(Into::into)),
                        wit::Reply::Topics(topics) => Self::Topics(topics.map(list).map_err(Into::into)),
                        wit::Reply::Settle(settled) => Self::Settle(settled.map_err(Into::into)),
                        wit::Reply::Body(body) => Self::Body(body),
                    }
                }
            }
        };
    };
}
