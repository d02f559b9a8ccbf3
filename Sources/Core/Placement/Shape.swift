public import FleetModel

/// What a VM takes from a host, without its rules. Two VMs of one shape are the same to every score.
public struct Shape: Hashable, Sendable {
    /// Resources with the disks that lie on the host.
    public var demand: Resources
    /// The fewest and the most NUMA nodes it is split over; 0 and 0 when it does not care.
    public var nodesMin: Int
    /// The most NUMA nodes it is split over.
    public var nodesMax: Int
    /// With their kinds in ascending order.
    public var devices: [DeviceWish]
    /// Whether devices must hang on the NUMA nodes that the VM gets.
    public var devicesOnSameNodes: Bool

    /// The shape of a VM.
    public init(_ spec: VMSpec) {
        demand = spec.demand
        switch spec.numa {
        case .none: (nodesMin, nodesMax) = (0, 0)
        case .nodes(let n): (nodesMin, nodesMax) = (max(1, n), max(1, n))
        case .fewest(let n): (nodesMin, nodesMax) = (1, max(1, n))
        }
        devices = spec.devices
        for i in devices.indices where devices[i].kinds.count > 1 { devices[i].kinds.sort() }
        devicesOnSameNodes = spec.devicesOnSameNodes
    }

    /// Each node's half, third, ... of the demand, rounded up.
    func perNode(_ nodes: Int) -> SIMD2<Int64> {
        let n = Int64(nodes)
        return SIMD2((demand.cpuMillis + n - 1) / n, (demand.memoryMiB + n - 1) / n)
    }

    /// A total order, so that nothing depends on the order of a hash table.
    func precedes(_ other: Shape) -> Bool {
        for i in 0..<4 where demand.vector[i] != other.demand.vector[i] {
            return demand.vector[i] < other.demand.vector[i]
        }
        if nodesMin != other.nodesMin { return nodesMin < other.nodesMin }
        if nodesMax != other.nodesMax { return nodesMax < other.nodesMax }
        if devices.count != other.devices.count { return devices.count < other.devices.count }
        for i in devices.indices {
            let a = devices[i]
            let b = other.devices[i]
            if a.count != b.count { return a.count < b.count }
            if a.millis != b.millis { return a.millis < b.millis }
            if a.kinds != b.kinds { return a.kinds.lexicographicallyPrecedes(b.kinds) }
        }
        return !devicesOnSameNodes && other.devicesOnSameNodes
    }
}

/// The kinds of VMs that a fleet runs, with their weights: what the free room of a host is worth.
///
/// `pack` chooses the host that loses the least worth. The worth of free room is the sum over the mix of weight × the
/// volume that copies of that shape can still use. So a host is not spoilt for large shapes by a small one that fits
/// elsewhere, nor a GPU left without CPU. That volume is at most what the mix as a whole can use of the room: ten free
/// cores with one GiB are worth little where VMs have four GiB per core, even if some have none.
///
/// A mix is an explicit part of the state on which a decision rests: the index changes it only in `setMix`.
public struct ShapeMix: Hashable, Sendable {
    /// The most shapes of a mix. Of more, those alike within half a power of two are one, the one with the most
    /// volume; of more still, the ones with the least volume don't count.
    public static let shapesMax = 32

    /// One shape and how much it counts.
    public struct Part: Hashable, Sendable {
        /// What VMs of this part ask for.
        public var shape: Shape
        /// In parts of 65,536.
        public var weight: Int64
        /// The share of an average host that one copy takes of its scarcest resource, in parts of 65,536.
        public var size: Int64
    }

    /// The shapes, at most `shapesMax`.
    public private(set) var parts: [Part] = []
    /// The volume, in parts of 65,536 of an average host, that the mix as a whole makes of one unit of each resource
    /// where that resource is the scarcest; zero for resources that no shape takes.
    public private(set) var volumePerUnit = SIMD4<Double>(repeating: 0)

    /// The empty mix: `pack` falls back to the least squares of what remains.
    public init() {}

    /// The mix of `counts` VMs per shape on hosts that together offer `totals`. Shapes with the most volume are kept.
    public init(counts: [(shape: Shape, count: Int)], totals: FleetTotals) {
        self.init(counts: counts, totals: totals, scarcity: { _ in 1 })
    }

    /// The same, where a VM of a shape counts as `scarcity` times as large: what it needs is that much rarer among what
    /// is free than among all there is.
    init(counts: [(shape: Shape, count: Int)], totals: FleetTotals, scarcity: (Shape) -> Double) {
        var weighed: [(shape: Shape, count: Int, size: Double)] = []
        for (shape, count) in counts where count > 0 {
            weighed.append((shape, count, totals.share(of: shape) * scarcity(shape)))
        }
        weighed.sort { a, b in
            let left = Double(a.count) * a.size
            let right = Double(b.count) * b.size
            return left == right ? a.shape.precedes(b.shape) : left > right
        }
        var sums = SIMD4<Double>(repeating: 0)
        for part in weighed { sums += SIMD4<Double>(part.shape.demand.vector) * Double(part.count) }
        var volume = 0.0
        for i in 0..<4 where totals.offered.vector[i] > 0 {
            volume = max(volume, sums[i] / Double(totals.offered.vector[i]) * Double(totals.hosts) * 65536)
        }
        for i in 0..<4 where sums[i] > 0 { volumePerUnit[i] = volume / sums[i] }
        if weighed.count > ShapeMix.shapesMax { weighed = ShapeMix.coarsened(weighed) }
        let sum = weighed.reduce(0) { $0 + $1.count }
        parts = weighed.map {
            Part(
                shape: $0.shape, weight: max(1, Int64($0.count) * 65536 / Int64(max(1, sum))),
                size: Int64(min(max($0.size * 65536, 1), 0x1p30)))
        }
    }
}

extension ShapeMix {
    /// What shapes that are nearly alike have in common.
    private struct Likeness: Hashable {
        var demand: SIMD4<Int64>
        var nodesMin: Int
        var nodesMax: Int
        var devices: [DeviceWish]

        init(_ shape: Shape) {
            demand = SIMD4(repeating: 0)
            for i in 0..<4 { demand[i] = Likeness.halfOctave(shape.demand.vector[i]) }
            (nodesMin, nodesMax) = (shape.nodesMin, shape.nodesMax)
            devices = shape.devices
            // Whole devices are counted exactly, parts by eighths.
            for i in devices.indices where devices[i].millis < Device.wholeMillis {
                devices[i].millis = (devices[i].millis + 124) / 125
            }
        }

        static func halfOctave(_ amount: Int64) -> Int64 {
            if amount <= 0 { return 0 }
            let exponent = 63 - amount.leadingZeroBitCount
            return Int64(2 * exponent + 1) + (exponent > 0 ? (amount >> Int64(exponent - 1)) & 1 : 0)
        }
    }

    /// Takes shapes by falling volume, gives at most `shapesMax` that stand for them, again by falling volume.
    private static func coarsened(
        _ weighed: [(shape: Shape, count: Int, size: Double)]
    ) -> [(shape: Shape, count: Int, size: Double)] {
        // hash order: looked up only
        var numbers: [Likeness: Int] = [:]
        var few: [(shape: Shape, count: Int, size: Double, volume: Double)] = []
        for part in weighed {
            let volume = Double(part.count) * part.size
            let likeness = Likeness(part.shape)
            if let number = numbers[likeness] {
                few[number].count += part.count
                few[number].volume += volume
            } else {
                numbers[likeness] = few.count
                few.append((part.shape, part.count, part.size, volume))
            }
        }
        few.sort { $0.volume == $1.volume ? $0.shape.precedes($1.shape) : $0.volume > $1.volume }
        return few.prefix(shapesMax).map { ($0.shape, $0.count, $0.size) }
    }
}

/// What all hosts offer together.
public struct FleetTotals: Hashable, Sendable {
    /// How many hosts there are.
    public internal(set) var hosts = 0
    /// What VMs may take from all of them.
    public internal(set) var offered = Resources.zero
    /// Devices per kind, ascending by kind.
    public internal(set) var devices: [(kind: Word, count: Int)] {
        get { zip(kinds, counts).map { ($0, $1) } }
        set {
            kinds = newValue.map(\.kind)
            counts = newValue.map(\.count)
        }
    }
    private var kinds: [Word] = []
    private var counts: [Int] = []

    public init() {}

    mutating func add(_ host: Host, sign: Int) {
        hosts += sign
        if sign > 0 { offered += host.offered } else { offered -= host.offered }
        for device in host.devices {
            if let i = kinds.firstIndex(of: device.kind) {
                counts[i] += sign
                if counts[i] == 0 {
                    kinds.remove(at: i)
                    counts.remove(at: i)
                }
            } else {
                let i = kinds.firstIndex { device.kind < $0 } ?? kinds.count
                kinds.insert(device.kind, at: i)
                counts.insert(sign, at: i)
            }
        }
    }

    /// The largest share of a resource that `shape` takes, where 1 is what an average host offers.
    func share(of shape: Shape) -> Double {
        var largest = 0.0
        for i in 0..<4 where shape.demand.vector[i] > 0 && offered.vector[i] > 0 {
            largest = max(largest, Double(shape.demand.vector[i]) / Double(offered.vector[i]))
        }
        for wish in shape.devices {
            var usable = 0
            for (i, kind) in kinds.enumerated() where wish.kinds.isEmpty || wish.kinds.contains(kind) {
                usable += counts[i]
            }
            if usable > 0 {
                largest = max(largest, Double(wish.count) * Double(wish.millis) / 1000 / Double(usable))
            }
        }
        return largest * Double(hosts)
    }
}

/// A mix made ready for judging many states of room.
struct CompiledMix: Sendable {
    private struct PlainPart: Sendable {
        /// One over the demand; where nothing is demanded, so much that this resource never limits.
        var inverse: SIMD4<Double>
        var size: Int64
        var weight: Int64
    }
    private var plain: [PlainPart] = []
    /// Shapes that look at NUMA nodes or devices.
    private var inside: [ShapeMix.Part] = []
    private let volumePerUnit: SIMD4<Double>
    static let copiesMax: Int64 = 1 << 20
    private static let volumeMax: Int64 = 1 << 38

    init(_ mix: ShapeMix) {
        volumePerUnit = mix.volumePerUnit
        for part in mix.parts {
            let demand = part.shape.demand.vector
            if part.shape.nodesMin > 0 || !part.shape.devices.isEmpty {
                inside.append(part)
            } else if any(demand .> 0) {
                var inverse = SIMD4<Double>(repeating: 0x1p40)
                for i in 0..<4 where demand[i] > 0 { inverse[i] = 1 / Double(demand[i]) }
                plain.append(PlainPart(inverse: inverse, size: part.size, weight: part.weight))
            }
        }
    }

    /// The most volume that VMs of the mix, all shapes together, can use of free amounts, whole VMs or not.
    private func volume(_ free: SIMD4<Int64>) -> Int64 {
        var least = Double.infinity
        for i in 0..<4 where volumePerUnit[i] > 0 { least = min(least, Double(max(0, free[i])) * volumePerUnit[i]) }
        return least < Double(CompiledMix.volumeMax) ? Int64(least) : CompiledMix.volumeMax
    }

    /// What shapes that look at a host as a whole make of free amounts.
    func worth(of free: SIMD4<Int64>) -> Int64 {
        let most = volume(free)
        // Half a unit more than there is: then a quotient of whole numbers is never a hair too small, and amounts
        // below 2^50 never gain a copy by it.
        let room = SIMD4<Double>(pointwiseMax(free, SIMD4(repeating: 0))) + SIMD4(repeating: 0.5)
        var sum: Int64 = 0
        for part in plain {
            let copies = Int64(min((room * part.inverse).min(), Double(CompiledMix.copiesMax)))
            sum += part.weight * min(copies * part.size, most)
        }
        return sum
    }

    /// What shapes that look at NUMA nodes or devices make of what is inside a host.
    func worthInside(_ room: RoomInside, free: SIMD4<Int64>) -> Int64 {
        if inside.isEmpty { return 0 }
        let most = volume(free)
        var sum: Int64 = 0
        for part in inside {
            let copies = min(room.copies(of: part.shape, free: free), CompiledMix.copiesMax)
            // Devices are so unevenly spread over hosts that an average says nothing about them.
            let limit = part.shape.devices.isEmpty ? most : CompiledMix.volumeMax
            sum += part.weight * min(max(0, copies) * part.size, limit)
        }
        return sum
    }
}
