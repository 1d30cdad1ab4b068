//! A gateway's part in work that one at a time does, after `crates/delivery/src/driver/tenure.rs` and `crates/host/src/tenure.rs`: the
//! lease is the product's own. Where a gateway has a store of its own, the work is always its.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tollgate_delivery::lease::{self, Held, LOOK_MS, Terms, Trust};
use tollgate_delivery::relay::record::Keys;
use tollgate_store::commit::{Commit, Outcome};

use crate::bug::Bug;
use crate::coverage::Seen;
use crate::server::Server;
use crate::store::AnyStore;

/// How long a step of the background work may take, milliseconds.
const STEP_MS: u64 = 1_000;

/// A lease, looked for and kept.
pub struct Tenure {
    server: Rc<Server>,
    keys: Keys,
    /// Nothing where nobody shares the store.
    owner: Option<String>,
    terms: Terms,
    held: RefCell<Option<(Held, Trust)>>,
    renewing: Cell<bool>,
    lost: Cell<bool>,
}

impl Tenure {
    /// Of work whose longest step takes so long.
    pub fn new(server: &Rc<Server>, keys: Keys, attempt_ms: u64) -> Self {
        let owner = match &server.store {
            AnyStore::Embedded(_) => None,
            AnyStore::Shared(gateway) => Some(gateway.name.clone()),
        };
        Self {
            server: Rc::clone(server),
            keys,
            owner,
            terms: Terms { attempt_ms },
            held: RefCell::default(),
            renewing: Cell::new(false),
            lost: Cell::new(false),
        }
    }

    /// Of background work.
    pub fn of_work(server: &Rc<Server>, key: &str) -> Self {
        Self::new(server, Keys::of_work(key), STEP_MS)
    }

    /// A clock that never jumps, milliseconds.
    fn clock(&self) -> u64 {
        self.server.sim.executor.now() / 1_000
    }

    /// Waits until it is ours.
    pub async fn begin(&self) {
        self.lost.set(false);
        while self.owner.is_some() && !self.took().await {
            let sim = &self.server.sim;
            let pause = sim.between(LOOK_MS / 2, LOOK_MS);
            sim.executor.sleep(pause * 1_000).await;
        }
    }

    async fn took(&self) -> bool {
        let (asked_at, store) = (self.clock(), &self.server.store);
        let owner = self.owner.as_deref().unwrap_or_default();
        let Ok(found) = lease::look(store, &self.keys).await else {
            return false;
        };
        let Ok(Some(held)) = lease::take(store, &self.keys, owner, self.terms, &found).await else {
            return false;
        };
        let sim = &self.server.sim;
        sim.saw(Seen::LeasesTaken);
        sim.note(|| format!("{owner} has the lease of {}", self.keys.lease()));
        self.lost.set(false);
        *self.held.borrow_mut() = Some((held, Trust::new(self.terms, asked_at)));
        true
    }

    /// Whether the work is ours; takes the lease where it is free, and renews it where it is time to.
    pub async fn has(&self) -> bool {
        if self.owner.is_none() {
            return true;
        }
        if self.is_lost() {
            return self.took().await;
        }
        self.renew_if_due().await;
        !self.is_lost()
    }

    /// Whether an attempt that begins now ends while the lease is ours.
    pub fn covers(&self) -> bool {
        let now = self.clock();
        let held = self.held.borrow();
        self.owner.is_none() || held.as_ref().is_some_and(|(_, trust)| trust.covers(now))
    }

    /// Whether somebody else has the lease, or may have.
    pub fn is_lost(&self) -> bool {
        let now = self.clock();
        let held = self.held.borrow();
        let is_over = held.as_ref().is_none_or(|(_, trust)| trust.is_over(now));
        self.owner.is_some() && (self.lost.get() || is_over)
    }

    /// Makes a commit one that only the holder can make.
    pub fn fence(&self, commit: &mut Commit) {
        if let Some((held, _)) = &*self.held.borrow()
            && !self.server.sim.has(Bug::LeaseWithoutFence)
        {
            held.fence(&self.keys, commit);
        }
    }

    /// What became of such a commit.
    pub fn heard(&self, outcome: &Outcome) {
        if self.owner.is_some() && Held::is_lost_by(outcome) {
            self.server.sim.saw(Seen::LeasesLost);
            self.lost.set(true);
        }
    }

    /// Renews the lease, if it is time to and nobody does.
    pub async fn renew_if_due(&self) {
        let now = self.clock();
        let held = self.held.borrow().clone().filter(|(_, trust)| trust.is_due(now));
        let (Some((held, _)), Some(owner)) = (held, &self.owner) else {
            return;
        };
        if self.renewing.replace(true) {
            return;
        }
        let asked_at = self.clock();
        match held
            .renew(&self.server.store, &self.keys, owner, self.terms)
            .await
        {
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
}
