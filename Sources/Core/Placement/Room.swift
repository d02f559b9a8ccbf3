import ClusterBase
import FleetModel

/// The free room inside one host: what its NUMA nodes and devices have left, and how they hang together.
struct RoomInside: Hashable, Sendable {
    /// CPU and memory left per node.
    var nodes: [SIMD2<Int64>]
    /// Thousandths left per device.
    var devices: [Int32]
    var deviceKinds: [Word]
    /// `RoomInside.anyNode` where the host does not say.
    var deviceNodes: [UInt8]

    static let anyNode: UInt8 = 255

    init(_ host: Host) {
        let over = host.overcommit
        nodes = host.numaNodes.map { SIMD2($0.cpuMillis * over.cpuMilli / 1000, $0.memoryMiB * over.memoryMilli / 1000) }
        devices = Array(repeating: Device.wholeMillis, count: host.devices.count)
        deviceKinds = host.devices.map(\.kind)
        deviceNodes = host.devices.map { $0.numaNode ?? RoomInside.anyNode }
    }

    /// How many VMs of `shape` would fit, given what the host as a whole has free. For shapes on some of many nodes
    /// it is an upper bound; it is used for worth, never for feasibility.
    func copies(of shape: Shape, free: SIMD4<Int64>) -> Int64 {
        var most = Int64.max
        for i in 0..<4 {
            let need = shape.demand.vector[i]
            if need <= 0 { continue }
            if free[i] < need { return 0 }
            most = min(most, free[i] / need)
        }
        if shape.nodesMin > 0 {
            var found: Int64 = 0
            var split = shape.nodesMin
            while split <= min(shape.nodesMax, nodes.count) && found == 0 {
                found = copiesOnNodes(shape.perNode(split), split)
                split += 1
            }
            most = min(most, found)
        }
        for wish in shape.devices where wish.count > 0 {
            var pieces: Int64 = 0
            for d in devices.indices where usable(d, wish) { pieces += Int64(devices[d] / max(1, wish.millis)) }
            most = min(most, pieces / Int64(wish.count))
        }
        return most == .max ? 0 : most
    }

    private func copiesOnNodes(_ share: SIMD2<Int64>, _ split: Int) -> Int64 {
        var sum: Int64 = 0
        var least = Int64.max
        for node in nodes {
            var here = Int64.max
            if share[0] > 0 { here = min(here, node[0] / share[0]) }
            if share[1] > 0 { here = min(here, node[1] / share[1]) }
            here = max(0, min(here, 1 << 20))
            sum += here
            least = min(least, here)
        }
        return split == nodes.count ? least : sum / Int64(split)
    }

    @inline(__always) func usable(_ d: Int, _ wish: DeviceWish) -> Bool {
        wish.kinds.isEmpty || wish.kinds.contains(deviceKinds[d])
    }
}

/// One way to put a shape into one host.
struct Fit: Hashable, Sendable {
    /// Lower is better.
    var score: Int64
    /// A bit per NUMA node.
    var nodes: UInt8 = 0
    /// A bit per device, for each wish.
    var devices = SIMD4<UInt64>(repeating: 0)
}

/// What is looked at for every decision about a host, in one place in memory.
struct Seat: Sendable {
    var host: UInt64
    /// Orders hosts of equal score.
    var rank: UInt64
    var free: SIMD4<Int64>
    /// One over what the host offers, to make shares.
    var inverse: SIMD4<Double>
    /// Grows linearly with every free amount, so the state after a placement has its hash before it exists.
    var hash: UInt64
    /// The worth of the free room under the index's mix.
    var worth: Int64
    var vmCount: Int32
    var isUsed: Bool
    var takesVMs: Bool

    static let empty = Seat(
        host: 0, rank: 0, free: SIMD4(repeating: 0), inverse: SIMD4(repeating: 0), hash: 0, worth: 0, vmCount: 0,
        isUsed: false, takesVMs: false)

    /// How full the host would be: the largest share, from 0 to 2^20.
    @inline(__always) func fullness(_ free: SIMD4<Int64>) -> Int64 {
        var largest = 0.0
        for i in 0..<4 where inverse[i] > 0 { largest = max(largest, 1 - Double(free[i]) * inverse[i]) }
        return Int64(min(max(largest, 0), 1) * 0x1p20)
    }

    @inline(__always) func shares(_ free: SIMD4<Int64>) -> SIMD4<Double> { SIMD4<Double>(free) * inverse }
}

/// Odd multipliers of the linear hash of free amounts.
enum RoomHash {
    static let lanes = SIMD4<UInt64>(
        0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0xD6E8_FEB8_6659_FD93)

    @inline(__always) static func of(_ amounts: SIMD4<Int64>) -> UInt64 {
        (SIMD4<UInt64>(truncatingIfNeeded: amounts) &* lanes).wrappedSum()
    }
    @inline(__always) static func ofNode(_ node: Int, _ amounts: SIMD2<Int64>) -> UInt64 {
        let a = mix64(UInt64(node) &+ 0x51) | 1
        let b = mix64(UInt64(node) &+ 0xA1_51) | 1
        return UInt64(bitPattern: amounts[0]) &* a &+ UInt64(bitPattern: amounts[1]) &* b
    }
    @inline(__always) static func ofDevice(_ device: Int, _ millis: Int32) -> UInt64 {
        UInt64(bitPattern: Int64(millis)) &* (mix64(UInt64(device) &+ 0xDE_51CE) | 1)
    }
    static func ofLayout(_ inside: RoomInside) -> UInt64 {
        var hash = ChainHash(7)
        hash.add(UInt64(inside.nodes.count))
        for d in inside.deviceKinds.indices {
            hash.add(UInt64(inside.deviceKinds[d].number) << 8 | UInt64(inside.deviceNodes[d]))
        }
        return hash.value
    }
}
