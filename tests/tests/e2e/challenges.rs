//! Challenges: a proof of work before a path, solved here by a solver of the test's own, by ALTCHA's library, and by a browser.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::dashboard::browser;
use crate::harness::{Gateway, Host, crowd, unique};

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
