package import ClusterBase
package import FleetModel

/// What a guard hands on when another program takes its place in its process, with the guests running: its lease, what that
/// names, and its guests. The highest epochs are on the disk.
package struct GuardHandover: Hashable, Sendable {
    package struct Handed: Hashable, Sendable {
        package var vm: VMID
        package var guest: GuardRules.Guest
        package init(_ vm: VMID, _ guest: GuardRules.Guest) {
            self.vm = vm
            self.guest = guest
        }
    }
    package var leaseUntil: Instant?
    package var leaseLength: Nanoseconds
    package var newestSentAt: Instant?
    package var generation: LogIndex
    package var isWithdrawn: Bool
    /// Ascending.
    package var permits: [RunPermit]
    /// Ascending by VM; none that is still being started.
    package var guests: [Handed]

    package init(
        leaseUntil: Instant?, leaseLength: Nanoseconds, newestSentAt: Instant?, generation: LogIndex, isWithdrawn: Bool,
        permits: [RunPermit], guests: [Handed]
    ) {
        self.leaseUntil = leaseUntil
        self.leaseLength = leaseLength
        self.newestSentAt = newestSentAt
        self.generation = generation
        self.isWithdrawn = isWithdrawn
        self.permits = permits
        self.guests = guests
    }
}

extension GuardRules {
    /// Nil while something is half done that nobody could take over: a start, or the guard's end.
    package var handover: GuardHandover? {
        guard asks.isEmpty, !isEnding else { return nil }
        var handed: [GuardHandover.Handed] = []
        for vm in guests.keys.sorted() {
            guard let guest = guests[vm] else { continue }
            if guest.state == .starting { return nil }
            handed.append(GuardHandover.Handed(vm, guest))
        }
        return GuardHandover(
            leaseUntil: leaseUntil, leaseLength: leaseLength, newestSentAt: newestSentAt, generation: generation,
            isWithdrawn: isWithdrawn, permits: permits.keys.sorted().compactMap { permits[$0] }, guests: handed)
    }

    /// When the kernel ends this process, if anything here may start elsewhere.
    package var endsAt: Instant? { guests.values.contains { $0.isolation == .stop } ? lastMoment : nil }
}
