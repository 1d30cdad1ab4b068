//! Reads that the cache cannot answer. Point reads run where they are asked (a few microseconds); pages run on threads
//! of their own, so that they never hold up the runtime that polls them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tollgate_store::commit::StoreError;

use super::options::{OpenError, Options};
use super::schema;

/// Threads for pages.
const PAGE_THREADS: usize = 2;
/// The most page reads that wait for a thread.
const WAITING_PAGES: usize = 1_024;

type Work = Box<dyn FnOnce(&Connection) + Send>;

/// Connections for reads that memory cannot answer.
#[derive(Debug)]
pub struct Readers {
    points: Vec<Mutex<Connection>>,
    next: AtomicUsize,
    /// `None` once they are to end.
    pages: Option<SyncSender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Opens the connections and starts the threads. All are closed and over once this is dropped.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let connections = (0..options.readers.max(1)).map(|_| schema::open_reader(options).map(Mutex::new));
        let points = connections.collect::<Result<_, _>>()?;
        let (pages, work) = sync_channel::<Work>(WAITING_PAGES);
        let work = Arc::new(Mutex::new(work));
        let mut threads = Vec::with_capacity(PAGE_THREADS);
        for index in 0..PAGE_THREADS {
            let (connection, work) = (schema::open_reader(options)?, Arc::clone(&work));
            let thread = thread::Builder::new()
                .name(format!("store-read-{index}"))
                .spawn(move || run(&connection, &work))
                .map_err(|source| OpenError::Io {
                    path: options.path.clone(),
                    source,
                })?;
            threads.push(thread);
        }
        Ok(Self {
            points,
            next: AtomicUsize::new(0),
            pages: Some(pages),
            threads,
        })
    }

    /// A connection for a point read on this thread.
    pub fn point(&self) -> MutexGuard<'_, Connection> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let at = |offset: usize| &self.points[start.wrapping_add(offset) % self.points.len()];
        for offset in 0..self.points.len() {
            match at(offset).try_lock() {
                Ok(connection) => return connection,
                // A connection outlives a panic: statements are reset when they are dropped.
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        at(0).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read on a thread of its own.
    pub async fn page<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Who no longer waits needs no answer.
            let _ = reply.send(read(connection));
        });
        let stopped = || StoreError::Unavailable("the readers have stopped".into());
        let pages = self.pages.as_ref().ok_or_else(stopped)?;
        pages.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Unavailable("too many reads are waiting".into()),
            TrySendError::Disconnected(_) => stopped(),
        })?;
        match answer.await {
            Ok(read) => read.map_err(unavailable),
            Err(_) => Err(StoreError::Unavailable("the reader has stopped".into())),
        }
    }
}

impl Drop for Readers {
    /// Waits for the threads. While one of their connections is open, SQLite shares its knowledge of the file
    /// with the next one that is opened.
    fn drop(&mut self) {
        self.pages = None;
        for thread in self.threads.drain(..) {
            // What a read that panicked had to say, it has said.
            _ = thread.join();
        }
    }
}

/// A read that failed changed nothing.
pub fn unavailable(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn run(connection: &Connection, work: &Mutex<Receiver<Work>>) {
    loop {
        // Only the thread that waits for work holds the lock.
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(connection),
            Err(_) => return,
        }
    }
}
