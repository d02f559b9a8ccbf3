import Foundation
import Testing

/// The short form of `Tools/chaos`.
@Suite(.serialized) struct ChaosTests {
    @Test func `agents that are killed again and again lose no acknowledged write`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "chaos").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "chaos", "warm", "up").status == 0 }
        let addresses = (1...3).map { cluster.address($0) }.joined(separator: ",")
        let verdict = cluster.folder.file("verdict")
        try Data().write(to: verdict)
        let load = Process()
        load.executableURL = try MusterRun.binary()
        load.arguments = [
            "bench", "chaos", "--identity", cluster.folder.file("n1/operator").path, "--address", addresses, "--space",
            "chaos", "--clients", "6", "--seconds", "8",
        ]
        load.standardOutput = try FileHandle(forWritingTo: verdict)
        load.standardError = load.standardOutput
        try load.run()
        var killed = 0
        let end = Date().addingTimeInterval(7)
        while Date() < end {
            usleep(700_000)
            let node = Int.random(in: 1...3)
            cluster.kill9(node)
            killed += 1
            usleep(300_000)
            try cluster.start(node)
        }
        load.waitUntilExit()
        let text = try String(contentsOf: verdict, encoding: .utf8)
        #expect(load.terminationStatus == 0, "\(text)")
        #expect(text.contains("the history is linearizable"), "\(text)")
        #expect(killed >= 5)
    }
}
