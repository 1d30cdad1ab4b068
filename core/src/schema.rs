//! The tables of a database in SQLite. The native engine and the store component for Spin share them, so that a file
//! moves between the two.

/// The tables, in SQL. No statement ends inside a line, and none but their ends end a line with `;`.
pub const SQL: &str = include_str!("schema.sql");
/// The schema's version, in `meta` and `PRAGMA user_version`.
pub const VERSION: i64 = 1;
/// The same while the table `journal` holds anything, which only the native engine reads. It sets it back when it has
/// written all of it into `entries`: when nothing is asked of it for a second, and when it is closed.
pub const WITH_JOURNAL: i64 = 2;
/// `PRAGMA application_id` of our files: "Toll".
pub const APPLICATION_ID: i64 = 0x546f_6c6c;
