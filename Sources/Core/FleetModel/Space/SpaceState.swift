import ClusterBase

// How a space lies in its state. Every key begins with a kind byte; numbers are big-endian, so that byte order is
// numeric order. The layout is read by later versions: a change needs a new kind byte.

enum SpaceKey {
    enum Kind {
        static let summary: UInt8 = 0x10
        /// ‖ user key → `Head` ‖ value
        static let user: UInt8 = 0x11
        /// ‖ client → `SpaceSession`
        static let session: UInt8 = 0x12
        /// ‖ index of use ‖ client → nothing
        static let use: UInt8 = 0x13
        /// ‖ index → `HistoryRecord`
        static let history: UInt8 = 0x14
    }

    static let summary: [UInt8] = [Kind.summary]

    static func user(_ key: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(1 + key.count)
        bytes.append(Kind.user)
        bytes.append(contentsOf: key)
        return bytes
    }

    static func session(_ client: ClientID) -> [UInt8] { number(Kind.session, client.rawValue) }
    static func history(_ index: LogIndex) -> [UInt8] { number(Kind.history, index.rawValue) }

    static func use(_ index: LogIndex, _ client: ClientID) -> [UInt8] {
        var bytes = number(Kind.use, index.rawValue)
        bytes.appendBigEndian(client.rawValue)
        return bytes
    }

    private static func number(_ kind: UInt8, _ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(17)
        bytes.append(kind)
        bytes.appendBigEndian(number)
        return bytes
    }
}

/// What a space knows of itself as a whole.
struct SpaceSummary {
    /// The last entry that was applied.
    var applied = LogIndex.zero
    var sessionCount: UInt64 = 0
    /// The highest index at which a session that has expired was used.
    var expiredThrough = LogIndex.zero
    var historyChanges: UInt64 = 0
    var historyBytes: UInt64 = 0
    /// Changes up to this entry may be gone.
    var compactedThrough = LogIndex.zero

    var historyIsTooLong: Bool {
        historyChanges > UInt64(SpaceLimits.historyChangesMax) || historyBytes > UInt64(SpaceLimits.historyBytesMax)
    }

    static func read(_ access: some OrderedReader) throws(StoreError) -> SpaceSummary {
        guard let bytes = try access.value(for: SpaceKey.summary) else { return SpaceSummary() }
        guard bytes.count == 48, let applied = bytes.bigEndian64(at: 0), let sessions = bytes.bigEndian64(at: 8),
            let expired = bytes.bigEndian64(at: 16), let changes = bytes.bigEndian64(at: 24),
            let historyBytes = bytes.bigEndian64(at: 32), let compacted = bytes.bigEndian64(at: 40)
        else { throw StoreError(.corrupt, "the space's summary has \(bytes.count) bytes instead of 48") }
        var summary = SpaceSummary()
        summary.applied = LogIndex(applied)
        summary.sessionCount = sessions
        summary.expiredThrough = LogIndex(expired)
        summary.historyChanges = changes
        summary.historyBytes = historyBytes
        summary.compactedThrough = LogIndex(compacted)
        return summary
    }

    func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(48)
        bytes.appendBigEndian(applied.rawValue)
        bytes.appendBigEndian(sessionCount)
        bytes.appendBigEndian(expiredThrough.rawValue)
        bytes.appendBigEndian(historyChanges)
        bytes.appendBigEndian(historyBytes)
        bytes.appendBigEndian(compactedThrough.rawValue)
        return bytes
    }
}

/// What is known of a key beside its value; lies before the value.
struct Head {
    static let byteCount = 24

    var created: Revision
    var modified: Revision
    var version: UInt64

    init(created: Revision, modified: Revision, version: UInt64) {
        self.created = created
        self.modified = modified
        self.version = version
    }

    init?(_ stored: [UInt8]) {
        guard let created = stored.bigEndian64(at: 0), let modified = stored.bigEndian64(at: 8),
            let version = stored.bigEndian64(at: 16)
        else { return nil }
        self.init(created: Revision(created), modified: Revision(modified), version: version)
    }

    static func read(_ key: [UInt8], _ access: some OrderedReader) throws(StoreError) -> Head? {
        try read(key, access.value(for: SpaceKey.user(key)))
    }

    static func read(_ key: [UInt8], _ stored: [UInt8]?) throws(StoreError) -> Head? {
        guard let stored else { return nil }
        guard let head = Head(stored) else { throw corrupt(key, stored) }
        return head
    }

    static func corrupt(_ key: [UInt8], _ stored: [UInt8]) -> StoreError {
        StoreError(.corrupt, "the record of a key of \(key.count) bytes has \(stored.count) bytes, fewer than its head")
    }

    static func value(of stored: [UInt8]) -> ArraySlice<UInt8> { stored.dropFirst(byteCount) }

    func encoded(with value: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Head.byteCount + value.count)
        bytes.appendBigEndian(created.rawValue)
        bytes.appendBigEndian(modified.rawValue)
        bytes.appendBigEndian(version)
        bytes.append(contentsOf: value)
        return bytes
    }
}

/// What the space remembers of one client: the results of its last commands.
struct SpaceSession {
    /// How far a session's place in the order of use may lag behind its last use.
    static let placeSlack = 256
    private static let headBytes = 32
    private static let resultBytes = 25

    var lastUsed = LogIndex.zero
    /// Where it stands in the order of use; zero before it stands anywhere.
    var place = LogIndex.zero
    private(set) var highest: UInt64 = 0
    /// Commands up to here are settled: no result is kept, and none is executed any more.
    private(set) var closedThrough: UInt64 = 0
    /// Kept results, each `resultBytes` long, in the order in which the commands ran.
    private var results: [UInt8] = []

    init() {}

    static func read(_ client: ClientID, _ access: some OrderedReader) throws(StoreError) -> SpaceSession? {
        guard let bytes = try access.value(for: SpaceKey.session(client)) else { return nil }
        guard bytes.count >= headBytes, (bytes.count - headBytes).isMultiple(of: resultBytes),
            let used = bytes.bigEndian64(at: 0), let place = bytes.bigEndian64(at: 8),
            let highest = bytes.bigEndian64(at: 16), let closed = bytes.bigEndian64(at: 24)
        else {
            throw StoreError(.corrupt, "the session of client \(client) has an impossible length of \(bytes.count)")
        }
        var session = SpaceSession()
        session.lastUsed = LogIndex(used)
        session.place = LogIndex(place)
        session.highest = highest
        session.closedThrough = closed
        session.results = Array(bytes[headBytes...])
        return session
    }

    func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(SpaceSession.headBytes + results.count)
        bytes.appendBigEndian(lastUsed.rawValue)
        bytes.appendBigEndian(place.rawValue)
        bytes.appendBigEndian(highest)
        bytes.appendBigEndian(closedThrough)
        bytes.append(contentsOf: results)
        return bytes
    }

    func result(of sequence: UInt64) -> SpaceResult? {
        var at = 0
        while at < results.count {
            if results.bigEndian64(at: at) == sequence {
                guard let revision = results.bigEndian64(at: at + 9), let detail = results.bigEndian64(at: at + 17),
                    let outcome = SpaceResult.Outcome(code: UInt64(results[at + 8]), detail: detail)
                else { return nil }
                return SpaceResult(revision: Revision(revision), outcome: outcome)
            }
            at += SpaceSession.resultBytes
        }
        return nil
    }

    mutating func keep(_ result: SpaceResult, sequence: UInt64, acknowledged: UInt64) {
        highest = max(highest, sequence)
        let window = UInt64(SpaceLimits.sessionWindow)
        closedThrough = max(closedThrough, acknowledged, highest > window ? highest - window : 0)
        drop(through: closedThrough)
        precondition(
            sequence > closedThrough, "command \(sequence) ran though all through \(closedThrough) are settled")
        let (code, detail) = result.outcome.stored
        results.appendBigEndian(sequence)
        results.append(UInt8(code))
        results.appendBigEndian(result.revision.rawValue)
        results.appendBigEndian(detail)
    }

    private mutating func drop(through sequence: UInt64) {
        var isNeeded = false
        var at = 0
        while at < results.count {
            if let kept = results.bigEndian64(at: at), kept <= sequence { isNeeded = true }
            at += SpaceSession.resultBytes
        }
        if !isNeeded { return }
        var left: [UInt8] = []
        at = 0
        while at < results.count {
            if let kept = results.bigEndian64(at: at), kept > sequence {
                left.append(contentsOf: results[at..<at + SpaceSession.resultBytes])
            }
            at += SpaceSession.resultBytes
        }
        results = left
    }
}

extension SpaceResult.Outcome {
    /// As two numbers, for sessions and the wire. Codes are never given a new meaning.
    public var stored: (code: UInt64, detail: UInt64) {
        switch self {
        case .written(let version): (1, version)
        case .deleted: (2, 0)
        case .notFound: (3, 0)
        // No change has revision 0.
        case .conflict(let modified): (4, modified?.rawValue ?? 0)
        case .refused(let refusal): refusal.stored
        }
    }

    public init?(code: UInt64, detail: UInt64) {
        switch code {
        case 1: self = .written(version: detail)
        case 2: self = .deleted
        case 3: self = .notFound
        case 4: self = .conflict(modified: detail == 0 ? nil : Revision(detail))
        default:
            guard let refusal = SpaceRefusal(code: code, detail: detail) else { return nil }
            self = .refused(refusal)
        }
    }
}

extension SpaceRefusal {
    public var stored: (code: UInt64, detail: UInt64) {
        switch self {
        case .malformed: (32, 0)
        case .unknownVersion(let version): (33, version)
        case .packTooLarge(let count): (34, count)
        case .keyEmpty: (35, 0)
        case .keyTooLong(let count): (36, count)
        case .valueTooLong(let count): (37, count)
        case .sequenceInvalid: (38, 0)
        case .sessionUnknown(let born): (39, born.rawValue)
        case .sequenceTooOld(let through): (40, through)
        }
    }

    public init?(code: UInt64, detail: UInt64) {
        switch code {
        case 32: self = .malformed
        case 33: self = .unknownVersion(detail)
        case 34: self = .packTooLarge(detail)
        case 35: self = .keyEmpty
        case 36: self = .keyTooLong(detail)
        case 37: self = .valueTooLong(detail)
        case 38: self = .sequenceInvalid
        case 39: self = .sessionUnknown(bornAtLeast: LogIndex(detail))
        case 40: self = .sequenceTooOld(through: detail)
        default: return nil
        }
    }
}

/// The changes of one entry: count u32, then for each: revision, created, version, key length u32, value length u32, key,
/// value. A deletion has version 0.
struct HistoryRecord {
    private(set) var bytes: [UInt8] = [0, 0, 0, 0]
    private(set) var count = 0
    private static let headBytes = 32

    mutating func add(_ change: SpaceChange) {
        count += 1
        setCount()
        let key = change.key
        var value: [UInt8] = []
        var created = Revision.zero
        var version: UInt64 = 0
        if case .written(let record) = change {
            value = record.value
            created = record.created
            version = record.version
        }
        bytes.appendBigEndian(change.revision.rawValue)
        bytes.appendBigEndian(created.rawValue)
        bytes.appendBigEndian(version)
        bytes.appendBigEndian(UInt32(key.count))
        bytes.appendBigEndian(UInt32(value.count))
        bytes.append(contentsOf: key)
        bytes.append(contentsOf: value)
    }

    private mutating func setCount() {
        bytes[2] = UInt8(truncatingIfNeeded: count >> 8)
        bytes[3] = UInt8(truncatingIfNeeded: count)
    }

    static func count(in record: [UInt8]) -> Int? {
        record.count < 4 ? nil : Int(record[0]) << 24 | Int(record[1]) << 16 | Int(record[2]) << 8 | Int(record[3])
    }

    /// Calls `body` for every change until it returns false. Returns false when the record is malformed.
    static func read(_ record: [UInt8], _ body: (SpaceChange) -> Bool) -> Bool {
        guard let count = count(in: record) else { return false }
        var at = 4
        for _ in 0..<count {
            guard let revision = record.bigEndian64(at: at), let created = record.bigEndian64(at: at + 8),
                let version = record.bigEndian64(at: at + 16), let lengths = record.bigEndian64(at: at + 24)
            else { return false }
            let keyCount = Int(lengths >> 32)
            let valueCount = Int(lengths & 0xFFFF_FFFF)
            at += headBytes
            if record.count - at < keyCount + valueCount { return false }
            let key = Array(record[at..<at + keyCount])
            let value = Array(record[at + keyCount..<at + keyCount + valueCount])
            at += keyCount + valueCount
            let change: SpaceChange =
                version == 0
                ? .deleted(key: key, Revision(revision))
                : .written(
                    SpaceRecord(
                        key: key, value: value, created: Revision(created), modified: Revision(revision),
                        version: version))
            if !body(change) { return true }
        }
        return at == record.count
    }
}
