//! The tables of a database in SQLite. The native engine and the store component for Spin share them, so that a file
//! moves between the two.

/// The tables, in SQL. No statement ends inside a line, and none but their ends end a line with `;`.
pub const SQL: &str = include_str!("schema.sql");
/// The schema's version, in `meta` and `PRAGMA user_version`.
pub const VERSION: i64 = 1;
/// The version while the native engine has the database. The engine alone may write then, since it keeps in
/// memory what it has read. The table `journal` may hold what `entries` does not. The engine sets the version
/// back when it is closed; a process that was killed does not, and only the native engine may open what it
/// left.
pub const IN_USE: i64 = 2;
/// `PRAGMA application_id` of our files: "Toll".
pub const APPLICATION_ID: i64 = 0x546f_6c6c;

/// What a message `m` takes on disk: [`crate::commit::weight`] in SQL.
pub const WEIGHT: &str = "(512 + octet_length(m.topic) + octet_length(m.id) + octet_length(m.key) + octet_length(m.type) \
    + octet_length(m.content_type) + octet_length(m.attributes) + octet_length(m.payload))";
/// Whether `messages` has its column `attributes`: a database of the version before has not.
pub const HAS_ATTRIBUTES: &str =
    "SELECT count(*) FROM pragma_table_info('messages') WHERE name = 'attributes'";
/// Makes that column.
pub const ADD_ATTRIBUTES: &str = "ALTER TABLE messages ADD COLUMN attributes BLOB NOT NULL DEFAULT x''";
/// Remembers that `topics.bytes` are weights.
pub const WEIGHED: &str = "INSERT OR IGNORE INTO meta (name, value) VALUES ('weighed', 1)";

/// Weighs what topics keep, where it was not done: before, `topics.bytes` were those of payloads. May be repeated.
pub fn weigh() -> String {
    format!(
        "UPDATE topics SET bytes = (SELECT coalesce(sum({WEIGHT}), 0) FROM messages AS m WHERE m.topic = topics.name)
         WHERE NOT EXISTS (SELECT 1 FROM meta WHERE name = 'weighed')"
    )
}
