//! UTM parameters: a template on the link, filled in and added to whichever place the link leads to, at the redirect. So it holds for
//! rules and weighted targets too, and an edit of one of them does not lose it.
//!
//! What is in a place already is neither decoded nor encoded again, so that signed parameters survive.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields;
use tollgate_api::problem::Problem;
use tollgate_api::{json, percent};

/// The most characters of a value.
pub(super) const MAX_CHARS: usize = 190;
/// The most bytes that the parameters may add to a place: answers pass proxies that take heads of 4 KiB.
pub(super) const MAX_ADDED: usize = 2_048;
/// Stands for the link's code in a value.
const CODE: &str = "{code}";
/// Our names, and those of the parameters.
const NAMES: [(&str, &str); 5] = [
    ("source", "utm_source"),
    ("medium", "utm_medium"),
    ("campaign", "utm_campaign"),
    ("term", "utm_term"),
    ("content", "utm_content"),
];

/// The parameters of a link. `{code}` in a value stands for the link's code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkUtm")
)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Utm {
    /// `utm_source`: who sends the visitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_CHARS)))]
    source: Option<String>,
    /// `utm_medium`: by what means.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_CHARS)))]
    medium: Option<String>,
    /// `utm_campaign`: what for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_CHARS)))]
    campaign: Option<String>,
    /// `utm_term`: which search word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_CHARS)))]
    term: Option<String>,
    /// `utm_content`: which of several links.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_CHARS)))]
    content: Option<String>,
    /// Whether they take the place of parameters that the place, or a forwarded query, has. Otherwise those stay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replace: bool,
}

/// A change of them: what is absent stays, null clears.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LinkUtmPatch")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct UtmPatch {
    /// `utm_source`.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", length(min = 1, max = MAX_CHARS)))]
    source: Option<Option<String>>,
    /// `utm_medium`.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", length(min = 1, max = MAX_CHARS)))]
    medium: Option<Option<String>>,
    /// `utm_campaign`.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", length(min = 1, max = MAX_CHARS)))]
    campaign: Option<Option<String>>,
    /// `utm_term`.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", length(min = 1, max = MAX_CHARS)))]
    term: Option<Option<String>>,
    /// `utm_content`.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", length(min = 1, max = MAX_CHARS)))]
    content: Option<Option<String>>,
    /// Whether they take the place of others.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    replace: Option<Option<bool>>,
}

impl UtmPatch {
    /// The parameters after the change; `None`: none are left.
    ///
    /// # Errors
    /// The field that breaks a rule.
    pub(super) fn apply(&self, before: Option<&Utm>) -> Result<Option<Utm>, Problem> {
        let mut utm = before.cloned().unwrap_or_default();
        for (there, sent) in [
            (&mut utm.source, &self.source),
            (&mut utm.medium, &self.medium),
            (&mut utm.campaign, &self.campaign),
            (&mut utm.term, &self.term),
            (&mut utm.content, &self.content),
        ] {
            if let Some(sent) = sent {
                there.clone_from(sent);
            }
        }
        utm.replace = self
            .replace
            .map_or(utm.replace, |replace| replace.unwrap_or(false));
        let says_something = utm.values().next().is_some();
        match before {
            _ if says_something => utm.checked().map(Some),
            // What was there is cleared. To clear what was not there is a mistake.
            Some(_) => Ok(None),
            None => Err(empty()),
        }
    }
}

/// Makes of the members of a value that is sent whole those of a patch: what is not sent is cleared.
///
/// # Errors
/// There is none.
pub(super) fn whole(members: &mut Map<String, Value>) -> Result<(), Problem> {
    let names = NAMES.into_iter().map(|(ours, _)| ours).chain(["replace"]);
    for name in names {
        members.entry(name).or_insert(Value::Null);
    }
    match members.values().all(Value::is_null) {
        true => Err(empty()),
        false => Ok(()),
    }
}

fn empty() -> Problem {
    Problem::field("#/utm", "must hold source, medium, campaign, term or content")
}

impl Utm {
    /// The parameters that have a value: our name, theirs, the value.
    fn values(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        let values = [
            &self.source,
            &self.medium,
            &self.campaign,
            &self.term,
            &self.content,
        ];
        let named = NAMES.into_iter().zip(values);
        named.filter_map(|((ours, theirs), value)| Some((ours, theirs, value.as_deref()?)))
    }

    /// As they are kept.
    ///
    /// # Errors
    /// The field that breaks a rule.
    pub(super) fn checked(self) -> Result<Self, Problem> {
        let longest = "x".repeat(crate::codes::MAX_CUSTOM);
        let mut added = 0;
        for (ours, theirs, value) in self.values() {
            fields::text(value, 1, MAX_CHARS, &format!("#/utm/{ours}"))?;
            added += "&=".len() + theirs.len() + encoded(value, &longest).len();
        }
        match added {
            0 => Err(empty()),
            added if added > MAX_ADDED => Err(Problem::field(
                "#/utm",
                format!("must add at most {MAX_ADDED} bytes to an address, percent-encoded"),
            )),
            _ => Ok(self),
        }
    }

    /// What they take in memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.values().map(|(_, _, value)| value.len()).sum()
    }

    /// The place with the parameters after its own, and before its fragment.
    pub(super) fn add_to(&self, place: &str, code: &str) -> String {
        let (base, fragment) = match place.split_once('#') {
            Some((base, fragment)) => (base, Some(fragment)),
            None => (place, None),
        };
        let (path, query) = match base.split_once('?') {
            Some((path, query)) => (path, query),
            None => (base, ""),
        };
        let mut pairs: Vec<Cow<'_, str>> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(Cow::Borrowed)
            .collect();
        for (_, name, value) in self.values() {
            if self.replace {
                pairs.retain(|pair| !is_called(pair, name));
            } else if pairs.iter().any(|pair| is_called(pair, name)) {
                continue;
            }
            pairs.push([name, "=", &encoded(value, code)].concat().into());
        }
        let mut whole = String::with_capacity(place.len() + MAX_ADDED / 8);
        whole.push_str(path);
        for (index, pair) in pairs.iter().enumerate() {
            whole.push(if index == 0 { '?' } else { '&' });
            whole.push_str(pair);
        }
        if let Some(fragment) = fragment {
            whole.push('#');
            whole.push_str(fragment);
        }
        whole
    }
}

/// A value with the code in its place, percent-encoded.
fn encoded(value: &str, code: &str) -> String {
    percent::encode(&value.replace(CODE, code)).to_string()
}

/// Whether a pair of a query, as it is written, is a parameter of this name.
fn is_called(pair: &str, name: &str) -> bool {
    let mut parsed = url::form_urlencoded::parse(pair.as_bytes());
    parsed.next().is_some_and(|(found, _)| found == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utm(json: &str) -> Utm {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn parameters_go_after_the_places_own_and_before_its_fragment() {
        let mail = utm(r#"{"source":"mail","campaign":"Spring & {code}"}"#);
        for (place, whole) in [
            (
                "https://a.example/",
                "https://a.example/?utm_source=mail&utm_campaign=Spring%20%26%20abc",
            ),
            (
                "https://a.example/?sig=%2B+%2f&#f?g",
                "https://a.example/?sig=%2B+%2f&utm_source=mail&utm_campaign=Spring%20%26%20abc#f?g",
            ),
            (
                "https://a.example/?utm_source=page",
                "https://a.example/?utm_source=page&utm_campaign=Spring%20%26%20abc",
            ),
            (
                "https://a.example/?utm%5Fsource=page&xutm_source=1",
                "https://a.example/?utm%5Fsource=page&xutm_source=1&utm_campaign=Spring%20%26%20abc",
            ),
            (
                "https://a.example/?utm_campaign&utm_source=",
                "https://a.example/?utm_campaign&utm_source=",
            ),
        ] {
            assert_eq!(mail.add_to(place, "abc"), whole);
        }
    }

    #[test]
    fn what_the_place_has_is_replaced_where_that_is_said() {
        let mail = utm(r#"{"source":"mail","replace":true}"#);
        let place = "https://a.example/?utm_source=a&x=1&utm%5fsource=b&utm_medium=c#f";
        let whole = "https://a.example/?x=1&utm_medium=c&utm_source=mail#f";
        assert_eq!(mail.add_to(place, "abc"), whole);
    }

    #[test]
    fn values_have_bounds() {
        let check = |json: &str| {
            let checked = utm(json).checked();
            checked.map_err(|problem| problem.errors[0].pointer.clone())
        };
        assert_eq!(check("{}"), Err("#/utm".into()));
        assert_eq!(check(r#"{"replace":true}"#), Err("#/utm".into()));
        assert_eq!(check(r#"{"source":""}"#), Err("#/utm/source".into()));
        assert_eq!(check(r#"{"term":"a\r\nb"}"#), Err("#/utm/term".into()));
        let of = |text: &str, times: usize| format!(r#"{{"content":"{}"}}"#, text.repeat(times));
        assert!(check(&of("x", MAX_CHARS)).is_ok() && check(&of("é", MAX_CHARS)).is_ok());
        assert_eq!(check(&of("x", MAX_CHARS + 1)), Err("#/utm/content".into()));
        assert_eq!(check(&of("😀", MAX_CHARS)), Err("#/utm".into()));
        // A code counts as the longest one does: 31 of them are 1,984 bytes.
        assert!(check(&of("{code}", 31)).is_ok());
        let two = format!(r#"{{"source":"{0}","term":"{0}"}}"#, "{code}".repeat(17));
        assert_eq!(check(&two), Err("#/utm".into()));
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let patch = |json: &str, before: Option<&Utm>| {
            let patch: UtmPatch = serde_json::from_str(json).unwrap();
            patch
                .apply(before)
                .map_err(|problem| problem.errors[0].pointer.clone())
        };
        let before = utm(r#"{"source":"mail","medium":"email"}"#);
        let after = patch(r#"{"medium":null,"term":"x"}"#, Some(&before));
        assert_eq!(after, Ok(Some(utm(r#"{"source":"mail","term":"x"}"#))));
        assert_eq!(patch(r#"{"source":null,"medium":null}"#, Some(&before)), Ok(None));
        assert_eq!(patch("{}", None), Err("#/utm".into()));
        assert_eq!(
            patch(r#"{"replace":true}"#, Some(&before)),
            Ok(Some(utm(r#"{"source":"mail","medium":"email","replace":true}"#)))
        );
        assert!(serde_json::from_str::<UtmPatch>(r#"{"surprise":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn a_place_gets_no_more_than_its_parameters(value in ".{1,20}", query in "[a-z&=%+]{0,20}", code in "[A-Za-z0-9_-]{3,64}") {
            let one = Utm { source: Some(value.clone()), ..Utm::default() };
            let place = format!("https://a.example/p?{query}#f");
            let whole = url::Url::parse(&one.add_to(&place, &code)).unwrap();
            prop_assert_eq!((whole.host_str(), whole.path(), whole.fragment()), (Some("a.example"), "/p", Some("f")));
            let found: Vec<_> = whole.query_pairs().filter(|(name, _)| name == "utm_source").map(|(_, value)| value.into_owned()).collect();
            prop_assert_eq!(found, vec![value.replace(CODE, &code)]);
        }
    }
}
