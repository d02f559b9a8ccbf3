import Foundation
import Testing

/// Secret fields of VMs, on three real agents: their host's driver gets the values, and they are nowhere else.
@Suite(.serialized) struct SecretTests {
    /// Not secret, and written wherever the secrets must not be: what finds this would find them.
    private static let control = "CONTROL-b16b00b5-\(UUID().uuidString)"
    private static let planted = (0..<3).map { "PLANTED-\($0)-\(UUID().uuidString)" }

    private func crc32c(_ text: String) -> String {
        var crc: UInt32 = ~0
        for byte in text.utf8 {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
        }
        return String(~crc, radix: 16)
    }

    private func expects(_ key: String, _ value: String) -> [String] {
        ["--annotation", "sim.expects=\(key):\(crc32c(value))", "--annotation", "note=\(Self.control)"]
    }

    private func create(_ name: String, _ cluster: LocalCluster, at node: Int, _ words: [String]) throws -> MusterRun {
        try cluster.run(["vm", "create", name, "--cpu", "1", "--memory", "64MiB"] + words, at: node)
    }

    private func clean(_ cluster: LocalCluster, _ text: String, _ where: String) {
        for secret in Self.planted { #expect(!text.contains(secret), "\(`where`) shows a secret") }
    }

    @Test
    func `secrets reach the guest wherever it runs, and are in no directory, log, snapshot, backup or answer`() throws {
        let cluster = try LocalCluster({ _, _ in
            ["--log-level", "debug", "--storage-flush-interval", "1s", "--storage-trailing-entries", "0"]
        })
        let userData = "#cloud-config\npassword: \(Self.planted[0])\n"
        let file = cluster.folder.file("user-data")
        try Data(userData.utf8).write(to: file)
        let words = expects("cloud-init.user-data", userData) + ["--annotation", "sim.boot-ms=50"]
        try cluster.wait("the cluster has a key") {
            cluster.log(1).contains("has a key for secret fields")
        }
        let made = try create(
            "db", cluster, at: 1,
            words + [
                "--secret", "cloud-init.user-data=@\(file.path)", "--secret", "console.password=\(Self.planted[1])",
                "--wait",
            ])
        #expect(made.status == 0, "\(made.complaint)\(cluster.log(1).suffix(3_000))")
        try FileManager.default.removeItem(at: file)
        // The guest looks at what it was told: a wrong expectation does not start.
        _ = try create("odd", cluster, at: 1, expects("x", "right") + ["--secret", "x=wrong"])
        try cluster.wait("the guest finds another value") {
            try cluster.ask(1, "vm", "show", "odd", "-o", "json").output.contains("was told another x")
        }
        #expect(try cluster.ask(1, "vm", "delete", "odd").status == 0)

        // Two more nodes get the state as snapshots, since the log does not go back so far.
        sleep(3)
        try cluster.grow()
        try cluster.wait("all hold the key") {
            (1...3).allSatisfy {
                FileManager.default.fileExists(atPath: cluster.folder.file("n\($0)/sealing.key").path)
            }
        }
        for node in 1...3 {
            let path = cluster.folder.file("n\(node)/sealing.key").path
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
        }
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }

        try movesAndChanges(cluster, userData)
        try repeats(cluster)
        try rotates(cluster)
        try shows(cluster)
        try looksIntoFiles(cluster)
        try restores(cluster)
    }

    @Test
    func `until secret fields are known everywhere, values stay annotations, survive changes, and are sealed later`()
        throws
    {
        var level = "2"
        let cluster = try LocalCluster { _, _ in ["--node-feature-level", level] }
        // No crash of an agent writes its memory anywhere.
        let limits = try String(contentsOfFile: "/proc/\(try #require(cluster.process(1)))/limits", encoding: .utf8)
        let cores = try #require(limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") })
        #expect(cores.split(separator: " ")[4...5] == ["1", "1"], "\(cores)")

        let (first, second) = ("#cloud-config\n# \(Self.planted[0])\n", "#cloud-config\n# \(Self.planted[1])\n")
        func words(_ value: String) -> [String] {
            expects("cloud-init.user-data", value) + ["--annotation", "sim.boot-ms=20"]
        }
        let file = cluster.folder.file("user-data")
        try Data(first.utf8).write(to: file)
        let made = try create(
            "db", cluster, at: 1, words(first) + ["--secret", "cloud-init.user-data=@\(file.path)", "--wait"])
        #expect(made.status == 0, "\(made.complaint)")
        func shown() throws -> String { try cluster.ask(1, "vm", "show", "db", "-o", "json").output }
        #expect(try shown().contains(Self.planted[0]), "an older program's client sends back what it sees")
        // What only newer programs have a place for waits until all are.
        let early = try create("x", cluster, at: 1, ["--secret", "vnc=1"])
        #expect(early.status == 4 && early.complaint.contains("upgrade finalize"), "\(early.complaint)")

        #expect(try cluster.ask(1, "vm", "update", "db", "--priority", "5").status == 0)
        #expect(try shown().contains(Self.planted[0]))
        let changed = try cluster.run(
            ["vm", "update", "db"] + words(second) + ["--secret", "cloud-init.user-data=\(second)"], at: 1)
        #expect(changed.status == 0, "\(changed.complaint)")
        #expect(try shown().contains(Self.planted[1]))
        #expect(try cluster.ask(1, "vm", "restart", "db", "--wait").status == 0)

        level = "0"
        #expect(cluster.terminate(1) == 0)
        try cluster.start(1)
        try cluster.wait("the level opens") { try cluster.ask(1, "upgrade", "finalize").status == 0 }
        try cluster.wait("the cluster has a key") { cluster.log(1).contains("has a key for secret fields") }
        let hidden = try shown()
        #expect(!hidden.contains(Self.planted[1]) && hidden.contains("(secret)"), "\(hidden)")
        try cluster.wait("the cell's leader has heard of the level") {
            try cluster.ask(1, "vm", "update", "db", "--priority", "6").status == 0
        }
        let after = try shown()
        #expect(after.contains("\"secrets\":{\"cloud-init.user-data\":\"(secret)\"}"), "\(after)")
        // The guest is told the same value as before.
        let again = try cluster.ask(1, "vm", "restart", "db", "--wait")
        #expect(again.status == 0, "\(again.complaint)\(cluster.log(1).suffix(2_000))")
    }

    /// A new cluster from the backup goes on with the key that is given along, and takes no other.
    private func restores(_ cluster: LocalCluster) throws {
        let (file, key) = (cluster.folder.file("a.backup").path, cluster.folder.file("backup.key").path)
        let other = cluster.folder.file("other.key").path
        #expect(try MusterRun("backup", "key", other).status == 0)
        try FileManager.default.removeItem(at: cluster.folder.file("n2"))
        let words = ["backup", "restore", file, "--key-file", key]
        let refused = try MusterRun(words + ["--sealing-key", other] + cluster.options(2))
        #expect(refused.status != 0 && refused.complaint.contains("not the key"), "\(refused.complaint)")
        let kept = cluster.folder.file("n1/sealing.key")
        let restored = try MusterRun(words + ["--sealing-key", kept.path] + cluster.options(2))
        #expect(restored.status == 0, "\(restored.complaint)")
        let begun = cluster.log(2).utf8.count
        try cluster.start(2)
        try cluster.wait("the restored cluster has the key") {
            cluster.log(2).dropFirst(begun).contains("has a key for secret fields")
        }
        #expect(
            try Data(contentsOf: kept) == (try Data(contentsOf: cluster.folder.file("n2/sealing.key"))))
    }

    private func movesAndChanges(_ cluster: LocalCluster, _ userData: String) throws {
        let moved = try cluster.ask(2, "vm", "migrate", "db", "--wait")
        #expect(moved.status == 0, "\(moved.complaint)")
        // A change of something else leaves the values, and a new value replaces one of them.
        #expect(try cluster.ask(3, "vm", "update", "db", "--priority", "5").status == 0)
        let restarted = try cluster.ask(3, "vm", "restart", "db", "--wait")
        #expect(restarted.status == 0, "\(restarted.complaint)")
        let words = ["vm", "update", "db"] + expects("console.password", Self.planted[2])
        let changed = try cluster.run(words + ["--secret", "console.password=\(Self.planted[2])"], at: 2)
        #expect(changed.status == 0, "\(changed.complaint)")
        let again = try cluster.ask(2, "vm", "restart", "db", "--wait")
        #expect(again.status == 0, "\(again.complaint)")
        // A marker without a value is refused, and so is a value that is too long.
        let marker = try create("bad", cluster, at: 3, ["--secret", "x=(secret)"])
        #expect(marker.status != 0 && marker.complaint.contains("send the value"), "\(marker.complaint)")
        let long = try create("bad", cluster, at: 3, ["--secret", "x=\(String(repeating: "y", count: 13_000))"])
        #expect(long.status != 0 && long.complaint.contains("may have"), "\(long.complaint)")

        // Its host is lost: another one opens them.
        let host = try #require(try cluster.hosts(ofVMs: "db").first)
        let number = try #require(Int(host.dropFirst()))
        cluster.kill9(number)
        let other = number % 3 + 1
        try cluster.wait("it runs elsewhere") {
            let now = try cluster.hosts(ofVMs: "db", at: other)
            let shown = try cluster.ask(other, "vm", "show", "db", "-o", "json").output
            return now != [host] && now.count == 1 && shown.contains("\"phase\":\"running\"")
        }
        try cluster.start(number)
        try cluster.wait("the host is back") {
            try cluster.names(other, "host", "list", "--filter", "state=ready").count == 3
        }
    }

    /// Another key takes over while everything runs, and the old one is nowhere then.
    private func rotates(_ cluster: LocalCluster) throws {
        func keys(_ node: Int) throws -> [String] {
            try String(contentsOf: cluster.folder.file("n\(node)/sealing.key"), encoding: .utf8).split(separator: "\n")
                .map(String.init)
        }
        func listed() throws -> [String] {
            try cluster.ask(2, "cert", "list", "-o", "json").output.split(separator: "\n").map(String.init).filter {
                $0.contains("secret fields")
            }
        }
        let before = try keys(1)
        #expect(try before.count == 1 && listed().count == 1)
        let begun = try cluster.ask(2, "cert", "rotate", "--sealing-key")
        #expect(begun.status == 0, "\(begun.complaint)")
        let again = try cluster.ask(3, "cert", "rotate", "--sealing-key")
        #expect(again.status == 4 && again.complaint.contains("takes its place just now"), "\(again.complaint)")
        try cluster.wait("all hold another key") { try (1...3).allSatisfy { try keys($0).count == 2 } }
        // Before all is sealed anew, both open.
        let restarted = try cluster.ask(1, "vm", "restart", "db", "--wait")
        #expect(restarted.status == 0, "\(restarted.complaint)")
        for _ in 0..<4 where try listed().count > 1 {
            sleep(20)
        }
        try cluster.wait("the old key is needed no more") { try listed().count == 1 }
        try cluster.wait("it is said that they were sealed anew") {
            (1...3).contains { cluster.log($0).contains("secret fields were sealed anew") }
        }
        try cluster.wait("the old key is nowhere") {
            try (1...3).allSatisfy { try keys($0).count == 1 && keys($0) != before }
        }
        #expect(try keys(1) == keys(2) && keys(2) == keys(3))
        let moved = try cluster.ask(2, "vm", "migrate", "db", "--wait")
        #expect(moved.status == 0, "\(moved.complaint)")
        let audit = try cluster.ask(3, "audit", "--root", "-o", "json").output
        #expect(audit.contains("sealing-key.rotated") && audit.contains("operator admin from 127.0.0.1"), "\(audit)")
        #expect(audit.contains("\"kind\":\"refused\""), "\(audit)")
    }

    /// The same request at two nodes is one command, whoever seals it.
    private func repeats(_ cluster: LocalCluster) throws {
        let line = """
            curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem -H content-type:application/json \
            -H "idempotency-key: 0b7e1c52-2f0e-4c55-9a6a-0d5f6c0a7c77" \
            -d '{"name":"once","spec":{"cpuMillis":100,"memoryMiB":64,"annotations":{"cloud-init.user-data":"\(Self.planted[0])"}}}' \
            https://$MUSTER_ADDRESS/v1/vms
            """
        let first = try cluster.shell(line, at: 1).output
        #expect(first.contains("\"id\":"), "\(first)")
        for node in 1...3 { #expect(try cluster.shell(line, at: node).output == first) }
        // What is secret is so as an annotation, too.
        let shown = try cluster.ask(2, "vm", "show", "once", "-o", "json").output
        #expect(shown.contains("\"secrets\":{\"cloud-init.user-data\":\"(secret)\"}"), "\(shown)")
    }

    private func shows(_ cluster: LocalCluster) throws {
        for node in 1...3 {
            let shown = try cluster.ask(node, "vm", "show", "db", "-o", "json").output
            #expect(shown.contains("(secret)") && shown.contains(Self.control), "\(shown)")
            for words in [
                ["vm", "show", "db", "-o", "json"], ["vm", "show", "db"], ["vm", "list", "-o", "json"],
                ["vm", "list", "-o", "wide"], ["vm", "history", "db", "-o", "json"], ["vm", "explain", "db"],
                ["events", "-o", "json"], ["audit", "-o", "json"], ["host", "list", "-o", "json"],
            ] {
                let run = try cluster.run(words, at: node)
                clean(cluster, run.output + run.complaint, words.joined(separator: " "))
            }
        }
        for path in ["v1/vms?watch=1&from=1", "v1/events?limit=500", "metrics"] {
            let line =
                "curl -sk -m 3 --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem "
                + "\"https://$MUSTER_ADDRESS/\(path)\""
            let text = try cluster.shell(line, at: 2).output
            #expect(
                text.contains("db") || path == "metrics" && text.contains("muster_"), "\(path): \(text.prefix(500))")
            clean(cluster, text, path)
        }
        // No filter tells a value from another.
        let filtered = try cluster.ask(
            1, "vm", "list", "--filter", "annotation.cloud-init.user-data='\(Self.planted[0])'", "-o", "name")
        #expect(!filtered.output.contains("db") && !filtered.output.contains("once"))
    }

    private func looksIntoFiles(_ cluster: LocalCluster) throws {
        // A backup as it is before it is sealed, one group after the other, and the file itself.
        let key = cluster.folder.file("backup.key").path
        #expect(try MusterRun("backup", "key", key).status == 0)
        let saved = try cluster.ask(1, "backup", "save", cluster.folder.file("a.backup").path, "--key-file", key)
        #expect(saved.status == 0, "\(saved.complaint)")
        let line = """
            for group in $(muster cell show default -o json | tr ',' '\\n' | grep -o '"group":[0-9]*' | cut -d: -f2); do \
            curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem \
            https://$MUSTER_ADDRESS/v1/backup/$group -o \(cluster.folder.file("plain").path); done
            """
        _ = try cluster.shell(line, at: 1)
        sleep(2)
        for node in 1...3 { #expect(cluster.terminate(node) == 0) }

        var (files, bytes, found) = (0, 0, Set<String>())
        let all = try #require(FileManager.default.enumerator(at: cluster.folder.url, includingPropertiesForKeys: nil))
        let (control, secrets) = (Data(Self.control.utf8), Self.planted.map { Data($0.utf8) })
        for case let url as URL in all {
            guard let data = FileManager.default.contents(atPath: url.path), !data.isEmpty else { continue }
            files += 1
            bytes += data.count
            if data.range(of: control) != nil {
                let node = url.path.dropFirst(cluster.folder.url.path.count + 1).prefix { $0 != "/" }
                found.insert("\(node).\(url.pathExtension)")
            }
            for secret in secrets {
                #expect(data.range(of: secret) == nil, "\(url.path) holds a secret")
            }
        }
        #expect(files > 30 && bytes > 100_000)
        // The search finds what is there: in tables of each node, in a log of writes, and in the bare backup.
        for node in ["n1", "n2", "n3"] { #expect(found.contains("\(node).sst"), "\(found)") }
        #expect(["n1.log", "n2.log", "n3.log"].contains { found.contains($0) }, "\(found)")
        #expect(found.contains("plain."), "\(found)")
    }
}
