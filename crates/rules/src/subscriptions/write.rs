//! Making, changing and removing subscriptions.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{answer, find};
use crate::clearing::{self, Remains};
use crate::config::MASK;
use crate::groups::first_sequence;
use crate::keys::ApiKey;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::secret::SecretText;
use tollgate_api::units::Span;
use tollgate_api::{ids, json, time};
use tollgate_delivery::relay::address;
use tollgate_delivery::relay::progress::Progress;
use tollgate_delivery::relay::record::Keys;
use tollgate_delivery::start::StartFrom;
use tollgate_delivery::subscription::{
    Filter, MECHANISM, Mechanism, Payload, Rate, Retry, SinkKind, Subscription,
};
use tollgate_delivery::subscriptions::{COUNT, Defined, MAX_STORED, PARTITION, Source, Stored, key};
use tollgate_delivery::webhook::Secret;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::Store;

/// The prefix of the keys that say which subscriptions are to be cleared.
const REMOVED: &str = "subscription-removed/";

/// A push subscription to be. What is left out takes its default.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewSubscription")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Body {
    /// What it is delivered by.
    #[serde(rename = "type")]
    kind: Option<SinkKind>,
    /// Where messages are sent to, a public address without a fragment: http or https, without a user's name; with `type`
    /// nats or tls, postgres or postgresql with a user and a database, smtp or smtps, redis or rediss, that with the number of a
    /// database if need be; kafka or kafka+ssl, with a topic as its path if need be; with `type` s3, http or https with an access key, and
    /// a bucket as its path; with `type` key-value, `key-value://` and the label of a store.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Uri"))]
    url: String,
    /// Of the user of the URL, or of all; not with `http`. Shown in no answer. A changed subscription that is given none keeps its own
    /// while it leads to the same `url`, executes the same `statement` and logs in by the same `mechanism`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", length(min = 1, max = 1024))
    )]
    password: Option<SecretText>,
    /// `smtp`: the server that is tried where the first cannot be reached or defers.
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Uri>"))]
    fallback_url: Option<String>,
    /// Of the user of that URL; as `password`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", length(min = 1, max = 1024))
    )]
    fallback_password: Option<SecretText>,
    /// `smtp`, needed: the sender, `shop@example.com` or `Shop <shop@example.com>`.
    #[cfg_attr(feature = "schema", schemars(length(min = 3, max = 320)))]
    from: Option<String>,
    /// `smtp`, needed: the template of one recipient, e.g. `{{ data.email }}`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 65_536)))]
    to: Option<String>,
    /// `smtp`, needed: the template of the text.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 65_536)))]
    text: Option<String>,
    /// `smtp`: the template of the text as HTML, in which the message's values are escaped.
    #[cfg_attr(feature = "schema", schemars(length(max = 65_536)))]
    html: Option<String>,
    /// `nats`: the subject that messages go to, which a stream of JetStream takes; the topic's name unless it is given. `smtp`, needed: the
    /// template of the subject.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 65_536)))]
    subject: Option<String>,
    /// `redis`: the stream that entries are added to; the topic's name unless it is given.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", regex(pattern = r"^[!-~]{1,256}$"))
    )]
    stream: Option<String>,
    /// `redis`: about how many entries the stream keeps; without it, all.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000)))]
    max_length: Option<u64>,
    /// `postgres`, needed: what is executed for each message; a batch is one transaction.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16_384)))]
    statement: Option<String>,
    /// `postgres`, needed: the fields of a message that `$1`, `$2` … are bound to, e.g. `id`, `data.email`; `message` is all of it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    parameters: Option<Vec<String>>,
    /// `kafka`: how the user of the URL logs in, `SCRAM-SHA-512` unless it is given. `PLAIN` sends the password as it is.
    mechanism: Option<Mechanism>,
    /// `s3`: the region that requests are signed for, `us-east-1` unless it is given.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", regex(pattern = r"^[a-z0-9-]{1,64}$"))
    )]
    region: Option<String>,
    /// `key-value`: the template of keys, `{topic}/{id}` unless it is given: text, and fields of a message in braces, e.g.
    /// `claims/{data.campaign}/{data.user}`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", regex(pattern = r"^[!-~]{1,256}$"))
    )]
    key: Option<String>,
    /// `redis`: for how many seconds a message that was added is known, so that it is not added again: 600 unless it is given. 0: not
    /// at all.
    #[cfg_attr(feature = "schema", schemars(range(max = 604_800)))]
    deduplicate: Option<u32>,
    /// Signs deliveries (Standard Webhooks): `whsec_` and the base64 of 24 to 64 bytes. A new subscription that gives none is given one; a changed one keeps its own.
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<String>",
            regex(pattern = r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$")
        )
    )]
    secret: Option<SecretText>,
    /// The secret before it, which signs as well until `previousSecretUntil`. A changed subscription keeps its own.
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<String>",
            regex(pattern = r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$")
        )
    )]
    previous_secret: Option<SecretText>,
    /// Until when both sign; in the past, the previous one is forgotten. A changed subscription keeps its own.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    previous_secret_until: Option<u64>,
    /// Fixed headers of every delivery, at most 16; names in lower case. Values count as secrets: they are shown in no answer. A changed
    /// subscription that is given none keeps its own; `{}` removes them.
    #[cfg_attr(feature = "schema", schemars(with = "Option<BTreeMap<String, String>>"))]
    headers: Option<BTreeMap<String, SecretText>>,
    /// Where a new subscription begins: `oldest` (the default), `newest`, a sequence, or a time. One that is there goes on where it is.
    start_from: Option<StartFrom>,
    /// Which messages are delivered; without one, all are.
    filter: Option<Filter>,
    /// What of a message is sent: `full` (the default), or a `reference`: its id, its type, and where to fetch it.
    payload: Option<Payload>,
    /// The most deliveries begun per second; may be below one.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.01, max = 100_000.0)))]
    rate_per_second: Option<f64>,
    /// The most deliveries under way at once.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 256)))]
    concurrency: Option<u32>,
    /// Seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60)))]
    timeout: Option<u32>,
    /// Seconds of nothing but failure, at least ten times in a row, after which it is paused: 432000 (five days) unless it is given. 0: never.
    #[cfg_attr(feature = "schema", schemars(range(max = 31_536_000)))]
    pause_after: Option<u32>,
    /// Whether messages of one ordering key go in order.
    ordered: Option<bool>,
    /// Whether it may lead into a private network; takes the scope `admin`.
    allow_private_addresses: Option<bool>,
    /// When a message that was refused is sent again.
    retry: Option<RetryBody>,
    /// The most messages of one request, which is a JSON array then. Without it, each has a request of its own.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    batch: Option<u32>,
    /// Seconds that they wait for more, at the longest: 0.2 unless it is given.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.01, max = 60.0)))]
    batch_interval: Option<f64>,
}

/// When a message that was refused is sent again: exponential waits, or a schedule.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewRetryPolicy")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RetryBody {
    /// The first wait.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 2_592_000)))]
    initial_seconds: Option<u32>,
    /// How much longer each wait is than the one before.
    #[cfg_attr(feature = "schema", schemars(range(min = 1.0, max = 10.0)))]
    factor: Option<f64>,
    /// The longest wait; not below the first.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 2_592_000)))]
    cap_seconds: Option<u32>,
    /// Attempts before a message is a dead letter.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    max_attempts: Option<u32>,
    /// Every wait; stands alone.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 100), inner(range(min = 1, max = 2_592_000)))
    )]
    schedule_seconds: Option<Vec<u32>>,
    /// Statuses after which a message is a dead letter at once; not 410, which pauses.
    #[serde(rename = "final")]
    #[cfg_attr(feature = "schema", schemars(inner(range(min = 400, max = 599))))]
    finals: Option<Vec<u16>>,
}

/// `PUT`: 201 with a new one, 200 with a changed one. What the body leaves out takes its default, except for the secret:
/// a new subscription is given one, a changed one keeps its own.
pub(super) async fn put<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    caller: &ApiKey,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let body: Body = json::body(request)?;
    let keeps_headers = body.headers.is_none();
    let mut settings = settings(name, body)?;
    if let Some(why) = world.settings.unserved(settings.kind) {
        return Err(Problem::field("#/type", why));
    }
    for (setting, target) in settings.leads_to() {
        if world.settings.own.are_target(&target) {
            return Err(Problem::field(pointer(setting), crate::settings::OWN_TARGET));
        }
    }
    if settings.allow_private_addresses && !caller.allows(Scope::Admin) {
        let detail = "Only a key with the scope admin may set allowPrivateAddresses.";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let earlier = find(world, topic, name).await?;
    let (version, id, by_id, created_at) = match earlier {
        Some(Defined {
            source: Source::File, ..
        }) => return Err(read_only()),
        Some(Defined {
            source:
                Source::Api {
                    id,
                    by_id,
                    created_at,
                    version,
                    ..
                },
            settings: old,
            ..
        }) => {
            keep(&mut settings, old, keeps_headers);
            (Some(version), id, by_id, created_at)
        }
        None => (
            None,
            ids::token(&(world.fresh)(), ids::ID_LENGTH),
            true,
            world.now,
        ),
    };
    if settings
        .previous_secret_until
        .is_some_and(|until| until <= world.now)
    {
        (settings.previous_secret, settings.previous_secret_until) = (None, None);
    }
    // Once more, with what was kept: the two of a rotation go together.
    check(&settings)?;
    // Also where it is not needed: what is not valid is not valid.
    let first = first_sequence(world, topic, settings.start_from).await?;
    let is_signed = settings.kind == SinkKind::Http;
    let made_up = (is_signed && settings.secret.is_none()).then(|| new_secret(world));
    settings.secret = settings.secret.or_else(|| made_up.clone().map(SecretText::from));
    if version.is_none() {
        clear_removed(world.store).await?;
        begin(world.store, &Keys::of_id(topic, &id), first).await?;
    }
    let is_new = version.is_none();
    let stored = Stored {
        id,
        by_id,
        settings,
        created_at,
        updated_at: world.now,
    };
    let status = if is_new { 201 } else { 200 };
    let written = store(world, topic, name, &stored, version).await;
    if is_new
        && written
            .as_ref()
            .is_err_and(|problem| problem.kind == Kind::Conflict)
    {
        let keys = Keys::of_id(topic, &stored.id);
        let forgotten = vec![Mutation::Delete { key: keys.progress() }];
        super::change(world, &keys, forgotten).await?;
    }
    let version = written?;
    let defined = Defined::of_stored(topic.to_owned(), stored, version);
    answer(world, &defined, status, made_up).await
}

/// What a changed subscription keeps of what no answer shows.
fn keep(settings: &mut Subscription, old: Subscription, keeps_headers: bool) {
    if settings.kind != old.kind {
        return;
    }
    // Else whoever may change it could have the password sent to a server of their own or in clear, or a database read with it.
    let [mechanism, before] = [settings, &old].map(|one| one.mechanism.unwrap_or(MECHANISM));
    if settings.url == old.url && settings.statement == old.statement && mechanism == before {
        settings.password = settings.password.take().or(old.password);
    }
    if settings.fallback_url == old.fallback_url {
        settings.fallback_password = settings.fallback_password.take().or(old.fallback_password);
    }
    settings.secret = settings.secret.take().or(old.secret);
    if keeps_headers {
        settings.headers = old.headers;
    }
    settings.previous_secret = settings.previous_secret.take().or(old.previous_secret);
    settings.previous_secret_until = settings.previous_secret_until.or(old.previous_secret_until);
}

/// Where a new subscription begins, written before there is one: whoever finds the subscription finds this. The keys are those of an
/// id that nothing else has; a crash before there is a subscription leaves one small entry.
async fn begin<S: Store>(store: &S, keys: &Keys, first: u64) -> Result<(), StoreError> {
    if first <= 1 {
        return Ok(());
    }
    let progress = Progress::up_to(first - 1);
    let commit = Commit {
        partition: keys.partition().to_owned(),
        mutations: vec![Mutation::Set {
            key: keys.progress(),
            value: literal(serde_json::to_vec(&progress).expect("a struct of plain fields serialises")),
            expires: None,
        }],
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}

/// The version of the entry that was written.
async fn store<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    name: &str,
    stored: &Stored,
    version: Option<u64>,
) -> Result<u64, Problem> {
    let key = key(topic, name);
    let value = serde_json::to_vec(stored).expect("a struct of plain fields serialises");
    let mut mutations = vec![Mutation::Set {
        key: key.clone(),
        value: literal(value),
        expires: None,
    }];
    let condition = match version {
        Some(version) => Condition::Version { key, version },
        None => {
            let (min, max) = (None, Some(MAX_STORED));
            mutations.push(Mutation::Add {
                key: COUNT.to_owned(),
                delta: 1,
                min,
                max,
            });
            Condition::Absent(key)
        }
    };
    let commit = Commit {
        partition: PARTITION.to_owned(),
        conditions: vec![condition],
        mutations,
        ..Commit::default()
    };
    match world.store.commit(commit).await? {
        Outcome::Committed(done) => Ok(done.version),
        Outcome::Refused(Refusal::Mutation(_)) => Err(Problem::new(
            Kind::Conflict,
            format!("There are {MAX_STORED} subscriptions, which is as many as there may be."),
        )),
        Outcome::Refused(Refusal::Condition(_)) | Outcome::Replayed(_) | Outcome::Conflict => Err(changed()),
    }
}

/// `DELETE`: 204. What was not delivered is not delivered any more; dead letters go with it.
pub(crate) async fn delete<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let defined = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
    let Source::Api { version, .. } = defined.source else {
        return Err(read_only());
    };
    let (key, keys) = (key(topic, name), defined.keys());
    let commit = Commit {
        partition: PARTITION.to_owned(),
        conditions: vec![Condition::Version {
            key: key.clone(),
            version,
        }],
        mutations: vec![
            Mutation::Delete { key },
            Mutation::Add {
                key: COUNT.to_owned(),
                delta: -1,
                min: None,
                max: None,
            },
            // What is left to be cleared, whatever happens from here on.
            Mutation::Set {
                key: format!("{REMOVED}{}", keys.partition()),
                value: literal(Vec::new()),
                expires: None,
            },
        ],
        ..Commit::default()
    };
    let Outcome::Committed(_) = world.store.commit(commit).await? else {
        return Err(changed());
    };
    // It is removed. What cannot be cleared now is cleared when another one is made or removed.
    let _ = clear_removed(world.store).await;
    Ok(Response::empty(204))
}

/// Clears what the relay has stored of subscriptions that were removed, the progress first: without it the relay writes nothing
/// more.
async fn clear_removed<S: Store>(store: &S) -> Result<(), StoreError> {
    clearing::clear_removed(store, REMOVED, |item| {
        let partition = item.key.strip_prefix(REMOVED).unwrap_or_default();
        Remains {
            noted_in: PARTITION.to_owned(),
            prefix: format!("{partition}/"),
            first: Some(format!("{partition}/progress")),
            partition: partition.to_owned(),
        }
    })
    .await
}

/// The settings that a body describes, checked by the same rules as those of the file.
fn settings(name: &str, body: Body) -> Result<Subscription, Problem> {
    let mut settings = Subscription::new(name, body.url);
    settings.kind = body.kind.unwrap_or_default();
    settings.password = body.password;
    settings.fallback_url = body.fallback_url;
    settings.fallback_password = body.fallback_password;
    settings.from = body.from;
    settings.to = body.to;
    settings.text = body.text;
    settings.html = body.html;
    settings.subject = body.subject;
    settings.stream = body.stream;
    settings.max_length = body.max_length;
    settings.statement = body.statement;
    settings.parameters = body.parameters;
    settings.mechanism = body.mechanism;
    settings.region = body.region;
    settings.key = body.key;
    settings.deduplicate = body.deduplicate.map(seconds);
    settings.secret = body.secret;
    settings.previous_secret = body.previous_secret;
    settings.previous_secret_until = body.previous_secret_until;
    settings.headers = body.headers.unwrap_or_default();
    if let Some((name, _)) = settings.headers.iter().find(|(_, value)| value.expose() == MASK) {
        let detail = "is how values are hidden: give the value, or leave headers out to keep them";
        return Err(Problem::field(format!("#/headers/{name}"), detail));
    }
    for (field, password) in [
        ("password", &settings.password),
        ("fallbackPassword", &settings.fallback_password),
    ] {
        if password
            .as_ref()
            .is_some_and(|password| password.expose() == MASK)
        {
            let detail = "is how passwords are hidden: give the password, or leave it out to keep it";
            return Err(Problem::field(format!("#/{field}"), detail));
        }
    }
    settings.start_from = body.start_from.unwrap_or_default();
    settings.filter = body.filter;
    settings.payload = body.payload.unwrap_or_default();
    settings.rate_per_second = body.rate_per_second.map_or(settings.rate_per_second, Rate);
    settings.concurrency = body.concurrency.unwrap_or(settings.concurrency);
    settings.batch = body.batch;
    settings.batch_interval = body.batch_interval.map(|seconds| {
        // Out of bounds as it is, it is refused below.
        Span::from_millis((seconds * 1_000.0).round() as u64)
    });
    settings.timeout = body.timeout.map_or(settings.timeout, seconds);
    settings.pause_after = body.pause_after.map_or(settings.pause_after, seconds);
    settings.ordered = body.ordered.unwrap_or(settings.ordered);
    settings.allow_private_addresses = body.allow_private_addresses.unwrap_or(false);
    settings.retry = retry(body.retry.unwrap_or_default())?;
    // Half of a rotation may be what is kept.
    let mut alone = settings.clone();
    if alone.previous_secret.is_none() || alone.previous_secret_until.is_none() {
        (alone.previous_secret, alone.previous_secret_until) = (None, None);
    }
    check(&alone)?;
    let private = |target: &str| !settings.allow_private_addresses && address::is_plainly_private(target);
    let found = settings.leads_to().find(|(_, target)| private(target));
    if let Some(setting) = found.map(|(setting, _)| setting) {
        let detail = "is not a public address; only allowPrivateAddresses (scope admin) lets it be one";
        return Err(Problem::field(pointer(setting), detail));
    }
    Ok(settings)
}

fn check(settings: &Subscription) -> Result<(), Problem> {
    crate::settings::check_subscription(settings)
        .map_err(|(setting, detail)| Problem::field(pointer(&setting), detail))
}

fn seconds(seconds: u32) -> Span {
    Span::from_secs(u64::from(seconds))
}

fn retry(body: RetryBody) -> Result<Retry, Problem> {
    let RetryBody {
        initial_seconds,
        factor,
        cap_seconds,
        max_attempts,
        schedule_seconds,
        finals,
    } = body;
    let growing = initial_seconds.is_some() || factor.is_some() || cap_seconds.is_some();
    if schedule_seconds.is_some() && (growing || max_attempts.is_some()) {
        let detail = "stands alone: its length plus one is the number of attempts";
        return Err(Problem::field("#/retry/scheduleSeconds", detail));
    }
    let default = Retry::default();
    let initial = initial_seconds.map_or(default.initial, seconds);
    Ok(Retry {
        initial,
        factor: factor.unwrap_or(default.factor),
        // A long first wait lengthens the default cap.
        cap: cap_seconds.map_or(default.cap.max(initial), seconds),
        max_attempts: max_attempts.unwrap_or(default.max_attempts),
        schedule: schedule_seconds.map(|waits| waits.into_iter().map(seconds).collect()),
        finals: finals.unwrap_or_default(),
    })
}

/// The field of the body that a setting's path comes from.
fn pointer(setting: &str) -> String {
    match setting {
        "rate_per_second" => "#/ratePerSecond".to_owned(),
        "batch_interval" => "#/batchInterval".to_owned(),
        "max_length" => "#/maxLength".to_owned(),
        "fallback_url" => "#/fallbackUrl".to_owned(),
        "fallback_password" => "#/fallbackPassword".to_owned(),
        "pause_after" => "#/pauseAfter".to_owned(),
        "previous_secret" => "#/previousSecret".to_owned(),
        "previous_secret_until" => "#/previousSecretUntil".to_owned(),
        "retry.initial" => "#/retry/initialSeconds".to_owned(),
        "retry.cap" => "#/retry/capSeconds".to_owned(),
        "retry.max_attempts" => "#/retry/maxAttempts".to_owned(),
        _ => {
            let index = |rest: &str| rest.replace('[', "/").replace(']', "");
            match setting.strip_prefix("retry.schedule") {
                Some(rest) => format!("#/retry/scheduleSeconds{}", index(rest)),
                None => format!("#/{}", index(&setting.replace('.', "/"))),
            }
        }
    }
}

fn new_secret<S>(world: &World<'_, S>) -> String {
    // Hashed, so that what is shown says nothing about the generator.
    let mut hash = Sha256::new();
    hash.update((world.fresh)());
    hash.update((world.fresh)());
    Secret::generate(hash.finalize().into())
}

fn read_only() -> Problem {
    let detail = "This subscription is defined in tollgate.toml; change it there. Over HTTP it can be paused, resumed and \
                  redriven.";
    Problem::new(Kind::Conflict, detail)
}

fn changed() -> Problem {
    Problem::new(
        Kind::Conflict,
        "The subscription was changed at the same time; read it and try again.",
    )
}
