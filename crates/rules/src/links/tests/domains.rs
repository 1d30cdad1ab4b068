//! Links on several hosts.

use super::*;
use crate::config::{Config, DomainSettings};
use crate::settings::Settings;

const SALE: (&str, &str) = ("host", "sale.example");

fn domain(host: &str) -> DomainSettings {
    DomainSettings {
        host: host.into(),
        root_url: None,
        not_found_url: None,
        gone_url: None,
    }
}

fn gateway() -> Gateway {
    let mut sale = domain("sale.example");
    sale.not_found_url = Some("https://shop.example/sorry".into());
    sale.gone_url = Some("https://shop.example/over".into());
    sale.root_url = Some("https://shop.example/".into());
    let mut config = Config {
        domains: vec![sale, domain("other.example")],
        ..Config::default()
    };
    config.server.public_url = Some("https://go.example:8443".into());
    Gateway::with_settings(Settings::compile(config).unwrap())
}

impl Gateway {
    #[track_caller]
    fn on(&self, domain: Option<&str>, code: &str, url: &str) -> Value {
        let made = self.admin(
            "POST",
            "/api/links",
            &json!({ "url": url, "code": code, "domain": domain }),
        );
        assert_eq!(made.status, 201, "{}", text(&made));
        let on = domain.map_or(String::new(), |host| format!("?domain={host}"));
        assert_eq!(made.header("location"), Some(&*format!("/api/links/{code}{on}")));
        json_of(&made)
    }

    fn led(&self, host: &str, path: &str) -> (u16, Option<String>) {
        let answer = self.call("GET", path, &[("host", host)], b"");
        (answer.status, answer.header("location").map(str::to_owned))
    }
}

#[test]
fn the_same_code_on_two_hosts_is_two_links() {
    let gateway = gateway();
    let here = gateway.on(None, "spring", "https://a.example/");
    let there = gateway.on(Some("sale.example"), "spring", "https://b.example/");
    assert_eq!(
        (&here["domain"], &there["domain"]),
        (&Value::Null, &json!("sale.example"))
    );
    assert_eq!(here["shortUrl"], "https://go.example:8443/spring");
    assert_eq!(there["shortUrl"], "https://sale.example:8443/spring");
    assert_eq!(
        (&here["code"], &there["code"]),
        (&json!("spring"), &json!("spring"))
    );
    let to = |url: &str| (302, Some(url.to_owned()));
    for host in [
        "go.example",
        "go.example:8443",
        "127.0.0.1",
        "unknown.example",
        "",
    ] {
        assert_eq!(gateway.led(host, "/spring"), to("https://a.example/"), "{host}");
    }
    for host in ["sale.example", "SALE.example:8443", "sale.example."] {
        assert_eq!(gateway.led(host, "/spring"), to("https://b.example/"), "{host}");
        assert_eq!(gateway.led(host, "/spring/"), to("https://b.example/"), "{host}");
    }
    assert_eq!(
        gateway.call("GET", "/spring", &[], b"").header("location"),
        Some("https://a.example/")
    );
    assert_eq!(gateway.led("other.example", "/spring").0, 404);
    let taken = gateway.admin(
        "POST",
        "/api/links",
        &json!({ "url": "https://c.example/", "code": "spring", "domain": "SALE.example" }),
    );
    assert_eq!(
        (taken.status, &json_of(&taken)["errors"][0]["pointer"]),
        (409, &json!("#/code"))
    );
}

#[test]
fn calls_about_a_link_name_its_host() {
    let gateway = gateway();
    gateway.on(None, "spring", "https://a.example/");
    let there = gateway.on(Some("sale.example"), "spring", "https://b.example/");
    let path = "/api/links/spring?domain=sale.example";
    assert_eq!(json_of(&gateway.admin("GET", path, ""))["id"], there["id"]);
    let changed = gateway.admin("PATCH", path, &json!({ "title": "Sale", "code": "summer" }));
    assert_eq!(
        (changed.status, &json_of(&changed)["domain"]),
        (200, &json!("sale.example"))
    );
    assert_eq!(gateway.led("sale.example", "/summer").0, 302);
    assert_eq!(
        gateway.led("sale.example", "/spring").1.as_deref(),
        Some("https://shop.example/sorry")
    );
    assert_eq!(gateway.led("go.example", "/spring").0, 302);
    assert_eq!(gateway.led("go.example", "/summer").0, 404);
    for call in ["stats", "visits", "qr?format=svg&"] {
        let mark = if call.contains('?') { "" } else { "?" };
        let path = format!("/api/links/summer/{call}{mark}domain=sale.example");
        let answer = gateway.admin("GET", &path, "");
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
        assert_eq!(
            gateway
                .admin("GET", &path.replace("sale.example", "other.example"), "")
                .status,
            404
        );
    }
    let put = gateway.admin(
        "PUT",
        "/api/links/autumn?domain=other.example",
        &json!({ "url": "https://c.example/" }),
    );
    assert_eq!(
        (put.status, put.header("location")),
        (201, Some("/api/links/autumn?domain=other.example"))
    );
    assert_eq!(gateway.led("other.example", "/autumn").0, 302);
    for bad in [
        "domain=nowhere.example",
        "domain=",
        "domain=sale.example&domain=sale.example",
    ] {
        let refused = gateway.admin("GET", &format!("/api/links/summer?{bad}"), "");
        assert_eq!(
            (refused.status, pointer(&refused)),
            (400, "query:domain".to_owned()),
            "{bad}"
        );
    }
    assert_eq!(
        gateway
            .admin("DELETE", "/api/links/summer?domain=sale.example", "")
            .status,
        204
    );
    assert_eq!(
        gateway.led("sale.example", "/summer").0,
        302,
        "to the page for what is not found"
    );
    assert_eq!(
        gateway.led("sale.example", "/summer").1.as_deref(),
        Some("https://shop.example/sorry")
    );
}

#[test]
fn links_are_listed_by_host_and_made_again_on_their_own() {
    let gateway = gateway();
    gateway.on(None, "one", "https://a.example/");
    gateway.on(Some("sale.example"), "two", "https://a.example/");
    let codes = |query: &str| -> Vec<String> {
        let page = json_of(&gateway.admin("GET", &format!("/api/links?{query}"), ""));
        let links = page["links"].as_array().unwrap().iter();
        links
            .map(|link| link["code"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(codes("").len(), 2);
    assert_eq!(codes("domain=sale.example"), ["two"]);
    assert_eq!(codes("domain=go.example:8443"), ["one"]);
    assert_eq!(codes("domain=other.example"), [""; 0]);
    assert_eq!(
        gateway
            .admin("GET", "/api/links?domain=nowhere.example", "")
            .status,
        400
    );
    let again = |domain: Value| {
        let made = gateway.admin(
            "POST",
            "/api/links",
            &json!({ "url": "https://a.example/", "domain": domain, "ifExists": "return" }),
        );
        (made.status, json_of(&made)["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(again(json!("sale.example")), (200, "two".into()));
    assert_eq!(again(Value::Null), (200, "one".into()));
    assert_eq!(again(json!("other.example")).0, 201);
    assert_eq!(again(json!("other.example")).0, 200);
}

#[test]
fn where_links_lead_and_who_may_make_them() {
    let gateway = gateway();
    for own in [
        "https://sale.example/x",
        "http://SALE.example:99/",
        "https://go.example:8443/x",
    ] {
        let refused = gateway.admin("POST", "/api/links", &json!({ "url": own }));
        assert_eq!(
            (refused.status, pointer(&refused)),
            (400, "#/url".to_owned()),
            "{own}"
        );
    }
    let new = json!({ "url": "https://a.example/", "domain": "sale.example" });
    let stranger = gateway.call("POST", "/api/links", &[("x-client-id", "ann")], &new);
    assert_eq!(
        (stranger.status, pointer(&stranger)),
        (400, "#/domain".to_owned())
    );
    let refused = gateway.admin(
        "POST",
        "/api/links",
        &json!({ "url": "https://a.example/", "domain": "nowhere.example" }),
    );
    assert_eq!((refused.status, pointer(&refused)), (400, "#/domain".to_owned()));
    let made = gateway.call(
        "POST",
        "/api/links",
        &[("x-client-id", "ann")],
        &json!({ "url": "https://a.example/" }),
    );
    assert_eq!(made.status, 201);
}

#[test]
fn visits_and_bounds_belong_to_the_link_of_the_host() {
    let gateway = gateway();
    gateway.on(None, "few", "https://a.example/");
    let new = json!({ "url": "https://b.example/", "code": "few", "domain": "sale.example", "maxVisits": 1 });
    assert_eq!(gateway.admin("POST", "/api/links", &new).status, 201);
    for _ in 0..3 {
        assert_eq!(
            gateway.led("go.example", "/few").1.as_deref(),
            Some("https://a.example/")
        );
    }
    assert_eq!(
        gateway.led("sale.example", "/few").1.as_deref(),
        Some("https://b.example/")
    );
    assert_eq!(
        gateway.led("sale.example", "/few").1.as_deref(),
        Some("https://shop.example/over")
    );
    let visits =
        |on: &str| json_of(&gateway.admin("GET", &format!("/api/links/few{on}"), ""))["visits"].clone();
    assert_eq!((visits(""), visits("?domain=sale.example")), (json!(3), json!(1)));
    let many = json!({ "codes": ["sale.example:few", "few", "nowhere.example:few"] });
    let gone = json_of(&gateway.admin("DELETE", "/api/links/bulk", &many));
    let statuses: Vec<_> = gone["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["status"].clone())
        .collect();
    assert_eq!(statuses, [204, 204, 404]);
}

#[test]
fn a_root_and_what_is_not_there_are_of_the_host() {
    let gateway = gateway();
    assert_eq!(
        gateway.led("sale.example", "/nothing"),
        (302, Some("https://shop.example/sorry".into()))
    );
    assert_eq!(gateway.led("go.example", "/nothing").0, 404);
    let root = |host| crate::admin::root(&gateway.settings.config, host);
    assert_eq!(
        root(Some("sale.example:80")).unwrap().header("location"),
        Some("https://shop.example/")
    );
    assert!(root(Some("other.example")).is_none() && root(None).is_none());
    let button = gateway.call("POST", "/nothing", &[SALE], b"open=1");
    assert_eq!(button.status, 404);
}

#[test]
fn names_of_domains_are_checked() {
    let parse = |text: &str| {
        Settings::parse(
            &format!("[server]\npublic_url = \"https://go.example\"\n{text}"),
            "f",
        )
    };
    for (key, text) in [
        ("host", "[[domains]]\nhost = \"Sale.example\""),
        ("host", "[[domains]]\nhost = \"sale.example:80\""),
        ("host", "[[domains]]\nhost = \"127.0.0.1\""),
        ("host", "[[domains]]\nhost = \"go.example\""),
        ("host", "[[domains]]\nroot_url = \"https://a.example/\""),
        (
            "root_url",
            "[[domains]]\nhost = \"sale.example\"\nroot_url = \"https://sale.example/\"",
        ),
        (
            "gone_url",
            "[[domains]]\nhost = \"sale.example\"\ngone_url = \"ftp://a.example/\"",
        ),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(&format!("domains[0].{key}")), "{error}");
    }
    let twice = "[[domains]]\nhost = \"sale.example\"\n".repeat(2);
    assert!(
        parse(&twice)
            .expect_err("twice")
            .to_string()
            .contains("domains[1].host")
    );
    let many: String = (0..65)
        .map(|n| format!("[[domains]]\nhost = \"h{n}.example\"\n"))
        .collect();
    assert!(parse(&many).is_err());
}

#[test]
fn the_clients_of_other_shorteners_name_domains_too() {
    let gateway = gateway();
    let call = |method: &str, path: &str, body: Value| {
        let answer = gateway.with(ADMIN, method, path, &body);
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {}",
            text(&answer)
        );
        json_of(&answer)
    };
    let shlink = |method: &str, path: &str, body: Value| {
        let answer = gateway.call(method, &format!("/rest/v3{path}"), &[("x-api-key", ADMIN)], &body);
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {}",
            text(&answer)
        );
        json_of(&answer)
    };
    gateway.on(None, "spring", "https://a.example/");
    let new = json!({ "longUrl": "https://b.example/", "customSlug": "spring", "domain": "sale.example" });
    let made = shlink("POST", "/short-urls", new);
    assert_eq!(
        (&made["shortCode"], &made["domain"]),
        (&json!("spring"), &json!("sale.example"))
    );
    assert_eq!(made["shortUrl"], "https://sale.example:8443/spring");
    let shown = |on: &str| shlink("GET", &format!("/short-urls/spring{on}"), Value::Null)["longUrl"].clone();
    assert_eq!(
        (shown(""), shown("?domain=sale.example")),
        (json!("https://a.example/"), json!("https://b.example/"))
    );
    let patch = json!({ "longUrl": "https://c.example/" });
    shlink("PATCH", "/short-urls/spring?domain=sale.example", patch);
    assert_eq!(
        (shown(""), shown("?domain=sale.example")),
        (json!("https://a.example/"), json!("https://c.example/"))
    );
    let listed = shlink("GET", "/short-urls?domain=sale.example", Value::Null);
    assert_eq!(listed["shortUrls"]["data"].as_array().unwrap().len(), 1);
    let domains = shlink("GET", "/domains", Value::Null);
    let names: Vec<_> = domains["domains"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["domain"].clone())
        .collect();
    assert_eq!(names, ["go.example:8443", "sale.example", "other.example"]);

    let dub = call(
        "POST",
        "/api/dub/links",
        json!({ "url": "https://d.example/", "key": "autumn", "domain": "other.example" }),
    );
    assert_eq!(
        (&dub["domain"], &dub["key"]),
        (&json!("other.example"), &json!("autumn"))
    );
    assert_eq!(dub["shortLink"], "https://other.example:8443/autumn");
    let info = call(
        "GET",
        "/api/dub/links/info?domain=other.example&key=autumn",
        Value::Null,
    );
    assert_eq!(info["id"], dub["id"]);
    let path = format!("/api/dub/links/{}", dub["id"].as_str().unwrap());
    let renamed = call(
        "PATCH",
        &path,
        json!({ "key": "winter", "domain": "other.example" }),
    );
    assert_eq!(
        (&renamed["domain"], &renamed["key"]),
        (&json!("other.example"), &json!("winter"))
    );
    assert_eq!(
        gateway
            .with(ADMIN, "PATCH", &path, &json!({ "domain": "sale.example" }))
            .status,
        422
    );
    let of = |query: &str| {
        call("GET", &format!("/api/dub/links?{query}"), Value::Null)
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        (of("domain=other.example"), of("domain=sale.example"), of("")),
        (1, 1, 3)
    );
    let again = call(
        "PUT",
        "/api/dub/links/upsert",
        json!({ "url": "https://d.example/", "domain": "sale.example" }),
    );
    assert_eq!(again["domain"], "sale.example");
    let same = call(
        "PUT",
        "/api/dub/links/upsert",
        json!({ "url": "https://d.example/", "domain": "sale.example", "title": "T" }),
    );
    assert_eq!(same["id"], again["id"]);
}
