//! The calls that only the host can answer, and what is answered at a listener for some requests only.

use super::super::dashboard::Dashboard;
use super::super::redirect;
use super::{Answer, BUSY_RETRY_SECONDS, Gateway, from_core};
use hyper::body::Incoming;
use std::sync::atomic::Ordering;
use tollgate_api::calls::Call;
use tollgate_api::http::Response;
use tollgate_api::problem::{Kind, Problem};
use tollgate_engines::Engine as _;
use tollgate_rules::admin;

/// What becomes of a call that only the host can answer.
pub(super) enum Native {
    Answered(Answer),
    /// Its answer takes a while.
    GoesOn(Call),
}

/// Whether a path is served at `server.admin_listen` alone, where that is set.
fn is_for_operators(path: &str) -> bool {
    let below = |own: &str| {
        let rest = path.strip_prefix(own);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(Call::Dashboard.path()) || below(Call::Metrics.path())
}

/// To another place here, for good.
fn moved(to: &'static str) -> Answer {
    from_core(Response::empty(308).with("location", to))
}

impl Gateway {
    /// Answers the calls that only the host can; see [`Call::native`]. `None`: the rules answer.
    pub(super) fn native(&self, request: &hyper::Request<Incoming>) -> Result<Option<Native>, Problem> {
        let path = request.uri().path();
        if path == Call::Welcome.path() && !self.root_is_free {
            return Ok(None);
        }
        let Some(native) = Call::native(request.method().as_str(), path) else {
            // What people type.
            return Ok((path == "/admin/").then(|| Native::Answered(moved("/admin"))));
        };
        let (call, [file, _]) = native?;
        let headers = request.headers();
        Ok(Some(Native::Answered(match call {
            Call::HealthLive | Call::HealthReady => self.health(call)?,
            Call::Welcome => {
                let root = self.root(request).map(from_core);
                return Ok(root.or_else(|| Dashboard::welcome(headers)).map(Native::Answered));
            }
            Call::Dashboard => Dashboard::file("index.html", headers)?,
            Call::DashboardFile => Dashboard::file(file, headers)?,
            call => return Ok(Some(Native::GoesOn(call))),
        })))
    }

    /// Where the root of the host leads that was asked for, if the configuration says so.
    fn root(&self, request: &hyper::Request<Incoming>) -> Option<Response> {
        let header = request.headers().get(http::header::HOST);
        let host = header.and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().host());
        admin::root(&self.generation.settings.config, host)
    }

    /// The same where operators have a listener of their own: what is theirs is not here.
    pub(super) fn native_of_public(
        &self,
        request: &hyper::Request<Incoming>,
    ) -> Result<Option<Native>, Problem> {
        let path = request.uri().path();
        // The welcome page leads to what is not here.
        if path == Call::Welcome.path() && self.root(request).is_none() {
            return Ok(None);
        }
        match is_for_operators(path) {
            true => Err(Problem::not_found()),
            false => self.native(request),
        }
    }

    /// The redirect of a request without TLS; or what an ACME authority asks for, which it must find here.
    pub(super) fn to_https(&self, request: &hyper::Request<Incoming>) -> Answer {
        let text = self
            .shared
            .tls
            .as_ref()
            .and_then(|tls| tls.challenges.text(request.uri().path()));
        if let Some(text) = text {
            let response = Response::empty(200).with("content-type", "application/octet-stream");
            let body = text.into_bytes();
            return from_core(Response { body, ..response });
        }
        let host = request.headers().get(http::header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let public_url = &self.generation.settings.public_url;
        let certificates = self.shared.tls.as_ref().map(|tls| tls.loaded());
        redirect::answer(request.uri(), host, certificates.as_deref(), public_url)
    }

    fn health(&self, call: Call) -> Result<Answer, Problem> {
        let state = match call {
            Call::HealthLive => Ok("live"),
            _ if self.shared.draining.load(Ordering::Relaxed) => {
                Err("The gateway is shutting down.".to_owned())
            }
            _ => self.shared.engines.store.health().map(|()| "ready"),
        };
        match state {
            Ok(state) => Ok(from_core(Response::json(
                200,
                &serde_json::json!({ "status": state }),
            ))),
            Err(why) => Err(Problem::new(Kind::Unavailable, why).with_retry_after(BUSY_RETRY_SECONDS)),
        }
    }
}
