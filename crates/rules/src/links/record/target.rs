//! What a redirect reads of a link, without its other fields.

use std::borrow::Cow;

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

    pub(in crate::links) fn of(entry: &'a Entry) -> Result<Self, StoreError> {
        match Self::plain(&entry.value) {
            Some(target) => Ok(target),
            None => stored::decode("link", entry),
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
