//! Another code for a link, in one step: from it on the new code leads where the old one did, and the old one is free.
//!
//! The commit holds everything that names the code: both links, their entry for the sweep, the owner's index, and the code that a manage
//! token leads to. So it spans partitions, as no other does (docs/decisions.md). The counters are not moved, since a visit may be under
//! way: they stay where they are, and the link remembers under which code ([`Record::counters`]).

use super::record::{Link, Record, link_key};
use super::{index, strangers, sweep};
use crate::codes;
use tollgate_api::problem::{FieldError, Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Mutation, literal};

/// The condition of [`commit`] that is refused where the new code is taken.
pub(super) const FREE: u32 = 1;

/// The commit that writes a changed link under another code; `before`: as it was when it had `link.version` and `link.code`.
/// Sets what the link remembers of its old code.
pub(super) fn commit(link: &mut Link, before: &Record, to: &str) -> Commit {
    let old = link.code.clone();
    link.record.counters.get_or_insert_with(|| old.clone());
    let (from_key, to_key) = (link_key(&old), link_key(to));
    let mut mutations = vec![
        Mutation::Delete {
            key: from_key.clone(),
        },
        Mutation::Set {
            key: to_key.clone(),
            value: literal(link.record.to_bytes()),
            expires: None,
        },
    ];
    mutations.extend(sweep::renamed((before, &old), (&link.record, to)));
    mutations.extend(index::renamed((before, &old), (&link.record, to)));
    mutations.extend(
        link.record
            .manage
            .as_ref()
            .map(|digest| strangers::named(digest, to)),
    );
    Commit {
        conditions: vec![
            Condition::Version {
                key: from_key.clone(),
                version: link.version,
            },
            Condition::Absent(to_key),
        ],
        mutations,
        partition: from_key,
        ..Commit::default()
    }
}

/// The 409 for a code that another link has.
pub(super) fn taken(code: &str) -> Problem {
    let mut problem = Problem::new(
        Kind::Conflict,
        format!("The code {} is taken.", codes::parts(code).1),
    );
    problem.errors.push(FieldError {
        pointer: "#/code".into(),
        detail: "is taken".to_owned(),
    });
    problem
}
