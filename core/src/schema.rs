//! The tables of a database in SQLite. The native engine and the store component for Spin share them, so that a file
//! moves between the two.

/// The tables, in SQL. No statement ends inside a line, and none but their ends end a line with `;`.
pub const SQL: &str = include_str!("schema.sql");
/// The schema's version, in `meta` and `PRAGMA user_version`.
pub const VERSION: i64 = 1;
/// The same while the native engine has the database: it alone may write, since it keeps in memory what it has read, and
/// the table `journal` may hold what `entries` does not. It sets it back when it is closed; a process that was killed does not,
/// and only the native engine may open what it left.
pub const IN_USE: i64 = 2;
/// `PRAGMA application_id` of our files: "Toll".
pub const APPLICATION_ID: i64 = 0x546f_6c6c;
