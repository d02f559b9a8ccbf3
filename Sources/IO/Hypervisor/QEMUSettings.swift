internal import Glibc

/// Where the QEMU driver finds and keeps what it needs.
package struct QEMUSettings: Hashable, Sendable {
    package var program = "/usr/bin/qemu-system-x86_64"
    package var imageProgram = "/usr/bin/qemu-img"
    package var tpmProgram = "/usr/bin/swtpm"
    /// VMs can have a TPM here.
    package var hasTPM: Bool { access(tpmProgram, X_OK) == 0 }
    /// Where UEFI firmware for guests lies, under Debian's names.
    package var firmware = "/usr/share/OVMF"
    /// One directory per VM.
    package var directory: String
    /// Images, kernels and initial file systems; nothing outside of it is given to a guest as one.
    package var images: String
    /// A directory per storage domain.
    package var storage: String
    /// What storage domains are known by; nil where they have no marks.
    // hash order: looked up only
    package var marks: [String: [UInt8]]?
    /// Where images of the catalogue lie by their SHA-256; empty for none.
    package var cache = ""
    /// The bridge of this host that a network's guests are on.
    // hash order: looked up, or read by sorted keys
    package var bridges: [String: String] = [:]
    /// What taps' names begin with: a letter.
    package var tapPrefix = "m"
    /// What moves from this host may take together; the carrier holds them to it.
    package var bytesPerSecond: Int64 = 128 << 20
    /// Whom guests run as; nil for the user of their parent. Guests that are this process's own children run as it does.
    package var users: GuestUsers?
    /// Why they run as their parent's user all the same, or empty.
    package var usersProblem = ""
    /// Whom guests run as, and why not as another user, as a sentence without its full stop.
    package var usersText: String {
        if let users { return users.text }
        return "guests run as the agent's own user: "
            + (usersProblem.isEmpty ? "hypervisor.user names no other" : usersProblem)
    }
    /// False leaves KVM alone.
    package var triesKVM = true

    /// Sockets lie in the directories, and their paths have a bound.
    package static let pathBytesMax = 70

    package init(directory: String, images: String, storage: String) {
        self.directory = directory
        self.images = images
        self.storage = storage
    }

    /// Networks whose bridges are not there yet, each as a sentence; their VMs can't start.
    package var bridgeProblems: [String] {
        bridges.keys.sorted().compactMap { network in
            bridges[network].flatMap { Tap.problem(ofBridge: $0) }.map {
                "VMs on the network '\(network)' can't start: \($0)"
            }
        }
    }

    /// What is wrong with the paths, as a sentence.
    package var problem: String? {
        for (name, path) in [
            ("hypervisor.directory", directory), ("hypervisor.images", images), ("hypervisor.storage", storage),
        ] {
            if path.utf8.count > QEMUSettings.pathBytesMax {
                return "\(name) is longer than \(QEMUSettings.pathBytesMax) bytes, which sockets below it can't be; "
                    + "choose a shorter path"
            }
            if path.utf8.contains(where: { $0 == UInt8(ascii: ",") || $0 < 32 }) {
                return "\(name) has a comma or a control character in it; choose another path"
            }
        }
        return nil
    }
}
