//! A request becomes a record and a message, together.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::delayed;
use super::record::{self, Record};
use crate::campaigns::DEFAULT_TOPIC;
use crate::config::{Forward, Ordering};
use crate::events;
use crate::idempotency;
use crate::identity::{self, ClientId};
use crate::keys::{self, ApiKey};
use crate::topics;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::time;
use tollgate_api::traceparent::Traceparent;
use tollgate_delivery::attributes::{self, Attributes};
use tollgate_store::commit::{
    Append, Commit, Condition, Mutation, Outcome, Part, Refusal, StoreError, literal, record_key,
};
use tollgate_store::ports::Store;
use tollgate_store::template::{self, Number};

/// The type of the messages.
pub const MESSAGE_TYPE: &str = "http.request";
/// The header that names an ordering key.
const ORDERING_KEY: &str = "x-partition-key";
/// The most characters of an ordering key.
const MAX_ORDERING_KEY: usize = 128;
/// The same for a caller that may name any ordering key: a whole one, with its namespace.
const MAX_TRUSTED_KEY: usize = 384;
/// The longest `Content-Type`.
const MAX_CONTENT_TYPE: usize = 255;
/// How many lost replies are asked for again.
const LOST_REPLIES: usize = 2;
/// Seconds after which a client may try again when the topic is full.
const FULL_RETRY_SECONDS: u64 = 30;

/// `POST /api/topics/{topic}/messages`: 202. Takes an API key or the client header; a key that is sent must be good.
pub(super) async fn to_topic<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
) -> Result<Response, Problem> {
    let key = keys::shown(world.store, world.settings, request, world.now).await?;
    let client = match &key {
        Some(key) => ClientId::of_key(&key.id),
        None if identity::explicit_client(&world.settings.config, request)?.is_some() => {
            ClientId::without_key(&world.settings.config, &world.settings.proxies, request)
        }
        None => {
            let header = &world.settings.config.clients.header;
            return Err(Problem::new(
                Kind::ClientIdRequired,
                format!("Send an API key or the header {header}."),
            ));
        }
    };
    let open = topics::is_configured(&world.settings.config, topic)
        && !announces_claims(world, topic)
        && !events::is_topic(&world.settings.config, topic);
    let trusted = key.is_some_and(|key| key.allows(Scope::Topics));
    if !open && !trusted {
        let mut problem = Problem::not_found();
        problem.detail =
            format!("There is no topic {topic} to post to; a key with the scope topics may begin one.");
        return Err(problem);
    }
    let sender = Sender { client, trusted };
    Post::new(world, request, topic, &sender, &Route::default())?
        .run(world)
        .await
}

/// A message of whoever has a key of the scope `topics`, which may begin a topic: 202. `headers`: those that are kept with it.
pub(crate) async fn by_key<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    key: &ApiKey,
    headers: &[String],
) -> Result<Response, Problem> {
    let sender = Sender {
        client: ClientId::of_key(&key.id),
        trusted: key.allows(Scope::Topics),
    };
    let settings = Route {
        headers,
        ..Route::default()
    };
    Post::new(world, request, topic, &sender, &settings)?
        .run(world)
        .await
}

/// A configured `[[forward]]` route: 202. A browser's form sends no key and no client header: its address will do. An
/// `Authorization` that is no key of ours may be the site's own.
pub(super) async fn routed<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    route: &Forward,
) -> Result<Response, Problem> {
    let client = identity::client(
        world.store,
        &world.settings.config,
        &world.settings.proxies,
        request,
        world.now,
    )
    .await?;
    let trusted = match request.header(ORDERING_KEY) {
        Some(_) => keys::authenticate(world.store, request, world.now)
            .await?
            .is_some_and(|key| key.allows(Scope::Topics)),
        None => false,
    };
    let sender = Sender { client, trusted };
    let settings = Route {
        headers: &route.headers,
        ordering: &route.ordering,
        kind: &route.kind,
        may_come_later: false,
    };
    Post::new(world, request, &route.topic, &sender, &settings)?
        .run(world)
        .await
}

/// The sender of a message, and whether its key has the scope `topics`.
struct Sender {
    client: ClientId,
    trusted: bool,
}

/// The settings of a `[[forward]]` route for its messages.
struct Route<'a> {
    headers: &'a [String],
    ordering: &'a Ordering,
    kind: &'a str,
    /// Whether the sender may say when its message is to come: a header of that name may be the site's own.
    may_come_later: bool,
}

impl Default for Route<'_> {
    fn default() -> Self {
        Self {
            headers: &[],
            ordering: &Ordering::None,
            kind: MESSAGE_TYPE,
            may_come_later: true,
        }
    }
}

/// Whether strangers must keep out, since consumers take what is in the topic for claims.
fn announces_claims<S>(world: &World<'_, S>, topic: &str) -> bool {
    topic == DEFAULT_TOPIC
        && !world
            .settings
            .config
            .forward
            .iter()
            .any(|route| route.topic == topic)
}

/// What became of a request that is a message now.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Accepted")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted<'a> {
    /// Of the message; see `GET /api/messages/{id}`.
    id: &'a str,
    /// Where it is.
    topic: &'a str,
    /// Its place there; null for one that is to come later.
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>", range(min = 1)))]
    sequence: Option<Number>,
    /// When it comes, if that is later.
    #[serde(with = "time::rfc3339_option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    deliver_at: Option<u64>,
}

/// One request on its way into a topic. Its id stays the same however often the store is asked.
struct Post<'a> {
    request: &'a Request,
    kind: &'a str,
    id: String,
    key: String,
    content_type: &'a str,
    attributes: Attributes,
    record: Record,
}

impl<'a> Post<'a> {
    fn new<S>(
        world: &World<'_, S>,
        request: &'a Request,
        topic: &str,
        sender: &Sender,
        route: &Route<'a>,
    ) -> Result<Self, Problem> {
        let most = usize::try_from(world.settings.config.server.max_body.0).unwrap_or(usize::MAX);
        if request.body.len() > most {
            let detail = format!("A message takes at most {most} bytes.");
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        let client = sender.client.as_str();
        // The key, its caller and call are in the id, so that a repetition meets the record of the first. The
        // record holds what must be the same in both. So a key takes no room that its message does not, and
        // goes with it.
        let key = idempotency::key(request)?;
        let attributes = Attributes::of(request, route.headers)?;
        let repeatable =
            key.map(|key| key.idempotence("forward", &[client], request, 202, &[], &attributes.headers));
        let token = match &repeatable {
            Some(wanted) => token_of(&wanted.id),
            None => ids::token(&(world.fresh)(), ids::ID_LENGTH),
        };
        let content_type = plain_header(request, "content-type", MAX_CONTENT_TYPE, |b| {
            (0x20..=0x7e).contains(&b)
        })?
        .unwrap_or("application/octet-stream");
        let deliver_at = match route.may_come_later {
            true => delayed::due(request, world.now)?,
            false => None,
        };
        Ok(Self {
            request,
            kind: route.kind,
            id: record::id(client, &token),
            key: ordering_key(request, sender, route.ordering)?,
            content_type,
            attributes,
            record: Record {
                topic: topic.to_owned(),
                sequence: match deliver_at {
                    None => Number::Sequence(0),
                    Some(_) => record::TO_COME,
                },
                deliver_at,
                posted: deliver_at.map(|_| world.now),
                client: client.to_owned(),
                time: Number::Time,
                fingerprint: repeatable.map(|wanted| URL_SAFE_NO_PAD.encode(wanted.fingerprint)),
                before: None,
            },
        })
    }

    async fn run<S: Store>(&self, world: &World<'_, S>) -> Result<Response, Problem> {
        if self.record.deliver_at.is_some() && !delayed::has_room(world, &self.record.topic).await? {
            return Err(self.full());
        }
        let generation = match self.record.deliver_at {
            Some(_) => delayed::generation(world.store, &self.record.topic).await?,
            None => 0,
        };
        let answer = template::json(&self.accepted(&self.record));
        let mut lost = 0;
        loop {
            match world.store.commit(self.commit(world, generation)).await {
                Ok(Outcome::Committed(done)) => {
                    let response = Response::json_bytes(202, template::fill(&answer, &done));
                    return Ok(self.located(response));
                }
                Ok(Outcome::Refused(Refusal::Condition(IS_NEW))) => {
                    return self.there_already(world, lost > 0).await;
                }
                Ok(_) => return Err(self.full()),
                // The id tells a repetition from a second message: see the condition.
                Err(StoreError::Unknown(_)) if lost < LOST_REPLIES => lost += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn full(&self) -> Problem {
        let detail = format!(
            "The topic {} holds as much as it may that is still to be delivered.",
            self.record.topic
        );
        Problem::new(Kind::BacklogFull, detail).with_retry_after(FULL_RETRY_SECONDS)
    }

    fn accepted<'r>(&'r self, record: &'r Record) -> Accepted<'r> {
        Accepted {
            id: &self.id,
            topic: &record.topic,
            sequence: Some(record.sequence).filter(|sequence| *sequence != record::TO_COME),
            deliver_at: record.deliver_at.filter(|_| record.is_to_come()),
        }
    }

    /// `generation`: of the topic, for a message that is to come later.
    fn commit<S>(&self, world: &World<'_, S>, generation: u64) -> Commit {
        let topic = &self.record.topic;
        let entry = record_key(&self.id);
        let room = Condition::TopicBelow {
            topic: topic.clone(),
            bytes: world.settings.config.topic(topic).room(),
        };
        let set = Mutation::Set {
            key: entry.clone(),
            value: self.stored(),
            expires: Some(record::expiry(
                &world.settings.config,
                topic,
                self.record.deliver_at.unwrap_or(world.now),
            )),
        };
        let mut commit = Commit {
            partition: record::partition(&self.id),
            idempotence: None,
            conditions: vec![Condition::Absent(entry), room],
            mutations: vec![set],
            appends: vec![Append {
                topic: topic.clone(),
                id: self.id.clone(),
                key: self.key.clone(),
                kind: self.kind.to_owned(),
                content_type: self.content_type.to_owned(),
                attributes: attributes::write(Some(&self.attributes), Traceparent::of(self.request)),
                payload: literal(self.request.body.as_slice()),
            }],
        };
        if self.record.is_to_come() {
            let append = commit.appends.remove(0);
            delayed::keep(&mut commit, &self.record, &append, &self.request.body, generation);
        }
        commit
    }

    fn stored(&self) -> Vec<Part> {
        template::json(&self.record)
    }

    /// Our id is there: an earlier request had the same idempotency key, or our own commit's reply was lost.
    async fn there_already<S: Store>(
        &self,
        world: &World<'_, S>,
        reply_was_lost: bool,
    ) -> Result<Response, Problem> {
        let Some(there) = record::load(world.store, &self.id).await? else {
            return Err(Problem::new(Kind::Internal, "The record of the message is gone."));
        };
        if there.fingerprint != self.record.fingerprint {
            return Err(idempotency::mismatch());
        }
        let response = self.located(Response::json(202, &self.accepted(&there)));
        Ok(match reply_was_lost {
            true => response,
            false => response.with(idempotency::REPLAYED, "true"),
        })
    }

    fn located(&self, response: Response) -> Response {
        response.with("location", ["/api/messages/", &self.id].concat())
    }
}

/// The index of the condition that no request had this id before.
const IS_NEW: u32 = 0;

/// The part of a message's id that an idempotency key decides.
fn token_of(idempotence: &str) -> String {
    let mut seed = [0; 16];
    seed.iter_mut()
        .zip(Sha256::digest(idempotence))
        .for_each(|(byte, hashed)| *byte = hashed);
    ids::token(&seed, ids::ID_LENGTH)
}

/// The ordering key of the message; empty for no order.
///
/// A caller's own key is in the caller's namespace (`id:ann order-7`), so that nobody holds up another's messages with one
/// that the origin refuses. No client id holds a space, and neither may a caller's key: no two namespaces meet. A key with
/// the scope `topics` may name any. The value of a route's header is in the header's namespace (`x-order order-7`).
fn ordering_key(request: &Request, sender: &Sender, ordering: &Ordering) -> Result<String, Problem> {
    let client = sender.client.as_str();
    let visible = |b: u8| b.is_ascii_graphic();
    let any = |b: u8| (0x20..=0x7e).contains(&b);
    let named = match sender.trusted {
        true => plain_header(request, ORDERING_KEY, MAX_TRUSTED_KEY, any)?,
        false => plain_header(request, ORDERING_KEY, MAX_ORDERING_KEY, visible)?,
    };
    if let Some(key) = named {
        return Ok(match sender.trusted {
            true => key.to_owned(),
            false => [client, " ", key].concat(),
        });
    }
    Ok(match ordering {
        Ordering::None => String::new(),
        Ordering::Client => client.to_owned(),
        Ordering::Header(name) => match plain_header(request, name, MAX_ORDERING_KEY, any)? {
            Some(value) => [name, " ", value].concat(),
            None => String::new(),
        },
    })
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
