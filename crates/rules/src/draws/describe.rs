//! What the OpenAPI document says of the calls of draws.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern, text};
use tollgate_api::problem::Kind;

use super::verify::Proofs;
use super::view::View;
use super::{enter, manage, read};
use crate::identity::MAX_ID_CHARS;

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    if call.path().contains(":id") {
        let form = pattern("^[a-z0-9][a-z0-9-]{0,63}$");
        operation.path("id", form, "The draw's id.");
        operation.refuses(&[Kind::NotFound]);
    }
    if call.path().contains(":user") {
        let form = text(1, MAX_ID_CHARS as u64);
        operation.path("user", form, "The user, percent-encoded where need be.");
    }
    match call {
        Call::ListDraws => {
            operation.about("By id.");
            operation.pages(manage::MAX_PAGE, manage::DEFAULT_PAGE);
            let example = json!({ "draws": [draw()], "nextCursor": null });
            operation.gives::<manage::Page>(200, "A page of draws.", example);
        }
        Call::CreateDraw => {
            operation.about(
                "A lottery with a sure winner. The seed is made here and is told with the outcome, not before; `commitment` is its SHA-256. At \
                 `closesAt` the draw closes and is drawn by itself; with `beaconSource` it waits for that public value.",
            );
            operation.takes::<manage::Create>(json!({
                "id": "easter", "pick": 6, "pool": { "from": 1, "to": 49 }, "perUser": 3, "closesAt": "2030-04-21T18:00:00Z",
                "prizes": [{ "matches": 6, "name": "a car", "quantity": 1 }, { "matches": 4, "name": "a book" }],
                "beaconSource": "The DAX's closing value of 22 April 2030",
            }));
            operation.gives::<View>(201, "The new draw.", draw());
            operation.answers_with(201, "Location", true);
            operation.refuses(&[Kind::Conflict]);
        }
        Call::ReadDraw => {
            operation.about("Open to anyone. It tells nothing about users; who was drawn is a hash that only that user can explain.");
            operation.gives::<View>(200, "The draw.", draw());
        }
        Call::Enter => {
            operation.about(
                "One entry for the user that `x-user-id` names, with the user's pick or one made at random. A 201 is durable, and its `leaf` is \
                 the hash that the tree will hold. With an `Idempotency-Key` a repetition is answered as the first was. Every entry is a \
                 message `draw.entered` in the topic, in the same atomic step.",
            );
            operation.header("IdempotencyKey");
            operation.may_take::<enter::Body>(json!({ "words": [3, 11, 19, 24, 33, 42] }));
            operation.gives::<enter::Entered>(201, "Admitted.", json!({ "entry": entry() }));
            operation.answers_with(201, "Location", true);
            operation.answers_with(201, "Idempotency-Replayed", false);
            operation.refuses(&[
                Kind::NotStarted,
                Kind::Ended,
                Kind::AlreadyEntered,
                Kind::SoldOut,
                Kind::IdempotencyMismatch,
            ]);
        }
        Call::Draw => {
            operation.about(
                "Closes the draw if it is open, and draws it, exactly once: a repetition is answered with the same outcome. The winner is \
                 the entry at SHA-256(seed ‖ root ‖ beacon) modulo their number. In a draw with `beaconSource` the first call closes it, and \
                 one with `beacon` draws. 202 while there is more to do: it goes on by itself, or with the next call.",
            );
            operation.may_take::<manage::Beacon>(json!({ "beacon": "18391.44" }));
            operation.gives::<View>(200, "Drawn, void, or waiting for its beacon.", draw());
            operation.gives::<View>(202, "Closed, and being drawn.", draw());
            operation.refuses(&[Kind::Conflict]);
        }
        Call::ReadEntries => {
            operation.about("In order of admission; none is an empty list. Once the draw is drawn, with what each has won.");
            let example = json!({ "state": "open", "entries": [entry()] });
            operation.gives::<read::Entries>(200, "The user's entries.", example);
        }
        Call::ProveEntries => {
            operation.about(
                "All that is needed to check the draw offline (`tollgate draw verify FILE`): the draw, the entry that was drawn, the last one, and the user's \
                 entries, each with its path to the root (RFC 9162, section 2.1.3). From the moment on at which the root is known.",
            );
            let proof = json!({
                "id": "8Jq3vTzLrM4nBw9QpX2K", "user": "ann", "sequence": 1, "owner": HASH, "words": [3, 11, 19, 24, 33, 42], "leaf": HASH, "path": [],
            });
            let mut closed = draw();
            closed["state"] = "closed".into();
            closed["root"] = HASH.into();
            let example = json!({ "draw": closed, "winner": null, "last": proof, "entries": [proof] });
            operation.gives::<Proofs>(200, "The proof.", example);
            operation.refuses(&[Kind::Conflict]);
        }
        _ => {}
    }
}

const HASH: &str = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";

fn draw() -> Value {
    json!({
        "id": "easter", "pick": 6, "pool": { "from": 1, "to": 49 }, "perUser": 3, "opensAt": null,
        "closesAt": "2030-04-21T18:00:00Z",
        "prizes": [{ "matches": 6, "name": "a car", "quantity": 1, "winners": null }],
        "topic": "draw", "createdAt": "2030-04-01T08:00:00Z", "entries": 1, "state": "open", "commitment": HASH,
        "beaconSource": "The DAX's closing value of 22 April 2030", "beacon": null, "root": null, "seed": null, "winner": null,
        "winningWords": null, "drawnAt": null,
    })
}

fn entry() -> Value {
    json!({
        "id": "8Jq3vTzLrM4nBw9QpX2K", "draw": "easter", "user": "ann", "sequence": 1, "words": [3, 11, 19, 24, 33, 42],
        "enteredAt": "2030-04-02T08:00:00Z", "leaf": HASH, "matches": null, "prize": null,
    })
}
