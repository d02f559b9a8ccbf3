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

    @Test
    func `a host that is away keeps its VMs, and one that is declared dead gives up even those that keep running`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("the hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        for other in ["n1", "n2"] { #expect(try cluster.ask(1, "host", "cordon", other).status == 0) }
        for (name, isolation) in [("web", "stop"), ("db", "keep")] {
            let made = try cluster.ask(
                1, "vm", "create", name, "--cpu", "100m", "--memory", "64MiB", "--isolation", isolation, "--wait")
            #expect(made.status == 0, "\(made.complaint)")
        }
        for other in ["n1", "n2"] { #expect(try cluster.ask(1, "host", "resume", other).status == 0) }
        let early = try cluster.ask(1, "host", "declare-dead", "n3", "--yes")
        #expect(early.status == 4 && early.complaint.contains("n3 was heard"), "\(early.complaint)")
        #expect(early.complaint.contains("ask again after that"), "\(early.complaint)")
        let unsure = try cluster.ask(1, "host", "declare-dead", "n3")
        #expect(unsure.status == 2 && unsure.complaint.contains("Nothing was done"), "\(unsure.complaint)")
        for part in ["on your word that n3 is powered off", "not yet: host n3 was heard", "db: kept running"] {
            #expect(unsure.output.contains(part), "\(unsure.output)")
        }
        #expect(try cluster.ask(1, "host", "back", "n3").complaint.contains("is not to be away"))

        #expect(try cluster.ask(1, "host", "away", "n3", "--for", "10m").status == 0)
        #expect(try member(cluster, 1, "n3", "note") == "is to be away")
        cluster.kill9(3)
        try cluster.wait("n3 is away") { try member(cluster, 1, "n3", "state") == "away" }
        sleep(3)
        #expect(try cluster.names(1, "vm", "list", "--filter", "host=n3").sorted() == ["db", "web"])
        try cluster.start(3)
        try cluster.wait("n3 is back with its VMs") {
            try member(cluster, 1, "n3", "state") == "ready"
                && cluster.names(1, "vm", "list", "--filter", "phase=running and host=n3").count == 2
        }

        cluster.kill9(3)
        try cluster.wait("n3 is down, and what keeps running is waited for") {
            try member(cluster, 1, "n3", "state") == "down"
                && cluster.names(1, "vm", "list", "--filter", "phase=running").sorted() == ["web"]
        }
        let said = try cluster.ask(1, "host", "declare-dead", "n3", "--yes")
        #expect(said.status == 0, "\(said.complaint)")
        try cluster.wait("all of it runs elsewhere") {
            try cluster.names(1, "vm", "list", "--filter", "phase=running").sorted() == ["db", "web"]
        }
        #expect(try cluster.names(1, "vm", "list", "--filter", "host=n3").isEmpty)
        try cluster.start(3)
        try cluster.wait("n3 is back, with nothing") { try member(cluster, 1, "n3", "state") == "ready" }
        sleep(2)
        #expect(try cluster.names(1, "vm", "list", "--filter", "host=n3").isEmpty)
        #expect(try cluster.names(1, "vm", "list", "--filter", "phase=running").sorted() == ["db", "web"])
        let events = try cluster.ask(1, "events", "--host", "n3").output
        for kind in ["host.away", "host.absent", "host.declared-dead", "host.down"] {
            #expect(events.contains(kind), "\(events)")
        }
    }
}
