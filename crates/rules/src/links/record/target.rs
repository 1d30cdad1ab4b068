//! What a redirect reads of a link, without its other fields.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use serde::Deserialize;

use super::Limits;
use crate::links::password::Password;
use crate::links::routing::{Rule, Weighted};
use crate::links::utm::Utm;
use tollgate_store::commit::{Entry, StoreError};
use tollgate_store::stored;

/// The part of a link that a redirect needs, borrowed from the entry: the hot path copies nothing.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::links) struct Target<'a> {
    #[serde(borrow)]
    pub(in crate::links) url: Cow<'a, str>,
    pub(in crate::links) redirect: u16,
    #[serde(default)]
    pub(in crate::links) limits: Limits,
    #[serde(default)]
    pub(in crate::links) forward_query: bool,
    #[serde(default)]
    pub(in crate::links) fallback_url: Option<String>,
    #[serde(default)]
    pub(in crate::links) rules: Vec<Rule>,
    #[serde(default)]
    pub(in crate::links) targets: Vec<Weighted>,
    #[serde(default)]
    pub(in crate::links) password: Option<Password>,
    #[serde(default)]
    pub(in crate::links) events: bool,
    /// In a box, since few links have them.
    #[serde(default)]
    pub(in crate::links) utm: Option<Box<Utm>>,
    pub(in crate::links) created_at: u64,
    /// Not of a plain link, which needs none.
    #[serde(borrow, default)]
    pub(in crate::links) id: Option<Cow<'a, str>>,
}

impl<'a> Target<'a> {
    /// Whether it leads everybody to its URL.
    pub(in crate::links) fn has_one_url(&self) -> bool {
        self.rules.is_empty() && self.targets.is_empty() && self.password.is_none()
    }

    /// The link's id, empty for a plain link.
    pub(in crate::links) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Reads it. One that is not plain is mostly known from the request before.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]: the record is damaged.
    pub(in crate::links) fn of(entry: &'a Entry) -> Result<Found<'a>, StoreError> {
        match Self::plain(&entry.value) {
            Some(target) => Ok(Found::Read(target)),
            None => known(entry),
        }
    }

    fn into_owned(self) -> Target<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Target {
            url: owned(self.url),
            redirect: self.redirect,
            limits: self.limits,
            forward_query: self.forward_query,
            fallback_url: self.fallback_url,
            rules: self.rules,
            targets: self.targets,
            password: self.password,
            events: self.events,
            utm: self.utm,
            created_at: self.created_at,
            id: self.id.map(owned),
        }
    }

    /// The target of a plain link, which has a URL and nothing else, as most links do. It is read off the
    /// beginning of the entry as [`super::Record::to_bytes`] writes it. The time of creation comes right after the
    /// status only where no limit, fallback or query to forward stands between them. `None` for every other
    /// text: the caller then reads it as JSON.
    pub(super) fn plain(value: &'a [u8]) -> Option<Self> {
        let rest = value.strip_prefix(br#"{"url":""#)?;
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | ..=b' '))?;
        let (url, rest) = rest.split_at_checked(end)?;
        let rest = rest.strip_prefix(br#"","redirect":"#)?;
        let (redirect, rest) = digits(rest)?;
        let rest = rest.strip_prefix(br#","createdAt":"#)?;
        let (created_at, rest) = digits(rest)?;
        rest.strip_prefix(br#","updatedAt":"#)?;
        Some(Self {
            url: Cow::Borrowed(std::str::from_utf8(url).ok()?),
            redirect: u16::try_from(redirect).ok()?,
            limits: Limits::default(),
            forward_query: false,
            fallback_url: None,
            rules: Vec::new(),
            targets: Vec::new(),
            password: None,
            events: false,
            utm: None,
            created_at,
            id: None,
        })
    }
}

/// A target, of an entry or from before.
#[derive(Debug)]
pub(in crate::links) enum Found<'a> {
    /// Just read.
    Read(Target<'a>),
    /// The same record was read before.
    Known(Rc<Target<'static>>),
}

impl<'a> Deref for Found<'a> {
    type Target = Target<'a>;

    fn deref(&self) -> &Target<'a> {
        match self {
            Self::Read(target) => target,
            Self::Known(target) => target,
        }
    }
}

/// Records that were read, and what is in them: at most one for each of so many versions, modulo that.
const KNOWN: usize = 64;
/// The largest of them, in bytes. Others are read each time.
const MAX_KNOWN: usize = 4 << 10;

thread_local! {
    /// To read JSON takes longer than all else of a redirect. The whole record is compared, so that this never says anything else
    /// than reading it would.
    static MEMORY: RefCell<[Option<(Box<[u8]>, Rc<Target<'static>>)>; KNOWN]> =
        const { RefCell::new([const { None }; KNOWN]) };
}

fn known<'a>(entry: &'a Entry) -> Result<Found<'a>, StoreError> {
    if entry.value.len() > MAX_KNOWN {
        return stored::decode("link", entry).map(Found::Read);
    }
    MEMORY.with_borrow_mut(|memory| {
        // The remainder is below KNOWN.
        let slot = &mut memory[(entry.version % KNOWN as u64) as usize];
        if let Some((_, target)) = slot.as_ref().filter(|(value, _)| same(value, &entry.value)) {
            return Ok(Found::Known(Rc::clone(target)));
        }
        let target: Target<'a> = stored::decode("link", entry)?;
        let target = Rc::new(target.into_owned());
        *slot = Some((entry.value.as_slice().into(), Rc::clone(&target)));
        Ok(Found::Known(target))
    })
}

/// Whether both are the same. In WebAssembly, `==` looks at one byte after the other.
fn same(one: &[u8], other: &[u8]) -> bool {
    let (ones, rest) = one.as_chunks::<16>();
    let (others, other_rest) = other.as_chunks::<16>();
    let mut pairs = ones.iter().zip(others);
    one.len() == other.len()
        && pairs.all(|(one, other)| u128::from_ne_bytes(*one) == u128::from_ne_bytes(*other))
        && rest == other_rest
}

/// The number that a text begins with, of at most 19 digits, and what follows it.
fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(end)?;
    let canonical = (1..20).contains(&end) && (end == 1 || !digits.starts_with(b"0"));
    if !canonical {
        return None;
    }
    // Unchecked, which in WebAssembly is a call less for each digit: 19 of them fit.
    let number = digits.iter().fold(0_u64, |n, digit| {
        n.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
    });
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_same_in_all_their_bytes_alone() {
        let text: Vec<u8> = (0..=255).collect();
        for len in [0, 1, 15, 16, 17, 32, 40, 256] {
            let text = &text[..len];
            assert!(same(text, &text.to_vec()));
            for index in 0..len {
                let mut other = text.to_vec();
                other[index] ^= 1;
                assert!(!same(text, &other), "{len} {index}");
            }
            assert!(!same(text, &[text, b"x"].concat()) && !same(&[text, b"x"].concat(), text));
        }
    }
}
