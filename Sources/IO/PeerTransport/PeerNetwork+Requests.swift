package import ClusterBase
internal import Reactor
internal import Schema

// What one node asks another beside Raft: a client's request on its way to the leader, a new node's wish to join.
extension PeerNetwork {
    /// Sends a request, answered once by `answered`. When it throws, nothing of it has happened.
    package func sendRequest(to node: NodeID, _ bytes: [UInt8]) throws(RequestRefusal) -> RequestID {
        guard bytes.count <= settings.requestBytesMax else { throw .tooLarge }
        guard let peer = known(node), let control = peer.control, control.state == .up else { throw .noLink }
        guard peer.requestsOpen.count < settings.requestsMax, control.bytesQueued < settings.queuedBytesMax else {
            throw .overloaded
        }
        requestLast += 1
        let number = requestLast
        control.say(.request, PeerRequest(id: number, bytes: bytes))
        counters.requestsSent += 1
        peer.requestsOpen.insert(number)
        peer.requests.append(number)
        let deadline = loop.now + settings.requestTimeout
        peer.requestDeadlines.append(deadline)
        if peer.requestTimer == nil {
            peer.requestTimer = loop.setTimer(at: deadline, peer, tag: PeerRecord.requestTag)
        }
        return RequestID(number: number)
    }

    /// Answers a request of another node. Without the connection that it came over, nobody waits for it any more.
    package func answer(_ request: PeerQuestion, _ bytes: [UInt8]) {
        guard let connection = open(request) else { return }
        connection.say(.answer, PeerAnswer(id: request.number, bytes: bytes))
    }

    private func open(_ request: PeerQuestion) -> PeerConnection? {
        guard let connection = known(request.node)?.control, connection.serial == request.connection,
            connection.requestsOpen > 0
        else { return nil }
        connection.requestsOpen -= 1
        return connection
    }

    /// A request that arrived.
    func take(_ request: PeerRequest, _ connection: PeerConnection) {
        guard let node = connection.node else { return }
        counters.requestsReceived += 1
        guard connection.requestsOpen < settings.requestsMax, connection.bytesQueued < settings.queuedBytesMax else {
            return connection.say(.answer, PeerAnswer(id: request.id, isOverloaded: true))
        }
        connection.requestsOpen += 1
        let id = PeerQuestion(node: node, number: request.id, connection: connection.serial)
        delegate?.received(id, request.bytes)
    }

    /// An answer that arrived. One that nobody waits for came too late.
    func take(_ answer: PeerAnswer, _ connection: PeerConnection) {
        guard let node = connection.node, let peer = known(node),
            peer.requestsOpen.remove(answer.id) != nil
        else { return }
        tidyRequests(peer)
        delegate?.answered(RequestID(number: answer.id), answer.isOverloaded ? .overloaded : .answered(answer.bytes))
    }

    /// Ends what has waited long enough, and sets the timer for the next.
    func requestsDue(_ peer: PeerRecord) {
        while let deadline = peer.requestDeadlines.first, deadline <= loop.now, let number = peer.requests.first {
            _ = peer.requestDeadlines.popFirst()
            _ = peer.requests.popFirst()
            guard peer.requestsOpen.remove(number) != nil else { continue }
            counters.requestsFailed += 1
            delegate?.answered(RequestID(number: number), .timedOut)
        }
        tidyRequests(peer)
        if let next = peer.requestDeadlines.first, peer.requestTimer == nil {
            peer.requestTimer = loop.setTimer(at: next, peer, tag: PeerRecord.requestTag)
        }
    }

    /// Lets go of the answered ones in front, so that the queue is about as long as what is open.
    private func tidyRequests(_ peer: PeerRecord) {
        while let number = peer.requests.first, !peer.requestsOpen.contains(number) {
            _ = peer.requests.popFirst()
            _ = peer.requestDeadlines.popFirst()
        }
    }

    /// The connection is gone, and with it every answer.
    func failRequests(_ peer: PeerRecord) {
        if let timer = peer.requestTimer { loop.cancel(timer) }
        peer.requestTimer = nil
        peer.requestDeadlines.removeAll()
        while let number = peer.requests.popFirst() {
            guard peer.requestsOpen.remove(number) != nil else { continue }
            counters.requestsFailed += 1
            delegate?.answered(RequestID(number: number), .linkBroken)
        }
    }
}
