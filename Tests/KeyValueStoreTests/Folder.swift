import Glibc

/// A private directory that is gone with its last reference. In memory where there is such a file system, since what a
/// disk does to syncs is nothing that these tests look at.
final class Folder: Sendable {
    let path: String

    init() {
        let parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        var template = Array("\(parent)/muster-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { fatalError("no directory in \(parent): errno \(errno)") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Folder.remove(path) }

    static func names(_ path: String) -> [String] {
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

    static func remove(_ path: String) {
        for name in names(path) {
            let inner = path + "/" + name
            if unlink(inner) != 0 { remove(inner) }
        }
        rmdir(path)
    }

    static func read(_ path: String) -> [UInt8] {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        if fd < 0 { return [] }
        defer { close(fd) }
        let size = size(path)
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            count = max(0, Glibc.read(fd, buffer.baseAddress, size))
        }
    }

    static func write(_ path: String, _ bytes: [UInt8]) {
        let fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(fd) }
        let written = bytes.withUnsafeBytes { Glibc.write(fd, $0.baseAddress, $0.count) }
        precondition(written == bytes.count, "\(path): errno \(errno)")
    }

    static func size(_ path: String) -> Int {
        var info = stat()
        return stat(path, &info) == 0 ? Int(info.st_size) : 0
    }

    /// The files of a directory by name.
    static func sizes(_ path: String) -> [String: Int] {
        Dictionary(uniqueKeysWithValues: names(path).map { ($0, size(path + "/" + $0)) })
    }

    /// Copies a directory as it is now.
    static func copy(_ from: String, to: String) {
        mkdir(to, 0o700)
        for name in names(from) {
            var info = stat()
            if stat(from + "/" + name, &info) != 0 { continue }
            if info.st_mode & S_IFMT == S_IFDIR {
                copy(from + "/" + name, to: to + "/" + name)
            } else {
                write(to + "/" + name, read(from + "/" + name))
            }
        }
    }
}
