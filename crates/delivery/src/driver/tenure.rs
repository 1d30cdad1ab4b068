//! The lease of a worker whose store other processes share: it serves its subscription only while it has it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tollgate_store::commit::{Commit, Outcome};
use tollgate_store::ports::Store;

use super::worker::Order;
use crate::clock::{Clock, random};
use crate::lease::{self, Held, LOOK_MS, Terms, Trust};
use crate::relay::record::Keys;
use crate::retry::jitter;

/// Why a tenure did not begin, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The worker was told to end.
    Told,
    /// Somebody else serves the subscription now.
    Lost,
}

/// A lease, looked for and kept.
pub(super) struct Tenure {
    clock: Clock,
    keys: Keys,
    owner: String,
    terms: Terms,
    held: RefCell<Option<(Held, Trust)>>,
    renewing: Cell<bool>,
    lost: Cell<bool>,
}

impl Tenure {
    pub fn new(clock: Clock, keys: Keys, timeout: Duration) -> Self {
        let attempt_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Self {
            clock,
            keys,
            owner: format!("{:016x}", random()),
            terms: Terms { attempt_ms },
            held: RefCell::default(),
            renewing: Cell::new(false),
            lost: Cell::new(false),
        }
    }

    /// Waits until the lease is ours; `Err` if the worker is told to end before.
    pub async fn begin<S: Store>(&self, store: &S, orders: &mut watch::Receiver<Order>) -> Result<(), Ended> {
        self.lost.set(false);
        loop {
            if *orders.borrow() != Order::Run {
                return Err(Ended::Told);
            }
            // A store that fails is looked at again; whoever uses it more says so.
            if self.took(store).await {
                return Ok(());
            }
            tokio::select! {
                () = sleep(Duration::from_millis(jitter(LOOK_MS, random()))) => {}
                changed = orders.changed() => if changed.is_err() { return Err(Ended::Told) },
            }
        }
    }

    async fn took<S: Store>(&self, store: &S) -> bool {
        let asked_at = self.clock.now();
        let Ok(found) = lease::look(store, &self.keys).await else {
            return false;
        };
        let Ok(Some(held)) = lease::take(store, &self.keys, &self.owner, self.terms, &found).await else {
            return false;
        };
        *self.held.borrow_mut() = Some((held, Trust::new(self.terms, asked_at)));
        true
    }

    /// Whether an attempt that begins now ends while the lease is ours.
    pub fn covers(&self) -> bool {
        let now = self.clock.now();
        self.held
            .borrow()
            .as_ref()
            .is_some_and(|(_, trust)| trust.covers(now))
    }

    /// Whether somebody else has the lease, or may have.
    pub fn is_lost(&self) -> bool {
        let now = self.clock.now();
        let held = self.held.borrow();
        self.lost.get() || held.as_ref().is_none_or(|(_, trust)| trust.is_over(now))
    }

    /// Makes a commit of the subscription's progress one that only the holder can make.
    pub fn fence(&self, commit: &mut Commit) {
        if let Some((held, _)) = &*self.held.borrow() {
            held.fence(&self.keys, commit);
        }
    }

    /// What became of such a commit.
    pub fn heard(&self, outcome: &Outcome) {
        if Held::is_lost_by(outcome) {
            self.lost.set(true);
        }
    }

    /// Whether it is time to renew, and nobody does.
    pub fn is_due(&self) -> bool {
        let now = self.clock.now();
        let held = self.held.borrow();
        !self.renewing.get() && held.as_ref().is_some_and(|(_, trust)| trust.is_due(now))
    }

    /// Renews the lease. One that cannot be renewed now may be next time.
    pub async fn renew<S: Store>(&self, store: &S) {
        let held = self.held.borrow().as_ref().map(|(held, _)| held.clone());
        let Some(held) = held else { return };
        self.renewing.set(true);
        let asked_at = self.clock.now();
        match held.renew(store, &self.keys, &self.owner, self.terms).await {
            Ok(true) => {
                if let Some((_, trust)) = &mut *self.held.borrow_mut() {
                    trust.renewed(asked_at);
                }
            }
            Ok(false) => self.lost.set(true),
            Err(_) => {}
        }
        self.renewing.set(false);
    }

    /// Gives the lease back: others need not wait for its end.
    pub async fn end<S: Store>(&self, store: &S) {
        let held = self.held.borrow_mut().take();
        if let Some((held, _)) = held {
            let _ = held.release(store, &self.keys).await;
        }
    }
}
