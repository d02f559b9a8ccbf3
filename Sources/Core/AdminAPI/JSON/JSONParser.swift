/// Reads one JSON value out of bytes of which nothing is trusted; strict RFC 8259, within bounds.
package struct JSONParser {
    private let bytes: ArraySlice<UInt8>
    private let depthMax: Int
    private let valuesMax: Int
    private var at: Int
    private var values = 0

    /// The value that all of `bytes` spell.
    package static func parse(
        _ bytes: ArraySlice<UInt8>, limits: AdminLimits = .standard
    ) throws(JSONFault) -> JSONValue {
        if bytes.count > limits.jsonBodyBytesMax {
            throw JSONFault(reason: .tooLarge(limits.jsonBodyBytesMax), offset: limits.jsonBodyBytesMax)
        }
        return try parse(bytes, depthMax: limits.jsonDepthMax, valuesMax: limits.jsonValuesMax)
    }

    /// The same for answers, which the caller has bounded.
    package static func parse(
        _ bytes: ArraySlice<UInt8>, depthMax: Int, valuesMax: Int
    ) throws(JSONFault) -> JSONValue {
        var parser = JSONParser(bytes: bytes, depthMax: depthMax, valuesMax: valuesMax)
        let value = try parser.value(depth: 0)
        parser.skipSpace()
        if parser.at < bytes.endIndex { throw parser.fault(.trailing) }
        return value
    }

    private init(bytes: ArraySlice<UInt8>, depthMax: Int, valuesMax: Int) {
        self.bytes = bytes
        self.depthMax = depthMax
        self.valuesMax = valuesMax
        at = bytes.startIndex
    }

    private func fault(_ reason: JSONFault.Reason) -> JSONFault {
        JSONFault(reason: reason, offset: at - bytes.startIndex)
    }

    private var unexpected: JSONFault { at < bytes.endIndex ? fault(.unexpected(bytes[at])) : fault(.ended) }

    private mutating func skipSpace() {
        while at < bytes.endIndex, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[at]) { at += 1 }
    }

    private mutating func take(_ byte: Character) -> Bool {
        guard at < bytes.endIndex, bytes[at] == byte.asciiValue else { return false }
        at += 1
        return true
    }

    private mutating func take(word: String) throws(JSONFault) {
        for byte in word.utf8 {
            guard at < bytes.endIndex, bytes[at] == byte else { throw unexpected }
            at += 1
        }
    }

    private mutating func value(depth: Int) throws(JSONFault) -> JSONValue {
        values += 1
        if values > valuesMax { throw fault(.tooManyValues(valuesMax)) }
        skipSpace()
        guard at < bytes.endIndex else { throw fault(.ended) }
        switch bytes[at] {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            if depth == depthMax { throw fault(.tooDeep(depthMax)) }
            return bytes[at] == UInt8(ascii: "{") ? try object(depth: depth) : try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"):
            try take(word: "true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try take(word: "false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try take(word: "null")
            return .null
        case UInt8(ascii: "-"), 48...57: return try number()
        default: throw unexpected
        }
    }

    private mutating func object(depth: Int) throws(JSONFault) -> JSONValue {
        at += 1
        var members: [JSONMember] = []
        skipSpace()
        if take("}") { return .object(members) }
        while true {
            skipSpace()
            guard at < bytes.endIndex, bytes[at] == UInt8(ascii: "\"") else { throw unexpected }
            let name = try string()
            if members.contains(where: { $0.name == name }) { throw fault(.memberRepeated(name)) }
            skipSpace()
            if !take(":") { throw unexpected }
            members.append(JSONMember(name, try value(depth: depth + 1)))
            skipSpace()
            if take(",") { continue }
            if take("}") { return .object(members) }
            throw unexpected
        }
    }

    private mutating func array(depth: Int) throws(JSONFault) -> JSONValue {
        at += 1
        var elements: [JSONValue] = []
        skipSpace()
        if take("]") { return .array(elements) }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if take(",") { continue }
            if take("]") { return .array(elements) }
            throw unexpected
        }
    }

    private mutating func digits() throws(JSONFault) {
        let from = at
        while at < bytes.endIndex, bytes[at] &- 48 <= 9 { at += 1 }
        if at == from { throw fault(.numberMalformed) }
    }

    private mutating func number() throws(JSONFault) -> JSONValue {
        let from = at
        _ = take("-")
        let first = at
        try digits()
        if bytes[first] == UInt8(ascii: "0") && at - first > 1 { throw fault(.numberMalformed) }
        var isInteger = true
        if take(".") {
            isInteger = false
            try digits()
        }
        if take("e") || take("E") {
            isInteger = false
            if !take("+") { _ = take("-") }
            try digits()
        }
        let text = String(decoding: bytes[from..<at], as: UTF8.self)
        if isInteger, let integer = Int64(text) { return .integer(integer) }
        guard let number = Double(text), number.isFinite else { throw fault(.numberTooLarge) }
        return .number(number)
    }

    private mutating func string() throws(JSONFault) -> String {
        at += 1
        let from = at
        while at < bytes.endIndex, bytes[at] != UInt8(ascii: "\""), bytes[at] != UInt8(ascii: "\\") {
            if bytes[at] < 0x20 { throw fault(.stringControl) }
            at += 1
        }
        guard at < bytes.endIndex else { throw fault(.ended) }
        if bytes[at] == UInt8(ascii: "\"") {
            guard let text = String(validating: bytes[from..<at], as: UTF8.self) else { throw fault(.stringEncoding) }
            at += 1
            return text
        }
        var decoded = Array(bytes[from..<at])
        while at < bytes.endIndex {
            let byte = bytes[at]
            if byte < 0x20 { throw fault(.stringControl) }
            at += 1
            if byte == UInt8(ascii: "\"") {
                guard let text = String(validating: decoded, as: UTF8.self) else { throw fault(.stringEncoding) }
                return text
            }
            if byte == UInt8(ascii: "\\") { try escape(&decoded) } else { decoded.append(byte) }
        }
        throw fault(.ended)
    }

    private mutating func escape(_ decoded: inout [UInt8]) throws(JSONFault) {
        guard at < bytes.endIndex else { throw fault(.ended) }
        let byte = bytes[at]
        at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): decoded.append(byte)
        case UInt8(ascii: "b"): decoded.append(0x08)
        case UInt8(ascii: "f"): decoded.append(0x0C)
        case UInt8(ascii: "n"): decoded.append(0x0A)
        case UInt8(ascii: "r"): decoded.append(0x0D)
        case UInt8(ascii: "t"): decoded.append(0x09)
        case UInt8(ascii: "u"):
            var code = try codeUnit()
            if code >= 0xD800 && code < 0xDC00 {
                guard take("\\"), take("u") else { throw fault(.stringEscape) }
                let low = try codeUnit()
                guard low >= 0xDC00 && low < 0xE000 else { throw fault(.stringEscape) }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw fault(.stringEscape) }
            decoded.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
        default: throw fault(.stringEscape)
        }
    }

    private mutating func codeUnit() throws(JSONFault) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard at < bytes.endIndex, let digit = HTTPSyntax.hexDigit(bytes[at]) else { throw fault(.stringEscape) }
            code = code << 4 | UInt32(digit)
            at += 1
        }
        return code
    }
}
