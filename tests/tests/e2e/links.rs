use crate::harness::{Gateway, Host};
pub async fn created_link_redirects(host: Host) { let g = Gateway::shared(host).await; g.get("/health/live").send().await.expect(200); }
