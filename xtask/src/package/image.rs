//! An OCI image without a container engine: one layer, its config, a manifest and an index, in the image layout.
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use super::{Architecture, DATA, NOBODY, sha256};
use crate::build::{root, say};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tar::{Builder, EntryType, Header};

/// Where the settings of the image are: the gateway is started there, and reads `tollgate.toml` if it is mounted.
const SETTINGS: &str = "/etc/tollgate";
const PROGRAM: &str = "/usr/bin/tollgate";
/// Inside a container everybody may connect; what is published is for the operator to say.
const LISTEN: &str = "0.0.0.0:3000";
const SECOND: u64 = 1_000_000_000;

/// What was written.
pub struct Image {
    /// The layer, not compressed: the root file system.
    pub layer: Vec<u8>,
    /// The image layout in one file.
    pub archive: PathBuf,
    /// What the config says for every container: variables, and the command.
    pub environment: Vec<String>,
    pub command: Vec<String>,
}

/// Writes the layout into the directory `to`, and beside it as `<to>.tar`.
pub fn write(gateway: &Path, architecture: &Architecture, to: &Path) -> Result<Image> {
    let layer = layer(&fs::read(gateway)?)?;
    let compressed = compressed(&layer)?;
    let environment = vec![
        "PATH=/usr/bin".to_owned(),
        format!("TOLLGATE_DATA={DATA}"),
        format!("TOLLGATE_LISTEN={LISTEN}"),
    ];
    let command = vec![PROGRAM.to_owned(), "serve".to_owned()];
    let config = json!({
        "architecture": architecture.oci,
        "os": "linux",
        "config": {
            "User": format!("{NOBODY}:{NOBODY}"),
            "Entrypoint": [command[0]],
            "Cmd": command[1..],
            "Env": environment,
            "WorkingDir": SETTINGS,
            "ExposedPorts": { "3000/tcp": {} },
            "Volumes": { DATA: {} },
            "StopSignal": "SIGTERM",
            "Labels": labels(),
            // Not OCI's, but Docker's and Podman's; others leave it alone.
            "Healthcheck": {
                "Test": ["CMD", PROGRAM, "health"],
                "Interval": 10 * SECOND, "Timeout": 5 * SECOND, "StartPeriod": 10 * SECOND, "Retries": 3,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))] },
        "history": [{ "created_by": "cargo xtask package" }],
    });
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    let blobs = to.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let blob = |kind: &str, bytes: &[u8]| -> Result<Value> {
        let digest = sha256(bytes);
        fs::write(blobs.join(&digest), bytes)?;
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
    };
    let layers = [blob("application/vnd.oci.image.layer.v1.tar+zstd", &compressed)?];
    let config = blob(
        "application/vnd.oci.image.config.v1+json",
        &serde_json::to_vec(&config)?,
    )?;
    let manifest_kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_kind, "config": config, "layers": layers, "annotations": labels(),
    });
    let mut manifest = blob(manifest_kind, &serde_json::to_vec(&manifest)?)?;
    let version = env!("CARGO_PKG_VERSION");
    manifest["annotations"] = json!({
        "org.opencontainers.image.ref.name": version,
        // By which `docker load` names it.
        "io.containerd.image.name": format!("docker.io/library/tollgate:{version}"),
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest],
    });
    fs::write(to.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(to.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let archive = to.with_added_extension("tar");
    let mut tar = Builder::new(fs::File::create(&archive)?);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.append_dir_all(".", to)?;
    tar.into_inner()?.sync_all()?;
    Ok(Image {
        layer,
        archive,
        environment,
        command,
    })
}

/// By zstd, a quarter less than gzip makes of it. Docker reads such layers since version 23, containerd since 1.5, Podman and CRI-O
/// since 2020. <https://github.com/opencontainers/image-spec/blob/main/layer.md#zstd-media-types>
fn compressed(layer: &[u8]) -> Result<Vec<u8>> {
    say("compressing the image");
    let mut command = Command::new("zstd");
    command.args(["-19", "-T0", "--quiet", "--stdout"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut zstd = command
        .spawn()
        .context("the image takes zstd: apt install zstd")?;
    let mut input = zstd.stdin.take().context("zstd reads nothing")?;
    std::thread::scope(|scope| {
        // It says at its end what became of it.
        scope.spawn(move || input.write_all(layer));
        let output = zstd.wait_with_output()?;
        ensure!(output.status.success(), "zstd failed ({})", output.status);
        Ok(output.stdout)
    })
}

fn labels() -> Value {
    json!({
        "org.opencontainers.image.title": "Tollgate",
        "org.opencontainers.image.description": "An edge gateway: short links, rate limits, coupon claims, and a durable queue in front of your origin",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": "Apache-2.0",
    })
}

/// The root file system: the program, who runs it, and the directories that may be mounted. The same input gives the same
/// bytes.
fn layer(gateway: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut add = |path: &str, kind: EntryType, mode: u32, owner: u32, bytes: &[u8]| -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.into());
        header.set_gid(owner.into());
        header.set_mtime(0);
        header.set_size(u64::try_from(bytes.len())?);
        Ok(tar.append_data(&mut header, path, bytes)?)
    };
    let directory = EntryType::Directory;
    for path in [
        "etc/",
        "etc/tollgate/",
        "usr/",
        "usr/bin/",
        "usr/share/",
        "usr/share/doc/",
        "usr/share/doc/tollgate/",
        "var/",
        "var/lib/",
    ] {
        add(path, directory, 0o755, 0, &[])?;
    }
    // A new volume takes over owner and mode.
    add(&DATA[1..], directory, 0o700, NOBODY, &[])?;
    let file = EntryType::Regular;
    let accounts = format!("root:x:0:0:root:/:/none\nnobody:x:{NOBODY}:{NOBODY}:nobody:{DATA}:/none\n");
    add("etc/passwd", file, 0o644, 0, accounts.as_bytes())?;
    let groups = format!("root:x:0:\nnobody:x:{NOBODY}:\n");
    add("etc/group", file, 0o644, 0, groups.as_bytes())?;
    let license = fs::read(root().join("LICENSE"))?;
    add("usr/share/doc/tollgate/LICENSE", file, 0o644, 0, &license)?;
    add(&PROGRAM[1..], file, 0o755, 0, gateway)?;
    Ok(tar.into_inner()?)
}
