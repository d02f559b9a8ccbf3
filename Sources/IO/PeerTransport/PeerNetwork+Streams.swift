package import ClusterBase
internal import Reactor
internal import Schema

// Streams between programs of two machines, a guest's memory above all. Each has a connection of its own, which the sender
// opens. Its hello names the stream; the receiver gives the stream to whoever waits for exactly that from exactly that node.
// Then the sender's side is raw bytes, since TLS protects them and a frame would only cost a copy; the receiver says words. What
// the program at a disk's other end answers is little, and goes back in such words.
extension PeerNetwork {
    /// Between attempts to reach the receiver.
    static let streamRetry = Nanoseconds.milliseconds(200)

    /// Carries to another node what the first program to connect to the path writes, once the node has claimed the stream.
    /// The handler is never called from within a call to the network.
    package func sendStream(
        _ name: StreamName, to node: NodeID, listeningAt path: String, _ handler: @escaping (StreamEvent) -> Void
    ) -> PeerStream {
        let stream = PeerStream(self, name, to: node, path: path, handler)
        streams.append(stream)
        return stream
    }

    /// Carries to the program that listens at the path what the node sends under this name. It may be on its way already.
    package func receiveStream(
        _ name: StreamName, from node: NodeID, connectingTo path: String,
        _ handler: @escaping (StreamEvent) -> Void
    ) -> PeerStream {
        for other in streams where other.name == name && other.state == .unclaimed && other.node != node {
            counters.streamsRefused += 1
            other.tearDown()
        }
        let waiting = streams.first { $0.name == name && $0.state == .unclaimed }
        let stream = waiting ?? PeerStream(self, name, from: node)
        if waiting == nil { streams.append(stream) }
        stream.claim(path, handler)
        return stream
    }

    func refusalOfStream(_ hello: PeerHello, _ node: NodeID) -> Objection? {
        guard let name = hello.stream.map(StreamName.init) else {
            return Objection(.version, "a connection of the stream lane must say what it carries")
        }
        if let known = streams.first(where: { !$0.isSender && $0.name == name && $0.isClaimed }) {
            if known.node != node {
                counters.streamsRefused += 1
                return Objection(.identity, "\(name) comes from node \(known.node), and not from node \(node)")
            }
            if known.connection != nil {
                counters.streamsRefused += 1
                return Objection(.superseded, "\(name) is being carried already")
            }
        } else if streams.count(where: { $0.state == .unclaimed && $0.node == node }) >= settings.streamsUnclaimedMax {
            counters.refusedFull += 1
            return Objection(.full, "too many streams of it wait here that nobody has claimed")
        }
        return nil
    }

    /// A connection whose hello was welcome.
    func takeStream(_ hello: PeerHello, _ node: NodeID, _ connection: PeerConnection) {
        guard let name = hello.stream.map(StreamName.init) else { return }
        let known = streams.first { !$0.isSender && $0.name == name && $0.node == node && $0.state != .taken }
        let stream = known ?? PeerStream(self, name, from: node)
        if known == nil { streams.append(stream) }
        stream.bind(connection)
    }

    func dropUnclaimed(_ stream: PeerStream) {
        counters.streamsUnclaimed += 1
        if let connection = stream.connection {
            delegate?.noted(.refused(connection.address, stream.node, "nobody here waits for \(stream.name)"))
        }
        stream.tearDown()
    }

    /// Ends a connection after its last word was sent.
    func seeOff(_ connection: PeerConnection, _ reason: String) {
        strangers.append(connection)
        connection.leave(reason)
    }

    func forget(_ stream: PeerStream) { streams.removeAll { $0 === stream } }
}

extension StreamName {
    init(_ wire: PeerStreamName) { self.init(vm: wire.vm, epoch: wire.epoch, disk: wire.disk) }
    var wire: PeerStreamName { PeerStreamName(vm: vm, epoch: epoch, disk: disk) }
}
