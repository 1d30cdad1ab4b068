use futures::executor::block_on;
use serde_json::{Value, json};

use super::shelf::{Shelf, fresh, request};
use super::*;
use crate::settings::Settings;
use crate::world::World;
use tollgate_api::http::Response;
use tollgate_store::commit::{Outcome, Refusal};

const NOW: u64 = 1_800_000_000_000;

fn with_key(key: &str) -> Request {
    request("GET", "/", &[("authorization", &format!("Bearer {key}"))])
}

fn add(store: &Shelf, scopes: &[Scope], expires: Option<u64>) -> String {
    let (text, commit) = mint("test", scopes, expires, NOW, &fresh);
    assert!(matches!(store.apply(commit), Outcome::Committed(_)));
    text
}

fn call(store: &Shelf, key: &str, method: &str, path: &str, body: &Value) -> (Response, Value) {
    let settings = Settings::default();
    let world = World {
        store,
        settings: &settings,
        now: NOW,
        fresh: &fresh,
    };
    let mut request = request(method, path, &[("authorization", &format!("bearer  {key}"))]);
    request.body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let response = block_on(crate::admin::handle(
        &world,
        &tollgate_store::memory::InMemoryBuckets::default(),
        &request,
    ));
    let body = serde_json::from_slice(&response.body).unwrap_or_default();
    (response, body)
}

#[test]
fn a_minted_key_is_known_and_any_change_of_it_is_not() {
    let store = Shelf::default();
    let key = add(&store, &[Scope::Links], None);
    let found = block_on(authenticate(&store, &with_key(&key), NOW))
        .unwrap()
        .unwrap();
    assert_eq!(Some(found.id.as_str()), id_of(&key));
    assert_eq!(found.scopes, [Scope::Links]);
    let other = if key.ends_with('a') { 'b' } else { 'a' };
    let changed = format!("{}{other}", &key[..key.len() - 1]);
    assert_eq!(block_on(authenticate(&store, &with_key(&changed), NOW)), Ok(None));
}

#[test]
fn the_store_never_sees_the_key() {
    let store = Shelf::default();
    let key = add(&store, &[Scope::Links], None);
    let secret = key.rsplit('_').next().unwrap();
    for entry in store.entries.borrow().values() {
        assert!(!String::from_utf8_lossy(&entry.value).contains(secret));
    }
}

#[test]
fn a_key_ends_at_its_expiry() {
    let store = Shelf::default();
    let key = add(&store, &[Scope::Links], Some(NOW + 10));
    assert!(
        block_on(authenticate(&store, &with_key(&key), NOW + 9))
            .unwrap()
            .is_some()
    );
    assert!(
        block_on(authenticate(&store, &with_key(&key), NOW + 10))
            .unwrap()
            .is_none()
    );
}

#[test]
fn what_cannot_be_a_key_costs_no_lookup() {
    let store = Shelf::default();
    let long = "x".repeat(MAX_TOKEN + 1);
    for token in [
        "",
        "short",
        "tg_",
        "tg_abc_short",
        "tg_abc/def_0123456789012345678901234567890123456789",
        "a b",
        &long,
    ] {
        assert_eq!(
            block_on(authenticate(&store, &with_key(token), NOW)),
            Ok(None),
            "{token}"
        );
    }
    let basic = request("GET", "/", &[("authorization", "Basic dXNlcjpwYXNzd29yZA==")]);
    assert_eq!(block_on(authenticate(&store, &basic, NOW)), Ok(None));
    assert_eq!(store.gets.get(), 0);
}

#[test]
fn a_credential_that_is_no_text_or_sent_twice_is_never_none() {
    let store = Shelf::default();
    let key = add(&store, &[Scope::Links], None);
    let of = |values: &[&[u8]]| {
        let mut request = request("GET", "/", &[]);
        request.headers = values
            .iter()
            .map(|value| tollgate_api::http::Header {
                name: HEADER.into(),
                value: value.to_vec(),
            })
            .collect();
        block_on(shown(&store, &Settings::default(), &request, NOW)).map_err(|problem| problem.kind.status())
    };
    assert_eq!(of(&[]), Ok(None));
    for no_text in [&b"Bearer \xff\xfe"[..], b"\xff", b"Bearer caf\xe9"] {
        assert_eq!(of(&[no_text]), Err(401));
    }
    let good = format!("Bearer {key}");
    assert!(of(&[good.as_bytes()]).is_ok_and(|key| key.is_some()));
    assert_eq!(of(&[good.as_bytes(), good.as_bytes()]), Err(400));
    assert_eq!(of(&[good.as_bytes(), b"\xff"]), Err(400));
}

#[test]
fn scopes_are_asked_for() {
    let store = Shelf::default();
    let links = add(&store, &[Scope::Links], None);
    let admin = add(&store, &[Scope::Admin], None);
    let ask =
        |key: &str, scope| block_on(require(&store, &with_key(key), NOW, scope)).map_err(|p| p.kind.status());
    assert!(ask(&links, Scope::Links).is_ok());
    assert_eq!(ask(&links, Scope::Admin), Err(403));
    assert!(ask(&admin, Scope::Topics).is_ok());
    assert_eq!(ask("tg_unknown", Scope::Links), Err(401));
    let problem = block_on(require(&store, &request("GET", "/", &[]), NOW, Scope::Links)).unwrap_err();
    assert_eq!(problem.into_response().header("www-authenticate"), Some("Bearer"));
}

#[test]
fn a_store_that_is_down_is_not_a_wrong_key() {
    let store = Shelf::default();
    let key = add(&store, &[Scope::Links], None);
    store.down.set(true);
    assert_eq!(
        block_on(require(&store, &with_key(&key), NOW, Scope::Links))
            .unwrap_err()
            .kind
            .status(),
        503
    );
}

#[test]
fn a_configured_admin_key_works_and_replaces_the_one_before() {
    let store = Shelf::default();
    let (first, second) = ("correct-horse-battery", "tr0ub4dor&3-and-more");
    block_on(install_admin(&store, first, NOW)).unwrap();
    block_on(install_admin(&store, first, NOW + 1)).unwrap();
    assert_eq!(store.commits.get(), 1, "nothing is written when nothing changes");
    let key = block_on(require(&store, &with_key(first), NOW, Scope::Admin)).unwrap();
    assert_eq!(key.id, CONFIGURED_ID);
    block_on(install_admin(&store, second, NOW)).unwrap();
    assert!(
        block_on(authenticate(&store, &with_key(first), NOW))
            .unwrap()
            .is_none()
    );
    assert!(
        block_on(authenticate(&store, &with_key(second), NOW))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_configured_admin_key_may_have_our_own_format() {
    let (key, _) = mint("elsewhere", &[Scope::Admin], None, NOW, &fresh);
    let store = Shelf::default();
    block_on(install_admin(&store, &key, NOW)).unwrap();
    assert!(
        block_on(authenticate(&store, &with_key(&key), NOW))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_configured_admin_key_that_could_not_be_sent_is_refused() {
    for key in [
        "",
        "fifteen-chars-x",
        "has a space in it",
        "umlaut-öäüöäüöäü",
        "tg_but-not-one-of-ours",
    ] {
        assert_eq!(admin_commit(key, NOW), Err(AdminKeyError::Malformed), "{key}");
    }
}

/// Mints the first admin key and installs it.
async fn bootstrap(
    store: &Shelf,
    now: u64,
    fresh: &dyn Fn() -> [u8; 16],
) -> Result<Option<String>, StoreError> {
    let Some(key) = FirstKey::mint(store, now, fresh).await? else {
        return Ok(None);
    };
    Ok(key.install(store).await?.then(|| key.text().to_owned()))
}

#[test]
fn a_store_knows_whether_it_ever_had_an_admin_key() {
    let store = Shelf::default();
    assert_eq!(block_on(has_admin(&store)), Ok(false));
    add(&store, &[Scope::Links], None);
    assert_eq!(block_on(has_admin(&store)), Ok(false));
    block_on(install_admin(&store, "correct-horse-battery", NOW)).unwrap();
    assert_eq!(block_on(has_admin(&store)), Ok(true));
}

#[test]
fn the_first_key_is_minted_once() {
    let store = Shelf::default();
    let key = block_on(bootstrap(&store, NOW, &fresh)).unwrap().unwrap();
    assert!(block_on(require(&store, &with_key(&key), NOW, Scope::Admin)).is_ok());
    assert_eq!(block_on(bootstrap(&store, NOW, &fresh)), Ok(None));
}

#[test]
fn of_two_that_start_at_once_one_mints() {
    // Both have seen that there is no marker; the commits decide.
    let store = Shelf::default();
    let key = block_on(bootstrap(&store, NOW, &fresh)).unwrap();
    assert!(key.is_some());
    let (_, mut late) = mint("late", &[Scope::Admin], None, NOW, &fresh);
    late.conditions
        .insert(0, Condition::Absent("key-bootstrap".into()));
    assert_eq!(store.apply(late), Outcome::Refused(Refusal::Condition(0)));
}

#[test]
fn the_first_key_is_not_lost_with_an_answer() {
    let store = Shelf::default();
    store.lose_answers.set(1);
    let key = block_on(bootstrap(&store, NOW, &fresh)).unwrap().unwrap();
    assert!(block_on(require(&store, &with_key(&key), NOW, Scope::Admin)).is_ok());
}

#[test]
fn no_key_is_minted_where_one_is_configured() {
    let store = Shelf::default();
    block_on(install_admin(&store, "correct-horse-battery", NOW)).unwrap();
    assert_eq!(block_on(bootstrap(&store, NOW, &fresh)), Ok(None));
}

#[test]
fn a_key_is_created_listed_and_deleted() {
    let store = Shelf::default();
    let admin = add(&store, &[Scope::Admin], None);
    let body = json!({"name": "ci", "scopes": ["links", "links"], "expiresAt": "2030-01-01T00:00:00Z"});
    let (response, created) = call(&store, &admin, "POST", "/api/keys", &body);
    assert_eq!(response.status, 201);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(created["scopes"], json!(["links"]));
    assert_eq!(created["createdAt"], "2027-01-15T08:00:00Z");
    assert_eq!(created["expiresAt"], "2030-01-01T00:00:00Z");
    let key = created["key"].as_str().unwrap().to_owned();
    assert!(block_on(require(&store, &with_key(&key), NOW, Scope::Links)).is_ok());

    let (_, listed) = call(&store, &admin, "GET", "/api/keys", &Value::Null);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    assert_eq!(listed["nextCursor"], Value::Null);
    assert!(!listed.to_string().contains(&key) && !listed.to_string().contains("sha256"));
    let eternal = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["name"] == "test")
        .unwrap();
    assert_eq!(
        eternal.get("expiresAt"),
        Some(&Value::Null),
        "absent values are null"
    );

    let path = format!("/api/keys/{}", created["id"].as_str().unwrap());
    assert_eq!(call(&store, &admin, "DELETE", &path, &Value::Null).0.status, 204);
    assert_eq!(call(&store, &admin, "DELETE", &path, &Value::Null).0.status, 404);
    assert!(
        block_on(authenticate(&store, &with_key(&key), NOW))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_rotated_key_keeps_its_id_and_its_old_secret_for_the_grace_only() {
    let store = Shelf::default();
    let admin = add(&store, &[Scope::Admin], None);
    let first = add(&store, &[Scope::Links], Some(NOW + 100_000));
    let id = id_of(&first).unwrap().to_owned();
    let path = format!("/api/keys/{id}/rotate");
    let known = |text: &str, at| {
        let found = block_on(authenticate(&store, &with_key(text), at)).unwrap();
        found.map(|key| (key.id, key.scopes))
    };
    let itself = Some((id.clone(), vec![Scope::Links]));
    let rotate = |body: Value| {
        let (response, rotated) = call(&store, &admin, "POST", &path, &body);
        assert_eq!(
            (response.status, rotated["id"].as_str()),
            (200, Some(id.as_str()))
        );
        assert_eq!(response.header("cache-control"), Some("no-store"));
        (
            rotated["key"].as_str().unwrap().to_owned(),
            rotated["previousUntil"].clone(),
        )
    };

    let (second, until) = rotate(json!({"graceSeconds": 10}));
    assert_eq!(until, "2027-01-15T08:00:10Z");
    assert_eq!(
        (known(&first, NOW + 9_999), known(&second, NOW)),
        (itself.clone(), itself.clone())
    );
    assert_eq!(
        (known(&first, NOW + 10_000), known(&second, NOW + 10_000)),
        (None, itself.clone())
    );
    // A grace is not longer than the key itself.
    let (third, _) = rotate(json!({"graceSeconds": 2_592_000}));
    assert_eq!((known(&first, NOW), known(&second, NOW)), (None, itself.clone()));
    assert_eq!(
        (known(&second, NOW + 100_000), known(&third, NOW + 100_000)),
        (None, None)
    );
    // Without a body it ends at once.
    let (fourth, until) = rotate(Value::Null);
    assert_eq!(
        (known(&third, NOW), known(&fourth, NOW), until),
        (None, itself, Value::Null)
    );

    let (response, problem) = call(&store, &admin, "POST", &path, &json!({"graceSeconds": 2_592_001}));
    assert_eq!(
        (response.status, &problem["errors"][0]["pointer"]),
        (400, &json!("#/graceSeconds"))
    );
    assert_eq!(
        call(&store, &admin, "POST", "/api/keys/nobody/rotate", &Value::Null)
            .0
            .status,
        404
    );
}

#[test]
fn the_operators_own_key_is_not_rotated_behind_the_settings() {
    let store = Shelf::default();
    block_on(install_admin(&store, "an-admin-key-for-tests", NOW)).unwrap();
    let (response, _) = call(
        &store,
        "an-admin-key-for-tests",
        "POST",
        "/api/keys/configured/rotate",
        &Value::Null,
    );
    assert_eq!(response.status, 409);
    assert!(
        block_on(authenticate(&store, &with_key("an-admin-key-for-tests"), NOW))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_list_is_walked_page_by_page() {
    let store = Shelf::default();
    let admin = add(&store, &[Scope::Admin], None);
    for _ in 0..4 {
        add(&store, &[Scope::Links], None);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = call(
            &store,
            &admin,
            "GET",
            &format!("/api/keys?limit=2{cursor}"),
            &Value::Null,
        );
        let keys = page["keys"].as_array().unwrap();
        assert!(keys.len() <= 2);
        seen.extend(keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextCursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let all: Vec<_> = store
        .entries
        .borrow()
        .keys()
        .map(|key| key.replace(ENTRY_PREFIX, ""))
        .collect();
    assert_eq!(seen, all);
}

#[test]
fn bad_input_names_its_field_and_changes_nothing() {
    let store = Shelf::default();
    let admin = add(&store, &[Scope::Admin], None);
    let ok = json!({"name": "n", "scopes": ["links"]});
    let with = |field: &str, value: Value| {
        let mut body = ok.clone();
        body[field] = value;
        body
    };
    let cases = [
        (with("name", json!("")), "#/name"),
        (with("name", json!("x".repeat(101))), "#/name"),
        (with("name", json!("a\nb")), "#/name"),
        (with("scopes", json!([])), "#/scopes"),
        (with("scopes", json!(["links", "root"])), "#/scopes/1"),
        (with("expiresAt", json!("2027-01-15T08:00:00Z")), "#/expiresAt"),
        (with("expiresAt", json!("soon")), "#/expiresAt"),
        (with("extra", json!(1)), "#/extra"),
        (json!({"scopes": ["links"]}), "#/name"),
    ];
    for (body, pointer) in cases {
        let (response, problem) = call(&store, &admin, "POST", "/api/keys", &body);
        assert_eq!(
            (response.status, problem["errors"][0]["pointer"].as_str()),
            (400, Some(pointer)),
            "{body}"
        );
    }
    for (query, pointer) in [
        ("limit=0", "query:limit"),
        ("limit=x", "query:limit"),
        ("cursor=a/b", "query:cursor"),
    ] {
        let (response, problem) = call(&store, &admin, "GET", &format!("/api/keys?{query}"), &Value::Null);
        assert_eq!(
            (response.status, problem["errors"][0]["pointer"].as_str()),
            (400, Some(pointer)),
            "{query}"
        );
    }
    assert_eq!(store.entries.borrow().len(), 1);
}

#[test]
fn only_an_admin_manages_keys() {
    let store = Shelf::default();
    let links = add(&store, &[Scope::Links], None);
    for (method, path) in [
        ("GET", "/api/keys"),
        ("POST", "/api/keys"),
        ("DELETE", "/api/keys/abc"),
    ] {
        assert_eq!(call(&store, &links, method, path, &Value::Null).0.status, 403);
        assert_eq!(
            call(&store, "nobody-knows-this-one", method, path, &Value::Null)
                .0
                .status,
            401
        );
    }
    let (response, _) = call(&store, &links, "PUT", "/api/keys", &Value::Null);
    assert_eq!(
        (response.status, response.header("allow")),
        (405, Some("GET, HEAD, POST"))
    );
}

#[test]
fn a_damaged_key_is_no_wrong_one() {
    let store = Shelf::default();
    let key = add(&store, &[Scope::Admin], None);
    let (admin, other) = (
        add(&store, &[Scope::Admin], None),
        add(&store, &[Scope::Links], None),
    );
    let entry = entry_key(id_of(&key).unwrap());
    store.entries.borrow_mut().get_mut(&entry).unwrap().value = b"{\"name\":".to_vec();
    assert!(matches!(
        block_on(authenticate(&store, &with_key(&key), NOW)),
        Err(StoreError::Invalid(_))
    ));
    assert_eq!(call(&store, &key, "GET", "/api/keys", &Value::Null).0.status, 500);
    // Nor is it left out of the list; the others go on, and it can be removed.
    assert_eq!(
        call(&store, &admin, "GET", "/api/keys", &Value::Null).0.status,
        500
    );
    assert!(block_on(authenticate(&store, &with_key(&other), NOW)).is_ok_and(|key| key.is_some()));
    let path = format!("/api/keys/{}", id_of(&key).unwrap());
    assert_eq!(call(&store, &admin, "DELETE", &path, &Value::Null).0.status, 204);
    assert_eq!(
        call(&store, &admin, "GET", "/api/keys", &Value::Null).0.status,
        200
    );
}
