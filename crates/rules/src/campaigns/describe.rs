//! What the OpenAPI document says of the calls of campaigns.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, number, pattern, text};
use tollgate_api::problem::Kind;

use super::record::{Admitted, MAX_PER_USER, View};
use super::{claim, claims, codes, eligibility, eligible, list, manage, settle, waitlist};
use crate::identity::MAX_ID_CHARS;

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    if call.path().contains(":id") {
        let form = pattern("^[a-z0-9][a-z0-9-]{0,63}$");
        operation.path("id", form, "The campaign's id.");
        operation.refuses(&[Kind::NotFound]);
    }
    if call.path().contains(":claim") {
        let form = pattern("^[0-9A-Za-z]{20}$");
        operation.path("claim", form, "The claim's id.");
        operation.header("IdempotencyKey");
        operation.may_take::<settle::Body>(json!({}));
        operation.refuses(&[Kind::Conflict, Kind::HoldExpired, Kind::IdempotencyMismatch]);
    }
    match call {
        Call::ListCampaigns => {
            operation.about("By id. Each with its counters, all of one moment.");
            operation.pages(manage::MAX_PAGE, manage::DEFAULT_PAGE);
            let example = json!({ "campaigns": [campaign()], "nextCursor": null });
            operation.gives::<manage::Page<'_>>(200, "A page of campaigns.", example);
        }
        Call::CreateCampaign => {
            operation.about(
                "`quantity` units, each user at most `perUser` of them, admitted exactly and in order. Every admitted claim is a message \
                 `coupon.claimed` in the topic, in the same atomic step. With `holdSeconds` a claim is held: until its end it is \
                 confirmed, or its unit comes back exactly once.",
            );
            operation.takes::<manage::Create>(json!({
                "id": "spring", "title": "Spring sale", "quantity": 500, "perUser": 1, "startsAt": "2030-03-01T09:00:00+01:00", "codes": "generate",
            }));
            operation.gives::<View<'_>>(201, "The new campaign.", campaign());
            operation.answers_with(201, "Location", true);
            operation.refuses(&[Kind::Conflict]);
        }
        Call::ReadCampaign => {
            operation.about(
                "Open to anyone, so that a shop's page can show what is left. It tells nothing about users. With `Accept: text/event-stream` it is \
                 told at once and whenever its numbers have changed, as events `campaign`, by `tollgate` only; streams are bounded (503).",
            );
            operation.gives::<View<'_>>(200, "The campaign.", campaign());
            operation.gives_text(200, "The campaign.", "text/event-stream");
        }
        Call::EditCampaign => {
            operation.about(
                "A merge patch (RFC 7396). `quantity` never goes below what is admitted (409). `state` is set to `closed`, and to `open` again: \
                 then the campaign admits within its times.",
            );
            operation.takes::<manage::Patch>(json!({ "quantity": 600 }));
            operation.gives::<View<'_>>(200, "The changed campaign.", campaign());
            operation.refuses(&[Kind::Conflict]);
        }
        Call::DeleteCampaign => {
            operation.about(
                "One that has admitted nobody is gone at once. Any other must be closed, hold nothing, and its topic must be empty (409): its \
                 claims are removed, and its name is free a day later at the earliest. Repeated meanwhile, it is a 204 again.",
            );
            operation.gives_nothing(204, "Removed.");
            operation.refuses(&[Kind::Conflict]);
        }
        Call::PutEligible => {
            operation.about(
                "Who may claim, where not everybody may; others are answered 403. At most 10,000 users a call: `add` and `remove`, or `replace`, which \
                 counts at one moment (`null`: everybody). `claim`, alone in its call, asks for what a user's JWT says. Adding to a campaign that is open to everybody closes it to others. Bodies up to \
                 1 MiB. A call that failed can be repeated.",
            );
            operation.takes::<eligible::Change>(json!({ "add": ["ann", "bob"], "remove": ["cleo"] }));
            let example = json!({ "restricted": true, "added": 2, "removed": 1 });
            operation.gives::<eligible::Changed>(200, "Changed.", example);
            operation.refuses(&[Kind::Conflict]);
        }
        Call::ImportCodes => {
            operation.about(
                "For a campaign with `codes: import`: at most 10,000 a call, 10,000,000 of a campaign, bodies up to 1 MiB. Each is one unit of its \
                 stock, and is given to one claim, once; that of a claim which was revoked to nobody again. Codes that were imported \
                 before are told, and left out: a call that failed can be repeated.",
            );
            operation
                .takes::<codes::Import>(json!({ "codes": ["SPRING-7F3K", "SPRING-9QX2", "SPRING-7F3K"] }));
            let example = json!({ "imported": 2, "duplicates": ["SPRING-7F3K"], "quantity": 2 });
            operation.gives::<codes::Imported>(200, "Imported.", example);
            operation.refuses(&[Kind::Conflict]);
        }
        Call::JoinWaitlist => {
            operation.about(
                "For a campaign with `waitlist`, once all units are taken. Stock that comes back (released, expired, revoked, or more of it) goes to \
                 the next in line, as a claim of one unit that is held, with its message `coupon.claimed`, and to nobody else before. At most 100,000 wait.",
            );
            operation.may_take::<settle::Body>(json!({}));
            let example = json!({ "position": 3, "since": "2030-03-01T08:00:00Z", "waiting": 3 });
            operation.gives::<waitlist::PlaceView>(201, "In line.", example.clone());
            operation.gives::<waitlist::PlaceView>(200, "In line already.", example);
            operation.refuses(&[
                Kind::Conflict,
                Kind::AlreadyClaimed,
                Kind::NotEligible,
                Kind::NotStarted,
                Kind::Ended,
            ]);
        }
        Call::ReadWaitlist => {
            operation.about("The user's place; `since` is null for a user that is not in line (any more): then `GET …/claims/{user}` has its claim, if it got one.");
            let example = json!({ "position": 1, "since": "2030-03-01T08:00:00Z", "waiting": 3 });
            operation.gives::<waitlist::PlaceView>(200, "The place.", example);
            operation.refuses(&[Kind::Conflict]);
        }
        Call::LeaveWaitlist => {
            operation.about("Also for a user that is not in line.");
            operation.gives_nothing(204, "Not in line any more.");
            operation.refuses(&[Kind::Conflict]);
        }
        Call::ListClaims => {
            operation.about(
                "By user. Claims that were released, expired or were revoked are told for 30 days. As CSV or NDJSON where `Accept` names them; \
                 then the header `Link` leads to the next page, and only the first page of a table has a head. A cell that a spreadsheet \
                 would take for a formula begins with an apostrophe. A page of a rare `status` may be short, even empty: go on while there is \
                 a next one.",
            );
            let statuses =
                json!({ "type": "string", "enum": ["held", "confirmed", "released", "expired", "revoked"] });
            operation.query("status", statuses, "Only claims that are this.");
            operation.pages(list::MAX_PAGE, list::DEFAULT_PAGE);
            let mut claim = claim_example();
            claim["claimedAt"] = "2030-03-01T08:00:00.123Z".into();
            let example = json!({ "claims": [claim], "nextCursor": null });
            operation.gives::<list::Page<'_>>(200, "A page of claims.", example);
            operation.answers_with(200, "Link", false);
            operation.gives_text(200, "A page of claims.", list::CSV);
            operation.gives_text(200, "A page of claims.", list::NDJSON);
        }
        Call::CheckClaim => {
            operation.about(
                "What `POST …/claims` would answer this user now, without claiming. It promises nothing: only a claim decides. (The claims of a \
                 user of the name `eligibility` are read at `…/claims/%65ligibility`.)",
            );
            let units = number(1, MAX_PER_USER);
            operation.query("units", units, "Units of that claim; 1 where it is left out.");
            let example = json!({ "eligible": true, "problem": null, "retryAfter": null });
            operation.gives::<eligibility::Eligibility>(200, "What it would be.", example);
        }
        Call::Claim => {
            operation.about(
                "One unit, or `units`, for the user that `x-user-id` names, or the reason why not. A claim has one `sequence` and one code, \
                 however many units it has, and they come back together. Where fewer are left, the 410 has `remaining`. A 201 is durable. With an `Idempotency-Key` a \
                 repetition is answered as the first was; without one, a second claim is a 409 that holds the first. In a campaign \
                 with `holdSeconds` the claim is `held` until `expiresAt`. Where all units are taken and some are only held, the 410 has \
                 `held` and `Retry-After`. Whoever released a claim, or let it expire, may claim again.",
            );
            operation.header("IdempotencyKey");
            operation.may_take::<claim::Body>(json!({ "units": 1, "metadata": { "order": "A-17" } }));
            let example = json!({ "outcome": "admitted", "claim": claim_example() });
            operation.gives::<Admitted<'_>>(201, "Admitted.", example);
            operation.answers_with(201, "Location", true);
            operation.answers_with(201, "Idempotency-Replayed", false);
            operation.refuses(&[
                Kind::NotStarted,
                Kind::Ended,
                Kind::NotEligible,
                Kind::AlreadyClaimed,
                Kind::SoldOut,
                Kind::IdempotencyMismatch,
            ]);
        }
        Call::ConfirmClaim => {
            operation.about(
                "Before the hold ends, by the store's clock, and once: `coupon.confirmed` is appended in the same step, and a code is made \
                 where the campaign makes codes. Repeated, it is answered with the claim. Too late: 410 with the claim, whose unit is back. \
                 Holds outlive the end of their campaign, and its closing.",
            );
            operation.gives::<settle::Changed<'_>>(200, "Confirmed.", json!({ "claim": claim_example() }));
            operation.answers_with(200, "Idempotency-Replayed", false);
        }
        Call::ReleaseClaim => {
            operation.about(
                "Its unit is back, once, and `coupon.released` is appended in the same step. A confirmed claim is not released (409); a key \
                 with the scope `campaigns` can revoke it.",
            );
            operation.gives::<settle::Changed<'_>>(200, "Released.", returned_example("released"));
            operation.answers_with(200, "Idempotency-Replayed", false);
        }
        Call::RevokeClaim => {
            operation.about(
                "A claim that is held or confirmed: its unit is back, once, and `coupon.revoked` is appended in the same step. In a campaign \
                 without holds, the header `x-user-id` says whose claim it is.",
            );
            operation.gives::<settle::Changed<'_>>(200, "Revoked.", returned_example("revoked"));
            operation.answers_with(200, "Idempotency-Replayed", false);
        }
        Call::ReadClaims => {
            operation.about(
                "In order of admission; none is an empty list. Claims that were released, expired or were revoked are told for 30 days. For \
                 the user, and for the scope `campaigns`.",
            );
            operation.path(
                "user",
                text(1, MAX_ID_CHARS as u64),
                "The user, percent-encoded where need be.",
            );
            operation.gives::<claims::Claims<'_>>(
                200,
                "The user's claims.",
                json!({ "claims": [claim_example()] }),
            );
        }
        _ => crate::receipts::describe(call, operation),
    }
}

fn campaign() -> Value {
    json!({
        "id": "spring", "quantity": 500, "perUser": 1, "startsAt": "2030-03-01T08:00:00Z", "endsAt": null, "holdSeconds": null,
        "codes": "generate", "topic": "coupon", "createdAt": "2027-01-15T08:00:00Z", "admitted": 0, "held": 0,
        "confirmed": 0, "released": 0, "remaining": 500, "state": "scheduled", "restricted": false, "room": null,
    })
}

fn returned_example(status: &str) -> Value {
    let mut claim = claim_example();
    claim["status"] = status.into();
    claim["code"] = Value::Null;
    claim["expiresAt"] = "2030-03-01T08:10:00Z".into();
    json!({ "claim": claim })
}

fn claim_example() -> Value {
    json!({
        "id": "8Jq3vTzLrM4nBw9QpX2K", "campaign": "spring", "user": "ann", "sequence": 41, "units": 1, "code": "4XcP9vKq2L",
        "status": "confirmed", "expiresAt": null, "receipt": null,
    })
}
