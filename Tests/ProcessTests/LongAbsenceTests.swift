import Foundation
import Testing

/// What becomes of nodes whose certificates ended while they were off.
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
        for node in 1...3 { #expect(cluster.log(node).contains("certificate had ended and is replaced")) }
        try cluster.wait("the root knows the new certificates") {
            let listed = try JSONSerialization.jsonObject(
                with: Data(try ask(1, "node", "list", "--output", "json").output.utf8))
            let items = (listed as? [String: Any])?["items"] as? [[String: Any]] ?? []
            let ends = items.compactMap { $0["certificateExpires"] as? Double }
            return ends.count == 3 && ends.allSatisfy { $0 > Date().timeIntervalSince1970 + Double(ahead) }
        }
    }
}
