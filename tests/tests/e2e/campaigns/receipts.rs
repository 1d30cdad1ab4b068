//! Receipts of claims: checked by the gateway, and without it.

use std::process::Command;

use serde_json::{Value, json};

use super::{claim, claims};
use crate::harness::{ADMIN_KEY, Gateway, Host, binary};

async fn verify(gateway: &Gateway, receipt: &str) -> Value {
    let call = gateway
        .post("/api/receipts/verify")
        .json(&json!({ "receipt": receipt }));
    call.send().await.expect(200).json()
}

pub async fn receipt_of_a_claim_is_checked(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(2, json!({ "perUser": 2 })).await;
    let ask = async || {
        let call = gateway
            .post(&claims(&campaign))
            .user("ann")
            .header("idempotency-key", "\"once\"");
        call.json(&json!({ "units": 2, "metadata": { "order": -17 } }))
            .send()
            .await
            .expect(201)
    };
    let made = ask().await.json();
    let receipt = made["claim"]["receipt"].as_str().expect("a receipt").to_owned();
    assert_eq!(
        (&made["claim"]["units"], &made["claim"]["metadata"]),
        (&json!(2), &json!({ "order": -17 }))
    );
    assert_eq!(ask().await.json(), made, "replayed");
    let checked = verify(&gateway, &receipt).await;
    assert_eq!(
        (&checked["valid"], &checked["claim"]["id"]),
        (&json!(true), &made["claim"]["id"])
    );
    assert_eq!(checked["receipt"]["units"], 2);
    let forged = receipt.replacen('e', "f", 1);
    assert_eq!(verify(&gateway, &forged).await["valid"], false);
    claim(&gateway, &campaign, "bob").await.problem(410, "sold-out");
    gateway
        .post("/api/receipts/keys")
        .send()
        .await
        .problem(401, "unauthorized");
    gateway
        .post("/api/receipts/verify")
        .json(&json!({}))
        .send()
        .await
        .names("#/receipt");
}

pub async fn receipt_is_checked_without_a_gateway(host: Host) {
    let gateway = Gateway::start(host, "[receipts]\nalgorithm = \"EdDSA\"\n").await;
    let campaign = gateway.campaign(5, json!({})).await;
    let receipt = async |user: &str| {
        let made = claim(&gateway, &campaign, user).await.expect(201).json();
        made["claim"]["receipt"].as_str().expect("a receipt").to_owned()
    };
    let first = receipt("ann").await;
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    gateway
        .post("/api/receipts/keys")
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(201);
    let second = receipt("bob").await;
    assert_ne!(first.split('.').next(), second.split('.').next(), "another key");
    let keys = gateway.get("/.well-known/jwks.json").send().await.expect(200);
    let file = gateway.directory().join("jwks.json");
    std::fs::write(&file, keys.text()).expect("the directory can be written");
    let check = |receipts: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args(["--json", "receipt", "verify", "--keys"])
            .arg(&file)
            .args(receipts);
        let ended = command.output().expect("it runs");
        (
            ended.status.code(),
            String::from_utf8_lossy(&ended.stdout).into_owned(),
        )
    };
    let (code, said) = check(&[&first, &second]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("\"sub\":\"ann\"") && said.contains("\"sub\":\"bob\""),
        "{said}"
    );
    let (code, said) = check(&[&first, &format!("{second}A")]);
    assert!(
        code == Some(1) && said.contains("\"valid\":false"),
        "{code:?} {said}"
    );
    for receipt in [&first, &second] {
        assert_eq!(verify(&gateway, receipt).await["valid"], true);
    }
}
