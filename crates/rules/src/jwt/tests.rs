//! Tokens as providers make them, and as attackers do. A library that is not ours signs them: jsonwebtoken, on ring.

use super::*;
use crate::settings::Settings;
use crate::testing::{ADMIN, Gateway, body, slug};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

const RSA_PEM: &[u8] = include_bytes!("testdata/rsa.pem");
const RSA_2_PEM: &[u8] = include_bytes!("testdata/rsa-2.pem");
const EC_PEM: &[u8] = include_bytes!("testdata/ec.pem");
const ED_PEM: &[u8] = include_bytes!("testdata/ed.pem");
const SET: &str = include_str!("testdata/jwks.json");
const SECRET: &str = "a secret of more than thirty-two bytes";
/// Unix milliseconds.
const NOW: u64 = tollgate_store::memory::START;

fn settings(more: &str) -> Settings {
    let text = format!(
        "[users.jwt]\nissuer = \"https://id.example.com/\"\naudience = \"shop\"\nkeys = '''{SET}'''\n{more}"
    );
    Settings::parse(&text, "tollgate.toml").unwrap()
}

fn jwt(more: &str) -> Jwt {
    settings(more).jwt.unwrap()
}

fn claims() -> Value {
    json!({ "iss": "https://id.example.com/", "aud": "shop", "sub": "ann", "exp": NOW / 1_000 + 60 })
}

/// With these members in the place of others; null takes one out.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => _ = claims.as_object_mut().unwrap().remove(name),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn signed(alg: Algorithm, kid: Option<&str>, pem: &[u8], claims: &Value) -> String {
    let key = match alg {
        Algorithm::RS256 | Algorithm::RS512 | Algorithm::PS256 => EncodingKey::from_rsa_pem(pem),
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        _ => Ok(EncodingKey::from_secret(pem)),
    };
    let head = Header {
        kid: kid.map(str::to_owned),
        ..Header::new(alg)
    };
    jsonwebtoken::encode(&head, claims, &key.unwrap()).unwrap()
}

fn ann(kid: &str) -> String {
    match kid {
        "ec" => signed(Algorithm::ES256, Some(kid), EC_PEM, &claims()),
        "ed" => signed(Algorithm::EdDSA, Some(kid), ED_PEM, &claims()),
        _ => signed(Algorithm::RS256, Some(kid), RSA_PEM, &claims()),
    }
}

/// With another head, and the signature that this key would make of it by HMAC.
fn forged(head: &str, claims: &Value, key: &[u8]) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = [part(head), part(&claims.to_string())].join(".");
    let mut mac = HmacSha256::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    [
        &*signed,
        ".",
        &URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()),
    ]
    .concat()
}

fn of(jwt: &Jwt, token: &str) -> Result<String, BadToken> {
    jwt.verify(token, NOW).map(|token| token.user.clone())
}

#[test]
fn tokens_of_every_algorithm_name_their_user() {
    let jwt = jwt(&format!("secret = \"{SECRET}\""));
    for kid in ["rsa", "ec", "ed"] {
        assert_eq!(of(&jwt, &ann(kid)), Ok("ann".into()), "{kid}");
    }
    let secret = signed(Algorithm::HS256, None, SECRET.as_bytes(), &claims());
    assert_eq!(of(&jwt, &secret), Ok("ann".into()));
    // The only key of its kind need not be named.
    assert_eq!(
        of(&jwt, &signed(Algorithm::ES256, None, EC_PEM, &claims())),
        Ok("ann".into())
    );
    // Of two, one has to be.
    let unnamed = signed(Algorithm::RS256, None, RSA_PEM, &claims());
    assert_eq!(of(&jwt, &unnamed), Err(BadToken::NoKeyId));
}

#[test]
fn a_token_chooses_no_algorithm() {
    let with_secret = jwt(&format!("secret = \"{SECRET}\""));
    let without = jwt("");
    // RFC 8725, 2.1: none, in any case, with and without a signature.
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let head = json!({ "alg": alg, "kid": "rsa" }).to_string();
        let token = forged(&head, &claims(), b"x");
        let bare = format!("{}.", token.rsplit_once('.').unwrap().0);
        for token in [token, bare] {
            assert_eq!(of(&with_secret, &token), Err(BadToken::Algorithm), "{alg}");
        }
    }
    // A public key, taken for the secret: its PEM, its modulus, the JWK.
    let set: Value = serde_json::from_str(SET).unwrap();
    let jwk = set["keys"][0].to_string();
    let modulus = URL_SAFE_NO_PAD
        .decode(set["keys"][0]["n"].as_str().unwrap())
        .unwrap();
    let public = include_bytes!("testdata/rsa.pub.pem");
    for key in [&public[..], &modulus, jwk.as_bytes(), b""] {
        let token = forged(r#"{"alg":"HS256","kid":"rsa"}"#, &claims(), key);
        assert_eq!(of(&without, &token), Err(BadToken::Algorithm));
        assert_eq!(of(&with_secret, &token), Err(BadToken::Signature));
    }
    // The secret checks nothing but HS256.
    for alg in ["HS384", "HS512", "hs256", "RS256"] {
        let token = forged(&json!({ "alg": alg }).to_string(), &claims(), SECRET.as_bytes());
        let refused = of(&with_secret, &token);
        assert!(
            matches!(refused, Err(BadToken::Algorithm | BadToken::NoKeyId)),
            "{alg}: {refused:?}"
        );
    }
    // Another algorithm of the same key, and another kind of key under its name.
    let token = signed(Algorithm::RS512, Some("rsa"), RSA_PEM, &claims());
    assert_eq!(of(&without, &token), Err(BadToken::Algorithm));
    let token = signed(Algorithm::PS256, Some("rsa"), RSA_PEM, &claims());
    assert_eq!(of(&without, &token), Err(BadToken::Algorithm));
    let token = signed(Algorithm::ES256, Some("rsa"), EC_PEM, &claims());
    assert_eq!(of(&without, &token), Err(BadToken::Algorithm));
}

#[test]
fn a_key_id_is_a_name_and_nothing_else() {
    let jwt = jwt("");
    for kid in [
        "",
        "RSA",
        "rsa ",
        "../../dev/null",
        "/etc/passwd",
        "' OR 1=1 --",
        "http://evil.example/k",
        "rsa\0",
        "*",
    ] {
        let token = signed(Algorithm::RS256, Some(kid), RSA_PEM, &claims());
        assert_eq!(of(&jwt, &token), Err(BadToken::UnknownKey), "{kid:?}");
    }
    // A key that does not check this algorithm was left out of the set, by whatever name.
    for kid in ["oct", "enc", "small", "ps256"] {
        let token = signed(Algorithm::RS256, Some(kid), RSA_PEM, &claims());
        assert_eq!(of(&jwt, &token), Err(BadToken::UnknownKey), "{kid}");
    }
    // The other key's name.
    assert_eq!(
        of(&jwt, &signed(Algorithm::RS256, Some("rsa-2"), RSA_PEM, &claims())),
        Err(BadToken::Signature)
    );
    assert_eq!(
        of(
            &jwt,
            &signed(Algorithm::RS256, Some("rsa-2"), RSA_2_PEM, &claims())
        ),
        Ok("ann".into())
    );
    // Keys that a token brings along, and members that are there twice.
    let set: Value = serde_json::from_str(SET).unwrap();
    for head in [
        json!({ "alg": "RS256", "kid": "mine", "jwk": set["keys"][0] }).to_string(),
        json!({ "alg": "RS256", "kid": "mine", "jku": "https://evil.example/jwks.json" }).to_string(),
    ] {
        assert_eq!(
            of(&jwt, &forged(&head, &claims(), b"x")),
            Err(BadToken::UnknownKey)
        );
    }
    for head in [
        r#"{"alg":"RS256","alg":"none","kid":"rsa"}"#,
        r#"{"alg":"RS256","kid":"rsa","kid":"ec"}"#,
        r#"{"alg":"RS256","kid":7}"#,
        r#"{"alg":["RS256"],"kid":"rsa"}"#,
        r#"{"kid":"rsa"}"#,
        "[]",
        "",
    ] {
        assert_eq!(
            of(&jwt, &forged(head, &claims(), b"x")),
            Err(BadToken::Malformed),
            "{head}"
        );
    }
}

#[test]
fn extensions_that_must_be_understood_are_refused() {
    let jwt = jwt(&format!("secret = \"{SECRET}\""));
    for crit in ["[\"b64\"]", "[\"exp\"]", "[]", "null", "\"b64\"", "7"] {
        let head = format!(r#"{{"alg":"HS256","b64":false,"crit":{crit}}}"#);
        let token = forged(&head, &claims(), SECRET.as_bytes());
        assert_eq!(of(&jwt, &token), Err(BadToken::Critical), "{crit}");
    }
}

#[test]
fn no_bit_of_a_token_can_be_changed() {
    let jwt = jwt("");
    for kid in ["rsa", "ec", "ed"] {
        let token = ann(kid);
        for place in (0..token.len()).step_by(7) {
            let mut bytes = token.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            if place > token.rfind('.').unwrap() && place + 2 > token.len() {
                continue; // the last character has bits that say nothing; another of them is refused as malformed
            }
            assert!(
                of(&jwt, &String::from_utf8(bytes).unwrap()).is_err(),
                "{kid} {place}"
            );
        }
    }
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "eyJ",
        "eyJhbGciOiJSUzI1NiJ9",
        "eyJhbGciOiJSUzI1NiJ9.e30",
        "e30.e30.",
        "=.=.=",
    ] {
        assert!(of(&jwt, text).is_err(), "{text}");
    }
    let token = ann("rsa");
    for text in [
        format!("{token}.x"),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        token.replace('.', ".."),
    ] {
        assert!(of(&jwt, &text).is_err(), "{text}");
    }
}

#[test]
fn a_token_is_bounded() {
    let jwt = jwt("");
    let long = with(json!({ "roles": vec!["r"; 1_000] }));
    assert_eq!(
        of(&jwt, &signed(Algorithm::EdDSA, Some("ed"), ED_PEM, &long)),
        Ok("ann".into())
    );
    let longer = with(json!({ "roles": vec!["role"; 2_000] }));
    assert_eq!(
        of(&jwt, &signed(Algorithm::EdDSA, Some("ed"), ED_PEM, &longer)),
        Err(BadToken::TooLong)
    );
    // However many are sent, few are remembered.
    for n in 0..REMEMBERED + 10 {
        let claims = with(json!({ "jti": n }));
        let token = forged(r#"{"alg":"HS256"}"#, &claims, SECRET.as_bytes());
        let jwt = super::tests::jwt(&format!("secret = \"{SECRET}\""));
        assert!(jwt.verify(&token, NOW).is_ok());
        if n > 3 {
            break;
        }
    }
    let secret = super::tests::jwt(&format!("secret = \"{SECRET}\""));
    for n in 0..2 * REMEMBERED {
        let token = forged(
            r#"{"alg":"HS256"}"#,
            &with(json!({ "jti": n })),
            SECRET.as_bytes(),
        );
        assert!(secret.verify(&token, NOW).is_ok());
        assert!(secret.0.good.lock().unwrap().len() <= REMEMBERED);
    }
}

#[test]
fn times_issuer_and_audience_are_judged() {
    let jwt = jwt("leeway = \"10s\"");
    let seconds = NOW / 1_000;
    let of = |changes: Value| {
        of(
            &jwt,
            &signed(Algorithm::EdDSA, Some("ed"), ED_PEM, &with(changes)),
        )
    };
    let good = Ok("ann".to_owned());
    for (changes, expected) in [
        (json!({ "exp": seconds - 9 }), good.clone()),
        (json!({ "exp": seconds - 10 }), Err(BadToken::Expired)),
        (json!({ "exp": null }), Err(BadToken::Expired)),
        (json!({ "exp": "2999-01-01" }), Err(BadToken::Expired)),
        (json!({ "exp": -1 }), Err(BadToken::Expired)),
        (json!({ "exp": 1e300 }), good.clone()),
        (json!({ "exp": seconds as f64 + 0.5 }), good.clone()),
        (json!({ "nbf": seconds + 10 }), good.clone()),
        (json!({ "nbf": seconds + 11 }), Err(BadToken::NotYet)),
        (json!({ "nbf": "now" }), Err(BadToken::NotYet)),
        (json!({ "iss": "https://id.example.com" }), Err(BadToken::Issuer)),
        (
            json!({ "iss": ["https://id.example.com/"] }),
            Err(BadToken::Issuer),
        ),
        (json!({ "iss": null }), Err(BadToken::Issuer)),
        (json!({ "aud": ["other", "shop"] }), good.clone()),
        (json!({ "aud": ["other"] }), Err(BadToken::Audience)),
        (json!({ "aud": "shops" }), Err(BadToken::Audience)),
        (json!({ "aud": { "shop": 1 } }), Err(BadToken::Audience)),
        (json!({ "aud": null }), Err(BadToken::Audience)),
        (json!({ "sub": null }), Err(BadToken::NoUser)),
        (json!({ "sub": "" }), Err(BadToken::NoUser)),
        (json!({ "sub": "a b" }), Err(BadToken::NoUser)),
        (json!({ "sub": "x".repeat(129) }), Err(BadToken::NoUser)),
        (json!({ "sub": ["ann"] }), Err(BadToken::NoUser)),
        (json!({ "sub": 42 }), Ok("42".to_owned())),
    ] {
        assert_eq!(of(changes.clone()), expected, "{changes}");
    }
    let by_mail = super::tests::jwt("claim = \"email\"");
    let token = signed(
        Algorithm::EdDSA,
        Some("ed"),
        ED_PEM,
        &with(json!({ "email": "ann@example.com" })),
    );
    assert_eq!(super::tests::of(&by_mail, &token), Ok("ann@example.com".into()));
}

#[test]
fn a_token_that_is_remembered_ends_when_it_says() {
    let jwt = jwt("leeway = \"0s\"");
    let token = ann("ed");
    assert!(jwt.verify(&token, NOW).is_ok());
    assert!(jwt.verify(&token, NOW + 59_999).is_ok());
    for _ in 0..2 {
        assert_eq!(jwt.verify(&token, NOW + 60_000).err(), Some(BadToken::Expired));
    }
}

#[test]
fn a_key_set_is_bounded_and_has_a_key_of_use() {
    assert_eq!(KeySet::parse(SET).unwrap().keys.len(), 4);
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
        r#"{"keys":[1,null,"x"]}"#,
    ] {
        assert!(KeySet::parse(bad).is_err(), "{bad}");
    }
    let set: Value = serde_json::from_str(SET).unwrap();
    let many = json!({ "keys": vec![set["keys"][2].clone(); MAX_KEYS + 1] });
    assert!(KeySet::parse(&many.to_string()).is_err());
    assert!(KeySet::parse(&format!("{}{SET}", " ".repeat(MAX_KEY_SET))).is_err());
}

#[test]
fn settings_that_could_trust_anybody_are_refused() {
    let of = |more: &str| {
        let text = format!("[users.jwt]\nissuer = \"i\"\naudience = \"a\"\n{more}");
        Settings::parse(&text, "t")
            .map(|_| ())
            .map_err(|error| (error.key, error.message))
    };
    for good in [
        "jwks = \"keys.json\"",
        "jwks = \"https://id.example.com/jwks\"",
        "jwks = \"http://127.0.0.1:9/\"",
        "jwks = \"http://localhost:9/\"",
    ] {
        assert_eq!(of(good), Ok(()), "{good}");
    }
    for (bad, key) in [
        ("jwks = \"http://id.example.com/jwks\"", "users.jwt.jwks"),
        ("jwks = \"ftp://id.example.com/jwks\"", "users.jwt.jwks"),
        ("jwks = \"\"", "users.jwt.jwks"),
        ("keys = \"{}\"", "users.jwt.keys"),
        ("secret = \"short\"", "users.jwt.secret"),
        ("jwks = \"k\"\nclaim = \"\"", "users.jwt.claim"),
        ("jwks = \"k\"\nleeway = \"301s\"", "users.jwt.leeway"),
        ("jwks = \"k\"\ncheck = [\"shop\"]", "users.jwt.check[0]"),
    ] {
        let (at, message) = of(bad).unwrap_err();
        assert_eq!(at, key, "{bad}");
        assert!(!message.contains("short\""), "{message}");
    }
    let nothing = Settings::parse("[users.jwt]\nissuer = \"i\"\naudience = \"a\"", "t").unwrap();
    assert!(nothing.config.users.jwt.unwrap().lacks().is_some());
    let shown = settings(&format!("secret = \"{SECRET}\"")).config;
    assert!(!shown.to_toml().contains(SECRET), "a secret is shown to nobody");
    assert!(!shown.without_secrets().to_toml().contains(SECRET));
    assert!(shown.for_components().contains(SECRET), "the rules need it");
    assert!(!format!("{shown:?}").contains(SECRET));
}

fn gateway() -> Gateway {
    let gateway = Gateway::with_settings(settings("check = [\"/cart/...\"]"));
    let made = gateway.admin(
        "POST",
        "/api/campaigns",
        &json!({ "id": "spring", "quantity": 10, "holdSeconds": 60 }),
    );
    assert_eq!(made.status, 201);
    gateway
}

#[test]
fn a_claim_counts_for_the_user_of_the_token_and_for_nobody_else() {
    let gateway = gateway();
    let claims = "/api/campaigns/spring/claims";
    let token = ann("ec");
    let answer = gateway.with(&token, "POST", claims, &Value::Null);
    assert_eq!(
        (answer.status, body(&answer)["claim"]["user"].as_str()),
        (201, Some("ann"))
    );
    assert_eq!(
        gateway.with(&ann("rsa"), "POST", claims, &Value::Null).status,
        409,
        "the same user, by another key"
    );
    // The header counts for nothing, alone and beside a token.
    let alone = gateway.call("POST", claims, &[("x-user-id", "bob")], &Value::Null);
    assert_eq!((alone.status, slug(&alone)), (401, "user-required".into()));
    let bearer = format!("Bearer {token}");
    let both = gateway.call(
        "POST",
        claims,
        &[("x-user-id", "bob"), ("authorization", &bearer)],
        &Value::Null,
    );
    assert_eq!(both.status, 409);
    // A bad token is never a reason to look elsewhere.
    let bad = [&token[..token.len() - 8], "AAAAAAAA"].concat();
    let bearer = format!("Bearer {bad}");
    let answer = gateway.call(
        "POST",
        claims,
        &[("x-user-id", "bob"), ("authorization", &bearer)],
        &Value::Null,
    );
    assert_eq!((answer.status, slug(&answer)), (401, "invalid-token".into()));
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer error=\"invalid_token\"")
    );
}

#[test]
fn what_belongs_to_a_user_is_read_and_settled_with_the_token() {
    let gateway = gateway();
    let claim = gateway.with(&ann("ed"), "POST", "/api/campaigns/spring/claims", &Value::Null);
    let id = body(&claim)["claim"]["id"].as_str().unwrap().to_owned();
    let eve = signed(
        Algorithm::EdDSA,
        Some("ed"),
        ED_PEM,
        &with(json!({ "sub": "eve" })),
    );
    let (mine, confirm) = (
        "/api/campaigns/spring/claims/ann",
        format!("/api/campaigns/spring/claims/{id}/confirm"),
    );
    assert_eq!(gateway.with(&eve, "GET", mine, &Value::Null).status, 403);
    assert_eq!(gateway.with(&eve, "POST", &confirm, &Value::Null).status, 403);
    assert_eq!(gateway.with(&ann("ed"), "GET", mine, &Value::Null).status, 200);
    assert_eq!(
        gateway.with(ADMIN, "GET", mine, &Value::Null).status,
        200,
        "an API key is an API key still"
    );
    assert_eq!(
        gateway.with(&ann("ed"), "POST", &confirm, &Value::Null).status,
        200
    );
    // A user is no operator.
    let refused = gateway.with(&ann("ed"), "GET", "/api/campaigns", &Value::Null);
    assert_eq!((refused.status, slug(&refused)), (401, "unauthorized".into()));
    // Nor does a user's token stand in the way where anybody may call.
    let bearer = format!("Bearer {}", ann("ed"));
    let link = json!({ "url": "https://example.com/" });
    let made = gateway.call(
        "POST",
        "/api/links",
        &[("authorization", &bearer), ("x-client-id", "c")],
        &link,
    );
    assert_eq!(made.status, 201);
}

#[test]
fn a_campaign_may_be_for_those_whose_token_says_so() {
    let gateway = gateway();
    let put = |change: Value| gateway.admin("PUT", "/api/campaigns/spring/eligible", &change);
    let claim = |user: &str, roles: Value| {
        let token = with(json!({ "sub": user, "roles": roles }));
        let token = signed(Algorithm::EdDSA, Some("ed"), ED_PEM, &token);
        gateway.with(&token, "POST", "/api/campaigns/spring/claims", &Value::Null)
    };
    let rule = json!({ "claim": { "name": "roles", "values": ["staff", "beta"] } });
    assert_eq!(
        body(&put(rule)),
        json!({ "restricted": true, "added": 0, "removed": 0 })
    );
    assert_eq!(claim("ann", json!(["beta", "other"])).status, 201);
    for roles in [json!(["other"]), json!("bet"), json!({ "beta": 1 }), Value::Null] {
        let refused = claim("bob", roles);
        assert_eq!((refused.status, slug(&refused)), (403, "not-eligible".into()));
    }
    // Beside a list: both have to hold.
    assert_eq!(put(json!({ "add": ["cleo"] })).status, 200);
    assert_eq!(claim("dan", json!("beta")).status, 403);
    assert_eq!(claim("cleo", json!("other")).status, 403);
    assert_eq!(claim("cleo", json!("beta")).status, 201);
    assert_eq!(body(&put(json!({ "claim": null })))["restricted"], true);
    assert_eq!(body(&put(json!({ "replace": null })))["restricted"], false);
    assert_eq!(claim("bob", Value::Null).status, 201);
    for (bad, at) in [
        (json!({ "claim": { "name": "" , "value": "x" } }), "#/claim/name"),
        (json!({ "claim": { "name": "a" } }), "#/claim/value"),
        (json!({ "claim": { "name": "a", "value": "" } }), "#/claim/value"),
        (
            json!({ "claim": { "name": "a", "values": [] } }),
            "#/claim/values",
        ),
        (
            json!({ "claim": { "name": "a", "value": "b", "values": ["c"] } }),
            "#/claim/values",
        ),
        (
            json!({ "claim": { "name": "a", "value": "b" }, "add": ["ann"] }),
            "#/claim",
        ),
        (
            json!({ "claim": { "name": "a", "value": "b", "more": 1 } }),
            "#/claim/more",
        ),
    ] {
        assert_eq!(crate::testing::pointer(&put(bad)), at);
    }
    let without = Gateway::new();
    without.admin(
        "POST",
        "/api/campaigns",
        &json!({ "id": "spring", "quantity": 1 }),
    );
    let refused = without.admin(
        "PUT",
        "/api/campaigns/spring/eligible",
        &json!({ "claim": { "name": "a", "value": "b" } }),
    );
    assert_eq!(crate::testing::pointer(&refused), "#/claim");
}

#[test]
fn without_keys_nobody_is_refused_for_good() {
    let text = "[users.jwt]\nissuer = \"https://id.example.com/\"\naudience = \"shop\"\njwks = \"https://id.example.com/jwks\"";
    let gateway = Gateway::with_settings(Settings::parse(text, "t").unwrap());
    gateway.admin(
        "POST",
        "/api/campaigns",
        &json!({ "id": "spring", "quantity": 10 }),
    );
    let answer = gateway.with(&ann("ed"), "POST", "/api/campaigns/spring/claims", &Value::Null);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    let jwt = gateway.settings.jwt.as_ref().unwrap();
    let asks = |token: &str| jwt.misses_a_key(&format!("Bearer {token}"));
    assert!(asks(&ann("ed")));
    assert!(!asks("tg_abc_def") && !asks("eyJ.x.y"));
    let known = super::tests::jwt("");
    let asks = |token: &str| known.misses_a_key(&format!("Bearer {token}"));
    assert!(asks(&signed(Algorithm::EdDSA, Some("new"), ED_PEM, &claims())));
    assert!(!asks(&ann("ed")) && !asks(&forged(r#"{"alg":"none"}"#, &claims(), b"")));
}

#[test]
fn the_form_tells_a_jwt_from_a_key() {
    assert!(is_jwt(&ann("ed")));
    for key in [
        "tg_abc_def",
        "an-admin-key.with.dots",
        "eyJ-without-dots",
        "eyJ.one-dot",
        "",
        "e.y.J",
    ] {
        assert!(!is_jwt(key), "{key}");
    }
}

#[test]
fn a_claim_of_a_token_is_a_text_or_one_of_a_list() {
    let jwt = jwt("");
    let changes = json!({ "tier": "gold", "roles": ["staff", "beta"], "level": 3, "paid": true, "deep": { "a": "gold" } });
    let token = signed(Algorithm::EdDSA, Some("ed"), ED_PEM, &with(changes));
    let token = jwt.verify(&token, NOW).unwrap();
    let says = |name: &str, value: &str| token.says(name, &[value.to_owned(), "x".to_owned()]);
    assert!(says("tier", "gold") && says("roles", "beta") && says("level", "3") && says("paid", "true"));
    for (name, value) in [
        ("tier", "Gold"),
        ("roles", "staf"),
        ("level", "30"),
        ("deep", "gold"),
        ("none", ""),
        ("tier", ""),
    ] {
        assert!(!says(name, value), "{name} {value}");
    }
}
