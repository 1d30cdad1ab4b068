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
