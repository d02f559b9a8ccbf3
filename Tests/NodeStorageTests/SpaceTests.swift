import ClusterBase
import Glibc
import NodePorts
import NodeStorage
import RaftCore
import StoreFolder
import StoreLayout
import Testing

/// A file system of its own in memory, of a size, if this process may make one.
final class SmallDisk: Sendable {
    let folder = Folder()
    static let isPossible: Bool = {
        let disk = SmallDisk(megabytes: 1)
        return disk.isMounted
    }()
    let isMounted: Bool

    init(megabytes: Int) { isMounted = mount("tmpfs", folder.path, "tmpfs", 0, "size=\(megabytes)m") == 0 }
    deinit { if isMounted { umount2(folder.path, CInt(MNT_DETACH)) } }
}

@Suite struct SpaceTests {
    @Test(.enabled(if: SmallDisk.isPossible))
    func `low space is told, the reserve is given back, and all clears by itself`() throws {
        let disk = SmallDisk(megabytes: 64)
        var settings = smallSettings()
        settings.reserveBytes = 3 << 20
        settings.space = SpaceThreshold(permille: 250, freeBytesMin: 1 << 30)
        let directory = try NodeDirectory.create(disk.folder.path + "/data", identity, settings)
        #expect(directory.hasReserve)
        let notices = Answers<DirectoryWatch.Notice>()
        let watch = DirectoryWatch(directory) { notices.add($0) }
        let ballast = disk.folder.path + "/ballast"
        let free = try #require(directory.space).freeBytes
        Folder.write(ballast, [UInt8](repeating: 1, count: Int(free) - (12 << 20)))
        #expect(notices.wait { if case .spaceLow? = $0.last { true } else { false } })
        #expect(directory.hasReserve)
        Folder.write(ballast + "2", [UInt8](repeating: 1, count: 6 << 20))
        #expect(notices.wait { _ in !directory.hasReserve })
        unlink(ballast)
        unlink(ballast + "2")
        #expect(notices.wait { if case .spaceClear? = $0.last { true } else { false } })
        #expect(notices.wait { _ in directory.hasReserve })
        #expect(notices.all.count == 2)
        watch.stop()
    }

    @Test(.enabled(if: SmallDisk.isPossible))
    func `what the reserve gave back is no space for clients`() throws {
        let disk = SmallDisk(megabytes: 64)
        var settings = smallSettings()
        settings.reserveBytes = 4 << 20
        settings.space = SpaceThreshold(permille: 70, freeBytesMin: 1 << 30)
        let directory = try NodeDirectory.create(disk.folder.path + "/data", identity, settings)
        #expect(directory.hasReserve)
        let notices = Answers<DirectoryWatch.Notice>()
        let watch = DirectoryWatch(directory) { notices.add($0) }
        let ballast = disk.folder.path + "/ballast"
        let free = try #require(directory.space).freeBytes
        Folder.write(ballast, [UInt8](repeating: 1, count: Int(free) - (2 << 20)))
        #expect(notices.wait { _ in !directory.hasReserve })
        // Two looks of the watch: more is free now than what is otherwise called clear.
        usleep(2_500_000)
        #expect(notices.all.count == 1, "\(notices.all)")
        unlink(ballast)
        #expect(notices.wait { if case .spaceClear? = $0.last { true } else { false } })
        #expect(notices.wait { _ in directory.hasReserve })
        watch.stop()
    }

    @Test(.enabled(if: SmallDisk.isPossible))
    func `a full disk is told once, nothing is acknowledged after it, and with space again all that was is there`()
        throws
    {
        let disk = SmallDisk(megabytes: 24)
        let path = disk.folder.path + "/data"
        var settings = smallSettings()
        settings.logBufferBytes = 8 << 20
        let answers = Answers<LogWriter.Outcome>()
        var log = GrowingLog(1)
        do {
            let directory = try NodeDirectory.create(path, identity, settings)
            try directory.releaseReserve()
            var store = directory.log
            try log.create(in: &store)
            let writer = LogWriter(
                commit: { [store] batch throws(StoreError) in try store.write(batch, isSynced: true) },
                onOutcome: { answers.add($0) })
            for ticket in 0..<100 as Range<UInt64> { writer.submit([log.grow(1, bytes: 500_000)], ticket: ticket) }
            #expect(answers.wait { if case .failed? = $0.last { true } else { false } })
            writer.stop()
        }
        guard case .failed(let error)? = answers.all.last else { return }
        #expect(error.code == .noSpace)
        #expect(answers.all.count { if case .failed = $0 { true } else { false } } == 1)
        let acknowledged = answers.all.reduce(0) { count, outcome in
            if case .written(let tickets) = outcome { count + tickets.count } else { count }
        }
        #expect(acknowledged > 3 && acknowledged < 60)

        // What closing gave back is taken by others. The start says so, in a way that a supervisor can wait on.
        let free = try #require(DiskSpace(at: disk.folder.path)).freeBytes
        if free > 0 { Folder.write(disk.folder.path + "/ballast", [UInt8](repeating: 1, count: Int(free))) }
        let full = #expect(throws: DataDirectoryRefusal.self) { try NodeDirectory.open(path, identity, settings) }
        #expect(full?.isNoSpace == true)
        #expect(full?.description.contains("free some space") == true)

        #expect(mount("tmpfs", disk.folder.path, "tmpfs", UInt(MS_REMOUNT), "size=200m") == 0)
        let directory = try NodeDirectory.open(path, identity, settings)
        #expect(directory.findings.isEmpty)
        let found = try #require(try restored(log.group, in: directory.log))
        #expect(found.last >= LogIndex(UInt64(acknowledged)))
    }
}
