//! Templates, keys, values and labels.

use super::*;

fn message(payload: &str) -> Message {
    Message {
        topic: "signup".into(),
        sequence: 7,
        id: "m7".into(),
        key: "user/é %".into(),
        kind: "x.y".into(),
        content_type: "application/json".into(),
        time: 1_800_000_000_000,
        payload: payload.as_bytes().to_vec(),
        ..Message::default()
    }
}

fn key(template: &str, payload: &str) -> Result<String, String> {
    let message = message(payload);
    let entry = Template::parse(template)
        .expect(template)
        .entry(&message, &message);
    entry.map(|entry| entry.key)
}

#[test]
fn a_key_is_made_of_the_fields_that_it_names() {
    let payload = r#"{"user":"a/b","big":12345678901234567890123,"list":[{"x":true}]}"#;
    for (template, expected) in [
        (KEY, "signup/m7"),
        ("{topic}:{sequence}", "signup:7"),
        ("latest/{key}", "latest/user%2F%C3%A9%20%25"),
        (
            "claims/{data.user}/{data.big}",
            "claims/a%2Fb/12345678901234567890123",
        ),
        ("a-{data.list.0.x}-z", "a-true-z"),
        ("{topic}/{type}/{time}", "signup/x.y/2027-01-15T08%3A00%3A00Z"),
    ] {
        assert_eq!(key(template, payload).as_deref(), Ok(expected));
    }
    let entry = Template::parse(KEY)
        .unwrap()
        .entry(&message("1"), &message("1"))
        .unwrap();
    let value: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
    assert_eq!((&value["id"], &value["data"]), (&"m7".into(), &1.into()));
}

#[test]
fn what_a_key_lacks_is_told_and_what_is_too_long_is_not_kept() {
    for payload in [
        "{}",
        r#"{"user":null}"#,
        r#"{"user":""}"#,
        r#"{"user":{}}"#,
        r#"{"user":[1]}"#,
        "text",
        r#"{"user":"\ud800"}"#,
    ] {
        let why = key("c/{data.user}", payload).expect_err(payload);
        assert!(why.starts_with("key: data.user"), "{why}");
    }
    let long = |length: usize| format!(r#"{{"user":"{}"}}"#, "x".repeat(length));
    assert_eq!(key("c/{data.user}", &long(MAX_KEY - 2)).unwrap().len(), MAX_KEY);
    assert!(
        key("c/{data.user}", &long(MAX_KEY - 1))
            .unwrap_err()
            .contains("255")
    );
    assert!(key(KEY, &long(MAX_VALUE - 200)).is_ok());
    assert!(key(KEY, &long(MAX_VALUE)).unwrap_err().contains("1000000"));
}

#[test]
fn different_messages_never_share_a_key_by_chance() {
    let of = |a: &str, b: &str| {
        key(
            "c/{data.a}/{data.b}",
            &serde_json::json!({ "a": a, "b": b }).to_string(),
        )
    };
    for (one, other) in [
        (("a/b", "c"), ("a", "b/c")),
        (("a%2Fb", "c"), ("a/b", "c")),
        (("a", "b-c"), ("a-b", "c")),
    ] {
        assert_ne!(of(one.0, one.1).unwrap(), of(other.0, other.1).unwrap());
    }
    proptest::proptest!(|(one: (String, String), other: (String, String))| {
        if let (Ok(a), Ok(b)) = (of(&one.0, &one.1), of(&other.0, &other.1)) {
            proptest::prop_assert!(a.starts_with("c/") && a.bytes().all(|byte| byte.is_ascii_graphic()));
            proptest::prop_assert_eq!(a == b, one == other);
        }
    });
}

#[test]
fn any_text_is_a_template_whose_keys_are_below_its_beginning_or_is_refused() {
    let pieces = proptest::collection::vec(
        "[{}]|\\{(topic|id|key|type|data\\.x|message)\\}|[a-z/:.-]{0,3}",
        0..8,
    );
    proptest::proptest!(|(pieces in pieces)| {
        let text = pieces.concat();
        if let Ok(template) = Template::parse(&text) {
            let beginning = text.split('{').next().unwrap_or_default();
            let message = message(r#"{"x":"../a"}"#);
            let entry = template.entry(&message, &message).unwrap();
            let has_braces = entry.key.contains(['{', '}']);
            proptest::prop_assert!(entry.key.starts_with(beginning) && !has_braces);
            proptest::prop_assert!(!beginning.is_empty() || entry.key.starts_with("signup"));
        }
    });
}

#[test]
fn what_is_no_template_is_refused() {
    for bad in [
        "",
        "plain",
        "{key}",
        "{id}",
        "{key}/{id}",
        "a b{id}",
        "a/{",
        "a/}",
        "a/{}",
        "a/{id",
        "a/{{id}}",
        "a/{{id}",
        "a/{nobody}",
        "a/{data}",
        "a/{message}",
        "a/{request}",
        "a/{dataBase64}",
        "a/{id.x}",
        "{topic}/{key}{id}",
        "a/{key}-{id}",
        "é/{id}",
        "a/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}",
    ] {
        assert!(Template::parse(bad).is_err(), "{bad}");
    }
    assert!(Template::parse(&format!("{}{{id}}", "x".repeat(MAX_TEMPLATE))).is_err());
    for good in [
        "x{id}",
        "{topic}/{id}",
        "a/{id}/z",
        "{topic}:{request.path}",
        "{topic}-{id}",
        "a{topic}{id}",
        "{topic}",
    ] {
        assert!(Template::parse(good).is_ok(), "{good}");
    }
    assert!(
        Template::parse("a/{key}").unwrap().is_shared()
            && !Template::parse("a/{key}/{sequence}").unwrap().is_shared()
    );
}

#[test]
fn a_store_is_named_by_its_label() {
    assert_eq!(label("key-value://default"), Ok("default"));
    assert_eq!(label("key-value://My_store-2"), Ok("My_store-2"));
    for bad in [
        "",
        "default",
        "key-value:default",
        "key-value://",
        "key-value://a/b",
        "key-value://u:p@a",
        "http://default",
        "key-value://é",
    ] {
        assert!(label(bad).is_err(), "{bad}");
    }
    assert!(label(&format!("{SCHEME}{}", "x".repeat(MAX_LABEL + 1))).is_err());
}

#[test]
fn only_a_later_message_of_the_same_topic_is_later() {
    let of = |sequence: u64, time: u64, topic: &str| {
        let message = Message {
            sequence,
            time,
            topic: topic.into(),
            ..message("1")
        };
        json(&message).unwrap().into_bytes()
    };
    let (mine, at) = (message("1"), 1_800_000_000_000);
    assert!(is_later(&of(8, at, "signup"), &mine));
    assert!(is_later(&of(8, at + 1, "signup"), &mine));
    assert!(!is_later(&of(7, at, "signup"), &mine), "the same");
    assert!(
        !is_later(&of(6, at + 1, "signup"), &mine),
        "the clock was set back"
    );
    assert!(
        !is_later(&of(8, at - 1, "signup"), &mine),
        "of a store that was there before"
    );
    assert!(!is_later(&of(8, at, "other"), &mine));
    for foreign in [&b""[..], b"7", b"{}", &[0xff; 8]] {
        assert!(!is_later(foreign, &mine));
    }
}
