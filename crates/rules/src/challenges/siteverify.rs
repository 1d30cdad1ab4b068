//! Tokens of a provider's widget, checked at its `siteverify` URL: the interface that reCAPTCHA began, and that
//! [Turnstile](https://developers.cloudflare.com/turnstile/get-started/server-side-validation/),
//! [hCaptcha](https://docs.hcaptcha.com/#verify-the-user-response-server-side) and self-hosted ones share.
//!
//! The provider says whether a token is good. Where it finds fault with the gateway (a wrong secret, say), nobody is refused for
//! it as a machine would be: then the provider counts as one that cannot be asked.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::{ChallengeSettings, Provider};
use crate::settings::checks::is_trustworthy;
use tollgate_api::ids::hex;
use tollgate_api::secret::SecretText;

/// The longest token, bytes. Turnstile's have at most 2,048; those of others have no stated bound.
pub(super) const MAX_TOKEN: usize = 4_096;
/// The longest URL, secret, site key, host and action, bytes.
const MAX_URL: usize = 2_048;
const MAX_TEXT: usize = 256;
/// The most hosts.
const MAX_HOSTNAMES: usize = 16;

/// What a provider says when the fault is the gateway's, or its own.
const NOT_THE_CALLERS: [&str; 7] = [
    "missing-input-secret",
    "invalid-input-secret",
    "sitekey-secret-mismatch",
    "not-using-dummy-passcode",
    "missing-remoteip",
    "bad-request",
    "internal-error",
];

/// What is known of a provider.
struct Known {
    url: &'static str,
    script: &'static str,
    /// The class of the element that its script fills.
    class: &'static str,
    /// What its widget loads from, as sources of a content security policy.
    sources: &'static str,
}

impl Provider {
    fn known(self) -> Known {
        match self {
            Self::Turnstile => Known {
                url: "https://challenges.cloudflare.com/turnstile/v0/siteverify",
                script: "https://challenges.cloudflare.com/turnstile/v0/api.js",
                class: "cf-turnstile",
                sources: "https://challenges.cloudflare.com",
            },
            Self::Hcaptcha => Known {
                url: "https://api.hcaptcha.com/siteverify",
                script: "https://js.hcaptcha.com/1/api.js",
                class: "h-captcha",
                sources: "https://hcaptcha.com https://*.hcaptcha.com",
            },
            Self::Recaptcha => Known {
                url: "https://www.google.com/recaptcha/api/siteverify",
                script: "https://www.google.com/recaptcha/api.js",
                class: "g-recaptcha",
                sources: "https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/ https://recaptcha.google.com/recaptcha/",
            },
        }
    }
}

/// Who checks the tokens of a challenge, compiled.
#[derive(Clone, Debug)]
pub(super) struct Siteverify {
    provider: Option<Provider>,
    url: String,
    secret: SecretText,
    site_key: Option<String>,
    hostnames: Vec<String>,
    action: Option<String>,
    min_score: Option<f64>,
}

/// What is to be solved: the provider's widget, shown with this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Siteverify")
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    /// Whose widget it is; null where the settings only name a URL.
    provider: Option<Provider>,
    /// The public key to show it with; null where the settings name none.
    site_key: Option<String>,
    /// The action to show it for; null where any will do.
    action: Option<String>,
}

/// A widget as a page shows it.
pub(super) struct Widget<'a> {
    pub(super) script: &'static str,
    pub(super) class: &'static str,
    pub(super) sources: &'static str,
    pub(super) site_key: &'a str,
    pub(super) action: Option<&'a str>,
}

/// What a provider answers.
#[derive(Deserialize)]
struct Answer {
    success: bool,
    #[serde(rename = "error-codes", default)]
    errors: Option<Vec<String>>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    score: Option<f64>,
}

/// That nothing of this kind is set for a challenge of another.
pub(super) fn is_not_set(settings: &ChallengeSettings) -> Result<(), (&'static str, &'static str)> {
    let set = [
        ("provider", settings.provider.is_some()),
        ("url", settings.url.is_some()),
        ("secret", settings.secret.is_some()),
        ("site_key", settings.site_key.is_some()),
        ("hostnames", !settings.hostnames.is_empty()),
        ("action", settings.action.is_some()),
        ("min_score", settings.min_score.is_some()),
    ];
    match set.into_iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err((field, "is for kind = \"siteverify\"")),
        None => Ok(()),
    }
}

fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Siteverify {
    /// Checks and compiles the settings.
    pub(super) fn compile(settings: &ChallengeSettings) -> Result<Self, (&'static str, &'static str)> {
        let ensure = |holds: bool, field, rule| if holds { Ok(()) } else { Err((field, rule)) };
        let is_optional = |text: &Option<String>| text.as_deref().is_none_or(is_text);
        let known = settings.provider.map(|provider| provider.known().url.to_owned());
        let url = settings.url.clone().or(known);
        let url = url.ok_or((
            "provider",
            "is needed (\"turnstile\", \"hcaptcha\", \"recaptcha\"), or a url",
        ))?;
        let is_sound = url.len() <= MAX_URL && is_trustworthy(&url);
        ensure(
            is_sound,
            "url",
            "must be an https URL (http on this machine only)",
        )?;
        let secret = settings.secret.clone().ok_or(("secret", "is needed"))?;
        let rule = "must be 1 to 256 visible ASCII characters";
        ensure(is_text(secret.expose()), "secret", rule)?;
        ensure(is_optional(&settings.site_key), "site_key", rule)?;
        ensure(is_optional(&settings.action), "action", rule)?;
        let are_few = settings.hostnames.len() <= MAX_HOSTNAMES;
        ensure(are_few, "hostnames", "must have at most 16 entries")?;
        let are_hosts = settings.hostnames.iter().all(|host| is_text(host));
        ensure(are_hosts, "hostnames", rule)?;
        let is_score = settings
            .min_score
            .is_none_or(|score| (0.0..=1.0).contains(&score));
        ensure(is_score, "min_score", "must be from 0 to 1")?;
        Ok(Self {
            provider: settings.provider,
            url,
            secret,
            site_key: settings.site_key.clone(),
            hostnames: settings.hostnames.clone(),
            action: settings.action.clone(),
            min_score: settings.min_score,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What is posted to it. It holds the secret.
    pub(super) fn form(&self, token: &str, address: Option<IpAddr>) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("secret", self.secret.expose());
        form.append_pair("response", token);
        if let Some(address) = address {
            form.append_pair("remoteip", &address.to_canonical().to_string());
        }
        // Without it hCaptcha takes tokens of every site of the same account.
        if let (Some(Provider::Hcaptcha), Some(key)) = (self.provider, &self.site_key) {
            form.append_pair("sitekey", key);
        }
        form.finish()
    }

    /// `None` if the token is good, else why it is not.
    ///
    /// # Errors
    /// The answer says nothing of the token: what is wrong.
    pub(super) fn judge(&self, answer: &[u8]) -> Result<Option<&'static str>, String> {
        if let Some(fault) = fault(answer) {
            return Err(fault);
        }
        let answer: Answer = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
        if !answer.success {
            return Ok(Some(
                "The provider did not accept the token; solve another challenge.",
            ));
        }
        let hostname = answer.hostname.as_deref().unwrap_or_default();
        let is_host = |host: &String| host.eq_ignore_ascii_case(hostname);
        if !self.hostnames.is_empty() && !self.hostnames.iter().any(is_host) {
            return Ok(Some("The token was made on a page of another host."));
        }
        if self.action.is_some() && answer.action != self.action {
            return Ok(Some("The token is for another action."));
        }
        if let Some(least) = self.min_score
            && answer.score.is_none_or(|score| score < least)
        {
            return Ok(Some("The provider takes the caller for a machine."));
        }
        Ok(None)
    }

    pub(super) fn asked(&self) -> Asked {
        Asked {
            provider: self.provider,
            site_key: self.site_key.clone(),
            action: self.action.clone(),
        }
    }

    /// The widget, where it is known how to show one.
    pub(super) fn widget(&self) -> Option<Widget<'_>> {
        let known = self.provider?.known();
        Some(Widget {
            script: known.script,
            class: known.class,
            sources: known.sources,
            site_key: self.site_key.as_deref()?,
            action: self.action.as_deref(),
        })
    }
}

/// Whether it can be a token: it is passed on, and may stand in a cookie.
pub(super) fn is_token(text: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b';' | b',' | b'"');
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(is_sound)
}

/// Tells a token from all others.
pub(super) fn id(token: &str) -> String {
    hex(&Sha256::digest(token))
}

/// What is wrong with an answer that says nothing of the token: the operator's to mend, or the provider's. `None` if it does.
pub fn fault(answer: &[u8]) -> Option<String> {
    let Ok(answer) = serde_json::from_slice::<Answer>(answer) else {
        return Some("the answer is not what siteverify answers".to_owned());
    };
    let mut errors = answer.errors.into_iter().flatten();
    let found = errors.find_map(|error| NOT_THE_CALLERS.iter().find(|known| **known == error));
    found
        .filter(|_| !answer.success)
        .map(|code| format!("the provider says {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn made(lines: &str) -> Result<Siteverify, (&'static str, &'static str)> {
        let head = "[[challenges]]\nname = \"bots\"\npath = \"/p\"\nkind = \"siteverify\"\n";
        let config = Config::read(&[head, lines].concat(), "t").unwrap();
        Siteverify::compile(&config.challenges[0])
    }

    const TURNSTILE: &str = "provider = \"turnstile\"\nsecret = \"0x4AAA\"\nsite_key = \"1x0\"\n";

    #[test]
    fn the_form_says_what_the_provider_asks_for() {
        let address = "::ffff:192.0.2.9".parse().ok();
        let turnstile = made(TURNSTILE).unwrap();
        assert_eq!(
            turnstile.form("a+b&c", address),
            "secret=0x4AAA&response=a%2Bb%26c&remoteip=192.0.2.9"
        );
        assert!(turnstile.url().starts_with("https://challenges.cloudflare.com/"));
        let hcaptcha = made(&TURNSTILE.replace("turnstile", "hcaptcha")).unwrap();
        assert_eq!(hcaptcha.form("t", None), "secret=0x4AAA&response=t&sitekey=1x0");
        let own = made("url = \"http://127.0.0.1:9/siteverify\"\nsecret = \"s\"\n").unwrap();
        assert!(own.widget().is_none());
        assert_eq!(own.url(), "http://127.0.0.1:9/siteverify");
    }

    #[test]
    fn an_answer_is_read_as_the_providers_write_it() {
        let strict = made(
            "provider = \"recaptcha\"\nsecret = \"s\"\nhostnames = [\"www.example.com\", \"Example.com\"]\naction = \"claim\"\nmin_score = 0.5\n",
        )
        .unwrap();
        let loose = made(TURNSTILE).unwrap();
        let good = r#"{"success":true,"challenge_ts":"2027-01-01T00:00:00Z","hostname":"example.com","action":"claim","score":0.7,"error-codes":[]}"#;
        assert_eq!(strict.judge(good.as_bytes()), Ok(None));
        assert_eq!(loose.judge(br#"{"success":true}"#), Ok(None));
        for (from, to) in [
            ("true", "false"),
            (
                "\"hostname\":\"example.com\"",
                "\"hostname\":\"example.com.evil\"",
            ),
            ("\"hostname\":\"example.com\",", ""),
            ("\"action\":\"claim\"", "\"action\":\"\""),
            ("0.7", "0.4"),
            (",\"score\":0.7", ""),
        ] {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good);
            assert!(
                matches!(strict.judge(changed.as_bytes()), Ok(Some(_))),
                "{changed}"
            );
        }
        for refused in [
            r#"{"success":false}"#,
            r#"{"success":false,"error-codes":["timeout-or-duplicate"]}"#,
            r#"{"success":false,"error-codes":["invalid-input-response"],"messages":[]}"#,
            r#"{"success":false,"error-codes":null}"#,
        ] {
            assert!(
                matches!(loose.judge(refused.as_bytes()), Ok(Some(_))),
                "{refused}"
            );
        }
        for failed in [
            r#"{"success":false,"error-codes":["invalid-input-secret"]}"#,
            r#"{"success":false,"error-codes":["invalid-input-response","internal-error"]}"#,
            r#"{"success":"true"}"#,
            "<html>",
            "",
            "[]",
        ] {
            assert!(loose.judge(failed.as_bytes()).is_err(), "{failed}");
        }
    }

    #[test]
    fn what_is_set_wrong_is_named() {
        for (lines, field) in [
            ("secret = \"s\"", "provider"),
            ("provider = \"turnstile\"", "secret"),
            ("provider = \"turnstile\"\nsecret = \"\"", "secret"),
            ("provider = \"turnstile\"\nsecret = \"a b\"", "secret"),
            ("url = \"http://captcha.example.com/\"\nsecret = \"s\"", "url"),
            ("url = \"captcha\"\nsecret = \"s\"", "url"),
            (
                "provider = \"turnstile\"\nsecret = \"s\"\nsite_key = \"\"",
                "site_key",
            ),
            (
                "provider = \"turnstile\"\nsecret = \"s\"\naction = \"\"",
                "action",
            ),
            (
                "provider = \"turnstile\"\nsecret = \"s\"\nhostnames = [\"\"]",
                "hostnames",
            ),
            (
                "provider = \"turnstile\"\nsecret = \"s\"\nmin_score = 1.1",
                "min_score",
            ),
            (
                "provider = \"turnstile\"\nsecret = \"s\"\nmin_score = nan",
                "min_score",
            ),
        ] {
            assert_eq!(made(lines).unwrap_err().0, field, "{lines}");
        }
    }

    #[test]
    fn a_token_is_bounded_and_fits_into_a_cookie() {
        assert!(is_token("0.AbC-_~.9") && is_token(&"t".repeat(MAX_TOKEN)));
        for token in ["", "a b", "a;b", "a,b", "\"a\"", "ä", &"t".repeat(MAX_TOKEN + 1)] {
            assert!(!is_token(token), "{token}");
        }
    }
}
