//! A running gateway, on either host.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::process::Program;
use super::{Answer, Call, Host, Serve, eventually, native, raw, spin};

/// The admin key of every gateway that is given one.
pub const ADMIN_KEY: &str = "an-admin-key-for-the-tests";
/// Gateways that run at once, besides the shared ones.
const GATEWAYS: usize = 3;
/// How long a start may take; a directory of components is compiled first.
const START: Duration = Duration::from_secs(120);
/// How long an orderly end may take.
const STOP: Duration = Duration::from_secs(40);
/// Idle connections are closed before the gateway closes them, so that no request is sent into a closing one.
const IDLE: Duration = Duration::from_secs(5);
/// The longest that an answer may take; a long poll waits 30 s.
const ANSWER: Duration = Duration::from_secs(60);

/// Ours, so that links to it are refused.
const PUBLIC_URL: &str = "public_url = \"http://short.test\"\n";
/// What every gateway is started with: nobody is limited but on addresses made for it, and sign-ups are forwarded.
const SETTINGS: &str = r#"
[[limits]]
name = "everything"
capacity = 1000000
refill = 1000000

[[limits]]
name = "burst"
path = "/api/bounded/burst/..."
capacity = 5
refill = 1
interval = "1m"

[[limits]]
name = "steady"
path = "/api/bounded/steady/..."
capacity = 20
refill = 10
interval = "100ms"

[[limits]]
name = "wide"
path = "/api/bounded/both/..."
capacity = 5
refill = 1
interval = "1h"

[[limits]]
name = "narrow"
path = "/api/bounded/both/narrow/..."
capacity = 2
refill = 1
interval = "1h"

[[limits]]
name = "get-only"
path = "/api/bounded/get/..."
methods = ["GET"]
capacity = 3
refill = 1
interval = "1h"

[[limits]]
name = "observed"
path = "/api/bounded/shadow/..."
capacity = 1
refill = 1
interval = "1h"
shadow = true

[[limits]]
name = "by-address"
path = "/api/bounded/address/:case"
per = ["ip", "path"]
capacity = 3
refill = 1
interval = "1h"

[[forward]]
path = "/signup"
topic = "signup"
"#;

/// The Postgres that a fleet shares.
const STORE_URL: &str = "TOLLGATE_STORE_URL";
/// What the paths of [`Host::Components`] begin with.
const BELOW: &str = "/edge";

/// Spin's components as an operator's own, on the same store and with the same settings.
fn own_components(settings: &str) -> String {
    let of = |(name, path): (&str, &str)| {
        let source = native::built_components().join(format!("{name}.wasm"));
        format!(
            "[[components]]\nname = \"{name}\"\npath = \"{BELOW}{path}\"\nstrip_prefix = \"{BELOW}\"\nstore_prefix = \"\"\n\
             source = \"{}\"\nconcurrency = 64\nenvironment = {{ TOLLGATE_CONFIG = '''{settings}''' }}\n",
            source.display()
        )
    };
    let all = [
        ("shortener", "/..."),
        ("coupon", "/api/campaigns/..."),
        ("forward", "/api/topics/..."),
        ("admin", "/api/keys/..."),
    ];
    all.map(of).concat()
}

/// Kinds of hosts.
const HOSTS: usize = Host::Components as usize + 1;
static ROOM: Semaphore = Semaphore::const_new(GATEWAYS);
/// One per host, or why there is none; they end with the tests.
static SHARED: [OnceCell<Result<Gateway, String>>; HOSTS] = [const { OnceCell::const_new() }; HOSTS];

/// A gateway with a store of its own.
pub struct Gateway {
    pub host: Host,
    serve: Serve,
    program: Mutex<Option<Program>>,
    base: Mutex<String>,
    client: reqwest::Client,
    /// Whether all that answers here are Tollgate's own rules.
    by_contract: bool,
    _room: Option<SemaphorePermit<'static>>,
    // After the program: it is removed when nobody uses it any more.
    directory: TempDir,
}

/// The gateway of all cases that need nothing special: they keep apart by keys, ids and names of their own.
pub struct Shared(&'static Gateway);

impl Gateway {
    /// The shared gateway of this host.
    pub async fn shared(host: Host) -> Shared {
        let cell = &SHARED[host as usize];
        let started = cell.get_or_init(|| Self::begin(host, Serve::with_key(ADMIN_KEY), "", None));
        match started.await {
            Ok(gateway) => Shared(gateway),
            Err(why) => panic!("the shared gateway did not start: {why}"),
        }
    }

    /// A gateway of this case's own. `settings` is TOML that is added to what all gateways have.
    pub async fn start(host: Host, settings: &str) -> Self {
        Self::start_as(host, Serve::with_key(ADMIN_KEY), settings).await
    }

    /// The same, with a command line of the case's own.
    pub async fn start_as(host: Host, serve: Serve, settings: &str) -> Self {
        let room = ROOM.acquire().await.expect("it is never closed");
        let started = Self::begin(host, serve, settings, Some(room)).await;
        started.unwrap_or_else(|why| panic!("the gateway did not start: {why}"))
    }

    /// One of several gateways over the database at `url`, which a case starts together.
    pub async fn start_on(url: &str, settings: &str) -> Self {
        Self::start_at(Host::Native, url, settings).await
    }

    /// The same, on either host.
    pub async fn start_at(host: Host, url: &str, settings: &str) -> Self {
        let mut serve = Serve::with_key(ADMIN_KEY);
        serve.environment.push((STORE_URL, url.into()));
        let started = Self::begin(host, serve, settings, None).await;
        started.unwrap_or_else(|why| panic!("the gateway did not start: {why}"))
    }

    /// A gateway of this case's own, behind a proxy with this network.
    pub async fn start_trusting(host: Host, network: &str, settings: &str) -> Self {
        let settings = format!("{settings}\n[server]\n{PUBLIC_URL}trusted_proxies = [\"{network}\"]");
        Self::start(host, &settings).await
    }

    async fn begin(
        host: Host,
        serve: Serve,
        settings: &str,
        room: Option<SemaphorePermit<'static>>,
    ) -> Result<Self, String> {
        let server = if settings.contains("[server]") {
            String::new()
        } else {
            format!("[server]\n{PUBLIC_URL}")
        };
        let store = match host {
            Host::Memory if !settings.contains("[store]") => "[store]\nengine = \"memory\"\n",
            _ => "",
        };
        let by_contract = serve.components.is_none() && !settings.contains("[[components]]");
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
        let mut settings = format!("{server}{store}{SETTINGS}\n{settings}\n");
        if host == Host::Components {
            settings += &own_components(&settings);
        }
        fs::write(directory.path().join("tollgate.toml"), settings).expect("it is ours");
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .timeout(ANSWER)
            .build()
            .expect("nothing in it can fail");
        let gateway = Self {
            host,
            serve,
            program: Mutex::new(None),
            base: Mutex::default(),
            client,
            by_contract,
            _room: room,
            directory,
        };
        gateway.launch().await.map(|()| gateway)
    }

    /// Starts the program (again) on the same store. It may listen elsewhere than before.
    pub async fn restart(&self) {
        let started = self.launch().await;
        started.unwrap_or_else(|why| panic!("the gateway did not start again: {why}"));
    }

    /// Brings a manifest of Spin up to date with one more `[[forward]]`, as a build would have done; our own host needs none.
    pub async fn build_route(&self, path: &str) {
        if self.host.is_spin() {
            self.kill();
            spin::add_route(self.directory(), path);
            self.restart().await;
        }
    }

    async fn launch(&self) -> Result<(), String> {
        let directory = self.directory.path();
        let (program, base) = match self.host {
            Host::Native | Host::Memory | Host::Components => {
                let mut program = self.serve.start(directory);
                let base = program.line(native::address, START).await;
                self.serve.keep_compiled_code(directory);
                let below = if self.host == Host::Components { BELOW } else { "" };
                (program, base.map(|base| base + below))
            }
            Host::Spin | Host::SpinPostgres | Host::SpinRedis => {
                let (mut program, base) = self.spin(directory);
                let ready = program.line(spin::is_ready, START).await;
                (program, ready.map(|()| base))
            }
        };
        *self.base.lock().unwrap() = base?;
        *self.program.lock().unwrap() = Some(program);
        Ok(())
    }

    fn spin(&self, directory: &Path) -> (Program, String) {
        let key = self.serve.admin_key.as_deref();
        let given = self.serve.environment.iter().find(|(name, _)| *name == STORE_URL);
        let database = match (self.host, given) {
            (Host::Spin, _) => None,
            (_, Some((_, url))) => Some(url.display().to_string()),
            (host, None) => Some(spin::database(host, directory)),
        };
        spin::start(directory, key, database.as_deref())
    }

    /// Another `spin up` on the same directory; gives it and where it listens.
    pub async fn twin(&self) -> (Program, String) {
        let (mut program, base) = self.spin(self.directory.path());
        let ready = program.line(spin::is_ready, START).await;
        ready.unwrap_or_else(|why| panic!("the second gateway did not start: {why}"));
        (program, base)
    }

    /// Ends it as a power cut would.
    pub fn kill(&self) {
        if let Some(mut program) = self.program.lock().unwrap().take() {
            program.kill();
        }
    }

    /// A signal to the program.
    pub fn signal(&self, signal: Signal) {
        if let Some(program) = &*self.program.lock().unwrap() {
            program.signal(signal);
        }
    }

    /// Starts it (on the native host) and ends it as a power cut would, ready or not.
    pub async fn start_and_kill(&self, after: Duration) {
        let mut program = self.serve.start(self.directory.path());
        tokio::time::sleep(after).await;
        program.kill();
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(&self) -> ExitStatus {
        let program = self.program.lock().unwrap().take();
        let mut program = program.expect("it runs");
        program.signal(Signal::TERM);
        let status = program.exit(STOP).await;
        status.unwrap_or_else(|| panic!("it still runs {STOP:?} after SIGTERM:\n{}", program.tail()))
    }

    /// What it has written to stderr.
    pub fn stderr(&self) -> String {
        self.program
            .lock()
            .unwrap()
            .as_ref()
            .map(Program::stderr)
            .unwrap_or_default()
    }

    /// Waits until the log has these words: lines are written by a thread of their own, and read by one of ours.
    pub async fn says(&self, words: &str) {
        eventually(&format!("the log says {words:?}"), async || {
            self.stderr().contains(words).then_some(())
        })
        .await;
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.program.lock().unwrap().as_ref().expect("it runs").id()
    }

    /// The memory that the native host holds (resident), in bytes.
    pub fn memory(&self) -> u64 {
        let program = self.program.lock().unwrap();
        program.as_ref().map(Program::memory).expect("it runs")
    }

    /// Where its settings and its store are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `127.0.0.1:…`
    pub fn address(&self) -> String {
        let base = self.base.lock().unwrap();
        base.split_once("://")
            .map_or(base.as_str(), |(_, address)| address)
            .to_owned()
    }

    pub fn call(&self, method: Method, path: &str) -> Call {
        self.call_through(&self.client, method, path)
    }

    /// With a client of the case's own.
    pub fn call_through(&self, client: &reqwest::Client, method: Method, path: &str) -> Call {
        let url = format!("{}{path}", self.base.lock().unwrap());
        let call = Call::new(client.request(method.clone(), url), format!("{method} {path}"));
        match self.by_contract {
            true => call,
            false => call.outside_contract(),
        }
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn head(&self, path: &str) -> Call {
        self.call(Method::HEAD, path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    pub fn patch(&self, path: &str) -> Call {
        self.call(Method::PATCH, path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// Sends bytes as they are.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let answer = raw::exchange(&self.address(), request.as_ref()).await;
        if self.by_contract {
            answer.check();
        }
        answer
    }

    /// A new API key with these scopes.
    pub async fn key(&self, scopes: &[&str]) -> String {
        let made = self.made_key(scopes).await;
        made["key"].as_str().expect("a new key is shown").to_owned()
    }

    /// The same, with all that is told of it.
    pub async fn made_key(&self, scopes: &[&str]) -> Value {
        let body = json!({"name": "of a case", "scopes": scopes});
        let call = self.post("/api/keys").key(ADMIN_KEY).json(&body);
        call.send().await.expect(201).json()
    }

    /// The metrics, as Prometheus reads them.
    pub async fn scrape(&self) -> String {
        let call = self.get("/metrics").key(ADMIN_KEY);
        call.send().await.expect(200).text()
    }

    /// A new link with this code.
    pub async fn link(&self, code: &str) {
        let body = json!({ "url": format!("https://example.com/{code}"), "code": code });
        let call = self.post("/api/links").key(ADMIN_KEY).json(&body);
        call.send().await.expect(201);
    }

    /// A new campaign of so many units; `fields` say what else is special about it. Its id.
    pub async fn campaign(&self, quantity: u64, fields: Value) -> String {
        let mut body = json!({ "id": super::unique("campaign"), "quantity": quantity });
        let fields = fields.as_object().expect("fields are an object").clone();
        body.as_object_mut().expect("so is this").extend(fields);
        let call = self.post("/api/campaigns").key(ADMIN_KEY).json(&body);
        let made = call.send().await.expect(201);
        made.json()["id"]
            .as_str()
            .expect("a campaign has an id")
            .to_owned()
    }

    /// Every message of a topic, from the first.
    pub async fn messages(&self, topic: &str) -> Vec<Value> {
        self.messages_after(topic, 0).await
    }

    /// Every message of a topic after a sequence.
    pub async fn messages_after(&self, topic: &str, mut after: u64) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let path = format!("/api/topics/{topic}/messages?limit=1000&after={after}");
            let page = self.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
            let messages = page["messages"].as_array().expect("a page has messages");
            if messages.is_empty() {
                return all;
            }
            all.extend(messages.iter().cloned());
            after = page["nextAfter"].as_u64().expect("a page says how to go on");
        }
    }
}

impl Deref for Shared {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(program) = &*self.0.program.lock().unwrap()
        {
            eprintln!(
                "--- the end of the shared gateway's stderr ---\n{}",
                program.tail()
            );
        }
    }
}
