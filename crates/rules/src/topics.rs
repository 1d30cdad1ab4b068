//! Topics as a consumer reads them: `/api/topics`, `/api/topics/{topic}` and its messages. Scope `topics`.

#[cfg(feature = "schema")]
pub(crate) mod describe;
mod remove;

pub use remove::delete;

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

use url::form_urlencoded;

use crate::config::{Config, TOPIC_NAME_RULE, is_topic_name};
use crate::events;
use crate::groups;
use crate::keys;
use crate::messages::MessageView;
use crate::subscriptions;
use crate::world::World;
use tollgate_api::calls::{self, Scope};
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_api::time;
use tollgate_store::commit::{MAX_PAGE, MAX_WAIT_MS, StoreError, Topic};
use tollgate_store::deleted;
use tollgate_store::extent::extent;
use tollgate_store::ports::Store;

/// Messages of a page unless the caller says otherwise.
const DEFAULT_MESSAGES: u64 = 100;
/// Topics of a page unless the caller says otherwise.
const DEFAULT_TOPICS: u64 = 100;
/// The most topics of a page; each costs a look at the state of its subscriptions and groups.
const MAX_TOPICS: u64 = 500;

/// Whether the configuration names the topic: by itself, as the target of a route, or for the gateway's own events.
pub fn is_configured(config: &Config, topic: &str) -> bool {
    let routed = config.forward.iter().any(|route| route.topic == topic);
    routed || config.topics.contains_key(topic) || events::is_topic(config, topic)
}

/// A topic as answers show it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Topic"))]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// Its name.
    name: String,
    /// The oldest sequence still kept; `last + 1` when none is.
    first: u64,
    /// The newest given out; 0 before the first.
    last: u64,
    /// Messages kept.
    depth: u64,
    /// What they take on disk, bytes.
    bytes: u64,
    /// When the oldest was written.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    oldest_time: Option<u64>,
    /// When the newest was written.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    newest_time: Option<u64>,
    /// Each with its lag.
    subscriptions: Vec<subscriptions::Lag>,
    /// Each with its lag.
    groups: Vec<groups::Lag>,
}

impl View {
    async fn of<S: Store>(
        world: &World<'_, S>,
        topic: Topic,
        consumers: &Consumers,
    ) -> Result<Self, Problem> {
        let subscriptions = subscriptions::lags(world.store, &topic, &consumers.subscriptions).await?;
        let groups = groups::lags_of(world.store, &topic, &consumers.groups).await?;
        Ok(Self {
            depth: (topic.last + 1).saturating_sub(topic.first),
            bytes: topic.bytes,
            name: topic.name,
            first: topic.first,
            last: topic.last,
            oldest_time: topic.first_time,
            newest_time: topic.last_time,
            subscriptions,
            groups,
        })
    }
}

/// Who gets messages: of one topic, or of all. Read once for a page of topics, however many there are.
struct Consumers {
    subscriptions: Vec<tollgate_delivery::subscriptions::Defined>,
    groups: Vec<tollgate_delivery::groups::Defined>,
}

impl Consumers {
    fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && self.groups.is_empty()
    }

    async fn of_all<S: Store>(world: &World<'_, S>) -> Result<Self, Problem> {
        let file = world.settings.config.subscriptions();
        let mut subscriptions = tollgate_delivery::subscriptions::all(world.store, file).await?;
        subscriptions.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
        Ok(Self {
            subscriptions,
            groups: tollgate_delivery::groups::all(world.store, None).await?,
        })
    }

    async fn of_topic<S: Store>(world: &World<'_, S>, topic: &str) -> Result<Self, Problem> {
        let file = world.settings.config.subscriptions();
        Ok(Self {
            subscriptions: tollgate_delivery::subscriptions::of_topic(world.store, file, topic).await?,
            groups: tollgate_delivery::groups::all(world.store, Some(topic)).await?,
        })
    }
}

fn never_used(name: &str) -> Topic {
    Topic {
        name: name.to_owned(),
        first: 1,
        last: 0,
        first_time: None,
        last_time: None,
        bytes: 0,
    }
}

/// The names that the configuration gives, in order.
fn configured(config: &Config) -> impl Iterator<Item = &str> {
    let named = config.topics.keys().map(String::as_str);
    let routed = config.forward.iter().map(|route| route.topic.as_str());
    named.chain(routed).chain(config.events.topic.as_deref())
}

/// Some topics.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "TopicPage")
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicPage {
    /// By name.
    topics: Vec<View>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<String>,
}

/// `GET /api/topics?limit=&cursor=`, by name: the topics that ever had a message and those that are configured. A
/// cursor is the name of the last topic seen.
pub async fn list<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Topics).await?;
    let query = Query::of(request, &["limit", "cursor"])?;
    let limit = query.number("limit", 1..=MAX_TOPICS, DEFAULT_TOPICS)? as usize;
    let after = query.text("cursor").unwrap_or("");
    if !after.is_empty() && !is_topic_name(after) {
        return Err(Problem::field("query:cursor", "is not a cursor of this list"));
    }
    let mut named = living(world.store, after, limit + 1).await?;
    // Past the end of a full page it is not known which configured topics have messages: they come with a later page.
    let end = (named.len() > limit)
        .then(|| named.keys().next_back().cloned())
        .flatten();
    for name in configured(&world.settings.config) {
        if name > after && end.as_deref().is_none_or(|end| name < end) {
            named.entry(name.to_owned()).or_insert_with(|| never_used(name));
        }
    }
    let more = named.len() > limit;
    let consumers = Consumers::of_all(world).await?;
    let mut topics = Vec::with_capacity(limit.min(named.len()));
    for (_, topic) in named.into_iter().take(limit) {
        topics.push(View::of(world, topic, &consumers).await?);
    }
    let next_cursor = topics
        .last()
        .filter(|_| more)
        .map(|topic: &View| topic.name.clone());
    Ok(Response::json(200, &TopicPage { topics, next_cursor }))
}

/// The topics after a name that were not deleted: so many at least, if there are.
async fn living<S: Store>(
    store: &S,
    after: &str,
    enough: usize,
) -> Result<BTreeMap<String, Topic>, StoreError> {
    let mut named = BTreeMap::new();
    let mut after = Some(after.to_owned()).filter(|after| !after.is_empty());
    let mut wanted = u32::try_from(enough).unwrap_or(MAX_PAGE);
    loop {
        let found = store.topics(after.as_deref(), wanted).await?;
        let Some(last) = found.last() else {
            return Ok(named);
        };
        after = Some(last.name.clone());
        let is_end = found.len() < wanted as usize;
        let found = deleted::without_deleted(store, found).await?;
        named.extend(found.into_iter().map(|topic| (topic.name.clone(), topic)));
        if is_end || named.len() >= enough {
            return Ok(named);
        }
        wanted = MAX_PAGE;
    }
}

/// How far a topic reaches that had a message and was not deleted since.
async fn found<S: Store>(store: &S, name: &str) -> Result<Option<Topic>, StoreError> {
    match extent(store, name).await? {
        Some(topic) if !deleted::is_deleted(store, &topic).await? => Ok(Some(topic)),
        _ => Ok(None),
    }
}

/// `GET /api/topics/{topic}`: 404 for a topic that never had a message since it was deleted, and is not configured.
pub async fn read<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    name: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Topics).await?;
    let topic = match found(world.store, name).await? {
        Some(topic) => topic,
        None if is_configured(&world.settings.config, name) => never_used(name),
        None => return Err(Problem::not_found()),
    };
    let consumers = Consumers::of_topic(world, name).await?;
    Ok(Response::json(200, &View::of(world, topic, &consumers).await?))
}

/// Some messages of a topic.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "MessagePage")
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessagePage<'a> {
    /// In order.
    messages: Vec<MessageView<'a>>,
    /// What to send as `after` to go on; the same as sent if there was nothing.
    next_after: u64,
}

/// `GET /api/topics/{topic}/messages?after=&limit=&wait=`: messages with a sequence greater than `after` (0), in
/// order. `wait` seconds (0 to 30) for the first. A topic without messages is empty, not unknown: a consumer may wait
/// for its first. `after` may lie before the oldest message kept.
pub async fn messages<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    name: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Topics).await?;
    let query = Query::of(request, &["after", "limit", "wait"])?;
    let after = query.number("after", 0..=i64::MAX as u64, 0)?;
    let limit = query.number("limit", 1..=u64::from(MAX_PAGE), DEFAULT_MESSAGES)?;
    let wait_ms = query.number("wait", 0..=u64::from(MAX_WAIT_MS / 1_000), 0)? * 1_000;
    let limit = u32::try_from(limit).unwrap_or(MAX_PAGE);
    let wait_ms = u32::try_from(wait_ms).unwrap_or(MAX_WAIT_MS);
    let found = world.store.read(name, after, limit, wait_ms).await?;
    let page = MessagePage {
        messages: found.iter().map(MessageView::new).collect(),
        next_after: found.last().map_or(after, |message| message.sequence),
    };
    Ok(Response::json(200, &page))
}

/// The topic of a `GET /api/topics/{topic}/messages?after=` that is answered with a stream, and after which sequence.
///
/// # Errors
/// 401 or 403 without a key of the scope `topics`; 400 for a name or a query that is none; those of the store.
pub async fn tail<S: Store>(store: &S, request: &Request, now: u64) -> Result<(String, u64), Problem> {
    keys::require(store, request, now, Scope::Topics).await?;
    let name = request.path.strip_prefix("/api/topics/");
    let name = name.and_then(|rest| rest.strip_suffix("/messages"));
    let name = name.filter(|name| is_topic_name(name));
    let name = name.ok_or_else(|| Problem::field("path:topic", TOPIC_NAME_RULE))?;
    let query = Query::of(request, &["after"])?;
    let after = query.number("after", 0..=i64::MAX as u64, 0)?;
    Ok((name.to_owned(), after))
}

/// A `GET /api/topics/{topic}/messages` with a `wait`, or a lease with one, for a host that does the waiting itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongPoll {
    /// The topic.
    pub topic: String,
    /// How long; at most [`MAX_WAIT_MS`].
    pub wait: Duration,
    /// The query of the same call without a wait; `None` for none.
    pub immediate: Option<String>,
    /// The body of a lease without a wait. A lease may end without the topic growing, so it is asked for again now and then.
    pub lease: Option<Vec<u8>>,
}

impl LongPoll {
    /// `None` for any other call, and for one that its rule refuses.
    pub fn of(method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Option<Self> {
        if method == "POST" {
            return match calls::is_sqs(path) {
                true => Self::of_sqs(query, body),
                false => Self::of_lease(path, query, body),
            };
        }
        let topic = path.strip_prefix("/api/topics/")?.strip_suffix("/messages")?;
        let query = query.filter(|_| matches!(method, "GET" | "HEAD") && is_topic_name(topic))?;
        let (mut wait, mut rest) = (None, form_urlencoded::Serializer::new(String::new()));
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "wait" if wait.is_some() => return None,
                "wait" => wait = Some(value.parse::<u32>().ok()?),
                _ => drop(rest.append_pair(&name, &value)),
            }
        }
        let wait_ms = wait?.checked_mul(1_000)?;
        (1..=MAX_WAIT_MS).contains(&wait_ms).then(|| Self {
            topic: topic.to_owned(),
            wait: Duration::from_millis(wait_ms.into()),
            immediate: Some(rest.finish()),
            lease: None,
        })
    }

    fn of_lease(path: &str, query: Option<&str>, body: &[u8]) -> Option<Self> {
        let path = path.strip_prefix("/api/topics/")?.strip_suffix("/lease")?;
        let (topic, group) = path.split_once("/groups/")?;
        let is_lease = query.is_none() && is_topic_name(topic) && is_topic_name(group);
        let (wait_ms, lease) = groups::without_wait(body).filter(|_| is_lease)?;
        (1..=u64::from(MAX_WAIT_MS)).contains(&wait_ms).then(|| Self {
            topic: topic.to_owned(),
            wait: Duration::from_millis(wait_ms),
            immediate: None,
            lease: Some(lease),
        })
    }

    /// The body is signed, so it stays as it is.
    fn of_sqs(query: Option<&str>, body: &[u8]) -> Option<Self> {
        let (topic, wait_ms) = groups::sqs::waits(body).filter(|_| query.is_none())?;
        Some(Self {
            topic,
            wait: Duration::from_millis(wait_ms),
            immediate: Some(groups::sqs::AT_ONCE.to_owned()),
            lease: Some(body.to_vec()),
        })
    }

    /// Whether an answer has nothing of what is waited for.
    pub fn is_empty(&self, answer: &[u8]) -> bool {
        match self.lease {
            Some(_) => groups::is_empty_answer(answer),
            None => is_empty_page(answer),
        }
    }
}

/// Whether the body is a page of [`messages`] without any.
fn is_empty_page(body: &[u8]) -> bool {
    body.starts_with(br#"{"messages":[],"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_waits_is_told_from_others() {
        let of = |query| LongPoll::of("GET", "/api/topics/a.b/messages", Some(query), b"");
        let poll = of("after=7&wait=30&limit=2").unwrap();
        assert_eq!((poll.topic.as_str(), poll.wait.as_secs()), ("a.b", 30));
        assert_eq!(poll.immediate.as_deref(), Some("after=7&limit=2"));
        assert_eq!(of("wait=1").unwrap().immediate.as_deref(), Some(""));
        assert_eq!(of("w%61it=1&x=%26").unwrap().immediate.as_deref(), Some("x=%26"));
        for other in [
            "",
            "wait=0",
            "wait=31",
            "wait=-1",
            "wait=1&wait=1",
            "wait=99999999",
            "after=1",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(
            LongPoll::of("POST", "/api/topics/a/messages", Some("wait=1"), b""),
            None
        );
        assert_eq!(
            LongPoll::of("GET", "/api/topics/A/messages", Some("wait=1"), b""),
            None
        );
        assert_eq!(LongPoll::of("GET", "/api/topics/a", Some("wait=1"), b""), None);
    }

    #[test]
    fn a_lease_that_waits_is_told_from_others() {
        let of = |path, body: &str| LongPoll::of("POST", path, None, body.as_bytes());
        let path = "/api/topics/a.b/groups/g/lease";
        let poll = of(path, r#"{"limit":7,"wait":30}"#).unwrap();
        assert_eq!((poll.topic.as_str(), poll.wait.as_secs()), ("a.b", 30));
        assert_eq!(poll.lease.as_deref(), Some(&br#"{"limit":7}"#[..]));
        assert!(poll.is_empty(br#"{"leases":[]}"#) && !poll.is_empty(br#"{"leases":[{}]}"#));
        for other in [
            "",
            "{}",
            r#"{"wait":0}"#,
            r#"{"wait":31}"#,
            r#"{"wait":1,"wait":1}"#,
            r#"{"wait":1,"x":1}"#,
            "[]",
        ] {
            assert_eq!(of(path, other), None, "{other}");
        }
        assert_eq!(of("/api/topics/a/groups/g/ack", r#"{"wait":1}"#), None);
        assert_eq!(of("/api/topics/a/lease", r#"{"wait":1}"#), None);
    }

    #[test]
    fn a_page_without_messages_is_told_from_others() {
        let page = |messages| {
            serde_json::to_vec(&MessagePage {
                messages,
                next_after: 0,
            })
            .unwrap()
        };
        assert!(is_empty_page(&page(Vec::new())));
        let message = tollgate_store::commit::Message {
            topic: "t".into(),
            sequence: 1,
            ..Default::default()
        };
        assert!(!is_empty_page(&page(vec![MessageView::new(&message)])));
    }

    #[test]
    fn names_are_lower_case_words() {
        let long = "x".repeat(64);
        for good in ["a", "0", "coupon", "a.b_c-d", long.as_str()] {
            assert!(is_topic_name(good), "{good}");
        }
        let longer = "x".repeat(65);
        for bad in [
            "",
            "-a",
            ".a",
            "_a",
            "A",
            "a/b",
            "a b",
            "ä",
            "a%",
            longer.as_str(),
        ] {
            assert!(!is_topic_name(bad), "{bad}");
        }
    }
}
