//! One instance of the component: a task that owns its store and lets calls overlap.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use std::{env, fs};

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use wasmtime::component::{Accessor, Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::bindings::edge::{HostStore, HostStorePre};
use crate::bindings::sqlite;
use crate::sqlite::Spin;

/// Where the components are, as for the gateway's build; what `cargo xtask build` makes otherwise.
const DIRECTORY: &str = "TOLLGATE_COMPONENTS";

/// The state of one instance.
pub struct Guest {
    wasi: WasiCtx,
    pub table: ResourceTable,
    pub database: PathBuf,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// A wall clock that is set by hand, nanoseconds since 1970.
struct ByHand(Arc<AtomicU64>);

impl HostWallClock for ByHand {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Compiled once for all tests of the process; or why not.
static COMPONENT: LazyLock<Result<HostStorePre<Guest>, String>> =
    LazyLock::new(|| compile().map_err(|error| format!("{error:#}")));

fn compile() -> wasmtime::Result<HostStorePre<Guest>> {
    let directory = match env::var_os(DIRECTORY) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../build/components")),
    };
    let path = directory.join("store-sqlite.wasm");
    let bytes = fs::read(&path).map_err(|error| {
        wasmtime::format_err!(
            "cannot read the component {}: {error}\nrun `cargo xtask build`, or set {DIRECTORY} to a directory that has it",
            path.display()
        )
    })?;
    let engine = Engine::new(Config::new().wasm_component_model_async(true))?;
    let component = Component::new(&engine, bytes)?;
    let mut linker = Linker::<Guest>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    sqlite::add_to_linker::<_, Spin>(&mut linker, |guest: &mut Guest| guest)?;
    HostStorePre::new(linker.instantiate_pre(&component)?)
}

/// The future of a call, while it runs.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;
type Job = Box<dyn for<'a> FnOnce(&'a Accessor<Guest>, &'a HostStore) -> Running<'a, ()> + Send>;

/// A handle to a running instance. It ends with its last handle.
pub struct Instance(mpsc::UnboundedSender<Job>);

impl Instance {
    /// Starts one on a database, with its wall clock. Inside a `LocalSet`.
    pub fn start(database: PathBuf, clock: Arc<AtomicU64>) -> Self {
        let guest = Guest {
            wasi: WasiCtxBuilder::new()
                .inherit_stderr()
                .wall_clock(ByHand(clock))
                .build(),
            table: ResourceTable::new(),
            database,
        };
        let component = COMPONENT.as_ref().unwrap_or_else(|why| panic!("{why}"));
        let (sender, jobs) = mpsc::unbounded_channel();
        spawn_local(async move {
            if let Err(error) = serve(component, guest, jobs).await {
                eprintln!("the instance ended: {error:?}");
            }
        });
        Self(sender)
    }

    /// Begins a call; the answer comes over the channel.
    pub fn begin<T: Send + 'static>(
        &self,
        call: impl for<'a> FnOnce(&'a Accessor<Guest>, &'a HostStore) -> Running<'a, T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |accessor, instance| {
            let running = call(accessor, instance);
            Box::pin(async move {
                // The caller may have given up.
                let _ = reply.send(running.await?);
                Ok(())
            })
        });
        assert!(self.0.send(job).is_ok(), "the instance has ended");
        answer
    }

    /// A call, to its end.
    pub async fn call<T: Send + 'static>(
        &self,
        call: impl for<'a> FnOnce(&'a Accessor<Guest>, &'a HostStore) -> Running<'a, T> + Send + 'static,
    ) -> T {
        let answer = self.begin(call).await;
        answer.expect("the instance ended during the call; stderr says why")
    }
}

async fn serve(
    component: &HostStorePre<Guest>,
    guest: Guest,
    mut jobs: mpsc::UnboundedReceiver<Job>,
) -> wasmtime::Result<()> {
    let mut store = Store::new(component.engine(), guest);
    let instance = component.instantiate_async(&mut store).await?;
    store
        .run_concurrent(async |accessor| {
            let mut under_way = futures::stream::FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some(ended) = futures::StreamExt::next(&mut under_way) => ended?,
                    job = jobs.recv() => match job {
                        Some(job) => under_way.push(job(accessor, &instance)),
                        None => return wasmtime::Result::Ok(()),
                    },
                }
            }
        })
        .await?
}
