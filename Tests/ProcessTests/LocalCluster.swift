import Foundation
import Synchronization

/// Three or four real agents on this machine: processes, RocksDB, mutual TLS. Ends them when nobody needs it any more.
final class LocalCluster {
    let folder: TemporaryFolder
    private var processes: [Int: Process] = [:]
    private let ports: [Int]
    /// Settings of every node beside those that all tests want.
    private let more: (TemporaryFolder, Int) -> [String]
    private let network: ClusterNetwork
    /// What is done before a node starts; gives back variables of its environment, as `NAME=VALUE`.
    private let surroundings: (TemporaryFolder, Int) throws -> [String]
    /// How long a command waits for its answer.
    var patience = "5s"
    /// What was asked last, and what came of it.
    private var last = ""

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Founds a cluster of one and runs it.
    init(
        on network: ClusterNetwork = ClusterNetwork(),
        _ more: @escaping (TemporaryFolder, Int) -> [String] = { _, _ in [] },
        surroundings: @escaping (TemporaryFolder, Int) throws -> [String] = { _, _ in [] }
    ) throws {
        self.more = more
        self.network = network
        self.surroundings = surroundings
        folder = try TemporaryFolder()
        ports = try (0..<8).map { _ in try LocalCluster.freePort() }
        let made = try MusterRun(["init", "--no-start"] + options(1), inside: network.inside(1))
        guard made.status == 0 else { throw Failure(description: "init: \(made.complaint)") }
        try start(1)
        try wait("the first node answers") { try self.ask(1, "token", "list").status == 0 }
    }

    deinit {
        for process in processes.values where process.isRunning { kill(process.processIdentifier, SIGKILL) }
        for process in processes.values { process.waitUntilExit() }
        // Guards outlive their agents, and their guests end with them.
        for id in others(with: folder.url.path + "/") { kill(id, SIGKILL) }
    }

    /// Processes of this machine with an argument that begins so, ascending; of no more than this program where that is said.
    func others(with beginning: String, program: String = "") -> [Int32] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.compactMap { Int32($0) }.sorted().filter { id in
            guard let data = FileManager.default.contents(atPath: "/proc/\(id)/cmdline") else { return false }
            let words = String(decoding: data, as: UTF8.self).split(separator: "\0")
            let isMeant = program.isEmpty || words.first?.contains(program) ?? false
            return isMeant && words.contains { $0.hasPrefix(beginning) }
        }
    }

    /// The id of a node's process.
    func process(_ node: Int) -> Int32? { processes[node]?.processIdentifier }

    /// The threads of a node's process with the system's letter for what they do.
    func threads(_ node: Int) -> [(id: Int32, state: String)] {
        guard let process = process(node) else { return [] }
        let folder = "/proc/\(process)/task"
        // A process that is gone has none.
        let all = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return all.compactMap { Int32($0) }.compactMap { id in
            guard let data = FileManager.default.contents(atPath: "\(folder)/\(id)/stat") else { return nil }
            let rest = String(decoding: data, as: UTF8.self).components(separatedBy: ") ").last ?? ""
            return (id, String(rest.prefix(1)))
        }
    }

    /// Stops a node's process as it stands, or lets it go on.
    func signal(_ node: Int, _ signal: Int32) {
        if let process = processes[node] { kill(process.processIdentifier, signal) }
    }

    /// Joins two more, or three.
    func grow(to count: Int = 3) throws {
        let token = try ask(1, "token", "create", "--uses", "3").output.trimmingCharacters(in: .whitespacesAndNewlines)
        for node in 2...count {
            let joined = try MusterRun(["join", token] + options(node), inside: network.inside(node))
            guard joined.status == 0 else { throw Failure(description: "join: \(joined.complaint)") }
            try start(node)
        }
        try wait("three vote in the root group") {
            try self.ask(1, "node", "list").output.components(separatedBy: " voter ").count == 4
        }
    }

    /// Whether a node has the key of the cluster's authority, and that of secret fields.
    func holdsKeys(_ node: Int) -> (authority: Bool, sealing: Bool) {
        func has(_ name: String) -> Bool {
            FileManager.default.fileExists(atPath: folder.file("n\(node)/\(name)").path)
        }
        return (has("authority.sealed"), has("sealing.key"))
    }

    func options(_ node: Int) -> [String] {
        [
            "--node-data", folder.file("n\(node)").path, "--node-name", "n\(node)", "--node-zone", "zone-\(node)",
            "--peer-listen", "\(network.host(node)):\(ports[node - 1])", "--admin-listen", address(node),
            "--storage-low-space", "1MiB", "--host-cpu-millis", "8000", "--host-memory", "16GiB",
        ] + more(folder, node)
    }

    func address(_ node: Int) -> String { "\(network.host(node)):\(ports[node + 3])" }

    func start(_ node: Int) throws {
        let process = Process()
        let words =
            try surroundings(folder, node) + Leash.words + network.inside(node)
            + [try MusterRun.binary().path, "agent"] + options(node)
        // All of `env`, `setpriv` and `ip netns exec` become what they run, so that signals reach the agent.
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        let log = folder.file("n\(node).log")
        if !FileManager.default.fileExists(atPath: log.path) { try Data().write(to: log) }
        let handle = try FileHandle(forWritingTo: log)
        handle.seekToEndOfFile()
        process.standardError = handle
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        processes[node] = process
    }

    /// Ends a node's process as a power cut would.
    func kill9(_ node: Int) {
        guard let process = processes.removeValue(forKey: node) else { return }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// Asks a node to end, and says how it did.
    func terminate(_ node: Int) -> Int32 {
        guard let process = processes.removeValue(forKey: node) else { return -1 }
        kill(process.processIdentifier, SIGTERM)
        process.waitUntilExit()
        return process.terminationStatus
    }

    /// How a node ended, which it does by itself.
    func ended(_ node: Int) throws -> Int32 {
        guard let process = processes[node] else { return -1 }
        try wait("node \(node) ends") { !process.isRunning }
        processes[node] = nil
        return process.terminationStatus
    }

    func log(_ node: Int) -> String { (try? String(contentsOf: folder.file("n\(node).log"), encoding: .utf8)) ?? "" }

    /// Waits until a node's log has it: what others see may come before the line that says so.
    func waitForLog(_ node: Int, _ text: String) throws {
        try wait("node \(node)'s log says '\(text)'") { log(node).contains(text) }
    }

    func ask(_ node: Int, _ words: String...) throws -> MusterRun { try run(words, at: node) }

    func run(_ words: [String], at node: Int) throws -> MusterRun {
        let run = try MusterRun(
            words + [
                "--identity", folder.file("n1/operator").path, "--address", address(node), "--timeout", patience,
            ])
        let answer = "\(run.output.suffix(4_000))\(run.complaint.suffix(1_000))"
        last = "\(words.joined(separator: " ")): \(run.status)\n\(answer)"
        return run
    }

    /// A node's part in the root group, as the first one shows it.
    func role(_ node: Int) throws -> String {
        let shown = try JSONSerialization.jsonObject(
            with: Data(try ask(1, "node", "show", "n\(node)", "--output", "json").output.utf8))
        return (shown as? [String: Any])?["role"] as? String ?? ""
    }

    func wait(_ what: String, _ isDone: () throws -> Bool) throws {
        let end = Date().addingTimeInterval(60)
        while Date() < end {
            if try isDone() { return }
            usleep(100_000)
        }
        throw Failure(description: "not within 60 s: \(what)\n\(last)\n\(log(1).suffix(2_000))")
    }

    /// The first of as many ports that follow each other.
    static func freePorts(_ count: Int) throws -> Int {
        for _ in 0..<100 {
            let first = try freePort()
            if try (1..<count).allSatisfy({ try freePort() == first + $0 }) { return first }
        }
        throw Failure(description: "no \(count) ports in a row are free")
    }

    /// Below those that the kernel gives to connections: one of another test's could take it before the agent does. None comes
    /// twice in this process.
    static func freePort() throws -> Int {
        for _ in 0..<1_000 {
            let port = 10_000 + next.wrappingAdd(1, ordering: .relaxed).newValue % 22_000
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(port).bigEndian
            let result = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            if result == 0 { return port }
        }
        throw Failure(description: "no port is free")
    }

    private static let next = Atomic<Int>(Int(getpid()) * 7_919)
}
