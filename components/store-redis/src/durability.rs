//! Whether this Redis keeps what the store promises: acknowledged means synced, and nothing is removed that nobody removed.

use crate::database::Database;
use crate::reply::Reply;
use crate::script::SAID;

/// What is not as it should be is said once in this time, by one of all instances, seconds.
const SAY_EVERY: &str = "600";

/// What is not as it should be, in one line: to be said loudly. `None`: all is well, or it was said a short while ago.
pub async fn complaint<D: Database>(database: &D) -> Option<String> {
    let complaint = find(database).await?;
    let said = [SAID, "1", "NX", "EX", SAY_EVERY].map(|word| word.as_bytes().to_vec());
    match database.execute("SET", &said).await {
        Ok(replies) if replies == [Reply::Nil] || replies.is_empty() => None,
        _ => Some(complaint),
    }
}

async fn find<D: Database>(database: &D) -> Option<String> {
    let ask = async |what: &str| {
        let asked = ["GET", what].map(|word| word.as_bytes().to_vec());
        let replies = database.execute("CONFIG", &asked).await.ok()?;
        replies.into_iter().nth(1).and_then(|reply| match reply {
            Reply::Bytes(value) => String::from_utf8(value).ok(),
            _ => None,
        })
    };
    let (appendonly, appendfsync, policy) = (
        ask("appendonly").await,
        ask("appendfsync").await,
        ask("maxmemory-policy").await,
    );
    judge(appendonly.as_deref(), appendfsync.as_deref(), policy.as_deref())
}

fn judge(appendonly: Option<&str>, appendfsync: Option<&str>, policy: Option<&str>) -> Option<String> {
    let (Some(appendonly), Some(appendfsync), Some(policy)) = (appendonly, appendfsync, policy) else {
        return Some(
            "this Redis does not tell how it is configured (CONFIG GET). What is acknowledged survives a crash only with \
             appendonly yes and appendfsync always, and nothing is lost for want of memory only with maxmemory-policy noeviction"
                .to_owned(),
        );
    };
    let mut wrong = Vec::new();
    if appendonly != "yes" {
        wrong.push(
            "appendonly is not yes, so a crash of Redis loses what was acknowledged since its last snapshot"
                .to_owned(),
        );
    } else if appendfsync != "always" {
        wrong.push(format!(
            "appendfsync is {appendfsync}, so a power cut loses what was acknowledged within its last moments"
        ));
    }
    if policy.starts_with("allkeys") {
        wrong.push(format!(
            "maxmemory-policy is {policy}, so Redis removes state where memory is short: set it to noeviction"
        ));
    }
    let wrong = wrong.join("; ");
    (!wrong.is_empty()).then(|| format!("this Redis does not keep what Tollgate promises: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_named() {
        let said = |a, f, p| judge(Some(a), Some(f), Some(p)).unwrap_or_default();
        assert_eq!(said("yes", "always", "noeviction"), "");
        assert_eq!(
            said("yes", "always", "volatile-lru"),
            "",
            "no key of the state has a time to live"
        );
        assert!(said("no", "everysec", "noeviction").contains("appendonly is not yes"));
        assert!(said("yes", "everysec", "noeviction").contains("appendfsync is everysec"));
        assert!(said("yes", "always", "allkeys-lru").contains("allkeys-lru"));
        assert!(judge(None, None, None).unwrap_or_default().contains("CONFIG GET"));
    }
}
