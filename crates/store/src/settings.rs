//! `[store]`: which engine keeps everything.

use serde::{Deserialize, Serialize};

use tollgate_api::units::Bytes;

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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Sqlite,
    Memory,
}

/// The table as it is written: each engine has settings of its own.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    engine: Kind,
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
        match table.engine {
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
                path: Some(path),
                cache_entries: Some(cache_entries),
                cache_bytes: Some(cache_bytes),
                ..Self::default()
            },
            StoreSettings::Memory { max_bytes } => Self {
                engine: Kind::Memory,
                max_bytes: Some(max_bytes),
                ..Self::default()
            },
        }
    }
}
