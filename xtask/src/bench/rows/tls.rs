//! TLS, against nginx's: redirects on connections that are kept, and handshakes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::bench::gateway::{Gateway, Pair};
use crate::bench::peers;
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender, Sample};
use crate::bench::wrk::Load;
use crate::bench::{Bench, Row, Side, figures};
use crate::program::Program;

const REDIRECTS: &str = "redirects over TLS on connections that are kept (ECDSA P-256): nginx";
const HANDSHAKES: &str = "full handshakes of TLS 1.3 (ECDSA P-256), a connection each: nginx";
const FLOOR: Floor = Floor::AtLeast(0.7);
/// What a run of handshakes may take beyond its seconds.
const MARGIN: Duration = Duration::from_secs(15);
/// Clients that shake hands at once: one alone would leave the server waiting.
const CLIENTS: usize = 4;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let pair = issue(&bench.directory("certificate")?)?;
    let tollgate = Gateway::start_tls(bench, &bench.directory("tollgate-tls")?, &pair)?;
    let nginx = match peers::nginx_tls(bench, &pair) {
        Ok(nginx) => nginx,
        Err(error) => {
            report.skip(Row::Tls, REDIRECTS, &format!("{error:#}"));
            return Ok(());
        }
    };
    let sides = [
        ("tollgate", "tollgate handshakes", tollgate.port, tollgate.group()),
        ("nginx", "nginx handshakes", nginx.port, nginx.group()),
    ];
    let mut contenders = Vec::new();
    for (name, _, port, group) in sides {
        let load = Load {
            is_tls: true,
            ..Load::hot(port, "/sale")
        };
        contenders.push(Contender::new(name, move || {
            load.run(bench, bench.seconds, &[group])
        }));
    }
    for (_, name, port, group) in sides {
        contenders.push(Contender::new(name, move || handshakes(bench, port, group)));
    }
    let rounds = rounds::take(bench, "TLS", contenders);
    for (what, ours, theirs) in [
        (REDIRECTS, "tollgate", "nginx"),
        (HANDSHAKES, "tollgate handshakes", "nginx handshakes"),
    ] {
        report.pair(
            Row::Tls,
            what,
            rounds.of(ours),
            rounds.of(theirs),
            FLOOR,
            By::Cost,
        );
    }
    Ok(())
}

/// Signed by itself, for a month.
fn issue(directory: &Path) -> Result<Pair> {
    let pair = Pair {
        cert: directory.join("tls.crt"),
        key: directory.join("tls.key"),
    };
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    command.args([
        "-days",
        "30",
        "-subj",
        "/CN=short.test",
        "-addext",
        "subjectAltName=DNS:short.test",
    ]);
    command.arg("-keyout").arg(&pair.key).arg("-out").arg(&pair.cert);
    let output = command
        .output()
        .context("openssl is not installed (apt-get install openssl)")?;
    if !output.status.success() {
        bail!(
            "openssl made no certificate: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::metadata(&pair.key).context("openssl wrote no key")?;
    Ok(pair)
}

/// Full handshakes, as many as fit.
fn handshakes(bench: &Bench, port: u16, group: i32) -> Result<Sample> {
    let (server, generator) = (figures::cpu_of(&[group]), figures::cpu_of_children());
    let began = Instant::now();
    let clients: Vec<Program> = (0..CLIENTS)
        .map(|_| {
            let mut command = bench.cores.command(Side::Generator, Path::new("openssl"));
            command.args(["s_time", "-new", "-tls1_3", "-time", &bench.seconds.to_string()]);
            command.args(["-connect", &format!("127.0.0.1:{port}")]);
            Program::start(&bench.keeper, "openssl", command)
        })
        .collect::<Result<_>>()?;
    let mut count = 0;
    for client in clients {
        let (_, output) = client.finish(Duration::from_secs(bench.seconds.into()) + MARGIN)?;
        count += connections(&output).with_context(|| format!("openssl gave no figures: {output}"))?;
    }
    let time = began.elapsed();
    let server = figures::cpu_of(&[group]).saturating_sub(server);
    let generator = figures::cpu_of_children().saturating_sub(generator);
    Ok(Sample::new(count, time, server, generator))
}

/// Of the line `N connections in M real seconds, …`.
fn connections(output: &str) -> Option<u64> {
    let line = output
        .lines()
        .find(|line| line.contains("connections in") && line.contains("real seconds"))?;
    line.split_whitespace()
        .next()?
        .parse()
        .ok()
        .filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_are_read_from_what_openssl_says() {
        let output = "tttt\n\n812 connections in 0.55s; 1476.36 connections/user sec, bytes read 0\n812 connections in 3 real seconds, 0 bytes read per connection\n";
        assert_eq!(connections(output), Some(812));
        assert_eq!(connections("0 connections in 3 real seconds, 0"), None);
        assert_eq!(connections("nothing"), None);
    }
}
