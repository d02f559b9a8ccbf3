import Glibc

/// A private directory that is gone with its last reference. In memory where there is such a file system, since what a
/// disk does to syncs is nothing that these tests look at.
package final class Folder: Sendable {
    package let path: String

    package init() {
        let parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        var template = Array("\(parent)/muster-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { fatalError("no directory in \(parent): errno \(errno)") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Folder.remove(path) }

    package static func names(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    package static func remove(_ path: String) {
        for name in names(path) {
            let inner = path + "/" + name
            if unlink(inner) != 0 { remove(inner) }
        }
        rmdir(path)
    }

    package static func read(_ path: String) -> [UInt8] {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        if fd < 0 { return [] }
        defer { close(fd) }
        let size = size(path)
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            count = max(0, Glibc.read(fd, buffer.baseAddress, size))
        }
    }

    package static func write(_ path: String, _ bytes: [UInt8]) {
        let fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(fd) }
        let written = bytes.withUnsafeBytes { Glibc.write(fd, $0.baseAddress, $0.count) }
        precondition(written == bytes.count, "\(path): errno \(errno)")
    }

    package static func size(_ path: String) -> Int {
        var info = stat()
        return stat(path, &info) == 0 ? Int(info.st_size) : 0
    }

    /// Copies a directory as it is at one moment, as a crash then would leave it: as long as files came, went or grew
    /// meanwhile, what was copied is thrown away, since it has files of several moments.
    package static func copy(_ from: String, to: String) {
        for _ in 0..<10_000 {
            let before = picture(from)
            copyOnce(from, to: to)
            if picture(from) == before { return }
            remove(to)
        }
        preconditionFailure("\(from) does not come to rest")
    }

    private static func copyOnce(_ from: String, to: String) {
        mkdir(to, 0o700)
        for name in names(from) {
            var info = stat()
            if stat(from + "/" + name, &info) != 0 { continue }
            if info.st_mode & S_IFMT == S_IFDIR {
                copyOnce(from + "/" + name, to: to + "/" + name)
            } else {
                write(to + "/" + name, read(from + "/" + name))
            }
        }
    }

    /// Every file below a directory with what tells it from another and its size. RocksDB's own report, `LOG`, is none
    /// of what it opens.
    private static func picture(_ path: String) -> [String] {
        names(path).sorted().filter { $0 != "LOG" }.flatMap { name -> [String] in
            var info = stat()
            if stat(path + "/" + name, &info) != 0 { return ["\(name) went"] }
            if info.st_mode & S_IFMT == S_IFDIR { return picture(path + "/" + name) }
            return ["\(path)/\(name) \(info.st_ino) \(info.st_size)"]
        }
    }
}
