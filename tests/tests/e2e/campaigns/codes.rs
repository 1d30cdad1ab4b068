//! Codes of the operator's own.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::claims;
use crate::harness::{ADMIN_KEY, Gateway, Host, binary, crowd, unique};

/// A campaign of these codes.
async fn of(gateway: &Gateway, codes: &[String], more: Value) -> String {
    let id = unique("codes");
    let mut campaign = json!({ "id": id, "codes": "import" });
    for (name, value) in more.as_object().expect("an object") {
        campaign[name] = value.clone();
    }
    gateway
        .post("/api/campaigns")
        .key(ADMIN_KEY)
        .json(&campaign)
        .send()
        .await
        .expect(201);
    let path = format!("/api/campaigns/{id}/codes");
    let answer = gateway
        .post(&path)
        .key(ADMIN_KEY)
        .json(&json!({ "codes": codes }))
        .send()
        .await
        .expect(200);
    assert_eq!(answer.json()["imported"], codes.len());
    id
}

pub async fn imported_codes_are_given_once_each(host: Host) {
    let gateway = Gateway::start(host, "").await;
    for order in ["random", "import"] {
        let codes: Vec<String> = (0..60).map(|n| format!("{order}-{n}")).collect();
        let campaign = of(&gateway, &codes, json!({ "codeOrder": order, "topic": order })).await;
        let path = claims(&campaign);
        let answers = crowd(16, 0..80, |n| {
            gateway.post(&path).user(&format!("user-{n}")).send()
        })
        .await;
        let mut given = BTreeSet::new();
        for answer in &answers {
            match answer.status {
                201 => {
                    let code = answer.json()["claim"]["code"]
                        .as_str()
                        .expect("a code")
                        .to_owned();
                    assert!(given.insert(code), "given twice");
                }
                410 => {}
                _ => panic!("{}", answer.shown()),
            }
        }
        assert_eq!(given, codes.iter().cloned().collect());
        let told = gateway.messages(order).await;
        let told = told
            .iter()
            .map(|message| message["data"]["code"].as_str().expect("a code").to_owned());
        assert_eq!(told.collect::<BTreeSet<_>>(), given);
        let path = format!("/api/campaigns/{campaign}/codes");
        let more = json!({ "codes": ["one-more", codes[0]] });
        let again = gateway
            .post(&path)
            .key(ADMIN_KEY)
            .json(&more)
            .send()
            .await
            .expect(200)
            .json();
        assert_eq!(
            again,
            json!({ "imported": 1, "duplicates": [codes[0]], "quantity": 61 })
        );
        let bad = gateway
            .post(&path)
            .key(ADMIN_KEY)
            .json(&json!({ "codes": ["a", "b c"] }))
            .send()
            .await;
        bad.names("#/codes/1");
        gateway
            .post(&path)
            .user("ann")
            .json(&more)
            .send()
            .await
            .problem(401, "unauthorized");
    }
}

pub async fn codes_of_a_file_are_imported(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let campaign = of(&gateway, &["first".to_owned()], json!({})).await;
    let file = gateway.directory().join("codes.txt");
    let lines: Vec<String> = (0..25_000).map(|n| format!("code-{n}")).collect();
    std::fs::write(&file, [&*lines.join("\n"), "\n\nfirst\n"].concat()).expect("it is ours");
    let mut run = Command::new(binary());
    run.args(["--json", "campaigns", "codes", &campaign]).arg(&file);
    run.args([
        "--url",
        &format!("http://{}", gateway.address()),
        "--key",
        ADMIN_KEY,
    ]);
    let output = tokio::task::spawn_blocking(move || run.output())
        .await
        .expect("it runs")
        .expect("it starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        told,
        json!({ "imported": 25_000, "duplicates": ["first"], "quantity": 25_001 })
    );
    // Also across a crash.
    gateway.kill();
    gateway.restart().await;
    let made = gateway
        .post(&claims(&campaign))
        .user("ann")
        .send()
        .await
        .expect(201);
    assert!(made.json()["claim"]["code"].is_string());
}
