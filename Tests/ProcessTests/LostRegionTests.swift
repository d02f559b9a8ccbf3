import Foundation
import Testing

/// A region of three is lost with all its hosts, and comes back: three real agents, one in each.
@Suite(.serialized) struct LostRegionTests {
    @Test func `VMs of a lost region that may move start in another, those that may not wait, and some go home`() throws
    {
        let cluster = try LocalCluster { _, node in ["--node-region", ["north", "east", "west"][node - 1]] }
        try cluster.grow()
        #expect(try cluster.ask(1, "setting", "set", "stable-for", "500ms").status == 0)
        #expect(try cluster.ask(1, "setting", "set", "region-lost-after", "5s").status == 0)
        let wrong = try cluster.ask(1, "setting", "set", "region-lost-after", "1s")
        #expect(wrong.status != 0 && wrong.complaint.contains("5s to 24h"), "\(wrong.complaint)")
        for region in ["north", "east"] {
            #expect(
                try cluster.ask(1, "cell", "create", region, "--region", region, "--survives", "region").status == 0)
        }
        try cluster.wait("voters in three regions") {
            let shown = try ["north", "east"].map { try cluster.ask(1, "cell", "show", $0, "-o", "json").output }
            return shown.allSatisfy { text in
                text.contains("\"state\":\"ready\"") && ["n1", "n2", "n3"].allSatisfy { text.contains("\"\($0)\"") }
            }
        }
        try cluster.wait("hosts in their cells") {
            _ = try cluster.ask(1, "cell", "assign", "n3", "north")
            _ = try cluster.ask(1, "cell", "assign", "n2", "east")
            let hosts = try ["north", "east"].map {
                try cluster.ask(1, "host", "list", "--cell", $0, "--filter", "state=ready", "-o", "name").output
            }
            return hosts == ["n3\n", "n2\n"]
        }
        // The region that is lost is the one where the third node is, and the cell north has its only host there.
        func make(_ name: String, _ more: String...) throws {
            let words = ["vm", "create", name, "--cpu", "1", "--memory", "64MiB", "--cell", "north", "--wait"] + more
            let made = try cluster.run(words, at: 2)
            #expect(made.status == 0, "\(made.complaint)")
        }
        try make("stays")
        try make("goes", "--region-loss", "may-move", "--region", "east")
        try make("visits", "--region-loss", "must-move", "--region-return", "return", "--region", "east")
        let before = try cluster.ask(1, "region", "show", "west", "-o", "json").output
        #expect(before.contains("\"state\":\"there\"") && before.contains("\"wait\":[]"), "\(before)")
        var rehearsed = ""
        func rehearse(_ more: String...) throws -> MusterRun {
            try cluster.run(["region", "declare-lost", "west", "--dry-run"] + more, at: 1)
        }
        try cluster.wait("the rehearsal knows what room the other cell has") {
            rehearsed = try rehearse("-o", "json").output
            return rehearsed.contains("\"away\":2,\"wait\":1")
        }
        for name in ["goes", "visits"] {
            let said = #""vm":"\#(name)","tenant":"default","fate":"away","to":"east","region":"east","wave":1"#
            #expect(rehearsed.contains(said), "\(rehearsed)")
        }
        #expect(rehearsed.contains(#""vm":"stays","tenant":"default","fate":"wait""#), "\(rehearsed)")
        #expect(rehearsed.contains(#""cause":"homeOnly""#) && rehearsed.contains(#""unanswered":[]"#))
        let table = try rehearse()
        #expect(table.status == 0 && table.output.contains("Nothing was changed"), "\(table.output)\(table.complaint)")
        #expect(try cluster.ask(1, "region", "declare-lost", "south", "--dry-run").status == 3)
        #expect(try cluster.ask(1, "region", "show", "west", "-o", "json").output == before)
        cluster.kill9(3)
        func place(_ name: String) throws -> String {
            try cluster.ask(1, "vm", "show", name, "-o", "json").output
        }
        try cluster.wait("both run in the other region") {
            try ["goes", "visits"].allSatisfy {
                let shown = try place($0)
                return shown.contains("\"host\":\"n2\"") && shown.contains("\"phase\":\"running\"")
            }
        }
        #expect(try cluster.ask(2, "region", "list").output.contains("lost"))
        try cluster.wait("the one that stays says why") {
            try cluster.ask(2, "vm", "explain", "stays", "-o", "json").output.contains("region west is lost")
        }
        #expect(try cluster.ask(1, "audit", "--root").output.contains("region.lost"))
        try cluster.start(3)
        try cluster.wait("the one that returns is home, and the one that stayed runs") {
            try ["visits", "stays"].allSatisfy {
                let shown = try place($0)
                return shown.contains("\"host\":\"n3\"") && shown.contains("\"phase\":\"running\"")
            }
        }
        #expect(try place("goes").contains("\"host\":\"n2\""))
        #expect(try cluster.ask(2, "region", "show", "west", "-o", "json").output.contains("\"state\":\"there\""))
        // By hand, and wrongly: the host is heard, and keeps its VMs.
        let declared = try cluster.ask(1, "region", "declare-lost", "west")
        #expect(declared.status == 0 && declared.output.contains("lease"), "\(declared.output)\(declared.complaint)")
        #expect(try cluster.ask(1, "region", "declare-lost", "south").status == 3)
        #expect(try cluster.ask(1, "region", "back", "west").status == 0)
        #expect(try place("stays").contains("\"host\":\"n3\""))
        // Found lost by itself again, and then declared so by somebody, who says when it is back.
        cluster.kill9(3)
        try cluster.wait("the one that stays waits again") {
            try cluster.ask(2, "vm", "explain", "stays", "-o", "json").output.contains("region west is lost")
        }
        let taken = try cluster.ask(1, "region", "declare-lost", "west")
        #expect(taken.status == 0 && taken.output.contains("does not take that back by itself"), "\(taken.output)")
        try cluster.start(3)
        try cluster.wait("its host is there, and the one that stays runs") {
            let shown = try place("stays")
            return shown.contains("\"host\":\"n3\"") && shown.contains("\"phase\":\"running\"")
        }
        let still = try cluster.ask(2, "region", "show", "west", "-o", "json").output
        #expect(still.contains("\"state\":\"lost\"") && !still.contains("\"by\":\"\""), "\(still)")
        #expect(try cluster.ask(1, "region", "back", "west").status == 0)
        #expect(try cluster.ask(2, "region", "show", "west", "-o", "json").output.contains("\"state\":\"there\""))
    }
}
