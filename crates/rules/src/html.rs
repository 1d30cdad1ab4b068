//! The frame of the pages that people get in place of an answer: no script, no style, nothing loaded.

/// The policy of a page from which nothing may be loaded, run, framed or sent.
pub(crate) const NOTHING_ELSE: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page in the language of this tag (BCP 47). `title` and `main` are HTML; `main` ends its last line.
pub(crate) fn document(language: &str, title: &str, main: &str) -> Vec<u8> {
    framed(language, title, main, "")
}

/// The same of a page that asks for itself again after so many seconds.
pub(crate) fn refreshing(language: &str, title: &str, main: &str, seconds: u64) -> Vec<u8> {
    let refresh = format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n");
    framed(language, title, main, &refresh)
}

/// Text as HTML text or the value of a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn framed(language: &str, title: &str, main: &str, head: &str) -> Vec<u8> {
    let page = format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n{head}</head>\n<body>\n<main>\n{main}</main>\n</body>\n</html>\n"
    );
    page.into_bytes()
}
