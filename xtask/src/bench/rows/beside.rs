//! The 99th percentile of a redirect at half of peak load, open loop. Meanwhile other clients list links and
//! make new ones as fast as they are answered. Compared with the same without them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail};
use rustix::process::setpriority_process;

use super::latency::{paced, shown};
use crate::bench::gateway::{ADMIN_KEY, Clicks, Gateway, Limit, call};
use crate::bench::paced::Latency;
use crate::bench::report::{Floor, Report, short};
use crate::bench::wrk::Load;
use crate::bench::{Bench, Row, figures, http};

const WHAT: &str =
    "99th percentile of a redirect at half of peak, open loop, while links are listed and made: without";
/// Links that there are to be listed.
const LINKS: u32 = 1_000;
/// What each of the others asks for, over and over: full pages, and links.
const CALLS: [(&str, &str, &str, u16); 4] = [
    ("GET", "/api/links?limit=500", "", 200),
    ("GET", "/api/links?limit=500", "", 200),
    (
        "POST",
        "/api/links",
        r#"{"url":"https://example.com/another"}"#,
        201,
    ),
    (
        "POST",
        "/api/links",
        r#"{"url":"https://example.com/another"}"#,
        201,
    ),
];
/// They share a core with the generator, which must not wait for them.
const NICE: i32 = 19;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let gateway = Gateway::start(
        bench,
        &bench.gateway,
        &bench.directory("beside")?,
        Limit::Never,
        Clicks::Off,
    )?;
    bench.doing("redirects beside others: finding the peak");
    for _ in 0..LINKS {
        call(
            gateway.port,
            "/api/links",
            r#"{"url":"https://example.com/"}"#,
            201,
        )?;
    }
    let peak = || Load::hot(gateway.port, "/sale").run(bench, bench.seconds, &[gateway.group()]);
    // The first warms up.
    peak()?;
    let peak = peak()?.rate;
    let (mut with, mut without): (Vec<Latency>, Vec<Latency>) = Default::default();
    let (mut answered, mut seconds) = (0, 0.0);
    for pair in 1..=bench.pairs {
        if pair > 1 && bench.time_left().is_zero() {
            break;
        }
        bench.doing(format!("redirects beside others ({pair} of {})", bench.pairs));
        without.push(paced(bench, gateway.port, peak)?);
        let others = Others::start(gateway.port)?;
        with.push(paced(bench, gateway.port, peak)?);
        answered += others.stop()?;
        seconds += f64::from(bench.seconds);
    }
    let pairs = with.iter().zip(&without);
    let ratio = figures::median(pairs.map(|(a, b)| a.p99.as_secs_f64() / b.p99.as_secs_f64()));
    let beside = short(answered as f64 / seconds);
    report.number(
        Row::Beside,
        WHAT,
        format!("{}, beside {beside} others/s", shown(&with, peak)),
        shown(&without, peak),
        ratio.unwrap_or(f64::NAN),
        Floor::AtMost(2.0),
    );
    Ok(())
}

/// Those who list and make links, until they are stopped.
struct Others {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Others {
    fn start(port: u16) -> Result<Self> {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let start = |(method, path, body, wanted)| {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                str::len(body)
            );
            let mut stream = BufReader::new(http::connect(port)?);
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            anyhow::Ok(thread::spawn(move || {
                setpriority_process(None, NICE)?;
                while !stop.load(Ordering::Relaxed) {
                    stream.get_mut().write_all(request.as_bytes())?;
                    receive(&mut stream, wanted)?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }))
        };
        let threads = CALLS.map(start).into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Self {
            stop,
            answered,
            threads,
        })
    }

    /// How many calls were answered.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let ended = thread.join();
            ended.unwrap_or_else(|_| bail!("a thread of the load has failed"))?;
        }
        Ok(self.answered.load(Ordering::Relaxed))
    }
}

/// Reads one answer to its end.
fn receive(stream: &mut BufReader<TcpStream>, wanted: u16) -> Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some(&wanted.to_string()) {
        bail!("an answer was not {wanted}: {line}");
    }
    let mut length = None;
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse::<u64>()?);
        }
    }
    let length = length.context("an answer does not say how long it is")?;
    std::io::copy(&mut stream.take(length), &mut std::io::sink())?;
    Ok(())
}
