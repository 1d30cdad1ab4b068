//! What becomes of header fields on the way to an origin and back (RFC 9110, section 7.6).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;
use tollgate_rules::config::ProxySettings;

/// Headers of one connection, besides those that `Connection` names (RFC 9110, section 7.6.1), and those that frame a body.
const HOP_BY_HOP: [HeaderName; 12] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("spin-client-addr"),
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Fields by which one that is believed says which place a client asked.
const PLACE: [&str; 6] = [
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
];
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VIA: &str = "tollgate";
/// Trailers that would change what a message means (RFC 9110, section 6.5.1).
const NO_TRAILERS: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::COOKIE,
];

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The other end of the connection.
    pub address: IpAddr,
    /// Whether what it says of others is believed.
    pub is_trusted: bool,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// The host that it asked for.
    pub host: Option<&'a HeaderValue>,
    /// The id of its request.
    pub request_id: &'a HeaderValue,
}

/// The fields that an origin gets. `upgrade`: the protocol that the client would go on with.
pub fn request(
    of: &http::request::Parts,
    client: &Client<'_>,
    route: &ProxySettings,
    upgrade: Option<&'static str>,
) -> HeaderMap {
    let mut fields = of.headers.clone();
    let trailers = of
        .headers
        .get(header::TE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(&mut fields);
    // What frames the body is said anew, by whoever sends it.
    fields.remove(header::CONTENT_LENGTH);
    fields.remove(header::HOST);
    if trailers {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    }
    remove_look_alikes(&mut fields);
    forwarded(&mut fields, client);
    fields.insert(REQUEST_ID, client.request_id.clone());
    via(&mut fields, of.version);
    for (name, value) in &route.headers {
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.expose()))
        {
            value.set_sensitive(true);
            fields.insert(name, value);
        }
    }
    fields
}

/// The fields that a client gets.
pub fn response(fields: &mut HeaderMap, version: http::Version) {
    remove_hop_by_hop(fields);
    via(fields, version);
}

/// Takes off what belongs to the connection alone.
pub fn remove_hop_by_hop(fields: &mut HeaderMap) {
    if fields.contains_key(header::CONNECTION) {
        let connection = fields.get_all(header::CONNECTION).iter();
        let named: Vec<_> = connection
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        for name in &named {
            fields.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        fields.remove(name);
    }
}

/// Fields that no `Connection` takes off: without them a request would mean something else, or seem to be somebody else's.
fn is_end_to_end(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::AUTHORIZATION,
        header::COOKIE,
        header::CACHE_CONTROL,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::SET_COOKIE,
        header::FORWARDED,
        FORWARDED_FOR,
    ]
    .contains(name)
}

/// Trailers without those that may be none.
pub fn trailers(fields: &mut HeaderMap) {
    for name in &NO_TRAILERS {
        fields.remove(name);
    }
}

/// `x_forwarded_for` is `X-Forwarded-For` to an origin that reads fields as environment variables.
fn remove_look_alikes(fields: &mut HeaderMap) {
    let odd: Vec<HeaderName> = fields
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .filter(|name| {
            let plain = name.as_str().replace('_', "-");
            plain.starts_with("x-forwarded-")
                || [
                    "forwarded",
                    "x-real-ip",
                    "x-request-id",
                    "content-length",
                    "transfer-encoding",
                ]
                .contains(&&*plain)
        })
        .cloned()
        .collect();
    for name in odd {
        fields.remove(name);
    }
}

/// The place that a client asked, as the origin is told of it by what [`request`] sends: answers may differ by it.
pub fn place(sent: &HeaderMap, client: &Client<'_>) -> String {
    let proto = if client.is_tls { "https" } else { "http" };
    let mut place = proto.as_bytes().to_vec();
    let mut add = |part: &[u8]| {
        place.push(b' ');
        place.extend(part);
    };
    add(client.host.map_or(b"", HeaderValue::as_bytes));
    if client.is_trusted {
        for name in &PLACE {
            for value in sent.get_all(*name) {
                add(name.as_bytes());
                add(value.as_bytes());
            }
        }
        for value in sent.get_all(header::FORWARDED) {
            let mut pairs = value.as_bytes().split(|byte| b",;".contains(byte));
            let is_told = |pair: &&[u8]| {
                let pair = pair.trim_ascii().to_ascii_lowercase();
                pair.starts_with(b"host=") || pair.starts_with(b"proto=")
            };
            pairs.by_ref().filter(is_told).for_each(&mut add);
        }
    }
    String::from_utf8_lossy(&place).to_ascii_lowercase()
}

/// What was said of the client by somebody who is believed is added to; what anybody else said goes.
fn forwarded(fields: &mut HeaderMap, client: &Client<'_>) {
    if !client.is_trusted {
        let theirs: Vec<HeaderName> = fields
            .keys()
            .filter(|name| name.as_str().starts_with("x-forwarded-"))
            .cloned()
            .collect();
        for name in theirs {
            fields.remove(name);
        }
        fields.remove(header::FORWARDED);
        fields.remove(REAL_IP);
    }
    let address = client.address.to_string();
    let proto = if client.is_tls { "https" } else { "http" };
    append(fields, FORWARDED_FOR, &address);
    if !fields.contains_key(REAL_IP)
        && let Ok(value) = HeaderValue::try_from(&address)
    {
        fields.insert(REAL_IP, value);
    }
    if !fields.contains_key(FORWARDED_PROTO) {
        fields.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if let Some(host) = client.host.filter(|_| !fields.contains_key(FORWARDED_HOST)) {
        fields.insert(FORWARDED_HOST, host.clone());
    }
    let node = match client.address {
        IpAddr::V4(_) => address,
        IpAddr::V6(_) => format!("\"[{address}]\""),
    };
    let host = client.host.and_then(|host| host.to_str().ok());
    let host = host.map(|host| host.replace(['"', '\\'], "")).unwrap_or_default();
    let element = match host.is_empty() {
        true => format!("for={node};proto={proto}"),
        false => format!("for={node};host=\"{host}\";proto={proto}"),
    };
    append(fields, header::FORWARDED, &element);
}

fn via(fields: &mut HeaderMap, version: http::Version) {
    let version = match version {
        http::Version::HTTP_2 => "2.0",
        http::Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    append(fields, header::VIA, &[version, " ", VIA].concat());
}

/// One more member of a list field, on its last line.
fn append(fields: &mut HeaderMap, name: HeaderName, member: &str) {
    let before: Vec<&[u8]> = fields.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    let value = match before.is_empty() {
        true => HeaderValue::try_from(member),
        false => HeaderValue::from_bytes(&[&before.join(&b", "[..]), &b", "[..], member.as_bytes()].concat())
            .or_else(|_| HeaderValue::try_from(member)),
    };
    if let Ok(value) = value {
        fields.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(lines: &[(&'static str, &'static str)], is_trusted: bool) -> HeaderMap {
        let mut request = http::Request::new(());
        for (name, value) in lines {
            request
                .headers_mut()
                .append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let (head, ()) = request.into_parts();
        let (host, request_id) = (
            HeaderValue::from_static("go.example"),
            HeaderValue::from_static("r-1"),
        );
        let client = Client {
            address: [192, 0, 2, 7].into(),
            is_trusted,
            is_tls: true,
            host: Some(&host),
            request_id: &request_id,
        };
        let route: ProxySettings = toml("path = \"/a\"\norigin = \"o\"\nheaders = { x-key = \"k\" }");
        super::request(&head, &client, &route, None)
    }

    fn toml(text: &str) -> ProxySettings {
        let text = format!("[[origins]]\nname = \"o\"\nurls = [\"http://127.0.0.1:1\"]\n[[proxy]]\n{text}\n");
        let settings = tollgate_rules::settings::Settings::parse(&text, "t").unwrap();
        settings.config.proxy[0].clone()
    }

    #[test]
    fn what_belongs_to_a_connection_stays_there() {
        let fields = sent(
            &[
                ("connection", "close, X-Secret-Hop, authorization"),
                ("x-secret-hop", "1"),
                ("authorization", "Bearer a"),
                ("keep-alive", "5"),
                ("te", "gzip"),
                ("upgrade", "h2c"),
                ("http2-settings", "x"),
                ("transfer-encoding", "chunked"),
                ("content-length", "5"),
                ("proxy-authorization", "Basic a"),
                ("expect", "100-continue"),
                ("x-plain", "stays"),
            ],
            false,
        );
        for name in [
            "connection",
            "x-secret-hop",
            "keep-alive",
            "te",
            "upgrade",
            "http2-settings",
            "transfer-encoding",
            "content-length",
            "proxy-authorization",
            "expect",
        ] {
            assert!(!fields.contains_key(name), "{name}");
        }
        assert_eq!(fields["x-plain"], "stays");
        assert_eq!(fields["authorization"], "Bearer a");
        assert_eq!(
            (&fields["x-key"], &fields["x-request-id"]),
            (&HeaderValue::from_static("k"), &HeaderValue::from_static("r-1"))
        );
    }

    #[test]
    fn nobody_says_who_they_are_but_those_who_are_believed() {
        let forged = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-prefix", "/admin"),
            ("x_forwarded_for", "2.2.2.2"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("via", "1.0 fred"),
        ];
        let fields = sent(&forged, false);
        assert_eq!(fields["x-forwarded-for"], "192.0.2.7");
        assert_eq!(fields["x-real-ip"], "192.0.2.7");
        assert_eq!(
            fields["forwarded"],
            "for=192.0.2.7;host=\"go.example\";proto=https"
        );
        assert_eq!(fields["x-forwarded-proto"], "https");
        assert_eq!(fields["x-forwarded-host"], "go.example");
        assert_eq!(fields["via"], "1.0 fred, 1.1 tollgate");
        assert!(!fields.contains_key("x_forwarded_for") && !fields.contains_key("x-forwarded-prefix"));
        let fields = sent(&forged, true);
        assert_eq!(fields["x-forwarded-for"], "1.1.1.1, 192.0.2.7");
        assert_eq!(
            fields["forwarded"],
            "for=1.1.1.1, for=192.0.2.7;host=\"go.example\";proto=https"
        );
        assert_eq!(
            (&fields["x-real-ip"], &fields["x-forwarded-prefix"]),
            (
                &HeaderValue::from_static("1.1.1.1"),
                &HeaderValue::from_static("/admin")
            )
        );
    }

    #[test]
    fn a_place_is_what_the_origin_is_told_of_it() {
        let of = |host: &str, (is_tls, is_trusted): (bool, bool), lines: &[(&'static str, &'static str)]| {
            let mut sent = HeaderMap::new();
            for (name, value) in lines {
                sent.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let (host, request_id) = (
                HeaderValue::try_from(host).unwrap(),
                HeaderValue::from_static("r"),
            );
            place(
                &sent,
                &Client {
                    address: [192, 0, 2, 7].into(),
                    is_trusted,
                    is_tls,
                    host: Some(&host),
                    request_id: &request_id,
                },
            )
        };
        let plain = of("go.example", (false, false), &[]);
        assert_eq!(
            plain,
            of("GO.example", (false, false), &[("x-forwarded-host", "evil")])
        );
        assert_ne!(plain, of("go.example", (true, false), &[]));
        assert_ne!(plain, of("other.example", (false, false), &[]));
        for told in [
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=192.0.2.1; Host=a.example"),
            ("forwarded", "for=192.0.2.1, for=192.0.2.2;proto=https"),
        ] {
            assert_ne!(plain, of("go.example", (false, true), &[told]), "{told:?}");
        }
        let whose = [("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(plain, of("go.example", (false, true), &whose));
    }
}
