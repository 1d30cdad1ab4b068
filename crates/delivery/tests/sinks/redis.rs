//! Redis streams, with the server of that name.

use std::collections::HashMap;
use std::net::SocketAddr;

use redis::aio::MultiplexedConnection;

use crate::contract::{Server, Taken, contract};
use crate::server::{Process, is_installed};
use crate::{PATIENCE, QUICK, append, options, start, until, watermark};

const PASSWORD: &str = "correct horse";
/// What its database takes before it refuses: less than it has from the beginning on.
const NO_MEMORY: &str = "1";

pub struct Redis(Process);

contract!(Redis);

impl Redis {
    async fn connection(&self) -> MultiplexedConnection {
        let url = format!("redis://:{}@{}/0", PASSWORD.replace(' ', "%20"), self.0.address);
        let client = redis::Client::open(url).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("it runs")
    }

    async fn entries(&self, stream: &str) -> Vec<HashMap<String, String>> {
        let mut asked = redis::cmd("XRANGE");
        asked.arg(stream).arg("-").arg("+");
        let found: Vec<(String, HashMap<String, String>)> = asked
            .query_async(&mut self.connection().await)
            .await
            .expect("a stream");
        found.into_iter().map(|(_, fields)| fields).collect()
    }
}

impl Server for Redis {
    const DEDUPLICATES: bool = true;
    const MARKS: &'static [u8] = b"EVAL";

    async fn start() -> Option<Self> {
        if !is_installed("redis-server", "--version") {
            return None;
        }
        let process = Process::start(|address, directory| {
            let command = format!(
                "redis-server --port {} --bind 127.0.0.1 --appendonly yes --appendfsync always --save  --dir {} --requirepass",
                address.port(),
                directory.display()
            );
            command.split(' ').chain([PASSWORD]).map(str::to_owned).collect()
        })
        .await;
        Some(Self(process))
    }

    fn settings(&self, address: SocketAddr) -> String {
        format!(
            "type = \"redis\"\nurl = \"redis://{address}/0\"\npassword = \"{PASSWORD}\"\nstream = \"sign-ups\""
        )
    }

    fn process(&mut self) -> &mut Process {
        &mut self.0
    }

    async fn taken(&mut self) -> Vec<Taken> {
        let entries = self.entries("sign-ups").await;
        let taken = entries.into_iter().map(|mut fields| {
            let mut field = |name: &str| fields.remove(name).unwrap_or_default();
            Taken {
                id: field("id"),
                key: field("key"),
                data: field("data"),
            }
        });
        taken.collect()
    }

    async fn refuse(&mut self, refuses: bool) {
        let most = if refuses { NO_MEMORY } else { "0" };
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(most);
        let done: String = set
            .query_async(&mut self.connection().await)
            .await
            .expect("an option");
        assert_eq!(done, "OK");
    }
}

#[tokio::test]
async fn an_entry_has_the_message_in_fields_and_the_stream_is_kept_short() {
    let Some(server) = Redis::start().await else {
        return;
    };
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    append(&*store, 1..=500, 1).await;
    let settings = format!(
        "type = \"redis\"\nurl = \"redis://{}\"\npassword = \"{PASSWORD}\"\nmax_length = 100\nallow_private_addresses = true\nordered = false\n{QUICK}",
        server.0.address
    );
    let relay = start(&store, &options(&settings));
    until("all is delivered", async || watermark(&*store).await == 500).await;
    // The topic's name, where none is given. Redis cuts off whole nodes, of 100 entries unless it is told otherwise.
    let entries = server.entries("t").await;
    assert!((100..=250).contains(&entries.len()), "{}", entries.len());
    let last = entries
        .iter()
        .find(|one| one["id"] == "m500")
        .expect("the last one");
    for (name, value) in [
        ("topic", "t"),
        ("sequence", "500"),
        ("key", "k0"),
        ("type", "test.made"),
        ("time", "2027-01-15T08:00:00Z"),
        ("contentType", "application/json"),
        ("data", "{\"email\":\"u500@example.com\"}"),
    ] {
        assert_eq!(last[name], value, "{name}");
    }
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_wrong_password_or_kind_of_key_is_told_and_costs_no_message() {
    let Some(mut server) = Redis::start().await else {
        return;
    };
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    let wrong = server.settings(server.0.address).replace(PASSWORD, "hunter2");
    for (settings, said) in [
        (wrong, "uthentication failed"),
        (server.settings(server.0.address), "WRONGTYPE"),
    ] {
        let mut set = redis::cmd("SET");
        set.arg("sign-ups").arg("a string");
        let _: String = set
            .query_async(&mut server.connection().await)
            .await
            .expect("set");
        let options = options(&format!("{settings}\nallow_private_addresses = true\n{QUICK}"));
        let relay = start(&store, &options);
        until("it is told", async || {
            let keys = tollgate_delivery::relay::record::Keys::new("t", "s");
            let error = tollgate_delivery::relay::restore::last_error(&*store, &keys).await;
            error
                .expect("readable")
                .is_some_and(|error| error.contains(said) && !error.contains("hunter2"))
        })
        .await;
        relay.shutdown(PATIENCE).await;
    }
    let mut delete = redis::cmd("DEL");
    delete.arg("sign-ups");
    let _: u64 = delete
        .query_async(&mut server.connection().await)
        .await
        .expect("deleted");
    let options = options(&format!(
        "{}\nallow_private_addresses = true\n{QUICK}",
        server.settings(server.0.address)
    ));
    let relay = start(&store, &options);
    until("it is delivered", async || watermark(&*store).await == 1).await;
    assert_eq!(server.taken().await.len(), 1);
    relay.shutdown(PATIENCE).await;
}
