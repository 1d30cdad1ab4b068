//! Whether a request of a `[[forward]]` route is signed by whom it says: Standard Webhooks, Stripe, GitHub.
//!
//! Signatures are compared in constant time, over the body as it came. Where the sender signs a time, it must be at most
//! [`TOLERANCE_SECONDS`] from ours: a request that was overheard cannot be sent again later. GitHub signs none.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::config::Verify;
use tollgate_api::http::Request;
use tollgate_api::problem::{Kind, Problem};
use tollgate_delivery::webhook::{self, MAX_SIGNATURES, Secret, TOLERANCE_SECONDS, VerifyError};

const MS_PER_SECOND: u64 = 1_000;
/// The shortest and longest secret of Stripe and GitHub, characters.
const SECRET_LENGTH: (usize, usize) = (16, 256);

/// What tells whether a request is genuine: by any of its secrets, of which there are two while the sender's is changed.
#[derive(Clone)]
pub(crate) enum Verifier {
    /// By `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    StandardWebhooks(Vec<Secret>),
    /// By `stripe-signature`. The keys are the texts of the secrets, with their `whsec_`.
    Stripe(Vec<Vec<u8>>),
    /// By `x-hub-signature-256`.
    Github(Vec<Vec<u8>>),
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Verifier {
    /// For the settings of a route. The error says what a secret must be, and quotes nothing of it.
    pub(crate) fn new(verify: Verify, secret: &str) -> Result<Self, String> {
        if verify == Verify::StandardWebhooks {
            let secret = Secret::parse(secret).map_err(|error| error.to_string())?;
            return Ok(Self::StandardWebhooks(vec![secret]));
        }
        let (least, most) = SECRET_LENGTH;
        if !(least..=most).contains(&secret.len()) || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("must be {least} to {most} visible ASCII characters"));
        }
        let keys = vec![secret.as_bytes().to_vec()];
        Ok(match verify {
            Verify::Stripe => Self::Stripe(keys),
            _ => Self::Github(keys),
        })
    }

    /// One that also takes what is signed by the secret of before. Both are by the same rules.
    pub(crate) fn or(mut self, previous: Self) -> Self {
        match (&mut self, previous) {
            (Self::StandardWebhooks(secrets), Self::StandardWebhooks(more)) => secrets.extend(more),
            (Self::Stripe(keys), Self::Stripe(more)) | (Self::Github(keys), Self::Github(more)) => {
                keys.extend(more);
            }
            _ => {}
        }
        self
    }

    /// The headers that it looks at; lower case.
    pub(crate) fn headers(&self) -> &'static [&'static str] {
        match self {
            Self::StandardWebhooks(_) => &["webhook-id", "webhook-timestamp", "webhook-signature"],
            Self::Stripe(_) => &["stripe-signature"],
            Self::Github(_) => &["x-hub-signature-256"],
        }
    }

    /// 401 for a request that is not genuine. `now`: Unix milliseconds.
    pub(crate) fn check(&self, request: &Request, now: u64) -> Result<(), Problem> {
        let now = now / MS_PER_SECOND;
        match self {
            Self::StandardWebhooks(secrets) => {
                let id = header(request, "webhook-id")?;
                let at = header(request, "webhook-timestamp")?;
                let signatures = header(request, "webhook-signature")?;
                webhook::verify(secrets, id, at, signatures, &request.body, now).map_err(refused)
            }
            Self::Stripe(keys) => stripe(keys, header(request, "stripe-signature")?, &request.body, now),
            Self::Github(keys) => {
                let given = header(request, "x-hub-signature-256")?.strip_prefix("sha256=");
                let is_by =
                    |key: &Vec<u8>| given.is_some_and(|given| is_hex_of(given, &mac(key, &[&request.body])));
                let fits = keys.iter().any(is_by);
                if fits {
                    Ok(())
                } else {
                    Err(refused(VerifyError::NoMatch))
                }
            }
        }
    }
}

/// `t=<Unix seconds>,v1=<hex>[,v1=<hex>…]`: HMAC-SHA-256 of `<t>.<body>`
/// (<https://docs.stripe.com/webhooks#verify-manually>). Other schemes, such as `v0`, are passed over.
fn stripe(keys: &[Vec<u8>], header: &str, body: &[u8], now: u64) -> Result<(), Problem> {
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let of = |wanted: &'static str| {
        parts()
            .filter(move |(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    let mut times = of("t");
    let at = match (times.next(), times.next()) {
        (Some(at), None) if at.bytes().all(|b| b.is_ascii_digit()) => at,
        _ => return Err(refused(VerifyError::BadTimestamp)),
    };
    let seconds: u64 = at.parse().map_err(|_| refused(VerifyError::BadTimestamp))?;
    if now.abs_diff(seconds) > TOLERANCE_SECONDS {
        return Err(refused(VerifyError::OutOfTolerance));
    }
    let is_by = |key: &Vec<u8>| {
        let expected = mac(key, &[at.as_bytes(), b".", body]);
        of("v1")
            .take(MAX_SIGNATURES)
            .any(|given| is_hex_of(given, &expected))
    };
    if keys.iter().any(is_by) {
        Ok(())
    } else {
        Err(refused(VerifyError::NoMatch))
    }
}

fn mac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().into()
}

/// Whether a text is these bytes in hexadecimal, in constant time for its length.
fn is_hex_of(given: &str, expected: &[u8; 32]) -> bool {
    let hex: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
    bool::from(given.as_bytes().ct_eq(hex.as_bytes()))
}

/// A header that must be there once.
fn header<'r>(request: &'r Request, name: &str) -> Result<&'r str, Problem> {
    let value = request
        .single(name)?
        .and_then(|value| std::str::from_utf8(value).ok());
    value.ok_or_else(|| Problem::new(Kind::InvalidSignature, format!("The header {name} is missing.")))
}

fn refused(error: VerifyError) -> Problem {
    let detail = match error {
        VerifyError::BadTimestamp => "The time of the signature is not Unix seconds.",
        VerifyError::OutOfTolerance => "The signature is of another time: clocks may differ by 300 seconds.",
        VerifyError::NoMatch => "No signature is of this body by a secret of this route.",
    };
    Problem::new(Kind::InvalidSignature, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_api::http::Header;

    const NOW: u64 = 1_800_000_000;

    fn request(headers: &[(&str, &str)], body: &[u8]) -> Request {
        let header = |(name, value): &(&str, &str)| Header::new((*name).to_owned(), *value);
        Request {
            method: "POST".into(),
            path: "/hooks".into(),
            query: None,
            headers: headers.iter().map(header).collect(),
            body: body.to_vec(),
            peer: String::new(),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The example of <https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries#testing>.
    #[test]
    fn a_signature_of_github_is_checked_by_their_own_example() {
        let verifier = Verifier::new(Verify::Github, "It's_a_Secret_to_Everybody").unwrap();
        assert!(verifier.check(&request(&[], b"x"), 0).is_err());
        let verifier = Verifier::Github(vec![b"It's a Secret to Everybody".to_vec()]);
        let given = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let check =
            |given: &str, body: &[u8]| verifier.check(&request(&[("x-hub-signature-256", given)], body), 0);
        assert_eq!(check(given, b"Hello, World!"), Ok(()));
        for (given, body) in [
            (given, &b"Hello, World?"[..]),
            (&given.to_uppercase(), b"Hello, World!"),
            (&given[7..], b"Hello, World!"),
            (&given[..70], b"Hello, World!"),
            ("sha256=", b"Hello, World!"),
            ("", b"Hello, World!"),
        ] {
            assert_eq!(
                check(given, body).unwrap_err().kind,
                Kind::InvalidSignature,
                "{given}"
            );
        }
    }

    #[test]
    fn a_signature_of_stripe_is_of_the_time_and_the_body_and_lasts_five_minutes() {
        let secret = "whsec_0123456789abcdef";
        let verifier = Verifier::new(Verify::Stripe, secret).unwrap();
        let body = br#"{"id":"evt_1"}"#;
        let good = hex(&mac(secret.as_bytes(), &[format!("{NOW}.").as_bytes(), body]));
        let check = |header: &str, body: &[u8], now: u64| {
            verifier
                .check(&request(&[("stripe-signature", header)], body), now * 1_000)
                .map_err(|problem| (problem.kind, problem.kind.status()))
        };
        let false_one = Err((Kind::InvalidSignature, 401));
        let header = format!("t={NOW},v1={good},v0=6ffbb59b");
        for now in [NOW, NOW + TOLERANCE_SECONDS, NOW - TOLERANCE_SECONDS] {
            assert_eq!(check(&header, body, now), Ok(()));
        }
        for now in [NOW + TOLERANCE_SECONDS + 1, NOW - TOLERANCE_SECONDS - 1, 0] {
            assert_eq!(check(&header, body, now), false_one);
        }
        // While a secret rolls there are two.
        let two = format!("t={NOW},v1={},v1={good}", "0".repeat(64));
        assert_eq!(check(&two, body, NOW), Ok(()));
        let beyond = format!("t={NOW}{},v1={good}", ",v1=0".repeat(MAX_SIGNATURES));
        for header in [
            format!("t={},v1={good}", NOW + 1),
            format!("t={NOW},v0={good}"),
            format!("t={NOW},t={NOW},v1={good}"),
            format!("t=+{NOW},v1={good}"),
            format!("t=,v1={good}"),
            format!("v1={good}"),
            format!("t={NOW}"),
            beyond,
            String::new(),
        ] {
            assert_eq!(check(&header, body, NOW), false_one, "{header}");
        }
        assert_eq!(check(&header, b"{}", NOW), false_one);
    }

    #[test]
    fn a_signature_of_standard_webhooks_is_of_id_time_and_body() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let verifier = Verifier::new(Verify::StandardWebhooks, text).unwrap();
        let signature = webhook::sign(&Secret::parse(text).unwrap(), "m", NOW, b"hi");
        let at = NOW.to_string();
        let check = |id: &str, at: &str, now: u64| {
            let headers = [
                ("webhook-id", id),
                ("webhook-timestamp", at),
                ("webhook-signature", signature.as_str()),
            ];
            verifier.check(&request(&headers, b"hi"), now * 1_000).is_ok()
        };
        assert!(check("m", &at, NOW));
        assert!(!check("n", &at, NOW) && !check("m", "1", 1) && !check("m", &at, NOW + 301));
        assert!(verifier.check(&request(&[], b"hi"), NOW * 1_000).is_err());
    }

    #[test]
    fn while_a_secret_is_changed_both_are_good_and_no_third() {
        let [old, new, other] = ["whsec_of_before_0", "whsec_of_today_00", "whsec_of_nobody_0"];
        let by = |verify, secret: &str| Verifier::new(verify, secret).unwrap();
        let both = by(Verify::Github, new).or(by(Verify::Github, old));
        let stripe = by(Verify::Stripe, new).or(by(Verify::Stripe, old));
        for (secret, fits) in [(old, true), (new, true), (other, false)] {
            let given = format!("sha256={}", hex(&mac(secret.as_bytes(), &[b"hi"])));
            let github = request(&[("x-hub-signature-256", &given)], b"hi");
            assert_eq!(both.check(&github, 0).is_ok(), fits, "{secret}");
            let given = hex(&mac(secret.as_bytes(), &[format!("{NOW}.").as_bytes(), b"hi"]));
            let signed = request(&[("stripe-signature", &format!("t={NOW},v1={given}"))], b"hi");
            assert_eq!(stripe.check(&signed, NOW * 1_000).is_ok(), fits, "{secret}");
        }
        let texts = [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        ];
        let standard = texts.map(|text| by(Verify::StandardWebhooks, text));
        let [today, before] = standard;
        let alone = today.clone();
        let both = today.or(before);
        let signature = webhook::sign(&Secret::parse(texts[1]).unwrap(), "m", NOW, b"hi");
        let at = NOW.to_string();
        let headers = [
            ("webhook-id", "m"),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let request = request(&headers, b"hi");
        assert!(both.check(&request, NOW * 1_000).is_ok());
        assert!(alone.check(&request, NOW * 1_000).is_err());
    }

    #[test]
    fn a_secret_is_checked_and_shown_nowhere() {
        for (verify, secret) in [
            (Verify::StandardWebhooks, "hunter2hunter2hunter2"),
            (Verify::Stripe, "hunter2"),
            (Verify::Github, "hunter2 hunter2 hunter2"),
        ] {
            let refused = Verifier::new(verify, secret).unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
        let verifier = Verifier::new(Verify::Github, "hunter2hunter2hunter2").unwrap();
        assert_eq!(format!("{verifier:?}"), "Verifier(…)");
    }
}
