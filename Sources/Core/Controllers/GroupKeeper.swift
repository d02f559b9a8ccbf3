package import ClusterBase
package import FleetModel
package import RaftCore

/// What a group's leader knows of its group.
package struct GroupStanding: Sendable {
    package var own: ReplicaID
    package var configuration: Configuration
    package var epoch: Epoch
    /// It leads, no change of configuration is under way, and the group needs nobody who left any more.
    package var isSettled: Bool
    /// Members whose nodes are doubted.
    package var silent: [ReplicaID]
    /// Members whose log ends within `lagMax` of the leader's.
    package var caughtUp: [ReplicaID]
    /// Since when members' nodes are there without a break or a start, as far as that is known.
    package var presentSince: [(replica: ReplicaID, at: Instant)] = []

    package init(
        own: ReplicaID, configuration: Configuration, epoch: Epoch, isSettled: Bool, silent: [ReplicaID],
        caughtUp: [ReplicaID]
    ) {
        self.own = own
        self.configuration = configuration
        self.epoch = epoch
        self.isSettled = isSettled
        self.silent = silent
        self.caughtUp = caughtUp
    }

    /// As the leader's core sees it. Members within `lagMax` entries count as caught up.
    package init(_ raft: borrowing Raft, lagMax: Int = 1_000) {
        let last = raft.lastIndex
        var silent: [ReplicaID] = []
        var caughtUp: [ReplicaID] = []
        for member in raft.configuration.members where member.peer != raft.peer {
            if raft.doubts(member.peer.node) { silent.append(member.peer.replica) }
            if let match = raft.match(of: member.peer.replica), last - match <= lagMax, match > .zero {
                caughtUp.append(member.peer.replica)
            }
        }
        self.init(
            own: raft.peer.replica, configuration: raft.configuration, epoch: raft.epoch,
            isSettled: raft.isMembershipSettled, silent: silent, caughtUp: caughtUp)
    }
}

/// What a group's keeper wants done.
package enum GroupAction: Hashable, Sendable {
    case change([MembershipStep])
    case transferLeadership(to: ReplicaID)
    /// A command for the root.
    case report(RootCommand.Operation)
}

/// Leads a group's configuration to its placement; runs where the group is led, one per group.
///
///     placed ──▶ learner ──(caught up, stable)──▶ joint: it enters, the one that it replaces leaves ──▶ (gone) ──▶ root
///
/// A voter that is alive leaves only together with its replacement's coming, so that there are never fewer. One that has
/// lost its log, or whose node was removed, can't vote any more and leaves as soon as the others are a quorum. A leader that
/// is to leave hands leadership over first, and so does one away from the home of a cell that survives a region.
package struct GroupKeeper: Sendable {
    private var caughtUpSince: [(replica: ReplicaID, at: Instant)] = []

    package init() {}

    /// What to do now; nothing while a change is under way. `placement` is the root's for this group.
    package mutating func plan(
        _ placement: GroupPlacement, _ standing: GroupStanding, _ view: RootView, now: Instant
    ) -> [GroupAction] {
        watch(standing, now)
        guard standing.isSettled else { return [] }
        let members = standing.configuration
        var actions: [GroupAction] = []
        var gone: [ReplicaID] = []
        // What was placed before a forced recovery is of the group that was, whether this history knows of it or not.
        let isRecovered = standing.epoch > placement.epoch
        for placed in placement.replicas where members.member(placed.replica) == nil {
            // An id is added once; a lower one than the highest was in, or was passed over, and never comes.
            if isRecovered || placed.isLeaving || placed.replica <= members.replicaHighest {
                gone.append(placed.replica)
            }
        }
        if !gone.isEmpty || isRecovered {
            actions.append(.report(.reportGroup(placement.group, standing.epoch, gone: gone)))
        }
        if isRecovered { return actions }
        // What bears no loss gains by every voter that has caught up, however new it is.
        let isAlone = members.members.count { $0.role == .voter } == 1
        let stableFor = isAlone ? .zero : Nanoseconds.milliseconds(Int64(clamping: view.settings[.stableFor]))
        let heirs = heirsAtHome(placement.group, standing, view) ?? []
        if let action = change(placement, standing, view, stableFor, now) {
            actions.append(action)
        } else if let heir = heirs.first(where: { isStable($0, standing, stableFor, now) }) {
            actions.append(.transferLeadership(to: heir))
        }
        return actions
    }

    /// Voters in the region of the group's cell, where that survives the loss of a region and is led in another one, which
    /// is worse only as long as they are there. Nil where nothing is better.
    package func heirsAtHome(_ group: GroupID, _ standing: GroupStanding, _ view: RootView) -> [ReplicaID]? {
        guard let cell = view.cell(group), cell.survives == .region else { return nil }
        let voters = standing.configuration.members.filter { member in
            member.role == .voter && view.node(member.peer.node)?.about.locality.region == cell.region
        }.map(\.peer.replica)
        return voters.isEmpty || voters.contains(standing.own) ? nil : voters.filter { !standing.silent.contains($0) }
    }

    private mutating func watch(_ standing: GroupStanding, _ now: Instant) {
        caughtUpSince.removeAll { known in
            !standing.caughtUp.contains(known.replica) || standing.silent.contains(known.replica)
        }
        for replica in standing.caughtUp
        where !standing.silent.contains(replica) && !caughtUpSince.contains(where: { $0.replica == replica }) {
            caughtUpSince.append((replica, now))
        }
    }

    private func isStable(
        _ replica: ReplicaID, _ standing: GroupStanding, _ stableFor: Nanoseconds, _ now: Instant
    ) -> Bool {
        // A group that is settled is not watched: what comes and goes meanwhile shows only in its node's presence.
        caughtUpSince.contains { $0.replica == replica && now - $0.at >= stableFor }
            && standing.presentSince.allSatisfy { $0.replica != replica || now - $0.at >= stableFor }
    }

    private func change(
        _ placement: GroupPlacement, _ standing: GroupStanding, _ view: RootView, _ stableFor: Nanoseconds,
        _ now: Instant
    ) -> GroupAction? {
        let members = standing.configuration.members
        var removals: [MembershipStep] = []
        var promotions: [ReplicaID] = []
        /// Voters that are to vote no more, and can still: they go when another comes.
        var yielding: [(replica: ReplicaID, step: MembershipStep)] = []
        /// Voters that can't vote any more.
        var dead: [ReplicaID] = []
        var staying: [ReplicaID] = []
        for member in members {
            let replica = member.peer.replica
            guard let i = placement.position(of: replica) else {
                // The root may be ahead of what is known here of it.
                if replica > placement.replicaHighest {
                    if member.role == .voter { staying.append(replica) }
                } else if member.role == .voter {
                    yielding.append((replica, .remove(replica)))
                } else {
                    removals.append(.remove(replica))
                }
                continue
            }
            let placed = placement.replicas[i]
            let isDead = placed.phase == .lost || view.node(placed.node)?.state == .removed
            if member.role == .voter {
                if placed.isLeaving {
                    if isDead { dead.append(replica) } else { yielding.append((replica, .remove(replica))) }
                } else if placed.part == .standby {
                    yielding.append((replica, .demote(replica)))
                } else {
                    staying.append(replica)
                }
            } else if placed.isLeaving || isDead {
                removals.append(.remove(replica))
            } else if placed.part == .voter && isStable(replica, standing, stableFor, now) {
                promotions.append(replica)
            }
        }
        let wanted = placement.voterCount
        if yielding.contains(where: { $0.replica == standing.own }) || dead.contains(standing.own) {
            let heirs = staying.filter { !standing.silent.contains($0) && standing.caughtUp.contains($0) }
            if let heir = heirs.first { return .transferLeadership(to: heir) }
            // Alone: the replacement comes first, and takes over.
            yielding.removeAll { $0.replica == standing.own }
            dead.removeAll { $0 == standing.own }
            staying.append(standing.own)
        }
        let isComplete = staying.count + promotions.count >= wanted
        // One comes for one that goes; when all have come, all go.
        if !isComplete {
            let pairs = min(promotions.count, yielding.count + dead.count)
            promotions = Array(promotions.prefix(pairs))
            let left = max(0, pairs - dead.count)
            staying += yielding.dropFirst(left).map(\.replica)
            yielding = Array(yielding.prefix(left))
        }
        for voter in dead {
            let voters = staying + promotions + yielding.map(\.replica)
            let alive = voters.count { !standing.silent.contains($0) }
            if alive > voters.count / 2 { removals.append(.remove(voter)) }
        }
        var steps = removals + yielding.map(\.step) + promotions.map { .promote($0) }
        steps += additions(placement, standing)
        return steps.isEmpty ? nil : .change(steps)
    }

    private func additions(_ placement: GroupPlacement, _ standing: GroupStanding) -> [MembershipStep] {
        var steps: [MembershipStep] = []
        var room = Configuration.membersMax - standing.configuration.members.count
        for placed in placement.replicas
        where !placed.isLeaving && placed.phase != .lost && placed.replica > standing.configuration.replicaHighest {
            // A replica of its node's that is still in goes first.
            if room == 0 || standing.configuration.peer(at: placed.node) != nil { break }
            room -= 1
            let peer = Peer(replica: placed.replica, node: placed.node)
            steps.append(.addLearner(peer, promotesItself: false, priority: 0))
        }
        return steps
    }
}
