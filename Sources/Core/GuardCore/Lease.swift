package import ClusterBase
package import FleetModel

/// What a cell's leader answered a host's request: for how long it may run what.
package struct LeaseGrant: Hashable, Sendable {
    /// When the request was sent, on this machine's clock: the lease counts from then.
    package var sentAt: Instant
    /// Zero when nothing is promised to this host.
    package var length: Nanoseconds
    /// The entry of the cell's log that the answer was read at.
    package var generation: LogIndex
    /// Ascending; nil where the set with this digest is known from an earlier grant.
    package var permits: [RunPermit]?
    package var digest: UInt64

    package init(
        sentAt: Instant, length: Nanoseconds, generation: LogIndex, permits: [RunPermit]?, digest: UInt64
    ) {
        self.sentAt = sentAt
        self.length = length
        self.generation = generation
        self.permits = permits
        self.digest = digest
    }

    package init(sentAt: Instant, length: Nanoseconds, generation: LogIndex, permits: [RunPermit]) {
        self.init(
            sentAt: sentAt, length: length, generation: generation, permits: permits,
            digest: RunPermit.digest(permits))
    }
}

/// How a lease's length is divided.
package struct LeaseTiming: Hashable, Sendable {
    /// How long before the end stopping begins.
    package var stopLead = Nanoseconds.seconds(1)
    /// How long before the end the kernel ends the guard, and its guests with it, if it has not done so itself.
    package var lastLead = Nanoseconds.milliseconds(250)
    /// What a start waits for a grant that names it.
    package var askMax = Nanoseconds.seconds(2)
    /// No lease is longer.
    package static let lengthMax = Nanoseconds.seconds(60)
    package init() {}

    /// A short lease leaves less for both.
    package func stopLead(of length: Nanoseconds) -> Nanoseconds { min(stopLead, length / 3) }
    package func lastLead(of length: Nanoseconds) -> Nanoseconds { min(lastLead, length / 12) }
}
