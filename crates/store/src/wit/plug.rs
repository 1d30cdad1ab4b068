//! The exports of the world `store-plug`, which are the same for every store of Spin.

/// Implements them for a type. The modules that were generated are below `edge`. Of the component's own functions, `store` and `buckets` give
/// the engine and the buckets, `afterwards` is told the version of what was committed, if anything was, and `taken` that tokens were taken:
/// both may go on after the call has returned.
#[macro_export]
macro_rules! wit_plug {
    ($plug:ty, $edge:path, $store:path, $buckets:path, $afterwards:path, $taken:path) => {
        const _: () = {
            use edge::{buckets as wit_buckets, store as wit, upkeep as wit_upkeep};
            use $crate::commit as ours;
            use $crate::ports::{Buckets as _, Store as _, Upkeep as _};
            use $edge as edge;

            impl wit::Guest for $plug {
                async fn commit(transaction: wit::Transaction) -> Result<wit::Outcome, wit::StoreError> {
                    let outcome = $store().commit(transaction.into()).await;
                    let version = match &outcome {
                        Ok(ours::Outcome::Committed(committed)) => Some(committed.version),
                        _ => None,
                    };
                    $afterwards(version);
                    Ok(outcome?.into())
                }

                fn defer(transaction: wit::Transaction) {
                    $store().defer(transaction.into());
                }

                async fn settle() -> Result<(), wit::StoreError> {
                    Ok($store().settle().await?)
                }

                async fn get(
                    partition: String,
                    keys: Vec<String>,
                ) -> Result<Vec<Option<wit::Entry>>, wit::StoreError> {
                    let entries = $store().get(&partition, &keys).await;
                    $afterwards(None);
                    Ok(entries?
                        .into_iter()
                        .map(|entry| entry.map(Into::into))
                        .collect())
                }

                async fn scan(
                    prefix: String,
                    after: Option<String>,
                    limit: u32,
                ) -> Result<Vec<wit::Item>, wit::StoreError> {
                    let items = $store().scan(&prefix, after.as_deref(), limit).await?;
                    Ok(items.into_iter().map(Into::into).collect())
                }

                async fn read(
                    topic: String,
                    after: u64,
                    limit: u32,
                    wait: u32,
                ) -> Result<Vec<wit::Message>, wit::StoreError> {
                    let messages = $store().read(&topic, after, limit, wait).await?;
                    Ok(messages.into_iter().map(Into::into).collect())
                }

                async fn topics(
                    after: Option<String>,
                    limit: u32,
                ) -> Result<Vec<wit::Topic>, wit::StoreError> {
                    let topics = $store().topics(after.as_deref(), limit).await?;
                    Ok(topics.into_iter().map(Into::into).collect())
                }
            }

            impl wit_upkeep::Guest for $plug {
                async fn expire() -> Result<bool, wit::StoreError> {
                    Ok($store().expire().await?)
                }

                async fn trim(
                    topic: String,
                    retention: wit_upkeep::Retention,
                    needed: u64,
                ) -> Result<bool, wit::StoreError> {
                    Ok($store().trim(&topic, retention.into(), needed).await?)
                }

                fn is_behind() -> bool {
                    $store().has_work()
                }

                async fn catch_up() {
                    $store().work().await;
                }
            }

            impl wit_buckets::Guest for $plug {
                async fn take(
                    buckets: Vec<wit_buckets::Bucket>,
                ) -> Result<Vec<wit_buckets::Level>, wit_buckets::TakeError> {
                    let levels = $buckets()
                        .take(buckets.into_iter().map(Into::into).collect())
                        .await;
                    $taken();
                    Ok(levels?.into_iter().map(Into::into).collect())
                }
            }
        };
    };
}
