import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore

/// The operator that every cluster has: replaces lost replicas under new ids, and brings back what was removed.
struct Caretaker {
    static let ticket: UInt64 = .max >> 1
    /// The last replica id given out, over all groups: none is ever given out twice.
    var replicaGiven: UInt64
}

extension Simulation {
    func operatorTurn() {
        plan(.operatorTurn, at: now + 100_000_000 + operatorRandom.within(0...300_000_000))
        for checker in checkers { care(for: checker) }
        bringBackNext()
    }

    private func care(for checker: ClusterChecker) {
        guard let leader = leader(of: checker.group), leader.pausedUntil <= now, let runtime = leader.runtime else {
            return
        }
        let known = runtime.inspect(checker.group) { raft, _ in (raft.configuration, raft.isMembershipSettled) }
        guard let (configuration, isSettled) = known, isSettled else { return }
        let keeping = profile.fleet.map { $0.voters } ?? nodes.count
        for node in nodes.prefix(keeping)
        where node.isRunning && node.pausedUntil <= now && !recovery.leftBehind.contains(node.number) {
            if isOfBefore(node, checker) { return turn(node, .destroyReplica(checker.group)) }
            let held = node.runtime?.inspect(checker.group) { raft, _ in raft.peer.replica }
            if let member = configuration.peer(at: node.id) {
                // The group believes in a replica that is lost for good, if only because its node crashed before it was kept.
                if held != member.replica {
                    return ask(leader, checker.group, [.remove(member.replica)])
                }
            } else if let held, held > configuration.replicaHighest {
                let peer = Peer(replica: held, node: node.id)
                return ask(leader, checker.group, [.addLearner(peer, promotesItself: true, priority: 0)])
            } else if held != nil {
                // It was removed, or another was faster: it makes room for a new one.
                return turn(node, .destroyReplica(checker.group))
            } else {
                caretaker.replicaGiven += 1
                return turn(node, .createReplica(checker.group, ReplicaID(caretaker.replicaGiven)))
            }
        }
    }

    /// A replica of before a forced recovery is not asked in again, not even where the group never heard of its id.
    private func isOfBefore(_ node: SimulatedNode, _ checker: ClusterChecker) -> Bool {
        node.runtime?.inspect(checker.group) { raft, _ in raft.epoch < checker.epoch && !raft.isBlank } ?? false
    }

    private func ask(_ leader: SimulatedNode, _ group: GroupID, _ steps: [MembershipStep]) {
        turn(leader, .request(.changeMembership(group, steps), ticket: Caretaker.ticket))
    }

    /// Whether some group is between two configurations.
    var isChangingMembers: Bool {
        checkers.contains { $0.hasPendingConfiguration(in: self) || $0.latestConfiguration.isJoint }
    }
}
