//! Sends records to the leaders of their partitions. Whoever has something to send takes its turn at the leader, and takes along what
//! waits there. There is no task: what is dropped ends, and what it leaves in doubt is settled by the next turn.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Failure;
use super::call::{self, INIT_PRODUCER_ID, PRODUCE};
use super::cluster::{Cluster, Map, Server};
use super::code::{self, Meaning};
use super::connection::Connection;
use super::ledger::{Batch, Ledger};
use super::record::{Identity, Record};
use super::taken::Taken;

/// How often a record is sent within one attempt to leaders that say that they are none, or to which this producer has to begin anew.
const TRIES: u32 = 5;
/// Before the second; then twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);
/// The most bytes of one batch, unless a single record has more. By default a server takes 1 MiB.
const MAX_BATCH: usize = 512 << 10;
/// The most bytes of the batches that are sent together, unless a single record has more.
const MAX_REQUEST: usize = 8 << 20;
/// The most bytes of batches whose outcome is in doubt.
const MAX_DOUBT: usize = 64 << 20;

/// Sends the records of one subscription.
pub(super) struct Producer {
    cluster: Cluster,
    timeout_ms: i32,
    identity: Cell<Option<Identity>>,
    ledgers: RefCell<BTreeMap<i32, Ledger>>,
    taken: RefCell<Taken>,
}

/// A record that waits for its turn.
pub(super) struct Entry {
    partition: i32,
    record: Arc<Record>,
    /// In a batch of its own: with others it was too much.
    alone: bool,
    outcome: oneshot::Sender<Outcome>,
}

/// What has become of a record.
enum Outcome {
    Taken,
    /// Not with others.
    Alone,
    /// It may be taken elsewhere, or later.
    Again(String),
    Failed(Failure),
}

/// A batch on its way.
struct Sending {
    partition: i32,
    batch: Batch,
    entries: Vec<Entry>,
}

impl Producer {
    pub fn new(cluster: Cluster, timeout: Duration) -> Self {
        Self {
            cluster,
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            identity: Cell::new(None),
            ledgers: RefCell::default(),
            taken: RefCell::default(),
        }
    }

    /// These are there, and whoever asks for one of them again is told so.
    pub fn remember(&self, ids: impl Iterator<Item = String>) {
        ids.for_each(|id| self.taken.borrow_mut().insert(id));
    }

    /// Until every replica in step has it. `key`: what its partition is told by.
    pub async fn send(&self, topic: &str, key: &str, record: Arc<Record>) -> Result<(), Failure> {
        let (mut alone, mut tries) = (false, 0);
        loop {
            let map = self.cluster.map(topic).await?;
            let (partition, leader) = map.partition(key, &record);
            let outcome = match leader {
                None => Outcome::Again(format!("nobody leads partition {partition} of {topic}")),
                Some(leader) => {
                    let record = Arc::clone(&record);
                    self.hand_over(topic, leader, (partition, record, alone)).await
                }
            };
            match outcome {
                Outcome::Taken => return Ok(()),
                Outcome::Failed(failure) => return Err(failure),
                Outcome::Alone => alone = true,
                Outcome::Again(why) => {
                    map.outdate();
                    tries += 1;
                    if tries == TRIES {
                        return Err(Failure::refused(why));
                    }
                    sleep(PAUSE * (1 << (tries - 1))).await;
                }
            }
        }
    }

    /// To this leader, as soon as it is this record's turn or another has taken it along.
    async fn hand_over(
        &self,
        topic: &str,
        leader: i32,
        (partition, record, alone): (i32, Arc<Record>, bool),
    ) -> Outcome {
        let server = self.cluster.server(leader);
        let (outcome, mut told) = oneshot::channel();
        server.waiting().push_back(Entry {
            partition,
            record,
            alone,
            outcome,
        });
        loop {
            tokio::select! {
                biased;
                // Whoever had taken it along may have gone.
                told = &mut told => return told.unwrap_or_else(|_| Outcome::Again("nobody waited for the answer".to_owned())),
                mut turn = server.turn.lock() => self.turn(topic, &server, &mut turn).await,
            }
        }
    }

    /// Sends what waits for this server.
    async fn turn(&self, topic: &str, server: &Server, turn: &mut Option<Connection>) {
        // Whether it fails or is given up: others may lead by then.
        let doubt = Doubt(self.cluster.known());
        match self.send_waiting(topic, server, turn).await {
            Ok(()) => doubt.settle(),
            Err(failure) => {
                for entry in server.waiting().drain(..) {
                    let _ = entry.outcome.send(Outcome::Failed(failure.clone()));
                }
            }
        }
    }

    async fn send_waiting(
        &self,
        topic: &str,
        server: &Server,
        turn: &mut Option<Connection>,
    ) -> Result<(), Failure> {
        let (connection, was_used) = match turn.take() {
            Some(connection) => (connection, true),
            None => (self.cluster.connect(server.number).await?, false),
        };
        self.forget_partitions();
        let identity = self.identity().await?;
        let sending = self.gather(server, identity);
        if sending.is_empty() {
            *turn = Some(connection);
            return Ok(());
        }
        let answered = match self.produce(topic, connection, &sending).await {
            Ok((_, codes)) if was_used && codes.iter().any(|(_, code)| code::is_of_login(*code)) => {
                Err(Failure::Broken("the login has ended".to_owned()))
            }
            answered => answered,
        };
        let answered = match answered {
            // It may have been closed while it was idle. What is sent again is known by its sequence.
            Err(Failure::Broken(_)) if was_used => match self.cluster.connect(server.number).await {
                Ok(connection) => self.produce(topic, connection, &sending).await,
                Err(failure) => Err(failure),
            },
            answered => answered,
        };
        match answered {
            Ok((connection, codes)) => {
                *turn = Some(connection);
                for sending in sending {
                    let code = codes
                        .iter()
                        .find(|(partition, _)| *partition == sending.partition);
                    self.settle(server, sending, code.map_or(-1, |(_, code)| *code));
                }
                Ok(())
            }
            Err(failure) => {
                for entry in sending.into_iter().flat_map(|sending| sending.entries) {
                    let _ = entry.outcome.send(Outcome::Failed(failure.clone()));
                }
                Err(failure)
            }
        }
    }

    /// Those that the topic does not have any more. Should they come back, they get sequences of another identity.
    fn forget_partitions(&self) {
        let (mut ledgers, known) = (self.ledgers.borrow_mut(), self.cluster.known());
        let before = ledgers.len();
        if let Some(map) = known {
            ledgers.retain(|partition, _| map.has(*partition));
        }
        if ledgers.len() < before {
            self.identity.set(None);
        }
    }

    async fn identity(&self) -> Result<Identity, Failure> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let (_, answer) = self.cluster.ask(INIT_PRODUCER_ID, call::ask_identity).await?;
        // Another may have asked meanwhile.
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let (code, identity) = call::read_identity(&answer)?;
        if code != 0 {
            self.cluster.part().await;
            let name = code::name(code);
            return Err(Failure::refused(format!(
                "the server answered {name} to a producer that repeats nothing"
            )));
        }
        self.identity.set(Some(identity));
        Ok(identity)
    }

    async fn produce(
        &self,
        topic: &str,
        mut connection: Connection,
        sending: &[Sending],
    ) -> Result<(Connection, Vec<(i32, i16)>), Failure> {
        {
            let mut ledgers = self.ledgers.borrow_mut();
            for one in sending {
                ledgers.entry(one.partition).or_default().sends();
            }
        }
        let batches = sending.iter().map(|one| (one.partition, &*one.batch.bytes));
        let (version, answer) = connection
            .ask(PRODUCE, |_| call::produce(topic, self.timeout_ms, batches))
            .await?;
        Ok((connection, call::read_produced(&answer, version)?))
    }

    /// Takes what waits for this server and may be sent now: a batch for each partition. Where one is in doubt, it is that one again.
    fn gather(&self, server: &Server, identity: Identity) -> Vec<Sending> {
        let mut ledgers = self.ledgers.borrow_mut();
        let in_doubt: usize = ledgers
            .values()
            .filter_map(Ledger::open)
            .map(|open| open.bytes.len())
            .sum();
        let gathered = self.take(&mut server.waiting(), &ledgers, in_doubt <= MAX_DOUBT);
        let batch = |(partition, entries): (i32, Vec<Entry>)| {
            let ledger = ledgers.entry(partition).or_default();
            let batch = ledger.open().cloned().unwrap_or_else(|| {
                let records: Vec<_> = entries.iter().map(|entry| Arc::clone(&entry.record)).collect();
                ledger.begin(identity, &records)
            });
            Sending {
                partition,
                batch,
                entries,
            }
        };
        gathered.into_iter().map(batch).collect()
    }

    /// By partition; what is left waits for the next turn. None of a partition overtakes another. `may_begin`: also where nothing is in
    /// doubt.
    fn take(
        &self,
        waiting: &mut VecDeque<Entry>,
        ledgers: &BTreeMap<i32, Ledger>,
        may_begin: bool,
    ) -> BTreeMap<i32, Vec<Entry>> {
        let mut gathered = BTreeMap::<i32, (usize, Vec<Entry>)>::new();
        let (mut rest, mut full, mut total) = (VecDeque::new(), HashSet::new(), 0);
        for entry in waiting.drain(..) {
            if entry.outcome.is_closed() {
                continue;
            }
            if self.taken.borrow_mut().remove(&entry.record.id) {
                let _ = entry.outcome.send(Outcome::Taken);
                continue;
            }
            let size = entry.record.size();
            let is_in_doubt = ledgers
                .get(&entry.partition)
                .is_some_and(|ledger| ledger.open().is_some());
            if !is_in_doubt && !may_begin {
                let why = "too many messages wait for the word of the cluster";
                let _ = entry
                    .outcome
                    .send(Outcome::Failed(Failure::refused(why.to_owned())));
                continue;
            }
            let fits = is_in_doubt
                || !full.contains(&entry.partition)
                    && (total == 0 || total + size <= MAX_REQUEST)
                    && gathered.get(&entry.partition).is_none_or(|(bytes, together)| {
                        bytes + size <= MAX_BATCH && !entry.alone && together.iter().all(|one| !one.alone)
                    });
            if !fits {
                full.insert(entry.partition);
                rest.push_back(entry);
                continue;
            }
            total += size;
            let (bytes, together) = gathered.entry(entry.partition).or_default();
            *bytes += size;
            together.push(entry);
        }
        *waiting = rest;
        gathered
            .into_iter()
            .map(|(partition, (_, entries))| (partition, entries))
            .collect()
    }

    /// The word of a server about a batch.
    fn settle(&self, server: &Server, sending: Sending, code: i16) {
        let meaning = code::meaning(code);
        let is_open = {
            let mut ledgers = self.ledgers.borrow_mut();
            let ledger = ledgers.entry(sending.partition).or_default();
            if ledger.settle(sending.batch.number, meaning) {
                self.identity.set(None);
            }
            ledger.open().is_some()
        };
        let are_many = sending.batch.ids.len() > 1;
        let mut untold: HashSet<&String> = sending.batch.ids.iter().collect();
        let mut back = Vec::new();
        let why = format!("the server answered {}", code::name(code));
        for entry in sending.entries {
            if !untold.contains(&entry.record.id) && !is_open {
                // It waited for this one only.
                back.push(entry);
                continue;
            }
            let outcome = match meaning {
                Meaning::Taken => Outcome::Taken,
                Meaning::Unfit if are_many => Outcome::Alone,
                Meaning::Unfit => Outcome::Failed(Failure::unfit(why.clone())),
                Meaning::Elsewhere | Meaning::Anew => Outcome::Again(why.clone()),
                Meaning::Refused | Meaning::Unknown => Outcome::Failed(Failure::refused(why.clone())),
            };
            if entry.outcome.send(outcome).is_ok() {
                untold.remove(&entry.record.id);
            }
        }
        let mut waiting = server.waiting();
        back.into_iter().rev().for_each(|entry| waiting.push_front(entry));
        if meaning == Meaning::Taken {
            self.remember(untold.into_iter().cloned());
        }
    }
}

/// Where this ends without being [settled](Self::settle), nobody knows any more who leads what.
struct Doubt(Option<Arc<Map>>);

impl Doubt {
    fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if let Some(map) = &self.0 {
            map.outdate();
        }
    }
}
