//! Stands between the relay and a server, and loses answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A way to a server.
pub struct Proxy {
    pub address: SocketAddr,
    /// How many answers are still to be lost, each with its connection.
    lose: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// `marks`: bytes of a request whose answer counts; those of a login do not.
    pub async fn start(to: SocketAddr, marks: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (lose, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&lose), Arc::clone(&lost));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (lose, lost) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(to).await {
                        between(client, server, marks, &lose, &lost).await;
                    }
                });
            }
        });
        Self {
            address,
            lose,
            lost,
            task,
        }
    }

    /// The answers to the next so many messages are lost: the server has read each, and its connection ends.
    pub fn loses(&self, answers: usize) {
        self.lose.store(answers, Ordering::SeqCst);
    }

    /// How many were.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn between(
    mut client: TcpStream,
    mut server: TcpStream,
    marks: &[u8],
    lose: &AtomicUsize,
    lost: &AtomicUsize,
) {
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    // Whether a message is on its way whose answer is to be lost.
    let mut is_doomed = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(count @ 1..) => {
                    let chunk = &asked[..count];
                    let has_message = chunk.windows(marks.len()).any(|bytes| bytes == marks);
                    if has_message && !is_doomed {
                        let take = |left: usize| left.checked_sub(1);
                        is_doomed = lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
                    }
                    if server.write_all(chunk).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(_) if is_doomed => {
                    lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Ok(count @ 1..) => if client.write_all(&answered[..count]).await.is_err() {
                    return;
                },
                _ => return,
            },
        }
    }
}
