package import ClusterBase

/// The bounds of a cell's state, all of them part of its replicated behaviour: changing one needs a new pack version.
package enum CellLimits {
    /// Removed ones included.
    package static let hostsMax: UInt64 = 100_000
    /// Names held for VMs of a region; beyond it no new name is given out in a region with several cells.
    package static let namesMax: UInt64 = 16_777_216
    package static let vmsMax: UInt64 = 4 << 20
    package static let vmsPerHostMax: UInt64 = 2_048
    package static let tenantsMax: UInt64 = 10_000
    /// VMs on their way to other cells.
    package static let movesMax: UInt64 = 1_024
    /// Hosts on their way to other cells with their VMs, and such that may come.
    package static let hostMovesMax: UInt64 = 16
    /// VMs, and bytes of them, of one part of a host that another cell is asked to keep.
    package static let hostPartMax = 256
    package static let hostPartBytesMax = 256 << 10
    /// Moves from one other cell that are over while an older one is not.
    package static let movesEndedMax = 4_096
    /// Images of which is noted that they were released.
    package static let imageReleasesMax: UInt64 = 4_096
    /// VMs that left shared disks.
    package static let remainsMax: UInt64 = 262_144
    /// Shared disks that a VM drops while it goes on, and those of it that are noted.
    package static let droppedDisksMax = 128
    package static let groupsPerTenantMax: UInt64 = 10_000
    package static let groupMembersMax: UInt64 = 65_536
    /// VMs from before feature level 3 that an entry brings into the index of phases, groups and labels.
    package static let markedAtOnceMax = 32
    /// VMs that an entry counts for a reserve that was set, until all are counted.
    package static let reserveCountedAtOnceMax = 1_024
    /// Items of one command.
    package static let itemsMax = 1_024
    package static let commandBytesMax = 1 << 20
    /// Commands of which one question asks what they would do.
    package static let rehearsedMax = 64
    /// Ids of VMs that a restore passes over. No multiple of 2^24, which is what of an id shows in a network address.
    package static let vmsSkippedByRestore: UInt64 = 10_000_019
    /// Results kept under request ids for repetitions of one tenant's commands, and of those that are no tenant's. Beyond it
    /// the tenant's oldest is dropped; before feature level 3 a new id was refused.
    package static let requestsPerTenantMax: UInt64 = 16_384
    package static let requestsMax: UInt64 = 262_144
    /// How long a result is kept, in milliseconds.
    package static let requestLifetime: UInt64 = 24 * 3_600_000
    /// Kept results that one command may drop because they are old.
    package static let requestsDroppedMax = 64
    /// Results kept before feature level 3 among which one looks for the oldest of a tenant.
    package static let requestsSoughtMax = 1_024
    package static let requestBytes = 16
    /// Rows whose changes followers can still ask for.
    package static let historyChangesMax: UInt64 = 262_144
    package static let historyBytesMax: UInt64 = 16 << 20
    package static let eventsMax: UInt64 = 200_000
    package static let eventBytesMax: UInt64 = 64 << 20
    /// Entries with events that a VM's row names.
    package static let eventsPerVMMax = 32
    /// Entries that one answer about one host's events looks at.
    package static let eventsScannedMax = 10_000
    /// Old rows that one collection of garbage drops.
    package static let garbageMax = 1_000
    /// What one command tells of VMs that break rules of their host.
    package static let misplacedMax = 64
    package static let answerCountMax = 1_000
    /// Bytes in one answer, which always holds at least one row if there is any.
    package static let answerBytesMax = 1 << 20

    package static let nameBytesMax = 63
    /// Of a label, a zone, a network and other words.
    package static let textBytesMax = 255
    package static let annotationBytesMax = 4_096
    /// Of why a host does not reach a storage domain.
    package static let problemBytesMax = 1_024
    /// Of one secret field as it is sealed.
    package static let secretBytesMax = 12 << 10
    /// Of all words of a VM's specification together.
    package static let specBytesMax = 16 << 10
    /// Of each list of a host or a VM that has no smaller bound.
    package static let listMax = 64
    /// In milliseconds.
    package static let nearWithinMax: UInt32 = 60_000
    /// Members of a group that one look goes through.
    package static let groupLookedMax = 16_384
    package static let disksMax = 64
    package static let diskMiBMax = Resources.amountMax / 64
    package static let overcommitMax: Int64 = 100_000
    /// For how long a host may be away as planned, in milliseconds.
    package static let absence: ClosedRange<UInt64> = 1_000...86_400_000
    /// In milliseconds: a VM that was stopped for longer does not come back to the host that it left by a drain.
    package static let originStopped: UInt64 = 7 * 86_400_000
    /// Of hosts declared down, in milliseconds, that the brake looks at.
    package static let brakeWindow: UInt64 = 10 * 60_000
    /// Regions of which a cell knows what was declared; the oldest of those that are back go.
    package static let regionsMax = 256
    /// Of crashes, in milliseconds, that restarts are counted in.
    package static let restartWindow: UInt64 = 10 * 60_000
}

extension CellSetting {
    /// The shortest lease, in milliseconds, for a cell whose nodes are held for dead after `suspicion` and beat every `beat`: within
    /// it a leader is missed, another one elected though two elections fail, and its hosts have heard of it. A shorter one is no
    /// danger to anybody but the VMs, which would be stopped by an election.
    package static func leaseLeast(suspicion: Nanoseconds, beat: Nanoseconds) -> UInt64 {
        let least = suspicion * 5 + beat * 2
        return UInt64(clamping: (least.count + 999_999) / 1_000_000)
    }

    /// Its value is an `Objective`'s.
    package var isObjective: Bool {
        switch self {
        case .rpoZone, .rpoRegion, .rto: true
        default: false
        }
    }

    package func allows(_ value: UInt64) -> Bool {
        if self == .failoverReserve { return value == 0 || FailoverReserve(value: value) != nil }
        if self == .splitAbove || self == .mergeBelow { return value == 0 || SplitBound(value: value) != nil }
        return range.contains(value)
    }

    package var range: ClosedRange<UInt64> {
        switch self {
        case .policy: 1...3
        case .leaseLength: 1_000...60_000
        case .rebalance: 0...2
        case .migrationsMax: 0...1_000
        case .migrationsPerHostMax: 1...100
        case .migrationsPerLinkMax: 1...1_000
        case .moveCooldown: 0...24 * 3_600_000
        case .brakeMillis: 1...1_000
        case .tombstoneLifetime: 0...365 * 24 * 3_600_000
        case .backoffFirst: 10...600_000
        case .backoffMax: 10...24 * 3_600_000
        case .leaseBefore, .movesHeldUntil, .settingsTaken: 0...UInt64.max
        case .eventLifetime: 3_600_000...10 * 365 * 24 * 3_600_000
        case .rpoZone, .rpoRegion, .rto: 0...Objective.valueMax
        case .moveIntent: 1...3
        case .failoverReserve: 0...FailoverReserve.valueMax
        case .splitAbove, .mergeBelow: 0...SplitBound.valueMax
        case .cost: 0...1_000_000
        }
    }

    /// What the admin port and the command line call it; `name` is the events' word.
    package var member: String {
        switch self {
        case .policy: "policy"
        case .leaseLength: "leaseMillis"
        case .rebalance: "rebalance"
        case .migrationsMax: "migrationsMax"
        case .migrationsPerHostMax: "migrationsPerHostMax"
        case .migrationsPerLinkMax: "migrationsPerLinkMax"
        case .moveCooldown: "moveCooldownMillis"
        case .brakeMillis: "failoverBrakeMilli"
        case .tombstoneLifetime: "tombstoneLifetimeMillis"
        case .backoffFirst: "restartBackoffMillis"
        case .backoffMax: "restartBackoffMaxMillis"
        case .leaseBefore, .movesHeldUntil, .settingsTaken: name
        case .eventLifetime: "eventLifetimeMillis"
        case .rpoZone: "rpoZone"
        case .rpoRegion: "rpoRegion"
        case .rto: "rto"
        case .moveIntent: "moveIntent"
        case .failoverReserve: "failoverReserve"
        case .splitAbove: "splitAbove"
        case .mergeBelow: "mergeBelow"
        case .cost: "cost"
        }
    }

    package static func named(_ name: String) -> CellSetting? { shown.first { $0.name == name } }
}
