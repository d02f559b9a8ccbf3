import ClusterBase
import Glibc
import KeyValueStore
import NodePorts
import NodeStorage
import RaftCore
import StoreFolder
import StoreLayout
import Testing

/// Rot in files that RocksDB merges in the background: found by nobody's read, it fails every write, at each start again,
/// unless the store is replaced by what is whole of it.
@Suite struct RotTests {
    let folder = Folder()
    var path: String { folder.path + "/data" }

    /// Changes a byte in the middle of `run`, wherever a file of the store has it.
    func rot(_ store: String, run: [UInt8]) throws {
        var struck = 0
        for name in Folder.names(path + "/" + store) where name.hasSuffix(".sst") {
            var bytes = Folder.read(path + "/" + store + "/" + name)
            for at in bytes.indices.dropLast(run.count) where bytes[at] == run[0] {
                guard bytes[at..<at + run.count].elementsEqual(run) else { continue }
                bytes[at + run.count / 2] ^= 0xFF
                struck += 1
                Folder.write(path + "/" + store + "/" + name, bytes)
                break
            }
        }
        #expect(struck > 0, "no file has it")
    }

    /// Writes in one life after another until the store takes no more; each start adds a file to be merged.
    func writeUntilRefused(_ write: (NodeDirectory) throws(StoreError) -> Void) throws -> StoreError {
        for _ in 1...12 {
            let directory = try NodeDirectory.open(path, identity, smallSettings())
            #expect(directory.findings.isEmpty)
            defer { directory.stop() }
            for _ in 1...40 {
                do throws(StoreError) {
                    try write(directory)
                } catch {
                    return error
                }
                usleep(5_000)
            }
        }
        Issue.record("the files were never merged")
        throw StoreError(.writeFailed, "")
    }

    /// Two groups with 200 entries each, whose bytes are those of their terms; the first is cut at 150.
    func makeLogs() throws -> [GrowingLog] {
        var logs = [GrowingLog(7), GrowingLog(8)]
        do {
            let directory = try NodeDirectory.create(path, identity, smallSettings())
            var log = directory.log
            for i in logs.indices { try logs[i].create(in: &log) }
            for _ in 1...200 {
                try log.write(StoredLog.batch(for: logs.indices.map { logs[$0].grow(1, bytes: 1_000) }), isSynced: true)
            }
            directory.stop()
        }
        // What is replayed goes to a file.
        let directory = try NodeDirectory.open(path, identity, smallSettings())
        let cut = try #require(logs[0].positions.first { $0.index == LogIndex(150) })
        var write = logs[0].grow(1, bytes: 10)
        write.write.base = LogBase(index: cut.index, term: cut.term, chain: cut.chain, configuration: members)
        try directory.log.write(StoredLog.batch(for: [write]), isSynced: true)
        directory.stop()
        return logs
    }

    func payload(_ entry: UInt8) -> [UInt8] { [UInt8](repeating: entry + 1, count: 900) }

    @Test func `rot in what a log has forgotten costs nothing: the store is replaced, and every replica goes on`()
        throws
    {
        var logs = try makeLogs()
        try rot("raft", run: payload(50))
        let failure = try writeUntilRefused { directory throws(StoreError) in
            try directory.log.write(StoredLog.batch(for: [logs[1].grow(1)]), isSynced: true)
        }
        #expect(failure.code == .writeFailed, "nobody may take it for damage of one replica: \(failure)")
        #expect(Folder.names(path).contains("raft.damaged"))
        do {
            let directory = try NodeDirectory.open(path, identity, smallSettings())
            #expect(directory.findings.count == 1)
            #expect(directory.findings.first?.contains("replaced by a copy of what is whole") == true)
            #expect(try restored(logs[0].group, in: directory.log)?.last == logs[0].last)
            // What was refused may be there or not.
            let found = try #require(try restored(logs[1].group, in: directory.log)).last
            #expect(found == logs[1].last || found.next == logs[1].last)
            #expect(
                try directory.entries(of: logs[0].group, from: LogIndex(151), through: LogIndex(160), bytesMax: 1 << 20)
                    .count == 10)
            directory.stop()
        }
        for _ in 1...6 {
            let directory = try NodeDirectory.open(path, identity, smallSettings())
            #expect(directory.findings.isEmpty)
            try directory.log.write(StoredLog.batch(for: [logs[0].grow(1)]), isSynced: true)
            directory.stop()
        }
        #expect(Folder.names(path) == ["FORMAT", "LOCK", "horizon", "incoming", "raft", "reserve", "state"])
    }

    @Test func `rot in a log that is needed marks that replica as damaged, and no other`() throws {
        var logs = try makeLogs()
        try rot("raft", run: payload(180))
        _ = try writeUntilRefused { directory throws(StoreError) in
            try directory.log.write(StoredLog.batch(for: [logs[1].grow(1)]), isSynced: true)
        }
        let directory = try NodeDirectory.open(path, identity, smallSettings())
        #expect(directory.findings.count == 2)
        guard
            case .damaged(ReplicaID(3)?, _) = try StoredLog.restore(logs[0].group, cacheBytesMax: 0, in: directory.log)
        else {
            Issue.record("a replica whose log has rot goes on")
            return
        }
        #expect(try restored(logs[1].group, in: directory.log) != nil)
    }

    @Test func `a copy that a start did not finish is begun anew, and one that was whole is taken`() throws {
        let logs = try makeLogs()
        Folder.write(path + "/raft.damaged", Array("rot\n".utf8))
        Folder.copy(path + "/raft", to: path + "/raft.rebuilt")
        Folder.write(path + "/raft.rebuilt/CURRENT", [1, 2, 3])
        do {
            let directory = try NodeDirectory.open(path, identity, smallSettings())
            #expect(directory.findings.count == 1)
            #expect(try restored(logs[0].group, in: directory.log)?.last == logs[0].last)
            directory.stop()
        }
        // The old one was put aside, and no further.
        Folder.write(path + "/raft.damaged", Array("rot\n".utf8))
        Folder.copy(path + "/raft", to: path + "/raft.rebuilt")
        #expect(rename(path + "/raft", path + "/raft.old") == 0)
        do {
            let directory = try NodeDirectory.open(path, identity, smallSettings())
            #expect(directory.findings.isEmpty)
            #expect(try restored(logs[1].group, in: directory.log)?.last == logs[1].last)
            directory.stop()
        }
        #expect(Folder.names(path) == ["FORMAT", "LOCK", "horizon", "incoming", "raft", "reserve", "state"])
    }

    @Test func `a log store whose node or groups can't be read is refused with what to do`() throws {
        _ = try makeLogs()
        for name in Folder.names(path + "/raft") where name.hasSuffix(".sst") {
            var bytes = Folder.read(path + "/raft/" + name)
            guard bytes.count > 100_000 else { continue }
            bytes[20] ^= 0xFF
            Folder.write(path + "/raft/" + name, bytes)
        }
        let refusal = #expect(throws: DataDirectoryRefusal.self) {
            try NodeDirectory.open(path, identity, smallSettings())
        }
        #expect(refusal?.mayPass == false)
        #expect(refusal?.description.contains("remove the node from its cluster, and join again") == true)
    }

    @Test func `rot in the state loses the state of the group that it is of, and no other`() throws {
        var random = PRNG(seed: 7)
        var values: [[UInt8]] = []
        func key(_ group: UInt64, _ row: Int) -> [UInt8] {
            var key: [UInt8] = []
            key.appendBigEndian(group)
            key.appendBigEndian(StoredState.firstGeneration)
            key.append(0x20)
            key.appendBigEndian(UInt64(row))
            return key
        }
        do {
            let directory = try NodeDirectory.create(path, identity, smallSettings())
            var log = directory.log
            for group in [7, 8] as [UInt64] { try GrowingLog(group).create(in: &log) }
            for _ in 0..<200 { values.append((0..<1_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }) }
            var batch = WriteBatch()
            for group in [7, 8] as [UInt64] { for row in values.indices { batch.put(key(group, row), values[row]) } }
            try directory.state.write(batch, isSynced: true)
            directory.stop()
        }
        // Bytes that nothing makes smaller lie there as they are.
        try rot("state", run: Array(values[20][100..<400]))
        let failure = try writeUntilRefused { directory throws(StoreError) in
            var batch = WriteBatch()
            batch.put(key(8, 500), values[3])
            batch.put(key(7, 500), values[4])
            try directory.state.write(batch, isSynced: true)
        }
        #expect(failure.code == .writeFailed)
        #expect(Folder.names(path).contains("state.damaged"))
        let directory = try NodeDirectory.open(path, identity, smallSettings())
        #expect(directory.findings.count == 2)
        #expect(directory.findings.last?.contains("the state of group 7 is lost here") == true)
        for row in values.indices { #expect(try directory.state.value(for: key(8, row)) == values[row]) }
        #expect(try StoredState.groups(in: directory.state) == [GroupID(8)])
        #expect(!Folder.names(path).contains("state.damaged"))
        for _ in 1...10 {
            var batch = WriteBatch()
            batch.put(key(8, 501), values[3])
            try directory.state.write(batch, isSynced: true)
        }
    }

    @Test func `a reserve that was cut short is put by as a whole`() throws {
        let directory = try NodeDirectory.create(path, identity, smallSettings())
        Folder.write(path + "/reserve", [UInt8](repeating: 0, count: 4_096))
        #expect(!directory.hasReserve)
        #expect(directory.space.map { directory.reserveOwed($0) } == 1 << 20)
        #expect(try directory.restoreReserve())
        #expect(Folder.size(path + "/reserve") == 1 << 20)
        #expect(directory.hasReserve)
    }
}
