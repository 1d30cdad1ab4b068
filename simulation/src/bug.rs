//! Deliberate bugs, to prove that the simulation bites: each is put into a layer of the simulation's own, never into the
//! product, and a test asserts that each is found.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Commits lose their `absent` conditions.
    DropAbsent,
    /// Commits lose their `version` conditions.
    DropVersion,
    /// Additions lose their bounds.
    DropBounds,
    /// Commits lose their idempotence ids.
    DropIdempotence,
    /// Stock that is added is added twice.
    ReturnStockTwice,
    /// A claim of several units takes one.
    TakeOneUnit,
    /// A quota by outcome gives back twice what it has counted.
    GiveBackTwice,
    /// It gives nothing back.
    LoseGiveBack,
    /// It gives back what succeeded too.
    GiveBackSuccess,
    /// The units of a claim of several come back twice.
    ReturnUnitsTwice,
    /// A release does not ask whether the claim is still held: its unit is returned twice.
    ReleaseUnchecked,
    /// An expiry does not ask: a unit is returned after it was confirmed.
    ExpireUnchecked,
    /// A confirmation does not ask: a claim has expired, and is confirmed.
    ConfirmUnchecked,
    /// A hold is confirmed after its end.
    ConfirmLate,
    /// A hold expires before its end.
    ExpireEarly,
    /// A code that was given out stays among those that are free.
    KeepCode,
    /// A claim does not ask whether others are in line.
    JumpLine,
    /// A place in line is told, and is not in the line.
    LosePlace,
    /// The messages of a commit go into the next group.
    SplitCommit,
    /// A group is answered when it is written, not when it is synced.
    AcknowledgeBeforeSync,
    /// A failed sync is taken for a good one.
    IgnoreFailedSync,
    /// Recovery takes a torn group for a whole one.
    AcceptTornGroup,
    /// Recovery does not make durable what it has read.
    TrustPageCache,
    /// The store's time follows the clock back.
    TimeRunsBack,
    /// Deferred changes are lost while all is well.
    DropDeferred,
    /// A delivery counts as done when it begins.
    AdvanceBeforeDelivery,
    /// Messages of one key go out at the same time.
    IgnoreOrder,
    /// The entry of a parked message is lost, while the progress passes over it.
    ForgetParked,
    /// A dead letter is made after one attempt too few.
    GiveUpEarly,
    /// A refused request fills the bucket.
    RefillOnRefusal,
    /// A refused request takes from the buckets that had enough.
    TakeOnRefusal,
    /// A bucket gains for the time that the clock stepped back, too.
    BucketTimeRunsBack,
    /// List entries of an owner do not name their link's id, so that two links may share one.
    ListByCode,
    /// A click counts for whatever link has the code when it is written.
    CountByCode,
    /// A bound is set without waiting for the clicks that are on their way.
    SkipSettle,
    /// An entry does not ask whether its draw is open: it is admitted after the close, when the seed may be known.
    EnterLate,
    /// A close does not ask whether the draw was closed, or drawn, in between.
    CloseAgain,
    /// An outcome does not ask either: a draw is drawn twice.
    DrawTwice,
    /// A waiting room opens by the clock of whoever asks, not by the store's.
    OpenEarly,
    /// It opens while lots are still drawn.
    DrawLotLate,
    /// A restart forgets how many turns were given out.
    ForgetTurns,
    /// A room goes by ten times its pace.
    AdmitEarly,
    /// Leases lose their `version` conditions.
    LeaseTwice,
    /// An acknowledgement is answered, and changes nothing.
    LoseAck,
    /// An acknowledgement counts however late it is.
    AckLate,
    /// A group that is to be ordered is not.
    LeaseOutOfOrder,
    /// What is noted of visits is counted, and stays noted.
    FoldTwice,
    /// A message that is to come later comes before its time.
    ComeEarly,
    /// A message that was to come is forgotten when it is due.
    ForgetToCome,
    /// One that has come is still to come.
    ComeTwice,
    /// What was deleted is still read.
    ShowDeleted,
    /// A deletion leaves the newest message.
    DeleteTooLittle,
    /// A COMMIT whose answer is lost is taken for one that was not done.
    RetryBlindly,
    /// It is taken for one that was done.
    TakeLostForDone,
    /// What became of it is read without waiting for who holds the writer's row.
    ReadOwnUnlocked,
    /// A group does not compare what it replaces with what it read.
    SkipFence,
    /// The standby lags behind what was answered.
    AsynchronousStandby,
    /// Entries in memory are taken to be as they were.
    SkipRevalidation,
    /// A read that was late is kept, though the gateway has written meanwhile.
    FillByOlderRead,
    /// What was read counts as true when its answer came.
    MomentAfterRead,
    /// What only the holder of a lease may write is written without its fence.
    LeaseWithoutFence,
    /// A report of what was admitted is charged each time it comes.
    ChargeTwice,
    /// One whose answer is lost is not told again.
    ForgetReport,
}

impl Bug {
    /// All of them that a gateway with a store of its own can have.
    pub const ALL: &'static [Bug] = &[
        Bug::DropAbsent,
        Bug::DropVersion,
        Bug::DropBounds,
        Bug::DropIdempotence,
        Bug::ReturnStockTwice,
        Bug::TakeOneUnit,
        Bug::GiveBackTwice,
        Bug::LoseGiveBack,
        Bug::GiveBackSuccess,
        Bug::ReturnUnitsTwice,
        Bug::ReleaseUnchecked,
        Bug::ExpireUnchecked,
        Bug::ConfirmUnchecked,
        Bug::ConfirmLate,
        Bug::ExpireEarly,
        Bug::KeepCode,
        Bug::JumpLine,
        Bug::LosePlace,
        Bug::SplitCommit,
        Bug::AcknowledgeBeforeSync,
        Bug::IgnoreFailedSync,
        Bug::AcceptTornGroup,
        Bug::TrustPageCache,
        Bug::TimeRunsBack,
        Bug::DropDeferred,
        Bug::AdvanceBeforeDelivery,
        Bug::IgnoreOrder,
        Bug::ForgetParked,
        Bug::GiveUpEarly,
        Bug::RefillOnRefusal,
        Bug::TakeOnRefusal,
        Bug::BucketTimeRunsBack,
        Bug::ListByCode,
        Bug::CountByCode,
        Bug::SkipSettle,
        Bug::EnterLate,
        Bug::CloseAgain,
        Bug::DrawTwice,
        Bug::OpenEarly,
        Bug::DrawLotLate,
        Bug::ForgetTurns,
        Bug::AdmitEarly,
        Bug::LeaseTwice,
        Bug::LoseAck,
        Bug::AckLate,
        Bug::LeaseOutOfOrder,
        Bug::FoldTwice,
        Bug::ComeEarly,
        Bug::ForgetToCome,
        Bug::ComeTwice,
        Bug::ShowDeleted,
        Bug::DeleteTooLittle,
    ];

    /// Those of gateways that share a store.
    pub const OF_FLEETS: &'static [Bug] = &[
        Bug::RetryBlindly,
        Bug::TakeLostForDone,
        Bug::ReadOwnUnlocked,
        Bug::SkipFence,
        Bug::AsynchronousStandby,
        Bug::SkipRevalidation,
        Bug::FillByOlderRead,
        Bug::MomentAfterRead,
        Bug::LeaseWithoutFence,
        Bug::ChargeTwice,
        Bug::ForgetReport,
    ];
}
