use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tollgate_rules::config::CertificateFiles;

/// A certificate for `names`, in the files `<name>.crt` and `<name>.key`.
fn issue(directory: &Path, name: &str, names: &[&str]) -> CertificateFiles {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let files = CertificateFiles {
        cert: directory.join(format!("{name}.crt")).display().to_string(),
        key: directory.join(format!("{name}.key")).display().to_string(),
    };
    fs::write(&files.cert, certificate.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

fn of(certificates: Vec<CertificateFiles>) -> Result<Tls> {
    let sources = Sources {
        certificates,
        ..Sources::default()
    };
    Ok(Tls::new(Renewed::read(sources, HANDSHAKE_TIMEOUT.into())?))
}

fn scratch() -> TempDir {
    TempDir::new().unwrap()
}

#[test]
fn certificates_are_chosen_by_name_and_the_first_is_for_everybody_else() {
    let directory = scratch();
    let first = issue(directory.path(), "one", &["go.example", "*.go.example"]);
    let second = issue(directory.path(), "two", &["Other.example", "go.example"]);
    let tls = of(vec![first, second]).unwrap();
    let loaded = tls.loaded();
    let names: Vec<_> = tls.certificates().into_iter().map(|one| one.names).collect();
    assert_eq!(
        names,
        [["go.example", "*.go.example"], ["other.example", "go.example"]]
    );
    for (name, is_there) in [
        ("go.example", true),
        ("a.go.example", true),
        ("other.example", true),
        ("a.b.go.example", false),
        ("example", false),
        ("a.other.example", false),
        ("", false),
    ] {
        assert_eq!(loaded.is_for(name), is_there, "{name}");
    }
    let one = loaded.names.get("a.go.example").unwrap();
    assert!(
        Arc::ptr_eq(one, loaded.names.get("go.example").unwrap()),
        "the first of two"
    );
    assert!(!Arc::ptr_eq(one, loaded.names.get("other.example").unwrap()));
}

#[test]
fn what_cannot_be_used_is_said_with_the_file() {
    let directory = scratch();
    let good = issue(directory.path(), "good", &["go.example"]);
    let other = issue(directory.path(), "other", &["go.example"]);
    let text = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let garbage = text(
        "garbage",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    );
    let empty = text("empty", "");
    let large = text("large", &"x".repeat((1 << 20) + 1));
    let no_certificate = text(
        "none",
        "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    );
    for (cert, key, what) in [
        (&good.cert, &other.key, "cannot be used"),
        (&garbage, &good.key, "garbage"),
        (&empty, &good.key, "holds no certificate"),
        (&large, &good.key, "larger"),
        (&no_certificate, &good.key, "cannot be read"),
        (&good.cert, &empty, "holds no private key"),
        (&good.cert, &good.cert, "holds no private key"),
        (&good.cert, &"/nowhere/key".to_owned(), "cannot read /nowhere/key"),
    ] {
        let pair = CertificateFiles {
            cert: cert.clone(),
            key: key.clone(),
        };
        let error = format!("{:#}", of(vec![pair]).unwrap_err());
        assert!(error.contains(what), "{what}: {error}");
        let secret = fs::read_to_string(&good.key).unwrap();
        assert!(
            secret.lines().skip(1).all(|line| !error.contains(line)),
            "{error}"
        );
    }
}

#[test]
fn changed_files_are_taken_and_broken_ones_are_not_and_told_once() {
    let directory = scratch();
    let files = issue(directory.path(), "it", &["old.example"]);
    let tls = of(vec![files.clone()]).unwrap();
    assert!(tls.look(None).is_none());
    assert_eq!(tls.reloads(), [0, 0]);

    issue(directory.path(), "it", &["new.example"]);
    assert!(tls.look(None).is_none());
    assert!(tls.loaded().is_for("new.example") && !tls.loaded().is_for("old.example"));
    assert_eq!(tls.reloads(), [1, 0]);

    // A key that does not fit: first it may just be written, then it is told, once.
    let other = issue(directory.path(), "other", &["third.example"]);
    fs::copy(&other.cert, &files.cert).unwrap();
    let mut seen = None;
    for reloads in [[1, 0], [1, 1], [1, 1], [1, 1]] {
        seen = tls.look(seen);
        assert!(seen.is_some());
        assert_eq!(tls.reloads(), reloads);
        assert!(tls.loaded().is_for("new.example"), "the old one stays");
    }
    // The rest of it comes.
    fs::copy(&other.key, &files.key).unwrap();
    assert!(tls.look(seen).is_none());
    assert!(tls.loaded().is_for("third.example"));
    assert_eq!(tls.reloads(), [2, 1]);
}

#[test]
fn links_that_are_swapped_are_seen() {
    use std::os::unix::fs::symlink;
    // As Kubernetes mounts secrets: files are links through `..data`, which is renamed over.
    let directory = scratch();
    let root = directory.path();
    for (version, name) in [("v1", "old.example"), ("v2", "new.example")] {
        fs::create_dir(root.join(version)).unwrap();
        issue(&root.join(version), "tls", &[name]);
    }
    symlink("v1", root.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(file), root.join(file)).unwrap();
    }
    let tls = of(vec![CertificateFiles {
        cert: root.join("tls.crt").display().to_string(),
        key: root.join("tls.key").display().to_string(),
    }])
    .unwrap();
    symlink("v2", root.join("..new")).unwrap();
    fs::rename(root.join("..new"), root.join("..data")).unwrap();
    assert!(tls.look(None).is_none());
    assert!(tls.loaded().is_for("new.example"));
}

#[test]
fn an_end_that_is_near_and_a_key_that_all_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = scratch();
    let files = issue(directory.path(), "it", &["go.example"]);
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(of(vec![files.clone()]).unwrap().warnings(), Vec::<String>::new());
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = of(vec![files.clone()]).unwrap().warnings();
    assert!(
        matches!(&*warnings, [one] if one.contains("chmod")),
        "{warnings:?}"
    );
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["go.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    let tls = of(vec![files]).unwrap();
    assert!(
        tls.warnings()
            .iter()
            .any(|warning| warning.contains("has expired"))
    );
    let told = tls.certificates()[0].to_string();
    assert!(
        told.contains("go.example") && told.contains("2020-01-01T00:00:00"),
        "{told}"
    );
}
