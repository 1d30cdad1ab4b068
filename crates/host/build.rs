//! Embeds the components that `cargo xtask build` made, so that the released binary needs no other file.
#![allow(
    missing_docs,
    clippy::print_stdout,
    reason = "a build script talks to cargo through stdout"
)]

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const NAMES: &[&str] = &["rules"];

fn main() {
    println!("cargo:rerun-if-env-changed=TOLLGATE_COMPONENTS");
    let dir = env::var("TOLLGATE_COMPONENTS").unwrap_or_else(|_| "../../build/components".to_owned());
    println!("cargo:rerun-if-changed={dir}");
    let mut source = String::from("/// Name and bytes of each component that was there at build time.\n");
    source.push_str("pub const EMBEDDED: &[(&str, &[u8])] = &[\n");
    for name in NAMES {
        let path = Path::new(&dir).join(format!("{name}.wasm"));
        println!("cargo:rerun-if-changed={}", path.display());
        if let Ok(path) = fs::canonicalize(&path) {
            source.push_str(&format!(
                "    ({name:?}, include_bytes!({:?})),\n",
                path.display().to_string()
            ));
        }
    }
    source.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    fs::write(out.join("embedded.rs"), source).expect("OUT_DIR is writable");
    for folder in ["dashboard", "dashboard/vendor"] {
        println!("cargo:rerun-if-changed={folder}");
        compress(Path::new(folder), &out);
    }
}

/// Compresses the files of the dashboard, each as `<name>.gz`: once, and as well as it can be.
fn compress(folder: &Path, out: &Path) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else {
            continue;
        };
        let file = fs::File::create(out.join(name).with_added_extension("gz")).expect("OUT_DIR is writable");
        let mut encoder = GzEncoder::new(file, Compression::best());
        let bytes = fs::read(&path).expect("it can be read");
        encoder.write_all(&bytes).expect("OUT_DIR is writable");
        encoder.finish().expect("OUT_DIR is writable");
    }
}
