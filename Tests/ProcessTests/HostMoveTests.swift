import Foundation
import Testing

/// A host of three real agents goes to another cell with the VMs on it, while leaders end.
@Suite(.serialized) struct HostMoveTests {
    private func shown(_ cluster: LocalCluster, _ vm: String, at node: Int) throws -> [String: String] {
        let text = try cluster.ask(node, "vm", "show", vm, "-o", "json").output
        var found: [String: String] = [:]
        for member in ["id", "epoch", "phase", "host", "power", "restarts"] {
            guard let rest = text.components(separatedBy: "\"\(member)\":").dropFirst().first else { continue }
            found[member] = String(rest.prefix { $0 != "," && $0 != "}" }).trimmingCharacters(in: ["\""])
        }
        return found
    }

    @Test
    func `a host goes to another cell with its VMs, which run on, are found by id and name, and may be changed there`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        func ready(_ words: String...) throws -> [String] {
            try cluster.run(["host", "list", "--filter", "state=ready", "-o", "name"] + words, at: 1).output
                .split(separator: "\n").map(String.init).sorted()
        }
        try cluster.wait("all hosts have reported") { try ready().count == 3 }
        #expect(try cluster.ask(1, "cell", "create", "more").status == 0)
        #expect(try cluster.ask(1, "tenant", "set", "default", "--vms", "9").status == 0)
        try cluster.wait("the second cell has its voters, and both know the quota") {
            try cluster.ask(3, "cell", "show", "more", "-o", "json").output.contains("\"state\":\"ready\"")
                && cluster.ask(1, "quota", "show", "default", "-o", "json").output.contains("\"isPending\":false")
        }
        for host in ["n1", "n2"] { #expect(try cluster.ask(1, "host", "cordon", host).status == 0) }
        for name in ["a", "b", "c"] {
            let made = try cluster.ask(2, "vm", "create", name, "--cpu", "1", "--memory", "64MiB", "--wait")
            #expect(made.status == 0, "\(made.complaint)")
        }
        #expect(try cluster.ask(2, "vm", "stop", "b", "--wait").status == 0)
        for host in ["n1", "n2"] { #expect(try cluster.ask(1, "host", "resume", host).status == 0) }
        #expect(try cluster.ask(1, "vm", "create", "d", "--cpu", "1", "--memory", "64MiB", "--stopped").status == 0)
        let before = try ["a", "b", "c"].map { try shown(cluster, $0, at: 1) }
        #expect(before.allSatisfy { $0["host"] == "n3" }, "\(before)")

        let planned = try cluster.ask(1, "cell", "assign", "n3", "more", "--dry-run")
        #expect(planned.status == 0 && planned.output.contains("a, b, c"), "\(planned.output)\(planned.complaint)")
        #expect(try cluster.ask(1, "host", "drain", "n1").status == 0)
        let kept = try cluster.ask(1, "cell", "assign", "n4", "more", "--dry-run")
        #expect(kept.status == 3, "\(kept.output)")
        #expect(try cluster.ask(1, "host", "resume", "n1").status == 0)
        #expect(try cluster.ask(1, "vm", "list", "--cell", "more", "-o", "name").output.isEmpty, "nothing has changed")

        // There and back; on the way back whoever leads is killed.
        for (cell, left) in [("more", "default"), ("default", "more")] {
            let moved = try cluster.ask(2, "cell", "assign", "n3", cell)
            #expect(moved.status == 0, "\(moved.output)\(moved.complaint)")
            if cell == "default" {
                cluster.kill9(1)
                try cluster.start(1)
            }
            try cluster.wait("the host is ready in its new cell") { try ready("--cell", cell).contains("n3") }
            try cluster.wait("it is in no list of the other one") {
                try cluster.ask(1, "vm", "list", "--cell", cell, "-o", "name").output.contains("a\nb\nc\n")
                    && !cluster.ask(1, "vm", "list", "--cell", left, "-o", "name").output.contains("a\n")
            }
            for (at, name) in ["a", "b", "c"].enumerated() {
                for node in 1...3 {
                    #expect(try shown(cluster, name, at: node) == before[at], "as it was, from node \(node)")
                    #expect(try shown(cluster, before[at]["id"] ?? "", at: node) == before[at])
                }
                let history = try cluster.ask(3, "vm", "history", name).output
                #expect(history.contains("vm.arrived") && !history.contains("vm.restarted"), "\(history)")
            }
        }

        // They are its VMs as any others are, and no name was freed.
        #expect(try cluster.ask(1, "cell", "assign", "n3", "more").status == 0)
        try cluster.wait("it is there") { try ready("--cell", "more") == ["n3"] }
        #expect(try cluster.ask(3, "vm", "start", "b", "--wait").status == 0)
        #expect(try cluster.ask(1, "vm", "stop", "a", "--wait").status == 0)
        let twice = try cluster.ask(1, "vm", "create", "c", "--cpu", "1", "--memory", "64MiB")
        #expect(twice.status == 4 && twice.complaint.contains("has a VM named c"), "\(twice.complaint)")
        #expect(try cluster.ask(2, "events", "--cell", "more").output.contains("host.arrived"))

        // All of a cell goes to another one, what is on no host too; and hosts of one to a new one.
        let words = ["vm", "create", "e", "--cpu", "1", "--memory", "64MiB", "--stopped", "--cell", "more"]
        #expect(try cluster.run(words, at: 1).status == 0)
        let merged = try cluster.ask(1, "cell", "merge", "more", "--into", "default", "--retire", "--wait")
        #expect(
            merged.status == 0 && merged.output.contains("cell more is merged and retired"),
            "\(merged.output)\(merged.complaint)")
        #expect(try cluster.ask(1, "cell", "list", "-o", "name").output == "default\n")
        #expect(try cluster.ask(1, "vm", "list", "--cell", "default", "-o", "name").output == "a\nb\nc\nd\ne\n")
        let foretold = try cluster.ask(1, "cell", "split", "default", "--into", "new", "--hosts", "1", "--dry-run")
        #expect(
            foretold.status == 0 && foretold.output.contains("cell new would be made, and get n1"), "\(foretold.output)"
        )
        let split = try cluster.ask(1, "cell", "split", "default", "--into", "new", "--hosts", "1", "--wait")
        #expect(
            split.status == 0 && split.output.contains("1 hosts have gone to cell new"),
            "\(split.output)\(split.complaint)")
        try cluster.wait("the host has reported to its new cell") { try ready("--cell", "new") == ["n1"] }
        #expect(try cluster.ask(1, "cell", "split", "default", "--into", "new").status != 0)
    }

    /// A split goes on without the command that began it, while whoever leads is killed; it waits for what keeps a host, and says
    /// so; and one that pauses begins nothing.
    @Test
    func `a split is the cluster's: it goes on when its leader is killed, says what keeps a host, and pauses`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        func ready(_ words: String...) throws -> [String] {
            try cluster.run(["host", "list", "--filter", "state=ready", "-o", "name"] + words, at: 2).output
                .split(separator: "\n").map(String.init).sorted()
        }
        func shown() throws -> String { try cluster.ask(2, "cell", "show", "default", "-o", "json").output }
        try cluster.wait("all hosts have reported") { try ready().count == 3 }
        for name in ["a", "b", "c", "d"] {
            let made = try cluster.ask(2, "vm", "create", name, "--cpu", "1", "--memory", "64MiB", "--wait")
            #expect(made.status == 0, "\(made.complaint)")
        }
        let before = try ["a", "b", "c", "d"].map { try self.shown(cluster, $0, at: 2) }
        #expect(try cluster.ask(2, "host", "drain", "n3").status == 0)
        try cluster.wait("it is empty or refuses") {
            try cluster.ask(2, "vm", "list", "--filter", "host=n3", "-o", "name").output.isEmpty
        }
        #expect(try cluster.ask(2, "host", "resume", "n3").status == 0)
        let placed = try ["a", "b", "c", "d"].map { try self.shown(cluster, $0, at: 2) }

        let nothing = try cluster.ask(2, "cell", "split", "default", "--pause")
        #expect(nothing.status == 4, "\(nothing.output)\(nothing.complaint)")
        let begun = try cluster.ask(2, "cell", "split", "default", "--into", "other", "--hosts", "2")
        #expect(
            begun.status == 0 && begun.output.contains("2 hosts go to cell other"), "\(begun.output)\(begun.complaint)")
        #expect(try cluster.ask(2, "cell", "split", "default", "--pause").status == 0)
        let twice = try cluster.ask(2, "cell", "split", "default", "--into", "third", "--hosts", "1")
        #expect(twice.status == 4 && twice.complaint.contains("split or merged"), "\(twice.complaint)")
        #expect(try shown().contains("\"state\":\"paused\""))
        #expect(try cluster.ask(2, "cell", "split", "default", "--resume").status == 0)
        cluster.kill9(1)
        try cluster.start(1)
        try cluster.wait("both hosts are in the other cell") { try ready("--cell", "other").count == 2 }
        try cluster.wait("the plan is done") { try shown().contains("\"state\":\"done\"") }
        #expect(try shown().contains("\"kind\":\"split\""))
        let audit = try cluster.ask(2, "audit", "--root").output
        #expect(audit.contains("cell.plan") && audit.contains("cell.split"), "\(audit)")
        for (at, name) in ["a", "b", "c", "d"].enumerated() where placed[at]["host"] != "n1" {
            #expect(try self.shown(cluster, name, at: 2) == placed[at], "as it was")
        }
        #expect(before.count == 4)

        // Back again, what is on a host that is drained stays until it is not.
        #expect(try cluster.ask(2, "host", "cordon", "n1").status == 0)
        let merged = try cluster.ask(2, "cell", "merge", "other", "--into", "default", "--wait")
        #expect(merged.status == 0, "\(merged.output)\(merged.complaint)")
        let cells = try cluster.ask(2, "cell", "list", "-o", "name").output
        #expect(cells == "default\nother\n", "nobody asked to retire it")
        #expect(try cluster.ask(2, "vm", "list", "--cell", "default", "-o", "name").output == "a\nb\nc\nd\n")
        #expect(try cluster.ask(2, "cell", "retire", "other").status == 0)

        // Beyond its bound it is split by itself.
        #expect(try cluster.ask(2, "host", "resume", "n1").status == 0)
        let wrong = try cluster.ask(2, "cell", "set", "splitAbove", "racks:2")
        #expect(wrong.status == 2 && wrong.complaint.contains("hosts:500"), "\(wrong.status) \(wrong.complaint)")
        let set = try cluster.ask(2, "cell", "set", "splitAbove", "hosts:2")
        #expect(set.status == 0, "\(set.complaint)")
        try cluster.wait("a host is in a new cell") { try ready("--cell", "default-2").count == 1 }
        try cluster.wait("that is done") {
            let text = try shown()
            return text.contains("\"automatic\":true") && text.contains("\"state\":\"done\"")
        }
        #expect(try shown().contains("\"splitAbove\":\"hosts:2\""))
        #expect(try cluster.ask(2, "audit", "--root").output.contains("beyond its bound"))
    }
}
