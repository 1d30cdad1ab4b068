//! Signatures of deliveries (Standard Webhooks) and the headers of a delivery. What was signed verifies, and
//! does not once anything in it is changed. No text of a caller ends a header.

use arbitrary::Unstructured;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tollgate_delivery::webhook::{
    MAX_SECRET_BYTES, MAX_SIGNATURES, MIN_SECRET_BYTES, Secret, TOLERANCE_SECONDS, delivery_headers, sign,
    verify,
};
use tollgate_store::commit::Message;

/// A key, an id, a time, a body and a change, out of any bytes.
pub fn webhook(data: &[u8]) {
    let _ = case(&mut Unstructured::new(data));
}

fn case(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let length = input.int_in_range(MIN_SECRET_BYTES..=MAX_SECRET_BYTES)?;
    let mut key = vec![0; length];
    input.fill_buffer(&mut key)?;
    let text = format!("whsec_{}", STANDARD.encode(&key));
    let secret = Secret::parse(&text).unwrap();
    assert!(!format!("{secret:?}").contains(&text[6..]));
    let id: String = input.arbitrary()?;
    let at: u64 = input.arbitrary()?;
    let now = at.saturating_add_signed(input.int_in_range(-400_i64..=400)?);
    let change: u8 = input.arbitrary()?;
    let place: usize = input.arbitrary()?;
    let foreign: String = input.arbitrary()?;
    let body = input.bytes(input.len())?.to_vec();

    secrets_of(&foreign);
    message(&secret, &foreign, &id, at, &body);
    any_signature(&secret, &key, &foreign, &id, at, &body);

    let signature = sign(&secret, &id, at, &body);
    let check = |id: &str, at: u64, signatures: &str, body: &[u8], now: u64| {
        verify(
            std::slice::from_ref(&secret),
            id,
            &at.to_string(),
            signatures,
            body,
            now,
        )
        .is_ok()
    };
    let near = now.abs_diff(at) <= TOLERANCE_SECONDS;
    assert_eq!(
        check(&id, at, &signature, &body, now),
        near,
        "signed and verified"
    );
    assert!(check(
        &id,
        at,
        &format!("v2,x v1,{} {signature}", STANDARD.encode(&body)),
        &body,
        at
    ));

    let (mut body, mut id, mut at, mut signature, mut other) = (body, id, at, signature, secret.clone());
    match change % 8 {
        0 if !body.is_empty() => {
            let at = place % body.len();
            body[at] ^= 1 << (change >> 5);
        }
        0 | 1 => body.push(change),
        2 if !body.is_empty() => drop(body.remove(place % body.len())),
        // The same bytes in another order are the same body: nothing was changed.
        2 | 3 => id.push('x'),
        4 => at ^= 1,
        5 => {
            let mut bytes = STANDARD.decode(&signature[3..]).unwrap();
            let at = place % bytes.len();
            bytes[at] ^= 1 << (change >> 5);
            signature = format!("v1,{}", STANDARD.encode(bytes));
        }
        6 => {
            let cut = STANDARD.decode(&signature[3..]).unwrap();
            signature = format!("v1,{}", STANDARD.encode(&cut[..place % cut.len()]));
        }
        _ => {
            key[place % length] ^= 1 << (change >> 5);
            other = Secret::parse(&format!("whsec_{}", STANDARD.encode(&key))).unwrap();
        }
    }
    let forged = verify(&[other], &id, &at.to_string(), &signature, &body, at);
    assert!(forged.is_err(), "a change went unnoticed");
    Ok(())
}

/// Any text as a secret: taken only if it is base64 of the right length, and then it is one.
fn secrets_of(text: &str) {
    if let Ok(secret) = Secret::parse(text) {
        let key = STANDARD.decode(text.strip_prefix("whsec_").unwrap()).unwrap();
        assert!((MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&key.len()));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}

/// Any text as `webhook-signature`: believed only if one of its first tokens is the very signature.
fn any_signature(secret: &Secret, key: &[u8], signatures: &str, id: &str, at: u64, body: &[u8]) {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(body);
    let expected = mac.finalize().into_bytes();
    let genuine = signatures
        .split(' ')
        .take(MAX_SIGNATURES)
        .filter_map(|token| STANDARD.decode(token.strip_prefix("v1,")?).ok())
        .any(|mac| mac == expected.as_slice());
    let secrets = [secret.clone(), secret.clone()];
    assert_eq!(
        verify(&secrets, id, &at.to_string(), signatures, body, at).is_ok(),
        genuine
    );
    // Any text as `webhook-timestamp`.
    if let Ok(()) = verify(&secrets, id, signatures, &sign(secret, id, at, body), body, at) {
        assert_eq!(signatures, at.to_string());
    }
}

/// A delivery of a message with any texts in it: its headers are headers, and its receiver verifies it.
fn message(secret: &Secret, any: &str, id: &str, at: u64, body: &[u8]) {
    let part = |index: usize| any.split('|').nth(index).unwrap_or(any).to_owned();
    let message = Message {
        topic: "t".into(),
        sequence: at,
        id: id.to_owned(),
        key: part(0),
        kind: part(1),
        content_type: part(2),
        time: at,
        attributes: Vec::new(),
        payload: body.to_vec(),
    };
    let headers = delivery_headers(&message, &part(3), &[secret], at);
    let mut values = std::collections::BTreeMap::new();
    for header in &headers {
        let visible = header.value.iter().all(|byte| (0x20..=0x7e).contains(byte));
        assert!(visible, "{}: {:?}", header.name, header.value);
        assert!(http::HeaderName::from_bytes(header.name.as_bytes()).is_ok());
        let text = String::from_utf8(header.value.clone()).unwrap();
        assert!(
            values.insert(&*header.name, text).is_none(),
            "{} comes twice",
            header.name
        );
    }
    let sent = (
        &values["webhook-id"],
        &values["webhook-timestamp"],
        &values["webhook-signature"],
    );
    let verified = verify(
        std::slice::from_ref(secret),
        sent.0,
        sent.1,
        sent.2,
        body,
        at / 1_000,
    );
    assert_eq!(verified, Ok(()));
    let decoded = |name: &str| percent_decoded(&values[name]);
    assert_eq!(
        (decoded("ce-id"), decoded("webhook-id")),
        (id.as_bytes().to_vec(), id.as_bytes().to_vec())
    );
    assert_eq!(decoded("ce-source"), part(3).as_bytes());
    if !part(0).is_empty() {
        assert_eq!(decoded("ce-partitionkey"), part(0).as_bytes());
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        match after {
            [high, low, after @ ..] if *byte == b'%' => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = after;
            }
            after => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    bytes
}
