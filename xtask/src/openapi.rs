//! `cargo xtask openapi`: the OpenAPI document, from the contract's types to the file that the gateway serves.

use crate::build::{root, say, write_if_changed};
use anyhow::{Context as _, Result, anyhow};
use std::path::PathBuf;

fn path() -> PathBuf {
    root().join("crates/api/openapi.json")
}

/// What the types say, as it is kept: a line for each member, so that a change shows.
fn document() -> Result<String> {
    let document = tollgate_rules::openapi::document().map_err(|why| anyhow!(why))?;
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Brings the file up to date.
pub fn write() -> Result<()> {
    let document = document().context("the contract's types contradict themselves")?;
    write_if_changed(&path(), document.as_bytes())?;
    say(&format!("{} is up to date", path().display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use tollgate_api::calls::Call;

    fn kept() -> Value {
        let text = std::fs::read_to_string(path()).expect("crates/api/openapi.json is there");
        serde_json::from_str(&text).expect("it is JSON")
    }

    #[test]
    fn the_file_is_what_the_types_say() {
        let made: Value = serde_json::from_str(&document().unwrap()).unwrap();
        assert!(
            made == kept(),
            "crates/api/openapi.json is out of date: run `cargo xtask openapi`"
        );
    }

    #[test]
    fn the_document_and_the_table_name_the_same_calls() {
        let document = kept();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                described.insert((method.to_uppercase(), path.replace('{', ":").replace('}', "")));
            }
        }
        let listed: BTreeSet<_> = Call::ALL
            .iter()
            .map(|call| (call.method().to_owned(), call.path().to_owned()))
            .collect();
        assert_eq!(described, listed);
    }

    /// An independent reader of OpenAPI 3.1.
    #[test]
    fn another_reader_understands_the_document() {
        let text = std::fs::read_to_string(path()).unwrap();
        let spec = oas3::from_json(text).unwrap();
        spec.validate_version().unwrap();
        assert_eq!(spec.operations().count(), Call::ALL.len());
        for (path, method, operation) in spec.operations() {
            assert!(
                operation.operation_id.is_some() && operation.summary.is_some(),
                "{method} {path}"
            );
            for parameter in &operation.parameters {
                parameter
                    .resolve(&spec)
                    .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
            }
            for (status, response) in operation.responses.iter().flatten() {
                response
                    .resolve(&spec)
                    .unwrap_or_else(|error| panic!("{method} {path} {status}: {error}"));
            }
        }
    }

    /// Every value of a document, and where it stands.
    fn walk<'d>(at: &str, value: &'d Value, seen: &mut Vec<(String, &'d Value)>) {
        seen.push((at.to_owned(), value));
        match value {
            Value::Object(members) => members
                .iter()
                .for_each(|(name, one)| walk(&format!("{at}/{name}"), one, seen)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, one)| walk(&format!("{at}/{index}"), one, seen)),
            _ => {}
        }
    }

    #[test]
    fn references_lead_somewhere() {
        let document = kept();
        let mut seen = Vec::new();
        walk("", &document, &mut seen);
        let references = seen
            .iter()
            .filter_map(|(at, value)| Some((at, value.get("$ref")?.as_str()?)));
        let mut checked = 0;
        for (at, reference) in references {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{at}: {reference}");
            checked += 1;
        }
        assert!(checked > 100, "{checked}");
    }

    #[test]
    fn every_call_has_an_example_of_what_it_takes_and_gives() {
        let document = kept();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let has = |content: &Value| {
                    let media = content.as_object().into_iter().flatten();
                    media
                        .into_iter()
                        .any(|(name, media)| media.get("example").is_some() || !name.contains("json"))
                };
                if let Some(body) = operation.get("requestBody") {
                    assert!(has(&body["content"]), "{method} {path}: its body");
                }
                let answers = operation["responses"].as_object().unwrap();
                let done = answers.iter().filter(|(status, _)| status.starts_with('2'));
                for (status, answer) in done.filter(|(_, answer)| answer.get("content").is_some()) {
                    assert!(
                        has(&answer["content"]) || path == "/openapi.json",
                        "{method} {path} {status}"
                    );
                }
            }
        }
    }

    /// Refusals too, also those of other shorteners' APIs.
    #[test]
    fn every_answer_of_json_has_an_example() {
        let document = kept();
        let mut checked = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    let answer = match answer["$ref"].as_str() {
                        Some(shared) => document.pointer(shared.trim_start_matches('#')).unwrap(),
                        None => answer,
                    };
                    let Some(media) = answer["content"].get("application/json") else {
                        continue;
                    };
                    let has = media.get("example").is_some() || media.get("examples").is_some();
                    assert!(has || path == "/openapi.json", "{method} {path} {status}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 100, "{checked}");
    }
}
