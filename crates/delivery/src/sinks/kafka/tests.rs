//! The sink against servers that do what a test says. What real ones do, the contract suite tells.

mod server;

use std::collections::BTreeMap;

use super::*;
use crate::sinks::http::OwnAddress;
use server::{Cluster as Fake, Fault};

const SOURCE: &str = "http://localhost:3000/api/topics/t";

fn settings(url: String) -> Subscription {
    let mut settings = Subscription::new("s", url);
    settings.kind = crate::subscription::SinkKind::Kafka;
    settings.allow_private_addresses = true;
    settings.timeout = tollgate_api::units::Span::from_millis(3_000);
    settings
}

fn opened(settings: &Subscription, public_url: &str) -> KafkaSink {
    let reach = Arc::new(Reach::new(Arc::new(OwnAddress::new(public_url))));
    KafkaSink::open(&reach, settings, SOURCE.to_owned()).expect("good settings")
}

fn sink(fake: &Fake) -> KafkaSink {
    opened(&settings(fake.url()), "https://go.example")
}

fn message(id: u64, key: &str) -> Arc<Message> {
    Arc::new(Message {
        topic: "t".into(),
        sequence: id,
        id: format!("m{id}"),
        key: key.into(),
        time: 1_800_000_000_000,
        payload: b"{}".to_vec(),
        ..Message::default()
    })
}

async fn deliver(sink: &KafkaSink, id: u64) -> Delivered {
    sink.deliver(message(id, "k"), None).await.delivered
}

fn why(delivered: &Delivered) -> &str {
    match delivered {
        Delivered::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// Each of these, once.
fn has(fake: &Fake, count: u64) {
    let mut log = fake.log();
    log.sort_by_key(|id| id[1..].parse::<u64>().expect("a number"));
    let expected: Vec<String> = (1..=count).map(|id| format!("m{id}")).collect();
    assert_eq!(log, expected);
}

#[tokio::test]
async fn a_partition_is_followed_to_the_server_that_leads_it_now() {
    let fake = Fake::start(2, 3).await;
    let sink = sink(&fake);
    assert_eq!(deliver(&sink, 1).await, Delivered::Accepted);
    fake.move_all();
    assert_eq!(deliver(&sink, 2).await, Delivered::Accepted);
    fake.lead_by_nobody(true);
    let refused = deliver(&sink, 3).await;
    assert!(
        why(&refused).contains("nobody leads") || why(&refused).contains("NOT_LEADER"),
        "{refused:?}"
    );
    fake.lead_by_nobody(false);
    assert_eq!(deliver(&sink, 3).await, Delivered::Accepted);
    has(&fake, 3);
}

#[tokio::test]
async fn a_message_whose_answers_were_lost_is_settled_by_the_next_one() {
    let fake = Fake::start(1, 1).await;
    let sink = sink(&fake);
    assert_eq!(deliver(&sink, 1).await, Delivered::Accepted);
    // On the connection that is there, and on the new one.
    fake.faults([Fault::LoseAnswer, Fault::LoseAnswer]);
    let lost = deliver(&sink, 2).await;
    assert!(why(&lost).ends_with("the connection ended"));
    fake.faults([Fault::LoseRequest]);
    assert!(matches!(
        deliver(&sink, 3).await,
        Delivered::Refused {
            blame: Blame::Origin,
            is_final: false,
            ..
        }
    ));
    assert_eq!(deliver(&sink, 4).await, Delivered::Accepted);
    let asked = fake.produced();
    assert_eq!(
        deliver(&sink, 2).await,
        Delivered::Accepted,
        "it was there all the time"
    );
    assert_eq!(fake.produced(), asked, "nothing was sent for it");
    assert_eq!(deliver(&sink, 3).await, Delivered::Accepted);
    has(&fake, 4);
}

#[tokio::test]
async fn a_server_that_says_nothing_leaves_a_doubt_that_is_settled_later() {
    let fake = Fake::start(1, 1).await;
    let mut settings = settings(fake.url());
    settings.timeout = tollgate_api::units::Span::from_millis(300);
    let sink = opened(&settings, "https://go.example");
    fake.faults([Fault::Silence]);
    assert_eq!(deliver(&sink, 1).await, judge::timed_out());
    let all = join_all((2..=5).map(|id| deliver(&sink, id))).await;
    assert!(
        all.iter().all(|delivered| *delivered == Delivered::Accepted),
        "{all:?}"
    );
    assert_eq!(deliver(&sink, 1).await, Delivered::Accepted);
    has(&fake, 5);
}

#[tokio::test]
async fn a_message_that_is_never_taken_costs_no_other_and_is_final() {
    let fake = Fake::start(1, 1).await;
    let sink = sink(&fake);
    fake.refuses_bytes(b"ce_id\x04m3", 10);
    let together: Vec<_> = (1..=5).map(|id| (message(id, &format!("k{id}")), 1)).collect();
    let report = sink.deliver_together(&together).await;
    assert!(
        matches!(&report.delivered, Delivered::Refused { blame: Blame::Message, why, .. } if why.contains("MESSAGE_TOO_LARGE")),
        "{report:?}"
    );
    for id in 1..=5 {
        let delivered = sink.deliver(message(id, &format!("k{id}")), None).await.delivered;
        let is_final = matches!(
            delivered,
            Delivered::Refused {
                blame: Blame::Message,
                is_final: true,
                ..
            }
        );
        assert_eq!(
            (delivered == Delivered::Accepted, is_final),
            (id != 3, id == 3),
            "{id}"
        );
    }
    let mut log = fake.log();
    log.sort();
    assert_eq!(
        log,
        ["m1", "m2", "m4", "m5"],
        "each once, though a batch was refused"
    );
}

#[tokio::test]
async fn a_cluster_that_forgot_this_producer_is_begun_with_anew() {
    let fake = Fake::start(1, 2).await;
    let sink = sink(&fake);
    for id in 1..=6 {
        assert_eq!(
            sink.deliver(message(id, &format!("k{id}")), None).await.delivered,
            Delivered::Accepted
        );
    }
    fake.forget_producers(0);
    fake.forget_producers(1);
    for id in 7..=12 {
        assert_eq!(
            sink.deliver(message(id, &format!("k{id}")), None).await.delivered,
            Delivered::Accepted
        );
    }
    has(&fake, 12);
}

#[tokio::test]
async fn what_waits_for_one_server_goes_together_and_a_key_has_one_partition() {
    let fake = Fake::start(2, 4).await;
    let sink = sink(&fake);
    let keyed = |id: u64| sink.deliver(message(id, &format!("k{}", id % 5)), None);
    let all = join_all((1..=100).map(keyed)).await;
    assert!(all.iter().all(|report| report.delivered == Delivered::Accepted));
    assert!(
        fake.produced() < 50,
        "{} requests for 100 messages",
        fake.produced()
    );
    has(&fake, 100);
    let mut places = BTreeMap::<u64, i32>::new();
    for (partition, ids) in fake.partitions() {
        for id in ids {
            let key = id[1..].parse::<u64>().expect("a number") % 5;
            assert_eq!(*places.entry(key).or_insert(partition), partition, "{id}");
        }
    }
    let expected = murmur::partition(b"k1", 4) as i32;
    assert_eq!(places[&1], expected, "as Kafka's own producers have it");
}

#[tokio::test]
async fn a_server_that_the_cluster_names_is_judged_as_the_one_of_the_subscription() {
    let fake = Fake::start(1, 1).await;
    // The only address that the cluster names is the gateway's own.
    fake.advertise(Some(("127.0.0.1", 3_000)));
    let sink = opened(&settings(fake.url()), "http://127.0.0.1:3000");
    let refused = deliver(&sink, 1).await;
    assert!(
        why(&refused).contains("says that it is at 127.0.0.1:3000: the target is the gateway itself"),
        "{refused:?}"
    );
    assert!(fake.log().is_empty());
    fake.advertise(Some(("127.0.0.1", -1)));
    fake.move_all();
    assert!(
        why(&deliver(&sink, 1).await).contains("does not say where"),
        "no port"
    );
    // It says where it is again.
    fake.advertise(None);
    assert_eq!(deliver(&sink, 1).await, Delivered::Accepted);
    has(&fake, 1);
}

#[tokio::test]
async fn a_private_server_is_not_reached_by_the_name_of_a_public_one() {
    let fake = Fake::start(1, 1).await;
    let mut settings = settings(fake.url());
    settings.allow_private_addresses = false;
    let refused = deliver(&opened(&settings, "https://go.example"), 1).await;
    assert!(why(&refused).contains("not a public one"), "{refused:?}");
}

#[tokio::test]
async fn a_server_of_the_url_that_is_gone_is_passed_over() {
    let fake = Fake::start(2, 2).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = gone.local_addr().expect("bound");
    drop(gone);
    let with = |hosts: String| opened(&settings(format!("kafka://{hosts}/t")), "https://go.example");
    let good = fake.url().replace("kafka://", "");
    let sink = with(format!("{address},{good}"));
    assert_eq!(deliver(&sink, 1).await, Delivered::Accepted);
    has(&fake, 1);
    let refused = deliver(&with(format!("{address},{address}")), 2).await;
    assert!(
        matches!(
            &refused,
            Delivered::Refused {
                blame: Blame::Unreachable,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(why(&refused).contains(&address.to_string()), "{refused:?}");
}

#[tokio::test]
async fn answers_that_make_no_sense_end_the_attempt_and_nothing_else() {
    let fake = Fake::start(1, 1).await;
    let sink = sink(&fake);
    for bytes in [
        &b""[..],
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x04\0\0\0\x63",
        b"\0\0\0\x08\0\0\0\x02\x7f\xff\xff\xff",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        fake.faults([Fault::Garbage(bytes), Fault::Garbage(bytes)]);
        let refused = deliver(&sink, 1).await;
        assert!(
            matches!(
                refused,
                Delivered::Refused {
                    blame: Blame::Origin,
                    ..
                }
            ),
            "{bytes:?}: {refused:?}"
        );
    }
    fake.faults([]);
    assert_eq!(deliver(&sink, 1).await, Delivered::Accepted);
    has(&fake, 1);
}

#[tokio::test]
async fn a_login_is_told_apart_from_one_that_is_refused_and_no_answer_has_the_password() {
    let fake = Fake::start(1, 1).await;
    fake.knows("tollgate", "correct horse");
    let url = fake.url().replace("kafka://", "kafka://tollgate@");
    let with = |password: Option<&str>, mechanism| {
        let mut settings = settings(url.clone());
        settings.password = password.map(|password| password.to_owned().into());
        settings.mechanism = Some(mechanism);
        opened(&settings, "https://go.example")
    };
    use crate::subscription::Mechanism::{Plain, ScramSha512};
    for (password, mechanism, said) in [
        (None, Plain, "password: is needed"),
        (Some("hunter2"), Plain, "SASL_AUTHENTICATION_FAILED"),
        (Some("correct horse"), ScramSha512, "it knows PLAIN"),
    ] {
        let refused = deliver(&with(password, mechanism), 1).await;
        assert!(why(&refused).contains(said), "{refused:?}");
        assert!(
            !why(&refused).contains("hunter2") && !why(&refused).contains("horse"),
            "{refused:?}"
        );
    }
    assert_eq!(
        deliver(&with(Some("correct horse"), Plain), 1).await,
        Delivered::Accepted
    );
}

#[tokio::test]
async fn a_partition_that_is_begun_with_anew_leaves_the_doubt_of_another_as_it_is() {
    let fake = Fake::start(1, 2).await;
    let sink = sink(&fake);
    let keys: Vec<String> = (0..2)
        .filter_map(|partition| {
            (0..99)
                .map(|n| format!("k{n}"))
                .find(|key| murmur::partition(key.as_bytes(), 2) == partition)
        })
        .collect();
    let of = |id: u64, partition: usize| sink.deliver(message(id, &keys[partition]), None);
    assert_eq!(of(1, 0).await.delivered, Delivered::Accepted);
    assert_eq!(of(2, 1).await.delivered, Delivered::Accepted);
    fake.faults([Fault::LoseAnswer, Fault::LoseAnswer]);
    assert_ne!(
        of(3, 0).await.delivered,
        Delivered::Accepted,
        "it is there, and its answer was lost"
    );
    fake.forget_producers(1);
    assert_eq!(
        of(4, 1).await.delivered,
        Delivered::Accepted,
        "by another identity"
    );
    assert_eq!(
        of(3, 0).await.delivered,
        Delivered::Accepted,
        "known by the identity of before"
    );
    assert_eq!(of(5, 0).await.delivered, Delivered::Accepted);
    has(&fake, 5);
}

#[tokio::test]
async fn a_server_that_is_gone_keeps_no_other_from_being_asked() {
    let fake = Fake::start(2, 1).await;
    let sink = sink(&fake);
    assert_eq!(deliver(&sink, 1).await, Delivered::Accepted);
    // The only one that the subscription names; the other leads now.
    fake.hangs_up(0);
    fake.move_all();
    assert!(why(&deliver(&sink, 2).await).contains("the connection ended"));
    assert_eq!(deliver(&sink, 2).await, Delivered::Accepted, "as the other says");
    has(&fake, 2);
}

#[tokio::test]
async fn a_login_that_has_ended_is_made_again() {
    let fake = Fake::start(1, 1).await;
    fake.knows("tollgate", "correct horse");
    let mut settings = settings(fake.url().replace("kafka://", "kafka://tollgate@"));
    settings.password = Some("correct horse".to_owned().into());
    settings.mechanism = Some(crate::subscription::Mechanism::Plain);
    let sink = opened(&settings, "https://go.example");
    assert_eq!(deliver(&sink, 1).await, Delivered::Accepted);
    fake.faults([Fault::LoginEnded]);
    assert_eq!(deliver(&sink, 2).await, Delivered::Accepted);
    has(&fake, 2);
}
