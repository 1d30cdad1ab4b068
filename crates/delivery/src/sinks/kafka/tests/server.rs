//! Servers of a cluster that do what a test says: they keep batches in memory, and know those that come again.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::wire::{Reader, Writer};

/// What becomes of the next request with messages.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    LoseRequest,
    LoseAnswer,
    /// Read, kept, and never answered.
    Silence,
    /// The login counts no longer.
    LoginEnded,
    /// Any request; these bytes are the answer.
    Garbage(&'static [u8]),
}

#[derive(Default)]
struct Partition {
    leader: usize,
    log: Vec<String>,
    /// Identity, first sequence and count of the last batch.
    last: Option<(i64, i32, i32)>,
}

#[derive(Default)]
struct State {
    addresses: Vec<SocketAddr>,
    advertised: Option<(&'static str, i32)>,
    partitions: Vec<Partition>,
    nobody_leads: bool,
    faults: VecDeque<Fault>,
    refused: Option<(&'static [u8], i16)>,
    login: Option<(&'static str, &'static str)>,
    /// Which server ends every connection.
    hangs_up: Option<usize>,
    producers: i64,
    produced: usize,
}

/// Of a topic `t`.
pub struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    pub async fn start(servers: usize, partitions: usize) -> Self {
        let state = Arc::new(Mutex::new(State {
            partitions: (0..partitions)
                .map(|number| Partition {
                    leader: number % servers,
                    ..Partition::default()
                })
                .collect(),
            producers: 1_000,
            ..State::default()
        }));
        for number in 0..servers {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("bound");
            state.lock().expect("whole").addresses.push(address);
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(number, stream, Arc::clone(&state)));
                }
            });
        }
        Self(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("whole")
    }

    pub fn url(&self) -> String {
        format!("kafka://{}", self.state().addresses[0])
    }

    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults = faults.into_iter().collect();
    }

    /// Every partition gets another leader, where there is one.
    pub fn move_all(&self) {
        let mut state = self.state();
        let servers = state.addresses.len();
        for partition in &mut state.partitions {
            partition.leader = (partition.leader + 1) % servers;
        }
    }

    pub fn lead_by_nobody(&self, nobody: bool) {
        self.state().nobody_leads = nobody;
    }

    /// Every server is said to be there; else where it is.
    pub fn advertise(&self, place: Option<(&'static str, i32)>) {
        self.state().advertised = place;
    }

    /// What has these bytes is answered with this code.
    pub fn refuses_bytes(&self, bytes: &'static [u8], code: i16) {
        self.state().refused = Some((bytes, code));
    }

    pub fn knows(&self, user: &'static str, password: &'static str) {
        self.state().login = Some((user, password));
    }

    /// Of this partition.
    pub fn forget_producers(&self, partition: usize) {
        self.state().partitions[partition].last = None;
    }

    /// This server ends every connection.
    pub fn hangs_up(&self, server: usize) {
        self.state().hangs_up = Some(server);
    }

    /// How many requests with messages came.
    pub fn produced(&self) -> usize {
        self.state().produced
    }

    pub fn log(&self) -> Vec<String> {
        self.partitions().into_iter().flat_map(|(_, log)| log).collect()
    }

    pub fn partitions(&self) -> Vec<(i32, Vec<String>)> {
        let state = self.state();
        let logs = state.partitions.iter().map(|partition| partition.log.clone());
        (0..).zip(logs).collect()
    }
}

async fn serve(number: usize, mut stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut is_known = state.lock().ok()?.login.is_none();
    loop {
        let length = stream.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).expect("a length")];
        stream.read_exact(&mut frame).await.ok()?;
        let mut reader = Reader(&frame);
        let (key, version, asked) = (reader.i16().ok()?, reader.i16().ok()?, reader.i32().ok()?);
        reader.string().ok()?;
        if state.lock().ok()?.hangs_up == Some(number) {
            return None;
        }
        let fault = {
            let mut state = state.lock().ok()?;
            match state.faults.front() {
                Some(Fault::Garbage(_)) => state.faults.pop_front(),
                Some(_) if key == 0 => state.faults.pop_front(),
                _ => None,
            }
        };
        match fault {
            Some(Fault::LoseRequest) => return None,
            Some(Fault::Garbage(bytes)) => return stream.write_all(bytes).await.ok(),
            _ => {}
        }
        let mut answer = Writer::default();
        answer.i32(asked);
        if key == 22 {
            reader.skip_tagged().ok()?;
            answer.unsigned_varint(0);
        }
        assert!(
            is_known || matches!(key, 17 | 18 | 36),
            "call {key} before the login"
        );
        let body = match fault {
            Some(Fault::LoginEnded) => {
                let mut body = Writer::default();
                body.length(1)
                    .string("t")
                    .length(1)
                    .i32(0)
                    .i16(34)
                    .i64(-1)
                    .i64(-1)
                    .i64(-1)
                    .length(0)
                    .i16(-1)
                    .i32(0);
                body
            }
            _ => answered(number, (key, version), &mut reader, &state, &mut is_known)?,
        };
        answer.raw(&body.0);
        match fault {
            Some(Fault::LoseAnswer) => return None,
            Some(Fault::Silence) => std::future::pending().await,
            _ => {}
        }
        let mut sent = Writer::default();
        sent.bytes(&answer.0);
        stream.write_all(&sent.0).await.ok()?;
    }
}

fn answered(
    number: usize,
    (key, version): (i16, i16),
    reader: &mut Reader<'_>,
    state: &Mutex<State>,
    is_known: &mut bool,
) -> Option<Writer> {
    let mut state = state.lock().ok()?;
    let mut body = Writer::default();
    match key {
        18 => {
            let calls = [
                (0_i16, 3_i16, 9_i16),
                (3, 0, 12),
                (17, 0, 1),
                (18, 0, 3),
                (22, 0, 4),
                (36, 0, 2),
            ];
            body.i16(0).length(calls.len());
            for (key, oldest, newest) in calls {
                body.i16(key).i16(oldest).i16(newest);
            }
        }
        17 => {
            let code = if reader.string().ok()? == "PLAIN" { 0 } else { 33 };
            body.i16(code).length(1).string("PLAIN");
        }
        36 => {
            let (user, password) = state.login?;
            *is_known = reader.bytes().ok()? == format!("\0{user}\0{password}").as_bytes();
            body.i16(if *is_known { 0 } else { 58 })
                .string("Authentication failed")
                .bytes(b"")
                .i64(0);
        }
        3 => metadata(&state, version, &mut body),
        22 => {
            state.producers += 1;
            body.i32(0).i16(0).i64(state.producers).i16(0).unsigned_varint(0);
        }
        0 => {
            state.produced += 1;
            produced(number, reader, &mut state, &mut body)?;
        }
        other => panic!("call {other}"),
    }
    Some(body)
}

fn metadata(state: &State, version: i16, body: &mut Writer) {
    assert_eq!(version, 7);
    body.i32(0).length(state.addresses.len());
    for (number, address) in state.addresses.iter().enumerate() {
        let host = address.ip().to_string();
        let (host, port) = state.advertised.unwrap_or((&host, i32::from(address.port())));
        body.i32(number as i32).string(host).i32(port).i16(-1);
    }
    body.i16(-1)
        .i32(0)
        .length(1)
        .i16(0)
        .string("t")
        .i8(0)
        .length(state.partitions.len());
    for (number, partition) in state.partitions.iter().enumerate() {
        let leader = if state.nobody_leads {
            -1
        } else {
            partition.leader as i32
        };
        body.i16(0)
            .i32(number as i32)
            .i32(leader)
            .i32(0)
            .length(0)
            .length(0)
            .length(0);
    }
}

fn produced(number: usize, reader: &mut Reader<'_>, state: &mut State, body: &mut Writer) -> Option<()> {
    reader.string().ok()?;
    assert_eq!(reader.i16().ok()?, -1, "acks=all");
    reader.i32().ok()?;
    let mut codes = BTreeMap::new();
    let topics = reader.array(|reader| {
        assert_eq!(reader.string()?, "t");
        reader.array(|reader| Ok((reader.i32()?, reader.bytes()?)))
    });
    for (partition, batch) in topics.ok()?.into_iter().flatten() {
        codes.insert(partition, kept(number, state, partition, batch)?);
    }
    body.length(1).string("t").length(codes.len());
    for (partition, code) in codes {
        body.i32(partition)
            .i16(code)
            .i64(-1)
            .i64(-1)
            .i64(-1)
            .length(0)
            .i16(-1);
    }
    body.i32(0);
    Some(())
}

/// The code of a batch.
fn kept(number: usize, state: &mut State, partition: i32, batch: &[u8]) -> Option<i16> {
    let has = |bytes: &[u8]| batch.windows(bytes.len()).any(|window| window == bytes);
    if let Some((bytes, code)) = state.refused.filter(|(bytes, _)| has(bytes)) {
        assert!(!bytes.is_empty());
        return Some(code);
    }
    let nobody_leads = state.nobody_leads;
    let partition = &mut state.partitions[usize::try_from(partition).ok()?];
    if partition.leader != number || nobody_leads {
        return Some(6);
    }
    let mut reader = Reader(&batch[43..]);
    let (producer, _, sequence, count) = (
        reader.i64().ok()?,
        reader.i16().ok()?,
        reader.i32().ok()?,
        reader.i32().ok()?,
    );
    match partition.last {
        Some(last) if last == (producer, sequence, count) => return Some(0),
        Some((of, last, of_count)) if of == producer && last + of_count != sequence => return Some(45),
        Some((of, ..)) if of == producer => {}
        _ if sequence != 0 => return Some(59),
        _ => {}
    }
    partition.last = Some((producer, sequence, count));
    // The ids, as they stand in the headers.
    const NAME: &[u8] = b"ce_id";
    let starts = (0..batch.len()).filter(|at| batch[*at..].starts_with(NAME));
    for at in starts {
        let length = usize::from(batch[at + NAME.len()] / 2);
        let id = &batch[at + NAME.len() + 1..][..length];
        partition.log.push(String::from_utf8(id.to_vec()).expect("an id"));
    }
    Some(0)
}
