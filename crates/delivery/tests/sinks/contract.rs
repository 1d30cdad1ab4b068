//! What every sink has to hold, whatever it leads to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;
use tollgate_delivery::driver::{Relay, SubscriptionStatus};
use tollgate_store::memory::InMemoryStore;

use crate::proxy::Proxy;
use crate::server::{Process, SHORT};
use crate::{PATIENCE, QUICK, append, dead, options, start, until, watermark};

/// A message as its receiver has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub id: String,
    pub key: String,
    pub data: String,
}

/// A real server of one kind.
pub trait Server: Sized {
    /// Whether a message that was taken is known when it comes again.
    const DEDUPLICATES: bool;
    /// Bytes that only a request with a message has.
    const MARKS: &'static [u8];
    /// `None` if it is not installed.
    async fn start() -> Option<Self>;
    /// Of a subscription that leads to it, at this address; as TOML.
    fn settings(&self, address: SocketAddr) -> String;
    /// The program.
    fn process(&mut self) -> &mut Process;
    /// It ends at once.
    async fn kill(&mut self) {
        self.process().kill();
    }
    /// It is back, with what it had.
    async fn restart(&mut self) {
        self.process().restart().await;
    }
    /// A way to it that may lose answers, and which clients take. Nothing was sent to it before.
    async fn behind_proxy(&mut self) -> Proxy {
        Proxy::start(self.process().address, Self::MARKS).await
    }
    /// What it has, in the order it keeps.
    async fn taken(&mut self) -> Vec<Taken>;
    /// It answers that it takes nothing, or takes what comes again.
    async fn refuse(&mut self, refuses: bool);
}

struct World<S> {
    server: S,
    store: Arc<InMemoryStore>,
}

impl<S: Server> World<S> {
    async fn new() -> Option<Self> {
        let server = S::start().await?;
        let store = Arc::new(InMemoryStore::new());
        Some(Self { server, store })
    }

    fn relay(&mut self, more: &str) -> Relay {
        let address = self.server.process().address;
        self.relay_at(address, more)
    }

    fn relay_at(&self, address: SocketAddr, more: &str) -> Relay {
        let settings = self.server.settings(address);
        start(
            &self.store,
            &options(&format!("{settings}\nallow_private_addresses = true\n{more}")),
        )
    }

    async fn delivered(&self, up_to: u64) {
        until("all is delivered", async || {
            watermark(&*self.store).await >= up_to
        })
        .await;
    }

    /// Each message, once; in order per key.
    async fn has_all(&mut self, count: u64) {
        let taken = self.server.taken().await;
        let mut ids: Vec<u64> = taken.iter().map(number).collect();
        let orders = by_key(&taken);
        ids.sort_unstable();
        assert_eq!(ids, (1..=count).collect::<Vec<_>>(), "each once");
        for (key, order) in orders {
            assert!(order.is_sorted(), "{key}: {order:?}");
        }
        assert!(dead(&self.store).await.is_empty());
    }
}

fn number(taken: &Taken) -> u64 {
    taken.id.trim_start_matches('m').parse().expect("an id of ours")
}

/// The sequences of each key, in the order in which they were taken first.
fn by_key(taken: &[Taken]) -> BTreeMap<String, Vec<u64>> {
    let mut found = BTreeMap::<String, Vec<u64>>::new();
    for one in taken {
        let (order, number) = (found.entry(one.key.clone()).or_default(), number(one));
        if !order.contains(&number) {
            order.push(number);
        }
    }
    found
}

fn status(relay: &Relay) -> SubscriptionStatus {
    relay.status().remove(0)
}

pub async fn what_is_accepted_is_there_once_and_in_order<S: Server>() {
    let Some(mut world) = World::<S>::new().await else {
        return;
    };
    append(&*world.store, 1..=200, 20).await;
    let relay = world.relay(QUICK);
    world.delivered(200).await;
    world.has_all(200).await;
    let first = world.server.taken().await.remove(0);
    let n = number(&first);
    assert_eq!(first.key, format!("k{}", n % 20));
    assert!(first.data.contains(&format!("u{n}@example.com")), "{first:?}");
    relay.shutdown(PATIENCE).await;
}

pub async fn a_server_that_refuses_gets_all_when_it_takes_again<S: Server>() {
    let Some(mut world) = World::<S>::new().await else {
        return;
    };
    world.server.refuse(true).await;
    append(&*world.store, 1..=20, 4).await;
    let relay = world.relay(QUICK);
    until("it is refused", async || {
        relay
            .status()
            .first()
            .is_some_and(|status| status.attempts > 1 && status.delivered == 0)
    })
    .await;
    assert!(world.server.taken().await.is_empty());
    world.server.refuse(false).await;
    world.delivered(20).await;
    world.has_all(20).await;
    relay.shutdown(PATIENCE).await;
}

pub async fn a_server_that_is_gone_gets_the_rest_when_it_returns<S: Server>() {
    let Some(mut world) = World::<S>::new().await else {
        return;
    };
    append(&*world.store, 1..=50, 5).await;
    let few = "retry = { initial = \"50ms\", cap = \"100ms\", max_attempts = 6 }";
    let relay = world.relay(few);
    world.delivered(50).await;
    world.server.kill().await;
    append(&*world.store, 51..=100, 50).await;
    until("the breaker opens", async || {
        status(&relay).machine.breaker != "closed"
    })
    .await;
    world.server.restart().await;
    world.delivered(100).await;
    world.has_all(100).await;
    relay.shutdown(PATIENCE).await;
}

pub async fn a_server_that_says_nothing_is_waited_for_no_longer_than_allowed<S: Server>() {
    let Some(mut world) = World::<S>::new().await else {
        return;
    };
    append(&*world.store, 1..=1, 1).await;
    let relay = world.relay(&format!("timeout = \"300ms\"\n{QUICK}"));
    world.delivered(1).await;
    world.server.process().freeze(true);
    let began = Instant::now();
    append(&*world.store, 2..=4, 3).await;
    until("an attempt has ended", async || status(&relay).attempts > 1).await;
    assert!(began.elapsed() < 10 * SHORT, "{:?}", began.elapsed());
    world.server.process().freeze(false);
    world.delivered(4).await;
    let taken = world.server.taken().await;
    let mut ids: Vec<u64> = taken.iter().map(number).collect();
    ids.sort_unstable();
    // What was sent before the time was over is read when the server goes on.
    ids.dedup();
    assert_eq!(ids, [1, 2, 3, 4]);
    if S::DEDUPLICATES {
        assert_eq!(taken.len(), 4, "{taken:?}");
    }
    relay.shutdown(PATIENCE).await;
}

pub async fn a_lost_answer_makes_no_second_message_where_the_target_can_tell<S: Server>() {
    let Some(mut world) = World::<S>::new().await else {
        return;
    };
    let proxy = world.server.behind_proxy().await;
    let relay = world.relay_at(proxy.address, QUICK);
    append(&*world.store, 1..=10, 5).await;
    world.delivered(10).await;
    proxy.loses(5);
    append(&*world.store, 11..=60, 5).await;
    world.delivered(60).await;
    assert!(proxy.lost() >= 3, "{} answers were lost", proxy.lost());
    if S::DEDUPLICATES {
        world.has_all(60).await;
    } else {
        let taken = world.server.taken().await;
        assert_eq!(by_key(&taken).values().map(Vec::len).sum::<usize>(), 60);
        assert!(taken.len() > 60, "the proxy lost answers to what was taken");
    }
    relay.shutdown(PATIENCE).await;
}

pub async fn batches_are_taken_whole<S: Server>() {
    let Some(mut world) = World::<S>::new().await else {
        return;
    };
    append(&*world.store, 1..=120, 120).await;
    let proxy = world.server.behind_proxy().await;
    let more = format!("batch = 50\nbatch_interval = \"50ms\"\n{QUICK}");
    let relay = world.relay_at(proxy.address, &more);
    proxy.loses(1);
    world.delivered(120).await;
    world.has_all(120).await;
    until("attempts are counted", async || status(&relay).delivered > 0).await;
    assert!(status(&relay).attempts < 40, "{:?}", status(&relay));
    relay.shutdown(PATIENCE).await;
}

pub async fn an_orderly_stop_repeats_nothing_and_a_start_goes_on<S: Server>() {
    let Some(mut world) = World::<S>::new().await else {
        return;
    };
    append(&*world.store, 1..=300, 20).await;
    for part in 1..=3 {
        let relay = world.relay(QUICK);
        until("a part is delivered", async || {
            watermark(&*world.store).await >= part * 60
        })
        .await;
        relay.shutdown(PATIENCE).await;
        let (kept, taken) = (watermark(&*world.store).await, world.server.taken().await);
        assert!(taken.len() as u64 >= kept);
    }
    let relay = world.relay(QUICK);
    world.delivered(300).await;
    relay.shutdown(PATIENCE).await;
    world.has_all(300).await;
}

pub async fn a_private_address_is_not_connected_to_unless_it_may_be<S: Server>() {
    let Some(mut world) = World::<S>::new().await else {
        return;
    };
    append(&*world.store, 1..=1, 1).await;
    let address = world.server_address();
    let settings = world.server.settings(address);
    let relay = start(&world.store, &options(&format!("{settings}\n{QUICK}")));
    until("it is refused", async || {
        relay.status().first().is_some_and(|status| status.attempts > 1)
    })
    .await;
    assert!(world.server.taken().await.is_empty());
    relay.shutdown(PATIENCE).await;
    // The gateway itself is no target either, whatever the subscription may.
    let mut options = options(&format!("{settings}\nallow_private_addresses = true\n{QUICK}"));
    options.public_url = format!("http://{}", world.server_address());
    let relay = start(&world.store, &options);
    until("it is refused", async || {
        relay.status().first().is_some_and(|status| status.attempts > 1)
    })
    .await;
    assert!(world.server.taken().await.is_empty());
    relay.shutdown(PATIENCE).await;
}

impl<S: Server> World<S> {
    fn server_address(&mut self) -> SocketAddr {
        self.server.process().address
    }
}

/// The suite for one kind of server.
macro_rules! holds {
    ($server:ty: $($case:ident)*) => {
        $(#[tokio::test] async fn $case() { $crate::contract::$case::<$server>().await; })*
    };
}
pub(crate) use holds;

/// All of it.
macro_rules! contract {
    ($server:ty) => {
        $crate::contract::holds! { $server:
            what_is_accepted_is_there_once_and_in_order
            a_server_that_refuses_gets_all_when_it_takes_again
            a_server_that_is_gone_gets_the_rest_when_it_returns
            a_server_that_says_nothing_is_waited_for_no_longer_than_allowed
            a_lost_answer_makes_no_second_message_where_the_target_can_tell
            batches_are_taken_whole
            an_orderly_stop_repeats_nothing_and_a_start_goes_on
            a_private_address_is_not_connected_to_unless_it_may_be
        }
    };
}
pub(crate) use contract;
