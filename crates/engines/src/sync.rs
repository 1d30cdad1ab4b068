//! The locks of what threads share: the standard library's and parking_lot's; with the feature `shuttle`, those of a
//! scheduler that tries interleavings (`cargo xtask test` runs them).

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks that a panic does not poison.
pub(crate) mod plain {
    #[cfg(not(feature = "shuttle"))]
    pub(crate) use parking_lot::{Mutex, MutexGuard};

    #[cfg(feature = "shuttle")]
    pub(crate) use shuttle::sync::MutexGuard;

    #[cfg(feature = "shuttle")]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    #[cfg(feature = "shuttle")]
    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

/// Runs a model under many schedules: some random, some that switch threads at a few chosen points only, which finds
/// bugs that need few switches sooner (<https://www.microsoft.com/en-us/research/publication/a-randomized-scheduler-with-probabilistic-guarantees-of-finding-bugs/>).
#[cfg(all(test, feature = "shuttle"))]
pub(crate) fn explore(model: impl Fn() + Send + Sync + Copy + 'static) {
    const SCHEDULES: usize = 3_000;
    shuttle::check_random(model, SCHEDULES);
    shuttle::check_pct(model, SCHEDULES, 3);
}
