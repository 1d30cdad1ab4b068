//! With the native engine: its wake-ups, its cache, and a database that is opened again.

use super::*;
use tollgate_delivery::subscriptions;
use tollgate_engines::{Engine as _, Options as EngineOptions, SqliteStore};
use tollgate_store::commit::MAX_WAIT_MS;

/// When a message whose wake-up was missed is found: a read that waits for it has ended.
const MISSED: Duration = Duration::from_millis(MAX_WAIT_MS as u64);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_delivered_as_soon_as_it_is_durable_and_progress_survives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let origin = Origin::start().await;
    let mut config = config(&origin, QUICK);
    config.intervals = Intervals::default();
    let path = directory.path().join("t.db");
    let store = SqliteStore::open(EngineOptions::new(&path)).expect("opened");
    let relay = Relay::start(Arc::clone(&store), config.clone(), Box::new(|_, _| {})).expect("a thread");
    sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    append(&*store, 1..=1, 10).await;
    until("it is delivered", async || origin.received().len() == 1).await;
    assert!(
        began.elapsed() < MISSED / 2,
        "{:?}: the engine's wake-up was missed",
        began.elapsed()
    );
    append(&*store, 2..=50, 10).await;
    until("all is delivered", async || watermark(&*store).await == 50).await;
    relay.shutdown(PATIENCE).await;
    let needed = subscriptions::low_water(
        &*store,
        config.subscriptions.iter().map(|(topic, one)| (&**topic, one)),
    )
    .await
    .expect("readable");
    assert_eq!(needed, [("t".to_owned(), 51)]);
    store.close();
    drop(store);

    let store = SqliteStore::open(EngineOptions::new(&path)).expect("opened again");
    let relay = Relay::start(Arc::clone(&store), config.clone(), Box::new(|_, _| {})).expect("a thread");
    append(&*store, 51..=51, 10).await;
    until("the new one is delivered", async || {
        watermark(&*store).await == 51
    })
    .await;
    relay.shutdown(PATIENCE).await;
    assert_eq!(origin.received().len(), 51, "nothing was delivered twice");
    store.close();
}
