import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore
import WireFormat

/// The links between all ordered pairs of nodes.
struct Network {
    let count: Int
    private(set) var blocked: [Int32]
    /// Extra delay of a slow link, and until when its queue is full.
    var slowness: [Int64]
    private var busyUntil: [Int64]
    /// Slots of what each link holds back, oldest first.
    private(set) var held: [RingBuffer<UInt64>]
    /// Counts the cuts of each link that ended; a release of an earlier one is void.
    private(set) var stamps: [UInt64]
    /// When the last cut of each link began.
    private(set) var cutAt: [Int64]

    init(count: Int) {
        self.count = count
        blocked = Array(repeating: 0, count: count * count)
        slowness = Array(repeating: 0, count: count * count)
        busyUntil = Array(repeating: 0, count: count * count)
        held = Array(repeating: RingBuffer(), count: count * count)
        stamps = Array(repeating: 0, count: count * count)
        cutAt = Array(repeating: 0, count: count * count)
    }

    func link(_ from: Int, _ to: Int) -> Int { from * count + to }

    /// Whether what is sent queues behind something that was held back.
    func isHolding(_ link: Int) -> Bool { !held[link].isEmpty }

    mutating func hold(_ slot: UInt64, _ link: Int) { held[link].append(slot) }

    mutating func takeHeld(_ link: Int) -> UInt64? { held[link].popFirst() }

    func isBlocked(_ from: Int, _ to: Int) -> Bool { blocked[from * count + to] > 0 }

    /// Blocks nest: a link that two faults cut is whole again when both are mended.
    mutating func block(_ from: Int, _ to: Int, by step: Int32, at now: Int64) {
        let link = link(from, to)
        if blocked[link] == 0 { cutAt[link] = now }
        blocked[link] += step
        if blocked[link] == 0 { stamps[link] += 1 }
    }

    /// When a frame of `bytes` that is sent at `now` has left a slow link: its bytes queue behind those before it.
    mutating func departure(_ from: Int, _ to: Int, _ bytes: Int, _ now: Int64) -> Int64 {
        let link = from * count + to
        if slowness[link] == 0 { return now }
        let start = max(now, busyUntil[link])
        busyUntil[link] = start + Int64(bytes) * slowness[link]
        return busyUntil[link]
    }

    func queue(_ from: Int, _ to: Int, _ now: Int64) -> Int64 { max(0, busyUntil[from * count + to] - now) }
}

extension Simulation {
    func send(_ frame: consuming PeerFrame, from: SimulatedNode, to target: NodeID) {
        checkSent(frame, from)
        let to = Int(target.rawValue) - 1
        guard to >= 0, to < nodes.count, to != from.number else { return }
        var random = networkRandom
        defer { networkRandom = random }
        result.harm.framesSent += 1
        let link = network.link(from.number, to)
        if network.isHolding(link) || (profile.holdsBack && network.isBlocked(from.number, to)) {
            return hold(frame, link)
        }
        if network.isBlocked(from.number, to) { return result.harm.framesLost += 1 }
        if has(.lateAnswers) { plots.remember(frame, of: from, to: to) }
        if profile.lossPerMille > 0 && random.below(UInt64(1_000)) < profile.lossPerMille {
            return result.harm.framesLost += 1
        }
        let bytes = frame.simulatedBytes
        if network.queue(from.number, to, now) > 2_000_000_000 { return result.harm.framesLost += 1 }
        let sent = network.departure(from.number, to, bytes, now)
        if profile.duplicatePerMille > 0 && random.below(UInt64(1_000)) < profile.duplicatePerMille {
            result.harm.framesDoubled += 1
            carry(copy frame, isSecond: false, from, to, at: sent, &random)
            carry(frame, isSecond: true, from, to, at: sent, &random)
        } else {
            carry(frame, isSecond: false, from, to, at: sent, &random)
        }
    }

    private func carry(
        _ frame: consuming PeerFrame, isSecond: Bool, _ from: SimulatedNode, _ to: Int, at sent: Int64,
        _ random: inout PRNG
    ) {
        var delay = latency(from.number, to, &random) + (fleet?.delay ?? 0)
        // Some copies wander about and come when everything has moved on.
        if isSecond && random.chance(1, in: 4) { delay += random.within(0...profile.wanderMax.count) }
        if profile.reorderPerMille > 0 && random.below(UInt64(1_000)) < profile.reorderPerMille {
            result.harm.framesDelayed += 1
            delay += random.within(0...(delay * 10 + 2_000_000))
        }
        let slot = frames.put(throughBytes(frame))
        plan(.deliver, at: sent + delay, node: nodes[to], a: slot, b: UInt64(from.number + 1))
    }

    private func shortest(_ from: Int, _ to: Int) -> Int64 {
        (from % profile.regions == to % profile.regions ? profile.latencyNear : profile.latencyFar).count
    }

    private func latency(_ from: Int, _ to: Int, _ random: inout PRNG) -> Int64 {
        let base = shortest(from, to)
        return base + random.within(0...(base * profile.jitterPercent / 100))
    }

    func clientLatency() -> Int64 { profile.latencyNear.count + clientRandom.within(0...profile.latencyNear.count) }

    func throughBytes(_ frame: consuming PeerFrame) -> PeerFrame { profile.encodesFrames ? decoded(frame) : frame }

    private func decoded(_ frame: PeerFrame) -> PeerFrame {
        do {
            let decoded = try PeerFrame(serialized: frame.serialized())
            if decoded != frame {
                fail("wire format", "a frame came back changed from its bytes: \(frame) as \(decoded)")
            }
            return decoded
        } catch {
            fail("wire format", "a frame does not come back from its bytes: \(error)")
            return frame
        }
    }

    /// In place of a sender: the copy was in the network before the link was cut.
    static let wasUnderWay: UInt64 = 0

    func deliver(_ frame: consuming PeerFrame, to node: SimulatedNode?, wasUnderWay: Bool) {
        guard let node, node.isRunning else { return }
        // A connection dies with the process at its other end: what an earlier life of the sender sent may still come,
        // but not after its successor has been heard, which the receiver sees to by incarnation.
        let from = Int(frame.from.rawValue) - 1
        if !wasUnderWay && network.isBlocked(from, node.number) {
            if profile.holdsBack { return hold(frame, network.link(from, node.number)) }
            return result.harm.framesLost += 1
        }
        turn(node, .frame(frame))
    }

    // MARK: What a cut holds back

    /// A connection outlives a short cut: its kernels keep what was sent, try again ever more seldom, and then everything
    /// comes at once. What does not fit into their buffers is the sender's loss.
    private func hold(_ frame: consuming PeerFrame, _ link: Int) {
        if network.held[link].count >= Simulation.heldMax { return result.harm.framesLost += 1 }
        result.harm.framesHeldBack += 1
        network.hold(frames.put(throughBytes(frame)), link)
    }

    /// About what the buffers of two sockets take.
    private static let heldMax = 256

    func unblock(_ from: Int, _ to: Int) {
        network.block(from, to, by: -1, at: now)
        let link = network.link(from, to)
        guard network.isHolding(link), !network.isBlocked(from, to) else { return }
        // The next try of a sender that has doubled its pause since the cut began.
        let pauseMax = recovery.phase == .chaos ? min(now - network.cutAt[link], 2_000_000_000) : 0
        plan(.release, at: now + heldRandom.within(0...pauseMax), a: UInt64(link), b: network.stamps[link])
    }

    func release(_ link: Int, stamp: UInt64) {
        guard stamp == network.stamps[link], network.blocked[link] == 0 else { return }
        let from = link / network.count
        let to = nodes[link % network.count]
        while let slot = network.takeHeld(link) {
            plan(.deliver, at: now + shortest(from, to.number), node: to, a: slot, b: UInt64(from + 1))
        }
    }

    func releaseAll() {
        for link in 0..<network.count * network.count where network.isHolding(link) {
            release(link, stamp: network.stamps[link])
        }
    }

    /// The connections of a node end, and what they held with them.
    func dropHeld(of node: Int) {
        for other in nodes.indices where other != node {
            for link in [network.link(node, other), network.link(other, node)] {
                while let slot = network.takeHeld(link) {
                    _ = frames.take(slot)
                    result.harm.framesLost += 1
                }
            }
        }
    }
}

extension PeerFrame {
    /// About what it takes on a wire, for slow links.
    var simulatedBytes: Int {
        var bytes = 80
        for item in messages {
            bytes += 64
            if case .append(let append) = item.message.body {
                for entry in append.entries { bytes += entry.byteCount }
            }
        }
        for piece in snapshots {
            bytes += 64
            if case .piece(_, let payload, _, _) = piece.body { bytes += payload.count }
        }
        return bytes
    }
}
