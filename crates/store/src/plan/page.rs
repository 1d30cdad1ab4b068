//! The bounds of pages: what `scan`, `read` and `topics` answer at once.

use crate::commit::{Item, MAX_GET_KEYS, MAX_PAGE, MAX_PAGE_BYTES, Message, StoreError};

/// The number of items that a call asking for `limit` gets at most. At least one: a page of nothing would never
/// end a listing.
pub fn limit(limit: u32) -> u32 {
    limit.clamp(1, MAX_PAGE)
}

/// `Invalid` when a `get` asks for more keys than it may.
pub fn check_get(keys: &[String]) -> Result<(), StoreError> {
    if keys.len() > MAX_GET_KEYS {
        return Err(StoreError::Invalid(format!(
            "a get takes at most {MAX_GET_KEYS} keys, not {}",
            keys.len()
        )));
    }
    Ok(())
}

/// The bytes that an entry counts towards a page.
pub fn item_bytes(item: &Item) -> usize {
    item.key.len() + item.entry.value.len()
}

/// The bytes that a message counts towards a page.
pub fn message_bytes(message: &Message) -> usize {
    message.id.len()
        + message.key.len()
        + message.kind.len()
        + message.content_type.len()
        + message.attributes.len()
        + message.payload.len()
}

/// Collects a page: at most `limit` items and [`MAX_PAGE_BYTES`], and always the first item.
#[derive(Debug)]
pub struct Page<T> {
    items: Vec<T>,
    limit: usize,
    bytes: usize,
}

impl<T> Page<T> {
    /// An empty page; `limit` is brought within its bounds.
    pub fn new(limit: u32) -> Self {
        Self {
            items: Vec::new(),
            limit: self::limit(limit) as usize,
            bytes: 0,
        }
    }

    /// Takes the item if it fits; `false` once the page is full.
    pub fn push(&mut self, item: T, bytes: usize) -> bool {
        let full = self.items.len() >= self.limit || self.bytes.saturating_add(bytes) > MAX_PAGE_BYTES;
        if full && !self.items.is_empty() {
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.items.push(item);
        true
    }

    /// What was collected.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

/// The least text greater than every text that begins with `prefix`; `None` if there is none. UTF-8 sorts by its
/// bytes as it does by code points, so the last character that has a successor is raised by one.
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // Surrogates are no characters: the successor of U+D7FF is U+E000.
        let next = if last == '\u{D7FF}' {
            Some('\u{E000}')
        } else {
            char::from_u32(last as u32 + 1)
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(prefix_end("a/").as_deref(), Some("a0"));
        assert_eq!(prefix_end("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(prefix_end("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(prefix_end("\u{10FFFF}"), None);
        assert_eq!(prefix_end(""), None);
    }

    #[test]
    fn a_page_ends_at_its_count_or_bytes_but_never_before_the_first_item() {
        let mut page = Page::new(2);
        assert!(page.push(1, MAX_PAGE_BYTES + 1));
        assert!(!page.push(2, 1));
        let mut page = Page::new(2);
        assert!(page.push(1, 0) && page.push(2, 0) && !page.push(3, 0));
        let mut page = Page::new(0);
        assert!(page.push(1, 0) && !page.push(2, 0));
        let mut page = Page::new(9);
        assert!(page.push(1, MAX_PAGE_BYTES) && !page.push(2, 1) && page.push(3, 0));
    }
}
