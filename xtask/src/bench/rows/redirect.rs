//! Redirects through the limiter: the hot path against the peers, against itself with many links and clients, and against
//! the same rules elsewhere.

use anyhow::Result;

use crate::bench::gateway::{self, Clicks, Gateway, Limit};
use crate::bench::peers::{self, Peer};
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender};
use crate::bench::wrk::{Answers, Load};
use crate::bench::{Bench, Row, http};

/// Client ids of the row `many`.
const CLIENTS: u64 = 10_000;
/// The hot link.
const HOT: &str = "/sale";

/// A line of the table: Tollgate's figure, the other's, and what is to be reached.
struct Line {
    row: Row,
    what: &'static str,
    ours: &'static str,
    theirs: &'static str,
    floor: Floor,
}

const LINES: &[Line] = &[
    Line {
        row: Row::Redirect,
        what: "limiter + redirect, one hot client id: nginx `limit_req` + 302",
        ours: "tollgate",
        theirs: "nginx",
        floor: Floor::AtLeast(0.65),
    },
    Line {
        row: Row::Redirect,
        what: "the same: Envoy with local rate limit",
        ours: "tollgate",
        theirs: "envoy",
        floor: Floor::AtLeast(2.0),
    },
    Line {
        row: Row::Redirect,
        what: "the same: node with rate-limiter-flexible",
        ours: "tollgate",
        theirs: "node",
        floor: Floor::AtLeast(1.2),
    },
    Line {
        row: Row::Redirect,
        what: "the same: HAProxy with a stick table",
        ours: "tollgate",
        theirs: "haproxy",
        floor: Floor::None,
    },
    Line {
        row: Row::Many,
        what: "10,000 client ids and 100,000 links: its own hot figure",
        ours: "many",
        theirs: "tollgate",
        floor: Floor::AtLeast(0.9),
    },
    Line {
        row: Row::Many,
        what: "the same, both with click recording (each click is two rows of the database)",
        ours: "many clicks",
        theirs: "clicks",
        floor: Floor::None,
    },
    Line {
        row: Row::Many,
        what: "100,000 links with everything recorded: nginx with `access_log`, one hot location",
        ours: "many clicks",
        theirs: "nginx-logged",
        floor: Floor::AtLeast(0.45),
    },
    Line {
        row: Row::Ways,
        what: "redirects by rules and weights: plain redirects of the same browser",
        ours: "ways",
        theirs: "plain",
        floor: Floor::AtLeast(0.85),
    },
    Line {
        row: Row::Native,
        what: "the rules in WebAssembly: compiled into the host",
        ours: "tollgate",
        theirs: "native",
        floor: Floor::AtLeast(0.75),
    },
    Line {
        row: Row::Spin,
        what: "the same components: `spin up`, SQLite store; both with click recording",
        ours: "clicks",
        theirs: "spin",
        floor: Floor::AtLeast(10.0),
    },
    Line {
        row: Row::Clicks,
        what: "redirects with everything recorded: nginx with `access_log`",
        ours: "clicks",
        theirs: "nginx-logged",
        floor: Floor::AtLeast(0.8),
    },
];

/// The peers that are running, or why one is not.
#[derive(Default)]
struct Peers {
    started: Vec<(&'static str, Peer)>,
    missing: Vec<(&'static str, String)>,
}

impl Peers {
    fn add(&mut self, name: &'static str, started: Result<Peer>) {
        match started {
            Ok(peer) => self.started.push((name, peer)),
            Err(error) => self.missing.push((name, format!("{error:#}"))),
        }
    }

    fn why_missing(&self, name: &str) -> Option<&str> {
        let name = if name == "nginx-logged" { "nginx" } else { name };
        self.missing
            .iter()
            .find(|(missing, _)| *missing == name)
            .map(|(_, why)| why.as_str())
    }
}

/// A gateway with the links of the row `many`, if that is wanted, all of them read once.
fn start(bench: &Bench, name: &str, clicks: Clicks) -> Result<Gateway> {
    let directory = bench.directory(name)?;
    let links = bench.sizes.links;
    if bench.wants(Row::Many) {
        gateway::seed(bench, &directory, links)?;
    }
    let gateway = Gateway::start(bench, &bench.gateway, &directory, Limit::Never, clicks)?;
    if bench.wants(Row::Many) {
        bench.doing("reading every link once");
        http::expect(gateway.port, &format!("/{:07}", links - 1), 302)?;
        let seconds = bench.at_most(bench.sizes.fill_seconds)?;
        each_link(gateway.port, links).run(bench, seconds, &[gateway.group()])?;
    }
    Ok(gateway)
}

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    // What is compared with peers that write no log writes none either.
    let tollgate = start(bench, "tollgate", Clicks::Off)?;
    let recorded = [Row::Clicks, Row::Spin, Row::Many];
    let clicking = match recorded.into_iter().any(|row| bench.wants(row)) {
        true => Some(start(bench, "clicks", Clicks::Submitted)?),
        false => None,
    };
    let mut peers = start_peers(bench);
    let native = match &bench.options.native_gateway {
        Some(binary) if bench.wants(Row::Native) => Some(Gateway::start(
            bench,
            binary,
            &bench.directory("native")?,
            Limit::Never,
            Clicks::Off,
        )?),
        _ => None,
    };
    if native.is_none() {
        let why = "there is no build that calls the rules natively (--native-gateway PATH)";
        peers.missing.push(("native", why.into()));
    }
    let mut contenders = vec![contender(
        bench,
        "tollgate",
        Load::hot(tollgate.port, HOT),
        tollgate.group(),
    )];
    if bench.wants(Row::Many) {
        let load = many(tollgate.port, bench.sizes.links);
        contenders.push(contender(bench, "many", load, tollgate.group()));
    }
    if bench.wants(Row::Ways) {
        gateway::make_ways(tollgate.port)?;
        for (name, path) in [("ways", "/ways"), ("plain", HOT)] {
            let load = Load {
                script: "browser",
                ..Load::hot(tollgate.port, path)
            };
            contenders.push(contender(bench, name, load, tollgate.group()));
        }
    }
    if let Some(clicking) = &clicking {
        let load = Load::hot(clicking.port, HOT);
        contenders.push(contender(bench, "clicks", load, clicking.group()));
        if bench.wants(Row::Many) {
            let load = many(clicking.port, bench.sizes.links);
            contenders.push(contender(bench, "many clicks", load, clicking.group()));
        }
    }
    if let Some(native) = &native {
        contenders.push(contender(
            bench,
            "native",
            Load::hot(native.port, HOT),
            native.group(),
        ));
    }
    for (name, peer) in &peers.started {
        if *name != "nginx" || bench.wants(Row::Redirect) {
            contenders.push(contender(bench, name, Load::hot(peer.port, HOT), peer.group()));
        }
        if *name == "nginx" && (bench.wants(Row::Clicks) || bench.wants(Row::Many)) {
            contenders.push(contender(
                bench,
                "nginx-logged",
                Load::hot(peer.port, "/logged"),
                peer.group(),
            ));
        }
    }
    let rounds = rounds::take(bench, "redirects", contenders);
    for line in LINES.iter().filter(|line| bench.wants(line.row)) {
        match peers.why_missing(line.theirs) {
            Some(why) => report.skip(line.row, line.what, why),
            None => report.pair(
                line.row,
                line.what,
                rounds.of(line.ours),
                rounds.of(line.theirs),
                line.floor,
                By::Cost,
            ),
        }
    }
    Ok(())
}

fn start_peers(bench: &Bench) -> Peers {
    let mut peers = Peers::default();
    if [Row::Redirect, Row::Clicks, Row::Many]
        .into_iter()
        .any(|row| bench.wants(row))
    {
        peers.add("nginx", peers::nginx(bench));
    }
    if bench.wants(Row::Redirect) {
        peers.add("envoy", peers::start_envoy(bench));
        peers.add("node", peers::node_limiter(bench));
        peers.add("haproxy", peers::haproxy(bench));
    }
    if bench.wants(Row::Spin) {
        peers.add("spin", peers::start_spin(bench));
    }
    peers
}

fn contender<'a>(bench: &'a Bench, name: &'static str, load: Load, group: i32) -> Contender<'a> {
    Contender::new(name, move || load.run(bench, bench.seconds, &[group]))
}

fn many(port: u16, links: u64) -> Load {
    Load {
        script: "many",
        arguments: vec![links.to_string(), CLIENTS.to_string()],
        ..Load::hot(port, "/")
    }
}

/// Every one of the first `links` links once, uncounted.
fn each_link(port: u16, links: u64) -> Load {
    Load {
        script: "each-link",
        arguments: vec!["0".into(), links.to_string()],
        answers: Answers::Success,
        ..Load::hot(port, "/")
    }
}
