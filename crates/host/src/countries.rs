//! Where visitors are, by a file that the operator names (`[clients] country_file`): a database in MaxMind's format, of whomever.

use anyhow::{Context as _, Result, bail};
use maxminddb::{PathElement, Reader, WithinOptions};
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use tollgate_rules::config::Config;

/// The largest file that is read, in bytes: it is kept in memory.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// How many networks are looked through for one with a country, before a file is refused as one that has none.
const LOOKED_THROUGH: usize = 10_000;
/// Where a country stands in a record: as MaxMind and DB-IP have it, and as `IPinfo` does.
const PLACES: [&[PathElement<'static>]; 2] = [
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[PathElement::Key("country_code")],
];

/// A country (ISO 3166-1 alpha-2), in upper case.
pub type Country = [u8; 2];

/// The countries of networks. Its `Debug` names no network.
pub struct Countries {
    reader: Reader<Vec<u8>>,
    stamp: Stamp,
}

/// What tells one state of the file from another without reading it: it may be large, and is looked at every few seconds. Device,
/// inode, length and time of change, behind symbolic links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp([i128; 5]);

impl Stamp {
    /// Of the file; `None` for one that is not there.
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self([
            file.dev().into(),
            file.ino().into(),
            file.len().into(),
            file.mtime().into(),
            file.mtime_nsec().into(),
        ]))
    }
}

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Countries").field("stamp", &self.stamp).finish()
    }
}

impl Countries {
    /// Those of the file that the settings name, if they name one.
    ///
    /// # Errors
    /// It cannot be read, or is no such database, or has no countries.
    pub fn of(config: &Config) -> Result<Option<Arc<Self>>> {
        let Some(file) = &config.clients.country_file else {
            return Ok(None);
        };
        let read = Self::read(Path::new(file));
        let read = read.with_context(|| format!("clients.country_file: {file} cannot be used"))?;
        Ok(Some(Arc::new(read)))
    }

    fn read(path: &Path) -> Result<Self> {
        // Before its contents: what is written meanwhile is seen at the next look.
        let stamp = Stamp::of(path).context("it cannot be found")?;
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            bail!("it has more than {} MiB", MAX_BYTES / 1024 / 1024);
        }
        let reader = Reader::from_source(bytes).context("it is no database in MaxMind's format")?;
        let has_some = {
            let mut networks = reader.networks(WithinOptions::default())?.take(LOOKED_THROUGH);
            networks.any(|network| {
                network.is_ok_and(|network| country(|path| network.decode_path(path).ok()?).is_some())
            })
        };
        if !has_some {
            bail!(
                "it has no countries, but is a {}",
                reader.metadata().database_type
            );
        }
        Ok(Self { reader, stamp })
    }

    /// Where an address is, if it is known.
    pub fn country(&self, address: IpAddr) -> Option<Country> {
        // IPv6 addresses in a database of IPv4 are an error of the reader.
        let found = self.reader.lookup(address.to_canonical()).ok()?;
        country(|path| found.decode_path(path).ok()?)
    }

    /// Whether these are of the same state of the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        self.stamp == other.stamp
    }
}

/// The country of a record, whose texts `at` gives.
fn country<'d>(at: impl Fn(&[PathElement<'_>]) -> Option<&'d str>) -> Option<Country> {
    let found = PLACES.iter().find_map(|path| at(path))?;
    let country = Country::try_from(found.as_bytes())
        .ok()?
        .map(|byte| byte.to_ascii_uppercase());
    country.iter().all(u8::is_ascii_uppercase).then_some(country)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `tests/countries/make.py`.
    const FILE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/countries/countries.mmdb"
    );

    fn read(bytes: &[u8]) -> Result<Countries> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.mmdb");
        fs::write(&path, bytes).unwrap();
        Countries::read(&path)
    }

    #[test]
    fn addresses_are_in_the_country_of_their_network() {
        let countries = Countries::read(Path::new(FILE)).unwrap();
        for (address, expected) in [
            ("203.0.113.7", Some(*b"DE")),
            // As IPinfo writes it.
            ("198.51.100.255", Some(*b"KR")),
            ("::ffff:203.0.113.7", Some(*b"DE")),
            ("2001:db8:1::1", Some(*b"FR")),
            ("127.0.0.1", Some(*b"US")),
            // A network without a country, one with a word that is none, and one that the file does not have.
            ("192.0.2.1", None),
            ("192.0.2.129", None),
            ("10.0.0.1", None),
            ("2001:db9::1", None),
        ] {
            assert_eq!(countries.country(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn what_is_no_database_of_countries_is_refused() {
        let whole = fs::read(FILE).unwrap();
        for bytes in [
            &b""[..],
            b"<html>not found</html>",
            &whole[..whole.len() / 2],
            &whole[whole.len() / 2..],
        ] {
            assert!(read(bytes).is_err(), "{} bytes", bytes.len());
        }
        let networks = fs::read(FILE.replace("countries.mmdb", "networks.mmdb")).unwrap();
        let refused = read(&networks).unwrap_err().to_string();
        assert_eq!(refused, "it has no countries, but is a Test-ASN");
        assert!(Countries::read(Path::new("/nonexistent.mmdb")).is_err());
    }

    #[test]
    fn a_damaged_database_gives_no_country_and_no_panic() {
        let whole = fs::read(FILE).unwrap();
        let addresses: Vec<IpAddr> = ["203.0.113.7", "127.0.0.1", "2001:db8::1"]
            .map(|text| text.parse().unwrap())
            .into();
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0xff;
            if let Ok(countries) = read(&bytes) {
                for address in &addresses {
                    countries.country(*address);
                }
            }
        }
    }

    #[test]
    fn a_file_that_was_written_again_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (
            directory.path().join("a.mmdb"),
            directory.path().join("link.mmdb"),
        );
        fs::copy(FILE, &path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let before = Stamp::of(&link);
        assert!(before.is_some() && before == Stamp::of(&link));
        let other = directory.path().join("b.mmdb");
        fs::copy(FILE, &other).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(Stamp::of(&link), before);
    }
}
