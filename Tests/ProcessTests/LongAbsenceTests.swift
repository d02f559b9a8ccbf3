import Foundation
import Testing

/// What becomes of nodes whose certificates get old while they run, or ended while they were off.
@Suite struct LongAbsenceTests {
    @Test func `a cluster that was off for longer than its certificates live comes back with all its nodes`() throws {
        let tools = try TemporaryFolder()
        let library = try Preload.build("clock-shift", in: tools)
        var ahead = 0
        func clock() -> [String] { ahead == 0 ? [] : ["LD_PRELOAD=\(library.path)", "CLOCK_SHIFT=\(ahead)"] }
        let cluster = try LocalCluster(surroundings: { _, _ in clock() })
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "k", "1").status == 0 }
        try cluster.wait("all three hold the authority's key") {
            (1...3).allSatisfy { cluster.holdsKeys($0).authority }
        }
        for node in 1...3 { _ = cluster.terminate(node) }
        // The third is as a node that does not vote in the root.
        for end in ["sealed", "secret", "pem"] {
            try FileManager.default.removeItem(at: cluster.folder.file("n3/authority.\(end)"))
        }

        ahead = 30 * 3_600
        for node in 1...3 { try cluster.start(node) }
        func ask(_ node: Int, _ words: String...) throws -> MusterRun {
            try MusterRun(
                words + [
                    "--identity", cluster.folder.file("n1/operator").path, "--address", cluster.address(node),
                    "--timeout", "5s",
                ], inside: clock())
        }
        try cluster.wait("what was written is read at each node") {
            try (1...3).allSatisfy { try ask($0, "kv", "get", "box", "k").output == "1" }
        }
        for node in 1...3 { try cluster.waitForLog(node, "certificate had ended and is replaced") }
        try cluster.wait("the root knows the new certificates") {
            let listed = try JSONSerialization.jsonObject(
                with: Data(try ask(1, "node", "list", "--output", "json").output.utf8))
            let items = listed as? [[String: Any]] ?? []
            let ends = items.compactMap { $0["certificateExpires"] as? Double }
            return ends.count == 3 && ends.allSatisfy { $0 > Date().timeIntervalSince1970 + Double(ahead) }
        }
    }

    @Test func `certificates are renewed when a third of their life is left, without a start and before they end`()
        throws
    {
        let tools = try TemporaryFolder()
        let library = try Preload.build("clock-shift", in: tools)
        let clock = tools.file("ahead")
        func set(_ ahead: Int) throws {
            // Written over, not replaced: the agents look at this file.
            let file = try FileHandle(forUpdating: clock)
            file.write(withUnsafeBytes(of: ahead) { Data($0) })
            try file.close()
        }
        try Data(count: 8).write(to: clock)
        let shifted = ["LD_PRELOAD=\(library.path)", "CLOCK_SHIFT=\(clock.path)"]
        let cluster = try LocalCluster(surroundings: { _, _ in shifted })
        try cluster.grow()
        func ends() throws -> [Double] {
            let listed = try MusterRun(
                [
                    "node", "list", "--output", "json", "--identity", cluster.folder.file("n1/operator").path,
                    "--address",
                    cluster.address(1),
                ], inside: shifted)
            let answer = try JSONSerialization.jsonObject(with: Data(listed.output.utf8))
            let items = answer as? [[String: Any]] ?? []
            return items.compactMap { $0["certificateExpires"] as? Double }
        }
        let processes = (1...3).map { cluster.process($0) }
        let first = try ends()
        #expect(first.count == 3)
        // A day is their life: after fifteen hours none is renewed, after seventeen all are.
        try set(15 * 3_600)
        sleep(3)
        #expect(try ends() == first)
        try set(17 * 3_600)
        try cluster.wait("all are renewed") {
            let now = try ends()
            return now.count == 3 && zip(now, first).allSatisfy { $0 > $1 + 16 * 3_600 }
        }
        // By now the first ones have ended: whoever still showed one would be let in nowhere.
        try set(25 * 3_600)
        for node in 1...3 {
            try cluster.wait("node \(node) answers") {
                try MusterRun(
                    [
                        "space", "list", "--identity", cluster.folder.file("n1/operator").path, "--address",
                        cluster.address(node),
                    ], inside: shifted
                ).status == 0
            }
        }
        #expect((1...3).map { cluster.process($0) } == processes)
        for node in 1...3 { try cluster.waitForLog(node, "the node's certificate was renewed") }
    }

    @Test func `short certificates are renewed again and again while the clock goes on, and every write goes through`()
        throws
    {
        let tools = try TemporaryFolder()
        let library = try Preload.build("clock-shift", in: tools)
        let clock = tools.file("ahead")
        try Data(count: 8).write(to: clock)
        let shifted = ["LD_PRELOAD=\(library.path)", "CLOCK_SHIFT=\(clock.path)"]
        let cluster = try LocalCluster(surroundings: { _, _ in shifted })
        try cluster.grow()
        func ask(_ node: Int, _ words: String...) throws -> MusterRun {
            let options = [
                "--identity", cluster.folder.file("n1/operator").path, "--address", cluster.address(node), "--timeout",
                "5s",
            ]
            return try MusterRun(words + options, inside: shifted)
        }
        func certificates() throws -> [Data] {
            try (1...3).map { try Data(contentsOf: cluster.folder.file("n\($0)/node.pem")) }
        }
        #expect(try ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try ask(3, "kv", "put", "box", "k", "0").status == 0 }
        #expect(try ask(1, "setting", "set", "certificate-lifetime", "10m").status == 0)
        // Who signs may not know of the setting yet: what it gives out lives for a day.
        try cluster.wait("all have one that is short") {
            let listed = try ask(1, "node", "list", "--output", "json").output
            let items = try JSONSerialization.jsonObject(with: Data(listed.utf8)) as? [[String: Any]] ?? []
            let latest = Date().timeIntervalSince1970 + 660
            let long = items.filter { ($0["certificateExpires"] as? Double ?? .infinity) > latest }
            for item in long {
                let node = Int((item["name"] as? String ?? "").dropFirst()) ?? 1
                #expect(try ask(node, "cert", "rotate").status == 0)
            }
            return items.count == 3 && long.isEmpty
        }
        let processes = (1...3).map { cluster.process($0) }
        let first = try certificates()

        // Forty seconds in each, thirty a step at most: after twelve minutes all that was shown at the beginning has ended.
        let file = try FileHandle(forUpdating: clock)
        let begin = Date()
        var turned = begin
        var (ahead, writes, seen) = (0, 0, Set(first))
        // When each node's certificate was seen for the first time, by the agents' clock.
        var shown = first.map { (certificate: $0, at: 0.0) }
        while ahead < 720, turned.timeIntervalSince(begin) < 240 {
            let now = Date().timeIntervalSince(begin) + Double(ahead)
            for (node, certificate) in try certificates().enumerated() where certificate != shown[node].certificate {
                shown[node] = (certificate, now)
            }
            // The clock waits for who is late, two minutes of this host's before the end: a renewal that fails is tried
            // again after five seconds of this host's, too, and on a busy machine each try takes some.
            let latest = shown.map { $0.at + 480 }.min() ?? 0
            ahead += max(0, min(30, Int(Date().timeIntervalSince(turned) * 40), Int(latest - now)))
            turned = Date()
            try file.seek(toOffset: 0)
            file.write(withUnsafeBytes(of: ahead) { Data($0) })
            writes += 1
            let put = try ask(writes % 3 + 1, "kv", "put", "box", "k", "\(writes)")
            #expect(put.status == 0, "\(ahead) s: \(put.complaint)")
            seen.formUnion(try certificates())
        }
        let last = try certificates()
        #expect(
            ahead >= 720 && zip(last, first).allSatisfy { $0 != $1 } && seen.count >= 6,
            "\(ahead) s: \(zip(last, first).map { $0 != $1 }), \(seen.count)\n\((1...3).map { cluster.log($0).suffix(700) })"
        )
        #expect(try ask(2, "kv", "get", "box", "k").output == "\(writes)" && writes > 20)
        #expect((1...3).map { cluster.process($0) } == processes)
        for node in 1...3 {
            try cluster.waitForLog(node, "the node's certificate was renewed")
            #expect(!cluster.log(node).contains("has ended") && !cluster.log(node).contains("certificate has expired"))
        }
    }

    @Test
    func `a node whose renewed certificate never reached its disk is let in with the one before and certified again`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        #expect(try cluster.ask(1, "setting", "set", "certificate-overlap", "0s").status == 0)
        let file = cluster.folder.file("n3/node.pem")
        let before = try Data(contentsOf: file)
        #expect(try cluster.ask(3, "cert", "rotate").status == 0)
        try cluster.wait("it has another certificate") { try Data(contentsOf: file) != before }
        #expect(cluster.terminate(3) == 0)
        try before.write(to: file)
        try cluster.start(3)
        try cluster.wait("it is certified again") {
            try Data(contentsOf: file) != before && cluster.ask(3, "token", "list").status == 0
        }
    }
}
