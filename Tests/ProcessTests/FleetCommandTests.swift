import Foundation
import Testing

/// The command line of the fleet against real agents: what the help shows works, and what can't be done is said.
@Suite(.serialized) struct FleetCommandTests {
    @Test
    func `a stopped VM whose host may not have it any more gives up its place, and one with a local disk says why not`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        #expect(try cluster.ask(1, "host", "set", "n1", "--label", "disk=fast").status == 0)
        for (name, more) in [("still", []), ("bound", ["--disk", "name=d,size=1MiB,kind=local"])] {
            let made = try cluster.run(
                ["vm", "create", name, "--cpu", "100m", "--memory", "64MiB", "--require", "disk=fast", "--wait"] + more,
                at: 2)
            #expect(made.status == 0, "\(made.complaint)")
        }
        #expect(try cluster.ask(2, "vm", "stop", "still", "bound", "--wait").status == 0)
        #expect(try cluster.ask(3, "host", "set", "n2", "--label", "disk=fast").status == 0)
        let shown = try cluster.ask(3, "host", "set", "n1", "--label", "disk-", "--dry-run").output
        #expect(shown.contains("labels.disk") && shown.contains("with --enforce it gives up its place"), "\(shown)")
        #expect(try cluster.ask(3, "host", "set", "n1", "--label", "disk-").status == 0)
        var plan = ""
        try cluster.wait("the plan has the VM") {
            plan = try cluster.ask(2, "rebalance", "show", "-o", "json").output
            return plan.contains("\"action\":\"release\",\"vm\":\"still\"")
        }
        #expect(plan.contains("\"cause\":\"localDisk\"") && plan.contains("it may not stay on n1: "), "\(plan)")
        let run = try cluster.ask(2, "rebalance", "run")
        #expect(run.status == 0, "\(run.complaint)")
        try cluster.wait("it has given up its place") {
            try cluster.ask(1, "vm", "show", "still", "-o", "json").output.contains("\"host\":\"\"")
        }
        #expect(try cluster.ask(1, "vm", "start", "still", "--wait").status == 0)
        #expect(try cluster.ask(1, "vm", "show", "still", "-o", "json").output.contains("\"host\":\"n2\""))
        #expect(try cluster.ask(1, "vm", "show", "bound", "-o", "json").output.contains("\"host\":\"n1\""))
    }

    @Test func `every example of every help topic works on a cluster of three, and any node names the leader`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        let help = try MusterRun("help").output
        let section = try #require(help.components(separatedBy: "\ntopics:\n").last)
        let topics = section.components(separatedBy: "\n\n")[0].split(separator: "\n").compactMap { line in
            line.split(separator: " ").first.map(String.init)
        }
        #expect(topics.count >= 9, "\(topics)")
        var count = 0
        for topic in topics {
            let text = try MusterRun("help", topic)
            #expect(text.status == 0)
            let examples = try #require(text.output.components(separatedBy: "\nexamples:\n").last)
            for line in examples.split(separator: "\n") where line.hasPrefix("  ") && !line.hasPrefix("   ") {
                count += 1
                let done = try cluster.shell(String(line), at: count % 3 + 1)
                #expect(done.status == 0, "\(topic):\(line)\n\(done.output)")
            }
        }
        #expect(count > 40)

        // Nodes that do not lead hand such questions on; the answer says at which index it is true, and who gave it.
        #expect(try cluster.ask(1, "vm", "create", "a", "--cpu", "1", "--memory", "64MiB", "--wait").status == 0)
        var leaders: [String] = []
        for node in 1...3 {
            for path in ["vms/a/explain", "migrations", "rebalance", "vms", "images", "remains", "tokens"] {
                let head = try cluster.shell(
                    "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem -D - -o /dev/null "
                        + "https://$MUSTER_ADDRESS/v1/\(path)", at: node
                ).output.lowercased()
                let fields = head.split(whereSeparator: \.isNewline)
                let index = fields.first { $0.hasPrefix("muster-index: ") }?.dropFirst(14)
                #expect(index.flatMap { Int($0) } ?? 0 > 0, "\(path) at node \(node): \(head)")
                leaders += fields.filter { $0.hasPrefix("muster-leader: ") }.map(String.init)
            }
        }
        // So they do when it is asked what a move would do, and the VM stays where it is.
        let home = try cluster.ask(1, "vm", "show", "a", "-o", "json").output
        for node in 1...3 {
            let moved = try cluster.ask(node, "vm", "migrate", "a", "--dry-run")
            #expect(moved.status == 0 && moved.output.contains("migrate"), "\(moved.output) \(moved.complaint)")
        }
        let now = try cluster.ask(2, "vm", "migrate", "a", "--intent", "now", "--dry-run")
        #expect(now.output.contains("forecast, now: it comes to an end in about"), "\(now.output) \(now.complaint)")
        #expect(try cluster.ask(3, "vm", "migrate", "a", "--intent", "quick").status != 0)
        #expect(try cluster.ask(1, "vm", "show", "a", "-o", "json").output == home)
        // Tokens are the root's.
        #expect(leaders.count == 18 && Set(leaders).count == 1, "\(leaders)")
    }

    @Test func `a dry run says what a change would do, refuses what it would refuse, and changes nothing`() throws {
        let cluster = try LocalCluster()
        try cluster.wait("the host has reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 1
        }
        func plan(_ words: String...) throws -> [String: Any] {
            let said = try cluster.run(words + ["--dry-run", "-o", "json"], at: 1)
            #expect(said.status == 0, "\(words): \(said.complaint)")
            return try JSONSerialization.jsonObject(with: Data(said.output.utf8)) as? [String: Any] ?? [:]
        }
        func fields(_ plan: [String: Any]) -> [String] {
            (plan["changes"] as? [[String: Any]] ?? []).map { change in
                "\(change["field"] ?? ""): \(change["before"] ?? "") to \(change["after"] ?? "")"
            }
        }
        func notes(_ plan: [String: Any]) -> String { (plan["notes"] as? [String] ?? []).joined(separator: "\n") }
        func actions(_ plan: [String: Any]) -> [String] {
            (plan["steps"] as? [[String: Any]] ?? []).compactMap { $0["action"] as? String }
        }
        #expect(
            try cluster.ask(
                1, "vm", "create", "web", "--cpu", "100m", "--memory", "64MiB", "--disk", "size=1MiB,kind=ephemeral",
                "--wait"
            ).status == 0)
        func seen() throws -> [String] {
            let shown = ["vm show web", "cell show", "events --limit 1000", "vm list"]
            return try shown.map {
                let said = try cluster.run($0.split(separator: " ").map(String.init) + ["-o", "json"], at: 1).output
                // What a loss would cost the cell is true at an index, which goes on.
                return said.firstRange(of: "\"recovery\"").map { String(said[..<$0.lowerBound]) } ?? said
            }
        }
        let before = try seen()

        let larger = try plan("vm", "update", "web", "--memory", "32MiB", "--label", "env=prod")
        #expect(fields(larger) == ["memoryMiB: 64 to 32", "labels.env:  to prod"], "\(larger)")
        #expect(notes(larger).contains("muster vm restart web"))
        #expect(notes(try plan("vm", "update", "web", "--memory", "64MiB")).contains("nothing would change"))
        let gone = try plan("vm", "delete", "web")
        #expect(actions(gone) == ["delete"] && fields(gone).count == 1, "\(gone)")
        #expect(notes(gone).contains("it is stopped on host n1 first"))
        let policy = try plan("cell", "set", "policy", "spread")
        #expect(fields(policy).first?.hasSuffix(" to spread") == true && actions(policy).isEmpty, "\(policy)")
        let idle = try plan("vm", "create", "idle", "--cpu", "4096", "--memory", "1TiB", "--stopped")
        #expect(actions(idle) == ["create"] && notes(idle).contains("created stopped"), "\(idle)")
        // What the change would be refused for.
        for change in [
            ["vm", "update", "web", "--cpu", "4096"], ["vm", "update", "web", "--disk", "2MiB"],
            ["vm", "delete", "none"],
            ["vm", "delete", "web", "--if-generation", "9"], ["vm", "migrate", "web"],
            ["vm", "migrate", "web", "--to", "n1"], ["vm", "migrate", "web", "--cell", "none"],
            ["vm", "migrate", "web", "--cell", "default"], ["cell", "set", "leaseMillis", "1"],
        ] {
            let dry = try cluster.run(change + ["--dry-run"], at: 1)
            let real = try cluster.run(change, at: 1)
            #expect(dry.status == real.status && dry.complaint == real.complaint, "\(change): \(dry.complaint)")
            #expect(real.status != 0, "\(change): \(real.output)")
        }
        let table = try cluster.run(["vm", "delete", "web", "--dry-run"], at: 1).output
        #expect(table.contains("goes with the VM") && table.contains("\nPlan "), "\(table)")
        let now = try seen()
        for i in [0, 1, 3] { #expect(now[i] == before[i]) }
        #expect(!now[2].contains("vm.delete\"") && !now[2].contains("vm.updated"))

        // The plan that was shown is held to.
        let digest = try #require(larger["digest"] as? String)
        let wrong = try cluster.ask(1, "vm", "update", "web", "--memory", "48MiB", "--plan", digest)
        #expect(wrong.status == 4 && wrong.complaint.contains("the plan is another one now"), "\(wrong.complaint)")
        let right = try cluster.ask(
            1, "vm", "update", "web", "--memory", "32MiB", "--label", "env=prod", "--plan", digest)
        #expect(right.status == 0, "\(right.complaint)")
        #expect(try cluster.ask(1, "vm", "show", "web", "-o", "json").output.contains("\"memoryMiB\":32"))

        let nodes = try JSONSerialization.jsonObject(
            with: Data(try cluster.ask(1, "node", "list", "-o", "json").output.utf8))
        #expect((nodes as? [[String: Any]])?.count == 1)
    }

    @Test func `what makes no sense is said before anything is done, and what is not there is not found`() throws {
        let cluster = try LocalCluster()
        try cluster.wait("the host has reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 1
        }
        for name in ["a", "b"] {
            let made = try cluster.ask(1, "vm", "create", name, "--cpu", "100m", "--memory", "64MiB", "--stopped")
            #expect(made.status == 0)
        }
        func refused(_ status: Int32, _ text: String, _ words: String...) throws {
            let said = try cluster.run(words, at: 1)
            #expect(said.status == status && said.complaint.contains(text), "\(words): \(said)")
        }
        try refused(2, "Nothing is said that would change", "vm", "update", "a")
        try refused(2, "Nothing is said that would change", "host", "set", "n1", "--dry-run")
        try refused(2, "after is no revision", "events", "--after", "yesterday")
        try refused(3, "there is no VM nobody", "vm", "wait", "nobody")
        #expect(try cluster.ask(1, "vm", "wait", "nobody", "--for", "gone").status == 0)

        func page(_ query: String) throws -> [String: Any] {
            let said = try cluster.shell(
                "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem "
                    + "'https://$MUSTER_ADDRESS/v1/vms?limit=1\(query)'".replacingOccurrences(of: "'", with: "\""),
                at: 1)
            return try JSONSerialization.jsonObject(with: Data(said.output.utf8)) as? [String: Any] ?? [:]
        }
        let next = try #require(try page("&sort=name")["next"] as? String)
        #expect(try page("&sort=name&after=\(next)")["next"] == nil)
        for other in ["&sort=cpuMillis&after=\(next)", "&after=\(next)", "&after=nonesuch"] {
            let refusal = try page(other)
            #expect(refusal["status"] as? Int == 422 && refusal["field"] as? String == "after", "\(refusal)")
        }
    }

    @Test func `what can't leave a drained host is named, and the newest events come first`() throws {
        let cluster = try LocalCluster()
        try cluster.wait("the host has reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 1
        }
        #expect(
            try cluster.ask(1, "vm", "create", "web-{1..3}", "--cpu", "100m", "--memory", "64MiB", "--wait").status == 0
        )
        let drained = try cluster.ask(1, "host", "drain", "n1", "--wait", "--wait-timeout", "60s")
        #expect(drained.status == 1, "\(drained.complaint)")
        for name in ["web-1", "web-2", "web-3"] {
            #expect(drained.complaint.contains("\(name) is still on n1: no host fits"), "\(drained.complaint)")
        }
        #expect(drained.complaint.contains("0 of 3 moved off n1"))
        #expect(drained.complaint.contains("muster host resume n1"))
        #expect(try cluster.ask(1, "host", "resume", "n1").status == 0)

        let all = try cluster.ask(1, "events", "-o", "json").output.split(separator: "\n")
        #expect(all.count > 8)
        let newest = try cluster.ask(1, "events", "--limit", "2", "-o", "json").output.split(separator: "\n")
        #expect(newest.suffix(3) == all.suffix(3) && newest.count == 4, "\(newest)")
        #expect(newest[2].contains("host.resumed"))
        let oldest = try cluster.ask(1, "events", "--after", "1", "--limit", "1", "-o", "json").output
        #expect(oldest.contains("host.registered"))

        // A tenant that is deleted leaves nothing behind.
        #expect(try cluster.ask(1, "tenant", "set", "shop", "--vms", "1").status == 0)
        try cluster.wait("the quota is in force") {
            try cluster.ask(1, "quota", "show", "shop", "-o", "json").output.contains("\"isPending\":false")
        }
        #expect(try cluster.ask(1, "tenant", "delete", "shop").status == 0)
        try cluster.wait("the slice is given back") {
            try !cluster.names(1, "tenant", "list").contains("shop")
        }
        #expect(try cluster.ask(1, "quota", "show", "shop").status == 3)
        #expect(try cluster.ask(1, "quota", "set", "shop", "--vms", "1").status == 3)

        let recovery = try cluster.ask(1, "recover", "root", "--reason", "test")
        #expect(recovery.status == 4 && recovery.complaint.contains("is led by"), "\(recovery.complaint)")
        let logs = try cluster.ask(1, "vm", "logs", "web-1")
        #expect(logs.status == 4 && logs.complaint.contains("simulated"), "\(logs.complaint)")
    }

    @Test func `VMs that are created all or none wait together, say how many would fit, and come when all do`() throws {
        let cluster = try LocalCluster()
        try cluster.wait("the host has reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 1
        }
        func json(_ text: String) throws -> [String: Any] {
            try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
        }
        let host = try json(try cluster.ask(1, "host", "show", "n1", "-o", "json").output)
        let free = try #require((host["free"] as? [String: Any])?["cpuMillis"] as? Int)
        let part = "\(free * 4 / 10)m"
        let three = ["vm", "create", "gang-{1..3}", "--cpu", part, "--memory", "16MiB", "--all-or-nothing"]
        let none = try json(try cluster.run(three + ["--dry-run", "-o", "json"], at: 1).output)
        #expect((none["steps"] as? [Any])?.isEmpty == true && (none["left"] as? [Any])?.count == 3, "\(none)")
        let made = try cluster.run(three + ["--label", "kind=gang"], at: 1)
        #expect(made.status == 0, "\(made.complaint)")
        var gang: [String: Any] = [:]
        try cluster.wait("it is explained") {
            let found = try json(try cluster.ask(1, "vm", "explain", "gang-2", "-o", "json").output)
            gang = found["gang"] as? [String: Any] ?? [:]
            return !gang.isEmpty
        }
        #expect(gang["count"] as? Int == 3 && gang["fitting"] as? Int == 2, "\(gang)")
        let missing = try #require((gang["missing"] as? [[String: Any]])?.first)
        #expect((missing["text"] as? String)?.contains("more were free") == true, "\(missing)")
        // One behind them takes what they can't use.
        let single = try cluster.ask(1, "vm", "create", "single", "--cpu", part, "--memory", "16MiB", "--wait")
        #expect(single.status == 0, "\(single.complaint)")
        let all = ["gang-1", "gang-2", "gang-3"]
        for filter in ["phase=waiting", "label.kind=gang", "label.kind=gang and phase=waiting"] {
            #expect(try cluster.names(1, "vm", "list", "--filter", filter) == all, "\(filter)")
        }
        #expect(try cluster.names(1, "vm", "list", "--filter", "phase=running") == ["single"])
        // One of them is not wanted any more: the others fit when the single one is gone.
        #expect(try cluster.ask(1, "vm", "delete", "gang-3", "single", "--wait").status == 0)
        try cluster.wait("the rest runs") {
            try cluster.names(1, "vm", "list", "--filter", "phase=running") == ["gang-1", "gang-2"]
        }
        #expect(try cluster.names(1, "vm", "list", "--filter", "phase=waiting").isEmpty)
        // More urgent ones have them stopped, as their plan says.
        let urgent = [
            "vm", "create", "urgent-{1..2}", "--cpu", part, "--memory", "16MiB", "--priority", "5", "--all-or-nothing",
        ]
        let plan = try json(try cluster.run(urgent + ["--dry-run", "-o", "json"], at: 1).output)
        let steps = (plan["steps"] as? [[String: Any]] ?? []).compactMap { $0["action"] as? String }
        #expect(steps == ["preempt", "preempt", "place", "place"], "\(plan)")
        let digest = try #require(plan["digest"] as? String)
        #expect(try cluster.run(urgent + ["--plan", digest], at: 1).status == 0)
        try cluster.wait("the urgent ones run, and the others wait") {
            try cluster.names(1, "vm", "list", "--filter", "phase=running") == ["urgent-1", "urgent-2"]
                && cluster.names(1, "vm", "list", "--filter", "phase=waiting") == ["gang-1", "gang-2"]
        }
    }

    @Test func `what is secret is in no log and no data directory, but for the files that are there to hold it`() throws
    {
        let cluster = try LocalCluster()
        let api = try cluster.ask(1, "token", "create", "--role", "viewer").output
            .trimmingCharacters(in: .whitespacesAndNewlines)
        let join = try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        #expect(api.hasPrefix("mst_") && api.count > 60 && join.hasPrefix("mst1_"))
        // It is good, and so it went through the agent; a wrong one goes through the log of what is refused.
        #expect(try cluster.ask(1, "node", "list", "--token", api).status == 0)
        #expect(try cluster.ask(1, "node", "list", "--token", api + "0").status == 4)
        let folder = cluster.folder.file("n1")
        let keys = try ["node.key", "operator/key.pem"].map { name in
            try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8).split(separator: "\n")[1]
        }
        #expect(cluster.terminate(1) == 0)

        var planted: [(what: String, bytes: Data, holder: String)] = [
            ("an API token", Data(api.utf8), ""), ("a join token", Data(join.utf8), ""),
            ("the node's key", Data(keys[0].utf8), "node.key"),
            ("the operator's key", Data(keys[1].utf8), "operator/key.pem"),
        ]
        let digits = Array(api.dropFirst(4))
        let secret = stride(from: 0, to: digits.count - 1, by: 2).compactMap {
            UInt8(String(digits[$0...$0 + 1]), radix: 16)
        }
        #expect(secret.count == 32)
        planted.append(("an API token's bytes", Data(secret), ""))
        var looked = 0
        let files = try #require(FileManager.default.enumerator(atPath: cluster.folder.url.path)).compactMap {
            $0 as? String
        }
        for file in files {
            guard let bytes = try? Data(contentsOf: cluster.folder.file(file)) else { continue }
            looked += bytes.count
            for plant in planted where plant.holder.isEmpty || file != "n1/" + plant.holder {
                #expect(bytes.range(of: plant.bytes) == nil, "\(plant.what) is in \(file)")
            }
        }
        #expect(looked > 10_000)
    }
}

extension LocalCluster {
    /// Runs a line as a user's shell does who has set the cluster up in variables.
    func shell(_ line: String, at node: Int) throws -> (status: Int32, output: String) {
        let file = folder.file("shell-out")
        try Data().write(to: file)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", line]
        var variables = ProcessInfo.processInfo.environment
        variables["PATH"] = try MusterRun.binary().deletingLastPathComponent().path + ":" + (variables["PATH"] ?? "")
        variables["MUSTER_IDENTITY"] = folder.file("n1/operator").path
        variables["MUSTER_ADDRESS"] = address(node)
        process.environment = variables
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: file)
        process.standardError = process.standardOutput
        try process.run()
        process.waitUntilExit()
        return (process.terminationStatus, try String(contentsOf: file, encoding: .utf8))
    }
}
