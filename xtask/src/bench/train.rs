//! The load that a profile-guided build learns from: the calls that a sale consists of, in a closed loop. Its figures count
//! for nothing; what counts is how often the gateway takes which branch.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail};

use super::gateway::{self, ADMIN_KEY, Clicks, Gateway, Limit};
use super::{Bench, http, paced};

/// Connections of redirects and refusals; of claims, which wait for the disk together, there are more.
const CONNECTIONS: usize = 32;
const CLAIMING: usize = 256;
/// Links besides the hot one.
const LINKS: usize = 2_000;
/// Units of the campaign that sells out.
const FEW: usize = 100;

/// One kind of call, sent again and again.
#[derive(Clone, Copy)]
struct Calls<'a> {
    what: &'a str,
    connections: usize,
    count: usize,
    /// What every answer must be.
    status: u16,
    /// The request line and headers of the nth one.
    head: &'a dyn Fn(usize) -> String,
    body: &'a dyn Fn(usize) -> String,
}

/// Puts the load on the gateway, and ends it in order, so that it can write what it has learned.
pub fn run(bench: &Bench) -> Result<()> {
    let empty = |_: usize| String::new();
    let directory = bench.directory("train")?;
    let tollgate = Gateway::start(bench, &bench.gateway, &directory, Limit::Never, Clicks::Submitted)?;
    let port = tollgate.port;
    gateway::call(
        port,
        "/api/campaigns",
        r#"{"id":"spring","quantity":1000000}"#,
        201,
    )?;
    let few = format!(r#"{{"id":"few","quantity":{FEW}}}"#);
    gateway::call(port, "/api/campaigns", &few, 201)?;
    let client = |n: usize| format!("x-client-id: client-{}\r\n", n * 7_919 % 10_007);
    // So that no two users are neighbours.
    let user = |n: usize| format!("x-user-id: u{:010}\r\n", n * 2_654_435_761 % 4_294_967_296);
    let claim = |n: usize| format!("POST /api/campaigns/spring/claims HTTP/1.1\r\n{}", user(n));
    let link = |n: usize| format!(r#"{{"url":"https://example.com/{n}","code":"link-{n}"}}"#);
    let sale = Calls {
        what: "redirects",
        connections: CONNECTIONS,
        count: 60_000,
        status: 302,
        head: &|_| "GET /sale HTTP/1.1\r\nx-client-id: client-1\r\n".into(),
        body: &empty,
    };
    let claims = Calls {
        what: "claims",
        connections: CLAIMING,
        count: 30_000,
        status: 201,
        head: &claim,
        body: &empty,
    };
    for calls in [
        Calls {
            what: "new links",
            count: LINKS,
            status: 201,
            head: &|_| {
                format!(
                    "POST /api/links HTTP/1.1\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: application/json\r\n"
                )
            },
            body: &link,
            ..sale
        },
        Calls {
            what: "redirects of many links for many clients",
            count: 20_000,
            head: &|n| format!("GET /link-{} HTTP/1.1\r\n{}", n * 31 % LINKS, client(n)),
            ..sale
        },
        Calls {
            what: "unknown links",
            count: 5_000,
            status: 404,
            head: &|n| format!("GET /nothing-{n} HTTP/1.1\r\n{}", client(n)),
            ..sale
        },
        claims,
        Calls {
            what: "users who claim again",
            count: 2_000,
            status: 409,
            head: &|n| claim(n * 13),
            ..claims
        },
        Calls {
            what: "claims of a few units",
            count: FEW,
            head: &|n| format!("POST /api/campaigns/few/claims HTTP/1.1\r\n{}", user(n)),
            ..claims
        },
        Calls {
            what: "claims of what is sold out",
            count: 10_000,
            status: 410,
            head: &|n| format!("POST /api/campaigns/few/claims HTTP/1.1\r\n{}", user(FEW + n)),
            ..claims
        },
        Calls {
            what: "messages",
            count: 5_000,
            status: 202,
            head: &|n| {
                format!(
                    "POST /api/topics/orders/messages HTTP/1.1\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: application/json\r\nidempotency-key: \"order-{n}\"\r\n"
                )
            },
            body: &|n| format!(r#"{{"order":{n}}}"#),
            ..claims
        },
        sale,
    ] {
        calls.send(bench, port)?;
    }
    tollgate.stop()?;

    let directory = bench.directory("train-refusals")?;
    let tollgate = Gateway::start(
        bench,
        &bench.gateway,
        &directory,
        Limit::Always,
        Clicks::Submitted,
    )?;
    http::status(tollgate.port, "/sale");
    let refusals = Calls {
        what: "refusals",
        count: 30_000,
        status: 429,
        head: &|_| "GET /sale HTTP/1.1\r\nx-client-id: probe\r\n".into(),
        ..sale
    };
    refusals.send(bench, tollgate.port)?;
    tollgate.stop().map(drop)
}

impl Calls<'_> {
    /// As many at a time as there are connections.
    fn send(&self, bench: &Bench, port: u16) -> Result<()> {
        bench.doing(self.what);
        let connect = |_| http::connect(port);
        let mut streams = (0..self.connections)
            .map(connect)
            .collect::<std::io::Result<Vec<_>>>()?;
        let mut answer = Vec::new();
        for first in (0..self.count).step_by(self.connections) {
            let round = streams.iter_mut().take(self.count - first);
            for (nth, stream) in round.enumerate() {
                let (head, body) = ((self.head)(first + nth), (self.body)(first + nth));
                let length = body.len();
                let request =
                    format!("{head}host: 127.0.0.1:{port}\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(request.as_bytes())?;
            }
            for stream in streams.iter_mut().take(self.count - first) {
                read(stream, &mut answer, self.status).context(self.what.to_owned())?;
            }
        }
        Ok(())
    }
}

/// Reads one answer.
fn read(stream: &mut TcpStream, answer: &mut Vec<u8>, status: u16) -> Result<()> {
    answer.clear();
    let mut chunk = [0; 4_096];
    while !paced::is_whole(answer, status)? {
        match stream.read(&mut chunk)? {
            0 => bail!("the gateway has closed a connection"),
            read => answer.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
    }
    Ok(())
}
