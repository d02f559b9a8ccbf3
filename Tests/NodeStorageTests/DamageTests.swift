import ClusterBase
import Glibc
import KeyValueStore
import NodePorts
import NodeStorage
import RaftCore
import StoreFolder
import StoreLayout
import Testing

/// Damage to the write-ahead log, byte by byte: no acknowledged entry and no vote may vanish without a word.
@Suite struct DamageTests {
    let folder = Folder()

    static let blockBytes = 32 << 10
    static let headBytes = 7

    /// A directory with three groups and some writes, as a process that was killed leaves it, and what was acknowledged.
    func killed(writes: Int, bytes: Int) throws -> (path: String, acknowledged: [GrowingLog]) {
        let directory = try NodeDirectory.create(folder.path + "/live", identity, smallSettings())
        var logs = (1...3).map { GrowingLog(UInt64($0)) }
        var store = directory.log
        for log in logs { try log.create(in: &store) }
        for i in 0..<writes {
            var batch = WriteBatch()
            for g in logs.indices where g == i % 3 || i % 5 == 0 {
                StoredLog.add(logs[g].grow(1 + i % 2, bytes: bytes), to: &batch)
            }
            try store.write(batch, isSynced: true)
        }
        let copy = folder.path + "/killed"
        Folder.copy(folder.path + "/live", to: copy)
        directory.stop()
        return (copy, logs)
    }

    func logFile(_ path: String) throws -> String {
        path + "/raft/" + (try #require(Folder.names(path + "/raft").last { $0.hasSuffix(".log") }))
    }

    /// Where each record of a write-ahead log begins.
    func recordStarts(_ bytes: [UInt8]) -> [Int] {
        var starts: [Int] = []
        var at = 0
        while at + Self.headBytes <= bytes.count {
            if Self.blockBytes - at % Self.blockBytes < Self.headBytes {
                at += Self.blockBytes - at % Self.blockBytes
                continue
            }
            let length = Int(bytes[at + 4]) | Int(bytes[at + 5]) << 8
            if bytes[at + 6] == 0 { break }
            starts.append(at)
            at += Self.headBytes + length
        }
        return starts
    }

    enum Verdict: Hashable { case intact, damaged }

    /// Opens a copy whose write-ahead log was changed. Either all that was acknowledged is there, or every replica is
    /// marked as damaged, and stays so at the next start.
    func verdict(
        _ path: String, _ acknowledged: [GrowingLog], _ what: String, _ change: (inout [UInt8]) -> Void
    ) throws -> Verdict {
        let copy = folder.path + "/changed"
        Folder.copy(path, to: copy)
        defer { Folder.remove(copy) }
        let file = try logFile(copy)
        var bytes = Folder.read(file)
        change(&bytes)
        Folder.write(file, bytes)
        var verdict = Verdict.intact
        for start in 1...2 {
            let directory: NodeDirectory
            do {
                directory = try NodeDirectory.open(copy, identity, smallSettings())
            } catch {
                // Refused as a whole: nothing is taken for whole that is not.
                guard case .refused(_, .damaged) = error else { throw error }
                return .damaged
            }
            if start == 1 { verdict = directory.findings.isEmpty ? .intact : .damaged }
            #expect(start == 1 || directory.findings.isEmpty, "\(what): found again at the next start")
            for log in acknowledged {
                let found = try restored(log.group, in: directory.log)
                if verdict == .intact {
                    #expect(found?.last == log.last, "\(what): entries of group \(log.group) are lost")
                    #expect(found?.hardState.term == log.newestTerm, "\(what): a vote of group \(log.group) is lost")
                } else {
                    #expect(found == nil, "\(what): group \(log.group) votes and acknowledges after a loss")
                }
            }
        }
        return verdict
    }

    @Test func `a killed process loses nothing that was acknowledged`() throws {
        let (path, acknowledged) = try killed(writes: 100, bytes: 300)
        #expect(try verdict(path, acknowledged, "unchanged") { _ in } == .intact)
    }

    @Test func `no changed byte of a record's header in the last block makes a write vanish unnoticed`() throws {
        let (path, acknowledged) = try killed(writes: 90, bytes: 500)
        let bytes = Folder.read(try logFile(path))
        let lastBlock = (bytes.count - 1) / Self.blockBytes * Self.blockBytes
        #expect(lastBlock > 0)
        let starts = recordStarts(bytes).filter { $0 >= lastBlock }
        #expect(starts.count > 5)
        var damaged = 0
        var tried = 0
        for start in starts {
            for offset in 0..<Self.headBytes {
                // One bit costs as much to try as all eight, and teaches little after the first records.
                for change: UInt8 in start < starts[4] ? [0xFF, 1] : [0xFF] {
                    tried += 1
                    let found = try verdict(path, acknowledged, "byte \(offset) of the header at \(start), \(change)") {
                        $0[start + offset] ^= change
                    }
                    if found == .damaged { damaged += 1 }
                }
            }
        }
        #expect(damaged == tried)
    }

    @Test func `a header of zeros ends no log unnoticed`() throws {
        let (path, acknowledged) = try killed(writes: 90, bytes: 500)
        let bytes = Folder.read(try logFile(path))
        for start in recordStarts(bytes).suffix(12) {
            let found = try verdict(path, acknowledged, "zeros at \(start)") { bytes in
                for i in start..<start + Self.headBytes { bytes[i] = 0 }
            }
            #expect(found == .damaged)
        }
    }

    @Test func `a sector of zeros anywhere in the log is noticed`() throws {
        let (path, acknowledged) = try killed(writes: 120, bytes: 700)
        let bytes = Folder.read(try logFile(path))
        let sectors = bytes.count / 512
        #expect(sectors > 150)
        for sector in 0..<sectors {
            let found = try verdict(path, acknowledged, "sector \(sector) of \(sectors)") { bytes in
                for i in sector * 512..<(sector + 1) * 512 { bytes[i] = 0 }
            }
            #expect(found == .damaged)
        }
    }

    @Test func `a hole that RocksDB reads over is noticed by the numbers`() throws {
        let directory = try NodeDirectory.create(folder.path + "/live", identity, smallSettings())
        var logs = [GrowingLog(1)]
        var store = directory.log
        try logs[0].create(in: &store)
        let file = try logFile(directory.path)
        func append(_ bytes: Int) throws -> Int {
            let before = Folder.size(file)
            try store.write(StoredLog.batch(for: [logs[0].grow(1, bytes: bytes)]), isSynced: true)
            return Folder.size(file) - before
        }
        // A record that ends with its block leaves no fragment in the next one that would miss its beginning.
        let overhead = try append(2_000) - 2_000
        while Self.blockBytes - Folder.size(file) % Self.blockBytes > 6_000 { _ = try append(2_000) }
        let start = Folder.size(file)
        _ = try append(Self.blockBytes - start % Self.blockBytes - overhead)
        let end = Folder.size(file)
        #expect(end % Self.blockBytes == 0)
        for _ in 0..<5 { _ = try append(500) }
        let copy = folder.path + "/killed"
        Folder.copy(directory.path, to: copy)
        directory.stop()

        var bytes = Folder.read(try logFile(copy))
        #expect(recordStarts(bytes).contains(start))
        for i in start..<end { bytes[i] = 0 }
        let holed = folder.path + "/holed"
        Folder.copy(copy, to: holed)
        Folder.write(try logFile(holed), bytes)
        let opened = try NodeDirectory.open(holed, identity, smallSettings())
        // RocksDB sees nothing amiss here, and the last write is there.
        #expect(opened.findings.count == 1)
        #expect(opened.findings.first?.contains("is missing, and later ones are there") == true)
        #expect(try verdict(copy, logs, "a hole from \(start) to \(end)") { $0 = bytes } == .damaged)
    }

    @Test func `a log that ends early is a torn end only if nobody heard of what is gone`() throws {
        let (path, acknowledged) = try killed(writes: 30, bytes: 500)
        let bytes = Folder.read(try logFile(path))
        for start in recordStarts(bytes).suffix(5) {
            let found = try verdict(path, acknowledged, "cut at \(start)") { $0.removeLast($0.count - start) }
            #expect(found == .damaged)
        }
        // A write that was under way: nobody heard of it.
        let found = try verdict(path, acknowledged, "a torn record behind the end") { bytes in
            bytes += [1, 2, 3, 4, 200, 0, 1, 9, 9, 9]
        }
        #expect(found == .intact)
    }

    @Test func `a lost log file, a lost horizon and a stale copy are noticed`() throws {
        let (path, acknowledged) = try killed(writes: 30, bytes: 500)
        let horizon = Folder.read(path + "/horizon")
        for name in ["the log", "the horizon", "the horizon's content"] {
            let copy = folder.path + "/lost"
            Folder.copy(path, to: copy)
            defer { Folder.remove(copy) }
            switch name {
            case "the log": unlink(try logFile(copy))
            case "the horizon": unlink(copy + "/horizon")
            default: Folder.write(copy + "/horizon", [UInt8](repeating: 0xAA, count: horizon.count))
            }
            do {
                let directory = try NodeDirectory.open(copy, identity, smallSettings())
                #expect(!directory.findings.isEmpty, "\(name)")
                for log in acknowledged { #expect(try restored(log.group, in: directory.log) == nil, "\(name)") }
            } catch let refusal as DataDirectoryRefusal {
                guard case .refused(_, .damaged) = refusal else { throw refusal }
            }
        }
    }

    @Test func `a start after damage is above every earlier one, though the log has forgotten those`() throws {
        let directory = try NodeDirectory.create(folder.path + "/live", identity, smallSettings())
        var store = directory.log
        var newest = Incarnation(0)
        for _ in 1...3 { newest = try StoredLog.openNode(identity, in: &store) }
        // What peers are told of is what the horizon knows: nobody misses a pulse.
        let told = directory.log.written
        try store.write(WriteBatch(), isSynced: true)
        #expect(told > 0 && directory.log.written == told)
        let copy = folder.path + "/killed"
        Folder.copy(directory.path, to: copy)
        directory.stop()
        let file = try logFile(copy)
        var bytes = Folder.read(file)
        let starts = recordStarts(bytes)
        bytes.removeLast(bytes.count - starts[2])
        Folder.write(file, bytes)
        let opened = try NodeDirectory.open(copy, identity, smallSettings())
        #expect(!opened.findings.isEmpty)
        #expect(opened.log.written > told + (1 << 32), "a start without findings follows, and tells a number, too")
        var log = opened.log
        let next = try StoredLog.openNode(identity, in: &log)
        #expect(next > newest, "its peers pass over what it says")
        #expect(try StoredLog.openNode(identity, in: &log).rawValue == next.rawValue + 1)
    }

    @Test func `a start that ends while it marks damage goes on with it at the next`() throws {
        let (path, acknowledged) = try killed(writes: 30, bytes: 500)
        Folder.write(path + "/DAMAGED", Array("the log store is damaged\n".utf8))
        do {
            let directory = try NodeDirectory.open(path, identity, smallSettings())
            #expect(!directory.findings.isEmpty)
            for log in acknowledged { #expect(try restored(log.group, in: directory.log) == nil) }
        }
        let directory = try NodeDirectory.open(path, identity, smallSettings())
        #expect(directory.findings.isEmpty)
        for log in acknowledged { #expect(try restored(log.group, in: directory.log) == nil) }
    }
}
