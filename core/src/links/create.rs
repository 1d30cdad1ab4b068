//! `POST /api/links`.

use serde::{Deserialize, Serialize};

use super::access::{self, Creator};
use super::index::{self, Unless};
use super::record::{Limits, Link, Record, State, View, link_key, visited_key, visits_key};
use super::{MAX_RACES, fields};
use crate::codes;
use crate::commit::{Commit, Condition, Mutation, Outcome, StoreError, literal};
use crate::config::Config;
use crate::http::{Request, Response};
use crate::ports::{Store, World};
use crate::problem::{Kind, Problem};
use crate::{json, time};

/// What to do when the caller already has a link to the URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum IfExists {
    #[default]
    New,
    Return,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body {
    url: String,
    code: Option<String>,
    code_length: Option<u64>,
    redirect: Option<u64>,
    #[serde(default, with = "time::rfc3339_option")]
    expires_at: Option<u64>,
    #[serde(default, with = "time::rfc3339_option")]
    valid_from: Option<u64>,
    expire_after_idle: Option<u64>,
    max_visits: Option<u64>,
    fallback_url: Option<String>,
    forward_query: Option<bool>,
    tags: Option<Vec<String>>,
    title: Option<String>,
    external_id: Option<String>,
    if_exists: Option<IfExists>,
}

/// A link to be, without what only its creation decides.
struct Draft {
    record: Record,
    /// The code that was asked for.
    custom: Option<String>,
    code_length: u8,
    if_exists: IfExists,
}

impl Body {
    fn check(self, config: &Config, now: u64) -> Result<Draft, Problem> {
        let url = fields::target(config, &self.url, "#/url")?;
        if let Some(code) = &self.code {
            fields::custom_code(config, code)?;
        }
        let code_length = self
            .code_length
            .map_or(Ok(config.links.code_length), fields::code_length)?;
        let redirect = self
            .redirect
            .map_or(Ok(config.links.redirect), fields::redirect)?;
        if let Some(at) = self.expires_at {
            fields::future(at, now)?;
        }
        let limits = Limits {
            valid_from: self.valid_from,
            expires_at: self.expires_at,
            expire_after_idle: self.expire_after_idle,
            max_visits: self.max_visits,
            archived: false,
        };
        fields::limits(&limits, "#/validFrom")?;
        let fallback = self
            .fallback_url
            .map(|url| fields::target(config, &url, "#/fallbackUrl"));
        let tags = fields::tags(self.tags.unwrap_or_default())?;
        self.title.as_deref().map_or(Ok(()), fields::title)?;
        self.external_id.as_deref().map_or(Ok(()), fields::external_id)?;
        let record = Record {
            url,
            redirect,
            limits,
            forward_query: self.forward_query.unwrap_or(false),
            fallback_url: fallback.transpose()?,
            created_at: now,
            updated_at: now,
            id: String::new(),
            owner: String::new(),
            title: self.title,
            tags,
            external_id: self.external_id,
            manage: None,
        };
        let if_exists = self.if_exists.unwrap_or_default();
        Ok(Draft {
            record,
            custom: self.code,
            code_length,
            if_exists,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created<'a> {
    #[serde(flatten)]
    link: View<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manage_token: Option<&'a str>,
}

pub(super) async fn post<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let Creator { owner, anonymous } = access::creator(world, request).await?;
    let mut draft = json::body::<Body>(request)?.check(world.config, world.now)?;
    draft.record.owner = owner;
    draft.record.id = codes::id(world.now, (world.fresh)());
    let manage_token = anonymous.then(|| access::mint(world));
    draft.record.manage = manage_token.as_deref().map(access::digest);
    for _ in 0..MAX_RACES {
        let step = match draft.if_exists {
            IfExists::New => try_new(world, &draft).await?,
            IfExists::Return => try_return(world, &draft).await?,
        };
        match step {
            Step::Created(link) => {
                let body = Created {
                    link: link.view(world.config),
                    manage_token: manage_token.as_deref(),
                };
                let location = format!("/api/links/{}", link.code);
                return Ok(Response::json(201, &body).with("location", location));
            }
            Step::Found(link) => return Ok(Response::json(200, &link.view(world.config))),
            Step::Again => {}
        }
    }
    Err(Problem::new(Kind::Unavailable, "No free code was found; try again.").with_retry_after(1))
}

/// What one try came to.
enum Step {
    Created(Link),
    /// The caller has such a link.
    Found(Link),
    /// The code was taken, or somebody else was faster.
    Again,
}

async fn try_new<S: Store>(world: &World<'_, S>, draft: &Draft) -> Result<Step, Problem> {
    let store = world.store;
    if let Some(code) = &draft.custom
        && Link::read(store, code).await?.is_some()
    {
        return Err(taken(code));
    }
    let code = draft.custom.clone().unwrap_or_else(|| fresh_code(world, draft));
    let Record {
        owner,
        url,
        created_at,
        ..
    } = &draft.record;
    index::enter(store, (owner, url), (*created_at, &code), Unless::Never).await?;
    if let Some(link) = insert(store, &draft.record, &code).await? {
        return Ok(Step::Created(link));
    }
    index::withdraw(store, owner, *created_at, &code);
    if draft.custom.is_some() {
        Err(taken(&code))
    } else {
        Ok(Step::Again)
    }
}

/// As [`try_new`], unless the caller has a link to the URL. See [`index`] for why two callers at once get one link.
async fn try_return<S: Store>(world: &World<'_, S>, draft: &Draft) -> Result<Step, Problem> {
    let store = world.store;
    let Record {
        owner,
        url,
        created_at,
        ..
    } = &draft.record;
    let known = index::find(store, owner, url).await?;
    let mut reserved = None;
    if let Some(known) = &known {
        match Link::read(store, &known.code).await? {
            Some(link) if is_same(&link, draft, world.now) => return Ok(Step::Found(link)),
            Some(_) => {}
            // Somebody is creating it at this moment, or gave up: this code is as good as any.
            None => reserved = Some(&known.code),
        }
    }
    if let Some(code) = &draft.custom
        && Link::read(store, code).await?.is_some()
    {
        return Err(taken(code));
    }
    let code = draft.custom.as_ref().or(reserved).cloned();
    let code = code.unwrap_or_else(|| fresh_code(world, draft));
    let unless = Unless::Changed(known.as_ref());
    if !index::enter(store, (owner, url), (*created_at, &code), unless).await? {
        return Ok(Step::Again);
    }
    match insert(store, &draft.record, &code).await? {
        Some(link) => Ok(Step::Created(link)),
        // Taken since: by the same URL, then the next try finds it; by another, then the next try says so.
        None => {
            index::withdraw(store, owner, *created_at, &code);
            Ok(Step::Again)
        }
    }
}

/// Whether a link is what the caller asks for, and of use.
fn is_same(link: &Link, draft: &Draft, now: u64) -> bool {
    link.record.owner == draft.record.owner
        && link.record.url == draft.record.url
        && matches!(link.state(now), State::Live | State::NotYetValid)
}

fn fresh_code<S>(world: &World<'_, S>, draft: &Draft) -> String {
    codes::generate((world.fresh)(), draft.code_length, world.config)
}

/// Creates the link, or nothing if the code is taken.
async fn insert<S: Store>(store: &S, record: &Record, code: &str) -> Result<Option<Link>, StoreError> {
    let partition = link_key(code);
    let value = literal(record.to_bytes());
    let commit = Commit {
        conditions: vec![Condition::Absent(partition.clone())],
        // A visit that was under way when an earlier link of this code was deleted may have left a counter.
        mutations: vec![
            Mutation::Set {
                key: partition.clone(),
                value,
                expires: None,
            },
            Mutation::Delete {
                key: visits_key(code),
            },
            Mutation::Delete {
                key: visited_key(code),
            },
        ],
        partition,
        ..Commit::default()
    };
    let Outcome::Committed(done) = store.commit(commit).await? else {
        return Ok(None);
    };
    let (code, record) = (code.to_owned(), record.clone());
    Ok(Some(Link {
        code,
        record,
        version: done.version,
        visits: 0,
        visited_at: None,
    }))
}

fn taken(code: &str) -> Problem {
    let mut problem = Problem::new(Kind::Conflict, format!("The code {code} is taken."));
    let detail = "is taken".to_owned();
    problem.errors.push(crate::problem::FieldError {
        pointer: "#/code".into(),
        detail,
    });
    problem
}
