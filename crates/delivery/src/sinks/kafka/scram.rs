//! SCRAM (RFC 5802, RFC 7677) without channel binding, as Kafka has it: a login that shows the server no password, and in which the
//! server shows that it knows it too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

/// The most rounds that a server may ask for: four times what Kafka's own allow. The thread of deliveries counts them.
const MAX_ROUNDS: u32 = 65_536;
/// The fewest, by RFC 5802, section 5.1: with fewer, whoever listens finds the password sooner.
const MIN_ROUNDS: u32 = 4_096;

/// Which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// A login that has begun.
pub(super) struct Scram<'a> {
    hash: Hash,
    password: &'a str,
    /// The first message, without its header.
    first: String,
    nonce: String,
}

/// What is sent last, and what the server has to answer.
pub(super) struct Proof {
    pub message: String,
    signature: Vec<u8>,
}

impl Hash {
    fn mac(self, key: &[u8], data: &[&[u8]]) -> Vec<u8> {
        macro_rules! mac {
            ($digest:ty) => {{
                let mut mac =
                    Hmac::<$digest>::new_from_slice(key).expect("a key of HMAC may have any length");
                data.iter().for_each(|data| mac.update(data));
                mac.finalize().into_bytes().to_vec()
            }};
        }
        match self {
            Self::Sha256 => mac!(Sha256),
            Self::Sha512 => mac!(Sha512),
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    /// `Hi` of RFC 5802, section 2.2: one block of PBKDF2.
    fn salted(self, password: &str, salt: &[u8], rounds: u32) -> Vec<u8> {
        macro_rules! salted {
            ($digest:ty) => {{
                let keyed = Hmac::<$digest>::new_from_slice(password.as_bytes())
                    .expect("a key of HMAC may have any length");
                let of = |data: &[u8], more: &[u8]| {
                    let mut mac = keyed.clone();
                    mac.update(data);
                    mac.update(more);
                    mac.finalize().into_bytes()
                };
                let mut last = of(salt, &1_u32.to_be_bytes());
                let mut all = last;
                for _ in 1..rounds {
                    last = of(&last, &[]);
                    all.iter_mut()
                        .zip(&last)
                        .for_each(|(all, last)| *all ^= last);
                }
                all.to_vec()
            }};
        }
        match self {
            Self::Sha256 => salted!(Sha256),
            Self::Sha512 => salted!(Sha512),
        }
    }
}

impl<'a> Scram<'a> {
    /// `nonce`: visible ASCII without a comma, never the same twice.
    pub fn begin(hash: Hash, user: &str, password: &'a str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={user},r={nonce}");
        Self {
            hash,
            password,
            first,
            nonce,
        }
    }

    /// What is sent first.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// What is sent to the server's first answer.
    ///
    /// # Errors
    /// The answer is not one, or asks for too much.
    pub fn prove(&self, answer: &str) -> Result<Proof, &'static str> {
        const NONE: &str = "the server's part of the login cannot be read";
        let mut parts = answer.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(NONE);
        let (nonce, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err("the server answered another login than this one");
        }
        let salt = STANDARD.decode(salt).map_err(|_| NONE)?;
        let rounds = rounds.parse().map_err(|_| NONE)?;
        if !(MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds) {
            return Err("the server asks for fewer than 4,096 or more than 65,536 rounds of hashing");
        }
        let hash = self.hash;
        let salted = hash.salted(self.password, &salt, rounds);
        let key = hash.mac(&salted, &[b"Client Key"]);
        // `biws`: the header `n,,` in base 64.
        let last = format!("c=biws,r={nonce}");
        let all = [
            self.first.as_bytes(),
            b",",
            answer.as_bytes(),
            b",",
            last.as_bytes(),
        ];
        let signature = hash.mac(&hash.digest(&key), &all);
        let proof: Vec<u8> = key.iter().zip(signature).map(|(key, bits)| key ^ bits).collect();
        Ok(Proof {
            message: format!("{last},p={}", STANDARD.encode(proof)),
            signature: hash.mac(&hash.mac(&salted, &[b"Server Key"]), &all),
        })
    }
}

impl Proof {
    /// Whether the server's last answer shows that it knows the password.
    ///
    /// # Errors
    /// It does not, or it refuses the login.
    pub fn check(&self, answer: &str) -> Result<(), String> {
        let part = answer.split(',').next().unwrap_or_default();
        if let Some(why) = part.strip_prefix("e=") {
            return Err(format!("the server refuses the login: {why}"));
        }
        let signature = part
            .strip_prefix("v=")
            .and_then(|text| STANDARD.decode(text).ok());
        match signature.is_some_and(|signature| signature.ct_eq(&self.signature).into()) {
            true => Ok(()),
            false => Err("the server did not show that it knows the password".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn login(password: &str) -> Scram<'_> {
        Scram::begin(Hash::Sha256, "user", password, NONCE.to_owned())
    }

    /// RFC 7677, section 3.
    #[test]
    fn the_login_of_the_rfc_is_made() {
        let login = login("pencil");
        assert_eq!(login.first(), format!("n,,n=user,r={NONCE}"));
        let proof = login.prove(SERVER).map_err(str::to_owned).expect("good");
        assert_eq!(
            proof.message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(
            proof.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Ok(())
        );
        for other in [
            "",
            "v=",
            "e=invalid-proof",
            "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ] {
            assert!(proof.check(other).is_err(), "{other}");
        }
        let refused = proof.check("e=invalid-proof").unwrap_err();
        assert_eq!(refused, "the server refuses the login: invalid-proof");
    }

    /// As `kafka-python` 3.0.12 makes it.
    #[test]
    fn the_longer_hash_makes_what_others_make() {
        let login = Scram::begin(Hash::Sha512, "user", "pencil", NONCE.to_owned());
        let proof = login.prove(SERVER).map_err(str::to_owned).expect("good");
        let last = proof.message.split_once(",p=").expect("a proof").1;
        assert_eq!(
            last,
            "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ=="
        );
        let answer =
            "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==";
        assert_eq!(proof.check(answer), Ok(()));
    }

    #[test]
    fn a_server_that_asks_for_too_much_or_answers_another_login_is_refused() {
        for (from, to) in [
            ("i=4096", "i=4095"),
            ("i=4096", "i=65537"),
            ("i=4096", "i=4294967296"),
            ("i=4096", "i=-1"),
            (",i=4096", ""),
            ("r=rOpr", "r=xOpr"),
            ("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""),
            ("s=W22", "s=!!!"),
        ] {
            assert!(login("pencil").prove(&SERVER.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_name_cannot_add_to_the_message() {
        let login = Scram::begin(Hash::Sha512, "a=b,r=c", "x", NONCE.to_owned());
        assert_eq!(login.first(), format!("n,,n=a=3Db=2Cr=3Dc,r={NONCE}"));
        let message = login.prove(SERVER).map_err(str::to_owned).expect("good").message;
        assert_eq!(
            message.split(",p=").nth(1).map(str::len),
            Some(88),
            "64 bytes in base 64"
        );
    }
}
