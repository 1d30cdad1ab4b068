//! The gateway of one worker, under one generation of the settings after the other.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::Gateway;
use crate::server::Shared;
use crate::server::generation::Generation;
use crate::server::handshake::Handshakes;
use crate::server::rest::Rest;
use crate::server::rules::Rules;
use crate::server::runner::Runner;

/// The gateway of one worker: requests begin with the newest, and end with the one that they began with.
pub struct Gateways {
    now: RefCell<Rc<Gateway>>,
    handshakes: Handshakes,
}

impl Gateways {
    /// `crowd`: the worker's own rules; `rest`: the way to those of everything else.
    pub fn new(
        shared: Arc<Shared>,
        generation: Arc<Generation>,
        crowd: Runner<Rules>,
        rest: Arc<Rest>,
    ) -> Self {
        let proxied = generation.settings.config.server.proxy_protocol;
        let handshakes = Handshakes::new(
            shared.tls.clone(),
            shared.admin_tls.clone(),
            proxied.then(|| Arc::clone(&shared.places)),
        );
        let counters = shared.engines.counted.requests();
        let gateway = Gateway::new(shared, generation, Rc::new(crowd), rest, counters, Rc::default());
        Self {
            now: RefCell::new(Rc::new(gateway)),
            handshakes,
        }
    }

    /// The one that a request begins with. To be let go of before anything else runs on this thread.
    pub fn now(&self) -> Ref<'_, Rc<Gateway>> {
        self.now.borrow()
    }

    /// Requests that begin from now on are judged by this generation.
    pub fn renew(&self, generation: Arc<Generation>) {
        let before = Rc::clone(&self.now());
        before.crowd.under(&generation);
        let next = Gateway::new(
            Arc::clone(&before.shared),
            generation,
            Rc::clone(&before.crowd),
            Arc::clone(&before.rest),
            Arc::clone(&before.counters),
            Rc::clone(&before.pools),
        );
        let origins = next.generation.origins.as_ref();
        next.pools.keep(origins.map_or(&[], |origins| origins.all()));
        self.now.replace(Rc::new(next));
    }

    /// What comes before the requests of a connection.
    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// Hands on the changes that the crowd's rules defer and commit, for as long as it is polled.
    pub async fn run(&self) {
        let (crowd, pools) = (Rc::clone(&self.now().crowd), Rc::clone(&self.now().pools));
        tokio::join!(crowd.run(), pools.run());
    }

    /// Hands on the changes that they have deferred.
    pub fn flush(&self) {
        self.now().crowd.flush();
    }
}
