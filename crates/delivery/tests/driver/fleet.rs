//! Several relays on one store: one serves a subscription at a time, and another one goes on after it.

use super::*;
use tollgate_delivery::lease;

/// Short enough that a lease ends while a test waits.
const SHORT: &str = r#"
rate_per_second = 2000
timeout = "1s"
retry = { initial = "20ms", factor = 1.5, cap = "200ms", max_attempts = 40 }
"#;

fn shared(origin: &Origin) -> Options {
    Options {
        shared: true,
        ..config(origin, SHORT)
    }
}

async fn holder(store: &InMemoryStore) -> u64 {
    let keys = Keys::new("t", "s");
    lease::look(store, &keys).await.expect("readable").ends
}

#[tokio::test]
async fn two_relays_deliver_each_message_once_and_the_other_goes_on_after_a_shutdown() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    let options = shared(&origin);
    let relays = [start(&store, &options), start(&store, &options)];
    append(&*store, 1..=200, 10).await;
    until("all is delivered", async || watermark(&*store).await == 200).await;
    assert_eq!(origin.received().len(), 200, "each by one relay, once");
    assert_ne!(holder(&store).await, 0, "somebody has the lease");
    let [one, other] = relays;
    one.shutdown(PATIENCE).await;
    let began = Instant::now();
    append(&*store, 201..=300, 10).await;
    until("the other goes on", async || watermark(&*store).await == 300).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "it need not wait for the end of the lease"
    );
    assert_eq!(origin.received().len(), 300);
    other.shutdown(PATIENCE).await;
    assert_eq!(holder(&store).await, 0, "it was given back");
    for sequences in by_key(&origin).values() {
        assert!(sequences.is_sorted());
    }
}

#[tokio::test]
async fn a_relay_takes_over_from_one_that_died_and_the_dead_one_changes_nothing_more() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    let keys = Keys::new("t", "s");
    let terms = lease::Terms { attempt_ms: 1_000 };
    let free = lease::look(&*store, &keys).await.expect("readable");
    let dead = lease::take(&*store, &keys, "dead", terms, &free)
        .await
        .expect("decided");
    let dead = dead.expect("it was free");
    append(&*store, 1..=20, 4).await;
    let began = store.now();
    let relay = start(&store, &shared(&origin));
    // The store in memory has a clock of its own.
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(origin.received().len(), 0, "another one has the lease");
    store.set_now(began + terms.ttl_ms());
    until("it is taken over", async || watermark(&*store).await == 20).await;
    assert_eq!(origin.received().len(), 20);
    let mut late = Commit {
        partition: keys.partition().to_owned(),
        mutations: vec![Mutation::Delete { key: keys.progress() }],
        ..Commit::default()
    };
    dead.fence(&keys, &mut late);
    let outcome = store.commit(late).await.expect("decided");
    assert!(lease::Held::is_lost_by(&outcome), "{outcome:?}");
    assert_eq!(watermark(&*store).await, 20);
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn whoever_lost_its_lease_ends_its_deliveries_and_looks_for_it_again() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    let (keys, relay) = (Keys::new("t", "s"), start(&store, &shared(&origin)));
    until("it has the lease", async || holder(&store).await != 0).await;
    // As after a clock that was set forward: another one takes it while the relay lives.
    let ends = holder(&store).await;
    store.set_now(ends + 1_000);
    let terms = lease::Terms { attempt_ms: 1_000 };
    let taken = until_taken(&store, &keys, terms).await;
    append(&*store, 1..=10, 4).await;
    sleep(Duration::from_millis(3_000)).await;
    assert_eq!(watermark(&*store).await, 0, "it makes no progress");
    taken.release(&*store, &keys).await.expect("released");
    until("it serves it again", async || watermark(&*store).await == 10).await;
    relay.shutdown(PATIENCE).await;
}

/// Takes a lease whose holder may renew it meanwhile: the clock goes on until it is ours.
async fn until_taken(store: &InMemoryStore, keys: &Keys, terms: lease::Terms) -> lease::Held {
    loop {
        let found = lease::look(store, keys).await.expect("readable");
        store.set_now(found.ends.max(store.now()));
        let taken = lease::take(store, keys, "other", terms, &found).await;
        if let Some(held) = taken.expect("decided") {
            return held;
        }
    }
}
