import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Simulator
import Testing

private let group = GroupID(1)

@Suite struct NodeEngineTests {
    // MARK: Clients

    @Test func `the commands of a turn share an entry, and each ticket has one answer`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        let tickets = (0..<100).map { _ in cluster.nextTicket() }
        for ticket in tickets {
            leader.engine?.handle(TestCluster.put("k\(ticket)", ticket: ticket), now: cluster.now)
        }
        leader.turn()
        try cluster.run(for: .seconds(1))
        var revisions: [Revision] = []
        for ticket in tickets {
            let answers = leader.answers(to: ticket)
            guard answers.count == 1, case .applied(.space(let result)) = answers[0] else {
                Issue.record("ticket \(ticket) was answered by \(answers)")
                continue
            }
            #expect(result.outcome == .written(version: 1))
            revisions.append(result.revision)
        }
        let entry = try #require(revisions.first).index
        #expect(revisions == (0..<100).map { Revision(index: entry, slot: $0) })
        for node in cluster.nodes { #expect(node.applied(group) == entry) }
    }

    @Test func `what is beyond the bound of waiting commands is refused, the rest is done`() throws {
        var settings = NodeSettings()
        settings.commandsQueuedMax = 10
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        let tickets = (0..<15).map { _ in cluster.nextTicket() }
        for ticket in tickets { leader.engine?.handle(TestCluster.put("k", ticket: ticket), now: cluster.now) }
        leader.turn()
        try cluster.run(for: .seconds(1))
        let answers = tickets.map { leader.answers(to: $0) }
        #expect(answers[10...].allSatisfy { $0 == [.refused(.overloaded)] })
        for answer in answers[..<10] {
            guard answer.count == 1, case .applied = answer[0] else {
                Issue.record("\(answer)")
                continue
            }
        }
    }

    @Test func `commands whose entries are under way count against their own bound`() throws {
        var settings = NodeSettings()
        settings.commandsUnderWayMax = 4
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        for node in cluster.nodes { node.holdsWrites = true }
        let tickets = (0..<6).map { _ in cluster.nextTicket() }
        for ticket in tickets { leader.turn(TestCluster.put("k", ticket: ticket)) }
        #expect(tickets.map { leader.answers(to: $0).count } == [0, 0, 0, 0, 1, 1])
        #expect(leader.answers(to: tickets[5]) == [.refused(.overloaded)])
        for node in cluster.nodes { try node.release() }
        try cluster.run(for: .seconds(1))
        #expect(tickets.map { leader.answers(to: $0).count } == [1, 1, 1, 1, 1, 1])
    }

    /// Raft §8: "that server will reject the client's request and supply information about the most recent leader it has heard
    /// from".
    @Test func `a follower refuses commands with the leader's name, and unknown groups are refused`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        try cluster.run(for: .milliseconds(200))
        let follower = try #require(cluster.nodes.first { $0 !== leader })
        let peer = leader.inspect(group) { raft, _ in raft.peer }
        follower.turn(TestCluster.put("k", ticket: 1))
        #expect(follower.answers(to: 1) == [.refused(.notLeader(hint: peer))])
        follower.turn(.request(.query(GroupID(9), .space(.get(key: [1]))), ticket: 2))
        #expect(follower.answers(to: 2) == [.refused(.noSuchGroup)])
        let large = [UInt8](repeating: 0, count: cluster.settings.raft.proposalBytesMax)
        leader.turn(.request(.command(group, large), ticket: 3))
        #expect(leader.answers(to: 3) == [.refused(.tooLarge)])
    }

    @Test func `a read at any node sees every write that was answered before it`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(3, at: leader))
        for node in cluster.nodes {
            let ticket = cluster.nextTicket()
            node.turn(.request(.query(group, .space(.get(key: Array("key 2".utf8)))), ticket: ticket))
            #expect(try cluster.run { !node.answers(to: ticket).isEmpty })
            guard case .read(.space(let answer)) = node.answers(to: ticket)[0],
                case .record(let record) = answer.body
            else {
                Issue.record("\(node.answers(to: ticket))")
                continue
            }
            #expect(record?.value.count == 10)
        }
    }

    @Test func `a command whose entry is cut from the log is answered, though nothing comes in its place`() throws {
        let cluster = try TestCluster()
        let old = try #require(try cluster.leader())
        #expect(try cluster.put(1, at: old))
        old.isCut = true
        let tickets = (0..<5).map { _ in cluster.nextTicket() }
        for ticket in tickets { old.turn(TestCluster.put("lost \(ticket)", ticket: ticket)) }
        #expect(try cluster.leader(except: old) != nil)
        // The new leader has written one entry only; of the old one's five four have no successor.
        old.isCut = false
        try cluster.run(for: .seconds(3))
        #expect(tickets.map { old.answers(to: $0).count } == [1, 1, 1, 1, 1])
        #expect(tickets.dropFirst().allSatisfy { old.answers(to: $0) == [.unknown] })
        #expect(old.engine?.backlog(of: group)?.commands == 0)
    }

    @Test func `a log that a slow follower kept long is cut when it has caught up, without another write`() throws {
        var settings = NodeSettings()
        (settings.flushEntries, settings.flushInterval) = (1, .milliseconds(50))
        (settings.trailingEntries, settings.cutEntriesMin) = (0, 1)
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        let slow = try #require(cluster.nodes.first { $0 !== leader })
        slow.holdsWrites = true
        #expect(try cluster.put(20, at: leader))
        try cluster.run(for: .milliseconds(300))
        #expect(try #require(leader.engine?.backlog(of: group)).logEntries >= 20)
        try slow.release()
        try cluster.run(for: .seconds(1))
        #expect(cluster.nodes.map { $0.engine?.backlog(of: group)?.logEntries } == [0, 0, 0])
    }

    /// What etcd's `TestRawNodeCommitPaginationAfterRestart` is about: a page that ended early was taken for the last.
    @Test func `a node that starts again catches up in pages and misses nothing between them`() throws {
        var settings = NodeSettings()
        settings.replayBytesMax = 64
        settings.raft.cacheBytesMax = 64
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(20, at: leader))
        let other = try #require(cluster.nodes.first { $0 !== leader })
        #expect(try cluster.run { other.applied(group) == leader.applied(group) })
        let before = other.inspect(group) { _, applied in applied }
        // Nothing of the state was flushed, so all of it is applied again.
        other.crash()
        other.state = MemoryStore()
        other.entriesRead = 0
        try other.start(cluster.settings)
        #expect(try cluster.run { other.applied(group) == leader.applied(group) })
        #expect(other.inspect(group) { _, applied in applied } == before)
        #expect(other.entriesRead >= 10)
    }

    // MARK: Storage that stalls or fails

    @Test func `a leader whose log write hangs gives up leadership and refuses commands`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        leader.holdsWrites = true
        leader.turn(TestCluster.put("k", ticket: 1))
        // Its disk was quick so far.
        try cluster.run(for: .milliseconds(200))
        #expect(leader.leads(group))
        try cluster.run(for: .milliseconds(200))
        #expect(!leader.leads(group))
        #expect(try cluster.leader(except: leader) != nil)
        leader.turn(TestCluster.put("k", ticket: 2))
        guard case .refused(.notLeader) = leader.answers(to: 2).first else {
            Issue.record("\(leader.answers(to: 2))")
            return
        }
        try leader.release()
        try cluster.run(for: .seconds(2))
        #expect(leader.answers(to: 1).count == 1)
        let next = try #require(try cluster.leader())
        #expect(try cluster.put(1, at: next))
        #expect(try cluster.run { cluster.nodes.allSatisfy { $0.applied(group) == next.applied(group) } })
    }

    @Test func `a disk that is slow by nature gets the whole time, for as long as it is known to be slow`() throws {
        var settings = NodeSettings()
        settings.storagePulseInterval = .seconds(1)
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        leader.writeTime = .milliseconds(100)
        #expect(try cluster.put(2, at: leader))
        func survives(_ time: Nanoseconds) throws -> Bool {
            leader.holdsWrites = true
            leader.turn(TestCluster.put("k", ticket: cluster.nextTicket()))
            try cluster.run(for: time)
            let isLeader = leader.leads(group)
            try leader.release()
            try cluster.run(for: .seconds(5))
            return isLeader
        }
        #expect(try survives(.milliseconds(700)))
        #expect(leader.leads(group))
        // It got quick minutes ago.
        leader.writeTime = .microseconds(100)
        try cluster.run(for: .seconds(130))
        #expect(try !survives(.milliseconds(700)))
    }

    @Test func `a process that did not run does not take its own halt for the disk's`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(2, at: leader))
        leader.turn(TestCluster.put("k", ticket: 1))
        leader.isHung = true
        try cluster.run(for: .milliseconds(600))
        leader.isHung = false
        leader.turn(.tick)
        #expect(leader.inspect(group) { raft, _ in raft.isStorageStalled } == false)
    }

    @Test func `a node whose storage failed says so once and then nothing`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        leader.engine?.handle(TestCluster.put("k", ticket: 1), now: cluster.now)
        leader.turn(.storageFailed("the disk is gone"))
        let (frames, answers) = (leader.frames, leader.answers.count)
        leader.turn(.storageFailed("still gone"), TestCluster.put("k", ticket: 2), .tick)
        try cluster.run(for: .seconds(3))
        #expect(leader.engine?.hasFailed == true)
        #expect(leader.reports.filter { $0 == .storageFailed("the disk is gone") }.count == 1)
        #expect(!leader.reports.contains(.storageFailed("still gone")))
        #expect(leader.frames == frames)
        #expect(leader.answers.count == answers)
        #expect(try cluster.leader(except: leader) != nil)
    }

    @Test func `a replica with a damaged record is reported and has no voice, its node goes on`() throws {
        let cluster = try TestCluster(groups: 2)
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(5, at: leader))
        let victim = try #require(cluster.nodes.first { $0 !== leader })
        try cluster.run(for: .milliseconds(100))
        victim.crash()
        // One bit of its last entry is enough.
        var keys: [[UInt8]] = []
        try victim.log.scan(KeyRange(from: [], to: nil)) { key, _ in
            if key.count == 17 && key.bigEndian64(at: 0) == group.rawValue && key[8] == UInt8(ascii: "e") {
                keys.append(key)
            }
            return true
        }
        victim.log.rot(try #require(keys.last), bit: 40)
        victim.messages.removeAll()
        try victim.start(cluster.settings)
        try cluster.run(for: .seconds(1))
        let replica = ReplicaID(victim.id.rawValue)
        #expect(
            victim.reports.contains {
                if case .damaged(group, replica, _) = $0 { true } else { false }
            })
        #expect(victim.engine?.groups == [GroupID(2)])
        #expect(!victim.messages.contains { $0.group == group })
        #expect(try cluster.put(1, at: try #require(try cluster.leader())))
    }

    @Test func `a state that was made from another log is damage, and nobody goes on with it`() throws {
        var nodes: [TestNode] = []
        for bytes in [10, 20] {
            let cluster = try TestCluster()
            let leader = try #require(try cluster.leader())
            #expect(try cluster.put(5, at: leader, bytes: bytes))
            try cluster.run(for: .milliseconds(100))
            try leader.state.flush()
            leader.crash()
            nodes.append(leader)
        }
        func open(state: TestNode) throws -> OpenedNode {
            var (log, state) = (nodes[0].log, state.state)
            return try OpenedNode(nodes[0].identity, log: &log, state: &state, settings: NodeSettings())
        }
        let own = try open(state: nodes[0])
        #expect(own.replicas.map(\.group) == [group] && own.damaged.isEmpty)
        let mixed = try open(state: nodes[1])
        #expect(mixed.replicas.isEmpty && mixed.damaged.map(\.group) == [group])
        #expect(mixed.damaged.first?.reason.contains("another log") == true, "\(mixed.damaged)")
    }

    @Test func `a node that starts again applies what its state had not kept`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(20, at: leader))
        let other = try #require(cluster.nodes.first { $0 !== leader })
        try cluster.run(for: .milliseconds(100))
        let before = other.inspect(group) { _, applied in applied }
        other.crash()
        try other.start(cluster.settings)
        #expect(try cluster.run { other.applied(group) == leader.applied(group) })
        #expect(other.inspect(group) { _, applied in applied } == before)
    }

    // MARK: Other nodes

    @Test
    func `a silent cut of the leader's node has another leader soon, and is reported with what was known of the path`()
        throws
    {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        try cluster.run(for: .seconds(2))
        for node in cluster.nodes { node.reports.removeAll() }
        leader.isCut = true
        let others = cluster.nodes.filter { $0 !== leader }
        // The shortest timeout, a beat, and what an election takes.
        #expect(try cluster.run(until: { others.contains { $0.leads(group) } }, limit: .milliseconds(90)))
        for node in others {
            let found = node.reports.compactMap { report -> PathFacts? in
                if case .peerSuspected(leader.id, .silence, let path) = report { path } else { nil }
            }
            #expect(found.count == 1)
            #expect((found.first?.silenceForgiven ?? .zero) >= cluster.settings.liveness.suspicionFloor)
            #expect((found.first?.roundTrip ?? .zero) > .zero)
        }
        leader.isCut = false
        try cluster.run(for: .seconds(1))
        for node in others { #expect(node.reports.contains(.peerHeard(leader.id))) }
    }

    // MARK: Replicas

    @Test func `a replica id that was held here is never held again`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        let node = try #require(cluster.nodes.first { $0 !== leader })
        let used = ReplicaID(node.id.rawValue)
        node.turn(.destroyReplica(group))
        try cluster.run(for: .milliseconds(100))
        #expect(node.reports.contains(.replicaRemoved(group, used)))
        node.turn(.createReplica(group, used))
        try cluster.run(for: .milliseconds(100))
        #expect(node.engine?.groups == [])
        // Neither after a restart, which knows of it from the disk.
        node.crash()
        try node.start(cluster.settings)
        node.turn(.createReplica(group, used))
        try cluster.run(for: .milliseconds(100))
        #expect(node.engine?.groups == [])
        node.turn(.createReplica(group, ReplicaID(9)))
        try cluster.run(for: .milliseconds(100))
        #expect(node.engine?.groups == [group])
        #expect(node.inspect(group) { raft, _ in raft.peer.replica } == ReplicaID(9))
    }

    @Test func `a node whose flush is slow does not ask to be woken at once`() throws {
        var settings = NodeSettings()
        settings.flushEntries = 4
        settings.flushInterval = .milliseconds(50)
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        leader.holdsFlushes = true
        #expect(try cluster.put(10, at: leader))
        #expect(leader.notes.contains(.flushAsked))
        for _ in 0..<20 {
            try cluster.run(for: .milliseconds(25))
            leader.turn(.tick)
            #expect(try #require(leader.engine?.deadline) > cluster.now)
        }
        try leader.release()
    }

    /// A crash may bring the log back as long as its end is not written down. It needs its state then.
    @Test func `the state of a destroyed replica stays until its log is gone for good`() throws {
        var settings = NodeSettings()
        (settings.flushEntries, settings.trailingEntries, settings.cutEntriesMin) = (1, 0, 1)
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        let node = try #require(cluster.nodes.first { $0 !== leader })
        for key in 1...5 { #expect(try cluster.put(key, at: leader)) }
        #expect(try cluster.run { node.inspect(group) { raft, _ in raft.base.index > .zero } ?? false })
        node.holdsWrites = true
        node.turn(.destroyReplica(group))
        node.turn(.createReplica(group, ReplicaID(9)))
        try cluster.run(for: .milliseconds(500))
        #expect(node.engine?.groups == [])
        node.crash()
        try node.start(cluster.settings)
        #expect(node.engine?.groups == [group], "\(node.reports)")
        node.turn(.destroyReplica(group))
        node.turn(.createReplica(group, ReplicaID(9)))
        node.holdsWrites = false
        try cluster.run(for: .milliseconds(100))
        #expect(node.inspect(group) { raft, _ in raft.peer.replica } == ReplicaID(9))
    }

    @Test func `a new replica becomes a learner, catches up and is promoted`() throws {
        var settings = NodeSettings()
        settings.raft.promotionStability = .milliseconds(100)
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(5, at: leader))
        let node = try #require(cluster.nodes.first { $0 !== leader })
        let old = ReplicaID(node.id.rawValue)
        node.turn(.destroyReplica(group))
        leader.turn(.request(.changeMembership(group, [.remove(old)]), ticket: 900))
        #expect(leader.answers(to: 900) == [.accepted])
        #expect(try cluster.run { leader.inspect(group) { raft, _ in raft.configuration.members.count == 2 } ?? false })
        node.turn(.createReplica(group, ReplicaID(7)))
        let peer = Peer(replica: ReplicaID(7), node: node.id)
        let add = MembershipStep.addLearner(peer, promotesItself: true, priority: 0)
        leader.turn(.request(.changeMembership(group, [add]), ticket: 901))
        #expect(leader.answers(to: 901) == [.accepted])
        #expect(
            try cluster.run {
                leader.inspect(group) { raft, _ in
                    raft.configuration.members.contains { $0.peer == peer && $0.role == .voter }
                } ?? false
            })
        #expect(try cluster.run { node.applied(group) == leader.applied(group) })
    }

    @Test func `a log of large entries is cut by its size, long before their number would cut it`() throws {
        var settings = NodeSettings()
        settings.flushBytes = 1 << 20
        settings.trailingBytesMax = 6 << 20
        settings.cutBytesMin = 1
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(300, at: leader, bytes: 60_000))
        try cluster.run(for: .seconds(1))
        for node in cluster.nodes {
            let kept = try #require(node.inspect(group) { raft, _ in raft.lastIndex - raft.base.index })
            // At most what may trail, a step between marks, and what came since the last flush.
            #expect(kept > 100 && kept < 250, "node \(node.id) keeps \(kept) entries of 60,000 bytes")
        }
    }

    // MARK: Feature levels

    @Test func `a leader packs at the level that is open, and an older program stops where it must`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        let older = try #require(cluster.nodes.first { $0 !== leader })
        older.crash()
        var settings = NodeSettings()
        settings.level = FeatureLevel.oldest
        try older.start(settings)
        func delete(expecting value: String) throws -> ClientAnswer? {
            let ticket = cluster.nextTicket()
            let command = SpaceCommand(.compareAndDelete(key: Array("key 0".utf8), expected: Array(value.utf8)))
            leader.turn(.request(.command(group, command.encoded()), ticket: ticket))
            _ = try cluster.run(until: { !leader.answers(to: ticket).isEmpty })
            return leader.answers(to: ticket).first
        }
        #expect(try cluster.put(1, at: leader, bytes: 1))
        guard case .applied(.space(let closed))? = try delete(expecting: "x") else { throw Unanswered() }
        #expect(closed.outcome == .refused(.malformed))
        try cluster.run(for: .seconds(1))
        #expect(older.applied(group) == leader.applied(group))
        #expect(Set(cluster.nodes.map { $0.inspect(group) { _, applied in applied.digest } }).count == 1)

        for node in cluster.nodes { node.engine?.open(level: FeatureLevel.conditionalDeletes) }
        guard case .applied(.space(let open))? = try delete(expecting: "x") else { throw Unanswered() }
        #expect(open.outcome == .deleted)
        try cluster.run(for: .seconds(1))
        let said = older.reports.filter { if case .outdated = $0 { true } else { false } }
        #expect(said.count == 1 && older.engine?.hasFailed == true)
        #expect(older.applied(group) < leader.applied(group))
    }

    private struct Unanswered: Error {}
}
