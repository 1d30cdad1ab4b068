//! What the rules see of a request.

use hyper::header::{HeaderName, HeaderValue};
use tollgate_api::calls;
use tollgate_api::http::{self as contract, COUNTRY, Header, Request, SEEN_AT_CHECK, SEEN_AT_REST};
use tollgate_delivery::attributes;
use tollgate_rules::heads;
use tollgate_rules::limiter;
use tollgate_rules::links::shlink;

use super::{Caller, Gateway, path};
use crate::countries::Country;

impl Gateway {
    /// The head as it crosses to the rules.
    pub(super) fn packed(&self, head: &http::request::Parts, query: Option<&str>, peer: &str) -> Vec<u8> {
        let strings = [head.method.as_str(), path(head), peer];
        match limiter::is_check(path(head)) {
            false => {
                let country = self.country(head, peer);
                heads::head(strings, query, self.seen(head).chain(told(country.as_ref())))
            }
            true => heads::head(strings, query, self.seen(head).chain(more(head, SEEN_AT_CHECK))),
        }
    }

    /// The same for the rules of the rest, which look at more.
    pub(super) fn packed_for_rest(
        &self,
        head: &http::request::Parts,
        query: Option<&str>,
        peer: &str,
    ) -> Vec<u8> {
        let strings = [head.method.as_str(), path(head), peer];
        match calls::is_sqs(path(head)) {
            false => {
                let country = self.country(head, peer);
                let more = more(head, SEEN_AT_REST).chain(told(country.as_ref()));
                heads::head(strings, query, self.seen(head).chain(more))
            }
            // Whatever is signed has to be seen.
            true => {
                let others = head.headers.iter().filter(|(name, _)| !self.is_seen(name));
                let others = others.map(|(name, value)| (name.as_str(), value.as_bytes()));
                heads::head(strings, query, self.seen(head).chain(others))
            }
        }
    }

    /// Whether the rules look at a header of this name anyway.
    fn is_seen(&self, name: &HeaderName) -> bool {
        self.seen.contains(name) || !self.kept.is_empty() && attributes::is_kept(&self.kept, name.as_str())
    }

    /// The headers that the rules look at.
    fn seen<'a>(&'a self, head: &'a http::request::Parts) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let seen = head.headers.iter().filter(move |(name, _)| self.is_seen(name));
        // HTTP/2 carries the host in the target.
        let authority = head.uri.authority();
        let target = authority.filter(|_| !head.headers.contains_key(http::header::HOST));
        seen.map(|(name, value)| (name.as_str(), value.as_bytes()))
            .chain(target.map(|authority| ("host", authority.as_str().as_bytes())))
    }

    /// Where somebody is who may follow a link, if there is a file that says so.
    fn country(&self, head: &http::request::Parts, peer: &str) -> Option<Country> {
        let countries = self.generation.countries.as_ref()?;
        if !self.is_visit(path(head)) {
            return None;
        }
        let proxies = &self.generation.settings.proxies;
        let address = match peer.parse().ok()? {
            client if !proxies.trust(client) => client,
            _ => proxies.resolve(&self.request_of(head, peer))?,
        };
        countries.country(address)
    }

    /// A request without its body, as the rules see it.
    pub(super) fn request(&self, head: &http::request::Parts, caller: &Caller) -> Request {
        self.request_of(head, &caller.name)
    }

    fn request_of(&self, head: &http::request::Parts, peer: &str) -> Request {
        let headers = self.seen(head).map(|(name, value)| Header {
            name: contract::seen_header(name),
            value: value.to_vec(),
        });
        Request {
            method: contract::method(head.method.as_str()),
            path: path(head).to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers: headers.collect(),
            body: Vec::new(),
            peer: peer.to_owned(),
        }
    }
}

/// Puts the credential of a call in Shlink's manner where others have theirs.
pub(super) fn identify(head: &mut http::request::Parts) {
    if !head.uri.path().starts_with(shlink::PREFIX) {
        return;
    }
    let has_one = head.headers.contains_key(http::header::AUTHORIZATION);
    let keys = head
        .headers
        .get_all(shlink::KEY_HEADER)
        .iter()
        .map(HeaderValue::as_bytes);
    for credential in shlink::credentials(head.uri.path(), has_one, keys) {
        if let Ok(mut value) = HeaderValue::from_bytes(&credential) {
            value.set_sensitive(true);
            head.headers.append(http::header::AUTHORIZATION, value);
        }
    }
}

/// What is told of a visit's country.
fn told(country: Option<&Country>) -> impl Iterator<Item = (&str, &[u8])> {
    country.map(|country| (COUNTRY, &country[..])).into_iter()
}

/// The values of headers that few requests need.
fn more<'a>(
    head: &'a http::request::Parts,
    names: &'static [&'static str],
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    names.iter().flat_map(|name| {
        let values = head.headers.get_all(*name).iter();
        values.map(|value| (*name, value.as_bytes()))
    })
}
