//! `[store]`: which engine keeps everything.

mod limits;

pub use limits::{LimitsStore, RedisAddress, RedisKind};

use serde::{Deserialize, Serialize};

use tollgate_api::secret::SecretText;
use tollgate_api::units::{Bytes, Span};

/// `[store]`: the engine that keeps everything, and the resources that it may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub enum StoreSettings {
    /// `engine = "sqlite"`, the default: one file.
    Sqlite {
        /// The file.
        path: String,
        /// Entries (links, counters, absent keys too) kept in memory; the least used give way.
        cache_entries: u64,
        /// The bytes of keys and values, and what their table needs, that those entries may take.
        cache_bytes: Bytes,
    },
    /// `engine = "memory"`: nothing outlives the process.
    Memory {
        /// The bytes that entries, messages and ids may take, about; a commit that finds no room is refused.
        max_bytes: Bytes,
    },
    /// `url = "postgres://…"`: a database that many gateways share.
    Postgres(PostgresSettings),
}

/// A Postgres that many gateways share.
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresSettings {
    /// `postgres://user:password@host/database`.
    pub url: SecretText,
    /// Locks that commits share out, by partition; fixed when the tables are made.
    pub lanes: u32,
    /// Groups of commits that one gateway writes at a time.
    pub writers: u32,
    /// How far memory may be behind commits of other gateways.
    pub revalidate: Span,
    /// How old memory may be while the database does not answer.
    pub stale_if_error: Span,
    /// The most gateways at once, among which shared limits are divided.
    pub gateways: u32,
    /// How many per cent of a shared limit's capacity all of them may have admitted without having told it.
    pub debt_percent: u32,
    /// Entries kept in memory.
    pub cache_entries: u64,
    /// The bytes that those may take.
    pub cache_bytes: Bytes,
}

impl PostgresSettings {
    /// The defaults for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretText::from(url.into()),
            lanes: 16,
            writers: 2,
            revalidate: Span::from_millis(250),
            stale_if_error: Span::from_secs(30),
            gateways: 4,
            debt_percent: 10,
            cache_entries: 262_144,
            cache_bytes: Bytes(128 << 20),
        }
    }

    /// The URL without its password.
    pub fn masked_url(&self, mask: &str) -> String {
        let url = self.url.expose();
        let Some((scheme, rest)) = url.split_once("://") else {
            return format!("postgres://{mask}");
        };
        // A password may also be a parameter.
        if rest.contains("password=") {
            return format!("{scheme}://{mask}");
        }
        // A password may hold any character, also those that should be escaped.
        match rest.rsplit_once('@') {
            Some((user, host)) => {
                let user = user
                    .split_once(':')
                    .map_or(user.to_owned(), |(name, _)| format!("{name}:{mask}"));
                format!("{scheme}://{user}@{host}")
            }
            None => url.to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Sqlite,
    Memory,
    Postgres,
}

/// The table as it is written: each engine has settings of its own.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<SecretText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revalidate: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_if_error: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateways: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debt_percent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_bytes: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<Bytes>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self::Sqlite {
            path: "data/tollgate.db".into(),
            cache_entries: 262_144,
            cache_bytes: Bytes(128 << 20),
        }
    }
}

impl TryFrom<Table> for StoreSettings {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let foreign = |name: &str, engine: &str| {
            Err(format!(
                "{name} is no setting of the engine that is chosen; it is one of engine = \"{engine}\""
            ))
        };
        let chosen = match (table.engine, &table.url) {
            (Some(kind), _) => kind,
            (None, Some(_)) => Kind::Postgres,
            (None, None) => Kind::Sqlite,
        };
        if chosen != Kind::Postgres {
            for (name, is_set) in [
                ("url", table.url.is_some()),
                ("lanes", table.lanes.is_some()),
                ("writers", table.writers.is_some()),
                ("revalidate", table.revalidate.is_some()),
                ("stale_if_error", table.stale_if_error.is_some()),
                ("gateways", table.gateways.is_some()),
                ("debt_percent", table.debt_percent.is_some()),
            ] {
                if is_set {
                    return foreign(name, "postgres");
                }
            }
        }
        match chosen {
            Kind::Postgres if table.path.is_some() => foreign("path", "sqlite"),
            Kind::Postgres if table.max_bytes.is_some() => foreign("max_bytes", "memory"),
            Kind::Postgres => {
                // Where it is missing, the environment may name it (TOLLGATE_STORE_URL).
                let url = table.url.unwrap_or_else(|| String::new().into());
                let mut settings = PostgresSettings::new(url.expose());
                settings.lanes = table.lanes.unwrap_or(settings.lanes);
                settings.writers = table.writers.unwrap_or(settings.writers);
                settings.revalidate = table.revalidate.unwrap_or(settings.revalidate);
                settings.stale_if_error = table.stale_if_error.unwrap_or(settings.stale_if_error);
                settings.gateways = table.gateways.unwrap_or(settings.gateways);
                settings.debt_percent = table.debt_percent.unwrap_or(settings.debt_percent);
                settings.cache_entries = table.cache_entries.unwrap_or(settings.cache_entries);
                settings.cache_bytes = table.cache_bytes.unwrap_or(settings.cache_bytes);
                Ok(Self::Postgres(settings))
            }
            Kind::Sqlite if table.max_bytes.is_some() => foreign("max_bytes", "memory"),
            Kind::Memory if table.path.is_some() => foreign("path", "sqlite"),
            Kind::Memory if table.cache_entries.is_some() => foreign("cache_entries", "sqlite"),
            Kind::Memory if table.cache_bytes.is_some() => foreign("cache_bytes", "sqlite"),
            Kind::Memory => Ok(Self::Memory {
                max_bytes: table.max_bytes.unwrap_or(Bytes(256 << 20)),
            }),
            Kind::Sqlite => {
                let mut settings = Self::default();
                if let Self::Sqlite {
                    path,
                    cache_entries,
                    cache_bytes,
                } = &mut settings
                {
                    *path = table.path.unwrap_or(std::mem::take(path));
                    *cache_entries = table.cache_entries.unwrap_or(*cache_entries);
                    *cache_bytes = table.cache_bytes.unwrap_or(*cache_bytes);
                }
                Ok(settings)
            }
        }
    }
}

impl From<StoreSettings> for Table {
    fn from(settings: StoreSettings) -> Self {
        match settings {
            StoreSettings::Sqlite {
                path,
                cache_entries,
                cache_bytes,
            } => Self {
                engine: Some(Kind::Sqlite),
                path: Some(path),
                cache_entries: Some(cache_entries),
                cache_bytes: Some(cache_bytes),
                ..Self::default()
            },
            StoreSettings::Memory { max_bytes } => Self {
                engine: Some(Kind::Memory),
                max_bytes: Some(max_bytes),
                ..Self::default()
            },
            StoreSettings::Postgres(settings) => Self {
                engine: Some(Kind::Postgres),
                url: Some(settings.url),
                lanes: Some(settings.lanes),
                writers: Some(settings.writers),
                revalidate: Some(settings.revalidate),
                stale_if_error: Some(settings.stale_if_error),
                gateways: Some(settings.gateways),
                debt_percent: Some(settings.debt_percent),
                cache_entries: Some(settings.cache_entries),
                cache_bytes: Some(settings.cache_bytes),
                ..Self::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://me:se/secr@et@db/x", "postgres://me:***@db/x"),
            ("postgres://me:secret@db/x?a=b", "postgres://me:***@db/x?a=b"),
            ("postgres://db/x?password=secret", "postgres://***"),
            ("postgres:///x?host=/run", "postgres:///x?host=/run"),
            ("secret", "postgres://***"),
        ] {
            let masked = PostgresSettings::new(url).masked_url("***");
            assert_eq!(masked, shown);
        }
    }
}
