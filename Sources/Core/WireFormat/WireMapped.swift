package import BinaryCoding
internal import ClusterBase

/// A type of the core that has a message in `Proto/`.
///
/// `init(wire:)` checks everything that the core takes for granted of its own values, and throws with the field's name
/// where a value can't be. `wire` and `encode` never fail, and say the same bytes.
package protocol WireMapped {
    associatedtype Wire: WireMessage
    init(wire: Wire) throws(DecodeError)
    var wire: Wire { get }
    /// Appends the encoded message; the types of the hot path do it without making a `Wire`.
    func encode(into writer: inout ByteWriter)
}

extension WireMapped {
    package func encode(into writer: inout ByteWriter) { wire.encode(into: &writer) }

    package init(serialized bytes: [UInt8]) throws(DecodeError) {
        try self.init(wire: Wire(serialized: bytes))
    }

    package func serialized() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        encode(into: &writer)
        return writer.finish()
    }
}

// MARK: checks

/// The value of a field that must be there.
func required<Value>(_ value: Value?, _ field: String) throws(DecodeError) -> Value {
    guard let value else { throw DecodeError(.missing, field: field) }
    return value
}

/// The core's value of a message that must be there.
func mapped<Mapped: WireMapped>(_ wire: Mapped.Wire?, _ field: String) throws(DecodeError) -> Mapped {
    try Mapped(wire: required(wire, field))
}

/// The core's values of a repeated field, at most `max`.
func mapped<Mapped: WireMapped>(
    _ wires: [Mapped.Wire], max: Int, _ field: String
) throws(DecodeError) -> [Mapped] {
    try checkCount(wires.count, max: max, field)
    var values: [Mapped] = []
    values.reserveCapacity(wires.count)
    for wire in wires { values.append(try Mapped(wire: wire)) }
    return values
}

func checkCount(_ count: Int, max: Int, _ field: String) throws(DecodeError) {
    guard count <= max else { throw DecodeError(.tooMany(count: count, max: max), field: field) }
}

func number(_ value: UInt64, _ field: String) throws(DecodeError) -> UInt64 {
    guard value <= WireLimits.numberMax else { throw DecodeError(.valueOutOfRange, field: field) }
    return value
}

func identity<ID: Identity>(_ value: UInt64, _ field: String) throws(DecodeError) -> ID {
    ID(rawValue: try number(value, field))
}

func instant(_ value: Int64, _ field: String) throws(DecodeError) -> Instant {
    guard value.magnitude <= WireLimits.nanosecondsMax.magnitude else {
        throw DecodeError(.valueOutOfRange, field: field)
    }
    return Instant(nanoseconds: value)
}

/// A length of time that has passed: never negative.
func elapsed(_ value: Int64, _ field: String) throws(DecodeError) -> Nanoseconds {
    guard value >= 0, value <= WireLimits.nanosecondsMax else { throw DecodeError(.valueOutOfRange, field: field) }
    return Nanoseconds(value)
}

/// Versions begin at 1 and are read up to the one that this program writes.
func checkVersion(_ version: UInt32, current: UInt32, _ field: String) throws(DecodeError) {
    guard version >= 1, version <= current else { throw DecodeError(.unsupportedVersion(version), field: field) }
}

// MARK: direct encoding, by field number

extension ByteWriter {
    @inline(__always) mutating func number(_ field: UInt32, _ value: UInt64) {
        guard value != 0 else { return }
        tag(field << 3)
        varint(value)
    }

    @inline(__always) mutating func fixed(_ field: UInt32, _ value: UInt64) {
        guard value != 0 else { return }
        tag(field << 3 | 1)
        fixed64(value)
    }

    /// A nested message; `expecting` is a guess of its length.
    @inline(__always) mutating func nested<Mapped: WireMapped>(
        _ field: UInt32, _ value: Mapped, expecting length: Int = 0
    ) {
        tag(field << 3 | 2)
        let mark = begin(expecting: length)
        value.encode(into: &self)
        end(mark)
    }
}
