//! All rules as one component: `tollgate_rules::machine` on what the host has in memory. For our own host; Spin runs a
//! component for each route. It imports nothing async, so that a call is a plain function call.

use std::cell::RefCell;

use tollgate_rules::machine::{Machine, Memory, Taken};
use tollgate_rules::settings::Settings;
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::commit::{Commit, Entry};
use tollgate_store::packed;

#[allow(missing_docs, clippy::all, unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "rules-component" });
    use super::Component;
    export!(Component);
}

use bindings::exports::tollgate::edge::rules;
use bindings::tollgate::edge::memory;

tollgate_store::wit_buckets!(crate::bindings::tollgate::edge::buckets);
tollgate_store::wit_store!(crate::bindings::tollgate::edge::store);
tollgate_rules::wit_rules!(crate::bindings::exports::tollgate::edge::rules);

/// Rules allocate small things and free them soon; the allocator of the standard library is several times slower at that.
#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

struct Component;

/// The import `tollgate:edge/memory`.
#[derive(Clone, Copy)]
struct Imported;

impl Memory for Imported {
    fn take(&self, buckets: Vec<Bucket>) -> Taken<Vec<Bucket>, Vec<Level>> {
        let buckets: Vec<_> = buckets.into_iter().map(Into::into).collect();
        match memory::take(&buckets) {
            Some(Ok(levels)) => Taken::Decided(Ok(levels.into_iter().map(Into::into).collect())),
            Some(Err(error)) => Taken::Decided(Err(error.into())),
            None => Taken::Elsewhere(buckets.into_iter().map(Into::into).collect()),
        }
    }

    fn take_one(&self, bucket: Bucket) -> Taken<Bucket, Level> {
        let bucket = bucket.into();
        Taken::Decided(match memory::take_one(&bucket) {
            memory::Taken::Taken(level) => Ok(level.into()),
            memory::Taken::Refused(level) => Err(TakeError::Refused {
                index: 0,
                levels: vec![level.into()],
            }),
            memory::Taken::Failed(error) => Err(error.into()),
            memory::Taken::Elsewhere => return Taken::Elsewhere(bucket.into()),
        })
    }

    fn get(&self, key: &str) -> Option<Option<Entry>> {
        memory::get(key).map(|found| found.map(Into::into))
    }

    fn get_all(&self, keys: &[String]) -> Option<Vec<Option<Entry>>> {
        let found = memory::get_all(keys)?;
        Some(found.into_iter().map(|entry| entry.map(Into::into)).collect())
    }

    fn defer(&self, commits: Vec<Commit>) {
        memory::defer(&packed::pack(&commits, packed::COMMIT_BYTES));
    }
}

/// How many values of fresh randomness are asked for at a time: each time is a call of the host.
const DRAWN: usize = 64;

/// Sixteen unpredictable bytes that were never given before.
fn fresh() -> [u8; 16] {
    thread_local! {
        static FRESH: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    FRESH.with_borrow_mut(|drawn| {
        if drawn.is_empty() {
            drawn.resize(DRAWN, [0; 16]);
            if getrandom::fill(drawn.as_flattened_mut()).is_err() {
                std::process::exit(1); // No rule may run on predictable "random" bytes.
            }
        }
        drawn.pop().unwrap_or_else(|| std::process::exit(1))
    })
}

thread_local! {
    /// There is none until `configure` is called.
    static MACHINE: RefCell<Option<Machine<Imported>>> = const { RefCell::new(None) };
}

/// An instance that was never configured ends: it never runs on guessed settings.
fn with_machine<T>(run: impl FnOnce(&mut Machine<Imported>) -> T) -> T {
    MACHINE.with_borrow_mut(|machine| match machine {
        Some(machine) => run(machine),
        None => {
            eprintln!("tollgate: no settings were given");
            std::process::exit(1)
        }
    })
}

impl rules::Guest for Component {
    fn configure(text: String) -> Result<(), String> {
        let settings = Settings::parse(&text, "settings").map_err(|error| error.to_string())?;
        MACHINE.with_borrow_mut(|machine| match machine {
            Some(machine) => machine.configure(settings),
            None => *machine = Some(Machine::new(settings, Imported, fresh)),
        });
        Ok(())
    }

    fn set_run_time(document: Vec<u8>) -> Result<(), String> {
        with_machine(|machine| machine.set_run_time(&document))
    }

    fn start(head: Vec<u8>, now: u64, body_follows: bool, stage: rules::Stage) -> rules::Step {
        with_machine(|machine| machine.start(&head, now, body_follows, stage.into())).into()
    }

    fn resume(task: u32, reply: rules::Reply) -> rules::Step {
        with_machine(|machine| machine.resume(task, reply.into())).into()
    }

    fn cancel(task: u32) {
        with_machine(|machine| machine.cancel(task));
    }

    fn flush() -> Vec<u64> {
        let (decisions, report) = with_machine(|machine| {
            machine.flush();
            (machine.decisions(), machine.report())
        });
        if let Some(report) = report {
            eprintln!("{report}");
        }
        decisions
    }
}
