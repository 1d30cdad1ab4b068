//! `Idempotency-Key` when a link is created: the same key and request get the answer of before.
//!
//! The answer is stored with the link, in one commit. That of an anonymous creator has a manage token, which is
//! stored nowhere. So the token is made of the key that the caller sends and of a nonce, and the answer is
//! stored with the nonce in the token's place: who sends the key again gets the same token.

use std::collections::BTreeMap;

use super::access;
use super::domain;
use super::record::{Link, View};
use serde::Serialize;
use serde_json::Value;

use crate::codes;
use crate::idempotency::{self, Key};
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids::hex;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Idempotence, Outcome, literal};
use tollgate_store::ports::Store;

/// Of commits that only look for an answer: a store in one piece knows the ids of all partitions.
const PARTITION: &str = "links/again";

/// A new link.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "CreatedLink")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Created<'a> {
    #[serde(flatten)]
    pub(super) link: View<'a>,
    /// Only for a creator without a key, and only here: manages this link.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) manage_token: Option<&'a str>,
}

/// A manage token.
pub(super) struct Token {
    pub(super) text: String,
    /// What it was made of besides the caller's key; empty without one.
    nonce: String,
}

impl Token {
    /// A new one: of fresh randomness, which a request with a key finds again.
    pub(super) fn new<S>(world: &World<'_, S>, key: Option<&Key>) -> Self {
        let fresh = (world.fresh)();
        match key {
            None => Self {
                text: access::token(world, fresh),
                nonce: String::new(),
            },
            Some(key) => {
                let nonce = hex(&fresh);
                Self {
                    text: access::token(world, key.derive(&nonce)),
                    nonce,
                }
            }
        }
    }
}

/// A request that may be repeated.
pub(super) struct Repeat {
    pub(super) key: Key,
    /// That of an anonymous creator.
    pub(super) token: Option<Token>,
    /// Whether the request holds what nothing that is stored may tell, not even by its hash.
    pub(super) secret: bool,
}

impl Repeat {
    /// What makes the link's commit repeatable.
    pub(super) fn idempotence<S>(&self, world: &World<'_, S>, request: &Request, link: &Link) -> Idempotence {
        let created = Created {
            link: link.view(world.settings),
            manage_token: self.token.as_ref().map(|token| token.nonce.as_str()),
        };
        self.answering(
            request,
            &link.record.owner,
            serde_json::to_vec(&created).unwrap_or_default(),
        )
    }

    fn answering(&self, request: &Request, owner: &str, body: Vec<u8>) -> Idempotence {
        let mut idempotence =
            self.key
                .idempotence("link", &[owner], request, 201, &literal(body), &BTreeMap::new());
        if self.secret {
            let hash = hex(&idempotence.fingerprint);
            idempotence.fingerprint = self.key.derive(&hash).to_vec();
        }
        idempotence
    }

    /// The answer of before, if there is one: looked up by a commit that cannot happen, so that a repetition changes and costs
    /// nothing.
    ///
    /// # Errors
    /// 422 if the key belongs to another request; those of the store.
    pub(super) async fn earlier<S: Store>(
        &self,
        world: &World<'_, S>,
        request: &Request,
        owner: &str,
    ) -> Result<Option<Response>, Problem> {
        let idempotence = self.answering(request, owner, Vec::new());
        let commit = idempotency::look_up(PARTITION.to_owned(), idempotence);
        match world.store.commit(commit).await? {
            Outcome::Replayed(answer) => self.replay(world, &answer).map(Some),
            Outcome::Conflict => Err(idempotency::mismatch()),
            Outcome::Committed(_) | Outcome::Refused(_) => Ok(None),
        }
    }

    /// The response of a stored answer.
    pub(super) fn replay<S>(&self, world: &World<'_, S>, answer: &[u8]) -> Result<Response, Problem> {
        let mut response = idempotency::replay(answer)?;
        if self.token.is_some() {
            let named = self.with_token(world, &response.body);
            response.body =
                named.ok_or_else(|| Problem::new(Kind::Internal, "The stored answer cannot be read."))?;
        }
        let created: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let code = created["code"].as_str().unwrap_or_default();
        let name = codes::name(created["domain"].as_str(), code);
        Ok(response.with("location", domain::location(&name)))
    }

    /// The answer with the token in its nonce's place: it is the last member, and no text before it has unescaped quotes.
    fn with_token<S>(&self, world: &World<'_, S>, body: &[u8]) -> Option<Vec<u8>> {
        let body = std::str::from_utf8(body).ok()?;
        let (link, nonce) = body.strip_suffix("\"}")?.rsplit_once("\"manageToken\":\"")?;
        let token = access::token(world, self.key.derive(nonce));
        Some([link, "\"manageToken\":\"", &token, "\"}"].concat().into_bytes())
    }
}
