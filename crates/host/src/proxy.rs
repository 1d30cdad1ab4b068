//! What the gateway stands in front of: the `[[origins]]`, as far as all workers share them ([`origin`]), the connections to
//! them that each worker keeps for itself ([`pool`]), and what is changed about heads on the way ([`fields`], [`target`]).
//! [`crate::server`] answers requests with it.

pub mod cache;
pub mod connect;
pub mod counts;
pub mod download;
pub mod fields;
pub mod health;
pub mod origin;
pub mod pool;
pub mod target;
pub mod tunnel;
pub mod upload;

use origin::{Address, Origin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tollgate_rules::config::{OriginSettings, ProxySettings};
use tollgate_rules::settings::Settings;

/// The `[[origins]]` of one configuration, in its order.
#[derive(Debug, Default)]
pub struct Origins(Vec<Arc<Origin>>);

impl Origins {
    /// Those of these settings; `None` where nothing leads to any. One whose settings are as they were goes on as it is, with its
    /// breaker, its connections and what it has under way.
    pub fn of(settings: &Settings, before: Option<&Self>) -> Option<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if !settings.has_proxy() {
            return None;
        }
        let known = |one: &OriginSettings| {
            let mut all = before?.0.iter();
            all.find(|origin| origin.settings() == one).map(Arc::clone)
        };
        let fresh = |one: &OriginSettings| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            Arc::new(Origin::new(number, one.clone()))
        };
        let all = settings.config.origins.iter();
        let all = all.map(|one| known(one).unwrap_or_else(|| fresh(one)));
        Some(Arc::new(Self(all.collect())))
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Origin>] {
        &self.0
    }

    /// Those of which no address can be relied on: none is well with its breaker closed.
    pub fn down(&self) -> impl Iterator<Item = &Origin> {
        let is_down = |address: &Address| !address.is_well() || address.breaker() != "closed";
        let all = self.0.iter().map(|origin| &**origin);
        all.filter(move |origin| origin.addresses().iter().all(is_down))
    }

    /// The origin of a `[[proxy]]`, and its settings.
    pub fn route<'a>(
        &self,
        settings: &'a Settings,
        index: usize,
    ) -> Option<(&Arc<Origin>, &'a ProxySettings)> {
        let (origin, route) = settings.proxy(index)?;
        Some((self.0.get(origin)?, route))
    }
}
