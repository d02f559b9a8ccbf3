import Foundation
import Testing

/// Several cells over three real agents: hosts belong to one each, and what is asked without a cell finds its own.
@Suite(.serialized) struct CellTests {
    private func ready(_ cluster: LocalCluster, _ words: String...) throws -> [String] {
        try cluster.run(["host", "list", "--filter", "state=ready", "-o", "name"] + words, at: 1).output
            .split(separator: "\n").map(String.init).sorted()
    }

    @Test func `a dry run says of a name that another cell of the region has what its creation would say`() throws {
        let cluster = try LocalCluster()
        let made = try cluster.ask(1, "cell", "create", "second")
        #expect(made.status == 0, "\(made.complaint)")
        try cluster.wait("the second cell is there") {
            try cluster.ask(1, "cell", "show", "second", "-o", "json").output.contains("\"state\":\"ready\"")
        }
        func create(_ words: String...) throws -> MusterRun {
            try cluster.run(["vm", "create"] + words + ["--cpu", "100m", "--memory", "64MiB"], at: 1)
        }
        try cluster.wait("the first cell takes VMs") { try create("a", "--cell", "default", "--wait").status == 0 }
        let words = "the tenant has a VM named a"
        for more in [["--cell", "second"], ["--cell", "default"]] {
            let dry = try cluster.run(
                ["vm", "create", "a", "b", "--cpu", "100m", "--memory", "64MiB", "--dry-run", "-o", "json"] + more,
                at: 1)
            #expect(dry.output.contains(words) && !dry.output.contains("VM named b"), "\(dry.output) \(dry.complaint)")
            let real = try cluster.run(["vm", "create", "a", "--cpu", "100m", "--memory", "64MiB"] + more, at: 1)
            #expect(real.status == 4 && real.complaint.contains(words), "\(real.complaint)")
        }
        let whole = try create("a", "b", "--cell", "second", "--all-or-nothing", "--dry-run", "-o", "json")
        #expect(whole.output.contains(words) && whole.output.contains("anotherItem"), "\(whole.output)")
        #expect(whole.output.contains("\"steps\":[]"), "\(whole.output)")
        // Nothing was made or held by asking, and what is held for one that is gone is free.
        #expect(try create("b", "--cell", "default").status == 0)
        #expect(try cluster.ask(1, "vm", "delete", "a", "--wait").status == 0)
        let free = try create("a", "--cell", "second", "--dry-run", "-o", "json")
        #expect(!free.output.contains(words), "\(free.output)")
        #expect(try create("a", "--cell", "second").status == 0)
    }

    @Test func `what a cell has is found though another cell of its region can't answer`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") { try ready(cluster).count == 3 }
        let made = try cluster.ask(1, "cell", "create", "frail", "--replicas", "1")
        #expect(made.status == 0, "\(made.complaint)")
        var voter = 0
        try cluster.wait("the second cell has its voter") {
            let shown = try cluster.ask(1, "cell", "show", "frail", "-o", "json").output
            voter = (1...3).first { shown.contains("\"nodes\":[\"n\($0)\"]") } ?? 0
            return voter > 0 && shown.contains("\"state\":\"ready\"")
        }
        let words = ["vm", "create", "a", "--cpu", "1", "--memory", "64MiB", "--stopped", "--cell", "default"]
        #expect(try cluster.run(words, at: 1).status == 0)
        cluster.kill9(voter)
        let asked = voter == 1 ? 2 : 1
        try cluster.wait("the first cell has a leader") { try cluster.ask(asked, "vm", "show", "a").status == 0 }
        let begun = Date()
        #expect(try cluster.ask(asked, "vm", "show", "a").status == 0)
        #expect(Date().timeIntervalSince(begun) < 2, "nobody waits for the second")
        // What no cell that answers has may be in the other one.
        let unknown = try cluster.ask(asked, "vm", "show", "b")
        #expect(unknown.status != 0 && !unknown.complaint.contains("no VM"), "\(unknown.complaint)")
    }

    @Test func `hosts go from one cell to another empty, and every host and VM is found wherever it is`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") { try ready(cluster).count == 3 }
        let made = try cluster.ask(2, "cell", "create", "north", "--region", "north", "--survives", "zone")
        #expect(made.status == 0, "\(made.complaint)")
        #expect(try cluster.ask(1, "cell", "create", "north").status == 4, "the name is taken")
        try cluster.wait("the second cell has its voters") {
            try cluster.ask(3, "cell", "show", "north", "-o", "json").output.contains("\"state\":\"ready\"")
        }

        // A host goes, and is there once.
        let assigned = try cluster.ask(1, "cell", "assign", "n3", "north")
        #expect(assigned.status == 0, "\(assigned.complaint)")
        try cluster.wait("the host has reported to its new cell") {
            try ready(cluster, "--cell", "north") == ["n3"] && ready(cluster) == ["n1", "n2", "n3"]
        }
        #expect(try ready(cluster, "--cell", "default") == ["n1", "n2"])
        #expect(try cluster.ask(2, "node", "show", "n3", "-o", "json").output.contains("\"cell\":\"north\""))

        // VMs of both cells are in one list, and a name or an id finds its cell.
        for (name, cell) in [("a", "default"), ("b", "north"), ("c", "default"), ("d", "north")] {
            let words = ["vm", "create", name, "--cpu", "1", "--memory", "64MiB", "--cell", cell, "--wait"]
            let created = try cluster.run(words, at: 2)
            #expect(created.status == 0, "\(created.complaint)")
        }
        for sort in [[], ["--sort", "name"], ["--sort", "-name"]] {
            let all = try cluster.run(["vm", "list", "-o", "name"] + sort, at: 3).output.split(separator: "\n")
            #expect(
                all.count == 4
                    && (sort == ["--sort", "-name"] ? all.reversed() : all).sorted() == ["a", "b", "c", "d"])
            if sort.count == 2 {
                #expect(all.map(String.init) == (sort[1] == "name" ? ["a", "b", "c", "d"] : ["d", "c", "b", "a"]))
            }
        }
        try pagesAreWhole(cluster)
        let shown = try cluster.ask(1, "vm", "show", "b", "-o", "json").output
        #expect(shown.contains("\"host\":\"n3\""), "\(shown)")
        let id = try #require(shown.components(separatedBy: "\"id\":").last?.prefix { $0.isNumber })
        #expect(try cluster.ask(2, "vm", "show", String(id), "-o", "json").output == shown)
        #expect(try cluster.ask(3, "vm", "explain", "b").status == 0)
        #expect(try cluster.ask(1, "vm", "show", "nobody").status == 3)
        #expect(try cluster.ask(1, "events").complaint.contains("--cell"), "a stream is of one cell")
        #expect(try cluster.ask(1, "events", "--cell", "north").output.contains("vm.created"))
        #expect(try cluster.ask(1, "vm", "history", "d").output.contains("vm.placed"))

        // One with VMs stays where it is, and says what to do.
        let refused = try cluster.ask(2, "cell", "assign", "n3", "default")
        #expect(refused.status == 4 && refused.complaint.contains("drain"), "\(refused.complaint)")
        try cluster.wait("it is in service as before") { try ready(cluster, "--cell", "north") == ["n3"] }
        let busy = try cluster.ask(1, "cell", "retire", "north")
        #expect(busy.status == 4 && busy.complaint.contains("muster cell assign"), "\(busy.complaint)")
        #expect(try cluster.ask(1, "cell", "retire", "default").complaint.contains("first cell"))
        #expect(try cluster.ask(2, "vm", "delete", "b", "d", "--wait").status == 0)
        let back = try cluster.ask(3, "cell", "assign", "n3", "default")
        #expect(back.status == 0, "\(back.complaint)")
        try cluster.wait("it is back") { try ready(cluster, "--cell", "default") == ["n1", "n2", "n3"] }
        let retired = try cluster.ask(1, "cell", "retire", "north")
        #expect(retired.status == 0, "\(retired.complaint)")
        try cluster.wait("one cell is left") { try cluster.ask(2, "cell", "list", "-o", "name").output == "default\n" }
        #expect(try cluster.ask(3, "vm", "list", "-o", "name").output == "a\nc\n")
    }

    @Test func `VMs without a cell go where there is room, and a name is one VM's in all cells of a region`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") { try ready(cluster).count == 3 }
        #expect(try cluster.ask(1, "cell", "create", "more").status == 0)
        try cluster.wait("the second cell has its voters") {
            try cluster.ask(3, "cell", "show", "more", "-o", "json").output.contains("\"state\":\"ready\"")
        }
        #expect(try cluster.ask(1, "cell", "assign", "n3", "more").status == 0)
        try cluster.wait("the host is there") { try ready(cluster, "--cell", "more") == ["n3"] }

        // Six halves of a host need all three.
        let planned = try cluster.run(
            ["vm", "create", "half-{1..6}", "--cpu", "4", "--memory", "64MiB", "--dry-run"], at: 2)
        #expect(planned.output.components(separatedBy: "place").count == 7, "\(planned.output)")
        #expect(planned.output.contains("2 VMs in cell more") && !planned.output.contains("Without a way"))
        let made = try cluster.ask(2, "vm", "create", "half-{1..6}", "--cpu", "4", "--memory", "64MiB", "--wait")
        #expect(made.status == 0, "\(made.output)\(made.complaint)")
        #expect(
            try cluster.ask(1, "vm", "list", "--cell", "more", "-o", "name").output.split(separator: "\n").count == 2)
        // One more has no place anywhere and waits.
        #expect(try cluster.ask(3, "vm", "create", "late", "--cpu", "4", "--memory", "64MiB").status == 0)
        try cluster.wait("it says why") { try cluster.ask(1, "vm", "explain", "late").output.contains("host") }
        #expect(try cluster.ask(3, "vm", "delete", "late", "--wait").status == 0)

        // The name is taken wherever it is, and free again when its VM is gone.
        for cell in ["default", "more"] {
            let twice = try cluster.ask(2, "vm", "create", "half-1", "--cpu", "1", "--memory", "64MiB", "--cell", cell)
            #expect(twice.status == 4 && twice.complaint.contains("half-1"), "\(twice.complaint)")
        }
        let atomic = try cluster.ask(
            2, "vm", "create", "half-{6..7}", "--cpu", "1", "--memory", "64MiB", "--all-or-nothing")
        #expect(atomic.status != 0)
        #expect(try cluster.ask(2, "vm", "delete", "half-1", "half-2", "--wait").status == 0)
        for (name, cell) in [("half-1", "more"), ("half-2", "default")] {
            let again = try cluster.ask(
                1, "vm", "create", name, "--cpu", "100m", "--memory", "64MiB", "--cell", cell, "--stopped")
            #expect(again.status == 0, "\(again.complaint)")
        }

        // The same request at three nodes is one VM, and other requests for the name at once are refused.
        let create = """
            curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem -H content-type:application/json \
            -H "idempotency-key: KEY" -d '{"name":"once","spec":{"cpuMillis":100,"memoryMiB":64}}' https://$MUSTER_ADDRESS/v1/vms
            """
        func answer(_ key: String, _ node: Int) throws -> String {
            try cluster.shell(create.replacingOccurrences(of: "KEY", with: key), at: node).output
        }
        let first = try answer("0b7e1c52-2f0e-4c55-9a6a-0d5f6c0a7b01", 1)
        #expect(first.contains("\"id\":"), "\(first)")
        for node in 1...3 {
            #expect(try answer("0b7e1c52-2f0e-4c55-9a6a-0d5f6c0a7b01", node) == first)
            #expect(try answer("0b7e1c52-2f0e-4c55-9a6a-0d5f6c0a7b0\(node + 1)", node).contains("already-exists"))
        }
        #expect(try cluster.ask(3, "vm", "list", "-o", "name").output.components(separatedBy: "once").count == 2)
    }

    @Test func `a quota is what all cells give out together, and goes where it is wanted`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") { try ready(cluster).count == 3 }
        #expect(try cluster.ask(1, "cell", "create", "more").status == 0)
        #expect(try cluster.ask(1, "tenant", "set", "shop", "--vms", "4").status == 0)
        try cluster.wait("the second cell has its voters") {
            try cluster.ask(3, "cell", "show", "more", "-o", "json").output.contains("\"state\":\"ready\"")
        }
        #expect(try cluster.ask(1, "cell", "assign", "n3", "more").status == 0)
        try cluster.wait("both cells know the quota") {
            try ready(cluster, "--cell", "more") == ["n3"]
                && cluster.ask(1, "quota", "show", "shop", "-o", "json").output.contains("\"isPending\":false")
        }
        func create(_ name: String, _ cell: String) throws -> MusterRun {
            try cluster.ask(
                2, "vm", "create", name, "--cpu", "100m", "--memory", "64MiB", "--tenant", "shop", "--cell", cell)
        }
        for (name, cell) in [("a", "more"), ("b", "default"), ("c", "more"), ("d", "more")] {
            let made = try create(name, cell)
            #expect(made.status == 0, "\(name): \(made.complaint)")
        }
        for cell in ["default", "more"] {
            let fifth = try create("e", cell)
            #expect(fifth.status == 4 && fifth.complaint.contains("quota"), "\(fifth.complaint)")
        }
        let shown = try cluster.ask(3, "quota", "show", "shop", "-o", "json").output
        #expect(shown.contains("\"usedCount\":4"), "\(shown)")
        // One that grows, and all of a batch or none, get what other cells do not use.
        #expect(try cluster.ask(1, "tenant", "set", "shop", "--vms", "6", "--cpu", "1").status == 0)
        try cluster.wait("the cells know it") {
            try cluster.ask(1, "quota", "show", "shop", "-o", "json").output.contains("\"isPending\":false")
        }
        let grown = try cluster.ask(3, "vm", "update", "c", "--cpu", "500m", "--tenant", "shop")
        #expect(grown.status == 0, "\(grown.complaint)")
        let tooLarge = try cluster.ask(3, "vm", "update", "c", "--cpu", "800m", "--tenant", "shop")
        #expect(tooLarge.status == 4 && tooLarge.complaint.contains("quota"), "\(tooLarge.complaint)")
        let batch = try cluster.ask(
            2, "vm", "create", "g-{1..2}", "--cpu", "100m", "--memory", "64MiB", "--tenant", "shop", "--cell", "more",
            "--all-or-nothing")
        #expect(batch.status == 0, "\(batch.output)\(batch.complaint)")
        let over = try cluster.ask(
            2, "vm", "create", "g-{3..4}", "--cpu", "100m", "--memory", "64MiB", "--tenant", "shop", "--cell", "more",
            "--all-or-nothing")
        #expect(over.status != 0)
        #expect(try cluster.ask(2, "vm", "delete", "g-1", "g-2", "--tenant", "shop", "--wait").status == 0)
        #expect(try cluster.ask(1, "tenant", "set", "shop", "--vms", "4").status == 0)
        // What is free in one cell goes to the other, and back when a cell is retired.
        #expect(try cluster.ask(2, "vm", "delete", "a", "c", "d", "--tenant", "shop", "--wait").status == 0)
        for name in ["e", "f"] { #expect(try create(name, "default").status == 0) }
        #expect(try cluster.ask(1, "cell", "assign", "n3", "default").status == 0)
        let retired = try cluster.ask(1, "cell", "retire", "more")
        #expect(retired.status == 0, "\(retired.complaint)")
        try cluster.wait("one cell is left") { try cluster.ask(2, "cell", "list", "-o", "name").output == "default\n" }
        #expect(try create("g", "default").status == 0)
        #expect(try create("h", "default").complaint.contains("quota"))
    }

    @Test func `VMs go from cell to cell, cold, with their names, ids and quota`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") { try ready(cluster).count == 3 }
        #expect(try cluster.ask(1, "cell", "create", "more").status == 0)
        #expect(try cluster.ask(1, "tenant", "set", "default", "--vms", "3").status == 0)
        try cluster.wait("the second cell has its voters") {
            try cluster.ask(3, "cell", "show", "more", "-o", "json").output.contains("\"state\":\"ready\"")
        }
        #expect(try cluster.ask(1, "cell", "assign", "n3", "more").status == 0)
        try cluster.wait("both cells know the quota") {
            try ready(cluster, "--cell", "more") == ["n3"]
                && cluster.ask(1, "quota", "show", "default", "-o", "json").output.contains("\"isPending\":false")
        }
        for (name, words) in [("a", ["--wait"]), ("b", ["--stopped"]), ("c", ["--wait"])] {
            let made = try cluster.run(
                ["vm", "create", name, "--cpu", "1", "--memory", "64MiB", "--cell", "default"] + words, at: 2)
            #expect(made.status == 0, "\(made.complaint)")
        }
        let id = try #require(
            try cluster.ask(1, "vm", "show", "a", "-o", "json").output.components(separatedBy: "\"id\":").last?
                .prefix { $0.isNumber })

        let before = try cluster.ask(1, "vm", "show", "a", "-o", "json").output
        let planned = try cluster.ask(3, "vm", "migrate", "a", "--cell", "more", "--cold", "--dry-run")
        #expect(
            planned.status == 0 && planned.output.contains("it stops once cell more has kept room"), "\(planned.output)"
        )
        let live = try cluster.ask(3, "vm", "migrate", "a", "--cell", "more", "--dry-run")
        #expect(live.output.contains("it goes while it runs once cell more has kept room"), "\(live.output)")
        #expect(try cluster.ask(1, "vm", "show", "a", "-o", "json").output == before)
        for name in ["a", "b"] {
            let moved = try cluster.ask(3, "vm", "migrate", name, "--cell", "more", "--cold", "--wait")
            #expect(moved.status == 0, "\(moved.output)\(moved.complaint)")
        }
        #expect(try cluster.ask(1, "vm", "list", "--cell", "more", "-o", "name").output == "a\nb\n")
        #expect(try cluster.ask(1, "vm", "list", "--cell", "default", "-o", "name").output == "c\n")
        try cluster.wait("it runs there") {
            let shown = try cluster.ask(2, "vm", "show", String(id), "-o", "json").output
            return shown.contains("\"host\":\"n3\"") && shown.contains("\"phase\":\"running\"")
        }
        #expect(try cluster.ask(2, "vm", "show", "b", "-o", "json").output.contains("\"phase\":\"stopped\""))
        #expect(try cluster.ask(1, "vm", "history", "a").output.contains("vm.arrived"))
        #expect(try cluster.ask(1, "events", "--cell", "default").output.contains("vm.moved"))

        // Names and quota are as they were: nothing was freed, and nothing is missing.
        for cell in ["default", "more"] {
            let twice = try cluster.ask(1, "vm", "create", "a", "--cpu", "1", "--memory", "64MiB", "--cell", cell)
            #expect(twice.status == 4 && twice.complaint.contains("has a VM named a"), "\(twice.complaint)")
            let fourth = try cluster.ask(1, "vm", "create", "d", "--cpu", "1", "--memory", "64MiB", "--cell", cell)
            #expect(fourth.status == 4 && fourth.complaint.contains("quota"), "\(fourth.complaint)")
        }

        // What does not fit there stays, and says why; until then nobody changes it, and it can be called off.
        #expect(try cluster.ask(1, "host", "cordon", "n3").status == 0)
        #expect(try cluster.ask(1, "vm", "migrate", "c", "--cell", "more").status == 0)
        let busy = try cluster.ask(2, "vm", "stop", "c")
        #expect(busy.status == 4 && busy.complaint.contains("--cancel"), "\(busy.complaint)")
        #expect(try cluster.ask(2, "vm", "show", "c", "-o", "json").output.contains("\"phase\":\"running\""))
        #expect(try cluster.ask(1, "vm", "list", "-o", "name").output.split(separator: "\n").count == 3)
        #expect(try cluster.ask(2, "vm", "migrate", "c", "--cancel").status == 0)
        try cluster.wait("it may be changed again") { try cluster.ask(2, "vm", "stop", "c", "--wait").status == 0 }
        #expect(try cluster.ask(1, "host", "resume", "n3").status == 0)
        #expect(try cluster.ask(1, "vm", "migrate", "c", "--cell", "default").complaint.contains("already"))
        #expect(try cluster.ask(1, "vm", "migrate", "c", "--cell", "none").complaint.contains("muster cell list"))

        // Whoever leads next goes on.
        #expect(try cluster.ask(1, "vm", "migrate", "a", "--cell", "default").status == 0)
        cluster.kill9(2)
        try cluster.start(2)
        try cluster.wait("it is back where it was made") {
            try cluster.ask(1, "vm", "list", "--cell", "default", "-o", "name").output.contains("a\n")
                && cluster.ask(1, "vm", "show", "a", "-o", "json").output.contains("\"phase\":\"running\"")
        }
        #expect(try cluster.ask(1, "vm", "delete", "a", "b", "c", "--wait").status == 0)
        #expect(
            try cluster.ask(1, "vm", "create", "a", "--cpu", "1", "--memory", "64MiB", "--cell", "more").status == 0)
    }

    /// Pages of one and two VMs have each once.
    private func pagesAreWhole(_ cluster: LocalCluster) throws {
        let script = """
            for sort in '' 'sort=name' 'sort=-phase'; do for limit in 1 2 3; do
            after=; while :; do
            page=$(curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem \
            "https://$MUSTER_ADDRESS/v1/vms?fields=name&limit=$limit&$sort${after:+&after=$after}")
            echo "$page" | grep -o '"name":"[a-z]*"' | cut -d'"' -f4
            after=$(echo "$page" | sed -n 's/.*"next":"\\([^"]*\\)".*/\\1/p'); [ -n "$after" ] || break
            done; echo end; done; done
            """.replacingOccurrences(
                of: "?fields=name&limit=$limit&$sort", with: "?fields=name&limit=$limit${sort:+&$sort}")
        let lists = try cluster.shell(script, at: 2).output.components(separatedBy: "end\n").dropLast()
        #expect(lists.count == 9)
        for list in lists { #expect(list.split(separator: "\n").sorted() == ["a", "b", "c", "d"], "\(list)") }
    }
}
