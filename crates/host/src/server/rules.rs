//! The rules as the threads run them: instances of the component or, for benchmarks, compiled in.

use super::generation::Generation;
use crate::wasm::compiled::Library;
use crate::wasm::ports::Engines;
use crate::wasm::rules::Group;
use anyhow::Result;

/// What one thread runs.
#[cfg(not(feature = "native-rules"))]
pub type Rules = crate::wasm::rules::Instance;
/// What one thread runs.
#[cfg(feature = "native-rules")]
pub type Rules = super::runner::native::Native;

/// The compiled component that [`Rules`] are made from.
#[derive(Clone)]
pub struct Program {
    #[cfg(not(feature = "native-rules"))]
    component: wasmtime::component::Component,
}

#[cfg(not(feature = "native-rules"))]
impl Program {
    /// Loads the component, for so many threads. May take seconds, where it was never compiled.
    ///
    /// # Errors
    /// It is not there, or cannot be compiled.
    pub fn load(library: &Library, threads: usize) -> Result<Self> {
        use crate::wasm::{compiled, rules};
        let engine = compiled::engine(u32::try_from(threads).unwrap_or(u32::MAX))?;
        let component = library.load(&engine, rules::NAME)?;
        Ok(Self { component })
    }

    /// The rules of one thread.
    ///
    /// # Errors
    /// The component is not one of rules.
    pub fn rules(&self, engines: Engines, group: Group, generation: &Generation) -> Result<Rules> {
        Rules::new(&self.component, engines, group, generation)
    }
}

#[cfg(feature = "native-rules")]
impl Program {
    /// Nothing is loaded.
    ///
    /// # Errors
    /// None.
    pub fn load(_: &Library, _: usize) -> Result<Self> {
        Ok(Self {})
    }

    /// The rules of one thread.
    ///
    /// # Errors
    /// None.
    pub fn rules(&self, engines: Engines, _: Group, generation: &Generation) -> Result<Rules> {
        Ok(Rules::new(generation.settings.clone(), engines))
    }
}
