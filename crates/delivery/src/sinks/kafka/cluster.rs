//! The servers of one cluster: who leads which partition of the topic, and the ways to them. Every server is reached under the same
//! rules, also one that another names: what a server advertises is a stranger's word.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as Turn;

use super::Failure;
use super::call::{Call, METADATA, Topic};
use super::code::{self, Meaning};
use super::connection::{Connection, Way};
use super::murmur;
use super::producer::Entry;
use super::record::Record;
use crate::sinks::reach::CONNECT_TIMEOUT;
use crate::subscription::{Place, Security};

/// For how long it is believed who leads what; as `metadata.max.age.ms` of Kafka's own clients.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The most partitions of a topic.
const MAX_PARTITIONS: usize = 100_000;
/// The most servers of a cluster; to each that leads partitions there is a connection at most, and one more to ask.
const MAX_SERVERS: usize = 1_000;

/// Who leads what.
pub(super) struct Map {
    servers: HashMap<i32, Place>,
    /// Number and leader, by number.
    partitions: Vec<(i32, Option<i32>)>,
    since: Instant,
    is_outdated: AtomicBool,
}

/// A server that leads partitions.
pub(super) struct Server {
    pub number: i32,
    /// Whose turn it is to ask, and the connection while nobody does.
    pub turn: Turn<Option<Connection>>,
    /// What waits to be sent.
    pub waiting: Mutex<VecDeque<Entry>>,
}

/// A cluster, as its topic's messages find it.
pub(super) struct Cluster {
    pub way: Way,
    /// Which servers are asked first, until one answers.
    places: Vec<Place>,
    security: Security,
    /// A connection to whichever server answered last, while nobody asks.
    seed: Turn<Option<Connection>>,
    map: Mutex<Option<Arc<Map>>>,
    servers: Mutex<BTreeMap<i32, Arc<Server>>>,
}

impl Map {
    fn of(topic: Topic, cluster: &Cluster) -> Self {
        let servers = topic.brokers.into_iter().filter_map(|(number, host, port)| {
            let place = Place {
                host,
                port: u16::try_from(port).ok()?,
                security: cluster.security,
                user: String::new(),
                path: String::new(),
            };
            Some((number, place))
        });
        let leader = |leader: i32| (leader >= 0).then_some(leader);
        let mut partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|(number, of)| (*number, leader(*of)))
            .collect();
        partitions.sort_unstable();
        partitions.dedup_by_key(|(number, _)| *number);
        Self {
            servers: servers.collect(),
            partitions,
            since: Instant::now(),
            is_outdated: AtomicBool::new(false),
        }
    }

    /// The partition of a message, and who leads it. What has no key is told by its id: so it is the same when it is sent again.
    pub fn partition(&self, key: &str, record: &Record) -> (i32, Option<i32>) {
        let key = if key.is_empty() { &record.id } else { key };
        let index = murmur::partition(key.as_bytes(), self.partitions.len());
        self.partitions.get(index).copied().unwrap_or((0, None))
    }

    /// Whether the topic has this partition.
    pub fn has(&self, partition: i32) -> bool {
        self.partitions
            .binary_search_by_key(&partition, |(number, _)| *number)
            .is_ok()
    }

    /// It is not believed any more.
    pub fn outdate(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
    }
}

impl Server {
    pub fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Entry>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// `places`: at least one.
    pub fn new(way: Way, places: Vec<Place>) -> Self {
        Self {
            way,
            security: places.first().map_or(Security::Tls, |place| place.security),
            places,
            seed: Turn::new(None),
            map: Mutex::default(),
            servers: Mutex::default(),
        }
    }

    /// Who leads what of the topic, as it was learnt last.
    pub fn known(&self) -> Option<Arc<Map>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who leads what of the topic.
    pub async fn map(&self, topic: &str) -> Result<Arc<Map>, Failure> {
        let good = || {
            self.known()
                .filter(|map| !map.is_outdated.load(Ordering::Relaxed))
        };
        let young = || good().filter(|map| map.since.elapsed() < MAX_AGE);
        if let Some(map) = young() {
            return Ok(map);
        }
        let mut seed = self.seed.lock().await;
        // Another may have asked meanwhile.
        if let Some(map) = young() {
            return Ok(map);
        }
        match self.learn(&mut seed, topic).await {
            Ok(map) => {
                *self.map.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&map));
                let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
                servers.retain(|number, _| map.servers.contains_key(number));
                Ok(map)
            }
            Err(failure) => good().ok_or(failure),
        }
    }

    async fn learn(&self, seed: &mut Option<Connection>, topic: &str) -> Result<Arc<Map>, Failure> {
        let (version, answer) = self.ask_any(seed, METADATA, |_| Topic::ask(topic)).await?;
        let found = Topic::read(&answer, version).inspect_err(|_| *seed = None)?;
        if found.code != 0 {
            // Another server may know it, or a new login may see it.
            *seed = None;
        }
        if found.partitions.len() > MAX_PARTITIONS || found.brokers.len() > MAX_SERVERS {
            return Err(Failure::refused(
                "the cluster has more than 1,000 servers or 100,000 partitions".to_owned(),
            ));
        }
        if !matches!(code::meaning(found.code), Meaning::Taken) || found.partitions.is_empty() {
            return Err(Failure::refused(format!(
                "the server answered {} about the topic {topic}",
                code::name(found.code)
            )));
        }
        Ok(Arc::new(Map::of(found, self)))
    }

    /// Asks whichever server answers.
    pub async fn ask(&self, call: Call, body: impl Fn(i16) -> Vec<u8>) -> Result<(i16, Vec<u8>), Failure> {
        let mut seed = self.seed.lock().await;
        self.ask_any(&mut seed, call, body).await
    }

    async fn ask_any(
        &self,
        seed: &mut Option<Connection>,
        call: Call,
        body: impl Fn(i16) -> Vec<u8>,
    ) -> Result<(i16, Vec<u8>), Failure> {
        if let Some(connection) = seed.take()
            && let Ok((connection, answered)) = within(ask(connection, call, &body)).await
        {
            *seed = Some(connection);
            return Ok(answered);
        }
        let known = self.known();
        let others = known.iter().flat_map(|map| map.servers.values());
        let mut failed = None;
        for place in self.places.iter().chain(others) {
            let asked = async { ask(self.way.connect(place).await?, call, &body).await };
            match within(asked).await {
                Ok((connection, answered)) => {
                    *seed = Some(connection);
                    return Ok(answered);
                }
                // What the first says is what the operator can do something about.
                Err(failure) => _ = failed.get_or_insert(failure),
            }
        }
        Err(failed.unwrap_or_else(|| Failure::Broken("there is no server".to_owned())))
    }

    /// With whichever server answered last: the next question is asked of the first one.
    pub async fn part(&self) {
        *self.seed.lock().await = None;
    }

    /// The server of this number.
    pub fn server(&self, number: i32) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.entry(number).or_insert_with(|| {
            Arc::new(Server {
                number,
                turn: Turn::new(None),
                waiting: Mutex::default(),
            })
        });
        Arc::clone(server)
    }

    /// A connection to the server of this number, at the place that the cluster names for it.
    pub async fn connect(&self, number: i32) -> Result<Connection, Failure> {
        let known = self.known();
        let place = known.as_ref().and_then(|map| map.servers.get(&number));
        let place = place.ok_or_else(|| {
            Failure::Broken(format!("the cluster does not say where its server {number} is"))
        })?;
        let named = |why: String| format!("server {number} of the cluster, which says that it is at {why}");
        self.way.connect(place).await.map_err(|failure| match failure {
            Failure::Unreached(why) => Failure::Unreached(named(why)),
            Failure::Broken(why) => Failure::Broken(named(why)),
            refused @ Failure::Refused { .. } => refused,
        })
    }
}

async fn ask(
    mut connection: Connection,
    call: Call,
    body: impl Fn(i16) -> Vec<u8>,
) -> Result<(Connection, (i16, Vec<u8>)), Failure> {
    let answered = connection.ask(call, body).await?;
    Ok((connection, answered))
}

/// So that a server that says nothing does not keep another from being asked.
async fn within<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let ended = tokio::time::timeout(CONNECT_TIMEOUT, asked).await;
    ended.unwrap_or_else(|_| Err(Failure::Broken("the server did not answer in time".to_owned())))
}
