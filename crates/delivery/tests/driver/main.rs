//! The relay against a real HTTP origin on loopback, and a store in memory that outlives it.

mod engine;
mod fleet;
mod origin;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use origin::{HANG_UP, OK, Origin, Reply, refusing, refusing_id};
use tokio::time::{Instant, sleep};
use tollgate_delivery::breaker;
use tollgate_delivery::driver::{Intervals, Options, Relay, SubscriptionStatus};
use tollgate_delivery::relay::record::{Control, DeadLetter, Keys, PauseReason, Waiting};
use tollgate_delivery::relay::restore;
use tollgate_delivery::subscriptions::{PREFIX, Stored};
use tollgate_delivery::webhook::{Secret, verify};
use tollgate_store::commit::{Append, Commit, Mutation, literal};
use tollgate_store::memory::InMemoryStore;
use tollgate_store::ports::Store;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PATIENCE: Duration = Duration::from_secs(30);
/// A poll is waited for in some tests.
const QUICKLY: Intervals = Intervals {
    poll: Duration::from_millis(50),
    follow: Duration::from_millis(100),
    low_water: Duration::from_secs(1),
};
/// Deliveries under way at once, where the configuration says nothing else.
const CONCURRENCY: u64 = 8;

/// A subscription `s` to the topic `t`, as a file says it.
fn options(settings: &str) -> Options {
    let subscription = toml::from_str(&format!(
        "name = \"s\"\nallow_private_addresses = true\n{settings}"
    ));
    Options {
        subscriptions: vec![("t".to_owned(), subscription.expect("valid settings"))],
        public_url: "http://localhost:3000".to_owned(),
        idle_timeout: Duration::from_secs(4),
        intervals: QUICKLY,
        observer: None,
        shared: false,
    }
}

fn config(origin: &Origin, more: &str) -> Options {
    let address = origin.address;
    options(&format!(
        "url = \"http://{address}/hook?a=b\"\nsecret = \"{SECRET}\"\n{more}"
    ))
}

fn start(store: &Arc<InMemoryStore>, options: &Options) -> Relay {
    Relay::start(Arc::clone(store), options.clone(), Box::new(|_, _| {})).expect("a thread")
}

async fn append(store: &impl Store, range: std::ops::RangeInclusive<u64>, keys: u64) {
    for n in range {
        let append = Append {
            topic: "t".into(),
            id: format!("m{n}"),
            key: format!("k{}", n % keys),
            kind: "test.made".into(),
            content_type: "text/plain".into(),
            attributes: Vec::new(),
            payload: literal(format!("payload {n}")),
        };
        store
            .commit(Commit {
                appends: vec![append],
                ..Commit::default()
            })
            .await
            .expect("appended");
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn watermark(store: &impl Store) -> u64 {
    let (_, progress) = restore::state(store, &Keys::new("t", "s"))
        .await
        .expect("readable");
    progress.watermark()
}

async fn dead(store: &InMemoryStore) -> Vec<DeadLetter> {
    let prefix = Keys::new("t", "s").dead_prefix();
    let found = store.scan(&prefix, None, 1_000).await.expect("readable");
    found
        .iter()
        .map(|item| serde_json::from_slice(&item.entry.value).expect("a dead letter"))
        .collect()
}

async fn set(store: &InMemoryStore, key: String, value: &impl serde::Serialize) {
    let value = literal(serde_json::to_vec(value).expect("plain fields"));
    let set = Mutation::Set {
        key,
        value,
        expires: None,
    };
    store
        .commit(Commit {
            mutations: vec![set],
            ..Commit::default()
        })
        .await
        .expect("written");
}

/// The sequences of each key, in the order they were first acknowledged.
fn by_key(origin: &Origin) -> BTreeMap<String, Vec<u64>> {
    let mut found = BTreeMap::<String, Vec<u64>>::new();
    for delivery in origin.received().iter().filter(|d| d.status == 200) {
        let order = found.entry(delivery.header("ce-partitionkey")).or_default();
        let sequence = delivery.header("ce-sequence").parse().expect("a number");
        if !order.contains(&sequence) {
            order.push(sequence);
        }
    }
    found
}

const QUICK: &str = r#"
rate_per_second = 2000
retry = { initial = "20ms", factor = 1.5, cap = "200ms", max_attempts = 40 }
"#;

#[tokio::test]
async fn a_delivery_is_a_signed_event() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    append(&*store, 1..=1, 1).await;
    let relay = start(&store, &config(&origin, QUICK));
    until("one delivery", async || origin.received().len() == 1).await;
    let delivery = origin.received().remove(0);
    assert_eq!(
        (delivery.method.as_str(), delivery.uri.as_str()),
        ("POST", "/hook?a=b")
    );
    assert_eq!(delivery.body, b"payload 1");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-length", "9"),
        ("ce-specversion", "1.0"),
        ("ce-id", "m1"),
        ("ce-source", "http://localhost:3000/api/topics/t"),
        ("ce-type", "test.made"),
        ("ce-time", "2027-01-15T08:00:00Z"),
        ("ce-sequence", "1"),
        ("ce-partitionkey", "k0"),
        ("webhook-id", "m1"),
        ("user-agent", concat!("tollgate/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(delivery.header(name), value, "{name}");
    }
    let (at, signature) = (
        delivery.header("webhook-timestamp"),
        delivery.header("webhook-signature"),
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let secret = Secret::parse(SECRET).expect("valid");
    assert_eq!(
        verify(&[secret], "m1", &at, &signature, &delivery.body, now),
        Ok(())
    );
    until("durable progress", async || watermark(&*store).await == 1).await;
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn an_origin_that_refuses_a_third_gets_everything_in_order_per_key() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(refusing(30));
    append(&*store, 1..=300, 20).await;
    let relay = start(&store, &config(&origin, QUICK));
    until("all is delivered", async || watermark(&*store).await == 300).await;
    let orders = by_key(&origin);
    assert_eq!(orders.values().map(Vec::len).sum::<usize>(), 300);
    for (key, order) in &orders {
        assert!(order.is_sorted(), "{key}: {order:?}");
    }
    assert!(origin.most_at_once() <= 8, "{}", origin.most_at_once());
    assert_eq!(dead(&store).await.len(), 0);
    // The board is written a little later.
    until("attempts are counted", async || {
        let status = relay.status().remove(0);
        assert_eq!(status.dead, 0);
        status.attempts > 300 && status.delivered == 300
    })
    .await;
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn an_origin_that_goes_down_is_left_alone_and_gets_the_rest_when_it_returns() {
    let (mut origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    append(&*store, 1..=50, 5).await;
    let few = r#"retry = { initial = "50ms", cap = "100ms", max_attempts = 6 }"#;
    let relay = start(&store, &config(&origin, few));
    until("a first part is delivered", async || {
        watermark(&*store).await >= 50
    })
    .await;
    let down = Instant::now();
    origin.stop().await;
    let reached = origin.received().len() as u64;
    append(&*store, 51..=150, 50).await;
    let status = || relay.status().remove(0);
    let is_open = |status: &SubscriptionStatus| status.machine.breaker != "closed";
    until("the breaker opens", async || is_open(&status())).await;
    // Long enough for two probes, each of which fails; without the breaker every attempt would be used up by then.
    let opened = status();
    let probed = opened.attempts + opened.machine.under_way as u64 + 2;
    until("two probes have failed", async || {
        let status = status();
        assert!(is_open(&status), "it stays open: {status:?}");
        status.attempts >= probed
    })
    .await;
    // The attempts that open it, those under way beside them, and the probes that fit into the time. The wait
    // for the next probe doubles each time, and jitter halves it at most.
    let attempts = status().attempts - reached;
    let probes =
        (2.0 * down.elapsed().as_millis() as f64 / breaker::OPEN_INITIAL_MS as f64 + 1.0).log2() as u64;
    let most = u64::from(breaker::CONSECUTIVE_FAILURES) + CONCURRENCY - 1 + probes;
    assert!(attempts <= most, "{attempts}, at most {most}");
    origin.restart();
    until("the rest is delivered", async || watermark(&*store).await == 150).await;
    assert_eq!(
        dead(&store).await.len(),
        0,
        "an outage is no reason to give a message up"
    );
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_nothing_and_keeps_attempts() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(refusing(30));
    append(&*store, 1..=400, 20).await;
    let config = config(&origin, QUICK);
    for part in 1..=4 {
        let relay = start(&store, &config);
        until("a part is delivered", async || {
            watermark(&*store).await >= part * 80
        })
        .await;
        relay.shutdown(PATIENCE).await;
        let (kept, acknowledged) = (watermark(&*store).await, by_key(&origin));
        let delivered: BTreeSet<u64> = acknowledged.into_values().flatten().collect();
        assert!((1..=kept).all(|sequence| delivered.contains(&sequence)));
    }
    let relay = start(&store, &config);
    until("all is delivered", async || watermark(&*store).await == 400).await;
    relay.shutdown(PATIENCE).await;
    let acknowledged = origin.received().iter().filter(|d| d.status == 200).count();
    assert_eq!(acknowledged, 400, "a shutdown that drains repeats nothing");
    let left = store
        .scan(&Keys::new("t", "s").retry_prefix(), None, 10)
        .await
        .expect("readable");
    assert!(left.is_empty());
}

#[tokio::test]
async fn a_message_that_always_fails_becomes_a_dead_letter_and_can_be_redriven() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(refusing_id("m3"));
    append(&*store, 1..=9, 3).await;
    let relay = start(
        &store,
        &config(&origin, r#"retry = { initial = "20ms", max_attempts = 3 }"#),
    );
    until("all is finished", async || watermark(&*store).await == 9).await;
    let letters = dead(&store).await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.sequence, letter.attempts), (3, 3));
    assert_eq!(letter.last_error, "the origin answered 500");
    assert_eq!(by_key(&origin)["k0"], [6, 9], "its key went on");

    origin.answers(|_| OK);
    let keys = Keys::new("t", "s");
    let waiting = Waiting {
        redriven: true,
        message: letter.message.clone(),
        ..Waiting::default()
    };
    set(&store, keys.retry(3), &waiting).await;
    let mutations = vec![
        Mutation::Delete { key: keys.dead(3) },
        Mutation::Add {
            key: keys.redrives(),
            delta: 1,
            min: None,
            max: None,
        },
    ];
    store
        .commit(Commit {
            mutations,
            ..Commit::default()
        })
        .await
        .expect("written");
    until("it is delivered", async || by_key(&origin)["k0"].contains(&3)).await;
    let gone = async || {
        store
            .scan(&keys.retry_prefix(), None, 1)
            .await
            .expect("readable")
            .is_empty()
    };
    until("its entry is gone", gone).await;
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn slow_answers_time_out_and_redirects_are_not_followed() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(|_| OK.after(Duration::from_secs(20)));
    append(&*store, 1..=1, 1).await;
    // A busy machine may miss the time limit of a good answer, too.
    let settings = "timeout = \"200ms\"\nretry = { initial = \"100ms\", factor = 1.0, cap = \"100ms\", max_attempts = 100 }";
    let relay = start(&store, &config(&origin, settings));
    until("two attempts", async || origin.received().len() >= 2).await;
    origin.answers(|_| Reply::status(302));
    until("a redirect", async || {
        origin.received().iter().any(|d| d.status == 302)
    })
    .await;
    origin.answers(|_| OK);
    until("it is delivered", async || watermark(&*store).await == 1).await;
    assert!(origin.received().iter().all(|d| d.uri == "/hook?a=b"));
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn gone_pauses_until_it_is_resumed() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(|_| Reply::status(410));
    append(&*store, 1..=1, 1).await;
    let relay = start(&store, &config(&origin, QUICK));
    let keys = Keys::new("t", "s");
    let paused = async || {
        restore::poll(&*store, &keys)
            .await
            .expect("readable")
            .control
            .0
            .paused
    };
    until("it is paused", paused).await;
    origin.answers(|_| OK);
    sleep(4 * QUICKLY.poll).await;
    assert_eq!(origin.received().len(), 1);
    set(&store, keys.control(), &Control::default()).await;
    until("it is delivered", async || watermark(&*store).await == 1).await;
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn private_addresses_are_not_connected_to_unless_allowed() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    append(&*store, 1..=1, 1).await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"] {
        let mut config = options(&format!(
            "url = \"http://{host}:{}/\"\nretry = {{ max_attempts = 1 }}",
            origin.address.port()
        ));
        // A name that resolves to such an address may stand in a file; the address itself may not.
        config.subscriptions[0].1.allow_private_addresses = false;
        let store = Arc::new(InMemoryStore::new());
        append(&*store, 1..=1, 1).await;
        let relay = start(&store, &config);
        until("it is given up", async || dead(&store).await.len() == 1).await;
        assert_eq!(
            dead(&store).await[0].last_error,
            "the origin's address is not a public one",
            "{host}"
        );
        relay.shutdown(PATIENCE).await;
    }
    assert_eq!(origin.received().len(), 0);
}

#[tokio::test]
async fn a_shutdown_waits_for_the_delivery_under_way() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(|_| OK.after(Duration::from_millis(600)));
    append(&*store, 1..=20, 1).await;
    let relay = start(&store, &config(&origin, QUICK));
    until("a delivery is under way", async || !origin.received().is_empty()).await;
    relay.shutdown(PATIENCE).await;
    // One, or some more on a busy machine: the second begins when the first ends.
    let received = origin.received().len() as u64;
    assert!(received < 20, "the rest is left for the next start");
    assert_eq!(watermark(&*store).await, received);
}

#[tokio::test]
async fn a_stored_subscription_is_served_follows_its_changes_and_ends_with_its_record() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    let mut config = config(&origin, QUICK);
    let (_, settings) = config.subscriptions.remove(0);
    append(&*store, 1..=3, 3).await;
    let relay = start(&store, &config);
    let mut stored = Stored {
        id: "first".into(),
        by_id: false,
        settings,
        created_at: 1,
        updated_at: 1,
    };
    let key = format!("{PREFIX}t/s");
    set(&store, key.clone(), &stored).await;
    until("it is served", async || watermark(&*store).await == 3).await;
    let attempts = async |wanted| {
        let status = relay.status();
        status.first().is_some_and(|status| status.attempts == wanted)
    };
    until("its attempts are counted", async || attempts(3).await).await;

    stored.settings.url = format!("http://{}/other", origin.address);
    set(&store, key.clone(), &stored).await;
    until("another worker has taken over", async || attempts(0).await).await;
    append(&*store, 4..=4, 3).await;
    until("the change is followed", async || watermark(&*store).await == 4).await;
    assert_eq!(
        origin.received().last().map(|d| d.uri.clone()).as_deref(),
        Some("/other")
    );

    // Removed, and made anew under the same name: it begins with the first message again.
    let keys = Keys::new("t", "s");
    let mutations = vec![
        Mutation::Delete { key: key.clone() },
        Mutation::Delete { key: keys.progress() },
    ];
    store
        .commit(Commit {
            mutations,
            ..Commit::default()
        })
        .await
        .expect("removed");
    until("it has ended", async || relay.status().is_empty()).await;
    append(&*store, 5..=5, 3).await;
    sleep(4 * QUICKLY.follow).await;
    assert_eq!(origin.received().len(), 4);
    set(
        &store,
        key,
        &Stored {
            id: "second".into(),
            ..stored
        },
    )
    .await;
    until("the new one is served", async || watermark(&*store).await == 5).await;
    assert_eq!(origin.received().len(), 9);
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_thousand_refused_messages_hold_up_nobody_and_are_delivered_later() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(|delivery| {
        Reply::status(if delivery.number() < 1_101 { 422 } else { 200 }).after(Duration::ZERO)
    });
    append(&*store, 1..=1_110, 2_000).await;
    let patient = r#"
rate_per_second = 5000
retry = { schedule = ["4s", "2s", "2s", "2s", "2s"] }
"#;
    let relay = start(&store, &config(&origin, patient));
    until("those behind are delivered", async || by_key(&origin).len() == 10).await;
    origin.answers(|_| OK);
    let none_waits = async || {
        let left = store.scan(&Keys::new("t", "s").retry_prefix(), None, 1).await;
        left.expect("readable").is_empty() && watermark(&*store).await == 1_110
    };
    until("all are delivered", none_waits).await;
    assert_eq!(by_key(&origin).len(), 1_110);
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_final_status_makes_a_dead_letter_at_once() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(refusing_id("m2"));
    append(&*store, 1..=3, 1).await;
    let relay = start(&store, &config(&origin, "retry = { final = [422, 500] }"));
    until("all is finished", async || watermark(&*store).await == 3).await;
    let letters = dead(&store).await;
    assert_eq!(
        (letters.len(), letters[0].sequence, letters[0].attempts),
        (1, 2, 1)
    );
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn connections_that_the_origin_closed_while_idle_cost_no_attempt() {
    for idle in [Some(Duration::from_millis(40)), None] {
        let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
        match idle {
            Some(idle) => origin.closes_after(idle),
            // It takes the second request and says nothing.
            None => origin.answers(|delivery| match delivery.nth_of_connection {
                1 => OK,
                _ => HANG_UP,
            }),
        }
        let relay = start(&store, &config(&origin, "retry = { max_attempts = 1 }"));
        for n in 1..=12 {
            append(&*store, n..=n, 1).await;
            until("it is finished", async || watermark(&*store).await == n).await;
            sleep(Duration::from_millis(36 + n)).await;
        }
        assert_eq!(dead(&store).await, [], "{idle:?}");
        let answered = origin.received().iter().filter(|d| d.status == 200).count();
        assert_eq!(answered, 12, "{idle:?}");
        relay.shutdown(PATIENCE).await;
    }
}

#[tokio::test]
async fn an_answer_with_many_headers_is_an_answer() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    origin.answers(|_| OK.with_headers(1_000));
    append(&*store, 1..=1, 1).await;
    let relay = start(&store, &config(&origin, "retry = { max_attempts = 1 }"));
    until("it is finished", async || watermark(&*store).await == 1).await;
    assert_eq!(dead(&store).await, []);
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn the_gateway_itself_is_no_target_by_whatever_name() {
    let origin = Origin::start().await;
    let port = origin.address.port();
    for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
        let store = Arc::new(InMemoryStore::new());
        append(&*store, 1..=1, 1).await;
        let config = options(&format!(
            "url = \"http://{host}:{port}/\"\nretry = {{ max_attempts = 1 }}"
        ));
        let relay = start(&store, &config);
        relay.listens_on(SocketAddr::from(([0, 0, 0, 0], port)));
        until("it is given up", async || dead(&store).await.len() == 1).await;
        let error = dead(&store).await.remove(0).last_error;
        assert_eq!(error, "the target is the gateway itself", "{host}");
        relay.shutdown(PATIENCE).await;
    }
    assert_eq!(origin.received().len(), 0);
}

/// The supervisor looks once a second; the word of a caller counts at once.
#[tokio::test]
async fn nothing_starts_after_a_subscription_was_removed_or_changed_or_paused() {
    let (origin, store) = (Origin::start().await, Arc::new(InMemoryStore::new()));
    let mut config = config(&origin, QUICK);
    let (_, settings) = config.subscriptions.remove(0);
    // As in a gateway: the shorter its intervals, the less would be left to the word of a caller.
    config.intervals = Intervals::default();
    let relay = start(&store, &config);
    let key = format!("{PREFIX}t/s");
    let stored = |id: &str, path: &str| Stored {
        id: id.into(),
        by_id: true,
        settings: tollgate_delivery::subscription::Subscription {
            url: format!("http://{}/{path}", origin.address),
            ..settings.clone()
        },
        created_at: 1,
        updated_at: 1,
    };
    let reached = |path: &str| origin.received().iter().filter(|d| d.uri == path).count();
    let mut next = 1;
    for round in 1..=3 {
        set(&store, key.clone(), &stored(&format!("a{round}"), "a")).await;
        append(&*store, next..=next, 3).await;
        let before = reached("/a");
        until("it is served", async || reached("/a") > before).await;
        until("all that was there", async || {
            reached("/a") >= before + next as usize
        })
        .await;
        // Changed, removed, or paused; and at once messages come.
        match round {
            1 => set(&store, key.clone(), &stored("a1", "b")).await,
            2 => {
                let delete = Mutation::Delete { key: key.clone() };
                let commit = Commit {
                    mutations: vec![delete],
                    ..Commit::default()
                };
                store.commit(commit).await.expect("removed");
                set(&store, key.clone(), &stored("b2", "b")).await;
            }
            _ => {
                let control = Keys::of_id("t", "a3").control();
                set(&store, control, &Control::paused(PauseReason::Requested, 1)).await;
            }
        }
        let stopped = reached("/a");
        append(&*store, next + 1..=next + 5, 3).await;
        if round == 3 {
            sleep(Duration::from_secs(2)).await;
        } else {
            let wanted = if round == 1 { 5 } else { next as usize + 5 };
            let before = reached("/b");
            until("the new target has them", async || {
                reached("/b") >= before + wanted
            })
            .await;
        }
        assert_eq!(reached("/a"), stopped, "round {round}");
        next += 6;
    }
    relay.shutdown(PATIENCE).await;
}
