//! Open-loop load over HTTP: a request is due every so often, whether or not the ones before it are answered, and its
//! latency counts from when it was due. A server that stalls is charged for everybody who had to wait.
//!
//! One thread polls without sleeping, on the core of the load generators.

use super::{Bench, figures, http};
use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Answers that are late may come this long after the last request was due.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest head and body of an answer, bytes.
const MAX_ANSWER: usize = 16 << 10;
/// Of the requests that are due, at least this share must be answered in time for the rate to have been kept.
const KEPT: f64 = 0.99;

/// What is sent, and how fast.
pub struct Pace {
    pub port: u16,
    pub path: &'static str,
    /// Requests per second.
    pub rate: f64,
    /// Connections, kept alive.
    pub connections: usize,
    pub seconds: u32,
    /// Every answer's.
    pub status: u16,
}

/// How long answers took.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub median: Duration,
    pub p99: Duration,
    /// Whether the rate was kept up with; if not, latencies grow with the length of the run.
    pub kept: bool,
}

struct Connection {
    stream: TcpStream,
    /// When the request under way was due.
    due: Option<Instant>,
    answer: Vec<u8>,
}

impl Pace {
    /// Runs it on the core of the generators.
    pub fn run(self, bench: &Bench) -> Result<Latency> {
        let core: Option<usize> = bench.cores.pinned.and_then(|(_, core)| core.parse().ok());
        let generator = thread::spawn(move || {
            if let Some(core) = core {
                let mut only = CpuSet::new();
                only.set(core);
                sched_setaffinity(None, &only)?;
            }
            self.send()
        });
        generator
            .join()
            .unwrap_or_else(|_| bail!("the load generator has failed"))
    }

    fn send(&self) -> Result<Latency> {
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nx-client-id: client-1\r\n\r\n",
            self.path, self.port
        );
        let mut connections = (0..self.connections)
            .map(|_| self.connect())
            .collect::<Result<Vec<_>>>()?;
        let mut free: Vec<usize> = (0..connections.len()).collect();
        let mut waiting = VecDeque::new();
        let mut latencies: Vec<u32> = Vec::with_capacity((self.rate * f64::from(self.seconds)) as usize + 1);
        let interval = Duration::from_secs_f64(1.0 / self.rate);
        let mut next = Instant::now();
        let end = next + Duration::from_secs(self.seconds.into());
        let (mut sent, mut in_time) = (0_u64, 0_u64);
        loop {
            let now = Instant::now();
            while next <= now && next < end {
                waiting.push_back(next);
                next += interval;
            }
            while !free.is_empty()
                && let Some(due) = waiting.pop_front()
                && let Some(index) = free.pop()
            {
                let connection = &mut connections[index];
                connection
                    .stream
                    .write_all(request.as_bytes())
                    .context("sending")?;
                connection.due = Some(due);
                sent += 1;
            }
            let done = waiting.is_empty() && free.len() == connections.len();
            if next >= end && (done || now > end + PATIENCE) {
                break;
            }
            for index in readable(&connections)? {
                if let Some(due) = connections[index].receive(self.status)? {
                    latencies.push(micros(due));
                    in_time += u64::from(Instant::now() <= end + interval * 100);
                    free.push(index);
                }
            }
        }
        latencies.extend(
            connections
                .iter()
                .filter_map(|connection| connection.due.map(micros)),
        );
        let due = sent + waiting.len() as u64;
        let kept = in_time as f64 >= due as f64 * KEPT;
        // Whoever was not answered at all has waited at least until now.
        latencies.extend(waiting.iter().map(|due| micros(*due)));
        latencies.sort_unstable();
        let at = |share| {
            let micros = figures::percentile(&latencies, share).context("nothing was answered")?;
            anyhow::Ok(Duration::from_micros(micros.into()))
        };
        Ok(Latency {
            median: at(0.5)?,
            p99: at(0.99)?,
            kept,
        })
    }

    fn connect(&self) -> Result<Connection> {
        let stream = http::connect(self.port)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            due: None,
            answer: Vec::with_capacity(MAX_ANSWER),
        })
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// The connections that wait for an answer and have something to read; at once, even if there is none.
fn readable(connections: &[Connection]) -> Result<Vec<usize>> {
    let waiting = connections
        .iter()
        .enumerate()
        .filter(|(_, connection)| connection.due.is_some());
    let (indices, mut polled): (Vec<usize>, Vec<PollFd<'_>>) = waiting
        .map(|(index, connection)| (index, PollFd::new(&connection.stream, PollFlags::IN)))
        .unzip();
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if polled.is_empty() || poll(&mut polled, Some(&at_once))? == 0 {
        return Ok(Vec::new());
    }
    let ready = indices
        .into_iter()
        .zip(&polled)
        .filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

impl Connection {
    /// Reads what is there. When the answer is whole: since when it was due.
    fn receive(&mut self, status: u16) -> Result<Option<Instant>> {
        let mut chunk = [0; 4_096];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the server has closed a connection"),
            Ok(read) => self
                .answer
                .extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if !is_whole(&self.answer, status)? {
            return Ok(None);
        }
        self.answer.clear();
        Ok(self.due.take())
    }
}

/// Whether an answer has its head and all of its body.
pub(super) fn is_whole(answer: &[u8], status: u16) -> Result<bool> {
    const END: &[u8] = b"\r\n\r\n";
    if answer.len() > MAX_ANSWER {
        bail!("an answer is longer than {MAX_ANSWER} bytes");
    }
    let Some(head) = answer.windows(END.len()).position(|window| window == END) else {
        return Ok(false);
    };
    let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or("");
    if first.split(' ').nth(1).and_then(|given| given.parse().ok()) != Some(status) {
        bail!("an answer was not {status}: {first}");
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Ok(0), |(_, value)| value.trim().parse())?;
    Ok(answer.len() >= head + END.len() + length)
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn an_answer_is_whole_with_all_of_its_body() {
        let answer = b"HTTP/1.1 302 Found\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..answer.len() {
            assert!(
                !is_whole(&answer[..cut], 302).expect("it is fine so far"),
                "{cut}"
            );
        }
        assert!(is_whole(answer, 302).expect("it is fine"));
        assert!(is_whole(answer, 200).is_err());
    }
}
