//! A request that a component of the operator's own answers: its head as the component gets it, both bodies
//! piece by piece.

use super::answer::{AnswerBody, Held, Sending, Streamed};
use super::body::{self, Upload};
use super::service::{Answer, BUSY_RETRY_SECONDS, Caller};
use crate::wasm::handler::{Answered, Failed, Handler};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, SizeHint};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tollgate_api::problem::{Kind, Problem};
use wasmtime_wasi_http::{Error, WasiBody};

/// Pieces of a body that wait for the component to take them.
const MAX_PIECES: usize = 2;
/// The header that tells the component the client's address and port, as under Spin.
const CLIENT_ADDRESS: HeaderName = HeaderName::from_static("spin-client-addr");
/// Headers of one connection, besides those that `Connection` names (RFC 9110, section 7.6.1); and those that
/// are answered here.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    CLIENT_ADDRESS,
];
const OLD_HOP_BY_HOP: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// The component's answer to a request that was charged and admitted.
///
/// # Errors
/// The problem that it is answered with where the component does not.
pub async fn answer(
    handler: &Handler,
    head: &http::request::Parts,
    upload: Option<Upload>,
    caller: &Caller,
    request_id: &HeaderValue,
    max_body: usize,
) -> Result<Answer, Problem> {
    let deadline = handler.deadline();
    let mut request = http::Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = target(handler, head, caller.is_tls)?;
    *request.headers_mut() = headers(head, caller, request_id);
    let (body, mut upload) = match upload {
        None => (empty(), None),
        Some(upload) => {
            let (body, sending) = piped(upload, max_body, deadline)?;
            (
                body,
                Some(AbortOnDropHandle::new(tokio::task::spawn_local(sending))),
            )
        }
    };
    let request = request.map(|()| body);
    let answered = tokio::select! {
        biased;
        problem = fault(&mut upload) => return Err(problem),
        answered = handler.answer(request, deadline) => answered.map_err(problem)?,
    };
    let Answered { response, place } = answered;
    let (mut parts, body) = response.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    let held = Held {
        _place: place,
        _upload: upload,
        _under_way: caller.traffic.under_way(),
    };
    let body = Streamed::new(body, deadline, held);
    Ok(http::Response::from_parts(
        parts,
        AnswerBody::Streamed(Box::new(body)),
    ))
}

/// Returns the fault of the request's body, if one shows before the answer.
async fn fault(upload: &mut Option<Sending>) -> Problem {
    if let Some(sending) = upload
        && let Ok(Err(problem)) = sending.await
    {
        return problem;
    }
    std::future::pending().await
}

fn problem(failed: Failed) -> Problem {
    match failed {
        Failed::Busy => Problem::new(
            Kind::Unavailable,
            "The component has as many requests as it can hold.",
        )
        .with_retry_after(BUSY_RETRY_SECONDS),
        Failed::Ended => Problem::new(Kind::ComponentFailed, "The component ended without an answer."),
        Failed::TimedOut => Problem::new(Kind::Timeout, "The component took longer than it may."),
    }
}

/// The target of the request: the host that was asked for, and the path as the component sees it.
fn target(handler: &Handler, head: &http::request::Parts, is_tls: bool) -> Result<http::Uri, Problem> {
    let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    let host = match head.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => host.filter(|host| !host.is_empty()).unwrap_or(b"localhost"),
    };
    let mut path = handler.path(super::service::path(head)).to_owned();
    if let Some(query) = head.uri.query() {
        path.push('?');
        path.push_str(query);
    }
    http::Uri::builder()
        .scheme(match is_tls {
            true => http::uri::Scheme::HTTPS,
            false => http::uri::Scheme::HTTP,
        })
        .authority(host)
        .path_and_query(path)
        .build()
        .map_err(|_| Problem::field("header:host", "must be a host"))
}

fn headers(head: &http::request::Parts, caller: &Caller, request_id: &HeaderValue) -> HeaderMap {
    let mut headers = head.headers.clone();
    remove_hop_by_hop(&mut headers);
    headers.insert(HeaderName::from_static("x-request-id"), request_id.clone());
    let address = SocketAddr::new(caller.address, caller.port).to_string();
    if let Ok(address) = HeaderValue::try_from(address) {
        headers.insert(CLIENT_ADDRESS, address);
    }
    headers
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let connection = headers.get_all(header::CONNECTION).iter();
    let named: Vec<_> = connection
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    for name in OLD_HOP_BY_HOP {
        headers.remove(name);
    }
}

fn empty() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The body as the component gets it, and the task that brings it there: at most `max` bytes, until the
/// deadline.
fn piped(
    upload: Upload,
    max: usize,
    deadline: Instant,
) -> Result<(WasiBody, impl Future<Output = Result<(), Problem>>), Problem> {
    let (mut incoming, traffic) = upload.into_parts();
    let size = incoming.size_hint();
    if size.lower() > max as u64 {
        return Err(body::too_large(max));
    }
    let (pieces, taken) = mpsc::channel(MAX_PIECES);
    let sending = async move {
        let mut left = max;
        loop {
            let until = deadline.min(Instant::now() + body::TIMEOUT);
            let Ok(next) = tokio::time::timeout_at(until, incoming.frame()).await else {
                _ = pieces.try_send(Err(Error::ConnectionReadTimeout));
                return Err(body::too_slow());
            };
            let Some(frame) = next else {
                traffic.set_unread(false);
                return Ok(());
            };
            let Ok(frame) = frame else {
                _ = pieces.try_send(Err(Error::ConnectionTerminated));
                return Err(body::not_whole());
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            if length > left {
                _ = pieces.try_send(Err(Error::HttpRequestBodySize(Some(max as u64))));
                return Err(body::too_large(max));
            }
            left -= length;
            // What the component does not take is left unread.
            if pieces.send(Ok(frame)).await.is_err() {
                return Ok(());
            }
        }
    };
    Ok((Piped { taken, size }.boxed_unsync(), sending))
}

/// The other end of [`piped`].
struct Piped {
    taken: mpsc::Receiver<Result<Frame<Bytes>, Error>>,
    size: SizeHint,
}

impl Body for Piped {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.taken.poll_recv(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
