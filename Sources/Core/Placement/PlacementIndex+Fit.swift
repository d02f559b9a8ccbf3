import ClusterBase
import FleetModel

/// A shape with what every fit needs of it.
struct CompiledShape: Sendable {
    let shape: Shape
    let demand: SIMD4<Int64>
    let hash: UInt64
    /// Looks at nothing inside a host.
    let isPlain: Bool
    /// The largest part of a device that it takes.
    let deviceMost: Int32

    init(_ shape: Shape) {
        self.shape = shape
        demand = shape.demand.vector
        hash = RoomHash.of(demand)
        deviceMost = shape.devices.map(\.millis).max() ?? 0
        isPlain = shape.nodesMin == 0 && shape.devices.isEmpty
    }
}

extension PlacementIndex {
    /// Above every score of a policy. A soft rule of weight 1 counts this much, so soft rules come before the policy.
    static let softUnit: Int64 = 1 << 44

    /// The best way to put `shape` into the host at `slot`; nil when it takes no VMs or has no room.
    mutating func fit(_ slot: Int, _ shape: CompiledShape, _ policy: PlacementPolicy) -> Fit? {
        if !hasRoom(slot, shape) { return nil }
        if shape.isPlain { return Fit(score: plainScore(slot, shape, policy)) }
        guard let inside = insides[slot] else { return nil }
        return fitInside(seats[slot], inside, shape, policy)
    }

    /// The score of that best way; `Winners.none` when there is none.
    @inline(__always)
    mutating func score(_ slot: Int, _ shape: CompiledShape, _ policy: PlacementPolicy) -> Int64 {
        if !hasRoom(slot, shape) { return Winners.none }
        if shape.isPlain { return plainScore(slot, shape, policy) }
        return fit(slot, shape, policy)?.score ?? Winners.none
    }

    @inline(__always)
    private func hasRoom(_ slot: Int, _ shape: CompiledShape) -> Bool {
        seats[slot].takesVMs && all((shape.demand .<= seats[slot].free) .| (shape.demand .<= 0))
            && shape.deviceMost <= seats[slot].deviceMost
    }

    @inline(__always)
    private mutating func plainScore(_ slot: Int, _ shape: CompiledShape, _ policy: PlacementPolicy) -> Int64 {
        let free = seats[slot].free &- shape.demand
        if policy != .pack { return score(seats[slot], free, shape, policy, worthAfter: 0) }
        var after: Int64 = 0
        if !mix.parts.isEmpty {
            let hash = seats[slot].hash &- shape.hash
            let at = Int(truncatingIfNeeded: mix64(hash)) & (PlacementIndex.worthSlots - 1)
            after = worths[at].value
            if worths[at].key != hash || after < 0 {
                after = computeWorth(free, insides[slot])
                worths[at] = RememberedWorth(key: hash, value: after)
            }
        }
        return PlacementIndex.packScore(seats[slot].worth - after, free, seats[slot].inverse)
    }

    /// The loss of worth, then the squares of what remains.
    @inline(__always)
    private static func packScore(_ loss: Int64, _ free: SIMD4<Int64>, _ inverse: SIMD4<Double>) -> Int64 {
        min(max(0, loss) >> 12, 1 << 23) << 20 | squares(SIMD4<Double>(free) * inverse)
    }

    private mutating func fitInside(
        _ seat: Seat, _ inside: RoomInside, _ shape: CompiledShape, _ policy: PlacementPolicy
    ) -> Fit? {
        if shape.shape.nodesMin == 0 {
            return fitDevices(seat, inside, shape, policy, nodes: 0)
        }
        var best: Fit?
        var split = shape.shape.nodesMin
        while split <= min(shape.shape.nodesMax, inside.nodes.count) {
            let share = shape.shape.perNode(split)
            var roomy: UInt8 = 0
            for n in 0..<inside.nodes.count where inside.nodes.holds(n, share) { roomy |= 1 << UInt8(n) }
            // Every set of that many nodes, at most 70 of 8; of nodes that are alike, the lowest only.
            var nodes = PlacementIndex.firstSet(split)
            while roomy.nonzeroBitCount >= split && nodes <= Int(roomy) {
                if nodes & ~Int(roomy) == 0 && !hasLowerTwin(UInt8(nodes), roomy, inside),
                    let fit = fitDevices(seat, inside, shape, policy, nodes: UInt8(nodes)),
                    best.map({ fit.score < $0.score }) ?? true
                {
                    best = fit
                }
                nodes = PlacementIndex.nextSet(nodes)
            }
            if best != nil { return best }
            split += 1
        }
        return best
    }

    static func firstSet(_ count: Int) -> Int { (1 << count) - 1 }

    /// The next larger number with as many bits.
    static func nextSet(_ set: Int) -> Int {
        let low = set & -set
        let high = set + low
        return high | ((set ^ high) >> 2) / low
    }

    /// True when one node of a set could be replaced by a lower one that has the same left and no device.
    private func hasLowerTwin(_ nodes: UInt8, _ roomy: UInt8, _ inside: RoomInside) -> Bool {
        if !inside.devices.isEmpty { return false }
        for n in 1..<8 where nodes & (1 << UInt8(n)) != 0 {
            for lower in 0..<n where (roomy & ~nodes) & (1 << UInt8(lower)) != 0 {
                if inside.nodes[lower] == inside.nodes[n] { return true }
            }
        }
        return false
    }

    /// Chooses devices for a choice of nodes. One wish for a part of one device tries every device that differs;
    /// other wishes take the fullest devices that still fit, in order of the wishes.
    private mutating func fitDevices(
        _ seat: Seat, _ inside: RoomInside, _ shape: CompiledShape, _ policy: PlacementPolicy, nodes: UInt8
    ) -> Fit? {
        let wishes = shape.shape.devices
        if wishes.isEmpty {
            return scored(seat, inside, shape, policy, nodes, SIMD4(repeating: 0))
        }
        let near = shape.shape.devicesOnSameNodes && nodes != 0
        if wishes.count == 1, wishes[0].count == 1 {
            var best: Fit?
            for d in inside.devices.indices {
                let left = inside.devices[d]
                if left < wishes[0].millis || !inside.usable(d, wishes[0]) { continue }
                if near && !PlacementIndex.hangs(inside.layout.nodes[d], nodes) { continue }
                if looksLikeEarlier(d, inside) { continue }
                let fit = scored(seat, inside, shape, policy, nodes, SIMD4(1 << UInt64(d), 0, 0, 0))
                if best.map({ fit.score < $0.score }) ?? true { best = fit }
            }
            return best
        }
        guard let chosen = PlacementIndex.chooseDevices(inside, wishes, nodes: near ? nodes : 0) else { return nil }
        return scored(seat, inside, shape, policy, nodes, chosen)
    }

    /// True when a device before `d` has the same left, kind and node, so that trying both is trying one twice.
    private func looksLikeEarlier(_ d: Int, _ inside: RoomInside) -> Bool {
        for e in 0..<d where inside.devices[e] == inside.devices[d] {
            if inside.layout.kinds[e] == inside.layout.kinds[d] && inside.layout.nodes[e] == inside.layout.nodes[d] {
                return true
            }
        }
        return false
    }

    static func hangs(_ node: UInt8, _ nodes: UInt8) -> Bool {
        node != DeviceLayout.anyNode && nodes & (1 << node) != 0
    }

    /// Steps of one search for devices; a host on which it takes longer counts as unfit. Only several wishes of
    /// different kinds and parts on a host with many half-used devices come near it.
    static let deviceStepsMax = 4096

    /// Devices for every wish, the fullest that fit first; nil when there are too few. One wish never takes a device
    /// twice; two wishes may share one.
    static func chooseDevices(_ inside: RoomInside, _ wishes: [DeviceWish], nodes: UInt8) -> SIMD4<UInt64>? {
        var search = DeviceSearch(inside: inside, wishes: wishes, nodes: nodes, left: inside.devices)
        return search.serve(0) ? search.chosen : nil
    }

    private mutating func scored(
        _ seat: Seat, _ inside: RoomInside, _ shape: CompiledShape, _ policy: PlacementPolicy, _ nodes: UInt8,
        _ devices: SIMD4<UInt64>
    ) -> Fit {
        var fit = Fit(score: 0, nodes: nodes, devices: devices)
        let free = seat.free &- shape.demand
        var after: Int64 = 0
        if policy == .pack {
            var hash = seat.hash &- shape.hash
            if nodes != 0 {
                let share = shape.shape.perNode(nodes.nonzeroBitCount)
                for n in 0..<inside.nodes.count where nodes & (1 << UInt8(n)) != 0 {
                    hash &-= RoomHash.ofNode(n, share)
                }
            }
            for (w, wish) in shape.shape.devices.enumerated() {
                var bits = devices[w]
                while bits != 0 {
                    hash &-= RoomHash.ofDevice(bits.trailingZeroBitCount, wish.millis)
                    bits &= bits - 1
                }
            }
            after = worthAfter(hash, free, inside, fit, shape)
        }
        fit.score = score(seat, free, shape, policy, worthAfter: after)
        return fit
    }

    private mutating func worthAfter(
        _ hash: UInt64, _ free: SIMD4<Int64>, _ inside: RoomInside?, _ fit: Fit, _ shape: CompiledShape
    ) -> Int64 {
        if mix.parts.isEmpty { return 0 }
        let at = Int(truncatingIfNeeded: mix64(hash)) & (PlacementIndex.worthSlots - 1)
        if worths[at].key == hash && worths[at].value >= 0 { return worths[at].value }
        var inside = inside
        if fit.nodes != 0 {
            let share = shape.shape.perNode(fit.nodes.nonzeroBitCount)
            for n in 0..<8 where fit.nodes & (1 << UInt8(n)) != 0 { inside?.nodes[n] &-= share }
        }
        for (w, wish) in shape.shape.devices.enumerated() {
            var bits = fit.devices[w]
            while bits != 0 {
                inside?.devices[bits.trailingZeroBitCount] -= wish.millis
                bits &= bits - 1
            }
        }
        let value = computeWorth(free, inside)
        worths[at] = RememberedWorth(key: hash, value: value)
        return value
    }

    /// From 0 to below `softUnit`; lower is better.
    private func score(
        _ seat: Seat, _ free: SIMD4<Int64>, _ shape: CompiledShape, _ policy: PlacementPolicy, worthAfter: Int64
    ) -> Int64 {
        switch policy {
        case .pack:
            return PlacementIndex.packScore(seat.worth - worthAfter, free, seat.inverse)
        case .balance:
            // How much the sum of squared shares in use grows: away from full hosts, and from what is their fullest.
            let used = SIMD4<Double>(repeating: 1) - seat.shares(seat.free)
            let more = seat.shares(shape.demand)
            return Int64(min(max(0, (more * (2 * used + more)).sum()), 16) * 0x1p38)
        case .spread:
            return min(Int64(seat.vmCount), 1 << 22) << 21 | seat.fullness(free)
        case .firstFit:
            return 0
        case .bestFit:
            return Int64(max(0, seat.shares(free).sum()) * 0x1p20)
        case .worstFit:
            return Int64((8 - max(0, seat.shares(free).sum())) * 0x1p20)
        case .leastSquares:
            return PlacementIndex.squares(seat.shares(free))
        case .dotProduct:
            let dot = (seat.shares(seat.free) * seat.shares(shape.demand)).sum()
            return Int64((8 - max(0, dot)) * 0x1p36)
        }
    }

    /// The mean of squares of shares, from 0 to 2^20 - 1.
    @inline(__always) private static func squares(_ shares: SIMD4<Double>) -> Int64 {
        Int64(min((shares * shares).sum() / 4, 1) * 0x0.FFFFFp20)
    }
}

/// Backtracks over sets of devices, wish by wish; devices that look alike are tried once.
private struct DeviceSearch {
    let inside: RoomInside
    let wishes: [DeviceWish]
    let nodes: UInt8
    var left: [Int32]
    var chosen = SIMD4<UInt64>(repeating: 0)
    var steps = 0

    init(inside: RoomInside, wishes: [DeviceWish], nodes: UInt8, left: [Int32]) {
        self.inside = inside
        self.wishes = wishes
        self.nodes = nodes
        self.left = left
    }

    mutating func serve(_ wish: Int) -> Bool {
        if wish == wishes.count { return true }
        var fitting: [Int] = []
        for d in left.indices where left[d] >= wishes[wish].millis && inside.usable(d, wishes[wish]) {
            if nodes == 0 || PlacementIndex.hangs(inside.layout.nodes[d], nodes) { fitting.append(d) }
        }
        if fitting.count < wishes[wish].count { return false }
        fitting.sort { left[$0] == left[$1] ? $0 < $1 : left[$0] < left[$1] }
        return take(wish, fitting, 0, wishes[wish].count)
    }

    private mutating func take(_ wish: Int, _ fitting: [Int], _ from: Int, _ missing: Int) -> Bool {
        if missing == 0 { return serve(wish + 1) }
        var at = from
        while at + missing <= fitting.count {
            let d = fitting[at]
            steps += 1
            if steps > PlacementIndex.deviceStepsMax { return false }
            left[d] -= wishes[wish].millis
            chosen[wish] |= 1 << UInt64(d)
            if take(wish, fitting, at + 1, missing - 1) { return true }
            left[d] += wishes[wish].millis
            chosen[wish] &= ~(1 << UInt64(d))
            at += 1
            // A set with a device that looks like the one just tried, and without that one, is the same set again.
            while at < fitting.count && alike(fitting[at], d) { at += 1 }
        }
        return false
    }

    private func alike(_ a: Int, _ b: Int) -> Bool {
        left[a] == left[b] && inside.layout.kinds[a] == inside.layout.kinds[b]
            && inside.layout.nodes[a] == inside.layout.nodes[b]
    }
}
