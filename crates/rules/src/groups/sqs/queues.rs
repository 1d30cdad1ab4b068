//! Queues: `GetQueueUrl`, `ListQueues`, `GetQueueAttributes`. A queue is a consumer group; its name is `<topic>/<group>`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::{needed, within};
use crate::config::is_topic_name;
use crate::groups::lease::DEFAULT_SECONDS;
use crate::groups::{MS_PER_SECOND, leased};
use crate::world::World;
use tollgate_delivery::groups::{self, Defined};
use tollgate_store::extent::extent;
use tollgate_store::ports::Store;

/// What the path of a queue's address begins with.
const PREFIX: &str = "sqs";
/// The most queues of an answer.
const MAX_RESULTS: u64 = 1_000;
/// What names of queues that keep an order end with.
const FIFO: &str = ".fifo";
/// What the longest prefix of a name may be, and a token: a topic, a slash and a group.
const MAX_NAME: usize = 2 * 64 + 1;

/// Which queue is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) topic: String,
    pub(super) group: String,
}

impl Queue {
    /// By its address: of whatever host, since gateways have several names; or by its name alone.
    ///
    /// # Errors
    /// It is missing, or is none.
    pub(super) fn of(url: Option<String>) -> Result<Self, Fault> {
        let url = needed(url, "QueueUrl")?;
        Self::parse(&url).ok_or_else(Fault::no_queue)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let name = match text.split_once("://") {
            None => text,
            Some((_, rest)) => {
                let (_, path) = rest.split_once('/')?;
                // The gateway's own address may have a path.
                let own = path.strip_prefix(PREFIX).filter(|rest| rest.starts_with('/'));
                own.or_else(|| path.rsplit_once("/sqs/").map(|(_, name)| name))?
                    .trim_matches('/')
            }
        };
        let (topic, group) = name.split_once('/')?;
        (is_topic_name(topic) && is_topic_name(group)).then(|| Self {
            topic: topic.to_owned(),
            group: group.to_owned(),
        })
    }

    /// The group, if there is one.
    pub(super) async fn find<S: Store>(&self, world: &World<'_, S>) -> Result<Defined, Fault> {
        let found = groups::find(world.store, &self.topic, &self.group).await?;
        found.ok_or_else(Fault::no_queue)
    }

    /// Its path.
    pub(super) fn path(&self) -> String {
        format!("/{PREFIX}/{}/{}", self.topic, self.group)
    }
}

fn address<S>(world: &World<'_, S>, name: &str) -> String {
    format!("{}/{PREFIX}/{name}", world.settings.public_url)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Named {
    queue_name: Option<String>,
}

/// `GetQueueUrl`.
pub(super) async fn url<S: Store>(world: &World<'_, S>, named: Named) -> Result<Value, Fault> {
    let name = needed(named.queue_name, "QueueName")?;
    let queue = Queue::parse(&name).filter(|_| !name.contains("://"));
    let queue = queue.ok_or_else(Fault::no_queue)?;
    queue.find(world).await?;
    Ok(json!({ "QueueUrl": address(world, &name) }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    queue_name_prefix: Option<String>,
    max_results: Option<u64>,
    next_token: Option<String>,
}

/// `ListQueues`, by name. A token is the name of the last queue seen.
pub(super) async fn list<S: Store>(world: &World<'_, S>, asked: Listed) -> Result<Value, Fault> {
    let most = within(
        asked.max_results.unwrap_or(MAX_RESULTS),
        (1, MAX_RESULTS),
        "MaxResults",
    )?;
    let prefix = asked.queue_name_prefix.unwrap_or_default();
    let token = asked.next_token.unwrap_or_default();
    if prefix.len() > MAX_NAME || token.len() > MAX_NAME {
        return Err(Fault::invalid("No queue has so long a name."));
    }
    let after = (!token.is_empty()).then(|| format!("{}{token}", groups::PREFIX));
    let wanted = u32::try_from(most).unwrap_or(u32::MAX);
    let found = world
        .store
        .scan(&format!("{}{prefix}", groups::PREFIX), after.as_deref(), wanted)
        .await?;
    let names: Vec<&str> = found
        .iter()
        .filter_map(|item| item.key.strip_prefix(groups::PREFIX))
        .collect();
    let addresses: Vec<String> = names.iter().map(|name| address(world, name)).collect();
    let mut answer = json!({ "QueueUrls": addresses });
    // As there: without MaxResults there is one page.
    let is_full = names.len() as u64 == most && asked.max_results.is_some();
    if let (Some(last), Some(answer)) = (names.last().filter(|_| is_full), answer.as_object_mut()) {
        answer.insert("NextToken".to_owned(), json!(last));
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Asked {
    queue_url: Option<String>,
    #[serde(default)]
    attribute_names: Vec<String>,
}

/// Attributes that SQS's queues have, and groups have not.
const NOT_OURS: [&str; 8] = [
    "Policy",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "SqsManagedSseEnabled",
    "RedriveAllowPolicy",
    "DeduplicationScope",
    "FifoThroughputLimit",
    "ContentBasedDeduplication",
];

/// `GetQueueAttributes`.
pub(super) async fn attributes<S: Store>(world: &World<'_, S>, asked: Asked) -> Result<Value, Fault> {
    let queue = Queue::of(asked.queue_url)?;
    let defined = queue.find(world).await?;
    let mut known = known(world, &queue, &defined).await?;
    let all = asked.attribute_names.iter().any(|name| name == "All");
    for name in asked.attribute_names.iter().filter(|name| *name != "All") {
        if !known.contains_key(name) && name != "FifoQueue" && !NOT_OURS.contains(&&**name) {
            return Err(Fault::attribute_name(name));
        }
    }
    known.retain(|name, _| all || asked.attribute_names.contains(name));
    match known.is_empty() {
        true => Ok(json!({})),
        false => Ok(json!({ "Attributes": known })),
    }
}

/// Of a group: all of them are text.
async fn known<S: Store>(
    world: &World<'_, S>,
    queue: &Queue,
    defined: &Defined,
) -> Result<Map<String, Value>, Fault> {
    let topic = extent(world.store, &queue.topic).await?;
    let state = groups::state(world.store, &defined.keys()).await?;
    let state = state.ok_or_else(Fault::no_queue)?;
    let leased = leased(&state, world.now);
    // Given back for a while: in SQS, such messages are delayed.
    let delayed = state.windows.iter();
    let delayed = delayed.filter(|(_, held)| held.lease == 0 && held.due() > world.now);
    let delayed = delayed.count() as u64;
    let lag = groups::lag(world.store, &defined.keys(), &state, topic.as_ref()).await?;
    let visible = lag.saturating_sub(leased + delayed);
    let config = &world.settings.config;
    let retention = config.topic(&queue.topic).retention;
    let arn = format!(
        "arn:aws:sqs:tollgate:000000000000:{}/{}",
        queue.topic, queue.group
    );
    let redrive = json!({
        "deadLetterTargetArn": format!("{arn}/dead-letters"), "maxReceiveCount": defined.stored.max_attempts,
    });
    let mut known = Map::new();
    for (name, value) in [
        ("ApproximateNumberOfMessages", visible),
        ("ApproximateNumberOfMessagesNotVisible", leased),
        ("ApproximateNumberOfMessagesDelayed", delayed),
        ("CreatedTimestamp", defined.stored.created_at / MS_PER_SECOND),
        ("LastModifiedTimestamp", defined.stored.updated_at / MS_PER_SECOND),
        ("VisibilityTimeout", DEFAULT_SECONDS),
        ("MaximumMessageSize", config.server.max_body.0),
        (
            "MessageRetentionPeriod",
            std::time::Duration::from(retention).as_secs(),
        ),
        // As of a queue that says nothing of them.
        ("DelaySeconds", 0),
        ("ReceiveMessageWaitTimeSeconds", 0),
    ] {
        known.insert(name.to_owned(), value.to_string().into());
    }
    known.insert("QueueArn".to_owned(), arn.into());
    known.insert("RedrivePolicy".to_owned(), redrive.to_string().into());
    if defined.stored.ordered && queue.group.ends_with(FIFO) {
        known.insert("FifoQueue".to_owned(), "true".into());
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_known_by_its_address_at_any_host_and_by_its_name() {
        let queue = |topic: &str, group: &str| {
            Some(Queue {
                topic: topic.to_owned(),
                group: group.to_owned(),
            })
        };
        for (text, found) in [
            ("http://localhost:3000/sqs/coupon/shop", queue("coupon", "shop")),
            (
                "https://a.example/gate/sqs/coupon/shop.fifo/",
                queue("coupon", "shop.fifo"),
            ),
            ("http://h/sqs/sqs/sqs", queue("sqs", "sqs")),
            ("coupon/shop", queue("coupon", "shop")),
            ("http://h/coupon/shop", None),
            ("http://h/sqs/coupon", None),
            ("http://h/sqs/coupon/shop/more", None),
            ("http://h/sqsx/coupon/shop", None),
            ("http://h", None),
            ("coupon", None),
            ("/coupon/shop", None),
            ("Coupon/shop", None),
            ("", None),
        ] {
            assert_eq!(Queue::parse(text), found, "{text}");
        }
    }
}
