//! Which form of an answer a caller asks for: `Accept` (RFC 9110, section 12.5.1).

use crate::http::Request;

/// The one of `offered` media types that the request's `Accept` names with the highest weight; of equal ones the first that it
/// names. `None` if it names none of them, or sends no such header: then it takes what there usually is. Ranges (`text/*`) name
/// nothing.
pub fn named<'m>(request: &Request, offered: &[&'m str]) -> Option<&'m str> {
    let fields = request.headers.iter().filter(|header| header.name == "accept");
    let fields = fields.filter_map(|header| std::str::from_utf8(&header.value).ok());
    let mut best: Option<(u16, &'m str)> = None;
    for range in fields.flat_map(|field| field.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let Some(media) = offered.iter().find(|media| media.eq_ignore_ascii_case(name)) else {
            continue;
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.map_or(1_000, thousandths);
        if weight > best.map_or(0, |(weight, _)| weight) {
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
        "1" if digits && decimals == 0 => 1_000,
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
}
