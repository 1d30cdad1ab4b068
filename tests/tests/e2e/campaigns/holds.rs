//! Claims that are held: confirmed, released, revoked or expired, once each, whoever asks and however the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::{Value, json};

use super::{announced, claim, claims, state};
use crate::harness::{ADMIN_KEY, Answer, Gateway, Host, eventually};

pub(super) async fn settle(gateway: &Gateway, campaign: &str, user: &str, id: &str, verb: &str) -> Answer {
    let path = format!("{}/{id}/{verb}", claims(campaign));
    gateway.post(&path).user(user).send().await
}

/// A claim that is held: its id.
pub(super) async fn held(gateway: &Gateway, campaign: &str, user: &str) -> String {
    let answer = claim(gateway, campaign, user).await.expect(201).json();
    assert_eq!(answer["claim"]["status"], "held", "{answer}");
    answer["claim"]["id"]
        .as_str()
        .expect("a claim has an id")
        .to_owned()
}

/// Held, confirmed, released, remaining.
async fn counters(gateway: &Gateway, campaign: &str) -> [u64; 4] {
    let state = state(gateway, campaign).await;
    ["held", "confirmed", "released", "remaining"].map(|name| state[name].as_u64().expect("a number"))
}

pub async fn held_claim_is_confirmed_released_or_revoked(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway
        .campaign(3, json!({ "holdSeconds": 600, "codes": "generate" }))
        .await;
    let answer = claim(&gateway, &campaign, "ann").await.expect(201).json();
    assert_eq!(answer["claim"]["code"], Value::Null);
    let ann = answer["claim"]["id"].as_str().expect("an id").to_owned();
    let (bob, cleo) = (
        held(&gateway, &campaign, "bob").await,
        held(&gateway, &campaign, "cleo").await,
    );
    assert_eq!(counters(&gateway, &campaign).await, [3, 0, 0, 0]);
    let full = claim(&gateway, &campaign, "dan").await;
    assert_eq!(full.problem(410, "sold-out")["held"], 3);
    let wait: u64 = full.header("retry-after").parse().expect("seconds");
    assert!((1..=600).contains(&wait), "{}", full.shown());

    let confirmed = settle(&gateway, &campaign, "ann", &ann, "confirm")
        .await
        .expect(200)
        .json();
    assert_eq!(confirmed["claim"]["status"], "confirmed");
    assert_eq!(confirmed["claim"]["code"].as_str().map(str::len), Some(10));
    let again = settle(&gateway, &campaign, "ann", &ann, "confirm")
        .await
        .expect(200)
        .json();
    assert_eq!(again, confirmed);
    settle(&gateway, &campaign, "ann", &ann, "release")
        .await
        .problem(409, "conflict");

    settle(&gateway, &campaign, "ann", &bob, "release")
        .await
        .problem(403, "forbidden");
    for _ in 0..2 {
        let released = settle(&gateway, &campaign, "bob", &bob, "release")
            .await
            .expect(200)
            .json();
        assert_eq!(released["claim"]["status"], "released");
    }
    settle(&gateway, &campaign, "bob", &bob, "confirm")
        .await
        .problem(409, "conflict");
    settle(&gateway, &campaign, "cleo", &cleo, "revoke")
        .await
        .problem(401, "unauthorized");
    let key = gateway.key(&["campaigns"]).await;
    let revoke = format!("{}/{cleo}/revoke", claims(&campaign));
    gateway.post(&revoke).key(&key).send().await.expect(200);
    assert_eq!(counters(&gateway, &campaign).await, [0, 1, 2, 2]);
    let told = announced(&gateway, "coupon", &campaign).await;
    let told: Vec<_> = told
        .iter()
        .map(|message| {
            (
                message["type"].as_str().unwrap_or(""),
                message["data"]["user"].as_str().unwrap_or(""),
            )
        })
        .collect();
    let expected = [
        ("coupon.claimed", "ann"),
        ("coupon.claimed", "bob"),
        ("coupon.claimed", "cleo"),
        ("coupon.confirmed", "ann"),
        ("coupon.released", "bob"),
        ("coupon.revoked", "cleo"),
    ];
    assert_eq!(told, expected);
    // Whoever has given a claim back may claim again.
    let second = held(&gateway, &campaign, "bob").await;
    assert_ne!(second, bob);
}

pub async fn hold_has_one_end_however_many_ask_for_another(host: Host) {
    let gateway = Gateway::shared(host).await;
    let users = if host.is_spin() { 4 } else { 20 };
    let campaign = gateway.campaign(users, json!({ "holdSeconds": 600 })).await;
    let mut asked = Vec::new();
    for user in 0..users {
        let user = format!("user-{user}");
        let id = held(&gateway, &campaign, &user).await;
        for verb in ["confirm", "release", "confirm", "release"] {
            asked.push((user.clone(), id.clone(), verb));
        }
    }
    let all = asked.iter().map(|(user, id, verb)| async {
        let answer = settle(&gateway, &campaign, user, id, verb).await;
        (user.clone(), *verb, answer)
    });
    let answers = join_all(all).await;
    let mut ends: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (user, verb, answer) in answers {
        match answer.status {
            200 => _ = ends.entry(user).or_default().insert(verb),
            _ => _ = answer.problem(409, "conflict"),
        }
    }
    assert!(
        ends.len() as u64 == users && ends.values().all(|ends| ends.len() == 1),
        "{ends:?}"
    );
    let confirmed = ends.values().filter(|ends| ends.contains("confirm")).count() as u64;
    let released = users - confirmed;
    assert_eq!(
        counters(&gateway, &campaign).await,
        [0, confirmed, released, released]
    );
    assert_eq!(
        announced(&gateway, "coupon", &campaign).await.len() as u64,
        2 * users
    );
}

pub async fn units_of_ended_holds_go_to_whoever_asks(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(2, json!({ "holdSeconds": 1 })).await;
    let (ann, bob) = (
        held(&gateway, &campaign, "ann").await,
        held(&gateway, &campaign, "bob").await,
    );
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let late = settle(&gateway, &campaign, "ann", &ann, "confirm").await;
    assert_eq!(late.problem(410, "hold-expired")["claim"]["status"], "expired");
    // Nobody has asked for Bob's.
    let (cleo, dan) = tokio::join!(
        claim(&gateway, &campaign, "cleo"),
        claim(&gateway, &campaign, "dan")
    );
    cleo.expect(201);
    dan.expect(201);
    settle(&gateway, &campaign, "bob", &bob, "confirm")
        .await
        .problem(410, "hold-expired");
    let told = announced(&gateway, "coupon", &campaign).await;
    let expired = told
        .iter()
        .filter(|message| message["type"] == "coupon.expired")
        .count();
    assert!(expired >= 2, "{told:?}");
}

pub async fn units_of_ended_holds_are_seen_before_anybody_asks(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(1, json!({ "holdSeconds": 1 })).await;
    held(&gateway, &campaign, "ann").await;
    assert_eq!(state(&gateway, &campaign).await["state"], "soldOut");
    eventually("the unit is back", async || {
        (counters(&gateway, &campaign).await == [0, 0, 1, 1]).then_some(())
    })
    .await;
    assert_eq!(state(&gateway, &campaign).await["state"], "open");
}

/// What a buyer has been told.
#[derive(Debug, Default)]
struct Told {
    /// Claims that were answered as confirmed.
    confirmed: BTreeSet<String>,
    /// Claims that were answered as released.
    released: BTreeSet<String>,
}

/// One buyer: claims until nothing is left, then pays, fails and gives back, or fails and forgets. Nobody answers during a
/// crash: then it asks again.
async fn buy(gateway: &Gateway, campaign: &str, number: usize, done: &AtomicU64) -> Told {
    let user = format!("buyer-{}", number / 2); // each user is two buyers, of at most five tickets
    let mut told = Told::default();
    let path = claims(campaign);
    let ask = async |path: &str| loop {
        match gateway.post(path).user(&user).attempt().await {
            Ok(answer) if answer.status < 500 => return answer,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    loop {
        let answer = ask(&path).await;
        match answer.status {
            201 => {}
            409 => break,
            _ => {
                let problem = answer.problem(410, "sold-out");
                if problem["held"].is_null() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        }
        let id = answer.json()["claim"]["id"].as_str().expect("an id").to_owned();
        done.fetch_add(1, Ordering::Relaxed);
        match fastrand::u8(..4) {
            // The payment succeeds.
            0 | 1 => {
                let answer = ask(&format!("{path}/{id}/confirm")).await;
                if answer.status == 200 {
                    told.confirmed.insert(id);
                    break;
                }
                answer.problem(410, "hold-expired");
            }
            2 => {
                let answer = ask(&format!("{path}/{id}/release")).await;
                match answer.status {
                    200 => _ = told.released.insert(id),
                    _ => _ = answer.problem(410, "hold-expired"),
                }
            }
            // The window is closed: nobody says anything.
            _ => {}
        }
    }
    told
}

/// `examples/tickets` tells the same story by hand.
pub async fn hundred_tickets_are_sold_to_buyers_of_whom_half_fail_across_three_crashes(host: Host) {
    const BUYERS: usize = 2_000;
    const TICKETS: u64 = 100;
    let gateway = Gateway::start(host, "").await;
    let fields = json!({ "perUser": 5, "holdSeconds": 2 });
    let campaign = gateway.campaign(TICKETS, fields).await;
    let done = AtomicU64::new(0);
    let crashes = async {
        for after in [20, 60, 110] {
            while done.load(Ordering::Relaxed) < after {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            gateway.kill();
            gateway.restart().await;
        }
    };
    let buyers = futures::stream::iter(0..BUYERS).map(|number| buy(&gateway, &campaign, number, &done));
    let (told, ()) = tokio::join!(buyers.buffer_unordered(64).collect::<Vec<_>>(), crashes);

    assert_eq!(counters(&gateway, &campaign).await[..2], [0, TICKETS]);
    let state = state(&gateway, &campaign).await;
    assert_eq!(
        (&state["remaining"], &state["state"]),
        (&json!(0), &json!("soldOut"))
    );
    // The messages agree: each claim was claimed once, and then has one end.
    let mut ends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = 0;
    for message in announced(&gateway, "coupon", &campaign).await {
        let (data, kind) = (&message["data"], message["type"].as_str().unwrap_or(""));
        let claim = data["claim"].as_str().expect("a claim").to_owned();
        if kind == "coupon.claimed" {
            last += 1;
            assert_eq!(data["sequence"], last, "{message}");
        }
        ends.entry(claim).or_default().push(kind.to_owned());
    }
    let with = |kind: &str| -> BTreeSet<String> {
        let of_kind = ends.iter().filter(|(_, told)| told[1..] == [kind]);
        of_kind.map(|(claim, _)| claim.clone()).collect()
    };
    let (confirmed, released) = (with("coupon.confirmed"), with("coupon.released"));
    let expired = with("coupon.expired");
    assert_eq!(confirmed.len() as u64, TICKETS);
    assert_eq!(
        confirmed.len() + released.len() + expired.len(),
        ends.len(),
        "{ends:?}"
    );
    assert_eq!(state["released"], released.len() + expired.len());
    assert!(!released.is_empty() && !expired.is_empty(), "nobody failed");
    for one in &told {
        assert!(
            one.confirmed.is_subset(&confirmed) && one.released.is_subset(&released),
            "{one:?}"
        );
    }
    // Each user's own list says the same.
    let mut listed = 0;
    for user in 0..BUYERS / 2 {
        let path = format!("{}/buyer-{user}", claims(&campaign));
        let own = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
        let own = own["claims"].as_array().expect("a list").clone();
        listed += own.len();
        let kept = own.iter().filter(|one| one["status"] == "confirmed").count();
        assert!(kept <= 5, "{own:?}");
    }
    assert_eq!(listed, ends.len());
}
