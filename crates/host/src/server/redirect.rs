//! Plain HTTP, answered with a redirect to the same place by `https://`.

use super::service::{Answer, from_core};
use crate::tls::Loaded;
use tollgate_api::http::Response;

/// The answer to a request at the listener for plain HTTP. Its host has been checked. A host that no certificate is for is
/// not led to: in its place comes the one of `public_url`, whose port is where the world reaches us.
pub fn answer(
    uri: &http::Uri,
    host: Option<&str>,
    certificates: Option<&Loaded>,
    public_url: &str,
) -> Answer {
    let own = public_url.parse::<http::Uri>().ok();
    let own = own.as_ref().and_then(http::Uri::authority);
    let asked = uri.authority().cloned();
    let asked = asked.or_else(|| host?.parse::<http::uri::Authority>().ok());
    let name = asked
        .as_ref()
        .map_or("", http::uri::Authority::host)
        .to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    let own_name = own.map_or("", http::uri::Authority::host);
    let name = match certificates.is_some_and(|all| all.is_for(name)) || name.eq_ignore_ascii_case(own_name) {
        true => name,
        false => own_name,
    };
    let port = own
        .and_then(http::uri::Authority::port_u16)
        .filter(|port| *port != 443);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    // `*` and the authority of a `CONNECT` are no paths.
    let target = uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    let target = target.filter(|target| target.starts_with('/')).unwrap_or("/");
    let location = ["https://", name, &port, target].concat();
    from_core(Response::empty(308).with("location", location))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str, target: &str, public_url: &str) -> String {
        let answer = answer(&target.parse().unwrap(), Some(host), None, public_url);
        assert_eq!(answer.status(), 308);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_same_place_is_led_to_and_no_strange_host() {
        let own = "https://go.example";
        for (host, target, to) in [
            (
                "go.example",
                "/abc?x=1&y=/../",
                "https://go.example/abc?x=1&y=/../",
            ),
            ("GO.example.:80", "/", "https://go.example/"),
            ("evil.example", "/abc", "https://go.example/abc"),
            ("192.0.2.1", "/abc", "https://go.example/abc"),
            ("[2001:db8::1]:80", "/", "https://go.example/"),
            (
                "go.example",
                "//evil.example/",
                "https://go.example//evil.example/",
            ),
            ("go.example", "*", "https://go.example/"),
            ("go.example", "http://go.example/x", "https://go.example/x"),
            ("go.example", "http://evil.example/x", "https://go.example/x"),
        ] {
            assert_eq!(location(host, target, own), to, "{host} {target}");
        }
        assert_eq!(
            location("go.example:8080", "/x", "https://go.example:8443"),
            "https://go.example:8443/x"
        );
    }
}
