import Foundation
import Testing

/// One node under `muster agent --supervise`, on a disk that fails and fills on demand.
private final class SupervisedNode {
    let folder: TemporaryFolder
    private let fault: URL
    private let library: URL
    private let port: Int
    private let peerPort: Int
    private var process: Process?

    init() throws {
        folder = try TemporaryFolder()
        fault = folder.file("fault")
        library = try Preload.build("chaos-fault", in: folder)
        port = try LocalCluster.freePort()
        peerPort = try LocalCluster.freePort()
        let made = try MusterRun(["init", "--no-start"] + options)
        guard made.status == 0 else { throw LocalCluster.Failure(description: "init: \(made.complaint)") }
    }

    deinit {
        if let process, process.isRunning {
            kill(process.processIdentifier, SIGTERM)
            process.waitUntilExit()
        }
    }

    private var options: [String] {
        [
            "--node-data", folder.file("n").path, "--node-name", "n", "--peer-listen", "127.0.0.1:\(peerPort)",
            "--admin-listen", "127.0.0.1:\(port)", "--storage-low-space", "1MiB",
        ]
    }

    func fail(_ how: String?) throws {
        if let how { return try Data(how.utf8).write(to: fault, options: .atomic) }
        try FileManager.default.removeItem(at: fault)
    }

    func start() throws {
        let log = folder.file("log")
        if !FileManager.default.fileExists(atPath: log.path) { try Data().write(to: log) }
        let handle = try FileHandle(forWritingTo: log)
        handle.seekToEndOfFile()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            ["LD_PRELOAD=\(library.path)", "CHAOS_FAULT=\(fault.path)", try MusterRun.binary().path, "agent"]
            + options + ["--supervise"]
        process.standardError = handle
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        self.process = process
    }

    /// How it ended after SIGTERM, and how long that took; nil when it did not within ten seconds.
    func terminate() -> (status: Int32, seconds: Double)? {
        guard let process else { return nil }
        let begin = Date()
        kill(process.processIdentifier, SIGTERM)
        while process.isRunning && Date().timeIntervalSince(begin) < 10 { usleep(20_000) }
        if process.isRunning { return nil }
        self.process = nil
        return (process.terminationStatus, Date().timeIntervalSince(begin))
    }

    func ask(_ words: String...) throws -> MusterRun { try run(words) }

    func run(_ words: [String]) throws -> MusterRun {
        try MusterRun(
            words + ["--identity", folder.file("n/operator").path, "--address", "127.0.0.1:\(port)", "--timeout", "2s"])
    }

    var log: String { (try? String(contentsOf: folder.file("log"), encoding: .utf8)) ?? "" }

    func wait(_ what: String, _ isDone: () throws -> Bool) throws {
        let end = Date().addingTimeInterval(60)
        while Date() < end {
            if try isDone() { return }
            usleep(50_000)
        }
        throw LocalCluster.Failure(description: "not within 60 s: \(what)\n\(log.suffix(2_000))")
    }
}

@Suite struct SupervisionTests {
    @Test func `a node whose disk fails, when it starts or later, is started again and serves`() throws {
        let node = try SupervisedNode()
        try node.fail("fsync")
        try node.start()
        try node.wait("the node answers") { try node.ask("space", "create", "box").status == 0 }
        #expect(node.log.contains("the agent ended (code 75); it is started again"))
        try node.wait("the space is ready") { try node.ask("kv", "put", "box", "k", "1").status == 0 }
        let before = node.log
        try node.fail("fsync")
        try node.wait("a write meets the fault, and a later one is taken") {
            let isTaken = try node.ask("kv", "put", "box", "k", "2").status == 0
            return isTaken && node.log.dropFirst(before.count).contains("the agent ended (code 75)")
        }
        #expect(try node.ask("kv", "get", "box", "k").output == "2")
        let end = try #require(node.terminate())
        #expect(end.status == 0 && end.seconds < 8)
    }

    @Test func `SIGTERM ends a supervisor between two lives of its agent`() throws {
        let node = try SupervisedNode()
        try node.fail("fsync")
        try node.start()
        // Each start fails, and a second passes before the next.
        try node.wait("three starts have failed") {
            try node.fail("fsync")
            return node.log.components(separatedBy: "it is started again").count > 3
        }
        let end = try #require(node.terminate(), "the supervisor went on")
        #expect(end.status == 0 && end.seconds < 2)
        #expect(node.log.components(separatedBy: " runs cluster=").count == 1)
    }

    @Test func `a node that waits for space ends when it is asked to, and begins by itself when there is some`() throws
    {
        let node = try SupervisedNode()
        try node.fail("full")
        try node.start()
        try node.wait("the node waits") { node.log.contains("the agent waits for space") }
        let end = try #require(node.terminate(), "the agent went on waiting")
        #expect(end.status == 0 && end.seconds < 2)
        try node.start()
        try node.wait("the node waits again") { node.log.components(separatedBy: "waits for space").count > 2 }
        try node.fail(nil)
        try node.wait("the node answers") { try node.ask("space", "create", "box").status == 0 }
        try node.wait("the space is ready") { try node.ask("kv", "put", "box", "k", "1").status == 0 }

        // A disk that fills up while the node runs: writes are refused with a reason, reads go on.
        try node.fail("full")
        try node.wait("a write is refused") { try node.ask("kv", "put", "box", "other", "2").status != 0 }
        let refused = try node.ask("kv", "put", "box", "other", "2")
        #expect(refused.complaint.contains("space") || refused.complaint.contains("full"), "\(refused.complaint)")
        #expect(try node.ask("kv", "get", "box", "k").output == "1")
        for words in [["space", "create", "more"], ["vm", "create", "v", "--cpu", "100m", "--memory", "64MiB"]] {
            let refused = try node.run(words)
            #expect(refused.status != 0 && refused.complaint.contains("nearly full"), "\(words): \(refused)")
        }
        // What frees space is taken, and what lets another host come.
        #expect(try node.ask("kv", "delete", "box", "k").status == 0)
        #expect(try node.ask("token", "create").status == 0)
        try node.fail(nil)
        try node.wait("writes go on by themselves") { try node.ask("kv", "put", "box", "k", "3").status == 0 }
    }
}
