//! What gateways over one database rely on, in small worlds of which every order of steps is tried: the lease with its fence, what
//! becomes of a COMMIT whose answer is lost, and shared buckets, by debt and exactly. And the same with a deliberate bug, which must be found.

mod buckets;
mod commits;
mod exact;
mod leases;

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;

/// A world of few steps.
pub(crate) trait World: Clone {
    type Step: Copy + Debug;

    /// What may happen next; none at the end.
    fn steps(&self) -> Vec<Self::Step>;

    /// Lets it happen; `Err`: what must never be, is.
    fn take(&mut self, step: Self::Step) -> Result<(), String>;

    /// Two worlds with the same text go on alike.
    fn text(&self) -> String;
}

/// Tries all orders of at most `depth` steps; the number of different states, or the first steps that break a promise.
pub(crate) fn explore<W: World>(first: W, depth: usize) -> Result<usize, String> {
    let mut seen = HashSet::from([first.text()]);
    let mut next = VecDeque::from([(first, Vec::new())]);
    while let Some((world, path)) = next.pop_front() {
        if path.len() == depth {
            continue;
        }
        for step in world.steps() {
            let mut world = world.clone();
            let mut path: Vec<W::Step> = path.clone();
            path.push(step);
            world.take(step).map_err(|why| format!("{why}, after {path:?}"))?;
            if seen.insert(world.text()) {
                next.push_back((world, path));
            }
        }
    }
    Ok(seen.len())
}
