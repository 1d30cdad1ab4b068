//! A commit on its way to the writer of an engine.

use tollgate_store::commit::{Commit, StoreError};
use tollgate_store::{packed, plan};

use crate::reply::Reply;

/// A request to the writer.
#[derive(Debug)]
pub enum Asked {
    /// A commit that was validated. In a box, so that a job is small: groups of them are moved.
    Commit(Box<Commit>),
    /// A commit by [`packed::pack`], still packed: the writer takes it apart, on the thread that also
    /// disposes of it.
    Packed(Vec<u8>),
}

impl Asked {
    /// The commit, valid.
    pub fn commit(self) -> Result<Commit, StoreError> {
        let packed = match self {
            Self::Commit(commit) => return Ok(*commit),
            Self::Packed(packed) => packed,
        };
        let commit = packed::unpack(&packed);
        let commit: Commit = commit.ok_or_else(|| StoreError::Invalid("this is not a commit".into()))?;
        plan::measure(&commit)?;
        Ok(commit)
    }
}

/// A commit on its way to the writer.
#[derive(Debug)]
pub struct Job {
    /// The commit.
    pub asked: Asked,
    /// Its size.
    pub bytes: usize,
    /// The caller that waits for the outcome; nobody if it was deferred.
    pub reply: Option<Reply>,
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It holds all it may.
    Full,
    /// The store is closing, or has failed.
    Closed,
}
