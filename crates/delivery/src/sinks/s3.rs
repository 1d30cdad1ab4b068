//! Delivery to object storage that speaks S3: an object for each message or batch, with a line of JSON for each message. An object's
//! name says which messages it has, so that the same ones again are the same object.

mod object;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use rusty_s3::actions::PutObject;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use tollgate_api::traceparent::Traceparent;
use tollgate_store::commit::Message;
use url::Url;

use super::http::{HttpClients, Pools, drain, excerpt, lost};
use super::{Report, Sink};
use crate::clock::wall_ms;
use crate::relay::attempt::Answered;
use crate::relay::{Blame, Delivered};
use crate::retry::retry_after_ms;
use crate::subscription::{Payload, Place, REGION, Security, Subscription};
use crate::webhook::{judge, reference};
use object::Object;

/// For how long the signature of a request is good: its time-out is shorter, and clocks differ.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// How often a request is sent within one attempt whose answer was lost. The same object again changes nothing.
const TRIES: usize = 3;

/// The bucket of one subscription.
pub(crate) struct S3Sink {
    pools: Pools,
    bucket: Bucket,
    /// What every object's name begins with; empty, or with a slash at its end.
    prefix: String,
    /// `None`: requests are not signed.
    credentials: Option<Credentials>,
    /// The user of the URL has no password.
    is_locked_out: bool,
    payload: Payload,
    timeout: Duration,
    source: String,
}

impl Sink for S3Sink {
    async fn deliver(&self, message: Arc<Message>, _: Option<Traceparent>) -> Report {
        self.put(&[self.sent(message)]).await
    }

    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report {
        let messages = messages.iter().map(|(message, _)| self.sent(Arc::clone(message)));
        self.put(&messages.collect::<Vec<_>>()).await
    }
}

impl S3Sink {
    /// See [`Sinks::open`](super::Sinks::open).
    pub fn open(clients: &HttpClients, settings: &Subscription, source: String) -> Result<Self, String> {
        let place = Place::parse(settings.kind, &settings.url).map_err(|fault| format!("url: {fault}"))?;
        let scheme = match place.security {
            Security::Plain => "http",
            Security::Tls => "https",
        };
        let host = match place.host.contains(':') {
            true => format!("[{}]", place.host),
            false => place.host.clone(),
        };
        let endpoint = Url::parse(&format!("{scheme}://{host}:{}/", place.port));
        let endpoint = endpoint.map_err(|error| format!("url: {error}"))?;
        let path = place.path.strip_prefix('/').unwrap_or_default();
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let region = settings.region.clone().unwrap_or_else(|| REGION.to_owned());
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region);
        let password = settings.password.as_ref();
        let credentials = password.map(|password| Credentials::new(place.user.clone(), password.expose()));
        Ok(Self {
            pools: clients.pools(settings.allow_private_addresses).clone(),
            bucket: bucket.map_err(|error| format!("url: {error}"))?,
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            },
            is_locked_out: !place.user.is_empty() && credentials.is_none(),
            credentials,
            payload: settings.payload,
            timeout: settings.timeout.into(),
            source,
        })
    }

    fn sent(&self, message: Arc<Message>) -> Arc<Message> {
        match self.payload {
            Payload::Full => message,
            Payload::Reference => Arc::new(reference(&message, &self.source)),
        }
    }

    async fn put(&self, messages: &[Arc<Message>]) -> Report {
        if self.is_locked_out {
            let why = "password: is needed, the secret of the access key in the URL";
            return Report {
                delivered: judge::disconnected(why.to_owned()),
                answered: Answered::default(),
            };
        }
        let began = Instant::now();
        let object = Object::of(messages);
        let ended = tokio::time::timeout(self.timeout, self.attempt(&object)).await;
        let mut answered = Answered {
            ms: began.elapsed().as_millis() as u64,
            ..Answered::default()
        };
        let delivered = match ended {
            Err(_) => judge::timed_out(),
            Ok(Err(error)) => lost(&error),
            Ok(Ok(response)) => {
                let asked = response.headers().get(RETRY_AFTER);
                let asked = asked.and_then(|value| retry_after_ms(value.to_str().ok()?, wall_ms()));
                let status = response.status().as_u16();
                answered.status = Some(status);
                let mut body = response.into_body();
                answered.text = excerpt(&mut body).await;
                tokio::task::spawn_local(drain(body));
                judged(status, &answered.text, asked)
            }
        };
        Report { delivered, answered }
    }

    /// One object. Where the answer is lost, it is sent again at once: so it is there once, whatever becomes of its messages later.
    async fn attempt(&self, object: &Object) -> Result<Response<Incoming>, Error> {
        let name = format!("{}{}", self.prefix, object.name);
        let action = PutObject::new(&self.bucket, self.credentials.as_ref(), &name);
        let now = jiff::Timestamp::from_millisecond(wall_ms().cast_signed()).unwrap_or_default();
        let url = action.sign_with_time(SIGNED_FOR, &now);
        let uri: Uri = url.as_str().parse().expect("a URL is a URI");
        let request = || {
            let mut request = Request::new(Full::new(object.body.clone()));
            *request.method_mut() = Method::PUT;
            *request.uri_mut() = uri.clone();
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(object::MEDIA_TYPE));
            request
        };
        let mut ended = self.pools.request(request).await;
        for _ in 1..TRIES {
            if ended.as_ref().err().is_none_or(Error::is_connect) {
                break;
            }
            ended = self.pools.request_anew(request()).await;
        }
        ended
    }
}

/// What storage refuses, it refuses of the subscription: an object is bytes to it.
fn judged(status: u16, text: &str, asked: Option<u64>) -> Delivered {
    if (200..=299).contains(&status) {
        return Delivered::Accepted;
    }
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = code.map(|(code, _)| code).unwrap_or_default();
    Delivered::Refused {
        why: format!("the storage answered {status} {code}")
            .trim_end()
            .to_owned(),
        blame: Blame::Origin,
        is_final: false,
        retry_after_ms: asked.filter(|_| matches!(status, 429 | 503)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_is_and_counts_against_the_storage() {
        assert_eq!(judged(200, "", None), Delivered::Accepted);
        let text = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>…";
        for (status, text, why, retry_after_ms) in [
            (404, text, "the storage answered 404 NoSuchBucket", None),
            (301, "", "the storage answered 301", None),
            (
                503,
                "<Code>SlowDown</Code>",
                "the storage answered 503 SlowDown",
                Some(7),
            ),
        ] {
            let expected = Delivered::Refused {
                why: why.to_owned(),
                blame: Blame::Origin,
                is_final: false,
                retry_after_ms,
            };
            assert_eq!(judged(status, text, Some(7)), expected);
        }
    }
}
