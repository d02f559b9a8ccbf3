/// A length of time in nanoseconds.
@frozen public struct Nanoseconds: Comparable, Hashable, Sendable, CustomStringConvertible {
    public var count: Int64
    @inlinable public init(_ count: Int64) { self.count = count }

    /// No time at all.
    public static let zero = Nanoseconds(0)
    /// A length given in microseconds.
    /// A length given in seconds.
    /// A length given in milliseconds.
    @inlinable public static func microseconds(_ n: Int64) -> Nanoseconds { Nanoseconds(n * 1_000) }
    @inlinable public static func milliseconds(_ n: Int64) -> Nanoseconds { Nanoseconds(n * 1_000_000) }
    @inlinable public static func seconds(_ n: Int64) -> Nanoseconds { Nanoseconds(n * 1_000_000_000) }

    @inlinable public static func < (a: Self, b: Self) -> Bool { a.count < b.count }
    @inlinable public static func + (a: Self, b: Self) -> Self { Nanoseconds(a.count + b.count) }
    @inlinable public static func - (a: Self, b: Self) -> Self { Nanoseconds(a.count - b.count) }
    @inlinable public static func * (a: Self, factor: Int64) -> Self { Nanoseconds(a.count * factor) }
    @inlinable public static func / (a: Self, divisor: Int64) -> Self { Nanoseconds(a.count / divisor) }
    @inlinable public static func += (a: inout Self, b: Self) { a = a + b }

    /// Whole milliseconds, rounded down.
    @inlinable public var milliseconds: Int64 { count / 1_000_000 }

    public var description: String {
        if count % 1_000_000_000 == 0 { return "\(count / 1_000_000_000)s" }
        if count % 1_000_000 == 0 { return "\(count / 1_000_000)ms" }
        if count % 1_000 == 0 { return "\(count / 1_000)us" }
        return "\(count)ns"
    }
}

/// A point on one node's own clock, which never goes back. Points of two nodes can't be compared.
@frozen public struct Instant: Comparable, Hashable, Sendable, CustomStringConvertible {
    /// Nanoseconds since an origin that only the node knows.
    public var nanoseconds: Int64
    @inlinable public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// The first point of a clock.
    public static let origin = Instant(nanoseconds: 0)
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
    @inlinable public static func + (a: Self, b: Nanoseconds) -> Self { Instant(nanoseconds: a.nanoseconds + b.count) }
    @inlinable public static func - (a: Self, b: Nanoseconds) -> Self { Instant(nanoseconds: a.nanoseconds - b.count) }
    @inlinable public static func - (a: Self, b: Self) -> Nanoseconds { Nanoseconds(a.nanoseconds - b.nanoseconds) }
    @inlinable public static func += (a: inout Self, b: Nanoseconds) { a = a + b }
    public var description: String { "@\(Nanoseconds(nanoseconds))" }
}
