use futures::executor::block_on;

use super::*;
use crate::keys::mint;
use crate::keys::shelf::{Shelf, fresh, request};
use tollgate_api::calls::Scope;
use tollgate_api::http::Header;

fn proxies(networks: &[&str]) -> Proxies {
    let networks: Vec<String> = networks.iter().map(|&text| text.to_owned()).collect();
    Proxies::parse(&networks).unwrap()
}

/// The client's address as seen behind 10.0.0.0/8 and one IPv6 proxy, spoken to by `peer`.
fn ip(peer: &str, headers: &[(&str, &str)]) -> String {
    let proxies = proxies(&["10.0.0.0/8", "2001:db8:ffff::1", "::ffff:172.16.0.0/108"]);
    let mut request = request("GET", "/", headers);
    request.peer = peer.to_owned();
    proxies.client_ip(&request).into_owned()
}

#[test]
fn a_stranger_is_not_believed() {
    for name in ["forwarded", "x-forwarded-for"] {
        let value = if name == "forwarded" {
            "for=198.51.100.7"
        } else {
            "198.51.100.7"
        };
        assert_eq!(ip("192.0.2.1", &[(name, value)]), "192.0.2.1");
        assert_eq!(ip("10.1.2.3", &[(name, value)]), "198.51.100.7");
    }
}

#[test]
fn an_ipv6_client_is_its_64() {
    assert_eq!(ip("2001:db8:1:2:3:4:5:6", &[]), "2001:db8:1:2::/64");
    assert_eq!(ip("2001:db8:1:2:ffff::", &[]), "2001:db8:1:2::/64");
    assert_eq!(ip("fe80::1%eth0", &[]), "fe80::/64");
}

#[test]
fn an_ipv4_mapped_address_is_an_ipv4_address() {
    assert_eq!(ip("::ffff:192.0.2.1", &[]), "192.0.2.1");
    assert_eq!(
        ip("::ffff:10.0.0.1", &[("x-forwarded-for", "::ffff:198.51.100.7")]),
        "198.51.100.7"
    );
    assert_eq!(
        ip("172.17.0.1", &[("x-forwarded-for", "198.51.100.7")]),
        "198.51.100.7"
    );
    assert_eq!(
        ip("172.32.0.1", &[("x-forwarded-for", "198.51.100.7")]),
        "172.32.0.1"
    );
}

#[test]
fn the_first_untrusted_hop_from_the_right_is_the_client() {
    let hops = "203.0.113.9, 198.51.100.7, 10.0.0.2";
    assert_eq!(ip("10.0.0.1", &[("x-forwarded-for", hops)]), "198.51.100.7");
    assert_eq!(
        ip(
            "10.0.0.1",
            &[
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-for", "2.2.2.2,10.0.0.2")
            ]
        ),
        "2.2.2.2"
    );
    assert_eq!(
        ip("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")]),
        "10.0.0.3"
    );
    let elements = r#"for=203.0.113.9;proto=https, For="[2001:db8:a:b::1]:4711";by=10.0.0.2, for=10.0.0.2"#;
    assert_eq!(ip("10.0.0.1", &[("forwarded", elements)]), "2001:db8:a:b::/64");
    assert_eq!(
        ip("2001:db8:ffff::1", &[("forwarded", elements)]),
        "2001:db8:a:b::/64"
    );
}

#[test]
fn what_is_malformed_or_hidden_ends_the_walk_at_the_hop_that_said_so() {
    let bad = [
        "unknown",
        "_secret",
        "198.51.100.7:",
        "300.1.1.1",
        "[198.51.100.7]",
        "[2001:db8::1",
        "[::1]x",
        "a:b:c",
    ];
    for node in bad {
        assert_eq!(
            ip(
                "10.0.0.1",
                &[("x-forwarded-for", &format!("1.1.1.1, {node}, 10.0.0.2"))]
            ),
            "10.0.0.2",
            "{node}"
        );
        let element = format!("for=1.1.1.1, for=\"{node}\", for=10.0.0.2");
        assert_eq!(ip("10.0.0.1", &[("forwarded", &element)]), "10.0.0.2", "{node}");
    }
    for element in [
        "",
        "proto=https",
        "for",
        "for=1.1.1.1;for=2.2.2.2",
        "for=\"1.1.1.1",
        "for=\"1.1.1.1\"x",
        ";;",
    ] {
        assert_eq!(ip("10.0.0.1", &[("forwarded", element)]), "10.0.0.1", "{element}");
    }
}

#[test]
fn ports_and_escapes_are_read_over() {
    assert_eq!(
        ip("10.0.0.1", &[("x-forwarded-for", "198.51.100.7:8080")]),
        "198.51.100.7"
    );
    assert_eq!(
        ip("10.0.0.1", &[("x-forwarded-for", "[2001:db8::1]")]),
        "2001:db8::/64"
    );
    assert_eq!(
        ip(
            "10.0.0.1",
            &[(
                "forwarded",
                r#"secret="a\",b;for=9.9.9.9" ; for="198.51.100.\7:_x""#
            )]
        ),
        "198.51.100.7"
    );
}

#[test]
fn nothing_on_the_left_changes_how_the_last_element_reads() {
    for left in ["for=\"", "for=\"9.9.9.9", "for=\\", "\"\\", ",,;\"\"\""] {
        let value = format!("{left}, for=198.51.100.7");
        assert_eq!(ip("10.0.0.1", &[("forwarded", &value)]), "198.51.100.7", "{left}");
    }
    let mut request = request("GET", "/", &[("x-forwarded-for", "9.9.9.9")]);
    request.peer = "10.0.0.1".into();
    request.headers.push(Header {
        name: "x-forwarded-for".into(),
        value: b"\xff, 198.51.100.7".to_vec(),
    });
    assert_eq!(proxies(&["10.0.0.1"]).client_ip(&request), "198.51.100.7");
}

#[test]
fn two_headers_that_differ_are_both_doubted() {
    let both = |forwarded, x| ip("10.0.0.1", &[("forwarded", forwarded), ("x-forwarded-for", x)]);
    assert_eq!(both("for=198.51.100.7", "198.51.100.7"), "198.51.100.7");
    assert_eq!(both("for=9.9.9.9", "198.51.100.7"), "10.0.0.1");
}

#[test]
fn a_peer_without_an_address_has_one_name() {
    assert_eq!(ip("", &[]), "unknown");
    assert_eq!(
        ip("/run/socket", &[("x-forwarded-for", "198.51.100.7")]),
        "unknown"
    );
}

#[test]
fn the_first_proxy_that_is_no_network_is_told() {
    let parse = |text: &str| Proxies::parse(&["10.0.0.1".into(), text.into()]);
    assert!(parse("2001:db8::/32").is_ok());
    for bad in ["10.0.0.0/33", "proxy.example", "", " 10.0.0.2"] {
        assert_eq!(parse(bad), Err(1), "{bad}");
    }
}

#[test]
fn a_client_is_its_key_else_its_header_else_its_address() {
    let (store, config) = (Shelf::default(), Config::default());
    let (key, commit) = mint("test", &[Scope::Links], None, 1, &fresh);
    block_on(store.commit(commit)).unwrap();
    let bearer = format!("Bearer {key}");
    let id = key.split('_').nth(1).unwrap();
    let client = |headers: &[(&str, &str)]| {
        block_on(client(
            &store,
            &config,
            &Proxies::default(),
            &request("GET", "/", headers),
            2,
        ))
        .unwrap()
        .as_str()
        .to_owned()
    };
    assert_eq!(
        client(&[("authorization", bearer.as_str()), ("x-client-id", "a")]),
        format!("key:{id}")
    );
    assert_eq!(
        client(&[
            ("authorization", "Bearer nobody-knows-this"),
            ("x-client-id", "a")
        ]),
        "id:a"
    );
    assert_eq!(
        client(&[("x-client-id", &format!("key:{id}"))]),
        format!("id:key:{id}"),
        "kinds do not mix"
    );
    assert_eq!(client(&[("x-client-id", "not visible")]), "ip:192.0.2.1");
    assert_eq!(client(&[]), "ip:192.0.2.1");
}

#[test]
fn an_explicit_id_that_breaks_the_rule_is_named() {
    let (config, settings) = (Config::default(), Settings::default());
    let of = |value: &str| {
        let request = request("GET", "/", &[("x-client-id", value), ("x-user-id", value)]);
        let named = explicit_client(&config, &request).map(|id| id.map(str::to_owned));
        assert_eq!(
            named.clone().ok().flatten().as_deref(),
            named_client(&config, &request)
        );
        let user = explicit_user(&settings, &request, 0);
        assert_eq!(user.clone().ok().flatten(), super::user(&settings, &request, 0));
        assert_eq!(user.is_ok(), named.is_ok());
        named.map_err(|problem| problem.errors[0].pointer.clone())
    };
    assert_eq!(of("a"), Ok(Some("a".into())));
    assert_eq!(of(&"x".repeat(128)), Ok(Some("x".repeat(128))));
    for bad in ["", " ", "a b", "ä", "\t", &"x".repeat(129)] {
        assert_eq!(of(bad), Err("header:x-client-id".into()), "{bad:?}");
    }
    assert_eq!(explicit_client(&config, &request("GET", "/", &[])), Ok(None));
}

#[test]
fn a_sane_request_id_is_kept() {
    let id = |value: &str| request_id(&request("GET", "/", &[("x-request-id", value)]), &fresh);
    assert_eq!(id("Az09._-"), "Az09._-");
    for bad in ["", "a b", "a\"b", "ä", &"x".repeat(129)] {
        let new = id(bad);
        assert!(
            new.len() == 32 && new.bytes().all(|b| b.is_ascii_hexdigit()),
            "{bad}"
        );
    }
    assert_ne!(
        request_id(&request("GET", "/", &[]), &fresh),
        request_id(&request("GET", "/", &[]), &fresh)
    );
}
