internal import Glibc
internal import Reactor

/// A call of one guest that may wait for a storage that does not answer, on a thread of its own. The loop looks for its end as it
/// does for those of children.
final class GuestWork<Value: Sendable>: Sendable {
    private let result = Guarded<Value?>(nil)

    init(_ body: @escaping @Sendable () -> Value) throws(SystemError) {
        _ = try WorkerThread("guest-disk") { [result] in
            let value = body()
            result.withLock { $0 = value }
        }
    }

    /// Nil while it goes on.
    var value: Value? { result.withLock { $0 } }
}

/// What became of one step at a guest's disks.
enum DiskStep: Sendable {
    /// All that the disk needs is there.
    case ready
    /// It begins with its image, which a program makes.
    case wantsImage
    case failed(String)

    /// Looks whether the disk is there, and makes it where that takes no program. One that is to be empty is made anew.
    static func begin(
        _ disk: QEMUMachine.Disk, _ whole: WholeDisk?, _ marks: [String: [UInt8]]?, isEmpty: Bool
    ) -> DiskStep {
        // What is mounted may have changed since the machine was made: no blank disk takes the place of one that is elsewhere.
        if let problem = disk.home?.problem(marks) { return .failed("can't start: a disk \(problem)") }
        if isEmpty {
            unlink(disk.path)
        } else if access(disk.path, F_OK) == 0 {
            return .ready
        }
        if disk.image != nil {
            whole?.clear()
            return .wantsImage
        }
        let file = open(disk.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { return .failed("a disk could not be made: \(String(cString: strerror(errno)))") }
        defer { close(file) }
        if ftruncate(file, off_t(disk.sizeMiB) << 20) == 0 { return .ready }
        return .failed("a disk could not be made: \(String(cString: strerror(errno)))")
    }

    /// Whoever wrote to the files: all of it is on the disk.
    static func sync(_ paths: [String]) -> DiskStep {
        for path in paths {
            // A TPM's directory is its user's.
            let file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
            guard file >= 0 else { return .failed("\(path) can't be synced: \(String(cString: strerror(errno)))") }
            defer { close(file) }
            if fsync(file) != 0 { return .failed("\(path) can't be synced: \(String(cString: strerror(errno)))") }
        }
        return .ready
    }
}
