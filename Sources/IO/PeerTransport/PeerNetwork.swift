package import ClusterBase
package import NodePorts
internal import RaftCore
package import Reactor
internal import Schema
internal import SecureChannel
package import TLSSession
internal import WireFormat

/// All connections of this node with the others. Belongs to the loop's thread.
///
///     send ───────▶ control connection, one per pair ─────────▶ received(frame)
///       pieces ───▶ bulk connection, one per direction ───────▶
///     sendStream ─▶ connection of its own ─▶ receiveStream
///     sendRequest ▶ control connection ─▶ received(request) ─▶ answer ─▶ answered
///
/// One control connection carries both directions: a beat, the appends of a turn and the answers of the other side share
/// its records and its acknowledgements, and its end means the same to both. Whichever node has none dials. Two that
/// meet are told apart by rules which both nodes apply alike, see `PeerNetwork+Hello.swift`.
///
/// The owner calls `close` before it lets go of the network.
package final class PeerNetwork {
    /// The name for ALPN, to be given to both contexts.
    package static let protocolName = "muster-peer/1"

    package let settings: PeerSettings
    package internal(set) var counters = PeerCounters()
    package internal(set) weak var delegate: (any PeerNetworkDelegate)?

    let loop: EventLoop
    let codec: (any FrameCodec)?
    let resolver: Resolver
    var serverContext: TLSContext
    var clientContext: TLSContext
    var judge: (NodeID, Certificate) -> Judgement
    var random: PRNG
    /// Sorted by node.
    var peers: [PeerRecord] = []
    /// Accepted, and not yet known by whom.
    var strangers: [PeerConnection] = []
    /// In the order of their beginnings.
    var streams: [PeerStream] = []
    var listeners: [Listener] = []
    var serialLast: UInt64 = 0
    /// Counts this node's words about its connections.
    var sequenceLast: UInt64 = 0
    var requestLast: UInt64 = 0
    var bucket: TokenBucket
    var bulkTimer: TimerID?
    var isPumpQueued = false
    private(set) lazy var pump = BulkPump(self)
    /// Goes while there is a link.
    var signTimer: TimerID?
    var signDue = Instant.origin
    /// Nobody's silence before it counts: this process stood still then.
    var signsSince = Instant.origin
    private(set) lazy var signs = SignRound(self)
    /// Which peer's pieces go first, so that none waits behind another for ever.
    var bulkTurn = 0
    private(set) var isClosed = false

    /// - Parameters:
    ///   - loop: the thread that everything here happens on.
    ///   - settings: the bounds, and who this node is.
    ///   - server: made with `protocolName` and with certificates required on both sides.
    ///   - client: made likewise.
    ///   - seed: of the pauses between attempts.
    ///   - codec: packs frames, or nil where none is packed.
    ///   - delegate: hears what comes; it is not kept alive.
    ///   - judge: whether a node with this certificate is a member; that the certificate names the node is checked before.
    package init(
        _ loop: EventLoop, settings: PeerSettings, server: TLSContext, client: TLSContext, seed: UInt64,
        codec: (any FrameCodec)? = nil, delegate: any PeerNetworkDelegate,
        judge: @escaping (NodeID, Certificate) -> Judgement
    ) {
        self.loop = loop
        self.settings = settings
        self.codec = codec
        self.delegate = delegate
        self.judge = judge
        serverContext = server
        clientContext = client
        random = PRNG(seed: seed)
        resolver = Resolver(loop)
        bucket = TokenBucket(bytesPerSecond: settings.bulkBytesPerSecond, now: loop.now)
    }

    /// Accepts peers on this address too. Gives the address with the port that the system chose when it was 0.
    package func listen(on address: SocketAddress) throws(SystemError) -> SocketAddress {
        let listener = try Listener(loop, on: address) { [unowned self] socket, from in
            self.accepted(socket, from)
        }
        listeners.append(listener)
        return listener.address
    }

    /// Ends everything without a word to the delegate.
    package func close() {
        isClosed = true
        delegate = nil
        for listener in listeners { listener.close() }
        for stranger in strangers { stranger.end() }
        for peer in peers { peer.end() }
        for stream in streams { stream.tearDown() }
        listeners = []
        strangers = []
        peers = []
        resolver.close()
        if let bulkTimer { loop.cancel(bulkTimer) }
        bulkTimer = nil
        if let signTimer { loop.cancel(signTimer) }
        signTimer = nil
    }

    // MARK: Who the others are

    /// The addresses of the other nodes, all of them. Nodes that are not in it are dialled no more; a connection that
    /// stands is the judge's affair.
    package func setPeers(_ book: [PeerAddresses]) {
        var wanted = book.filter { $0.node != settings.node && !$0.addresses.isEmpty }
        wanted.sort { $0.node < $1.node }
        for peer in peers where !wanted.contains(where: { $0.node == peer.node }) { peer.addresses = [] }
        for entry in wanted {
            let peer = record(of: entry.node)
            if peer.addresses == entry.addresses { continue }
            peer.addresses = entry.addresses
            peer.addressIndex = 0
            // Where it was not reachable is not where it is now.
            if peer.control == nil { peer.dialSoon() }
        }
        dropEmptyRecords()
    }

    /// How many synced writes this node's log has, which peers remember; zero while damage may have taken some of them.
    package var written: () -> UInt64 = { 0 }

    /// Peers whose program does not know this feature level are refused from now on.
    package var featureLevelNeeded: UInt32 = 0

    func count(_ bytes: Int, to node: NodeID?) {
        if let node, let peer = known(node) { peer.bytesSent += UInt64(bytes) }
    }

    /// Bytes sent to each node since this was last called: frames as they leave, packed where that is worth it, pieces of snapshots
    /// and streams.
    package func takeSent() -> [(node: NodeID, bytes: UInt64)] {
        peers.compactMap { peer in
            if peer.bytesSent == 0 { return nil }
            defer { peer.bytesSent = 0 }
            return (peer.node, peer.bytesSent)
        }
    }

    /// Judges by something else from now on, and what stands at once: a removed node's connections end in this turn.
    package func setJudge(_ judge: @escaping (NodeID, Certificate) -> Judgement) {
        self.judge = judge
        for peer in peers {
            for connection in peer.connections {
                guard let certificate = connection.certificate else { continue }
                if let objection = judge(peer.node, certificate).objection {
                    counters.refusedMembership += 1
                    connection.endSoon(objection.reason)
                }
            }
        }
        for stream in streams {
            guard let connection = stream.connection, let certificate = connection.certificate,
                let objection = judge(stream.node, certificate).objection
            else { continue }
            counters.refusedMembership += 1
            connection.endSoon(objection.reason)
        }
    }

    /// The rate of all bulk together, in bytes per second, from now on.
    package func setBulkRate(_ bytesPerSecond: Int) {
        if bytesPerSecond == bucket.bytesPerSecond { return }
        bucket = TokenBucket(bytesPerSecond: bytesPerSecond, now: loop.now)
        pumpBulk()
    }

    /// New connections use these. `refresh` lets every peer see the new certificate.
    package func setContexts(server: TLSContext, client: TLSContext) {
        serverContext = server
        clientContext = client
    }

    /// Replaces every connection by a new one, each without a gap: the old one stands until the new one does.
    package func refresh() {
        for peer in peers where peer.control != nil && peer.dialing == .none { peer.dial() }
    }

    func position(of node: NodeID) -> (index: Int, isThere: Bool) {
        var low = 0
        var high = peers.count
        while low < high {
            let middle = (low + high) / 2
            if peers[middle].node < node { low = middle + 1 } else { high = middle }
        }
        return (low, low < peers.count && peers[low].node == node)
    }

    func known(_ node: NodeID) -> PeerRecord? {
        let (index, isThere) = position(of: node)
        return isThere ? peers[index] : nil
    }

    func record(of node: NodeID) -> PeerRecord {
        let (index, isThere) = position(of: node)
        if !isThere { peers.insert(PeerRecord(self, node), at: index) }
        return peers[index]
    }

    func dropEmptyRecords() {
        peers.removeAll { peer in
            guard peer.addresses.isEmpty, peer.connections.isEmpty else { return false }
            peer.end()
            return true
        }
    }

    // MARK: Frames

    /// Takes a frame for the end of the turn. Without a connection it is lost, as it may be on any network; pieces of
    /// snapshots wait for their own connection.
    package func send(_ frame: PeerFrame, to node: NodeID) {
        guard let peer = known(node), let control = peer.control, control.state == .up else {
            counters.framesUnsent += 1
            return
        }
        var frame = frame
        if !frame.snapshots.isEmpty {
            for piece in frame.snapshots where piece.isBulk {
                enqueue(PeerFrame(from: frame.from, incarnation: frame.incarnation, snapshots: [piece]), peer)
            }
            frame.snapshots.removeAll { $0.isBulk }
        }
        if control.bytesQueued >= settings.queuedBytesMax {
            counters.messagesDropped += UInt64(frame.messages.count + frame.snapshots.count)
            // A beat says that this node lives and costs nothing. It alone may pass the bound.
            guard frame.beat != nil, control.bytesQueued < settings.queuedBytesMax + (1 << 20) else { return }
            frame.messages.removeAll()
            frame.snapshots.removeAll()
            frame.requests.removeAll()
            frame.answers.removeAll()
        }
        if frame.beat == nil && frame.messages.isEmpty && frame.snapshots.isEmpty && frame.requests.isEmpty
            && frame.answers.isEmpty
        {
            return
        }
        write(frame, control)
    }

    /// Writes a frame, in halves when it is larger than peers take.
    private func write(_ frame: PeerFrame, _ connection: PeerConnection) {
        let count = frame.messages.count
        if count > 1 && frame.bytesExpectedMin > WireLimits.frameBytesMax / 2 {
            var first = frame
            first.messages = Array(frame.messages[..<(count / 2)])
            first.snapshots = []
            first.requests = []
            first.answers = []
            var second = frame
            second.beat = nil
            second.messages = Array(frame.messages[(count / 2)...])
            write(first, connection)
            return write(second, connection)
        }
        guard frame.bytesExpectedMin <= WireLimits.frameBytesMax - FrameCoder.helloBytesMax else {
            counters.messagesTooLarge += 1
            return
        }
        connection.write(.peerFrame) {
            frame.encode(into: &$0)
            // A message that is written behind another one is merged with it.
            if frame.beat != nil { RaftPeerFrame(written: written()).encode(into: &$0) }
        }
    }

    /// The node of a connection says how far its log is.
    func moved(_ connection: PeerConnection) {
        guard let peer = connection.node.flatMap(known) else { return }
        peer.newest = peer.newest.followed(by: connection.start)
    }

    // MARK: Looking in

    package var status: [PeerStatus] {
        peers.map { peer in
            PeerStatus(
                node: peer.node, link: peer.control?.facts, since: peer.control?.upSince,
                bytesQueued: peer.control?.bytesQueued ?? 0, bulkBytesQueued: peer.bulkBytesQueued,
                failure: peer.control == nil ? peer.failure : nil)
        }
    }

    /// Whether a connection with the node stands. The node's process may have stopped, or what it says may be lost: see `isHeard`.
    package func isLinked(_ node: NodeID) -> Bool { known(node)?.control?.state == .up }
}

extension SnapshotMessage {
    /// Large, and in no hurry.
    var isBulk: Bool {
        if case .piece = body { return true }
        return false
    }
}

extension PeerFrame {
    /// Whether both carry the same piece of a snapshot, and nothing else.
    func repeats(_ other: PeerFrame) -> Bool {
        guard let own = snapshots.first, let its = other.snapshots.first, own.snapshot == its.snapshot,
            own.group == its.group, own.to == its.to, case .piece(let number, _, _, _) = own.body,
            case .piece(number, _, _, _) = its.body
        else { return false }
        return true
    }

    /// About what it takes on the wire: exact for what is large, a round number for the rest.
    var bytesExpectedMin: Int {
        var total = 256
        for item in messages {
            total += 64
            switch item.message.body {
            case .append(let append): for entry in append.entries { total += 48 + entry.content.bytes }
            case .forward(let commands): for command in commands { total += 8 + command.count }
            default: break
            }
        }
        for piece in snapshots {
            total += 256
            if case .piece(_, let bytes, _, _) = piece.body { total += bytes.count }
        }
        if let beat { total += beat.changes.count * 24 }
        return total
    }
}

extension EntryContent {
    var bytes: Int {
        switch self {
        case .noop: 0
        case .command(let bytes): bytes.count
        case .configuration: 512
        }
    }
}
