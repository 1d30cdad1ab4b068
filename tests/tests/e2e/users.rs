//! Users who are known by a token: keys in the file, in a file of their own, and at a URL; rotation, and an issuer that is away.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{ADMIN_KEY, Gateway, Host, eventually};

/// A key of an identity provider.
struct Issuer {
    kid: &'static str,
    key: KeyPair,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("ring makes such keys");
        Self { kid, key }
    }

    fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.der_bytes());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x, "alg": "EdDSA" }] })
            .to_string()
    }

    fn token(&self, user: &str) -> String {
        self.says(json!({ "sub": user }))
    }

    fn says(&self, more: Value) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        let mut claims = json!({ "iss": "https://id.example.com/", "aud": "shop", "exp": now + 300 });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        let head = json!({ "alg": "EdDSA", "kid": self.kid, "typ": "JWT" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = [part(&head), part(&claims)].join(".");
        let signature = self.key.sign(signed.as_bytes()).expect("it signs");
        [&*signed, ".", &URL_SAFE_NO_PAD.encode(signature)].concat()
    }
}

fn settings(more: &str) -> String {
    format!(
        "[reload]\nevery = \"200ms\"\n[users.jwt]\nissuer = \"https://id.example.com/\"\naudience = \"shop\"\ncheck = [\"/cart/...\"]\n{more}\n"
    )
}

/// What a claim with this token is answered.
async fn claim(gateway: &Gateway, campaign: &str, token: &str) -> u16 {
    let claim = gateway.post(&format!("/api/campaigns/{campaign}/claims"));
    claim.key(token).send().await.status
}

pub async fn a_user_is_who_a_signed_token_says(host: Host) {
    let (issuer, other) = (Issuer::new("a"), Issuer::new("a"));
    let gateway = Gateway::start_trusting(
        host,
        "127.0.0.0/8",
        &settings(&format!("keys = '{}'", issuer.jwks())),
    )
    .await;
    let campaign = gateway.campaign(10, json!({})).await;
    let path = format!("/api/campaigns/{campaign}/claims");
    let made = gateway
        .post(&path)
        .key(&issuer.token("ann"))
        .user("bob")
        .send()
        .await
        .expect(201);
    assert_eq!(
        made.json()["claim"]["user"],
        "ann",
        "the header counts for nothing"
    );
    gateway
        .post(&path)
        .key(&issuer.token("ann"))
        .send()
        .await
        .problem(409, "already-claimed");
    gateway
        .post(&path)
        .user("bob")
        .send()
        .await
        .problem(401, "user-required");
    let refused = gateway.post(&path).key(&other.token("bob")).send().await;
    refused.problem(401, "invalid-token");
    assert_eq!(
        refused.header("www-authenticate"),
        "Bearer error=\"invalid_token\""
    );
    for (more, why) in [
        (json!({ "sub": "bob", "exp": 1 }), "expired"),
        (json!({ "sub": "bob", "aud": "bank" }), "audience"),
        (json!({ "sub": "bob", "iss": "https://evil.example/" }), "issuer"),
        (json!({ "sub": "a b" }), "no user"),
    ] {
        let refused = gateway.post(&path).key(&issuer.says(more)).send().await;
        let problem = refused.problem(401, "invalid-token");
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains(why)),
            "{problem}"
        );
    }
    // A user's claims are the user's, and API keys go on as they did.
    let mine = format!("{path}/ann");
    gateway
        .get(&mine)
        .key(&issuer.token("ann"))
        .send()
        .await
        .expect(200);
    gateway
        .get(&mine)
        .key(&issuer.token("eve"))
        .send()
        .await
        .problem(403, "forbidden");
    gateway.get(&mine).key(ADMIN_KEY).send().await.expect(200);
    // Forward auth tells the user.
    let ask = |path: &str| {
        let call = gateway.get("/api/check").header("x-forwarded-method", "GET");
        call.header("x-forwarded-uri", path)
            .header("x-forwarded-for", "203.0.113.7")
    };
    ask("/other").send().await.expect(204);
    ask("/cart/1")
        .user("bob")
        .send()
        .await
        .problem(401, "user-required");
    ask("/c%61rt/1")
        .key(&other.token("ann"))
        .send()
        .await
        .problem(401, "invalid-token");
    let told = ask("/cart/1").key(&issuer.token("ann")).send().await.expect(204);
    assert_eq!(told.header("x-user-id"), "ann");
}

pub async fn a_key_set_is_read_again_when_its_file_changes(host: Host) {
    let (before, after) = (Issuer::new("a"), Issuer::new("b"));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    let file = directory.path().join("jwks.json");
    fs::write(&file, before.jwks()).expect("it is ours");
    let gateway = Gateway::start(host, &settings(&format!("jwks = \"{}\"", file.display()))).await;
    let campaign = gateway.campaign(10, json!({ "perUser": 10 })).await;
    assert_eq!(claim(&gateway, &campaign, &before.token("ann")).await, 201);
    assert_eq!(claim(&gateway, &campaign, &after.token("ann")).await, 401);
    fs::write(&file, after.jwks()).expect("it is ours");
    eventually("the new key", async || {
        (claim(&gateway, &campaign, &after.token("ann")).await == 201).then_some(())
    })
    .await;
    // Also not from memory.
    assert_eq!(claim(&gateway, &campaign, &before.token("ann")).await, 401);
    // What is no key set is refused, and the one before serves.
    fs::write(&file, "{}").expect("it is ours");
    gateway.says("the configuration is refused").await;
    assert_eq!(claim(&gateway, &campaign, &after.token("ann")).await, 201);
}

pub async fn a_key_set_is_fetched_and_an_issuer_may_be_away(host: Host) {
    let (issuer, other) = (Issuer::new("a"), Issuer::new("b"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!(
        "http://{}/jwks?version=1",
        listener.local_addr().expect("it has one")
    );
    // Nothing yet.
    let answer = Arc::new(Mutex::new(None::<String>));
    let (served, asked) = (Arc::clone(&answer), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&asked);
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 4_096]).await;
            *counted.lock().unwrap() += 1;
            let text = served.lock().unwrap().clone();
            let (status, body) = text.map_or(("503 Service Unavailable", String::new()), |text| {
                ("200 OK", text)
            });
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all([head, body].concat().as_bytes()).await;
        }
    });
    let gateway = Gateway::start(host, &settings(&format!("jwks = \"{url}\""))).await;
    let campaign = gateway.campaign(100, json!({ "perUser": 100 })).await;
    // Nobody's token is called bad for what is not the user's fault.
    assert_eq!(claim(&gateway, &campaign, &issuer.token("ann")).await, 503);
    *answer.lock().unwrap() = Some(issuer.jwks());
    eventually("the keys", async || {
        (claim(&gateway, &campaign, &issuer.token("ann")).await == 201).then_some(())
    })
    .await;
    // Away, and asked for keys that nobody knows: the last ones serve, and the issuer is not asked for each.
    *answer.lock().unwrap() = None;
    let before = *asked.lock().unwrap();
    for _ in 0..50 {
        assert_eq!(claim(&gateway, &campaign, &other.token("eve")).await, 401);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(*asked.lock().unwrap() <= before + 1, "at most once a minute");
    assert_eq!(claim(&gateway, &campaign, &issuer.token("ann")).await, 201);
    server.abort();
    assert_eq!(claim(&gateway, &campaign, &issuer.token("ann")).await, 201);
}
