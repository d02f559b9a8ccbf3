/// A JSON value (RFC 8259). An object keeps its members in the order in which they were written.
package indirect enum JSONValue: Hashable, Sendable {
    case null
    case bool(Bool)
    /// A number without fraction and exponent that fits.
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([JSONMember])

    /// The value of a member; nil when this is no object or has no such member.
    package subscript(name: String) -> JSONValue? {
        if case .object(let members) = self { members.first { $0.name == name }?.value } else { nil }
    }

    package var text: String? { if case .string(let text) = self { text } else { nil } }
    package var integer: Int64? { if case .integer(let number) = self { number } else { nil } }
    /// An integer, also where it is written with a fraction of zero.
    package var whole: Int64? {
        switch self {
        case .integer(let number): number
        case .number(let number): Int64(exactly: number)
        default: nil
        }
    }
    package var bool: Bool? { if case .bool(let bool) = self { bool } else { nil } }
    package var elements: [JSONValue]? { if case .array(let elements) = self { elements } else { nil } }
    package var members: [JSONMember]? { if case .object(let members) = self { members } else { nil } }

    /// What kind of value it is, for messages.
    package var kindName: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .integer: "an integer"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    /// The value where it is short, else its kind; for messages.
    package var shown: String {
        switch self {
        case .bool, .integer, .number: String(decoding: bytes, as: UTF8.self)
        case .string(let text) where text.utf8.count <= 40: String(decoding: bytes, as: UTF8.self)
        default: kindName
        }
    }
}

/// One member of a JSON object.
package struct JSONMember: Hashable, Sendable {
    package var name: String
    package var value: JSONValue
    package init(_ name: String, _ value: JSONValue) {
        self.name = name
        self.value = value
    }
}

/// Why text is no JSON that is accepted here, and where.
package struct JSONFault: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Reason: Hashable, Sendable {
        case tooLarge(Int)
        case tooDeep(Int)
        case tooManyValues(Int)
        case ended
        case unexpected(UInt8)
        case numberMalformed
        case numberTooLarge
        case stringControl
        case stringEscape
        case stringEncoding
        case memberRepeated(String)
        case trailing
    }

    package var reason: Reason
    /// Bytes from the beginning.
    package var offset: Int

    package var description: String {
        let what =
            switch reason {
            case .tooLarge(let most): "it is too large; send at most \(most) bytes"
            case .tooDeep(let most): "it is nested too deep; nest at most \(most) levels"
            case .tooManyValues(let most): "it holds too many values; send at most \(most)"
            case .ended: "it ends in the middle of a value; send all of it"
            case .unexpected(let byte): "byte \(byte) has no place here; check quotes, commas and brackets"
            case .numberMalformed: "a number is malformed; write it without leading zeros, plus signs or lone points"
            case .numberTooLarge: "a number is too large; use one that a double can hold"
            case .stringControl: "a string holds a control character; escape it"
            case .stringEscape: "a string holds an unknown escape; use those of RFC 8259"
            case .stringEncoding: "a string is not UTF-8; encode it as such"
            case .memberRepeated(let name): "the member \"\(name)\" occurs twice; send it once"
            case .trailing: "something follows the value; send one value alone"
            }
        return "the JSON is not accepted at byte \(offset): \(what)"
    }
}
