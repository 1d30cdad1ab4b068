//! Forwarded requests and topics against the store in memory.

use futures::executor::block_on;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::config::{Config, Forward, Ordering, TopicSettings};
use crate::settings::Settings;
use crate::testing::{ADMIN, Gateway, body, pointer};
use tollgate_store::commit::StoreError;
use tollgate_store::memory::START;
use tollgate_store::ports::Store;

mod delayed;
mod deleting;

const ANN: (&str, &str) = ("x-client-id", "ann");

impl Gateway {
    /// With the topics `orders` and `coupon`, and routes that feed `signup`.
    fn forwarding() -> Self {
        let route = |path: &str, methods: &[&str], topic: &str| Forward {
            path: path.into(),
            methods: methods.iter().map(|m| (*m).to_owned()).collect(),
            topic: topic.into(),
            kind: super::MESSAGE_TYPE.into(),
            verify: None,
            secret: None,
            previous_secret: None,
            headers: Vec::new(),
            ordering: Ordering::None,
        };
        let config = Config {
            forward: vec![
                route("/hooks/...", &["*"], "hooks"),
                route("/signup", &["POST", "PUT"], "signup"),
                route("/hooks/:name", &["POST"], "signup"),
            ],
            topics: ["orders", "coupon"]
                .map(|name| (name.to_owned(), TopicSettings::default()))
                .into(),
            ..Config::default()
        };
        Self::with_settings(Settings::compile(config).unwrap())
    }

    fn depth(&self, topic: &str) -> usize {
        block_on(self.store.read(topic, 0, 1_000, 0)).unwrap().len()
    }
}

#[test]
fn a_request_becomes_a_record_and_a_message() {
    let gateway = Gateway::forwarding();
    let headers = [
        ANN,
        ("content-type", "application/json"),
        ("x-partition-key", "p-1"),
    ];
    let response = gateway.call("POST", "/api/topics/orders/messages", &headers, br#"{"n":1.0}"#);
    let answer = body(&response);
    let id = answer["id"].as_str().unwrap();
    assert_eq!(
        (response.status, &answer),
        (202, &json!({"id": id, "topic": "orders", "sequence": 1}))
    );
    let location = format!("/api/messages/{id}");
    assert_eq!(response.header("location"), Some(location.as_str()));

    let request = json!({
        "method": "POST", "path": "/api/topics/orders/messages", "query": null, "headers": {},
    });
    let record = body(&gateway.call("GET", &location, &[ANN], b""));
    let expected = json!({
        "id": id, "topic": "orders", "sequence": 1, "deliverAt": null, "key": "id:ann p-1", "contentType": "application/json",
        "method": "POST", "path": "/api/topics/orders/messages", "time": "2027-01-15T08:00:00Z", "client": "id:ann",
        "request": request, "deliveries": [],
    });
    assert_eq!(record, expected);

    let read = body(&gateway.admin("GET", "/api/topics/orders/messages", ""));
    let message = json!({
        "id": id, "sequence": 1, "topic": "orders", "key": "id:ann p-1", "type": "http.request",
        "time": "2027-01-15T08:00:00Z", "contentType": "application/json", "data": {"n": 1.0}, "request": request,
    });
    assert_eq!(read, json!({"messages": [message], "nextAfter": 1}));
}

#[test]
fn a_message_carries_its_place_in_a_trace_and_a_repetition_has_that_of_the_first() {
    const FIRST: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const SECOND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01";
    let gateway = Gateway::forwarding();
    let post = |headers: &[(&'static str, &'static str)]| {
        let sent = gateway.call("POST", "/api/topics/orders/messages", headers, b"x");
        assert_eq!(sent.status, 202);
    };
    let key = ("idempotency-key", "k");
    post(&[ANN, key, ("traceparent", FIRST)]);
    post(&[ANN, key, ("traceparent", SECOND)]);
    post(&[ANN, ("traceparent", "00-not-one")]);
    post(&[ANN, ("traceparent", FIRST), ("traceparent", FIRST)]);
    let read = body(&gateway.admin("GET", "/api/topics/orders/messages", ""));
    let places: Vec<_> = read["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["traceparent"])
        .collect();
    assert_eq!(places, [&json!(FIRST), &Value::Null, &Value::Null]);
}

#[test]
fn a_message_that_names_no_key_has_none() {
    let gateway = Gateway::forwarding();
    assert_eq!(
        gateway
            .call("POST", "/api/topics/orders/messages", &[ANN], b"\x00\xff")
            .status,
        202
    );
    let read = body(&gateway.admin("GET", "/api/topics/orders/messages", ""));
    let message = &read["messages"][0];
    assert_eq!(
        (&message["key"], &message["dataBase64"]),
        (&Value::Null, &json!("AP8="))
    );
    assert_eq!(message["contentType"], "application/octet-stream");
}

#[test]
fn a_record_is_for_its_sender_and_for_the_scope() {
    let gateway = Gateway::forwarding();
    let sent = gateway.call("POST", "/api/topics/orders/messages", &[ANN], b"x");
    let path = sent.header("location").unwrap();
    assert_eq!(
        gateway.call("GET", path, &[("x-client-id", "bob")], b"").status,
        403
    );
    assert_eq!(gateway.call("GET", path, &[], b"").status, 401);
    assert_eq!(gateway.admin("GET", path, "").status, 200);
    for path in [
        "/api/messages/",
        "/api/messages/x",
        "/api/messages/00aaaaaaaaaaaaaaaaaaaa",
        "/api/messages/é",
    ] {
        assert_eq!(gateway.call("GET", path, &[ANN], b"").status, 404, "{path}");
    }
    assert_eq!(gateway.call("DELETE", path, &[ANN], b"").status, 405);
    gateway.store.set_now(START + 15 * 24 * 60 * 60 * 1_000);
    assert_eq!(gateway.call("GET", path, &[ANN], b"").status, 404);
}

#[test]
fn bad_requests_name_their_field_and_append_nothing() {
    let gateway = Gateway::forwarding();
    let post = |headers: &[(&str, &str)], body: &[u8]| {
        gateway.call("POST", "/api/topics/orders/messages", headers, body)
    };
    let nobody = post(&[], b"x");
    assert_eq!(
        (nobody.status, &body(&nobody)["type"]),
        (400, &json!("urn:tollgate:problem:client-id-required"))
    );
    assert_eq!(
        pointer(&post(&[("x-client-id", "a b")], b"x")),
        "header:x-client-id"
    );
    assert_eq!(
        pointer(&post(&[ANN, ("x-partition-key", "")], b"x")),
        "header:x-partition-key"
    );
    assert_eq!(
        pointer(&post(&[ANN, ("x-partition-key", &"x".repeat(129))], b"x")),
        "header:x-partition-key"
    );
    assert_eq!(
        pointer(&post(&[ANN, ("content-type", "a\u{1}")], b"x")),
        "header:content-type"
    );
    assert_eq!(
        pointer(&post(&[ANN, ("idempotency-key", "k k")], b"x")),
        "header:idempotency-key"
    );
    assert_eq!(
        pointer(&gateway.call("POST", "/api/topics/A%20b/messages", &[ANN], b"x")),
        "path:topic"
    );
    assert_eq!(
        pointer(&post(&[ANN, ("x-partition-key", "a b")], b"x")),
        "header:x-partition-key"
    );
    assert_eq!(
        pointer(&post(
            &[ANN, ("x-partition-key", "a"), ("x-partition-key", "b")],
            b"x"
        )),
        "header:x-partition-key"
    );
    let most = usize::try_from(gateway.settings.config.server.max_body.0).unwrap();
    assert_eq!(post(&[ANN], &vec![0; most + 1]).status, 413);
    assert_eq!(gateway.depth("orders"), 0);
    assert_eq!(post(&[ANN], &vec![0; most]).status, 202);
    assert_eq!(post(&[ANN], b"").status, 202);
}

#[test]
fn strangers_neither_begin_topics_nor_forge_claims() {
    let gateway = Gateway::forwarding();
    let post = |topic: &str, headers: &[(&str, &str)]| {
        gateway
            .call("POST", &format!("/api/topics/{topic}/messages"), headers, b"x")
            .status
    };
    assert_eq!(
        (
            post("signup", &[ANN]),
            post("new", &[ANN]),
            post("coupon", &[ANN])
        ),
        (202, 404, 404)
    );
    let admin = format!("Bearer {ADMIN}");
    assert_eq!(
        (
            post("new", &[("authorization", &admin)]),
            post("coupon", &[("authorization", &admin)])
        ),
        (202, 202)
    );
    assert_eq!(post("new", &[ANN]), 404);
}

#[test]
fn a_credential_that_is_sent_is_never_ignored() {
    let gateway = Gateway::forwarding();
    let sent = gateway.call("POST", "/api/topics/orders/messages", &[ANN], b"x");
    let record = sent.header("location").unwrap();
    for bad in [
        "Bearer nobody-has-ever-seen-this-key",
        "Basic YW5uOmFubg==",
        "Bearer",
    ] {
        let headers = [ANN, ("authorization", bad)];
        let calls = [
            gateway.call("POST", "/api/topics/orders/messages", &headers, b"x"),
            gateway.call("POST", "/api/topics/orders/messages", &headers[1..], b"x"),
            gateway.call("GET", record, &headers, b""),
        ];
        for answer in calls {
            let asks = answer.header("www-authenticate");
            assert_eq!((answer.status, asks), (401, Some("Bearer")), "{bad}");
        }
    }
    assert_eq!(gateway.depth("orders"), 1);
    // A route of the configuration may be the site's own, with its own credentials.
    let foreign = [("authorization", "Bearer of-the-site-behind-us")];
    assert_eq!(gateway.call("POST", "/signup", &foreign, b"x").status, 202);
}

#[test]
fn an_idempotency_key_posts_once() {
    let gateway = Gateway::forwarding();
    let post = |client: &str, body: &[u8]| {
        let headers = [("x-client-id", client), ("idempotency-key", "\"k\"")];
        gateway.call("POST", "/api/topics/orders/messages", &headers, body)
    };
    let first = post("ann", b"x");
    let again = post("ann", b"x");
    assert_eq!(
        (again.status, &again.body, again.header("location")),
        (202, &first.body, first.header("location"))
    );
    assert_eq!(
        (
            first.header("idempotency-replayed"),
            again.header("idempotency-replayed")
        ),
        (None, Some("true"))
    );
    assert_eq!((post("ann", b"y").status, post("bob", b"y").status), (422, 202));
    assert_eq!(gateway.depth("orders"), 2);
}

#[test]
fn a_lost_reply_is_asked_for_again_and_appends_once() {
    for key in [None, Some(("idempotency-key", "\"k\""))] {
        let gateway = Gateway::forwarding();
        let headers: Vec<_> = [ANN].into_iter().chain(key).collect();
        gateway.store.fail_next(StoreError::Unknown("lost".into()));
        let response = gateway.call("POST", "/api/topics/orders/messages", &headers, b"x");
        assert_eq!((response.status, &body(&response)["sequence"]), (202, &json!(1)));
        assert_eq!(response.header("idempotency-replayed"), None);
        assert_eq!(gateway.depth("orders"), 1);
    }
}

#[test]
fn configured_routes_take_plain_requests() {
    let gateway = Gateway::forwarding();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let response = gateway.call("POST", "/signup", &form, b"name=ann");
    assert_eq!(
        (response.status, &body(&response)["topic"]),
        (202, &json!("signup"))
    );
    let record = body(&gateway.call("GET", response.header("location").unwrap(), &[], b""));
    assert_eq!(
        (&record["client"], &record["path"]),
        (&json!("ip:192.0.2.1"), &json!("/signup"))
    );

    for twice in ["x-partition-key", "content-type"] {
        let refused = gateway.call("POST", "/signup", &[(twice, "a"), (twice, "b")], b"");
        assert_eq!(
            (refused.status, pointer(&refused)),
            (400, format!("header:{twice}"))
        );
    }

    let wrong = gateway.call("GET", "/signup", &[], b"");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST, PUT")));
    assert_eq!(gateway.call("POST", "/else/where", &[], b"").status, 404);
    // The more specific route first, another where only that one takes the method.
    assert_eq!(
        body(&gateway.call("POST", "/hooks/a", &[], b""))["topic"],
        "signup"
    );
    assert_eq!(body(&gateway.call("PUT", "/hooks/a", &[], b""))["topic"], "hooks");
    assert_eq!(
        body(&gateway.call("POST", "/hooks/a/b", &[], b""))["topic"],
        "hooks"
    );
}

#[test]
fn topics_show_their_extent() {
    let gateway = Gateway::forwarding();
    gateway.call("POST", "/api/topics/orders/messages", &[ANN], b"x");
    gateway.store.set_now(START + 1_000);
    gateway.call("POST", "/api/topics/orders/messages", &[ANN], b"x");
    let orders = json!({
        "name": "orders", "first": 1, "last": 2, "depth": 2, "bytes": 1_314, "oldestTime": "2027-01-15T08:00:00Z",
        "newestTime": "2027-01-15T08:00:01Z", "subscriptions": [], "groups": [],
    });
    assert_eq!(body(&gateway.admin("GET", "/api/topics/orders", "")), orders);
    let empty = body(&gateway.admin("GET", "/api/topics/signup", ""));
    assert_eq!(
        (&empty["depth"], &empty["first"], &empty["last"]),
        (&json!(0), &json!(1), &json!(0))
    );
    assert_eq!(gateway.admin("GET", "/api/topics/none", "").status, 404);
    assert_eq!(gateway.call("GET", "/api/topics", &[ANN], b"").status, 401);
    assert_eq!(gateway.call("GET", "/api/topics/orders", &[ANN], b"").status, 401);
    assert_eq!(
        gateway
            .call("GET", "/api/topics/orders/messages", &[ANN], b"")
            .status,
        401
    );

    let mut names = Vec::new();
    let mut path = "/api/topics?limit=1".to_owned();
    for _ in 0..9 {
        let page = body(&gateway.admin("GET", &path, ""));
        names.extend(
            page["topics"]
                .as_array()
                .unwrap()
                .iter()
                .map(|topic| topic["name"].clone()),
        );
        match page["nextCursor"].as_str() {
            Some(cursor) => path = format!("/api/topics?limit=1&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(names, ["coupon", "hooks", "orders", "signup"]);
}

#[test]
fn messages_are_read_from_where_one_was() {
    let gateway = Gateway::forwarding();
    for n in 0..3 {
        gateway.call(
            "POST",
            "/api/topics/orders/messages",
            &[ANN, ("content-type", "text/plain")],
            &[b'0' + n],
        );
    }
    let read = |query: &str| gateway.admin("GET", &format!("/api/topics/orders/messages?{query}"), "");
    let data = |query: &str| {
        let page = body(&read(query));
        let data: Vec<_> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["data"].clone())
            .collect();
        (data, page["nextAfter"].clone())
    };
    assert_eq!(data("limit=2"), (vec![json!("0"), json!("1")], json!(2)));
    assert_eq!(data("after=2&wait=0"), (vec![json!("2")], json!(3)));
    assert_eq!(data("after=9"), (vec![], json!(9)));
    assert_eq!(
        body(&gateway.admin("GET", "/api/topics/none/messages", ""))["messages"],
        json!([])
    );
    for (bad, at) in [
        ("after=-1", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("wait=31", "wait"),
        ("x=1", "x"),
    ] {
        assert_eq!(pointer(&read(bad)), format!("query:{at}"));
    }
    assert_eq!(
        gateway
            .admin("DELETE", "/api/topics/orders/messages", "")
            .header("allow"),
        Some("GET, HEAD, POST")
    );
}

/// The key, the request, and the delivery's headers of the only message of a topic.
fn kept(gateway: &Gateway, topic: &str) -> (String, Value, BTreeMap<String, String>) {
    let message = block_on(gateway.store.read(topic, 0, 1_000, 0))
        .unwrap()
        .remove(0);
    let headers = tollgate_delivery::webhook::delivery_headers(&message, "/", &[], START);
    let headers = headers
        .into_iter()
        .map(|header| (header.name.into_owned(), String::from_utf8(header.value).unwrap()));
    let read = body(&gateway.admin("GET", &format!("/api/topics/{topic}/messages"), ""));
    (
        message.key,
        read["messages"][0]["request"].clone(),
        headers.collect(),
    )
}

#[test]
fn a_forwarded_request_keeps_all_that_was_accepted() {
    let mut gateway = Gateway::forwarding();
    gateway.settings.config.forward[1].headers = vec!["stripe-signature".into(), "x-github-*".into()];
    let headers = [
        ("content-encoding", "gzip"),
        ("content-type", "application/json"),
        ("stripe-signature", "t=1,v1=abc"),
        ("x-github-event", "push"),
        ("x-github-event", "again"),
        ("x-other", "no"),
        ("authorization", "Basic of-the-site"),
    ];
    let response = gateway.call("PUT", "/signup?plan=pro&ref=%22a", &headers, b"\x1f\x8b");
    assert_eq!(response.status, 202, "{:?}", response.body);
    let (_, request, delivered) = kept(&gateway, "signup");
    let expected = json!({
        "method": "PUT", "path": "/signup", "query": "plan=pro&ref=%22a",
        "headers": {
            "content-encoding": "gzip", "stripe-signature": "t=1,v1=abc", "x-github-event": "push, again",
        },
    });
    assert_eq!(request, expected);
    for (name, value) in [
        ("ce-method", "PUT"),
        ("ce-path", "/signup"),
        ("ce-query", "plan=pro&ref=%2522a"),
        ("content-encoding", "gzip"),
        ("stripe-signature", "t=1,v1=abc"),
        ("x-github-event", "push, again"),
    ] {
        assert_eq!(delivered.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!delivered.contains_key("x-other") && !delivered.contains_key("authorization"));
    let record = body(&gateway.call("GET", response.header("location").unwrap(), &[], b""));
    assert_eq!(
        (&record["method"], &record["request"]),
        (&json!("PUT"), &expected)
    );
}

#[test]
fn a_callers_ordering_key_is_in_the_callers_own_namespace() {
    let key = |headers: &[(&str, &str)], ordering: Ordering| {
        let mut gateway = Gateway::forwarding();
        gateway.settings.config.forward[1].ordering = ordering;
        assert_eq!(gateway.call("POST", "/signup", headers, b"x").status, 202);
        kept(&gateway, "signup").0
    };
    let victim = ("x-partition-key", "ip:127.0.0.1");
    assert_eq!(key(&[victim], Ordering::None), "ip:192.0.2.1 ip:127.0.0.1");
    assert_eq!(key(&[ANN, victim], Ordering::Client), "id:ann ip:127.0.0.1");
    assert_eq!(key(&[ANN], Ordering::Client), "id:ann");
    assert_eq!(key(&[ANN], Ordering::None), "");
    let header = || Ordering::Header("x-order".into());
    assert_eq!(key(&[ANN, ("x-order", "7")], header()), "x-order 7");
    assert_eq!(key(&[ANN], header()), "");
    assert_eq!(
        key(&[ANN, ("x-order", "7"), victim], header()),
        "id:ann ip:127.0.0.1"
    );
    let admin = format!("Bearer {ADMIN}");
    let trusted = [
        ("authorization", admin.as_str()),
        ("x-partition-key", "id:ann p-1"),
    ];
    assert_eq!(
        key(&trusted, Ordering::None),
        "id:ann p-1",
        "the scope may name any"
    );
    // No way out of one's own: a space is refused, and no client id holds one.
    let gateway = Gateway::forwarding();
    let tricky = [("x-client-id", "a b"), ("x-partition-key", "c")];
    let sent = gateway.call("POST", "/api/topics/orders/messages", &tricky, b"x");
    assert_eq!(sent.status, 400);
}

#[test]
fn a_topic_takes_no_more_than_its_backlog() {
    let mut gateway = Gateway::forwarding();
    let each = tollgate_store::commit::MESSAGE_OVERHEAD;
    let orders = gateway.settings.config.topics.get_mut("orders").unwrap();
    orders.max_backlog = Some(tollgate_api::units::Bytes(5 * each));
    let post = || gateway.call("POST", "/api/topics/orders/messages", &[ANN], b"");
    let taken = (0..10).take_while(|_| post().status == 202).count();
    assert_eq!(taken, 4, "what each weighs besides its overhead counts too");
    let full = post();
    assert_eq!(
        (full.status, &body(&full)["type"], full.header("retry-after")),
        (503, &json!("urn:tollgate:problem:backlog-full"), Some("30"))
    );
    let other = gateway.call("POST", "/api/topics/signup/messages", &[ANN], b"");
    assert_eq!(other.status, 202, "another topic");
    let orders = gateway.settings.config.topics.get_mut("orders").unwrap();
    orders.overflow = crate::config::Overflow::DropOldest;
    assert_eq!(orders.drop_beyond(), Some(5 * each));
    let post = || gateway.call("POST", "/api/topics/orders/messages", &[ANN], b"");
    let taken = (0..20).take_while(|_| post().status == 202).count();
    assert!(
        (4..10).contains(&taken),
        "as much again, until the oldest are swept: {taken}"
    );
}

#[test]
fn a_record_of_the_version_before_is_read() {
    let gateway = Gateway::forwarding();
    let id = "0aaaaaaaaaaaaaaaaaaaaa".to_owned();
    let value = r#"{"topic":"orders","sequence":3,"key":"id:ann","client":"id:ann","contentType":"text/plain","method":"POST","path":"/p","time":1800000000000}"#;
    let set = tollgate_store::commit::Mutation::Set {
        key: format!("message/{id}"),
        value: tollgate_store::commit::literal(value),
        expires: None,
    };
    let commit = tollgate_store::commit::Commit {
        mutations: vec![set],
        ..tollgate_store::commit::Commit::default()
    };
    block_on(gateway.store.commit(commit)).unwrap();
    let record = gateway.call("GET", &format!("/api/messages/{id}"), &[ANN], b"");
    assert_eq!(record.status, 200, "{:?}", String::from_utf8_lossy(&record.body));
    let record = body(&record);
    assert_eq!(
        (
            &record["key"],
            &record["path"],
            &record["contentType"],
            &record["request"]
        ),
        (&json!("id:ann"), &json!("/p"), &json!("text/plain"), &Value::Null)
    );
}

#[test]
fn another_kept_header_makes_another_request_under_the_same_key() {
    let mut gateway = Gateway::forwarding();
    gateway.settings.config.forward[1].headers = vec!["x-signature".into()];
    let plain = vec![("idempotency-key", "k"), ("x-signature", "a")];
    let send = |headers: &[(&str, &str)]| gateway.call("POST", "/signup", headers, b"x");
    assert_eq!(send(&plain).status, 202);
    let again = send(&plain);
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (202, Some("true"))
    );
    let others = [
        vec![("idempotency-key", "k"), ("x-signature", "b")],
        vec![("idempotency-key", "k")],
        [&plain[..], &[("content-encoding", "gzip")]].concat(),
    ];
    for other in others {
        assert_eq!(send(&other).status, 422, "{other:?}");
    }
    // What is not kept tells nobody apart.
    assert_eq!(send(&[&plain[..], &[("x-other", "c")]].concat()).status, 202);
    assert_eq!(gateway.depth("signup"), 1);
}

#[test]
fn a_route_that_verifies_takes_what_is_signed_and_nothing_else_and_gives_it_its_type() {
    let text = "[[forward]]\npath = \"/stripe\"\ntopic = \"paid\"\ntype = \"stripe.event\"\nverify = \"github\"\n\
                secret = \"0123456789abcdef\"\n";
    let gateway = Gateway::with_settings(Settings::parse(text, "f").unwrap());
    // HMAC-SHA-256 of `{}` by that key, as `openssl dgst -hmac` tells it.
    let signature = "sha256=f91e3e9f05cc2df64ac1c26f8adccdffda8d1e4a7a8c50a1a08eeadac6ddfec5";
    let sign =
        |value: &'static str| gateway.call("POST", "/stripe", &[("x-hub-signature-256", value)], b"{}");
    assert_eq!(sign(signature).status, 202);
    for bad in ["sha256=00", "", "sha256=x"] {
        let refused = sign(bad);
        assert_eq!(
            (refused.status, body(&refused)["type"].as_str()),
            (401, Some("urn:tollgate:problem:invalid-signature"))
        );
    }
    assert_eq!(gateway.call("POST", "/stripe", &[], b"{}").status, 401);
    assert_eq!(gateway.depth("paid"), 1);
    let read = body(&gateway.admin("GET", "/api/topics/paid/messages", ""));
    assert_eq!(read["messages"][0]["type"], "stripe.event");
}
