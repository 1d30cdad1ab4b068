//! The store: the ports `Store` and `Upkeep` in scripts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use futures::future::join_all;
use tollgate_store::commit::{
    Commit, Committed, Entry, Item, MAX_PAGE_BYTES, MAX_WAIT_MS, Message, Outcome, Refusal, StoreError, Topic,
};
use tollgate_store::deleted;
use tollgate_store::plan;
use tollgate_store::plan::page::{self, Page};
use tollgate_store::ports::{Store, Upkeep};
use tollgate_store::retention::{Cut, Retention};

use crate::arguments::arguments;
use crate::database::{Again, Database, Failure, run};
use crate::message;
use crate::reply::{Replies, Reply};
use crate::script::{self, Script};

/// The most deferred commits that wait. Beyond it they are lost.
const MAX_DEFERRED: usize = 1_024;
/// So many of them are under way at once: they share a sync of Redis.
const TOGETHER: usize = 64;
/// How long other instances are given to defer clicks that they are about to defer, milliseconds.
const SETTLE_MS: u64 = 500;
/// The first and the longest pause of a `read` that waits, milliseconds.
const POLL_MS: (u64, u64) = (50, 250);
/// One commit in this many removes what has expired.
const EXPIRE_EVERY: u64 = 512;
/// The most of a kind that one step of the upkeep removes or looks at: some milliseconds for which Redis does nothing else.
const STEP: u32 = 1_000;
/// So many bytes of messages are looked at in such a step, and one message more.
const STEP_BYTES: usize = 4 << 20;
/// What a script may read for a page: what else is kept of each of its items counts there.
const READ_BYTES: usize = MAX_PAGE_BYTES + (64 << 10);
/// The keys that one script looks at for a page, expired ones too.
const LOOKS: u32 = 2_000;

/// Keys and topics in Redis.
pub struct RedisStore<D> {
    database: Rc<D>,
    deferred: RefCell<VecDeque<Vec<Vec<u8>>>>,
    /// After which deletion of a topic the next step of the upkeep looks.
    looked: RefCell<String>,
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

impl<D: Database> RedisStore<D> {
    /// A store on the database.
    pub fn new(database: Rc<D>) -> Self {
        Self {
            database,
            deferred: RefCell::default(),
            looked: RefCell::default(),
        }
    }

    /// Whether there is work that a call should leave to [`RedisStore::work`].
    pub fn has_work(&self) -> bool {
        !self.deferred.borrow().is_empty()
    }

    /// Carries out deferred commits, in their order.
    pub async fn work(&self) {
        loop {
            // Not in the loop's condition: the borrow must not live across the await.
            let next: Vec<_> = {
                let mut deferred = self.deferred.borrow_mut();
                let count = deferred.len().min(TOGETHER);
                deferred.drain(..count).collect()
            };
            if next.is_empty() {
                return;
            }
            // Nobody waits for the outcomes. Redis gets them in this order, over one connection.
            let each = |arguments: &Vec<_>| {
                run(
                    &*self.database,
                    Again::NotDone,
                    &script::COMMIT,
                    arguments.clone(),
                )
            };
            let done = join_all(next.iter().map(each)).await;
            let is_away = |done: &Result<_, _>| matches!(done, Err(Failure::NotConnected(_)));
            if done.iter().all(is_away) {
                // The next call may find a connection.
                self.put_back(next);
                return;
            }
        }
    }

    fn put_back(&self, commits: Vec<Vec<Vec<u8>>>) {
        let mut deferred = self.deferred.borrow_mut();
        for commit in commits.into_iter().rev() {
            deferred.push_front(commit);
        }
        deferred.truncate(MAX_DEFERRED);
    }

    /// Whether it is the turn of the commit with this version to remove what has expired.
    pub fn is_due(version: u64) -> bool {
        version.is_multiple_of(EXPIRE_EVERY)
    }

    /// One that reads, or may be done twice.
    async fn ask(&self, script: &Script, arguments: Vec<Vec<u8>>) -> Result<Replies, StoreError> {
        let replies = run(&*self.database, Again::Harmless, script, arguments).await;
        replies.map(Replies::new).map_err(Failure::unavailable)
    }

    /// Removes messages of a topic that was deleted, up to a bound; whether there may be more.
    async fn forget(&self) -> Result<bool, StoreError> {
        let after = self.looked.take();
        let start = match after.is_empty() {
            true => format!("[{}", deleted::PREFIX),
            false => format!("({after}"),
        };
        let arguments = words(&[&start, &format!("({}", deleted::END), &STEP.to_string()]);
        let mut found = self.ask(&script::DELETED, arguments).await?;
        let go_on = found.text().map_err(Failure::unavailable)?;
        if found.left() > 0 {
            let named = found.text().and_then(|topic| Ok((topic, found.number()?)));
            let (topic, through) = named.map_err(Failure::unavailable)?;
            self.remove(&topic, through).await?;
            self.looked.replace(after);
            return Ok(true);
        }
        let more = !go_on.is_empty();
        self.looked.replace(go_on);
        Ok(more)
    }

    /// Removes messages up to a sequence, as many as a step may; how many are left of those.
    async fn remove(&self, topic: &str, through: u64) -> Result<u64, StoreError> {
        let bounds = [STEP.to_string(), STEP_BYTES.to_string()];
        let arguments = words(&[topic, &through.to_string(), &bounds[0], &bounds[1]]);
        let mut left = self.ask(&script::TRIM, arguments).await?;
        left.number().map_err(Failure::unavailable)
    }

    async fn messages(&self, topic: &str, after: u64, limit: u32) -> Result<Vec<Message>, StoreError> {
        let mut page = Page::new(limit);
        let limit = page::limit(limit).to_string();
        let arguments = words(&[topic, &after.to_string(), &limit, &READ_BYTES.to_string()]);
        let mut found = self.ask(&script::READ, arguments).await?;
        while found.left() > 0 {
            let next = found
                .number()
                .and_then(|sequence| message::message(topic, sequence, &found.bytes()?));
            let next = next.map_err(Failure::unavailable)?;
            let bytes = page::message_bytes(&next);
            if !page.push(next, bytes) {
                break;
            }
        }
        Ok(page.into_items())
    }
}

/// What the script says of a commit with so many mutations.
fn outcome(replies: Vec<Reply>, mutations: usize) -> Result<Result<Outcome, StoreError>, Failure> {
    let mut replies = Replies::new(replies);
    let verdict = replies.text()?;
    let mut index = || {
        let index = replies.number()?;
        u32::try_from(index).map_err(|_| crate::reply::unexpected())
    };
    Ok(Ok(match &*verdict {
        "conflict" => Outcome::Conflict,
        "condition" => Outcome::Refused(Refusal::Condition(index()?)),
        "mutation" => Outcome::Refused(Refusal::Mutation(index()?)),
        "counter" => {
            let at = index()?;
            return Ok(Err(StoreError::Invalid(format!(
                "mutation {at} adds to an entry that is not a counter"
            ))));
        }
        "replayed" => Outcome::Replayed(replies.bytes()?),
        "committed" => {
            let mut done = Committed {
                version: replies.number()?,
                time: replies.number()?,
                ..Committed::default()
            };
            for _ in 0..mutations {
                done.sums.push(replies.signed()?);
            }
            while replies.left() > 0 {
                done.sequences.push(replies.number()?);
            }
            Outcome::Committed(done)
        }
        _ => return Err(crate::reply::unexpected()),
    }))
}

fn topic(found: &mut Replies) -> Result<Topic, Failure> {
    Ok(Topic {
        name: found.text()?,
        last: found.number()?,
        first: found.number()?,
        bytes: found.number()?,
        first_time: found.optional_number()?,
        last_time: found.optional_number()?,
    })
}

impl<D: Database> Store for RedisStore<D> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        plan::validate(&commit)?;
        let done = run(
            &*self.database,
            Again::NotDone,
            &script::COMMIT,
            arguments(&commit),
        );
        match done.await {
            Ok(replies) => match outcome(replies, commit.mutations.len()) {
                Ok(decided) => decided,
                Err(failure) => Err(StoreError::Unknown(failure.into_message())),
            },
            Err(failure @ (Failure::Lost(_) | Failure::Unexpected(_))) => {
                Err(StoreError::Unknown(failure.into_message()))
            }
            Err(failure) => Err(failure.unavailable()),
        }
    }

    /// Kept until [`RedisStore::work`]: Spin's Redis has no call that a component can make without waiting.
    fn defer(&self, commit: Commit) {
        if plan::measure_deferred(&commit).is_err() {
            return;
        }
        let mut waiting = self.deferred.borrow_mut();
        if waiting.len() < MAX_DEFERRED {
            waiting.push_back(arguments(&commit));
        }
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.work().await;
        self.database.pause(SETTLE_MS).await;
        Ok(())
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        let asked = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let mut found = self.ask(&script::GET, asked).await?;
        let mut one = || {
            let raw = found.bytes()?;
            match raw.is_empty() {
                true => Ok(None),
                false => message::entry(&raw).map(Some),
            }
        };
        let entries: Result<_, Failure> = keys.iter().map(|_| one()).collect();
        entries.map_err(Failure::unavailable)
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let mut start = match after {
            Some(after) if after >= prefix => format!("({after}"),
            _ => format!("[{prefix}"),
        };
        let end = page::prefix_end(prefix).map_or("+".to_owned(), |end| format!("({end}"));
        let (mut page, bounded) = (Page::new(limit), page::limit(limit).to_string());
        loop {
            let arguments = words(&[
                &start,
                &end,
                &bounded,
                &READ_BYTES.to_string(),
                &LOOKS.to_string(),
            ]);
            let mut found = self.ask(&script::SCAN, arguments).await?;
            let go_on = found.text().map_err(Failure::unavailable)?;
            while found.left() > 0 {
                let next = found.text().and_then(|key| {
                    let entry = message::entry(&found.bytes()?)?;
                    Ok(Item { key, entry })
                });
                let next = next.map_err(Failure::unavailable)?;
                let bytes = page::item_bytes(&next);
                if !page.push(next, bytes) {
                    return Ok(page.into_items());
                }
            }
            if go_on.is_empty() {
                return Ok(page.into_items());
            }
            start = format!("({go_on}");
        }
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let mut left = u64::from(wait.min(MAX_WAIT_MS));
        let mut pause = POLL_MS.0;
        loop {
            let messages = self.messages(topic, after, limit).await?;
            if !messages.is_empty() || left == 0 {
                return Ok(messages);
            }
            let ms = pause.min(left);
            self.database.pause(ms).await;
            left -= ms;
            pause = (pause + POLL_MS.0).min(POLL_MS.1);
        }
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        let start = after.map_or("-".to_owned(), |after| format!("({after}"));
        let arguments = words(&[&start, &page::limit(limit).to_string()]);
        let mut found = self.ask(&script::TOPICS, arguments).await?;
        let mut topics = Vec::new();
        while found.left() > 0 {
            topics.push(topic(&mut found).map_err(Failure::unavailable)?);
        }
        Ok(topics)
    }
}

impl<D: Database> Upkeep for RedisStore<D> {
    async fn expire(&self) -> Result<bool, StoreError> {
        let mut ended = self.ask(&script::EXPIRE, words(&[&STEP.to_string()])).await?;
        let more = ended.number().map_err(Failure::unavailable)? == 1;
        Ok(more | self.forget().await?)
    }

    async fn trim(&self, topic: &str, retention: Retention, needed: u64) -> Result<bool, StoreError> {
        let arguments = words(&[topic, &STEP.to_string(), &STEP_BYTES.to_string()]);
        let mut found = self.ask(&script::OLDEST, arguments).await?;
        let mut number = || found.number().map_err(Failure::unavailable);
        let (last, bytes, now) = (number()?, number()?, number()?);
        let mut cut = Cut::new(retention, needed, bytes, now);
        let (mut end, mut all_go) = (None, true);
        while found.left() > 0 {
            let mut number = || found.number().map_err(Failure::unavailable);
            let sequence = number()?;
            if !cut.takes(sequence, number()?, number()?) {
                all_go = false;
                break;
            }
            end = Some(sequence);
        }
        let Some(end) = end else { return Ok(false) };
        let left = self.remove(topic, end).await?;
        Ok(left > 0 || all_go && end < last)
    }
}
