import Foundation
import Synchronization

/// Where the nodes of a local cluster live: on this machine's loopback.
class ClusterNetwork {
    func host(_ node: Int) -> String { "127.0.0.1" }
    /// The words before a program that is to run where a node lives.
    func inside(_ node: Int) -> [String] { [] }
}

/// Each in a network namespace of its own, on one bridge. Addresses of the block that is meant for tests of networks.
final class SeparateNetworks: ClusterNetwork {
    private let bridge: String
    /// Several may be there at a time, this process's and others'.
    private let block: Int
    private let count: Int
    private static let made = Atomic<Int>(0)

    struct Failure: Error, CustomStringConvertible { let description: String }

    /// Whether this machine lets the tests make one.
    static let isPossible: Bool = {
        guard getuid() == 0, (try? ip("netns", "add", "mt-try\(getpid())")) != nil else { return false }
        return (try? ip("netns", "delete", "mt-try\(getpid())")) != nil
    }()

    init(_ count: Int) throws {
        self.count = count
        let number = SeparateNetworks.made.wrappingAdd(1, ordering: .relaxed).newValue
        bridge = "mt\(getpid() % 100_000)x\(number % 10)"
        block = (Int(getpid()) * 7 + number) % 250
        super.init()
        try SeparateNetworks.ip("link", "add", bridge, "type", "bridge")
        try SeparateNetworks.ip("address", "add", "198.19.\(block).254/24", "dev", bridge)
        try SeparateNetworks.ip("link", "set", bridge, "up")
        for node in 1...count {
            let name = space(node)
            try SeparateNetworks.ip("netns", "add", name)
            try SeparateNetworks.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            try SeparateNetworks.ip("link", "set", name, "master", bridge, "up")
            for words in [
                ["link", "set", "lo", "up"], ["address", "add", "\(host(node))/24", "dev", "eth0"],
                ["link", "set", "eth0", "up"],
            ] { try SeparateNetworks.run(["ip", "netns", "exec", name, "ip"] + words) }
        }
    }

    /// The processes in them have ended by now.
    deinit {
        for node in 1...count { _ = try? SeparateNetworks.ip("netns", "delete", space(node)) }
        _ = try? SeparateNetworks.ip("link", "delete", bridge)
    }

    private func space(_ node: Int) -> String { "\(bridge)-\(node)" }
    override func host(_ node: Int) -> String { "198.19.\(block).\(node)" }
    override func inside(_ node: Int) -> [String] { ["ip", "netns", "exec", space(node)] }

    /// Takes a node's network away without a word, or gives it back.
    func cut(_ node: Int, _ isCut: Bool) throws {
        try SeparateNetworks.ip("link", "set", space(node), isCut ? "down" : "up")
    }

    private static func ip(_ words: String...) throws { try run(["ip"] + words) }

    private static func run(_ words: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        if process.terminationStatus != 0 { throw Failure(description: words.joined(separator: " ")) }
    }
}
