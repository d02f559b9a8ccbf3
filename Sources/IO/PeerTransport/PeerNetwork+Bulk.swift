internal import ClusterBase
internal import NodePorts
internal import Reactor
internal import Schema
internal import TLSSession
internal import WireFormat

// Pieces of snapshots: on connections of their own, at a rate, and after everything else of a turn, so that they never
// stand before a beat. The sender opens the connection when it has something to send and closes it when it had nothing
// for a while; what the receiver answers goes over the control connection.
extension PeerNetwork {
    /// What waits in a bulk connection at most; the rest waits here, where it can still give way.
    static let bulkAheadBytes = 1 << 19
    /// What one turn encodes, encrypts or reads of bulk: a beat waits for that much work and no more.
    static let bulkPerTurnBytes = 1 << 18

    func enqueue(_ frame: PeerFrame, _ peer: PeerRecord) {
        let count = frame.bytesExpectedMin
        // One that still waits here is not lost, however long its sender has heard nothing of it.
        if (0..<peer.bulkQueue.count).contains(where: { frame.repeats(peer.bulkQueue[$0]) }) { return pumpBulk() }
        guard !peer.addresses.isEmpty, peer.bulkBytesQueued + count <= settings.bulkQueuedBytesMax else {
            counters.piecesDropped += 1
            return
        }
        peer.bulkQueue.append(frame)
        peer.bulkBytesQueued += count
        if peer.bulkOut == nil && peer.bulkDialer == nil { dialBulk(peer) } else { pumpBulk() }
    }

    private func dialBulk(_ peer: PeerRecord) {
        guard loop.now >= peer.bulkRetryAt else {
            setBulkTimer(peer, at: peer.bulkRetryAt)
            return
        }
        peer.bulkRetryAt = loop.now + settings.backoffMax / 4
        resolver.resolve(peer.addresses[peer.addressIndex % peer.addresses.count]) { [weak self, weak peer] outcome in
            guard let self, let peer, peer.bulkOut == nil, peer.bulkDialer == nil, !self.isClosed else { return }
            guard case .found(let found) = outcome, let address = found.first else {
                return self.bulkEnded(peer, "the name could not be resolved")
            }
            peer.bulkDialer = Dialer(self.loop, to: address, timeout: self.settings.connectTimeout) {
                [weak self, weak peer] socket, error in
                guard let self, let peer else { return }
                peer.bulkDialer = nil
                guard let socket else { return self.bulkEnded(peer, error?.description ?? "no connection") }
                self.greetBulk(socket, address, peer)
            }
        }
    }

    private func greetBulk(_ socket: consuming Socket, _ address: SocketAddress, _ peer: PeerRecord) {
        let connection = makeConnection(isDialed: true, lane: .bulk, node: peer.node, address)
        peer.bulkOut = connection
        do {
            try connection.start(socket, clientContext)
        } catch {
            connection.end()
            bulkEnded(peer, "\(error)")
        }
    }

    func bulkUp(_ peer: PeerRecord) { pumpBulk() }

    func drained(_ connection: PeerConnection) {
        if connection.lane != .control { pumpBulk() }
    }

    /// What waits is lost: the transfer sends it again from where the receiver stands.
    func bulkEnded(_ peer: PeerRecord, _ reason: String) {
        peer.bulkOut = nil
        counters.piecesDropped += UInt64(peer.bulkQueue.count)
        peer.bulkQueue.removeAll()
        peer.bulkBytesQueued = 0
        peer.bulkRetryAt = loop.now + settings.backoffMax / 4
    }

    func bulkDue(_ peer: PeerRecord) {
        if peer.bulkQueue.isEmpty {
            guard let connection = peer.bulkOut, let since = peer.bulkIdleSince else { return }
            if loop.now - since >= settings.bulkIdleMax && connection.bytesQueued == 0 {
                connection.end()
                peer.bulkOut = nil
                peer.bulkIdleSince = nil
            } else {
                setBulkTimer(peer, at: max(since + settings.bulkIdleMax, loop.now + .seconds(1)))
            }
        } else if peer.bulkOut == nil && peer.bulkDialer == nil {
            if peer.addresses.isEmpty { bulkEnded(peer, "no address") } else { dialBulk(peer) }
        }
    }

    private func setBulkTimer(_ peer: PeerRecord, at moment: Instant) {
        if peer.bulkTimer == nil { peer.bulkTimer = loop.setTimer(at: moment, peer, tag: PeerRecord.bulkTag) }
    }

    /// Has the next pieces written at the end of the turn, behind everything else.
    func pumpBulk() {
        if isPumpQueued { return }
        isPumpQueued = true
        loop.wantsFlush(pump, isBulk: true)
    }

    /// Lets through what the rate and the turn allow, one piece of each node in turn.
    fileprivate func pumpNow() {
        isPumpQueued = false
        bucket.fill(loop.now)
        var budget = PeerNetwork.bulkPerTurnBytes
        var isIdle = false
        while budget > 0 && bucket.isOpen && !isIdle {
            isIdle = true
            for i in 0..<peers.count {
                let peer = peers[(bulkTurn + i) % peers.count]
                guard budget > 0, bucket.isOpen, let connection = peer.bulkOut, connection.isWritable,
                    connection.bytesQueued < PeerNetwork.bulkAheadBytes, let frame = peer.bulkQueue.popFirst()
                else { continue }
                isIdle = false
                peer.bulkBytesQueued -= frame.bytesExpectedMin
                let count = connection.write(.peerFrame) { frame.encode(into: &$0) }
                bucket.take(count)
                budget -= count
                counters.piecesSent += 1
                if peer.bulkQueue.isEmpty {
                    peer.bulkIdleSince = loop.now
                    setBulkTimer(peer, at: loop.now + settings.bulkIdleMax)
                }
            }
            bulkTurn = peers.isEmpty ? 0 : (bulkTurn + 1) % peers.count
            for stream in streams {
                guard budget > 0, bucket.isOpen, stream.wantsPump else { continue }
                let count = stream.pump()
                bucket.take(count)
                budget -= count
                counters.streamBytesSent += UInt64(count)
                self.count(count, to: stream.node)
                if count > 0 { isIdle = false }
            }
        }
        // An idle round waits for a connection to be made or drained, which calls again.
        guard !isIdle, bulkTimer == nil,
            peers.contains(where: { !$0.bulkQueue.isEmpty }) || streams.contains(where: \.wantsPump)
        else { return }
        bulkTimer = loop.setTimer(at: bucket.isOpen ? loop.now : bucket.opensAt, pump, tag: 0)
    }
}

/// Goes on with bulk when the rate allows it.
final class BulkPump: TimerHandler, FlushHandler {
    unowned let network: PeerNetwork
    init(_ network: PeerNetwork) { self.network = network }
    func timerFired(_ tag: Int) {
        network.bulkTimer = nil
        network.pumpBulk()
    }
    func flush() { if !network.isClosed { network.pumpNow() } }
}
