//! `POST /api/links`.

mod body;

pub(super) use body::Body;
use body::{Draft, IfExists};

use super::access::{self, Creator};
use super::again::{Created, Repeat, Token};
use super::index::{self, Reserve};
use super::manage::shown;
use super::record::{Link, MAX_RACES, link_key};
use super::rename::taken;
use super::{domain, fields, strangers, sweep};
use crate::codes;
use crate::events;
use crate::idempotency;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;

pub(super) async fn post<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let creator = access::creator(world, request).await?;
    let key = idempotency::key(request)?;
    let response = match make(world, request, &creator, key, json::body(request)?).await? {
        Made::New { link, manage_token } => {
            let body = Created {
                link: link.view(world.settings),
                manage_token: manage_token.as_deref(),
            };
            let created = Response::json(201, &body).with("location", domain::location(&link.code));
            created.with("etag", link.etag())
        }
        Made::Found(link) => shown(world, &link),
        Made::Before(response) => return Ok(response),
    };
    Ok(response)
}

/// The link that a caller asked for.
pub(super) enum Made {
    /// It is new. An anonymous creator gets the token.
    New {
        link: Link,
        manage_token: Option<String>,
    },
    /// The caller had it.
    Found(Link),
    /// The same request with the same `Idempotency-Key` made it: its answer.
    Before(Response),
}

/// Makes the link that `body` asks for, or finds it. With `key`, what it answers is remembered.
pub(super) async fn make<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    creator: &Creator,
    key: Option<idempotency::Key>,
    body: Body,
) -> Result<Made, Problem> {
    let tells = (body.notify_before.is_some(), body.events == Some(true));
    fields::may_tell(&world.settings.config, creator.anonymous, tells)?;
    let mut draft = body.check(world)?;
    if creator.anonymous && draft.domain.is_some() {
        return Err(Problem::field("#/domain", "takes an API key"));
    }
    draft.record.owner.clone_from(&creator.owner);
    let token = creator.anonymous.then(|| Token::new(world, key.as_ref()));
    let manage_token = token.as_ref().map(|token| token.text.clone());
    let secret = draft.given.password;
    draft.repeat = key.map(|key| Repeat { key, token, secret });
    draft.record.manage = manage_token.as_deref().map(access::digest);
    if creator.anonymous {
        strangers::limit_idleness(&world.settings.config, &mut draft.record)?;
    }
    draft.record.due = sweep::due(&world.settings.config, &draft.record, None);
    if let Some(made) = made_before(world, request, &draft).await? {
        return Ok(made);
    }
    let step = create(world, request, &mut draft).await;
    if draft.charged && !matches!(step, Ok(Step::Created(_)) | Err(Failed::Unknown(_))) {
        strangers::refund(world, request, &draft.record).await;
    }
    if let Err(Failed::Refused(problem)) = &step
        && problem.kind == Kind::Conflict
        && let Some(made) = made_before(world, request, &draft).await?
    {
        // The code is taken by this very request, which was sent twice at once.
        return Ok(made);
    }
    match step? {
        Step::Created(link) => Ok(Made::New { link, manage_token }),
        Step::Found(link) => Ok(Made::Found(link)),
        Step::Before(answer) => match &draft.repeat {
            Some(repeat) => Ok(Made::Before(repeat.replay(world, &answer)?)),
            None => Err(Problem::new(Kind::Internal, "The answer belongs to no key.")),
        },
        Step::Again => {
            let problem = Problem::new(Kind::Unavailable, "No free code was found; try again.");
            Err(problem.with_retry_after(1))
        }
    }
}

/// The answer of before, if the same request was sent before.
async fn made_before<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    draft: &Draft,
) -> Result<Option<Made>, Problem> {
    let Some(repeat) = &draft.repeat else {
        return Ok(None);
    };
    let response = repeat.earlier(world, request, &draft.record.owner).await?;
    Ok(response.map(Made::Before))
}

/// Why a try to create a link failed.
enum Failed {
    Refused(Problem),
    /// The outcome is not known: the link may be there, or not.
    Unknown(Problem),
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unknown(_) => Self::Unknown(error.into()),
            _ => Self::Refused(error.into()),
        }
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(problem) | Failed::Unknown(problem) => problem,
        }
    }
}

/// The result of one try.
enum Step {
    Created(Link),
    /// The caller has such a link.
    Found(Link),
    /// The same request created it; its answer as it was stored.
    Before(Vec<u8>),
    /// The code was taken, or somebody else was faster.
    Again,
}

async fn create<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    draft: &mut Draft,
) -> Result<Step, Failed> {
    for _ in 0..MAX_RACES {
        // Fresh with every try: what a try takes back is its own, whenever that is carried out.
        draft.record.id = codes::id(world.now, (world.fresh)());
        let step = match draft.if_exists {
            IfExists::New => try_new(world, request, draft).await?,
            IfExists::Return => try_return(world, request, draft).await?,
        };
        if !matches!(step, Step::Again) {
            return Ok(step);
        }
    }
    Ok(Step::Again)
}

async fn try_new<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    draft: &mut Draft,
) -> Result<Step, Failed> {
    let store = world.store;
    if let Some(code) = &draft.custom
        && Link::read(store, code).await?.is_some()
    {
        return Err(taken(code).into());
    }
    let code = draft.custom.clone().unwrap_or_else(|| fresh_code(world, draft));
    charge(world, request, draft, &code).await?;
    index::enter(store, &draft.record, &code, Reserve::Disturb, world.now).await?;
    let inserted = insert(world, request, draft, &code).await;
    if !matches!(inserted, Ok(Step::Created(_)) | Err(Failed::Unknown(_))) {
        index::withdraw(store, &draft.record, &code);
    }
    match inserted? {
        Step::Again => {}
        done => return Ok(done),
    }
    if draft.custom.is_some() {
        Err(taken(&code).into())
    } else {
        Ok(Step::Again)
    }
}

/// As [`try_new`], unless the caller has a link that fits. See [`index`] for why two callers at once get one link.
async fn try_return<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    draft: &mut Draft,
) -> Result<Step, Failed> {
    let store = world.store;
    let (owner, url) = (&draft.record.owner, &draft.record.url);
    let known = index::reserved(store, owner, url).await?;
    let mut codes = match &draft.custom {
        Some(code) => vec![code.clone()],
        None => index::candidates(store, owner, url).await?,
    };
    let reserved = known.as_ref().and_then(|known| known.code.clone());
    codes.extend(reserved.clone().filter(|code| !codes.contains(code)));
    let mut free = None;
    for code in codes {
        match Link::read(store, &code).await? {
            Some(link) if draft.fits(&link, world.now) => return Ok(Step::Found(link)),
            Some(_) if draft.custom.as_ref() == Some(&code) => return Err(taken(&code).into()),
            Some(_) => {}
            // Somebody is creating it at this moment, or gave up: this code is as good as any.
            None if reserved.as_ref() == Some(&code) => free = Some(code),
            None => {}
        }
    }
    let free = free.filter(|name| {
        let (host, code) = codes::parts(name);
        host == draft.domain.as_deref()
            && (!draft.given.code_length || code.len() == usize::from(draft.code_length))
    });
    let code = draft.custom.clone().or(free);
    let code = code.unwrap_or_else(|| fresh_code(world, draft));
    charge(world, request, draft, &code).await?;
    let reserve = Reserve::If(known.as_ref());
    if !index::enter(store, &draft.record, &code, reserve, world.now).await? {
        return Ok(Step::Again);
    }
    // `Again`: taken since. By the same URL, then the next try finds it; by another, then the next try says so.
    let inserted = insert(world, request, draft, &code).await;
    if !matches!(inserted, Ok(Step::Created(_)) | Err(Failed::Unknown(_))) {
        index::withdraw(store, &draft.record, &code);
    }
    inserted
}

/// Counts an anonymous link among what strangers may create, once for all tries. Its token leads to the code of this try.
async fn charge<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    draft: &mut Draft,
    code: &str,
) -> Result<(), Problem> {
    let Some(digest) = &draft.record.manage else {
        return Ok(());
    };
    if draft.charged {
        return Ok(strangers::name(world.store, digest, code).await?);
    }
    strangers::charge(world, request, digest, code).await?;
    draft.charged = true;
    Ok(())
}

fn fresh_code<S>(world: &World<'_, S>, draft: &Draft) -> String {
    let config = &world.settings.config;
    let code = codes::generate((world.fresh)(), draft.code_length, config);
    codes::name(draft.domain.as_deref(), &codes::folded(config, &code)).into_owned()
}

/// Creates the link, or nothing if the code is taken (`Again`), or it was created before.
async fn insert<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    draft: &Draft,
    code: &str,
) -> Result<Step, Failed> {
    let record = &draft.record;
    let link = Link {
        code: code.to_owned(),
        record: record.clone(),
        version: 0,
        visits: 0,
        visited_at: None,
        unique_visitors: 0,
        bots: 0,
    };
    let partition = link_key(code);
    let mut mutations = vec![Mutation::Set {
        key: partition.clone(),
        value: literal(record.to_bytes()),
        expires: None,
    }];
    mutations.extend(sweep::entry(record, code));
    let repeat = draft.repeat.as_ref();
    let commit = Commit {
        idempotence: repeat.map(|repeat| repeat.idempotence(world, request, &link)),
        conditions: vec![Condition::Absent(partition.clone())],
        mutations,
        appends: events::append(world, || {
            let view = link.view(world.settings);
            events::link_created(&serde_json::to_value(view).unwrap_or_default())
        }),
        partition,
    };
    match world.store.commit(commit).await? {
        Outcome::Committed(done) => Ok(Step::Created(Link {
            version: done.version,
            ..link
        })),
        Outcome::Refused(_) => Ok(Step::Again),
        Outcome::Replayed(answer) => Ok(Step::Before(answer)),
        Outcome::Conflict => Err(idempotency::mismatch().into()),
    }
}
