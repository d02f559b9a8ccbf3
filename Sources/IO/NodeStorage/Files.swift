internal import ClusterBase
internal import Glibc

/// The calls of the operating system that a data directory needs, with errors that name the file.
enum Files {
    static func failure(_ doing: String, _ path: String, _ code: CInt, isRead: Bool = false) -> StoreError {
        let isFull = code == ENOSPC || code == EDQUOT
        return StoreError(
            isFull ? .noSpace : isRead ? .readFailed : .writeFailed,
            "\(doing) \(path): \(String(cString: strerror(code))) (errno \(code))")
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Nil when there is no such file.
    static func byteCount(_ path: String) -> UInt64? {
        var found = stat()
        return stat(path, &found) == 0 ? UInt64(found.st_size) : nil
    }

    static func makeFolder(_ path: String) throws(StoreError) {
        if mkdir(path, 0o700) != 0 && errno != EEXIST { throw failure("make the directory", path, errno) }
    }

    /// Makes the names in a directory durable.
    static func syncFolder(_ path: String) throws(StoreError) {
        let fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if fd < 0 { throw failure("open the directory", path, errno, isRead: true) }
        defer { close(fd) }
        if fsync(fd) != 0 { throw failure("sync the directory", path, errno) }
    }

    /// Writes a whole small file durably: under another name first, so that it is there as a whole or not at all.
    static func write(_ bytes: [UInt8], to path: String, in folder: String) throws(StoreError) {
        let draft = path + ".new"
        let fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        if fd < 0 { throw failure("make the file", draft, errno) }
        let written = bytes.withUnsafeBytes { Glibc.write(fd, $0.baseAddress, $0.count) }
        let code =
            written == bytes.count && fsync(fd) == 0 ? 0 : (written >= 0 && written < bytes.count ? ENOSPC : errno)
        close(fd)
        if code != 0 { throw failure("write the file", draft, code) }
        if rename(draft, path) != 0 { throw failure("rename the file", draft, errno) }
        try syncFolder(folder)
    }

    /// The first `byteCountMax` bytes of a file; nil when there is none.
    static func read(_ path: String, byteCountMax: Int = 4_096) throws(StoreError) -> [UInt8]? {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        if fd < 0 {
            if errno == ENOENT { return nil }
            throw failure("open the file", path, errno, isRead: true)
        }
        defer { close(fd) }
        var count = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: byteCountMax) { buffer, filled in
            count = Glibc.read(fd, buffer.baseAddress, byteCountMax)
            filled = max(count, 0)
        }
        if count < 0 { throw failure("read the file", path, errno, isRead: true) }
        return bytes
    }

    static func remove(_ path: String, in folder: String) throws(StoreError) {
        if unlink(path) != 0 && errno != ENOENT { throw failure("remove the file", path, errno) }
        try syncFolder(folder)
    }

    /// Names in a directory, sorted, without `.` and `..`.
    static func names(in path: String) throws(StoreError) -> [String] {
        guard let folder = opendir(path) else { throw failure("read the directory", path, errno, isRead: true) }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Makes a file of blocks that are really there; false when there is no space for it.
    static func allocate(_ path: String, byteCount: UInt64) throws(StoreError) -> Bool {
        let fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        if fd < 0 {
            if errno == ENOSPC { return false }
            throw failure("make the file", path, errno)
        }
        defer { close(fd) }
        let code = posix_fallocate(fd, 0, off_t(byteCount))
        if code == 0 { return true }
        unlink(path)
        if code == ENOSPC || code == EDQUOT { return false }
        throw failure("allocate the file", path, code)
    }

    /// Removes the files of a directory that has no directories in it.
    static func removeFlatFolder(_ path: String) throws(StoreError) {
        for name in try names(in: path) where unlink(path + "/" + name) != 0 {
            throw failure("remove the file", path + "/" + name, errno)
        }
        if rmdir(path) != 0 { throw failure("remove the directory", path, errno) }
    }
}
