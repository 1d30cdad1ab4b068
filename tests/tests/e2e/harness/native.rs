//! The native host: where its binary is, and how it is started.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Program;

/// `tollgate serve …`, to be changed by a case that is about the command line.
pub struct Serve {
    pub listen: String,
    /// `TOLLGATE_ADMIN_KEY`; unset if `None`.
    pub admin_key: Option<String>,
    pub admin_key_file: Option<PathBuf>,
    /// A directory of components instead of those inside the program.
    pub components: Option<PathBuf>,
    /// Where its data is; `<directory>/data` if `None`.
    pub data: Option<PathBuf>,
    /// More of the environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// `RUST_LOG`.
    pub log: String,
}

impl Serve {
    /// Listens on a port that the system chooses, with the given admin key.
    pub fn with_key(key: &str) -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
            admin_key: Some(key.to_owned()),
            admin_key_file: None,
            components: None,
            data: None,
            environment: Vec::new(),
            log: env::var("RUST_LOG").unwrap_or_else(|_| "info".into()),
        }
    }

    /// Without an admin key: the program makes one if its store never had one.
    pub fn without_key() -> Self {
        Self {
            admin_key: None,
            ..Self::with_key("")
        }
    }

    /// Where its data is, if it is started in `directory`.
    pub fn data(&self, directory: &Path) -> PathBuf {
        self.data.clone().unwrap_or_else(|| directory.join("data"))
    }

    /// Keeps what a gateway in `directory` has compiled for those that start later.
    pub fn keep_compiled_code(&self, directory: &Path) {
        if self.components.is_some() {
            copy(&self.data(directory).join("cache"), &shelf());
        }
    }

    /// Starts the program on `<directory>/tollgate.toml` and `<directory>/data`.
    pub fn start(&self, directory: &Path) -> Program {
        let data = self.data(directory);
        if self.components.is_some() {
            copy(&shelf(), &data.join("cache"));
        }
        let mut command = Command::new(binary());
        command
            .arg("serve")
            .arg("--config")
            .arg(directory.join("tollgate.toml"))
            .arg("--data")
            .arg(&data)
            .args(["--listen", &self.listen])
            .current_dir(directory)
            .env_remove("TOLLGATE_ADMIN_KEY")
            .env_remove("TOLLGATE_LISTEN")
            .env_remove("TOLLGATE_DATA")
            .env("RUST_LOG", &self.log);
        if let Some(key) = &self.admin_key {
            command.env("TOLLGATE_ADMIN_KEY", key);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(file) = &self.admin_key_file {
            command.arg("--admin-key-file").arg(file);
        }
        if let Some(components) = &self.components {
            command.arg("--components").arg(components);
        }
        Program::start(command, directory)
    }
}

/// The address in the one line on stdout.
pub fn address(line: &str) -> Option<String> {
    line.strip_prefix("listening on ").map(str::to_owned)
}

/// `TOLLGATE_BIN`, else the release build beside this test, else the one of the workspace.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("TOLLGATE_BIN") {
        return path.into();
    }
    // …/release/deps/e2e-…
    let this = env::current_exe().unwrap_or_default();
    let beside = this
        .ancestors()
        .nth(2)
        .map(|directory| directory.join("tollgate"));
    let workspace = root().join("target/release/tollgate");
    let found = beside.into_iter().chain([workspace]).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "there is no gateway to test: run `cargo xtask test`, or set TOLLGATE_BIN to a tollgate binary"
        )
    })
}

/// The program behind `cargo xtask`, where that has started the tests.
pub fn xtask() -> Option<PathBuf> {
    env::var_os("TOLLGATE_XTASK").map(PathBuf::from)
}

/// Where the build has put the components.
pub fn built_components() -> PathBuf {
    env::var_os("TOLLGATE_COMPONENTS").map_or_else(|| root().join("build/components"), PathBuf::from)
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Code of directories of components, by the hash of what it depends on: compiled once in a run.
fn shelf() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

/// Best effort: without it a gateway compiles for itself.
fn copy(from: &Path, to: &Path) {
    let _ = fs::create_dir_all(to);
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.extension().is_some_and(|extension| extension == "cwasm") && !target.exists() {
            let draft = to.join(super::unique("draft"));
            if fs::copy(&source, &draft).is_ok() {
                let _ = fs::rename(&draft, &target);
            }
        }
    }
}
