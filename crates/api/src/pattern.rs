//! Path patterns in Spin's syntax: `/api/links` is that path, `:name` is any one segment, and `/...` at the
//! end is any tail, also none. As in Spin, slashes at either end of a path do not count, so that `/signup/`
//! is no way around a rule for `/signup`. A path is compared as it is, percent-encoded.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 512;
/// The tail of a pattern that matches whatever follows.
const TAIL: &str = "...";

/// A parsed pattern. Greater is more specific: of several routes that match a path, the greatest is the one
/// that Spin would choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pattern: String,
    segments: Vec<Segment>,
    tail: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
}

/// Why a text is not a route pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with a slash.
    #[error("a route begins with /")]
    NoSlash,
    /// It is longer than [`MAX_PATTERN_BYTES`].
    #[error("a route is at most 512 bytes")]
    TooLong,
    /// There is nothing between two slashes.
    #[error("a route has no empty segments")]
    Empty,
    /// A `:` without a name of `[A-Za-z0-9_-]`.
    #[error("a segment that begins with : needs a name of letters, digits, - and _")]
    Name,
    /// `...` or `*` somewhere else than in the last segment.
    #[error("a wildcard is /... and stands at the end")]
    Wildcard,
    /// A character that a path cannot have.
    #[error("{0:?} cannot be part of a path")]
    Character(char),
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        let rest = pattern.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong);
        }
        if let Some(bad) = rest
            .chars()
            .find(|c| !c.is_ascii_graphic() || "?#\"<>\\^`{|}".contains(*c))
        {
            return Err(PatternError::Character(bad));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut route = Self {
            pattern: pattern.to_owned(),
            segments: Vec::new(),
            tail: false,
        };
        let mut parts = rest.split('/').peekable();
        if rest.is_empty() {
            return Ok(route);
        }
        while let Some(part) = parts.next() {
            let segment = match part.strip_prefix(':') {
                _ if part.is_empty() => return Err(PatternError::Empty),
                _ if part == TAIL && parts.peek().is_none() => {
                    route.tail = true;
                    break;
                }
                _ if part == TAIL || part.contains('*') => return Err(PatternError::Wildcard),
                Some(name) if is_name(name) => Segment::Any,
                Some(_) => return Err(PatternError::Name),
                None => Segment::Literal(part.to_owned()),
            };
            route.segments.push(segment);
        }
        Ok(route)
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether `path` (without a query) matches. Allocates nothing.
    pub fn matches(&self, path: &str) -> bool {
        if self.tail && self.segments.is_empty() {
            return true;
        }
        let path = path.trim_matches('/');
        let mut parts = path.split('/').filter(|_| !path.is_empty());
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Literal(text), Some(part)) if text == part => {}
                (Segment::Any, Some(part)) if !part.is_empty() => {}
                _ => return false,
            }
        }
        self.tail || parts.next().is_none()
    }

    /// The rank of the segment at `index`: a literal is more specific than a parameter, a parameter than the
    /// end, the end than a tail.
    fn rank(&self, index: usize) -> u8 {
        match self.segments.get(index) {
            Some(Segment::Literal(_)) => 3,
            Some(Segment::Any) => 2,
            None if !self.tail => 1,
            None => 0,
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Whether a path has `.` or `..` in it, however they are written. An encoded slash parts segments too, for whoever decodes it; so
/// does a backslash, and a `;` ends one.
pub fn has_dots(path: &str) -> bool {
    if !path.bytes().any(|byte| byte == b'.' || byte == b'%') {
        return false;
    }
    let plain = path.to_ascii_lowercase();
    let plain = plain.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain
        .split(['/', '\\', ';'])
        .any(|segment| matches!(segment, "." | ".."))
}

/// A path without its empty segments, as most servers read it; one at the end stays.
pub fn merged(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    for part in path.split_inclusive('/').filter(|part| *part != "/") {
        if plain.is_empty() {
            plain.push('/');
        }
        plain.push_str(part);
    }
    if plain.is_empty() {
        plain.push('/');
    }
    Cow::Owned(plain)
}

/// The normal form of a path (RFC 3986, section 6.2.2.2): characters that need no percent-encoding are
/// decoded, and hexadecimal digits are in upper case. So two spellings of one address become the same.
pub fn unreserved(path: &str) -> Cow<'_, str> {
    if !path.bytes().any(|byte| byte == b'%') {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, encoded) = rest.split_at(at);
        plain.push_str(before);
        let digits = encoded
            .get(1..3)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(digits) = digits else {
            plain.push('%');
            rest = encoded.get(1..).unwrap_or_default();
            continue;
        };
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                plain.push(char::from(byte))
            }
            _ => {
                plain.push('%');
                plain.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = encoded.get(3..).unwrap_or_default();
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Whether `method` is among `methods`, or `*` is. `GET` stands for `HEAD` too (RFC 9110, section 9.3.2): limits and routes
/// read a method the same way, so that none of them is a way around another.
pub fn takes_method(methods: &[String], method: &str) -> bool {
    let takes = |one: &String| one == "*" || one == method || (one == "GET" && method == "HEAD");
    methods.iter().any(takes)
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        let longest = self.segments.len().max(other.segments.len());
        (0..=longest)
            .map(|index| self.rank(index).cmp(&other.rank(index)))
            .find(|order| order.is_ne())
            // No path tells them apart by rank: any order will do, if it is always the same.
            .unwrap_or_else(|| self.pattern.cmp(&other.pattern))
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn empty_segments_are_left_out_and_nothing_else() {
        for (path, plain) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("//", "/"),
            ("///a", "/a"),
            ("/a//b///", "/a/b/"),
            ("/a/%2F/b", "/a/%2F/b"),
        ] {
            assert_eq!(merged(path), plain);
        }
    }

    #[test]
    fn a_literal_matches_itself() {
        assert!(matches("/api/links", "/api/links"));
        assert!(matches("/", "/"));
        for path in [
            "/",
            "/api",
            "/api/link",
            "/api/linkss",
            "/api/links/x",
            "/API/links",
            "/api//links",
        ] {
            assert!(!matches("/api/links", path), "{path}");
        }
        assert!(!matches("/", "/x"));
    }

    #[test]
    fn a_name_is_one_segment() {
        assert!(matches("/api/links/:code", "/api/links/abc"));
        assert!(matches("/:a/:b", "/x/y"));
        for path in [
            "/api/links",
            "/api/links/",
            "/api/links/abc/visits",
            "/api/links//",
        ] {
            assert!(!matches("/api/links/:code", path), "{path}");
        }
        assert!(!matches("/:code", "/"));
    }

    #[test]
    fn a_tail_matches_everything_below_and_the_bare_prefix() {
        for path in ["/", "/x", "/x/y/", "//"] {
            assert!(matches("/...", path), "{path}");
        }
        for path in ["/api", "/api/", "/api/links/x"] {
            assert!(matches("/api/...", path), "{path}");
        }
        for path in ["/", "/apix", "/x/api"] {
            assert!(!matches("/api/...", path), "{path}");
        }
        assert!(matches("/:tenant/api/...", "/a/api/x"));
    }

    #[test]
    fn slashes_at_the_ends_do_not_count() {
        for path in ["/signup/", "//signup", "/signup//"] {
            assert!(matches("/signup", path), "{path}");
        }
        assert!(matches("/signup/", "/signup"));
    }

    #[test]
    fn what_is_not_a_pattern_is_told() {
        let error = |pattern: &str| Pattern::parse(pattern).unwrap_err();
        assert_eq!(error("api"), PatternError::NoSlash);
        assert_eq!(error(""), PatternError::NoSlash);
        assert_eq!(error("/a//b"), PatternError::Empty);
        assert_eq!(error("/:"), PatternError::Name);
        assert_eq!(error("/:a.b"), PatternError::Name);
        assert_eq!(error("/.../a"), PatternError::Wildcard);
        assert_eq!(error("/a/*"), PatternError::Wildcard);
        assert_eq!(error("/a?b"), PatternError::Character('?'));
        assert_eq!(error("/ä"), PatternError::Character('ä'));
        assert_eq!(
            error(&format!("/{}", "x".repeat(MAX_PATTERN_BYTES))),
            PatternError::TooLong
        );
    }

    #[test]
    fn the_more_specific_route_is_greater() {
        let order = [
            "/...",
            "/:a",
            "/:a/...",
            "/:a/x",
            "/api/...",
            "/api",
            "/api/:a/...",
            "/api/:a",
            "/api/x",
        ];
        let routes: Vec<Pattern> = order.iter().map(|p| Pattern::parse(p).unwrap()).collect();
        let both_match = [
            ("/...", "/:a"),
            ("/:a/...", "/:a"),
            ("/:a/x", "/api/x"),
            ("/api/...", "/api"),
            ("/api/:a/...", "/api/:a"),
            ("/api/:a", "/api/x"),
        ];
        for (less, more) in both_match {
            assert!(
                Pattern::parse(less).unwrap() < Pattern::parse(more).unwrap(),
                "{less} {more}"
            );
        }
        let best = |path: &str| routes.iter().filter(|r| r.matches(path)).max().unwrap().pattern();
        assert_eq!(best("/api"), "/api");
        assert_eq!(best("/api/x"), "/api/x");
        assert_eq!(best("/api/y"), "/api/:a");
        assert_eq!(best("/api/y/z"), "/api/:a/...");
        assert_eq!(best("/other"), "/:a");
        assert_eq!(best("/other/x"), "/:a/x");
        assert_eq!(best("/"), "/...");
    }

    #[test]
    fn what_need_not_be_encoded_is_not() {
        for (path, plain) in [
            ("/sale", "/sale"),
            ("/%73al%65", "/sale"),
            ("/%7Euser%2d1%5F%2E", "/~user-1_."),
            ("/a%2fb%2B%c3%a9", "/a%2Fb%2B%C3%A9"),
            ("/%", "/%"),
            ("/%7", "/%7"),
            ("/%zz%41", "/%zzA"),
            ("/%%41", "/%A"),
            ("/%2541", "/%2541"),
        ] {
            assert_eq!(unreserved(path), plain, "{path}");
        }
    }

    #[test]
    fn get_stands_for_head_and_not_the_other_way_round() {
        let takes = |methods: &[&str], method| {
            let methods: Vec<String> = methods.iter().map(|one| (*one).to_owned()).collect();
            takes_method(&methods, method)
        };
        assert!(takes(&["GET"], "GET") && takes(&["GET"], "HEAD") && takes(&["*"], "HEAD"));
        assert!(takes(&["POST", "GET"], "HEAD") && takes(&["HEAD"], "HEAD"));
        assert!(!takes(&["HEAD"], "GET") && !takes(&["POST"], "HEAD") && !takes(&["GET"], "get"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_and_no_path_breaks_it(pattern in ".{0,40}", path in ".{0,40}") {
            let plain = unreserved(&path);
            proptest::prop_assert!(plain.len() <= path.len() && (plain == path || path.contains('%')));
            if let Ok(route) = Pattern::parse(&pattern) {
                route.matches(&path);
                proptest::prop_assert_eq!(Pattern::parse(route.pattern()), Ok(route.clone()));
            }
        }
    }
}
