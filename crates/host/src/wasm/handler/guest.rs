//! The world of an instance of an operator's component: its bounds, its environment, our log, and HTTP to the
//! hosts that it may call. No files, no sockets.

use super::ports::{self, Ports};
use crate::wasm::guest_log::GuestLog;
use crate::wasm::ports::Engines;
use anyhow::{Context as _, Result, anyhow};
use http::HeaderValue;
use http_body_util::BodyExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use tollgate_rules::config::ComponentSettings;
use tollgate_rules::settings::{ComponentRoute, OutboundHost};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// The most resources (streams, fields, requests, …) that one instance may hold.
const MAX_RESOURCES: usize = 1_024;
/// Bytes of the header fields that one of them may hold.
const MAX_FIELDS: usize = 64 << 10;
/// The most entries of one table: a language's runtime has some ten thousand functions.
const MAX_TABLE: usize = 1 << 17;
/// The most core instances, tables and memories that one instance may have.
const MAX_PARTS: usize = 64;
/// Bytes that leave an instance in one piece of a body.
const CHUNK: usize = 64 << 10;

/// A component whose imports are there.
pub type Linked = ProxyPre<Guest>;

/// Links a component.
///
/// # Errors It imports something that the host does not offer, or exports no handler.
pub fn linked(engine: &Engine, component: &Component) -> Result<Linked> {
    let mut linker = Linker::<Guest>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    ports::add_to_linker(&mut linker, |guest| &mut guest.ports)?;
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| anyhow!("{error:#}"))?;
    if let Ok(service) = wasmtime_wasi_http::p3::bindings::ServicePre::new(pre.clone()) {
        return Ok(ProxyPre::P3(service));
    }
    let proxy = wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre);
    let proxy = proxy.map_err(|error| anyhow!("{error:#}"));
    Ok(ProxyPre::P2(
        proxy.context("it exports no handler of HTTP requests")?,
    ))
}

/// The settings that all instances of one component are given.
pub struct Blueprint {
    ports: Ports,
    log: GuestLog,
    outbound: Outbound,
    memory: usize,
}

impl Blueprint {
    /// As the configuration says.
    pub fn new(
        engines: Engines,
        log: GuestLog,
        route: &ComponentRoute,
        settings: &ComponentSettings,
    ) -> Self {
        let variables = settings.environment.iter();
        let variables: BTreeMap<_, _> = variables
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect();
        Self {
            ports: Ports::new(engines, &settings.store_prefix(), variables),
            log,
            outbound: Outbound {
                component: settings.name.as_str().into(),
                hosts: route.outbound.clone().into(),
            },
            memory: usize::try_from(settings.memory.0).unwrap_or(usize::MAX),
        }
    }

    /// For a new instance.
    pub fn guest(&self) -> Guest {
        let mut wasi = WasiCtxBuilder::new();
        for (name, value) in self.ports.variables() {
            wasi.env(name, value);
        }
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELDS);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Guest {
            ports: self.ports.clone(),
            wasi: wasi.stdout(self.log.clone()).stderr(self.log.clone()).build(),
            http,
            table,
            outbound: self.outbound.clone(),
            limits: Limits { memory: self.memory },
        }
    }
}

/// The state of one instance.
pub struct Guest {
    ports: Ports,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outbound: Outbound,
    /// Memory and table bounds.
    pub limits: Limits,
}

/// Bounds of one instance: all of its memories share one, its tables have one each.
pub struct Limits {
    /// Bytes that are left.
    memory: usize,
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let left = self.memory.checked_sub(desired.saturating_sub(current));
        self.memory = left.unwrap_or(self.memory);
        Ok(left.is_some())
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }

    fn instances(&self) -> usize {
        MAX_PARTS
    }

    fn tables(&self) -> usize {
        MAX_PARTS
    }

    fn memories(&self) -> usize {
        MAX_PARTS
    }
}

impl Guest {
    /// The state that `wasi:http` works on.
    pub fn http_view(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outbound,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
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
        self.http_view()
    }
}

/// The hosts that a component may call.
#[derive(Clone)]
struct Outbound {
    component: Arc<str>,
    hosts: Arc<[OutboundHost]>,
}

impl Outbound {
    fn allows(&self, target: &http::Uri) -> bool {
        let (Some(scheme), Some(host)) = (target.scheme_str(), target.host()) else {
            return false;
        };
        let port = target.port_u16();
        self.hosts.iter().any(|entry| entry.allows(scheme, host, port))
    }
}

/// The transmission of the request's own body: how it ends.
type Sent = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Sent,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Sent), Error>> + Send> {
        if !self.allows(request.uri()) {
            let host = request.uri().host().unwrap_or_default();
            tracing::warn!(
                component = &*self.component,
                host,
                "a call to whom allowed_outbound_hosts does not name"
            );
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        let mut request = request;
        // What connects does not (bytecodealliance/wasmtime 48): HTTP/1.1 wants one.
        let authority = request.uri().authority().map(|authority| authority.as_str());
        if let Some(Ok(host)) = authority.map(HeaderValue::from_str) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        Box::new(async move {
            let (response, sent) = wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((response.map(|body| body.boxed_unsync()), Box::new(sent) as Sent))
        })
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}
