//! Repeated lines are written once, and counted.
//!
//! For one place in the code (a call site), the same line is written once in an [`INTERVAL`], and at most
//! [`MAX_TEXTS`] different ones. Lines beyond that are counted, and the counts are written when the interval
//! is over. So the log grows by what the program has to say, not by how often a stranger makes it say that.
//! Lines below INFO were asked for, and are never folded.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How long a line keeps others of its kind out.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// The most different lines of one call site in an interval.
const MAX_TEXTS: usize = 20;
/// The most bytes of a message that are kept to tell how often it was repeated.
const MAX_MESSAGE: usize = 256;

/// The lines written in the running intervals, by call site: there are as many entries as call sites in the
/// program.
#[derive(Default)]
pub struct Fold {
    sites: Mutex<HashMap<Identifier, Site>>,
    /// Lines that were left out since the start.
    left_out: AtomicU64,
}

struct Site {
    level: Level,
    began: Instant,
    texts: Vec<Text>,
    /// Lines beyond [`MAX_TEXTS`].
    others: u64,
}

struct Text {
    hash: u64,
    message: String,
    left_out: u64,
}

/// A line that was left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Its level.
    pub level: Level,
    /// Its message, without fields.
    pub message: String,
    /// How often, besides the one that was written.
    pub times: u64,
}

impl Fold {
    fn sites(&self) -> MutexGuard<'_, HashMap<Identifier, Site>> {
        // No code that runs under the lock panics.
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines that were left out since the start.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Whether the line is to be written; if not, it is counted.
    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return true;
        }
        let mut hash = Hash(DefaultHasher::new());
        event.record(&mut hash);
        let hash = hash.0.finish();
        let mut sites = self.sites();
        let site = sites.entry(metadata.callsite()).or_insert_with(|| Site {
            level: *metadata.level(),
            began: now,
            texts: Vec::new(),
            others: 0,
        });
        if let Some(text) = site.texts.iter_mut().find(|text| text.hash == hash) {
            text.left_out += 1;
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if site.texts.len() == MAX_TEXTS {
            site.others += 1;
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        site.texts.push(Text {
            hash,
            message: message.0,
            left_out: 0,
        });
        true
    }

    /// The lines left out in intervals that are over (or in all intervals), which then begin anew.
    pub fn repeated(&self, now: Instant, all: bool) -> Vec<Repeated> {
        let mut repeated = Vec::new();
        let ended = |_: &Identifier, site: &mut Site| all || now.duration_since(site.began) >= INTERVAL;
        let ended: Vec<(Identifier, Site)> = self.sites().extract_if(ended).collect();
        for (_, site) in ended {
            let others = site.texts.first().map(|text| Text {
                hash: 0,
                message: format!("{} (and others like it)", text.message),
                left_out: site.others,
            });
            for text in site
                .texts
                .into_iter()
                .chain(others)
                .filter(|text| text.left_out > 0)
            {
                repeated.push(Repeated {
                    level: site.level,
                    message: text.message,
                    times: text.left_out,
                });
            }
        }
        repeated
    }
}

/// The layer that keeps repeated lines from those within it.
pub struct Folding(pub &'static Fold);

impl<S: Subscriber> Layer<S> for Folding {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.admits(event, Instant::now())
    }
}

/// A hash of all that a line says.
struct Hash(DefaultHasher);

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Visit for Hash {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a hash cannot fail.
        let _ = write!(self, "{}\0{value:?}\0", field.name());
    }
}

/// The beginning of a line's message.
struct Message(String);

impl fmt::Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_MESSAGE.saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Ok(())
    }
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use tracing_subscriber::layer::SubscriberExt as _;

    struct Count(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines came through, and the fold.
    fn logged(what: impl FnOnce()) -> (usize, &'static Fold) {
        let fold: &'static Fold = Box::leak(Box::default());
        let count = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry()
            .with(Count(Arc::clone(&count)))
            .with(Folding(fold));
        tracing::subscriber::with_default(subscriber, what);
        (count.load(Ordering::Relaxed), fold)
    }

    #[test]
    fn a_repeated_line_is_written_once_and_counted() {
        let (written, fold) = logged(|| {
            for _ in 0..4_212 {
                tracing::warn!(error = "too many open files", "cannot accept a connection");
            }
            tracing::warn!("another");
        });
        assert_eq!(written, 2);
        assert_eq!(
            fold.repeated(Instant::now(), false),
            [],
            "the interval is not over"
        );
        let told = [Repeated {
            level: Level::WARN,
            message: "cannot accept a connection".into(),
            times: 4_211,
        }];
        assert_eq!(fold.repeated(Instant::now() + INTERVAL, false), told);
        assert_eq!(fold.repeated(Instant::now(), true), [], "it is told once");
    }

    #[test]
    fn different_lines_of_one_place_are_written_up_to_a_bound() {
        let (written, fold) = logged(|| {
            for number in 0..1_000 {
                tracing::error!(number, "lost");
            }
        });
        assert_eq!(written, MAX_TEXTS);
        let told = fold.repeated(Instant::now(), true);
        assert_eq!(
            told.iter().map(|one| one.times).sum::<u64>(),
            1_000 - MAX_TEXTS as u64
        );
    }

    #[test]
    fn what_was_asked_for_is_left_alone() {
        let (written, _) = logged(|| {
            for _ in 0..1_000 {
                tracing::debug!("a detail");
            }
        });
        assert_eq!(written, 1_000);
    }

    #[test]
    fn long_messages_are_kept_in_part() {
        let (_, fold) = logged(|| {
            for _ in 0..2 {
                tracing::warn!("{}", "ü".repeat(10_000));
            }
        });
        assert_eq!(fold.repeated(Instant::now(), true)[0].message.len(), MAX_MESSAGE);
    }
}
