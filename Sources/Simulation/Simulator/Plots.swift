import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore

/// A course of events that chance alone would hardly find. Every step of it is legal in this world, and strikes in the
/// chaos like a fault; a plot only chooses the moment. Each was named by a known bug that nothing else showed.
public enum Plot: UInt8, CaseIterable, Sendable {
    /// Copies of old answers wander about until their receiver leads again, or is asked though another leads by now.
    case lateAnswers
    /// A leader, alone or with a follower whose disk may hang, is cut off and goes on writing. The others elect one of
    /// theirs and cut their logs; then the old leader comes back, and is made leader again.
    case deposedLeader
    /// A node dies while the log write that names its new snapshot is under way.
    case deathAtInstall
}

/// What the plots of a run remember.
struct Plots {
    struct LateAnswer {
        var frame: PeerFrame
        /// The sender's: what was under way ends with the connection.
        var life: UInt32
    }

    /// A stream of its own: what a plot draws shifts no other draw.
    var random: PRNG
    /// By receiver, oldest first.
    private(set) var lateAnswers: [RingBuffer<LateAnswer>]
    var commandsSent: UInt64 = 0

    static let lateAnswersMax = 48

    init(random: PRNG, nodes: Int) {
        self.random = random
        lateAnswers = Array(repeating: RingBuffer(), count: nodes)
    }

    mutating func remember(_ frame: PeerFrame, of sender: SimulatedNode, to: Int) {
        let messages = frame.messages.filter { $0.message.body.isAnswer }
        if messages.isEmpty { return }
        let copy = PeerFrame(from: frame.from, incarnation: frame.incarnation, messages: messages)
        lateAnswers[to].append(LateAnswer(frame: copy, life: sender.life))
        if lateAnswers[to].count > Plots.lateAnswersMax { _ = lateAnswers[to].popFirst() }
    }

    mutating func forget(to node: Int) { lateAnswers[node].removeAll() }
}

extension Message.Body {
    var isAnswer: Bool {
        switch self {
        case .appendAnswer, .voteAnswer, .leadershipConfirmed: true
        default: false
        }
    }
}

extension Simulation {
    func has(_ plot: Plot) -> Bool { profile.plots.contains(plot) }

    private func count(_ plot: Plot) { result.plots[Int(plot.rawValue)] += 1 }

    func planPlots() {
        if has(.deposedLeader) { plan(.plot, at: 2_000_000_000) }
    }

    /// The next leader is deposed, or one of before, which comes with the event, is brought back.
    func plotTurn(_ event: WorldEvent, _ node: SimulatedNode?) {
        guard recovery.phase == .chaos else { return }
        if let node { return bringBack(node, GroupID(event.b)) }
        plan(.plot, at: now + plots.random.within(500_000_000...8_000_000_000))
        if !course.isStaged { deposeLeader() }
    }

    // MARK: Late answers

    /// Sends `node` old answers as late as they can come; those that were under way before a link was cut come as well.
    func sendLateAnswers(to node: SimulatedNode) {
        count(.lateAnswers)
        for i in 0..<plots.lateAnswers[node.number].count {
            let late = plots.lateAnswers[node.number][i]
            guard nodes[Int(late.frame.from.rawValue) - 1].life == late.life, plots.random.chance(1, in: 2) else {
                continue
            }
            plan(
                .deliver, at: now + plots.random.within(0...2_000_000), node: node,
                a: frames.put(throughBytes(late.frame)), b: Simulation.wasUnderWay)
        }
    }

    /// A node that believes itself to lead is asked for a read, and another leads by now.
    func aboutToRead(_ node: SimulatedNode, _ group: GroupID) {
        guard has(.lateAnswers), recovery.phase == .chaos else { return }
        let leads = node.runtime?.inspect(group) { raft, _ in raft.isLeader } ?? false
        if leads && leader(of: group) !== node { sendLateAnswers(to: node) }
    }

    // MARK: Deposed leader

    private func deposeLeader() {
        let checker = checkers[plots.random.below(checkers.count)]
        guard let leader = leader(of: checker.group), leader.pausedUntil <= now else { return }
        count(.deposedLeader)
        var side = [leader.number]
        let length = plots.random.within(100_000_000...1_500_000_000)
        let voters = checker.latestConfiguration.members.filter {
            $0.role == .voter && $0.peer.node != leader.id
        }
        // The others must be a majority without it.
        if voters.count >= 4 && plots.random.chance(2, in: 3) {
            let companion = nodes[Int(voters[plots.random.below(voters.count)].peer.node.rawValue) - 1]
            side.append(companion.number)
            if plots.random.chance(1, in: 2) {
                let hangs = plots.random.within(100_000_000...2_000_000_000)
                companion.diskStalledUntil = max(companion.diskStalledUntil, now + hangs)
            }
        }
        var links: [(from: Int, to: Int)] = []
        for a in side {
            for b in nodes where !side.contains(b.number) { links += [(a, b.number), (b.number, a)] }
        }
        cutLinks(links, .partition, leader.number, length)
        // Commands that nobody waits for, one entry each.
        var at = now
        for _ in 0..<(1 + plots.random.below(60)) {
            at += plots.random.within(0...3_000_000)
            plan(.moment, at: at, node: leader, a: 2, b: checker.group.rawValue)
        }
        for _ in 0..<3 {
            let back = now + length + plots.random.within(50_000_000...1_500_000_000)
            plan(.plot, at: back, node: leader, b: checker.group.rawValue)
        }
    }

    /// A command to this node, as from a client that does not care for its outcome.
    func sendCommand(to node: SimulatedNode, _ group: GroupID) {
        plots.commandsSent += 1
        let command = SpaceCommand(
            client: ClientID(.max), sequence: plots.commandsSent, .delete(key: Array("plot".utf8), revision: nil))
        turn(node, .request(.command(group, command.encoded()), ticket: Caretaker.ticket))
    }

    private func bringBack(_ node: SimulatedNode, _ group: GroupID) {
        guard let leader = leader(of: group), leader !== node, leader.pausedUntil <= now,
            let replica = node.runtime?.inspect(group, { raft, _ in raft.peer.replica })
        else { return }
        turn(leader, .request(.transferLeadership(group, to: replica), ticket: Caretaker.ticket))
    }

    // MARK: Death at install

    func switching(_ node: SimulatedNode, endsAt: Int64) {
        guard has(.deathAtInstall), recovery.phase == .chaos, !course.isStaged, plots.random.chance(1, in: 2) else {
            return
        }
        count(.deathAtInstall)
        plan(.moment, at: plots.random.within(now...endsAt), node: node, a: 3)
    }
}
