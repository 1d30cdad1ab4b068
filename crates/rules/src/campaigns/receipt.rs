//! The receipts of claims: a claim that is confirmed has one, in the answers about it alone and in its user's list.

use serde::Deserialize;

use super::holds;
use super::record::{Campaign, Claim, Status};
use crate::receipts::{Facts, Signer};
use tollgate_api::http::Response;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;

/// The receipt of a claim, if it is confirmed.
pub(super) fn of(signer: Option<&Signer>, claim: &Claim) -> Option<String> {
    let signer = signer.filter(|_| claim.status == Status::Confirmed)?;
    Some(signer.sign(&Facts {
        sub: claim.user.as_str(),
        jti: claim.id.as_str(),
        campaign: claim.campaign.as_str(),
        sequence: claim.sequence.known()?,
        units: claim.units,
        iat: claim.time.known()? / 1_000,
    }))
}

/// What ends the document of a claim that has no receipt yet: an object in an object, and the receipt is the last member.
const WITHOUT: &[u8] = b"null}}";

/// Puts a receipt into the document of one claim.
pub(super) fn put(mut document: Vec<u8>, receipt: &str) -> Vec<u8> {
    if document.ends_with(WITHOUT) {
        document.truncate(document.len() - WITHOUT.len());
        document.reserve(receipt.len() + 4);
        document.push(b'"');
        // Base64url and dots.
        document.extend_from_slice(receipt.as_bytes());
        document.extend_from_slice(b"\"}}");
    }
    document
}

/// A stored answer with the receipt that it was given with, and the id of its claim. What the receipt says is read again: it does
/// not change.
pub(super) async fn again<S: Store>(
    store: &S,
    campaign: &Campaign,
    user: &str,
    signer: Option<&Signer>,
    mut response: Response,
) -> Result<(Response, Option<String>), StoreError> {
    #[derive(Deserialize)]
    struct Stored {
        claim: StoredClaim,
    }
    #[derive(Deserialize)]
    struct StoredClaim {
        id: String,
        status: Status,
    }
    let Ok(Stored { claim }) = serde_json::from_slice::<Stored>(&response.body) else {
        return Ok((response, None));
    };
    if signer.is_some() && claim.status == Status::Confirmed {
        let found = holds::find(store, campaign, user, &claim.id).await?;
        // It may have been revoked since: it was confirmed then.
        let then = found.map(|found| holds::changed(&found.claim, Status::Confirmed, None));
        if let Some(receipt) = then.and_then(|then| of(signer, &then)) {
            response.body = put(response.body, &receipt);
        }
    }
    Ok((response, Some(claim.id)))
}
