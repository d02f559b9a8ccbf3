/// A message of `Proto/`, as the generator writes it into `Schema`.
///
/// Encoding is canonical: fields in ascending order, default values left out, repeated numbers packed, unknown fields
/// last. Equal values encode to equal bytes.
public protocol WireMessage: Hashable, Sendable {
    init()
    /// The name in `Proto/`, for errors.
    static var messageName: String { get }
    /// The field's name in `Proto/`, for errors.
    static func fieldName(_ number: UInt32) -> String?
    /// Fields that a newer program wrote, as they were read; they are written back.
    var unknownFields: [UInt8] { get set }
    func encode(into writer: inout ByteWriter)
    /// Reads up to the reader's limit. A field that occurs again replaces, appends or merges as proto3 says.
    mutating func merge(from reader: inout ByteReader) throws(DecodeError)
}

/// What a message's array starts with; most of ours are smaller.
private let messageCapacity = 128

extension WireMessage {
    public init(serialized bytes: [UInt8]) throws(DecodeError) {
        var reader = ByteReader(bytes)
        try self.init(from: &reader)
    }

    /// Reads a whole message up to the reader's limit.
    public init(from reader: inout ByteReader) throws(DecodeError) {
        self.init()
        do throws(DecodeError) {
            try merge(from: &reader)
        } catch {
            throw error.inside(Self.self)
        }
    }

    public func serialized() -> [UInt8] {
        var writer = ByteWriter(capacity: messageCapacity)
        encode(into: &writer)
        return writer.finish()
    }
}
