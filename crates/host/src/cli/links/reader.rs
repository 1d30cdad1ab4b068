//! Reads records from a file of any size, one at a time: NDJSON, JSON documents (as the APIs of other programs answer
//! them), or CSV.

use super::row::{Record, is_link};
use clap::ValueEnum;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, Read as _};

/// The longest line of NDJSON, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// The keys under which programs keep their lists.
const LISTS: [&str; 5] = ["shortUrls", "data", "links", "items", "results"];
/// What the keys of YOURLS's list begin with: it is an object.
const NUMBERED: &str = "link_";

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As its beginning says.
    Auto,
    /// An object on each line.
    Ndjson,
    /// A list, or documents with one, as APIs answer them.
    Json,
    /// Rows below their heads, between commas, semicolons or tabs.
    Csv,
}

/// A record, or why it is none, and where it is: its line, or its number in a JSON document.
pub type Found = (u64, Result<Record, String>);

/// Gives every record of the file to `each`, until that says no.
///
/// # Errors
/// The file cannot be read (on).
pub fn read(
    mut file: impl BufRead,
    format: Format,
    each: &mut dyn FnMut(Found) -> bool,
) -> Result<(), String> {
    let beginning = file.fill_buf().map_err(|error| error.to_string())?;
    // Some programs write a byte order mark.
    let (beginning, mark) = match beginning.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => (rest, 3),
        None => (beginning, 0),
    };
    let table = Table::of(beginning);
    let format = match format {
        Format::Auto => guess(beginning),
        told => told,
    };
    file.consume(mark);
    match format {
        Format::Csv => csv(file, table, each),
        Format::Json => json(file, each),
        Format::Ndjson | Format::Auto => lines(file, each),
    }
}

fn guess(beginning: &[u8]) -> Format {
    let start = beginning.trim_ascii_start();
    match start.first() {
        Some(b'[') => Format::Json,
        Some(b'{') => {
            let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let first: Option<Record> = serde_json::from_slice(line).ok();
            match first {
                Some(record) if is_link(record.keys().map(String::as_str)) => Format::Ndjson,
                _ => Format::Json,
            }
        }
        _ => Format::Csv,
    }
}

/// How a CSV file is written.
#[derive(Clone, Copy)]
struct Table {
    /// What stands between its heads most often.
    between: u8,
    /// Lines that the reader is behind: it takes the line feed after a carriage return for the next row's.
    behind: u64,
}

impl Table {
    fn of(beginning: &[u8]) -> Self {
        let line = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let count = |delimiter: u8| line.iter().filter(|byte| **byte == delimiter).count();
        let between = [b'\t', b';', b','].into_iter().max_by_key(|byte| count(*byte));
        Self {
            between: between.unwrap_or(b','),
            behind: u64::from(line.ends_with(b"\r")),
        }
    }
}

fn lines(mut file: impl BufRead, each: &mut dyn FnMut(Found) -> bool) -> Result<(), String> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            return Ok(());
        }
        if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
            return Err(format!("line {number} is longer than 1 MiB"));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let record = serde_json::from_slice(&line).map_err(|error| format!("it is no JSON object: {error}"));
        if !each((number, record)) {
            return Ok(());
        }
    }
    Ok(())
}

fn csv(file: impl BufRead, table: Table, each: &mut dyn FnMut(Found) -> bool) -> Result<(), String> {
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(table.between)
        .flexible(true)
        .from_reader(file);
    let heads = rows.headers().map_err(|error| error.to_string())?.clone();
    if !is_link(heads.iter()) {
        let heads: Vec<&str> = heads.iter().collect();
        return Err(format!(
            "no column of it is a URL's; its columns are: {}",
            heads.join(", ")
        ));
    }
    let mut row = csv::StringRecord::new();
    loop {
        let record = match rows.read_record(&mut row) {
            Ok(false) => return Ok(()),
            // A URL with a comma and no quotes: it would lead elsewhere. Spreadsheets write empty cells at the end.
            Ok(true) if row.iter().skip(heads.len()).any(|cell| !cell.is_empty()) => Err(format!(
                "it has {} cells below {} heads: what holds a {:?} must stand in quotes",
                row.len(),
                heads.len(),
                char::from(table.between)
            )),
            Ok(true) => Ok(heads
                .iter()
                .zip(&row)
                .map(|(head, cell)| (head.to_owned(), Value::from(cell)))
                .collect()),
            Err(error) if error.is_io_error() => return Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let line = row
            .position()
            .map_or_else(|| rows.position().line(), csv::Position::line);
        if !each((line + table.behind, record)) {
            return Ok(());
        }
    }
}

fn json(file: impl BufRead, each: &mut dyn FnMut(Found) -> bool) -> Result<(), String> {
    let mut walk = Walk {
        number: 0,
        each,
        stopped: false,
    };
    let mut file = file;
    loop {
        // Several documents may follow each other: the pages of an API.
        let rest = file.fill_buf().map_err(|error| error.to_string())?;
        if rest.is_empty() {
            return Ok(());
        }
        let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if blank > 0 {
            file.consume(blank);
            continue;
        }
        let mut document = serde_json::Deserializer::from_reader(&mut file);
        match walk.deserialize(&mut document) {
            Ok(()) => {}
            Err(_) if walk.stopped => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Walks through a document to its links, without keeping it.
struct Walk<'a> {
    number: u64,
    each: &'a mut dyn FnMut(Found) -> bool,
    stopped: bool,
}

impl Walk<'_> {
    fn deserialize<'de, D: Deserializer<'de>>(&mut self, document: D) -> Result<(), D::Error> {
        document.deserialize_any(Inside(self))
    }

    /// Takes one element of a list; no means that nobody wants more.
    fn take(&mut self, value: Value) -> bool {
        self.number += 1;
        let record = match value {
            Value::Object(record) => Ok(record),
            _ => Err("it is no JSON object".to_owned()),
        };
        self.stopped = !(self.each)((self.number, record));
        !self.stopped
    }
}

struct Inside<'w, 'a>(&'w mut Walk<'a>);

impl<'de> DeserializeSeed<'de> for Inside<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.deserialize(deserializer)
    }
}

impl<'de> Visitor<'de> for Inside<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of links, or an object that holds one")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(value) = list.next_element::<Value>()? {
            if !self.0.take(value) {
                return Err(A::Error::custom("nobody wants more"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if LISTS.contains(&key.as_str()) {
                map.next_value_seed(Inside(self.0))?;
            } else if key.starts_with(NUMBERED) {
                if !self.0.take(map.next_value()?) {
                    return Err(A::Error::custom("nobody wants more"));
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(text: &str) -> Result<Vec<(u64, Value)>, String> {
        let mut found = Vec::new();
        read(text.as_bytes(), Format::Auto, &mut |(line, record)| {
            found.push((line, record.map_or_else(Value::from, Value::Object)));
            true
        })?;
        Ok(found)
    }

    #[test]
    fn lines_of_json() {
        let found = all("{\"url\":\"a\"}\n\n{\"url\":1}\nx\n{\"url\":\"b\"}").unwrap();
        let lines: Vec<u64> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5]);
        assert!(found[2].1.as_str().unwrap().contains("no JSON"));
    }

    #[test]
    fn documents_as_programs_answer_them() {
        let two = vec![(1, json!({"url": "a"})), (2, json!({"url": "b"}))];
        for text in [
            r#"[{"url":"a"},{"url":"b"}]"#,
            "{\"shortUrls\":{\"data\":[{\"url\":\"a\"},{\"url\":\"b\"}],\"pagination\":{\"x\":[1]}}}",
            "{\"limit\":10,\"total\":2,\"data\":[{\"url\":\"a\"},{\"url\":\"b\"}]}",
            "{\"links\":[{\"url\":\"a\"}]}\n{\"links\":[{\"url\":\"b\"}]}\n",
            "{\n \"links\":{\"link_1\":{\"url\":\"a\"},\"link_2\":{\"url\":\"b\"}},\"stats\":{\"total_links\":\"2\"}}",
        ] {
            assert_eq!(all(text).as_ref(), Ok(&two), "{text}");
        }
        assert!(all("[{\"url\":\"a\"},").is_err());
    }

    #[test]
    fn tables_between_commas_semicolons_and_tabs() {
        let row = json!({"url": "a", "title": "x, \"y\"\nz"});
        for text in [
            "url,title\na,\"x, \"\"y\"\"\nz\"\n",
            "\u{feff}url;title\r\na;\"x, \"\"y\"\"\nz\"\r\n",
            "url\ttitle\na\t\"x, \"\"y\"\"\nz\"",
        ] {
            assert_eq!(all(text), Ok(vec![(2, row.clone())]), "{text:?}");
        }
        assert!(all("name,title\na,b\n").unwrap_err().contains("name, title"));
        let found = all("url,code\nhttps://a/?q=1,200,x\nb,c,,\n").unwrap();
        assert!(found[0].1.as_str().unwrap().contains("quotes"), "{found:?}");
        assert_eq!(found[1], (3, json!({"url": "b", "code": "c"})));
        assert!(all("").is_err());
    }
}
