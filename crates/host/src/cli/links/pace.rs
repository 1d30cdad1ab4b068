//! How fast an import goes: as fast as it can, until the gateway asks to slow down.

use super::super::exit::Failure;
use std::cell::Cell;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Successes in a row after which one more request is made at once again, where the gateway had asked to slow down.
const STEADY: u32 = 200;

/// How many requests are under way at once: as many as were asked for, or fewer while the gateway asks to slow down.
pub struct Pace {
    places: Semaphore,
    most: usize,
    now: Cell<usize>,
    aim: Cell<usize>,
    well: Cell<u32>,
    /// Nothing is sent before.
    until: Cell<Instant>,
    answered: Cell<bool>,
    told: Cell<bool>,
}

impl Pace {
    /// At most so many at once.
    pub fn new(most: usize) -> Self {
        Self {
            places: Semaphore::new(most),
            most,
            now: Cell::new(most),
            aim: Cell::new(most),
            well: Cell::new(0),
            until: Cell::new(Instant::now()),
            answered: Cell::new(false),
            told: Cell::new(false),
        }
    }

    /// A place for a request, once it may be made.
    ///
    /// # Errors
    /// Never, since places are not closed.
    pub async fn place(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let place = self.places.acquire().await;
        let place = place.map_err(|_| Failure::failed("the import has ended"))?;
        while let wait = self.until.get().saturating_duration_since(Instant::now())
            && !wait.is_zero()
        {
            tokio::time::sleep(wait).await;
        }
        Ok(place)
    }

    /// Gives a place back.
    pub fn release(&self, place: SemaphorePermit<'_>) {
        if self.now.get() > self.aim.get() {
            self.now.set(self.now.get() - 1);
            place.forget();
        }
    }

    /// Waits, and goes on with half as many requests at once; whether it is the first time. What was under way before it
    /// was told to wait changes nothing more.
    pub fn slow_down(&self, wait: Duration) -> bool {
        let now = Instant::now();
        if self.until.get() <= now {
            self.until.set(now + wait);
            self.aim.set((self.now.get() / 2).max(1));
        }
        self.well.set(0);
        !self.told.replace(true)
    }

    /// Counts an answer.
    pub fn went_well(&self) {
        self.answered.set(true);
        self.well.set(self.well.get() + 1);
        if self.well.get() >= STEADY && self.now.get() == self.aim.get() && self.now.get() < self.most {
            self.well.set(0);
            self.now.set(self.now.get() + 1);
            self.aim.set(self.now.get());
            self.places.add_permits(1);
        }
    }

    /// Whether there ever was one.
    pub fn has_answered(&self) -> bool {
        self.answered.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_slows_down_by_half_for_each_wait_and_recovers() {
        let pace = Pace::new(8);
        let work = |requests: usize| {
            for _ in 0..requests {
                pace.release(pace.places.try_acquire().unwrap());
            }
        };
        assert!(pace.slow_down(Duration::ZERO));
        work(8);
        assert_eq!(pace.places.available_permits(), 4);
        assert!(!pace.slow_down(Duration::from_secs(9)) && !pace.slow_down(Duration::from_secs(9)));
        work(8);
        assert_eq!(pace.places.available_permits(), 2);
        for _ in 0..STEADY * 20 {
            pace.went_well();
        }
        assert_eq!(pace.places.available_permits(), 8);
    }
}
