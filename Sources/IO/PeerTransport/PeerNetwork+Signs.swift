package import ClusterBase
internal import Reactor
internal import Schema

// Whether the process at the other end still does anything. A connection says only that its machine does: one that is stopped,
// or cut off without a word, keeps it as long as nothing is sent. Nodes that share a group hear each other's beats and know
// sooner; all others say a sign now and then, when they have said nothing else. Who promised one and is late counts as silent.
extension PeerNetwork {
    /// Whether a connection with the node stands, and its process says something on it as it promised. One whose program
    /// promises nothing is heard while it is linked.
    package func isHeard(_ node: NodeID) -> Bool {
        guard let control = known(node)?.control else { return false }
        return control.state == .up && !control.isSilent
    }

    var signInterval: Nanoseconds {
        max(settings.signInterval, settings.signIntervalPerPeer * Int64(peers.count))
    }

    /// The link begins: the other side learns what to expect of it.
    func beginSigns(_ connection: PeerConnection) {
        saySign(connection)
        if signTimer == nil {
            signsSince = loop.now
            setSignTimer()
        }
    }

    private func saySign(_ connection: PeerConnection) {
        connection.say(
            .sign, PeerSign(version: 1, withinMilliseconds: UInt64(clamping: signInterval.count / 1_000_000)))
    }

    private func setSignTimer() {
        signDue = loop.now + signInterval / 4
        signTimer = loop.setTimer(at: signDue, signs, tag: 0)
    }

    /// A quarter of the interval has gone by.
    fileprivate func signRound() {
        signTimer = nil
        let now = loop.now
        // What came while this process stood still has not been read yet.
        if now - signDue > signInterval / 4 { signsSince = now }
        for peer in peers {
            guard let control = peer.control, control.state == .up else { continue }
            if now - control.saidAt >= signInterval / 4 * 3 { saySign(control) }
            guard let promised = control.heardEvery, !control.isSilent else { continue }
            let silence = now - max(control.heardAt, signsSince)
            if silence > promised * PeerSettings.signsMissedMax {
                control.isSilent = true
                counters.silences += 1
                delegate?.noted(.silent(peer.node, now - control.heardAt))
            }
        }
        if peers.contains(where: { $0.control != nil }) { setSignTimer() }
    }

    func heardAgain(_ connection: PeerConnection) {
        connection.isSilent = false
        if let node = connection.node { delegate?.noted(.heardAgain(node)) }
    }
}

/// Looks now and then who has said nothing.
final class SignRound: TimerHandler {
    unowned let network: PeerNetwork
    init(_ network: PeerNetwork) { self.network = network }
    func timerFired(_ tag: Int) { if !network.isClosed { network.signRound() } }
}
