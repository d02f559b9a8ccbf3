internal import CTap
internal import Glibc

/// A guest's way onto a bridge of its host: a tap that lies on the bridge as a port from the moment when the guest is this
/// host's. That of a guest that arrives joins with the commit, so that nothing of it is seen here before.
struct Tap: Hashable {
    var name: String
    var bridge: String
    var mac: [UInt8]

    /// In letters, digits, dots, dashes and underscores, and as long as the kernel's names are.
    static let nameBytesMax = 15

    /// Why there is no such bridge on this host, or nil.
    static func problem(ofBridge bridge: String) -> String? {
        guard bridge.utf8.count <= nameBytesMax, QEMUMachine.isName(bridge) else {
            return "'\(bridge)' is no bridge's name"
        }
        return if_nametoindex(bridge) == 0 ? "there is no bridge '\(bridge)' on this host" : nil
    }

    private func problem(_ act: String, _ result: Int32) -> String? {
        result < 0 ? "can't \(act): \(String(cString: strerror(-result)))" : nil
    }

    /// Makes it for this user, and lets nothing through yet. Says what went wrong.
    func make(for user: GuestUser?) -> String? {
        // What an earlier process of the VM's left may have another owner.
        remove()
        if let problem = problem("make the tap \(name)", ctap_keep(name, 1, user?.user ?? 0)) { return problem }
        // The highest address of all: a bridge takes the lowest of its ports' for its own.
        let address = [0xFE] + mac.dropFirst()
        return problem(
            "set the address of \(name)", address.withUnsafeBufferPointer { ctap_set_address(name, $0.baseAddress) })
    }

    /// The guest's frames go through from now on.
    func join() -> String? {
        problem("put \(name) onto the bridge \(bridge)", ctap_join(bridge, name))
            ?? problem("switch \(name) on", ctap_up(name))
    }

    /// False while its process still holds it.
    @discardableResult
    func remove() -> Bool { if_nametoindex(name) == 0 || ctap_keep(name, 0, 0) >= 0 }

    // MARK: In a VM's directory

    var line: String { ([name, bridge] + mac.map { String($0) }).joined(separator: " ") }

    /// Nil when the line is none of this.
    init?(line: Substring) {
        let words = line.split(separator: " ")
        let mac = words.dropFirst(2).compactMap { UInt8($0) }
        guard words.count == 8, mac.count == 6 else { return nil }
        self.init(name: String(words[0]), bridge: String(words[1]), mac: mac)
    }

    init(name: String, bridge: String, mac: [UInt8]) {
        self.name = name
        self.bridge = bridge
        self.mac = mac
    }
}
