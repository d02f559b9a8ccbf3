/// Writes JSON piece by piece behind whatever a buffer holds; commas come by themselves.
package struct JSONWriter {
    package private(set) var bytes: [UInt8]
    private let begin: Int

    /// Takes a buffer over, to be given back by `finish`.
    package init(appendingTo bytes: consuming [UInt8] = []) {
        begin = bytes.count
        self.bytes = bytes
    }

    /// Everything that was written, behind what was there.
    package consuming func finish() -> [UInt8] { bytes }

    package mutating func beginObject() { open("{") }
    package mutating func endObject() { bytes.append(UInt8(ascii: "}")) }
    package mutating func beginArray() { open("[") }
    package mutating func endArray() { bytes.append(UInt8(ascii: "]")) }

    /// Ends a line of JSON lines; the next value begins a new one.
    package mutating func endLine() { bytes.append(UInt8(ascii: "\n")) }

    package mutating func name(_ name: String) {
        string(name)
        bytes.append(UInt8(ascii: ":"))
    }

    package mutating func string(_ text: String) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        // Most have nothing to escape, and are copied at once.
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            bytes.append(contentsOf: text.utf8)
        } else {
            for byte in text.utf8 { escape(byte) }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    package mutating func integer(_ number: Int64) {
        separate()
        if number < 0 { bytes.append(UInt8(ascii: "-")) }
        bytes.append(decimal: number.magnitude)
    }

    /// A number up to 2^53 is exact for every reader, a larger one for some.
    package mutating func integer(_ number: UInt64) {
        separate()
        bytes.append(decimal: number)
    }

    /// What is not finite becomes null: JSON has no word for it.
    package mutating func number(_ number: Double) {
        separate()
        bytes.append(text: number.isFinite ? "\(number)" : "null")
    }

    package mutating func bool(_ bool: Bool) {
        separate()
        bytes.append(text: bool ? "true" : "false")
    }

    package mutating func null() {
        separate()
        bytes.append(text: "null")
    }

    /// A string of base64.
    package mutating func base64(_ value: some Collection<UInt8>) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        Base64.encode(value, into: &bytes)
        bytes.append(UInt8(ascii: "\""))
    }

    /// A string of percent-encoded bytes, slashes as they are: what may stand in a URL's path and query.
    package mutating func percent(_ value: some Collection<UInt8>) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        PercentCoding.encode(value, keepsSlashes: true, into: &bytes)
        bytes.append(UInt8(ascii: "\""))
    }

    package mutating func strings(_ texts: [String]) {
        beginArray()
        for text in texts { string(text) }
        endArray()
    }

    package mutating func value(_ value: JSONValue) {
        switch value {
        case .null: null()
        case .bool(let value): bool(value)
        case .integer(let value): integer(value)
        case .number(let value): number(value)
        case .string(let text): string(text)
        case .array(let elements):
            beginArray()
            for element in elements { self.value(element) }
            endArray()
        case .object(let members):
            beginObject()
            for member in members {
                name(member.name)
                self.value(member.value)
            }
            endObject()
        }
    }

    private mutating func open(_ bracket: Character) {
        separate()
        bytes.append(bracket.asciiValue ?? 0)
    }

    /// A value that follows another one needs a comma. What was written last tells: only a finished value ends otherwise.
    private mutating func separate() {
        guard bytes.count > begin else { return }
        switch bytes[bytes.count - 1] {
        case UInt8(ascii: "{"), UInt8(ascii: "["), UInt8(ascii: ":"), UInt8(ascii: "\n"): return
        default: bytes.append(UInt8(ascii: ","))
        }
    }

    private mutating func escape(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            bytes.append(UInt8(ascii: "\\"))
            bytes.append(byte)
        case 0x0A: bytes.append(text: "\\n")
        case 0x0D: bytes.append(text: "\\r")
        case 0x09: bytes.append(text: "\\t")
        case 0..<0x20:
            bytes.append(text: "\\u00")
            for digit in [byte >> 4, byte & 15] { bytes.append(digit < 10 ? 48 + digit : 87 + digit) }
        default: bytes.append(byte)
        }
    }
}

extension JSONValue {
    /// The value as text without spaces.
    package var bytes: [UInt8] {
        var writer = JSONWriter()
        writer.value(self)
        return writer.finish()
    }
}
