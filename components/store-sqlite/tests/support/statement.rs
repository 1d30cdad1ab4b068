//! A statement of Spin's SQLite, by rusqlite. The fuzz target of the SQL batch runs on it too.

use rusqlite::types::Value as Sql;
use tollgate_store_sqlite::database::{Each, Failure, Row, Value};

fn failure(error: rusqlite::Error) -> Failure {
    Failure::from_message(error.to_string())
}

/// Runs it to its end, or until `each` has enough.
pub fn execute(
    connection: &rusqlite::Connection,
    sql: &str,
    parameters: Vec<Value>,
    each: Each<'_>,
) -> Result<(), Failure> {
    let parameters = parameters.into_iter().map(|value| match value {
        Value::Null => Sql::Null,
        Value::Integer(number) => Sql::Integer(number),
        Value::Text(text) => Sql::Text(text),
        Value::Blob(bytes) => Sql::Blob(bytes),
    });
    let mut statement = connection.prepare_cached(sql).map_err(failure)?;
    let columns = statement.column_count();
    let mut rows = statement
        .query(rusqlite::params_from_iter(parameters))
        .map_err(failure)?;
    while let Some(row) = rows.next().map_err(failure)? {
        let value = |column| match row.get(column).unwrap() {
            Sql::Null => Value::Null,
            Sql::Integer(number) => Value::Integer(number),
            Sql::Text(text) => Value::Text(text),
            Sql::Blob(bytes) => Value::Blob(bytes),
            Sql::Real(real) => panic!("no column of ours is real: {real}"),
        };
        if !each(Row((0..columns).map(value).collect()))? {
            break;
        }
    }
    Ok(())
}
