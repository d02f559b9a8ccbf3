import ClusterBase
import FleetModel
import NodePorts
import RaftCore

// Round trips to other regions, for whoever chooses a cell: two nodes of each region measure them, and tell the root what is new.
//
//     a peer of a group there ───────────────────────────▶ its beats have measured it
//     none ──(beats to one of its nodes, for a moment)───▶ measured at the next look ──▶ reportLatencies

/// What a node remembers of its measuring; all of it can be lost.
struct LatencyWork {
    /// Nodes of a region that measure.
    static let measurersMax = 2
    /// Nodes of other regions that are asked at a time.
    static let askedMax = 8
    static let askedFor = Nanoseconds.seconds(5)
    /// So long after it was begun to be asked, a node's beats are answers: who took them for a stranger's would answer in turn,
    /// and neither of the two would ever be silent.
    static let answersFor = Nanoseconds.seconds(25)
    /// What was told is told again when it is so old, in milliseconds of the root's time, so that its age says something.
    static let ageMax: UInt64 = 6 * 3_600_000

    var lookAt: Instant?
    /// When nodes are asked next.
    var askAt = Instant.origin
    private var asked: [(node: NodeID, at: Instant)] = []
    /// Whether those that were asked are still beaten to.
    private var isAsking = false
    /// Who is asked next goes by it.
    private var turn = 0

    /// Nodes that beats go to only for that.
    func measured(_ now: Instant) -> [NodeID] {
        asked.filter { now < $0.at + LatencyWork.askedFor }.map(\.node)
    }

    func isAnswer(from node: NodeID, _ now: Instant) -> Bool {
        asked.contains { $0.node == node && now < $0.at + LatencyWork.answersFor }
    }

    /// True once when the time of those that were asked is up.
    mutating func isOver(_ now: Instant) -> Bool {
        guard isAsking, measured(now).isEmpty else { return false }
        isAsking = false
        return true
    }

    /// Of each of some regions a node, another one at every turn.
    mutating func ask(_ regions: [[NodeID]], _ now: Instant) {
        asked.removeAll { $0.at + LatencyWork.answersFor <= now }
        for i in 0..<min(regions.count, LatencyWork.askedMax) {
            let nodes = regions[(turn * LatencyWork.askedMax + i) % regions.count]
            let node = nodes[turn % nodes.count]
            if !asked.contains(where: { $0.node == node }) { asked.append((node, now)) }
        }
        turn += 1
        isAsking = true
    }

    /// Whether this node is to tell it: nobody did, who did is gone or is this node, which found another, or it is old.
    static func isNews(
        _ micros: UInt64, _ known: RegionLinks.Link?, of node: NodeID, _ measurers: [NodeID], _ time: LogTime
    ) -> Bool {
        guard let known, known.micros > 0, measurers.contains(known.node) else { return true }
        if known.at.advanced(by: LatencyWork.ageMax) <= time { return true }
        if known.node != node { return false }
        let apart = micros > known.micros ? micros - known.micros : known.micros - micros
        return apart > max(1_000, known.micros / 4)
    }
}

extension NodeEngine {
    func tendLatencies(_ now: Instant) {
        guard now >= steward.latencies.lookAt ?? now, packLevel >= FeatureLevel.nearness,
            steward.view.through != nil, steward.commandsUnderWay == 0
        else { return }
        let view = steward.view
        guard let own = view.node(node)?.about.locality.region, !own.isEmpty else { return }
        let there = view.nodes.filter { $0.state == .active && !$0.about.locality.region.isEmpty }
        let measurers = Array(
            there.filter { $0.about.locality.region == own }.prefix(LatencyWork.measurersMax).map(\.id))
        // hash order: read sorted
        let regions = Set(there.map(\.about.locality.region)).subtracting([own]).sorted()
        steward.latencies.lookAt = now + settings.latencyInterval
        guard measurers.contains(node) else { return }
        var found: [RegionRoundTrip] = []
        var silent: [[NodeID]] = []
        for region in regions {
            let others = there.filter { $0.about.locality.region == region }.map(\.id)
            guard let best = others.compactMap({ liveness.roundTrip($0) }).min() else {
                silent.append(others)
                continue
            }
            let micros = min(max(1, UInt64(clamping: best.count / 1_000)), RegionRoundTrip.microsMax)
            if LatencyWork.isNews(micros, view.latencies.link(own, region), of: node, measurers, view.time) {
                found.append(RegionRoundTrip(region, micros: micros))
            }
        }
        if !found.isEmpty { ask(.reportLatencies(node, found), now) }
        if silent.isEmpty || now < steward.latencies.askAt { return }
        // What nobody knows is measured soon, and what is known from time to time.
        let isNew = regions.contains { view.latencies.link(own, $0)?.micros ?? 0 == 0 }
        steward.latencies.askAt = now + (isNew ? settings.latencyInterval : settings.latencyIdleInterval)
        steward.latencies.ask(silent, now)
        steward.latencies.lookAt = now + LatencyWork.askedFor / 2
        trackPeers(now)
    }
}
