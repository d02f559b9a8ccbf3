import ClusterBase
import NodeRuntime
import RaftCore
import StoreLayout

/// The end of a run: no new faults, a core of nodes is mended, and the groups must come back within a bound. The rest
/// may stay as broken as it is: a group must not need them.
struct Recovery {
    enum Phase { case chaos, healing, settling, done }
    var phase = Phase.chaos
    var leftBehind: [Int] = []
    var began: Int64 = 0
    /// When each group last answered a client, since the recovery began. Index is the group's number less one.
    private(set) var successes: [Int64] = []
    /// When the faults stopped.
    private(set) var healedAt: Int64 = 0
    /// Whether each group has had a leader since then.
    var isLed: [Bool] = []
    var lookAgainAt: Int64 = 0
    /// Whether a leader was left behind with a disk that hangs.
    var hasHungLeader = false
    /// The longest silence that a member now takes before it doubts another.
    var suspicion: Int64 = 1

    mutating func begin(at time: Int64, groups: Int) {
        phase = .healing
        began = time
        healedAt = time
        successes = Array(repeating: 0, count: groups)
        isLed = Array(repeating: false, count: groups)
    }

    mutating func sawSuccess(_ group: GroupID, at time: Int64) {
        let i = Int(group.number) - 1
        if phase == .healing && i < successes.count && time > began { successes[i] = time }
    }

    /// Leaders are found within so many rounds of votes; nearly always it takes less than five.
    static let roundsMax: Int64 = 10
    /// Faults have stopped; so long after a replica has got anything last, every group answers its clients again.
    static let answersWithin: Int64 = 30_000_000_000
    /// And so long after one of them has applied anything last, all replicas of the core hold the same. How long a log takes is the
    /// path's matter: one that loses every tenth frame, with a window of one, carries ten entries a second.
    static let settlesWithin: Int64 = 60_000_000_000
    /// What all replicas hold and have applied, together, and when that last grew.
    var reached: UInt64 = 0
    var reachedAt: Int64 = 0
}

extension Simulation {
    func beginRecovery() {
        recovery.begin(at: now, groups: profile.groups)
        let isDisaster = beginDisaster()
        let drawn = isDisaster ? nil : endAsDrawn()
        if !isDisaster { recovery.leftBehind = drawn ?? chooseLeftBehind() }
        mendEverything(except: recovery.leftBehind)
        releaseAll()
        for node in nodes {
            if recovery.leftBehind.contains(node.number) {
                if !isDisaster && drawn == nil { abandonNode(node) }
                continue
            }
            resume(node)
            mendDisk(of: node)
            if !node.isRunning { start(node) }
        }
        recovery.hasHungLeader = recovery.leftBehind.contains { number in
            nodes[number].diskStalledUntil > now
                && checkers.contains { nodes[number].runtime?.inspect($0.group) { raft, _ in raft.isLeader } ?? false }
        }
        if isDisaster { recoverByForce() }
        for client in clients { plan(.client, at: now, a: UInt64(client.number), b: client.stamp) }
        fleet?.beginRecovery()
        settleUpgrade()
    }

    func mendDisk(of node: SimulatedNode) {
        node.diskStalledUntil = min(node.diskStalledUntil, now)
        // What waited for the disk is written now, one after the other.
        var at = now
        for i in 0..<node.pendingLog.count {
            at += profile.diskLatency.count
            node.pendingLog[i].endsAt = min(node.pendingLog[i].endsAt, at)
            // Each has an end of its own, or those that follow stay one behind.
            plan(.logDone, at: node.pendingLog[i].endsAt, node: node)
        }
        node.isDiskFull = false
        node.failsNextWrite = false
        node.failsStateWrites = false
        node.setDiskFaults()
    }

    /// Nodes that stay broken: never so many that a group could not do without them.
    private func chooseLeftBehind() -> [Int] {
        guard !profile.faults.isEmpty, nemesisRandom.chance(1, in: 2) else { return [] }
        var left: [Int] = []
        var candidates = Array(nodes.indices)
        while !candidates.isEmpty {
            let node = candidates.remove(at: nemesisRandom.below(candidates.count))
            if checkers.allSatisfy({ canDoWithout(left + [node], $0) }) { left.append(node) }
            if nemesisRandom.chance(1, in: 2) { break }
        }
        return left
    }

    private func canDoWithout(_ left: [Int], _ checker: ClusterChecker) -> Bool {
        // Every configuration that some replica may still act by must keep its majority.
        var all = [checker.latestConfiguration]
        for node in nodes {
            if let known = node.runtime?.inspect(checker.group, { raft, _ in raft.configuration }),
                !known.members.isEmpty
            {
                all.append(known)
            }
        }
        if all.contains(where: { $0 != all[0] }) || isChangingMembers { return false }
        // A learner that is about to become a voter would change what can be done without.
        if all[0].members.contains(where: { $0.role == .learner && $0.promotesItself }) { return false }
        let intact = all[0].members.filter { member in
            let node = Int(member.peer.node.rawValue) - 1
            return member.role == .voter && !left.contains(node) && !checker.isLost[node] && !checker.isTainted[node]
                && !nodes[node].hasRottenState
        }
        return intact.count > all[0].members.count { $0.role == .voter } / 2
    }

    /// A node that nobody mends: dead, cut off, or with a disk that hangs for good.
    private func abandonNode(_ node: SimulatedNode) {
        switch nemesisRandom.below(UInt64(3)) {
        case 0:
            node.isDown = true
            crash(node, restartAfter: nil)
        case 1:
            for other in nodes where other !== node {
                network.block(node.number, other.number, by: 1, at: now)
                network.block(other.number, node.number, by: 1, at: now)
            }
        default:
            node.diskStalledUntil = .max / 4
        }
    }

    /// Returns true when the run has ended.
    func checkRecovery() -> Bool {
        let elapsed = now - recovery.began
        lookForLeaders()
        if let fleet, recovery.phase != .chaos, now - fleet.lateCheckedAt >= 250_000_000 {
            fleet.lateCheckedAt = now
            if let late = fleet.lateVM { fail("a VM that can run somewhere runs within its RTO", late) }
        }
        if now % 50 == 0 { noteProgress() }
        switch recovery.phase {
        case .healing:
            let hasOwners = profile.clients > 0 || fleet != nil
            if recovery.successes.allSatisfy({ $0 > recovery.began + 1_000_000_000 }) || !hasOwners {
                recovery.phase = .settling
                recovery.began = now
            } else if now - max(recovery.began, recovery.reachedAt) > Recovery.answersWithin
                || elapsed > 10 * Recovery.answersWithin
            {
                fail(
                    "44 progress resumes",
                    "no answer within \(Recovery.answersWithin / 1_000_000_000) s after the faults stopped: \(summary)")
            }
        case .settling:
            if let fleet { return checkRest(fleet) }
            if now % 50 == 0 || elapsed > Recovery.settlesWithin {
                if isSettled {
                    if let unfinished = unmended ?? unfinished {
                        if now - max(recovery.began, recovery.reachedAt) > restWithin.count {
                            fail("47 all that was begun ends", "not within \(restWithin): \(unfinished); \(summary)")
                        }
                    } else {
                        recovery.phase = .done
                        return true
                    }
                }
            }
            if now - max(recovery.began, recovery.reachedAt) > Recovery.settlesWithin
                || elapsed > 10 * Recovery.settlesWithin
            {
                fail("46 replicas become equal", "not within \(Recovery.settlesWithin / 1_000_000_000) s: \(summary)")
            }
        case .chaos, .done: break
        }
        return false
    }

    private func noteProgress() {
        var sum: UInt64 = 0
        for checker in checkers {
            for node in nodes {
                guard let standing = node.runtime?.standing(of: checker.group) else { continue }
                sum += standing.applied.rawValue + standing.durable.rawValue
            }
        }
        if sum > recovery.reached { (recovery.reached, recovery.reachedAt) = (sum, now) }
    }

    var isSettled: Bool {
        for checker in checkers {
            guard let leader = leader(of: checker.group), let runtime = leader.runtime else { return false }
            let state = runtime.inspect(checker.group) { raft, applied in
                (raft.configuration, applied.index, raft.lastIndex)
            }
            guard let (configuration, applied, last) = state, applied == last, !configuration.isJoint else {
                return false
            }
            for member in configuration.members {
                let node = nodes[Int(member.peer.node.rawValue) - 1]
                if recovery.leftBehind.contains(node.number) { continue }
                let theirs = node.runtime?.inspect(checker.group) { raft, applied in (raft.peer.replica, applied.index)
                }
                if checker.isLost[node.number] || checker.isTainted[node.number] { continue }
                guard let (replica, index) = theirs, replica == member.peer.replica, index == applied else {
                    return false
                }
            }
        }
        return true
    }

    /// Every group has a leader whom a majority of its members follow, in time.
    private func lookForLeaders() {
        guard now >= recovery.lookAgainAt, recovery.isLed.contains(false) else { return }
        recovery.lookAgainAt = now + 1_000_000
        for node in nodes where !recovery.leftBehind.contains(node.number) {
            for checker in checkers {
                let known = node.runtime?.inspect(checker.group) { raft, _ in raft.settings.suspicion.count }
                recovery.suspicion = max(recovery.suspicion, known ?? 0)
            }
        }
        for (i, checker) in checkers.enumerated() where !recovery.isLed[i] && isLed(checker) {
            recovery.isLed[i] = true
        }
        // A round of votes takes two writes, perhaps behind others, and two ways of a message.
        let round = recovery.suspicion + 10 * profile.diskLatency.count + 4 * profile.latencyFar.count
        // A leader's disk that hangs is noticed when the next pulse is not written in time.
        let noticed = recovery.hasHungLeader ? 2 * profile.settings.storageStallMax.count : 0
        if now - recovery.healedAt > noticed + Recovery.roundsMax * round && recovery.isLed.contains(false) {
            fail(
                "44 leaders are found",
                "not within \(noticed / 1_000_000) ms and \(Recovery.roundsMax) rounds of \(round / 1_000_000) ms after the faults "
                    + "stopped: \(summary)")
        }
    }

    private func isLed(_ checker: ClusterChecker) -> Bool {
        guard let leader = leader(of: checker.group), !recovery.leftBehind.contains(leader.number) else { return false }
        let known = leader.runtime?.inspect(checker.group) { raft, _ in
            (raft.peer, raft.term, raft.configuration.members)
        }
        guard let (peer, term, members) = known else { return false }
        var voters = 0
        var following = 0
        for member in members where member.role.isVoting {
            voters += 1
            let theirs = nodes[Int(member.peer.node.rawValue) - 1].runtime?.inspect(checker.group) { raft, _ in
                raft.leader == peer && raft.term == term
            }
            if theirs == true { following += 1 }
        }
        return following > voters / 2
    }

    /// Time for what was begun to end: retries of transfers, a flush, and what waits for either.
    private var restWithin: Nanoseconds {
        profile.settings.flushInterval + profile.settings.snapshotTimeout + .seconds(10)
            + .seconds(disaster == nil ? 0 : 30)
            // Where the last word about a snapshot is lost, only a timeout ends it, and it may be lost again.
            + (profile.lossPerMille > 0 ? profile.settings.snapshotTimeout * 3 : .zero)
    }

    /// What a replica of the core still has under way though nobody asks for anything, or keeps beyond its bound.
    private var unfinished: String? {
        for node in nodes where node.isRunning && !recovery.leftBehind.contains(node.number) {
            for checker in checkers {
                if checker.isLost[node.number] || checker.isTainted[node.number] { continue }
                guard let backlog = node.runtime?.backlog(of: checker.group) else { continue }
                let place = "n\(node.number + 1)/g\(checker.group)"
                if backlog.commands > 0 { return "\(place) has \(backlog.commands) commands under way" }
                if backlog.reads > 0 { return "\(place) has \(backlog.reads) reads under way" }
                if backlog.isTransferring { return "\(place) hands leadership over" }
                if backlog.snapshotsTo.contains(where: { !recovery.leftBehind.contains(Int($0.rawValue) - 1) }) {
                    return "\(place) sends snapshots to \(backlog.snapshotsTo)"
                }
                if backlog.snapshotsFrom > 0 { return "\(place) receives \(backlog.snapshotsFrom) snapshots" }
                let entriesMax = Int(profile.settings.trailingEntries + profile.settings.cutEntriesMin)
                if backlog.logEntries > entriesMax {
                    return "\(place) keeps \(backlog.logEntries) entries of its log, over \(entriesMax)"
                }
                // The last entry stays, and is no larger than a few commands of these clients.
                if backlog.cacheBytes > profile.settings.raft.cacheBytesMax + 8_192 {
                    return "\(place) keeps \(backlog.cacheBytes) bytes of entries in memory"
                }
            }
        }
        return nil
    }

    /// Where everybody stands, for the report of a run that did not recover.
    var summary: String {
        var text = "left behind \(recovery.leftBehind.map { $0 + 1 }); "
        for node in nodes {
            if let liveness = node.runtime?.liveness {
                text += "n\(node.number + 1) sees"
                for other in nodes where other !== node {
                    let verdict =
                        liveness.isFitToLead(other.id) ? "fit" : liveness.isAlive(other.id) ? "stalled" : "gone"
                    let known = liveness.incarnation(of: other.id).map { "\($0)" } ?? "never"
                    let own = other.runtime.map { "\($0.incarnation)" } ?? "down"
                    text += " n\(other.number + 1) \(verdict)"
                    if known != own { text += " in life \(known), not \(own)" }
                }
                text += "; "
            }
            for checker in checkers {
                let part = node.runtime?.inspect(checker.group) { raft, applied in
                    "n\(node.number + 1)/g\(checker.group) \(raft.phase) r\(raft.peer.replica) t\(raft.term) "
                        + "leader \(raft.leader.map { "\($0)" } ?? "-") commit \(raft.commit) last \(raft.lastIndex) "
                        + "durable \(raft.durable) applied \(applied.index) config \(raft.configurationIndex) "
                        + raft.describedProgress
                }
                text += "[\(part ?? "n\(node.number + 1) has no replica, running \(node.isRunning)")] "
            }
        }
        return text
    }
}
