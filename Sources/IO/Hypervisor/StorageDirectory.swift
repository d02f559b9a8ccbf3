package import FleetModel
internal import Glibc

/// The directory of a storage domain on this host. Every call may wait for a storage that does not answer, and so runs on a thread of
/// its own.
package struct StorageDirectory: Hashable, Sendable {
    package let domain: String
    /// A directory per storage domain.
    private let storage: String

    package init(_ domain: String, in storage: String) {
        self.domain = domain
        self.storage = storage
    }

    /// Links followed; nil where there is no such directory.
    var folder: String? {
        guard QEMUMachine.isName(domain), let root = QEMUMachine.resolved(storage),
            let real = QEMUMachine.resolved("\(root)/\(domain)"), real.hasPrefix(root + "/")
        else { return nil }
        return real
    }

    package func look() -> StorageFinding {
        guard let folder else { return .missing }
        let path = "\(folder)/\(StorageMark.fileName)"
        let file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        if file < 0 {
            let why = errno
            if why == ENOTDIR { return .missing }
            return why == ENOENT ? bare(folder) : .unreadable("\(path): \(StorageDirectory.words(why))")
        }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: StorageMark.bytesMax)
        let count = read(file, &bytes, bytes.count)
        if count < 0 { return .unreadable("\(path): \(StorageDirectory.words(errno))") }
        guard let mark = StorageMark(String(decoding: bytes[..<count], as: UTF8.self)) else {
            return .unreadable("\(path) is damaged; put it back as it was, or remove it and mark the domain anew")
        }
        return .marked(mark)
    }

    private func bare(_ folder: String) -> StorageFinding {
        guard let entries = opendir(folder) else { return .unreadable("\(folder): \(StorageDirectory.words(errno))") }
        closedir(entries)
        return .bare(hasDisks: VMDirectory.names(in: folder).contains { $0.hasPrefix(SharedDisks.prefix) })
    }

    /// Says why the mark can't be written. Of a new one: who was faster keeps its own, and that is no failure.
    package func write(_ mark: StorageMark, isNew: Bool) -> String? {
        guard let folder else { return "\(storage)/\(domain) is no directory" }
        let path = "\(folder)/\(StorageMark.fileName)"
        let part = "\(path).\(StorageMark.digits(mark.mark))"
        let file = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard file >= 0 else { return "\(part): \(StorageDirectory.words(errno))" }
        defer { unlink(part) }
        let bytes = Array(mark.text.utf8)
        let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
        let isSynced = fsync(file) == 0
        close(file)
        guard count == bytes.count, isSynced else {
            return "\(part) can't be written; is the storage full or read-only?"
        }
        if isNew {
            guard link(part, path) == 0 || errno == EEXIST else { return "\(path): \(StorageDirectory.words(errno))" }
        } else {
            guard rename(part, path) == 0 else { return "\(path): \(StorageDirectory.words(errno))" }
        }
        let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return "\(folder): \(StorageDirectory.words(errno))" }
        defer { close(directory) }
        return fsync(directory) == 0 ? nil : "\(folder): \(StorageDirectory.words(errno))"
    }

    /// Why no disk is opened there now; nil when what is there is the domain. Without marks any directory is.
    func problem(_ marks: [String: [UInt8]]?) -> String? {
        guard folder != nil else {
            return "is in the storage domain '\(domain)', which is no directory of hypervisor.storage here"
        }
        guard let marks else { return nil }
        guard let mark = marks[domain] else {
            return "is in the storage domain '\(domain)', which no host of this cluster has begun; name it in "
                + "host.storage-domains of the hosts that reach it"
        }
        if case .marked(let found) = look(), found.domain == domain, found.mark == mark { return nil }
        return "is in the storage domain '\(domain)', which is not what is mounted at \(storage)/\(domain) now; see "
            + "`muster host show`"
    }

    private static func words(_ error: Int32) -> String { String(cString: strerror(error)) }
}
