//! `tollgate.toml`: a text is refused with the place of its fault, or understood. One that is understood
//! reads back as the same when it is printed, without secrets. It also compiles into routes, policies and
//! everything else.

use tollgate_api::calls::own_segments;
use tollgate_api::components::Component;
use tollgate_api::pattern::Pattern;
use tollgate_api::units::{Bytes, Span};
use tollgate_delivery::retry::{MAX_ATTEMPTS, Schedule};
use tollgate_delivery::webhook::Secret;
use tollgate_rules::config::{
    Config, MAX_DESCRIBED, MAX_FORWARDS, MAX_LIMITS, MAX_SUBSCRIPTIONS, MAX_TOPICS,
};
use tollgate_rules::settings::Settings;

/// Any text as a file.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    units(&text);
    match Settings::parse(&text, "f.toml") {
        Ok(settings) => taken(&settings),
        Err(error) => {
            let lines = text.lines().count().max(1) + usize::from(text.ends_with('\n'));
            assert!(
                (1..=lines).contains(&error.line),
                "line {} of {lines}: {error}",
                error.line
            );
            assert!(
                !error.message.is_empty() && !error.message.contains('\n'),
                "{error}"
            );
            assert!(error.to_string().starts_with("f.toml:"));
        }
    }
}

/// Every line as a duration and a size.
fn units(text: &str) {
    for line in text.lines().take(32) {
        let word = line.rsplit('=').next().unwrap_or(line).trim().trim_matches('"');
        if let Ok(span) = word.parse::<Span>() {
            assert_eq!(span.to_string().parse(), Ok(span), "{word}");
        }
        if let Ok(bytes) = word.parse::<Bytes>() {
            assert_eq!(bytes.to_string().parse(), Ok(bytes), "{word}");
        }
    }
}

fn taken(settings: &Settings) {
    let config = &settings.config;
    let open = config.without_secrets();
    let shown = open.to_toml();
    match Settings::parse(&shown, "shown.toml") {
        Ok(again) => assert_eq!(again.config, open, "{shown}"),
        Err(error) => panic!("what is printed cannot be read: {error}\n{shown}"),
    }
    let masked = config.to_toml();
    assert!(open.to_toml().lines().count() <= masked.lines().count());
    let subscriptions = config.topics.values().flat_map(|topic| &topic.subscriptions);
    for subscription in subscriptions {
        assert!(can_be_sent_to(&subscription.url), "{}", subscription.url);
        if let Some(secret) = &subscription.secret {
            assert!(
                Secret::parse(secret.expose()).is_ok(),
                "a secret that cannot sign"
            );
            assert!(!masked.contains(secret.expose()) && !format!("{config:?}").contains(secret.expose()));
        }
        let schedule = Schedule::from_config(&subscription.retry);
        assert!((1..=MAX_ATTEMPTS).contains(&schedule.max_attempts()));
        assert!(schedule.wait_ms(1, 7, None).is_some() || schedule.max_attempts() == 1);
    }
    bounded(config);
    short_urls(&settings.public_url);
    for name in [&config.clients.header, &config.users.header] {
        assert!(
            http::HeaderName::from_lowercase(name.as_bytes()).is_ok(),
            "{name}"
        );
    }
    // What is in force can be put in force again.
    if let Err(fault) = Settings::compile(settings.in_force()) {
        panic!("checked, and cannot be put in force: {fault}\n{masked}");
    }
    for (route, rule) in settings.forwards() {
        assert_eq!(Pattern::parse(&rule.path).as_ref(), Ok(route));
        // Its own path belongs to it, and no path of ours does.
        let path = route.pattern().trim_end_matches("...");
        if route.matches(path) {
            assert_eq!(settings.component(path), Component::Forward, "{path}");
        }
        for own in own_segments() {
            assert!(!route.matches(&format!("/{own}")) && !route.matches(&format!("/{own}/x")));
        }
    }
}

/// Whether the relay's HTTP client can send to it.
pub(crate) fn can_be_sent_to(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| url.as_str().parse::<http::Uri>().is_ok())
}

/// What is put before a code reads as it is meant, and needs no browser to mend it.
fn short_urls(public_url: &str) {
    let base = url::Url::parse(public_url).expect("a public URL is one");
    let short = url::Url::parse(&format!("{public_url}/abc")).expect("a short URL is one");
    assert_eq!(
        (short.scheme(), short.host(), short.port()),
        (base.scheme(), base.host(), base.port())
    );
    assert!(short.path().ends_with("/abc"), "{short}");
    let scheme = public_url.get(..base.scheme().len()).unwrap_or("");
    assert!(scheme.eq_ignore_ascii_case(base.scheme()), "{public_url:?}");
    assert!(public_url[scheme.len()..].starts_with("://"), "{public_url:?}");
    let mended = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
    assert!(
        !public_url.contains(mended) && !public_url.ends_with('/'),
        "{public_url:?}"
    );
}

fn bounded(config: &Config) {
    assert!(config.limits.len() <= MAX_LIMITS + MAX_DESCRIBED && config.forward.len() <= MAX_FORWARDS);
    assert!(config.topics.len() <= MAX_TOPICS);
    assert!(
        config
            .topics
            .values()
            .all(|topic| topic.subscriptions.len() <= MAX_SUBSCRIPTIONS)
    );
}
