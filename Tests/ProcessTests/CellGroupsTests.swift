import Foundation
import Testing

/// Placement groups and settings of a cell that is split, and a small cell that is merged by itself: three real agents, each in a zone
/// of its own.
@Suite(.serialized) struct CellGroupsTests {
    @Test
    func
        `a split brings groups and settings along, keeps what a hard group would be torn by, and a small cell is merged`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        func ask(_ words: String...) throws -> String {
            let done = try cluster.run(words, at: 2)
            #expect(done.status == 0, "\(words): \(done.complaint)")
            return done.output
        }
        func ready(_ cell: String) throws -> [String] {
            try cluster.run(["host", "list", "--filter", "state=ready", "-o", "name", "--cell", cell], at: 2).output
                .split(separator: "\n").map(String.init).sorted()
        }
        func cells() throws -> String { try cluster.ask(2, "cell", "list", "-o", "name").output }
        try cluster.wait("all hosts have reported") { try ready("default").count == 3 }

        // One with a single host goes back where it came from.
        _ = try ask("cell", "create", "small")
        try cluster.wait("it has its voters") {
            try cluster.ask(2, "cell", "show", "small", "-o", "json").output.contains("\"state\":\"ready\"")
        }
        _ = try ask("cell", "assign", "n3", "small")
        try cluster.wait("its host is there") { try ready("small") == ["n3"] }
        let close = try cluster.ask(2, "cell", "set", "mergeBelow", "vms:0", "--cell", "small")
        #expect(close.status == 2 && close.complaint.contains("hosts:4"), "\(close.complaint)")
        _ = try ask("cell", "set", "splitAbove", "hosts:7", "--cell", "small")
        let meets = try cluster.ask(2, "cell", "set", "mergeBelow", "hosts:2", "--cell", "small")
        #expect(meets.status != 0 && meets.complaint.contains("4 times mergeBelow"), "\(meets.complaint)")
        _ = try ask("cell", "set", "splitAbove", "hosts:8", "--cell", "small")
        _ = try ask("cell", "set", "mergeBelow", "hosts:2", "--cell", "small")
        try cluster.wait("it is merged and retired") { try cells() == "default\n" }
        try cluster.wait("its host is back") { try ready("default").count == 3 }
        #expect(try ask("audit", "--root").contains("below its bound"))

        // Groups: one that keeps VMs apart, and one that keeps them together with a member that is on no host.
        _ = try ask("group", "create", "apart", "--rule", "anti-affinity", "--over", "zone")
        _ = try ask("group", "create", "together", "--rule", "affinity", "--over", "zone")
        for (vm, host) in [("a", "n1"), ("b", "n2"), ("c", "n2")] {
            for other in ["n1", "n2", "n3"] where other != host { _ = try ask("host", "cordon", other) }
            _ = try ask(
                "vm", "create", vm, "--cpu", "1", "--memory", "64MiB", "--group", vm == "c" ? "together" : "apart",
                "--wait")
            for other in ["n1", "n2", "n3"] where other != host { _ = try ask("host", "resume", other) }
        }
        _ = try ask("vm", "create", "d", "--cpu", "1", "--memory", "64MiB", "--group", "together", "--stopped")
        _ = try ask("cell", "set", "migrationsMax", "5")
        let before = try ["a", "b", "c"].map { try ask("vm", "show", $0, "-o", "json") }
        // The host is left out that the member without one would keep.
        let foretold = try ask("cell", "split", "default", "--into", "other", "--hosts", "2", "--dry-run")
        #expect(
            foretold.contains("get n1 with its VMs, n3. Left out: n2: group together keeps its VMs in one zone"),
            "\(foretold)")
        #expect(try cells() == "default\n", "nothing has changed")
        let all = try ask("cell", "split", "default", "--into", "other", "--hosts", "3", "--dry-run")
        #expect(all.contains("n1") && all.contains("VM d, which is on no host"), "\(all)")
        let none = try cluster.ask(2, "cell", "split", "default", "--into", "other", "--zone", "nowhere")
        #expect(none.status == 4 && none.complaint.contains("no host of cell default"), "\(none.complaint)")

        let begun = try ask("cell", "split", "default", "--into", "other", "--hosts", "3")
        #expect(
            begun.contains("Chosen: n1, n2, n3") && begun.contains("Held back as it is now: n2: group together"),
            "\(begun)")
        try cluster.wait("two of them are in the other cell") { try ready("other") == ["n1", "n3"] }
        try cluster.wait("it says why the other one stays") {
            try ask("cell", "show", "default", "-o", "json").contains("VM c is in group together")
        }
        #expect(try ask("group", "list", "--cell", "other", "-o", "name") == "apart\n")
        #expect(try ask("cell", "show", "other", "-o", "json").contains("\"migrationsMax\":5"))
        // Nothing is torn once there is no such member.
        _ = try ask("vm", "delete", "d")
        try cluster.wait("all are in the other cell") { try ready("other") == ["n1", "n2", "n3"] }
        #expect(try ask("group", "list", "--cell", "other", "-o", "name") == "apart\ntogether\n")
        for (at, vm) in ["a", "b", "c"].enumerated() {
            let now = try ask("vm", "show", vm, "-o", "json")
            for member in ["\"epoch\":", "\"host\":", "\"phase\":", "\"id\":"] {
                func value(_ text: String) -> Substring? {
                    text.components(separatedBy: member).dropFirst().first?.prefix { $0 != "," }
                }
                #expect(value(now) == value(before[at]), "\(vm) \(member)")
            }
        }
        // A rule that goes on in its new cell: both zones that take VMs have one.
        _ = try ask("host", "cordon", "n3")
        let third = try cluster.ask(
            2, "vm", "create", "e", "--cpu", "1", "--memory", "64MiB", "--group", "apart", "--cell", "other", "--wait",
            "--wait-timeout", "3s")
        #expect(third.status != 0, "\(third.output)")
        #expect(try ask("vm", "show", "e", "-o", "json").contains("\"phase\":\"waiting\""))
    }
}
