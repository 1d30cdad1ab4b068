//! stub
use std::sync::Arc;
/// r
pub struct Relay;
impl Relay {
/// s
pub fn start<S>(_: Arc<S>, _: &tollgate_core::config::Config) -> Result<Self, std::io::Error> { Ok(Self) }
/// s
pub async fn shutdown(self, _: std::time::Duration) {}
}
