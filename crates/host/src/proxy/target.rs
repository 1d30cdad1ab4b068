//! The target of a request that goes to an origin. What the limiter counts by must be what the origin sees: a path that an origin
//! may read as another one goes to none.

use http::uri::PathAndQuery;
use tollgate_api::pattern::has_dots;
use tollgate_api::problem::{Kind, Problem};

/// Whether a path means the same to everybody: it has no `.` and `..`, however they are written, and no empty segments but the
/// last.
///
/// # Errors
/// 400: it has.
pub fn check(path: &str) -> Result<(), Problem> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let inner = rest.strip_suffix('/').unwrap_or(rest);
    if rest.starts_with('/') || (!inner.is_empty() && inner.split('/').any(str::is_empty)) {
        return Err(refused());
    }
    if has_dots(path) {
        return Err(refused());
    }
    Ok(())
}

fn refused() -> Problem {
    let detail =
        "The path has empty segments, or some that are . or ..: an origin may read it as another path.";
    Problem::new(Kind::InvalidRequest, detail)
}

/// The path without `prefix`, and the query, in the form that an origin gets.
pub fn stripped(target: &http::Uri, prefix: &str) -> Option<PathAndQuery> {
    let whole = target.path_and_query();
    if prefix.is_empty() {
        return match whole {
            Some(whole) if whole.as_str().starts_with('/') => Some(whole.clone()),
            _ => Some(PathAndQuery::from_static("/")),
        };
    }
    let path = target.path();
    let rest = path.strip_prefix(prefix).unwrap_or(path);
    let mut text = String::with_capacity(path.len() + 1);
    if !rest.starts_with('/') {
        text.push('/');
    }
    text.push_str(rest);
    if let Some(query) = target.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_an_origin_may_read_as_another_is_refused() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/a/...",
            "/.well/x",
            "/a%2Fb",
            "/a/..b",
            "/%2e%2e%2e",
            "/a/%c3%a9",
        ] {
            assert!(check(path).is_ok(), "{path}");
        }
        for path in [
            "/a/../b",
            "/..",
            "/a/.",
            "/a/./b",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a/%2e",
            "/a%2f..%2fb",
            "/a/..%5cb",
            "/a/..\\b",
            "/a/..;/b",
            "//a",
            "/a//b",
            "/a//",
            "//",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_prefix_is_taken_off() {
        let of = |target: &str, prefix| stripped(&target.parse().unwrap(), prefix).unwrap().to_string();
        assert_eq!(of("/shop/a?b=1", "/shop"), "/a?b=1");
        assert_eq!(of("/shop", "/shop"), "/");
        assert_eq!(of("/shop?x", "/shop"), "/?x");
        assert_eq!(of("/shop/", "/shop"), "/");
        assert_eq!(of("http://other.example/shop/a", ""), "/shop/a");
        assert_eq!(of("/a%20b", ""), "/a%20b");
    }
}
