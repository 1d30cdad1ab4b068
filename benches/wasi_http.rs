//! The door that Spin and other hosts use: `wasi:http/handler`, called by wasmtime's own implementation of it.

use bytes::Bytes;
use criterion::Criterion;
use http_body_util::{BodyExt as _, Empty};
use tollgate_host::wasm::bindings::{buckets, store};
use tollgate_host::wasm::compiled::{self, Library};
use tollgate_host::wasm::doors::{self, WASI_HTTP};
use tollgate_host::wasm::ports::{Engines, Ports};
use wasmtime::Store;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::p3::{self, Request};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// The state of an instance that is called through `wasi:http`.
struct Guest {
    engines: Engines,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoRequests,
    table: ResourceTable,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// A gate asks nothing of the network.
struct NoRequests;

type Sent = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sent,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Sent), Error>> + Send> {
        Box::new(async { Err(Error::ConnectionRefused) })
    }
}

/// The redirect of `/hot`, by the shortener alone.
pub fn redirect(c: &mut Criterion, library: &Library, wasm: &compiled::Engines, engines: &Engines) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (mut store, service) = runtime
        .block_on(start(library, wasm, engines))
        .expect("the component starts");
    assert_eq!(
        runtime.block_on(get(&mut store, &service)).expect("it answers"),
        302
    );
    c.bench_function("wasi:http: redirect, by the shortener alone", |b| {
        b.iter(|| runtime.block_on(get(&mut store, &service)).is_ok())
    });
}

async fn start(
    library: &Library,
    wasm: &compiled::Engines,
    engines: &Engines,
) -> anyhow::Result<(Store<Guest>, Service)> {
    let component = library.load(&wasm.waiting, "shortener")?;
    let mut linker = Linker::<Guest>::new(&wasm.waiting);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    buckets::add_to_linker::<_, Ports>(&mut linker, |guest: &mut Guest| &mut guest.engines)?;
    store::add_to_linker::<_, Ports>(&mut linker, |guest: &mut Guest| &mut guest.engines)?;
    doors::shut_spin_door(&mut linker, &component, &[WASI_HTTP])?;
    let service = ServicePre::new(linker.instantiate_pre(&component)?)?;
    let wasi = WasiCtxBuilder::new()
        .env("TOLLGATE_CONFIG", &*engines.settings)
        .inherit_stderr()
        .build();
    let guest = Guest {
        engines: engines.clone(),
        wasi,
        http: WasiHttpCtx::new(),
        hooks: NoRequests,
        table: ResourceTable::new(),
    };
    let mut store = Store::new(&wasm.waiting, guest);
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    let service = service.instantiate_async(&mut store).await?;
    Ok((store, service))
}

async fn get(store: &mut Store<Guest>, service: &Service) -> anyhow::Result<u16> {
    let request = http::Request::get("http://127.0.0.1:3000/hot")
        .header("user-agent", "wrk/4.1.0")
        .body(Empty::<Bytes>::new())?;
    let (request, _sent) = Request::from_http(&mut NoRequests, request);
    let answered = store.run_concurrent(async |accessor| {
        let response = service.handle(accessor, request).await??;
        let response = accessor.with(|guest| response.into_http(guest, async { Ok(()) }))?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        wasmtime::Result::<u16>::Ok(status)
    });
    Ok(answered.await??)
}
