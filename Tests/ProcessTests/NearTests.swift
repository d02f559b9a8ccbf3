import Foundation
import Testing

/// New VMs find a cell by the way to a region, by cost, and spread over regions: three real agents, one in each of three.
@Suite(.serialized) struct NearTests {
    @Test func `VMs go near where they are to be, where it is cheap, or over all regions`() throws {
        let cluster = try LocalCluster { _, node in ["--node-region", ["north", "east", "west"][node - 1]] }
        try cluster.grow()
        for region in ["east", "west"] {
            #expect(try cluster.ask(1, "cell", "create", region, "--region", region).status == 0)
        }
        try cluster.wait("the cells are ready") {
            try ["east", "west"].allSatisfy {
                try cluster.ask(1, "cell", "show", $0, "-o", "json").output.contains("\"state\":\"ready\"")
            }
        }
        try cluster.wait("hosts in their cells") {
            _ = try cluster.ask(1, "cell", "assign", "n2", "east")
            _ = try cluster.ask(1, "cell", "assign", "n3", "west")
            let hosts = try ["default", "east", "west"].map {
                try cluster.ask(1, "host", "list", "--cell", $0, "--filter", "state=ready", "-o", "name").output
            }
            return hosts == ["n1\n", "n2\n", "n3\n"]
        }
        try cluster.wait("each region knows how far the others are") {
            let known = try cluster.ask(2, "region", "latency", "-o", "json").output
            return known.components(separatedBy: "\"measuredMicros\":").count == 7 && !known.contains("\"micros\":0")
        }
        for (a, b, time) in [("north", "east", "10ms"), ("west", "north", "40ms"), ("east", "west", "30ms")] {
            let set = try cluster.ask(1, "region", "set-latency", a, b, time)
            #expect(set.status == 0, "\(set.complaint)")
        }
        let table = try cluster.ask(3, "region", "latency", "north")
        #expect(table.output.contains("10000") && table.output.contains("40000"), "\(table.output)")
        #expect(try cluster.ask(1, "region", "set-latency", "north", "south", "1ms").status == 3)
        #expect(try cluster.ask(1, "region", "set-latency", "north", "east", "soon").status == 2)
        for (cell, cost) in [("east", "10"), ("west", "5")] {
            #expect(try cluster.ask(1, "cell", "set", "cost", cost, "--cell", cell).status == 0)
        }
        func place(_ name: String, _ more: String...) throws -> String {
            let words = ["vm", "create", name, "--cpu", "100m", "--memory", "64MiB", "--wait"] + more
            let made = try cluster.run(words, at: 1)
            #expect(made.status == 0, "\(made.complaint)")
            let shown = try cluster.ask(2, "vm", "show", name, "-o", "json").output
            return (1...3).map { "n\($0)" }.first { shown.contains("\"host\":\"\($0)\"") } ?? shown
        }
        var count = 0
        // What cells say of themselves comes to all nodes in its time.
        try cluster.wait("a cheap one goes to the cheapest cell") {
            count += 1
            return try place("cheap-\(count)", "--cell-choice", "cheap") == "n3"
        }
        #expect(try place("to-north", "--near", "north") == "n2", "of the first cell nobody says where it is")
        #expect(try place("to-west", "--near", "west") == "n3")
        #expect(try place("to-both", "--near", "north", "--near", "west", "--near-within", "30ms") == "n2")
        #expect(try place("cheaper", "--near", "north", "--cell-choice", "cheap") == "n3")
        let far = try cluster.run(
            ["vm", "create", "far", "--cpu", "1", "--memory", "64MiB", "--near", "north", "--near-within", "5ms"], at: 2
        )
        #expect(
            far.status != 0 && far.complaint.contains("no cell is known to be within 5ms of north"), "\(far.complaint)")
        #expect(far.complaint.contains("east 10ms") && far.complaint.contains("default unknown"), "\(far.complaint)")
        let bare = try cluster.run(
            ["vm", "create", "bare", "--cpu", "1", "--memory", "64MiB", "--near-within", "5ms"], at: 2)
        #expect(bare.status != 0 && bare.complaint.contains("name some there"), "\(bare.complaint)")

        let spread = try cluster.run(
            ["vm", "create", "s-{1..6}", "--cpu", "100m", "--memory", "64MiB", "--over-regions", "hard", "--wait"],
            at: 3)
        #expect(spread.status == 0, "\(spread.complaint)")
        for node in 1...3 {
            let there = try cluster.ask(1, "vm", "list", "--filter", "host=n\(node)", "-o", "name").output
            #expect(there.split(separator: "\n").count { $0.hasPrefix("s-") } == 2, "n\(node): \(there)")
        }
        let torn = try cluster.run(
            [
                "vm", "create", "t-{1..2}", "--cpu", "1", "--memory", "64MiB", "--over-regions", "soft",
                "--all-or-nothing",
            ], at: 1)
        #expect(torn.status != 0 && torn.complaint.contains("leave one of the two out"), "\(torn.complaint)")

        let metrics = try Asked.get("/metrics", at: 1, of: cluster).body
        for region in ["east", "west"] {
            let line = metrics.split(separator: "\n").first {
                $0.hasPrefix("muster_region_bytes_sent_total{from=\"north\",to=\"\(region)\"}")
            }
            #expect((line?.split(separator: " ").last.flatMap { UInt64($0) } ?? 0) > 1_000, "\(region)")
        }
        #expect(metrics.contains("muster_region_round_trip_seconds{from=\"north\",to=\"east\"} 0.01\n"))
    }
}
