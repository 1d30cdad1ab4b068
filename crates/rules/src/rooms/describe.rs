//! What the OpenAPI document says of the calls of rooms.

use serde_json::json;
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, number, pattern, text};
use tollgate_api::problem::Kind;

use super::manage::{All, Pace, Put, View as Room};
use super::tickets::{Drawn, View as Ticket};

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    let room = json!({
        "name": "sale", "path": "/sale/...", "title": "The spring sale", "state": "open", "opens": "2030-01-01T08:00:00Z", "session": 600,
        "capacity": null, "perSecond": 50, "waiting": 1200, "admitted": 340, "readOnly": false,
    });
    if call.path().contains(":name") {
        let form = pattern("^[a-z0-9][a-z0-9._-]{0,63}$");
        operation.path("name", form, "The room's name.");
        operation.refuses(&[Kind::NotFound]);
    }
    match call {
        Call::ListRooms => {
            operation.about("Those of `[[rooms]]`, and those that are set here.");
            operation.gives::<All<'_>>(200, "All rooms.", json!({ "rooms": [room] }));
        }
        Call::ReadRoom => {
            operation.about("Open to anyone: it tells counts and times, and nothing about visitors.");
            operation.gives::<Room<'_>>(200, "The room.", room);
        }
        Call::PutRoom => {
            operation.about(
                "In front of a path from the moment on at which it is answered, on every thread, and kept across a restart. Where it changes a room, \
                 everybody keeps their place. With `opens`, whoever comes before gets a place by lot.",
            );
            operation.takes::<Put>(json!({ "path": "/sale/...", "admitPerSecond": 50, "session": 600 }));
            operation.refuses(&[Kind::Conflict]);
            operation.gives::<Room<'_>>(201, "A new room.", room.clone());
            operation.gives::<Room<'_>>(200, "A changed room.", room);
        }
        Call::DeleteRoom => {
            operation.about(
                "Its tickets and tokens are void. A room of the configuration is removed there (409).",
            );
            operation.refuses(&[Kind::Conflict]);
            operation.gives_nothing(204, "Removed.");
        }
        Call::PauseRoom => {
            operation.about("Who is admitted stays so.");
            operation.gives::<Room<'_>>(200, "The room.", room);
        }
        Call::ResumeRoom => {
            operation.about("At the pace that it had, from where it stood.");
            operation.gives::<Room<'_>>(200, "The room.", room);
        }
        Call::PaceRoom => {
            operation.about(
                "Also of a room of the configuration, until that says another. A capacity still bounds it.",
            );
            operation.takes::<Pace>(json!({ "perSecond": 80 }));
            operation.gives::<Room<'_>>(200, "The room.", room);
        }
        Call::DrawTicket => {
            operation.about(
                "For the user that `x-user-id` names, else for the client; another's ticket is none. Every call draws a new one, so keep the first. Durable when \
                 it is answered.",
            );
            let example = json!({ "ticket": "AgAAAAAAAAAB", "position": 12, "etaSeconds": 3 });
            operation.gives::<Drawn>(201, "A place in the line.", example);
            operation.answers_with(201, "Location", true);
        }
        _ => {
            operation.path("ticket", text(1, 1_024), "The ticket.");
            operation.query(
                "wait",
                number(0, 30),
                "Seconds to wait for the turn. Under Spin it is answered at once.",
            );
            operation.about(
                "For its holder alone; to anybody else it is a 404. Once admitted there is a `token`: send it in `x-room-token` to what is behind the room. It is the \
                 holder's too, and ends with the session. With `Accept: text/event-stream` the answer is one event `ticket` that says when to ask again, as an \
                 `EventSource` does; 204 ends that once it has told that the turn has come or is over.",
            );
            let example = json!({ "state": "waiting", "position": 12, "etaSeconds": 3, "token": null });
            operation.gives::<Ticket>(200, "Where its holder stands.", example);
            operation.gives_text(200, "Where its holder stands.", "text/event-stream");
            operation.gives_nothing(
                204,
                "Nothing more will be told of it: only to who listens to events.",
            );
        }
    }
}
