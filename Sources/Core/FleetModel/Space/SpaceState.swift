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
        /// ‖ name → `SpaceLock`
        static let lock: UInt8 = 0x15
        /// ‖ revision of the last renewal ‖ name → nothing
        static let renewal: UInt8 = 0x16
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

    static func lock(_ name: String) -> [UInt8] { [Kind.lock] + name.utf8 }

    static func renewal(_ revision: Revision, _ name: String) -> [UInt8] {
        number(Kind.renewal, revision.rawValue) + name.utf8
    }

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
    /// Nothing is taken any more.
    var hasEnded = false
    var locks: UInt64 = 0
    /// This and `locks` are stored where there is something to tell: programs of before the level never meet them.
    private static let longBytes = 57

    var historyIsTooLong: Bool {
        historyChanges > UInt64(SpaceLimits.historyChangesMax) || historyBytes > UInt64(SpaceLimits.historyBytesMax)
    }

    static func read(_ access: some OrderedReader) throws(StoreError) -> SpaceSummary {
        guard let bytes = try access.row(for: SpaceKey.summary) else { return SpaceSummary() }
        guard bytes.count == 48 || bytes.count == longBytes, let applied = bytes.bigEndian64(at: 0),
            let sessions = bytes.bigEndian64(at: 8),
            let expired = bytes.bigEndian64(at: 16), let changes = bytes.bigEndian64(at: 24),
            let historyBytes = bytes.bigEndian64(at: 32), let compacted = bytes.bigEndian64(at: 40)
        else {
            throw StoreError(.corrupt, "the space's summary has \(bytes.count) bytes instead of 48 or \(longBytes)")
        }
        var summary = SpaceSummary()
        summary.applied = LogIndex(applied)
        summary.sessionCount = sessions
        summary.expiredThrough = LogIndex(expired)
        summary.historyChanges = changes
        summary.historyBytes = historyBytes
        summary.compactedThrough = LogIndex(compacted)
        if bytes.count == longBytes {
            summary.hasEnded = bytes.bytes[48] != 0
            summary.locks = bytes.bigEndian64(at: 49) ?? 0
        }
        return summary
    }

    func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(SpaceSummary.longBytes + 4)
        bytes.appendBigEndian(applied.rawValue)
        bytes.appendBigEndian(sessionCount)
        bytes.appendBigEndian(expiredThrough.rawValue)
        bytes.appendBigEndian(historyChanges)
        bytes.appendBigEndian(historyBytes)
        bytes.appendBigEndian(compactedThrough.rawValue)
        if hasEnded || locks > 0 {
            bytes.append(hasEnded ? 1 : 0)
            bytes.appendBigEndian(locks)
        }
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

    init?(_ stored: StoredRow) {
        guard let created = stored.bigEndian64(at: 0), let modified = stored.bigEndian64(at: 8),
            let version = stored.bigEndian64(at: 16)
        else { return nil }
        self.init(created: Revision(created), modified: Revision(modified), version: version)
    }

    static func read(_ stateKey: [UInt8], _ stored: StoredRow?) throws(StoreError) -> Head? {
        guard let stored else { return nil }
        guard let head = Head(stored) else { throw corrupt(stateKey.count - 1, stored.count) }
        return head
    }

    static func corrupt(_ keyBytes: Int, _ storedBytes: Int) -> StoreError {
        StoreError(.corrupt, "the record of a key of \(keyBytes) bytes has \(storedBytes) bytes, fewer than its head")
    }

    static func value(of stored: StoredRow) -> ArraySlice<UInt8> { stored.bytes[byteCount..<stored.count] }

    func encoded(with value: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        // With room for the store's checksum.
        bytes.reserveCapacity(Head.byteCount + value.count + 4)
        bytes.appendBigEndian(created.rawValue)
        bytes.appendBigEndian(modified.rawValue)
        bytes.appendBigEndian(version)
        bytes.append(contentsOf: value)
        return bytes
    }
}

/// What the space remembers of one client: the results of its last commands. It is the stored bytes, changed in place:
/// last use, place, highest sequence, closed through, then the results, each `resultBytes` long, in the order in which
/// the commands ran.
struct SpaceSession {
    /// How far a session's place in the order of use may lag behind its last use.
    static let placeSlack = 256
    private static let headBytes = 32
    private static let resultBytes = 25

    private(set) var encoded: [UInt8]

    init() { encoded = [UInt8](repeating: 0, count: SpaceSession.headBytes) }

    var lastUsed: LogIndex {
        get { LogIndex(word(at: 0)) }
        set { set(newValue.rawValue, at: 0) }
    }
    /// Where it stands in the order of use; zero before it stands anywhere.
    var place: LogIndex {
        get { LogIndex(word(at: 8)) }
        set { set(newValue.rawValue, at: 8) }
    }
    private(set) var highest: UInt64 {
        get { word(at: 16) }
        set { set(newValue, at: 16) }
    }
    /// Commands up to here are settled: no result is kept, and none is executed any more.
    private(set) var closedThrough: UInt64 {
        get { word(at: 24) }
        set { set(newValue, at: 24) }
    }

    static func read(_ client: ClientID, _ access: some OrderedReader) throws(StoreError) -> SpaceSession? {
        guard let bytes = try access.value(for: SpaceKey.session(client)) else { return nil }
        guard bytes.count >= headBytes, (bytes.count - headBytes).isMultiple(of: resultBytes) else {
            throw StoreError(.corrupt, "the session of client \(client) has an impossible length of \(bytes.count)")
        }
        var session = SpaceSession()
        session.encoded = bytes
        return session
    }

    func result(of sequence: UInt64) -> SpaceResult? {
        var at = SpaceSession.headBytes
        while at < encoded.count {
            if word(at: at) == sequence {
                guard let outcome = SpaceResult.Outcome(code: UInt64(encoded[at + 8]), detail: word(at: at + 17)) else {
                    return nil
                }
                return SpaceResult(revision: Revision(word(at: at + 9)), outcome: outcome)
            }
            at += SpaceSession.resultBytes
        }
        return nil
    }

    mutating func keep(_ result: SpaceResult, sequence: UInt64, acknowledged: UInt64) {
        let top = max(highest, sequence)
        highest = top
        let window = UInt64(SpaceLimits.sessionWindow)
        let closed = max(closedThrough, acknowledged, top > window ? top - window : 0)
        closedThrough = closed
        drop(through: closed)
        precondition(sequence > closed, "command \(sequence) ran though all through \(closed) are settled")
        let (code, detail) = result.outcome.stored
        encoded.appendBigEndian(sequence)
        encoded.append(UInt8(code))
        encoded.appendBigEndian(result.revision.rawValue)
        encoded.appendBigEndian(detail)
    }

    /// Takes out settled results. They mostly stand together, at the front: each run of them goes in one move.
    private mutating func drop(through sequence: UInt64) {
        var at = SpaceSession.headBytes
        while at < encoded.count {
            var end = at
            while end < encoded.count, word(at: end) <= sequence { end += SpaceSession.resultBytes }
            if end > at { encoded.removeSubrange(at..<end) }
            // What stands here now is not settled.
            at += SpaceSession.resultBytes
        }
    }

    private func word(at offset: Int) -> UInt64 {
        guard let word = encoded.bigEndian64(at: offset) else {
            preconditionFailure("a session of \(encoded.count) bytes has no number at \(offset)")
        }
        return word
    }

    private mutating func set(_ value: UInt64, at offset: Int) {
        for i in 0..<8 { encoded[offset + i] = UInt8(truncatingIfNeeded: value >> UInt64(56 - 8 * i)) }
    }
}

extension SpaceResult.Outcome {
    /// As two numbers, for sessions and the wire. Codes are never given a new meaning.
    package var stored: (code: UInt64, detail: UInt64) {
        switch self {
        case .written(let version): (1, version)
        case .deleted: (2, 0)
        case .notFound: (3, 0)
        // No change has revision 0.
        case .conflict(let modified): (4, modified?.rawValue ?? 0)
        case .held(let token): (5, token.rawValue)
        case .taken(let token): (6, token.rawValue)
        case .refused(let refusal): refusal.stored
        }
    }

    package init?(code: UInt64, detail: UInt64) {
        switch code {
        case 1: self = .written(version: detail)
        case 2: self = .deleted
        case 3: self = .notFound
        case 4: self = .conflict(modified: detail == 0 ? nil : Revision(detail))
        case 5: self = .held(token: Revision(detail))
        case 6: self = .taken(token: Revision(detail))
        default:
            guard let refusal = SpaceRefusal(code: code, detail: detail) else { return nil }
            self = .refused(refusal)
        }
    }
}

extension SpaceRefusal {
    package var stored: (code: UInt64, detail: UInt64) {
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
        case .ended: (41, 0)
        case .lockInvalid: (42, 0)
        case .tooManyLocks: (43, 0)
        case .lockLost(let held): (44, held?.rawValue ?? 0)
        }
    }

    package init?(code: UInt64, detail: UInt64) {
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
        case 41: self = .ended
        case 42: self = .lockInvalid
        case 43: self = .tooManyLocks
        case 44: self = .lockLost(held: detail == 0 ? nil : Revision(detail))
        default: return nil
        }
    }
}

/// The changes of one entry: count u32, then for each: revision, created, version, key length u32, value length u32, key,
/// value. A deletion has version 0.
struct HistoryRecord {
    private(set) var bytes: [UInt8] = [0, 0, 0, 0]
    private(set) var count = 0
    static let headBytes = 32

    mutating func add(written key: [UInt8], _ value: [UInt8], _ head: Head) {
        begin(head.modified, created: head.created, version: head.version, key, valueBytes: value.count)
        bytes.append(contentsOf: value)
    }

    mutating func add(deleted key: [UInt8], _ revision: Revision) {
        begin(revision, created: .zero, version: 0, key, valueBytes: 0)
    }

    private mutating func begin(
        _ revision: Revision, created: Revision, version: UInt64, _ key: [UInt8], valueBytes: Int
    ) {
        // Room for this one alone would be made anew for each of a pack.
        if count == 0 { bytes.reserveCapacity(bytes.count + HistoryRecord.headBytes + key.count + valueBytes + 16) }
        count += 1
        setCount()
        bytes.appendBigEndian(revision.rawValue)
        bytes.appendBigEndian(created.rawValue)
        bytes.appendBigEndian(version)
        bytes.appendBigEndian(UInt32(key.count))
        bytes.appendBigEndian(UInt32(valueBytes))
        bytes.append(contentsOf: key)
    }

    private mutating func setCount() {
        bytes[2] = UInt8(truncatingIfNeeded: count >> 8)
        bytes[3] = UInt8(truncatingIfNeeded: count)
    }

    static func count(in record: [UInt8]) -> Int? { count(in: StoredRow(record, valueCount: record.count)) }

    static func count(in record: StoredRow) -> Int? {
        let bytes = record.bytes
        return record.count < 4
            ? nil : Int(bytes[0]) << 24 | Int(bytes[1]) << 16 | Int(bytes[2]) << 8 | Int(bytes[3])
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
