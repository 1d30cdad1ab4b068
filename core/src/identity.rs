//! Who is calling: the client that limits count by, and the user that campaigns count by.

use crate::commit::StoreError;
use crate::http::Request;
use crate::config::Config;
use crate::ports::Store;

/// A client id, namespaced by kind so that one kind cannot impersonate another: `key:<id>`, `id:<header value>`,
/// `ip:<address or /64>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(String);

impl ClientId {
    /// With its namespace.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The address that the request came from, as a bucket key: trusted proxies resolved, IPv6 cut to its /64.
pub fn client_ip(config: &Config, request: &Request) -> String {
    let _ = config;
    request.peer.clone() // HELPER: to be written
}

/// The value of the configured client header, if it is 1 to 128 visible ASCII characters.
pub fn named_client<'a>(config: &Config, request: &'a Request) -> Option<&'a str> {
    let _ = (config, request);
    None // HELPER: to be written
}

/// What the limiter counts by: a valid API key, else the client header, else the address.
pub async fn client<S: Store>(store: &S, config: &Config, request: &Request, now: u64) -> Result<ClientId, StoreError> {
    let _ = (store, now);
    Ok(ClientId(format!("ip:{}", client_ip(config, request)))) // HELPER: to be written
}

/// The user that a coupon counts by: the configured user header, 1 to 128 visible ASCII characters.
pub fn user<'a>(config: &Config, request: &'a Request) -> Option<&'a str> {
    let _ = (config, request);
    None // HELPER: to be written
}
