//! The bounds of settings, by number and length, that other modules use too.

/// The most `[[limits]]`: all of them may match one request.
pub const MAX_LIMITS: usize = tollgate_store::bucket::MAX_BUCKETS;
/// The most `[[limits]]` with a `domain`.
pub const MAX_DESCRIBED: usize = 64;
/// The most `[[quotas]]`: all of them may match one request.
pub const MAX_QUOTAS: usize = 16;
/// The largest `limit` of one of them.
pub const MAX_QUOTA: u64 = 1_000_000_000_000;
/// The most `[[concurrency]]`: all of them may match one request.
pub const MAX_CONCURRENCY: usize = 16;
/// The largest `max` of one of them.
pub const MAX_AT_ONCE: u32 = 1_000_000;
/// The most `[[access]]`.
pub const MAX_ACCESS: usize = 64;
/// The most patterns of `check` in `[users.jwt]`.
pub const MAX_JWT_CHECKS: usize = 32;
/// The most `cidrs`, `clients` or `users` of one of them.
pub const MAX_ACCESS_ENTRIES: usize = 256;
/// Hosts with short links of their own, beside that of `server.public_url`.
pub const MAX_LINK_DOMAINS: usize = 64;
/// The most `[[rooms]]`. Over the API there may be more.
pub const MAX_ROOMS: usize = 64;
/// The most `[[challenges]]`: each is compared with every request.
pub const MAX_CHALLENGES: usize = 16;
/// The most `[[forward]]`.
pub const MAX_FORWARDS: usize = 64;
/// The most `[[origins]]`.
pub const MAX_PROXIED_ORIGINS: usize = 64;
/// The most URLs of one of them.
pub const MAX_ORIGIN_URLS: usize = 16;
/// The most `[[proxy]]` routes.
pub const MAX_PROXY_ROUTES: usize = 256;
/// The most fixed headers of one of them.
pub const MAX_ORIGIN_HEADERS: usize = 32;
/// The most `[[components]]`.
pub const MAX_COMPONENTS: usize = 16;
/// The most `[[alerts]]`. Each looks at the store by itself.
pub const MAX_ALERTS: usize = 32;
/// The most `allowed_outbound_hosts` of one of them.
pub const MAX_OUTBOUND_HOSTS: usize = 64;
/// The most names or patterns of a route's `headers`.
pub const MAX_KEPT_HEADERS: usize = 32;
/// The most headers of `[traces]`.
pub const MAX_TRACE_HEADERS: usize = 16;
/// The most `[topics.<name>]`.
pub const MAX_TOPICS: usize = 256;
/// The most subscriptions of one topic.
pub const MAX_SUBSCRIPTIONS: usize = 32;
/// The most worker threads. Each takes room for its instances, some 300 GiB of addresses (not of memory), and a process has
/// 128 TiB of those.
pub const MAX_WORKERS: u32 = 128;
/// The most `cors_origins`.
pub const MAX_ORIGINS: usize = 64;
/// The most certificates of `[server.tls]`, its own and `more`.
pub const MAX_CERTIFICATES: usize = 32;
/// The most names of `acme.domains`: those that Let's Encrypt puts into one certificate.
pub const MAX_DOMAINS: usize = 100;
/// The longest name of a limit, in bytes.
pub const MAX_NAME: usize = 64;
/// The longest name of a topic or subscription, in bytes.
pub const MAX_TOPIC_NAME: usize = 64;
/// The rule of [`is_topic_name`], in words.
pub const TOPIC_NAME_RULE: &str =
    "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit";
/// The longest time without a visit after which a link may end (`expireAfterIdle`): ten years, in seconds.
pub const MAX_IDLE_SECONDS: u64 = 10 * 366 * 86_400;
/// The shortest generated code.
pub const MIN_CODE_LENGTH: u8 = 4;
/// The longest generated code.
pub const MAX_CODE_LENGTH: u8 = 32;
/// Whether a text may name a topic or a subscription: `[a-z0-9][a-z0-9._-]{0,63}`.
pub fn is_topic_name(text: &str) -> bool {
    let head = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = text.bytes();
    text.len() <= MAX_TOPIC_NAME
        && bytes.next().is_some_and(head)
        && bytes.all(|b| head(b) || b"._-".contains(&b))
}
