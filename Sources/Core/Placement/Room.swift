import ClusterBase
import FleetModel

/// CPU and memory left in each of up to 8 NUMA nodes, without a heap allocation.
struct NodeRooms: Hashable, Sendable {
    var cpu = SIMD8<Int64>(repeating: 0)
    var memory = SIMD8<Int64>(repeating: 0)
    var count = 0

    @inline(__always) var isEmpty: Bool { count == 0 }

    subscript(n: Int) -> SIMD2<Int64> {
        @inline(__always) get { SIMD2(cpu[n], memory[n]) }
        @inline(__always) set {
            cpu[n] = newValue[0]
            memory[n] = newValue[1]
        }
    }

    @inline(__always) func holds(_ n: Int, _ share: SIMD2<Int64>) -> Bool {
        (share[0] <= cpu[n] || share[0] <= 0) && (share[1] <= memory[n] || share[1] <= 0)
    }
}

/// Which kinds of devices a host has and on which nodes they hang. Never changes.
struct DeviceLayout: Hashable, Sendable {
    var kinds: [Word]
    /// `DeviceLayout.anyNode` where the host does not say.
    var nodes: [UInt8]
    static let anyNode: UInt8 = 255
}

/// The free room inside one host: what its NUMA nodes and devices have left.
struct RoomInside: Hashable, Sendable {
    var nodes = NodeRooms()
    /// Thousandths left per device.
    var devices: [Int32]
    var layout: DeviceLayout

    init(_ host: Host) {
        let over = host.overcommit
        for (n, node) in host.numaNodes.enumerated() {
            nodes[n] = SIMD2(node.cpuMillis * over.cpuMilli / 1000, node.memoryMiB * over.memoryMilli / 1000)
        }
        nodes.count = host.numaNodes.count
        devices = Array(repeating: Device.wholeMillis, count: host.devices.count)
        layout = DeviceLayout(
            kinds: host.devices.map(\.kind), nodes: host.devices.map { $0.numaNode ?? DeviceLayout.anyNode })
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
                found = copiesOnNodes(shape.perNode(split), split, most)
                split += 1
            }
            most = min(most, found)
        }
        if most == 0 { return 0 }
        for wish in shape.devices where wish.count > 0 {
            var pieces: Int64 = 0
            for d in devices.indices where devices[d] >= wish.millis && usable(d, wish) {
                pieces += Int64(devices[d] / max(1, wish.millis))
            }
            most = min(most, pieces / Int64(wish.count))
        }
        return most == .max ? 0 : most
    }

    private func copiesOnNodes(_ share: SIMD2<Int64>, _ split: Int, _ limit: Int64) -> Int64 {
        var sum: Int64 = 0
        var least = Int64.max
        for n in 0..<nodes.count {
            var here = min(limit, 1 << 20)
            if nodes.holds(n, share) {
                if share[0] > 0 { here = min(here, nodes.cpu[n] / share[0]) }
                if share[1] > 0 { here = min(here, nodes.memory[n] / share[1]) }
            } else {
                here = 0
            }
            sum += here
            least = min(least, here)
        }
        return split == nodes.count ? least : sum / Int64(split)
    }

    @inline(__always) func usable(_ d: Int, _ wish: DeviceWish) -> Bool {
        wish.kinds.isEmpty || wish.kinds.contains(layout.kinds[d])
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
    /// What the emptiest device has left; 0 without devices.
    var deviceMost: Int32
    var isUsed: Bool
    var takesVMs: Bool

    static let empty = Seat(
        host: 0, rank: 0, free: SIMD4(repeating: 0), inverse: SIMD4(repeating: 0), hash: 0, worth: 0, vmCount: 0,
        deviceMost: 0,
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
        let odd = (UInt64(node) &* 2 &+ 1) &* 0xA076_1D64_78BD_642F
        return UInt64(bitPattern: amounts[0]) &* odd &+ UInt64(bitPattern: amounts[1]) &* (odd &* 0xE703_7ED1_A0B4_28DB)
    }
    @inline(__always) static func ofDevice(_ device: Int, _ millis: Int32) -> UInt64 {
        UInt64(bitPattern: Int64(millis)) &* (mix64(UInt64(device) &+ 0xDE_51CE) | 1)
    }
    static func ofLayout(_ inside: RoomInside) -> UInt64 {
        var hash = ChainHash(7)
        hash.add(UInt64(inside.nodes.count))
        for d in inside.layout.kinds.indices {
            hash.add(UInt64(inside.layout.kinds[d].number) << 8 | UInt64(inside.layout.nodes[d]))
        }
        return hash.value
    }
}
