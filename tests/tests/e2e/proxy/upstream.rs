//! Origins for the proxy: one that does what its path says, and one that answers byte by byte as a case scripts it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An origin that does what the path of a request says. It ends when this is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    hits: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Upstream {
    /// Speaks HTTP/1.1, and HTTP/2 to whom begins with it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the system gives ports");
        let address = listener.local_addr().expect("it is bound");
        let hits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&hits);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let hits = Arc::clone(&counted);
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        hits.fetch_add(1, Ordering::Relaxed);
                        answer(request)
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            address,
            hits,
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that it has seen.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let mut words = path.rsplit('/');
    let (argument, what) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let number: u64 = argument.parse().unwrap_or(0);
    let mut response = Response::new(Empty::new().boxed_unsync());
    match what {
        "status" => {
            *response.status_mut() = http::StatusCode::from_u16(number as u16).expect("a status");
            *response.body_mut() = whole(format!("the origin's own {number}"));
        }
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            *response.body_mut() = whole("slept");
        }
        "echo" => {
            *response.body_mut() = body
                .map_err(|_| -> Infallible { unreachable!("a case sends whole bodies") })
                .boxed_unsync();
        }
        "bytes" => {
            let piece = Bytes::from(vec![b'x'; 64 << 10]);
            let left = futures::stream::unfold(number, move |left| {
                let piece = piece.clone();
                async move {
                    let next = left.min(piece.len() as u64);
                    (next > 0).then(|| (Ok(Frame::data(piece.slice(..next as usize))), left - next))
                }
            });
            *response.body_mut() = StreamBody::new(left).boxed_unsync();
        }
        "count" => {
            let mut body = body;
            let mut count = 0;
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
            }
            *response.body_mut() = whole(count.to_string());
        }
        "events" => {
            let beats = tokio_stream_of(number);
            response.headers_mut().insert(
                "content-type",
                http::HeaderValue::from_static("text/event-stream"),
            );
            *response.body_mut() = StreamBody::new(beats).boxed_unsync();
        }
        "trailers" => {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", http::HeaderValue::from_static("42"));
            let frames = [
                Frame::data(Bytes::from_static(b"body")),
                Frame::trailers(trailers),
            ];
            response
                .headers_mut()
                .insert("trailer", http::HeaderValue::from_static("x-sum"));
            *response.body_mut() = StreamBody::new(futures::stream::iter(frames.map(Ok))).boxed_unsync();
        }
        _ => {
            let headers: Vec<_> = head
                .headers
                .iter()
                .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
                .collect();
            let told = json!({
                "method": head.method.as_str(),
                "uri": head.uri.to_string(),
                "version": format!("{:?}", head.version),
                "headers": headers,
            });
            response
                .headers_mut()
                .insert("connection", http::HeaderValue::from_static("x-hop"));
            response
                .headers_mut()
                .insert("x-hop", http::HeaderValue::from_static("1"));
            *response.body_mut() = whole(told.to_string());
        }
    }
    if head.version == http::Version::HTTP_2 {
        response.headers_mut().remove("connection");
    }
    Ok(response)
}

fn tokio_stream_of(beats: u64) -> impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    futures::stream::iter(0..beats).then(|beat| async move {
        if beat > 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(Frame::data(Bytes::from(format!("data: {beat}\n\n"))))
    })
}

/// An origin whose connections do as a case says, each with its number.
pub struct Scripted {
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Scripted {
    pub async fn start<F>(script: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the system gives ports");
        let address = listener.local_addr().expect("it is bound");
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(script(stream, number));
                number += 1;
            }
        });
        Self { address, serving }
    }

    /// Answers every request with these bytes, and closes.
    pub async fn says(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Vec<u8> = bytes.into();
        Self::start(move |mut stream, _| {
            let bytes = bytes.clone();
            async move {
                if head(&mut stream).await.is_some() {
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                }
            }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// The head of the next request, if one comes.
pub async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&read).into_owned())
}
