import Foundation
import Testing

/// A host that is to offer less: what has no room there any more moves away where somebody says so, at a cluster of agents.
@Suite(.serialized) struct HostCapacityTests {
    private func member(_ cluster: LocalCluster, _ host: String, _ name: String) throws -> String {
        let shown = try cluster.ask(1, "host", "show", host, "-o", "json")
        let object = try JSONSerialization.jsonObject(with: Data(shown.output.utf8)) as? [String: Any]
        return object?[name].map { "\($0)" } ?? ""
    }

    @Test func `what has no room any more is shown, moves away as shown when it is enforced, and stays otherwise`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("the hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        func must(_ words: String...) throws {
            let done = try cluster.run(words, at: 1)
            #expect(done.status == 0, "\(words): \(done.complaint)")
        }
        func there() throws -> [String] { try cluster.names(1, "vm", "list", "--filter", "host=n1") }
        let shown = try cluster.ask(1, "host", "show", "n1", "-o", "json")
        let object = try JSONSerialization.jsonObject(with: Data(shown.output.utf8)) as? [String: Any]
        let offered = try #require((object?["offered"] as? [String: Any])?["memoryMiB"] as? Int)
        for other in ["n2", "n3"] { try must("host", "cordon", other) }
        try must("vm", "create", "web-{1..4}", "--cpu", "100m", "--memory", "64MiB", "--wait")
        for other in ["n2", "n3"] { try must("host", "resume", other) }

        // Room for one of the four is left.
        let reserve = ["host", "set", "n1", "--reserve-memory", "\(offered - 100)MiB"]
        let seen = try cluster.run(reserve + ["--dry-run"], at: 1)
        #expect(seen.output.contains("with --enforce it moves to"), "\(seen.output)")
        try must("host", "set", "n1", "--reserve-memory", "\(offered - 100)MiB")
        #expect(try there().count == 4, "nobody asked for more")
        #expect(try member(cluster, "n1", "note").contains("more are in use than it offers"))
        let alone = try cluster.ask(1, "host", "set", "n1", "--enforce", "--dry-run", "-o", "json")
        let plan = try JSONSerialization.jsonObject(with: Data(alone.output.utf8)) as? [String: Any]
        let steps = try #require(plan?["steps"] as? [[String: Any]])
        let digest = try #require(plan?["digest"] as? String)
        #expect(steps.count == 3 && steps.allSatisfy { $0["action"] as? String == "migrate" }, "\(alone.output)")

        let other = try cluster.run(reserve + ["--enforce", "--plan", "123"], at: 1)
        #expect(other.status == 4 && other.complaint.contains("the plan is another one now"), "\(other.complaint)")
        let done = try cluster.ask(1, "host", "set", "n1", "--enforce", "--plan", digest, "--wait")
        #expect(done.status == 0, "\(done.complaint)")
        let moved = steps.compactMap { $0["vm"] as? String }
        #expect(try there() == ["web-1", "web-2", "web-3", "web-4"].filter { !moved.contains($0) })
        #expect(try member(cluster, "n1", "enforced") == "0" && member(cluster, "n1", "note").isEmpty)
        let events = try cluster.ask(1, "events", "--host", "n1")
        #expect(events.output.contains("all that is there may stay"), "\(events.output)")

        // What no other host takes is named, and stays.
        for host in ["n2", "n3"] { try must("host", "cordon", host) }
        let left = try cluster.ask(1, "host", "set", "n1", "--taint", "gpu=yes", "--enforce", "--wait")
        #expect(left.status == 1 && left.complaint.contains("is still on n1"), "\(left.status) \(left.complaint)")
        let waits = try cluster.ask(1, "host", "set", "n1", "--taint", "gpu-", "--wait")
        #expect(waits.status == 2 && waits.complaint.contains("--wait is for --enforce"), "\(waits.complaint)")
    }
}
