//! NATS JetStream, with the server of that name.

use std::net::SocketAddr;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use futures::StreamExt as _;

use crate::contract::{Server, Taken, contract};
use crate::server::{Process, is_installed};
use crate::{PATIENCE, QUICK, append, options, start, until, watermark};

const PASSWORD: &str = "correct horse";
const STREAM: &str = "SIGNUPS";
const SUBJECT: &str = "sign-ups";

pub struct Nats(Process);

contract!(Nats);

impl Nats {
    async fn context(&self) -> jetstream::Context {
        let options = async_nats::ConnectOptions::with_user_and_password("tollgate".into(), PASSWORD.into());
        let client = options.connect(format!("nats://{}", self.0.address)).await;
        jetstream::new(client.expect("it runs"))
    }

    async fn stream(&self, subject: &str) {
        let config = stream::Config {
            name: STREAM.into(),
            subjects: vec![subject.into()],
            duplicate_window: Duration::from_secs(60),
            ..stream::Config::default()
        };
        self.context()
            .await
            .create_or_update_stream(config)
            .await
            .expect("a stream");
    }

    async fn messages(&self) -> Vec<jetstream::Message> {
        let context = self.context().await;
        let mut found = context.get_stream(STREAM).await.expect("a stream");
        let count = found.info().await.expect("it answers").state.messages;
        if count == 0 {
            return Vec::new();
        }
        let config = jetstream::consumer::pull::Config {
            ack_policy: jetstream::consumer::AckPolicy::None,
            ..Default::default()
        };
        let consumer = found.create_consumer(config).await.expect("a consumer");
        let messages = consumer.fetch().max_messages(count as usize).messages().await;
        let messages = messages.expect("messages").map(|one| one.expect("a message"));
        messages.collect().await
    }
}

impl Server for Nats {
    const DEDUPLICATES: bool = true;
    const MARKS: &'static [u8] = b"HPUB";

    async fn start() -> Option<Self> {
        if !is_installed("nats-server", "--version") {
            return None;
        }
        let process = Process::start(|address, directory| {
            let file = directory.join("nats.conf");
            let directory = directory.display();
            let text = format!(
                "listen: \"{address}\"\njetstream {{ store_dir: \"{directory}\" }}\n\
                 authorization {{ user: tollgate, password: \"{PASSWORD}\" }}\n"
            );
            std::fs::write(&file, text).expect("the directory is ours");
            vec![
                "nats-server".to_owned(),
                "-c".to_owned(),
                file.display().to_string(),
            ]
        })
        .await;
        let server = Self(process);
        server.stream(SUBJECT).await;
        Some(server)
    }

    fn settings(&self, address: SocketAddr) -> String {
        format!(
            "type = \"nats\"\nurl = \"nats://tollgate@{address}\"\npassword = \"{PASSWORD}\"\nsubject = \"{SUBJECT}\""
        )
    }

    fn process(&mut self) -> &mut Process {
        &mut self.0
    }

    async fn taken(&mut self) -> Vec<Taken> {
        let messages = self.messages().await;
        let taken = messages.iter().map(|message| {
            let headers = message.headers.as_ref().expect("every message has some");
            let header = |name: &str| {
                headers
                    .get(name)
                    .map(|value| value.to_string())
                    .unwrap_or_default()
            };
            Taken {
                id: header("Nats-Msg-Id"),
                key: header("ce-partitionkey"),
                data: String::from_utf8(message.payload.to_vec()).expect("UTF-8"),
            }
        });
        taken.collect()
    }

    /// Its stream takes another subject meanwhile.
    async fn refuse(&mut self, refuses: bool) {
        self.stream(if refuses { "other" } else { SUBJECT }).await;
    }
}

#[tokio::test]
async fn a_message_of_nats_is_an_event_with_its_id() {
    let Some(server) = Nats::start().await else { return };
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    let settings = server.settings(server.0.address);
    let relay = start(
        &store,
        &options(&format!("{settings}\nallow_private_addresses = true\n{QUICK}")),
    );
    until("it is delivered", async || watermark(&*store).await == 1).await;
    let message = server.messages().await.remove(0);
    let headers = message.headers.as_ref().expect("some");
    for (name, value) in [
        ("Nats-Msg-Id", "m1"),
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "m1"),
        ("ce-source", "http://localhost:3000/api/topics/t"),
        ("ce-type", "test.made"),
        ("ce-time", "2027-01-15T08:00:00Z"),
        ("ce-sequence", "1"),
        ("ce-partitionkey", "k0"),
    ] {
        assert_eq!(
            headers.get(name).map(|value| value.as_str()),
            Some(value),
            "{name}"
        );
    }
    assert!(headers.get("webhook-timestamp").is_none());
    assert_eq!(message.subject.as_str(), SUBJECT);
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn what_nats_refuses_is_told() {
    let Some(server) = Nats::start().await else { return };
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    let good = server.settings(server.0.address);
    for (settings, said) in [
        (good.replace(PASSWORD, "hunter2"), "uthorization"),
        (good.replace("sign-ups", "nobody"), "no stream takes this subject"),
    ] {
        let relay = start(
            &store,
            &options(&format!("{settings}\nallow_private_addresses = true\n{QUICK}")),
        );
        until(said, async || {
            let keys = tollgate_delivery::relay::record::Keys::new("t", "s");
            let error = tollgate_delivery::relay::restore::last_error(&*store, &keys).await;
            let error = error.expect("readable").unwrap_or_default();
            assert!(!error.contains("hunter2"), "{error}");
            error.contains(said)
        })
        .await;
        relay.shutdown(PATIENCE).await;
    }
}
