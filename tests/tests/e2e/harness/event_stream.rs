//! Somebody who listens to server-sent events.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::gateway::Gateway;

/// A stream of events, and what has come so far.
pub struct EventStream {
    connection: TcpStream,
    /// How long something may take that is waited for.
    patience: Duration,
    pub text: String,
}

impl EventStream {
    /// Opens one. `head`: lines of the request's head, each with its end.
    pub async fn open(gateway: &Gateway, path: &str, head: &str, patience: Duration) -> Self {
        let host = gateway.address();
        let mut connection = TcpStream::connect(&host).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{head}\r\n");
        connection.write_all(request.as_bytes()).await.expect("it reads");
        Self {
            connection,
            patience,
            text: String::new(),
        }
    }

    /// Reads until what has come says so.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let reading = async {
            let mut piece = [0; 16 << 10];
            while !is_so(&self.text) {
                let count = self.connection.read(&mut piece).await.expect("it answers");
                assert!(count > 0, "it ended before: {what}\n{}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        };
        let came = timeout(self.patience, reading).await;
        assert!(came.is_ok(), "did not come: {what}\n{}", self.text);
    }

    /// Reads to the end, for so long at most.
    pub async fn ends(mut self, patience: Duration) -> String {
        let mut rest = Vec::new();
        let ended = timeout(patience, self.connection.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it goes on");
        self.text + &String::from_utf8_lossy(&rest)
    }
}
