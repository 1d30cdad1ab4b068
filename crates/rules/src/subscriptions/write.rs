//! Making, changing and removing subscriptions.

use sha2::{Digest as _, Sha256};

use super::body::{self, Body};
use super::{answer, find};
use crate::clearing::{self, Remains};
use crate::groups::first_sequence;
use crate::keys::ApiKey;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::secret::SecretText;
use tollgate_api::{ids, json};
use tollgate_delivery::relay::progress::Progress;
use tollgate_delivery::relay::record::Keys;
use tollgate_delivery::subscription::{MECHANISM, SinkKind, Subscription};
use tollgate_delivery::subscriptions::{COUNT, Defined, MAX_STORED, PARTITION, Source, Stored, key};
use tollgate_delivery::webhook::Secret;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::Store;

/// The prefix of the keys that say which subscriptions are to be cleared.
const REMOVED: &str = "subscription-removed/";

/// `PUT`: 201 with a new one, 200 with a changed one. What the body leaves out takes its default, except for the secret:
/// a new subscription is given one, a changed one keeps its own.
pub(super) async fn put<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    caller: &ApiKey,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let asked: Body = json::body(request)?;
    let keeps_headers = asked.headers.is_none();
    let mut settings = body::settings(name, asked)?;
    if let Some(why) = world.settings.unserved(settings.kind) {
        return Err(Problem::field("#/type", why));
    }
    for (setting, target) in settings.leads_to() {
        if world.settings.own.are_target(&target) {
            return Err(Problem::field(
                body::pointer(setting),
                crate::settings::OWN_TARGET,
            ));
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
    body::check(&settings)?;
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
