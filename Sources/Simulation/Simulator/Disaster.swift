import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore

/// The end of some runs: more nodes are gone than the groups can do without, and the operator goes on with what is left.
///
///     majority gone ─▶ of each group the furthest survivor is recovered by force ─▶ clients are answered, under new keys
///         └─▶ the survivors' other replicas are replaced ─▶ the nodes that were gone come back, one by one, and theirs are too
///
/// What was acknowledged may be lost here, by design, and the group says so for ever. What no run may show is a replica of before
/// that leads or commits once nothing of then is under way, and a group that counts one.
struct Disaster {
    /// Nodes that are still gone, next one first.
    var gone: [Int]
}

extension Simulation {
    /// Returns false when this run is not to end so, or can't: then it recovers like the others.
    func beginDisaster() -> Bool {
        guard profile.ending == .disaster, fleet == nil, upgrade == nil else { return false }
        let intact = nodes.indices.filter { i in
            checkers.allSatisfy { checker in
                !checker.isLost[i] && !checker.isTainted[i] && checker.shadows[i] != nil
                    && checker.latestConfiguration.peer(at: nodes[i].id) != nil
            } && !nodes[i].hasRottenState
        }
        guard !intact.isEmpty, nodes.allSatisfy({ $0.isRunning || !$0.isDiskFull }) else { return false }
        // Often the one that is furthest behind, so that something is lost.
        var survivors = [
            disasterRandom.chance(1, in: 2)
                ? intact[disasterRandom.below(intact.count)]
                : intact.min { checkers[0].shadows[$0]?.last ?? .zero < checkers[0].shadows[$1]?.last ?? .zero }
                    ?? intact[0]
        ]
        for i in intact where !survivors.contains(i) && disasterRandom.chance(1, in: 2) {
            if checkers.allSatisfy({ !$0.hasQuorum(survivors + [i]) }) { survivors.append(i) }
        }
        if checkers.contains(where: { $0.hasQuorum(survivors) }) { return false }
        let gone = nodes.indices.filter { !survivors.contains($0) }
        disaster = Disaster(gone: gone)
        recovery.leftBehind = gone
        for i in gone {
            nodes[i].isDown = true
            crash(nodes[i], restartAfter: nil)
        }
        return true
    }

    /// Once the survivors run again: what they hold of each group is compared, and the furthest goes on alone.
    func recoverByForce() {
        judgeHistory()
        beginNewHistory()
        for checker in checkers {
            var best: (node: SimulatedNode, term: Term, last: LogIndex)?
            for node in nodes where node.isRunning {
                let held = node.runtime?.inspect(checker.group) { raft, _ in (raft.lastTerm, raft.lastIndex) }
                guard let held else { continue }
                if let best, (best.term, best.last) >= held { continue }
                best = (node, held.0, held.1)
            }
            guard let best else {
                return fail("simulation", "no survivor holds group \(checker.group)")
            }
            let forgotten = best.node.runtime?.inspect(checker.group) { raft, _ in checker.beginEpoch(of: raft) }
            result.harm.entriesForgotten += forgotten ?? 0
            turn(best.node, .request(.forceRecovery(checker.group), ticket: Caretaker.ticket))
        }
        result.endings[Int(Ending.disaster.rawValue)] += 1
    }

    /// Whoever comes back meets no second one of before with whom it might outvote the group: the operator sees to that.
    func bringBackNext() {
        guard let next = disaster?.gone.first, recovery.phase == .settling else { return }
        let isClear = nodes.allSatisfy { node in
            !node.isRunning
                || checkers.allSatisfy { checker in
                    let held = node.runtime?.inspect(checker.group) { raft, _ in raft.epoch }
                    return held.map { $0 == checker.epoch } ?? false
                }
        }
        guard isClear else { return }
        disaster?.gone.removeFirst()
        recovery.leftBehind.removeAll { $0 == next }
        nodes[next].isDown = false
        mendDisk(of: nodes[next])
        start(nodes[next])
    }

    /// What is not as it should be, when all has been mended: everybody votes again, and the loss is on record everywhere.
    var unmended: String? {
        guard let disaster else { return nil }
        if !disaster.gone.isEmpty { return "nodes \(disaster.gone.map { $0 + 1 }) are not back yet" }
        for checker in checkers {
            for node in nodes {
                let known = node.runtime?.inspect(checker.group) { raft, _ in (raft.peer.replica, raft.configuration) }
                guard let (replica, configuration) = known, configuration.member(replica)?.role == .voter else {
                    return "n\(node.number + 1) has no vote in group \(checker.group)"
                }
                if configuration.recovery == nil || configuration.epoch != checker.epoch {
                    return "n\(node.number + 1) does not know that group \(checker.group) was recovered by force"
                }
            }
        }
        return nil
    }
}
