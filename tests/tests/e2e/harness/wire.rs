//! What lies between a gateway and its database: a TCP proxy that delays, drops, swallows, or loses the answer to a COMMIT.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream, tcp, unix};
use tokio::sync::watch;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    /// Each piece takes so long, each way.
    Slow(Duration),
    /// Nothing passes, and nobody is told.
    Silent,
    /// Questions pass, answers do not.
    Deaf,
    /// Connections end, and new ones end at once.
    Refused,
    /// A COMMIT passes, and the connection ends before its answer.
    LosesCommits,
}

#[derive(Clone, Copy, Default)]
struct State {
    trouble: Trouble,
    /// How often all connections were cut.
    cuts: u64,
    /// Connections so far.
    connections: u64,
    /// Of those the first so many were forgotten: nothing passes any more, and nobody is told.
    forgotten: u64,
}

/// Bytes from the gateway that are replaced by as many others.
pub type Forgery = (&'static [u8], &'static [u8]);

/// A proxy in front of a Postgres that listens at a socket in a directory. It ends when it is dropped.
pub struct Wire {
    port: u16,
    state: watch::Sender<State>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// One to the server whose socket is in `directory`.
    pub async fn to(directory: &Path, forgery: Option<Forgery>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let socket = Arc::new(directory.join(".s.PGSQL.5432"));
        let state = watch::Sender::new(State::default());
        let accepting = tokio::spawn(accept(listener, socket, state.clone(), forgery));
        Self {
            port,
            state,
            accepting,
        }
    }

    /// The URL of a schema behind it.
    pub fn url(&self, schema: &str) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/postgres?options=-csearch_path%3D{schema}",
            self.port
        )
    }

    /// From now on this is wrong.
    pub fn suffers(&self, trouble: Trouble) {
        self.state.send_modify(|state| {
            state.trouble = trouble;
            state.cuts += u64::from(trouble == Trouble::Refused);
        });
    }

    /// The connections there are carry nothing any more, as where a firewall has forgotten them; new ones do.
    pub fn forgets(&self) {
        self.state
            .send_modify(|state| state.forgotten = state.connections);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    socket: Arc<PathBuf>,
    state: watch::Sender<State>,
    forgery: Option<Forgery>,
) {
    while let Ok((gateway, _)) = listener.accept().await {
        let (mut refused, mut number) = (false, 0);
        state.send_if_modified(|state| {
            state.connections += 1;
            (refused, number) = (state.trouble == Trouble::Refused, state.connections);
            false
        });
        let (socket, state) = (Arc::clone(&socket), state.subscribe());
        if !refused {
            tokio::spawn(async move {
                // A server that is away: the connection ends at once.
                if let Ok(database) = UnixStream::connect(&*socket).await {
                    carry((gateway, number), database, state, forgery).await;
                }
            });
        }
    }
}

async fn carry(
    (gateway, number): (TcpStream, u64),
    database: UnixStream,
    mut state: watch::Receiver<State>,
    forgery: Option<Forgery>,
) {
    _ = gateway.set_nodelay(true);
    let ((from_gateway, to_gateway), (from_database, to_database)) =
        (gateway.into_split(), database.into_split());
    let cuts = state.borrow().cuts;
    let cut = state.clone();
    let is_losing = AtomicBool::new(false);
    tokio::select! {
        () = ask(from_gateway, to_database, (number, cut.clone()), forgery, &is_losing) => {}
        () = answer(from_database, to_gateway, (number, cut), &is_losing) => {}
        _ = state.wait_for(|state| state.cuts != cuts) => {}
    }
}

/// Holds a piece for as long as it must be; what is wrong when it may go on.
async fn pass(
    (number, state): &mut (u64, watch::Receiver<State>),
    held: impl Fn(Trouble) -> bool,
) -> Option<Trouble> {
    let may_go_on = |state: &State| *number > state.forgotten && !held(state.trouble);
    let trouble = state.wait_for(may_go_on).await.ok()?.trouble;
    if let Trouble::Slow(delay) = trouble {
        tokio::time::sleep(delay).await;
    }
    Some(trouble)
}

async fn ask(
    mut from: tcp::OwnedReadHalf,
    mut to: unix::OwnedWriteHalf,
    mut state: (u64, watch::Receiver<State>),
    forgery: Option<Forgery>,
    is_losing: &AtomicBool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let Some(trouble) = pass(&mut state, |trouble| trouble == Trouble::Silent).await else {
            return;
        };
        let piece = &mut buffer[..read];
        if let Some((bytes, others)) = forgery
            && let Some(at) = piece.windows(bytes.len()).position(|window| window == bytes)
        {
            piece[at..at + bytes.len()].copy_from_slice(others);
        }
        let commits = piece.windows(6).any(|window| window == b"COMMIT");
        // What was answered before it still passes.
        is_losing.fetch_or(trouble == Trouble::LosesCommits && commits, Ordering::Relaxed);
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}

async fn answer(
    mut from: unix::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut state: (u64, watch::Receiver<State>),
    is_losing: &AtomicBool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // Ended sooner, with something yet to read, the database would take it for a reset, and might not read the COMMIT.
        let ends = |tag: &[u8]| buffer[..read].windows(tag.len()).any(|window| window == tag);
        if is_losing.load(Ordering::Relaxed) && (ends(b"COMMIT\0") || ends(b"ROLLBACK\0")) {
            return;
        }
        let held = |trouble| matches!(trouble, Trouble::Silent | Trouble::Deaf);
        if pass(&mut state, held).await.is_none() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
