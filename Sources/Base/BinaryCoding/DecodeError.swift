/// Why bytes from a disk or a peer are not what they should be, and where.
public struct DecodeError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Reason: Hashable, Sendable {
        /// The bytes end before the value does.
        case truncated
        /// A varint of more than ten bytes, or of more than 64 bits.
        case varintTooLong
        /// A field number of zero or above 2^29-1.
        case badFieldNumber
        /// A wire type that is not defined, or a group, which proto3 does not have.
        case badWireType(UInt8)
        /// A length that reaches beyond the value around it.
        case lengthBeyondEnd(UInt64)
        /// The number does not fit into the field's type.
        case valueOutOfRange
        case invalidUTF8
        case nestedTooDeep(max: Int)
        case tooManyMessages(max: Int)
        case checksumMismatch
        case unsupportedVersion(UInt32)
        /// A field that must be there is not.
        case missing
        /// A value that the field's type can hold and its meaning can't.
        case badValue(Int64)
        case tooMany(count: Int, max: Int)
    }

    public var reason: Reason
    /// Bytes from the start of the outermost value to where reading stopped; nil for a rule over decoded values.
    public var offset: Int?
    /// The path to the field, as in `PeerFrame.messages.group`.
    public var field: String
    /// The number of the field that has no name yet; the messages around it turn it into a name on the way out.
    @usableFromInline var number: UInt32

    /// An error of a rule over decoded values, found in the field of this path.
    public init(_ reason: Reason, field: String, offset: Int? = nil) {
        self.reason = reason
        self.offset = offset
        self.field = field
        self.number = 0
    }

    init(_ reason: Reason, offset: Int, number: UInt32) {
        self.reason = reason
        self.offset = offset
        self.field = ""
        self.number = number
    }

    /// The same error as seen by the message `M` around it: its innermost number gets the name that `M` gives it.
    public func inside<M: WireMessage>(_ type: M.Type, asField outer: UInt32 = 0) -> DecodeError {
        var error = self
        if number != 0 { error.prepend(M.fieldName(number) ?? String(number)) }
        error.number = outer
        if outer == 0 { error.prepend(M.messageName) }
        return error
    }

    private mutating func prepend(_ name: String) {
        field = field.isEmpty ? name : "\(name).\(field)"
    }

    public var description: String {
        let place = offset.map { " at byte \($0)" } ?? ""
        let subject = field.isEmpty ? "the value" : field
        return "\(subject)\(place): \(reason.sentence)"
    }
}

extension DecodeError.Reason {
    fileprivate var sentence: String {
        switch self {
        case .truncated: "the bytes end too early"
        case .varintTooLong: "a number has more than 64 bits"
        case .badFieldNumber: "no field can have this number"
        case .badWireType(let type): "wire type \(type) is not one of proto3"
        case .lengthBeyondEnd(let length): "its length of \(length) reaches beyond the end"
        case .valueOutOfRange: "the number does not fit the field's type"
        case .invalidUTF8: "the text is not UTF-8"
        case .nestedTooDeep(let max): "more than \(max) messages inside each other"
        case .tooManyMessages(let max): "more than \(max) messages in one value"
        case .checksumMismatch: "the checksum does not match"
        case .unsupportedVersion(let version): "version \(version) is not one that this program reads"
        case .missing: "it is missing"
        case .badValue(let value): "\(value) has no meaning here"
        case .tooMany(let count, let max): "\(count) where at most \(max) are allowed"
        }
    }
}
