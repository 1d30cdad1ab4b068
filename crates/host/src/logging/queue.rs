//! Lines on their way to where they are written: bounded, and written by one thread. A thread that logs never waits; a line
//! without room is dropped and counted.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes of lines that wait; as many again may be under way.
const MAX_WAITING: usize = 1 << 20;
/// How often the writer looks for counts to report.
const TICK: Duration = Duration::from_secs(1);
/// The bytes that a batch may leave allocated.
const KEPT: usize = 64 << 10;

/// A bounded queue of log lines, from the threads that log to the one that writes.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    work: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Not told yet.
    dropped: u64,
    /// Those that were told included.
    all_dropped: u64,
    /// The bytes that were ever taken in, and how many of them have been written or given up.
    taken: u64,
    done: u64,
    /// Whether the last write failed: nobody reads.
    has_failed: bool,
    is_ending: bool,
    has_ended: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line if there is room.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > MAX_WAITING {
            state.dropped += 1;
            state.all_dropped += 1;
            return;
        }
        self.take(state, line);
    }

    /// Lines that found no room, or whose batch could not be written, since the start.
    pub fn all_dropped(&self) -> u64 {
        self.state().all_dropped
    }

    /// Takes a line that must not be lost. There are few of them.
    pub fn push_always(&self, line: &[u8]) {
        self.take(self.state(), line);
    }

    fn take(&self, mut state: MutexGuard<'_, State>, line: &[u8]) {
        state.waiting.extend_from_slice(line);
        state.taken += line.len() as u64;
        drop(state);
        self.work.notify_one();
    }

    /// Waits until everything that was taken in by now has been written. Whether it was, and in time.
    pub fn wait_until_written(&self, patience: Duration) -> bool {
        let state = self.state();
        let taken = state.taken;
        let wait = self
            .written
            .wait_timeout_while(state, patience, |state| state.done < taken && !state.has_ended);
        let (state, wait) = wait.unwrap_or_else(PoisonError::into_inner);
        !wait.timed_out() && !state.has_failed
    }

    /// Ends the writer once it has written everything, and waits for that.
    pub fn finish(&self, patience: Duration) {
        let mut state = self.state();
        state.is_ending = true;
        self.work.notify_one();
        let ended = self
            .written
            .wait_timeout_while(state, patience, |state| !state.has_ended);
        // In time or not, the process ends now.
        drop(ended);
    }

    /// Writes until [`Queue::finish`]. `report` gives more to write, about once a second, when lines were
    /// dropped (so many), and a last time at the end. Output that fails counts as output that nobody reads.
    pub fn write(&self, mut out: impl Write, report: impl Fn(u64, bool) -> String) {
        let mut batch = Vec::new();
        let mut reported = Instant::now();
        loop {
            let Next { dropped, is_ending } = self.next(&mut batch);
            let taken = batch.len();
            if dropped > 0 || is_ending || reported.elapsed() >= TICK {
                reported = Instant::now();
                batch.extend_from_slice(report(dropped, is_ending).as_bytes());
            }
            let failed = out.write_all(&batch).is_err();
            // Nothing is kept back here; an output may see to itself meanwhile.
            let _ = out.flush();
            let lost = if failed { line_count(&batch) } else { 0 };
            if self.wrote(taken, is_ending, failed, lost) {
                return;
            }
            batch.clear();
            batch.shrink_to(KEPT);
        }
    }

    /// The waiting lines, once there are any or a [`TICK`] has passed.
    fn next(&self, batch: &mut Vec<u8>) -> Next {
        let wait = self.work.wait_timeout_while(self.state(), TICK, |state| {
            state.waiting.is_empty() && !state.is_ending
        });
        let (mut state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, batch);
        Next {
            dropped: std::mem::take(&mut state.dropped),
            is_ending: state.is_ending,
        }
    }

    /// Counts this many bytes as written or given up, with `lost` lines in them. Returns whether the writer is to end.
    fn wrote(&self, taken: usize, is_ending: bool, failed: bool, lost: u64) -> bool {
        let mut state = self.state();
        state.all_dropped += lost;
        state.done += taken as u64;
        state.has_failed = failed;
        state.has_ended = is_ending && (failed || state.waiting.is_empty());
        let has_ended = state.has_ended;
        drop(state);
        self.written.notify_all();
        has_ended
    }
}

fn line_count(batch: &[u8]) -> u64 {
    batch.iter().filter(|byte| **byte == b'\n').count() as u64
}

struct Next {
    dropped: u64,
    is_ending: bool,
}

/// Where the formatter writes: each call is one whole line.
pub struct Lines(pub &'static Queue);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    fn report(dropped: u64, _: bool) -> String {
        match dropped {
            0 => String::new(),
            _ => format!("{dropped} dropped\n"),
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read_and_what_was_dropped_is_told() {
        let queue: &'static Queue = Box::leak(Box::default());
        let (reader, writer) = std::io::pipe().expect("the system gives pipes");
        let thread = std::thread::spawn(move || queue.write(writer, report));
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let began = Instant::now();
        for _ in 0..100_000 {
            queue.push(&line);
        }
        queue.push_always(b"this is kept\n");
        assert!(!queue.wait_until_written(Duration::from_millis(10)));
        queue.finish(Duration::from_millis(10));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(queue.state().waiting.len() <= MAX_WAITING + 20);
        // Somebody reads after all.
        let lines: Vec<String> = BufReader::new(reader).lines().map_while(Result::ok).collect();
        thread.join().expect("it does not panic");
        let told: u64 = lines
            .iter()
            .filter_map(|line| line.strip_suffix(" dropped")?.parse::<u64>().ok())
            .sum();
        let came = lines.iter().filter(|line| line.starts_with("xxx")).count() as u64;
        assert_eq!(came + told, 100_000, "each line is there or counted");
        assert!(told > 50_000 && lines.iter().any(|line| line == "this is kept"));
    }

    #[test]
    fn what_was_logged_is_written_before_the_end() {
        let queue: &'static Queue = Box::leak(Box::default());
        let (reader, writer) = std::io::pipe().expect("the system gives pipes");
        let thread = std::thread::spawn(move || {
            queue.write(
                writer,
                |_, is_last| if is_last { "last\n".into() } else { String::new() },
            )
        });
        for number in 0..1_000 {
            queue.push(format!("{number}\n").as_bytes());
        }
        queue.finish(Duration::from_secs(10));
        thread.join().expect("it does not panic");
        let lines: Vec<String> = BufReader::new(reader).lines().map_while(Result::ok).collect();
        assert_eq!(lines.len(), 1_001);
        assert_eq!(lines.last().map(String::as_str), Some("last"));
    }

    #[test]
    fn a_closed_stderr_holds_up_nothing() {
        let queue: &'static Queue = Box::leak(Box::default());
        let (reader, writer) = std::io::pipe().expect("the system gives pipes");
        drop(reader);
        let thread = std::thread::spawn(move || queue.write(writer, report));
        for _ in 0..1_000 {
            queue.push(b"nobody reads this\n");
        }
        let began = Instant::now();
        assert!(
            !queue.wait_until_written(Duration::from_secs(10)),
            "it was not written"
        );
        assert!(began.elapsed() < Duration::from_secs(10));
        queue.finish(Duration::from_secs(10));
        thread.join().expect("it does not panic");
        assert_eq!(queue.all_dropped(), 1_000, "each is counted");
    }
}
