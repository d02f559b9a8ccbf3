import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Simulator
import StoreLayout

/// A node's world as small as it can be: disks in memory whose writes can be held, and notes of all that was asked.
final class TestNode: WorldPorts {
    enum Note: Equatable {
        case flushAsked
        case flushed
        /// Writes handed over; whether one of them names a snapshot.
        case writesAsked(snapshot: Bool)
        case written(snapshot: Bool)
    }

    unowned let cluster: TestCluster
    let id: NodeID
    var engine: NodeEngine<TestNode>?
    var life = 0
    var log = MemoryStore()
    var state = MemoryStore()
    var holdsWrites = false
    /// How long its disk takes for one.
    var writeTime = Nanoseconds.microseconds(100)
    var holdsFlushes = false
    var nextTick = Instant(nanoseconds: .max)
    var isCut = false
    /// Its process is stopped: what comes for it waits.
    var isHung = false

    private(set) var writes: [(ticket: UInt64, writes: [GroupWrite])] = []
    private(set) var flushes: [UInt64] = []
    var notes: [Note] = []
    var answers: [(ticket: UInt64, answer: ClientAnswer)] = []
    var reports: [NodeReport] = []
    var frames = 0
    /// How often entries were read back from the log store.
    var entriesRead = 0
    var messages: [GroupMessage] = []
    var snapshots: [SnapshotMessage] = []

    init(cluster: TestCluster, id: NodeID) {
        self.cluster = cluster
        self.id = id
    }

    var identity: NodeIdentity {
        NodeIdentity(cluster: [UInt8](repeating: 3, count: 16), node: id)
    }

    func start(_ settings: NodeSettings) throws {
        let opened = try OpenedNode(
            identity, log: &log, state: &state, settings: settings)
        engine = NodeEngine(
            node: id, opened: opened, settings: settings, ports: self, seed: mix64(id.rawValue << 8 | UInt64(life)),
            now: cluster.now)
        turn()
    }

    /// The process is gone; what its disks had not finished is too.
    func crash() {
        engine = nil
        life += 1
        nextTick = Instant(nanoseconds: .max)
        writes.removeAll()
        flushes.removeAll()
        var random = PRNG(seed: 1)
        log.crash(&random)
        state.crash(&random)
    }

    func turn(_ events: NodeEvent...) {
        guard let engine else { return }
        for event in events { engine.handle(event, now: cluster.now) }
        engine.endTurn(now: cluster.now)
        nextTick = max(engine.deadline, cluster.now + .microseconds(1))
    }

    func answers(to ticket: UInt64) -> [ClientAnswer] { answers.filter { $0.ticket == ticket }.map(\.answer) }

    func inspect<Result>(_ group: GroupID, _ body: (borrowing Raft, AppliedState) -> Result) -> Result? {
        engine?.inspect(group, body)
    }

    func leads(_ group: GroupID) -> Bool { inspect(group) { raft, _ in raft.hasCommittedInTerm } ?? false }
    func applied(_ group: GroupID) -> LogIndex { inspect(group) { _, applied in applied.index } ?? .zero }

    // MARK: What the disks do when it is their time

    func finishWrite() throws {
        if holdsWrites || writes.isEmpty { return }
        let done = writes.removeFirst()
        try log.write(StoredLog.batch(for: done.writes), isSynced: true)
        notes.append(.written(snapshot: done.writes.contains { $0.write.snapshot != nil }))
        turn(.logWritten(ticket: done.ticket))
    }

    func finishFlush() throws {
        if holdsFlushes || flushes.isEmpty { return }
        let ticket = flushes.removeFirst()
        try state.flush()
        notes.append(.flushed)
        turn(.stateFlushed(ticket: ticket))
    }

    func release() throws {
        (holdsWrites, holdsFlushes) = (false, false)
        while !writes.isEmpty { try finishWrite() }
        while !flushes.isEmpty { try finishFlush() }
    }

    // MARK: Ports

    func send(_ frame: PeerFrame, to node: NodeID) {
        frames += 1
        messages += frame.messages
        snapshots += frame.snapshots
        cluster.carry(frame, from: self, to: node)
    }

    func submit(_ writes: [GroupWrite], ticket: UInt64) {
        self.writes.append((ticket, writes))
        notes.append(.writesAsked(snapshot: writes.contains { $0.write.snapshot != nil }))
        cluster.plan(.write, self, after: writeTime)
    }

    func entries(
        of group: GroupID, replica: ReplicaID, from: LogIndex, through: LogIndex, bytesMax: Int
    ) throws(StoreError) -> [Entry] {
        entriesRead += 1
        return try StoredLog.entries(group, from: from, through: through, bytesMax: bytesMax, in: log)
    }

    func flushState(ticket: UInt64) {
        flushes.append(ticket)
        notes.append(.flushAsked)
        cluster.plan(.flush, self)
    }

    func answer(_ ticket: UInt64, _ answer: ClientAnswer) { answers.append((ticket, answer)) }
    func report(_ report: NodeReport) { reports.append(report) }
}

/// Nodes on a network that delays everything by a little and loses nothing, on one clock.
final class TestCluster {
    enum Kind {
        case frame(PeerFrame)
        case write
        case flush
    }

    struct Happening: Comparable {
        var at: Instant
        var order: Int
        var node: Int
        var life: Int
        var kind: Kind
        static func < (a: Happening, b: Happening) -> Bool { a.at != b.at ? a.at < b.at : a.order < b.order }
        static func == (a: Happening, b: Happening) -> Bool { a.order == b.order }
    }

    private(set) var now = Instant(nanoseconds: 1_000_000_000)
    let settings: NodeSettings
    private(set) var nodes: [TestNode] = []
    /// What a frame takes.
    var frameDelay = Nanoseconds.microseconds(200)
    /// What a piece of a snapshot takes beside that, one after the other.
    var pieceTime = Nanoseconds.zero
    private var pieceArrives = Instant.origin
    /// Every frame arrives twice.
    var repeatsFrames = false
    private var happenings = Heap<Happening>()
    private var waiting: [Happening] = []
    private var order = 0
    private var ticket: UInt64 = 0

    /// The first `hosts` nodes hold the groups, all nodes if nil.
    /// An engine holds its ports, which are the node that holds it.
    deinit { for node in nodes { node.engine = nil } }

    init(
        nodes count: UInt64 = 3, hosts: UInt64? = nil, groups: UInt64 = 1, _ settings: NodeSettings = NodeSettings()
    ) throws {
        let hosts = hosts ?? count
        self.settings = settings
        for number in 1...count {
            let node = TestNode(cluster: self, id: NodeID(number))
            nodes.append(node)
            try StoredLog.format(node.identity, in: &node.log)
            for group in 1...groups where number <= hosts {
                try StoredLog.createReplica(
                    GroupID(group), ReplicaID(number), RestoredLog(firstMembers: .voters(1...hosts)), in: &node.log)
            }
        }
        for node in nodes { try node.start(settings) }
    }

    func plan(_ kind: Kind, _ node: TestNode, after delay: Nanoseconds = .microseconds(100)) {
        order += 1
        happenings.insert(
            Happening(at: now + delay, order: order, node: Int(node.id.rawValue) - 1, life: node.life, kind: kind))
    }

    func carry(_ frame: PeerFrame, from: TestNode, to: NodeID) {
        let target = nodes[Int(to.rawValue) - 1]
        if from.isCut || target.isCut { return }
        var frame = frame
        if pieceTime > .zero {
            for message in frame.snapshots {
                guard case .piece = message.body else { continue }
                pieceArrives = max(pieceArrives, now) + pieceTime
                let alone = PeerFrame(from: frame.from, incarnation: frame.incarnation, snapshots: [message])
                plan(.frame(alone), target, after: pieceArrives - now)
            }
            frame.snapshots.removeAll { if case .piece = $0.body { true } else { false } }
        }
        plan(.frame(frame), target, after: frameDelay)
        if repeatsFrames { plan(.frame(frame), target, after: frameDelay + .microseconds(500)) }
    }

    func run(for length: Nanoseconds) throws {
        let end = now + length
        while true {
            var next = happenings.first?.at ?? end
            for node in nodes where node.engine != nil && !node.isHung { next = min(next, node.nextTick) }
            if next >= end { break }
            now = max(now, next)
            if let first = happenings.first, first.at <= now {
                _ = happenings.popFirst()
                try take(first)
            }
            for node in nodes where node.engine != nil && !node.isHung && node.nextTick <= now { node.turn(.tick) }
        }
        now = end
    }

    /// All that waited for a process that was stopped comes at once, and before the process looks at its clock or after.
    func goOn(_ node: TestNode, ticksFirst: Bool) throws {
        node.isHung = false
        if ticksFirst { node.turn(.tick) }
        let due = waiting.filter { $0.node == Int(node.id.rawValue) - 1 }
        waiting.removeAll { $0.node == Int(node.id.rawValue) - 1 }
        for happening in due { try take(happening) }
    }

    /// Runs until something holds, for at most `limit`.
    func run(until isTrue: () -> Bool, limit: Nanoseconds = .seconds(20)) throws -> Bool {
        let end = now + limit
        while !isTrue() && now < end { try run(for: .milliseconds(10)) }
        return isTrue()
    }

    private func take(_ happening: Happening) throws {
        let node = nodes[happening.node]
        guard node.engine != nil, happening.life == node.life else { return }
        if node.isHung { return waiting.append(happening) }
        switch happening.kind {
        case .frame(let frame): if !node.isCut { node.turn(.frame(frame)) }
        case .write: try node.finishWrite()
        case .flush: try node.finishFlush()
        }
    }

    // MARK: Clients

    /// The node that leads the group, once it has one; nil when none comes in time.
    func leader(of group: GroupID = GroupID(1), except: TestNode? = nil) throws -> TestNode? {
        var found: TestNode?
        _ = try run {
            found = nodes.first { $0 !== except && $0.leads(group) }
            return found != nil
        }
        return found
    }

    func nextTicket() -> UInt64 {
        ticket += 1
        return ticket
    }

    /// A client's request to write a key of the first group.
    static func put(_ key: String, _ value: String = "v", ticket: UInt64) -> NodeEvent {
        let command = SpaceCommand(.put(key: Array(key.utf8), value: Array(value.utf8)))
        return .request(.command(GroupID(1), command.encoded()), ticket: ticket)
    }

    /// Sends commands one after the other and waits for each.
    func put(_ count: Int, at node: TestNode, bytes: Int = 10) throws -> Bool {
        for i in 0..<count {
            let ticket = nextTicket()
            let value = String(repeating: "x", count: bytes)
            node.turn(TestCluster.put("key \(i)", value, ticket: ticket))
            guard try run(until: { !node.answers(to: ticket).isEmpty }, limit: .seconds(5)) else { return false }
            guard case .applied = node.answers(to: ticket)[0] else { return false }
        }
        return true
    }
}
