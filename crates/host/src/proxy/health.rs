//! Health checks: `GET` of a path, at every address of every origin that asks for it.

use super::origin::Origin;
use crate::server::generation::Current;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_delivery::driver::OperatorClient;

/// How often it is looked which checks are due.
const TICK: Duration = Duration::from_millis(250);
/// Checks under way at once; others come with the next tick.
const MAX_CHECKS: usize = 256;

/// Checks the origins in force, for as long as it is polled.
pub async fn run(current: Current) {
    let mut client = None;
    let mut due: HashMap<(u64, usize), Instant> = HashMap::new();
    let mut checks = JoinSet::new();
    loop {
        tokio::time::sleep(TICK).await;
        while checks.try_join_next().is_some() {}
        let Some(origins) = current.get().origins.clone() else {
            due.clear();
            continue;
        };
        let all = origins.all();
        due.retain(|(number, _), _| all.iter().any(|origin| origin.number() == *number));
        let now = Instant::now();
        for origin in all {
            let Some(health) = &origin.settings().health else {
                continue;
            };
            for index in 0..origin.addresses().len() {
                let at = due.entry((origin.number(), index)).or_insert(now);
                if *at > now || checks.len() >= MAX_CHECKS {
                    continue;
                }
                *at = now + Duration::from(health.every);
                let client = Arc::clone(client.get_or_insert_with(|| Arc::new(OperatorClient::new())));
                checks.spawn(check(client, Arc::clone(origin), index));
            }
        }
    }
}

async fn check(client: Arc<OperatorClient>, origin: Arc<Origin>, index: usize) {
    let settings = origin.settings();
    let (Some(health), Some(address)) = (&settings.health, origin.addresses().get(index)) else {
        return;
    };
    let url = [address.url.trim_end_matches('/'), &health.path].concat();
    let request = http::Request::get(url)
        .header(
            http::header::USER_AGENT,
            concat!("tollgate/", env!("CARGO_PKG_VERSION")),
        )
        .body(Bytes::new());
    let Ok(request) = request else { return };
    let answered = client.send(request, health.timeout.into()).await;
    let (passed, why) = match &answered {
        Ok(answer) => (answer.status().is_success(), answer.status().to_string()),
        Err(why) => (false, why.clone()),
    };
    let (name, url) = (&settings.name, &address.url);
    match address.checked(passed, health.fall, health.rise) {
        Some(true) => tracing::info!(origin = name, url, "an address of an origin is well again"),
        Some(false) => tracing::warn!(origin = name, url, why, "an address of an origin is not well"),
        None => {}
    }
}
