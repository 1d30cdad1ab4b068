//! What the OpenAPI document says of rate limits.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, text};
use tollgate_api::problem::Kind;

use super::clients::{Levels, OverrideView, Overrides, Put};
use super::handlers::Answer;

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    let granted = json!({
        "client": "id:ann", "policy": "default", "capacity": 1_000, "refill": 100, "interval": 1,
        "until": "2027-02-01T00:00:00Z", "createdAt": "2027-01-15T08:00:00Z",
    });
    if !matches!(
        call,
        Call::ListLimits | Call::ListOverrides | Call::ListRefusals | Call::Check
    ) {
        operation.path(
            "client",
            text(1, 300),
            "`key:<id>`, `id:<name>`, `ip:<address>` (IPv6: one of its /64), or `user:<id>`; percent-encoded.",
        );
    }
    match call {
        Call::ListOverrides => {
            operation.about("What clients are granted in place of a limit's own terms, the oldest first.");
            operation.gives::<Overrides<'_>>(
                200,
                "The overrides in force.",
                json!({ "overrides": [granted] }),
            );
        }
        Call::ListRefusals => {
            operation.about(
                "Of every limit and quota, the requests that it refused since the start, and those that it would have refused in shadow; who lacked tokens most in \
                 the last five to ten minutes, by bounded counts (with `isLeast`, it may have been more often); and requests under way of \
                 `[[concurrency]]`. `tollgate` only.",
            );
            let name = text(1, 64);
            let number = json!({ "type": "integer", "minimum": 0 });
            let object = |members: Value| {
                let mut names: Vec<String> = members
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.clone())
                    .collect();
                // Whatever order the library keeps members in.
                names.sort_unstable();
                json!({ "type": "object", "properties": members, "required": names })
            };
            let list = |members: Value| json!({ "type": "array", "items": object(members) });
            let schema = object(json!({
                "limits": list(json!({ "policy": name, "refused": number, "wouldRefuse": number })),
                "most": list(json!({
                    "policy": { "type": "string" },
                    "who": { "type": "array", "items": { "type": "string" }, "description": "What the limit counts by." },
                    "refused": number,
                    "isLeast": { "type": "boolean" },
                })),
                "lookedBackSeconds": number,
                "concurrency": list(json!({ "limit": name, "underWay": number, "refused": number })),
            }));
            operation.gives_json(
                200,
                "What was refused.",
                schema,
                json!({
                    "limits": [{ "policy": "default", "refused": 12, "wouldRefuse": 0 }],
                    "most": [{ "policy": "default", "who": ["id:ann"], "refused": 9, "isLeast": false }],
                    "lookedBackSeconds": 300,
                    "concurrency": [{ "limit": "reports", "underWay": 1, "refused": 4 }],
                }),
            );
        }
        Call::ReadClientLimits => {
            operation.about(
                "Of every limit that may count by the client: what is left in its bucket. Nothing is taken. A limit that counts by \
                 the path, too, is read for the path of the query.",
            );
            operation.query(
                "path",
                json!({ "type": "string" }),
                "The path to read such limits for; begins with `/`.",
            );
            let example = json!({ "client": "id:ann", "limits": [{
                "policy": "default", "capacity": 1_000, "refill": 100, "interval": 1, "cost": 1,
                "remaining": 998, "fullIn": 1, "override": granted,
            }], "quotas": [{ "quota": "accounts", "limit": 10, "used": 3, "resetsAt": "2027-01-15T23:00:00Z" }] });
            operation.gives::<Levels<'_>>(200, "What the client has left.", example);
        }
        Call::PutOverride => {
            operation.about(
                "In force when it is answered, on every thread, and kept across a restart. The bucket keeps its tokens, up to the \
                 new capacity. There may be 1,000 overrides.",
            );
            let example = json!({ "policy": "default", "capacity": 1_000, "refill": 100, "interval": 1, "until": "2027-02-01T00:00:00Z" });
            operation.refuses(&[Kind::Conflict]);
            operation.takes::<Put>(example);
            operation.gives::<OverrideView<'_>>(200, "What it is granted.", granted);
        }
        Call::RefillClient => {
            operation.about(
                "Removes its overrides, or that of one limit, and fills its buckets. Those that count by the path, too, are filled \
                 for the path of the query. A client without overrides has its buckets filled.",
            );
            operation.query(
                "policy",
                json!({ "type": "string" }),
                "The limit; without it, all that may count by the client.",
            );
            operation.query(
                "path",
                json!({ "type": "string" }),
                "The path of buckets that count by it; begins with `/`.",
            );
            operation.gives_nothing(204, "Its own terms count again, and its buckets are full.");
        }
        Call::Check => {
            operation.about(
                "Forward auth, for nginx, Caddy, Traefik, Envoy and others (`docs/guides/forward-auth.md`): the limits and access lists for \
                 the original method and URI. Any method, also `/api/check/…`, where the tail is the original path and a yes is 200. \
                 Only `server.trusted_proxies` are answered. Nothing is done but the charge. For the paths of `users.jwt.check` a user's token is asked for (401), and the user told.",
            );
            operation.query(
                "deny",
                json!({ "const": "403" }),
                "Makes a refusal a 403, with `X-Tollgate-Status`: nginx makes a 500 of a 429. Not where it is the query of \
                 `X-Forwarded-Uri`, which is the client's.",
            );
            operation.gives_nothing(204, "It may go on.");
            operation.gives_nothing(200, "It may go on: the answer of `/api/check/…`.");
            for status in [204, 200] {
                operation.answers_with(status, "X-User-Id", false);
            }
            operation.refuses(&[Kind::InvalidRequest, Kind::UserRequired, Kind::InvalidToken]);
            operation.may_tell_as(403);
        }
        _ => {
            operation.about(
                "The `[[limits]]`, `[[quotas]]` and `[[concurrency]]` of tollgate.toml: which requests they match, and what they grant.",
            );
            let example = json!({ "limits": [{
                "name": "default", "path": "/...", "methods": ["*"], "per": ["client"], "capacity": 100, "refill": 10, "interval": 1,
                "cost": 1, "shadow": false, "onStoreFailure": "allow",
            }], "quotas": [{
                "name": "accounts", "path": "/api/links", "methods": ["POST"], "per": ["ip"], "limit": 10, "window": "day",
                "timezone": "Europe/Berlin", "count": "status:2xx",
            }], "concurrency": [{
                "name": "reports", "path": "/api/links/stats", "methods": ["GET"], "per": ["client"], "max": 2, "status": 429,
            }] });
            operation.gives::<Answer<'_>>(200, "The limits.", example);
        }
    }
}
