/// A seeded generator with a fixed algorithm (xoshiro256**), so that a seed means the same on every machine and with
/// every compiler. It is deliberately not a `RandomNumberGenerator`: the standard library promises no stable mapping.
@frozen public struct PRNG: Sendable {
    @usableFromInline var s0: UInt64
    @usableFromInline var s1: UInt64
    @usableFromInline var s2: UInt64
    @usableFromInline var s3: UInt64

    /// Seeds the four words from one by SplitMix64.
    public init(seed: UInt64) {
        var x = seed
        func next() -> UInt64 {
            x &+= 0x9E37_79B9_7F4A_7C15
            return mix64(x)
        }
        s0 = next()
        s1 = next()
        s2 = next()
        s3 = next()
    }

    /// A stream of its own for one purpose: a draw from it shifts no other stream. Does not advance this one.
    public func child(_ purpose: UInt64) -> PRNG {
        PRNG(seed: mix64(s0 ^ mix64(purpose &+ 0x1234_5678_9ABC_DEF1)) ^ s2)
    }

    /// The next 64 random bits.
    @inlinable public mutating func next() -> UInt64 {
        let result = rotl(s1 &* 5, 7) &* 9
        let t = s1 << 17
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= t
        s3 = rotl(s3, 45)
        return result
    }

    @inlinable @inline(__always) func rotl(_ x: UInt64, _ k: UInt64) -> UInt64 { (x << k) | (x >> (64 - k)) }

    /// A number in `0 ..< bound`; `bound` is at least 1. The bias is below 2^-32 for bounds below 2^32.
    @inlinable public mutating func below(_ bound: UInt64) -> UInt64 {
        precondition(bound > 0, "an empty range has no number to draw")
        return next().multipliedFullWidth(by: bound).high
    }

    /// The same for `Int`.
    @inlinable public mutating func below(_ bound: Int) -> Int { Int(below(UInt64(bound))) }

    /// A number in the closed range.
    @inlinable public mutating func within(_ range: ClosedRange<Int64>) -> Int64 {
        range.lowerBound + Int64(below(UInt64(range.upperBound - range.lowerBound) + 1))
    }

    /// The same for a length of time.
    @inlinable public mutating func within(_ range: ClosedRange<Nanoseconds>) -> Nanoseconds {
        Nanoseconds(within(range.lowerBound.count...range.upperBound.count))
    }

    /// True with a chance of `numerator` in `denominator`.
    @inlinable public mutating func chance(_ numerator: UInt64, in denominator: UInt64) -> Bool {
        numerator > 0 && below(denominator) < numerator
    }

    /// A number in `0 ..< 1` with 53 random bits.
    @inlinable public mutating func fraction() -> Double { Double(next() >> 11) * 0x1p-53 }
}

/// A bijective mixer of 64 bits (SplitMix64's finalizer).
@inlinable public func mix64(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
}
