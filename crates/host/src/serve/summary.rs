//! What a person at a terminal is shown once the gateway answers: where it is, what it keeps where, whom it limits, and what
//! to try first.

use crate::logging;
use std::fmt::Write as _;
use std::net::SocketAddr;
use tollgate_rules::config::Limit;
use tollgate_rules::settings::Settings;
use tollgate_store::settings::StoreSettings;

/// The most limits that are named.
const MOST_LIMITS: usize = 4;

/// `http` or `https`, and where.
type At = (&'static str, SocketAddr);

/// Shows the summary, if stderr is a terminal.
pub fn show(at: At, admin: Option<At>, settings: &Settings, source: &str) {
    if logging::is_terminal() {
        logging::say(&text(at, admin, settings, source), tracing::Level::INFO, "", &[]);
    }
}

fn text((scheme, at): At, admin: Option<At>, settings: &Settings, source: &str) -> String {
    let config = &settings.config;
    let store = match &config.store {
        StoreSettings::Sqlite { path, .. } => path.clone(),
        StoreSettings::Postgres(settings) => settings.masked_url("********"),
        StoreSettings::Memory { max_bytes } => {
            format!("memory, at most {max_bytes}: nothing outlives this process")
        }
    };
    let (admin_scheme, admin) = admin.unwrap_or((scheme, at));
    let mut text = format!(
        "\n  Tollgate {version}\n
  listens on  {scheme}://{at}
  short URLs  {public}
  dashboard   {admin_scheme}://{admin}/admin
  API         {scheme}://{at}/docs
  settings    {source}
  store       {store}\n",
        version = env!("CARGO_PKG_VERSION"),
        public = settings.public_url,
    );
    for (name, limit) in heads("limits").zip(config.limits.iter().take(MOST_LIMITS)) {
        _ = writeln!(text, "  {name:<10}  {}", in_words(limit));
    }
    match config.limits.len() {
        0 => text += "  limits      none: nobody is slowed down\n",
        all if all > MOST_LIMITS => _ = writeln!(text, "  {:<10}  and {} more", "", all - MOST_LIMITS),
        _ => {}
    }
    _ = write!(
        text,
        "\n  Try it (KEY is the admin key):\n
      curl {scheme}://{at}/api/links -H \"authorization: Bearer $KEY\" --json '{{\"url\":\"https://example.com/\",\"code\":\"hello\"}}'
      curl -i {scheme}://{at}/hello
      TOLLGATE_URL={scheme}://{at} TOLLGATE_KEY=$KEY tollgate links export\n"
    );
    text
}

/// The head of the first line, and none of the others.
fn heads(first: &str) -> impl Iterator<Item = &str> {
    std::iter::once(first).chain(std::iter::repeat(""))
}

fn in_words(limit: &Limit) -> String {
    let methods = match limit.methods.as_slice() {
        [] => String::new(),
        [all] if all == "*" => String::new(),
        methods => format!("{} ", methods.join(", ")),
    };
    let shadow = if limit.shadow { " (only watched)" } else { "" };
    format!(
        "{}: {methods}{}, a burst of {}, then {} every {}{shadow}",
        limit.name, limit.path, limit.capacity, limit.refill, limit.interval
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_what_and_whom() {
        let settings = Settings::default();
        let at = "127.0.0.1:3000".parse().unwrap();
        let text = text(("http", at), None, &settings, "the built-in defaults");
        for words in [
            "http://127.0.0.1:3000/admin",
            "data/tollgate.db",
            "default: /..., a burst of 100, then 10 every 1s",
            "curl -i",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
    }
}
