//! Public keys of an identity provider: a JWK set (RFC 7517, 7518, 8037), parsed once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::BigUint;
use rsa::signature::Verifier as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::Value;
use sha2::Sha256;

/// The longest text of a key set, bytes.
pub const MAX_KEY_SET: usize = 256 << 10;
/// The most keys of a set.
pub const MAX_KEYS: usize = 64;
/// The sizes of an RSA modulus, bits (RFC 7518, section 3.3, asks for 2048).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// What checks signatures of one key. It fixes the algorithm: a token cannot choose another.
enum Public {
    Rs256(Box<rsa::pkcs1v15::VerifyingKey<Sha256>>),
    Es256(Box<p256::ecdsa::VerifyingKey>),
    EdDsa(Box<ed25519_dalek::VerifyingKey>),
}

/// A key of a set.
pub(super) struct PublicKey {
    pub(super) kid: Option<String>,
    public: Public,
}

/// A key set; keys that are for something else were left out.
#[derive(Default)]
pub struct KeySet {
    pub(super) keys: Vec<PublicKey>,
}

impl KeySet {
    /// Reads a JWK set. Keys of other kinds, for other uses, or out of bounds are left out.
    ///
    /// # Errors
    /// It is none, has more than [`MAX_KEYS`], or has no key that is of use.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_KEY_SET {
            return Err("is longer than 256 KiB");
        }
        let set: Value = serde_json::from_str(text).map_err(|_| "is not JSON")?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("is no JWK set: an object with a list `keys`")?;
        if keys.len() > MAX_KEYS {
            return Err("has more than 64 keys");
        }
        let keys: Vec<_> = keys.iter().filter_map(PublicKey::of).collect();
        match keys.is_empty() {
            true => Err("has no key to check RS256 (2048 to 4096 bits), ES256 or EdDSA with"),
            false => Ok(Self { keys }),
        }
    }
}

impl PublicKey {
    fn of(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let is_for_signatures = text("use").is_none_or(|its| its == "sig")
            && jwk.get("key_ops").is_none_or(|ops| {
                let mut ops = ops.as_array().into_iter().flatten();
                ops.any(|operation| operation == "verify")
            });
        if !is_for_signatures {
            return None;
        }
        let public = match (text("kty")?, text("crv")) {
            ("RSA", _) => rs256(&bytes("n")?, &bytes("e")?)?,
            ("EC", Some("P-256")) => es256(&bytes("x")?, &bytes("y")?)?,
            ("OKP", Some("Ed25519")) => {
                let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes("x")?.try_into().ok()?).ok()?;
                Public::EdDsa(Box::new(key))
            }
            // `oct` among them: a secret is not taken from where public keys are.
            _ => return None,
        };
        let key = Self {
            kid: text("kid").map(str::to_owned),
            public,
        };
        // A key that is for another algorithm of its kind, such as PS256.
        text("alg")
            .is_none_or(|alg| alg == key.algorithm())
            .then_some(key)
    }

    /// The only algorithm that it is for.
    pub(super) fn algorithm(&self) -> &'static str {
        match self.public {
            Public::Rs256(_) => "RS256",
            Public::Es256(_) => "ES256",
            Public::EdDsa(_) => "EdDSA",
        }
    }

    /// Whether it has signed this.
    pub(super) fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rs256(key) => rsa::pkcs1v15::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify(signed, &signature).is_ok()),
            Public::Es256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(signed, &signature).is_ok()),
            Public::EdDsa(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(signed, &signature).is_ok()),
        }
    }
}

fn rs256(modulus: &[u8], exponent: &[u8]) -> Option<Public> {
    let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    let key = rsa::RsaPublicKey::new(modulus, exponent).ok()?;
    let is_sound = RSA_BITS.contains(&key.n().bits());
    is_sound.then(|| Public::Rs256(Box::new(rsa::pkcs1v15::VerifyingKey::new(key))))
}

fn es256(x: &[u8], y: &[u8]) -> Option<Public> {
    let (x, y): (&[u8; 32], &[u8; 32]) = (x.try_into().ok()?, y.try_into().ok()?);
    let point = p256::EncodedPoint::from_affine_coordinates(x.into(), y.into(), false);
    let key = p256::ecdsa::VerifyingKey::from_encoded_point(&point).ok()?;
    Some(Public::Es256(Box::new(key)))
}
