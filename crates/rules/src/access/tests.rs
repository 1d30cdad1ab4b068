use serde_json::{Value, json};

use crate::limiter::{self, Verdict};
use crate::run_time;
use crate::settings::Settings;
use crate::testing::{ADMIN, Gateway, body, pointer, ready, request, slug};
use crate::world::World;

const LIMIT: &str = "[[limits]]\nname = \"default\"\ncapacity = 2\nrefill = 1\ninterval = \"1h\"\n";

/// How a request ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Charged,
    Free,
    Status(u16),
}

fn gateway(access: &str) -> Gateway {
    Gateway::with_settings(Settings::parse(&format!("{LIMIT}{access}"), "tollgate.toml").unwrap())
}

fn ask(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> End {
    let fresh = || gateway.fresh();
    let world = World {
        store: &gateway.store,
        settings: &gateway.settings,
        now: gateway.store.now(),
        fresh: &fresh,
    };
    let request = request("GET", path, headers, &Value::Null);
    match ready(limiter::check(&world, &gateway.buckets, &request)) {
        // What is charged below /api tells it.
        Verdict::Admit(headers) if headers.is_empty() => End::Free,
        Verdict::Admit(_) => End::Charged,
        Verdict::Answer(response) => End::Status(response.status),
    }
}

fn put_in_force(gateway: &mut Gateway) {
    let record = ready(run_time::entry(&gateway.store)).unwrap();
    gateway
        .settings
        .set_run_time(&record.map(|entry| entry.value).unwrap_or_default())
        .unwrap();
}

#[test]
fn who_is_denied_takes_nothing_and_who_is_exempt_is_not_charged() {
    let gateway = gateway(
        "[[access]]\nname = \"bad\"\naction = \"deny\"\nclients = [\"id:mallory\"]\nusers = [\"eve\"]\n\
         [[access]]\nname = \"good\"\naction = \"exempt\"\nclients = [\"id:probe\", \"id:mallory\"]\npath = \"/api/...\"\n",
    );
    let as_client = |name| [("x-client-id", name)];
    assert_eq!(
        ask(&gateway, "/api/x", &as_client("mallory")),
        End::Status(403),
        "deny comes first"
    );
    assert_eq!(ask(&gateway, "/api/x", &[("x-user-id", "eve")]), End::Status(403));
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/api/x", &as_client("probe")), End::Free);
    }
    assert_eq!(
        ask(&gateway, "/%61pi/x", &as_client("probe")),
        End::Free,
        "every text of a path"
    );
    let others: Vec<End> = (0..3)
        .map(|_| ask(&gateway, "/api/x", &as_client("ann")))
        .collect();
    assert_eq!(others, [End::Charged, End::Charged, End::Status(429)]);
}

#[test]
fn networks_are_those_of_the_client() {
    let gateway = gateway(
        "[server]\ntrusted_proxies = [\"192.0.2.1\"]\n\
         [[access]]\nname = \"net\"\naction = \"deny\"\ncidrs = [\"203.0.113.0/24\", \"2001:db8::/32\", \"::ffff:198.51.100.7\"]\n",
    );
    let from = |address| {
        ask(
            &gateway,
            "/api/x",
            &[("x-forwarded-for", address), ("x-client-id", address)],
        )
    };
    for denied in [
        "203.0.113.9",
        "2001:db8:1::1",
        "198.51.100.7",
        "::ffff:203.0.113.1",
    ] {
        assert_eq!(from(denied), End::Status(403), "{denied}");
    }
    for other in ["203.0.114.1", "2001:db9::1", "198.51.100.8"] {
        assert_eq!(from(other), End::Charged, "{other}");
    }
    assert_eq!(
        ask(&gateway, "/health/live", &[("x-forwarded-for", "203.0.113.9")]),
        End::Free
    );
}

#[test]
fn a_list_is_set_changed_and_removed_at_run_time() {
    let mut gateway = gateway("");
    let path = "/api/access/scrapers";
    let list = json!({ "action": "deny", "clients": ["id:mallory"] });
    assert_eq!(gateway.admin("PUT", path, &list).status, 201);
    put_in_force(&mut gateway);
    let mallory = [("x-client-id", "mallory")];
    assert_eq!(ask(&gateway, "/api/x", &mallory), End::Status(403));
    let shown = body(&gateway.admin("GET", path, &Value::Null));
    assert_eq!(
        (&shown["action"], &shown["path"], &shown["readOnly"]),
        (&json!("deny"), &json!("/..."), &json!(false))
    );
    let list = json!({ "action": "exempt", "clients": ["id:mallory"] });
    assert_eq!(gateway.admin("PUT", path, &list).status, 200);
    put_in_force(&mut gateway);
    assert_eq!(ask(&gateway, "/api/x", &mallory), End::Free);
    assert_eq!(gateway.admin("DELETE", path, &Value::Null).status, 204);
    assert_eq!(gateway.admin("DELETE", path, &Value::Null).status, 404);
    put_in_force(&mut gateway);
    assert_eq!(ask(&gateway, "/api/x", &mallory), End::Charged);
}

#[test]
fn nobody_is_locked_out_for_good() {
    let mut gateway = gateway("");
    let list = json!({ "action": "deny", "cidrs": ["0.0.0.0/0"] });
    assert_eq!(gateway.admin("PUT", "/api/access/all", &list).status, 201);
    put_in_force(&mut gateway);
    let bearer = format!("Bearer {ADMIN}");
    let key = [("authorization", bearer.as_str())];
    assert_eq!(ask(&gateway, "/api/links", &key), End::Status(403));
    assert_eq!(ask(&gateway, "/api/access/all", &key), End::Charged);
    assert_eq!(ask(&gateway, "/api/access/all", &[]), End::Status(403));
    assert_eq!(ask(&gateway, "/api/accessible", &key), End::Status(403));
}

#[test]
fn what_is_not_valid_is_refused_by_field_and_the_file_is_not_changed_here() {
    let gateway = gateway("[[access]]\nname = \"fixed\"\naction = \"deny\"\nusers = [\"eve\"]\n");
    let put = |name: &str, body: &Value| gateway.admin("PUT", &format!("/api/access/{name}"), body);
    for (list, field) in [
        (json!({ "action": "maybe" }), "#/action"),
        (json!({}), "#/action"),
        (json!({ "action": "deny" }), "#/cidrs"),
        (json!({ "action": "deny", "cidrs": ["10.0.0.0/33"] }), "#/cidrs/0"),
        (
            json!({ "action": "deny", "cidrs": ["10.0.0.1", "x"] }),
            "#/cidrs/1",
        ),
        (json!({ "action": "deny", "clients": ["mallory"] }), "#/clients/0"),
        (
            json!({ "action": "deny", "clients": ["user:eve"] }),
            "#/clients/0",
        ),
        (json!({ "action": "deny", "users": [""] }), "#/users/0"),
        (json!({ "action": "deny", "users": ["a"], "path": "x" }), "#/path"),
        (json!({ "action": "deny", "users": vec!["a"; 257] }), "#/users"),
        (json!({ "action": "deny", "users": ["a"], "more": 1 }), "#/more"),
    ] {
        assert_eq!(pointer(&put("new", &list)), field, "{list}");
    }
    let list = json!({ "action": "deny", "users": ["a"] });
    assert_eq!(pointer(&put("UPPER", &list)), "path:name");
    assert_eq!(slug(&put("fixed", &list)), "conflict");
    assert_eq!(
        slug(&gateway.admin("DELETE", "/api/access/fixed", &Value::Null)),
        "conflict"
    );
    assert_eq!(
        body(&gateway.admin("GET", "/api/access/fixed", &Value::Null))["readOnly"],
        true
    );
    assert_eq!(ready(run_time::entry(&gateway.store)).unwrap(), None);
    assert_eq!(
        body(&gateway.admin("GET", "/api/access", &Value::Null))["access"][0]["name"],
        "fixed"
    );
}
