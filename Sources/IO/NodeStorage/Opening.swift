internal import ClusterBase
internal import Glibc
internal import KeyValueStore
internal import NodePorts
internal import RaftCore
internal import StoreLayout

/// How a data directory is opened, and what is made of what is found.
///
///     FORMAT ─▶ raft/ opens ─────▶ whose is it? ─▶ numbers against horizon ─▶ state/ opens ─▶ open
///                    │ damaged        │ not ours         │ some are lost         │ damaged
///                    ▼                ▼                  ▼                       ▼
///                 DAMAGED          refused            DAMAGED              begun anew: the logs
///          open what can be read                         │                 tell whose state it was
///                    └──────────────▶ mark every replica ┘
struct Opening {
    let path: String
    let settings: DirectorySettings
    let cache: BlockCache

    init(_ path: String, _ settings: DirectorySettings) {
        self.path = path
        self.settings = settings
        cache = BlockCache(byteCountMax: settings.blockCacheBytes)
    }

    private var formatPath: String { path + "/FORMAT" }
    private var horizonPath: String { path + "/horizon" }
    var markerPath: String { path + "/DAMAGED" }
    private static let formatWord = "muster data directory, format "
    /// What a directory may hold before a node is made in it: an earlier try, and what a new file system holds.
    static let expectedNames = [
        "FORMAT", "FORMAT.new", "LOCK", "horizon", "horizon.new", "incoming", "lost+found", "raft", "reserve", "state",
    ]

    // MARK: A new directory

    /// Makes what has to be there before the stores; the node's record comes last.
    func prepare(besides others: [String]) throws(DataDirectoryRefusal) -> DirectoryLock {
        try storing { () throws(StoreError) in try Files.makeFolder(path) }
        try checkVacant(besides: others)
        let lock = try DirectoryLock(path)
        if Files.exists(formatPath) {
            try checkFormat()
        } else {
            let word = Array("\(Self.formatWord)\(NodeDirectory.formatVersion)\n".utf8)
            try storing { () throws(StoreError) in try Files.write(word, to: formatPath, in: path) }
        }
        if !Files.exists(horizonPath) {
            try storing { () throws(StoreError) in try HorizonFile.make(horizonPath, in: path, number: 0) }
        }
        return lock
    }

    /// Whether a node may be made here: nothing lies about that is no part of one.
    func checkVacant(besides others: [String]) throws(DataDirectoryRefusal) {
        if let node = enclosingNode { throw .within(path: path, node: node) }
        let names = try storing { () throws(StoreError) in try Files.exists(path) ? Files.names(in: path) : [] }
        for name in names where !Self.expectedNames.contains(name) && !others.contains(name) {
            throw .foreign(path: path, name: name)
        }
    }

    /// Another node's directory that this one would lie in.
    private var enclosingNode: String? {
        var above = path[...]
        while let end = above.dropLast().lastIndex(of: "/"), end > path.startIndex {
            above = path[..<end]
            // What can't be read is not known to be a node's.
            let word = (try? Files.read("\(above)/FORMAT")) ?? []
            if word.starts(with: Self.formatWord.utf8) { return String(above) }
        }
        return nil
    }

    func checkFormat() throws(DataDirectoryRefusal) {
        let bytes = try storing { () throws(StoreError) in try Files.read(formatPath) ?? [] }
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.hasPrefix(Self.formatWord),
            let version = UInt32(text.dropFirst(Self.formatWord.count).prefix { $0 != "\n" })
        else { throw .refused(path: path, .damaged("the file FORMAT does not say a version")) }
        if version > NodeDirectory.formatVersion {
            throw .refused(path: path, .newerFormat(found: version, supported: NodeDirectory.formatVersion))
        }
    }

    // MARK: Opening

    func open(
        _ lock: DirectoryLock, _ identity: NodeIdentity?, isNew: Bool
    ) throws(DataDirectoryRefusal) -> NodeDirectory {
        try storing { () throws(StoreError) in try checkSpace() }
        var notes: [String] = []
        try storing { () throws(StoreError) in
            try logRebuilding.settle()
            try stateRebuilding.settle()
        }
        try rebuildLog(identity, &notes)
        var findings: [String] = []
        if Files.exists(markerPath) { findings.append("damage was found before, and not all of it was marked") }
        let rocks = try openLog(&findings)
        var last = try lastNumber(rocks, &findings)
        let owner = try owner(rocks, identity, isNew: isNew, findings)
        if !findings.isEmpty {
            try storing { () throws(StoreError) in
                try mark(findings)
                try HorizonFile.make(horizonPath, in: path, number: last)
            }
            // Peers may have heard of numbers that are gone, and take a lower one for an older copy's.
            last += Opening.numbersPassedOver
        }
        let horizon = try storing { () throws(StoreError) in try HorizonFile(horizonPath, number: last) }
        let log = LogStore(rocks, horizon, last: last, keptBytes: settings.writeAheadBytesMax)
        if !findings.isEmpty {
            do throws(DirectoryRefusal) {
                var log = log
                try StoredLog.passOverIncarnations(in: &log)
            } catch {
                throw .refused(path: path, error)
            }
            try storing { () throws(StoreError) in
                try markReplicas(log)
                try Files.remove(markerPath, in: path)
            }
        }
        let incoming = path + "/incoming"
        try rebuildState(of: try groups(log), &notes)
        let state = StateStore(try openState(&findings), incoming: incoming)
        try storing { () throws(StoreError) in
            try Files.makeFolder(incoming)
            // Left by a process that ended in the middle of a snapshot.
            for name in try Files.names(in: incoming) { unlink(incoming + "/" + name) }
            _ = try makeReserve()
        }
        return NodeDirectory(
            path: path, identity: owner, log: log, state: state, findings: findings + notes, horizon: horizon,
            settings: settings, lock: lock)
    }

    /// More synced writes than a node makes between two finds of damage.
    private static let numbersPassedOver: UInt64 = 1 << 40

    func storing<Value>(_ body: () throws(StoreError) -> Value) throws(DataDirectoryRefusal) -> Value {
        do throws(StoreError) {
            return try body()
        } catch {
            throw .store(error)
        }
    }

    private func openLog(_ findings: inout [String]) throws(DataDirectoryRefusal) -> RocksStore {
        let reason: String
        do throws(StoreOpenFailure) {
            return try RocksStore(path + "/raft", settings.log(cache), onRot: logRebuilding.want)
        } catch {
            guard case .store(let failure) = error, failure.code == .corrupt else { throw refusal(error) }
            reason = failure.message
        }
        findings.append("the log store is damaged (\(reason))")
        // Opening what can be read makes a whole store of it: from here on only this file knows better.
        try storing { () throws(StoreError) in try mark(findings) }
        do throws(StoreOpenFailure) {
            return try RocksStore(
                path + "/raft", settings.log(cache), isSalvage: true, onRot: logRebuilding.want)
        } catch {
            guard case .store(let failure) = error, failure.code == .corrupt else { throw refusal(error) }
            throw .refused(path: path, .damaged(failure.message))
        }
    }

    func refusal(_ failure: StoreOpenFailure) -> DataDirectoryRefusal {
        switch failure {
        case .inUse: .inUse(path: path, process: 0)
        case .missing: .refused(path: path, .notFormatted)
        case .store(let error): .store(error)
        }
    }

    func owner(
        _ log: RocksStore, _ identity: NodeIdentity?, isNew: Bool, _ findings: [String]
    ) throws(DataDirectoryRefusal) -> NodeIdentity {
        do throws(DirectoryRefusal) {
            let found = try StoredLog.identity(in: log).identity
            if isNew { throw .notEmpty }
            if let identity { _ = try StoredLog.check(identity, in: log) }
            return found
        } catch {
            // A store that holds nothing is a new one only if nothing was ever written to it.
            if error == .notFormatted && !findings.isEmpty {
                throw .refused(path: path, .damaged("it is gone; \(findings.joined(separator: "; "))"))
            }
            if error == .notFormatted, isNew, let identity { return identity }
            throw .refused(path: path, error)
        }
    }

    /// The number that the next write follows, by what the store holds and by what it must hold.
    func lastNumber(_ log: RocksStore, _ findings: inout [String]) throws(DataDirectoryRefusal) -> UInt64 {
        let found: UInt64
        do throws(StoreError) {
            let numbers = try log.numbers()
            found = numbers?.last ?? 0
            if let missing = numbers?.missing {
                findings.append("write \(missing) of the log store is missing, and later ones are there")
            }
        } catch {
            guard error.code == .corrupt else { throw .store(error) }
            throw .refused(path: path, .damaged(error.message))
        }
        switch try storing({ () throws(StoreError) in try HorizonFile.content(horizonPath) }) {
        case .missing: findings.append("the file horizon is missing")
        case .damaged: findings.append("the file horizon is damaged")
        case .number(let number):
            if found < number {
                findings.append("the log store ends with write \(found), and write \(number) was acknowledged")
            }
            return max(found, number)
        }
        return found
    }

    private func groups(_ log: LogStore) throws(DataDirectoryRefusal) -> [GroupID] {
        do throws(StoreError) {
            return try StoredLog.groups(in: log)
        } catch {
            throw .refused(path: path, DirectoryRefusal(unreadable: error))
        }
    }

    private func mark(_ findings: [String]) throws(StoreError) {
        if Files.exists(markerPath) { return }
        try Files.write(Array((findings.joined(separator: "\n") + "\n").utf8), to: markerPath, in: path)
    }

    /// Notes at every replica that votes or acknowledged entries of it may be lost.
    private func markReplicas(_ log: LogStore) throws(StoreError) {
        var log = log
        for group in try StoredLog.groups(in: log) {
            switch try StoredLog.restore(group, cacheBytesMax: 0, in: log) {
            case .none, .tombstone, .damaged(nil, _): break
            case .damaged(let replica?, _), .log(let replica, _, _):
                try StoredLog.markDamaged(group, replica, in: &log)
            }
        }
        // Its number takes the place of those that are lost.
        try log.write(WriteBatch(), isSynced: true)
    }

    private func openState(_ findings: inout [String]) throws(DataDirectoryRefusal) -> RocksStore {
        let folder = path + "/state"
        let reason: String
        do throws(StoreOpenFailure) {
            return try RocksStore(folder, settings.state(cache), onRot: stateRebuilding.want)
        } catch {
            guard case .store(let failure) = error, failure.code == .corrupt else { throw refusal(error) }
            reason = failure.message
        }
        // The state can be had again, from the log or from others. A replica whose log does not reach back that far is
        // found damaged by it.
        findings.append("the state store is damaged, and begins anew (\(reason))")
        try storing { () throws(StoreError) in
            try Files.removeFlatFolder(folder)
            try stateRebuilding.forget()
        }
        do throws(StoreOpenFailure) {
            return try RocksStore(folder, settings.state(cache), onRot: stateRebuilding.want)
        } catch {
            throw refusal(error)
        }
    }

    // MARK: The reserve

    /// A start writes what it replays to files. The reserve is for this too.
    private static let startBytesMin: UInt64 = 16 << 20

    private func checkSpace() throws(StoreError) {
        var mayRelease = true
        while let space = DiskSpace(at: path), space.freeBytes < min(Self.startBytesMin, space.totalBytes / 8) {
            if !mayRelease {
                throw StoreError(
                    .noSpace, "the data directory \(path) has \(space.freeBytes >> 20) MB left, too little to start")
            }
            mayRelease = false
            try Files.remove(path + "/reserve", in: path)
        }
    }

    /// Puts the reserve by, unless it is there or the space is low without it. False when there is none now.
    func makeReserve() throws(StoreError) -> Bool {
        let reserve = path + "/reserve"
        guard let space = DiskSpace(at: path) else { return Files.exists(reserve) }
        let byteCount = settings.reserve(of: space)
        // A start that ended in the middle of it leaves a part of it, which is no reserve yet.
        if Files.byteCount(reserve).map({ $0 >= byteCount }) ?? false { return true }
        if space.freeBytes < settings.space.clearFrom(space) + byteCount { return false }
        return try Files.allocate(reserve, byteCount: byteCount)
    }
}
