public import ClusterBase

/// `Idempotency-Key`: what makes a retry harmless. The first answer is kept and given again.
public enum IdempotencyKey: Hashable, Sendable {
    /// `client:sequence[;ack=N][;born=INDEX]`: a client's commands, counted from 1. `ack`: it has the answers of all up to
    /// N. `born`: a log index it had heard of when it drew its id.
    case session(ClientID, sequence: UInt64, acknowledged: UInt64, born: LogIndex)
    /// A UUID for one call, with the same `born`.
    case once(high: UInt64, low: UInt64, born: LogIndex)

    /// The session that a space keeps the result in.
    public var client: ClientID {
        switch self {
        case .session(let client, _, _, _): client
        // Half of a random UUID's bits are as random as all of them; 0 means no session.
        case .once(let high, let low, _): ClientID(high ^ low == 0 ? 1 : high ^ low)
        }
    }

    public var sequence: UInt64 {
        if case .session(_, let sequence, _, _) = self { sequence } else { 1 }
    }

    public var acknowledged: UInt64 {
        if case .session(_, _, let acknowledged, _) = self { acknowledged } else { 0 }
    }

    public var born: LogIndex {
        switch self {
        case .session(_, _, _, let born), .once(_, _, let born): born
        }
    }

    /// Reads a header field's value; nil when it is neither form.
    public init?(_ text: ArraySlice<UInt8>) {
        let fields = text.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
        var acknowledged: UInt64?
        var born: UInt64?
        for field in fields.dropFirst() {
            let parts = field.split(separator: UInt8(ascii: "="), omittingEmptySubsequences: false)
            guard parts.count == 2, let number = Self.number(parts[1]) else { return nil }
            if parts[0].elementsEqual("ack".utf8) && acknowledged == nil {
                acknowledged = number
            } else if parts[0].elementsEqual("born".utf8) && born == nil {
                born = number
            } else {
                return nil
            }
        }
        if let (high, low) = Self.uuid(fields[0]) {
            if acknowledged != nil { return nil }
            self = .once(high: high, low: low, born: LogIndex(born ?? 0))
            return
        }
        let parts = fields[0].split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard parts.count == 2, let client = Self.number(parts[0]), let sequence = Self.number(parts[1]), client > 0,
            sequence > 0, (acknowledged ?? 0) < sequence
        else { return nil }
        self = .session(
            ClientID(client), sequence: sequence, acknowledged: acknowledged ?? 0, born: LogIndex(born ?? 0))
    }

    /// The header field's value.
    public func write(into out: inout [UInt8]) {
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

    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        if digits.isEmpty || digits.count > 20 { return nil }
        var value: UInt64 = 0
        for byte in digits {
            let digit = byte &- 48
            if digit > 9 { return nil }
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
            if overflow || carry { return nil }
            value = sum
        }
        return value
    }

    /// 8-4-4-4-12 hex digits.
    private static func uuid(_ text: ArraySlice<UInt8>) -> (UInt64, UInt64)? {
        if text.count != 36 { return nil }
        var halves: [UInt64] = [0, 0]
        var nibbles = 0
        for (place, byte) in text.enumerated() {
            if [8, 13, 18, 23].contains(place) {
                if byte != UInt8(ascii: "-") { return nil }
                continue
            }
            guard let digit = HTTPSyntax.hexDigit(byte) else { return nil }
            halves[nibbles / 16] = halves[nibbles / 16] << 4 | UInt64(digit)
            nibbles += 1
        }
        return (halves[0], halves[1])
    }
}
