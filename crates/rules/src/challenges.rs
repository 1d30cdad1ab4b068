//! Challenges: what a caller has to solve before a path answers, so that a crowd of machines pays for every request. A proof of
//! work needs nobody else: the gateway makes it, signs it, and checks the solution ([`altcha`]). A provider's token is checked
//! at its `siteverify` URL ([`siteverify`]).
//!
//! One solution counts once: a commit notes it until it expires, by the store's clock, and the same cannot be noted again. An API key is no
//! machine of a stranger's: its requests pass.
//!
//! | key | what |
//! |---|---|
//! | `challenge-key` | what challenges are signed with; made when the first is needed |
//! | `solved/<name>/<id>` | that it was solved, under the challenge or the hash of the token; gone when it has expired |

mod altcha;
#[cfg(feature = "schema")]
pub(crate) mod describe;
mod page;
mod siteverify;
#[cfg(test)]
mod tests;

use hmac::{Hmac, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use altcha::{Altcha, Solved, Wrong};
pub use siteverify::fault;
use siteverify::{Asked, Siteverify};

use crate::config::{ChallengeKind, ChallengeSettings, OnFailure, is_topic_name};
use crate::keys;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::pattern::{Pattern, unreserved};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::units::Span;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::{Outbound, Store};
use tollgate_store::stored;

/// The header that a solution is sent in, lower case.
pub const HEADER: &str = "x-challenge";
/// The headers that a challenge looks at, beside those that are always handed over.
pub(crate) const SEEN: [&str; 2] = [HEADER, "cookie"];
/// The key that challenges are signed with, and its partition.
const KEY: &str = "challenge-key";
/// The partition of what was solved, of a challenge.
const SOLVED: &str = "solved/";
/// How long a solution is remembered after its time is over, milliseconds.
const GRACE_MS: u64 = 60_000;
/// The bounds of `max_number` and `expires`.
const MAX_NUMBER: (u64, u64) = (1_000, 10_000_000);
const EXPIRES: (Span, Span) = (Span::from_secs(10), Span::from_secs(3_600));
/// How often the key is made against others.
const ATTEMPTS: usize = 3;
/// Seconds after which who waits for a provider may try again.
const RETRY_SECONDS: u64 = 5;

/// A challenge, compiled.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub(crate) settings: ChallengeSettings,
    pattern: Pattern,
    /// Who checks its tokens; nobody checks a proof of work but the gateway.
    provider: Option<Siteverify>,
}

impl Challenge {
    /// Checks and compiles one; its methods are checked where those of limits are.
    ///
    /// # Errors
    /// The setting and the first rule that it breaks.
    pub(crate) fn compile(settings: &ChallengeSettings) -> Result<Self, (&'static str, &'static str)> {
        let ensure = |holds: bool, field, rule| if holds { Ok(()) } else { Err((field, rule)) };
        ensure(
            is_topic_name(&settings.name),
            "name",
            crate::config::TOPIC_NAME_RULE,
        )?;
        let pattern = Pattern::parse(&unreserved(&settings.path))
            .map_err(|_| ("path", "must be a route pattern, e.g. /api/campaigns/..."))?;
        let (least, most) = MAX_NUMBER;
        let in_bounds = (least..=most).contains(&settings.max_number);
        ensure(in_bounds, "max_number", "must be from 1000 to 10000000")?;
        let (least, most) = EXPIRES;
        let in_bounds = least <= settings.expires && settings.expires <= most;
        ensure(in_bounds, "expires", "must be from 10s to 1h")?;
        let provider = match settings.kind {
            ChallengeKind::Altcha => {
                siteverify::is_not_set(settings)?;
                None
            }
            ChallengeKind::Siteverify => Some(Siteverify::compile(settings)?),
        };
        Ok(Self {
            settings: settings.clone(),
            pattern,
            provider,
        })
    }

    /// Whether a request has to solve it; `path` as [`unreserved`] writes it.
    pub(crate) fn is_before(&self, method: &str, path: &str) -> bool {
        tollgate_api::pattern::takes_method(&self.settings.methods, method) && self.pattern.matches(path)
    }
}

/// What stands before a path.
pub(crate) enum Gate {
    /// It was solved, or need not be.
    Open,
    /// It ends here.
    Closed(Response),
}

/// Whether a challenge may stand before this path.
pub(crate) fn may_be_held(path: &str) -> bool {
    path != "/api/challenges" && !path.starts_with("/api/challenges/")
}

/// Judges a request before which this challenge stands.
pub(crate) async fn judge<S: Store + Outbound>(
    world: &World<'_, S>,
    request: &Request,
    challenge: &Challenge,
) -> Gate {
    match solved(world, request, challenge).await {
        Ok(None) => Gate::Open,
        Ok(Some(response)) => Gate::Closed(response),
        Err(problem) => Gate::Closed(problem.into_response()),
    }
}

/// `None` if it was solved.
async fn solved<S: Store + Outbound>(
    world: &World<'_, S>,
    request: &Request,
    challenge: &Challenge,
) -> Result<Option<Response>, Problem> {
    if keys::is_sent(request)?
        && keys::authenticate(world.store, request, world.now)
            .await?
            .is_some()
    {
        return Ok(None);
    }
    let sent = match request.single(HEADER)? {
        Some(value) => Some(std::str::from_utf8(value).unwrap_or_default()),
        None => page::cookie_of(request, &challenge.settings.name),
    };
    match &challenge.provider {
        None => work(world, request, challenge, sent).await,
        Some(provider) => token(world, request, challenge, provider, sent).await,
    }
}

/// A proof of work: `None` if it was done.
async fn work<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    challenge: &Challenge,
    sent: Option<&str>,
) -> Result<Option<Response>, Problem> {
    let key = key(world, &challenge.settings.name).await?;
    let detail = match sent.map(|text| altcha::check(&key, text, world.now)) {
        None => "Solve a challenge first, and send its solution.",
        Some(Err(Wrong::Invalid)) => "What was sent is no solution of a challenge of this gateway.",
        Some(Err(Wrong::Expired)) => "The challenge has expired; solve another.",
        Some(Ok(solved)) => match count(world, challenge, &solved).await? {
            None => return Ok(None),
            Some(detail) => detail,
        },
    };
    let altcha = make(world, challenge, &key);
    Ok(Some(match page::is_wanted(request) {
        true => page::of_work(world, request, challenge, &altcha),
        false => required(challenge, "altcha", &altcha, detail),
    }))
}

/// A provider's token: `None` if it is good.
async fn token<S: Store + Outbound>(
    world: &World<'_, S>,
    request: &Request,
    challenge: &Challenge,
    provider: &Siteverify,
    sent: Option<&str>,
) -> Result<Option<Response>, Problem> {
    let detail = match sent {
        None => "Solve the provider's challenge first, and send its token.",
        Some(token) if !siteverify::is_token(token) => "What was sent is no token.",
        Some(token) => {
            let address = world.settings.proxies.resolve(request);
            let asked = world
                .store
                .post(provider.url(), provider.form(token, address))
                .await;
            match asked.and_then(|answer| provider.judge(&answer)) {
                Ok(Some(detail)) => detail,
                Ok(None) => {
                    let expires = world.now.saturating_add(challenge.settings.expires.as_millis());
                    let id = siteverify::id(token);
                    match count(world, challenge, &Solved { id, expires }).await? {
                        None => return Ok(None),
                        Some(detail) => detail,
                    }
                }
                Err(_) if challenge.settings.on_provider_failure == OnFailure::Allow => return Ok(None),
                Err(_) => {
                    let detail = "The provider that checks tokens cannot be asked at the moment.";
                    return Err(Problem::new(Kind::Unavailable, detail).with_retry_after(RETRY_SECONDS));
                }
            }
        }
    };
    let asked = provider.asked();
    Ok(Some(match (page::is_wanted(request), provider.widget()) {
        (true, Some(widget)) => page::of_widget(world, request, challenge, &widget),
        _ => required(challenge, "siteverify", &asked, detail),
    }))
}

/// Counts a solution; why not, if not.
async fn count<S: Store>(
    world: &World<'_, S>,
    challenge: &Challenge,
    solved: &Solved,
) -> Result<Option<&'static str>, Problem> {
    let partition = [SOLVED, &challenge.settings.name].concat();
    let key = [&partition, "/", &*solved.id].concat();
    let commit = Commit {
        partition,
        conditions: vec![
            Condition::Absent(key.clone()),
            // By the store's clock, by which it is forgotten.
            Condition::NowIn {
                start: None,
                end: Some(solved.expires),
            },
        ],
        mutations: vec![Mutation::Set {
            key,
            value: literal(""),
            expires: Some(solved.expires.saturating_add(GRACE_MS)),
        }],
        ..Commit::default()
    };
    Ok(match world.store.commit(commit).await? {
        Outcome::Committed(_) => None,
        Outcome::Refused(Refusal::Condition(1)) => Some("The challenge has expired; solve another."),
        _ => Some("The solution was used before; solve another challenge."),
    })
}

fn make<S>(world: &World<'_, S>, challenge: &Challenge, key: &[u8]) -> Altcha {
    let expires = world.now.saturating_add(challenge.settings.expires.as_millis());
    let fresh = [(world.fresh)(), (world.fresh)()];
    altcha::make(key, challenge.settings.max_number, expires, fresh)
}

/// What is to be solved, under the member of its kind.
fn required(challenge: &Challenge, kind: &'static str, posed: &impl Serialize, detail: &str) -> Response {
    let name = &challenge.settings.name;
    Problem::new(Kind::ChallengeRequired, detail)
        .with_member("challenge", name.as_str())
        .with_member("url", ["/api/challenges/", name].concat())
        .with_member(kind, serde_json::to_value(posed).unwrap_or_default())
        .into_response()
        .with("cache-control", "no-store")
}

/// The key of one challenge: solutions of another are none.
async fn key<S: Store>(world: &World<'_, S>, name: &str) -> Result<[u8; 32], Problem> {
    let secret = secret(world).await?;
    let mut key = [0; 32];
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&secret) {
        mac.update(name.as_bytes());
        key = mac.finalize().into_bytes().into();
    }
    Ok(key)
}

async fn secret<S: Store>(world: &World<'_, S>) -> Result<[u8; 32], StoreError> {
    for _ in 0..ATTEMPTS {
        let found = world.store.get(KEY, &[KEY.to_owned()]).await?;
        if let Some(entry) = found.into_iter().flatten().next() {
            return entry
                .value
                .try_into()
                .map_err(|_| stored::damaged("key of challenges"));
        }
        let commit = Commit {
            partition: KEY.to_owned(),
            conditions: vec![Condition::Absent(KEY.to_owned())],
            mutations: vec![Mutation::Set {
                key: KEY.to_owned(),
                value: literal([(world.fresh)(), (world.fresh)()].as_flattened()),
                expires: None,
            }],
            ..Commit::default()
        };
        world.store.commit(commit).await?;
    }
    Err(StoreError::Unavailable(
        "no key of challenges could be made".to_owned(),
    ))
}

/// What is to be solved, by its kind.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Challenge")
)]
#[serde(untagged)]
pub(crate) enum Posed {
    /// A proof of work.
    Altcha(Altcha),
    /// A provider's widget.
    Siteverify(Asked),
}

/// `GET /api/challenges/{name}`: a new one, open to anyone.
pub(crate) async fn read<S: Store>(world: &World<'_, S>, name: &str) -> Result<Response, Problem> {
    let mut all = world.settings.challenges.iter();
    let challenge = all
        .find(|one| one.settings.name == name)
        .ok_or_else(Problem::not_found)?;
    let posed = match &challenge.provider {
        Some(provider) => Posed::Siteverify(provider.asked()),
        None => Posed::Altcha(make(world, challenge, &key(world, name).await?)),
    };
    Ok(Response::json(200, &posed))
}
