//! How a delivery is signed (Standard Webhooks 1.0, symmetric `v1`) and typed (CloudEvents 1.0, HTTP binary mode).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::attributes::{self, Attributes};
use crate::subscription::Subscription;
use serde::Serialize;
use tollgate_api::http::Header;
use tollgate_api::secret::SecretText;
use tollgate_api::traceparent;
use tollgate_store::commit::Message;

pub mod batch;
pub mod judge;

/// The prefix of a secret.
pub const SECRET_PREFIX: &str = "whsec_";
/// The shortest key, bytes (Standard Webhooks: "between 24 bytes and 64 bytes").
pub const MIN_SECRET_BYTES: usize = 24;
/// The longest key, bytes.
pub const MAX_SECRET_BYTES: usize = 64;
/// How far a timestamp may lie from the receiver's clock, seconds.
pub const TOLERANCE_SECONDS: u64 = 300;
/// The most signatures that are looked at in one `webhook-signature`.
pub const MAX_SIGNATURES: usize = 16;

/// A signing key. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a text is not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not begin with `whsec_`, or what follows is not base64.
    #[error("must be whsec_ followed by base64")]
    Syntax,
    /// The key has the wrong length.
    #[error("must hold a key of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")]
    Length,
}

impl Secret {
    /// Reads `whsec_<base64>`.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Syntax)?;
        let key = STANDARD.decode(encoded).map_err(|_| SecretError::Syntax)?;
        if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&key.len()) {
            return Err(SecretError::Length);
        }
        Ok(Self(key))
    }

    /// A new secret as text, from 32 unpredictable bytes.
    pub fn generate(random: [u8; 32]) -> String {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(random))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for piece in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(piece);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

/// The value of `webhook-signature`. `timestamp`: Unix seconds, the same as in `webhook-timestamp`.
pub fn sign(secret: &Secret, id: &str, timestamp: u64, body: &[u8]) -> String {
    format!(
        "v1,{}",
        STANDARD.encode(secret.mac(id, &timestamp.to_string(), body))
    )
}

/// Why a delivery is not authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// `webhook-timestamp` is not a number of seconds.
    #[error("webhook-timestamp is not Unix seconds")]
    BadTimestamp,
    /// It lies more than [`TOLERANCE_SECONDS`] from `now`.
    #[error("webhook-timestamp is too far from now")]
    OutOfTolerance,
    /// No `v1` signature of any secret fits.
    #[error("no signature fits")]
    NoMatch,
}

/// Checks a delivery against any of `secrets` (several while one is rotated), in constant time per signature. `now`: Unix
/// seconds. `signatures` is the header's value: space-separated `v1,<base64>`; other versions are passed over.
pub fn verify(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: u64,
) -> Result<(), VerifyError> {
    let at: u64 = timestamp.parse().map_err(|_| VerifyError::BadTimestamp)?;
    if now.abs_diff(at) > TOLERANCE_SECONDS {
        return Err(VerifyError::OutOfTolerance);
    }
    let given: Vec<Vec<u8>> = signatures
        .split(' ')
        .take(MAX_SIGNATURES)
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    let fits = secrets.iter().any(|secret| {
        let expected = secret.mac(id, timestamp, body);
        given
            .iter()
            .any(|signature| bool::from(signature.ct_eq(&expected)))
    });
    if fits { Ok(()) } else { Err(VerifyError::NoMatch) }
}

/// What deliveries are signed with: the secret, and the one before it while receivers change over. Without any, nothing is
/// signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signing {
    secret: Option<Secret>,
    /// With the time until when it signs, Unix milliseconds.
    previous: Option<(Secret, u64)>,
}

impl Signing {
    /// Of a subscription.
    ///
    /// # Errors
    /// Which setting is at fault, and why; no secret is quoted.
    pub fn of(settings: &Subscription) -> Result<Self, String> {
        let read = |name: &str, text: &Option<SecretText>| {
            let text = text.as_ref().map(SecretText::expose);
            let secret = text.map(Secret::parse).transpose();
            secret.map_err(|error| format!("{name}: {error}"))
        };
        let previous = read("previous secret", &settings.previous_secret)?;
        Ok(Self {
            secret: read("secret", &settings.secret)?,
            previous: previous.zip(settings.previous_secret_until),
        })
    }

    /// The secrets that count at `now`, Unix milliseconds; the newest first.
    pub fn secrets(&self, now: u64) -> Vec<&Secret> {
        let previous = self.previous.as_ref().filter(|(_, until)| now < *until);
        let secrets = self.secret.iter().chain(previous.map(|(secret, _)| secret));
        secrets.collect()
    }
}

/// The type of a message; CloudEvents requires one, so a message that was appended without is given it here.
pub fn kind(message: &Message) -> &str {
    const UNTYPED: &str = "tollgate.message";
    match message.kind.as_str() {
        "" => UNTYPED,
        kind => kind,
    }
}

/// What a receiver is told of a message that it may fetch.
#[derive(Serialize)]
struct Reference<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    topic: &'a str,
    sequence: u64,
    url: String,
}

impl<'a> Reference<'a> {
    fn of(message: &'a Message, source: &str) -> Self {
        let before = message.sequence.saturating_sub(1);
        Self {
            id: &message.id,
            kind: kind(message),
            topic: &message.topic,
            sequence: message.sequence,
            url: format!("{source}/messages?after={before}&limit=1"),
        }
    }
}

/// What is sent in the place of a message whose receiver is to know no more than its id, its type and where it can be
/// fetched (`GET …/messages`, with a key): nothing of the payload, the ordering key, or a forwarded request.
pub fn reference(message: &Message, source: &str) -> Message {
    let body = Reference::of(message, source);
    Message {
        topic: message.topic.clone(),
        sequence: message.sequence,
        id: message.id.clone(),
        key: String::new(),
        kind: message.kind.clone(),
        content_type: "application/json".to_owned(),
        time: message.time,
        attributes: attributes::write(None, attributes::traceparent(message)),
        payload: serde_json::to_vec(&body).expect("a struct of plain fields serialises"),
    }
}

/// The headers of one delivery: content type, CloudEvents attributes, its place in a trace, and the webhook's id, time and
/// signatures, one for each secret. `source` is the topic as a URI reference; `now`: Unix milliseconds, the time of this attempt.
pub fn delivery_headers(message: &Message, source: &str, secrets: &[&Secret], now: u64) -> Vec<Header> {
    let timestamp = now / 1_000;
    let content_type = Some(message.content_type.as_str()).filter(|text| is_field_value(text));
    let mut headers = vec![
        Header::new("content-type", content_type.unwrap_or("application/octet-stream")),
        Header::new("ce-specversion", "1.0"),
        Header::new("ce-id", attribute(&message.id)),
        Header::new("ce-source", attribute(source)),
        Header::new("ce-type", attribute(kind(message))),
        Header::new("ce-time", tollgate_api::time::format(message.time)),
        // Documented extensions of CloudEvents: the order within the topic, and what that order is kept for.
        Header::new("ce-sequence", message.sequence.to_string()),
    ];
    if !message.key.is_empty() {
        headers.push(Header::new("ce-partitionkey", attribute(&message.key)));
    }
    if let Some(request) = Attributes::read(message) {
        headers.push(Header::new("ce-method", attribute(&request.method)));
        headers.push(Header::new("ce-path", attribute(&request.path)));
        if let Some(query) = request.query.filter(|query| !query.is_empty()) {
            headers.push(Header::new("ce-query", attribute(&query)));
        }
        for (name, value) in request.headers {
            headers.push(Header::new(name, value));
        }
    }
    if let Some(place) = attributes::traceparent(message) {
        headers.push(Header::new(traceparent::HEADER, place.to_string()));
    }
    headers.push(Header::new("webhook-id", attribute(&message.id)));
    headers.push(Header::new("webhook-timestamp", timestamp.to_string()));
    if !secrets.is_empty() {
        let id = attribute(&message.id);
        let signatures = secrets
            .iter()
            .map(|secret| sign(secret, &id, timestamp, &message.payload));
        let signatures = signatures.collect::<Vec<_>>().join(" ");
        headers.push(Header::new("webhook-signature", signatures));
    }
    headers
}

fn is_field_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

/// An attribute as a header value: percent-encoded as the CloudEvents HTTP binding (section 3.1.3.2) wants it, so that no
/// caller's text can end the header.
fn attribute(text: &str) -> String {
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vector that the Standard Webhooks reference libraries are tested with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret() -> Secret {
        Secret::parse(SECRET).unwrap()
    }

    fn check(signatures: &str, body: &[u8], now: u64) -> Result<(), VerifyError> {
        let other = Secret::parse(&Secret::generate([7; 32])).unwrap();
        verify(
            &[other, secret()],
            ID,
            &TIMESTAMP.to_string(),
            signatures,
            body,
            now,
        )
    }

    #[test]
    fn the_published_vector_is_reproduced_and_verified() {
        assert_eq!(sign(&secret(), ID, TIMESTAMP, BODY), SIGNATURE);
        assert_eq!(check(SIGNATURE, BODY, TIMESTAMP), Ok(()));
        assert_eq!(
            check(&format!("v1a,x v1,AAAA v2,y {SIGNATURE}"), BODY, TIMESTAMP),
            Ok(())
        );
    }

    #[test]
    fn what_was_changed_or_replayed_is_refused() {
        assert_eq!(
            check(SIGNATURE, br#"{"test": 2432232315}"#, TIMESTAMP),
            Err(VerifyError::NoMatch)
        );
        assert_eq!(check("", BODY, TIMESTAMP), Err(VerifyError::NoMatch));
        assert_eq!(
            check(&SIGNATURE.replace("v1,", "v2,"), BODY, TIMESTAMP),
            Err(VerifyError::NoMatch)
        );
        assert_eq!(check(SIGNATURE, BODY, TIMESTAMP + TOLERANCE_SECONDS), Ok(()));
        assert_eq!(
            check(SIGNATURE, BODY, TIMESTAMP + TOLERANCE_SECONDS + 1),
            Err(VerifyError::OutOfTolerance)
        );
        assert_eq!(
            check(SIGNATURE, BODY, TIMESTAMP - TOLERANCE_SECONDS - 1),
            Err(VerifyError::OutOfTolerance)
        );
        let bad = verify(&[secret()], ID, "-1", SIGNATURE, BODY, TIMESTAMP);
        assert_eq!(bad, Err(VerifyError::BadTimestamp));
    }

    #[test]
    fn secrets_have_their_syntax_and_length_and_do_not_show() {
        assert_eq!(
            Secret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            Err(SecretError::Syntax)
        );
        assert_eq!(Secret::parse("whsec_§"), Err(SecretError::Syntax));
        assert_eq!(Secret::parse("whsec_c2hvcnQ="), Err(SecretError::Length));
        assert_eq!(
            Secret::parse(&format!("whsec_{}", STANDARD.encode([0; 65]))),
            Err(SecretError::Length)
        );
        assert_eq!(format!("{:?}", secret()), "Secret(…)");
    }

    #[test]
    fn a_delivery_carries_its_event_and_no_text_can_break_out_of_a_header() {
        let message = Message {
            topic: "signup".into(),
            sequence: 42,
            id: "m\r\nx: 1".into(),
            key: "Ärger \"%\"".into(),
            kind: "coupon.claimed".into(),
            content_type: "text/plain\r\nx: 1".into(),
            time: 1_800_000_000_000,
            attributes: Vec::new(),
            payload: b"hi".to_vec(),
        };
        let headers = delivery_headers(&message, "/api/topics/signup", &[&secret()], 1_800_000_005_999);
        let value = |name: &str| {
            let header = headers.iter().find(|h| h.name == name).unwrap();
            String::from_utf8(header.value.clone()).unwrap()
        };
        assert_eq!(value("ce-id"), "m%0D%0Ax:%201");
        assert_eq!(value("webhook-id"), value("ce-id"));
        assert_eq!(value("ce-specversion"), "1.0");
        assert_eq!(value("ce-source"), "/api/topics/signup");
        assert_eq!(value("ce-type"), "coupon.claimed");
        assert_eq!(value("ce-time"), "2027-01-15T08:00:00Z");
        assert_eq!(value("ce-sequence"), "42");
        assert_eq!(value("ce-partitionkey"), "%C3%84rger%20%22%25%22");
        assert_eq!(value("content-type"), "application/octet-stream");
        assert_eq!(value("webhook-timestamp"), "1800000005");
        let (id, signature) = (value("webhook-id"), value("webhook-signature"));
        assert_eq!(
            verify(&[secret()], &id, "1800000005", &signature, b"hi", 1_800_000_006),
            Ok(())
        );
    }

    #[test]
    fn while_a_secret_rotates_each_signs_and_a_receiver_of_either_verifies() {
        let (new, old) = (Secret::generate([1; 32]), Secret::generate([2; 32]));
        let mut settings = Subscription::new("s", "https://example.com/");
        settings.secret = Some(new.clone().into());
        settings.previous_secret = Some(old.clone().into());
        settings.previous_secret_until = Some(10_000);
        let signing = Signing::of(&settings).unwrap();
        let message = Message {
            id: "m".into(),
            payload: b"hi".to_vec(),
            ..Message::default()
        };
        let verified = |now: u64, secret: &str| {
            let headers = delivery_headers(&message, "/", &signing.secrets(now), now);
            let value = |name: &str| {
                let header = headers.iter().find(|header| header.name == name).unwrap();
                String::from_utf8(header.value.clone()).unwrap()
            };
            let (at, signatures) = (value("webhook-timestamp"), value("webhook-signature"));
            let secret = [Secret::parse(secret).unwrap()];
            verify(&secret, "m", &at, &signatures, b"hi", now / 1_000).is_ok()
        };
        assert!(verified(9_999, &new) && verified(9_999, &old));
        assert!(verified(10_000, &new) && !verified(10_000, &old));
        settings.previous_secret = Some("whsec_short".to_owned().into());
        let refused = Signing::of(&settings).unwrap_err();
        assert!(refused.starts_with("previous secret: ") && !refused.contains("short"));
    }

    #[test]
    fn a_reference_says_where_a_message_is_and_nothing_of_what_it_says() {
        let message = Message {
            topic: "t".into(),
            sequence: 7,
            id: "m".into(),
            key: "id:ann secret".into(),
            kind: "coupon.claimed".into(),
            content_type: "text/plain".into(),
            time: 5,
            attributes:
                br#"{"method":"PUT","path":"/secret","query":"secret","headers":{"x-secret":"secret"}}"#
                    .to_vec(),
            payload: b"secret".to_vec(),
        };
        let source = "https://go.example.com/api/topics/t";
        let sent = reference(&message, source);
        let body = format!(
            r#"{{"id":"m","type":"coupon.claimed","topic":"t","sequence":7,"url":"{source}/messages?after=6&limit=1"}}"#
        );
        assert_eq!(String::from_utf8(sent.payload.clone()).unwrap(), body);
        let headers = delivery_headers(&sent, source, &[], 5);
        assert!(!format!("{headers:?}{sent:?}").contains("secret"), "{headers:?}");
        assert_eq!((sent.time, sent.content_type.as_str()), (5, "application/json"));
    }
}
