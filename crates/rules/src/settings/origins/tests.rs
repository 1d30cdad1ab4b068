use crate::config::Config;
use crate::settings::Settings;
use tollgate_api::components::Component;

const ORIGIN: &str = "[[origins]]\nname = \"shop\"\nurls = [\"http://10.0.0.7:8080\"]\n";
const ROUTE: &str = "[[proxy]]\npath = \"/shop/...\"\norigin = \"shop\"\n";

fn parsed(text: &str) -> Settings {
    Settings::parse(text, "t").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[track_caller]
fn refused(key: &str, text: &str) {
    match Settings::parse(text, "t") {
        Ok(_) => panic!("{key} was accepted:\n{text}"),
        Err(error) => assert_eq!(error.key, key, "{error}"),
    }
}

#[test]
fn every_rule_of_an_origin_is_checked() {
    parsed(&[ORIGIN, ROUTE].concat());
    for (key, line) in [
        ("urls", "urls = []"),
        ("urls[0]", "urls = [\"http://a.example/path\"]"),
        ("urls[0]", "urls = [\"http://a.example?q\"]"),
        ("urls[0]", "urls = [\"http://u:p@a.example\"]"),
        ("urls[0]", "urls = [\"ftp://a.example\"]"),
        ("urls[0]", "urls = [\"a.example:80\"]"),
        ("urls[1]", "urls = [\"http://a.example\", \"http://a.example\"]"),
        ("urls[0]", "urls = [\"http://127.0.0.1:3000\"]"),
        ("connect_timeout", "connect_timeout = \"1ms\""),
        ("timeout", "timeout = \"2h\""),
        ("idle_timeout", "idle_timeout = \"0s\""),
        ("retries", "retries = 6"),
        ("max_concurrent", "max_concurrent = 0"),
        ("max_queue", "max_queue = 100000"),
        ("max_idle", "max_idle = 5000"),
        ("breaker.percent", "breaker = { percent = 101 }"),
        ("breaker.failures", "breaker = { failures = 0 }"),
        (
            "breaker.open_cap",
            "breaker = { open = \"10s\", open_cap = \"9s\" }",
        ),
        ("health.path", "health = { path = \"health\" }"),
        (
            "health.timeout",
            "health = { path = \"/\", every = \"1s\", timeout = \"2s\" }",
        ),
        ("health.rise", "health = { path = \"/\", rise = 0 }"),
        ("cache_object", "cache_object = \"9MiB\""),
        ("cache_memory", "cache_memory = \"1KiB\""),
        ("stale_after", "stale_after = \"50ms\""),
        ("stale_if_error", "stale_if_error = \"10ms\""),
        ("cache", "cache = \"on\""),
        ("health", "http2 = \"always\"\nhealth = { path = \"/\" }"),
    ] {
        let text = match line.starts_with("urls") {
            true => format!("[[origins]]\nname = \"shop\"\n{line}\n{ROUTE}"),
            false => format!("{ORIGIN}{line}\n{ROUTE}"),
        };
        refused(&format!("origins[0].{key}"), &text);
    }
    refused("origins[1].name", &[ORIGIN, ORIGIN, ROUTE].concat());
    refused(
        "origins[0].name",
        &[&ORIGIN.replace("shop", "a b"), ROUTE].concat(),
    );
}

#[test]
fn every_rule_of_a_route_is_checked() {
    for (key, line) in [
        ("methods[0]", "methods = [\"get\"]"),
        ("methods[0]", "methods = [\"CONNECT\"]"),
        ("strip_prefix", "strip_prefix = \"/sho\""),
        ("strip_prefix", "strip_prefix = \"/shop/\""),
        ("headers.host", "headers = { host = \"a\" }"),
        ("headers.x-forwarded-for", "headers = { x-forwarded-for = \"a\" }"),
        (
            "headers.transfer-encoding",
            "headers = { transfer-encoding = \"a\" }",
        ),
        ("headers.x-a", "headers = { x-a = \"a\\r\\nb\" }"),
        ("max_body", "max_body = \"2TiB\""),
    ] {
        refused(&format!("proxy[0].{key}"), &format!("{ORIGIN}{ROUTE}{line}\n"));
    }
    for path in ["/api/x", "/:any", "/health", "shop"] {
        let route = ROUTE.replace("/shop/...", path);
        refused("proxy[0].path", &[ORIGIN, &route].concat());
    }
    refused(
        "proxy[0].origin",
        &[ORIGIN, &ROUTE.replace("\"shop\"", "\"shops\"")].concat(),
    );
    refused("proxy[1].path", &[ORIGIN, ROUTE, ROUTE].concat());
    let own = "[[components]]\nname = \"c\"\npath = \"/shop/...\"\nsource = \"c.wasm\"\n";
    refused("proxy[0].path", &[ORIGIN, ROUTE, own].concat());
    // Two of one path part by their methods.
    let (get, post) = ("methods = [\"GET\"]\n", "methods = [\"POST\"]\n");
    let settings = parsed(&[ORIGIN, ROUTE, get, ROUTE, post].concat());
    assert_eq!(settings.proxied("HEAD", "/shop/a"), Some(Ok(0)));
    assert_eq!(settings.proxied("POST", "/shop/a"), Some(Ok(1)));
    let allow = settings.proxied("PUT", "/shop/a").unwrap().unwrap_err();
    assert_eq!(allow.headers[0].value, b"GET, POST");
}

#[test]
fn the_most_specific_route_takes_a_path_and_never_one_of_the_gateways_own() {
    let text = [
        ORIGIN,
        ROUTE,
        &ROUTE.replace("/shop/...", "/..."),
        &ROUTE.replace("/shop/...", "/shop/:item/buy"),
        "[[components]]\nname = \"c\"\npath = \"/shop/own\"\nsource = \"c.wasm\"\n",
        "[[forward]]\npath = \"/shop/events\"\ntopic = \"t\"\n",
    ];
    let settings = parsed(&text.concat());
    let route = |path: &str| {
        settings
            .proxied("GET", path)
            .map(|route| route.expect("all methods"))
    };
    assert_eq!(route("/shop"), Some(0));
    assert_eq!(route("/shop/7/buy"), Some(2));
    assert_eq!(
        (route("/"), route("/a/b"), route("/code123")),
        (Some(1), Some(1), Some(1))
    );
    for own in [
        "/api",
        "/api/links",
        "/API/x",
        "/health/ready",
        "/metrics",
        "/.well-known/x",
        "/shop/events",
        "/shop/own",
    ] {
        assert_eq!(route(own), None, "{own}");
    }
    assert!(settings.is_proxied("/shop/x") && !settings.is_proxied("/api/x"));
    assert!(settings.proxied("CONNECT", "/shop/x").unwrap().is_err());
    assert_eq!(settings.component("/shop"), Component::Admin);
    let plain = Settings::default();
    assert!(!plain.has_proxy() && plain.proxied("GET", "/shop/x").is_none());
}

#[test]
fn the_commented_origin_of_the_sample_is_valid_and_equals_the_defaults() {
    let (_, rest) = crate::config::SAMPLE.split_once("# [[origins]]").unwrap();
    let (shown, _) = rest.split_once("\n\n").unwrap();
    let lines = shown
        .lines()
        .filter_map(|line| line.strip_prefix("# ").or(line.strip_prefix('#')));
    let text: String = ["[[origins]]"]
        .into_iter()
        .chain(lines)
        .map(|line| format!("{line}\n"))
        .collect();
    let mut shown = parsed(&text).config;
    let mut bare: Config = parsed(&[ORIGIN, ROUTE].concat()).config;
    shown.origins[0].urls.truncate(1);
    bare.origins[0].health = shown.origins[0].health.clone();
    (bare.origins[0].cache, bare.origins[0].stale_if_error) =
        (shown.origins[0].cache, shown.origins[0].stale_if_error);
    bare.origins[0].stale_after = shown.origins[0].stale_after;
    assert_eq!((shown.origins, shown.proxy), (bare.origins, bare.proxy));
}

#[test]
fn fixed_headers_are_secrets() {
    let settings = parsed(&[ORIGIN, ROUTE, "headers = { x-key = \"hunter2\" }\n"].concat());
    assert!(!settings.config.to_toml().contains("hunter2"));
    assert!(!settings.config.for_components().contains("hunter2"));
    // The rules see the routes all the same: a proxied path is no code.
    let theirs = parsed(&settings.config.for_components());
    assert!(theirs.is_proxied("/shop/x"));
}
