/// Bugs that other engines shipped, built in on purpose when the package is compiled with `-DMUTANTS`, to prove that
/// the simulator finds them. An ordinary build holds none of this: `mutated` is then the constant `false`.
package enum Mutant: String, CaseIterable, Sendable {
    case voteAnsweredBeforeDurable
    case termNotDurable
    case voteClearedOnSameTermStepDown
    case voteClearedByPreCandidate
    case preVoteCountedAsVote
    case lateVoteCounted
    case logsComparedByIndexFirst
    case oldTermCommittedByCounting
    case quorumOffByOne
    case quorumTrackerUnsorted
    case jointCommitByNewHalfOnly
    case truncatesWithoutConflict
    case truncatesBelowCommit
    case staleAnswerRaisesMatch
    case leaderCountsUnsyncedEntries
    case staleWriteMarksDurable
    case entryDurableBeforeItsTerm
    case commitBeyondMatch
    case readBeforeOwnTermCommit
    case readContextReused
    case readBatchSharesFirstIndex
    case campaignsWithUnappliedConfiguration
    case changeBeforeOwnTermCommit
    case twoChangesInFlight
    case leavesUncommittedJoint
    case removedLeaderCountsItself
    case refusesUnknownVoter
    case fullWindowNeverProbes
    case snapshotLeavesFollowerPaused
    case installKeepsConflictingTail
    case installRacesWithApply
    case corruptionTakenForTornTail
    case failedSyncRetried
    case wipedReplicaRejoins
    case appliedIndexNotAtomic
    case beatsHideStall
    case configurationCommitNotWritten
    case newReplicaFencedByRecovery
    case cutCommandNeverAnswered
    case logKeptWhenIdle
    case settlesBeforeOthersKnow
}
