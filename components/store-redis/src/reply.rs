//! The replies of scripts: flat lists.

use crate::database::Failure;

/// One value of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A word, such as `OK`.
    Status(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The values of a reply, in turn.
#[derive(Debug)]
pub struct Replies(std::vec::IntoIter<Reply>);

impl Replies {
    /// Of what Redis answered.
    pub fn new(replies: Vec<Reply>) -> Self {
        Self(replies.into_iter())
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Bytes.
    ///
    /// # Errors
    /// [`Failure::Unexpected`], as of all of these: something else comes next.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Failure> {
        match self.0.next() {
            Some(Reply::Bytes(bytes)) => Ok(bytes),
            _ => Err(unexpected()),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// See [`Replies::bytes`].
    pub fn text(&mut self) -> Result<String, Failure> {
        String::from_utf8(self.bytes()?).map_err(|_| unexpected())
    }

    /// A number, in decimal or as Redis has it.
    ///
    /// # Errors
    /// See [`Replies::bytes`].
    pub fn number(&mut self) -> Result<u64, Failure> {
        self.optional_number()?.ok_or_else(unexpected)
    }

    /// The same; an empty text is none.
    ///
    /// # Errors
    /// See [`Replies::bytes`].
    pub fn optional_number(&mut self) -> Result<Option<u64>, Failure> {
        match self.0.next() {
            Some(Reply::Integer(number)) => u64::try_from(number).map(Some).map_err(|_| unexpected()),
            Some(Reply::Bytes(text)) if text.is_empty() => Ok(None),
            Some(Reply::Bytes(text)) => parse(&text).map(Some).ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// A number with its sign, in decimal.
    ///
    /// # Errors
    /// See [`Replies::bytes`].
    pub fn signed(&mut self) -> Result<i64, Failure> {
        parse(&self.bytes()?).ok_or_else(unexpected)
    }
}

/// A decimal.
pub fn parse<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The failure of an answer that is not what it should be.
pub fn unexpected() -> Failure {
    Failure::Unexpected("Redis answered something unexpected".to_owned())
}
