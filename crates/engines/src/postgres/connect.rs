//! Connections: TLS, the settings of a session, and what a database must promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::poll_fn;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long what was sent may go unacknowledged.
const UNHEARD: Duration = Duration::from_secs(10);

/// Of each session. What synchronises late by the role, the database or a pooler does not here. A gateway that stands still with locks is thrown out; no plan made for empty tables is kept. No time-out
/// ends a COMMIT: one that is cancelled while it waits for a standby counts as done.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '1s'; SET lock_timeout = '4s';
    SET statement_timeout = 0; SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; SET jit = off;
    SET client_min_messages = warning; SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false)";

/// How the database is reached.
pub struct Address {
    config: Config,
    tls: MakeRustlsConnect,
    /// Without the password, for people.
    pub shown: String,
}

impl Address {
    /// Of a URL. Beside what libpq and `tokio-postgres` know, `sslrootcert` names a file of certificates. Where TLS is used,
    /// certificates and names are always checked.
    ///
    /// # Errors
    /// What is wrong with it, without its password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (url, roots_file) = without_roots(url);
        let mut config: Config = url
            .parse()
            .map_err(|_| "this is no URL such as postgres://user:password@host/database".to_owned())?;
        if config.get_application_name().is_none() {
            config.application_name("tollgate");
        }
        config
            .connect_timeout(CONNECT)
            .tcp_user_timeout(UNHEARD)
            .keepalives_idle(Duration::from_secs(5))
            .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        let hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                tokio_postgres::config::Host::Tcp(name) => name.clone(),
                tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres");
        let shown = format!("postgres://{}/{database}", hosts.join(","));
        Ok(Self {
            tls: tls(roots_file.as_deref())?,
            config,
            shown,
        })
    }
}

/// The URL without its parameter `sslrootcert`, and that; `verify-full` is what `require` means here.
fn without_roots(url: &str) -> (String, Option<String>) {
    let Some((head, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let mut roots = None;
    let kept: Vec<&str> = query
        .split('&')
        .filter_map(|pair| match pair.split_once('=') {
            Some(("sslrootcert", file)) => {
                roots = Some(file.replace("%2F", "/").replace("%2f", "/"));
                None
            }
            Some(("sslmode", "verify-full" | "verify-ca")) => Some("sslmode=require"),
            _ => Some(pair),
        })
        .collect();
    let query = if kept.is_empty() {
        String::new()
    } else {
        format!("?{}", kept.join("&"))
    };
    (format!("{head}{query}"), roots)
}

fn tls(roots_file: Option<&str>) -> Result<MakeRustlsConnect, String> {
    let mut roots = rustls::RootCertStore::empty();
    match roots_file {
        Some(file) => {
            let found = CertificateDer::pem_file_iter(file)
                .and_then(|found| found.collect::<Result<Vec<_>, _>>())
                .map_err(|error| format!("sslrootcert: {file} cannot be read: {error}"))?;
            roots.add_parsable_certificates(found);
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// A session.
pub struct Session {
    /// Its handle; requests that are polled together travel together.
    pub client: Client,
    warnings: Arc<AtomicU64>,
    driver: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Else it waits for what is still to be answered, on a connection that may have fallen silent.
        self.end();
    }
}

impl Session {
    /// Opens one. Must run on the engine's runtime, which drives it.
    pub async fn open(address: &Address) -> Result<Self, tokio_postgres::Error> {
        let (client, mut connection) = address.config.connect(address.tls.clone()).await?;
        let warnings = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&warnings);
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                // A ROLLBACK where nothing is to be rolled back means nothing.
                if let AsyncMessage::Notice(notice) = message
                    && notice.code().code() != "25P01"
                {
                    counted.fetch_add(1, Ordering::AcqRel);
                    tracing::warn!(notice = notice.message(), "the database warns");
                }
            }
        });
        let session = Self {
            client,
            warnings,
            driver: driver.abort_handle(),
        };
        session.client.batch_execute(SESSION).await?;
        Ok(session)
    }

    /// Ends it; what waits for an answer is told that it is closed.
    pub fn end(&self) {
        self.driver.abort();
    }

    /// Warnings so far. One that comes with a COMMIT means that its promise may not hold.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Acquire)
    }

    /// `Err` with the reason where an acknowledged commit could be lost.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn promises(&self) -> Result<Result<(), String>, tokio_postgres::Error> {
        for (name, why) in [
            ("fsync", "a crash could lose or corrupt what was acknowledged"),
            (
                "full_page_writes",
                "a crash in the midst of a write could corrupt the database",
            ),
            ("synchronous_commit", "a crash could lose what was acknowledged"),
        ] {
            // What it would be without our session's own settings.
            let sql = "SELECT reset_val FROM pg_settings WHERE name = $1";
            if let Some(row) = self.client.query_opt(sql, &[&name]).await?
                && row.get::<_, String>(0) == "off"
            {
                return Ok(Err(format!(
                    "the database runs with {name}=off: {why}; set {name}=on for the server, the database and the role"
                )));
            }
        }
        let standby: bool = self
            .client
            .query_one("SELECT pg_is_in_recovery()", &[])
            .await?
            .get(0);
        Ok(match standby {
            true => Err("the database is a standby, which takes no commits; name the primary".into()),
            false => Ok(()),
        })
    }
}

/// An error with what the database said.
pub fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(database) => format!("{} ({})", database.message(), database.code().code()),
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let address = Address::parse("postgres://me:hunter2@db.example/shop?sslmode=verify-full").unwrap();
        assert_eq!(address.shown, "postgres://db.example/shop");
        let error = Address::parse("postgres://me:hunter2@db.example:99999/x?nonsense=1")
            .err()
            .unwrap();
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(
            without_roots("postgres://h/d?sslrootcert=%2Fca.pem&sslmode=require"),
            (
                "postgres://h/d?sslmode=require".to_owned(),
                Some("/ca.pem".to_owned())
            )
        );
    }
}
