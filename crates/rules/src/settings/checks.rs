//! Checks that the rules of several settings share.

use crate::config::{Fault, Path};
use tollgate_api::calls::own_segments;
use tollgate_api::pattern::Pattern;

pub(super) const MAX_HEADER_NAME: usize = 64;
const MAX_METHODS: usize = 16;
const MAX_METHOD: usize = 32;

pub(super) type Checked = Result<(), Fault>;

pub(super) fn ensure(holds: bool, path: Path, message: &str) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Fault::new(path, message))
    }
}

pub(super) fn within<T: PartialOrd + std::fmt::Display>(
    value: T,
    (least, most): (T, T),
    path: Path,
) -> Checked {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(Fault::new(path, format!("must be from {least} to {most}")))
}

pub(super) fn at_most(count: usize, most: usize, path: &Path) -> Checked {
    if count <= most {
        Ok(())
    } else {
        Err(Fault::new(
            path.clone(),
            format!("must have at most {most} entries"),
        ))
    }
}

/// What is taken off the paths of a route, if anything.
pub(super) fn strip_prefix(prefix: &str, route: &str, path: Path) -> Checked {
    let rest = route.strip_prefix(prefix);
    let ok = prefix.is_empty()
        || (prefix.starts_with('/')
            && !prefix.ends_with('/')
            && !prefix.contains("/:")
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    ensure(
        ok,
        path,
        "must be literal segments that the path begins with, e.g. \"/shop\" of \"/shop/...\"",
    )
}

/// The name of a file, whether it is there or not.
pub(super) fn file(name: &str, path: Path) -> Checked {
    let file = !name.is_empty()
        && !name.contains('\0')
        && !name.ends_with('/')
        && std::path::Path::new(name).file_name().is_some();
    ensure(file, path, "must be the name of a file")
}

/// See [`tollgate_api::pattern`] for the syntax.
pub(super) fn pattern(text: &str, path: Path) -> Result<Pattern, Fault> {
    Pattern::parse(text).map_err(|error| Fault::new(path, error.to_string()))
}

/// A pattern that hides neither short links nor the gateway's own paths.
pub(super) fn outside(text: &str, path: Path) -> Result<Pattern, Fault> {
    let route = pattern(text, path.clone())?;
    let first = text.trim_start_matches('/').split('/').next().unwrap_or("");
    let literal = first != "..." && !first.starts_with(':');
    ensure(
        literal,
        path.clone(),
        "must begin with a literal segment, or it would hide the short links",
    )?;
    let own = own_segments().any(|own| own.eq_ignore_ascii_case(first));
    ensure(
        !own,
        path,
        "must not begin with a segment of the gateway's own, such as /api or /health",
    )?;
    Ok(route)
}

/// An RFC 9110 token in lower case, as every door hands header names over.
pub(super) fn header_name(name: &str, path: Path) -> Checked {
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    let ok = (1..=MAX_HEADER_NAME).contains(&name.len()) && name.bytes().all(token);
    ensure(ok, path, "must be a header name in lower case, e.g. x-client-id")
}

/// Methods that a route is for, or `*`.
pub(super) fn methods(methods: &[String], path: &Path) -> Checked {
    ensure(
        !methods.is_empty(),
        path.clone(),
        "must name at least one method, or \"*\"",
    )?;
    at_most(methods.len(), MAX_METHODS, path)?;
    for (index, method) in methods.iter().enumerate() {
        let token = (1..=MAX_METHOD).contains(&method.len())
            && method
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
        ensure(
            token || method == "*",
            path.index(index),
            "must be an upper-case method such as \"POST\", or \"*\"",
        )?;
    }
    Ok(())
}

/// Whether a URL is `https`, or `http` on this machine. Whoever can answer for a key set, or for a provider of
/// challenges, can be anybody: over the network only TLS will do.
pub(crate) fn is_trustworthy(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return false;
    };
    let is_here = || match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_here(),
        _ => false,
    }
}
