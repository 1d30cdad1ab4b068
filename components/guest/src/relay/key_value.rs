//! Delivery to a key-value store of Spin's: a `set` for each message. To set the same again changes nothing, so an answer that was lost does
//! no harm. Nothing but `get` and `set` is used: Spin 4.1's compare-and-set admits everybody, and its `increment` breaks the store of
//! the whole process where a value is not a counter.

use std::borrow::Cow;
use std::time::Duration;

use spin_sdk::key_value::{Error, Store};
use tollgate_delivery::relay::attempt::Answered;
use tollgate_delivery::relay::{Blame, Delivered};
use tollgate_delivery::subscription::Payload;
use tollgate_delivery::subscription::key_value::{Entry, KEY, Template, is_later, label};
use tollgate_delivery::subscriptions::Defined;
use tollgate_delivery::webhook::{judge, reference};
use tollgate_store::commit::Message;

use super::{post, uptime_ms};
use crate::spin::{notice, within};

/// The most that is told of why a store failed, bytes.
const MAX_WHY: usize = 200;

/// Delivers one message.
pub(super) async fn one(public_url: &str, to: &Defined, message: &Message) -> (Delivered, Answered) {
    let timeout = Duration::from_millis(to.settings.timeout.as_millis());
    let (began, mut answered) = (uptime_ms(), Answered::default());
    let delivered = match within(timeout, put(public_url, to, message)).await {
        Some(delivered) => delivered,
        None => judge::disconnected("the key-value store did not answer in time".to_owned()),
    };
    answered.ms = uptime_ms().saturating_sub(began);
    (delivered, answered)
}

async fn put(public_url: &str, to: &Defined, message: &Message) -> Delivered {
    let settings = &to.settings;
    // Both were checked when the subscription was made.
    let (label, template) = match (
        label(&settings.url),
        Template::parse(settings.key.as_deref().unwrap_or(KEY)),
    ) {
        (Ok(label), Ok(template)) => (label, template),
        (Err(why), _) => return judge::disconnected(format!("url: {why}")),
        (_, Err(why)) => return judge::disconnected(format!("key: {why}")),
    };
    let shown = match settings.payload {
        Payload::Full => Cow::Borrowed(message),
        Payload::Reference => Cow::Owned(reference(message, &post::source(public_url, to))),
    };
    let entry = match template.entry(message, &shown) {
        Ok(entry) => entry,
        // The same message makes the same entry.
        Err(why) => {
            return Delivered::Refused {
                why,
                blame: Blame::Message,
                is_final: true,
                retry_after_ms: None,
            };
        }
    };
    match store(label, &template, &entry, message).await {
        Ok(()) => Delivered::Accepted,
        Err(error) => judge::disconnected(describe(label, error).await),
    }
}

async fn store(label: &str, template: &Template, entry: &Entry, message: &Message) -> Result<(), Error> {
    let store = Store::open(label).await?;
    // The last message of a key stays the last one, also where one before it is delivered again.
    if template.is_shared() {
        let there = store.get(&entry.key).await?;
        if there.is_some_and(|there| is_later(&there, message)) {
            return Ok(());
        }
    }
    store.set(&entry.key, &entry.value).await
}

/// What a person can do about it. What the store says may name its server, or hold a password: that is for the log.
async fn describe(label: &str, error: Error) -> String {
    match error {
        Error::AccessDenied => format!(
            "Spin does not give the store \"{label}\" to the components: name it in key_value_stores in spin.toml"
        ),
        Error::NoSuchStore => {
            format!("Spin knows no key-value store \"{label}\": its runtime configuration has to have it")
        }
        Error::StoreTableFull => "Spin has too many key-value stores open".to_owned(),
        Error::Other(why) => {
            let line = why.lines().next().unwrap_or_default();
            let line = line.get(..line.floor_char_boundary(MAX_WHY)).unwrap_or_default();
            notice::tell(&format!("the key-value store \"{label}\" failed: {line}")).await;
            "the key-value store failed; the component's log says why".to_owned()
        }
    }
}
