/// Amounts of what every host has and every VM takes: CPU in thousandths of a core, memory and disk in MiB, network
/// bandwidth in Mbit/s.
@frozen public struct Resources: Hashable, Sendable, CustomStringConvertible {
    public var vector: SIMD4<Int64>

    /// Amounts that are not given are zero.
    @inlinable public init(_ vector: SIMD4<Int64>) { self.vector = vector }
    @inlinable public init(cpuMillis: Int64 = 0, memoryMiB: Int64 = 0, diskMiB: Int64 = 0, networkMbps: Int64 = 0) {
        vector = SIMD4(cpuMillis, memoryMiB, diskMiB, networkMbps)
    }

    /// Nothing of anything.
    public static let zero = Resources(SIMD4(repeating: 0))
    /// The largest amount of one resource; larger ones are refused before they get here.
    public static let amountMax: Int64 = 1 << 40

    /// CPU in thousandths of a core.
    @inlinable public var cpuMillis: Int64 {
        get { vector[0] }
        set { vector[0] = newValue }
    }
    /// Memory in MiB.
    @inlinable public var memoryMiB: Int64 {
        get { vector[1] }
        set { vector[1] = newValue }
    }
    /// Disk in MiB.
    @inlinable public var diskMiB: Int64 {
        get { vector[2] }
        set { vector[2] = newValue }
    }
    /// Network bandwidth in Mbit/s.
    @inlinable public var networkMbps: Int64 {
        get { vector[3] }
        set { vector[3] = newValue }
    }

    @inlinable public static func + (a: Self, b: Self) -> Self { Resources(a.vector &+ b.vector) }
    @inlinable public static func - (a: Self, b: Self) -> Self { Resources(a.vector &- b.vector) }
    @inlinable public static func += (a: inout Self, b: Self) { a.vector &+= b.vector }
    @inlinable public static func -= (a: inout Self, b: Self) { a.vector &-= b.vector }

    /// True when `demand` fits into this. A resource that is not demanded always fits, also where less than nothing
    /// is free.
    @inlinable public func holds(_ demand: Resources) -> Bool {
        all((demand.vector .<= vector) .| (demand.vector .<= 0))
    }

    /// False when an amount is negative or above `amountMax`.
    public var isValid: Bool {
        all((vector .>= 0) .& (vector .<= Resources.amountMax))
    }

    public var description: String {
        var text = "\(cpuMillis)m cpu, \(memoryMiB) MiB"
        if diskMiB != 0 { text += ", \(diskMiB) MiB disk" }
        if networkMbps != 0 { text += ", \(networkMbps) Mbit/s" }
        return text
    }
}

/// The four kinds of amounts in `Resources`, in the order of its vector.
public enum ResourceKind: Int, CaseIterable, Hashable, Sendable, CustomStringConvertible {
    /// In the units of `Resources`.
    case cpu, memory, disk, network
    public var description: String {
        switch self {
        case .cpu: "cpu"
        case .memory: "memory"
        case .disk: "disk"
        case .network: "network"
        }
    }
}
