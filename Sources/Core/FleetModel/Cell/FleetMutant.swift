/// Bugs in the rules that keep VMs from running twice, built in on purpose when the package is compiled with `-DMUTANTS`, to
/// prove that the simulator finds them. An ordinary build holds none of this: `mutated` is then the constant `false`.
package enum FleetMutant: String, CaseIterable, Sendable {
    // Of the lease, where it is granted.

    /// The leader answers hosts without asking its quorum.
    case leaseWithoutQuorum
    /// A host gets a lease while the cell is asked to give it up.
    case leaseWhileGivenUp
    /// A new leader holds silence from before its time against hosts.
    case newLeaderDoesNotWait
    /// Half of the lease counts as enough silence.
    case givesUpTooEarly
    /// A lease that is made shorter is so for those given before.
    case shorterLeaseCountsAtOnce

    // Of the lease, where it is used.

    /// It counts from when its answer came.
    case leaseFromReceipt
    /// VMs start after the lease has run out.
    case startsWithoutLease
    /// An epoch that ended here starts again.
    case epochStartsAgain
    /// A registration names nothing that runs.
    case registrationForgetsCopies
    /// Nobody ends guests with the lease when their agent doesn't.
    case guardSleeps
    /// A guest of an older epoch is left running beside the new one's permission.
    case olderCopyReported

    // Of moves.

    /// The destination goes on when all is copied.
    case destinationBeforeCommit
    /// The source goes on when nobody knows what came of the commit.
    case sourceResumesUnknown
    /// A move is committed before all is copied.
    case commitBeforeCopied
    /// A cancelled move is forgotten before its destination has confirmed.
    case undoNotConfirmed

    // Of the cell.

    /// A report of another epoch confirms the end of this one.
    case otherEpochConfirms
    /// A VM that keeps running when cut off starts elsewhere with its host's lease.
    case keepStartsElsewhere
    /// A failed move's room at the destination stays taken.
    case reservationLeaks
    /// A place is judged by what the host offers, whatever is taken of it.
    case roomNotJudged
    /// A larger VM is not asked for its tenant's quota.
    case growthBeyondQuota
    /// VMs are made for a tenant that nobody set.
    case strangerServed
    /// A repeated command takes effect again.
    case repetitionTakesEffect
    /// Of a command of a session nothing is kept, so that its repetition is a new one.
    case sessionForgets
    /// Of VMs that get their first places all or none, those that fit get theirs.
    case gangInParts
    /// A VM that has its place is still one of those that wait together.
    case gangOutlivesPlace

    // Of the balance.

    /// A VM that was moved for a better balance is moved again before its rest is over.
    case restsNot
    /// Moves over a rack's uplink are not counted.
    case linksUncounted

    // Of ways to other cells.

    /// A VM leaves its cell though the other one refused to keep what it needs.
    case leavesUnprepared
    /// It is the other cell's before its copy here is gone.
    case cellLeftTooEarly
    /// Who is not answered at once calls its way off, after its commit too.
    case calledOffAfterCommit
    /// What is asked to be kept twice counts twice.
    case keptTwice
    /// The other cell gives out epochs that were given out before.
    case epochsBeginAnew

    // Of hosts that go to other cells with their VMs.

    /// The other cell takes the host for its own as soon as it keeps it.
    case actsBeforeCommit
    /// The cell that a host left goes on granting it leases.
    case grantsAfterHandover

    // Of what is kept free for losses.

    /// Places are given out of what is kept free for losses.
    case reserveNotJudged
}
