import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore

/// A course of events that some runs end with, instead of what chance leaves broken. Each asks whether those that are left
/// find a leader, at a moment that chance would hardly choose.
public enum Ending: UInt8, CaseIterable, Sendable {
    /// A majority is gone for good, as it seems, and the operator recovers the groups by force.
    case disaster
    /// The leader's disk hangs for good; nothing else is wrong with it.
    case hungLeader
    /// A voter is cut off while all the others but the leader are replaced. Then the leader and some more are gone, and the
    /// others need its vote for one that it never heard of.
    case strangers
    /// A change of members has just become settled, and at once its leader is gone, and those that left.
    case lossAfterChange
}

/// What a run with an ending remembers of its course.
struct EndingCourse {
    var random: PRNG
    /// Nodes that are to stay broken, once it has come so far.
    var isReady = false
    var lost: [Int] = []
    /// The voter that hears of nothing.
    var away: Int?
    /// The members before the change that the run ends with.
    var before: Configuration?
    /// Whether nothing else strikes any more.
    var isStaged = false

    init(random: PRNG) { self.random = random }

    /// So long before the faults stop, nothing else strikes any more.
    static let stageLength: Int64 = 16_000_000_000
}

extension Simulation {
    func planEnding() {
        if profile.ending != nil && profile.ending != .disaster && upgrade == nil && fleet == nil {
            plan(.ending, at: max(0, chaosEnd - EndingCourse.stageLength))
        }
    }

    /// Nodes that this run's ending leaves broken; nil where it has none, or its course was not to be had.
    func endAsDrawn() -> [Int]? {
        guard let ending = profile.ending, ending != .disaster, upgrade == nil, fleet == nil else { return nil }
        let checker = checkers[0]
        guard let leader = leader(of: checker.group), isIntact else { return nil }
        switch ending {
        case .disaster: return nil
        case .hungLeader:
            guard spares([leader.number], of: checker.latestConfiguration) else { return nil }
            course.lost = [leader.number]
            mendDisk(of: leader)
            leader.diskStalledUntil = .max / 4
        case .strangers:
            guard let lost = lostAmongStrangers(leader, checker) else { return nil }
            course.lost = lost
            for number in lost { putOut(nodes[number]) }
        case .lossAfterChange:
            guard course.isReady else { return nil }
            for number in course.lost where number != leader.number { putOut(nodes[number]) }
            // What it sent last does not arrive.
            for other in nodes where other !== leader {
                network.block(leader.number, other.number, by: 1, at: now)
                network.block(other.number, leader.number, by: 1, at: now)
            }
        }
        result.endings[Int(ending.rawValue)] += 1
        return course.lost
    }

    private func putOut(_ node: SimulatedNode) {
        node.isDown = true
        crash(node, restartAfter: nil)
    }

    /// Whether every node may be counted on, but for what is cut off or hangs.
    private var isIntact: Bool {
        checkers.count == 1 && !checkers[0].isLost.contains(true) && !checkers[0].isTainted.contains(true)
            && !nodes.contains { $0.hasRottenState || $0.isDiskFull }
    }

    /// Whether a majority of the voters is left without these nodes.
    private func spares(_ lost: [Int], of configuration: Configuration) -> Bool {
        if configuration.isJoint || isChangingMembers { return false }
        let voters = configuration.members.filter { $0.role == .voter }
        return voters.count { !lost.contains(Int($0.peer.node.rawValue) - 1) } > voters.count / 2
    }

    // MARK: The course

    /// Nothing strikes any more, so that the moment can be had. Once everybody votes again the course begins.
    func endingTurn() {
        guard recovery.phase == .chaos, let ending = profile.ending else { return }
        if !course.isStaged {
            course.isStaged = true
            mendEverything(except: [])
        }
        plan(.ending, at: now + 100_000_000)
        let checker = checkers[0]
        guard isIntact, let leader = leader(of: checker.group), leader.pausedUntil <= now else { return }
        let known = leader.runtime?.inspect(checker.group) { raft, _ in (raft.isMembershipSettled, raft.configuration) }
        guard let (isSettled, configuration) = known, isSettled else { return }
        let voters = configuration.members.filter { $0.role == .voter }
        if let learner = configuration.members.first(where: { $0.role == .learner && !$0.promotesItself }) {
            let steps = [MembershipStep.promote(learner.peer.replica)]
            return turn(leader, .request(.changeMembership(checker.group, steps), ticket: Caretaker.ticket))
        }
        guard voters.count == nodes.count, nodes.allSatisfy({ $0.isRunning && $0.pausedUntil <= now }) else { return }
        switch ending {
        case .disaster, .hungLeader: break
        case .strangers: replaceNext(of: voters, leader, checker)
        case .lossAfterChange: removeSome(of: voters, leader, checker)
        }
    }

    private func removeSome(of voters: [Member], _ leader: SimulatedNode, _ checker: ClusterChecker) {
        guard now > chaosEnd - EndingCourse.stageLength / 2, course.before == nil else { return }
        // As many as may go so that the rest still spares its leader.
        let leaving = 1 + course.random.below(voters.count - 3)
        let steps = voters.filter { $0.peer.node != leader.id }.prefix(leaving).map {
            MembershipStep.remove($0.peer.replica)
        }
        course.before = checker.latestConfiguration
        turn(leader, .request(.changeMembership(checker.group, Array(steps)), ticket: Caretaker.ticket))
    }

    /// After every turn: the run ends when the change is settled.
    func lookForSettledChange(_ node: SimulatedNode) {
        guard recovery.phase == .chaos, !course.isReady, let before = course.before else { return }
        let checker = checkers[0]
        let known = node.runtime?.inspect(checker.group) { raft, _ in (raft.isMembershipSettled, raft.configuration) }
        guard let (isSettled, configuration) = known, isSettled, configuration != before, isIntact,
            leader(of: checker.group) === node
        else { return }
        var lost = [node.number]
        for member in before.members where configuration.member(member.peer.replica) == nil {
            lost.append(Int(member.peer.node.rawValue) - 1)
        }
        guard lost.count > 1, spares(lost, of: configuration), nodes.allSatisfy(\.isRunning) else { return }
        course.isReady = true
        course.lost = lost
        endChaos()
    }

    private func replaceNext(of voters: [Member], _ leader: SimulatedNode, _ checker: ClusterChecker) {
        guard let away = course.away else { return sendAway(leader) }
        let met = nodes[away].runtime?.inspect(checker.group) { raft, _ in raft.configuration }
        let next = voters.first { voter in
            let node = Int(voter.peer.node.rawValue) - 1
            return node != away && node != leader.number && met?.member(voter.peer.replica) != nil
        }
        guard let next else { return }
        turn(
            leader, .request(.changeMembership(checker.group, [.remove(next.peer.replica)]), ticket: Caretaker.ticket))
    }

    private func sendAway(_ leader: SimulatedNode) {
        let others = nodes.filter { $0 !== leader }
        let node = others[course.random.below(others.count)]
        course.away = node.number
        var links: [(from: Int, to: Int)] = []
        for other in nodes where other !== node {
            links += [(node.number, other.number), (other.number, node.number)]
        }
        cutLinks(links, .partition, node.number, 2 * EndingCourse.stageLength)
    }

    /// The leader, and as many more as leave a bare majority with the one that was away.
    private func lostAmongStrangers(_ leader: SimulatedNode, _ checker: ClusterChecker) -> [Int]? {
        guard let away = course.away, nodes.allSatisfy(\.isRunning) else { return nil }
        let known = leader.runtime?.inspect(checker.group) { raft, _ in raft.isMembershipSettled } ?? false
        let met = nodes[away].runtime?.inspect(checker.group) { raft, _ in raft.configuration }
        guard known, let met, spares([], of: checker.latestConfiguration) else { return nil }
        var others: [Int] = []
        for member in checker.latestConfiguration.members where member.role == .voter {
            let node = Int(member.peer.node.rawValue) - 1
            if node == away || node == leader.number { continue }
            if met.member(member.peer.replica) != nil { return nil }
            others.append(node)
        }
        let needed = (others.count + 2) / 2 + 1
        return [leader.number] + others.prefix(others.count + 1 - needed)
    }
}
