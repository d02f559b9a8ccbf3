import Foundation
import Testing

/// VMs that a drain moved off a host come back to it, at a cluster of agents.
@Suite(.serialized) struct HostReturnTests {
    private func member(_ cluster: LocalCluster, _ node: Int, _ host: String, _ name: String) throws -> String {
        let shown = try cluster.ask(node, "host", "show", host, "-o", "json")
        let object = try JSONSerialization.jsonObject(with: Data(shown.output.utf8)) as? [String: Any]
        return object?[name].map { "\($0)" } ?? ""
    }

    private func leader(_ cluster: LocalCluster) throws -> String {
        let cells = try cluster.ask(1, "cell", "list", "-o", "json")
        let rows = try JSONSerialization.jsonObject(with: Data(cells.output.utf8)) as? [[String: Any]]
        return try #require(rows?.first?["leader"] as? String)
    }

    @Test
    func `what a drain moved away comes back when that is said, goes on after its leader died, and names what can't`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("the hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        let leader = try leader(cluster)
        let others = ["n1", "n2", "n3"].filter { $0 != leader }
        let (host, asked) = (others[0], try #require(Int(others[0].dropFirst())))
        func there() throws -> Int { try cluster.names(asked, "vm", "list", "--filter", "host=\(host)").count }
        func must(_ words: String...) throws {
            let done = try cluster.run(words, at: asked)
            #expect(done.status == 0, "\(words): \(done.complaint)")
        }
        try must("cell", "set", "migrationsPerHostMax", "1")
        for other in [leader, others[1]] { try must("host", "cordon", other) }
        try must("vm", "create", "web-{1..8}", "--cpu", "100m", "--memory", "64MiB", "--wait")
        for other in [leader, others[1]] { try must("host", "resume", other) }
        try must("host", "drain", host, "--return", "all", "--wait", "--wait-timeout", "90s")
        #expect(try there() == 0 && member(cluster, asked, host, "awayVMs") == "8")
        func origin() throws -> Bool {
            try cluster.ask(asked, "vm", "show", "web-1", "-o", "json").output.contains("\"origin\":\"\(host)\"")
        }
        #expect(try origin())

        let dry = try cluster.ask(asked, "host", "resume", host, "--return", "all", "--dry-run")
        #expect(dry.status == 0 && dry.output.contains("web-8"), "\(dry.output) \(dry.complaint)")
        #expect(try member(cluster, asked, host, "state") == "maintenance", "nothing was done")
        let idle = try cluster.ask(asked, "host", "resume", host, "--dry-run")
        #expect(idle.status == 2 && idle.complaint.contains("--return all"), "\(idle.complaint)")

        // What the drain said holds without another word. One of them is somebody's from now on.
        try must("vm", "migrate", "web-8", "--to", others[1])
        try cluster.wait("it is away no more") { try member(cluster, asked, host, "awayVMs") != "8" }
        try must("host", "resume", host)
        try must("host", "resume", host, "--pause")
        let list = try cluster.ask(asked, "host", "list")
        #expect(list.output.contains("that left it come back, and that is paused"), "\(list.output)")
        let waiting = try cluster.ask(asked, "host", "resume", host, "--pause", "--go-on")
        #expect(waiting.status == 2, "\(waiting.complaint)")
        sleep(5)
        let paused = try there()
        #expect(paused < 7, "\(paused)")
        cluster.kill9(try #require(Int(leader.dropFirst())))
        try cluster.wait("another node leads") { try cluster.ask(asked, "host", "show", host).status == 0 }
        #expect(try member(cluster, asked, host, "returnPaused") == "1")
        try cluster.start(try #require(Int(leader.dropFirst())))
        let back = try cluster.ask(asked, "host", "resume", host, "--go-on", "--wait", "--wait-timeout", "120s")
        #expect(back.status == 0, "\(back.complaint)")
        #expect(try there() == 7 && member(cluster, asked, host, "awayVMs") == "0")
        let events = try cluster.ask(asked, "events", "--host", host)
        for kind in ["host.resumed", "host.return-paused", "host.return-resumed", "host.returned"] {
            #expect(events.output.contains(kind), "\(events.output)")
        }

        // Without room it is said which and why, and they take the host first later on.
        try must("host", "drain", host, "--wait", "--wait-timeout", "90s")
        try must("host", "set", host, "--taint", "gpu=yes")
        let left = try cluster.ask(
            asked, "host", "resume", host, "--return", "all", "--wait", "--wait-timeout", "60s")
        #expect(left.status == 1, "\(left.status) \(left.complaint)")
        #expect(left.complaint.contains("web-1 is not back: \(host) is excluded by taint"), "\(left.complaint)")
        #expect(try member(cluster, asked, host, "return") == "lazy")
        try must("host", "resume", host, "--return", "none")
        #expect(try member(cluster, asked, host, "awayVMs") == "0")
        #expect(try !origin())
        let late = try cluster.ask(asked, "host", "resume", host, "--return", "all")
        #expect(late.status == 4 && late.complaint.contains("nothing is remembered"), "\(late.complaint)")
    }

    @Test func `maintenance with a return ends with each host as it was`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("the hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        for (host, names) in [("n1", "a-{1..2}"), ("n2", "b-{1..2}"), ("n3", "c-{1..2}")] {
            for other in ["n1", "n2", "n3"] where other != host {
                #expect(try cluster.ask(1, "host", "cordon", other).status == 0)
            }
            let made = try cluster.ask(1, "vm", "create", names, "--cpu", "100m", "--memory", "64MiB", "--wait")
            #expect(made.status == 0, "\(made.complaint)")
            for other in ["n1", "n2", "n3"] where other != host {
                #expect(try cluster.ask(1, "host", "resume", other).status == 0)
            }
        }
        func places() throws -> [String] {
            try ["n1", "n2", "n3"].map {
                try cluster.names(1, "vm", "list", "--filter", "host=\($0)").sorted().joined(separator: ",")
            }
        }
        #expect(try places() == ["a-1,a-2", "b-1,b-2", "c-1,c-2"])
        let all = try cluster.ask(
            1, "host", "maintain", "n2", "n1", "n3", "--step", "true", "--return", "all", "--wait-timeout", "90s")
        #expect(all.status == 0, "\(all.complaint)")
        #expect(try places() == ["a-1,a-2", "b-1,b-2", "c-1,c-2"])
    }
}
