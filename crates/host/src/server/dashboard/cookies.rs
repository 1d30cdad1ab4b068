//! The session's cookie: to scripts unknown, sent to this very site's pages only, gone with the browser.

use http::header::{self, HeaderMap};
use http::request::Parts;

/// The most cookies of a request that are looked at.
const MAX_LOOKED_AT: usize = 64;
/// What every name begins with where the page came over TLS: no other host, and no page without TLS, can set such a cookie.
const HOST: &str = "__Host-";

/// The names of the cookie. They hold the port: browsers keep cookies by host alone, and two gateways may be on one.
pub struct Cookies {
    plain: String,
    secure: String,
}

impl Cookies {
    /// For who reaches the gateway at the address that this request is for. (Where the gateway itself listens may be the same port in
    /// two containers.)
    pub fn of(head: &Parts) -> Self {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = head.uri.authority().map(http::uri::Authority::as_str).or(host);
        let port = host.and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
        let port = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let plain = match port {
            Some(port) if !port.is_empty() => format!("tollgate-{port}"),
            _ => "tollgate".to_owned(),
        };
        Self {
            secure: format!("{HOST}{plain}"),
            plain,
        }
    }

    /// What may be tokens of sessions, and whether each was set over TLS.
    pub fn tokens<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = (&'a str, bool)> {
        let lines = headers.get_all(header::COOKIE).iter();
        let pairs = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .take(MAX_LOOKED_AT);
        pairs.filter_map(|pair| {
            let (name, token) = pair.trim().split_once('=')?;
            match name {
                _ if name == self.secure => Some((token, true)),
                _ if name == self.plain => Some((token, false)),
                _ => None,
            }
        })
    }

    /// Sets it.
    pub fn set(&self, token: &str, secure: bool) -> String {
        self.line(token, secure, "")
    }

    /// Removes it.
    pub fn over(&self, secure: bool) -> String {
        self.line("", secure, "; Max-Age=0")
    }

    fn line(&self, token: &str, secure: bool, age: &str) -> String {
        let (name, mark) = match secure {
            true => (&self.secure, "; Secure"),
            false => (&self.plain, ""),
        };
        format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict{mark}{age}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn at(host: &str) -> Cookies {
        let request = http::Request::builder().header(header::HOST, host);
        Cookies::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn cookies_are_found_among_others_and_by_the_port() {
        let cookies = at("gate.example:3000");
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("a=b; tollgate-3000=one; tollgate-3001=two"),
        );
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("__Host-tollgate-3000=three;x"),
        );
        let found: Vec<_> = cookies.tokens(&headers).collect();
        assert_eq!(found, [("one", false), ("three", true)]);
        let many = (0..2 * MAX_LOOKED_AT)
            .map(|n| format!("c{n}=x;"))
            .collect::<String>()
            + "tollgate-3000=late";
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::try_from(many).unwrap());
        assert_eq!(cookies.tokens(&headers).count(), 0);
    }

    #[test]
    fn a_name_holds_the_port_and_nothing_else() {
        for (host, name) in [
            ("gate.example", "tollgate"),
            ("gate.example:", "tollgate"),
            ("gate.example:8080", "tollgate-8080"),
            ("[::1]:80", "tollgate-80"),
            ("[::1]", "tollgate"),
        ] {
            assert_eq!(at(host).plain, name, "{host}");
        }
    }

    #[test]
    fn no_script_and_no_other_site_gets_it() {
        let cookies = at("[::1]:80");
        for line in [
            cookies.set("t", true),
            cookies.set("t", false),
            cookies.over(true),
        ] {
            assert!(line.contains("; Path=/; HttpOnly; SameSite=Strict"), "{line}");
            assert_eq!(line.starts_with(HOST), line.contains("; Secure"), "{line}");
            assert!(!line.contains("Domain"), "{line}");
        }
    }
}
