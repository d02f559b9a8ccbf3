internal import CGuard
internal import ClusterBase
internal import FleetModel
internal import Glibc

/// The guard's files in a node's directory.
///
///     guard/lock          held by the guard that runs; one per node's directory
///          /incarnation   counts the guards that ran
///          /epochs        the highest epoch that was ever started of each VM: `vm epoch checksum` per line
///          /socket        where its agent reaches it
///          /log           what it has to say
package struct GuardDirectory: Sendable {
    package let path: String

    /// A line of the log is at most so long, and a log that grew so large begins anew.
    static let logBytesMax = 1 << 20
    /// Lines over those that say something new, before the file is written anew.
    static let staleLinesMax = 4_096
    /// A socket's path has a bound of the system's.
    static let socketPathBytesMax = 107

    /// Of the node.
    let nodePath: String

    package init(of nodeDirectory: String) {
        nodePath = nodeDirectory
        path = nodeDirectory + "/guard"
    }

    package var socketPath: String { path + "/socket" }
    package var logPath: String { path + "/log" }
    var epochsPath: String { path + "/epochs" }

    /// What is wrong with the path, as a sentence.
    package var problem: String? {
        socketPath.utf8.count > GuardDirectory.socketPathBytesMax
            ? "The guard's socket \(socketPath) would have more than \(GuardDirectory.socketPathBytesMax) bytes; choose a shorter "
                + "--node-data."
            : nil
    }

    /// Makes the directory, for its owner alone.
    package func make() throws(GuardFailure) {
        if mkdir(path, 0o700) != 0 && errno != EEXIST { throw failure("make", path) }
    }

    private func failure(_ act: String, _ what: String) -> GuardFailure {
        GuardFailure("Can't \(act) \(what): \(String(cString: strerror(errno))).")
    }

    /// Takes the lock, which goes with the process, as a descriptor. Nil when another guard has it.
    func lock() throws(GuardFailure) -> Int32? {
        let file = open(path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("open", path + "/lock") }
        let result = cguard_lock(file)
        if result == 0 { return file }
        close(file)
        if result == -EWOULDBLOCK { return nil }
        throw GuardFailure("Can't lock \(path)/lock: \(String(cString: strerror(-result))).")
    }

    /// The number of this guard, written down before it is used.
    func nextIncarnation() throws(GuardFailure) -> UInt64 {
        let text = String(decoding: try read("incarnation") ?? [], as: UTF8.self)
        let last = UInt64(text.prefix { $0.isNumber }) ?? 0
        try replace("incarnation", Array("\(last + 1)\n".utf8))
        return last + 1
    }

    // MARK: Epochs

    static func line(_ vm: VMID, _ epoch: UInt64) -> [UInt8] {
        let body = Array("\(vm.rawValue) \(epoch)".utf8)
        return body + Array(" \(CRC32C.of(body))\n".utf8)
    }

    /// The highest epochs that are written down. A last line that was never finished stands for nothing that was started;
    /// any other line that can't be read is damage.
    func epochs() throws(GuardFailure) -> (highest: [VMID: UInt64], lines: Int) {
        let bytes = try read("epochs") ?? []
        var highest: [VMID: UInt64] = [:]
        var lines = 0
        var rest = bytes[...]
        while let end = rest.firstIndex(of: 10) {
            lines += 1
            let words = String(decoding: rest[..<end], as: UTF8.self).split(separator: " ")
            guard words.count == 3, let vm = UInt64(words[0]), let epoch = UInt64(words[1]), let sum = UInt32(words[2]),
                CRC32C.of(Array("\(vm) \(epoch)".utf8)) == sum
            else {
                throw GuardFailure(
                    "Line \(lines) of \(epochsPath) is damaged, and what ran on this host is not known; when no guest of it "
                        + "runs here any more, remove the file.")
            }
            highest[VMID(vm)] = max(highest[VMID(vm)] ?? 0, epoch)
            rest = rest[(end + 1)...]
        }
        return (highest, lines)
    }

    /// Writes the file anew with these alone.
    func keep(_ highest: [VMID: UInt64]) throws(GuardFailure) {
        var bytes: [UInt8] = []
        for vm in highest.keys.sorted() { bytes += GuardDirectory.line(vm, highest[vm] ?? 0) }
        try replace("epochs", bytes)
    }

    // MARK: Files

    private func read(_ name: String) throws(GuardFailure) -> [UInt8]? {
        let file = open(path + "/" + name, O_RDONLY | O_CLOEXEC)
        if file < 0 && errno == ENOENT { return nil }
        guard file >= 0 else { throw failure("read", "\(path)/\(name)") }
        defer { close(file) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(file, &part, part.count)
            if count < 0 { throw failure("read", "\(path)/\(name)") }
            if count == 0 { return bytes }
            bytes += part[..<count]
            if bytes.count > 64 << 20 { throw GuardFailure("\(path)/\(name) is too long to be what it should be.") }
        }
    }

    private func replace(_ name: String, _ bytes: [UInt8]) throws(GuardFailure) {
        let (target, next) = ("\(path)/\(name)", "\(path)/\(name).next")
        let file = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("write", next) }
        let isGood = GuardDirectory.writeAll(file, bytes) && fsync(file) == 0
        let problem = failure("write", next)
        close(file)
        guard isGood else { throw problem }
        guard rename(next, target) == 0 else { throw failure("replace", target) }
        let folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw failure("sync", path) }
        defer { close(folder) }
        guard fsync(folder) == 0 else { throw failure("sync", path) }
    }

    static func writeAll(_ file: Int32, _ bytes: [UInt8]) -> Bool {
        var at = 0
        while at < bytes.count {
            let count = bytes[at...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return false }
            at += count
        }
        return true
    }
}
