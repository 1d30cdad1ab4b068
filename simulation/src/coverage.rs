//! What happened, counted: a fault that never happens proves nothing.

macro_rules! seen {
    ($($name:ident = $text:literal,)*) => {
        /// Something that can happen in a simulated run.
        #[allow(missing_docs, reason = "each is told by its text")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Seen { $($name,)* }

        impl Seen {
            /// All of them.
            pub const ALL: &'static [Seen] = &[$(Seen::$name,)*];

            /// What happened.
            pub const fn text(self) -> &'static str { match self { $(Seen::$name => $text,)* } }
        }
    };
}

seen! {
    Requests = "requests sent",
    Groups = "groups synced",
    GroupsOfSeveral = "groups of several commits",
    Crashes = "crashes (the process ends between any two steps)",
    PowerLosses = "of them, or while the process was down: the power fails",
    CrashesDuringSync = "crashes between a write and its sync",
    LostWrites = "unsynced groups lost",
    TornWrites = "unsynced groups torn",
    ReorderedWrites = "unsynced groups on disk out of order, with holes",
    KeptWrites = "groups kept that nobody had been told of",
    FailedSyncs = "syncs that failed",
    FailedRecoveries = "restarts refused, since the disk failed again",
    DiskFull = "groups refused by a full disk",
    SlowSyncs = "slow syncs",
    ClockForward = "clock steps forward",
    ClockBack = "clock steps back",
    BucketClockBack = "steps back of the limiter's clock",
    StoreRequestsLost = "commits that never came to the store, and nobody was told",
    StoreRepliesLost = "outcomes lost between the store and a rule",
    StoreReadsFailed = "reads that failed",
    QueueFull = "commits refused by a full queue",
    RequestsLost = "requests lost",
    RequestsDoubled = "requests delivered twice",
    RepliesLost = "replies lost",
    ClientTimeouts = "clients that gave up waiting",
    Admitted = "claims admitted",
    ClaimedTwo = "of them, or replayed: claims of two units",
    ClaimsReplayed = "claims replayed by their key",
    AlreadyClaimed = "claims refused: already claimed",
    SoldOut = "claims refused: sold out",
    OutsideWindow = "claims refused: not started or ended",
    Held = "claims held",
    HoldsConfirmed = "holds confirmed",
    HoldsReleased = "holds released",
    HoldsExpired = "holds expired",
    ClaimsRevoked = "claims revoked",
    SettledLate = "holds that were to be confirmed or released too late",
    SettledOtherwise = "holds that something else had become of",
    SettledAtTheEnd = "holds confirmed or released in the last 5 ms",
    SoldOutHeld = "claims refused: sold out, and units held",
    CodesImported = "imports of codes",
    CodesGiven = "imported codes that were given out",
    Lined = "places in a line",
    LinesLeft = "places in a line that were given up",
    Served = "places in a line that became claims",
    SoldOutLined = "claims refused: others are in line",
    Entered = "entries of a draw",
    EntriesRefused = "entries refused: the draw has closed, or has not opened",
    EnteredAlready = "entries refused: the user has as many as it may",
    Drawn = "draws drawn",
    DrawnVoid = "draws without an entry",
    LotsDrawn = "lots drawn in a waiting room",
    TurnsDrawn = "turns drawn in a waiting room",
    TurnsWaited = "tickets whose turn had not come",
    TurnsCome = "tickets whose turn had come",
    PaceChanged = "pauses and paces of a waiting room",
    StockRaised = "stock raised",
    StockLowered = "stock lowered",
    StockRefused = "stock refused: below what is admitted",
    Closed = "campaigns closed",
    Opened = "campaigns opened, or found open",
    KeyReused = "keys refused: reused with another payload",
    SignedUp = "sign-ups accepted",
    PostedLater = "messages posted to come later",
    CameLater = "of them, those that came",
    TopicsDeleted = "topics deleted",
    SignUpsReplayed = "sign-ups replayed by their key",
    Visits = "redirects",
    VisitsGranted = "redirects of a link with maxVisits",
    VisitsExhausted = "redirects refused: exhausted",
    BoundsSet = "bounds set on links in use",
    LinksDeleted = "links deleted",
    LinksMadeAgain = "links made with the code of a deleted one",
    CodesTaken = "links refused: the code is taken",
    LinksGone = "redirects refused: deleted",
    ClicksLost = "submitted clicks lost in a crash",
    TakesRefused = "takes refused by a bucket",
    ClicksDropped = "submitted changes dropped with a group that was undone",
    Limited = "requests refused by the limiter",
    Unavailable = "requests answered 503",
    Deliveries = "deliveries to the origin",
    OriginRefused = "deliveries: connection refused",
    OriginStalled = "deliveries: timed out",
    OriginFailed = "deliveries: answered with an error",
    OriginDied = "deliveries: taken, but the answer lost",
    OriginTwice = "deliveries: answered twice",
    OriginGone = "deliveries: answered 410",
    Redelivered = "messages delivered more than once",
    Parked = "messages read again that were parked",
    DeadLetters = "dead letters",
    Redriven = "dead letters redriven",
    BreakerOpened = "circuit breaker openings",
    BreakerClosed = "circuit breaker closings",
    Paused = "pauses of a subscription",
    Leased = "messages leased",
    LeasedAgain = "messages leased again",
    Acked = "leases acknowledged",
    AckedLate = "leases that ran out before they were acknowledged",
    GivenUp = "messages leased as often as they may be",
    ProgressLost = "relay commits whose outcome was not known",
    LockWaits = "waits for a lock",
    LockTimeouts = "of them, those that took too long",
    LocksLost = "groups whose lanes and topics were not locked",
    Fenced = "groups refused by the comparison of what they replace",
    Serialisation = "serialisation failures",
    Retries = "groups tried again",
    ConnectionsCut = "connections cut in the middle of a question",
    CommitRepliesLost = "answers to COMMIT that were lost",
    FlightsSilent = "flights that were never answered",
    ResolvedDone = "lost COMMITs that had been done",
    ResolvedUndone = "lost COMMITs that had not",
    Unresolved = "lost COMMITs of which nothing could be learned",
    IdleInTransaction = "transactions ended since their gateway stood still",
    DatabaseCrashes = "crashes of the database",
    Failovers = "failovers to the synchronous standby",
    CommitsInDoubt = "groups that were committed as the database went, and answered to nobody",
    Silences = "times in which nothing got through to the database",
    GatewaysApart = "times in which one gateway did not reach it",
    Away = "times that it counted as away for a gateway",
    DatabaseClock = "steps of the database's clock",
    StoodStill = "gateways that stood still",
    SlowReads = "slow reads",
    FromMemory = "entries answered from memory",
    Revalidated = "entries in memory that were looked at again",
    FoundChanged = "of them, those that had changed",
    NotKnownYet = "answers by which something is not there that was just made over another gateway",
    LeasesTaken = "leases taken",
    LeasesLost = "holders of a lease that learned from its fence that it is not theirs",
    RelaysOvertaken = "relays that ended since their lease had",
    SharedAdmitted = "requests admitted by a shared limit",
    SharedRefused = "requests refused by one",
    ReportsRepeated = "reports that had been charged when they came again",
    CountedApart = "times that a gateway began to count by its share",
    ByShare = "requests judged by a share",
    AttemptsWithheld = "attempts withheld, since the lease might end before them",
}

impl Seen {
    /// Whether it happens only where several gateways share a store.
    pub fn is_of_fleets(self) -> bool {
        self >= Self::LockWaits
    }

    /// Whether it happens only where a gateway has a store of its own.
    pub fn is_of_one(self) -> bool {
        matches!(
            self,
            Self::PowerLosses
                | Self::CrashesDuringSync
                | Self::LostWrites
                | Self::TornWrites
                | Self::ReorderedWrites
                | Self::KeptWrites
                | Self::FailedSyncs
                | Self::FailedRecoveries
                | Self::DiskFull
                | Self::StoreRequestsLost
                | Self::StoreRepliesLost
                | Self::ClicksLost
        )
    }
}

/// How often each happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage([u64; Seen::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Seen::ALL.len()])
    }
}

impl Coverage {
    pub(crate) fn add(&mut self, seen: Seen, count: u64) {
        self.0[seen as usize] += count;
    }

    /// How often it happened.
    pub fn count(&self, seen: Seen) -> u64 {
        self.0[seen as usize]
    }

    /// Adds what happened elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(to, more)| *to += more);
    }

    /// Each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Seen, u64)> {
        Seen::ALL.iter().map(|&seen| (seen, self.count(seen)))
    }
}
