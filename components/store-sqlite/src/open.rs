//! Prepares a new connection for use.

use tollgate_store::schema;

use crate::database::{Connection, Failure, Purpose, Row, Value};
use crate::sql;

/// The refusal of a database that the native gateway has open, or had open when it was killed. It keeps data
/// in memory and in its journal that the tables do not hold.
pub const IN_USE: &str = "the gateway `tollgate serve` uses this database: stop it there; or it was not stopped in order: \
                          start it there once more and stop it";

/// The refusal of a database in memory: Spin gives each connection one of its own, so that no instance would know what another has
/// acknowledged, and an end of the process would lose all of it.
pub const IN_MEMORY: &str = "Spin keeps this SQLite in memory, apart for each instance, so nothing is served from it: start with \
                             `spin up --state-dir DIRECTORY`, or give `[sqlite_database.default]` a path in the runtime configuration";

/// Sets the connection up and makes the tables where they are missing. May be repeated, and be done by many at once.
pub async fn prepare<C: Connection>(connection: &C, purpose: Purpose) -> Result<(), Failure> {
    let mut ignore = |_: Row| Ok(true);
    let synchronous = match purpose {
        Purpose::Durable => sql::DURABLE,
        Purpose::Relaxed => sql::RELAXED,
    };
    for pragma in sql::PRAGMAS.into_iter().chain([synchronous]) {
        let done = connection.execute(pragma, Vec::new(), &mut ignore).await;
        // Other failures: a backend without such a setting (libSQL) has its own durability, and SQLite's default is FULL.
        if let Err(failure @ Failure::Busy(_)) = done {
            return Err(failure);
        }
    }
    if number(connection, sql::IS_READY).await? == Some(0) {
        // A backend that does not tell (libSQL) has a file.
        if number(connection, sql::IS_IN_MEMORY).await == Ok(Some(1)) {
            return Err(Failure::NotDone(IN_MEMORY.to_owned()));
        }
        // The tables first, then what the version before did not have of them, then what needs it.
        for statement in sql::tables() {
            connection.execute(&statement, Vec::new(), &mut ignore).await?;
        }
        if number(connection, schema::HAS_ATTRIBUTES).await? == Some(0) {
            let added = connection
                .execute(schema::ADD_ATTRIBUTES, Vec::new(), &mut ignore)
                .await;
            // Another instance may have been faster.
            if number(connection, schema::HAS_ATTRIBUTES).await? == Some(0) {
                added?;
            }
        }
        for statement in sql::creation() {
            connection.execute(&statement, Vec::new(), &mut ignore).await?;
        }
    }
    match number(connection, sql::SCHEMA_VERSION).await? {
        Some(schema::VERSION) => Ok(()),
        Some(schema::IN_USE) => Err(Failure::NotDone(IN_USE.to_owned())),
        found => Err(Failure::NotDone(format!(
            "the database's tables have version {found:?}, this component knows {}",
            schema::VERSION
        ))),
    }
}

async fn number<C: Connection>(connection: &C, sql: &str) -> Result<Option<i64>, Failure> {
    let mut found = None;
    let mut keep = |row: Row| {
        if let Some(Value::Integer(number)) = row.0.first() {
            found = Some(*number);
        }
        Ok(true)
    };
    connection.execute(sql, Vec::new(), &mut keep).await?;
    Ok(found)
}
