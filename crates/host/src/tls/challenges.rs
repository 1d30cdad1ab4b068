//! What proves to an ACME authority that names are ours, while an order is under way: a handshake with a certificate of its own
//! (RFC 8737), or a text at a path (RFC 8555, section 8.3). Empty at all other times.

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::server::ClientHello;
use std::collections::HashMap;
use std::sync::Arc;

/// The protocol by which an authority asks for the handshake. Nothing is spoken above it.
pub const ACME_TLS: &[u8] = b"acme-tls/1";
/// Where it asks for the text.
const PATH: &str = "/.well-known/acme-challenge/";

/// The answers for the names of one order: at most [`tollgate_rules::config::MAX_DOMAINS`].
#[derive(Debug, Default)]
pub struct Challenges(ArcSwapOption<Answers>);

/// The answers.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The configuration of the handshake, by name.
    pub handshakes: HashMap<String, Arc<ServerConfig>>,
    /// The text, by token.
    pub texts: HashMap<String, String>,
}

impl Challenges {
    /// These are the answers from now on.
    pub fn set(&self, answers: Answers) {
        self.0.store(Some(Arc::new(answers)));
    }

    /// There are none any more.
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// What to shake hands with, if this client is an authority that asks for the proof.
    pub fn handshake(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let answers = self.0.load();
        let answers = answers.as_deref()?;
        // It offers this protocol, and no other (RFC 8737, section 4).
        let mut offered = hello.alpn()?;
        let asks = offered.next() == Some(ACME_TLS) && offered.next().is_none();
        let name = hello.server_name().filter(|_| asks)?;
        answers.handshakes.get(name).cloned()
    }

    /// The text at this path.
    pub fn text(&self, path: &str) -> Option<String> {
        let answers = self.0.load();
        let token = path.strip_prefix(PATH)?;
        answers.as_deref()?.texts.get(token).cloned()
    }
}
