//! Every metric in one table: name, unit, type, labels and meaning. The registry is made from it, and `docs/metrics.md` and
//! `deploy/` are held to it by tests.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only goes up, from zero at the start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Always 1: its labels say something.
    Info,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name without the unit, and without the suffix that its type adds.
    pub name: &'static str,
    /// `seconds`, `bytes`, or nothing.
    pub unit: &'static str,
    /// See [`Type`].
    pub kind: Type,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts, without a full stop.
    pub help: &'static str,
}

impl Row {
    /// The name as queries write it; of a histogram, that which `_bucket`, `_sum` and `_count` are added to.
    pub fn full_name(&self) -> String {
        let unit = match self.unit {
            "" => String::new(),
            unit => format!("_{unit}"),
        };
        let suffix = match self.kind {
            Type::Counter => "_total",
            Type::Info => "_info",
            Type::Gauge | Type::Histogram => "",
        };
        [self.name, &unit, suffix].concat()
    }
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal;)*) => {
        /// A metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the help of its row says it")]
        pub enum Metric { $($id,)* }

        impl Metric {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Metric] = &[$(Metric::$id,)*];

            /// Its row.
            pub const fn row(self) -> Row {
                match self {
                    $(Metric::$id => Row {
                        name: $name,
                        unit: $unit,
                        kind: Type::$kind,
                        labels: &[$($label),*],
                        help: $help,
                    },)*
                }
            }
        }
    };
}

metrics! {
    // Requests.
    HttpRequests = Counter "tollgate_http_requests" "" ["call", "code"]
        "Requests that were answered, those that the parser refused too; code 499: who asked had gone";
    HttpDuration = Histogram "tollgate_http_request_duration" "seconds" ["call"]
        "From the head of a request to the head of its answer; a long poll waits as it was asked to";
    Problems = Counter "tollgate_problems" "" ["problem"]
        "Requests that were answered with a problem, by the last part of its type: waiting-room, challenge-required, forbidden (access lists too), invalid-token …; what limits refuse is in tollgate_limit_decisions_total";
    HttpWaiting = Gauge "tollgate_http_requests_waiting" "" []
        "Requests under way that wait for the store, a body, a thread or a component";
    LimitDecisions = Counter "tollgate_limit_decisions" "" ["policy", "decision"]
        "What became of requests under a limit or a quota: admitted (charged), refused, would_refuse (in shadow), failed (it could not be counted)";
    Buckets = Gauge "tollgate_limit_buckets" "" [] "Token buckets that are kept";
    BucketsMax = Gauge "tollgate_limit_buckets_max" "" [] "Token buckets that may be kept: clients.max_buckets";
    SharedBuckets = Gauge "tollgate_shared_limit_buckets" "" [] "Of these, buckets that gateways share, by bounded debt; see docs/fleet.md";
    SharedReports = Counter "tollgate_shared_limit_reports" "" [] "Reports of what shared limits admitted here that the database has answered";
    SharedApart = Gauge "tollgate_shared_limit_apart" "" []
        "1 while the database cannot be told: this gateway counts shared limits by its share of them";
    ExactTakes = Counter "tollgate_exact_limit_takes" "" ["result"] "Takes from exact limits, which the gateways' store decides: answered or failed";
    ExactFlights = Counter "tollgate_exact_limit_flights" "" [] "Batches of such takes that the store has answered";
    ExactAway = Gauge "tollgate_exact_limit_away" "" []
        "1 while the store cannot be asked: on_store_failure decides for exact limits";
    ConcurrencyUnderWay = Gauge "tollgate_concurrency_requests_under_way" "" ["limit"] "Requests under way of a concurrency limit";
    ConcurrencyMax = Gauge "tollgate_concurrency_requests_max" "" ["limit"] "Requests that it lets be under way at once, of each that it tells apart";
    ConcurrencyRefused = Counter "tollgate_concurrency_refused" "" ["limit"] "Requests that it refused";
    // Campaigns.
    Claims = Counter "tollgate_claims" "" ["campaign", "outcome"]
        "Claims by outcome: admitted, replayed, already_claimed, sold_out, not_started, ended, not_eligible; beyond 100 campaigns, the campaign is other";
    CampaignStock = Gauge "tollgate_campaign_stock" "" ["campaign"]
        "Units that are left, of the newest 100 campaigns that can still admit";
    CampaignQuantity = Gauge "tollgate_campaign_quantity" "" ["campaign"] "Units that there were, of the same campaigns";
    CampaignHeld = Gauge "tollgate_campaign_held" "" ["campaign"] "Units of them that are held: until they are confirmed, or come back";
    DrawEntries = Gauge "tollgate_draw_entries" "" ["draw"] "Entries of the draws that are not drawn yet; of 100 of them at most";
    RoomWaiting = Gauge "tollgate_room_waiting" "" ["room"] "Visitors who wait in a waiting room; of 100 rooms at most, those of the file first";
    RoomPace = Gauge "tollgate_room_admits_per_second" "" ["room"] "How many a waiting room admits in a second, 0 while it is paused; of the same rooms";
    RoomAdmitted = Counter "tollgate_room_admitted" "" ["room"] "Visitors who had their turn, of the same rooms";
    // Connections.
    Connections = Gauge "tollgate_connections" "" [] "Open connections";
    ConnectionsMax = Gauge "tollgate_connections_max" "" [] "Connections that may be open: server.max_connections, or what the limit of open files allows";
    ConnectionsAccepted = Counter "tollgate_connections_accepted" "" [] "Connections that were accepted";
    ConnectionsRefused = Counter "tollgate_connections_refused" "" []
        "Connections that were closed at once: their address had all that one may have";
    ConnectionsFailed = Counter "tollgate_connections_failed" "" []
        "Times that no connection could be accepted: no file descriptor was left, mostly";
    TlsHandshakes = Counter "tollgate_tls_handshakes" "" ["listener", "outcome"]
        "Handshakes of TLS: full, resumed, failed, timed_out, plain_http (a request without TLS came in its place)";
    TlsExpiry = Gauge "tollgate_tls_certificate_expiry" "seconds" ["listener", "file"] "When a certificate expires, Unix time";
    TlsReloads = Counter "tollgate_tls_reloads" "" ["listener", "outcome"]
        "Times that changed certificates were taken, or refused since they cannot be used";
    TlsOrders = Counter "tollgate_tls_acme_orders" "" ["outcome"]
        "Certificates that were ordered from an ACME directory: issued, failed (to be tried again)";
    // The store.
    StoreUp = Gauge "tollgate_store_up" "" [] "1 while commits are taken, else 0";
    StoreCommits = Counter "tollgate_store_commits" "" [] "Commits that were decided, deferred ones too";
    StoreGroups = Counter "tollgate_store_groups" "" [] "Groups of commits that were made durable";
    StoreGroupCommits = Histogram "tollgate_store_group_commits" "" [] "Commits of a group";
    StoreSync = Histogram "tollgate_store_sync_duration" "seconds" [] "How long COMMIT took: mostly the disk's sync";
    StoreQueued = Gauge "tollgate_store_queued_commits" "" [] "Commits that wait for the disk";
    StoreErrors = Counter "tollgate_store_errors" "" ["kind"]
        "group: groups that were not written; overflow: commits refused since the queue (or the memory) was full; dropped: deferred commits that were lost";
    StoreCacheHits = Counter "tollgate_store_cache_hits" "" [] "Entries that memory answered for, absent ones too";
    StoreCacheMisses = Counter "tollgate_store_cache_misses" "" [] "Entries that were read from the database";
    StoreCacheEntries = Gauge "tollgate_store_cache_entries" "" [] "Entries in the read cache, absent keys included";
    StoreCacheBytes = Gauge "tollgate_store_cache" "bytes" [] "Room that the read cache takes, roughly";
    StoreMemtableEntries = Gauge "tollgate_store_memtable_entries" "" [] "Entries that are durable in the journal and not in their table yet";
    StoreMemtableBytes = Gauge "tollgate_store_memtable" "bytes" [] "Room that they take, roughly";
    StoreFlushed = Counter "tollgate_store_flushed_entries" "" [] "Entries that went from the journal into their table";
    StoreSwept = Counter "tollgate_store_swept_rows" "" [] "Rows that were removed since they had expired, or were past their retention";
    StoreCheckpoints = Counter "tollgate_store_checkpoints" "" [] "Checkpoints of the write-ahead log";
    StoreLanes = Gauge "tollgate_store_lanes" "" [] "Locks that commits share out on Postgres; 0 on an engine of one gateway";
    StoreRetries = Counter "tollgate_store_retries" "" [] "Groups that were tried again: another gateway was faster, or a connection was lost";
    StoreResolved = Counter "tollgate_store_resolved" "" [] "Lost answers to COMMIT of which it was learned what had become of them";
    StoreRevalidated = Counter "tollgate_store_revalidated_entries" "" [] "Entries in memory that were compared with the database";
    StoreDisk = Gauge "tollgate_store_disk" "bytes" ["file"] "Size of the database's files: database, log";
    StoreDiskFree = Gauge "tollgate_store_disk_free" "bytes" [] "Room that is left on their disk for this user";
    // Topics and deliveries.
    TopicDepth = Gauge "tollgate_topic_depth" "" ["topic"] "Messages that a topic keeps; of the first 500 topics by name";
    TopicBytes = Gauge "tollgate_topic_size" "bytes" ["topic"] "Room that its messages take on disk";
    TopicMessages = Counter "tollgate_topic_messages" "" ["topic"] "Messages that a topic ever had: its last sequence";
    TopicDelayed = Gauge "tollgate_topic_delayed" "bytes" ["topic"] "Room that messages take which were posted to come later; of 500 topics at most";
    DelayedOverdue = Gauge "tollgate_delayed_overdue" "seconds" []
        "For how long the oldest message is due that has not come into its topic; 0 if there is none";
    SubscriptionLag = Gauge "tollgate_subscription_lag" "" ["topic", "subscription"]
        "Messages that are kept and not delivered; of 500 subscriptions at most, those of the file first";
    GroupLag = Gauge "tollgate_group_lag" "" ["topic", "group"]
        "Messages that are kept and that no consumer of the group has acknowledged; of 500 groups at most";
    GroupLeased = Gauge "tollgate_group_leased" "" ["topic", "group"] "Of these, messages that its consumers have leased now";
    GroupDeadLetters = Counter "tollgate_group_dead_letters" "" ["topic", "group"]
        "Messages that a group's consumers did not finish within their leases, since the group was made; of 500 groups at most";
    OldestMessageAge = Gauge "tollgate_oldest_message_age" "seconds" ["topic", "subscription"]
        "Age of the oldest message that is not delivered; 0 if there is none";
    DeliveryAttempts = Counter "tollgate_delivery_attempts" "" ["topic", "subscription", "outcome"]
        "Attempts to deliver that have ended: accepted, refused, unwanted";
    DeliveriesUnderWay = Gauge "tollgate_deliveries_under_way" "" ["topic", "subscription"] "Deliveries under way";
    DeadLetters = Counter "tollgate_dead_letters" "" ["topic", "subscription"] "Messages that were given up";
    CircuitState = Gauge "tollgate_circuit_state" "" ["topic", "subscription"] "The circuit breaker: 0 closed, 1 half-open, 2 open";
    SubscriptionPaused = Gauge "tollgate_subscription_paused" "" ["topic", "subscription"] "1 while nothing is delivered, else 0";
    // Events.
    EventStreams = Gauge "tollgate_event_streams" "" [] "Open streams of GET /api/events; there may be 64";
    EventsDropped = Counter "tollgate_events_dropped" "" [] "Events of the gateway's own that were dropped: the store did not take them for too long";
    VisitNotes = Gauge "tollgate_visit_notes_waiting" "bytes" []
        "Notes of visits that wait to be counted by hour and day: 0 while one step takes them all; above 128 MiB none are made";
    RankingStreams = Gauge "tollgate_ranking_streams" "" [] "Open streams of GET /api/links/top; there may be 16";
    RankingDropped = Counter "tollgate_ranking_visits_dropped" "" []
        "Visits that are counted and were not ranked: 65,536 links waited to be";
    // Instances.
    RulesTasks = Gauge "tollgate_rules_tasks" "" ["group"] "Rules that wait, on the threads of the crowd and of the rest";
    RulesTraps = Counter "tollgate_rules_traps" "" ["group"] "Instances of the rules that ended: a trap, or a call that was stuck";
    RulesStarts = Counter "tollgate_rules_starts" "" ["group"] "Instances of the rules that were started";
    ComponentUnderWay = Gauge "tollgate_component_requests_under_way" "" ["component"] "Requests that one of the [[components]] has";
    ComponentWaiting = Gauge "tollgate_component_requests_waiting" "" ["component"] "Requests that wait for a place in it";
    ComponentFailures = Counter "tollgate_component_failures" "" ["component", "reason"] "Requests that it did not answer: busy, ended, timed_out";
    // Origins.
    OriginRequests = Counter "tollgate_origin_requests" "" ["origin", "outcome"]
        "Requests that were for an origin: answered, failed (a status from 500 on), unreachable, timed_out, broken, refused (not sent), gone (the client)";
    OriginUnderWay = Gauge "tollgate_origin_requests_under_way" "" ["origin"] "Requests that it has, to the end of their answers";
    OriginWaiting = Gauge "tollgate_origin_requests_waiting" "" ["origin"] "Requests that wait for a place among them";
    OriginRetries = Counter "tollgate_origin_retries" "" ["origin"] "Requests that were sent again";
    OriginCut = Counter "tollgate_origin_answers_cut" "" ["origin"] "Answers whose body broke off, and that the client saw broken";
    OriginConnections = Counter "tollgate_origin_connections" "" ["origin"] "Connections that were opened to it";
    OriginTunnels = Gauge "tollgate_origin_websockets" "" ["origin"] "WebSockets that are open";
    OriginCache = Counter "tollgate_origin_cache" "" ["origin", "outcome"]
        "Requests by what the cache had: hit, revalidated, stale, miss, pass (nothing that is kept)";
    OriginCacheBytes = Gauge "tollgate_origin_cache" "bytes" ["origin"] "Room that kept answers take, roughly";
    OriginCircuit = Gauge "tollgate_origin_circuit_state" "" ["origin", "url"] "The circuit breaker of an address: 0 closed, 1 half-open, 2 open";
    OriginHealthy = Gauge "tollgate_origin_healthy" "" ["origin", "url"] "1 while the health checks of an address pass, or there are none, else 0";
    // The configuration.
    ConfigReloaded = Gauge "tollgate_config_last_reload_successful" "" []
        "1 if the configuration was taken when it was read last, 0 if it was refused and the one before stays in force";
    ConfigTime = Gauge "tollgate_config_last_reload_success_timestamp" "seconds" []
        "When the configuration was taken last, Unix time";
    // The process.
    LogDropped = Counter "tollgate_log_lines_dropped" "" [] "Log lines that were dropped: they came faster than they were read";
    AccessLogDropped = Counter "tollgate_access_log_lines_dropped" "" []
        "Lines of the access log that were dropped: they came faster than they were written, or could not be written";
    SpansSent = Counter "tollgate_trace_spans_sent" "" [] "Spans that the collector has taken";
    SpansDropped = Counter "tollgate_trace_spans_dropped" "" ["reason"]
        "Spans that were dropped: full (too many waited), collector (it did not take them)";
    LogFolded = Counter "tollgate_log_lines_folded" "" [] "Log lines that were left out and counted, since they repeat others";
    BuildInfo = Info "tollgate_build" "" ["version", "store"] "The version, and the kind of store";
    Ready = Gauge "tollgate_ready" "" [] "1 while GET /health/ready says so, else 0";
    Memory = Gauge "process_resident_memory" "bytes" [] "Memory that the process has";
    Cpu = Counter "process_cpu" "seconds" [] "Time that the process has run on cores";
    OpenFiles = Gauge "process_open_fds" "" [] "Open file descriptors";
    MaxFiles = Gauge "process_max_fds" "" [] "File descriptors that may be open";
    StartTime = Gauge "process_start_time" "seconds" [] "When the process started, Unix time";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

    /// The table as the document has it.
    fn written() -> String {
        let mut table = "| metric | type | labels | what |\n|---|---|---|---|\n".to_owned();
        for row in Metric::ALL.iter().map(|metric| metric.row()) {
            let kind = format!("{:?}", row.kind).to_lowercase();
            let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
            let name = row.full_name();
            let labels = labels.join(", ");
            let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {} |", row.help);
        }
        table
    }

    #[test]
    fn the_document_has_the_table() {
        let document = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
        let begin = document.find("| metric |").unwrap_or(document.len());
        let length = document[begin..]
            .find("\n\n")
            .map_or(document.len() - begin, |end| end + 1);
        let found = &document[begin..begin + length];
        if std::env::var_os("BLESS").is_some() {
            let new = [&document[..begin], &written(), &document[begin + length..]].concat();
            return std::fs::write(DOCUMENT, new).unwrap();
        }
        assert_eq!(found, written(), "BLESS=1 writes it");
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut seen = std::collections::BTreeSet::new();
        for row in Metric::ALL.iter().map(|metric| metric.row()) {
            let name = row.full_name();
            assert!(seen.insert(name.clone()), "{name} is there twice");
            assert!(
                name.starts_with("tollgate_") || name.starts_with("process_"),
                "{name}"
            );
            let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(
                plain(&name) && row.labels.iter().all(|label| plain(label)),
                "{name}"
            );
            assert!(
                !row.name.ends_with("_total") && !row.name.ends_with("_info"),
                "{name}"
            );
            assert!(!row.help.ends_with('.') && !row.help.contains('|'), "{name}");
            assert_eq!(row.kind == Type::Info, name.ends_with("_info"));
        }
    }
}
