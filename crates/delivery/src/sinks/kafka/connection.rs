//! A connection to one server: made under the rules of [`Reach`], logged in, and asked one thing after the other.

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::call::{self, API_VERSIONS, Call, METADATA, PRODUCE, SASL_AUTHENTICATE, SASL_HANDSHAKE, Versions};
use super::scram::{Hash, Scram};
use super::wire::{Malformed, Reader, Writer};
use super::{Failure, code};
use crate::sinks::reach::{Reach, Wire};
use crate::subscription::{Mechanism, Place};

/// The largest answer that tells of partitions, bytes: metadata of some 100,000 of them.
const MAX_OF_PARTITIONS: usize = 8 << 20;
/// The largest other answer, bytes.
const MAX_ANSWER: usize = 64 << 10;
/// Who asks, as servers log it.
const CLIENT: &str = "tollgate";
/// Of a login, bytes.
const NONCE_BYTES: usize = 24;

/// How connections are made.
pub(super) struct Way {
    pub reach: Arc<Reach>,
    pub allow_private: bool,
    pub login: Option<Login>,
}

/// Who logs in.
pub(super) struct Login {
    pub mechanism: Mechanism,
    pub user: String,
    pub password: String,
}

/// One that nobody waits on. It ends when it is dropped.
pub(super) struct Connection {
    wire: Box<dyn Wire>,
    versions: Versions,
    asked: i32,
}

impl Way {
    /// To this server, which was named by the subscription or by another server.
    pub async fn connect(&self, place: &Place) -> Result<Connection, Failure> {
        self.begin(place).await.map_err(|failure| match failure {
            Failure::Unreached(why) => Failure::Unreached(format!("{}:{}: {why}", place.host, place.port)),
            Failure::Broken(why) => Failure::Broken(format!("{}:{}: {why}", place.host, place.port)),
            refused @ Failure::Refused { .. } => refused,
        })
    }

    async fn begin(&self, place: &Place) -> Result<Connection, Failure> {
        let wire = self.reach.connect(place, self.allow_private).await;
        let mut connection = Connection {
            wire: wire.map_err(|error| Failure::Unreached(error.to_string()))?,
            versions: Versions::default(),
            asked: 0,
        };
        let (_, answer) = connection.ask(API_VERSIONS, |_| Vec::new()).await?;
        let (code, versions) = Versions::read(&answer)?;
        if code != 0 {
            return Err(Failure::refused(format!(
                "the server answered {}",
                code::name(code)
            )));
        }
        connection.versions = versions;
        if let Some(login) = &self.login {
            connection.log_in(login).await?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// The version that was spoken, and the answer. A connection whose answer did not come cannot be used again.
    pub async fn ask(
        &mut self,
        call: Call,
        body: impl FnOnce(i16) -> Vec<u8>,
    ) -> Result<(i16, Vec<u8>), Failure> {
        let version = match call {
            API_VERSIONS => 0,
            call => self.versions.of(call).ok_or_else(|| {
                Failure::refused(format!(
                    "the server speaks no version of {} that is known here",
                    call.name
                ))
            })?,
        };
        let is_tagged = version >= call.tagged_from;
        self.asked = self.asked.wrapping_add(1);
        let mut frame = Writer::default();
        frame.i16(call.key).i16(version).i32(self.asked).string(CLIENT);
        if is_tagged {
            frame.unsigned_varint(0);
        }
        frame.raw(&body(version));
        let mut sent = Writer::default();
        sent.bytes(&frame.0);
        self.wire.write_all(&sent.0).await?;
        self.wire.flush().await?;
        let answer = self
            .answer(match call {
                METADATA | PRODUCE => MAX_OF_PARTITIONS,
                _ => MAX_ANSWER,
            })
            .await?;
        let mut reader = Reader(&answer);
        if reader.i32()? != self.asked {
            return Err(Malformed.into());
        }
        if is_tagged {
            reader.skip_tagged()?;
        }
        Ok((version, reader.0.to_vec()))
    }

    async fn answer(&mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let mut length = [0; 4];
        self.wire.read_exact(&mut length).await?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| Malformed)?;
        if length > most {
            return Err(Malformed.into());
        }
        // As much as comes, not as much as was said.
        let mut answer = Vec::new();
        let read = (&mut self.wire)
            .take(length as u64)
            .read_to_end(&mut answer)
            .await?;
        if read < length {
            return Err(Failure::Broken("the connection ended".to_owned()));
        }
        Ok(answer)
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Failure> {
        let mechanism = login.mechanism.name();
        let (_, answer) = self.ask(SASL_HANDSHAKE, |_| call::handshake(mechanism)).await?;
        let (code, known) = call::read_handshake(&answer)?;
        if code != 0 {
            let known = known.join(", ");
            return Err(Failure::refused(format!(
                "mechanism: the server answered {} to {mechanism}; it knows {}",
                code::name(code),
                crate::sinks::excerpt(&known)
            )));
        }
        let hash = match login.mechanism {
            Mechanism::Plain => {
                let message = format!("\0{}\0{}", login.user, login.password);
                return self.authenticate(message.as_bytes()).await.map(drop);
            }
            Mechanism::ScramSha256 => Hash::Sha256,
            Mechanism::ScramSha512 => Hash::Sha512,
        };
        let scram = Scram::begin(hash, &login.user, &login.password, nonce()?);
        let answer = self.authenticate(scram.first().as_bytes()).await?;
        let proof = scram
            .prove(&answer)
            .map_err(|why| Failure::refused(why.to_owned()))?;
        let answer = self.authenticate(proof.message.as_bytes()).await?;
        let checked = proof.check(&answer);
        checked.map_err(|why| Failure::refused(crate::sinks::excerpt(&why)))
    }

    /// A step of a login: the server's part of it.
    async fn authenticate(&mut self, message: &[u8]) -> Result<String, Failure> {
        let (_, answer) = self
            .ask(SASL_AUTHENTICATE, |_| call::authenticate(message))
            .await?;
        let (code, said, message) = call::read_authenticated(&answer)?;
        if code != 0 {
            let why = format!("the server answered {}: {said}", code::name(code));
            return Err(Failure::refused(crate::sinks::excerpt(&why)));
        }
        String::from_utf8(message).map_err(|_| Malformed.into())
    }
}

fn nonce() -> Result<String, Failure> {
    use base64::Engine as _;
    let mut bytes = [0; NONCE_BYTES];
    let filled = default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| Failure::refused("the system has no randomness".to_owned()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}
