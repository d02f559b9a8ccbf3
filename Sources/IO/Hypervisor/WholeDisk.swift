import Glibc

/// A disk in a storage domain that begins with all of an image. It is made beside its place by the host that has the VM's permit,
/// under the permit's epoch, and comes to its place once: what a host makes on that has lost the VM in the meantime finds the
/// place taken, or its own work gone, and changes nothing.
struct WholeDisk {
    private let path: String
    private let part: String
    private static let mark = ".part-"
    private static let syncProgram = "/usr/bin/sync"

    init(_ path: String, epoch: UInt64) {
        self.path = path
        part = "\(path)\(WholeDisk.mark)\(epoch)"
    }

    private var folder: String { String(path[..<(path.lastIndex(of: "/") ?? path.endIndex)]) }

    /// Takes away what permits before this one left.
    func clear() {
        let name = path.dropFirst(folder.utf8.count + 1)
        VMDirectory(path: folder).remove(prefix: "\(name)\(WholeDisk.mark)")
    }

    /// Programs that make it, one after the other; the last one ends when all of it is on the disk.
    func steps(
        from image: (path: String, format: String), sizeMiB: Int64, _ program: String
    ) -> [(program: String, words: [String])] {
        [
            (program, ["convert", "-q", "-f", image.format, "-O", "qcow2", image.path, part]),
            (program, ["resize", "-q", "-f", "qcow2", part, "\(sizeMiB)M"]), (WholeDisk.syncProgram, [part]),
        ]
    }

    func giveUp() { unlink(part) }

    /// Says what went wrong. A disk that is there already is the VM's, whoever made it.
    func publish() -> String? {
        defer { unlink(part) }
        guard link(part, path) == 0 || errno == EEXIST else {
            return "a disk could not be put into its storage domain: \(String(cString: strerror(errno)))"
        }
        let folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if folder >= 0 {
            fsync(folder)
            close(folder)
        }
        return nil
    }
}
