//! `tollgate links import`. A thread reads the file, and so many connections create its links. Memory is bounded: a few
//! hundred records are on their way. Each link is created under the code that it has; a link that is there already is left
//! as it is, so that an import that was interrupted is simply run again.

use super::super::client::{Answer, Client, Target, run, segment};
use super::super::exit::Failure;
use super::super::output::{self, Output, printable, tell};
use super::pace::Pace;
use super::reader::{self, Format};
use super::row::{self, DOMAIN, Draft, Record};
use bytes::Bytes;
use clap::Args;
use futures::StreamExt as _;
use http::Method;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Records that wait to be sent.
const WAITING: usize = 256;
/// Refusals that are told on stderr; the report has all.
const TOLD: u64 = 20;
/// How often a link is tried again after an answer that says nothing about it, and how long the waits are at most.
const TRIES: u32 = 8;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const BUFFER: usize = 256 << 10;
const BAR: &str = "{wide_bar} {percent}% {msg} {eta}";
const SPINNER: &str = "{spinner} {msg}";

/// `tollgate links import …`
#[derive(Args)]
pub struct ImportOptions {
    /// The file; - is stdin.
    pub file: PathBuf,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub format: Format,
    /// Only links of this domain, where the file has those of several.
    #[arg(long)]
    pub domain: Option<String>,
    /// Connections that create links at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub concurrency: u16,
    /// A file for every line that made no link, with the reason, as NDJSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print what would be created, as NDJSON, and create nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The gateway.
    #[command(flatten)]
    pub target: Target,
}

/// A record on its way: its line, and the links that it makes.
type Parsed = (u64, Result<Vec<Draft>, String>);

/// Creates the links of a file.
///
/// # Errors
/// The file cannot be read; the gateway cannot be reached, or refuses the key; some lines made no link.
pub fn import(options: &ImportOptions, mut output: Output) -> Result<(), Failure> {
    let unreadable = |error| Failure::Usage(format!("cannot read {}: {error}", options.file.display()));
    let (file, bytes): (Box<dyn Read + Send>, _) = match options.file.as_os_str() == "-" {
        true => (Box::new(std::io::stdin()), None),
        false => {
            let file = File::open(&options.file).map_err(unreadable)?;
            let about = file.metadata().map_err(unreadable)?;
            if about.is_dir() {
                return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
            }
            (Box::new(file), Some(about.len()).filter(|bytes| *bytes > 0))
        }
    };
    let done = Arc::new(AtomicU64::new(0));
    let file = Counted(file, Arc::clone(&done));
    let (send, records) = mpsc::channel::<Parsed>(WAITING);
    let (format, domain) = (options.format, options.domain.clone());
    let reading = std::thread::spawn(move || {
        reader::read(BufReader::with_capacity(BUFFER, file), format, &mut |(
            line,
            record,
        )| {
            let drafts = record.and_then(|record| row::drafts(&record, domain.as_deref()));
            send.blocking_send((line, drafts)).is_ok()
        })
    });
    let ended = match options.dry_run {
        true => show(records, &mut output),
        false => {
            let client = Client::new(&options.target)?;
            let report = options.report.as_ref().map(File::create).transpose();
            let report =
                report.map_err(|error| Failure::failed(format!("cannot write the report: {error}")))?;
            let bar = output::progress(bytes, if bytes.is_some() { BAR } else { SPINNER });
            let sender = Sender::new(client, bar, report.map(BufWriter::new), options.concurrency);
            run(sender.send_all(records, &done)).map(|()| Some(sender))
        }
    };
    let sender = ended?;
    match reading.join() {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Err(Failure::failed(format!("{}: {why}", options.file.display()))),
        Err(_) => return Err(Failure::failed("the reader of the file has failed")),
    }
    sender.map_or(Ok(()), |sender| sender.finish(&mut output))
}

/// Prints what would be created.
fn show(mut records: mpsc::Receiver<Parsed>, output: &mut Output) -> Result<Option<Sender>, Failure> {
    while let Some((line, drafts)) = records.blocking_recv() {
        match drafts {
            Ok(drafts) => drafts.iter().try_for_each(|draft| output.value(&draft.body))?,
            Err(why) => tell(&printable(&format!("{line}: {why}"))),
        }
    }
    Ok(None)
}

/// Counts the bytes that were read.
struct Counted(Box<dyn Read + Send>, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What became of the links so far.
#[derive(Debug, Default)]
struct Tally {
    created: Cell<u64>,
    there: Cell<u64>,
    refused: Cell<u64>,
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// What one link came to.
enum Came {
    Created,
    There,
    Refused(String),
}

struct Sender {
    client: Client,
    began: Instant,
    bar: ProgressBar,
    report: RefCell<Option<BufWriter<File>>>,
    tally: Tally,
    pace: Pace,
    concurrency: usize,
    /// Hosts of the file that are none of the gateway's domains.
    elsewhere: RefCell<HashSet<String>>,
}

impl Sender {
    fn new(client: Client, bar: ProgressBar, report: Option<BufWriter<File>>, concurrency: u16) -> Self {
        Self {
            client,
            began: Instant::now(),
            bar,
            report: RefCell::new(report),
            tally: Tally::default(),
            pace: Pace::new(concurrency.into()),
            concurrency: concurrency.into(),
            elsewhere: RefCell::default(),
        }
    }

    async fn send_all(&self, records: mpsc::Receiver<Parsed>, done: &AtomicU64) -> Result<(), Failure> {
        let failure = RefCell::new(None);
        let records = futures::stream::unfold(records, async |mut records| {
            let has_failed = failure.borrow().is_some();
            let record = match has_failed {
                true => None,
                false => records.recv().await,
            };
            record.map(|record| (record, records))
        });
        records
            .for_each_concurrent(self.concurrency, async |(line, drafts)| {
                match drafts {
                    Ok(drafts) => {
                        for draft in drafts {
                            match self.create(&draft).await {
                                Ok(came) => self.count(line, &draft, came),
                                Err(why) => _ = failure.borrow_mut().get_or_insert(why),
                            }
                        }
                    }
                    Err(why) => self.refuse(line, &Value::Null, &why),
                }
                self.bar.set_position(done.load(Ordering::Relaxed));
            })
            .await;
        self.bar.finish_and_clear();
        match failure.into_inner() {
            None => Ok(()),
            Some(failure) => {
                let Tally { created, there, .. } = &self.tally;
                tell(&format!(
                    "{} links were created, {} were there; run it again to go on",
                    created.get(),
                    there.get()
                ));
                Err(failure)
            }
        }
    }

    /// Creates a link on the host that it has in the file, if the gateway has that; else on that of its public URL, which is told once.
    async fn create(&self, draft: &Draft) -> Result<Came, Failure> {
        let mut draft = Cow::Borrowed(draft);
        if let Some(host) = draft.body.get(DOMAIN).and_then(Value::as_str).map(str::to_owned) {
            if !self.elsewhere.borrow().contains(&host) {
                let (answer, came) = self.create_on(&draft).await?;
                if !is_elsewhere(&answer) {
                    return Ok(came);
                }
                self.leave_out(&host);
            }
            draft.to_mut().body.remove(DOMAIN);
        }
        self.create_on(&draft).await.map(|(_, came)| came)
    }

    fn leave_out(&self, host: &str) {
        if self.elsewhere.borrow_mut().insert(host.to_owned()) {
            let what = format!(
                "{host} is no domain of this gateway: its links are created on that of its public URL"
            );
            self.bar.suspend(|| tell(&printable(&what)));
        }
    }

    async fn create_on(&self, draft: &Draft) -> Result<(Answer, Came), Failure> {
        let body = Bytes::from(serde_json::to_vec(&draft.body).map_err(anyhow::Error::from)?);
        let answer = self.answer(&Method::POST, "/api/links", Some(body)).await?;
        let came = match answer.status {
            201 => Came::Created,
            200 => Came::There,
            409 if self.is_there(draft).await? => return Ok((answer, Came::There)),
            _ => Came::Refused(reason(&answer)),
        };
        let code = answer.json()["code"].as_str().map(str::to_owned);
        if let (true, Came::Created | Came::There, Some(code)) = (draft.archived, &came, code) {
            let body = Bytes::from_static(br#"{"archived":true}"#);
            let path = path(&code, &draft.body);
            let archived = self.answer(&Method::PATCH, &path, Some(body)).await?;
            if !archived.is_success() {
                let why = format!("it was created, but not archived: {}", reason(&archived));
                return Ok((answer, Came::Refused(why)));
            }
        }
        Ok((answer, came))
    }

    /// Whether the code is that of a link to the same URL: of an earlier run, and changed, archived or ended since.
    async fn is_there(&self, draft: &Draft) -> Result<bool, Failure> {
        let Some(code) = draft.body.get("code").and_then(Value::as_str) else {
            return Ok(false);
        };
        let path = path(code, &draft.body);
        let answer = self.answer(&Method::GET, &path, None).await?;
        Ok(answer.is_success() && Some(&answer.json()["url"]) == draft.body.get("url"))
    }

    /// The gateway's answer about a link: not that there are too many requests, nor that it is not ready.
    async fn answer(&self, method: &Method, path: &str, body: Option<Bytes>) -> Result<Answer, Failure> {
        let mut tries = 0;
        loop {
            let place = self.pace.place().await?;
            let answered = self.client.send(method, path, body.clone()).await;
            self.pace.release(place);
            tries += 1;
            let backoff = Duration::from_millis(250) * 2_u32.saturating_pow(tries.min(TRIES));
            match answered {
                Ok(answer) if answer.status == 429 => {
                    let wait = Duration::from_secs(answer.retry_after.unwrap_or(1)).min(LONGEST_WAIT);
                    if self.pace.slow_down(wait) {
                        self.bar.suspend(|| tell(&slowed(&answer)));
                    }
                    // As long as it says when to come again, it is asked again.
                    tries = 0;
                }
                Ok(answer) if answer.status == 401 || answer.status == 403 => {
                    return Err(answer.refusal(method, path));
                }
                Ok(answer) if answer.status >= 500 && tries < TRIES => {
                    let asked = answer.retry_after.map(Duration::from_secs);
                    tokio::time::sleep(asked.unwrap_or(backoff).min(LONGEST_WAIT)).await;
                }
                Ok(answer) => {
                    self.pace.went_well();
                    return Ok(answer);
                }
                // A link that was created meanwhile is found to be there. Who never answered is not waited for.
                Err(Failure::Unreachable(_)) if tries < TRIES && self.pace.has_answered() => {
                    tokio::time::sleep(backoff).await
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn count(&self, line: u64, draft: &Draft, came: Came) {
        match came {
            Came::Created => count(&self.tally.created),
            Came::There => count(&self.tally.there),
            Came::Refused(why) => self.refuse(line, &Value::Object(draft.body.clone()), &why),
        }
        let (created, there) = (self.tally.created.get(), self.tally.there.get());
        if (created + there).is_multiple_of(100) {
            let rate = (created + there) as f64 / self.began.elapsed().as_secs_f64().max(0.001);
            let message = format!("{created} created, {there} there, {rate:.0}/s");
            self.bar.set_message(message);
        }
    }

    fn refuse(&self, line: u64, body: &Value, why: &str) {
        count(&self.tally.refused);
        if self.tally.refused.get() <= TOLD {
            let code = body["code"].as_str().unwrap_or_default();
            self.bar
                .suspend(|| tell(&printable(&format!("{line}: {code} {why}"))));
        }
        if let Some(report) = &mut *self.report.borrow_mut() {
            let entry = json!({ "line": line, "code": body["code"], "url": body["url"], "reason": why });
            // The end says whether all could be written.
            _ = writeln!(report, "{entry}");
        }
    }

    fn finish(self, output: &mut Output) -> Result<(), Failure> {
        if let Some(mut report) = self.report.into_inner() {
            let written = report.flush();
            written.map_err(|error| Failure::failed(format!("the report could not be written: {error}")))?;
        }
        let Tally {
            created,
            there,
            refused,
        } = self.tally;
        let (created, there, refused) = (created.get(), there.get(), refused.get());
        let seconds = self.began.elapsed().as_secs_f64();
        match output.is_json() {
            true => output.value(
                &json!({"created": created, "there": there, "refused": refused, "seconds": seconds}),
            )?,
            false => output.line(&format!(
                "{created} created, {there} were there, {refused} refused, in {seconds:.1} s"
            ))?,
        }
        match refused {
            0 => Ok(()),
            _ => Err(Failure::failed(format!("{refused} lines made no link"))),
        }
    }
}

/// The gateway's address of a link with this code, on the host that it has in the file.
fn path(code: &str, body: &Record) -> String {
    let host = body.get(DOMAIN).and_then(Value::as_str);
    let on = host.map(|host| format!("?{DOMAIN}={}", segment(host)));
    format!("/api/links/{}{}", segment(code), on.unwrap_or_default())
}

/// Whether the gateway refused a link for its domain.
fn is_elsewhere(answer: &Answer) -> bool {
    let problem = answer.json();
    let errors = problem["errors"].as_array();
    answer.status == 400 && errors.is_some_and(|errors| errors.iter().any(|one| one["pointer"] == "#/domain"))
}

fn reason(answer: &Answer) -> String {
    match answer.refusal(&Method::POST, "") {
        Failure::Refused(refusal) => refusal.reason(),
        other => other.message(),
    }
}

fn slowed(answer: &Answer) -> String {
    let problem = answer.json();
    let policies = problem["violated-policies"].as_array().into_iter().flatten();
    let policies: Vec<&str> = policies.filter_map(Value::as_str).collect();
    printable(&format!(
        "the limit {} slows this key down: going on as fast as it allows (docs/command-line.md says how to raise it)",
        policies.join(", ")
    ))
}
