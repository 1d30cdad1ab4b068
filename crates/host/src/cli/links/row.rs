//! From a record of an export, ours or another program's, to the links to be created. One table of names reads all of them:
//! what differs between programs is how they call a field, and where they put it.

use serde_json::{Map, Value, json};

/// A record as it was read: a CSV row's cells are strings.
pub type Record = Map<String, Value>;

/// The field of a link's host.
pub const DOMAIN: &str = "domain";

/// A link to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The body of `POST /api/links`.
    pub body: Record,
    /// It is archived once it is there.
    pub archived: bool,
}

/// What a record says, by our own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Url,
    Code,
    /// A whole short URL: the code is its last segment.
    ShortUrl,
    /// More of them.
    MoreShortUrls,
    Domain,
    Tags,
    Text(&'static str),
    Number(&'static str),
    Flag(&'static str),
    /// A list of objects or an object, or the same as JSON text.
    Json(&'static str),
    Archived,
    /// A link that has one cannot be carried over, since its password is not in the export.
    Password,
    /// What has been blocked is not brought back.
    Banned,
    /// Said elsewhere, or made anew here.
    Known,
}

/// How programs call it: in lower case, letters and digits alone.
const NAMES: &[(&str, Field)] = &[
    // Ours.
    ("url", Field::Url),
    ("code", Field::Code),
    ("codelength", Field::Number("codeLength")),
    ("redirect", Field::Number("redirect")),
    ("expiresat", Field::Text("expiresAt")),
    ("validfrom", Field::Text("validFrom")),
    ("expireafteridle", Field::Number("expireAfterIdle")),
    ("maxvisits", Field::Number("maxVisits")),
    ("fallbackurl", Field::Text("fallbackUrl")),
    ("forwardquery", Field::Flag("forwardQuery")),
    ("tags", Field::Tags),
    ("title", Field::Text("title")),
    ("externalid", Field::Text("externalId")),
    ("archived", Field::Archived),
    ("rules", Field::Json("rules")),
    ("targets", Field::Json("targets")),
    ("utm", Field::Json("utm")),
    ("notifybefore", Field::Number("notifyBefore")),
    ("events", Field::Flag("events")),
    ("haspassword", Field::Password),
    ("id", Field::Known),
    // Shlink: short-urls of its API, the CSV of its web client.
    ("longurl", Field::Url),
    ("shortcode", Field::Code),
    ("shorturl", Field::ShortUrl),
    (DOMAIN, Field::Domain),
    ("validsince", Field::Text("validFrom")),
    ("validuntil", Field::Text("expiresAt")),
    // Dub: links of its API, its CSV.
    ("destinationurl", Field::Url),
    ("key", Field::Code),
    ("shortlink", Field::ShortUrl),
    ("expiredurl", Field::Text("fallbackUrl")),
    ("password", Field::Password),
    // YOURLS.
    ("keyword", Field::Code),
    // Kutt.
    ("target", Field::Url),
    ("address", Field::Code),
    ("link", Field::ShortUrl),
    ("expirein", Field::Text("expiresAt")),
    ("banned", Field::Banned),
    // Bitly: bitlinks of its API, its CSV.
    ("bitlink", Field::ShortUrl),
    ("custombitlinks", Field::MoreShortUrls),
    // What others call it.
    ("slug", Field::Code),
    ("backhalf", Field::Code),
    ("destination", Field::Url),
    ("originalurl", Field::Url),
];
/// Names that say more by another one: a description is a title where there is none.
const DESCRIPTION: &str = "description";

fn field(name: &str) -> Option<Field> {
    let name = plain(name);
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, field)| *field)
}

fn plain(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether a record with these names is a link.
pub fn is_link<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|name| field(name) == Some(Field::Url))
}

/// The links that a record makes: one, or one for each of its codes. None if it is of another domain than `domain`.
///
/// # Errors
/// Why it makes none.
pub fn drafts(record: &Record, domain: Option<&str>) -> Result<Vec<Draft>, String> {
    let mut found = Found::default();
    found.read(record)?;
    if let Some(meta) = record.get("meta").and_then(Value::as_object) {
        found.read(meta)?;
    }
    let of = found
        .domain
        .as_deref()
        .or_else(|| found.short_urls.first().and_then(|url| host(url)));
    if domain.is_some_and(|domain| of.is_some_and(|of| !of.eq_ignore_ascii_case(domain))) {
        return Ok(Vec::new());
    }
    let Some(url) = found.url.take() else {
        return Err("it has no URL".to_owned());
    };
    found.body.insert("url".into(), url.into());
    found.body.insert("ifExists".into(), "return".into());
    if let Some(host) = &found.domain {
        found.body.insert(DOMAIN.into(), host.to_ascii_lowercase().into());
    }
    let description = record.get(DESCRIPTION).and_then(text);
    if let (false, Some(title)) = (found.body.contains_key("title"), description) {
        found.body.insert("title".into(), title.into());
    }
    let mut codes: Vec<String> = found.code.into_iter().collect();
    for url in &found.short_urls {
        // A code of its own says what the first short URL does.
        if codes.is_empty() || found.more {
            codes.extend(last_segment(url).filter(|code| !codes.contains(code)));
        }
    }
    let with = |code: Option<String>| {
        let mut body = found.body.clone();
        if let Some(code) = code {
            body.insert("code".into(), code.into());
        }
        Draft {
            body,
            archived: found.archived,
        }
    };
    match codes.is_empty() {
        true => Ok(vec![with(None)]),
        false => Ok(codes.into_iter().map(|code| with(Some(code))).collect()),
    }
}

#[derive(Default)]
struct Found {
    body: Record,
    url: Option<String>,
    code: Option<String>,
    short_urls: Vec<String>,
    /// There are more short URLs than the one of the code.
    more: bool,
    domain: Option<String>,
    archived: bool,
}

impl Found {
    fn read(&mut self, record: &Record) -> Result<(), String> {
        for (name, value) in record {
            let Some(field) = field(name) else { continue };
            match field {
                Field::Tags => {
                    let tags = tags(value);
                    if !tags.is_empty() {
                        self.body.insert("tags".into(), json!(tags));
                    }
                }
                Field::MoreShortUrls => {
                    let urls = value.as_array().into_iter().flatten().filter_map(text);
                    self.short_urls.extend(urls);
                    self.more = true;
                }
                Field::Archived => self.archived = flag(name, value)?.unwrap_or(false),
                Field::Banned if flag(name, value)?.unwrap_or(false) => {
                    return Err("it was banned".to_owned());
                }
                Field::Password
                    if !matches!(value, Value::Bool(false))
                        && text(value).is_some_and(|text| text != "false") =>
                {
                    return Err("it has a password, which no export holds: create it by hand".to_owned());
                }
                Field::Number(ours) => {
                    if let Some(text) = text(value) {
                        let number = text.parse::<u64>();
                        let number = number.map_err(|_| format!("{name} is no whole number: {text}"))?;
                        self.body.insert(ours.into(), number.into());
                    }
                }
                Field::Flag(ours) => {
                    if let Some(flag) = flag(name, value)? {
                        self.body.insert(ours.into(), flag.into());
                    }
                }
                Field::Json(ours) => {
                    let read = match value {
                        Value::String(text) if text.is_empty() => continue,
                        Value::String(text) => serde_json::from_str(text)
                            .map_err(|error| format!("{name} is no JSON: {error}"))?,
                        other => other.clone(),
                    };
                    if read.as_array().is_none_or(|list| !list.is_empty()) && !read.is_null() {
                        self.body.insert(ours.into(), read);
                    }
                }
                Field::Text(ours) => {
                    if let Some(text) = text(value) {
                        self.body.insert(ours.into(), text.into());
                    }
                }
                Field::Url => self.url = self.url.take().or_else(|| text(value)),
                Field::Code => self.code = self.code.take().or_else(|| text(value)),
                Field::ShortUrl => self.short_urls.splice(0..0, text(value)).for_each(drop),
                Field::Domain => self.domain = text(value),
                Field::Banned | Field::Password | Field::Known => {}
            }
        }
        Ok(())
    }
}

/// A value as text; nothing if it says nothing.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => super::export::unguarded(text.trim()).to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn flag(name: &str, value: &Value) -> Result<Option<bool>, String> {
    match text(value).map(|text| text.to_ascii_lowercase()).as_deref() {
        None => Ok(None),
        Some("true" | "1" | "yes") => Ok(Some(true)),
        Some("false" | "0" | "no") => Ok(Some(false)),
        Some(other) => Err(format!("{name} is neither true nor false: {other}")),
    }
}

/// Tags: a list of them (of words, or of objects with a name), or words between bars or commas.
fn tags(value: &Value) -> Vec<String> {
    match value {
        Value::Array(tags) => {
            let name = |tag: &Value| text(tag).or_else(|| text(tag.get("name")?));
            tags.iter().filter_map(name).collect()
        }
        Value::String(text) => {
            let listed = text.starts_with('[').then(|| serde_json::from_str::<Value>(text));
            if let Some(Ok(list @ Value::Array(_))) = listed {
                return tags(&list);
            }
            let between = if text.contains('|') { '|' } else { ',' };
            let words = text
                .split(between)
                .map(|word| super::export::unguarded(word.trim()));
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// The host of a URL, also of one without a scheme (`bit.ly/a`).
fn host(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())
}

/// What a short URL ends with.
fn last_segment(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next()?.trim_end_matches('/');
    let (_, last) = path.rsplit_once('/')?;
    (!last.is_empty()).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(record: Value) -> Vec<Record> {
        let Value::Object(record) = record else {
            panic!("a record is an object")
        };
        drafts(&record, None)
            .unwrap()
            .into_iter()
            .map(|draft| draft.body)
            .collect()
    }

    fn one(record: Value) -> Value {
        let mut bodies = of(record);
        assert_eq!(bodies.len(), 1);
        let mut body = bodies.remove(0);
        assert_eq!(body.remove("ifExists"), Some("return".into()));
        Value::Object(body)
    }

    #[test]
    fn an_export_of_ours_makes_the_same_link() {
        let link = json!({"id": "01J", "code": "abc", "shortUrl": "http://s/abc", "url": "https://e.com/", "redirect": 301,
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": null, "visits": 7, "maxVisits": 10, "tags": ["a", "b|c"],
            "title": null, "owner": "key:x", "archived": false, "hasPassword": false, "forwardQuery": true});
        assert_eq!(
            one(link),
            json!({"code": "abc", "url": "https://e.com/", "redirect": 301, "maxVisits": 10,
            "tags": ["a", "b|c"], "forwardQuery": true})
        );
    }

    #[test]
    fn a_link_keeps_its_domain() {
        let on = |domain: Value| {
            one(
                json!({"code": "abc", "url": "https://e.com/", "domain": domain, "shortUrl": "https://s.test/abc"}),
            )
        };
        assert_eq!(on(json!("S.test"))["domain"], "s.test");
        for none in [Value::Null, json!("")] {
            assert_eq!(on(none), json!({"code": "abc", "url": "https://e.com/"}));
        }
    }

    #[test]
    fn rules_and_targets_come_back_from_lines_and_tables() {
        let rules = json!([{"when": {"os": "ios"}, "url": "https://e.com/ios"}]);
        let expected = json!({"code": "abc", "url": "https://e.com/", "rules": rules, "utm": {"source": "mail"}, "notifyBefore": 60, "events": true});
        let line = json!({"code": "abc", "url": "https://e.com/", "rules": rules, "targets": [], "utm": {"source": "mail"}, "notifyBefore": 60, "events": true});
        assert_eq!(one(line), expected);
        let cells = json!({"code": "abc", "url": "https://e.com/", "rules": rules.to_string(), "targets": "", "utm": "{\"source\":\"mail\"}", "notifyBefore": "60", "events": "true"});
        assert_eq!(one(cells), expected);
        let Value::Object(broken) = json!({"url": "https://e.com/", "targets": "[{"}) else {
            return;
        };
        assert!(
            drafts(&broken, None)
                .unwrap_err()
                .starts_with("targets is no JSON")
        );
    }

    #[test]
    fn shlink() {
        let api = json!({"shortCode": "abc", "shortUrl": "https://s.test/abc", "longUrl": "https://e.com/", "domain": null,
            "dateCreated": "2016-05-02T17:49:53+02:00", "tags": ["games"], "title": "T", "crawlable": false,
            "meta": {"validSince": null, "validUntil": "2030-01-01T00:00:00+00:00", "maxVisits": 3}, "forwardQuery": true,
            "visitsSummary": {"total": 1}});
        assert_eq!(
            one(api),
            json!({"code": "abc", "url": "https://e.com/", "tags": ["games"], "title": "T",
            "expiresAt": "2030-01-01T00:00:00+00:00", "maxVisits": 3, "forwardQuery": true})
        );
        let csv = json!({"createdAt": "2016", "domain": "s.test", "shortCode": "abc", "shortUrl": "https://s.test/abc",
            "longUrl": "https://e.com/", "title": "", "tags": "a|b", "visits": "5"});
        assert_eq!(
            one(csv),
            json!({"code": "abc", "domain": "s.test", "url": "https://e.com/", "tags": ["a", "b"]})
        );
        let listed = json!({"code": "abc", "url": "https://e.com/", "tags": r#"["a","b|c"]"#});
        assert_eq!(one(listed)["tags"], json!(["a", "b|c"]));
    }

    #[test]
    fn dub() {
        let api = json!({"id": "link_1", "domain": "dub.sh", "key": "abc", "url": "https://e.com/", "archived": true,
            "expiresAt": "2030-01-01T00:00:00.000Z", "expiredUrl": "https://e.com/over", "password": null,
            "shortLink": "https://dub.sh/abc", "tags": [{"id": "1", "name": "x", "color": "red"}], "clicks": 0});
        assert_eq!(
            one(api),
            json!({"code": "abc", "domain": "dub.sh", "url": "https://e.com/", "expiresAt": "2030-01-01T00:00:00.000Z",
            "fallbackUrl": "https://e.com/over", "tags": ["x"]})
        );
        let csv = json!({"Short link": "https://dub.sh/abc", "Destination URL": "https://e.com/", "Clicks": "0",
            "Tags": "x, y"});
        assert_eq!(
            one(csv),
            json!({"code": "abc", "url": "https://e.com/", "tags": ["x", "y"]})
        );
    }

    #[test]
    fn yourls_kutt_and_bitly() {
        let yourls = json!({"keyword": "abc", "url": "https://e.com/", "title": "T", "timestamp": "2020-01-01 00:00:00",
            "ip": "127.0.0.1", "clicks": "5"});
        let expected = json!({"code": "abc", "url": "https://e.com/", "title": "T"});
        assert_eq!(one(yourls), expected);
        let stats =
            json!({"shorturl": "http://y.test/abc", "url": "https://e.com/", "title": "T", "clicks": "5"});
        assert_eq!(one(stats), expected);
        let kutt = json!({"address": "abc", "banned": false, "id": "x", "link": "https://kutt.it/abc", "password": false,
            "target": "https://e.com/", "description": "T", "visit_count": 1, "expire_in": null});
        assert_eq!(one(kutt), expected);
        let bitly = json!({"created_at": "2020", "id": "bit.ly/abc", "link": "https://bit.ly/abc", "title": "T",
            "custom_bitlinks": ["https://bit.ly/mine"], "long_url": "https://e.com/", "archived": false, "tags": []});
        let codes: Vec<_> = of(bitly).into_iter().map(|body| body["code"].clone()).collect();
        assert_eq!(codes, ["abc", "mine"]);
        assert_eq!(
            one(json!({"Bitlink": "bit.ly/abc", "Long URL": "https://e.com/", "Title": "T"})),
            expected
        );
    }

    #[test]
    fn what_cannot_be_carried_over_is_said() {
        let refused = |record: Value| drafts(record.as_object().unwrap(), None).unwrap_err();
        assert!(refused(json!({"code": "abc"})).contains("no URL"));
        assert!(refused(json!({"url": "https://e.com/", "password": "x"})).contains("password"));
        assert!(refused(json!({"target": "https://e.com/", "password": true})).contains("password"));
        assert!(refused(json!({"target": "https://e.com/", "banned": true})).contains("banned"));
        assert!(refused(json!({"url": "https://e.com/", "maxVisits": "many"})).contains("maxVisits"));
        assert!(refused(json!({"url": "https://e.com/", "archived": "perhaps"})).contains("archived"));
    }

    #[test]
    fn one_domain_of_several_is_taken() {
        let of = |record: Value| drafts(record.as_object().unwrap(), Some("a.test")).unwrap().len();
        assert_eq!(
            of(json!({"url": "https://e.com/", "code": "x", "domain": "A.test"})),
            1
        );
        assert_eq!(
            of(json!({"url": "https://e.com/", "code": "x", "domain": "b.test"})),
            0
        );
        assert_eq!(
            of(json!({"url": "https://e.com/", "shortUrl": "https://b.test/x"})),
            0
        );
        assert_eq!(of(json!({"url": "https://e.com/", "code": "x"})), 1);
    }
}
