package import FleetModel
internal import Glibc

/// Files of disks in storage domains. Every call may wait for a storage that does not answer, and so runs on a thread of its own.
package struct SharedDisks: Sendable {
    package struct Disk: Hashable, Sendable {
        package var name: String
        package var domain: String
        package var hasImage: Bool
        package init(name: String, domain: String, hasImage: Bool) {
            self.name = name
            self.domain = domain
            self.hasImage = hasImage
        }
    }

    /// A directory per storage domain.
    private let storage: String

    package init(_ storage: String) { self.storage = storage }

    static func fileName(_ vm: VMID, _ disk: String, hasImage: Bool) -> String {
        "vm-\(vm)-\(disk).\(hasImage ? "qcow2" : "raw")"
    }

    /// Where a domain is on this host, links followed; nil where it is not reached.
    static func folder(of domain: String, in storage: String) -> String? {
        guard QEMUMachine.isName(domain), let root = QEMUMachine.resolved(storage),
            let real = QEMUMachine.resolved("\(root)/\(domain)"), real.hasPrefix(root + "/")
        else { return nil }
        return real
    }

    /// Removes disks of a VM that is gone, and what hosts that lost it were making of them. One that is not there is removed.
    /// Says why not.
    package func remove(_ disks: [Disk], of vm: VMID) -> String? {
        for disk in disks {
            guard QEMUMachine.isName(disk.name), let folder = SharedDisks.folder(of: disk.domain, in: storage) else {
                return "the storage domain '\(disk.domain)' is not reached here"
            }
            let path = "\(folder)/\(SharedDisks.fileName(vm, disk.name, hasImage: disk.hasImage))"
            WholeDisk(path, epoch: 0).clear()
            if unlink(path) != 0 && errno != ENOENT {
                return "\(path) can't be removed: \(String(cString: strerror(errno)))"
            }
            let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard directory >= 0 else { return "\(folder) can't be read: \(String(cString: strerror(errno)))" }
            defer { close(directory) }
            if fsync(directory) != 0 { return "\(folder) can't be written: \(String(cString: strerror(errno)))" }
        }
        return nil
    }
}
