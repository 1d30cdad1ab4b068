//! The formats of YOURLS's answers.

use serde_json::Value;
use tollgate_api::http::Response;

/// The longest name of a function that an answer is given to.
const MAX_CALLBACK: usize = 64;

/// How an answer is written.
pub(super) enum Format {
    Json,
    /// A call of this function.
    Jsonp(String),
    /// The member `simple` alone.
    Simple,
    Xml,
}

impl Format {
    /// By its name; XML where there is none, or one that nobody knows. A function's name that is none is `yourls_callback`.
    pub(super) fn of(name: Option<&str>, callback: Option<&str>) -> Self {
        let is_name = |text: &&str| {
            let part = |byte: u8| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte);
            text.len() <= MAX_CALLBACK && text.bytes().all(part)
        };
        match name {
            Some("json") => Self::Json,
            Some("jsonp") => Self::Jsonp(callback.filter(is_name).unwrap_or("yourls_callback").to_owned()),
            Some("simple") => Self::Simple,
            _ => Self::Xml,
        }
    }

    /// The answer with this document.
    pub(super) fn answer(&self, status: u16, document: &Value) -> Response {
        let (media, text) = match self {
            Self::Json => ("application/json", document.to_string()),
            Self::Jsonp(function) => (
                "application/javascript; charset=utf-8",
                // Never the beginning of something else than a script.
                format!(
                    "/**/{function}({});",
                    document.to_string().replace('<', "\\u003c")
                ),
            ),
            Self::Simple => {
                let text = match document.get("simple") {
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                ("text/plain; charset=utf-8", text)
            }
            Self::Xml => {
                let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
                element(&mut text, "result", document);
                ("application/xml; charset=utf-8", text)
            }
        };
        let mut response = Response::empty(status)
            .with("content-type", media)
            .with("x-content-type-options", "nosniff")
            .with("cache-control", "no-store");
        response.body = text.into_bytes();
        response
    }
}

fn element(text: &mut String, name: &str, value: &Value) {
    text.push('<');
    text.push_str(name);
    text.push('>');
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| element(text, name, value)),
        Value::String(value) => escape(text, value),
        Value::Null => {}
        other => escape(text, &other.to_string()),
    }
    text.push_str("</");
    text.push_str(name);
    text.push('>');
}

/// As XML 1.0 can hold it: what it cannot is left out.
fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\t' | '\n' | '\r' => text.push(character),
            control if control < ' ' || matches!(control, '\u{fffe}' | '\u{ffff}') => {}
            other => text.push(other),
        }
    }
}
