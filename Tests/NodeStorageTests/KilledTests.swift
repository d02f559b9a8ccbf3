import ClusterBase
import Glibc
import NodePorts
import NodeStorage
import RaftCore
import StoreFolder
import StoreLayout
import Testing

/// Processes that are killed at any moment, while logs rotate, buffers go to files and old entries are cut.
@Suite struct KilledTests {
    @Test func `a process that is killed in the middle of everything loses nothing that it acknowledged`() async throws
    {
        let folder = Folder()
        let path = folder.path + "/data"
        do {
            let directory = try NodeDirectory.create(path, identity, smallSettings())
            var log = directory.log
            try GrowingLog(1).create(in: &log)
            directory.stop()
        }
        Folder.write(folder.path + "/acknowledged", [UInt8](repeating: 0, count: 8))
        for round in 0..<6 {
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [path = path as String, folder = folder.path as String, round = round as Int] in
                try writeUntilKilled(path, folder + "/acknowledged", milliseconds: 150 + 120 * round)
            }
            let acknowledged = try #require(Folder.read(folder.path + "/acknowledged").bigEndian64(at: 0))
            let directory = try NodeDirectory.open(path, identity, smallSettings())
            #expect(directory.findings.isEmpty, "round \(round)")
            let log = try #require(try restored(GroupID(1), in: directory.log), "round \(round)")
            #expect(log.last >= LogIndex(acknowledged), "round \(round)")
            #expect(log.last > log.base.index)
            directory.stop()
        }
        let total = try #require(Folder.read(folder.path + "/acknowledged").bigEndian64(at: 0))
        #expect(total > 1_000)
    }
}

/// Goes on with the log of group 1 and notes what is acknowledged, until a thread of its own kills the process.
private func writeUntilKilled(_ path: String, _ noted: String, milliseconds: Int) throws {
    let directory = try NodeDirectory.open(path, identity, smallSettings())
    precondition(directory.findings.isEmpty, "\(directory.findings)")
    guard let before = try restored(GroupID(1), in: directory.log) else { preconditionFailure("group 1 is damaged") }
    let fd = open(noted, O_WRONLY | O_CLOEXEC)
    let writer = LogWriter(
        commit: { batch throws(StoreError) in
            let log = directory.log
            try log.write(batch, isSynced: true)
        },
        onOutcome: { outcome in
            // A ticket is the last index of its write.
            guard case .written(let tickets) = outcome, let last = tickets.last else { return }
            var bytes: [UInt8] = []
            bytes.appendBigEndian(last)
            _ = bytes.withUnsafeBytes { pwrite(fd, $0.baseAddress, 8, 0) }
        })
    var killer = pthread_t()
    let delay = UnsafeMutableRawPointer(bitPattern: milliseconds)
    pthread_create(
        &killer, nil,
        { delay in
            usleep(UInt32(UInt(bitPattern: delay)) * 1_000)
            kill(getpid(), SIGKILL)
            return nil
        }, delay)
    var log = GrowingLog(continuing: before, group: 1)
    while true {
        var write = log.grow(3, bytes: 2_000)
        if log.last.rawValue % 40 < 3, log.last.rawValue > 200, let kept = log.positions.first {
            // The log is cut up to an entry of some time ago.
            write.write.base = LogBase(
                index: kept.index, term: kept.term, chain: kept.chain, configuration: members)
        }
        writer.submit([write], ticket: log.last.rawValue)
        while writer.queuedBytes > 40_000 { usleep(100) }
    }
}
