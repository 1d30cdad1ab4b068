use serde_json::{Value, json};

use crate::limiter::{self, Verdict};
use crate::run_time::{self, MAX_OVERRIDES};
use crate::settings::Settings;
use crate::testing::{Gateway, body, pointer, ready, request, slug};
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::Header;
use tollgate_store::memory::START;
use tollgate_store::ports::Store as _;

const NANOS: u64 = 1_000_000_000;
const FILE: &str = r#"
[clients]
x_ratelimit = true

[[limits]]
name = "default"
capacity = 3
refill = 1
interval = "1h"

[[limits]]
name = "users"
path = "/api/users/..."
per = ["user", "path"]
capacity = 2
refill = 1
interval = "1h"

[[limits]]
name = "devices"
path = "/api/devices"
per = ["header:x-device"]
capacity = 1
refill = 1
interval = "1h"
cost = 1
"#;

impl Gateway {
    fn limited() -> Self {
        Self::with_settings(Settings::parse(FILE, "tollgate.toml").unwrap())
    }

    /// As a host does after a change.
    fn put_in_force(&mut self) {
        let record = ready(run_time::entry(&self.store)).unwrap();
        let record = record.map(|entry| entry.value).unwrap_or_default();
        self.settings.set_run_time(&record).unwrap();
    }

    fn judge(&self, path: &str, headers: &[(&str, &str)]) -> Verdict {
        let fresh = || self.fresh();
        let world = World {
            store: &self.store,
            settings: &self.settings,
            now: self.store.now(),
            fresh: &fresh,
        };
        let request = request("GET", path, headers, &Value::Null);
        ready(limiter::check(&world, &self.buckets, &request))
    }

    /// How many of ten requests are admitted.
    fn admits(&self, path: &str, headers: &[(&str, &str)]) -> usize {
        let admitted = |_: &usize| matches!(self.judge(path, headers), Verdict::Admit(_));
        (0..10).filter(admitted).count()
    }

    fn put(&mut self, client: &str, body: &Value) {
        let answer = self.admin("PUT", &format!("/api/limits/clients/{client}"), body);
        assert_eq!(answer.status, 200, "{}", crate::testing::text(&answer));
        self.put_in_force();
    }

    fn level(&self, client: &str, policy: &str) -> Value {
        let answer = self.admin("GET", &format!("/api/limits/clients/{client}"), &Value::Null);
        assert_eq!(answer.status, 200);
        let limits = body(&answer)["limits"].as_array().unwrap().clone();
        limits.into_iter().find(|one| one["policy"] == policy).unwrap()
    }
}

fn header(headers: &[Header], name: &str) -> String {
    let found = headers.iter().find(|header| header.name == name).unwrap();
    String::from_utf8(found.value.clone()).unwrap()
}

fn granted(capacity: u64) -> Value {
    json!({ "policy": "default", "capacity": capacity, "refill": 2, "interval": 60 })
}

#[test]
fn a_level_is_read_and_not_charged() {
    let gateway = Gateway::limited();
    gateway.judge("/x", &[("x-client-id", "ann")]);
    for _ in 0..5 {
        assert_eq!(gateway.level("id:ann", "default")["remaining"], 2);
    }
    assert_eq!(gateway.level("id:bob", "default")["remaining"], 3);
    assert_eq!(gateway.admits("/x", &[("x-client-id", "ann")]), 2);
    assert_eq!(gateway.level("id:ann", "default")["fullIn"], 3 * 3_600);
}

#[test]
fn an_override_is_in_force_and_the_headers_tell_it() {
    let mut gateway = Gateway::limited();
    gateway.put("id:ann", &granted(7));
    let Verdict::Admit(headers) = gateway.judge("/api/x", &[("x-client-id", "ann")]) else {
        panic!("refused")
    };
    assert_eq!(header(&headers, "ratelimit-policy"), "\"default\";q=7;w=210");
    assert!(header(&headers, "ratelimit").starts_with("\"default\";r=6;t="));
    assert_eq!(
        ["limit", "remaining", "reset"].map(|name| header(&headers, &format!("x-ratelimit-{name}"))),
        ["7", "6", "30"]
    );
    assert_eq!(gateway.admits("/api/x", &[("x-client-id", "ann")]), 6);
    assert_eq!(
        gateway.admits("/api/x", &[("x-client-id", "bob")]),
        3,
        "others have their own"
    );
    let level = gateway.level("id:ann", "default");
    assert_eq!(
        (&level["capacity"], &level["override"]["refill"]),
        (&json!(7), &json!(2))
    );
    let shown = body(&gateway.admin("GET", "/api/limits/overrides", &Value::Null));
    assert_eq!(shown["overrides"][0]["client"], "id:ann");
    assert_eq!(shown["overrides"][0]["interval"], 60);
}

#[test]
fn an_override_ends_when_it_says_so_and_when_it_is_removed() {
    let mut gateway = Gateway::limited();
    let mut body = granted(7);
    body["until"] = json!("2027-01-15T08:01:00Z");
    gateway.put("id:ann", &body);
    let ann = [("x-client-id", "ann")];
    assert_eq!(gateway.admits("/x", &ann), 7);
    gateway.store.set_now(START + 60_000);
    gateway.buckets.set_now(60 * NANOS);
    assert_eq!(gateway.level("id:ann", "default")["override"], Value::Null);
    assert_eq!(gateway.admits("/x", &ann), 0, "an empty bucket stays empty");
    gateway.put("id:bob", &granted(1));
    let answer = gateway.admin("DELETE", "/api/limits/clients/id%3Abob", &Value::Null);
    assert_eq!(answer.status, 204);
    gateway.put_in_force();
    let record: Value =
        serde_json::from_slice(&ready(run_time::entry(&gateway.store)).unwrap().unwrap().value).unwrap();
    assert_eq!(
        record["overrides"],
        json!([]),
        "what is over goes with the next change"
    );
}

#[test]
fn buckets_are_filled_again() {
    let gateway = Gateway::limited();
    let ann = [("x-client-id", "ann")];
    assert_eq!(gateway.admits("/x", &ann), 3);
    gateway.buckets.set_now(1);
    assert_eq!(
        gateway
            .admin("DELETE", "/api/limits/clients/id:ann", &Value::Null)
            .status,
        204
    );
    assert_eq!(gateway.level("id:ann", "default")["remaining"], 3);
    assert_eq!(gateway.admits("/x", &ann), 3);
    // Those of a path, where the path is given.
    let user = [("x-user-id", "ann"), ("x-client-id", "another")];
    assert_eq!(gateway.admits("/api/users/1", &user), 2);
    gateway.buckets.set_now(2);
    gateway.admin("DELETE", "/api/limits/clients/user:ann", &Value::Null);
    assert_eq!(gateway.admits("/api/users/1", &[("x-user-id", "ann")]), 0);
    gateway.buckets.set_now(3);
    gateway.admin(
        "DELETE",
        "/api/limits/clients/user:ann?path=/api/users/1",
        &Value::Null,
    );
    assert_eq!(
        gateway.admits("/api/users/1", &[("x-user-id", "ann"), ("x-client-id", "third")]),
        2
    );
}

#[test]
fn users_and_headers_count_and_who_leaves_them_out_counts_by_address() {
    let gateway = Gateway::limited();
    let as_user = |user| [("x-user-id", user), ("x-client-id", user)];
    assert_eq!(gateway.admits("/api/users/1", &as_user("ann")), 2);
    assert_eq!(gateway.admits("/api/users/1", &as_user("bob")), 2);
    assert_eq!(gateway.admits("/api/users/1", &[("x-client-id", "no-user")]), 2);
    assert_eq!(gateway.admits("/api/users/1", &[("x-client-id", "nor-here")]), 0);
    let device = |device, client| [("x-device", device), ("x-client-id", client)];
    assert_eq!(gateway.admits("/api/devices", &device("secret-1", "a")), 1);
    assert_eq!(gateway.admits("/api/devices", &device("secret-1", "b")), 0);
    assert_eq!(
        gateway.admits("/api/devices", &device(&"x".repeat(60_000), "c")),
        1
    );
    assert_eq!(gateway.admits("/api/devices", &[("x-client-id", "d")]), 1);
    assert_eq!(gateway.admits("/api/devices", &[("x-client-id", "e")]), 0);
    let Verdict::Answer(refused) = gateway.judge("/x", &[("x-device", "a"), ("x-device", "b")]) else {
        panic!("admitted")
    };
    assert_eq!(pointer(&refused), "header:x-device");
}

#[test]
fn what_is_not_valid_is_refused_by_field_and_changes_nothing() {
    let gateway = Gateway::limited();
    let with = |member: &str, value: Value| {
        let mut body = granted(7);
        body[member] = value;
        body
    };
    for (body, field) in [
        (with("policy", json!("nope")), "#/policy"),
        (with("policy", json!("devices")), "#/policy"),
        (with("capacity", json!(0)), "#/capacity"),
        (with("capacity", json!(u64::MAX)), "#/capacity"),
        (with("refill", json!(0)), "#/refill"),
        (with("interval", json!(0)), "#/interval"),
        (with("interval", json!(0.5)), "#/interval"),
        (with("until", json!("2027-01-15T08:00:00Z")), "#/until"),
        (with("until", json!("tomorrow")), "#/until"),
        (with("more", json!(1)), "#/more"),
        (json!({ "policy": "default" }), "#/capacity"),
    ] {
        let answer = gateway.admin("PUT", "/api/limits/clients/id:ann", &body);
        assert_eq!(pointer(&answer), field, "{body}");
    }
    for client in [
        "ann",
        "id:",
        "id:%20",
        "ip:300.1.1.1",
        "role:x",
        "%ff",
        "id:%zz",
        &format!("id:{}", "x".repeat(129)),
    ] {
        for (method, body) in [("GET", Value::Null), ("PUT", granted(7)), ("DELETE", Value::Null)] {
            let answer = gateway.admin(method, &format!("/api/limits/clients/{client}"), &body);
            assert_eq!(pointer(&answer), "path:clientId", "{method} {client}");
        }
    }
    for (method, query, field) in [
        ("GET", "path=x", "query:path"),
        ("GET", "policy=default", "query:policy"),
        ("DELETE", "policy=nope", "query:policy"),
        ("DELETE", "policy=default&policy=default", "query:policy"),
        ("PUT", "path=/x", "query:path"),
    ] {
        let body = if method == "PUT" { granted(7) } else { Value::Null };
        let answer = gateway.admin(method, &format!("/api/limits/clients/id:ann?{query}"), &body);
        assert_eq!(pointer(&answer), field, "{method} {query}");
    }
    assert_eq!(ready(run_time::entry(&gateway.store)).unwrap(), None);
}

#[test]
fn an_address_has_one_name_and_the_scope_limits_suffices() {
    let mut gateway = Gateway::limited();
    gateway.put("ip:2001:db8::5", &granted(7));
    assert_eq!(
        gateway.level("ip:2001:DB8:0:0::%2F64", "default")["override"]["client"],
        "ip:2001:db8::/64"
    );
    let mint = |scope| {
        let (text, commit) = crate::keys::mint("k", &[scope], None, START, &|| gateway.fresh());
        ready(gateway.store.commit(commit)).unwrap();
        text
    };
    let (limits, links) = (mint(Scope::Limits), mint(Scope::Links));
    for path in ["/api/limits", "/api/limits/overrides", "/api/limits/clients/id:a"] {
        assert_eq!(
            gateway.with(&limits, "GET", path, &Value::Null).status,
            200,
            "{path}"
        );
        assert_eq!(
            gateway.with(&links, "GET", path, &Value::Null).status,
            403,
            "{path}"
        );
    }
}

#[test]
fn there_are_so_many_overrides_and_no_more() {
    let gateway = Gateway::limited();
    let put = |n: usize| gateway.admin("PUT", &format!("/api/limits/clients/id:{n}"), &granted(7));
    for n in 0..MAX_OVERRIDES {
        assert_eq!(put(n).status, 200, "{n}");
    }
    let beyond = put(MAX_OVERRIDES);
    assert_eq!((beyond.status, slug(&beyond)), (409, "conflict".to_owned()));
    assert_eq!(put(7).status, 200, "one that is there may change");
}

#[test]
fn a_record_of_before_and_one_whose_policy_is_gone_are_read() {
    let mut gateway = Gateway::limited();
    gateway.settings.set_run_time(b"{}").unwrap();
    let record = json!({ "overrides": [
        { "client": "id:a", "policy": "gone", "capacity": 1, "refill": 1, "intervalNs": 1, "createdAt": 1 },
        { "client": "id:a", "policy": "default", "capacity": 1, "refill": 1, "intervalNs": 1, "createdAt": 1 },
    ] });
    gateway
        .settings
        .set_run_time(record.to_string().as_bytes())
        .unwrap();
    assert_eq!(gateway.admits("/x", &[("x-client-id", "a")]), 1);
    assert!(gateway.settings.set_run_time(b"[").is_err());
}
