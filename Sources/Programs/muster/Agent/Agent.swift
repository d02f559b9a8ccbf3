import AdminAPI
import AgentConfig
import ClusterBase
import Compression
import Controllers
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import NodeRuntime
import NodeStorage
import PeerTransport
import RaftCore
import Reactor
import StoreLayout
import TLSSession

/// What other threads tell the loop.
enum AgentMail: Sendable {
    case logWritten([UInt64])
    case stateFlushed([UInt64])
    case storageFailed(String)
    case space(isLow: Bool, String)
}

/// A running node: the engine over the real ports, on the loop's thread.
///
///     sockets ─▶ PeerNetwork ─▶ frames ───┐                       ┌─▶ PeerNetwork, in one write per peer
///     sockets ─▶ AdminServer ─▶ requests ─┼─▶ engine ─▶ ports ────┼─▶ log writer, state flusher (own threads)
///     mailbox ◀─ log writer, flusher ─────┘   (per turn)          └─▶ answers ─▶ AdminServer
///
/// The root's state is followed by every node: who is a member, where groups are, what this node is to hold.
final class Agent: TurnOwner {
    static let version = "0.3.0"
    enum End: Int32 {
        case asked = 0
        /// The supervisor starts it again; it waits for space then.
        case storage = 75
        case removed = 3
        /// A newer program is needed here.
        case outdated = 4
        /// Its data directory is an older copy, or another process runs with a copy of it.
        case copied = 5
        /// Its settings give it another name than it joined with.
        case misnamed = 6
    }
    /// Of the other nodes, who say that this process must not go on; more than so many need not.
    var expelledBy: Set<NodeID> = []
    static let expellersMax = 3

    let settings: AgentSettings
    let files: NodeFiles
    let log: AgentLog
    let directory: NodeDirectory
    let cluster: String
    let node: NodeID
    let loop: EventLoop
    let ports: AgentPorts
    let engine: NodeEngine<AgentPorts>
    private let writer: LogWriter
    private let flusher: StateFlusher
    private var watch: DirectoryWatch?
    private var networkMade: PeerNetwork?
    private var adminMade: AdminPort?
    let host: AgentHost
    let images: ImageStore
    /// Removals of images that this node, as the root's leader, sees under way.
    var removals = ImageRemovals()
    var remains = RemainsWork()
    let blocking: BlockingWork
    /// Images whose copy here the root is being told of.
    var holding: Set<String> = []
    /// Images that nobody has any more, as the log was told.
    var toldLost: Set<String> = []

    var identity: TLSIdentity
    var authorities: [Certificate]
    var authority: CertificateAuthority?
    /// With the key of secret fields, on the root's voters.
    var sealers: [FieldSealer] = []
    var sealersAddedAt = Instant.origin
    var sealing = SealingRotation()
    var isNamingSealer = false
    /// Since when this node holds the key and does not vote.
    var sealerUnneededSince: Instant?

    // What follows from the root's state.
    let startedAt: Instant
    var controlAt: Instant
    /// How much later it may be: until the next turn that comes anyway, when nothing asked for it.
    var controlLeeway = Nanoseconds.zero
    /// Who waits until a host is no more under this epoch of the root's map.
    var hostWaits: [(node: NodeID, epoch: UInt64, until: Instant, done: () -> Void)] = []
    var waiting: [(index: LogIndex, until: Instant, done: (Problem?) -> Void)] = []
    /// Those who wait for the root no longer than they said.
    var boundedRefreshes: [BoundedRefresh] = []
    var clockAt: Instant
    var reported: NodeDescription?
    var toldIssuer: (own: Fingerprint, issuer: [UInt8])?
    /// A description that the root refused is not sent again before.
    var describesAgainAt = Instant.origin
    var isFounding = false
    var renewAt: Instant
    /// Since when this host is to go to another cell.
    var moveSeenAt: Instant?
    /// A merged cell that is led here is being retired, and when that is tried again.
    var isRetiringCell = false
    var retiresCellAt = Instant.origin
    var isRenewing = false
    /// Oldest first; as many as groups were recovered here since the start.
    var recoveriesOwed: [RecoveryOwed] = []
    var isNotingRecovery = false
    /// Whom the process before this one knew, and the highest number of a node then.
    let knownBefore: (nodes: Set<NodeID>, highest: NodeID)?
    /// Since when this node holds the authority's key without being a voter of the root.
    var authorityIdleSince: Instant?
    /// Whether the authority that signs now signed this node's certificate, as found when last looked at.
    var signedBy: (own: Fingerprint, authority: [UInt8]?, isSigned: Bool)?

    /// Files that could not be written yet, each with what is to be in it, and those that the log was told of.
    var unkept: [(file: String, text: String)] = []
    var unkeptTold: Set<String> = []
    var keepAt = Instant.origin

    var backupRun: BackupRun?
    /// Those that took too long, until the system lets their processes go.
    var backupsLeft: [BackupRun] = []
    /// Since when this process knows each schedule.
    var backupsSeen: [String: LogTime] = [:]
    /// Since when this node, leading the root, has seen every node understand the next feature level.
    var levelReadySince: Instant?
    var isNotingBackup = false

    var regionTraffic = RegionTraffic()

    // Requests under way.
    var ticketLast: UInt64 = 0
    var pending: [UInt64: (ClientAnswer) -> Void] = [:]
    /// With each group that this process has commands for.
    var commandSessions: [GroupID: CommandSession] = [:]
    var controlPending: [UInt64: (RequestOutcome) -> Void] = [:]

    private var manager: ManagerReports
    private(set) var isSpaceLow = false
    private(set) var alarms: [String] = []
    private(set) var end: End?
    private var drainUntil: Instant?
    private var drainedSince: Instant?
    private var leaderlessSince: Instant?
    private static let lastAnswersTime = Nanoseconds.milliseconds(20)
    /// When leadership that is still here is offered again.
    private var handOverAt = Instant.origin
    private static let handOverInterval = Nanoseconds.milliseconds(100)

    init(
        settings: AgentSettings, files: NodeFiles, log: AgentLog, directory: NodeDirectory, loop: EventLoop
    ) throws(AgentFailure) {
        self.settings = settings
        self.files = files
        self.log = log
        self.directory = directory
        self.loop = loop
        identity = try files.identity()
        authorities = try files.authorities()
        authority = try files.authority()
        knownBefore = files.nodeHighest().map { (Set(files.peers().map(\.node)), $0) }
        sealers = try Agent.sealers(files)
        node = directory.identity.node
        cluster = Agent.text(of: directory.identity.cluster)
        let now = SystemClock.now
        (startedAt, controlAt, clockAt, renewAt) = (now, now, now, now)
        manager = ManagerReports(now: now)

        var settled: ((AgentMail) -> Void)?
        let mail = loop.makeMailbox(of: AgentMail.self, itemsMax: 1 << 20) { settled?($0) }
        let post: @Sendable (AgentMail) -> Void = { item in
            precondition(mail.post(item), "the loop's mailbox is full: it has stood still for too long")
        }
        let store = directory.log
        let priority = settings.priority
        writer = LogWriter(
            begin: { _ = ThreadPriority.comeBefore(steps: priority) },
            commit: { batch throws(StoreError) in try store.write(batch, isSynced: true) },
            onOutcome: { outcome in
                switch outcome {
                case .written(let tickets): post(.logWritten(tickets))
                case .failed(let error): post(.storageFailed(error.message))
                }
            })
        let state = directory.state
        flusher = StateFlusher(
            flush: { () throws(StoreError) in try state.flush() },
            onOutcome: { outcome in
                switch outcome {
                case .flushed(let tickets): post(.stateFlushed(tickets))
                case .failed(let error): post(.storageFailed(error.message))
                }
            })
        ports = AgentPorts(directory: directory, writer: writer, flusher: flusher)

        let nodeSettings = Agent.nodeSettings(settings)
        let opened: OpenedNode
        var (log, applied) = (directory.log, directory.state)
        do throws(DirectoryRefusal) {
            opened = try OpenedNode(directory.identity, log: &log, state: &applied, settings: nodeSettings)
        } catch {
            throw AgentFailure("\(directory.path): \(error).", isStorage: error.mayPass, isFinal: !error.mayPass)
        }
        let seed = Crypto.randomBytes(8).reduce(0) { $0 << 8 | UInt64($1) }
        engine = NodeEngine(
            node: directory.identity.node, opened: opened, settings: nodeSettings, ports: ports, seed: seed, now: now)
        // What was open when it ended is open, whoever it hears first.
        engine.open(level: try files.openLevel())
        host = try Agent.makeHost(
            settings, node: directory.identity.node, incarnation: opened.incarnation, loop: loop, log: self.log)
        images = try Agent.makeImages(settings, directory.identity.node, loop, self.log)
        blocking = BlockingWork(loop)
        settled = { [unowned self] item in self.take(item) }
        try connect(opened.incarnation, seed)
        watch = DirectoryWatch(directory) { notice in
            switch notice {
            case .spaceLow(let space): post(.space(isLow: true, "\(space.freeBytes >> 20) MiB are free"))
            case .spaceClear(let space): post(.space(isLow: false, "\(space.freeBytes >> 20) MiB are free"))
            case .failed(let error): post(.storageFailed(error.message))
            }
        }
    }

    private func connect(_ incarnation: Incarnation, _ seed: UInt64) throws(AgentFailure) {
        var peers = PeerSettings(cluster: cluster, node: node, incarnation: incarnation)
        peers.featureLevel = level
        peers.process = seed
        peers.bulkBytesPerSecond = bulkRate
        let (server, client) = try peerContexts()
        let network = PeerNetwork(
            loop, settings: peers, server: server, client: client, seed: seed ^ 0x5EED, codec: LZ4FrameCodec(),
            delegate: self, judge: { _, _ in .accept })
        networkMade = network
        network.setJudge { [unowned self] in self.judge($0, $1) }
        network.written = { [log = directory.log] in log.written }
        network.setPeers(
            files.peers().compactMap { known in
                guard let address = try? Address(parsing: known.address) else { return nil }  // Only a hint.
                return PeerAddresses(node: known.node, addresses: [address])
            })
        ports.network = network
        host.carrier.network = network
        connectImages()
        _ = try Agent.listen(settings.peerListen, for: "peers") { address throws(SystemError) in
            try network.listen(on: address)
        }
        adminMade = try AdminPort(self)
    }

    static func place(_ endpoint: Endpoint) throws(AgentFailure) -> SocketAddress {
        if let address = SocketAddress(digits: endpoint.host, port: endpoint.port) { return address }
        throw AgentFailure("Can't listen on '\(endpoint)'; name an address of this host in digits.")
    }

    static func listen<Listening>(
        _ endpoint: Endpoint, for whom: String, _ body: (SocketAddress) throws(SystemError) -> Listening
    ) throws(AgentFailure) -> Listening {
        let address = try place(endpoint)
        do throws(SystemError) {
            return try body(address)
        } catch {
            throw AgentFailure("Can't listen for \(whom) on \(endpoint): \(error).")
        }
    }

    static func nodeSettings(_ settings: AgentSettings) -> NodeSettings {
        var node = NodeSettings()
        node.level = Agent.level(settings)
        node.flushInterval = settings.flushInterval
        node.flushEntries = UInt64(settings.flushEntries)
        node.trailingEntries = UInt64(settings.trailingEntries)
        // Who keeps few entries does not want many to lie there until a cut is worth it.
        node.cutEntriesMin = min(node.cutEntriesMin, max(100, node.trailingEntries))
        node.snapshotsOutgoingMax = settings.snapshotsOutgoingMax
        node.storageStallMax = settings.storageStallMax
        node.storagePulseInterval = settings.storageStallMax
        node.forwardsRequests = true
        node.runsControllers = true
        node.rootFollowInterval = .milliseconds(200)
        node.controllerInterval = .milliseconds(250)
        node.raft.proposalBytesMax = SpaceLimits.valueBytesMax + SpaceLimits.keyBytesMax + 4_096
        node.raft.suspicion = settings.suspicionFloor
        node.liveness.beatInterval = settings.beatInterval
        node.liveness.restInterval = settings.restIntervalInForce
        node.liveness.suspicionFloor = settings.suspicionFloor
        node.liveness.suspicionMax = settings.suspicionMax
        node.liveness.closedLinkGrace = settings.closedLinkGrace
        node.liveness.storageStallMax = settings.storageStallMax
        node.liveness.engineStallMax = settings.engineStallMax
        return node
    }

    static func text(of cluster: [UInt8]) -> String {
        cluster.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// Made at the end of `init`, since it has the agent as its delegate.
    var network: PeerNetwork {
        guard let networkMade else { preconditionFailure("the network of node \(node) is not made yet") }
        return networkMade
    }

    /// The same.
    var admin: AdminPort {
        guard let adminMade else { preconditionFailure("the admin port of node \(node) is not made yet") }
        return adminMade
    }

    // MARK: Running

    /// Runs until it is asked to end, or must. Says how it ended.
    func run() -> End {
        loop.owner = self
        if !ThreadPriority.comeBefore(steps: settings.priority) {
            log.info("the system does not let this program come before other work; beats may be late when it is busy")
        }
        tellClock()
        // Until the root was heard, any other node may be the one that holds it.
        engine.handle(.directory(Directory([.init(group: .root, nodes: files.peers().map(\.node))])), now: loop.now)
        log.info(
            "node \(node) runs",
            [
                "cluster": cluster, "name": settings.nodeName, "version": Agent.version,
                "groups": "\(engine.groups.count)",
            ])
        for finding in directory.findings { log.error(finding) }
        while end == nil { loop.turn(waitingAtMost: .seconds(1)) }
        endBackups()
        host.guardian?.close()
        (host.driver as? QEMUHypervisor)?.closeConsoles()
        admin.close()
        network.close()
        watch?.stop()
        writer.stop()
        flusher.stop()
        directory.stop()
        loop.removeMailboxes()
        log.info("node \(node) ends")
        return end ?? .asked
    }

    /// Asked to end: leadership goes to others first, then what is open gets time to finish.
    func shutDown() {
        guard drainUntil == nil else { return stop(.asked) }
        log.info("asked to end: leadership is handed over, connections are drained")
        manager.stops()
        drainUntil = loop.now + settings.drainTime
        host.inputs.append(.ending(vmsStay: host.driver.outlivesAgent))
        admin.drain()
    }

    /// Asked again and again: a transfer may fail while its target is behind, and another member may have caught up then.
    private func handOver() {
        guard isShuttingDown, handOverAt <= loop.now else { return }
        handOverAt = loop.now + Agent.handOverInterval
        for group in engine.groups where leads(group) && hasOthers(group) {
            request(.transferLeadership(group, to: nil)) { _ in }
        }
    }

    func stop(_ how: End) { if end == nil { end = how } }

    private func checkDrained() {
        guard let drainUntil else { return }
        if loop.now >= drainUntil || isGivenUp { return stop(.asked) }
        let isDone =
            admin.isIdle && pending.isEmpty && host.keeper.isEnded(loop.now)
            && engine.groups.allSatisfy { !(leads($0) && hasOthers($0)) && owesNothing($0) }
        if !isDone { drainedSince = nil }
        guard isDone else { return }
        let since = drainedSince ?? loop.now
        drainedSince = since
        // What other nodes were answered last is on its way to them.
        if loop.now - since >= Agent.lastAnswersTime { stop(.asked) }
    }

    /// Longer than any election: of groups without a leader nothing will be answered any more.
    private static let leaderAwaited = Nanoseconds.seconds(2)

    private var isGivenUp: Bool {
        let isLeaderless =
            !engine.groups.isEmpty
            && engine.groups.allSatisfy { group in engine.inspect(group) { raft, _ in raft.leader == nil } ?? true }
        leaderlessSince = isLeaderless ? leaderlessSince ?? loop.now : nil
        return leaderlessSince.map { loop.now - $0 >= Agent.leaderAwaited } ?? false
    }

    /// Other nodes' requests are answered too.
    private func owesNothing(_ group: GroupID) -> Bool {
        engine.backlog(of: group).map { $0.commands == 0 && $0.reads == 0 } ?? true
    }

    var isShuttingDown: Bool { drainUntil != nil }
    var writerStatistics: LogWriter.Statistics { writer.statistics }

    func leads(_ group: GroupID) -> Bool { engine.standing(of: group)?.phase == .leader }
    private func hasOthers(_ group: GroupID) -> Bool {
        engine.inspect(group) { raft, _ in raft.configuration.members.count { $0.role.isVoting } > 1 } ?? false
    }

    // MARK: Turns

    var deadline: Instant {
        var earliest = min(engine.deadline, min(clockAt, min(admin.watchDeadline, host.deadline)))
        earliest = min(earliest, min(controlAt + controlLeeway, min(manager.deadline, admin.lookDeadline)))
        if let refresh = boundedRefreshes.first { earliest = min(earliest, refresh.until) }
        return drainUntil == nil ? earliest : min(earliest, loop.now + .milliseconds(10))
    }

    func turnEnded(_ turn: Turn) {
        // What peers sent may still lie unread: no verdict about them is reached before it is.
        if turn.isDrained && engine.deadline <= turn.now { engine.handle(.tick, now: turn.now) }
        if clockAt <= turn.now { tellClock() }
        manager.turned(turn.now) { admin.unready }
        if controlAt <= turn.now { control() }
        handOver()
        admin.tendWatches()
        settle()
        tendWaiting()
        admin.tendLooks()
        tendHostWaits()
        tendHost()
        engine.endTurn(now: turn.now)
        settle()
        checkDrained()
    }

    /// Hands on what the engine answered and reported; answers may lead to further requests.
    private func settle() {
        while true {
            let answers = ports.takeAnswers()
            let reports = ports.takeReports()
            if answers.isEmpty && reports.isEmpty { return }
            for report in reports { take(report) }
            for item in answers { pending.removeValue(forKey: item.ticket)?(item.answer) }
        }
    }

    private func tellClock() {
        clockAt = loop.now + .seconds(10)
        engine.handle(.wallClock(wallTime), now: loop.now)
    }

    var wallTime: LogTime { LogTime(UInt64(max(0, SystemClock.wallNanoseconds / 1_000_000))) }

    /// Asks the engine; it answers once, in this turn or later.
    func request(_ request: ClientRequest, _ done: @escaping (ClientAnswer) -> Void) {
        ticketLast += 1
        pending[ticketLast] = done
        engine.handle(.request(request, ticket: ticketLast), now: loop.now)
    }

    private func take(_ mail: AgentMail) {
        switch mail {
        case .logWritten(let tickets):
            if let last = tickets.last { engine.handle(.logWritten(ticket: last), now: loop.now) }
        case .stateFlushed(let tickets):
            for ticket in tickets { engine.handle(.stateFlushed(ticket: ticket), now: loop.now) }
        case .storageFailed(let reason): engine.handle(.storageFailed(reason), now: loop.now)
        case .space(let isLow, let text):
            isSpaceLow = isLow
            engine.handle(.spaceLow(isLow), now: loop.now)
            if isLow {
                log.warning(
                    "the disk is nearly full: clients' writes are refused until there is space", ["space": text])
            } else {
                log.info("there is space again", ["space": text])
            }
        }
    }

    private func take(_ report: NodeReport) {
        switch report {
        case .storageFailed(let reason):
            log.error("the storage failed, and nothing more can be promised: the agent ends", ["reason": reason])
            stop(.storage)
        case .outdated(let reason):
            log.error("the cluster is newer than this program: the agent ends", ["reason": reason])
            stop(.outdated)
        case .damaged(let group, let replica, let reason):
            log.error(
                "a replica is damaged: it neither votes nor answers, and is replaced under a new id",
                ["group": "\(group)", "replica": "\(replica)", "reason": reason])
        case .replicaRemoved(let group, let replica):
            log.info("a replica was removed", ["group": "\(group)", "replica": "\(replica)"])
        case .snapshotResumed(let group, let pieces):
            log.info("goes on with a snapshot that had begun to come", ["group": "\(group)", "pieces": "\(pieces)"])
        case .peerSuspected(let node, let cause, let path):
            log.info(
                "another node is held for gone",
                [
                    "node": "\(node)", "why": "\(cause)", "forgiven": "\(path.silenceForgiven)",
                    "interval": "\(path.interval)", "longest": "\(path.intervalLongest)",
                    "roundTrip": "\(path.roundTrip)", "roundTripHigh": "\(path.roundTripHigh)",
                    "lostRun": "\(path.lostRun)",
                ])
        case .peerHeard(let node): log.info("another node is there", ["node": "\(node)"])
        case .rootChanged: viewChanged()
        case .event(let group, let event): note(event, group)
        }
    }

    private func note(_ event: Event, _ group: GroupID) {
        switch event {
        case .becameLeader(let term): log.info("leads a group", ["group": "\(group)", "term": "\(term)"])
        case .steppedDown(let term, let reason):
            log.info("leads a group no more", ["group": "\(group)", "term": "\(term)", "reason": "\(reason)"])
        case .diverged(let index):
            log.error("a log differs from its group's and is stopped", ["group": "\(group)", "index": "\(index)"])
        case .snapshotInstalled: log.info("a snapshot is the state now", ["group": "\(group)"])
        case .malformed(let peer, let problem):
            log.warning("a peer sent what no correct one sends", ["peer": "\(peer)", "problem": "\(problem)"])
        default: log.debug("\(event)", ["group": "\(group)"])
        }
    }
}

/// LZ4 for the peers' frames.
final class LZ4FrameCodec: FrameCodec {
    func compress(_ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]) -> Bool {
        guard let packed = LZ4Codec.compress(Array(bytes)), packed.count < bytes.count else { return false }
        output += packed
        return true
    }

    func expand(_ bytes: UnsafeRawBufferPointer, count: Int) -> [UInt8]? {
        // What is wrong with garbage does not matter: its sender loses the connection.
        guard let plain = try? LZ4Codec.decompress(Array(bytes), byteCountMax: count), plain.count == count else {
            return nil
        }
        return plain
    }
}
