//! What is kept of ACME, in a directory of the data directory that is its owner's alone: the account, and the certificate with
//! its key. Each is one file, which is replaced as a whole.

use super::super::files;
use super::super::names::Certificate;
use crate::serve::files::{make_directory, write_secret};
use anyhow::{Context as _, Result, ensure};
use instant_acme::AccountCredentials;
use rustls::crypto::ring::default_provider;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tollgate_engines::sqlite::backup::sync_directory;
use tollgate_rules::config::Acme;

const ACCOUNT: &str = "account.json";
/// What a file has at the end of its name while it is written.
const NEW: &str = "new";
/// What the first line of a certificate's file begins with; its rest is the directory that it is from.
const ORDERED_FROM: &str = "Ordered from ";
/// Room that there must be before a certificate is ordered: for its chain and its key.
const ROOM: usize = 16 << 10;
/// The part of its time after which a certificate is renewed: two thirds, as authorities advise.
const RENEWED_AFTER: (u32, u32) = (2, 3);

/// The directory in the data directory, and what is in it.
#[derive(Clone, Debug)]
pub struct Kept {
    directory: PathBuf,
    /// The certificate and its key.
    certificate: PathBuf,
}

/// The account at a directory.
#[derive(Serialize, Deserialize)]
pub struct KeptAccount {
    /// As the settings say it.
    pub directory: String,
    /// See `directory`.
    #[serde(default)]
    pub contact: Option<String>,
    /// The identifier of the external account.
    #[serde(default)]
    pub external_account: Option<String>,
    /// Its key among them.
    pub credentials: AccountCredentials,
}

impl KeptAccount {
    /// Whether it is the one that the settings mean. (The contact may change.)
    pub fn is_of(&self, acme: &Acme) -> bool {
        let id = acme.external_account.as_ref().map(|account| &account.id);
        self.directory == acme.directory && self.external_account.as_ref() == id
    }
}

impl Kept {
    /// `certificate`: the file of the certificate and its key.
    pub fn at(certificate: &Path) -> Self {
        Self {
            directory: certificate.parent().unwrap_or(Path::new(".")).to_owned(),
            certificate: certificate.to_owned(),
        }
    }

    /// The account, if there is one that can be read.
    pub fn account(&self) -> Option<KeptAccount> {
        let text = fs::read(self.directory.join(ACCOUNT)).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!(%error, "the ACME account that is kept cannot be read: a new one is made"))
            .ok()
    }

    /// Keeps the account in the place of the one before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_account(&self, account: &KeptAccount) -> Result<()> {
        let text = serde_json::to_string(account)?;
        self.replace(&self.directory.join(ACCOUNT), &text, |_| Ok(()))
    }

    /// Forgets the account.
    pub fn forget_account(&self) {
        let _ = fs::remove_file(self.directory.join(ACCOUNT));
    }

    /// How long the certificate need not be renewed; zero where there is none for this order.
    pub fn is_good_for(&self, acme: &Acme) -> Duration {
        let Some(certificate) = self.certificate(acme) else {
            return Duration::ZERO;
        };
        let (part, whole) = RENEWED_AFTER;
        let lifetime = certificate.expires.duration_since(certificate.begins);
        let due = certificate.begins + lifetime.unwrap_or_default() / whole * part;
        due.duration_since(SystemTime::now()).unwrap_or_default()
    }

    fn certificate(&self, acme: &Acme) -> Option<Certificate> {
        let file = self.certificate.to_str()?;
        let first = fs::read_to_string(file).ok()?;
        let first = first.lines().next()?.strip_prefix(ORDERED_FROM)?;
        let certificate = read(file).ok()?;
        (first == acme.directory && is_for_all(&certificate, acme)).then_some(certificate)
    }

    /// Makes sure that what comes can be written. To be called before a certificate is ordered: authorities count those.
    ///
    /// # Errors
    /// It cannot.
    pub fn make_room(&self) -> Result<()> {
        make_directory(&self.directory)?;
        let probe = self.certificate.with_added_extension(NEW);
        let _ = fs::remove_file(&probe);
        let written = write_secret(&probe, &" ".repeat(ROOM));
        let _ = fs::remove_file(&probe);
        written.with_context(|| format!("{} cannot be written", self.directory.display()))
    }

    /// Keeps a certificate, with those that it was signed with, and its key, in the place of the one before.
    ///
    /// # Errors
    /// It is not for what was ordered, does not fit its key, or cannot be written.
    pub fn set_certificate(&self, acme: &Acme, chain: &str, key: &str) -> Result<()> {
        let text = format!("{ORDERED_FROM}{}\n{}\n{}", acme.directory, chain.trim_end(), key);
        self.replace(&self.certificate, &text, |file| {
            let certificate = read(file)?;
            ensure!(
                is_for_all(&certificate, acme),
                "the certificate is for {} only",
                certificate.names.join(", ")
            );
            Ok(())
        })
    }

    /// Writes a file whole; `check` may refuse what is in it.
    fn replace(&self, path: &Path, text: &str, check: impl Fn(&str) -> Result<()>) -> Result<()> {
        make_directory(&self.directory)?;
        let new = path.with_added_extension(NEW);
        let _ = fs::remove_file(&new);
        write_secret(&new, text).with_context(|| format!("{} cannot be written", new.display()))?;
        let done = check(&new.to_string_lossy()).and_then(|()| Ok(fs::rename(&new, path)?));
        if done.is_err() {
            let _ = fs::remove_file(&new);
        }
        done?;
        Ok(sync_directory(path)?)
    }
}

/// A certificate whose key, in the same file, fits.
fn read(file: &str) -> Result<Certificate> {
    let chain = files::chain(file)?;
    let certificate = Certificate::read(file, &chain)?;
    files::pair(chain, file, &default_provider())?;
    Ok(certificate)
}

fn is_for_all(certificate: &Certificate, acme: &Acme) -> bool {
    acme.domains
        .iter()
        .all(|domain| certificate.names.contains(domain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::os::unix::fs::PermissionsExt as _;
    use time::OffsetDateTime;

    const DAY: Duration = Duration::from_secs(86_400);

    fn acme(domains: &[&str]) -> Acme {
        Acme {
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            contact: None,
            directory: "https://ca.example/directory".into(),
            directory_ca: None,
            challenge: Default::default(),
            external_account: None,
        }
    }

    fn issue(names: &[&str], begins: SystemTime, expires: SystemTime) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = OffsetDateTime::from(begins);
        params.not_after = OffsetDateTime::from(expires);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_good_for_two_thirds_of_its_time_for_the_very_order() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("acme/certificate.pem");
        let kept = Kept::at(&file);
        let order = acme(&["go.example", "www.go.example"]);
        assert_eq!(kept.is_good_for(&order), Duration::ZERO, "there is none");
        let now = SystemTime::now();
        let (chain, key) = issue(&["www.go.example", "go.example"], now - 30 * DAY, now + 60 * DAY);
        kept.set_certificate(&order, &chain, &key).unwrap();
        let left = kept.is_good_for(&order);
        assert!(left > 29 * DAY && left <= 30 * DAY, "{left:?}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let directory = fs::metadata(file.parent().unwrap()).unwrap();
        assert_eq!(directory.permissions().mode() & 0o777, 0o700);

        assert!(kept.is_good_for(&acme(&["go.example"])) > DAY, "it is for more");
        assert_eq!(
            kept.is_good_for(&acme(&["go.example", "new.example"])),
            Duration::ZERO
        );
        let elsewhere = Acme {
            directory: "https://other.example/directory".into(),
            ..order.clone()
        };
        assert_eq!(
            kept.is_good_for(&elsewhere),
            Duration::ZERO,
            "from a trial to the real one"
        );

        let (old, old_key) = issue(&["www.go.example", "go.example"], now - 80 * DAY, now + 10 * DAY);
        kept.set_certificate(&order, &old, &old_key).unwrap();
        assert_eq!(
            kept.is_good_for(&order),
            Duration::ZERO,
            "its time is nearly over"
        );

        // What cannot be used is not kept.
        let (other, other_key) = issue(&["go.example"], now, now + DAY);
        let before = fs::read(&file).unwrap();
        for (chain, key) in [(&chain, &other_key), (&other, &other_key), (&String::new(), &key)] {
            kept.set_certificate(&order, chain, key).unwrap_err();
            assert_eq!(fs::read(&file).unwrap(), before);
        }
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        fs::write(&file, "garbage").unwrap();
        assert_eq!(kept.is_good_for(&order), Duration::ZERO);
    }

    #[test]
    fn where_nothing_can_be_written_nothing_is_ordered() {
        let scratch = tempfile::tempdir().unwrap();
        let kept = Kept::at(&scratch.path().join("acme/certificate.pem"));
        kept.make_room().unwrap();
        assert_eq!(fs::read_dir(scratch.path().join("acme")).unwrap().count(), 0);
        fs::write(scratch.path().join("file"), "").unwrap();
        let kept = Kept::at(&scratch.path().join("file/acme/certificate.pem"));
        kept.make_room().unwrap_err();
    }
}
