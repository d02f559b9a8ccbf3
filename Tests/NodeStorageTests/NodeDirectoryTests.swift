import ClusterBase
import Foundation
import Glibc
import KeyValueStore
import NodePorts
import NodeStorage
import RaftCore
import StoreFolder
import StoreLayout
import Synchronization
import Testing

@Suite struct NodeDirectoryTests {
    let folder = Folder()
    var path: String { folder.path + "/data" }

    @Test func `a directory that was made opens again with what was written to it`() throws {
        var grown = GrowingLog(7)
        do {
            let directory = try NodeDirectory.create(path, identity, smallSettings())
            #expect(directory.findings.isEmpty)
            var log = directory.log
            try grown.create(in: &log)
            try log.write(StoredLog.batch(for: [grown.grow(9)]), isSynced: true)
            var batch = WriteBatch()
            batch.put([1], [2])
            try directory.state.write(batch, isSynced: false)
            directory.stop()
        }
        let directory = try NodeDirectory.open(path, identity, smallSettings())
        #expect(directory.findings.isEmpty)
        #expect(try restored(grown.group, in: directory.log)?.last == LogIndex(9))
        #expect(
            try directory.entries(of: grown.group, from: LogIndex(3), through: LogIndex(5), bytesMax: 1_000).count == 3)
        #expect(try directory.state.value(for: [1]) == [2])
    }

    @Test func `the directory says whose it is`() throws {
        _ = try NodeDirectory.create(path, identity, smallSettings())
        #expect(try NodeDirectory.open(path, nil, smallSettings()).identity == identity)
    }

    func refusal(_ wanted: NodeIdentity? = identity) throws -> DataDirectoryRefusal? {
        #expect(throws: DataDirectoryRefusal.self) { try NodeDirectory.open(path, wanted, smallSettings()) }
    }

    @Test func `a directory in use is refused, and the process that has it is named`() throws {
        let directory = try NodeDirectory.create(path, identity, smallSettings())
        let found = try refusal()
        #expect(found == .inUse(path: path, process: Int(getpid())))
        #expect(found?.description.contains("in use by process \(getpid())") == true)
        withExtendedLifetime(directory) {}
    }

    @Test func `a refused directory closes no file of another thread`() throws {
        let directory = try NodeDirectory.create(path, identity, smallSettings())
        let neighbour = Neighbour()
        for _ in 0..<3 { #expect(try refusal() != nil) }
        #expect(neighbour.end() == 0)
        withExtendedLifetime(directory) {}
    }

    /// Opens files all the time, closes each a while later, and counts those that somebody else had closed by then.
    private final class Neighbour: Sendable {
        private let state = Mutex((isEnded: false, lost: 0))
        private let ended = DispatchSemaphore(value: 0)

        init() {
            Thread.detachNewThread { [self] in
                var files = [CInt](repeating: -1, count: 64)
                var lost = 0
                var i = 0
                while i % files.count > 0 || !state.withLock({ $0.isEnded }) {
                    let old = files[i % files.count]
                    if old >= 0, close(old) != 0 { lost += 1 }
                    files[i % files.count] = open("/dev/null", O_RDONLY | O_CLOEXEC)
                    i += 1
                }
                for file in files where close(file) != 0 { lost += 1 }
                state.withLock { $0.lost = lost }
                ended.signal()
            }
        }

        func end() -> Int {
            state.withLock { $0.isEnded = true }
            ended.wait()
            return state.withLock { $0.lost }
        }
    }

    @Test func `another node's or another cluster's directory is refused`() throws {
        _ = try NodeDirectory.create(path, identity, smallSettings())
        let otherNode = NodeIdentity(cluster: identity.cluster, node: NodeID(4))
        #expect(try refusal(otherNode) == .refused(path: path, .otherNode(found: NodeID(3), expected: NodeID(4))))
        let otherCluster = NodeIdentity(cluster: [UInt8](repeating: 6, count: 16), node: NodeID(3))
        let found = try refusal(otherCluster)
        #expect(
            found
                == .refused(path: path, .otherCluster(found: identity.cluster, expected: otherCluster.cluster)))
        #expect(found?.description.contains("belongs to cluster 0505") == true)
        // A refusal changes nothing.
        #expect(try NodeDirectory.open(path, identity, smallSettings()).findings.isEmpty)
    }

    @Test func `a directory of a newer format is refused before anything in it is opened`() throws {
        _ = try NodeDirectory.create(path, identity, smallSettings())
        let before = Folder.names(path + "/raft")
        Folder.write(path + "/FORMAT", Array("muster data directory, format 2\n".utf8))
        #expect(try refusal() == .refused(path: path, .newerFormat(found: 2, supported: 1)))
        #expect(Folder.names(path + "/raft") == before)
    }

    @Test func `a directory that was never set up is refused`() throws {
        #expect(try refusal() == .refused(path: path, .notFormatted))
        mkdir(path, 0o700)
        #expect(try refusal() == .refused(path: path, .notFormatted))
    }

    @Test func `no node is made where one is, or where other files are`() throws {
        _ = try NodeDirectory.create(path, identity, smallSettings())
        let second = #expect(throws: DataDirectoryRefusal.self) {
            try NodeDirectory.create(path, identity, smallSettings())
        }
        #expect(second == .refused(path: path, .notEmpty))
        #expect(try NodeDirectory.open(path, identity, smallSettings()).findings.isEmpty)
        let foreign = folder.path + "/foreign"
        mkdir(foreign, 0o700)
        Folder.write(foreign + "/letter.txt", [1])
        let third = #expect(throws: DataDirectoryRefusal.self) {
            try NodeDirectory.create(foreign, identity, smallSettings())
        }
        #expect(third == .foreign(path: foreign, name: "letter.txt"))
        #expect(Folder.names(foreign) == ["letter.txt"])
        _ = try NodeDirectory.create(foreign, identity, smallSettings(), besides: ["letter.txt"])
    }

    @Test func `no node is made within another node's directory`() throws {
        _ = try NodeDirectory.create(path, identity, smallSettings())
        let before = Folder.names(path)
        for inner in ["/x", "/x/y", "/vms//x/"] {
            let refused = #expect(throws: DataDirectoryRefusal.self) {
                try NodeDirectory.checkVacant(path + inner, besides: [])
            }
            #expect(refused == .within(path: path + inner, node: path))
            #expect(refused?.isFinal == true)
        }
        #expect(Folder.names(path) == before)
        try NodeDirectory.checkVacant(path + "-2", besides: [])
    }

    @Test func `a lock is given up even while a child that is about to begin has its file open`() throws {
        var directory: NodeDirectory? = try NodeDirectory.create(path, identity, smallSettings())
        #expect(directory?.findings.isEmpty == true)
        let file = URL(fileURLWithPath: path + "/LOCK").resolvingSymlinksInPath().path
        let held = (3..<1_024).first { number in
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(number)")) == file
        }
        let childs = dup(CInt(try #require(held)))
        defer { close(childs) }
        directory = nil
        #expect(try NodeDirectory.open(path, identity, smallSettings()).findings.isEmpty)
    }

    @Test func `making a directory can be repeated from wherever it was cut short`() throws {
        for parts in 1...4 {
            let path = folder.path + "/cut\(parts)"
            let whole = folder.path + "/whole\(parts)"
            _ = try NodeDirectory.create(whole, identity, smallSettings())
            mkdir(path, 0o700)
            for name in ["LOCK", "FORMAT", "horizon"].prefix(parts) {
                Folder.write(path + "/" + name, Folder.read(whole + "/" + name))
            }
            if parts == 4 { _ = try RocksStore(path + "/state", .state(BlockCache(byteCountMax: 1 << 20))) }
            // What was written to the horizon is of no store yet.
            if parts >= 3 { #expect(Folder.size(path + "/horizon") == 1_024) }
            if parts >= 3 { Folder.write(path + "/horizon", []) }
            unlink(path + "/horizon")
            #expect(try NodeDirectory.create(path, identity, smallSettings()).findings.isEmpty)
        }
    }

    @Test func `the applied state begins anew when it is damaged, and the log stays`() throws {
        var grown = GrowingLog(7)
        do {
            let directory = try NodeDirectory.create(path, identity, smallSettings())
            var log = directory.log
            try grown.create(in: &log)
            try log.write(StoredLog.batch(for: [grown.grow(9)]), isSynced: true)
            var batch = WriteBatch()
            batch.put([1], [2])
            try directory.state.write(batch, isSynced: true)
            directory.stop()
        }
        for name in Folder.names(path + "/state") where name.hasPrefix("MANIFEST") {
            var bytes = Folder.read(path + "/state/" + name)
            for i in bytes.indices { bytes[i] ^= 0x55 }
            Folder.write(path + "/state/" + name, bytes)
        }
        let directory = try NodeDirectory.open(path, identity, smallSettings())
        #expect(directory.findings.count == 1)
        #expect(directory.findings.first?.hasPrefix("the state store is damaged") == true)
        #expect(try directory.state.value(for: [1]) == nil)
        #expect(try restored(grown.group, in: directory.log)?.last == LogIndex(9))
    }

    @Test func `the reserve is put by, given back and put by again`() throws {
        let directory = try NodeDirectory.create(path, identity, smallSettings())
        #expect(directory.hasReserve)
        #expect(Folder.size(path + "/reserve") == 1 << 20)
        try directory.releaseReserve()
        #expect(!directory.hasReserve)
        #expect(try directory.restoreReserve())
        #expect(directory.hasReserve)
    }

    @Test func `a flush answers all tickets that waited for it, and a failed one answers none`() throws {
        let directory = try NodeDirectory.create(path, identity, smallSettings())
        let answers = Answers<StateFlusher.Outcome>()
        let state = directory.state
        let flusher = StateFlusher(flush: { () throws(StoreError) in try state.flush() }) { answers.add($0) }
        var batch = WriteBatch()
        batch.put([1], [2])
        try state.write(batch, isSynced: false)
        for ticket in 1...5 as ClosedRange<UInt64> { flusher.flush(ticket: ticket) }
        flusher.stop()
        var tickets: [UInt64] = []
        for case .flushed(let some) in answers.all { tickets += some }
        #expect(tickets == [1, 2, 3, 4, 5])
        directory.stop()
        let refused = StateFlusher(flush: { () throws(StoreError) in try state.flush() }) { answers.add($0) }
        refused.flush(ticket: 6)
        refused.stop()
        guard case .failed? = answers.all.last else {
            Issue.record("a flush of a stopped store was acknowledged")
            return
        }
    }
}
