import Foundation
import Testing

/// What operators say of hosts, at a cluster of agents.
@Suite(.serialized) struct HostCareTests {
    private func member(_ cluster: LocalCluster, _ node: Int, _ host: String, _ name: String) throws -> String {
        let shown = try cluster.ask(node, "host", "show", host, "-o", "json")
        let object = try JSONSerialization.jsonObject(with: Data(shown.output.utf8)) as? [String: Any]
        return object?[name].map { "\($0)" } ?? ""
    }

    @Test func `a drain that is paused stays so when its leader dies, and goes on when that is said`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("the hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        let cells = try cluster.ask(1, "cell", "list", "-o", "json")
        let rows = try JSONSerialization.jsonObject(with: Data(cells.output.utf8)) as? [[String: Any]]
        let leader = try #require(rows?.first?["leader"] as? String)
        let others = ["n1", "n2", "n3"].filter { $0 != leader }
        let (host, asked) = (others[0], try #require(Int(others[0].dropFirst())))
        #expect(try cluster.ask(asked, "cell", "set", "migrationsPerHostMax", "1").status == 0)
        let early = try cluster.ask(asked, "host", "drain", host, "--pause")
        #expect(early.status == 4, "\(early.complaint)")
        #expect(early.complaint.contains("host \(host) is not being drained; begin with `muster host drain`"))
        let both = try cluster.ask(asked, "host", "drain", host, "--pause", "--resume")
        #expect(both.status == 2, "\(both.complaint)")

        for other in [leader, others[1]] { #expect(try cluster.ask(asked, "host", "cordon", other).status == 0) }
        let made = try cluster.ask(asked, "vm", "create", "web-{1..8}", "--cpu", "100m", "--memory", "64MiB", "--wait")
        #expect(made.status == 0, "\(made.complaint)")
        for other in [leader, others[1]] { #expect(try cluster.ask(asked, "host", "resume", other).status == 0) }
        #expect(try cluster.ask(asked, "host", "drain", host).status == 0)
        #expect(try cluster.ask(asked, "host", "drain", host, "--pause").status == 0)
        #expect(try member(cluster, asked, host, "state") == "draining")
        let list = try cluster.ask(asked, "host", "list")
        #expect(list.output.contains("its drain is paused"), "\(list.output)")
        let waiting = try cluster.ask(asked, "host", "drain", host, "--wait")
        #expect(waiting.status != 0 && waiting.complaint.contains("that is paused"), "\(waiting.complaint)")
        // What was on its way arrives.
        sleep(5)
        let stay = try cluster.names(asked, "vm", "list", "--filter", "host=\(host)").count
        #expect(stay > 3, "\(stay)")

        cluster.kill9(try #require(Int(leader.dropFirst())))
        try cluster.wait("another node leads") { try cluster.ask(asked, "host", "show", host).status == 0 }
        sleep(5)
        #expect(try cluster.names(asked, "vm", "list", "--filter", "host=\(host)").count >= stay)
        #expect(try member(cluster, asked, host, "note") == "its drain is paused")
        try cluster.start(try #require(Int(leader.dropFirst())))
        let on = try cluster.ask(asked, "host", "drain", host, "--resume", "--wait", "--wait-timeout", "90s")
        #expect(on.status == 0, "\(on.complaint)")
        #expect(try member(cluster, asked, host, "state") == "maintenance")
        #expect(try cluster.names(asked, "vm", "list", "--filter", "host=\(host)").isEmpty)
        let events = try cluster.ask(asked, "events", "--host", host)
        for kind in ["host.draining", "host.drain-paused", "host.drain-resumed", "host.drained"] {
            #expect(events.output.contains(kind), "\(events.output)")
        }
    }
}
