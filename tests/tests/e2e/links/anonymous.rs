//! Links of callers without a key.

use serde_json::{Value, json};

use super::{leads_to, managed, short};
use crate::harness::{Gateway, Host, unique};

pub(super) async fn anonymous(gateway: &Gateway, client: &str) -> (Value, String) {
    let body = json!({ "url": "https://example.com/anonymous" });
    let link = gateway
        .post("/api/links")
        .client(client)
        .json(&body)
        .send()
        .await
        .expect(201)
        .json();
    let token = link["manageToken"]
        .as_str()
        .expect("an anonymous link has a token")
        .to_owned();
    (link, token)
}

pub async fn anonymous_link_is_managed_with_its_token(host: Host) {
    let gateway = Gateway::shared(host).await;
    let client = unique("client");
    let (mine, token) = anonymous(&gateway, &client).await;
    let (other, _) = anonymous(&gateway, &client).await;
    leads_to(
        gateway.get(&short(&mine)).send().await,
        "https://example.com/anonymous",
    );
    let edit = json!({ "url": "https://example.com/edited" });
    let edited = gateway
        .patch(&managed(&mine))
        .key(&token)
        .json(&edit)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(edited.get("manageToken"), None, "the token is shown once");
    leads_to(
        gateway.get(&short(&mine)).send().await,
        "https://example.com/edited",
    );
    // It opens nothing else, and the client's id alone opens nothing.
    gateway
        .patch(&managed(&other))
        .key(&token)
        .json(&edit)
        .send()
        .await
        .problem(403, "forbidden");
    gateway
        .delete(&managed(&other))
        .client(&client)
        .send()
        .await
        .problem(401, "unauthorized");
    gateway
        .get("/api/links")
        .key(&token)
        .send()
        .await
        .problem(401, "unauthorized");
    leads_to(
        gateway.get(&short(&other)).send().await,
        "https://example.com/anonymous",
    );
    gateway
        .delete(&managed(&mine))
        .key(&token)
        .send()
        .await
        .expect(204);
    gateway.get(&short(&mine)).send().await.problem(404, "not-found");
}

pub async fn anonymous_caller_must_say_who_it_is(host: Host) {
    let gateway = Gateway::shared(host).await;
    let body = json!({ "url": "https://example.com/" });
    gateway
        .post("/api/links")
        .json(&body)
        .send()
        .await
        .problem(400, "client-id-required");
    gateway
        .post("/api/links")
        .client("not a token")
        .json(&body)
        .send()
        .await
        .names("header:x-client-id");
    let wrong = gateway
        .post("/api/links")
        .key("tg_nobody_0000000000000000")
        .client("a")
        .json(&body)
        .send()
        .await;
    wrong.problem(401, "unauthorized");
}

pub async fn strangers_create_a_bounded_number_of_links(host: Host) {
    let settings = "[links]\nanonymous_per_day = 3\nanonymous_max = 5";
    let gateway = Gateway::start_trusting(host, "127.0.0.1", settings).await;
    let body = json!({ "url": "https://example.com/" });
    let post = async |address: &str| {
        let call = gateway.post("/api/links").client(&unique("stranger"));
        call.header("x-forwarded-for", address).json(&body).send().await
    };
    for _ in 0..3 {
        let link = post("192.0.2.1").await.expect(201).json();
        assert_eq!(link["expireAfterIdle"], 30 * 86_400);
    }
    let refused = post("192.0.2.1").await;
    assert_eq!(refused.status, 429, "{}", refused.shown());
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    for _ in 0..2 {
        post("192.0.2.2").await.expect(201);
    }
    let full = post("192.0.2.3").await;
    full.problem(503, "unavailable");
    assert!(full.maybe_header("retry-after").is_some());
    let key = gateway.key(&["links"]).await;
    gateway
        .post("/api/links")
        .key(&key)
        .json(&body)
        .send()
        .await
        .expect(201);
}
