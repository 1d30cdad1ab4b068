//! `cargo xtask …`: builds, runs and tests Tollgate on a fresh machine with rustup and a C compiler.

mod bench;
mod build;
mod compose;
mod demo;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod documents;
mod fuzz;
mod openapi;
mod package;
mod pgo;
mod program;
mod simulate;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests Tollgate.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and run the gateway on its embedded store. Further arguments go to `tollgate serve`.
    Serve {
        /// For example `--listen 127.0.0.1:8080`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build everything and run a sale with a crowd and a slow origin, to be watched on the dashboard.
    Demo(demo::Options),
    /// Run a slow origin that tells what is delivered to it, until Ctrl-C.
    Origin(demo::origin::Options),
    /// Build everything and run all tests. Further arguments go to the end-to-end tests.
    Test {
        /// Only what needs neither WebAssembly nor an optimised build: unit and property tests, in the dev profile.
        #[arg(long)]
        quick: bool,
        /// A filter, for example `campaign`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Kill the real gateway under load, again and again, and compare what is left with what was acknowledged.
    Crash {
        /// How often.
        #[arg(long, default_value_t = 500)]
        cycles: u64,
        /// `postgres`: a fleet over one database, of which everything breaks: gateways, the database, what is between them.
        #[arg(long, value_parser = ["sqlite", "postgres"], default_value = "sqlite")]
        store: String,
        /// Gateways of the fleet.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
        gateways: u8,
    },
    /// Run the rules in simulated worlds, one per seed.
    Simulate {
        /// `--seeds 10000 --from 0 --jobs 1`; `--fleet`: of gateways over one Postgres; `--trace` shows every event, for a seed that failed.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Feed the parsers and rules with inputs made up by libFuzzer.
    Fuzz(fuzz::Options),
    /// Build the components and the gateway.
    Build {
        /// Let the optimiser see all of the gateway: some ten minutes of CPU, for what is shipped and measured.
        #[arg(long)]
        dist: bool,
        /// The same, and let it learn from a load first what is hot: built twice, some twenty minutes of CPU.
        #[arg(long)]
        pgo: bool,
        /// Compile the rules into the gateway, for `cargo xtask bench --native-gateway`.
        #[arg(long)]
        native: bool,
    },
    /// Build what people install: a static binary, an OCI image, a Debian package. By profile: some thirty minutes of CPU.
    Package(package::Options),
    /// Build and compose what `spin up` runs, into build/spin, and bring the routes of spin.toml up to date.
    Compose {
        /// Where the application keeps its state.
        #[arg(long, value_enum, default_value = "sqlite", env = "TOLLGATE_SPIN_STORE")]
        store: compose::Store,
    },
    /// Bring crates/api/openapi.json up to date with the contract's types.
    Openapi,
    /// Measure the gateway beside its peers, and print one table of ratios. At most ten minutes, loopback only.
    Bench(bench::Options),
    /// Take pictures of the dashboard, into target/screenshots; those of the documents into docs/screenshots. Needs chromium and node.
    Screenshots,
    /// Formatting, lints and documentation.
    Lint,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Serve { arguments } => build::serve(&arguments),
        Task::Demo(options) => demo::run(&options),
        Task::Origin(options) => demo::origin::run(&options),
        Task::Test {
            quick: true,
            arguments,
        } => test::quick(&arguments),
        Task::Test { arguments, .. } => test::all(&arguments),
        Task::Crash {
            cycles,
            store,
            gateways,
        } => test::crash(cycles, (store == "postgres").then_some(gateways)),
        Task::Simulate { arguments } => simulate::simulate(&arguments),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Build { dist, pgo, native } => {
            let features = native.then_some("native-rules");
            let gateway = match (pgo, dist) {
                (true, _) => pgo::gateway(features, None)?,
                (false, true) => build::gateway(build::DIST, features)?,
                (false, false) => build::gateway(build::RELEASE, features)?,
            };
            build::say(&format!("the gateway is {}", gateway.display()));
            Ok(())
        }
        Task::Package(options) => package::package(&options),
        Task::Compose { store } => compose::run(store),
        Task::Openapi => openapi::write(),
        Task::Bench(options) => bench::run(options),
        Task::Screenshots => test::screenshots(),
        Task::Lint => test::lint(),
    }
}
