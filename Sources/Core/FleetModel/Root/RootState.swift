internal import BinaryCoding
import ClusterBase
internal import Schema

// How the root lies in its state. Every key begins with a kind byte: those of `RootTable`, and the ones below, which
// nobody outside asks for. The layout is read by later versions: a change needs a new kind byte.

enum RootKey {
    enum Kind {
        static let summary: UInt8 = 0x20
        /// ‖ name → id of the node with that name; not of removed ones
        static let nodeName: UInt8 = 0x40
        /// ‖ number of removal → id of the removed node
        static let removal: UInt8 = 0x41
        /// ‖ credential → name of its operator
        static let credential: UInt8 = 0x42
        /// ‖ request id → `KeptRequest`
        static let request: UInt8 = 0x43
        /// ‖ time ‖ request id → nothing
        static let requestTime: UInt8 = 0x44
        /// ‖ index → `RootHistory`
        static let history: UInt8 = 0x45
        static let sessions: UInt8 = 0x46
        static let session: UInt8 = 0x47
        static let sessionResult: UInt8 = 0x48
    }

    static let sessionKinds = SessionBook.Kinds(
        book: Kind.sessions, session: Kind.session, result: Kind.sessionResult)

    static let summary: [UInt8] = [Kind.summary]
    static func nodeName(_ name: String) -> [UInt8] { [Kind.nodeName] + Array(name.utf8) }
    static func removal(_ number: UInt64) -> [UInt8] { key(Kind.removal, number) }
    static func credential(_ credential: [UInt8]) -> [UInt8] { [Kind.credential] + credential }
    static func request(_ request: [UInt8]) -> [UInt8] { [Kind.request] + request }
    static func requestTime(_ time: LogTime, _ request: [UInt8]) -> [UInt8] {
        key(Kind.requestTime, time.rawValue) + request
    }
    static func history(_ index: LogIndex) -> [UInt8] { key(Kind.history, index.rawValue) }

    private static func key(_ kind: UInt8, _ number: UInt64) -> [UInt8] {
        var bytes = [kind]
        bytes.appendBigEndian(number)
        return bytes
    }

    static func corrupt(_ key: [UInt8]) -> StoreError {
        let name = key.prefix(40).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        return StoreError(.corrupt, "the root's row under key \(name) is none that this version can read")
    }
}

extension OrderedReader {
    func record<Record: RootMapped>(_ type: Record.Type, _ key: [UInt8]) throws(StoreError) -> Record? {
        guard let bytes = try value(for: key) else { return nil }
        guard let record = Record.decode(bytes) else { throw RootKey.corrupt(key) }
        return record
    }
}

/// What the root knows of its own bookkeeping.
struct RootSummary: RootMapped {
    /// The last entry that was applied.
    var applied = LogIndex.zero
    var time = LogTime.zero
    var requests: UInt64 = 0
    var historyChanges: UInt64 = 0
    var historyBytes: UInt64 = 0
    /// Changes up to this entry may be gone.
    var compactedThrough = LogIndex.zero
    /// Of those that are not removed.
    var nodes: UInt64 = 0
    var nodesRemoved: UInt64 = 0
    /// Removals ever.
    var removals: UInt64 = 0
    var spaces: UInt64 = 0
    var tokens: UInt64 = 0
    var operators: UInt64 = 0
    var backups: UInt64 = 0
    var tenants: UInt64 = 0
    var cells: UInt64 = 0
    var images: UInt64 = 0
    var events: UInt64 = 0
    /// Events up to here are gone.
    var eventsThrough = Revision.zero

    var historyIsTooLong: Bool {
        historyChanges > RootLimits.historyChangesMax || historyBytes > RootLimits.historyBytesMax
    }

    static func read(_ access: some OrderedReader) throws(StoreError) -> RootSummary {
        try access.record(RootSummary.self, RootKey.summary) ?? RootSummary()
    }

    init() {}

    init?(_ wire: WireRootSummary) {
        applied = LogIndex(wire.applied)
        time = LogTime(wire.time)
        requests = wire.requests
        historyChanges = wire.historyChanges
        historyBytes = wire.historyBytes
        compactedThrough = LogIndex(wire.compactedThrough)
        nodes = wire.nodes
        nodesRemoved = wire.nodesRemoved
        removals = wire.removals
        spaces = wire.spaces
        tokens = wire.tokens
        operators = wire.operators
        backups = wire.backups
        tenants = wire.tenants
        cells = wire.cells
        images = wire.images
        events = wire.events
        eventsThrough = Revision(wire.eventsThrough)
    }

    var wire: WireRootSummary {
        WireRootSummary(
            applied: applied.rawValue, time: time.rawValue, requests: requests, historyChanges: historyChanges,
            historyBytes: historyBytes, compactedThrough: compactedThrough.rawValue, nodes: nodes,
            nodesRemoved: nodesRemoved, removals: removals, spaces: spaces, tokens: tokens, operators: operators,
            backups: backups, tenants: tenants, cells: cells,
            images: images, events: events, eventsThrough: eventsThrough.rawValue)
    }
}

/// The outcome of a command with a request id.
struct KeptRequest: RootMapped {
    var digest: UInt64
    var at: LogTime
    var result: RootResult

    init(digest: UInt64, at: LogTime, result: RootResult) {
        self.digest = digest
        self.at = at
        self.result = result
    }

    init?(_ wire: WireKeptRequest) {
        guard let result = wire.result.flatMap(RootResult.init) else { return nil }
        self.init(digest: wire.digest, at: LogTime(wire.at), result: result)
    }

    var wire: WireKeptRequest { WireKeptRequest(digest: digest, at: at.rawValue, result: result.wire) }
}

extension RootSettings {
    static func read(_ access: some OrderedReader) throws(StoreError) -> RootSettings {
        var settings = RootSettings()
        var bad: [UInt8]?
        try access.scan(.prefix([RootTable.settings.kind])) { key, value in
            guard let row = RootSettingValue.decode(value) else {
                bad = key
                return false
            }
            settings[row.setting] = row.value
            return true
        }
        if let bad { throw RootKey.corrupt(bad) }
        return settings
    }
}

/// The checks of a command's fields that need no state.
package enum RootCheck {
    package static func isName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        guard (1...RootLimits.nameBytesMax).contains(bytes.count), let first = bytes.first, let last = bytes.last else {
            return false
        }
        func isPlain(_ byte: UInt8) -> Bool {
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        }
        return isPlain(first) && isPlain(last)
            && bytes.allSatisfy { isPlain($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".") }
    }

    static func isText(_ text: String) -> Bool {
        text.utf8.count <= RootLimits.textBytesMax && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }

    /// `host:port`, with brackets around an IPv6 address.
    static func isAddress(_ address: String) -> Bool {
        let bytes = Array(address.utf8)
        guard bytes.count <= RootLimits.addressBytesMax, let colon = bytes.lastIndex(of: UInt8(ascii: ":")) else {
            return false
        }
        let host = bytes[..<colon]
        let port = bytes[(colon + 1)...]
        guard !host.isEmpty, (1...5).contains(port.count) else { return false }
        var number = 0
        for byte in port {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return false }
            number = number * 10 + Int(byte - UInt8(ascii: "0"))
        }
        let isBracketed = host.first == UInt8(ascii: "[") && host.last == UInt8(ascii: "]") && host.count > 2
        if !isBracketed && host.contains(UInt8(ascii: ":")) { return false }
        return (1...65_535).contains(number) && host.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") }
    }

    static func isHash(_ bytes: [UInt8]) -> Bool { bytes.count == RootLimits.hashBytes }

    package static func refusal(of about: NodeDescription) -> RootRefusal? {
        if !isName(about.name) { return .invalid(.name) }
        if !isText(about.locality.region) { return .invalid(.region) }
        if !isText(about.locality.zone) { return .invalid(.zone) }
        if !isText(about.locality.rack) { return .invalid(.rack) }
        if !isAddress(about.peerAddress) { return .invalid(.peerAddress) }
        if !isAddress(about.adminAddress) { return .invalid(.adminAddress) }
        if !isHash(about.key) { return .invalid(.key) }
        if !isText(about.programVersion) { return .invalid(.programVersion) }
        if about.level == 0 { return .invalid(.level) }
        if about.trusts.count > RootLimits.authoritiesMax || !about.trusts.allSatisfy(isHash) {
            return .invalid(.fingerprint)
        }
        return nil
    }

    static func refusal(of certificate: NodeCertificate) -> RootRefusal? {
        isHash(certificate.fingerprint) && isHash(certificate.issuer) ? nil : .invalid(.fingerprint)
    }

    static func isCertificate(_ bytes: [UInt8]) -> Bool { (1...RootLimits.certificateBytesMax).contains(bytes.count) }
}
