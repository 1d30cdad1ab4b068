//! The tables, made by whoever comes first.

use std::time::Duration;

use tokio_postgres::Client;

/// The tables, in SQL.
pub const SQL: &str = include_str!("schema.sql");
/// Their version.
pub const VERSION: i64 = 1;
/// How often it is tried again while others make the same tables.
const TRIES: u32 = 20;

/// Why the tables cannot be used.
pub enum Fault {
    /// The database says no.
    Database(tokio_postgres::Error),
    /// They are of another version or shape.
    Unfit(String),
}

/// Makes the tables that are missing, in one transaction. Several gateways may start at once.
pub async fn make(client: &Client, lanes: u32) -> Result<(), Fault> {
    let mut tries = 0;
    loop {
        let made = create(client, lanes).await;
        let Err(error) = made else { break };
        _ = client.batch_execute("ROLLBACK").await;
        tries += 1;
        // Two transactions that make the same table: one of them fails, whatever `IF NOT EXISTS` says.
        let code = error
            .code()
            .map(|code| code.code().to_owned())
            .unwrap_or_default();
        let raced = ["23505", "42P07", "42710", "40001", "40P01", "55P03", "XX000"].contains(&code.as_str());
        if !raced || tries > TRIES {
            return Err(Fault::Database(error));
        }
        tokio::time::sleep(Duration::from_millis(20 * u64::from(tries))).await;
    }
    let rows = client.query("SELECT name, value FROM tollgate_meta", &[]).await;
    for row in rows.map_err(Fault::Database)? {
        let (name, value): (String, i64) = (row.get(0), row.get(1));
        match name.as_str() {
            "schema" if value != VERSION => {
                return Err(Fault::Unfit(format!(
                    "its tables have version {value}, this Tollgate knows {VERSION}; use the other Tollgate"
                )));
            }
            "lanes" if value != i64::from(lanes) => {
                return Err(Fault::Unfit(format!(
                    "its tables were made with {value} lanes, not {lanes}; set store.lanes = {value}"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn create(client: &Client, lanes: u32) -> Result<(), tokio_postgres::Error> {
    let there = "SELECT to_regclass('tollgate_writers') IS NOT NULL
                 AND to_regclass('tollgate_idempotence_by_expiry') IS NOT NULL
                 AND to_regclass('tollgate_reports') IS NOT NULL";
    let is_there: bool = client.query_one(there, &[]).await?.get(0);
    // Whoever made the tables from what `tollgate schema` prints has left them empty.
    if is_there && !client.query("SELECT 1 FROM tollgate_meta", &[]).await?.is_empty() {
        return Ok(());
    }
    client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        .await?;
    if !is_there {
        client.batch_execute(SQL).await?;
    }
    let lanes = i32::try_from(lanes).unwrap_or(i32::MAX);
    client
        .execute(
            "INSERT INTO tollgate_lanes (lane, revision, now)
             SELECT n, n, 0 FROM generate_series(0, $1::integer - 1) AS n ON CONFLICT DO NOTHING",
            &[&lanes],
        )
        .await?;
    client
        .execute(
            "INSERT INTO tollgate_meta (name, value) VALUES ('schema', $1::bigint), ('lanes', $2::bigint) ON CONFLICT DO NOTHING",
            &[&VERSION, &i64::from(lanes)],
        )
        .await?;
    client.batch_execute("COMMIT").await
}
