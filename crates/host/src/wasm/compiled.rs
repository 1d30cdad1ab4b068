//! Components, compiled ahead of time: carried by the program, or cached on disk.

use super::cache::Place;
use super::carried::{self, Carried};
use anyhow::{Context as _, Result, bail};
use memmap2::{Mmap, MmapOptions};
use rustix::mm::{MprotectFlags, mprotect};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::Component;
use wasmtime::{Config, CustomCodeMemory, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The most linear memory of one instance.
pub const MAX_INSTANCE_MEMORY: usize = 64 << 20;
/// How often a running guest is asked to let others run.
pub const EPOCH: Duration = Duration::from_millis(10);

/// An engine with room for so many instances of components whose calls never wait: a store without the machinery for
/// concurrent tasks costs a call far less. A background thread advances its epoch for as long as it lives.
pub fn engine(instances: u32) -> Result<Engine> {
    with_epochs(without_epochs(instances)?)
}

/// An engine for components that wait: those of the operator's own.
pub fn concurrent_engine() -> Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model_async(true)
        .concurrency_support(true)
        .epoch_interruption(true);
    with_epochs(Engine::new(&config)?)
}

fn with_epochs(engine: Engine) -> Result<Engine> {
    let weak = engine.weak();
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(live) = weak.upgrade() {
            live.increment_epoch();
            drop(live);
            std::thread::sleep(EPOCH);
        }
    })?;
    Ok(engine)
}

fn without_epochs(instances: u32) -> Result<Engine> {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances * 4)
        .total_memories(instances * 2)
        .total_tables(instances * 4)
        .total_stacks(instances * 4)
        .max_memory_size(MAX_INSTANCE_MEMORY);
    let mut config = Config::new();
    config
        .wasm_component_model_async(false)
        .concurrency_support(false)
        .epoch_interruption(true)
        .with_custom_code_memory(Some(Arc::new(Executable)))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(Engine::new(&config)?)
}

/// Where components come from and where their compiled form is kept.
pub struct Library {
    /// A directory of `<name>.wasm`; the embedded ones if `None`.
    pub components: Option<PathBuf>,
    /// A directory for compiled code, for what the program does not carry for this machine.
    pub cache: PathBuf,
}

/// Writes this program to `output`, with the native code of its components for this machine. `cache`: where code is kept for
/// the next time.
///
/// # Errors
/// A component cannot be compiled, or a file not be written.
pub fn precompile(cache: &Path, output: &Path) -> Result<()> {
    let library = Library {
        components: None,
        cache: cache.to_owned(),
    };
    let engine = engine(1)?;
    let code = EMBEDDED
        .iter()
        .map(|(name, bytes)| Ok((*name, library.code(&engine, name, bytes)?)));
    let code: Vec<_> = code.collect::<Result<_>>()?;
    carried::write(&std::env::current_exe()?, &code, output)
}

impl Library {
    /// The component called `name`: from the program, else from the cache if it was compiled before by this very engine, else
    /// compiled now. A cache that cannot be used costs time, and nothing else.
    pub fn load(&self, engine: &Engine, name: &str) -> Result<Component> {
        if self.components.is_none() {
            match carried_code(engine, name) {
                Ok(Some(component)) => return Ok(component),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(
                        component = name,
                        error = format!("{error:#}"),
                        "the native code in this program is not for this machine"
                    );
                }
            }
        }
        self.compiled(engine, name, &self.bytes(name)?)
    }

    /// A component of the operator's own, from its file: from the cache, else compiled now.
    ///
    /// # Errors
    /// The file cannot be read, or holds no component.
    pub fn load_file(&self, engine: &Engine, name: &str, file: &Path) -> Result<Component> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        // No name of ours has a dot.
        self.compiled(engine, &format!("own.{name}"), &bytes)
    }

    fn compiled(&self, engine: &Engine, name: &str, bytes: &[u8]) -> Result<Component> {
        let place = Place::new(&self.cache, name, fingerprint(engine, bytes));
        let found = cached(&place).map(|code| deserialize(engine, &code));
        match found {
            Some(Ok(component)) => return Ok(component),
            Some(Err(error)) => not_usable(&place, &error),
            None => {}
        }
        deserialize(engine, &compile(engine, name, bytes, &place)?)
    }

    /// The native code of a component: from the cache, else compiled now.
    fn code(&self, engine: &Engine, name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let place = Place::new(&self.cache, name, fingerprint(engine, bytes));
        match cached(&place) {
            Some(code) => Ok(code),
            None => compile(engine, name, bytes, &place),
        }
    }

    fn bytes(&self, name: &str) -> Result<Cow<'static, [u8]>> {
        if let Some(dir) = &self.components {
            let path = dir.join(format!("{name}.wasm"));
            return Ok(Cow::Owned(
                fs::read(&path).with_context(|| format!("reading the component {}", path.display()))?,
            ));
        }
        match EMBEDDED.iter().find(|(embedded, _)| *embedded == name) {
            Some((_, bytes)) => Ok(Cow::Borrowed(bytes)),
            None => bail!(
                "this binary was built without its components: run `cargo xtask build`, or point --components at a directory that has {name}.wasm"
            ),
        }
    }
}

fn carried_code(engine: &Engine, name: &str) -> Result<Option<Component>> {
    let Some(carried) = Carried::by_this_program() else {
        return Ok(None);
    };
    let place = carried.code(name)?;
    place
        .map(|(file, offset, length)| in_place(engine, file, offset, length))
        .transpose()
}

/// Loads code where it lies in the program's own file: only what is used is read, and none of it is copied.
#[allow(
    unsafe_code,
    reason = "the system lets nobody write into the file of a running program, and it was compiled with this program"
)]
fn in_place(engine: &Engine, file: &File, offset: u64, length: usize) -> Result<Component> {
    // SAFETY: see the reason above.
    let code = unsafe {
        MmapOptions::new()
            .offset(offset)
            .len(length)
            .map_copy_read_only(file)?
    };
    // Components live as long as the program, like its own code.
    let code: &'static Mmap = Box::leak(Box::new(code));
    // SAFETY: it is never unmapped nor written; wasmtime checks version and settings itself.
    Ok(unsafe { Component::deserialize_raw(engine, NonNull::from(&**code))? })
}

/// Makes code executable, also what wasmtime did not map itself.
struct Executable;

#[allow(
    unsafe_code,
    reason = "wasmtime asks for it, for code that it is about to run or has ended with"
)]
impl CustomCodeMemory for Executable {
    fn required_alignment(&self) -> usize {
        rustix::param::page_size()
    }

    fn publish_executable(&self, at: *const u8, length: usize) -> wasmtime::Result<()> {
        // SAFETY: whole pages that hold nothing but code.
        unsafe {
            mprotect(
                at.cast_mut().cast(),
                length,
                MprotectFlags::READ | MprotectFlags::EXEC,
            )?
        };
        Ok(())
    }

    fn unpublish_executable(&self, at: *const u8, length: usize) -> wasmtime::Result<()> {
        // SAFETY: as above, and nothing runs in them any more.
        unsafe { mprotect(at.cast_mut().cast(), length, MprotectFlags::READ)? };
        Ok(())
    }
}

fn cached(place: &Place) -> Option<Vec<u8>> {
    place.read().unwrap_or_else(|error| {
        not_usable(place, &error);
        None
    })
}

fn not_usable(place: &Place, error: &anyhow::Error) {
    tracing::warn!(error = format!("{error:#}"), path = %place.path().display(), "compiling anew: the cached code is not usable");
}

/// Compiles a component, and keeps the code.
fn compile(engine: &Engine, name: &str, bytes: &[u8], place: &Place) -> Result<Vec<u8>> {
    tracing::info!(component = name, "compiling (once; kept for the next start)");
    let compiled = engine.precompile_component(bytes);
    let compiled = compiled.map_err(|error| anyhow::anyhow!("compiling the component {name}: {error:#}"))?;
    if let Err(error) = place.write(&compiled) {
        tracing::warn!(error = format!("{error:#}"), path = %place.path().display(), "the next start compiles again: the code cannot be kept");
    }
    Ok(compiled)
}

/// A hash of everything that compiled code depends on: the component, and wasmtime's version, settings and
/// CPU.
fn fingerprint(engine: &Engine, bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = Sha256::new()
        .chain_update(hasher.finish().to_le_bytes())
        .chain_update(bytes)
        .finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Loads code that this program compiled.
#[allow(
    unsafe_code,
    reason = "it was compiled just now, or by this program before: the cache vouches for each byte"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component> {
    // SAFETY: see the reason above; wasmtime checks version and settings itself.
    Ok(unsafe { Component::deserialize(engine, code)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest component there is: nothing but its header.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn damaged_code_is_compiled_anew_and_a_cache_is_not_needed() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("limiter.wasm"), EMPTY).expect("it is ours");
        let engine = Engine::default();
        let library = |cache: &str| Library {
            components: Some(directory.path().to_owned()),
            cache: directory.path().join(cache),
        };
        let library_here = library("cache");
        library_here.load(&engine, "limiter").expect("it is compiled");
        let files = || fs::read_dir(directory.path().join("cache")).expect("it is there");
        let file = files()
            .next()
            .expect("the code is kept")
            .expect("it is there")
            .path();
        let whole = fs::read(&file).expect("it is there");
        // As a disk leaves it that lost some blocks: machine code, and the tables that lead into it.
        for start in (0..whole.len()).step_by(1 << 10) {
            let mut damaged = whole.clone();
            damaged
                .iter_mut()
                .skip(start)
                .take(1 << 10)
                .for_each(|byte| *byte = !*byte);
            fs::write(&file, &damaged).expect("it is ours");
            library_here
                .load(&engine, "limiter")
                .expect("it is compiled anew");
            assert_eq!(fs::read(&file).expect("it is there"), whole, "and kept");
        }
        fs::write(directory.path().join("no-directory"), "").expect("it is ours");
        library("no-directory")
            .load(&engine, "limiter")
            .expect("it is compiled");
    }
}
