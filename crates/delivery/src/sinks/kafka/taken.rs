//! Messages that are there though nobody was told so: their attempts had ended before. Whoever sends one again is told without sending.

use std::collections::{HashSet, VecDeque};

/// The most that are remembered.
const MAX_TAKEN: usize = 10_000;

/// By their ids. The oldest are forgotten first.
#[derive(Default)]
pub(super) struct Taken {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Taken {
    pub fn insert(&mut self, id: String) {
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        while self.order.len() > MAX_TAKEN {
            let oldest = self.order.pop_front();
            oldest.map(|oldest| self.ids.remove(&oldest));
        }
    }

    /// Whether it was remembered.
    pub fn remove(&mut self, id: &str) -> bool {
        self.ids.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_once() {
        let mut taken = Taken::default();
        (0..=MAX_TAKEN).for_each(|n| taken.insert(format!("m{n}")));
        assert!(!taken.remove("m0") && taken.remove("m1") && !taken.remove("m1"));
        assert!(taken.remove(&format!("m{MAX_TAKEN}")));
        (0..3 * MAX_TAKEN).for_each(|_| {
            taken.insert("again".into());
            taken.remove("again");
        });
        assert!(taken.order.len() <= MAX_TAKEN);
    }
}
