//! Sessions and their transactions, on both ends of the connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tollgate_store::plan::group::Found;
use tollgate_store::plan::{Extent, Record};

use crate::disk::GroupWrites;
use crate::executor::Parcel;

/// An answer of the database, or that there is none.
pub enum Answer {
    /// What a group may look at.
    Looked(Box<Looked>),
    /// It was done.
    Done,
    /// What a writer's row says.
    Number(Option<u64>),
    /// Nothing was done, and why.
    Refused(&'static str),
    /// The connection has ended.
    Cut,
}

/// What the first flight of a group reads, under its locks.
pub struct Looked {
    pub entries: Vec<(String, Found)>,
    pub topics: Vec<(String, Extent)>,
    pub records: Vec<Record>,
    /// The revision of each of its lanes.
    pub seen: Vec<u64>,
    /// The database's time, not before that of its lanes and topics.
    pub now: u64,
}

/// What the second flight of a group writes.
pub struct Writes {
    pub group: Rc<GroupWrites>,
    /// The revisions of its lanes that it replaces.
    pub seen: Vec<u64>,
    /// The versions of entries that it replaces, 0: absent.
    pub versions: Vec<(Arc<str>, u64)>,
    /// The last sequences that it goes on from.
    pub topics: Vec<(String, u64)>,
}

/// A connection.
pub struct Session {
    /// The gateway's place.
    pub place: u8,
    /// Of the database, when it was opened.
    pub life: u64,
    /// The gateway has lost it.
    pub is_lost: Cell<bool>,
    /// The database has ended it.
    pub is_ended: Cell<bool>,
    pub(super) asked: RefCell<Option<Rc<Parcel<Answer>>>>,
    pub(super) transaction: RefCell<Option<Rc<Transaction>>>,
}

/// A transaction, in the database.
pub struct Transaction {
    pub number: u64,
    /// The writer's row that it changes, and to which number.
    pub own: (u64, u64),
    pub(super) over: Cell<bool>,
    /// Flights that have come; one that waits for the next too long is ended.
    pub(super) flights: Cell<u64>,
    /// What it commits, once COMMIT has come.
    pub(super) commits: RefCell<Option<Rc<GroupWrites>>>,
}

impl Transaction {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }
}
