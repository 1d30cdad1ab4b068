//! The calls about receipts.

use serde::{Deserialize, Serialize};

use super::Facts;
use super::keys::{self, Stored};
use crate::campaigns::{self, ClaimView};
use crate::config::ReceiptAlgorithm;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::time;
use tollgate_store::ports::Store;

/// A receipt to be checked.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ReceiptToVerify")
)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    /// A compact JWS.
    receipt: String,
}

/// What a receipt is worth.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "VerifiedReceipt")
)]
pub(crate) struct Verified<'a> {
    /// Whether this gateway has signed it.
    valid: bool,
    /// Why not; null where it has.
    why: Option<String>,
    /// What it says; null where it is not valid.
    receipt: Option<Facts>,
    /// The claim as it is now: it may have been revoked since. Null where nothing is known of it any more.
    claim: Option<ClaimView<'a>>,
}

/// A key of receipts, without its secret.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ReceiptKey")
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    /// Its id, as receipts name it.
    kid: String,
    /// What it is for.
    alg: ReceiptAlgorithm,
    /// When it was made.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    created_at: u64,
}

/// `POST /api/receipts/verify`, open to anyone: whoever has a receipt may know what it is worth.
pub(crate) async fn verify<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let Verify { receipt } = json::body(request)?;
    let checked = match keys::kid(&receipt) {
        Some(kid) => keys::ring(world, Some(&kid)).await?.check(&receipt),
        None => Err(super::Unverified::Malformed),
    };
    let facts = match checked {
        Ok(facts) => facts,
        Err(why) => {
            let verified = Verified {
                valid: false,
                why: Some(why.to_string()),
                receipt: None,
                claim: None,
            };
            return Ok(Response::json(200, &verified));
        }
    };
    let claim = campaigns::claim_of(world.store, &facts.campaign, &facts.sub, &facts.jti).await?;
    let verified = Verified {
        valid: true,
        why: None,
        receipt: Some(facts),
        claim: claim.as_ref().map(|claim| claim.view()),
    };
    Ok(Response::json(200, &verified))
}

/// `GET /api/receipts/keys` and `GET /.well-known/jwks.json`, open to anyone: the public keys. Of a secret one nothing is told.
pub(crate) async fn public_keys<S: Store>(world: &World<'_, S>) -> Result<Response, Problem> {
    // So that there is one where there shall be.
    keys::signer(world).await?;
    let ring = keys::ring(world, None).await?;
    let public: Vec<_> = ring.keys.iter().filter_map(Stored::public).collect();
    Ok(Response::json(200, &serde_json::json!({ "keys": public })))
}

/// `POST /api/receipts/keys`: a new key signs from now on.
pub(crate) async fn rotate<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    crate::keys::require(world.store, request, world.now, Scope::Admin).await?;
    if world.settings.config.receipts.algorithm == ReceiptAlgorithm::Off {
        return Err(Problem::new(
            Kind::Conflict,
            "There are no receipts: receipts.algorithm is off.",
        ));
    }
    let Stored {
        kid, alg, created_at, ..
    } = keys::rotated(world).await?;
    Ok(Response::json(201, &Key { kid, alg, created_at }))
}
