//! Calls about many links: each is carried out, or refused, on its own, and the answer says so in the order
//! they were sent. Their commits are made together ([`together`]).

use serde::Serialize;

use super::record::{Link, View};
use crate::settings::Settings;
use crate::together::{self, Port};
use crate::world::World;
use tollgate_api::http::Response;
use tollgate_api::problem::Problem;
use tollgate_store::ports::Store;

/// The links whose commits are made together: enough to share the cost of a sync, and few enough that a claim which comes in
/// between waits for no long group.
const TOGETHER: usize = 64;

/// What was done with one link.
pub(super) struct Done {
    status: u16,
    /// None if it is gone.
    link: Option<Link>,
    /// Of one that is gone.
    code: Option<String>,
}

impl Done {
    pub(super) fn created(link: Link) -> Self {
        Self {
            status: 201,
            link: Some(link),
            code: None,
        }
    }

    /// Changed, or found as it should be.
    pub(super) fn changed(link: Link) -> Self {
        Self {
            status: 200,
            link: Some(link),
            code: None,
        }
    }

    pub(super) fn gone(code: String) -> Self {
        Self {
            status: 204,
            link: None,
            code: Some(code),
        }
    }
}

/// One link's part of the answer: `link`, or `problem`, or of one that is gone its `code`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<View<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a Problem>,
}

/// The answer to a call about many links.
#[derive(Debug, Serialize)]
struct Parts<'a> {
    results: Vec<Part<'a>>,
}

/// Whether a list has as many items as a call may be about.
pub(super) fn bounded(count: usize, most: usize, pointer: &str) -> Result<(), Problem> {
    match count {
        0 => Err(Problem::field(pointer, "must not be empty")),
        count if count > most => Err(Problem::field(pointer, format!("must hold at most {most}"))),
        _ => Ok(()),
    }
}

/// Carries out a rule for each item, as if each were a call of its own.
pub(super) async fn each<S: Store, T, R>(
    world: &World<'_, S>,
    items: Vec<T>,
    rule: impl AsyncFn(&World<'_, Port<'_, S>>, T) -> R,
) -> Vec<R> {
    let mut results = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let some: Vec<T> = items.by_ref().take(TOGETHER).collect();
        let ports = together::ports(world.store, some.len());
        let worlds: Vec<_> = ports.iter().map(|port| world.on(port)).collect();
        let rules = worlds.iter().zip(some).map(|(world, item)| rule(world, item));
        results.extend(together::run(&ports, rules).await);
    }
    results
}

/// 207 with what became of each.
pub(super) fn answer<S>(world: &World<'_, S>, results: &[Result<Done, Problem>]) -> Response {
    let parts = results.iter().map(|result| part(world.settings, result));
    Response::json(
        207,
        &Parts {
            results: parts.collect(),
        },
    )
}

fn part<'a>(settings: &Settings, result: &'a Result<Done, Problem>) -> Part<'a> {
    match result {
        Ok(done) => Part {
            status: done.status,
            link: done.link.as_ref().map(|link| link.view(settings)),
            code: done.code.as_deref(),
            problem: None,
        },
        Err(problem) => Part {
            status: problem.kind.status(),
            link: None,
            code: None,
            problem: Some(problem),
        },
    }
}
