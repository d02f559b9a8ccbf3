package import ClusterBase
package import FleetModel
package import RaftCore

/// Turns the root's placements into what one node has to make, end and report; runs on every node.
package enum Assignments {
    /// What a node has to do.
    package struct Duty: Hashable, Sendable {
        package struct Creation: Hashable, Sendable {
            package var held: HeldReplica
            /// The group's first members when the replica is one of them; nil for one that its group adds.
            package var members: Configuration?
            package init(_ held: HeldReplica, members: Configuration?) {
                self.held = held
                self.members = members
            }
        }

        package var creations: [Creation] = []
        package var destructions: [HeldReplica] = []
        /// Replicas here of groups that a recovered root does not know: kept, for an operator to look at.
        package var orphans: [HeldReplica] = []
        /// Commands for the root.
        package var reports: [RootCommand.Operation] = []
        package init() {}
    }

    /// `held` is every replica that this node holds or is making. Old views are harmless: ids are never given out again,
    /// and nothing is ended that a newer view could still want.
    package static func plan(_ view: RootView, node: NodeID, held: [HeldReplica]) -> Duty {
        var duty = Duty()
        let held = held.sorted { ($0.group, $0.replica) < ($1.group, $1.replica) }
        guard let cluster = view.cluster, view.node(node)?.state == .active else { return duty }
        var made: [HeldReplica] = []
        var lost: [HeldReplica] = []
        for placement in view.placements {
            guard let placed = placement.replica(on: node) else { continue }
            let own = HeldReplica(placement.group, placed.replica)
            let here = Assignments.held(placement.group, in: held)
            if here == own {
                if placed.phase == .wanted { made.append(own) }
                continue
            }
            switch placed.phase {
            case .wanted:
                // One under an older id goes first.
                if !placed.isLeaving && here == nil {
                    duty.creations.append(Duty.Creation(own, members: founders(placement, placed.replica)))
                }
            case .made: lost.append(own)
            case .lost: break
            }
        }
        for replica in held {
            if let placement = view.placement(replica.group) {
                let isKnown = replica.replica <= placement.replicaHighest
                if isKnown && placement.position(of: replica.replica) == nil { duty.destructions.append(replica) }
            } else if replica.group.kind == .space && replica.group.number <= cluster.groupHighest {
                // What a lost history of the root gave out has lower numbers than what it gives out since.
                let isSure = cluster.epoch == .zero || replica.group.number > cluster.epoch.rawValue << 32
                if isSure { duty.destructions.append(replica) } else { duty.orphans.append(replica) }
            } else if replica.group.kind == .cell {
                // No cell is ever deleted: a root that does not know it has lost it.
                duty.orphans.append(replica)
            }
        }
        duty.reports = reports(node, made, lost)
        return duty
    }

    /// The node's replica of a group, of which there is one at most.
    private static func held(_ group: GroupID, in held: [HeldReplica]) -> HeldReplica? {
        var low = 0
        var high = held.count
        while low < high {
            let middle = (low + high) / 2
            if held[middle].group < group { low = middle + 1 } else { high = middle }
        }
        return low < held.count && held[low].group == group ? held[low] : nil
    }

    private static func founders(_ placement: GroupPlacement, _ replica: ReplicaID) -> Configuration? {
        guard placement.founders.contains(where: { $0.replica == replica }) else { return nil }
        return Configuration(
            members: placement.founders.map { Member(peer: Peer(replica: $0.replica, node: $0.node), role: .voter) })
    }

    private static func reports(
        _ node: NodeID, _ made: [HeldReplica], _ lost: [HeldReplica]
    ) -> [RootCommand.Operation] {
        var reports: [RootCommand.Operation] = []
        for start in stride(from: 0, to: made.count, by: RootLimits.reportMax) {
            let part = made[start..<min(start + RootLimits.reportMax, made.count)]
            reports.append(.reportReplicas(node, made: Array(part), lost: []))
        }
        for start in stride(from: 0, to: lost.count, by: RootLimits.reportMax) {
            let part = lost[start..<min(start + RootLimits.reportMax, lost.count)]
            reports.append(.reportReplicas(node, made: [], lost: Array(part)))
        }
        return reports
    }
}
