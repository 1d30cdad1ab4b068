//! The requests under way of `[[concurrency]]`: places that are taken before a request is charged, and given back when its answer has
//! ended, however that is: sent, failed, or nobody is there any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tollgate_api::problem::Problem;
use tollgate_rules::concurrency::Place;

/// The places that are taken. No more keys are known than places are.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By key: of a limit, and of whom it counts.
    taken: HashMap<String, u32>,
    /// By the limit's name: those taken, and the requests that it has refused. As many as were ever configured.
    limits: HashMap<String, Numbers>,
}

/// What metrics tell of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Requests under way.
    pub under_way: u64,
    /// Requests that were refused.
    pub refused: u64,
}

/// The places of one request; free again when this is dropped.
#[derive(Debug)]
pub struct Held {
    of: Arc<UnderWay>,
    /// Limit and key.
    places: Vec<(String, String)>,
}

impl UnderWay {
    /// Takes all of these places, or none.
    ///
    /// # Errors
    /// What the request is told: one of the limits has none left.
    pub fn take(self: &Arc<Self>, places: &[Place<'_>]) -> Result<Held, Problem> {
        let mut state = self.state();
        let is_full = |place: &&Place<'_>| {
            let taken = state.taken.get(&place.key).copied().unwrap_or(0);
            taken >= place.max()
        };
        if let Some(full) = places.iter().find(is_full) {
            state.numbers(full.name()).refused += 1;
            return Err(full.refusal());
        }
        for place in places {
            *state.taken.entry(place.key.clone()).or_default() += 1;
            state.numbers(place.name()).under_way += 1;
        }
        let of = |place: &Place<'_>| (place.name().to_owned(), place.key.clone());
        Ok(Held {
            of: Arc::clone(self),
            places: places.iter().map(of).collect(),
        })
    }

    /// The numbers of the limit with this name.
    pub fn numbers(&self, name: &str) -> Numbers {
        self.state().limits.get(name).copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it is left by half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn numbers(&mut self, name: &str) -> &mut Numbers {
        if !self.limits.contains_key(name) {
            self.limits.insert(name.to_owned(), Numbers::default());
        }
        self.limits.entry(name.to_owned()).or_default()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.of.state();
        for (name, key) in &self.places {
            let left = state.taken.get_mut(key).map(|taken| {
                *taken -= 1;
                *taken
            });
            if left == Some(0) {
                state.taken.remove(key);
            }
            state.numbers(name).under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use tollgate_rules::concurrency;
    use tollgate_rules::settings::Settings;
    use tollgate_rules::world::World;

    const FILE: &str =
        "[[concurrency]]\nname = \"each\"\nmax = 2\n[[concurrency]]\nname = \"all\"\nper = []\nmax = 3\n";

    fn held(under_way: &Arc<UnderWay>, settings: &Settings, client: &str) -> Result<Held, u16> {
        let request = tollgate_api::http::Request {
            method: "GET".into(),
            path: "/a".into(),
            query: None,
            headers: vec![tollgate_api::http::Header::new("x-client-id", client)],
            body: Vec::new(),
            peer: "192.0.2.1".into(),
        };
        let world = World {
            store: &tollgate_store::memory::InMemoryStore::new(),
            settings,
            now: 0,
            fresh: &|| [0; 16],
        };
        let places = concurrency::places(&world, &request)
            .now_or_never()
            .unwrap()
            .unwrap();
        under_way
            .take(&places)
            .map_err(|problem| problem.into_response().status)
    }

    #[test]
    fn all_places_are_taken_or_none_and_each_is_given_back_once() {
        let settings = Settings::parse(FILE, "t").unwrap();
        let under_way = Arc::new(UnderWay::default());
        let of = |client: &str| held(&under_way, &settings, client);
        let ann = [of("ann").unwrap(), of("ann").unwrap()];
        assert_eq!(of("ann").unwrap_err(), 429);
        let bob = of("bob").unwrap();
        assert_eq!(
            of("bob").unwrap_err(),
            429,
            "none left of those for all, and so none of its own is taken"
        );
        let (each, all) = (under_way.numbers("each"), under_way.numbers("all"));
        assert_eq!(
            (each.under_way, each.refused, all.under_way, all.refused),
            (3, 1, 3, 1)
        );
        drop(ann);
        let again = [of("bob").unwrap(), of("cid").unwrap()];
        drop((bob, again));
        assert_eq!(under_way.numbers("all").under_way, 0);
        assert!(under_way.state().taken.is_empty(), "no key is kept");
    }

    #[test]
    fn a_thread_that_panics_gives_its_place_back() {
        let settings = Settings::parse(FILE, "t").unwrap();
        let under_way = Arc::new(UnderWay::default());
        let of = Arc::clone(&under_way);
        let thread = std::thread::spawn(move || {
            let _held = held(&of, &settings, "ann").unwrap();
            panic!("as planned");
        });
        assert!(thread.join().is_err());
        assert_eq!(under_way.numbers("each").under_way, 0);
    }
}
