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

    @Test
    func `a batch that nobody gave a key survives the cell's leader, and what that had carried out is not done again`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        let curl = "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem"
        var (leader, struck, round) = (0, 0, 0)
        // A batch may be done before its leader is: such a round says nothing, and one with an earlier death follows.
        var microseconds: UInt32 = 300_000
        while struck < 2 && round < 7 {
            round += 1
            try cluster.wait("all hosts have reported, and the cell names its leader") {
                guard try cluster.names(2, "host", "list", "--filter", "state=ready").count == 3 else { return false }
                let head = try cluster.shell(
                    "\(curl) -D - -o /dev/null https://$MUSTER_ADDRESS/v1/cell/settings", at: 2
                ).output.lowercased()
                leader = (1...3).first { head.contains("muster-leader: n\($0)\r") } ?? 0
                return leader > 0
            }
            let asked = leader == 2 ? 3 : 2
            let items = (0..<2_500).map {
                "{\"name\":\"r\(round)-\($0)\",\"power\":\"stopped\",\"spec\":{\"cpuMillis\":1,\"memoryMiB\":1}}"
            }
            let body = cluster.folder.file("batch")
            try Data("{\"items\":[\(items.joined(separator: ","))]}".utf8).write(to: body)
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            let identity = cluster.folder.file("n1/operator").path
            let answer = cluster.folder.file("answer")
            process.arguments = [
                "curl", "-sk", "--max-time", "50", "--cert", "\(identity)/cert.pem", "--key", "\(identity)/key.pem",
                "--json", "@\(body.path)", "--output", answer.path, "https://\(cluster.address(asked))/v1/vms/batch",
            ]
            try process.run()
            // Of 2,500 VMs some are made then, and others are on their way.
            usleep(microseconds)
            if !process.isRunning { microseconds /= 2 }
            struck += process.isRunning ? 1 : 0
            cluster.kill9(leader)
            process.waitUntilExit()
            let said = try JSONSerialization.jsonObject(with: try Data(contentsOf: answer)) as? [String: Any] ?? [:]
            let refused = (said["items"] as? [[String: Any]] ?? []).filter { $0["status"] as? Int != 201 }
            #expect(said["created"] as? Int == 2_500, "\(said["detail"] ?? "") \(refused.prefix(2))")
            try cluster.start(leader)
            let names = try cluster.names(asked, "vm", "list", "--filter", "name~r\(round)-")
            #expect(names.count == 2_500 && Set(names).count == 2_500)
        }
        #expect(struck == 2, "a leader died in the middle of a batch \(struck) times of \(round)")
    }
}
