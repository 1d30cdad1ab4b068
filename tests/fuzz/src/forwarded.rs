//! `Forwarded`, `X-Forwarded-For`, and the client that a request is counted as. Whatever a client writes, the
//! address that the last trusted proxy saw is the one that counts.

use std::net::IpAddr;

use arbitrary::Unstructured;
use tollgate_api::http::{Header, Request};
use tollgate_rules::config::{Config, Server};
use tollgate_rules::identity::{self, ClientId, Proxies};
use tollgate_rules::settings::Settings;

const TRUSTED: [&str; 4] = [
    "10.0.0.0/8",
    "192.0.2.1",
    "2001:db8:1::/48",
    "::ffff:198.18.0.0/111",
];
/// Peers and hops: trusted, and not, in the forms that they are written in.
const INSIDE: [&str; 6] = [
    "10.1.2.3",
    "192.0.2.1",
    "2001:db8:1::7",
    "::ffff:10.0.0.9",
    "198.18.0.1",
    "::ffff:192.0.2.1",
];
const OUTSIDE: [&str; 6] = [
    "203.0.113.9",
    "192.0.2.2",
    "2001:db8:2::7",
    "::ffff:203.0.113.9",
    "198.20.0.1",
    "fe80::1%eth0",
];
const NAMES: [&str; 2] = ["forwarded", "x-forwarded-for"];

/// Which header, which proxies, and what stands in the headers.
pub fn forwarded(data: &[u8]) {
    let _ = case(&mut Unstructured::new(data));
}

fn case(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let shape: u8 = input.arbitrary()?;
    let (peer, client) = (
        usize::from(input.arbitrary::<u8>()?),
        usize::from(input.arbitrary::<u8>()?),
    );
    let hops = usize::from(input.arbitrary::<u8>()? % 4);
    let text = input.bytes(input.len())?;
    let settings = Settings::compile(config()).expect("it keeps the rules");
    let (config, proxies) = (&settings.config, &settings.proxies);
    let name = NAMES[usize::from(shape & 1)];
    let inside = |index: usize| INSIDE[(peer + index) % INSIDE.len()];
    let outside = OUTSIDE[client % OUTSIDE.len()];
    let lines = lines(text);

    // From a stranger nothing is believed.
    let stranger = request(outside, name, &lines);
    assert_eq!(proxies.resolve(&stranger), address(outside));
    // From a proxy: what was found was written there by somebody.
    let mut arrived = request(inside(0), name, &lines);
    let found = proxies.resolve(&arrived);
    assert!(
        found == address(inside(0)) || written(&lines.join(&b'\n'), found),
        "{found:?} came from nowhere"
    );

    // A proxy that appends the address it saw is believed, whatever stands to the left of it, on the same line or others;
    // and so are the proxies behind it.
    let seen = std::iter::once(outside).chain((1..=hops).map(inside));
    let seen: Vec<String> = seen
        .enumerate()
        .map(|(i, one)| element(name, one, usize::from(shape >> 1) + i))
        .collect();
    let mut appended = lines.clone();
    match (shape & 0x80, appended.last_mut()) {
        (0, Some(last)) => {
            last.extend_from_slice(b", ");
            last.extend_from_slice(seen.join(", ").as_bytes());
        }
        _ => appended.extend(seen.iter().map(|one| one.clone().into_bytes())),
    }
    let honest = request(inside(0), name, &appended);
    assert_eq!(proxies.resolve(&honest), address(outside), "{:?}", show(&honest));

    // The other header as the client wrote it: the proxy's word, or none.
    let mut both = honest.clone();
    let other = NAMES[usize::from(shape & 1) ^ 1];
    both.headers.extend(lines.iter().map(|line| header(other, line)));
    let resolved = proxies.resolve(&both);
    assert!(
        resolved == address(outside) || resolved == address(inside(0)),
        "{resolved:?}"
    );

    // Whom it is counted as: never a text that could pass for another kind, and one bucket per IPv6 network.
    arrived.headers.push(header("x-client-id", text));
    arrived.headers.push(header("x-request-id", text));
    counted(config, proxies, &arrived, found);
    Ok(())
}

fn counted(config: &Config, proxies: &Proxies, request: &Request, found: Option<IpAddr>) {
    let key = proxies.client_ip(request);
    match found {
        Some(IpAddr::V4(address)) => assert_eq!(key, address.to_string()),
        Some(IpAddr::V6(address)) => {
            let network: ipnet::Ipv6Net = key.parse().unwrap();
            assert!(network.prefix_len() == 64 && network.contains(&address) && network == network.trunc());
        }
        None => assert_eq!(key, "unknown"),
    }
    let id = ClientId::without_key(config, proxies, request);
    match identity::explicit_client(config, request) {
        Ok(Some(name)) => {
            assert!(
                (1..=identity::MAX_ID_CHARS).contains(&name.len())
                    && name.bytes().all(|b| b.is_ascii_graphic())
            );
            assert_eq!(id.as_str(), format!("id:{name}"));
        }
        Ok(None) => panic!("the header is there"),
        Err(problem) => {
            assert_eq!(problem.kind.status(), 400);
            assert_eq!(id.as_str(), format!("ip:{key}"));
        }
    }
    let given = identity::request_id(request, &|| [7; 16]);
    assert!(identity::is_request_id(given.as_bytes()));
}

fn config() -> Config {
    Config {
        server: Server {
            trusted_proxies: TRUSTED.map(str::to_owned).to_vec(),
            ..Server::default()
        },
        ..Config::default()
    }
}

/// What a client may send: lines without a line end.
fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|&byte| byte == b'\n').take(8);
    lines
        .map(|line| {
            line.iter()
                .copied()
                .filter(|byte| !matches!(byte, 0 | b'\r'))
                .collect()
        })
        .collect()
}

fn header(name: &str, value: &[u8]) -> Header {
    Header {
        name: name.to_owned().into(),
        value: value.to_vec(),
    }
}

fn request(peer: &str, name: &str, lines: &[Vec<u8>]) -> Request {
    Request {
        method: "GET".into(),
        path: "/".into(),
        query: None,
        headers: lines.iter().map(|line| header(name, line)).collect(),
        body: Vec::new(),
        peer: peer.into(),
    }
}

/// An address as proxies write it.
fn element(name: &str, address: &str, form: usize) -> String {
    let six = address.contains(':');
    let node = match (six, form % 3) {
        (true, 1) => format!("[{address}]:8080"),
        (true, _) if name == "forwarded" => format!("[{address}]"),
        (true, 2) => format!("[{address}]"),
        (false, 1) => format!("{address}:_port"),
        _ => address.to_owned(),
    };
    match (name, form % 4) {
        ("x-forwarded-for", _) => node,
        (_, 0) => format!("for=\"{node}\""),
        (_, 1) => format!("proto=https;For=\"{node}\";by=\"_a, \\\"b\""),
        (_, 2) => format!("host=\"a;for=1.2.3.4\"; for=\"{node}\""),
        _ if six || node.contains(':') => format!("FOR=\"{node}\""),
        _ => format!("for={node};proto=http"),
    }
}

/// The address itself, without zone and mapping.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.split('%').next()?;
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Whether the address stands somewhere in the text, read in the most generous way.
fn written(text: &[u8], wanted: Option<IpAddr>) -> bool {
    /// No address is written longer.
    const LONGEST: usize = 45;
    let plain: String = String::from_utf8_lossy(text)
        .chars()
        .filter(|&c| c != '\\')
        .collect();
    let runs = plain.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
    runs.filter(|run| run.len() >= 2).any(|run| {
        (0..run.len()).any(|start| {
            let longest = (start + LONGEST).min(run.len());
            (start + 2..=longest).any(|end| address(&run[start..end]) == wanted)
        })
    })
}

fn show(request: &Request) -> Vec<String> {
    let text = |header: &Header| format!("{}: {}", header.name, String::from_utf8_lossy(&header.value));
    request.headers.iter().map(text).collect()
}
