//! Challenges: a proof of work before a path, solved here by a solver of the test's own, by ALTCHA's library, and by a browser; tokens
//! that a provider checks, which is a server of the test's own with the manners of the real ones.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::dashboard::browser;
use crate::harness::{ADMIN_KEY, Delivery, Gateway, Host, Origin, Reply, crowd, unique};

const SETTINGS: &str = "[[challenges]]\nname = \"claims\"\npath = \"/api/campaigns/:id/claims\"\nmethods = [\"POST\"]\nkind = \"altcha\"\nmax_number = 2000";

/// Tries one number after the other, by the text of ALTCHA's documentation, and with nothing of ours.
fn solved(altcha: &Value) -> String {
    let text = |name: &str| altcha[name].as_str().expect("a text").to_owned();
    let (salt, challenge) = (text("salt"), text("challenge"));
    let most = altcha["maxnumber"].as_u64().expect("a number");
    let is_it = |number: &u64| {
        let hash = Sha256::digest(format!("{salt}{number}"));
        hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>() == challenge
    };
    let number = (0..=most).find(is_it).expect("one of them is the solution");
    let solution = json!({
        "algorithm": text("algorithm"), "challenge": challenge, "number": number, "salt": salt, "signature": text("signature"),
    });
    STANDARD.encode(solution.to_string())
}

pub async fn each_solution_lets_one_claim_through(host: Host) {
    let gateway = Gateway::start(host, SETTINGS).await;
    let campaign = gateway.campaign(50, json!({})).await;
    let path = format!("/api/campaigns/{campaign}/claims");
    let refused = gateway
        .post(&path)
        .user("ann")
        .send()
        .await
        .problem(403, "challenge-required");
    let solution = solved(&refused["altcha"]);
    // Of many at once with one solution, one.
    let users: Vec<String> = (0..12).map(|number| format!("u{number}")).collect();
    let claim = |user: String| {
        gateway
            .post(&path)
            .user(&user)
            .header("x-challenge", &solution)
            .send()
    };
    let answers = crowd(12, users, claim).await;
    let admitted = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(admitted, 1);
    let other = answers
        .iter()
        .find(|answer| answer.status != 201)
        .expect("others");
    other.problem(403, "challenge-required");
    let fresh = gateway
        .get("/api/challenges/claims")
        .send()
        .await
        .expect(200)
        .json();
    let claim = gateway
        .post(&path)
        .user("cleo")
        .header("x-challenge", &solved(&fresh))
        .send()
        .await;
    claim.expect(201);
    gateway.kill();
    gateway.restart().await;
    gateway
        .post(&path)
        .user("dora")
        .header("x-challenge", &solution)
        .send()
        .await
        .problem(403, "challenge-required");
    gateway
        .get(&format!("/api/challenges/{}", unique("none")))
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn a_visitor_and_the_library_of_altcha_solve_and_wait(host: Host) {
    let page = "[[challenges]]\nname = \"page\"\npath = \"/page\"\nkind = \"altcha\"\nmax_number = 2000";
    let gateway = Gateway::start(host, &[SETTINGS, "\n", page].concat()).await;
    browser(&gateway, "crowd.mjs", &[]).await;
}

/// The secret that the gateway shows its provider.
const SHOWN: &str = "0x4AAA-the-secret-of-this-case";

fn field(asked: &Delivery, name: &str) -> Option<String> {
    let form = std::str::from_utf8(&asked.body).expect("it is text");
    let url = reqwest::Url::parse(&format!("http://form/?{form}")).expect("it is a query");
    let mut fields = url.query_pairs();
    fields
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// Takes tokens that begin with `good`, each once, as Turnstile does.
fn provider() -> impl Fn(&Delivery) -> Reply + Send + Sync + 'static {
    let seen = Mutex::new(HashSet::new());
    move |asked| {
        let refused = |code: &str| Reply::json(&json!({ "success": false, "error-codes": [code] }));
        if field(asked, "secret").as_deref() != Some(SHOWN) {
            return refused("invalid-input-secret");
        }
        let token = field(asked, "response").unwrap_or_default();
        if !token.starts_with("good") {
            return refused("invalid-input-response");
        }
        match seen.lock().unwrap().insert(token) {
            true => {
                Reply::json(&json!({ "success": true, "hostname": "shop.example.com", "error-codes": [] }))
            }
            false => refused("timeout-or-duplicate"),
        }
    }
}

fn before_claims(origin: &Origin, further: &str) -> String {
    format!(
        "[[challenges]]\nname = \"people\"\npath = \"/api/campaigns/:id/claims\"\nmethods = [\"POST\"]\nkind = \"siteverify\"\n\
         url = \"{}\"\nsite_key = \"0x4-public\"\n{further}\n",
        origin.url("/siteverify"),
    )
}

pub async fn a_token_that_its_provider_takes_lets_one_claim_through(host: Host) {
    let origin = Origin::start().await;
    origin.behave(provider());
    let gateway = Gateway::start(host, &before_claims(&origin, &format!("secret = \"{SHOWN}\""))).await;
    let campaign = gateway.campaign(50, json!({})).await;
    let path = format!("/api/campaigns/{campaign}/claims");
    let claim = |user: &str, token: &str| gateway.post(&path).user(user).header("x-challenge", token).send();
    let refused = gateway.post(&path).user("ann").send().await;
    let refused = refused.problem(403, "challenge-required");
    assert_eq!(refused["siteverify"]["siteKey"], "0x4-public");
    let posed = gateway.get("/api/challenges/people").send().await;
    assert_eq!(posed.expect(200).json(), refused["siteverify"]);
    assert!(origin.deliveries().is_empty(), "nobody was asked about no token");
    // Of many at once with one token, one.
    let users: Vec<String> = (0..12).map(|number| format!("u{number}")).collect();
    let answers = crowd(12, users, |user| claim(&user, "good-1")).await;
    let admitted = answers.iter().filter(|answer| answer.status == 201);
    assert_eq!(admitted.count(), 1);
    claim("bob", "bad").await.problem(403, "challenge-required");
    claim("bob", "good-2").await.expect(201);
    let asked = origin.deliveries().pop().expect("it was asked");
    assert_eq!(field(&asked, "remoteip").as_deref(), Some("127.0.0.1"));
    assert_eq!(field(&asked, "response").as_deref(), Some("good-2"));
    // With a key nobody is asked.
    let count = origin.deliveries().len();
    let by_key = gateway.post(&path).user("cleo").key(ADMIN_KEY).send().await;
    by_key.expect(201);
    assert_eq!(origin.deliveries().len(), count);
    // Nobody there: nobody passes, and what is not behind it goes on.
    origin.down().await;
    let closed = claim("dora", "good-3").await;
    closed.problem(503, "unavailable");
    assert_eq!(closed.header("retry-after"), "5");
    let read = gateway.get(&format!("/api/campaigns/{campaign}")).send().await;
    read.expect(200);
    origin.up();
    claim("dora", "good-3").await.expect(201);
    // It stands still: the gateway does not.
    origin.behave(|_| Reply {
        delay: Duration::from_secs(60),
        ..Reply::status(200)
    });
    claim("emil", "good-4").await.problem(503, "unavailable");
    assert!(!gateway.stderr().contains(SHOWN));
}

pub async fn a_secret_that_its_provider_does_not_know_is_the_operators_to_mend(host: Host) {
    let origin = Origin::start().await;
    origin.behave(provider());
    for (further, status) in [("", 503), ("on_provider_failure = \"allow\"", 201)] {
        let settings = before_claims(&origin, &format!("secret = \"another\"\n{further}"));
        let gateway = Gateway::start(host, &settings).await;
        let campaign = gateway.campaign(5, json!({})).await;
        let claim = gateway
            .post(&format!("/api/campaigns/{campaign}/claims"))
            .user("ann");
        claim.header("x-challenge", "good").send().await.expect(status);
        // Spin keeps what components say in files.
        if !host.is_spin() {
            gateway.says("invalid-input-secret").await;
        }
    }
}
