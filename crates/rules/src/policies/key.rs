//! The keys of buckets: a policy's name and the parts that it counts by, bounded, and unlike any other's.

use sha2::{Digest as _, Sha256};

use tollgate_api::ids::hex;

/// The longest part of a bucket's key that is not hashed, in bytes. A client id with its namespace fits.
pub(super) const MAX_PART_BYTES: usize = 136;
/// Bytes of SHA-256 that stand for a longer part, or for the value of a header.
const PART_HASH_BYTES: usize = 16;

/// The hash of a header's value, in hexadecimal: what it holds may be a secret, and is in no key.
pub(super) fn hash(value: &[u8]) -> String {
    let hash = Sha256::digest(value);
    hex(hash.get(..PART_HASH_BYTES).unwrap_or(&hash))
}

/// The policy of a bucket's key, and the parts that it counts by: `key:<id>`, `id:<name>` or `ip:<address>` for a client,
/// `user:<id>` for a user, `header:<hash>` for a header's value, then an address, then a path, which begins with `/`; a space and a
/// hash in place of what is long.
pub fn parts(key: &str) -> (&str, Vec<String>) {
    let (mut rest, path) = match key.split_once("|/") {
        Some((rest, path)) => (rest, Some(["/", path].concat())),
        None => (key, None),
    };
    let mut parts = Vec::new();
    while let Some((before, last)) = rest.rsplit_once('|') {
        parts.push(last.replace("%7C", "|").replace("%25", "%"));
        rest = before;
    }
    parts.reverse();
    parts.extend(path);
    (rest, parts)
}

/// Appends `|` and a part in which no `|` is left, so that no two lists of parts make the same key.
pub(super) fn push_part(key: &mut String, part: &str) {
    key.push('|');
    if part.bytes().any(|byte| matches!(byte, b'|' | b'%')) {
        push_bounded(key, &part.replace('%', "%25").replace('|', "%7C"));
    } else {
        push_bounded(key, part);
    }
}

/// Appends a path, as [`tollgate_api::pattern::unreserved`] writes it.
pub(super) fn push_path(key: &mut String, path: &str) {
    // As in routes: slashes at the ends are no way to another bucket.
    key.push_str("|/");
    push_bounded(key, path.trim_matches('/'));
}

/// Appends a text, or its hash where it is long: keys are bounded.
fn push_bounded(key: &mut String, text: &str) {
    if text.len() <= MAX_PART_BYTES {
        key.push_str(text);
        return;
    }
    // A space: no path and no client id has one, so no short text looks like a hash.
    key.push(' ');
    key.push_str(&hash(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_in_the_parts_that_it_was_made_of() {
        let long = "x".repeat(MAX_PART_BYTES + 1);
        for (clients, path) in [
            (&["id:ann"][..], None),
            (&["id:a|b%7Cc", "2001:db8::/64"], Some("/api/links")),
            (&[], Some("/a|b|/c")),
            (&[], None),
        ] {
            let mut key = "default".to_owned();
            clients.iter().for_each(|part| push_part(&mut key, part));
            key.extend(path);
            let key = key
                .replacen("default/", "default|/", 1)
                .replacen("/64/api", "/64|/api", 1);
            let whole: Vec<&str> = clients.iter().copied().chain(path).collect();
            assert_eq!(
                parts(&key),
                ("default", whole.iter().map(|part| (*part).to_owned()).collect())
            );
        }
        let mut key = "default".to_owned();
        push_part(&mut key, &long);
        let (_, found) = parts(&key);
        assert!(found[0].starts_with(' ') && found.len() == 1, "{found:?}");
    }
}
