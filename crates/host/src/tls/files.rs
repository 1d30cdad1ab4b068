//! The files of certificates and keys.

use anyhow::{Context as _, Result, bail};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use zeroize::Zeroizing;

/// The largest file that is read; a bundle of the certificate authorities of the world has a quarter of it.
const MAX_FILE: u64 = 1 << 20;
/// The most certificates of a chain: each handshake sends all of them.
const MAX_CHAIN: usize = 16;
/// The permission bits of everybody who is neither the owner nor of the group.
const EVERYBODY: u32 = 0o007;

/// What tells a file from the one that was there before. Of what a symbolic link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(Option<[i64; 5]>);

impl Stamp {
    /// Of a file; also of one that is not there.
    pub fn of(name: &str) -> Self {
        Self(fs::metadata(name).ok().map(|metadata| {
            [
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.size().cast_signed(),
                metadata.ino().cast_signed(),
                metadata.dev().cast_signed(),
            ]
        }))
    }
}

/// Whether anybody on this machine can read it.
pub fn is_open_to_all(name: &str) -> bool {
    fs::metadata(name).is_ok_and(|metadata| metadata.mode() & EVERYBODY != 0)
}

/// The certificates of a PEM file, the server's own first.
pub fn chain(name: &str) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(name)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.with_context(|| format!("{name} must hold certificates in the PEM format"))?;
    if found.is_empty() {
        bail!("{name} holds no certificate in the PEM format");
    }
    if found.len() > MAX_CHAIN {
        bail!("{name} must hold at most {MAX_CHAIN} certificates");
    }
    Ok(found)
}

/// A chain with its key, which fits.
pub fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: &str,
    provider: &CryptoProvider,
) -> Result<CertifiedKey> {
    let text = read(key)?;
    // The error must not show what is in the file.
    let Ok(key_der) = PrivateKeyDer::from_pem_slice(&text) else {
        bail!("{key} holds no private key in the PEM format (PKCS #8, PKCS #1 or SEC1, not encrypted)");
    };
    Ok(CertifiedKey::from_der(chain, key_der, provider)?)
}

/// Certificate authorities.
pub fn roots(name: &str) -> Result<RootCertStore> {
    let text = read(name)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate =
            certificate.with_context(|| format!("{name} must hold certificates in the PEM format"))?;
        roots
            .add(certificate)
            .with_context(|| format!("{name} holds a certificate that cannot be used"))?;
    }
    if roots.is_empty() {
        bail!("{name} holds no certificate in the PEM format");
    }
    Ok(roots)
}

fn read(name: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    let file = fs::File::open(name).with_context(|| format!("cannot read {name}"))?;
    let read = file.take(MAX_FILE + 1).read_to_end(&mut text);
    read.with_context(|| format!("cannot read {name}"))?;
    if text.len() as u64 > MAX_FILE {
        bail!("{name} is larger than a file of certificates may be (1 MiB)");
    }
    Ok(text)
}
