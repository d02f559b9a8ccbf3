import ClusterBase

/// What programs of different ages agree on before they write anything that the older ones would not understand.
///
/// Every entry of every group says at which level its leader packed it, and means at every replica what it means at that
/// level, however much newer the replica's program is. A leader packs at the level that is open in the cluster, which
/// rises only when every node understands the next one. A program that meets an entry above what it knows stops, and
/// never guesses.
package enum FeatureLevel {
    package static let oldest: UInt32 = 1
    /// What this program knows.
    package static let newest: UInt32 = 3
    /// A key is deleted only while it holds the expected value.
    package static let conditionalDeletes: UInt32 = 2
    /// Several cells, and hosts that go from one to another.
    package static let cells: UInt32 = 3
    /// Secret fields of a VM's specification.
    package static let secrets: UInt32 = 3
    /// A cell notes beside each VM of a host when it changed last, and tells hosts what changed instead of all.
    package static let workChanges: UInt32 = 3
    /// What people ask of the root is written down for the audit.
    package static let rootAudit: UInt32 = 3
    /// A catalogue of images.
    package static let images: UInt32 = 3
    /// Storage domains are known by a mark, and hosts say why they don't reach one.
    package static let storageMarks: UInt32 = 3
    /// A command that is sent again from another address is the same one.
    package static let placelessRequests: UInt32 = 3
    /// Processes number their commands, and groups keep what came of them until they are settled. Results under request ids of
    /// people's own are dropped, the oldest first, instead of refusing new ones.
    package static let sessions: UInt32 = 3
    /// VMs that are created all or none get their first places all or none, too.
    package static let gangs: UInt32 = 3
    /// Rows by which lists of VMs find those of a phase, a group or a label.
    package static let marks: UInt32 = 3
    /// VMs move between hosts of a cell with the disks that they have there.
    package static let diskMoves: UInt32 = 3
    /// Regions are declared lost, and VMs go elsewhere then.
    package static let regions: UInt32 = 3
    /// A cell says what a command would do.
    package static let rehearsals: UInt32 = 3
    /// Nodes say which authorities they trust, and none signs before all trust it.
    package static let trustTold: UInt32 = 3
    /// A bound on moves over a rack's uplink, advice on the balance as events, and changes that ask for a generation.
    package static let linkBudgets: UInt32 = 3
    /// VMs with a TPM, and hosts that say whether they can have some.
    package static let tpm: UInt32 = 3
    /// Hosts that say whom their VMs' processes run as.
    package static let guestUsers: UInt32 = 3
    /// No host with VMs is removed by force before its lease has run out.
    package static let removalsOfLost: UInt32 = 3
    /// Nodes without work beat less often, and say so.
    package static let rest: UInt32 = 3

    /// Nothing new is made for a tenant that nobody set, and those who reach one tenant alone are held to its priorities.
    package static let knownTenants: UInt32 = 3
    /// Roles of one tenant or one space are given where that is there, and end with it.
    package static let scopedRoles: UInt32 = 3

    /// How much may be lost, and how long VMs may be down: declared, measured, and told of before anything is lost.
    package static let objectives: UInt32 = 3
    /// Moves, VMs and cells say what a move may cost.
    package static let moveIntents: UInt32 = 3

    /// VMs that ended with what they ran on start again at once, and no crash of theirs is counted.
    package static let hostsFaults: UInt32 = 3
    /// Drains that pause, hosts that are away as planned, and hosts that are declared dead.
    package static let hostCare: UInt32 = 3
    /// VMs that left a host by a drain come back to it.
    package static let hostReturns: UInt32 = 3
    /// What may not stay on a host that was changed is moved away where somebody says so.
    package static let enforcement: UInt32 = 3

    /// Room that is kept free for losses of hosts, racks or zones.
    package static let failoverReserves: UInt32 = 3

    /// Round trips between regions, what cells cost, and VMs that say near what they are to be, and how dear.
    package static let nearness: UInt32 = 3

    /// Locks of spaces, and writes under them.
    package static let locks: UInt32 = 3

    /// Spaces that end before they are deleted.
    package static let spaceEnds: UInt32 = 3

    /// What opens with a level, for people.
    package static func summary(_ level: UInt32) -> String {
        switch level {
        case oldest: "what the first program knew"
        case conditionalDeletes: "deletes of keys that expect a value"
        case cells: "several cells in one cluster, secret fields of VMs, images, and moves with local disks"
        default: "what a newer program knows"
        }
    }

    /// The level of a pack, when one can be read here. Throws when it is above what the program knows.
    static func check(_ version: UInt64, knows: UInt32) throws(StoreError) -> UInt32? {
        if version > UInt64(knows) {
            throw StoreError(
                .outdated,
                "the log has an entry of feature level \(version), and this program knows levels up to \(knows); install the "
                    + "newer program on this host and start it with the same data directory")
        }
        return version >= UInt64(oldest) ? UInt32(version) : nil
    }
}

extension SpaceCommand {
    /// The feature level that has to be open for it.
    package var level: UInt32 {
        if fence != nil { return FeatureLevel.locks }
        return switch operation {
        case .compareAndDelete: FeatureLevel.conditionalDeletes
        case .end: FeatureLevel.spaceEnds
        case .acquire, .release, .expire: FeatureLevel.locks
        default: FeatureLevel.oldest
        }
    }
}

extension RootCommand {
    /// The feature level that has to be open for it.
    package var level: UInt32 { origin == nil ? operation.level : max(operation.level, FeatureLevel.sessions) }
}

extension CellCommand {
    /// The feature level that has to be open for it.
    package var level: UInt32 {
        let names = imagesAt == .zero ? FeatureLevel.oldest : FeatureLevel.images
        let bounds = isBounded ? FeatureLevel.knownTenants : FeatureLevel.oldest
        let judges = generation == nil ? FeatureLevel.oldest : FeatureLevel.linkBudgets
        let sends = origin == nil ? FeatureLevel.oldest : FeatureLevel.sessions
        return [operation.level, names, bounds, judges, sends].max() ?? FeatureLevel.oldest
    }
}

extension RootCommand.Operation {
    /// The feature level that has to be open for it.
    package var level: UInt32 {
        switch self {
        case .createCell(_, _, let region, let survives):
            region.isEmpty && survives == nil ? FeatureLevel.oldest : FeatureLevel.cells
        case .moveHost, .retireCell, .reportCell, .planHosts, .noteHosts: FeatureLevel.cells
        case .nameSealingKey, .rotateSealingKey: FeatureLevel.secrets
        case .addImage, .holdImage, .removeImage: FeatureLevel.images
        case .markDomain: FeatureLevel.storageMarks
        case .noteForbidden: FeatureLevel.rootAudit
        case .deleteSpace(_, let group): group == nil ? FeatureLevel.oldest : FeatureLevel.spaceEnds
        case .createTenant(_, let quota, _), .setTenant(_, let quota, _): quota.level
        case .declareRegion, .planRegion, .changeSetting(.regionLostAfter, _): FeatureLevel.regions
        case .changeSetting(.auditLifetime, _): FeatureLevel.rootAudit
        case .reportLatencies, .setLatency: FeatureLevel.nearness
        default: FeatureLevel.oldest
        }
    }
}

extension VMDescription {
    /// The feature level that has to be open for it.
    package var level: UInt32 {
        if !secrets.isEmpty { return FeatureLevel.secrets }
        if tpm != nil { return FeatureLevel.tpm }
        if moveIntent != nil { return FeatureLevel.moveIntents }
        if !near.isEmpty || nearWithin != 0 || cellChoice != .near { return FeatureLevel.nearness }
        if regionLoss != .homeOnly || returnsHome || !regions.isEmpty { return FeatureLevel.regions }
        return disks.contains(where: \.isKept) ? FeatureLevel.images : FeatureLevel.oldest
    }
}

extension Quota {
    fileprivate var level: UInt32 {
        max(
            priorityMax == 0 ? FeatureLevel.oldest : FeatureLevel.knownTenants,
            rto == .auto ? FeatureLevel.oldest : FeatureLevel.objectives)
    }
}

extension Migration.Cause {
    fileprivate var level: UInt32 {
        switch self {
        case .return: FeatureLevel.hostReturns
        case .capacity: FeatureLevel.enforcement
        case .asked, .drain, .rebalance, .preemption: FeatureLevel.oldest
        }
    }
}

extension CellCommand.Operation {
    /// The feature level that has to be open for it.
    package var level: UInt32 {
        switch self {
        case .registerHost(_, _, let about, _, let assignment):
            max(
                assignment == 0 ? FeatureLevel.oldest : FeatureLevel.cells,
                about.storageProblems.isEmpty ? FeatureLevel.oldest : FeatureLevel.storageMarks,
                about.hasTPM ? FeatureLevel.tpm : FeatureLevel.oldest,
                about.guestUser.isEmpty ? FeatureLevel.oldest : FeatureLevel.guestUsers)
        case .createVMs(let items, _):
            items.map(\.spec.level).max() ?? FeatureLevel.oldest
        case .updateVM(_, let spec, _): spec.level
        case .careForHost: FeatureLevel.hostCare
        case .resealVM: FeatureLevel.secrets
        case .releaseImage, .dropRemains: FeatureLevel.images
        case .setSetting(.eventLifetime, _): FeatureLevel.rootAudit
        case .setSetting(.movesHeldUntil, _), .setSetting(.splitAbove, _), .setSetting(.mergeBelow, _):
            FeatureLevel.cells
        case .setSetting(.failoverReserve, _), .noteRisk(.reserve, _, _): FeatureLevel.failoverReserves
        case .noteRegion: FeatureLevel.regions
        case .setSlice(_, _, let quota, let through):
            through == .zero ? quota.level : FeatureLevel.knownTenants
        case .noteAdvice, .setSetting(.migrationsPerLinkMax, _): FeatureLevel.linkBudgets
        case .beginMigration(_, _, _, let cause, let intent):
            max(
                intent == .balanced ? FeatureLevel.oldest : FeatureLevel.moveIntents,
                cause.level)
        case .releaseVMs(_, let cause): cause.level
        case .setHostPolicy(_, _, _, let isEnforced): isEnforced ? FeatureLevel.enforcement : FeatureLevel.oldest
        case .setSetting(.moveIntent, _): FeatureLevel.moveIntents
        case .setSetting(.cost, _): FeatureLevel.nearness
        case .declareDown(_, _, let silence): silence == 0 ? FeatureLevel.oldest : FeatureLevel.objectives
        case .noteRisk, .setSetting(.rpoZone, _), .setSetting(.rpoRegion, _), .setSetting(.rto, _):
            FeatureLevel.objectives
        case .releaseHost, .closeCell, .holdName, .lendQuota, .takeQuota, .settleLoan, .moveVM, .confirmMove,
            .advanceMove,
            .prepareArrival, .endArrival, .sendHost, .advanceHost, .prepareHost, .endHost, .confirmHost, .takeSettings,
            .setSetting(.settingsTaken, _):
            FeatureLevel.cells
        default: FeatureLevel.oldest
        }
    }
}
