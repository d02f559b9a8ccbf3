internal import ClusterBase
internal import Glibc

/// Holds a data directory for one process. The kernel lets go of it when the process ends, however it ends.
final class DirectoryLock: Sendable {
    private let fd: CInt
    /// A process that is gone holds what it shared for a moment more; a second is enough for that.
    private static let looks = 50

    init(_ folder: String) throws(DataDirectoryRefusal) {
        fd = try DirectoryLock.locked(folder)
        let name = Array("\(getpid())\n".utf8)
        ftruncate(fd, 0)
        _ = name.withUnsafeBytes { pwrite(fd, $0.baseAddress, $0.count, 0) }
    }

    /// Before there is a lock whose end closes the file: a second close would be of another thread's.
    private static func locked(_ folder: String) throws(DataDirectoryRefusal) -> CInt {
        let path = folder + "/LOCK"
        let fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if fd < 0 { throw .store(Files.failure("open the file", path, errno)) }
        var code = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno
        for _ in 0..<looks where code == EWOULDBLOCK {
            usleep(20_000)
            code = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno
        }
        if code == 0 { return fd }
        close(fd)
        if code != EWOULDBLOCK { throw .store(Files.failure("lock the file", path, code)) }
        throw .inUse(path: folder, process: process(in: path))
    }

    /// A child of this process that has not begun its program yet has the file open too: closing alone would leave the lock
    /// with it.
    deinit {
        flock(fd, LOCK_UN)
        close(fd)
    }

    /// Only for the sentence: the lock itself does not depend on it.
    private static func process(in path: String) -> Int {
        // An unreadable name is no name.
        guard let bytes = try? Files.read(path) else { return 0 }
        return Int(String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self)) ?? 0
    }
}
