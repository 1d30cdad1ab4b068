//! Which form of an answer a caller asks for: `Accept`, `Accept-Encoding` and `Accept-Language` (RFC 9110, sections 12.4.2 and 12.5). The only
//! reader of weights.

use crate::http::Request;

/// How much of a field is looked at, in bytes.
const MAX_LOOKED_AT: usize = 1_024;
/// The weight of what is named without one, in thousandths.
const FULL: u16 = 1_000;

/// The elements of a list of preferences as they are written, without their parameters, each with its weight in thousandths; 0 is a
/// refusal. A weight that cannot be read is 0.
pub fn preferences(field: &str) -> impl Iterator<Item = (&str, u16)> {
    let end = field.floor_char_boundary(MAX_LOOKED_AT);
    let elements = field.get(..end).unwrap_or_default().split(',');
    elements.filter_map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((name, weight.map_or(FULL, thousandths)))
    })
}

/// What `known` makes of the element with the highest weight, of those of which it makes something; of equal ones, the first.
pub fn best<'f, T>(field: &'f str, mut known: impl FnMut(&'f str) -> Option<T>) -> Option<T> {
    let mut best: Option<(u16, T)> = None;
    for (name, weight) in preferences(field) {
        if weight > best.as_ref().map_or(0, |(most, _)| *most)
            && let Some(found) = known(name)
        {
            best = Some((weight, found));
        }
    }
    best.map(|(_, found)| found)
}

/// The index of the language (a primary tag, in lower case) that an `Accept-Language` prefers most; of two that are so equally, the one
/// named first; 0 for none of them.
pub fn language(field: &str, languages: &[&str]) -> usize {
    let known = |tag: &str| {
        let primary = tag.split('-').next().unwrap_or_default();
        languages
            .iter()
            .position(|language| language.eq_ignore_ascii_case(primary))
    };
    best(field, known).unwrap_or(0)
}

/// Whether an `Accept-Encoding` takes gzip, by its name, by the older one or by `*` (RFC 9110, sections 8.4.1.3 and 12.5.3).
pub fn takes_gzip(field: &str) -> bool {
    let weight = |wanted: &[&str]| {
        let is_wanted = |name: &str| wanted.iter().any(|one| one.eq_ignore_ascii_case(name));
        let of = preferences(field).filter(|(name, _)| is_wanted(name));
        of.map(|(_, weight)| weight).max()
    };
    weight(&["gzip", "x-gzip"])
        .or_else(|| weight(&["*"]))
        .is_some_and(|weight| weight > 0)
}

/// Whether an `Accept` asks for HTML by name, as browsers do when they show a page, and not rather for JSON. Ranges name nothing: what
/// calls an API accepts anything.
pub fn wants_html(accept: &str) -> bool {
    let weight = |wanted: &[&str]| {
        let is_wanted = |name: &str| wanted.iter().any(|one| one.eq_ignore_ascii_case(name));
        let of = preferences(accept).filter(|(name, _)| is_wanted(name));
        of.map(|(_, weight)| weight).max().unwrap_or(0)
    };
    let html = weight(&["text/html", "application/xhtml+xml"]);
    html > 0 && html >= weight(&["application/json", "application/problem+json"])
}

/// The one of `offered` media types that the request's `Accept` names with the highest weight; of equal ones the first that it
/// names. `None` if it names none of them, or sends no such header: then it takes what there usually is. Ranges (`text/*`) name
/// nothing.
pub fn named<'m>(request: &Request, offered: &[&'m str]) -> Option<&'m str> {
    let fields = request.headers.iter().filter(|header| header.name == "accept");
    let fields = fields.filter_map(|header| std::str::from_utf8(&header.value).ok());
    let mut best: Option<(u16, &'m str)> = None;
    for (name, weight) in fields.flat_map(preferences) {
        let media = offered.iter().find(|media| media.eq_ignore_ascii_case(name));
        if let Some(media) = media
            && weight > best.map_or(0, |(most, _)| most)
        {
            best = Some((weight, media));
        }
    }
    best.map(|(_, media)| media)
}

/// A weight, 0 to 1 with at most three decimals, in thousandths; one that cannot be read is 0.
fn thousandths(text: &str) -> u16 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = format!("{decimals:0<3}").parse().unwrap_or(0);
    match whole {
        "0" if digits => decimals,
        "1" if digits && decimals == 0 => FULL,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Header;

    #[test]
    fn the_form_that_is_asked_for_first_is_given() {
        let of = |accept: &[&str]| {
            let request = Request {
                method: "GET".into(),
                path: "/".into(),
                query: None,
                headers: accept.iter().map(|value| Header::new("accept", *value)).collect(),
                body: Vec::new(),
                peer: String::new(),
            };
            named(&request, &["application/json", "text/csv"])
        };
        for (accept, expected) in [
            (&[][..], None),
            (&["*/*"], None),
            (&["text/csv"], Some("text/csv")),
            (&["Text/CSV; header=present"], Some("text/csv")),
            (&["text/html", "text/csv;q=0.5"], Some("text/csv")),
            (&["application/json;q=0.9, text/csv; q=0.95"], Some("text/csv")),
            (&["application/json, text/csv"], Some("application/json")),
            (&["text/csv;q=0"], None),
            (&["text/csv;q=2"], None),
            (&["text/csv;q=0.0001"], None),
            (&["text/*", "text/csvs"], None),
        ] {
            assert_eq!(of(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn html_is_for_who_names_it() {
        for (accept, expected) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                true,
            ),
            ("application/json, TEXT/HTML ; level=1", true),
            ("application/json;q=0.4, application/xhtml+xml;Q=0.5", true),
            ("application/json, text/html;q=0.5", false),
            ("*/*", false),
            ("text/*", false),
            ("text/html;q=0", false),
            ("text/html; q=0.0, */*", false),
            ("text/html;q=7", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(wants_html(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_best_of_what_is_known_is_found_and_no_field_is_read_for_ever() {
        let of = |field: &str| best(field, |name| (name != "*").then(|| name.to_ascii_lowercase()));
        for (field, expected) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some("de-at")),
            ("en;q=0.5, ko;q=0.9", Some("ko")),
            ("en;q=0.5, ko;q=0.5", Some("en")),
            ("*, fr;q=0.1", Some("fr")),
            ("de;q=0", None),
            ("en;q=9.9, de;q=0.3", Some("de")),
            ("en;q=NaN", None),
            ("en;q=0.1234, de;q=x, fr ; q=0.2", Some("fr")),
            (";;,, ", None),
        ] {
            assert_eq!(of(field).as_deref(), expected, "{field}");
        }
        let long = format!("{}, de", "\u{e9}".repeat(MAX_LOOKED_AT));
        assert!(of(&long).is_some_and(|found| found.len() <= MAX_LOOKED_AT));
    }
}
