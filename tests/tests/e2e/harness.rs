//! The tools that every case is written with: hosts, gateways, requests, an origin, and waiting.

mod call;
mod contract;
mod event_stream;
mod gateway;
mod native;
pub mod node;
mod origin;
mod poll;
mod process;
mod raw;
mod spin;
pub mod tls;
mod wire;

pub use call::{Answer, Call};
pub use event_stream::EventStream;
pub use gateway::{ADMIN_KEY, Gateway};
pub use native::{Serve, address, binary, built_components, root, xtask};
pub use origin::{Delivery, Origin, Reply, SECRET};
pub use poll::{crowd, eventually, in_seconds};
pub use process::Program;
pub use raw::{Connection, exchange};
pub use spin::{RUNTIME_CONFIG, TICK_SECRET, free_port, install, program as spin_program};
pub use wire::{Trouble, Wire};

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest a case may take, whatever it waits for.
const CASE_LIMIT: Duration = Duration::from_secs(240);
/// How much longer it may take for each cycle of a crash loop that was asked for.
const CYCLE_LIMIT: Duration = Duration::from_secs(10);

/// One runtime for all cases: connections of a shared client outlive the case that opened them.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().expect("the system gives threads")
});

/// A host that runs the components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The `tollgate` binary.
    Native,
    /// The same, with its store in memory.
    Memory,
    /// `spin up`.
    Spin,
    /// The same over a Postgres.
    SpinPostgres,
    /// The same over a Redis.
    SpinRedis,
    /// The `tollgate` binary, and behind it the components that Spin runs, as an operator's own.
    Components,
}

impl Host {
    /// Whether it is `spin up`.
    pub fn is_spin(self) -> bool {
        matches!(self, Host::Spin | Host::SpinPostgres | Host::SpinRedis)
    }

    /// Whether it is on this machine. The native one must be; a case without it fails and says what to do.
    fn is_present(self) -> bool {
        match self {
            Host::Spin => spin::is_present(),
            Host::SpinPostgres => spin::is_present() && spin::postgres().is_some(),
            Host::SpinRedis => spin::is_present() && spin::redis().is_some(),
            Host::Native | Host::Memory | Host::Components => true,
        }
    }
}

/// Runs a case over a host, if the host is there.
pub fn run<F: Future<Output = ()>>(host: Host, case: impl FnOnce(Host) -> F) {
    if host.is_present() {
        let cycles = u32::try_from(crash_cycles().unwrap_or(0)).unwrap_or(u32::MAX);
        let limit = CASE_LIMIT + CYCLE_LIMIT.saturating_mul(cycles);
        let limited = async { tokio::time::timeout(limit, Box::pin(case(host))).await };
        let ended = RUNTIME.block_on(limited);
        assert!(ended.is_ok(), "the case did not end within {limit:?}");
    }
}

/// How many cycles `cargo xtask crash` asks for.
pub fn crash_cycles() -> Option<u64> {
    std::env::var("TOLLGATE_CRASH_CYCLES").ok()?.parse().ok()
}

/// How many gateways `cargo xtask crash --store postgres` asks for.
pub fn crash_gateways() -> Option<usize> {
    std::env::var("TOLLGATE_CRASH_GATEWAYS").ok()?.parse().ok()
}

/// Makes a test of every case: `host::links::…` and `spin::links::…`.
///
/// - Cases under `native` run on the native host only, since they need its relay, its signals or its command
///   line.
/// - Cases under `spin` are about what Spin does its own way.
/// - Cases under `shared` run (again) on Spin over each store that several may share, as `spin_postgres::links::…` and
///   `spin_redis::links::…`; those under `postgres` and `redis` over one of them.
/// - Cases under `memory` run (again) on the native host with its store in memory, as `memory::links::…`.
/// - Cases under `components` run as `own::links::…`: the native host runs Spin's components, unchanged, as
///   an operator's own.
macro_rules! cases {
    ($($module:ident {
        both { $($case:ident),* $(,)? }
        native { $($native:ident),* $(,)? }
        $(spin { $($spin:ident),* $(,)? })?
        $(shared { $($shared:ident),* $(,)? })?
        $(postgres { $($postgres:ident),* $(,)? })?
        $(redis { $($redis:ident),* $(,)? })?
        $(memory { $($memory:ident),* $(,)? })?
        $(components { $($hosted:ident),* $(,)? })?
    })*) => {
        mod host {
            $(mod $module {
                $(#[test] fn $case() { crate::harness::run(crate::harness::Host::Native, crate::$module::$case); })*
                $(#[test] fn $native() { crate::harness::run(crate::harness::Host::Native, crate::$module::$native); })*
            })*
        }
        mod memory {
            $($(mod $module {
                $(#[test] fn $memory() { crate::harness::run(crate::harness::Host::Memory, crate::$module::$memory); })*
            })?)*
        }
        mod spin {
            $(mod $module {
                $(#[test] fn $case() { crate::harness::run(crate::harness::Host::Spin, crate::$module::$case); })*
                $($(#[test] fn $spin() { crate::harness::run(crate::harness::Host::Spin, crate::$module::$spin); })*)?
            })*
        }
        mod spin_postgres {
            $(mod $module {
                $($(#[test] fn $shared() { crate::harness::run(crate::harness::Host::SpinPostgres, crate::$module::$shared); })*)?
                $($(#[test] fn $postgres() { crate::harness::run(crate::harness::Host::SpinPostgres, crate::$module::$postgres); })*)?
            })*
        }
        mod spin_redis {
            $(mod $module {
                $($(#[test] fn $shared() { crate::harness::run(crate::harness::Host::SpinRedis, crate::$module::$shared); })*)?
                $($(#[test] fn $redis() { crate::harness::run(crate::harness::Host::SpinRedis, crate::$module::$redis); })*)?
            })*
        }
        mod own {
            $($(mod $module {
                $(#[test] fn $hosted() { crate::harness::run(crate::harness::Host::Components, crate::$module::$hosted); })*
            })?)*
        }
    };
}
pub(crate) use cases;

/// A word that no other case uses, and no other run on the same store.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!(
        "{stem}-{:x}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
