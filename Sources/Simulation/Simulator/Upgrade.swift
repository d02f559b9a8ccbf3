import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore

/// What a run of mixed versions saw of its upgrade.
public struct UpgradeCounts: Sendable {
    /// Starts with a newer and with an older program than before.
    public var forward = 0
    /// Starts with an older program than before.
    public var back = 0
    /// Runs in which the level was opened, and in which a node came back with the older program after that.
    public var opened = 0
    /// Runs in which a node came back with the older program after the level was opened.
    public var strays = 0
    /// Times that a program stopped at an entry above its level.
    public var stops = 0
    /// Conditional deletes that were answered, and those that the closed gate refused.
    public var conditional = 0
    /// Conditional deletes that the closed gate refused.
    public var refused = 0
    /// Entries whose applied state was seen at nodes of both programs, and was the same.
    public var compared = 0

    public init() {}

    public static func += (sum: inout UpgradeCounts, more: UpgradeCounts) {
        sum.forward += more.forward
        sum.back += more.back
        sum.opened += more.opened
        sum.strays += more.strays
        sum.stops += more.stops
        sum.conditional += more.conditional
        sum.refused += more.refused
        sum.compared += more.compared
    }
}

/// Two programs in one cluster: one that knows the oldest feature level and one that knows the newest.
///
///     nodes restart as the newer one and back, one by one ─▶ all are newer ─▶ the level opens, heard of here and there
///                                                                       └─▶ sometimes one comes back as the older: it stops
///
/// Digests of applied states at equal indexes are compared all the time, whatever program they come from.
struct Upgrade {
    var random: PRNG
    /// What each node's program knows.
    private(set) var levels: [UInt32]
    private(set) var isOpen = false
    /// The node that was started with the older program too late.
    private(set) var stray: Int?
    var counts = UpgradeCounts()
    /// Which programs were seen at each index of each group: a bit per level.
    private var seen: [GroupID: [UInt8]] = [:]  // hash order: looked up only

    init(random: PRNG, nodes: Int) {
        self.random = random
        levels = Array(repeating: FeatureLevel.oldest, count: nodes)
    }

    mutating func install(_ level: UInt32, on node: Int) {
        if levels[node] == level { return }
        if level > levels[node] { counts.forward += 1 } else { counts.back += 1 }
        levels[node] = level
    }

    mutating func open() {
        isOpen = true
        counts.opened += 1
    }

    mutating func strays(_ node: Int) {
        counts.strays += 1
        stray = node
        install(FeatureLevel.oldest, on: node)
    }

    /// Gives back which node has the right program again.
    mutating func endStray() -> Int? {
        guard let node = stray else { return nil }
        stray = nil
        install(FeatureLevel.newest, on: node)
        return node
    }

    mutating func applied(_ group: GroupID, at position: Int, by node: Int) {
        let bit: UInt8 = levels[node] == FeatureLevel.oldest ? 1 : 2
        while seen[group, default: []].count <= position { seen[group, default: []].append(0) }
        let before = seen[group, default: []][position]
        if before == 3 || before == bit { return }
        seen[group, default: []][position] = before | bit
        if before != 0 { counts.compared += 1 }
    }
}

extension Simulation {
    /// The operator of the upgrade acts; with a node, that node hears of the open level.
    func upgradeTurn(_ node: SimulatedNode?) {
        guard upgrade != nil else { return }
        if let node {
            node.runtime?.open(level: FeatureLevel.newest)
            return
        }
        guard recovery.phase == .chaos else { return }
        plan(.upgrade, at: now + draw(300_000_000...2_500_000_000))
        if upgrade?.isOpen == true { return endStray() }
        let behind = nodes.indices.filter { upgrade?.levels[$0] == FeatureLevel.oldest }
        if behind.isEmpty && draw(0...1) == 0 { return openLevel() }
        let goesBack = behind.isEmpty || (behind.count < nodes.count && draw(0...3) == 0)
        let candidates = goesBack ? nodes.indices.filter { !behind.contains($0) } : behind
        let chosen = candidates[Int(draw(0...Int64(candidates.count - 1)))]
        upgrade?.install(goesBack ? FeatureLevel.oldest : FeatureLevel.newest, on: chosen)
        crash(nodes[chosen], restartAfter: draw(10_000_000...800_000_000))
    }

    private func draw(_ range: ClosedRange<Int64>) -> Int64 { upgrade?.random.within(range) ?? range.lowerBound }

    private func openLevel() {
        upgrade?.open()
        for node in nodes { tellLevel(node) }
        guard draw(0...2) == 0 else { return }
        // Somebody goes back at the very moment at which that ends: the report that all are newer was true when it was made.
        let chosen = Int(draw(0...Int64(nodes.count - 1)))
        upgrade?.strays(chosen)
        crash(nodes[chosen], restartAfter: draw(10_000_000...300_000_000))
    }

    /// A node follows the root, and so hears of an open level some time after it opened or the node started.
    func tellLevel(_ node: SimulatedNode) {
        if upgrade == nil, profile.settings.liveness.restInterval > .zero {
            // Only who knows that all know it beats less often.
            node.runtime?.open(level: FeatureLevel.newest)
        }
        guard upgrade?.isOpen == true else { return }
        plan(.upgrade, at: now + draw(0...2_000_000_000), node: node)
    }

    private func endStray() {
        guard let number = upgrade?.endStray() else { return }
        crash(nodes[number], restartAfter: draw(10_000_000...800_000_000))
    }

    /// The faults have stopped: nobody runs a program that the cluster has left behind.
    func settleUpgrade() {
        guard let stray = upgrade?.stray, !recovery.leftBehind.contains(stray) else { return }
        endStray()
    }

    /// A program met what only a newer one knows. That is right for one that came back too late, and for nobody else.
    func stoppedAsOutdated(_ node: SimulatedNode, _ reason: String) {
        upgrade?.counts.stops += 1
        if upgrade?.stray != node.number {
            fail("no entry is above what every program knows", "node \(node.number + 1): \(reason)")
        }
    }

    /// Deletes may expect a value where that level can open; in other runs none does.
    func deletesConditionally(_ key: UInt64) -> UInt64? {
        guard upgrade != nil, let value = lastSeen[Int(key)], draw(0...1) == 0 else { return nil }
        return value
    }
}
