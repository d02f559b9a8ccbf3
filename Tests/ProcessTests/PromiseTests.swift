import Foundation
import Testing

/// Three real agents in two regions: a promise that the next loss would break is told before there is one.
@Suite(.serialized) struct PromiseTests {
    private func recovery(_ cluster: LocalCluster) throws -> [String: Any] {
        try Asked.get("/v1/cells/default/recovery", at: 1, of: cluster).members
    }

    private func loss(of region: String, _ cluster: LocalCluster) throws -> [String: Any]? {
        let losses = try recovery(cluster)["losses"] as? [[String: Any]] ?? []
        return losses.first { $0["scope"] as? String == "region" && $0["region"] as? String == region }
    }

    private func risks(_ cluster: LocalCluster) throws -> [String] {
        (try recovery(cluster)["risks"] as? [[String: Any]] ?? []).compactMap { $0["kind"] as? String }
    }

    private func alarms(_ node: Int, _ cluster: LocalCluster) throws -> String {
        try cluster.ask(node, "status", "-o", "json").output
    }

    @Test
    func `a replica that stops is told of before anything is lost, and that it is back; VMs' time down is counted`()
        throws
    {
        let cluster = try LocalCluster { _, node in ["--node-region", node == 3 ? "south" : "north"] }
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.run(["host", "list", "--filter", "state=ready", "-o", "name"], at: 1).output
                .split(separator: "\n").count == 3
        }
        let refused = try cluster.ask(1, "cell", "set", "rpoRegion", "soon")
        #expect(refused.status != 0 && refused.complaint.contains("such as 5s"), "\(refused.complaint)")
        let set = try cluster.ask(2, "cell", "set", "rpoRegion", "2s")
        #expect(set.status == 0, "\(set.complaint)")
        #expect(try cluster.ask(1, "cell", "set", "rto", "60s").status == 0)

        // A majority is in the north, and the south has all of it: nothing is lost, and nothing is told.
        try cluster.wait("the leader has looked") { try loss(of: "north", cluster)?["entries"] as? Int == 0 }
        #expect(try loss(of: "north", cluster)?["isCovered"] as? Bool == false)
        #expect(try loss(of: "south", cluster)?["isCovered"] as? Bool == true)
        #expect(try risks(cluster).isEmpty)

        // The only replica in the south stands still. All goes on, and the loss of the north would lose everything.
        cluster.signal(3, SIGSTOP)
        for name in ["a", "b"] {
            let made = try cluster.run(["vm", "create", name, "--cpu", "1", "--memory", "64MiB"], at: 1)
            #expect(made.status == 0, "\(made.complaint)")
        }
        try cluster.wait("the promise is told not to be kept") { try risks(cluster) == ["rpo-region"] }
        #expect(try loss(of: "north", cluster)?["entries"] == nil)
        try cluster.wait("every node that is asked has the alarm") {
            try [1, 2].allSatisfy { try alarms($0, cluster).contains("does not keep its rpo-region") }
        }
        #expect(try cluster.ask(2, "cell", "list", "-o", "json").output.contains("region north"))
        let shown = try cluster.ask(1, "cell", "show", "default")
        #expect(shown.output.contains("Not kept: rpo-region"), "\(shown.output)\(shown.complaint)")
        let events = try cluster.ask(1, "events", "--cell", "default").output
        #expect(events.contains("cell.rpo-region-at-risk") && !events.contains("cell.rpo-region-kept"))
        let metrics = try [1, 2].map { try Asked.get("/metrics", at: $0, of: cluster).body }.joined()
        #expect(metrics.contains("muster_cell_at_risk{cell=\"default\",promise=\"rpo-region\"} 1"))
        #expect(
            metrics.contains(
                "muster_cell_loss_seconds{cell=\"default\",scope=\"region\",region=\"north\",zone=\"\"} +Inf"))

        // It goes on, catches up, and the alarm ends.
        cluster.signal(3, SIGCONT)
        try cluster.wait("the promise is kept again") { try risks(cluster).isEmpty }
        try cluster.wait("no node has the alarm") {
            try [1, 2, 3].allSatisfy { try !alarms($0, cluster).contains("does not keep its rpo-region") }
        }
        #expect(try cluster.ask(1, "events", "--cell", "default").output.contains("cell.rpo-region-kept"))

        // A host is lost with its VMs, and how long they were down is counted.
        let placed = try cluster.run(
            ["vm", "create", "c", "--cpu", "1", "--memory", "64MiB", "--zone", "zone-3", "--zone", "zone-2", "--wait"],
            at: 1)
        #expect(placed.status == 0, "\(placed.complaint)")
        let where3 = try cluster.ask(1, "vm", "show", "c", "-o", "json").output.contains("\"host\":\"n3\"")
        cluster.kill9(where3 ? 3 : 2)
        try cluster.wait("its time is counted") {
            let found = try recovery(cluster)["recoveries"] as? [[String: Any]] ?? []
            return (found.first?["millis"] as? Int ?? 0) > 3_000
        }
        let tier = try #require((try recovery(cluster)["recoveries"] as? [[String: Any]])?.first)
        #expect(tier["tier"] as? String == "" && tier["isMissed"] as? Bool == false && tier["missed"] as? Int == 0)
    }
}
