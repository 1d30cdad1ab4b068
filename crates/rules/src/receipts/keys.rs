//! The keys of receipts: read, made, and used.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Facts, MAX_RECEIPT};
use crate::config::ReceiptAlgorithm;
use crate::world::World;
use tollgate_api::ids;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// Where the keys are kept; a partition of its own.
pub(super) const PLACE: &str = "receipt-keys";
/// Keys that are kept; the oldest gives way to one more.
pub(super) const MAX_KEYS: usize = 16;
/// How long keys are remembered before they are read again, in milliseconds: so much later a new one is used everywhere.
const REMEMBERED_MS: u64 = 10_000;
/// How soon they are read again for a receipt of a key that is not known, in milliseconds.
const UNKNOWN_MS: u64 = 1_000;
/// How often it is tried to make a key.
const ATTEMPTS: usize = 6;
/// Characters of a key's id.
const KID_LENGTH: usize = 12;

type HmacSha256 = Hmac<Sha256>;

/// A key as it is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    pub(super) kid: String,
    pub(super) alg: ReceiptAlgorithm,
    /// 32 bytes, base64url.
    secret: String,
    /// Unix milliseconds.
    pub(super) created_at: u64,
}

/// The keys as they are stored, the newest first.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Ring {
    pub(super) keys: Vec<Stored>,
}

/// What signs and checks.
enum Secret {
    Hmac(HmacSha256),
    Ed25519(Box<SigningKey>),
}

impl Stored {
    fn secret(&self) -> Option<Secret> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.secret).ok()?;
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        Some(match self.alg {
            ReceiptAlgorithm::Hs256 => Secret::Hmac(HmacSha256::new_from_slice(&bytes).ok()?),
            ReceiptAlgorithm::EdDsa => Secret::Ed25519(Box::new(SigningKey::from_bytes(&bytes))),
            ReceiptAlgorithm::Off => return None,
        })
    }

    /// As a public JWK (RFC 8037); `None` for a key that is not to be known.
    pub(super) fn public(&self) -> Option<serde_json::Value> {
        let Secret::Ed25519(key) = self.secret()? else {
            return None;
        };
        let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
        Some(serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "alg": "EdDSA", "use": "sig",
        }))
    }
}

/// The key that signs now, with all that receipts have in common.
pub struct Signer {
    /// The header, a dot, and the beginning of the payload, both encoded.
    head: String,
    /// Has taken the head already, where that is possible.
    secret: Secret,
}

impl Signer {
    fn new(key: &Stored, issuer: &str) -> Option<Self> {
        let header = serde_json::json!({ "alg": key.alg, "kid": key.kid, "typ": "JWT" });
        let issuer = serde_json::to_string(issuer).ok()?;
        let mut begin = format!("{{\"iss\":{issuer},");
        // To a multiple of three bytes, so that what follows is encoded by itself.
        while begin.len() % 3 != 0 {
            begin.push(' ');
        }
        let head = [
            &URL_SAFE_NO_PAD.encode(header.to_string()),
            ".",
            &URL_SAFE_NO_PAD.encode(begin),
        ]
        .concat();
        let mut secret = key.secret()?;
        if let Secret::Hmac(mac) = &mut secret {
            mac.update(head.as_bytes());
        }
        Some(Self { head, secret })
    }

    /// The receipt that says this.
    pub fn sign(&self, facts: &Facts<&str>) -> String {
        let json = serde_json::to_vec(facts).expect("our own types hold string keys only, so they serialise");
        let mut receipt = String::with_capacity(self.head.len() + json.len() * 4 / 3 + 100);
        receipt.push_str(&self.head);
        // Without the brace that the head begins with.
        URL_SAFE_NO_PAD.encode_string(&json[1..], &mut receipt);
        match &self.secret {
            Secret::Hmac(keyed) => {
                let mut mac = keyed.clone();
                mac.update(&receipt.as_bytes()[self.head.len()..]);
                receipt.push('.');
                URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut receipt);
            }
            Secret::Ed25519(key) => {
                let signature = key.sign(receipt.as_bytes());
                receipt.push('.');
                URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut receipt);
            }
        }
        receipt
    }
}

/// Why a receipt is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// It is none.
    #[error("it is no receipt: three parts in base64url with dots between them")]
    Malformed,
    /// Nothing is known of its key.
    #[error("it is signed with a key that is not known here")]
    UnknownKey,
    /// The signature is another's, or it was changed.
    #[error("its signature is not good")]
    Signature,
}

/// The parts of a receipt.
struct Parts<'a> {
    signed: &'a str,
    alg: String,
    kid: String,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(receipt: &'a str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: String,
            /// Extensions that must be understood (RFC 7515, 4.1.11): none is.
            #[serde(default)]
            crit: Option<serde::de::IgnoredAny>,
        }
        if receipt.len() > MAX_RECEIPT {
            return None;
        }
        let (signed, signature) = receipt.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        header.crit.is_none().then_some(())?;
        Some(Self {
            signed,
            alg: header.alg,
            kid: header.kid,
            payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    fn facts(&self, is_good: bool) -> Result<Facts, Unverified> {
        match is_good {
            true => serde_json::from_slice(&self.payload).map_err(|_| Unverified::Malformed),
            false => Err(Unverified::Signature),
        }
    }
}

impl Ring {
    /// What a receipt says that one of these keys has signed.
    pub(super) fn check(&self, receipt: &str) -> Result<Facts, Unverified> {
        let parts = Parts::of(receipt).ok_or(Unverified::Malformed)?;
        let key = self.keys.iter().find(|key| key.kid == parts.kid);
        let key = key.ok_or(Unverified::UnknownKey)?;
        // The key says which algorithm it is for, not the receipt.
        let is_good = parts.alg == key.alg.name()
            && match key.secret() {
                Some(Secret::Hmac(mut mac)) => {
                    mac.update(parts.signed.as_bytes());
                    mac.verify_slice(&parts.signature).is_ok()
                }
                Some(Secret::Ed25519(key)) => is_signed(&key.verifying_key(), &parts),
                None => false,
            };
        parts.facts(is_good)
    }
}

fn is_signed(key: &VerifyingKey, parts: &Parts<'_>) -> bool {
    let signature = ed25519_dalek::Signature::from_slice(&parts.signature);
    signature.is_ok_and(|signature| key.verify_strict(parts.signed.as_bytes(), &signature).is_ok())
}

/// Checks a receipt against public keys, a JWK set (RFC 7517) as `GET /api/receipts/keys` gives it. Needs no gateway.
///
/// # Errors
/// [`Unverified`]; keys that cannot be read are not known.
pub fn check(receipt: &str, jwks: &str) -> Result<Facts, Unverified> {
    #[derive(Deserialize)]
    struct Jwks {
        keys: Vec<serde_json::Value>,
    }
    let parts = Parts::of(receipt).ok_or(Unverified::Malformed)?;
    let jwks: Jwks = serde_json::from_str(jwks).map_err(|_| Unverified::UnknownKey)?;
    let is_it =
        |key: &&serde_json::Value| key["kid"] == *parts.kid && key["kty"] == "OKP" && key["crv"] == "Ed25519";
    let key = jwks.keys.iter().find(is_it).and_then(|key| {
        let bytes = URL_SAFE_NO_PAD.decode(key["x"].as_str()?).ok()?;
        VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok()
    });
    let key = key.ok_or(Unverified::UnknownKey)?;
    parts.facts(parts.alg == "EdDSA" && is_signed(&key, &parts))
}

/// The keys as they were read last. Belongs to the settings, so that each thread need not ask the store for each claim.
#[derive(Default)]
pub struct Receipts(Mutex<Option<Remembered>>);

#[derive(Clone)]
struct Remembered {
    read_at: u64,
    ring: Arc<Ring>,
    signer: Option<Arc<Signer>>,
}

impl Clone for Receipts {
    /// What was read is not taken along.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Receipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipts")
    }
}

impl Receipts {
    fn remembered(&self, now: u64, for_ms: u64) -> Option<Remembered> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered
            .as_ref()
            .filter(|one| now.abs_diff(one.read_at) < for_ms)
            .cloned()
    }

    fn remember(&self, remembered: &Remembered) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(remembered.clone());
    }
}

/// The keys, read now, with their version.
async fn read<S: Store>(store: &S) -> Result<(Ring, Option<u64>), StoreError> {
    let found = store.get(PLACE, &[PLACE.to_owned()]).await?;
    match found.into_iter().next().flatten() {
        Some(entry) => Ok((stored::decode("key of receipts", &entry)?, Some(entry.version))),
        None => Ok((Ring::default(), None)),
    }
}

fn remembered<S>(world: &World<'_, S>, ring: Ring) -> Remembered {
    let config = &world.settings.config;
    let key = ring.keys.iter().find(|key| key.alg == config.receipts.algorithm);
    let signer = key.and_then(|key| Signer::new(key, &world.settings.public_url));
    Remembered {
        read_at: world.now,
        signer: signer.map(Arc::new),
        ring: Arc::new(ring),
    }
}

/// Who signs receipts now; `None` where there are none. A key is made if there is none for the algorithm.
pub(crate) async fn signer<S: Store>(world: &World<'_, S>) -> Result<Option<Arc<Signer>>, Problem> {
    if world.settings.config.receipts.algorithm == ReceiptAlgorithm::Off {
        return Ok(None);
    }
    let receipts = &world.settings.receipts;
    if let Some(signer) = receipts
        .remembered(world.now, REMEMBERED_MS)
        .and_then(|one| one.signer)
    {
        return Ok(Some(signer));
    }
    // Boxed to keep the future of a claim small.
    Box::pin(read_signer(world)).await.map(Some)
}

async fn read_signer<S: Store>(world: &World<'_, S>) -> Result<Arc<Signer>, Problem> {
    for _ in 0..ATTEMPTS {
        let (ring, version) = read(world.store).await?;
        let has_one = ring
            .keys
            .iter()
            .any(|key| key.alg == world.settings.config.receipts.algorithm);
        if !has_one {
            add(world, ring, version).await?;
            continue;
        }
        let read = remembered(world, ring);
        world.settings.receipts.remember(&read);
        let damaged = || Problem::new(Kind::Internal, "The key of receipts is damaged.");
        return read.signer.ok_or_else(damaged);
    }
    Err(busy())
}

fn busy() -> Problem {
    Problem::new(
        Kind::Unavailable,
        "The keys of receipts are being changed; try again.",
    )
    .with_retry_after(1)
}

/// Puts a new key before these, if they are still the ones of this version. The key, or `None` if it is not known whether.
async fn add<S: Store>(
    world: &World<'_, S>,
    mut ring: Ring,
    version: Option<u64>,
) -> Result<Option<Stored>, StoreError> {
    let secret = [(world.fresh)(), (world.fresh)()].concat();
    let key = Stored {
        kid: ids::token(&(world.fresh)(), KID_LENGTH),
        alg: world.settings.config.receipts.algorithm,
        secret: URL_SAFE_NO_PAD.encode(secret),
        created_at: world.now,
    };
    ring.keys.insert(0, key.clone());
    ring.keys.truncate(MAX_KEYS);
    let value = serde_json::to_vec(&ring).expect("our own types hold string keys only, so they serialise");
    let place = PLACE.to_owned();
    let commit = Commit {
        partition: place.clone(),
        conditions: vec![Condition::unchanged(place.clone(), version)],
        mutations: vec![Mutation::Set {
            key: place,
            value: literal(value),
            expires: None,
        }],
        ..Commit::default()
    };
    match world.store.commit(commit).await {
        Ok(Outcome::Committed(_)) => Ok(Some(key)),
        Ok(_) | Err(StoreError::Unknown(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A new key signs from now on; those before it still check. A lost reply may leave one key more.
pub(super) async fn rotated<S: Store>(world: &World<'_, S>) -> Result<Stored, Problem> {
    for _ in 0..ATTEMPTS {
        let (ring, version) = read(world.store).await?;
        if let Some(key) = add(world, ring, version).await? {
            let (ring, _) = read(world.store).await?;
            world.settings.receipts.remember(&remembered(world, ring));
            return Ok(key);
        }
    }
    Err(busy())
}

/// The keys as they are remembered, or read where that is long ago, or one is looked for that is not among them.
pub(super) async fn ring<S: Store>(world: &World<'_, S>, kid: Option<&str>) -> Result<Arc<Ring>, Problem> {
    let knows = |ring: &Ring| kid.is_none_or(|kid| ring.keys.iter().any(|key| key.kid == kid));
    let receipts = &world.settings.receipts;
    if let Some(one) = receipts.remembered(world.now, REMEMBERED_MS)
        && (knows(&one.ring) || receipts.remembered(world.now, UNKNOWN_MS).is_some())
    {
        return Ok(one.ring);
    }
    let (ring, _) = read(world.store).await?;
    let read = remembered(world, ring);
    receipts.remember(&read);
    Ok(read.ring)
}

/// The id of the key that a receipt names.
pub(super) fn kid(receipt: &str) -> Option<String> {
    Parts::of(receipt).map(|parts| parts.kid)
}
