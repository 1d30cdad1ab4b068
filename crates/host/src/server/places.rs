//! The places of connections: a bounded number in all, and a share of them for one address. A few spare
//! places beside them answer questions about the gateway's health only, so that it can be asked while all
//! others are taken.

use crate::metrics::count::Count;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tollgate_rules::identity::{self, Proxies};

/// Spare places, beside the others.
const SPARE: usize = 16;
/// The spare places that one address may hold.
const SPARE_OF_ADDRESS: u32 = 4;

/// The places of connections: a bounded number in all, a share of them for one address, and a few spare ones.
#[derive(Debug)]
pub struct Places {
    regular: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    per_address: AtomicU32,
    proxies: ArcSwap<Proxies>,
    addresses: Mutex<HashMap<IpAddr, Held>>,
    total: usize,
    /// Connections that were accepted, by the one that accepts, and of them those that found no place; and how often none could be
    /// accepted.
    pub accepted: Count,
    /// See `accepted`.
    pub refused: Count,
    /// See `accepted`.
    pub failed: Count,
    /// Connections that were closed since the client that a proxy named held all that it may. By any worker.
    refused_behind_proxy: AtomicU64,
}

/// The places that one address holds. No more addresses are known than there are places.
#[derive(Debug, Default)]
struct Held {
    regular: u32,
    spare: u32,
}

impl Held {
    fn of(&mut self, is_spare: bool) -> &mut u32 {
        match is_spare {
            true => &mut self.spare,
            false => &mut self.regular,
        }
    }
}

/// A place that nobody has yet.
#[derive(Debug)]
pub struct Free {
    _permit: OwnedSemaphorePermit,
    is_spare: bool,
}

impl Free {
    /// Whether it is a spare place: all others were taken.
    pub fn is_spare(&self) -> bool {
        self.is_spare
    }
}

/// The place of one connection; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    free: Free,
    counted: Option<(Arc<Places>, IpAddr)>,
}

impl Place {
    /// Whether it is a spare place.
    pub fn is_spare(&self) -> bool {
        self.free.is_spare
    }
}

impl Places {
    /// `total` places, of which one address may hold `per_address` (at least 1) unless it is one of `proxies`.
    pub fn new(total: usize, per_address: u32, proxies: Proxies) -> Arc<Self> {
        Arc::new(Self {
            regular: Arc::new(Semaphore::new(total)),
            spare: Arc::new(Semaphore::new(SPARE)),
            per_address: AtomicU32::new(per_address),
            proxies: ArcSwap::from_pointee(proxies),
            addresses: Mutex::default(),
            total,
            accepted: Count::default(),
            refused: Count::default(),
            failed: Count::default(),
            refused_behind_proxy: AtomicU64::new(0),
        })
    }

    /// From now on one address may hold so many, unless it is one of these. Places that are taken stay taken.
    pub fn share(&self, per_address: u32, proxies: Proxies) {
        self.per_address.store(per_address, Ordering::Relaxed);
        self.proxies.store(Arc::new(proxies));
    }

    fn per_address(&self) -> u32 {
        self.per_address.load(Ordering::Relaxed)
    }

    /// Places that there are, the spare ones not counted.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Places that are taken, spare ones included. The one that the next connection will have counts too.
    pub fn taken(&self) -> usize {
        let all = self.total + SPARE;
        all.saturating_sub(self.regular.available_permits() + self.spare.available_permits())
    }

    /// Waits until a connection may be accepted. `None`: never again.
    pub async fn next(&self) -> Option<Free> {
        let (permit, is_spare) = tokio::select! {
            biased;
            permit = Arc::clone(&self.regular).acquire_owned() => (permit, false),
            permit = Arc::clone(&self.spare).acquire_owned() => (permit, true),
        };
        let permit = permit.ok()?;
        Some(Free {
            _permit: permit,
            is_spare,
        })
    }

    /// The place of a connection that was accepted. `None` if its address holds all that it may: to be closed.
    pub fn take(self: &Arc<Self>, peer: IpAddr, mut free: Free) -> Option<Place> {
        // One may have become free while nobody came.
        if free.is_spare
            && let Ok(permit) = Arc::clone(&self.regular).try_acquire_owned()
        {
            free = Free {
                _permit: permit,
                is_spare: false,
            };
        }
        let address = identity::subscriber(peer);
        if self.trust(peer) {
            return Some(Place { free, counted: None });
        }
        let mut addresses = self.addresses();
        let (regular, spare) = addresses
            .get(&address)
            .map_or((0, 0), |held| (held.regular, held.spare));
        if !free.is_spare && regular >= self.per_address() {
            let permit = Arc::clone(&self.spare).try_acquire_owned().ok()?;
            free = Free {
                _permit: permit,
                is_spare: true,
            };
        }
        if free.is_spare && spare >= SPARE_OF_ADDRESS {
            return None;
        }
        *addresses.entry(address).or_default().of(free.is_spare) += 1;
        Some(Place {
            free,
            counted: Some((Arc::clone(self), address)),
        })
    }

    /// Whether it is a trusted proxy.
    pub fn trust(&self, peer: IpAddr) -> bool {
        self.proxies.load().trust(peer.to_canonical())
    }

    /// Counts the place of a proxy's connection for the client that it is for. `false` if that client holds all that it may: to be
    /// closed.
    pub fn count(self: &Arc<Self>, place: &mut Place, client: IpAddr) -> bool {
        if self.trust(client) {
            return true;
        }
        let address = identity::subscriber(client);
        let most = match place.is_spare() {
            true => SPARE_OF_ADDRESS,
            false => self.per_address(),
        };
        let mut addresses = self.addresses();
        let held = addresses.get_mut(&address).map(|held| *held.of(place.is_spare()));
        if held.unwrap_or(0) >= most {
            self.refused_behind_proxy.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        *addresses.entry(address).or_default().of(place.is_spare()) += 1;
        place.counted = Some((Arc::clone(self), address));
        true
    }

    /// Connections that were closed at once, their client having all that it may.
    pub fn refused(&self) -> u64 {
        self.refused.get() + self.refused_behind_proxy.load(Ordering::Relaxed)
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Held>> {
        // No code that runs under the lock panics.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, address)) = &self.counted else {
            return;
        };
        let mut addresses = places.addresses();
        if let Some(held) = addresses.get_mut(address) {
            let count = held.of(self.free.is_spare);
            *count = count.saturating_sub(1);
            if held.regular == 0 && held.spare == 0 {
                addresses.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn places(total: usize, per_address: u32) -> Arc<Places> {
        let proxies = Proxies::parse(&["10.0.0.0/8".to_owned()]).expect("a network");
        Places::new(total, per_address, proxies)
    }

    fn come(places: &Arc<Places>, from: &str) -> Option<Place> {
        let free = places.next().now_or_never()??;
        places.take(from.parse().expect("an address"), free)
    }

    #[test]
    fn an_address_has_its_share_and_a_little_beside_it() {
        let places = places(100, 3);
        let held: Vec<_> = (0..3).filter_map(|_| come(&places, "192.0.2.1")).collect();
        assert!(held.len() == 3 && held.iter().all(|place| !place.is_spare()));
        let spare: Vec<_> = (0..10).filter_map(|_| come(&places, "192.0.2.1")).collect();
        assert_eq!(spare.len(), SPARE_OF_ADDRESS as usize);
        assert!(spare.iter().all(Place::is_spare));
        for other in ["192.0.2.2", "2001:db8::1", "::ffff:192.0.2.3"] {
            assert!(!come(&places, other).expect("a place").is_spare());
        }
        drop(held);
        assert!(!come(&places, "192.0.2.1").expect("a place").is_spare());
        drop(spare);
        assert!(places.addresses().is_empty(), "none is kept once it has gone");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_address_is_its_ipv4() {
        let places = places(100, 1);
        let held = [
            come(&places, "2001:db8:0:1::1"),
            come(&places, "::ffff:192.0.2.1"),
        ];
        assert!(held.iter().flatten().count() == 2);
        for (from, is_spare) in [
            ("2001:db8:0:1:ffff::9", true),
            ("192.0.2.1", true),
            ("2001:db8:0:2::1", false),
        ] {
            assert_eq!(
                come(&places, from).expect("a place").is_spare(),
                is_spare,
                "{from}"
            );
        }
    }

    #[test]
    fn trusted_proxies_are_not_counted() {
        let places = places(100, 1);
        let held: Vec<_> = (0..50).filter_map(|_| come(&places, "10.1.2.3")).collect();
        assert!(held.len() == 50 && held.iter().all(|place| !place.is_spare()));
        assert!(places.addresses().is_empty());
    }

    #[test]
    fn a_client_behind_a_proxy_has_its_own_share() {
        let places = places(100, 2);
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let behind = |client| {
            let mut place = come(&places, "10.1.2.3")?;
            places.count(&mut place, client).then_some(place)
        };
        let held: Vec<_> = (0..10).filter_map(|_| behind(client)).collect();
        assert_eq!(held.len(), 2);
        assert!(behind("192.0.2.2".parse().unwrap()).is_some());
        let proxies: Vec<_> = (0..10)
            .filter_map(|_| behind("10.9.9.9".parse().unwrap()))
            .collect();
        assert_eq!(proxies.len(), 10);
        assert_eq!(places.refused(), 8);
        drop((held, proxies));
        assert!(places.addresses().is_empty(), "none is kept once it has gone");
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn beyond_all_places_a_few_are_kept_which_no_address_can_hold() {
        let places = places(4, 4);
        let held: Vec<_> = (0..4).filter_map(|_| come(&places, "192.0.2.1")).collect();
        assert_eq!(held.len(), 4);
        let spare: Vec<_> = (0..100).filter_map(|_| come(&places, "192.0.2.1")).collect();
        assert_eq!(spare.len(), SPARE_OF_ADDRESS as usize);
        assert!(come(&places, "192.0.2.2").expect("a place").is_spare());
        // A proxy speaks for many; what is beyond waits in the kernel's queue.
        let rest: Vec<_> = (0..100).filter_map(|_| come(&places, "10.1.2.3")).collect();
        assert_eq!(rest.len(), SPARE - spare.len());
        assert!(places.next().now_or_never().is_none());
        drop((rest, held));
        let free = places.next().now_or_never().flatten().expect("a place");
        assert!(!free.is_spare());
    }

    #[test]
    fn a_place_that_became_free_while_nobody_came_is_taken() {
        let places = places(1, 1);
        let held = come(&places, "192.0.2.1");
        let free = places.next().now_or_never().flatten().expect("a spare one");
        assert!(free.is_spare());
        drop(held);
        let place = places.take("192.0.2.2".parse().expect("an address"), free);
        assert!(!place.expect("a place").is_spare());
    }
}
