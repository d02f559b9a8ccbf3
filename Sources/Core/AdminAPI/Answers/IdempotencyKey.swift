package import ClusterBase

/// `Idempotency-Key`: what makes a retry harmless. The first answer is kept and given again.
package enum IdempotencyKey: Hashable, Sendable {
    /// `client:sequence[;ack=N][;born=INDEX]`: a client's commands, counted from 1. `ack`: it has the answers of all up to
    /// N. `born`: a log index it had heard of when it drew its id.
    case session(ClientID, sequence: UInt64, acknowledged: UInt64, born: LogIndex)
    /// A UUID for one call, with or without its dashes, and with the same `born`.
    case once(high: UInt64, low: UInt64, born: LogIndex)

    /// The session that a space keeps the result in.
    package var client: ClientID {
        switch self {
        case .session(let client, _, _, _): client
        // Half of a random UUID's bits are as random as all of them; 0 means no session.
        case .once(let high, let low, _): ClientID(high ^ low == 0 ? 1 : high ^ low)
        }
    }

    package var sequence: UInt64 {
        if case .session(_, let sequence, _, _) = self { sequence } else { 1 }
    }

    package var acknowledged: UInt64 {
        if case .session(_, _, let acknowledged, _) = self { acknowledged } else { 0 }
    }

    package var born: LogIndex {
        switch self {
        case .session(_, _, _, let born), .once(_, _, let born): born
        }
    }

    /// Reads a header field's value; nil when it is neither form.
    package init?(_ text: [UInt8]) { self.init(text.span, 0, text.count) }

    init?(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int) {
        var at = lower
        var uuid: (high: UInt64, low: UInt64)?
        var client: UInt64 = 0
        var sequence: UInt64 = 0
        if let found = Self.plainUUID(bytes, lower, upper) {
            uuid = found
            at += 32
        } else if upper - lower >= 36 && bytes[lower + 8] == UInt8(ascii: "-") {
            guard let found = Self.uuid(bytes, lower) else { return nil }
            uuid = found
            at += 36
        } else {
            guard let first = Self.number(bytes, &at, upper), at < upper, bytes[at] == UInt8(ascii: ":") else {
                return nil
            }
            at += 1
            guard let second = Self.number(bytes, &at, upper) else { return nil }
            client = first
            sequence = second
        }
        var acknowledged: UInt64?
        var born: UInt64?
        while at < upper {
            if bytes[at] != UInt8(ascii: ";") { return nil }
            at += 1
            if acknowledged == nil && HTTPSyntax.matches(bytes, at, min(at + 4, upper), Self.acknowledgedName) {
                at += 4
                acknowledged = Self.number(bytes, &at, upper)
                if acknowledged == nil { return nil }
            } else if born == nil && HTTPSyntax.matches(bytes, at, min(at + 5, upper), Self.bornName) {
                at += 5
                born = Self.number(bytes, &at, upper)
                if born == nil { return nil }
            } else {
                return nil
            }
        }
        if let uuid {
            if acknowledged != nil { return nil }
            self = .once(high: uuid.high, low: uuid.low, born: LogIndex(born ?? 0))
            return
        }
        if client == 0 || sequence == 0 { return nil }
        self = .session(
            ClientID(client), sequence: sequence, acknowledged: acknowledged ?? 0, born: LogIndex(born ?? 0))
    }

    private static let acknowledgedName = Array("ack=".utf8)
    private static let bornName = Array("born=".utf8)

    /// The header field's value.
    package func write(into out: inout [UInt8]) {
        switch self {
        case .session(let client, let sequence, let acknowledged, _):
            out.append(decimal: client.rawValue)
            out.append(UInt8(ascii: ":"))
            out.append(decimal: sequence)
            if acknowledged > 0 {
                out.append(text: ";ack=")
                out.append(decimal: acknowledged)
            }
        case .once(let high, let low, _):
            for (place, half) in [high, low].enumerated() {
                for nibble in 0..<16 {
                    if [8, 12, 16, 20].contains(place * 16 + nibble) { out.append(UInt8(ascii: "-")) }
                    let digit = UInt8(truncatingIfNeeded: half >> UInt64(60 - nibble * 4)) & 15
                    out.append(digit < 10 ? 48 + digit : 87 + digit)
                }
            }
        }
        if born > .zero {
            out.append(text: ";born=")
            out.append(decimal: born.rawValue)
        }
    }

    /// The digits at `at`, which goes behind them.
    private static func number(_ bytes: Span<UInt8>, _ at: inout Int, _ upper: Int) -> UInt64? {
        let begin = at
        var value: UInt64 = 0
        while at < upper {
            let digit = bytes[at] &- 48
            if digit > 9 { break }
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
            if overflow || carry { return nil }
            value = sum
            at += 1
        }
        return at == begin || at - begin > 20 ? nil : value
    }

    /// 32 hex digits, to the end or a semicolon.
    private static func plainUUID(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int) -> (high: UInt64, low: UInt64)? {
        if upper - lower < 32 || (upper - lower > 32 && bytes[lower + 32] != UInt8(ascii: ";")) { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for at in lower..<lower + 32 {
            guard let digit = HTTPSyntax.hexDigit(bytes[at]) else { return nil }
            high = high << 4 | low >> 60
            low = low << 4 | UInt64(digit)
        }
        return (high, low)
    }

    /// 8-4-4-4-12 hex digits.
    private static func uuid(_ bytes: Span<UInt8>, _ lower: Int) -> (high: UInt64, low: UInt64)? {
        var high: UInt64 = 0
        var low: UInt64 = 0
        for place in 0..<36 {
            let byte = bytes[lower + place]
            if place == 8 || place == 13 || place == 18 || place == 23 {
                if byte != UInt8(ascii: "-") { return nil }
                continue
            }
            guard let digit = HTTPSyntax.hexDigit(byte) else { return nil }
            high = high << 4 | low >> 60
            low = low << 4 | UInt64(digit)
        }
        return (high, low)
    }
}
