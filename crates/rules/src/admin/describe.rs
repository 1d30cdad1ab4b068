//! What the OpenAPI document says of what operators and browsers ask for.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern};
use tollgate_api::problem::Kind;

use super::Health;

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    match call {
        Call::HealthLive => {
            operation.about("The process runs. Never limited.");
            operation.gives::<Health>(200, "It does.", json!({ "status": "live" }));
        }
        Call::HealthReady => {
            operation.about("The store can be read and written, and the gateway is not shutting down; else 503. Never limited.");
            operation.gives::<Health>(200, "They can.", json!({ "status": "ready" }));
        }
        Call::Metrics => {
            operation.about(
                "Counters, gauges and histograms of this gateway, as OpenMetrics or in the older text format of Prometheus, by `Accept`. \
                 `[metrics] access` may open it to this machine or to everybody. Under Spin there are none (404).",
            );
            for media in [
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                "text/plain; version=0.0.4; charset=utf-8",
            ] {
                operation.gives_text(200, "The metrics.", media);
            }
            operation.answers_with(200, "Vary", true);
            operation.refuses(&[Kind::NotFound]);
        }
        Call::WatchEvents => {
            operation.about(
                "`link.created`, `campaign.sold-out`, `message.dead` and others (`docs/events.md`), each as `{id, type, time, data}`. With \
                 `[events] topic`, `Last-Event-ID` goes on after that event; without, only what happens from now on is told. `missed` says \
                 how many could not be. Streams are bounded (503). Under Spin there are none (404).",
            );
            operation.header("LastEventId");
            operation.gives_text(
                200,
                "Server-sent events, until either side ends.",
                "text/event-stream",
            );
            operation.answers_with(200, "X-Accel-Buffering", false);
            operation.answers_with(200, "X-Content-Type-Options", false);
            operation.refuses(&[Kind::NotFound]);
        }
        Call::Icon => {
            operation.about("In several sizes.");
            operation.gives_text(200, "The icon.", "image/x-icon");
        }
        Call::Welcome => {
            operation.about(
                "Where `[links] root_url` says so, a redirect there. Else for a browser (`Accept: text/html`) what this is, and where to \
                 go; a 404 for anybody else, and under Spin.",
            );
            page(operation, &["text/html; charset=utf-8"]);
            operation.gives_nothing(302, "It leads to `links.root_url`.");
            operation.answers_with(302, "Location", true);
        }
        Call::Dashboard => {
            operation.about("The page of the dashboard.");
            page(operation, &["text/html; charset=utf-8"]);
        }
        Call::DashboardFile => {
            operation.path("file", pattern("^[a-z.]{1,64}$"), "The file's name.");
            operation.about("Scripts, styles and images of the page.");
            let media = [
                "text/javascript; charset=utf-8",
                "text/css; charset=utf-8",
                "image/svg+xml",
                "text/html; charset=utf-8",
            ];
            page(operation, &media);
        }
        Call::LogIn => {
            operation.about("With any API key, which stays in the gateway's memory; the answer sets the session's cookie. Attempts are limited.");
            operation.gives_json(201, "Logged in.", session(), session_example());
            operation.answers_with(201, "Set-Cookie", true);
            private(operation);
            operation.refuses(&[Kind::Forbidden, Kind::QuotaExceeded]);
        }
        Call::ReadSession => {
            operation.about("The key of the session, and its scopes.");
            operation.gives_json(200, "Somebody.", session(), session_example());
            private(operation);
        }
        Call::LogOut => {
            operation.about("Ends the session. Takes the header `x-tollgate-csrf`.");
            operation.gives_nothing(204, "Logged out.");
            operation.answers_with(204, "Set-Cookie", true);
            private(operation);
        }
        Call::WatchNumbers => {
            operation.about("Live numbers of what the session's key may see, for as long as the page listens. Streams are bounded (503).");
            operation.gives_text(
                200,
                "Server-sent events, until either side ends.",
                "text/event-stream",
            );
            operation.answers_with(200, "X-Accel-Buffering", false);
            private(operation);
        }
        Call::ReadConfiguration => {
            operation.about(
                "The settings in force as TOML, secrets masked. The session's key takes the scope `admin`.",
            );
            operation.gives_text(200, "The settings.", "text/plain; charset=utf-8");
            private(operation);
        }
        Call::Robots => {
            operation.about("Crawlers may follow short links, and have no business in the API.");
            operation.gives_text(200, "The text.", "text/plain; charset=utf-8");
        }
        Call::OpenApi => {
            operation.about("This document: every call, body, answer and problem, as OpenAPI 3.1.");
            operation.header("IfNoneMatch");
            operation.gives_document(200, "The document.", "application/json");
            operation.answers_with(200, "Content-Encoding", false);
            operation.gives_nothing(304, "It has not changed.");
            for status in [200, 304] {
                operation.answers_with(status, "ETag", true);
            }
        }
        Call::Docs => {
            operation.about(
                "This document as a page, on which calls can be tried. It loads nothing from elsewhere.",
            );
            operation.header("IfNoneMatch");
            operation.gives_text(200, "The page.", "text/html; charset=utf-8");
            operation.answers_with(200, "Content-Encoding", false);
            operation.gives_nothing(304, "It has not changed.");
            for header in [
                "Content-Security-Policy",
                "X-Content-Type-Options",
                "Referrer-Policy",
                "X-Robots-Tag",
            ] {
                operation.answers_with(200, header, true);
            }
            for status in [200, 304] {
                operation.answers_with(status, "ETag", true);
            }
        }
        _ => {}
    }
}

/// A file of the dashboard.
fn page(operation: &mut Operation<'_>, media: &[&str]) {
    operation.header("IfNoneMatch");
    for media in media {
        operation.gives_text(200, "The file.", media);
    }
    operation.gives_nothing(304, "It has not changed.");
    for status in [200, 304] {
        for header in [
            "ETag",
            "Content-Security-Policy",
            "X-Content-Type-Options",
            "X-Frame-Options",
            "Referrer-Policy",
            "Cross-Origin-Resource-Policy",
            "Cross-Origin-Opener-Policy",
            "Vary",
            "Content-Encoding",
        ] {
            operation.answers_with(status, header, false);
        }
    }
    operation.refuses(&[Kind::NotFound]);
}

/// What is one session's; there are none under Spin.
fn private(operation: &mut Operation<'_>) {
    for status in [200, 201, 204] {
        operation.answers_with(status, "X-Content-Type-Options", false);
    }
    operation.refuses(&[Kind::NotFound]);
}

fn session() -> Value {
    json!({
        "type": "object", "required": ["key"],
        "properties": { "key": {
            "type": "object", "description": "The key that was logged in with.", "required": ["id", "scopes"],
            "properties": {
                "id": { "type": "string" },
                "scopes": { "type": "array", "items": { "$ref": "#/components/schemas/Scope" } },
            },
        } },
    })
}

fn session_example() -> Value {
    json!({ "key": { "id": "mzX4nQ9d", "scopes": ["admin"] } })
}
