import BinaryCoding
import ClusterBase
import NodePorts
import PeerTransport
import RaftCore
import Reactor
import Schema
import SecureChannel
import TLSSession
import Testing

/// Keys of the clusters that the tests make, one authority per name.
enum Keys {
    static let mine = Result { try CertificateAuthority.make(cluster: "test", now: now) }
    static let others = Result { try CertificateAuthority.make(cluster: "test", now: now) }

    static var now: Int64 { SystemClock.wallNanoseconds / 1_000_000_000 }

    static func context(
        _ side: TLSContext.Side, node: UInt64, cluster: String = "test", isForeign: Bool = false,
        lifetimeSeconds: Int64? = nil
    ) throws -> TLSContext {
        let authority = try (isForeign ? others : mine).get()
        let key = try PrivateKey.make()
        let request = try CertificateRequest(key: key, commonName: "node \(node)")
        let certificate = try authority.issue(
            request, identity: .node(cluster: cluster, node: NodeID(node)), now: now,
            lifetimeSeconds: lifetimeSeconds)
        return try TLSContext(
            side: side, identity: TLSIdentity(chain: [certificate], key: key),
            trust: .authorities([authority.certificate]), protocols: [PeerNetwork.protocolName])
    }
}

/// One node's network, and everything that it told.
final class TestPeer: PeerNetworkDelegate {
    let loop: EventLoop
    let node: NodeID
    let network: PeerNetwork
    let address: SocketAddress
    var frames: [PeerFrame] = []
    var frameCount = 0
    var keepsFrames = true
    var ups: [NodeID] = []
    var breaks: [LinkBreak] = []
    var brokenAt: Instant?
    var facts: LinkFacts?
    var requests: [(PeerQuestion, [UInt8])] = []
    var outcomes: [(RequestID, RequestOutcome)] = []
    var notes: [PeerNote] = []
    var onFrame: ((PeerFrame) -> Void)?
    var onRequest: ((PeerQuestion, [UInt8]) -> Void)?

    private final class Proxy: PeerNetworkDelegate {
        weak var peer: TestPeer?
        func received(_ frame: PeerFrame) { peer?.received(frame) }
        func linkUp(_ node: NodeID, _ facts: LinkFacts) { peer?.linkUp(node, facts) }
        func linkBroken(_ node: NodeID, _ how: LinkBreak) { peer?.linkBroken(node, how) }
        func received(_ request: PeerQuestion, _ bytes: [UInt8]) { peer?.received(request, bytes) }
        func answered(_ request: RequestID, _ outcome: RequestOutcome) { peer?.answered(request, outcome) }
        func noted(_ note: PeerNote) { peer?.noted(note) }
    }
    private let proxy = Proxy()

    init(
        _ loop: EventLoop, _ node: UInt64, incarnation: UInt64 = 1, certificateNode: UInt64? = nil,
        certificateCluster: String = "test", cluster: String = "test", isForeign: Bool = false,
        on address: SocketAddress = .loopback(), codec: (any FrameCodec)? = nil,
        _ change: (inout PeerSettings) -> Void = { _ in }
    ) throws {
        self.loop = loop
        self.node = NodeID(node)
        var settings = PeerSettings(cluster: cluster, node: NodeID(node), incarnation: Incarnation(incarnation))
        settings.featureLevel = UInt32(node)
        change(&settings)
        func context(_ side: TLSContext.Side) throws -> TLSContext {
            try Keys.context(
                side, node: certificateNode ?? node, cluster: certificateCluster, isForeign: isForeign)
        }
        network = PeerNetwork(
            loop, settings: settings, server: try context(.server), client: try context(.client),
            seed: node &* 77 &+ incarnation, codec: codec, delegate: proxy, judge: { _, _ in .accept })
        self.address = try network.listen(on: address)
        proxy.peer = self
    }

    deinit { network.close() }

    func knows(_ others: TestPeer...) {
        network.setPeers(others.map { $0.entry })
    }

    var entry: PeerAddresses {
        PeerAddresses(node: node, addresses: [Address(host: address.host, port: address.port)])
    }

    var isUp: Bool { network.status.contains { $0.link != nil } }

    func received(_ frame: PeerFrame) {
        frameCount += 1
        if keepsFrames { frames.append(frame) }
        onFrame?(frame)
    }
    func linkUp(_ node: NodeID, _ facts: LinkFacts) {
        ups.append(node)
        self.facts = facts
    }
    func linkBroken(_ node: NodeID, _ how: LinkBreak) {
        breaks.append(how)
        if brokenAt == nil { brokenAt = SystemClock.now }
    }
    func received(_ request: PeerQuestion, _ bytes: [UInt8]) {
        requests.append((request, bytes))
        onRequest?(request, bytes)
    }
    func answered(_ request: RequestID, _ outcome: RequestOutcome) { outcomes.append((request, outcome)) }
    func noted(_ note: PeerNote) { notes.append(note) }

    // MARK: Frames

    func beat(_ number: UInt64) -> PeerFrame {
        let incarnation = network.settings.incarnation
        return PeerFrame(
            from: node, incarnation: incarnation,
            beat: Beat(incarnation: incarnation, sequence: number, sentAt: Instant(nanoseconds: Int64(number))))
    }

    func frame(to: NodeID, entries: Int = 1, bytes: Int = 128, first: UInt64 = 1) -> PeerFrame {
        PeerFrame(
            from: node, incarnation: network.settings.incarnation,
            messages: [message(to: to, entries: entries, bytes: bytes, first: first)])
    }

    func message(to: NodeID, entries: Int = 1, bytes: Int = 128, first: UInt64 = 1) -> GroupMessage {
        let log = (0..<UInt64(entries)).map {
            Entry(
                index: LogIndex(first + $0), term: Term(3), chain: $0,
                content: .command([UInt8](repeating: UInt8(truncatingIfNeeded: $0), count: bytes)))
        }
        return GroupMessage(
            group: GroupID(1),
            message: Message(
                from: Peer(replica: ReplicaID(1), node: node), to: Peer(replica: ReplicaID(2), node: to),
                epoch: .zero, term: Term(3),
                body: .append(
                    Append(
                        previousIndex: LogIndex(first - 1), previousTerm: Term(3), previousChain: 1, commit: .zero,
                        entries: log))))
    }

    func piece(to: NodeID, number: UInt64, bytes: Int) -> PeerFrame {
        var random = PRNG(seed: number)
        let content = (0..<bytes).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        return PeerFrame(
            from: node, incarnation: network.settings.incarnation,
            snapshots: [
                SnapshotMessage(
                    group: GroupID(1), from: Peer(replica: ReplicaID(1), node: node),
                    to: Peer(replica: ReplicaID(2), node: to), epoch: .zero, term: Term(3),
                    snapshot: SnapshotID(source: ReplicaID(1), incarnation: network.settings.incarnation, number: 1),
                    body: .piece(number: number, bytes: content, checksum: 7, manifest: nil))
            ])
    }
}

extension PeerFrame {
    /// The index of the first entry of the first append.
    var firstIndex: UInt64? {
        guard case .append(let append) = messages.first?.message.body else { return nil }
        return append.entries.first?.index.rawValue
    }
}

/// Waits for a state, at most half a minute.
func waits(_ loop: EventLoop, _ location: SourceLocation = #_sourceLocation, _ isDone: () -> Bool) {
    let isReached = loop.run(atMost: .seconds(30), until: isDone)
    #expect(isReached, sourceLocation: location)
}

/// A client with a node's certificate that says what the test wants.
final class RawPeer {
    let loop: EventLoop
    let node: UInt64
    var connection: SecureConnection?
    var answer: PeerHelloAnswer?
    var closed: CloseReason?
    private var dialer: Dialer?
    private var input: [UInt8] = []

    /// A connection keeps its delegate while it stands; this lets the peer end with its test.
    private final class Proxy: SecureConnectionDelegate {
        weak var peer: RawPeer?
        func established(_ connection: SecureConnection) {}
        func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int {
            peer?.received(bytes, from: from, to: to)
            return to - from
        }
        func closed(_ connection: SecureConnection, _ reason: CloseReason) { peer?.closed = reason }
    }
    private let proxy = Proxy()

    init(_ loop: EventLoop, _ node: UInt64, to peer: TestPeer, hello: PeerHello? = nil, saysHello: Bool = true) throws {
        self.loop = loop
        self.node = node
        proxy.peer = self
        let context = try Keys.context(.client, node: node)
        var settings = SecureConnectionSettings()
        settings.socket.receiveBufferBytes = 64 << 10
        dialer = Dialer(loop, to: peer.address, timeout: .seconds(5)) { [weak self] socket, error in
            guard let self, let socket else {
                Issue.record("no connection: \(String(describing: error))")
                return
            }
            do {
                self.connection = try SecureConnection(
                    loop, socket, peer.address, context: context, settings: settings, delegate: self.proxy)
            } catch { Issue.record(error) }
        }
        waits(loop) { self.connection?.isEstablished ?? false }
        guard saysHello else { return }
        let usual = PeerHello(
            version: 1, cluster: "test", node: node, incarnation: 1, to: peer.node.rawValue, lane: .control,
            framesOldest: 1, framesNewest: 1, featureLevel: 1, sequence: 1)
        say(kind: 1, (hello ?? usual).serialized())
        waits(loop) { self.answer != nil || self.closed != nil }
    }

    deinit { connection?.close() }

    func say(kind: UInt8, flags: UInt8 = 0, _ payload: [UInt8], spoil: Bool = false, length: UInt32? = nil) {
        var writer = ByteWriter()
        let covered: [UInt8] = [kind, flags, 0, 0] + payload
        writer.fixed32(length ?? UInt32(payload.count))
        writer.fixed32(CRC32C.of(covered) ^ (spoil ? 1 : 0))
        writer.raw(covered)
        #expect(connection?.write(writer.bytes) == true)
    }

    private func received(_ bytes: [UInt8], from: Int, to: Int) {
        input.append(contentsOf: bytes[from..<to])
        guard answer == nil, input.count >= 12 else { return }
        let count = Int(input[0]) | Int(input[1]) << 8
        if input[8] == 2, input.count >= 12 + count {
            answer = try? PeerHelloAnswer(serialized: Array(input[12..<(12 + count)]))
        }
    }
}

extension PeerFrame {
    /// The same piece under another number.
    func numbered(_ number: UInt64) -> PeerFrame {
        var frame = self
        if case .piece(_, let bytes, let checksum, let manifest) = frame.snapshots[0].body {
            frame.snapshots[0].body = .piece(number: number, bytes: bytes, checksum: checksum, manifest: manifest)
        }
        return frame
    }
}
