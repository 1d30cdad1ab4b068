//! Between the values of this crate and the types that a bindings generator makes of `wit/edge.wit`: field by field,
//! nothing decided here. Macros, because every component and the host has generated types of its own, with the same
//! names and fields. Each expands to `From` in both directions; what is not used costs nothing.

/// Conversions of `interface rules`, whose generated module is at the given path. Needs those of `buckets` and `store`.
#[macro_export]
macro_rules! wit_rules {
    ($($wit:tt)+) => {
        const _: () = {
            use $crate::machine as ours;
            use $($wit)+ as wit;

            fn list<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
                list.into_iter().map(Into::into).collect()
            }

            type Decided = Result<tollgate_store::commit::Outcome, tollgate_store::commit::StoreError>;

            fn packed<E: From<tollgate_store::commit::StoreError>>(outcome: Decided) -> Result<Vec<u8>, E> {
                let pack = |outcome| tollgate_store::packed::pack(&outcome, tollgate_store::packed::OUTCOME_BYTES);
                outcome.map(pack).map_err(Into::into)
            }

            fn unpacked<E: Into<tollgate_store::commit::StoreError>>(outcome: Result<Vec<u8>, E>) -> Decided {
                let lost = || {
                    let why = "the outcome did not arrive whole".to_owned();
                    tollgate_store::commit::StoreError::Unknown(why)
                };
                let unpack = |packed: Vec<u8>| tollgate_store::packed::unpack(&packed).ok_or_else(lost);
                outcome.map_err(Into::into).and_then(unpack)
            }

            impl From<$crate::heads::Response> for wit::Response {
                fn from(response: $crate::heads::Response) -> Self {
                    let $crate::heads::Response { status, headers, body } = response;
                    Self { status, headers, body }
                }
            }

            impl From<wit::Response> for $crate::heads::Response {
                fn from(response: wit::Response) -> Self {
                    let wit::Response { status, headers, body } = response;
                    Self { status, headers, body }
                }
            }

            impl From<ours::Stage> for wit::Stage {
                fn from(stage: ours::Stage) -> Self {
                    match stage {
                        ours::Stage::Arrived => Self::Arrived,
                        ours::Stage::Admitted => Self::Admitted,
                    }
                }
            }

            impl From<wit::Stage> for ours::Stage {
                fn from(stage: wit::Stage) -> Self {
                    match stage {
                        wit::Stage::Arrived => Self::Arrived,
                        wit::Stage::Admitted => Self::Admitted,
                    }
                }
            }

            impl From<ours::Call> for wit::Call {
                fn from(call: ours::Call) -> Self {
                    match call {
                        ours::Call::Commit(commit) => {
                            Self::Commit(tollgate_store::packed::pack(&commit, tollgate_store::packed::COMMIT_BYTES))
                        }
                        ours::Call::Packed(packed) => Self::Commit(packed),
                        ours::Call::Commits(commits) => {
                            let pack = |commit| tollgate_store::packed::pack(commit, tollgate_store::packed::COMMIT_BYTES);
                            Self::CommitEach(commits.iter().map(pack).collect())
                        }
                        ours::Call::PackedEach(packed) => Self::CommitEach(packed),
                        ours::Call::Get(keys) => Self::Get(keys),
                        ours::Call::Scan { prefix, after, limit } => {
                            Self::Scan(wit::Range { prefix, after, limit })
                        }
                        ours::Call::Read { topic, after, limit, wait } => {
                            Self::Read(wit::Messages { topic, after, limit, wait })
                        }
                        ours::Call::Topics { after, limit } => Self::Topics(wit::Names { after, limit }),
                        ours::Call::Settle => Self::Settle,
                        ours::Call::Take(buckets) => Self::Take(list(buckets)),
                        ours::Call::Post { url, form } => Self::Post(wit::Form { url, body: form }),
                        ours::Call::Body(held) => Self::Body(held),
                    }
                }
            }

            impl From<wit::Call> for ours::Call {
                fn from(call: wit::Call) -> Self {
                    match call {
                        wit::Call::Commit(packed) => Self::Packed(packed),
                        wit::Call::CommitEach(packed) => Self::PackedEach(packed),
                        wit::Call::Get(keys) => Self::Get(keys),
                        wit::Call::Scan(wit::Range { prefix, after, limit }) => {
                            Self::Scan { prefix, after, limit }
                        }
                        wit::Call::Read(wit::Messages { topic, after, limit, wait }) => {
                            Self::Read { topic, after, limit, wait }
                        }
                        wit::Call::Topics(wit::Names { after, limit }) => Self::Topics { after, limit },
                        wit::Call::Settle => Self::Settle,
                        wit::Call::Take(buckets) => Self::Take(list(buckets)),
                        wit::Call::Post(wit::Form { url, body }) => Self::Post { url, form: body },
                        wit::Call::Body(held) => Self::Body(held),
                    }
                }
            }

            impl From<ours::Step> for wit::Step {
                fn from(step: ours::Step) -> Self {
                    match step {
                        ours::Step::Done(response) => Self::Done(response.into()),
                        ours::Step::Admitted(added) => Self::Admitted(added),
                        ours::Step::Waits(task, call) => {
                            Self::Waits(wit::Waiting { task, call: call.into() })
                        }
                        ours::Step::Busy => Self::Busy,
                    }
                }
            }

            impl From<wit::Step> for ours::Step {
                fn from(step: wit::Step) -> Self {
                    match step {
                        wit::Step::Done(response) => Self::Done(response.into()),
                        wit::Step::Admitted(added) => Self::Admitted(added),
                        wit::Step::Waits(waiting) => Self::Waits(waiting.task, waiting.call.into()),
                        wit::Step::Busy => Self::Busy,
                    }
                }
            }

            impl From<ours::Reply> for wit::Reply {
                fn from(reply: ours::Reply) -> Self {
                    match reply {
                        ours::Reply::Commit(outcome) => Self::Commit(packed(outcome)),
                        ours::Reply::Commits(outcomes) => {
                            Self::CommitEach(outcomes.into_iter().map(packed).collect())
                        }
                        ours::Reply::Get(entries) => Self::Get(
                            entries
                                .map(|entries| {
                                    entries.into_iter().map(|entry| entry.map(Into::into)).collect()
                                })
                                .map_err(Into::into),
                        ),
                        ours::Reply::Scan(items) => Self::Scan(items.map(list).map_err(Into::into)),
                        ours::Reply::Read(messages) => Self::Read(messages.map(list).map_err(Into::into)),
                        ours::Reply::Topics(topics) => Self::Topics(topics.map(list).map_err(Into::into)),
                        ours::Reply::Settle(settled) => Self::Settle(settled.map_err(Into::into)),
                        ours::Reply::Take(taken) => Self::Take(taken.map(list).map_err(Into::into)),
                        ours::Reply::Post(answer) => Self::Post(answer),
                        ours::Reply::Body(body) => Self::Body(body),
                    }
                }
            }

            impl From<wit::Reply> for ours::Reply {
                fn from(reply: wit::Reply) -> Self {
                    match reply {
                        wit::Reply::Commit(outcome) => Self::Commit(unpacked(outcome)),
                        wit::Reply::CommitEach(outcomes) => {
                            Self::Commits(outcomes.into_iter().map(unpacked).collect())
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
                        wit::Reply::Take(taken) => Self::Take(taken.map(list).map_err(Into::into)),
                        wit::Reply::Post(answer) => Self::Post(answer),
                        wit::Reply::Body(body) => Self::Body(body),
                    }
                }
            }
        };
    };
}
