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
    /// What domains are known by; nil where they have no marks.
    private let marks: [String: [UInt8]]?  // hash order: looked up only

    package init(_ storage: String, marks: [String: [UInt8]]?) {
        self.storage = storage
        self.marks = marks
    }

    static let prefix = "vm-"
    static func fileName(_ vm: VMID, _ disk: String, hasImage: Bool) -> String {
        "\(prefix)\(vm)-\(disk).\(hasImage ? "qcow2" : "raw")"
    }

    /// Removes disks that a VM left, and what hosts that lost it were making of them. One that is not there is removed.
    /// Says why not.
    package func remove(_ disks: [Disk], of vm: VMID) -> String? {
        for disk in disks {
            let home = StorageDirectory(disk.domain, in: storage)
            // Where the domain is not mounted no file of it is, which says nothing.
            let isTPM = disk.name == VMDescription.tpmName
            guard isTPM || QEMUMachine.isName(disk.name), let folder = home.folder, home.problem(marks) == nil else {
                return "the storage domain '\(disk.domain)' is not reached here"
            }
            let name =
                isTPM
                ? GuestTPM.folderName(vm) : SharedDisks.fileName(vm, disk.name, hasImage: disk.hasImage)
            let path = "\(folder)/\(name)"
            if isTPM { VMDirectory.removeTree(path) } else { WholeDisk(path, epoch: 0).clear() }
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
