//! `POST …/test`: one sample, sent at once. The host sends it; here is who may ask, what is sent where, and what is answered.

use serde::Serialize;
use serde_json::json;

use super::find;
use crate::config::{TOPIC_NAME_RULE, is_topic_name};
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids;
use tollgate_api::problem::Problem;
use tollgate_delivery::relay::Delivered;
use tollgate_delivery::relay::attempt::Answered;
use tollgate_delivery::relay::record::bounded_error;
use tollgate_delivery::subscription::Subscription;
use tollgate_store::commit::Message;
use tollgate_store::ports::Store;

/// The type of samples.
pub const SAMPLE_TYPE: &str = "tollgate.test";

/// What is to be sent, and where to.
#[derive(Debug)]
pub struct Trial {
    /// How the subscription is served.
    pub settings: Subscription,
    /// What CloudEvents call the source: the topic as a URI.
    pub source: String,
    /// Of no sequence, and in no topic.
    pub sample: Message,
}

impl Trial {
    /// What the request asks for. `topic` and `name`: as they stand in its path.
    ///
    /// # Errors
    /// 401 or 403 without a key of the scope `topics`; 404; those of the store.
    pub async fn of<S: Store>(
        world: &World<'_, S>,
        request: &Request,
        topic: &str,
        name: &str,
    ) -> Result<Self, Problem> {
        keys::require(world.store, request, world.now, Scope::Topics).await?;
        for (part, field) in [(topic, "path:topic"), (name, "path:name")] {
            if !is_topic_name(part) {
                return Err(Problem::field(field, TOPIC_NAME_RULE));
            }
        }
        let found = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
        let sample = Message {
            topic: topic.to_owned(),
            id: format!("test-{}", ids::token(&(world.fresh)(), ids::ID_LENGTH)),
            kind: SAMPLE_TYPE.to_owned(),
            content_type: "application/json".to_owned(),
            time: world.now,
            payload: json!({ "test": true, "topic": topic, "subscription": name })
                .to_string()
                .into_bytes(),
            ..Message::default()
        };
        let public_url = &world.settings.public_url;
        Ok(Self {
            settings: found.settings,
            source: format!("{public_url}/api/topics/{topic}"),
            sample,
        })
    }
}

/// How a sample was taken.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Trial"))]
#[serde(rename_all = "camelCase")]
pub struct Outcome<'a> {
    /// The sample's id, which is its `webhook-id`.
    id: &'a str,
    /// Whether a message so answered would count as delivered.
    delivered: bool,
    /// The status of the answer; null where there was none.
    status: Option<u16>,
    /// How long it took.
    milliseconds: u64,
    /// How the answer began: at most 256 bytes.
    answer: &'a str,
    /// Why it was not taken; null if it was.
    error: Option<String>,
}

/// The 200 that tells how a sample was taken.
pub fn answer(sample: &str, delivered: &Delivered, answered: &Answered) -> Response {
    let error = match delivered {
        Delivered::Accepted => None,
        Delivered::Unwanted => Some("the receiver wants no more messages: it would be paused".to_owned()),
        Delivered::Refused { why, .. } => Some(bounded_error(why)),
    };
    let outcome = Outcome {
        id: sample,
        delivered: error.is_none(),
        status: answered.status,
        milliseconds: answered.ms,
        answer: &answered.text,
        error,
    };
    Response::json(200, &outcome)
}
