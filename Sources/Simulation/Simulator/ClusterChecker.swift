import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore
import StoreLayout

/// The shadow of one group: what was promised, by whom, and what really is on every disk. After every event it is held
/// against what the nodes say. Numbers are those of the invariant list.
final class ClusterChecker {
    struct Committed {
        var term: Term
        var chain: UInt64
    }

    /// What is on a node's log disk for certain.
    struct Shadow {
        var replica: ReplicaID
        var hard = HardState()
        var base: LogIndex = .zero
        var entries: [Committed] = []
        var last: LogIndex { base.advanced(by: entries.count) }

        /// The last acknowledgement that left the node.
        var acknowledged: (term: Term, index: LogIndex) = (.zero, .zero)

        func holds(_ index: LogIndex, _ chain: UInt64) -> Bool {
            if index <= base { return true }
            return index <= last && entries[index - base - 1].chain == chain
        }
    }

    let group: GroupID
    /// Index 1 is at 0.
    private(set) var committed: [Committed] = []
    /// Every entry that was ever durable somewhere, one per term; index 1 is at 0.
    private var written: [[Committed]] = []
    /// Zero where no replica was seen at that index.
    private(set) var digests: [UInt64] = []
    private var leaders: [(epoch: Epoch, term: Term, replica: ReplicaID)] = []
    private var votes: [(term: Term, voter: ReplicaID, candidate: ReplicaID)] = []
    private var configurations: [(index: LogIndex, configuration: Configuration)]
    var shadows: [Shadow?]
    private var seen: [Standing]
    /// Nodes whose stored bytes the nemesis has changed.
    var isTainted: [Bool]
    /// Replicas that have lost what they promised, for good.
    private var lostReplicas: [ReplicaID] = []
    /// Nodes whose replica is known to be lost and must be replaced: wiped, or found damaged.
    var isLost: [Bool]
    /// The last round of reads that each node asked each other for.
    private var rounds: [(term: Term, round: UInt64)]

    /// Counts the forced recoveries. Replicas of an older one have no say.
    private(set) var epoch = Epoch.zero
    /// The epoch of the last commit that was counted.
    private var counted = Epoch.zero

    /// Nodes from this one on are hosts only.
    private let holders: Int

    init(group: GroupID, nodes: Int, first: Configuration) {
        self.group = group
        holders = first.members.count
        configurations = [(.zero, first)]
        shadows = (0..<nodes).map { first.peer(at: NodeID(UInt64($0 + 1))).map { Shadow(replica: $0.replica) } }
        seen = Array(repeating: Standing(), count: nodes)
        isTainted = Array(repeating: false, count: nodes)
        isLost = Array(repeating: false, count: nodes)
        rounds = Array(repeating: (.zero, 0), count: nodes * nodes)
    }

    var lastCommitted: LogIndex { LogIndex(UInt64(committed.count)) }
    private var latestConfigurationIndex: LogIndex { configurations[configurations.count - 1].index }
    var latestConfiguration: Configuration { configurations[configurations.count - 1].configuration }

    /// Of the last entry on a node's disk, which stands for its whole log.
    func chain(at node: Int) -> UInt64 { shadows[node]?.entries.last?.chain ?? 0 }

    // MARK: After every event

    func check(_ runtime: NodeEngine<SimulatedNode>, at node: Int, world: Simulation) {
        guard let now = runtime.standing(of: group) else { return }
        let checksMatches = now.phase == .leader && !world.profile.plots.isEmpty
        #if !MUTANTS
        if now == seen[node] && !checksMatches { return }
        #endif
        runtime.inspect(group) { raft, applied in
            #if MUTANTS
            if let violation = raft.violation { world.fail("local invariant", "node \(node + 1): \(violation)") }
            #endif
            let before = seen[node]
            if raft.epoch < epoch { return checkLeftBehind(raft, before, node, world) }
            if checksMatches { checkMatches(raft, node, world) }
            if before == now { return }
            checkChange(raft, applied, before, node, world)
            seen[node] = now
        }
    }

    private func checkChange(
        _ raft: borrowing Raft, _ applied: AppliedState, _ before: Standing, _ node: Int, _ world: Simulation
    ) {
        let isSame = before.replica == raft.peer.replica
        if isSame && raft.term < before.term {
            world.fail("2 terms never fall", "node \(node + 1) went from \(before.term) to \(raft.term)")
        }
        if isSame && raft.commit < before.commit {
            world.fail("9 commit never falls", "node \(node + 1) went from \(before.commit) to \(raft.commit)")
        }
        if isSame && applied.index < before.applied {
            world.fail("14 applied never falls", "node \(node + 1) went from \(before.applied) to \(applied.index)")
        }
        if raft.phase == .leader && (before.phase != .leader || before.term != raft.term || !isSame) {
            checkNewLeader(raft, node, world)
        }
        if raft.commit > (isSame ? before.commit : .zero) {
            checkCommit(raft, node, from: isSame ? before.commit : .zero, world)
        }
        if raft.durable > before.durable || !isSame { checkDurable(raft, node, world) }
        if applied.index > .zero { checkApplied(applied, node, world) }
    }

    /// A replica of before a forced recovery may not know of it, but must not matter once nothing of then is under way.
    private func checkLeftBehind(_ raft: borrowing Raft, _ before: Standing, _ node: Int, _ world: Simulation) {
        let mayMatter = world.now <= world.recovery.healedAt + ClusterChecker.epochEndsWithin
        let hasCommitted = before.replica == raft.peer.replica && raft.commit > before.commit
        if !mayMatter && (raft.phase == .leader || hasCommitted) {
            world.fail(
                "31 what is left behind counts no more",
                "node \(node + 1) is \(raft.phase) with commit \(raft.commit) in epoch \(raft.epoch) of a group that goes on in "
                    + "epoch \(epoch)")
        }
        seen[node] = Standing(
            replica: raft.peer.replica, phase: raft.phase, term: raft.term, commit: raft.commit, durable: raft.durable)
    }

    /// Longer than anything is under way, and than a leader without a quorum stays.
    private static let epochEndsWithin: Int64 = 10_000_000_000

    /// The group goes on with the log of this replica alone. Returns how many committed entries it does not hold.
    func beginEpoch(of survivor: borrowing Raft) -> UInt64 {
        var forgotten: UInt64 = 0
        while let last = committed.last, lastCommitted > survivor.base.index,
            survivor.term(at: lastCommitted) != last.term
        {
            committed.removeLast()
            forgotten += 1
        }
        if digests.count > committed.count { digests.removeLast(digests.count - committed.count) }
        configurations.removeAll { $0.index > lastCommitted }
        epoch = epoch.next
        return forgotten
    }

    /// Whether these nodes alone could decide.
    func hasQuorum(_ nodes: [Int]) -> Bool {
        isMajority(of: latestConfiguration) { nodes.contains(Int($0.peer.node.rawValue) - 1) }
    }

    private func checkNewLeader(_ raft: borrowing Raft, _ node: Int, _ world: Simulation) {
        world.result.elections += 1
        let epoch = raft.configuration.epoch
        for known in leaders.reversed() where known.epoch == epoch && known.term == raft.term {
            if known.replica != raft.peer.replica {
                world.fail(
                    "1 one leader per term",
                    "replicas \(known.replica) and \(raft.peer.replica) both lead term \(raft.term)")
            }
            return
        }
        leaders.append((epoch, raft.term, raft.peer.replica))
        checkVotes(raft, node, world)
        // Leader completeness: the log of every new leader holds all that was committed in earlier terms. Votes that wander
        // may make a leader of a term that the group has left behind.
        guard let last = committed.last, last.term <= raft.term else { return }
        let index = lastCommitted
        if raft.lastIndex < index || (raft.term(at: index) ?? last.term) != last.term
            || (last.chain != 0 && (raft.chain(at: index) ?? last.chain) != last.chain)
        {
            world.fail(
                "12 leader completeness",
                "node \(node + 1) leads term \(raft.term) without the committed entry \(index) of term \(last.term)")
        }
    }

    /// A leader was elected by a majority of votes that were really cast for it in its term.
    private func checkVotes(_ raft: borrowing Raft, _ node: Int, _ world: Simulation) {
        let isElected = isMajority(of: raft.configuration) { member in
            // Nobody needs to ask for the own vote.
            member.peer == raft.peer
                || votes.contains {
                    $0.term == raft.term && $0.voter == member.peer.replica && $0.candidate == raft.peer.replica
                }
        }
        if !isElected {
            world.fail(
                "30 votes of a majority", "node \(node + 1) leads term \(raft.term) without a majority of its votes")
        }
    }

    private func isMajority(of configuration: Configuration, _ holds: (Member) -> Bool) -> Bool {
        var old = (needed: 0, held: 0)
        var new = (needed: 0, held: 0)
        for member in configuration.members where member.role.isVoting {
            let isHeld = holds(member)
            if member.role.votesInOldHalf {
                old.needed += 1
                old.held += isHeld ? 1 : 0
            }
            if member.role.votesInNewHalf {
                new.needed += 1
                new.held += isHeld ? 1 : 0
            }
        }
        return old.held > old.needed / 2 && new.held > new.needed / 2
    }

    /// What a replica holds for durable is on its disk. A snapshot's index is vouched for by the write that names it.
    private func checkDurable(_ raft: borrowing Raft, _ node: Int, _ world: Simulation) {
        guard raft.durable > raft.base.index, !isTainted[node] else { return }
        guard let shadow = shadows[node], shadow.replica == raft.peer.replica else { return }
        let isHeld =
            raft.chain(at: raft.durable).map { shadow.holds(raft.durable, $0) } ?? (raft.durable <= shadow.last)
        if !isHeld {
            world.fail(
                "18 a write vouches for what it wrote",
                "node \(node + 1) holds \(raft.durable) for durable, and has something else on its disk, which ends at "
                    + "\(shadow.last)")
        }
    }

    /// What a leader counts of the others is on their disks, and equal to its own log.
    private func checkMatches(_ raft: borrowing Raft, _ node: Int, _ world: Simulation) {
        for member in raft.configuration.members {
            let other = Int(member.peer.node.rawValue) - 1
            guard let match = raft.match(of: member.peer.replica), !isLost[other], !isTainted[other] else { continue }
            guard let shadow = shadows[other], shadow.replica == member.peer.replica else { continue }
            // What was acknowledged in a term may be replaced in a later one, of which a deposed leader knows nothing.
            if shadow.hard.term > raft.term { continue }
            let isHeld = raft.chain(at: match).map { shadow.holds(match, $0) } ?? (match <= shadow.last)
            if !isHeld {
                world.fail(
                    "23 match is what a member holds",
                    "node \(node + 1) counts \(match) of \(member.peer), whose disk ends at \(shadow.last)")
            }
        }
    }

    private func checkCommit(_ raft: borrowing Raft, _ node: Int, from: LogIndex, _ world: Simulation) {
        var index = max(from, raft.base.index).next
        let firstNew = lastCommitted.next
        while index <= raft.commit {
            if let term = raft.term(at: index) {
                // Zero where the entry has left the cache within the turn that committed it.
                let chain = raft.chain(at: index) ?? 0
                if index <= lastCommitted {
                    let position = Int(index.rawValue) - 1
                    let known = committed[position]
                    if known.chain == 0 { committed[position].chain = chain }
                    if known.term != term || (chain != 0 && known.chain != 0 && known.chain != chain) {
                        return world.fail(
                            "13 state-machine safety",
                            "node \(node + 1) committed term \(term) at \(index), where term \(known.term) was committed"
                        )
                    }
                } else if index == lastCommitted.next {
                    committed.append(Committed(term: term, chain: chain))
                } else {
                    return world.fail(
                        "11 commit without a gap", "node \(node + 1) knows of commit \(index) after \(lastCommitted)")
                }
            }
            index = index.next
        }
        if lastCommitted >= firstNew { checkQuorum(raft, node, from: from, world) }
        checkMatches(raft, node, world)
    }

    /// What was just committed for the first time is on the disks of a majority of the configuration in force.
    private func checkQuorum(_ raft: borrowing Raft, _ node: Int, from: LogIndex, _ world: Simulation) {
        // A forced recovery commits all that its replica holds, by the operator's word.
        if raft.epoch > counted {
            counted = raft.epoch
            return
        }
        guard let last = committed.last, last.chain != 0 else { return }
        let index = lastCommitted
        // What counted it: the configuration in force before it, or the one that was in force at the leader's last
        // commit, when a configuration among the entries since then came into force by this very commit.
        var counting: [Configuration] = []
        for known in configurations where known.index < index {
            if known.index <= from { counting.removeAll() }
            counting.append(known.configuration)
        }
        let isHeld = counting.contains {
            isMajority(of: $0) { member in
                let other = Int(member.peer.node.rawValue) - 1
                // One that has lost its data since it acknowledged is a loss that the run allows.
                if lostReplicas.contains(member.peer.replica) { return true }
                guard let shadow = shadows[other], shadow.replica == member.peer.replica else { return false }
                return shadow.holds(index, last.chain)
            }
        }
        if !isHeld {
            world.fail(
                "11 committed means durable at a majority",
                "node \(node + 1) committed \(index) of term \(last.term), held by too few voters: "
                    + described(counting[0], index))
        }
    }

    private func described(_ configuration: Configuration, _ index: LogIndex) -> String {
        var text = ""
        for member in configuration.members {
            let shadow = shadows[Int(member.peer.node.rawValue) - 1]
            text += "\(member.peer) \(member.role): "
            text += shadow.map { "r\($0.replica) \($0.base)...\($0.last); " } ?? "nothing; "
        }
        return text + "configurations at \(configurations.suffix(4).map(\.index)), lost \(lostReplicas)"
    }

    private func checkApplied(_ applied: AppliedState, _ node: Int, _ world: Simulation) {
        let position = Int(applied.index.rawValue) - 1
        if applied.index > lastCommitted {
            return world.fail(
                "13 state-machine safety", "node \(node + 1) applied \(applied.index), which is not committed")
        }
        if committed[position].chain == 0 { committed[position].chain = applied.chain }
        if committed[position].chain != applied.chain {
            return world.fail("13 state-machine safety", "node \(node + 1) applied another entry \(applied.index)")
        }
        world.upgrade?.applied(group, at: position, by: node)
        while digests.count <= position { digests.append(0) }
        if digests[position] == 0 {
            digests[position] = applied.digest
        } else if digests[position] != applied.digest {
            world.fail("13 equal states", "node \(node + 1) holds another state at \(applied.index)")
        }
    }

    func saw(_ event: Event, at node: Int, world: Simulation) {
        switch event {
        case .configurationApplied(let index, let configuration):
            world.result.membershipChanges += 1
            checkConfiguration(index, configuration, world)
        case .diverged(let index):
            world.fail("6 log matching", "node \(node + 1) found its log different at \(index)")
        case .malformed(let peer, let problem):
            world.fail("correct peers", "node \(node + 1) got \(problem) from \(peer)")
        case .snapshotInstalled: world.result.snapshotsInstalled += 1
        default: break
        }
    }

    private func checkConfiguration(_ index: LogIndex, _ configuration: Configuration, _ world: Simulation) {
        for known in configurations.reversed() where known.index == index {
            if known.configuration != configuration {
                world.fail("13 state-machine safety", "two configurations are in force at \(index)")
            }
            return
        }
        // A snapshot's index is named where its configuration was in force already.
        guard let last = configurations.last, index > last.index, configuration != last.configuration else { return }
        configurations.append((index, configuration))
        if !isStep(from: last.configuration, to: configuration) {
            world.fail(
                "29 configurations chain",
                "the configuration at \(index) is no step from the one at \(last.index): \(last.configuration.members) and "
                    + "\(configuration.members)")
        }
        if configuration.replicaHighest < last.configuration.replicaHighest
            && configuration.epoch == last.configuration.epoch
        {
            world.fail("32 replica ids are never reused", "the highest id fell at \(index)")
        }
    }

    /// Written apart from the core's own rule: one voter comes or goes, or a joint configuration is entered from what it takes
    /// over, or left to what it leads to.
    private func isStep(from last: Configuration, to next: Configuration) -> Bool {
        if next.epoch != last.epoch { return true }
        func half(_ configuration: Configuration, _ isIn: (Role) -> Bool) -> [ReplicaID] {
            configuration.members.filter { isIn($0.role) }.map(\.peer.replica)
        }
        let old = half(last) { $0 == .voter || $0 == .entering }
        switch (last.isJoint, next.isJoint) {
        case (true, true): return false
        case (false, true): return half(next) { $0 != .learner && $0 != .entering } == old
        case (true, false): return half(next) { $0 == .voter } == old
        case (false, false):
            let new = half(next) { $0 == .voter }
            return new.count { !old.contains($0) } + old.count { !new.contains($0) } <= 1
        }
    }

    // MARK: What leaves a node

    /// Nothing that promises something may leave before what it promises is on the disk.
    func sent(_ message: Message, by node: Int, world: Simulation) {
        switch message.body {
        case .voteAnswer(let answer) where answer.isGranted: checkVote(message, node, world)
        case .vote:
            guard let shadow = shadows[node], shadow.replica == message.from.replica else { return }
            if shadow.hard.term < message.term {
                world.fail(
                    "15 durable before sent", "node \(node + 1) campaigns in term \(message.term) before it is durable")
            }
            recordVote(message.term, message.from.replica, message.from.replica, world)
        case .appendAnswer(let answer):
            guard case .accepted(let match) = answer.verdict else { return }
            guard let shadow = shadows[node], shadow.replica == message.from.replica else { return }
            if shadow.last < match {
                world.fail(
                    "15 durable before sent", "node \(node + 1) acknowledged \(match) with \(shadow.last) on its disk")
            }
            shadows[node]?.acknowledged = (message.term, match)
            if shadow.hard.term < message.term && match > .zero {
                world.fail(
                    "16 no entry without its term",
                    "node \(node + 1) acknowledged in term \(message.term) before it is durable")
            }
        case .confirmLeadership(let round): checkRound(message, round, node, world)
        case .append(let append):
            if append.commit > append.previousIndex.advanced(by: append.entries.count) {
                world.fail(
                    "27 no commit beyond what matches",
                    "node \(node + 1) sent commit \(append.commit) with \(append.entries.count) entries after "
                        + "\(append.previousIndex)")
            }
            for known in leaders.reversed() where known.term == message.term && known.epoch == message.epoch {
                if known.replica != message.from.replica {
                    world.fail(
                        "1 one leader per term",
                        "replica \(message.from.replica) leads term \(message.term) of \(known.replica)")
                }
                return
            }
        default: break
        }
    }

    /// A round of reads has a number of its own: an answer to one must not confirm another.
    private func checkRound(_ message: Message, _ round: UInt64, _ node: Int, _ world: Simulation) {
        let to = Int(message.to.node.rawValue) - 1
        let asked = rounds[node * shadows.count + to]
        if asked.term == message.term && asked.round >= round {
            world.fail(
                "34 a round is asked for once",
                "node \(node + 1) asked \(message.to) for round \(round) of term \(message.term) after \(asked.round)")
        }
        rounds[node * shadows.count + to] = (message.term, round)
    }

    private func checkVote(_ message: Message, _ node: Int, _ world: Simulation) {
        guard let shadow = shadows[node], shadow.replica == message.from.replica else { return }
        let isDurable =
            shadow.hard.term > message.term
            || (shadow.hard.term == message.term && shadow.hard.votedFor == message.to.replica)
        if !isDurable {
            world.fail(
                "15 durable before sent",
                "node \(node + 1) answered a vote of term \(message.term) before it is durable")
        }
        recordVote(message.term, message.from.replica, message.to.replica, world)
    }

    private func recordVote(_ term: Term, _ voter: ReplicaID, _ candidate: ReplicaID, _ world: Simulation) {
        for known in votes.reversed() where known.term == term && known.voter == voter {
            if known.candidate != candidate {
                world.fail(
                    "3 one vote per term",
                    "replica \(voter) voted for \(known.candidate) and \(candidate) in term \(term)")
            }
            return
        }
        votes.append((term, voter, candidate))
    }

    // MARK: Disks

    func becameDurable(_ write: GroupWrite, at node: Int, world: Simulation) {
        guard write.group == group else { return }
        if write.act == .destroy {
            if shadows[node]?.replica == write.replica { shadows[node] = nil }
            seen[node] = Standing()
            return
        }
        if write.act == .create {
            shadows[node] = Shadow(replica: write.replica)
            isTainted[node] = false
            isLost[node] = false
            seen[node] = Standing()
            return
        }
        guard var shadow = shadows[node], shadow.replica == write.replica else { return }
        shadows[node] = nil
        if write.write.hardState.term < shadow.hard.term {
            world.fail(
                "2 terms never fall",
                "node \(node + 1) wrote term \(write.write.hardState.term) over \(shadow.hard.term)")
        }
        shadow.hard = write.write.hardState
        if let base = write.write.base {
            if write.write.snapshot != nil {
                shadow.entries.removeAll(keepingCapacity: true)
                shadow.base = base.index
            } else if base.index > shadow.base {
                shadow.entries.removeFirst(min(shadow.entries.count, base.index - shadow.base))
                shadow.base = base.index
            }
        }
        for entry in write.write.entries {
            if entry.index <= shadow.base { continue }
            let position = entry.index - shadow.base - 1
            if position < shadow.entries.count { shadow.entries.removeLast(shadow.entries.count - position) }
            shadow.entries.append(Committed(term: entry.term, chain: entry.chain))
        }
        checkMatching(write.write.entries, node, world)
        if shadow.last > write.write.last { shadow.entries.removeLast(shadow.last - write.write.last) }
        // A leader never takes back what it sent, so within a term a follower's log never shrinks below what it acknowledged.
        if shadow.acknowledged.term == write.write.hardState.term && shadow.last < shadow.acknowledged.index {
            world.fail(
                "20 nothing promised is forgotten",
                "node \(node + 1) cut its log at \(shadow.last), having acknowledged \(shadow.acknowledged.index) in the same term"
            )
        }
        for entry in write.write.entries {
            // The bug of single-server changes (Ongaro, 2015), and its kin in leaving a joint configuration.
            if case .configuration(let next) = entry.content, next.epoch == counted,
                (committed.last?.term ?? .zero) < entry.term
            {
                world.fail(
                    "28 a change waits for a commit of the own term",
                    "node \(node + 1) wrote the configuration \(entry.index) of term \(entry.term), in which nothing is "
                        + "committed")
            }
        }
        for entry in write.write.entries where entry.term > write.write.hardState.term {
            world.fail(
                "16 no entry without its term",
                "node \(node + 1) wrote term \(entry.term) under \(write.write.hardState.term)")
        }
        shadows[node] = shadow
    }

    /// Of an index and a term there is one log: two nodes that write the same entry hold the same before it. After a forced
    /// recovery those that it left behind may go on by themselves, in terms that the others use too.
    private func checkMatching(_ entries: [Entry], _ node: Int, _ world: Simulation) {
        if epoch != .zero { return }
        for entry in entries {
            let at = Int(entry.index.rawValue) - 1
            while written.count <= at { written.append([]) }
            if let known = written[at].first(where: { $0.term == entry.term }) {
                if known.chain != entry.chain {
                    world.fail(
                        "6 logs match",
                        "node \(node + 1) wrote an entry \(entry.index) of term \(entry.term) that follows another log than "
                            + "that of the same term elsewhere")
                }
            } else {
                written[at].append(Committed(term: entry.term, chain: entry.chain))
            }
        }
    }

    func crashed(_ node: Int) {
        // What was only in memory may be forgotten: term, commit and applied start again from the disk.
        seen[node] = Standing()
    }

    func wiped(_ node: Int) {
        // A host that never has a replica loses none.
        if node >= holders { return }
        if let shadow = shadows[node] { lostReplicas.append(shadow.replica) }
        shadows[node] = nil
        isLost[node] = true
        isTainted[node] = false
        seen[node] = Standing()
    }

    /// A start finds exactly what the disk held, or says that it is damaged.
    func restarted(_ node: Int, _ replicas: [OpenedNode.Replica], _ damaged: [OpenedNode.Damage], world: Simulation) {
        for found in damaged where found.group == group {
            foundDamaged(node, found.replica, found.reason, world: world)
        }
        guard let found = replicas.first(where: { $0.group == group }) else { return }
        guard let shadow = shadows[node], shadow.replica == found.replica else {
            if shadows[node] == nil && isLost[node] {
                world.fail(
                    "32 replica ids are never reused", "node \(node + 1) came back as \(found.replica) without its data"
                )
            }
            return
        }
        let lastChain = shadow.entries.last?.chain
        if found.log.hardState.term != shadow.hard.term || found.log.hardState.votedFor != shadow.hard.votedFor
            || found.log.last != shadow.last || (lastChain != nil && found.log.lastChain != lastChain)
        {
            world.fail(
                "20 nothing promised is forgotten",
                "node \(node + 1) restarted with term \(found.log.hardState.term), last \(found.log.last), where its disk held "
                    + "term \(shadow.hard.term), last \(shadow.last)")
        }
    }

    func foundDamaged(_ node: Int, _ replica: ReplicaID, _ reason: String, world: Simulation) {
        guard let shadow = shadows[node], shadow.replica == replica || replica.rawValue == 0 else { return }
        // It was found before, and the node ended before it had written down that it gave the replica up.
        if lostReplicas.contains(shadow.replica) { return isLost[node] = true }
        if !isTainted[node] && !world.nodes[node].hasRottenState {
            world.fail("21 stores are never damaged by a crash", "node \(node + 1): \(reason)")
        }
        if world.nodes[node].hasRottenState { world.result.harm.rottenStatesFound += 1 }
        isLost[node] = true
        lostReplicas.append(shadow.replica)
    }

    /// Whether some replica holds a configuration that is not known to be committed everywhere.
    func hasPendingConfiguration(in world: Simulation) -> Bool {
        for node in world.nodes {
            // What a log was cut at is committed.
            let isPending = node.runtime?.inspect(group) { raft, _ in
                raft.lastConfigurationIndex > max(latestConfigurationIndex, raft.base.index)
            }
            if isPending == true { return true }
        }
        return false
    }

    /// Whether one more replica may lose its data without touching what was acknowledged.
    func mayLose(_ node: Int) -> Bool {
        if isTainted.contains(true) || isLost.contains(true) { return false }
        let latest = latestConfiguration
        // The others must know the configuration for good: by the one before it this replica may be needed.
        let isKnown = latest.members.allSatisfy { member in
            let other = Int(member.peer.node.rawValue) - 1
            return member.role != .voter || other == node
                || (shadows[other]?.hard.commit ?? .zero) >= latestConfigurationIndex
        }
        return isKnown && !latest.isJoint && latest.members.count { $0.role == .voter } >= 3
    }
}
