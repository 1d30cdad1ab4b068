//! The output of an instance: what it writes to stdout and stderr becomes lines of our own log, up to a
//! bound.

use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// How much one instance of the rules may write in a minute, in bytes. What is beyond is left out.
const MAX_BYTES: usize = 4 << 10;
/// How much all instances of a component of the operator's own may.
const MAX_BYTES_OF_HANDLER: usize = 64 << 10;
const MINUTE: Duration = Duration::from_secs(60);

/// Where an instance writes to. No write ever waits.
#[derive(Clone)]
pub struct GuestLog(Arc<Mutex<Text>>);

struct Text {
    component: Arc<str>,
    line: Vec<u8>,
    /// Bytes in a minute.
    most: usize,
    left: usize,
    /// When the minute began.
    since: Instant,
}

impl GuestLog {
    /// For one instance of the component.
    pub fn of(component: &str) -> Self {
        Self::bounded(component, MAX_BYTES)
    }

    /// For all instances of a component of the operator's own.
    pub fn of_handler(component: &str) -> Self {
        Self::bounded(component, MAX_BYTES_OF_HANDLER)
    }

    fn bounded(component: &str, most: usize) -> Self {
        Self(Arc::new(Mutex::new(Text {
            component: component.into(),
            line: Vec::new(),
            most,
            left: most,
            since: Instant::now(),
        })))
    }

    fn take(&self, bytes: &[u8]) {
        // No code that runs under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
    }
}

impl Text {
    fn take(&mut self, bytes: &[u8]) {
        if self.since.elapsed() >= MINUTE {
            (self.left, self.since) = (self.most, Instant::now());
        }
        if self.left == 0 {
            return;
        }
        let kept = bytes.get(..self.left).unwrap_or(bytes);
        for part in kept.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.log();
            }
        }
        self.left -= kept.len();
        if self.left == 0 {
            self.log();
            tracing::warn!(
                component = &*self.component,
                "what this instance writes is left out for a minute: it has written enough"
            );
        }
    }

    fn log(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            tracing::warn!(component = &*self.component, text, "an instance wrote");
        }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.log();
    }
}

impl IsTerminal for GuestLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestLog {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestLog {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_BYTES)
    }
}

impl AsyncWrite for GuestLog {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
