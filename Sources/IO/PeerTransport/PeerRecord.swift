internal import ClusterBase
internal import NodePorts
internal import RaftCore
internal import Reactor
internal import Schema
internal import SecureChannel

/// One run of a node's process, and how far its log got. Its peers remember the latest, and what can't follow on it has the
/// data directory from before, or a copy of it.
struct NodeStart {
    var incarnation: Incarnation
    /// Drawn by the process; zero is no word of it.
    var process: UInt64
    /// Synced writes of the node's log since it was made; zero is no word of them.
    var written: UInt64

    init(_ incarnation: Incarnation, process: UInt64, written: UInt64) {
        self.incarnation = incarnation
        self.process = process
        self.written = written
    }

    /// Why another one can't follow on this.
    func objection(to next: NodeStart) -> String? {
        if next.incarnation < incarnation {
            return
                "it says that this is start \(next.incarnation) of the node, and start \(incarnation) was here before"
        }
        if next.incarnation == incarnation {
            let isOther = process != 0 && next.process != 0 && process != next.process
            return isOther ? "another process was here as start \(incarnation) of the node" : nil
        }
        if next.written == 0 || next.written >= written { return nil }
        return "it holds \(next.written) writes, and the node had made \(written) before this start"
    }

    func followed(by next: NodeStart) -> NodeStart {
        var latest = next.incarnation > incarnation ? next : self
        if next.incarnation == incarnation {
            latest.written = max(written, next.written)
            if latest.process == 0 { latest.process = next.process }
        }
        return latest
    }
}

/// What the network knows of one other node, and its attempts to reach it.
///
///     no link ── dial: resolve ─▶ connect ─▶ handshake ─▶ hello ─▶ link
///        ▲            └──────────────┴────────────┴─────────┘        │
///        └── pause, doubled each time ◀──────── failed ◀─────────────┘ ended
final class PeerRecord: TimerHandler {
    enum Dialing: Equatable {
        case none
        case resolving
        case connecting
        case greeting
    }

    let network: PeerNetwork
    let node: NodeID
    var addresses: [Address] = []
    var addressIndex = 0

    /// The latest start of the node's process that was linked here, and how far it got.
    var newest = NodeStart(Incarnation(0), process: 0, written: 0)
    /// The one that counts.
    var control: PeerConnection?
    /// Those before it, the oldest first, until what was under way on them has arrived.
    var retired: [PeerConnection] = []
    /// Ours, on its way to be a link.
    var greeting: PeerConnection?
    private(set) var dialing = Dialing.none
    private var dialer: Dialer?
    private var dialNumber = 0
    private var retryTimer: TimerID?
    private var attempts = 0
    /// Addresses that answered that nobody listens, since an attempt failed otherwise.
    private var refusals = 0
    private var isRefusalTold = false
    private var isFailureTold = false
    /// Why the last attempt failed.
    var failure: String?

    /// Since somebody asked last.
    var bytesSent: UInt64 = 0

    // Bulk, see PeerNetwork+Bulk.swift.
    var bulkOut: PeerConnection?
    var bulkIn: PeerConnection?
    var bulkDialer: Dialer?
    var bulkQueue = RingBuffer<PeerFrame>()
    var bulkBytesQueued = 0
    var bulkIdleSince: Instant?
    var bulkTimer: TimerID?
    var bulkRetryAt = Instant.origin

    // Requests under way, see PeerNetwork+Requests.swift.
    var requests = RingBuffer<UInt64>()
    var requestDeadlines = RingBuffer<Instant>()
    /// Those of `requests` without an answer.
    var requestsOpen: Set<UInt64> = []
    var requestTimer: TimerID?

    static let retiredMax = 4
    static let retryTag = 0
    static let bulkTag = 1
    static let requestTag = 2

    init(_ network: PeerNetwork, _ node: NodeID) {
        self.network = network
        self.node = node
    }

    var connections: [PeerConnection] { retired + [control, greeting, bulkOut, bulkIn].compactMap { $0 } }

    /// It only hears from now on. Of more than a few the oldest ends: nothing is under way on that any more.
    func retire(_ former: PeerConnection) {
        if retired.count == PeerRecord.retiredMax { retired.removeFirst().end() }
        retired.append(former)
        former.retire()
    }

    func timerFired(_ tag: Int) {
        switch tag {
        case PeerRecord.retryTag:
            retryTimer = nil
            dialSoon()
        case PeerRecord.bulkTag:
            bulkTimer = nil
            network.bulkDue(self)
        default:
            requestTimer = nil
            network.requestsDue(self)
        }
    }

    // MARK: Dialling

    /// Begins an attempt unless one is under way or there is nothing to dial for.
    func dialSoon() {
        guard control == nil, dialing == .none, !network.isClosed else { return }
        if let retryTimer { network.loop.cancel(retryTimer) }
        retryTimer = nil
        dial()
    }

    /// Begins an attempt to get a new control connection; the present one stands until then.
    func dial() {
        guard !addresses.isEmpty else { return }
        network.counters.connectsTried += 1
        dialing = .resolving
        dialNumber += 1
        let number = dialNumber
        addressIndex %= addresses.count
        network.resolver.resolve(addresses[addressIndex]) { [weak self] outcome in
            guard let self, self.dialNumber == number, self.dialing == .resolving else { return }
            switch outcome {
            case .found(let found): self.connect(found, number)
            case .failed(let reason): self.failed(reason, isRefused: false)
            }
        }
    }

    private func connect(_ found: [SocketAddress], _ number: Int) {
        dialing = .connecting
        // A name with several addresses gets another one at each attempt.
        let address = found[attempts % found.count]
        dialer = Dialer(network.loop, to: address, timeout: network.settings.connectTimeout) {
            [weak self] socket, error in
            guard let self, self.dialNumber == number else { return }
            self.dialer = nil
            if let socket {
                self.greet(socket, address)
            } else {
                self.failed(error?.description ?? "no connection", isRefused: error?.isRefused ?? false)
            }
        }
    }

    private func greet(_ socket: consuming Socket, _ address: SocketAddress) {
        dialing = .greeting
        let connection = network.makeConnection(isDialed: true, lane: .control, node: node, address)
        greeting = connection
        do {
            try connection.start(socket, network.clientContext)
        } catch {
            greeting = nil
            connection.end()
            failed("\(error)", isRefused: false)
        }
    }

    /// Gives up the attempt under way, because a better connection is there.
    func cancelDial() {
        dialNumber += 1
        dialing = .none
        dialer?.cancel()
        dialer = nil
        greeting?.end()
        greeting = nil
        if let retryTimer { network.loop.cancel(retryTimer) }
        retryTimer = nil
    }

    /// The attempt under way has failed; the next one comes after a pause.
    func failed(_ reason: String, isRefused: Bool, isHostile: Bool = false) {
        dialing = .none
        greeting = nil
        failure = reason
        network.counters.connectsFailed += 1
        refusals = isRefused ? refusals + 1 : 0
        if refusals >= addresses.count && !isRefusalTold && control == nil {
            isRefusalTold = true
            network.delegate?.linkBroken(node, .refused)
        }
        if control == nil && !isFailureTold && attempts >= 1 {
            isFailureTold = true
            network.delegate?.noted(.notReachable(node, reason))
        }
        addressIndex += 1
        // Who is refused or speaks wrongly will be so again; another address or a later membership may help.
        if isHostile { attempts = max(attempts, 7) }
        retry()
    }

    private func retry() {
        guard control == nil, !addresses.isEmpty, retryTimer == nil, !network.isClosed else { return }
        retryTimer = network.loop.setTimer(after: pause(), self, tag: PeerRecord.retryTag)
    }

    /// From the upper half of a bound that doubles, so that nodes which lost each other together meet apart.
    func pause() -> Nanoseconds {
        let settings = network.settings
        var bound = settings.backoffMin
        for _ in 0..<min(attempts, 40) where bound < settings.backoffMax { bound = bound * 2 }
        attempts += 1
        bound = min(bound, settings.backoffMax)
        return network.random.within((bound / 2)...bound)
    }

    // MARK: The link

    /// The connection stands and is the one that counts.
    func linked(_ connection: PeerConnection) {
        if connection === greeting { greeting = nil }
        cancelDial()
        control = connection
        failure = nil
        refusals = 0
        isRefusalTold = false
        isFailureTold = false
    }

    /// The link is gone: dials at once if it had held, since whether anybody still listens is worth knowing.
    func unlinked(_ connection: PeerConnection, _ reason: String, isHostile: Bool) {
        control = nil
        failure = reason
        if isHostile { attempts = max(attempts, 7) }
        guard dialing == .none else { return }
        if !isHostile && network.loop.now - connection.upSince >= network.settings.stableAfter { attempts = 0 }
        if attempts == 0 { dialSoon() } else { retry() }
    }

    /// Ends everything, without a word.
    func end() {
        cancelDial()
        for connection in connections { connection.end() }
        control = nil
        retired = []
        bulkOut = nil
        bulkIn = nil
        bulkDialer?.cancel()
        bulkDialer = nil
        for timer in [bulkTimer, requestTimer] {
            if let timer { network.loop.cancel(timer) }
        }
        bulkTimer = nil
        requestTimer = nil
    }
}
