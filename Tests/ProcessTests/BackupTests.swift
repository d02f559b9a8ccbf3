import Foundation
import Testing

/// Backups as an operator makes and needs them.
@Suite(.serialized) struct BackupTests {
    /// The entries of a list; it also says which state they are of.
    private func items(_ text: String) throws -> NSArray {
        let answer = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        return try #require(answer?["keys"] as? NSArray, "\(text)")
    }

    @Test func `a cluster that was saved and destroyed comes back with the same keys under another id`() throws {
        let cluster = try LocalCluster()
        let (key, file) = (cluster.folder.file("backup.key").path, cluster.folder.file("monday.backup").path)
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(1, "kv", "put", "box", "first", "one").status == 0 }
        let text = String(repeating: "muster ", count: 2_000)
        for i in 0..<40 { #expect(try cluster.ask(1, "kv", "put", "box", "key-\(i)", "\(i) \(text)").status == 0) }
        let listed = try items(cluster.ask(1, "kv", "list", "box", "--output", "json").output)
        #expect(try cluster.ask(1, "setting", "set", "replace-after", "2m").status == 0)

        let cell = try cluster.ask(1, "cell", "list", "-o", "name").output.trimmingCharacters(
            in: .whitespacesAndNewlines)
        #expect(!cell.isEmpty && !cell.contains("\n"), "\(cell)")
        #expect(try MusterRun("backup", "key", key).status == 0)
        #expect(try MusterRun("backup", "key", key).complaint.contains("there already"))
        let unsealed = try cluster.ask(1, "backup", "save", file)
        #expect(unsealed.status == 2 && unsealed.complaint.contains("--key-file"), "\(unsealed)")
        let saved = try cluster.ask(1, "backup", "save", file, "--key-file", key)
        #expect(saved.status == 0, "\(saved.complaint)")
        #expect(try cluster.ask(1, "kv", "put", "box", "late", "not in it").status == 0)
        cluster.kill9(1)
        try FileManager.default.removeItem(at: cluster.folder.file("n1"))

        let seen = try MusterRun("backup", "inspect", file, "--key-file", key, "--output", "json")
        #expect(seen.output.contains("\"name\":\"box\"") && seen.output.contains("\"name\":\"root\""), "\(seen.output)")
        // Every group is called something: the root, the space, and the cell.
        let table = try MusterRun("backup", "inspect", file, "--key-file", key).output
        #expect(["root", "box", cell].allSatisfy { table.contains(" \($0) ") } && !table.contains(" - "), "\(table)")
        #expect(saved.output.contains(" \(cell) "), "\(saved.output)")
        try expectRefusals(cluster, file, key)

        let restored = try MusterRun(["backup", "restore", file, "--key-file", key] + cluster.options(2))
        #expect(restored.status == 0, "\(restored.complaint)")
        try cluster.start(2)
        func ask(_ words: String...) throws -> MusterRun {
            try MusterRun(
                words + [
                    "--identity", cluster.folder.file("n2/operator").path, "--address", cluster.address(2), "--timeout",
                    "5s",
                ])
        }
        try cluster.wait("the restored cluster answers") { try ask("kv", "get", "box", "first").output == "one" }
        // Keys, values, revisions and versions.
        #expect(try items(ask("kv", "list", "box", "--output", "json").output) == listed)
        #expect(try ask("kv", "get", "box", "key-7").output == "7 \(text)")
        #expect(try ask("kv", "get", "box", "late").status == 3)
        #expect(try ask("kv", "put", "box", "after", "restore").status == 0)
        #expect(try ask("setting", "list").output.contains("120000"))
        let nodes = try ask("node", "list").output
        #expect(nodes.contains("n2") && !nodes.contains("n1 "), "\(nodes)")
        let status = try ask("status").output
        #expect(!saved.output.isEmpty && !status.contains(clusterID(saved.output)))
        // A host joins it as any other.
        let token = try ask("token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        let joined = try MusterRun(["join", token] + cluster.options(3))
        #expect(joined.status == 0, "\(joined.complaint)")
    }

    private func clusterID(_ output: String) -> String {
        output.split(separator: "\n").first.map { String($0.split(separator: " ").last ?? "?") } ?? "?"
    }

    /// Each of these is one sentence, and leaves nothing behind.
    private func expectRefusals(_ cluster: LocalCluster, _ file: String, _ key: String) throws {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: file))
        let other = cluster.folder.file("other.key").path
        #expect(try MusterRun("backup", "key", other).status == 0)
        func refusal(_ data: Data, _ key: String) throws -> String {
            let path = cluster.folder.file("bad.backup")
            try data.write(to: path)
            let run = try MusterRun(["backup", "restore", path.path, "--key-file", key] + cluster.options(2))
            #expect(run.status == 1)
            #expect(run.complaint.split(separator: "\n").count == 1, "\(run.complaint)")
            #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n2/FORMAT").path))
            return run.complaint
        }
        #expect(try refusal(bytes, other).contains("The key is another one"))
        var damaged = bytes
        damaged[bytes.count - 100] ^= 1
        #expect(try refusal(damaged, key).contains("damaged"))
        #expect(try refusal(bytes.prefix(bytes.count - 1), key).contains("cut off"))
        #expect(try refusal(bytes.prefix(20), key).contains("cut"))
        #expect(
            try refusal(Data("no backup at all, but some words of enough length".utf8), key).contains("not sealed data")
        )
    }

    @Test func `a backup that hangs is ended, told of, and keeps no other schedule from its turn`() throws {
        let cluster = try LocalCluster(surroundings: { _, _ in ["MUSTER_BACKUP_TIME_LIMIT=8s"] })
        let (key, folder) = (cluster.folder.file("backup.key").path, cluster.folder.file("kept"))
        #expect(try MusterRun("backup", "key", key).status == 0)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        // Nobody ever writes to it, so whoever opens it for reading waits.
        let hanging = cluster.folder.file("hanging.key").path
        #expect(mkfifo(hanging, 0o600) == 0)
        for (name, file) in [("a-hangs", hanging), ("b-works", key)] {
            let set = try cluster.ask(
                1, "backup", "schedule", name, "--every", "1h", "--keep", "2", "--to", folder.path, "--key-file", file)
            #expect(set.status == 0, "\(set)")
        }
        try cluster.wait("the one that hangs is told of") {
            try cluster.ask(1, "status").output.contains("a-hangs failed: n1: it took longer than")
        }
        try cluster.wait("the other one is made") {
            try FileManager.default.contentsOfDirectory(atPath: folder.path).contains {
                $0.contains("-b-works-") && $0.hasSuffix(".backup")
            }
        }
    }

    @Test func `a schedule takes backups by itself, keeps the newest, and says when it can't`() throws {
        let cluster = try LocalCluster()
        let (key, folder) = (cluster.folder.file("backup.key").path, cluster.folder.file("kept"))
        #expect(try MusterRun("backup", "key", key).status == 0)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        func set(_ keyFile: String) throws -> MusterRun {
            try cluster.ask(
                1, "backup", "schedule", "hourly", "--every", "1h", "--keep", "2", "--to", folder.path, "--key-file",
                keyFile)
        }
        #expect(try cluster.ask(1, "backup", "schedule", "hourly", "--every", "1h").status == 2)
        #expect(try set("relative").status == 2)
        #expect(try set(key + ".missing").status == 0)
        try cluster.wait("the failure is told") {
            try cluster.ask(1, "backup", "schedule").output.contains("backup.key.missing")
                && cluster.ask(1, "status").output.contains("the backup hourly failed")
        }
        #expect(try cluster.ask(1, "backup", "schedule", "hourly", "--remove").status == 0)
        // Of days before, and somebody else's.
        let id = try #require(
            cluster.ask(1, "status", "-o", "json").output.components(separatedBy: "\"cluster\":\"").last?.prefix(8))
        let older = (1...3).map { "muster-\(id)-hourly-2020010\($0)T000000Z.backup" }
        // The names of a schedule may begin as another one's does.
        let others = ["daily", "hourly-eu"].map { "muster-\(id)-\($0)-20200101T000000Z.backup" }
        for name in older + others {
            try Data().write(to: folder.appendingPathComponent(name))
        }
        #expect(try set(key).status == 0)
        func names() -> [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
        }
        try cluster.wait("a backup is there, and no more than two are kept") {
            let kept = names().filter { $0.contains("-hourly-2") && $0.hasSuffix(".backup") }
            return kept.count == 2 && kept[0] == older[2]
        }
        #expect(others.allSatisfy(names().contains))
        let made = try #require(names().last { $0.contains("-hourly-2") && $0.hasSuffix(".backup") })
        let seen = try MusterRun("backup", "inspect", folder.appendingPathComponent(made).path, "--key-file", key)
        #expect(seen.status == 0, "\(seen.complaint)")
        try cluster.wait("the schedule says so") {
            try cluster.ask(1, "backup", "schedule").output.contains("made by n1")
        }
    }
}
