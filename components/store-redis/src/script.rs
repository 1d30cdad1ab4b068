//! All scripts. Each declares every key that it touches, and all keys share one hash tag, so that a Redis Cluster has them on one node.

use std::sync::LazyLock;

use sha1::{Digest as _, Sha1};

/// The keys of the store, in the order of `lua/prelude.lua`.
const STORE: [&str; 9] = [
    "{tollgate}:meta",
    "{tollgate}:entries",
    "{tollgate}:keys",
    "{tollgate}:expiries",
    "{tollgate}:ids",
    "{tollgate}:forgets",
    "{tollgate}:topics",
    "{tollgate}:extents",
    "{tollgate}:messages",
];
/// The keys of token buckets.
const BUCKETS: [&str; 2] = ["{tollgate}:buckets", "{tollgate}:fulls"];
/// Remembers for a while that something was said; see [`crate::durability`].
pub const SAID: &str = "{tollgate}:said";

/// A script.
#[derive(Debug)]
pub struct Script {
    text: String,
    digest: String,
    keys: &'static [&'static str],
}

impl Script {
    fn of_store(text: &str) -> Self {
        Self::new([include_str!("lua/prelude.lua"), text].concat(), &STORE)
    }

    fn new(text: String, keys: &'static [&'static str]) -> Self {
        let digest = Sha1::digest(&text);
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, digest, keys }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What follows `EVALSHA`.
    pub fn call(&self, arguments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut call = Vec::with_capacity(2 + self.keys.len() + arguments.len());
        call.push(self.digest.clone().into_bytes());
        call.push(self.keys.len().to_string().into_bytes());
        call.extend(self.keys.iter().map(|key| key.as_bytes().to_vec()));
        call.extend(arguments);
        call
    }
}

macro_rules! scripts {
    ($($name:ident: $make:ident($file:literal $(, $keys:expr)?);)*) => {
        $(
            #[doc = concat!("`lua/", $file, ".lua`, where it says what it is given and what it answers.")]
            pub static $name: LazyLock<Script> =
                LazyLock::new(|| Script::$make(include_str!(concat!("lua/", $file, ".lua")).into() $(, $keys)?));
        )*
    };
}

scripts! {
    COMMIT: of_store("commit");
    GET: of_store("get");
    SCAN: of_store("scan");
    READ: of_store("read");
    TOPICS: of_store("topics");
    OLDEST: of_store("oldest");
    TRIM: of_store("trim");
    DELETED: of_store("deleted");
    EXPIRE: of_store("expire");
    TAKE: new("take", &BUCKETS);
}
