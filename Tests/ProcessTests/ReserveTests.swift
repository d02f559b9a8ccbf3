import Foundation
import Testing

/// Three real agents: what is kept free for the loss of a host is there when one is lost.
@Suite(.serialized) struct ReserveTests {
    private func count(_ phase: String, _ cluster: LocalCluster) throws -> Int {
        try cluster.run(["vm", "list", "--filter", "phase=\(phase)", "-o", "name"], at: 1).output
            .split(separator: "\n").count
    }

    @Test func `what would use up the reserve waits and says so; a lost host's VMs run again, and the alarm is raised`()
        throws
    {
        let cluster = try LocalCluster { _, _ in [] }
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.run(["host", "list", "--filter", "state=ready", "-o", "name"], at: 1).output
                .split(separator: "\n").count == 3
        }
        let refused = try cluster.ask(1, "cell", "set", "failoverReserve", "hosts:9")
        #expect(refused.status != 0 && refused.complaint.contains("hosts:1"), "\(refused.complaint)")
        let set = try cluster.ask(1, "cell", "set", "failoverReserve", "hosts:1")
        #expect(set.status == 0, "\(set.complaint)")
        #expect(try cluster.ask(1, "cell", "show", "-o", "json").output.contains("\"failoverReserve\":\"hosts:1\""))

        let hosts = try Asked.get("/v1/hosts", at: 1, of: cluster).members["items"] as? [[String: Any]] ?? []
        let cpu = hosts.compactMap { ($0["capacity"] as? [String: Any])?["cpuMillis"] as? Int }.min() ?? 0
        #expect(cpu > 0, "\(hosts)")
        // Of six halves a host's two are kept free, and one since room in pieces is not all of use.
        for name in ["a", "b", "c", "d"] {
            let made = try cluster.run(
                ["vm", "create", name, "--cpu", "\(Double(cpu / 2) / 1_000)", "--memory", "64MiB"], at: 1)
            #expect(made.status == 0, "\(made.complaint)")
        }
        try cluster.wait("three run") { try count("running", cluster) == 3 }
        try cluster.wait("the fourth says why it waits") {
            try ["a", "b", "c", "d"].contains {
                try cluster.ask(1, "vm", "explain", $0, "-o", "json").output.contains("too little for the loss of host")
            }
        }
        #expect(try count("running", cluster) == 3)
        let shown = try cluster.ask(1, "cell", "show", "default")
        #expect(shown.output.contains("Kept free for losses"), "\(shown.output)\(shown.complaint)")
        #expect(try !cluster.ask(2, "status", "-o", "json").output.contains("failover-reserve"))
        let metrics = try [1, 2, 3].map { try Asked.get("/metrics", at: $0, of: cluster).body }.joined()
        #expect(metrics.contains("muster_cell_reserve_left{cell=\"default\",kind=\"cpu\"}"))

        cluster.kill9(3)
        try cluster.wait("the alarm is raised") {
            try cluster.ask(2, "status", "-o", "json").output.contains("does not keep its failover-reserve")
        }
        try cluster.wait("what was lost runs again") { try count("running", cluster) == 3 }
        let events = try cluster.ask(1, "events", "--cell", "default").output
        #expect(events.contains("cell.failover-reserve-at-risk"))
    }
}
