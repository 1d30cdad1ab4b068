//! A request becomes a record and a message, together.

use serde::{Deserialize, Serialize};

use super::record::{self, Record};
use crate::campaigns::DEFAULT_TOPIC;
use crate::commit::{Append, Commit, Condition, Mutation, Outcome, StoreError, literal};
use crate::http::{Request, Response};
use crate::idempotency::{self, Key};
use crate::identity::{self, ClientId, Proxies};
use crate::keys::{self, Scope};
use crate::ports::{Store, World};
use crate::problem::{Kind, Problem};
use crate::template::{self, Number};
use crate::{ids, topics};

/// The most bytes of a body.
pub const MAX_BODY: usize = 64 * 1_024;
/// The type of the messages.
pub const MESSAGE_TYPE: &str = "http.request";
/// The most characters of `x-partition-key`.
const MAX_PARTITION_KEY: usize = 128;
/// The longest `Content-Type`.
const MAX_CONTENT_TYPE: usize = 255;
/// How many lost replies are asked for again.
const LOST_REPLIES: usize = 2;

/// `POST /api/topics/{topic}/messages`: 202. Takes an API key or the client header; a key that is sent must be good.
pub(super) async fn to_topic<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
) -> Result<Response, Problem> {
    let key = keys::shown(world.store, request, world.now).await?;
    let client = match &key {
        Some(key) => ClientId::of_key(&key.id),
        None if identity::explicit_client(world.config, request)?.is_some() => {
            ClientId::without_key(world.config, &Proxies::of(world.config), request)
        }
        None => {
            let header = &world.config.clients.header;
            return Err(Problem::new(
                Kind::ClientIdRequired,
                format!("Send an API key or the header {header}."),
            ));
        }
    };
    let open = topics::is_configured(world.config, topic) && !announces_claims(world, topic);
    if !open && !key.is_some_and(|key| key.allows(Scope::Topics)) {
        let mut problem = Problem::not_found();
        problem.detail =
            format!("There is no topic {topic} to post to; a key with the scope topics may begin one.");
        return Err(problem);
    }
    Post::new(world, request, topic, client)?.run(world).await
}

/// A configured `[[forward]]` route: 202. A browser's form sends no key and no client header: its address will do. An
/// `Authorization` that is no key of ours may be the site's own.
pub(super) async fn routed<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
) -> Result<Response, Problem> {
    let client = identity::client(world.store, world.config, request, world.now).await?;
    Post::new(world, request, topic, client)?.run(world).await
}

/// Whether strangers must keep out, since consumers take what is in the topic for claims.
fn announces_claims<S>(world: &World<'_, S>, topic: &str) -> bool {
    topic == DEFAULT_TOPIC && !world.config.forward.iter().any(|route| route.topic == topic)
}

#[derive(Serialize)]
struct Accepted<'a> {
    id: &'a str,
    topic: &'a str,
    sequence: Number,
}

/// One request on its way into a topic. Its id stays the same however often the store is asked.
struct Post<'a> {
    request: &'a Request,
    idempotency_key: Option<Key>,
    id: String,
    record: Record,
}

impl<'a> Post<'a> {
    fn new<S>(
        world: &World<'_, S>,
        request: &'a Request,
        topic: &str,
        client: ClientId,
    ) -> Result<Self, Problem> {
        if request.body.len() > MAX_BODY {
            return Err(Problem::new(
                Kind::TooLarge,
                format!("A message takes at most {MAX_BODY} bytes."),
            ));
        }
        let idempotency_key = idempotency::key(request)?;
        let key = match plain_header(request, "x-partition-key", MAX_PARTITION_KEY, |b| {
            b.is_ascii_graphic()
        })? {
            Some(key) => key.to_owned(),
            None => client.as_str().to_owned(),
        };
        let content_type = plain_header(request, "content-type", MAX_CONTENT_TYPE, |b| {
            (0x20..=0x7e).contains(&b)
        })?
        .unwrap_or("application/octet-stream");
        let id = record::id(client.as_str(), &ids::token(&(world.fresh)(), ids::ID_LENGTH));
        let record = Record {
            topic: topic.to_owned(),
            sequence: Number::Sequence(0),
            key,
            client: client.as_str().to_owned(),
            content_type: content_type.to_owned(),
            method: request.method.to_string(),
            path: request.path.clone(),
            time: Number::Time,
        };
        Ok(Self {
            request,
            idempotency_key,
            id,
            record,
        })
    }

    async fn run<S: Store>(&self, world: &World<'_, S>) -> Result<Response, Problem> {
        let answer = template::json(&self.accepted(self.record.sequence));
        let mut lost = 0;
        loop {
            match world.store.commit(self.commit(world, &answer)).await {
                Ok(Outcome::Committed(done)) => {
                    return Ok(located(
                        Response::json_bytes(202, template::fill(&answer, &done)),
                        &self.id,
                    ));
                }
                Ok(Outcome::Replayed(stored)) => return self.replayed(&stored),
                Ok(Outcome::Conflict) => return Err(idempotency::mismatch()),
                Ok(Outcome::Refused(_)) => return self.there_already(world).await,
                // The id tells a repetition from a second message: see the condition.
                Err(StoreError::Unknown(_)) if lost < LOST_REPLIES => lost += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn accepted(&self, sequence: Number) -> Accepted<'_> {
        Accepted {
            id: &self.id,
            topic: &self.record.topic,
            sequence,
        }
    }

    fn commit<S>(&self, world: &World<'_, S>, answer: &[crate::commit::Part]) -> Commit {
        let idempotence = self
            .idempotency_key
            .as_ref()
            .map(|key| key.idempotence("forward", &[&self.record.client], self.request, 202, answer));
        let entry = record::entry_key(&self.id);
        let set = Mutation::Set {
            key: entry.clone(),
            value: template::json(&self.record),
            expires: Some(record::expiry(world.config, &self.record.topic, world.now)),
        };
        Commit {
            partition: record::partition(&self.id),
            idempotence,
            conditions: vec![Condition::Absent(entry)],
            mutations: vec![set],
            appends: vec![Append {
                topic: self.record.topic.clone(),
                id: self.id.clone(),
                key: self.record.key.clone(),
                kind: MESSAGE_TYPE.into(),
                content_type: self.record.content_type.clone(),
                payload: literal(self.request.body.as_slice()),
            }],
        }
    }

    /// A stored answer. If it holds our own id, our own commit's reply was lost: it is no replay.
    fn replayed(&self, stored: &[u8]) -> Result<Response, Problem> {
        #[derive(Deserialize)]
        struct Stored {
            id: String,
        }
        let mut response = idempotency::replay(stored)?;
        let Ok(Stored { id }) = serde_json::from_slice(&response.body) else {
            return Ok(response);
        };
        if id == self.id {
            response
                .headers
                .retain(|header| header.name != idempotency::REPLAYED);
        }
        Ok(located(response, &id))
    }

    /// Our id is there: our own commit's reply was lost.
    async fn there_already<S: Store>(&self, world: &World<'_, S>) -> Result<Response, Problem> {
        match record::load(world.store, &self.id).await? {
            Some(record) => Ok(located(
                Response::json(202, &self.accepted(record.sequence)),
                &self.id,
            )),
            None => Err(Problem::new(Kind::Internal, "The record of the message is gone.")),
        }
    }
}

fn located(response: Response, id: &str) -> Response {
    response.with("location", ["/api/messages/", id].concat())
}

/// A header of 1 to `most` characters that `allowed` lets pass, or a 400 that names it.
fn plain_header<'r>(
    request: &'r Request,
    name: &str,
    most: usize,
    allowed: impl Fn(u8) -> bool,
) -> Result<Option<&'r str>, Problem> {
    let Some(value) = request.single(name)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value).ok();
    let sound = |text: &&str| (1..=most).contains(&text.len()) && text.bytes().all(&allowed);
    match text.filter(sound) {
        Some(text) => Ok(Some(text)),
        None => Err(Problem::field(
            format!("header:{name}"),
            format!("must be 1 to {most} visible ASCII characters"),
        )),
    }
}
