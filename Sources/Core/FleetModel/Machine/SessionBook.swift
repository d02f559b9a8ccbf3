internal import BinaryCoding
import ClusterBase

/// What a group knows of processes' sessions, while it works on one entry.
///
///     command ─▶ session known? ──(yes)──▶ result kept? ──(yes)──▶ that result
///                  │ no                       │ no: settled already ──▶ refused
///                  │                          └ carried out, and its result kept until it is settled
///                  ▼
///                born at or after the last use of every session that was forgotten? ──(no)──▶ refused: it may have run
///                  │ yes: it surely has not run
///                  └ a new session
///
/// Sessions that were not used for long are forgotten, and those that were used the longest ago where there are too many.
/// A session costs its row and a row for each result that is not settled yet; results go, as if they were settled, the oldest
/// first where they have too many bytes, and all where the session was not used for as long as nobody asks again. Lives in rows of its own, so that a state
/// that knows no sessions is as it always was.
struct SessionBook {
    /// The first bytes of its rows' keys.
    struct Kinds {
        /// → `Head`
        var book: UInt8
        /// ‖ session → `Entry`
        var session: UInt8
        /// ‖ session ‖ sequence → result
        var result: UInt8
    }

    private struct Head {
        var sessions: UInt64 = 0
        var results: UInt64 = 0
        /// The highest index at which a session was used that is forgotten.
        var forgottenThrough = LogIndex.zero
        /// Of the results.
        var bytes: UInt64 = 0
        /// When sessions that are idle were looked for last.
        var sweptTime = LogTime.zero
    }

    private struct Entry {
        var usedIndex = LogIndex.zero
        var usedTime = LogTime.zero
        var highest: UInt64 = 0
        /// Commands up to here are settled: none is carried out any more.
        var settled: UInt64 = 0
        var results: UInt64 = 0
        var bytes: UInt64 = 0
        /// Results up to here are gone; not stored, since it is `settled` where an entry ends.
        var dropped: UInt64 = 0

        var encoded: [UInt8] {
            var encoded: [UInt8] = []
            encoded.reserveCapacity(48)
            for word in [usedIndex.rawValue, usedTime.rawValue, highest, settled, results, bytes] {
                encoded.appendBigEndian(word)
            }
            return encoded
        }
    }

    enum Admission {
        case known([UInt8])
        case new
        /// Nobody knows whether it ran.
        case unknown(bornAtLeast: LogIndex)
        /// It ran, or never will.
        case settled
        case malformed
    }

    private let kinds: Kinds
    private let index: LogIndex
    private var head = Head()
    private var isRead = false
    /// Those of this entry.
    // hash order: looked up, or read by sorted keys
    private var entries: [CommandOrigin.Session: Entry] = [:]

    init(_ kinds: Kinds, _ index: LogIndex) {
        self.kinds = kinds
        self.index = index
    }

    // MARK: Commands

    mutating func admit(
        _ origin: CommandOrigin, _ time: LogTime, _ access: inout some StateAccess
    ) throws(StoreError) -> Admission {
        if origin.sequence == 0 || origin.settled >= origin.sequence { return .malformed }
        try read(access)
        try sweep(time, &access)
        guard var entry = try entry(origin.session, access) else {
            if origin.born < head.forgottenThrough { return .unknown(bornAtLeast: head.forgottenThrough) }
            try forgetOld(time, &access)
            if head.sessions >= SessionLimits.sessionsMax { _ = try forgetOldest(but: nil, &access) }
            head.sessions += 1
            entries[origin.session] = used(Entry(), time)
            return .new
        }
        if origin.sequence <= entry.settled { return .settled }
        if origin.sequence <= entry.highest, let result = try access.value(for: resultKey(origin)) {
            return .known(result)
        }
        entry = used(entry, time)
        entries[origin.session] = entry
        return .new
    }

    /// In use from its admission on: the command itself may be the one that forgets old sessions.
    private func used(_ entry: Entry, _ time: LogTime) -> Entry {
        var entry = entry
        (entry.usedIndex, entry.usedTime) = (index, time)
        return entry
    }

    /// Keeps the result of a command that was admitted as new.
    mutating func keep(
        _ result: [UInt8], of origin: CommandOrigin, _ time: LogTime, _ access: inout some StateAccess
    ) throws(StoreError) {
        guard var entry = entries[origin.session] else {
            preconditionFailure("the result of \(origin) is kept, which was not admitted")
        }
        entry = used(entry, time)
        entry.highest = max(entry.highest, origin.sequence)
        let window = SessionLimits.window
        entry.settled = max(
            entry.settled, origin.settled, entry.highest > window ? entry.highest - window : 0)
        if origin.sequence > entry.settled {
            access.put(resultKey(origin), result)
            entry.results += 1
            entry.bytes += UInt64(result.count)
            head.results += 1
            head.bytes += UInt64(result.count)
        }
        entries[origin.session] = entry
        if entry.bytes > SessionLimits.sessionBytesMax {
            try dropSettled(&access)
            try dropOldest(of: origin, &access)
        }
        if isTooMuch {
            try dropSettled(&access)
            while isTooMuch, try forgetOldest(but: origin.session, &access) {}
        }
    }

    private var isTooMuch: Bool { head.results > SessionLimits.resultsMax || head.bytes > SessionLimits.bytesMax }

    /// Settles the oldest commands of a session until half of the bytes are left, but not the one that it is at.
    private mutating func dropOldest(
        of origin: CommandOrigin, _ access: inout some StateAccess
    ) throws(StoreError) {
        guard var entry = entries[origin.session], entry.bytes > SessionLimits.sessionBytesMax,
            origin.sequence > entry.dropped + 1
        else { return }
        var left = entry.bytes
        for old in try results(origin.session, from: entry.dropped + 1, through: origin.sequence - 1, access) {
            if left <= SessionLimits.sessionBytesMax / 2 { break }
            left -= min(left, old.bytes)
            entry.settled = old.key.bigEndian64(at: old.key.count - 8) ?? entry.settled
        }
        entries[origin.session] = entry
        try dropSettled(&access)
    }

    /// Once a minute the results of sessions go whose processes have given up by now; the sessions are known for longer.
    private mutating func sweep(_ time: LogTime, _ access: inout some StateAccess) throws(StoreError) {
        guard head.results > 0, time.rawValue > SessionLimits.resultLifetime,
            time.rawValue >= head.sweptTime.advanced(by: SessionLimits.sweepInterval).rawValue
        else { return }
        head.sweptTime = time
        let end = LogTime(time.rawValue - SessionLimits.resultLifetime)
        for (session, found) in try all(access)
        where found.results > 0 && found.usedTime < end && found.usedIndex < index {
            var entry = found
            entry.settled = max(entry.settled, entry.highest)
            entries[session] = entry
            try dropSettled(&access)
            if let entry = entries[session] { access.put(key(session), entry.encoded) }
        }
        // An entry that only forgets has no session of its own to write.
        writeHead(&access)
    }

    /// Forgets sessions that nobody used for long, a bounded number at once.
    mutating func forgetOld(_ time: LogTime, _ access: inout some StateAccess) throws(StoreError) {
        try read(access)
        if head.sessions == 0 || time.rawValue <= SessionLimits.lifetime { return }
        let end = LogTime(time.rawValue - SessionLimits.lifetime)
        let old = try all(access).filter { $0.entry.usedTime < end && $0.entry.usedIndex < index }
        for (session, entry) in old.prefix(SessionLimits.forgottenMax) { try forget(session, entry, &access) }
    }

    /// Writes what belongs to the entry as a whole.
    mutating func finish(_ access: inout some StateAccess) throws(StoreError) {
        if entries.isEmpty { return }
        try dropSettled(&access)
        for session in entries.keys.sorted() {
            guard let entry = entries[session], entry.usedIndex == index else { continue }
            access.put(key(session), entry.encoded)
        }
        writeHead(&access)
    }

    // MARK: Rows

    private func writeHead(_ access: inout some StateAccess) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(40)
        for word in [
            head.sessions, head.results, head.forgottenThrough.rawValue, head.bytes, head.sweptTime.rawValue,
        ] { bytes.appendBigEndian(word) }
        access.put([kinds.book], bytes)
    }

    private mutating func read(_ access: some OrderedReader) throws(StoreError) {
        if isRead { return }
        isRead = true
        guard let bytes = try access.value(for: [kinds.book]) else { return }
        guard bytes.count == 40, let sessions = bytes.bigEndian64(at: 0), let results = bytes.bigEndian64(at: 8),
            let through = bytes.bigEndian64(at: 16), let size = bytes.bigEndian64(at: 24),
            let swept = bytes.bigEndian64(at: 32)
        else { throw StoreError(.corrupt, "what is known of sessions has \(bytes.count) bytes instead of 40") }
        head = Head(
            sessions: sessions, results: results, forgottenThrough: LogIndex(through), bytes: size,
            sweptTime: LogTime(swept))
    }

    private mutating func entry(
        _ session: CommandOrigin.Session, _ access: some OrderedReader
    ) throws(StoreError) -> Entry? {
        if let known = entries[session] { return known }
        guard let bytes = try access.value(for: key(session)) else { return nil }
        let entry = try SessionBook.entry(bytes)
        entries[session] = entry
        return entry
    }

    private static func entry(_ bytes: [UInt8]) throws(StoreError) -> Entry {
        guard bytes.count == 48, let usedIndex = bytes.bigEndian64(at: 0), let usedTime = bytes.bigEndian64(at: 8),
            let highest = bytes.bigEndian64(at: 16), let settled = bytes.bigEndian64(at: 24),
            let results = bytes.bigEndian64(at: 32), let size = bytes.bigEndian64(at: 40)
        else { throw StoreError(.corrupt, "a session has \(bytes.count) bytes instead of 48") }
        return Entry(
            usedIndex: LogIndex(usedIndex), usedTime: LogTime(usedTime), highest: highest, settled: settled,
            results: results, bytes: size, dropped: settled)
    }

    /// All sessions as they are now, ascending.
    private func all(
        _ access: some OrderedReader
    ) throws(StoreError) -> [(session: CommandOrigin.Session, entry: Entry)] {
        var found: [(session: CommandOrigin.Session, entry: Entry)] = []
        var failure: StoreError?
        try access.scan(.prefix([kinds.session])) { key, value in
            guard let node = key.bigEndian64(at: 1), let mark = key.bigEndian64(at: 9) else {
                failure = StoreError(.corrupt, "a session's key has \(key.count) bytes")
                return false
            }
            let session = CommandOrigin.Session(node: node, mark: mark)
            if let known = entries[session] {
                found.append((session, known))
                return true
            }
            do throws(StoreError) {
                found.append((session, try SessionBook.entry(value)))
            } catch {
                failure = error
            }
            return failure == nil
        }
        if let failure { throw failure }
        return found
    }

    /// Takes out the results that are settled since the entry began.
    private mutating func dropSettled(_ access: inout some StateAccess) throws(StoreError) {
        for session in entries.keys.sorted() {
            guard var entry = entries[session], entry.settled > entry.dropped else { continue }
            let gone = try results(session, from: entry.dropped + 1, through: entry.settled, access)
            let bytes = drop(gone, &access)
            entry.dropped = entry.settled
            entry.results -= min(entry.results, UInt64(gone.count))
            entry.bytes -= min(entry.bytes, bytes)
            entries[session] = entry
        }
    }

    /// False when there is no other; those that began in this entry are not looked at, and are few.
    private mutating func forgetOldest(
        but current: CommandOrigin.Session?, _ access: inout some StateAccess
    ) throws(StoreError) -> Bool {
        let others = try all(access).filter { $0.session != current }
        guard let oldest = others.min(by: { $0.entry.usedIndex < $1.entry.usedIndex }) else { return false }
        try forget(oldest.session, oldest.entry, &access)
        return true
    }

    private mutating func forget(
        _ session: CommandOrigin.Session, _ entry: Entry, _ access: inout some StateAccess
    ) throws(StoreError) {
        _ = drop(try results(session, from: 0, through: .max, access), &access)
        access.delete(key(session))
        entries[session] = nil
        head.sessions -= min(head.sessions, 1)
        head.forgottenThrough = max(head.forgottenThrough, entry.usedIndex)
        // An entry that only forgets has no session of its own to write.
        writeHead(&access)
    }

    /// Gives how many bytes they had.
    private mutating func drop(
        _ gone: [(key: [UInt8], bytes: UInt64)], _ access: inout some StateAccess
    ) -> UInt64 {
        for old in gone { access.delete(old.key) }
        let bytes = gone.reduce(0) { $0 + $1.bytes }
        head.results -= min(head.results, UInt64(gone.count))
        head.bytes -= min(head.bytes, bytes)
        return bytes
    }

    private func results(
        _ session: CommandOrigin.Session, from first: UInt64, through last: UInt64, _ access: some OrderedReader
    ) throws(StoreError) -> [(key: [UInt8], bytes: UInt64)] {
        let origin = { CommandOrigin(session: session, sequence: $0, settled: 0, born: .zero) }
        var found: [(key: [UInt8], bytes: UInt64)] = []
        let range = KeyRange(from: resultKey(origin(first)), to: resultKey(origin(last)) + [0])
        try access.scan(range) { key, value in
            found.append((key, UInt64(value.count)))
            return true
        }
        return found
    }

    private func key(_ session: CommandOrigin.Session) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(17)
        bytes.append(kinds.session)
        bytes.appendBigEndian(session.node)
        bytes.appendBigEndian(session.mark)
        return bytes
    }

    private func resultKey(_ origin: CommandOrigin) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(26)
        bytes.append(kinds.result)
        bytes.appendBigEndian(origin.session.node)
        bytes.appendBigEndian(origin.session.mark)
        bytes.appendBigEndian(origin.sequence)
        return bytes
    }
}
