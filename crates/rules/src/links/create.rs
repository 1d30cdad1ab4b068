//! `POST /api/links`.

use serde::Deserialize;

use super::access::{self, Creator};
use super::again::{Created, Repeat, Token};
use super::index::{self, Reserve};
use super::manage::shown;
use super::password::Password;
use super::record::{Limits, Link, MAX_RACES, Record, State, link_key};
use super::rename::taken;
use super::routing::{self, Rule, Weighted};
use super::utm::Utm;
use super::{domain, fields, maintain, strangers, sweep};
use crate::codes;
use crate::events;
use crate::idempotency;
use crate::target::{comparable, target};
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::{json, time};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;

/// The action when the caller already has a link to the URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "IfExists")
)]
#[serde(rename_all = "lowercase")]
enum IfExists {
    /// Makes a new link.
    #[default]
    New,
    /// Gives the caller's newest live link to this URL, if every other field that is sent fits it.
    Return,
}

/// A link to be.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewLink")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Body {
    /// Where it leads: http or https, a host that is not the gateway itself, no user name or password.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Uri"))]
    url: String,
    /// The code; a fresh one where it is left out. Names of the gateway itself are reserved.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[A-Za-z0-9_-]{3,64}$")))]
    code: Option<String>,
    /// The host that it is on: one of `[[domains]]`; that of `server.public_url` where it is left out. Takes a key.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253)))]
    domain: Option<String>,
    /// Characters of a fresh code.
    #[cfg_attr(feature = "schema", schemars(range(min = crate::config::MIN_CODE_LENGTH, max = crate::config::MAX_CODE_LENGTH)))]
    code_length: Option<u64>,
    /// The status of the redirect; the configured one, 302, where it is left out.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [301, 302, 307, 308, null])))]
    redirect: Option<u64>,
    /// It ends here: in the future.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    expires_at: Option<u64>,
    /// It begins here; before `expiresAt`.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    valid_from: Option<u64>,
    /// Seconds without a visit after which it ends.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::config::MAX_IDLE_SECONDS)))]
    expire_after_idle: Option<u64>,
    /// How many visits it redirects, exactly.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = super::MAX_VISITS)))]
    max_visits: Option<u64>,
    /// Where it leads once it has ended.
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Uri>"))]
    fallback_url: Option<String>,
    /// Whether the visitor's query is added to the target's.
    forward_query: Option<bool>,
    /// Words to find it by.
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 10), inner(length(min = 1, max = 64)))
    )]
    tags: Option<Vec<String>>,
    /// What it is called.
    #[cfg_attr(feature = "schema", schemars(length(max = 200)))]
    title: Option<String>,
    /// The caller's own name of it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 128)))]
    external_id: Option<String>,
    /// Asked for before it leads anywhere. A link with one is always made anew, whatever `ifExists` says.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::password::MAX_CHARS), extend("writeOnly" = true)))]
    password: Option<String>,
    /// Where it leads under conditions: the first that holds.
    #[cfg_attr(feature = "schema", schemars(length(max = routing::MAX_RULES)))]
    rules: Option<Vec<Rule>>,
    /// Where it leads by weights, if no rule holds; a client is led to the same place each time.
    #[cfg_attr(feature = "schema", schemars(length(max = routing::MAX_TARGETS)))]
    targets: Option<Vec<Weighted>>,
    /// What is added to wherever it leads, but not to `fallbackUrl`.
    utm: Option<Utm>,
    /// Seconds before its end by time at which a `link.expiring` message is sent. Needs a key, and `[events] topic`.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::config::MAX_IDLE_SECONDS)))]
    notify_before: Option<u64>,
    /// Whether each visit is told by a `link.visited` message. Needs a key, and `[events] topic`.
    events: Option<bool>,
    /// What happens if the caller has a link to this URL.
    if_exists: Option<IfExists>,
}

/// A link to be, without what only its creation decides.
struct Draft {
    record: Record,
    /// The name that was asked for: its code, with its host if it is on a domain.
    custom: Option<String>,
    domain: Option<String>,
    code_length: u8,
    if_exists: IfExists,
    given: Given,
    /// Whether it was counted among what strangers may create.
    charged: bool,
    /// How the request may be repeated, if it may.
    repeat: Option<Repeat>,
}

/// The fields that were sent. A field that was not sent is no reason to make another link.
struct Given {
    code_length: bool,
    redirect: bool,
    expires_at: bool,
    valid_from: bool,
    expire_after_idle: bool,
    max_visits: bool,
    fallback_url: bool,
    forward_query: bool,
    tags: bool,
    title: bool,
    external_id: bool,
    password: bool,
    rules: bool,
    targets: bool,
    utm: bool,
    notify_before: bool,
    events: bool,
}

impl Body {
    fn given(&self) -> Given {
        Given {
            code_length: self.code_length.is_some(),
            redirect: self.redirect.is_some(),
            expires_at: self.expires_at.is_some(),
            valid_from: self.valid_from.is_some(),
            expire_after_idle: self.expire_after_idle.is_some(),
            max_visits: self.max_visits.is_some(),
            fallback_url: self.fallback_url.is_some(),
            forward_query: self.forward_query.is_some(),
            tags: self.tags.is_some(),
            title: self.title.is_some(),
            external_id: self.external_id.is_some(),
            password: self.password.is_some(),
            rules: self.rules.is_some(),
            targets: self.targets.is_some(),
            utm: self.utm.is_some(),
            notify_before: self.notify_before.is_some(),
            events: self.events.is_some(),
        }
    }

    fn check<S>(self, world: &World<'_, S>) -> Result<Draft, Problem> {
        let (settings, now) = (world.settings, world.now);
        let given = self.given();
        let url = target(&settings.own, &self.url, "#/url")?;
        if let Some(code) = &self.code {
            fields::custom_code(&settings.config, code)?;
        }
        let code_length = self
            .code_length
            .map_or(Ok(settings.config.links.code_length), fields::code_length)?;
        let redirect = self
            .redirect
            .map_or(Ok(settings.config.links.redirect), fields::redirect)?;
        if let Some(at) = self.expires_at {
            fields::future(at, now)?;
        }
        let limits = Limits {
            valid_from: self.valid_from,
            expires_at: self.expires_at,
            expire_after_idle: self.expire_after_idle,
            max_visits: self.max_visits,
            ..Limits::default()
        };
        fields::limits(&limits, "#/validFrom")?;
        let fallback = self
            .fallback_url
            .map(|url| target(&settings.own, &url, "#/fallbackUrl"));
        let tags = fields::tags(self.tags.unwrap_or_default())?;
        self.title.as_deref().map_or(Ok(()), fields::title)?;
        self.external_id.as_deref().map_or(Ok(()), fields::external_id)?;
        self.notify_before.map_or(Ok(()), fields::notify_before)?;
        let rules = routing::rules(settings, self.rules.unwrap_or_default())?;
        let targets = routing::targets(settings, self.targets.unwrap_or_default())?;
        let utm = self.utm.map(Utm::checked).transpose()?;
        // Last, since it is work.
        let password = self.password.map(|text| Password::new(&text, (world.fresh)()));
        let record = Record {
            url,
            redirect,
            limits,
            forward_query: self.forward_query.unwrap_or(false),
            fallback_url: fallback.transpose()?,
            rules,
            targets,
            password: password.transpose()?,
            events: self.events.unwrap_or(false),
            utm,
            created_at: now,
            updated_at: now,
            id: String::new(),
            owner: String::new(),
            title: self.title,
            tags,
            external_id: self.external_id,
            manage: None,
            idle_imposed: false,
            by_id: true,
            due: None,
            counters: None,
            notify_before: self.notify_before,
            told_end: None,
            goes_on: false,
        };
        let domain = domain::asked(world, self.domain.as_deref(), "#/domain")?.map(str::to_owned);
        let custom = self.code.map(|code| {
            let code = codes::folded(&settings.config, &code);
            codes::name(domain.as_deref(), &code).into_owned()
        });
        let if_exists = self.if_exists.unwrap_or_default();
        Ok(Draft {
            record,
            custom,
            domain,
            code_length,
            if_exists,
            given,
            charged: false,
            repeat: None,
        })
    }
}

impl Draft {
    /// Whether a link is what the caller asks for: live, and every field that was sent is as it was sent.
    fn fits(&self, link: &Link, now: u64) -> bool {
        let (wanted, given, there) = (&self.record, &self.given, &link.record);
        let (ours, theirs) = (&wanted.limits, &there.limits);
        let state = match link.state(now) {
            State::Live => true,
            State::NotYetValid => given.valid_from,
            _ => false,
        };
        let same = [
            (given.redirect, wanted.redirect == there.redirect),
            (given.expires_at, ours.expires_at == theirs.expires_at),
            (given.valid_from, ours.valid_from == theirs.valid_from),
            (
                given.expire_after_idle,
                ours.expire_after_idle == theirs.expire_after_idle,
            ),
            (given.max_visits, ours.max_visits == theirs.max_visits),
            (given.fallback_url, wanted.fallback_url == there.fallback_url),
            (given.forward_query, wanted.forward_query == there.forward_query),
            (given.title, wanted.title == there.title),
            (given.external_id, wanted.external_id == there.external_id),
            (given.rules, wanted.rules == there.rules),
            (given.targets, wanted.targets == there.targets),
            (given.utm, wanted.utm == there.utm),
            (given.notify_before, wanted.notify_before == there.notify_before),
            (given.events, wanted.events == there.events),
            // To try it would be work for each link that there is.
            (given.password, false),
            (given.tags, same_tags(&wanted.tags, &there.tags)),
            (
                given.code_length,
                codes::parts(&link.code).1.len() == usize::from(self.code_length),
            ),
        ];
        state
            && codes::parts(&link.code).0 == self.domain.as_deref()
            && wanted.owner == there.owner
            && comparable(&wanted.url) == comparable(&there.url)
            && self.custom.as_ref().is_none_or(|code| *code == link.code)
            && same.into_iter().all(|(given, same)| !given || same)
    }
}

/// Neither list repeats a tag.
fn same_tags(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|tag| b.contains(tag))
}

pub(super) async fn post<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let creator = access::creator(world, request).await?;
    let key = idempotency::key(request)?;
    let response = match make(world, request, &creator, key, json::body(request)?).await? {
        Made::New { link, manage_token } => {
            let body = Created {
                link: link.view(&world.settings.config),
                manage_token: manage_token.as_deref(),
            };
            let created = Response::json(201, &body).with("location", domain::location(&link.code));
            created.with("etag", link.etag())
        }
        Made::Found(link) => shown(world, &link),
        Made::Before(response) => return Ok(response),
    };
    maintain::now_and_then(world).await;
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
            let view = link.view(&world.settings.config);
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
