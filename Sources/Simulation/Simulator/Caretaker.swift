import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore

/// The operator that every cluster has: replaces lost replicas under new ids, and brings back what was removed.
struct Caretaker {
    static let ticket: UInt64 = .max
    /// A replica that was made on a node and is not a member yet.
    var pending: [(group: GroupID, node: Int, replica: ReplicaID, since: Int64)] = []
    var isChanging: Bool { !pending.isEmpty }
}

extension Simulation {
    func operatorTurn() {
        plan(.operatorTurn, at: now + 100_000_000 + operatorRandom.within(0...300_000_000))
        for checker in checkers { care(for: checker) }
    }

    private func care(for checker: ClusterChecker) {
        guard let leader = leader(of: checker.group), leader.pausedUntil <= now, let runtime = leader.runtime else { return }
        let known = runtime.inspect(checker.group) { raft, _ in (raft.configuration, raft.hasCommittedInTerm) }
        guard let (configuration, isEstablished) = known, isEstablished, !configuration.isJoint else { return }
        for node in nodes where node.isRunning && node.pausedUntil <= now {
            let member = configuration.peer(at: node.id)
            let held = node.runtime?.inspect(checker.group) { raft, _ in raft.peer.replica }
            if let member {
                caretaker.pending.removeAll { $0.group == checker.group && $0.node == node.number }
                // What the node holds is not what the group believes: the member is lost for good.
                if held != member.replica && checker.isLost[node.number] {
                    return ask(leader, checker.group, [.remove(member.replica)])
                }
                continue
            }
            if let held {
                // A replica that is not a member (any more). A new one waits for its place, an old one makes room.
                if let waiting = caretaker.pending.first(where: { $0.group == checker.group && $0.node == node.number }),
                    waiting.replica == held, held > configuration.replicaHighest
                {
                    let peer = Peer(replica: held, node: node.id)
                    return ask(leader, checker.group, [.addLearner(peer, promotesItself: true, priority: 0)])
                }
                if held <= configuration.replicaHighest { turn(node, .destroyReplica(checker.group)) }
                continue
            }
            caretaker.pending.removeAll { $0.group == checker.group && $0.node == node.number }
            let replica = ReplicaID(configuration.replicaHighest.rawValue + 1)
            caretaker.pending.append((checker.group, node.number, replica, now))
            return turn(node, .createReplica(checker.group, replica))
        }
    }

    private func ask(_ leader: SimulatedNode, _ group: GroupID, _ steps: [MembershipStep]) {
        turn(leader, .request(.changeMembership(group, steps), ticket: Caretaker.ticket))
    }
}
