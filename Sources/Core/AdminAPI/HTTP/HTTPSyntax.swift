/// The methods that some route knows.
package enum HTTPMethod: UInt8, Hashable, Sendable, CaseIterable {
    case get, head, put, post, delete
    /// One that HTTP knows and no route here: who sends it is told which ones there are.
    case other

    package var name: String {
        switch self {
        case .get: "GET"
        case .head: "HEAD"
        case .put: "PUT"
        case .post: "POST"
        case .delete: "DELETE"
        case .other: "OPTIONS"
        }
    }
}

/// A stretch of a parser's bytes, from the first byte of its message. Empty at 0 means that it is not there.
@frozen package struct ByteRange: Hashable, Sendable {
    @usableFromInline var lower: UInt32
    @usableFromInline var upper: UInt32

    @inlinable init(_ lower: Int, _ upper: Int) {
        self.lower = UInt32(truncatingIfNeeded: lower)
        self.upper = UInt32(truncatingIfNeeded: upper)
    }

    package static let none = ByteRange(0, 0)
    @inlinable package var isThere: Bool { upper != 0 }
    @inlinable package var isEmpty: Bool { lower == upper }
    @inlinable package var start: Int { Int(lower) }
    @inlinable package var end: Int { Int(upper) }
    @inlinable package var count: Int { Int(upper) - Int(lower) }
}

/// Character classes and words of HTTP/1.1 (RFC 9110, RFC 9112).
enum HTTPSyntax {
    static let lineFeed = UInt8(ascii: "\n")
    static let carriageReturn = UInt8(ascii: "\r")
    static let space = UInt8(ascii: " ")
    static let tab = UInt8(ascii: "\t")
    static let colon = UInt8(ascii: ":")

    /// RFC 9110 5.6.2, a bit for each character below 128.
    private static let tokens: (UInt64, UInt64) = {
        var low: UInt64 = 0
        var high: UInt64 = 0
        for byte in "!#$%&'*+-.^_`|~0123456789".utf8 {
            if byte < 64 { low |= 1 << UInt64(byte) } else { high |= 1 << UInt64(byte - 64) }
        }
        for letter in UInt64(1)...26 { high |= 1 << letter | 1 << (letter + 32) }
        return (low, high)
    }()

    @inline(__always) static func isToken(_ byte: UInt8) -> Bool {
        // The bits of `tokens`, as numbers so that the test is two instructions; a test compares them.
        let bits: UInt64 = byte < 64 ? 0x03FF_6CFA_0000_0000 : byte < 128 ? 0x57FF_FFFF_C7FF_FFFE : 0
        return (bits >> UInt64(byte & 63)) & 1 != 0
    }

    static func isTokenByTheBook(_ byte: UInt8) -> Bool {
        byte < 64 ? tokens.0 >> UInt64(byte) & 1 != 0 : byte < 128 ? tokens.1 >> UInt64(byte - 64) & 1 != 0 : false
    }

    /// What a field's value may hold: no control but the tab. Bytes from 128 on are nobody's business here.
    @inline(__always) static func isFieldByte(_ byte: UInt8) -> Bool {
        (byte >= 0x20 && byte != 0x7F) || byte == tab
    }

    @inline(__always) static func isBlank(_ byte: UInt8) -> Bool { byte == space || byte == tab }

    /// True when `bytes[lower ..< upper]` is `word` in any case; `word` is in lower case.
    @inline(__always) static func matches(
        _ bytes: Span<UInt8>, _ lower: Int, _ upper: Int, _ word: [UInt8]
    ) -> Bool {
        if upper - lower != word.count { return false }
        for i in 0..<word.count where lowercased(bytes[lower + i]) != word[i] { return false }
        return true
    }

    @inline(__always) static func lowercased(_ byte: UInt8) -> UInt8 {
        byte >= 65 && byte <= 90 ? byte | 0x20 : byte
    }

    /// Where the next line feed is; the end when there is none.
    @inline(__always) static func lineFeed(in bytes: Span<UInt8>, from: Int, to end: Int) -> Int {
        var at = from
        while at < end && bytes[at] != lineFeed { at += 1 }
        return at
    }

    /// The value of digits only; nil for anything else and beyond 2^53.
    static func decimal(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int) -> Int? {
        if lower >= upper || upper - lower > 15 { return nil }
        var value = 0
        for i in lower..<upper {
            let digit = bytes[i] &- 48
            if digit > 9 { return nil }
            value = value * 10 + Int(digit)
        }
        return value
    }

    /// True when all are digits, however many.
    static func isDecimal(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int) -> Bool {
        if lower >= upper { return false }
        for i in lower..<upper where bytes[i] &- 48 > 9 { return false }
        return true
    }

    @inline(__always) static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }

    /// Field names that a parser acts upon, in lower case.
    enum Name {
        static let host = Array("host".utf8)
        static let accept = Array("accept".utf8)
        static let ifMatch = Array("if-match".utf8)
        static let lastEvent = Array("last-event-id".utf8)
        static let expect = Array("expect".utf8)
        static let connection = Array("connection".utf8)
        static let contentType = Array("content-type".utf8)
        static let authorization = Array("authorization".utf8)
        static let contentLength = Array("content-length".utf8)
        static let idempotencyKey = Array("idempotency-key".utf8)
        static let transferEncoding = Array("transfer-encoding".utf8)
        static let chunked = Array("chunked".utf8)
        static let close = Array("close".utf8)
        static let keepAlive = Array("keep-alive".utf8)
        static let proceed = Array("100-continue".utf8)
    }

    /// The reason phrase; nobody acts on it.
    static func reason(_ status: Int) -> String {
        switch status {
        case 100: "Continue"
        case 200: "OK"
        case 201: "Created"
        case 202: "Accepted"
        case 204: "No Content"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 410: "Gone"
        case 412: "Precondition Failed"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 415: "Unsupported Media Type"
        case 417: "Expectation Failed"
        case 421: "Misdirected Request"
        case 422: "Unprocessable Content"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        case 505: "HTTP Version Not Supported"
        case 507: "Insufficient Storage"
        default: "Status"
        }
    }
}

extension [UInt8] {
    /// Appends a number in decimal.
    mutating func append(decimal number: UInt64) {
        if number < 10 {
            append(48 + UInt8(truncatingIfNeeded: number))
            return
        }
        // The lowest eight digits wait in a word, the lowest in its top.
        if number >= 100_000_000 { append(decimal: number / 100_000_000) }
        var rest = UInt32(truncatingIfNeeded: number % 100_000_000)
        var word: UInt64 = 0
        var count = 0
        while rest > 0 || (number >= 100_000_000 && count < 8) {
            word = word << 8 | UInt64(48 + rest % 10)
            rest /= 10
            count += 1
        }
        for _ in 0..<count {
            append(UInt8(truncatingIfNeeded: word))
            word >>= 8
        }
    }

    /// How many digits `number` has.
    static func digits(_ number: UInt64) -> Int {
        var count = 1
        var rest = number / 10
        while rest > 0 {
            count += 1
            rest /= 10
        }
        return count
    }

    mutating func append(text: String) { append(contentsOf: text.utf8) }
}
