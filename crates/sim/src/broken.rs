//! Rules that can be broken on purpose: a simulation that does not find them broken shows nothing.

/// A rule that does not hold in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A master answers before its slaves have the message.
    AnswersBeforeCopies,
    /// A master answers before its disk has the message.
    AnswersBeforeSync,
    /// Two connections of one slave count as two slaves.
    ConnectionsCount,
    /// A master believes a position that cannot be.
    BelievesAnyPosition,
    /// A slave reports what came before it is stored.
    ReportsBeforeStored,
    /// A slave that is to report what is synced reports what is stored.
    ReportsBeforeSynced,
    /// A slave whose log is another one follows all the same.
    FollowsWithAnotherLog,
    /// A slave takes the master's offsets whatever was committed at the slave.
    OffsetsOverwritten,
    /// A slave follows a master that was replaced.
    FollowsReplaced,
    /// What a broker hears of a promotion is not kept over a restart.
    ForgetsPromotion,
    /// A slave is promoted whatever it lacks.
    PromotesAnybody,
    /// A promotion does not tell the other slaves first.
    PromotesUntold,
    /// A promotion compares how long logs are, whether the candidate has followed its master or not.
    GoesByLengthsAlone,
    /// A promotion does not look whether slaves have copies of one log.
    ComparesNoLogs,
    /// A master is fenced wherever its log ends by then.
    FencesAnyEnd,
    /// A slave is promoted before its master is fenced.
    PromotesUnfenced,
}

impl Broken {
    /// Each of them.
    pub const ALL: [Self; 16] = [
        Self::AnswersBeforeCopies,
        Self::AnswersBeforeSync,
        Self::ConnectionsCount,
        Self::BelievesAnyPosition,
        Self::ReportsBeforeStored,
        Self::ReportsBeforeSynced,
        Self::FollowsWithAnotherLog,
        Self::OffsetsOverwritten,
        Self::FollowsReplaced,
        Self::ForgetsPromotion,
        Self::PromotesAnybody,
        Self::PromotesUntold,
        Self::GoesByLengthsAlone,
        Self::ComparesNoLogs,
        Self::FencesAnyEnd,
        Self::PromotesUnfenced,
    ];
}
