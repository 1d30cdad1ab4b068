//! The codes of a campaign that imports them: an entry for each that was not given out. A claim takes one by deleting its entry in the
//! commit that admits it, under the condition that the entry is still there. So a code is given to one claim, whatever crashes.
//!
//! Which of them a claim tries is a hint, and costs nothing if it is wrong but another try: each thread keeps some at hand, and
//! remembers which of those its own claims are trying. Threads begin in different places, so they seldom meet. Before a thread has
//! none left, one of its claims reads more, for all.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use super::record::{Campaign, CodeOrder};
use tollgate_store::commit::{Condition, Item, Mutation, StoreError};
use tollgate_store::ports::Store;

/// Codes that are read at once by who knows none yet. It doubles, so that who lives for one claim reads few.
const FIRST_PAGE: u32 = 32;
/// The most that are read at once.
const MAX_PAGE: u32 = 512;
/// Codes that are read at once in the order of import.
const PAGE: u32 = 256;
/// Of those, how many a thread keeps at hand once it has met another: claims that are made at once get neighbouring codes, at most
/// [`PAGE`] apart.
const RUN: usize = 64;
/// Codes that were given out and are remembered.
const MAX_SPENT: usize = 1_024;
/// Pages in a row that may be full of codes that are being tried.
const MAX_PAGES: usize = 16;
/// How often a claim waits for another's reading before it reads on its own.
const WAITS: usize = 64;
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
        let key = std::mem::take(&mut self.key);
        if self.is_spent {
            pool.spent.push_back(key);
            if pool.spent.len() > MAX_SPENT
                && let Some(oldest) = pool.spent.pop_front()
            {
                pool.known.remove(&oldest);
            }
        } else {
            let free = Free {
                key,
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

impl Free {
    /// `None` for what is no code.
    fn of(item: Item) -> Option<Self> {
        Some(Self {
            version: item.entry.version,
            code: String::from_utf8(item.entry.value).ok()?,
            key: item.key,
        })
    }
}

/// The codes of a campaign that a thread has at hand.
#[derive(Default)]
struct Pool {
    free: VecDeque<Free>,
    /// Keys of codes that were just given out: a page that is being read may still name them.
    spent: VecDeque<String>,
    /// The keys of all those, and of those that its claims are trying.
    known: HashSet<String>,
    /// After which key the next page begins. In the order of import: no code before it was there.
    after: Option<String>,
    /// The last key of the last page.
    last: Option<String>,
    /// Codes of the next page.
    page: u32,
    is_ordered: bool,
    /// Another thread gives out codes, too.
    has_met: bool,
    /// One of its claims is reading.
    is_read: bool,
    /// The last page was the last one: whatever else is left, there is no use in looking early.
    is_short: bool,
}

impl Pool {
    /// In the order of import the first ones are looked at anew; otherwise the next will do.
    fn move_on(&mut self) {
        self.has_met = true;
        if self.is_ordered {
            for free in self.free.drain(..) {
                self.known.remove(&free.key);
            }
        }
    }

    /// How many of a page are kept.
    fn run(&self) -> usize {
        match self.is_ordered && self.has_met {
            true => RUN,
            false => self.page as usize,
        }
    }

    /// A crowd of claims comes at once: one of them reads while the others have half a page at hand.
    fn needs_more(&self) -> bool {
        self.free.is_empty() || (self.free.len() < self.run() / 2 && !self.is_short)
    }

    /// Puts a page's codes at hand. If it had none that is not known, answers those that it had. `goes_on`: it came after another such page.
    fn put(&mut self, items: Vec<Item>, chance: usize, goes_on: bool) -> Result<(), Vec<Free>> {
        self.is_short = items.len() < self.page as usize;
        self.last = items.last().map(|item| item.key.clone());
        match (self.is_ordered, goes_on) {
            // The next page begins with the first one of this, which may still be there.
            (true, false) => self.after = items.first().map(|item| before(&item.key)),
            (true, true) => {}
            (false, _) => self.after = self.last.clone(),
        }
        let all = items.into_iter().filter_map(Free::of);
        let (known, new): (Vec<_>, Vec<_>) = all.partition(|free| self.known.contains(&free.key));
        if new.is_empty() {
            return Err(known);
        }
        let kept = self.run();
        let skipped = match new.len().saturating_sub(kept) {
            0 => 0,
            more => chance % more,
        };
        for free in new.into_iter().skip(skipped).take(kept) {
            self.known.insert(free.key.clone());
            self.free.push_back(free);
        }
        if !self.is_ordered {
            self.page = MAX_PAGE.min(self.page * 2);
        }
        Ok(())
    }
}

/// A key before this one, and after those that differ from it earlier.
fn before(key: &str) -> String {
    let mut shorter = key.to_owned();
    shorter.pop();
    shorter
}

/// Says that a claim is reading, until it is dropped.
struct Reading(Rc<RefCell<Pool>>);

impl Reading {
    fn begin(pool: &Rc<RefCell<Pool>>) -> Self {
        pool.borrow_mut().is_read = true;
        Self(Rc::clone(pool))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.borrow_mut().is_read = false;
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
        let is_ordered = campaign.code_order == Some(CodeOrder::Import);
        let pool = Rc::new(RefCell::new(Pool {
            is_ordered,
            page: if is_ordered { PAGE } else { FIRST_PAGE },
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
    let prefix = Campaign::pool_prefix(&campaign.id);
    let chance = u16::from_le_bytes([fresh[0], fresh[1]]);
    for wait in 0..=WAITS {
        let (needs_more, is_read) = {
            let pool = pool.borrow();
            (pool.needs_more(), pool.is_read)
        };
        if needs_more && (!is_read || wait == WAITS) {
            let last_ones = read_more(store, &pool, &prefix, chance).await?;
            if let Some(taken) = at_hand(&pool) {
                return Ok(Some(taken));
            }
            // Those that other claims of this thread are trying: whoever is later finds them gone.
            let some = last_ones.len().max(1);
            let one = last_ones.into_iter().nth(usize::from(chance) % some);
            return Ok(one.map(|free| taken(&pool, free)));
        }
        if let Some(taken) = at_hand(&pool) {
            return Ok(Some(taken));
        }
        if let Some(taken) = read_one(store, &pool, &prefix, chance).await? {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

/// Puts more at hand; otherwise answers those that are left, all of which are being tried.
async fn read_more<S: Store>(
    store: &S,
    pool: &Rc<RefCell<Pool>>,
    prefix: &str,
    chance: u16,
) -> Result<Vec<Free>, StoreError> {
    let _reading = Reading::begin(pool);
    let (start, page) = {
        let pool = pool.borrow();
        let anywhere = || (!pool.is_ordered).then(|| format!("{prefix}{chance:04x}"));
        (pool.after.clone().or_else(anywhere), pool.page)
    };
    let mut last_ones = Vec::new();
    for begin in start.map(Some).into_iter().chain([None]) {
        let mut place = begin.clone();
        for _ in 0..MAX_PAGES {
            let items = store.scan(prefix, place.as_deref(), page).await?;
            let goes_on = place != begin;
            let mut pool = pool.borrow_mut();
            let Err(known) = pool.put(items, chance.into(), goes_on) else {
                return Ok(Vec::new());
            };
            if !known.is_empty() {
                last_ones = known;
            }
            if pool.is_short {
                break;
            }
            place.clone_from(&pool.last);
        }
    }
    Ok(last_ones)
}

/// While another claim reads more: one code from elsewhere, if it is no other claim's; takes about as long.
async fn read_one<S: Store>(
    store: &S,
    pool: &Rc<RefCell<Pool>>,
    prefix: &str,
    chance: u16,
) -> Result<Option<Taken>, StoreError> {
    let place = match pool.borrow().is_ordered {
        true => pool.borrow().last.clone(),
        false => Some(format!("{prefix}{chance:04x}")),
    };
    let items = store.scan(prefix, place.as_deref(), 1).await?;
    let free = items.into_iter().find_map(Free::of);
    let free = free.filter(|free| !pool.borrow().known.contains(&free.key));
    Ok(free.map(|free| taken(pool, free)))
}

fn at_hand(pool: &Rc<RefCell<Pool>>) -> Option<Taken> {
    let free = pool.borrow_mut().free.pop_front()?;
    Some(taken(pool, free))
}

fn taken(pool: &Rc<RefCell<Pool>>, free: Free) -> Taken {
    pool.borrow_mut().known.insert(free.key.clone());
    Taken {
        key: free.key,
        version: free.version,
        code: free.code,
        pool: Rc::clone(pool),
        is_spent: false,
    }
}
