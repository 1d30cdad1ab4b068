//! Batches, as Redis decides them: `decide.lua`, with every bucket of a server in one call.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use futures::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value};
use sha2::{Digest as _, Sha256};
use tollgate_store::bucket::Scale;
use tollgate_store::bucket::exact::{Granted, Want};
use tollgate_store::settings::{RedisAddress as Address, RedisKind as Kind};

use super::RedisOptions;
use super::coarse::Coarse;
use crate::buckets::debts::Report;
use crate::buckets::exact::{Failure, Ledger};
use crate::buckets::telling::Teller;

const SCRIPT: &str = include_str!("decide.lua");
/// Slots that buckets are spread over in a cluster: those of one go in one call.
const SLOTS: u8 = 64;
/// How long the number of a gateway's last batch is kept, milliseconds: much longer than one is under way.
const NUMBER_MS: u64 = 3_600_000;
/// How long a report may take, and a connection.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone)]
enum Open {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Open {
    async fn to(address: &Address) -> Result<Self, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(Some(PATIENCE));
        let first = address.servers.first().map_or("", String::as_str);
        Ok(match &address.kind {
            Kind::One => {
                let client = Client::open(first)?;
                Self::One(
                    client
                        .get_multiplexed_async_connection_with_config(&config)
                        .await?,
                )
            }
            Kind::Cluster => {
                // What the cluster sends elsewhere is asked there; the script knows a batch that comes twice.
                let client = ClusterClientBuilder::new(address.servers.iter().map(String::as_str))
                    .connection_timeout(PATIENCE)
                    .response_timeout(PATIENCE * 2)
                    .retries(3)
                    .build()?;
                Self::Cluster(client.get_async_connection().await?)
            }
            Kind::Sentinel(name) => Self::One(master(address, name, &config).await?),
        })
    }

    fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    async fn ask(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let answer = match self {
            Self::One(open) => open.req_packed_command(command).await,
            Self::Cluster(open) => open.req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
    }
}

/// The master that the sentinels name. They are asked without the login, which is the server's.
async fn master(
    address: &Address,
    name: &str,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let sentinels = address
        .servers
        .iter()
        .map(|server| match server.rsplit_once('@') {
            Some((head, hosts)) => {
                let scheme = head.split_once("://").map_or("redis", |(scheme, _)| scheme);
                let (host, _) = hosts.split_once('/').unwrap_or((hosts, ""));
                format!("{scheme}://{host}/")
            }
            None => server.split_inclusive('/').take(3).collect(),
        });
    let first = address.servers.first().map_or("", String::as_str);
    let login = redis::IntoConnectionInfo::into_connection_info(first)?;
    let of_node = redis::sentinel::SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(login.redis_settings().clone());
    let mut client = SentinelClient::build(
        sentinels.collect::<Vec<String>>(),
        name,
        Some(of_node),
        SentinelServerType::Master,
    )?;
    client.get_async_connection_with_config(config).await
}

/// What one bucket is asked, in numbers of the script.
struct Row {
    key: String,
    scale: Scale,
    tokens: u64,
    step: u64,
    back: u64,
    back_at: u64,
}

/// A Redis, asked over a connection of its own.
pub(super) struct Asked {
    address: Address,
    prefix: String,
    /// `d` or `x`: whose numbers these are.
    kind: &'static str,
    gateway: String,
    number: i64,
    sha: String,
    open: Option<Open>,
}

impl Asked {
    pub(super) fn new(options: &RedisOptions, kind: &'static str) -> Self {
        let random = || RandomState::new().hash_one(());
        Self {
            address: options.address.clone(),
            prefix: options.prefix.clone(),
            kind,
            gateway: format!("{:016x}{:016x}", random(), random()),
            number: 0,
            sha: String::new(),
            open: None,
        }
    }

    async fn connect(&mut self) -> Result<(), String> {
        let mut open = Open::to(&self.address).await.map_err(|error| describe(&error))?;
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).clone();
        let told = open.ask(&load).await.map_err(|error| describe(&error))?;
        self.sha = redis::from_redis_value(told).map_err(|error| error.to_string())?;
        self.open = Some(open);
        Ok(())
    }

    /// A name of a bucket: not who is behind it, and of one length.
    fn name(&self, key: &str) -> (u8, String) {
        let hash = Sha256::digest(key.as_bytes());
        let (slot, short) = (hash[31] % SLOTS, &hash[..16]);
        let text: String = short.iter().map(|byte| format!("{byte:02x}")).collect();
        (slot, format!("{}:{{{slot}}}:{text}", self.prefix))
    }

    /// Decides these: what was answered, by its key, and why something was not.
    async fn ask(&self, rows: &[Row], number: i64) -> (HashMap<String, Granted>, Option<RedisError>) {
        let Some(open) = &self.open else {
            let error = RedisError::from((redis::ErrorKind::Io, "it is not connected"));
            return (HashMap::new(), Some(error));
        };
        let mut slots: BTreeMap<u8, Vec<(String, &Row)>> = BTreeMap::new();
        for row in rows {
            let (slot, name) = self.name(&row.key);
            let slot = if open.is_cluster() { slot } else { 0 };
            slots.entry(slot).or_default().push((name, row));
        }
        let asked = slots.into_iter().map(|(slot, rows)| {
            let mut open = open.clone();
            let number_of = format!("{}:{{{slot}}}:{}:{}", self.prefix, self.kind, self.gateway);
            let sha = self.sha.as_str();
            async move {
                let told = match open
                    .ask(&command("EVALSHA", sha, &number_of, number, &rows))
                    .await
                {
                    Err(error) if error.code() == Some("NOSCRIPT") => {
                        let whole = command("EVAL", SCRIPT, &number_of, number, &rows);
                        open.ask(&whole).await?
                    }
                    told => told?,
                };
                let numbers: Vec<i64> = redis::from_redis_value(told)?;
                Ok::<_, RedisError>(granted(&rows, &numbers))
            }
        });
        let (mut all, mut failed) = (HashMap::with_capacity(rows.len()), None);
        for told in join_all(asked).await {
            match told {
                Ok(told) => all.extend(told),
                Err(error) => failed = Some(error),
            }
        }
        (all, failed)
    }
}

fn command(name: &str, script: &str, number_of: &str, number: i64, rows: &[(String, &Row)]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(rows.len() + 1).arg(number_of);
    for (name, _) in rows {
        command.arg(name);
    }
    command.arg(number).arg(NUMBER_MS);
    for (_, row) in rows {
        let coarse = Coarse::of(&row.scale);
        // What the script cannot count is more than any bucket has.
        let short = |tokens: u64| tokens.min(1 << 52);
        command.arg(coarse.token).arg(coarse.rate).arg(coarse.full);
        command.arg(short(row.tokens)).arg(short(row.step));
        command.arg(short(row.back)).arg(short(row.back_at));
    }
    command
}

fn granted(rows: &[(String, &Row)], numbers: &[i64]) -> Vec<(String, Granted)> {
    let (at, levels) = match numbers.split_first() {
        Some((at, levels)) => (u64::try_from(*at).unwrap_or(0), levels),
        None => (0, numbers),
    };
    let both = rows.iter().zip(levels.chunks_exact(2));
    let all = both.map(|((_, row), told)| {
        let granted = Granted {
            level: Coarse::of(&row.scale).level(&row.scale, told[0]),
            tokens: u64::try_from(told[1]).unwrap_or(0),
            at,
        };
        (row.key.clone(), granted)
    });
    all.collect()
}

impl Ledger for Asked {
    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    async fn open(&mut self) -> Result<(), String> {
        self.connect().await
    }

    async fn decide(&mut self, wants: &BTreeMap<String, Want>) -> Result<HashMap<String, Granted>, Failure> {
        let rows = wants.iter().map(|(key, want)| Row {
            key: key.clone(),
            scale: want.scale,
            tokens: want.tokens,
            // A look wants nothing, in steps of one.
            step: want.step.max(1),
            back: want.back,
            back_at: want.back_at,
        });
        let rows: Vec<Row> = rows.collect();
        self.number += 1;
        let (mut told, mut failed) = self.ask(&rows, self.number).await;
        let is_dropped = failed.as_ref().is_some_and(RedisError::is_connection_dropped);
        // Closed while it was idle, as a rule. Where it was not, the script knows the number: it may take twice, and gives back once.
        if told.is_empty() && is_dropped && self.connect().await.is_ok() {
            (told, failed) = self.ask(&rows, self.number).await;
        }
        match failed {
            // Of a cluster's nodes some may be away: who asks for nothing there goes on.
            Some(error) if told.is_empty() => Err(match error.code() {
                Some("BUSY") => Failure::Busy(describe(&error)),
                _ => Failure::Unavailable(describe(&error)),
            }),
            _ => Ok(told),
        }
    }

    fn close(&mut self) {
        self.open = None;
    }
}

impl Teller for Asked {
    async fn tell(&mut self, report: &Report, number: i64) -> Result<HashMap<String, i64>, String> {
        let late = |_| "Redis does not answer".to_owned();
        if self.open.is_none() {
            tokio::time::timeout(PATIENCE * 3, self.connect())
                .await
                .map_err(late)??;
        }
        let rows = report.charges.iter().map(|(key, charge)| Row {
            key: key.clone(),
            scale: Scale {
                token: charge.token,
                rate: charge.rate,
                full: charge.full,
                cost: 0,
            },
            tokens: charge.units / charge.token.max(1),
            step: 0,
            back: 0,
            back_at: 0,
        });
        let rows: Vec<Row> = rows.collect();
        let (told, failed) = tokio::time::timeout(PATIENCE, self.ask(&rows, number))
            .await
            .map_err(late)?;
        if let Some(error) = failed {
            return Err(describe(&error));
        }
        Ok(told
            .into_iter()
            .map(|(key, granted)| (key, granted.level))
            .collect())
    }

    fn close(&mut self) {
        self.open = None;
    }
}

/// For people. What the server says of a login names the user at most.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("Redis answered {code} {}", error.detail().unwrap_or_default()),
        None => error.to_string(),
    }
}
