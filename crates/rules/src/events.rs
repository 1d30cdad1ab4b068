//! The gateway's own events: links, campaigns and keys that come and go, deliveries that stop, limits that refuse. They are
//! messages of the topic of `[events]`, where one is set, and told to whoever listens at `GET /api/events`.
//!
//! An event of a rule is appended by the very commit that makes it true ([`append`]). Where no topic is set, the host tells
//! live from the answer ([`Event::told_by`]). All other events the host finds by looking.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::codes;
use crate::config::Config;
use crate::world::World;
use tollgate_api::calls::Call;
use tollgate_api::ids;
use tollgate_api::time;
use tollgate_store::commit::{Append, Message, literal};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal;)*) => {
        /// What has happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[doc = $doc])* $name,)* }

        impl Kind {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The type of its message.
            pub const fn name(self) -> &'static str { match self { $(Kind::$name => $text,)* } }
        }
    };
}

kinds! {
    /// A link was made.
    LinkCreated = "link.created";
    /// A link was removed by a call; what the sweep removes is not told.
    LinkDeleted = "link.deleted";
    /// A link with `notifyBefore` ends soon.
    LinkExpiring = "link.expiring";
    /// Somebody visited a link with `events`.
    LinkVisited = "link.visited";
    /// A campaign was made.
    CampaignCreated = "campaign.created";
    /// The last unit is taken.
    CampaignSoldOut = "campaign.sold-out";
    /// It is past its end, or was closed.
    CampaignEnded = "campaign.ended";
    /// Nothing is delivered any more until somebody resumes it.
    SubscriptionPaused = "subscription.paused";
    /// Its origin failed so often that it is left alone for a while.
    BreakerOpen = "subscription.breaker-open";
    /// Its origin takes messages again.
    BreakerClosed = "subscription.breaker-closed";
    /// Messages became dead letters.
    MessageDead = "message.dead";
    /// An API key was made.
    KeyCreated = "key.created";
    /// An API key was removed.
    KeyRevoked = "key.revoked";
    /// An API key has a new secret.
    KeyRotated = "key.rotated";
    /// A policy refuses requests; at most once a minute for each.
    LimitRefusing = "limit.refusing";
    /// An alert's condition begins to hold.
    AlertStarted = "alert.started";
    /// It holds no longer.
    AlertEnded = "alert.ended";
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Unique; that of its message.
    pub id: String,
    /// What has happened.
    pub kind: Kind,
    /// Whom it is about, as `link/launch`: the ordering key of its message.
    pub subject: String,
    /// What there is to know: an object of texts and numbers, never a secret.
    pub data: Value,
}

impl Event {
    /// An event under an id made of 16 unpredictable bytes.
    pub fn new(kind: Kind, subject: String, data: Value, fresh: [u8; 16]) -> Self {
        let id = ids::token(&fresh, ids::ID_LENGTH);
        Self {
            id,
            kind,
            subject,
            data,
        }
    }

    /// As a message for the end of a topic.
    pub fn append(&self, topic: &str) -> Append {
        Append {
            topic: topic.to_owned(),
            id: self.id.clone(),
            key: self.subject.clone(),
            kind: self.kind.name().to_owned(),
            content_type: "application/json".to_owned(),
            attributes: Vec::new(),
            payload: literal(self.data.to_string()),
        }
    }

    /// What an answer tells of a call that has changed something; nothing for any other call or answer. `path` is the
    /// request's; `fresh` 16 unpredictable bytes, different on every call.
    pub fn told_by(
        call: Call,
        path: &str,
        status: u16,
        body: &[u8],
        fresh: impl Fn() -> [u8; 16],
    ) -> Vec<Self> {
        let answer = || serde_json::from_slice::<Value>(body).ok();
        let last = || path.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
        let happened = match (call, status) {
            (Call::CreateLink, 201) => answer().map(|link| link_created(&link)),
            (Call::DeleteLink, 204) => last().map(|code| link_deleted(&code)),
            (Call::CreateCampaign, 201) => answer().map(|campaign| campaign_created(&campaign)),
            (Call::CreateKey, 201) => answer().map(|key| key_created(&key)),
            (Call::DeleteKey, 204) => last().map(|id| key_revoked(&id)),
            (Call::RotateKey, 200) => answer().map(|key| key_rotated(&key)),
            (Call::CreateLinks | Call::DeleteLinks, 207) => {
                let answer = answer().unwrap_or_default();
                let results = answer["results"].as_array().into_iter().flatten();
                let happened = results.filter_map(|result| match result["status"].as_u64()? {
                    201 => Some(link_created(&result["link"])),
                    204 => Some(link_deleted(result["code"].as_str()?)),
                    _ => None,
                });
                return happened.map(|happened| Self::of(happened, fresh())).collect();
            }
            _ => None,
        };
        happened
            .into_iter()
            .map(|happened| Self::of(happened, fresh()))
            .collect()
    }

    fn of(Happened(kind, subject, data): Happened, fresh: [u8; 16]) -> Self {
        Self::new(kind, subject, data, fresh)
    }
}

/// What has happened, before it has an id.
pub(crate) struct Happened(Kind, String, Value);

/// The fields of these names; null for one that is not there.
fn picked(from: &Value, names: &[&str]) -> Value {
    let field = |name: &&str| ((*name).to_owned(), from[*name].clone());
    Value::Object(names.iter().map(field).collect())
}

fn named(of: &str, name: &Value) -> String {
    [of, "/", name.as_str().unwrap_or_default()].concat()
}

/// `link`: as an answer shows it.
pub(crate) fn link_created(link: &Value) -> Happened {
    let mut data = picked(link, &["code", "url", "owner"]);
    let host = link["domain"].as_str();
    if host.is_some() {
        data["domain"] = host.into();
    }
    let name = codes::name(host, link["code"].as_str().unwrap_or_default());
    Happened(Kind::LinkCreated, ["link/", &name].concat(), data)
}

/// What is told of a link of this name: its code, and its host if it is on a domain.
fn of_link(name: &str, mut data: Value) -> Value {
    let (host, code) = codes::parts(name);
    data["code"] = code.into();
    if host.is_some() {
        data["domain"] = host.into();
    }
    data
}

/// `name`: see [`codes::name`].
pub(crate) fn link_deleted(name: &str) -> Happened {
    Happened(
        Kind::LinkDeleted,
        ["link/", name].concat(),
        of_link(name, json!({})),
    )
}

/// `url`: where the visitor was led.
pub(crate) fn link_visited(name: &str, id: &str, url: &str) -> Happened {
    Happened(
        Kind::LinkVisited,
        ["link/", name].concat(),
        of_link(name, json!({ "link": id, "target": url })),
    )
}

/// What the commit appends that remembers that this end was told; under an id of its own, whoever tells it.
pub(crate) fn link_expiring(config: &Config, code: &str, (id, owner): (&str, &str), end: u64) -> Vec<Append> {
    let Some(topic) = &config.events.topic else {
        return Vec::new();
    };
    let hash = Sha256::digest(format!("link.expiring/{id}/{end}"));
    let mut fresh = [0; 16];
    fresh.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    let data = of_link(
        code,
        json!({ "link": id, "owner": owner, "endsAt": time::format(end) }),
    );
    let event = Event::new(Kind::LinkExpiring, ["link/", code].concat(), data, fresh);
    vec![event.append(topic)]
}

/// `campaign`: as an answer shows it.
pub(crate) fn campaign_created(campaign: &Value) -> Happened {
    let data = picked(campaign, &["id", "quantity", "startsAt", "endsAt"]);
    Happened(Kind::CampaignCreated, named("campaign", &campaign["id"]), data)
}

/// `key`: as an answer shows it. Its text is left out.
pub(crate) fn key_created(key: &Value) -> Happened {
    let data = picked(key, &["id", "name", "scopes", "expiresAt"]);
    Happened(Kind::KeyCreated, named("key", &key["id"]), data)
}

pub(crate) fn key_revoked(id: &str) -> Happened {
    Happened(Kind::KeyRevoked, ["key/", id].concat(), json!({ "id": id }))
}

/// `key`: as an answer shows it. Its text is left out.
pub(crate) fn key_rotated(key: &Value) -> Happened {
    let data = picked(key, &["id", "previousUntil"]);
    Happened(Kind::KeyRotated, named("key", &key["id"]), data)
}

/// What a commit appends because of it: a message if a topic is set, else nothing.
pub(crate) fn append<S>(world: &World<'_, S>, happened: impl FnOnce() -> Happened) -> Vec<Append> {
    let topic = world.settings.config.events.topic.as_deref();
    let event = topic.map(|topic| {
        let Happened(kind, subject, data) = happened();
        Event::new(kind, subject, data, (world.fresh)()).append(topic)
    });
    event.into_iter().collect()
}

/// Whether the gateway's own events are kept in this topic.
pub fn is_topic(config: &Config, topic: &str) -> bool {
    config.events.topic.as_deref() == Some(topic)
}

/// An event as it is told: `{id, type, time, data}`.
#[derive(Serialize)]
pub struct Told<'a> {
    id: &'a str,
    r#type: &'a str,
    #[serde(with = "time::rfc3339")]
    time: u64,
    data: Value,
}

impl<'a> Told<'a> {
    /// One that happened just now; `now` in Unix milliseconds.
    pub fn now(event: &'a Event, now: u64) -> Self {
        Self {
            id: &event.id,
            r#type: event.kind.name(),
            time: now,
            data: event.data.clone(),
        }
    }

    /// One that is kept. Whoever has the scope may post to the topic too: what is no JSON is told as null.
    pub fn kept(message: &'a Message) -> Self {
        Self {
            id: &message.id,
            r#type: &message.kind,
            time: message.time,
            data: serde_json::from_slice(&message.payload).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::testing::{Gateway, body, ready};
    use tollgate_store::ports::Store as _;

    const FRESH: fn() -> [u8; 16] = || [7; 16];
    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events.md");

    #[test]
    fn a_key_is_told_without_its_text() {
        let body = br#"{"id":"k1","name":"ci","scopes":["links"],"createdAt":"x","expiresAt":null,"key":"tg_k1_secret"}"#;
        let event = Event::told_by(Call::CreateKey, "/api/keys", 201, body, FRESH).remove(0);
        assert_eq!((event.kind, event.subject.as_str()), (Kind::KeyCreated, "key/k1"));
        let written = serde_json::to_string(&Told::now(&event, 1_800_000_000_000)).unwrap();
        assert!(!written.contains("secret"), "{written}");
        assert!(
            written.contains(r#""type":"key.created","time":"2027-01-15T08:00:00Z""#),
            "{written}"
        );
    }

    #[test]
    fn only_what_was_done_is_told() {
        let told = |call, status| Event::told_by(call, "/api/links/launch/", status, b"{}", FRESH);
        let deleted = told(Call::DeleteLink, 204).remove(0);
        assert_eq!(
            (deleted.kind, deleted.data),
            (Kind::LinkDeleted, json!({ "code": "launch" }))
        );
        let results = br#"{"results":[{"status":201,"link":{"code":"a"}},{"status":409,"problem":{}},{"status":204,"code":"b"}]}"#;
        let many = Event::told_by(Call::CreateLinks, "/api/links/bulk", 207, results, FRESH);
        let subjects: Vec<&str> = many.iter().map(|event| event.subject.as_str()).collect();
        assert_eq!(subjects, ["link/a", "link/b"]);
        for (call, status) in [
            (Call::DeleteLink, 404),
            (Call::CreateLink, 200),
            (Call::CreateLink, 409),
            (Call::EditLink, 200),
            (Call::CreateKey, 401),
        ] {
            assert_eq!(told(call, status), [], "{call:?} {status}");
        }
        assert_eq!(
            Event::told_by(Call::CreateLink, "/api/links", 201, b"no JSON", FRESH),
            []
        );
    }

    fn messages(gateway: &Gateway) -> Vec<Message> {
        ready(gateway.store.read("tollgate", 0, 100, 0)).unwrap()
    }

    /// One of everything is made and removed; what is refused is tried too.
    fn happenings(gateway: &Gateway) {
        let link = json!({ "url": "https://example.com/", "code": "launch" });
        let campaign = json!({ "id": "spring", "quantity": 5, "endsAt": "2100-01-01T00:00:00Z" });
        assert_eq!(gateway.admin("POST", "/api/links", &link).status, 201);
        assert_eq!(gateway.admin("POST", "/api/links", &link).status, 409);
        assert_eq!(gateway.admin("POST", "/api/campaigns", &campaign).status, 201);
        assert_eq!(gateway.admin("POST", "/api/campaigns", &campaign).status, 409);
        let made = gateway.admin("POST", "/api/keys", &json!({ "name": "ci", "scopes": ["links"] }));
        let key = body(&made)["id"].as_str().unwrap().to_owned();
        for (path, status) in [("/api/links/launch", 204), ("/api/links/launch", 404)] {
            assert_eq!(gateway.admin("DELETE", path, "").status, status);
        }
        let key = format!("/api/keys/{key}");
        for status in [204, 404] {
            assert_eq!(gateway.admin("DELETE", &key, "").status, status);
        }
    }

    #[test]
    fn what_is_changed_is_in_the_topic_with_the_change_and_what_is_refused_is_not() {
        let settings = Settings::parse("[events]\ntopic = \"tollgate\"\n", "test").unwrap();
        let gateway = Gateway::with_settings(settings);
        happenings(&gateway);
        let found = messages(&gateway);
        let told: Vec<_> = found
            .iter()
            .map(|one| (one.kind.as_str(), one.key.as_str()))
            .collect();
        let key = found[2].key.clone();
        assert_eq!(
            told,
            [
                ("link.created", "link/launch"),
                ("campaign.created", "campaign/spring"),
                ("key.created", &key),
                ("link.deleted", "link/launch"),
                ("key.revoked", &key),
            ]
        );
        let data: Value = serde_json::from_slice(&found[1].payload).unwrap();
        assert_eq!(
            data,
            json!({ "id": "spring", "quantity": 5, "startsAt": null, "endsAt": "2100-01-01T00:00:00Z" })
        );
        assert!(!String::from_utf8_lossy(&found[2].payload).contains("tg_"));
        // Strangers tell nothing.
        let post = gateway.call(
            "POST",
            "/api/topics/tollgate/messages",
            &[("x-client-id", "eve")],
            "{}",
        );
        assert_eq!(post.status, 404);
    }

    #[test]
    fn without_a_topic_nothing_is_kept() {
        let gateway = Gateway::new();
        happenings(&gateway);
        assert!(messages(&gateway).is_empty());
        assert!(ready(gateway.store.topics(None, 10)).unwrap().is_empty());
    }

    #[test]
    fn the_topic_is_nobody_elses() {
        for (text, fault) in [
            ("[events]\ntopic = \"A b\"\n", "events.topic"),
            (
                "[events]\ntopic = \"t\"\n[[forward]]\npath = \"/t\"\ntopic = \"t\"\n",
                "events.topic",
            ),
            ("[events]\nname = \"t\"\n", "name"),
        ] {
            let error = Settings::parse(text, "test").unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn the_document_names_every_event_and_no_other() {
        let document = std::fs::read_to_string(DOCUMENT).unwrap();
        let named: Vec<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(named, known);
    }
}
