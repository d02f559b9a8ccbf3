import Foundation
import Testing

/// The product as it is run: one test per way of life, since a cluster takes its time to come up.
@Suite(.serialized) struct AgentTests {
    @Test func `three joined nodes keep every acknowledged write when the leader is killed and comes back`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "first", "one").status == 0 }
        for i in 1...5 { #expect(try cluster.ask(i % 3 + 1, "kv", "put", "box", "key-\(i)", "value-\(i)").status == 0) }

        let row = try cluster.ask(1, "space", "list", "--output", "json").output
        let leader = try #require((1...3).first { row.contains("\"leader\":\"n\($0)\"") }, "\(row)")
        let other = leader % 3 + 1
        let (watch, seen) = try watching(cluster, [leader, other])
        defer { watch.terminate() }
        try cluster.wait("the watch has begun") { try lines(seen).count >= 6 }
        cluster.kill9(leader)
        try cluster.wait("another node leads") {
            try cluster.ask(other, "kv", "put", "box", "after", "kill").status == 0
        }
        for i in 1...5 { #expect(try cluster.ask(other, "kv", "get", "box", "key-\(i)").output == "value-\(i)") }

        try cluster.start(leader)
        try cluster.wait("the killed node answers") {
            try cluster.ask(leader, "kv", "get", "box", "after").output == "kill"
        }
        // The stream went on at the other node: everything is there, and once.
        try cluster.wait("the watch has seen it all") { try lines(seen).contains { $0.contains("after") } }
        let all = try lines(seen)
        #expect(all.count == 7 && watch.isRunning, "\(all)")

        // A put on a condition that does not hold any more is refused, and says so by its exit code.
        let conflict = try cluster.ask(other, "kv", "put", "box", "after", "twice", "--revision", "0")
        #expect(conflict.status == 4)
        #expect(conflict.complaint.contains("decide again"))
        #expect(try cluster.ask(other, "kv", "get", "box", "nobody").status == 3)

        // A space that is gone is gone at every node, and nobody waits for it; one that was made is there at every node, under
        // a name that another one had a moment ago too. Half of such puts came to an end that was not true once: nodes hear of
        // spaces one after the other.
        for round in 1...8 {
            let nodes = (0..<3).map { 1 + (round + $0) % 3 }
            #expect(try cluster.ask(nodes[0], "space", "delete", "box").status == 0)
            for node in nodes.reversed() {
                let began = Date()
                let late = try cluster.ask(node, "kv", "put", "box", "too", "late")
                #expect(late.status == 3 && late.complaint.contains("no space box"), "\(late.status) \(late.complaint)")
                #expect(try cluster.ask(node, "kv", "get", "box", "after").status == 3)
                #expect(Date().timeIntervalSince(began) < 6)
            }
            #expect(try cluster.ask(nodes[1], "space", "create", "box").status == 0)
            for node in nodes {
                let early = try cluster.ask(node, "kv", "put", "box", "early-\(node)", "\(round)")
                #expect(early.status == 0, "\(early.status) \(early.complaint)")
            }
            #expect(try cluster.ask(nodes[2], "kv", "get", "box", "after").status == 3)
        }

        // A node that was removed is refused and ends.
        #expect(try cluster.ask(1, "leader", "transfer", "--to", "n1").status == 0)
        #expect(try cluster.ask(1, "node", "remove", "n3").status == 0)
        try cluster.wait("the removed node ends") { cluster.log(3).contains("was removed from the cluster") }
        #expect(cluster.terminate(1) == 0)
    }

    private func watching(_ cluster: LocalCluster, _ nodes: [Int]) throws -> (Process, URL) {
        let file = cluster.folder.file("watch")
        try Data().write(to: file)
        let process = Process()
        process.executableURL = try MusterRun.binary()
        process.arguments =
            ["kv", "watch", "box", "--from", "0", "--identity", cluster.folder.file("n1/operator").path]
            + nodes.flatMap { ["--address", cluster.address($0)] }
        process.standardOutput = try FileHandle(forWritingTo: file)
        process.standardError = FileHandle.nullDevice
        try process.run()
        return (process, file)
    }

    private func lines(_ file: URL) throws -> [String] {
        try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map(String.init)
            .filter { $0.contains("\"put\"") }
    }

    @Test func `words that make no sense get a sentence and the code for that, whoever finds it out`() throws {
        let cluster = try LocalCluster()
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        let senseless: [(words: [String], sentence: String)] = [
            (["space", "create", "two words"], "SPACE is 'two words'; use 1 to 63 letters"),
            (["space", "create", "other", "--replicas", "2"], "--replicas wants 1 or 3 or 5"),
            (["space", "move", "box", "--to", "n1,two words"], "'two words' is no name of one"),
            (["space", "move", "box", "--to", "n1,"], "'' is no name of one"),
            (["space", "delete", "two words"], "use 1 to 63 letters"),
            (["kv", "get", "two words", "k"], "use 1 to 63 letters"),
            (["kv", "watch", "two words"], "use 1 to 63 letters"),
            (["kv", "put", "box", "", "v"], "the key is empty"),
            (["node", "show", "two words"], "use 1 to 63 letters"),
            (["node", "remove", "n1?force=1#"], "use 1 to 63 letters"),
            (["setting", "set", "replace-after", "1ns"], "may be 1s to"),
            (["backup", "schedule", "two words", "--remove"], "use 1 to 63 letters"),
            (["backup", "schedule", "nightly", "--remove", "--keep", "3"], "give one of them"),
            (["backup", "save", cluster.folder.file("file").path], "--key-file"),
            (["cert", "rotate", "--step", "trust"], "say --authority too"),
            (["cert", "rotate", "--sealing-key", "--authority"], "give one of them"),
            (["status", "--address", "two words:1"], "--address: 'two words:1'"),
            (["token", "create", "--note", String(repeating: "n", count: 300)], "at most 255 bytes"),
            (["recover", "root", "--reason", "", "--accept-loss"], "say why"),
        ]
        for (words, sentence) in senseless {
            let said = try cluster.run(words, at: 1)
            #expect(said.status == 2 && said.complaint.contains(sentence), "\(words): \(said.status) \(said.complaint)")
        }
        // What the words name may be absent or in the way: that is something else.
        #expect(try cluster.ask(1, "node", "show", "n7").status == 3)
        #expect(try cluster.ask(1, "space", "create", "box").status == 4)
        #expect(try cluster.ask(1, "space", "move", "box", "--to", "n1,n7").status == 3)
        let moved = try cluster.ask(1, "space", "move", "box", "--to", "n1, n1")
        #expect(moved.status == 0, "\(moved.complaint)")
    }

    @Test(arguments: [["init", "--no-start"], ["backup", "restore", "/nowhere/file", "--key-file"]])
    func `who begins a cluster with an address that others can't use, or that is not this machine's, makes nothing`(
        _ beginning: [String]
    ) throws {
        let folder = try TemporaryFolder()
        var beginning = beginning
        if beginning.last == "--key-file" {
            let key = folder.file("key").path
            #expect(try MusterRun("backup", "key", key).status == 0)
            beginning.append(key)
        }
        let data = folder.file("n1").path
        let (peer, admin) = try (LocalCluster.freePort(), LocalCluster.freePort())
        let refused: [(listens: String, isReached: String?, name: String, code: Int32, sentence: String)] = [
            ("0.0.0.0", nil, "n1", 2, "which other hosts can't connect to"),
            (
                "some.host", nil, "n1", 2,
                "--peer-listen: Can't listen on 'some.host:\(peer)'; name an address of this host"
            ),
            // Of a block that is for books.
            ("192.0.2.1", nil, "n1", 1, "Can't listen for peers on 192.0.2.1"),
            ("127.0.0.1", "two words:1", "n1", 2, "--peer-advertise wants HOST:PORT"),
            ("127.0.0.1", nil, "two words", 2, "--node-name wants"),
        ]
        for (listens, isReached, name, code, sentence) in refused {
            let said = try MusterRun(
                beginning + [
                    "--node-data", data, "--node-name", name, "--peer-listen", "\(listens):\(peer)", "--admin-listen",
                    "127.0.0.1:\(admin)",
                ] + (isReached.map { ["--peer-advertise", $0] } ?? []))
            #expect(said.status == code && said.complaint.contains(sentence), "\(said)")
            #expect(!FileManager.default.fileExists(atPath: data))
        }
    }

    @Test
    func `a token that is used up, a directory in use and a wrong setting each get a sentence that says what to do`()
        throws
    {
        let cluster = try LocalCluster()
        let again = try MusterRun(["init", "--no-start"] + cluster.options(1))
        #expect(again.status == 4)
        #expect(again.complaint.contains("in use by a node already"))
        let second = try MusterRun(["agent"] + cluster.options(1))
        #expect(second.status == 1)
        #expect(second.complaint.contains("stop it first"))
        let revoked = try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        let id = try cluster.ask(1, "token", "list", "--output", "json").output
        let word = try #require(id.components(separatedBy: "\"id\":\"").last?.prefix(12), "\(id)")
        #expect(try cluster.ask(1, "token", "revoke", String(word)).status == 0)
        let join = try MusterRun(["join", revoked] + cluster.options(2))
        #expect(join.status == 4)
        #expect(join.complaint.contains("create one with `muster token create`"))
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n2/FORMAT").path))
        let wrong = try MusterRun(["agent", "--check-config", "--liveness-beat-interval", "3 parsecs"])
        #expect(wrong.status == 2)
        let example = try MusterRun(["agent", "--example-config"])
        let file = cluster.folder.file("example.toml")
        try Data(example.output.utf8).write(to: file)
        let checked = try MusterRun(["agent", "--config", file.path, "--check-config"])
        #expect(checked.status == 2 && checked.complaint.contains("name this host's address"), "a start says so, too")
        let named = ["--peer-advertise", "n1.example:7471", "--admin-advertise", "n1.example:7470"]
        #expect(try MusterRun(["agent", "--config", file.path, "--check-config"] + named).status == 0)
        #expect(example.output.contains("[storage]"))
        let role = try cluster.ask(1, "token", "create", "--role", "space:config:append")
        #expect(role.status == 2 && role.complaint.contains("space:NAME:read"), "\(role.complaint)")
        let early = try cluster.ask(1, "token", "create", "--role", "space:config:read")
        #expect(early.status == 3 && early.complaint.contains("there is no space config"), "\(early.complaint)")
        #expect(try cluster.ask(1, "space", "create", "config").status == 0)
        #expect(try cluster.ask(1, "token", "create", "--role", "space:config:read").status == 0)
        let listed = try cluster.ask(1, "token", "list", "--output", "json").output
        #expect(listed.contains("\"role\":\"space:config:read\""), "\(listed)")
    }

    @Test func `a join from a host whose clock is wrong leaves nothing behind, and one that was cut short is repeated`()
        throws
    {
        let cluster = try LocalCluster()
        let library = try Preload.build("clock-shift", in: cluster.folder)
        let token = try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        let late = try MusterRun(
            ["join", token] + cluster.options(2), inside: ["LD_PRELOAD=\(library.path)", "CLOCK_SHIFT=200"])
        #expect(late.status == 4 && late.complaint.contains("set it, best by NTP"), "\(late.complaint)")
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n2").path))
        // An earlier try was cut short while it wrote.
        try FileManager.default.createDirectory(at: cluster.folder.file("n2"), withIntermediateDirectories: true)
        for name in ["joining.key.next", "set-up.next", "node.pem.next"] {
            try Data("half".utf8).write(to: cluster.folder.file("n2/\(name)"))
        }
        let again = try MusterRun(["join", token] + cluster.options(2))
        #expect(again.status == 0, "\(again.complaint)")
    }

    @Test func `a node that starts without the root lets nobody in who was removed before`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        cluster.kill9(3)
        try cluster.wait("its loss is noticed") {
            try cluster.ask(1, "node", "show", "n3").output.contains("not reachable")
        }
        #expect(try cluster.ask(1, "node", "remove", "n3").status == 0)
        try cluster.wait("the first node has written down who is left") {
            try String(contentsOf: cluster.folder.file("n1/peers"), encoding: .utf8).hasPrefix("2 ")
                && !String(contentsOf: cluster.folder.file("n1/peers"), encoding: .utf8).contains("\n3 ")
        }
        _ = cluster.terminate(1)
        cluster.kill9(2)
        try cluster.start(1)
        try cluster.start(3)
        // Of two the second may vote no more by now: then the first one is a majority, and reads the root itself.
        try cluster.wait("the removed node is refused") {
            cluster.log(1).contains("node 3 was no member when this node last heard the root")
                || cluster.log(1).contains("node 3 was removed from the cluster")
        }
        #expect(!cluster.log(3).contains("leads a group"))
    }

    @Test func `a join that can't be completed changes nothing and spends no token`() throws {
        let cluster = try LocalCluster()
        let token = try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        func join(_ more: String...) throws -> MusterRun { try MusterRun(["join", token] + cluster.options(2) + more) }
        let folder = cluster.folder.file("n2")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data("x".utf8).write(to: folder.appendingPathComponent("holiday.jpg"))
        let occupied = try join()
        #expect(occupied.status == 4 && occupied.complaint.contains("holiday.jpg"))
        try FileManager.default.removeItem(at: folder)
        let unreachable = try join("--peer-advertise", "127.0.0.1:1")
        #expect(unreachable.status == 4 && unreachable.complaint.contains("--peer-advertise"))
        #expect(try cluster.ask(1, "node", "list", "-o", "name").output.split(separator: "\n").count == 1)
        let joined = try join()
        #expect(joined.status == 0, "\(joined.complaint)")
        let late = try MusterRun(["join", token] + cluster.options(3))
        #expect(late.status == 4 && late.complaint.contains("used up"))
    }

    @Test func `nodes are upgraded one by one and may go back until the level opens, and never after it`() throws {
        var level = "1"
        let cluster = try LocalCluster { _, _ in ["--node-feature-level", level] }
        try cluster.grow()
        func restart(_ node: Int, as newLevel: String) throws {
            level = newLevel
            #expect(cluster.terminate(node) == 0)
            try cluster.start(node)
            try cluster.wait("node \(node) answers as a program of level \(newLevel)") {
                try cluster.ask(node, "kv", "get", "box", "lock").output == "me"
            }
        }
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "lock", "me").status == 0 }
        let early = try cluster.ask(1, "kv", "delete", "box", "lock", "--if-value", "me")
        #expect(early.status == 4 && early.complaint.contains("muster upgrade finalize"), "\(early.complaint)")

        try restart(1, as: "0")
        try restart(2, as: "0")
        let refused = try cluster.ask(1, "upgrade", "finalize")
        #expect(refused.status == 4 && refused.complaint.contains("node 3 does not understand"), "\(refused.complaint)")
        #expect(try cluster.ask(1, "upgrade", "status").output.contains("n3"))
        // Nothing of the newer program is in the way of the older one.
        try restart(2, as: "1")
        try restart(2, as: "0")
        try restart(3, as: "0")
        try cluster.wait("the level opens") { try cluster.ask(1, "upgrade", "finalize").status == 0 }
        try cluster.wait("all have heard of it") {
            (1...3).allSatisfy {
                (try? String(contentsOf: cluster.folder.file("n\($0)/level"), encoding: .utf8)) == "2\n"
            }
        }
        #expect(try cluster.ask(2, "kv", "delete", "box", "lock", "--if-value", "you").status == 4)
        #expect(try cluster.ask(2, "kv", "delete", "box", "lock", "--if-value", "me").status == 0)
        #expect(try cluster.ask(3, "kv", "get", "box", "lock").status == 3)
        level = "1"
        #expect(cluster.terminate(3) == 0)
        let late = try MusterRun(["agent"] + cluster.options(3))
        #expect(late.status == 4 && late.complaint.contains("has opened feature level 2"), "\(late.complaint)")
    }

    @Test func `the authority is replaced in three steps, and who learned it in time is never locked out`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "k", "1").status == 0 }
        let own = cluster.folder.file("n1/operator")
        let other = cluster.folder.file("colleague")
        try FileManager.default.copyItem(at: own, to: other)
        func trusted(_ folder: URL) throws -> [String] {
            try String(contentsOf: folder.appendingPathComponent("ca.pem"), encoding: .utf8)
                .components(separatedBy: "-----BEGIN").dropFirst().map { $0 }
        }
        func colleague(_ words: String...) throws -> MusterRun {
            try MusterRun(words + ["--identity", other.path, "--address", cluster.address(1)])
        }
        let token = try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        let before = try trusted(own)
        #expect(try cluster.ask(1, "cert", "rotate", "--authority", "--step", "trust").status == 0)
        #expect(try trusted(own).count == 2)
        let repeated = try cluster.ask(1, "cert", "rotate", "--authority", "--step", "trust")
        #expect(repeated.status != 0 && repeated.complaint.contains("'sign' is next"), "\(repeated.complaint)")
        #expect(try colleague("node", "list").status == 0)
        #expect(try colleague("cert", "renew").status == 0)
        #expect(try cluster.ask(1, "cert", "rotate", "--authority").status == 0)
        try cluster.wait("every node has renewed its certificate, and the old authority is dropped") {
            try cluster.ask(1, "cert", "rotate", "--authority").status == 0
        }
        let after = try trusted(own)
        #expect(after.count == 1 && after != before)
        for node in 1...3 { #expect(try cluster.ask(node, "kv", "get", "box", "k").output == "1") }
        // The colleague slept through the last steps: the certificate of the old authority is worth nothing any more.
        #expect(try colleague("node", "list").status != 0)
        try cluster.wait("nodes still reach each other") {
            try cluster.ask(3, "kv", "put", "box", "k", "2").status == 0
        }
        // So is a token that knows the old authority, and whoever holds it hears why.
        let late = try MusterRun(["join", token] + cluster.options(4))
        #expect(late.status == 4 && late.complaint.contains("rotated since, create a new token"), "\(late)")
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n4/node.key").path))
        let fresh = try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        let joined = try MusterRun(["join", fresh] + cluster.options(4))
        #expect(joined.status == 0, "\(joined)")
    }

    @Test func `an authority that is asked for by several at once is one, and its key is there when it is to sign`()
        throws
    {
        let cluster = try LocalCluster()
        for round in 1...4 {
            let wish = #"{"subject":"ca","step":"trust"}"#
            let statuses = try Asked.together(8, "/v1/certs/rotate", wish, at: 1, of: cluster)
            #expect(statuses.count == 8 && statuses.count { $0 < 300 } == 1, "round \(round): \(statuses)")
            try cluster.wait("a new authority is trusted in round \(round)") {
                try cluster.ask(1, "cert", "list").output.contains("trusted")
            }
            let signed = try cluster.ask(1, "cert", "rotate", "--authority", "--step", "sign")
            #expect(signed.status == 0, "round \(round): \(signed.complaint)")
            try cluster.wait("the old one is dropped in round \(round)") {
                try cluster.ask(1, "cert", "rotate", "--authority", "--step", "finish").status == 0
            }
        }
    }
}
