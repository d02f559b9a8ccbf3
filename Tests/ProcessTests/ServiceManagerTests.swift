import Foundation
import Testing

/// The socket on which systemd hears its services (sd_notify's protocol).
private final class NotifySocket {
    let path: String
    private let descriptor: Int32
    private(set) var heard: [(at: Date, lines: [String])] = []

    init(in folder: URL) throws {
        path = folder.appendingPathComponent("notify").path
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < 108 else { throw LocalCluster.Failure(description: "\(path) is too long for a socket") }
        withUnsafeMutableBytes(of: &address.sun_path) { target in
            for (i, byte) in bytes.enumerated() { target[i] = byte }
        }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        guard result == 0 else { throw LocalCluster.Failure(description: "\(path) can't be bound") }
    }

    deinit { close(descriptor) }

    /// Takes what has come.
    func listen() {
        var buffer = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count <= 0 { return }
            let text = String(decoding: buffer[..<count], as: UTF8.self)
            heard.append((Date(), text.split(separator: "\n").map(String.init)))
        }
    }

    func listen(seconds: Double) {
        let end = Date().addingTimeInterval(seconds)
        while Date() < end {
            listen()
            usleep(5_000)
        }
    }

    func forget() {
        listen()
        heard = []
    }

    func has(_ line: String) -> Bool { heard.contains { $0.lines.contains(line) } }
    func times(of line: String) -> [Date] { heard.filter { $0.lines.contains(line) }.map(\.at) }
}

/// What the service manager hears of an agent, and what clients see when it is asked to end.
@Suite(.serialized) struct ServiceManagerTests {
    @Test func `READY comes when the node serves, signs of life while it lives, STOPPING when it is asked to end`()
        throws
    {
        var notify: NotifySocket?
        let cluster = try LocalCluster(surroundings: { folder, node in
            guard node == 1 else { return [] }
            let socket = try notify ?? NotifySocket(in: folder.url)
            notify = socket
            return ["NOTIFY_SOCKET=\(socket.path)", "WATCHDOG_USEC=600000"]
        })
        let socket = try #require(notify)
        try cluster.wait("a founder is ready") {
            socket.listen()
            return socket.has("READY=1")
        }
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "k", "1").status == 0 }
        for node in 1...3 { cluster.kill9(node) }

        // Without a majority nobody serves, and the manager is told to wait, and for what.
        socket.forget()
        try cluster.start(1)
        socket.listen(seconds: 4)
        #expect(!socket.has("READY=1"))
        #expect(socket.has("EXTEND_TIMEOUT_USEC=30000000"))
        #expect(socket.heard.contains { $0.lines.contains { $0.hasPrefix("STATUS=waits: this node has not heard") } })
        try cluster.start(2)
        try cluster.wait("the node is ready") {
            socket.listen()
            return socket.has("READY=1")
        }
        #expect(try cluster.ask(1, "kv", "get", "box", "k").output == "1")
        #expect(socket.times(of: "READY=1").count == 1)

        // Nothing else happens on it, and the signs come all the same; from a process that stands still none do.
        socket.forget()
        socket.listen(seconds: 4)
        #expect(socket.times(of: "WATCHDOG=1").count >= 6, "\(socket.heard)")
        cluster.signal(1, SIGSTOP)
        socket.listen(seconds: 0.2)
        socket.forget()
        socket.listen(seconds: 1.5)
        #expect(socket.heard.isEmpty)
        cluster.signal(1, SIGCONT)
        #expect(!socket.has("STOPPING=1"))
        #expect(cluster.terminate(1) == 0)
        socket.listen()
        #expect(socket.times(of: "STOPPING=1").count == 1)
        #expect(!socket.has("READY=1"))
    }

    private struct Space: Decodable {
        var name: String
        var leader: String
    }

    private func leader(of space: String, _ cluster: LocalCluster) throws -> Int? {
        let said = try cluster.ask(1, "space", "list", "-o", "json")
        guard said.status == 0 else { return nil }
        let listing = try JSONDecoder().decode([Space].self, from: Data(said.output.utf8))
        return listing.first { $0.name == space }.flatMap { Int($0.leader.dropFirst()) }
    }

    /// Clients that write as fast as they are answered.
    private struct Load {
        let process = Process()
        let said: URL

        init(_ cluster: LocalCluster, named name: String, at nodes: [Int], clients: Int, _ more: [String]) throws {
            said = cluster.folder.file(name)
            try Data().write(to: said)
            process.executableURL = try MusterRun.binary()
            process.arguments =
                [
                    "bench", "admin", "--identity", cluster.folder.file("n1/operator").path, "--space", "box",
                    "--address",
                    nodes.map { cluster.address($0) }.joined(separator: ","), "--clients", "\(clients)",
                ] + more
            process.standardOutput = try FileHandle(forWritingTo: said)
            process.standardError = process.standardOutput
            try process.run()
        }

        func end() throws -> String {
            process.waitUntilExit()
            let text = try String(contentsOf: said, encoding: .utf8)
            #expect(process.terminationStatus == 0, "\(text)")
            return text
        }
    }

    @Test func `a leader that is asked to end under load leaves no gap like an election's, and cuts nobody off`() throws
    {
        // A silence of so long would be forgiven; an election by timeout could not begin before.
        let forgiven = 1_500.0
        let cluster = try LocalCluster { _, _ in ["--liveness-suspicion-floor", "1500ms"] }
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "k", "1").status == 0 }
        var gaps: [Double] = []
        // A machine that is busy with something else makes a gap of its own.
        for _ in 1...3 where !gaps.contains(where: { $0 < forgiven / 4 }) {
            var found: Int?
            try cluster.wait("the space has a leader") {
                found = try leader(of: "box", cluster)
                return found != nil
            }
            let led = try #require(found)
            let others = (1...3).filter { $0 != led }
            let elsewhere = try Load(cluster, named: "elsewhere", at: others, clients: 4, ["--seconds", "5"])
            let there = try Load(
                cluster, named: "there", at: [led] + others, clients: 30, ["--seconds", "5", "--roam"])
            sleep(2)
            #expect(cluster.terminate(led) == 0)
            let (gap, moved) = (try elsewhere.end(), try there.end())
            // Whoever is refused a connection asks another node; nobody is left without an answer to what it asked.
            for text in [gap, moved] { #expect(text.contains(" 0 failed") || text.contains(", 0 cut off"), "\(text)") }
            let word = gap.components(separatedBy: "longest gap ").last?.split(separator: " ").first ?? ""
            gaps.append(try #require(Double(word), "\(gap)"))
            try cluster.start(led)
            try cluster.wait("it is back") { try cluster.ask(led, "kv", "get", "box", "k").status == 0 }
        }
        #expect(gaps.contains { $0 < forgiven / 4 }, "gaps of \(gaps) ms")
    }
}
