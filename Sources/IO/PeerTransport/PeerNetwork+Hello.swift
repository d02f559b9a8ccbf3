internal import ClusterBase
internal import RaftCore
internal import Reactor
internal import Schema
internal import SecureChannel
internal import TLSSession

// How two nodes begin to talk, and which of several connections counts.
//
// A hello and its answer carry the speaker's `sequence`, which counts everything that it has said about its connections.
// The listener of a hello decides, in this order:
//
//   1. Somebody else is meant, or the speaker is not who it says: refused.
//   2. The listener holds a connection and knows a later word of the speaker than this hello: it is an old one that was
//      under way while the connection was made. Refused; the connection stands.
//   3. The listener has said hello itself, has no answer yet, and has the lower id: refused, its own will do, unless the
//      speaker's process is a new one. With the higher id it gives its own up.
//   4. Otherwise the new connection is the one. The speaker would not have said hello if it still had another.
//
// Both nodes see the same words, so at most one of two connections that cross survives, and whatever is refused or lost
// is dialled again.
extension PeerNetwork {
    func makeConnection(
        isDialed: Bool, lane: PeerLane, node: NodeID?, _ address: SocketAddress
    ) -> PeerConnection {
        serialLast += 1
        return PeerConnection(
            self, serial: serialLast, isDialed: isDialed, lane: lane, node: node, address: address)
    }

    func accepted(_ socket: consuming Socket, _ from: SocketAddress) {
        // A stranger that stays silent leaves after `helloTimeout`, and makes room for the next.
        guard strangers.count < settings.strangersMax else {
            counters.refusedFull += 1
            return
        }
        let connection = makeConnection(isDialed: false, lane: .unspecified, node: nil, from)
        do {
            try connection.start(socket, serverContext)
            strangers.append(connection)
        } catch {
            connection.end()
            counters.refusedTLS += 1
            delegate?.noted(.refused(from, nil, "\(error)"))
        }
    }

    // MARK: This node speaks first

    /// Whether the node that was reached is the one that was meant, and still a member. Otherwise the connection ends.
    func mayGreet(_ connection: PeerConnection) -> Bool {
        guard let node = connection.node, let objection = objection(to: node, connection) else { return true }
        connection.endSoon(objection.reason)
        return false
    }

    /// Why the certificate of a connection does not speak for the node.
    private func objection(to node: NodeID, _ connection: PeerConnection) -> Objection? {
        guard let certificate = connection.certificate else {
            counters.refusedIdentity += 1
            return Objection(.identity, "it shows no certificate")
        }
        guard certificate.identity == .node(cluster: settings.cluster, node: node) else {
            counters.refusedIdentity += 1
            let names = certificate.uris.isEmpty ? "nobody" : certificate.uris.joined(separator: " and ")
            return Objection(
                .identity, "its certificate names \(names) and not node \(node) of cluster \(settings.cluster)")
        }
        let objection = judge(node, certificate).objection
        if objection != nil { counters.refusedMembership += 1 }
        return objection
    }

    /// Why a start of a node's process is none that can follow on what was linked here: a copy of its data directory from before
    /// has neither its votes nor what it acknowledged since, and two processes with copies of one directory vote twice.
    private func objection(to start: NodeStart, of node: NodeID) -> Objection? {
        guard let newest = known(node)?.newest else { return nil }
        // One that lives is no former process: whoever comes is the copy, though it was started more often.
        if let current = known(node)?.control, current.incarnation < start.incarnation,
            loop.now - current.heardAt < settings.livesWithin
        {
            return Objection(.superseded, "an earlier start of node \(node) is connected and was heard a moment ago")
        }
        guard let why = newest.objection(to: start) else { return nil }
        counters.refusedIdentity += 1
        // While a later start is linked, an earlier one's word may have been under way.
        let isQuiet = start.incarnation < newest.incarnation && known(node)?.control != nil
        return Objection(
            .copy,
            "the data directory of node \(node) is an older copy: \(why). What the node promised since is not in it, so it must not "
                + "go on: remove the node with `muster node remove`, and let its host join again with an empty directory",
            isQuiet: isQuiet)
    }

    func hello(_ connection: PeerConnection) -> PeerHello {
        sequenceLast += 1
        return PeerHello(
            version: FrameCoder.helloVersion, cluster: settings.cluster, node: settings.node.rawValue,
            incarnation: settings.incarnation.rawValue, to: connection.node?.rawValue ?? 0, lane: connection.lane,
            framesOldest: 1, framesNewest: FrameCoder.frameVersion, featureLevel: settings.featureLevel,
            sequence: sequenceLast, codecs: codec == nil ? 0 : 1, stream: connection.stream?.name.wire,
            process: settings.process, written: written())
    }

    /// The other side's answer to this node's hello.
    func take(_ answer: PeerHelloAnswer, _ connection: PeerConnection) {
        guard let node = connection.node else { return }
        if answer.refusal != .unspecified {
            if answer.refusal == .collision || answer.refusal == .superseded { counters.collisions += 1 }
            connection.endReason = answer.reason.isEmpty ? "it gives no reason" : answer.reason
            connection.wasRefused = answer.refusal
            return connection.endSoon(connection.endReason ?? "")
        }
        guard answer.node == node.rawValue, answer.frames >= 1, answer.frames <= FrameCoder.frameVersion else {
            counters.garbageForeign += 1
            return connection.endSoon("its welcome is of node \(answer.node) with frames of version \(answer.frames)")
        }
        let start = NodeStart(Incarnation(answer.incarnation), process: answer.process, written: answer.written)
        if let objection = objection(to: start, of: node) {
            delegate?.noted(.refused(connection.address, node, objection.reason))
            return connection.endSoon(objection.reason)
        }
        connection.start = start
        connection.peerSequence = answer.sequence
        connection.isCompressing = answer.codecs & 1 != 0
        connection.facts = LinkFacts(
            incarnation: connection.incarnation, featureLevel: answer.featureLevel, frames: answer.frames,
            isDialed: true, address: connection.address)
        connection.raise()
        // A stream's receiver says when it begins.
        if connection.lane == .stream { return }
        let peer = record(of: node)
        if connection.lane == .bulk {
            bulkUp(peer)
        } else {
            raise(connection, peer)
        }
    }

    // MARK: The other side speaks first

    func take(_ hello: PeerHello, _ connection: PeerConnection) {
        let node = NodeID(hello.node)
        connection.node = node
        connection.lane = hello.lane
        connection.start = NodeStart(Incarnation(hello.incarnation), process: hello.process, written: hello.written)
        connection.peerSequence = hello.sequence
        connection.isCompressing = hello.codecs & 1 != 0
        if let objection = objection(to: hello, node, connection) {
            if objection.refusal == .collision || objection.refusal == .superseded {
                counters.collisions += 1
            } else if !objection.isQuiet {
                delegate?.noted(.refused(connection.address, node, objection.reason))
            }
            connection.say(.helloAnswer, answer(objection.refusal, objection.reason, frames: 0))
            return connection.leave(objection.reason)
        }
        // One that is refused stays a stranger until it is gone.
        strangers.removeAll { $0 === connection }
        let frames = min(hello.framesNewest, FrameCoder.frameVersion)
        connection.facts = LinkFacts(
            incarnation: connection.incarnation, featureLevel: hello.featureLevel, frames: frames, isDialed: false,
            address: connection.address)
        connection.say(.helloAnswer, answer(.unspecified, "", frames: frames))
        connection.raise()
        if connection.lane == .stream {
            connection.becomeBulk()
            return takeStream(hello, node, connection)
        }
        let peer = record(of: node)
        if connection.lane == .bulk {
            connection.becomeBulk()
            peer.bulkIn?.end()
            peer.bulkIn = connection
        } else {
            peer.cancelDial()
            raise(connection, peer)
        }
    }

    private func answer(_ refusal: PeerHelloAnswer.Refusal, _ reason: String, frames: UInt32) -> PeerHelloAnswer {
        sequenceLast += 1
        return PeerHelloAnswer(
            version: FrameCoder.helloVersion, node: settings.node.rawValue,
            incarnation: settings.incarnation.rawValue, frames: frames, featureLevel: settings.featureLevel,
            sequence: sequenceLast, refusal: refusal, reason: reason, codecs: codec == nil ? 0 : 1,
            process: settings.process, written: written())
    }

    private func objection(to hello: PeerHello, _ node: NodeID, _ connection: PeerConnection) -> Objection? {
        guard hello.version >= 1, hello.framesOldest <= FrameCoder.frameVersion, hello.framesNewest >= 1 else {
            counters.refusedVersion += 1
            return Objection(
                .version,
                "frames of version \(hello.framesOldest) to \(hello.framesNewest) are not those of this program, "
                    + "1 to \(FrameCoder.frameVersion); upgrade the older one first"
            )
        }
        guard hello.cluster == settings.cluster else {
            counters.refusedCluster += 1
            return Objection(
                .cluster, "this is a node of cluster \(settings.cluster), and not of the one that was meant")
        }
        guard hello.to == settings.node.rawValue, node != settings.node else {
            counters.refusedIdentity += 1
            return Objection(.address, "this is node \(settings.node); correct the address of node \(hello.to)")
        }
        if let objection = objection(to: node, connection) { return objection }
        guard hello.featureLevel >= featureLevelNeeded else {
            counters.refusedVersion += 1
            return Objection(
                .version,
                "the cluster has opened feature level \(featureLevelNeeded), and the program of node \(node) knows levels up "
                    + "to \(hello.featureLevel); install the newer program there"
            )
        }
        if let objection = objection(to: connection.start, of: node) { return objection }
        if hello.lane == .stream { return refusalOfStream(hello, node) }
        guard hello.lane == .control || hello.lane == .bulk else {
            counters.refusedVersion += 1
            return Objection(.version, "connections of kind \(hello.lane.rawValue) are not known to this program")
        }
        if hello.lane == .bulk { return nil }
        return collision(of: hello, node)
    }

    private func collision(of hello: PeerHello, _ node: NodeID) -> Objection? {
        guard let peer = known(node) else { return nil }
        if let current = peer.control {
            let theirs = (hello.incarnation, hello.sequence)
            if theirs <= (current.incarnation.rawValue, current.peerSequence) {
                return Objection(.superseded, "a later connection stands")
            }
        }
        let isSameProcess = peer.control.map { $0.incarnation.rawValue == hello.incarnation } ?? true
        if let own = peer.greeting, own.state == .awaitsAnswer, settings.node < node, isSameProcess {
            return Objection(.collision, "this node's own connection is under way")
        }
        return nil
    }

    // MARK: Links

    /// The connection is the node's one control connection from now on.
    private func raise(_ connection: PeerConnection, _ peer: PeerRecord) {
        if let former = peer.control {
            counters.linksReplaced += 1
            failRequests(peer)
            if former.incarnation == connection.incarnation {
                // What is under way on it still counts, in both directions.
                peer.retire(former)
            } else {
                former.end()
                delegate?.linkBroken(peer.node, .closed)
            }
        }
        guard let facts = connection.facts else { return }
        peer.newest = peer.newest.followed(by: connection.start)
        counters.linksMade += 1
        peer.linked(connection)
        beginSigns(connection)
        delegate?.linkUp(peer.node, facts)
        delegate?.noted(.linkUp(peer.node, facts))
    }

    /// What came over the connection is no correct node's.
    func damaged(_ connection: PeerConnection, _ damage: FrameDamage) {
        switch damage {
        case .checksum: counters.garbageChecksum += 1
        case .oversize: counters.garbageOversize += 1
        case .undecodable: counters.garbageUndecodable += 1
        case .foreign: counters.garbageForeign += 1
        }
        if let node = connection.node {
            delegate?.noted(.garbage(node, damage.sentence))
        } else {
            delegate?.noted(.refused(connection.address, nil, damage.sentence))
        }
        let was = connection.state
        connection.endReason = damage.sentence
        connection.isHostile = true
        connection.end()
        ended(connection, was, .finished)
    }

    /// A connection is over, by itself or by `endSoon`; `was` is what it was before.
    func ended(_ connection: PeerConnection, _ was: PeerConnection.State, _ reason: CloseReason) {
        strangers.removeAll { $0 === connection }
        let why = connection.endReason ?? reason.description
        if let stream = connection.stream {
            if case .insecure = reason { counters.refusedTLS += 1 }
            connection.stream = nil
            return stream.connectionEnded(why)
        }
        guard let node = connection.node, let peer = known(node) else {
            if case .insecure = reason { counters.refusedTLS += 1 }
            if was == .shaking, case .insecure(let failure) = reason {
                delegate?.noted(.refused(connection.address, nil, failure.message))
            }
            return
        }
        if peer.control === connection {
            counters.linksEnded += 1
            failRequests(peer)
            peer.unlinked(connection, why, isHostile: connection.isHostile)
            delegate?.linkBroken(node, .closed)
            delegate?.noted(.linkEnded(node, why))
        } else if peer.greeting === connection {
            let isSoft = connection.wasRefused == .collision || connection.wasRefused == .superseded
            switch connection.wasRefused {
            case .removed: delegate?.noted(.expelled(node, .removed, why))
            case .copy: delegate?.noted(.expelled(node, .copied, why))
            case nil, .collision, .superseded: break
            default: delegate?.noted(.refusedByPeer(node, why))
            }
            if case .insecure = reason { counters.refusedTLS += 1 }
            peer.failed(why, isRefused: false, isHostile: connection.isUnwelcome(reason) && !isSoft)
        } else if peer.bulkOut === connection {
            bulkEnded(peer, why)
        } else if peer.bulkIn === connection {
            peer.bulkIn = nil
        } else {
            peer.retired.removeAll { $0 === connection }
        }
        dropEmptyRecords()
    }
}

extension PeerConnection {
    /// Whether trying again at once would end the same way.
    func isUnwelcome(_ reason: CloseReason) -> Bool {
        if isHostile || endReason != nil { return true }
        if case .insecure = reason { return true }
        return false
    }
}
