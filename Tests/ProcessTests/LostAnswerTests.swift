import Foundation
import Testing

/// What a command line makes of a node that goes away between a request and its answer.
@Suite struct LostAnswerTests {
    @Test func `a change whose answer is lost is asked for again at the next node, and takes effect once`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "warm", "1").status == 0 }
        for round in 1...2 {
            // Nothing is acknowledged while the others stand still, and then the one that was asked is gone.
            for node in [1, 3] { cluster.signal(node, SIGSTOP) }
            let said = cluster.folder.file("said")
            try Data().write(to: said)
            let process = Process()
            process.executableURL = try MusterRun.binary()
            process.arguments = [
                "kv", "put", "box", "k\(round)", "v", "--identity", cluster.folder.file("n1/operator").path,
                "--address",
                cluster.address(2), "--address", cluster.address(3), "--timeout", "20s",
            ]
            process.standardError = try FileHandle(forWritingTo: said)
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            sleep(1)
            #expect(process.isRunning)
            cluster.kill9(2)
            for node in [1, 3] { cluster.signal(node, SIGCONT) }
            process.waitUntilExit()
            let complaint = try String(contentsOf: said, encoding: .utf8)
            #expect(process.terminationStatus == 0, "\(complaint)")
            var listed: [[String: Any]] = []
            try cluster.wait("the key is listed") {
                let shown = try cluster.ask(3, "kv", "list", "box", "k\(round)", "-o", "json")
                guard shown.status == 0 else { return false }
                let page = try JSONSerialization.jsonObject(with: Data(shown.output.utf8)) as? [String: Any]
                listed = page?["keys"] as? [[String: Any]] ?? []
                return true
            }
            #expect(listed.count == 1 && listed.first?["version"] as? Int == 1, "\(listed)")
            try cluster.start(2)
            try cluster.wait("it is back") { try cluster.ask(2, "kv", "get", "box", "warm").status == 0 }
        }
    }
}
