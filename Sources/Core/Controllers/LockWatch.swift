package import ClusterBase
package import FleetModel

/// Ends the locks of one space that nobody renews; runs where the space is led.
///
///     renewals that were applied ──▶ each lease anew from when they were heard of ──▶ it is over ──▶ expire, for the renewal
///                                                                                                    that was seen
///
/// Counted by this process's own clock from when it heard of a renewal, which is after its sender sent it; a new leader counts
/// every lease in full. So what clocks show ends no lock before its lease, and a lock whose holder is gone may stay for a lease
/// longer when the leader changes. The space refuses to end a lock that was renewed since: a late word harms nobody.
package struct LockWatch {
    private struct Lease {
        let name: String
        var renewed: Revision
        var endsAt: Instant
    }

    /// Ascending by name.
    private var leases: [Lease] = []
    /// Renewals up to here are known.
    package private(set) var through = Revision.zero
    private var earliest = Instant(nanoseconds: .max)

    /// Between two looks at all leases.
    package static let pause = Nanoseconds.milliseconds(50)
    /// What was said and did not come about is said again.
    static let patience = Nanoseconds.seconds(1)

    package init() {}

    /// When something is to be done.
    package var deadline: Instant { earliest }
    package var count: Int { leases.count }

    /// Takes locks that were renewed after `through`, the oldest renewal first.
    package mutating func take(_ renewed: [SpaceLock], now: Instant) {
        for lock in renewed {
            let lease = Lease(name: lock.name, renewed: lock.renewed, endsAt: now + lock.lease)
            let i = position(lock.name)
            if i < leases.count, leases[i].name == lock.name { leases[i] = lease } else { leases.insert(lease, at: i) }
            earliest = min(earliest, lease.endsAt)
            through = max(through, lock.renewed)
        }
    }

    /// What is to be said now. `current` is the lock as it stands; one that is free, or not there any more, is forgotten.
    package mutating func due(_ now: Instant, _ current: (String) -> SpaceLock?) -> [SpaceCommand.Operation] {
        guard now >= earliest else { return [] }
        var operations: [SpaceCommand.Operation] = []
        leases.removeAll { $0.endsAt <= now && current($0.name) == nil }
        for i in leases.indices where leases[i].endsAt <= now {
            guard let lock = current(leases[i].name) else { continue }
            if lock.renewed == leases[i].renewed {
                operations.append(.expire(lock: lock.name, renewed: lock.renewed))
                leases[i].endsAt = now + LockWatch.patience
            } else {
                // It was renewed, and is heard of in a moment.
                leases[i].renewed = lock.renewed
                leases[i].endsAt = now + lock.lease
            }
        }
        let next = leases.lazy.map(\.endsAt).min() ?? Instant(nanoseconds: .max)
        earliest = next == Instant(nanoseconds: .max) ? next : max(next, now + LockWatch.pause)
        return operations
    }

    private func position(_ name: String) -> Int {
        var (low, high) = (0, leases.count)
        while low < high {
            let middle = (low + high) / 2
            if leases[middle].name < name { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
