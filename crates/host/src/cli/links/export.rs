//! `tollgate links export`.

use super::super::client::{Client, Target, segment};
use super::super::exit::Failure;
use super::super::output::{self, Output};
use clap::{Args, ValueEnum};
use serde_json::Value;

/// Links of a page: the most that the gateway gives.
const PAGE: u32 = 500;
/// The columns of a table.
const COLUMNS: [&str; 24] = [
    "code",
    "domain",
    "url",
    "title",
    "tags",
    "redirect",
    "validFrom",
    "expiresAt",
    "expireAfterIdle",
    "maxVisits",
    "fallbackUrl",
    "forwardQuery",
    "externalId",
    "archived",
    "rules",
    "targets",
    "utm",
    "notifyBefore",
    "events",
    "hasPassword",
    "owner",
    "createdAt",
    "visits",
    "shortUrl",
];
/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// `tollgate links export …`
#[derive(Args)]
pub struct ExportOptions {
    /// How to write them.
    #[arg(long, value_enum, default_value_t = Form::Ndjson)]
    pub format: Form,
    /// Only links with this tag.
    #[arg(long)]
    pub tag: Option<String>,
    /// Only links on this host.
    #[arg(long, value_name = "HOST")]
    pub domain: Option<String>,
    /// Only links of this owner (admins).
    #[arg(long)]
    pub owner: Option<String>,
    /// The gateway.
    #[command(flatten)]
    pub target: Target,
}

/// How links are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A link on each line, as the API shows it.
    Ndjson,
    /// A table.
    Csv,
}

/// Prints all links, page by page.
///
/// # Errors
/// See [`Failure`].
pub async fn export(options: &ExportOptions, client: &Client, mut output: Output) -> Result<(), Failure> {
    let mut query = format!("/api/links?limit={PAGE}");
    for (name, value) in [
        ("tag", &options.tag),
        ("domain", &options.domain),
        ("owner", &options.owner),
    ] {
        if let Some(value) = value {
            query += &format!("&{name}={}", segment(value));
        }
    }
    let bar = output::progress(None, "{spinner} {pos} links {per_sec}");
    if options.format == Form::Csv {
        output.text(&row(COLUMNS.iter().map(|name| (*name).to_owned()))?)?;
    }
    let pages = client.pages(&query, "links", |links| {
        let mut text = String::new();
        for link in &links {
            text += &match options.format {
                Form::Ndjson => format!("{link}\n"),
                Form::Csv => row(COLUMNS.iter().map(|name| cell(&link[*name])))?,
            };
        }
        output.text(&text)?;
        bar.inc(links.len() as u64);
        Ok(())
    });
    pages.await?;
    bar.finish_and_clear();
    Ok(())
}

fn row(cells: impl Iterator<Item = String>) -> Result<String, Failure> {
    let mut row = csv::Writer::from_writer(Vec::new());
    row.write_record(cells.map(guarded))
        .map_err(anyhow::Error::from)?;
    let bytes = row
        .into_inner()
        .map_err(|error| Failure::failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| Failure::Failed(error.into()))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.iter().any(is_no_word) => value.to_string(),
        Value::Array(tags) => {
            let words: Vec<&str> = tags.iter().filter_map(Value::as_str).collect();
            words.join("|")
        }
        other => other.to_string(),
    }
}

/// Whether an element of a list would be several, or none, between `|`.
fn is_no_word(element: &Value) -> bool {
    let text = element.as_str();
    text.is_none_or(|text| text.contains(['|', ',']) || text.starts_with('['))
}

/// A cell that no spreadsheet takes for a formula: strangers write titles, too.
fn guarded(cell: String) -> String {
    match cell.starts_with(FORMULA) {
        true => format!("'{cell}"),
        false => cell,
    }
}

/// The cell before it was [`guarded`].
pub fn unguarded(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(FORMULA) => rest,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_formula_and_comes_back_as_it_was() {
        for text in ["=1+1", "-5", "@x", "'quoted'", "plain", ""] {
            let cell = guarded(text.to_owned());
            assert!(!cell.starts_with(FORMULA));
            assert_eq!(unguarded(&cell), text);
        }
    }

    #[test]
    fn tags_are_words_unless_a_word_would_be_two() {
        assert_eq!(cell(&serde_json::json!(["a", "b c"])), "a|b c");
        assert_eq!(cell(&serde_json::json!(["a", "b|c"])), r#"["a","b|c"]"#);
        assert_eq!(cell(&serde_json::json!(["a,b"])), r#"["a,b"]"#);
    }
}
