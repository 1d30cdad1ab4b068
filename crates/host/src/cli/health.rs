//! `tollgate health`: whether the gateway answers, for container checks.

use super::client::{self, Client};
use super::exit::Failure;
use super::output::Output;
use super::settings::{Place, placed};
use crate::server::listen;
use clap::Args;
use http::Method;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const READY: &str = "/health/ready";

/// `tollgate health …`
#[derive(Args)]
pub struct HealthOptions {
    /// Where the configuration says that the gateway listens.
    #[command(flatten)]
    pub place: Place,
    /// The gateway [default: the address that it is configured to listen on].
    #[arg(long, env = "TOLLGATE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Seconds that the answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub timeout: u64,
}

/// Asks `/health/ready`.
///
/// # Errors
/// It is not ready, does not answer in time, or there is none.
pub fn health(options: &HealthOptions, mut output: Output) -> Result<(), Failure> {
    let given = options.url.clone().filter(|url| !url.is_empty());
    let (url, client) = match given {
        Some(url) => (url.clone(), Client::at(&url)?),
        None => {
            let url = configured(&options.place)?;
            (url.clone(), Client::here(&url)?)
        }
    };
    let within = Duration::from_secs(options.timeout);
    let answer = client::run(async {
        let asked = tokio::time::timeout(within, client.send(&Method::GET, READY, None)).await;
        asked.unwrap_or_else(|_| {
            let why = format!("{url} does not answer within {} s", options.timeout);
            Err(Failure::Unreachable(why))
        })
    });
    // A container's check knows 0 and 1 only.
    let answer = answer.map_err(|failure| match failure {
        Failure::Unreachable(why) => Failure::failed(why),
        other => other,
    })?;
    if !answer.is_success() {
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        return Err(Failure::failed(format!(
            "{url} is not ready ({}): {detail}",
            answer.status
        )));
    }
    match output.is_json() {
        true => output.value(&json!({ "url": url, "ready": true })),
        false => output.line("ready"),
    }
}

/// The URL of the gateway that these settings make.
fn configured(place: &Place) -> Result<String, Failure> {
    let settings = placed(place)?.settings;
    let server = &settings.config.server;
    let (scheme, listen, setting) = match (&server.tls, &settings.listeners.admin, &server.admin_tls) {
        (None, ..) => ("http", settings.listen(), "server.listen"),
        (Some(_), Some(admin), None) => ("http", admin, "server.admin_listen"),
        (Some(_), ..) => ("https", settings.listen(), "server.listen"),
    };
    let listen = listen::resolve(listen, setting)?;
    match listen.first().copied().map(reachable) {
        Some(address) if address.port() != 0 => Ok(format!("{scheme}://{address}")),
        _ => Err(Failure::Usage(
            "the port is the system's choice: say where the gateway is with --url".to_owned(),
        )),
    }
}

/// What listens on every address is reached on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
