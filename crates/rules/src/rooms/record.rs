//! The record of a room: where its counter stands. It is written when operators change something and when the room opens, never for a
//! visitor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Room;
use super::lots;
use super::pace::Timeline;
use super::pass::{Pass, Signer};
use crate::world::World;
use tollgate_api::ids;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Entry, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// How often a change is tried against others.
pub(super) const ATTEMPTS: usize = 12;
/// The most turns and lots of a room.
pub(super) const MAX_NUMBER: i64 = 1 << 50;

/// A room as it is stored. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// A room of the same name that comes after it has another: passes are signed for this one.
    pub(super) id: String,
    /// What passes are signed with: 32 bytes, base64url.
    secret: String,
    /// When it opens, or opened.
    pub(super) opens: u64,
    /// Once it has opened.
    pub(super) opened: Option<Opened>,
    /// Turns, from its opening on.
    pub(super) line: Timeline,
    /// Its pace while it is not paused, in thousandths of a turn in a second.
    pub(super) pace: u64,
    /// The pace of its settings when they were looked at last: where they say another, they have changed since.
    pub(super) set: u64,
    pub(super) paused: bool,
}

/// What is known once a room has opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Opened {
    /// Lots that were drawn before: they have the first turns.
    pub(super) lots: u64,
    /// What their order is chosen by: 32 bytes, base64url.
    seed: String,
}

/// A record as it was read, and the last turn that was given out.
pub(super) struct Live {
    pub(super) record: Record,
    version: u64,
    pub(super) turns: u64,
}

/// Where the holder of a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Waits. `position`: turns until theirs, from 1; not known before the room has opened. `turn`: when it comes, or at the earliest when lots are
    /// drawn; not known while the room is paused.
    Waiting {
        position: Option<u64>,
        turn: Option<u64>,
    },
    /// Admitted until then.
    Admitted { until: u64 },
    /// Was admitted.
    Expired,
}

pub(super) fn partition(name: &str) -> String {
    ["room/", name].concat()
}

/// The counter of the turns that were given out.
pub(super) fn turns_key(name: &str) -> String {
    ["room-turns/", name].concat()
}

/// The counter of lots.
pub(super) fn lots_key(name: &str) -> String {
    ["room-lots/", name].concat()
}

/// The counter of all tickets.
pub(super) fn tickets_key(name: &str) -> String {
    ["room-tickets/", name].concat()
}

fn bytes(fresh: &dyn Fn() -> [u8; 16]) -> String {
    URL_SAFE_NO_PAD.encode([fresh(), fresh()].as_flattened())
}

fn decoded(text: &str) -> [u8; 32] {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
}

impl Record {
    /// A new room.
    pub(super) fn new(room: &Room, now: u64, fresh: &dyn Fn() -> [u8; 16]) -> Self {
        let opens = room.settings.opens.unwrap_or(now);
        let mut record = Self {
            id: ids::token(&fresh(), ids::ID_LENGTH),
            secret: bytes(fresh),
            opens,
            opened: None,
            line: Timeline::new(opens, 0),
            pace: room.pace,
            set: room.pace,
            paused: false,
        };
        // One that has a time opens by the store's clock: this one may be ahead.
        if room.settings.opens.is_none() {
            record.open(0, fresh);
        }
        record
    }

    /// Opens at the time that it opens at: so many lots were drawn, and nobody could know the seed that is made now.
    fn open(&mut self, lots: u64, fresh: &dyn Fn() -> [u8; 16]) {
        let seed = bytes(fresh);
        self.opened = Some(Opened { lots, seed });
        self.line = Timeline::new(self.opens, self.effective());
    }

    fn effective(&self) -> u64 {
        if self.paused { 0 } else { self.pace }
    }

    /// Goes on at this pace, or pauses.
    pub(super) fn go_on(&mut self, now: u64, pace: u64, paused: bool) {
        (self.pace, self.paused) = (pace, paused);
        let pace = self.effective();
        if self.opened.is_some() {
            self.line.change(now, pace);
        }
    }

    fn signer<R>(&self, with: impl FnOnce(&Signer<'_>) -> R) -> R {
        with(&Signer {
            room: &self.id,
            secret: &decoded(&self.secret),
        })
    }

    pub(super) fn sign(&self, pass: Pass, holder: &str) -> String {
        self.signer(|signer| signer.sign(pass, holder))
    }

    pub(super) fn read(&self, text: &str, holder: &str) -> Option<Pass> {
        self.signer(|signer| signer.read(text, holder))
    }

    /// The turn of a ticket, and when it was given out; `None`: a lot before the room has opened, or no ticket.
    pub(super) fn turn_of(&self, pass: Pass) -> Option<(u64, u64)> {
        match pass {
            Pass::Turn { number, time } => Some((number, time)),
            Pass::Lot { number, .. } => {
                let opened = self.opened.as_ref()?;
                let seed = decoded(&opened.seed);
                Some((lots::place(&seed, number, opened.lots), self.opens))
            }
            Pass::Token { .. } => None,
        }
    }

    /// Where the holder of a pass stands. `session`: milliseconds.
    pub(super) fn standing(&self, pass: Pass, now: u64, session: u64) -> Standing {
        if let Pass::Token { until } = pass {
            return match now < until {
                true => Standing::Admitted { until },
                false => Standing::Expired,
            };
        }
        let Some((number, time)) = self.turn_of(pass) else {
            return Standing::Waiting {
                position: None,
                turn: Some(self.opens),
            };
        };
        let come = self.line.come(now);
        if number > come {
            return Standing::Waiting {
                position: Some(number - come),
                turn: self.line.turn(number),
            };
        }
        // Nobody is admitted before they came.
        let since = self.line.turn(number).unwrap_or(time).max(time);
        let until = since.saturating_add(session);
        match now < until {
            true => Standing::Admitted { until },
            false => Standing::Expired,
        }
    }
}

impl Live {
    pub(super) fn unchanged(&self, name: &str) -> Condition {
        Condition::Version {
            key: partition(name),
            version: self.version,
        }
    }

    /// Those who wait for a turn that has a number.
    pub(super) fn waiting(&self, now: u64) -> u64 {
        self.turns.saturating_sub(self.record.line.come(now))
    }
}

pub(super) fn set(name: &str, record: &Record) -> Result<Mutation, Problem> {
    let value = serde_json::to_vec(record)
        .map_err(|_| Problem::new(Kind::Internal, "The record cannot be written."))?;
    Ok(Mutation::Set {
        key: partition(name),
        value: literal(value),
        expires: None,
    })
}

/// The record of a room, and its counter of turns; `None`: nothing is stored.
pub(super) async fn find<S: Store>(store: &S, name: &str) -> Result<Option<Live>, StoreError> {
    let found = store
        .get(&partition(name), &[partition(name), turns_key(name)])
        .await?;
    let mut found = found.into_iter();
    let (record, turns) = (found.next().flatten(), found.next().flatten());
    let Some(entry) = record else { return Ok(None) };
    Ok(Some(Live {
        record: stored::decode("room", &entry)?,
        version: entry.version,
        turns: stored::count("counter of turns", turns.as_ref())?,
    }))
}

/// The record of a room that there is: made, opened, and brought up to the file, where that is due.
///
/// # Errors
/// The store cannot be asked, or others change it all the time.
pub(super) async fn load<S: Store>(world: &World<'_, S>, room: &Room) -> Result<Live, Problem> {
    let name = &*room.settings.name;
    for _ in 0..ATTEMPTS {
        let Some(mut live) = find(world.store, name).await? else {
            let record = Record::new(room, world.now, world.fresh);
            let commit = Commit {
                partition: partition(name),
                conditions: vec![Condition::Absent(partition(name))],
                mutations: vec![set(name, &record)?],
                ..Commit::default()
            };
            world.store.commit(commit).await?;
            continue;
        };
        if room.is_of_file && live.record.adopt(room, world.now) {
            write(world, name, &live).await?;
            continue;
        }
        if live.record.opened.is_none() && live.record.opens <= world.now {
            if open(world, name, &mut live).await? {
                continue;
            }
            // By the store's clock it is not time yet.
            return Ok(live);
        }
        return Ok(live);
    }
    Err(busy())
}

impl Record {
    /// Takes over what the file says, where that has changed. Returns whether it has.
    fn adopt(&mut self, room: &Room, now: u64) -> bool {
        let opens = room.settings.opens.filter(|_| self.opened.is_none());
        let before = (self.set, self.opens);
        if self.set != room.pace {
            self.set = room.pace;
            self.go_on(now, room.pace, self.paused);
        }
        if let Some(opens) = opens {
            self.opens = opens;
        }
        (self.set, self.opens) != before
    }
}

pub(super) fn busy() -> Problem {
    Problem::new(Kind::Unavailable, "The room is busy; try again.").with_retry_after(1)
}

/// Writes a changed record over the one that was read. Returns whether nobody else was first.
pub(super) async fn write<S: Store>(world: &World<'_, S>, name: &str, live: &Live) -> Result<bool, Problem> {
    let commit = Commit {
        partition: partition(name),
        conditions: vec![live.unchanged(name)],
        mutations: vec![set(name, &live.record)?],
        ..Commit::default()
    };
    Ok(matches!(world.store.commit(commit).await?, Outcome::Committed(_)))
}

/// Opens a room whose time has come. Returns whether to read it again: it is `false` where the store's clock says that it is too early.
async fn open<S: Store>(world: &World<'_, S>, name: &str, live: &mut Live) -> Result<bool, Problem> {
    let found = world.store.get(&partition(name), &[lots_key(name)]).await?;
    let entry: Option<Entry> = found.into_iter().flatten().next();
    let lots = stored::count("counter of lots", entry.as_ref())?;
    live.record.open(lots, world.fresh);
    let key = lots_key(name);
    let commit = Commit {
        partition: partition(name),
        conditions: vec![
            Condition::NowIn {
                start: Some(live.record.opens),
                end: None,
            },
            live.unchanged(name),
            // Nobody draws one meanwhile.
            Condition::unchanged(key, entry.as_ref().map(|entry| entry.version)),
        ],
        mutations: vec![
            set(name, &live.record)?,
            Mutation::Set {
                key: turns_key(name),
                value: literal(lots.to_string()),
                expires: None,
            },
        ],
        ..Commit::default()
    };
    use tollgate_store::commit::Refusal::Condition as Unmet;
    let is_early = matches!(world.store.commit(commit).await?, Outcome::Refused(Unmet(0)));
    if is_early {
        live.record.opened = None;
    }
    Ok(!is_early)
}
