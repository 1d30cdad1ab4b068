//! The world of a rule: what it is given besides its request.

use crate::settings::Settings;

/// Everything a rule may know of the world: its ports, its settings, the time and fresh randomness, as values.
pub struct World<'a, S> {
    /// The store.
    pub store: &'a S,
    /// What is configured.
    pub settings: &'a Settings,
    /// Unix milliseconds.
    pub now: u64,
    /// Sixteen unpredictable bytes, different on every call.
    pub fresh: &'a dyn Fn() -> [u8; 16],
}

impl<S> World<'_, S> {
    /// The same on another store.
    pub fn on<'b, T>(&'b self, store: &'b T) -> World<'b, T> {
        World {
            store,
            settings: self.settings,
            now: self.now,
            fresh: self.fresh,
        }
    }
}
