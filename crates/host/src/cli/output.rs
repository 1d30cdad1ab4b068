//! What a command prints. Results go to stdout: for people, or as JSON with `--json` (one value for each line where there
//! are many). Everything else, progress and errors, goes to stderr. A reader that went away ends the command, without a
//! word.

use super::exit::Failure;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Stdout, and in which form.
#[derive(Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// For people, or as JSON.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person is looking at stdout.
    pub fn is_live(&self) -> bool {
        !self.json && std::io::stdout().is_terminal()
    }

    /// Prints text as it is.
    ///
    /// # Errors
    /// [`Failure::Closed`] where the reader has gone.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::failed(format!("cannot write to stdout: {error}")),
        })
    }

    /// Prints a line for people. What strangers may have sent controls no terminal.
    ///
    /// # Errors
    /// See [`Output::text`].
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{}\n", printable(line)))
    }

    /// Prints a value as one line of JSON.
    ///
    /// # Errors
    /// See [`Output::text`].
    pub fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        self.text(&format!("{line}\n"))
    }

    /// Prints rows below their heads, in columns.
    ///
    /// # Errors
    /// See [`Output::text`].
    pub fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| printable(cell)).collect())
            .collect();
        let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        let width = |column: usize| {
            let cells = std::iter::once(&heads).chain(&rows);
            cells
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&heads).chain(&rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                _ = write!(line, "{cell:width$}  ");
            }
            text += line.trim_end();
            text.push('\n');
        }
        self.text(&text)
    }
}

/// The text with every control character replaced: escape sequences, and what turns the direction of text around.
pub fn printable(text: &str) -> String {
    let is_safe =
        |c: char| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| if is_safe(c) { c } else { '\u{fffd}' })
        .collect()
}

/// Says something on stderr, where that can be.
pub fn tell(line: &str) {
    _ = writeln!(std::io::stderr(), "{line}");
}

/// Tells on stderr what went wrong, if anything did; the exit code.
pub fn report(done: Result<(), Failure>, as_json: bool) -> ExitCode {
    let failure = match done {
        Ok(()) | Err(Failure::Closed) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let message = printable(&failure.message());
    match as_json {
        true => {
            let mut told = json!({ "error": message, "exitCode": failure.code() });
            if let Failure::Refused(refusal) = &failure {
                told["problem"] = refusal.problem.clone();
            }
            tell(&told.to_string());
        }
        false => tell(&format!("tollgate: {message}")),
    }
    ExitCode::from(failure.code())
}

/// A progress bar on stderr, if that is a terminal; else it shows nothing. `total`: steps or bytes, where they are known.
pub fn progress(total: Option<u64>, template: &str) -> indicatif::ProgressBar {
    let bar = match total {
        Some(total) => indicatif::ProgressBar::new(total),
        None => indicatif::ProgressBar::new_spinner(),
    };
    match indicatif::ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_send_controls_no_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\nc\u{9b}1m\u{202e}ü"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}1m\u{fffd}ü"
        );
    }
}
