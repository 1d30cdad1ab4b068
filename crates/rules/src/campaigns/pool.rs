//! The codes of a campaign that imports them: an entry for each that was not given out. A claim takes one by deleting its entry in the
//! commit that admits it, under the condition that the entry is still there. So a code is given to one claim, whatever crashes.
//!
//! Which of them a claim tries is a hint, and costs nothing if it is wrong but another try: each thread keeps a few at hand, and
//! remembers which of those its own claims are trying. Threads begin in different places, so they seldom meet.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use super::record::{Campaign, CodeOrder};
use tollgate_store::commit::{Condition, Mutation, StoreError};
use tollgate_store::ports::Store;

/// Codes that are read at once.
const PAGE: u32 = 256;
/// Of those, how many a thread keeps at hand in the order of import: claims that are made at once get neighbouring codes, at most
/// [`PAGE`] apart.
const RUN: usize = 32;
/// Campaigns whose codes a thread keeps at hand.
const POOLS: usize = 8;

/// A code that a claim tries. Unless it was spent, others may try it again when this is dropped.
pub(super) struct Taken {
    key: String,
    version: u64,
    /// The code.
    pub(super) code: String,
    pool: Rc<RefCell<Pool>>,
    is_spent: bool,
}

impl Taken {
    /// It is still there.
    pub(super) fn condition(&self) -> Condition {
        Condition::Version {
            key: self.key.clone(),
            version: self.version,
        }
    }

    /// It is there no more.
    pub(super) fn mutation(&self) -> Mutation {
        Mutation::Delete {
            key: self.key.clone(),
        }
    }

    /// It was given out, by whomever.
    pub(super) fn spend(mut self, to_others: bool) {
        self.is_spent = true;
        if to_others {
            // Another thread is at work here.
            self.pool.borrow_mut().move_on();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut pool = self.pool.borrow_mut();
        pool.tried.remove(&self.key);
        if !self.is_spent {
            let free = Free {
                key: std::mem::take(&mut self.key),
                version: self.version,
                code: std::mem::take(&mut self.code),
            };
            pool.free.push_front(free);
        }
    }
}

/// A code that may still be there.
struct Free {
    key: String,
    version: u64,
    code: String,
}

/// The codes of a campaign that a thread has at hand.
#[derive(Default)]
struct Pool {
    free: VecDeque<Free>,
    /// The keys of those that its claims are trying.
    tried: HashSet<String>,
    /// Where the next page begins, in an order that is random.
    after: Option<String>,
    is_ordered: bool,
}

impl Pool {
    /// In the order of import the first ones are looked at anew; otherwise the next will do.
    fn move_on(&mut self) {
        if self.is_ordered {
            self.free.clear();
        }
    }
}

/// By the campaign's id and creation, newest first.
type Known = VecDeque<(String, u64, Rc<RefCell<Pool>>)>;

thread_local! {
    static KNOWN: RefCell<Known> = const { RefCell::new(VecDeque::new()) };
}

/// Forgets what this thread has at hand, as a new process would: for simulations, where many processes share a thread.
pub fn forget() {
    KNOWN.with_borrow_mut(VecDeque::clear);
}

/// The pool of a campaign. Its creation is part of the name, which can be used again.
fn pool_of(campaign: &Campaign) -> Rc<RefCell<Pool>> {
    KNOWN.with_borrow_mut(|known| {
        let is_it = |(id, created_at, _): &&(String, u64, _)| {
            *id == campaign.id && *created_at == campaign.created_at
        };
        if let Some((_, _, pool)) = known.iter().find(is_it) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(RefCell::new(Pool {
            is_ordered: campaign.code_order == Some(CodeOrder::Import),
            ..Pool::default()
        }));
        known.truncate(POOLS - 1);
        known.push_front((campaign.id.clone(), campaign.created_at, Rc::clone(&pool)));
        pool
    })
}

/// A code to try; `None` where none is left. `fresh`: chance, for where to begin.
pub(super) async fn take<S: Store>(
    store: &S,
    campaign: &Campaign,
    fresh: [u8; 16],
) -> Result<Option<Taken>, StoreError> {
    let pool = pool_of(campaign);
    if let Some(taken) = at_hand(&pool) {
        return Ok(Some(taken));
    }
    let prefix = Campaign::pool_prefix(&campaign.id);
    let chance = usize::from(u16::from_le_bytes([fresh[0], fresh[1]]));
    let (is_ordered, after) = {
        let pool = pool.borrow();
        (pool.is_ordered, pool.after.clone())
    };
    let start = match is_ordered {
        true => None,
        false => Some(after.unwrap_or_else(|| format!("{prefix}{chance:04x}"))),
    };
    let places = match start {
        Some(_) => vec![start, None],
        None => vec![None],
    };
    let mut last_ones = Vec::new();
    for place in places {
        let items = store.scan(&prefix, place.as_deref(), PAGE).await?;
        let mut pool = pool.borrow_mut();
        pool.after = items.last().map(|item| item.key.clone());
        let all = items.into_iter().filter_map(|item| {
            Some(Free {
                version: item.entry.version,
                code: String::from_utf8(item.entry.value).ok()?,
                key: item.key,
            })
        });
        let (tried, untried): (Vec<_>, Vec<_>) = all.partition(|free| pool.tried.contains(&free.key));
        last_ones = tried;
        if untried.is_empty() {
            continue;
        }
        let (skipped, kept) = match is_ordered && untried.len() > RUN {
            true => (chance % (untried.len() - RUN), RUN),
            false => (0, untried.len()),
        };
        pool.free = untried.into_iter().skip(skipped).take(kept).collect();
        break;
    }
    if let Some(taken) = at_hand(&pool) {
        return Ok(Some(taken));
    }
    // The last ones, which other claims of this thread are trying: whoever is later finds them gone.
    let some = last_ones.len().max(1);
    Ok(last_ones
        .into_iter()
        .nth(chance % some)
        .map(|free| taken(&pool, free)))
}

fn at_hand(pool: &Rc<RefCell<Pool>>) -> Option<Taken> {
    let free = pool.borrow_mut().free.pop_front()?;
    Some(taken(pool, free))
}

fn taken(pool: &Rc<RefCell<Pool>>, free: Free) -> Taken {
    pool.borrow_mut().tried.insert(free.key.clone());
    Taken {
        key: free.key,
        version: free.version,
        code: free.code,
        pool: Rc::clone(pool),
        is_spent: false,
    }
}
