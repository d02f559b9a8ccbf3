import Foundation
import Testing

/// A region of three is evacuated while it is there, and its VMs go back: three real agents, one in each.
@Suite(.serialized) struct EvacuationTests {
    @Test func `a lease that an election would outlast is refused, by whichever node is asked, and so is its dry run`()
        throws
    {
        let cluster = try LocalCluster { _, _ in ["--liveness-suspicion-floor", "1s"] }
        try cluster.grow()
        for node in 1...3 {
            for more in [[], ["--dry-run"]] {
                let short = try cluster.run(["cell", "set", "leaseMillis", "4000"] + more, at: node)
                #expect(short.status != 0 && short.complaint.contains("held for dead after"), "\(short.complaint)")
            }
        }
        #expect(try cluster.ask(1, "cell", "show", "-o", "json").output.contains("\"leaseMillis\":3000"))
        for node in 1...2 {
            let long = try cluster.ask(node, "cell", "set", "leaseMillis", "60000")
            #expect(long.status == 0, "\(long.output)\(long.complaint)")
        }
    }

    @Test func `VMs leave a region that is evacuated, home-only ones stay, and all that left go back`() throws {
        let cluster = try LocalCluster { _, node in ["--node-region", ["north", "east", "west"][node - 1]] }
        try cluster.grow()
        #expect(try cluster.ask(1, "setting", "set", "stable-for", "500ms").status == 0)
        for region in ["east", "west"] {
            #expect(
                try cluster.ask(1, "cell", "create", region, "--region", region, "--survives", "region").status == 0)
        }
        try cluster.wait("hosts in their cells") {
            _ = try cluster.ask(1, "cell", "assign", "n3", "west")
            _ = try cluster.ask(1, "cell", "assign", "n2", "east")
            let hosts = try ["west", "east"].map {
                try cluster.ask(1, "host", "list", "--cell", $0, "--filter", "state=ready", "-o", "name").output
            }
            return hosts == ["n3\n", "n2\n"]
        }
        func make(_ name: String, _ more: String...) throws {
            let words = ["vm", "create", name, "--cpu", "1", "--memory", "64MiB", "--cell", "west", "--wait"] + more
            let made = try cluster.run(words, at: 2)
            #expect(made.status == 0, "\(made.complaint)")
        }
        try make("stays")
        for name in ["a", "b"] { try make(name, "--region-loss", "may-move", "--region", "east") }
        func isRunning(_ name: String, on host: String) throws -> Bool {
            let shown = try cluster.ask(1, "vm", "show", name, "-o", "json").output
            return shown.contains("\"host\":\"\(host)\"") && shown.contains("\"phase\":\"running\"")
        }
        func evacuate(_ more: String...) throws -> MusterRun {
            try cluster.run(["region", "evacuate", "west"] + more, at: 1)
        }
        var rehearsed = ""
        try cluster.wait("the rehearsal knows what room the other cell has") {
            rehearsed = try evacuate("--dry-run", "-o", "json").output
            return rehearsed.contains("\"away\":2,\"wait\":1")
        }
        #expect(
            rehearsed.contains(#""kind":"evacuation""#) && rehearsed.contains(#""cause":"homeOnly""#), "\(rehearsed)")
        #expect(rehearsed.contains("it goes while it runs"), "\(rehearsed)")
        #expect(try evacuate("--pause").status == 4, "nothing is planned yet")
        #expect(try evacuate("--pause", "--cancel").status == 2)
        #expect(try cluster.ask(1, "region", "evacuate", "south").status == 3)
        let begun = try evacuate("--return", "all")
        #expect(begun.status == 0 && begun.output.contains("nothing goes there"), "\(begun.output)\(begun.complaint)")
        try cluster.wait("both run in the other region") { try ["a", "b"].allSatisfy { try isRunning($0, on: "n2") } }
        #expect(try isRunning("stays", on: "n3"))
        var shown = ""
        try cluster.wait("the region says that both have moved") {
            shown = try cluster.ask(1, "region", "show", "west").output
            return shown.contains("2 VMs have moved, 0 are on their way, 0 go later, 1 stay or wait")
        }
        #expect(shown.contains("home-only"), "\(shown)")
        #expect(try cluster.ask(1, "region", "list").output.contains("evacuate"))
        #expect(try cluster.ask(1, "audit", "--root").output.contains("region.plan"))
        // Whatever the place that a VM may have, one that is made now goes to another region.
        #expect(try cluster.ask(2, "vm", "create", "new", "--cpu", "1", "--memory", "64MiB", "--wait").status == 0)
        #expect(try !cluster.ask(1, "vm", "show", "new", "-o", "json").output.contains("\"host\":\"n3\""))
        let paused = try evacuate("--pause")
        #expect(paused.status == 0 && paused.output.contains("paused"), "\(paused.output)\(paused.complaint)")
        let back = try cluster.ask(2, "region", "return", "west")
        #expect(back.status == 0 && back.output.contains("all VMs that came from there go home"), "\(back.output)")
        try cluster.wait("both are home") { try ["a", "b"].allSatisfy { try isRunning($0, on: "n3") } }
        #expect(try cluster.ask(2, "region", "return", "west", "--cancel").status == 0)
        #expect(try cluster.ask(1, "region", "show", "west", "-o", "json").output.contains("\"state\":\"cancelled\""))
    }
}
