import Foundation
import Testing

/// Agents whose logs' files were damaged while they were off, with real processes.
@Suite(.serialized) struct DamagedAgentTests {
    enum Damage: CaseIterable {
        /// One byte in the payload of each record of the write-ahead log's last block.
        case payloads
        /// The header of a record in the last block is all zeros, which looks like the log's end.
        case zeroHeader
        /// A sector in the middle of the log was never written.
        case sector
    }

    private static let blockBytes = 32 << 10
    private static let headBytes = 7

    /// Where each record of a write-ahead log begins, and what it holds.
    private func records(_ bytes: Data) -> [(start: Int, count: Int)] {
        var found: [(Int, Int)] = []
        var at = 0
        while at + Self.headBytes <= bytes.count {
            if Self.blockBytes - at % Self.blockBytes < Self.headBytes {
                at += Self.blockBytes - at % Self.blockBytes
                continue
            }
            let count = Int(bytes[at + 4]) | Int(bytes[at + 5]) << 8
            if bytes[at + 6] == 0 { break }
            found.append((at, count))
            at += Self.headBytes + count
        }
        return found
    }

    private func strike(_ folder: URL, _ damage: Damage) throws {
        let raft = folder.appendingPathComponent("raft")
        let names = try FileManager.default.contentsOfDirectory(atPath: raft.path).filter { $0.hasSuffix(".log") }
        let file = raft.appendingPathComponent(try #require(names.sorted().last))
        var bytes = try Data(contentsOf: file)
        let records = records(bytes)
        let end = try #require(records.last.map { $0.start + Self.headBytes + $0.count })
        let lastBlock = (end - 1) / Self.blockBytes * Self.blockBytes
        #expect(lastBlock > 0, "the log has one block only")
        let last = records.filter { $0.start >= lastBlock }
        switch damage {
        case .payloads: for (start, count) in last where count > 0 { bytes[start + Self.headBytes + count / 2] ^= 0xFF }
        case .zeroHeader:
            let (start, _) = try #require(last.dropLast().last ?? last.last)
            for i in start..<start + Self.headBytes { bytes[i] = 0 }
        case .sector:
            let sector = end / 2 / 512 * 512
            for i in sector..<sector + 512 { bytes[i] = 0 }
        }
        try bytes.write(to: file)
    }

    private struct Status: Decodable {
        struct Group: Decodable {
            var name: String
            var voters: [String]
        }
        var groups: [Group]
    }

    private func isWhole(_ cluster: LocalCluster, at node: Int) throws -> Bool {
        let said = try cluster.ask(node, "status", "-o", "json")
        guard said.status == 0 else { return false }
        let groups = try JSONDecoder().decode(Status.self, from: Data(said.output.utf8)).groups
        return groups.count >= 3 && groups.allSatisfy { Set($0.voters) == ["n1", "n2", "n3"] }
    }

    @Test(arguments: Damage.allCases)
    func `an agent whose log is damaged says so, votes for nobody, and is repaired by the others`(_ damage: Damage)
        throws
    {
        let cluster = try LocalCluster()
        cluster.patience = "3s"
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "k0", "0").status == 0 }
        try cluster.wait("all groups have three voters") { try isWhole(cluster, at: 1) }
        var acknowledged = ["k0": "0"]
        func write(_ range: ClosedRange<Int>, bytes: Int) throws {
            for i in range {
                let value = "\(i) " + String(repeating: "x", count: bytes)
                if try cluster.ask(1, "kv", "put", "box", "k\(i)", value).status == 0 { acknowledged["k\(i)"] = value }
            }
        }
        try write(1...14, bytes: 5_000)
        try write(15...20, bytes: 100)
        #expect(acknowledged.count == 21)

        cluster.kill9(3)
        try strike(cluster.folder.file("n3"), damage)
        let before = cluster.log(3).count
        func news() -> Substring { cluster.log(3).dropFirst(before) }
        // With another one gone, the vote and the acknowledgement of a replica that lost some would be a majority's.
        cluster.kill9(2)
        try cluster.start(3)
        try cluster.wait("the damage is named") {
            news().contains("the log store") && news().contains("a replica is damaged")
        }
        let alone = try cluster.ask(1, "kv", "put", "box", "alone", "1")
        #expect(alone.status != 0, "a damaged replica acknowledged a write")
        #expect(try cluster.ask(1, "kv", "get", "box", "k1").status != 0, "a damaged replica confirmed a leader")
        #expect(!news().contains("leads a group"))

        try cluster.start(2)
        try cluster.wait("the damaged replicas are replaced") { try isWhole(cluster, at: 3) }
        cluster.kill9(1)
        for (key, value) in acknowledged.sorted(by: { $0.key < $1.key }) {
            try cluster.wait("\(key) is there") { try cluster.ask(3, "kv", "get", "box", key).output == value }
        }
        try cluster.wait("it takes writes") { try cluster.ask(3, "kv", "put", "box", "late", "1").status == 0 }
        #expect(try cluster.ask(2, "kv", "get", "box", "late").output == "1")
    }

    @Test func `an agent whose log can't be read at all ends with a sentence, and comes back as a new node`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "k", "1").status == 0 }
        cluster.kill9(3)
        let raft = cluster.folder.file("n3/raft")
        for name in try FileManager.default.contentsOfDirectory(atPath: raft.path) where name != "LOCK" {
            let file = raft.appendingPathComponent(name)
            try Data(repeating: 0, count: 64).write(to: file)
        }
        let said = try MusterRun(["agent"] + cluster.options(3))
        // A code that no supervisor starts it again after.
        #expect(said.status == 4 && !said.complaint.contains("Fatal"), "\(said)")
        #expect(said.complaint.contains("is damaged") && said.complaint.contains("remove the node"), "\(said)")
        #expect(try MusterRun(["agent"] + cluster.options(3)).status == 4, "the next start finds it too")

        // As the sentence says. The name is free again with its node, and not before.
        let token = try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        let join = ["join", token] + cluster.options(3)
        let inUse = try MusterRun(join)
        #expect(inUse.status != 0 && inUse.complaint.contains("is in use by a node already"), "\(inUse)")
        try FileManager.default.removeItem(at: cluster.folder.file("n3"))
        let taken = try MusterRun(join)
        #expect(taken.status != 0 && taken.complaint.contains("muster node remove n3"), "\(taken)")
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n3/node.key").path))
        #expect(try cluster.ask(1, "node", "remove", "n3").status == 0)
        let joined = try MusterRun(join)
        #expect(joined.status == 0, "\(joined)")
        try cluster.start(3)
        try cluster.wait("the new node votes everywhere") { try isWhole(cluster, at: 1) }
        cluster.kill9(1)
        try cluster.wait("it has what was written") { try cluster.ask(3, "kv", "get", "box", "k").output == "1" }
    }

    @Test func `rot in a file of the log costs one replica, and ends the agent once when files are merged`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        func value(_ i: Int) -> String { String(repeating: "<\(i)>", count: 500) }
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "k0", value(0)).status == 0 }
        try cluster.wait("all groups have three voters") { try isWhole(cluster, at: 1) }
        for i in 1...20 { #expect(try cluster.ask(1, "kv", "put", "box", "k\(i)", value(i)).status == 0) }
        func restart() throws {
            cluster.kill9(3)
            try cluster.start(3)
        }
        // What is replayed goes to a file.
        try restart()
        try cluster.wait("it is back") { try isWhole(cluster, at: 3) }
        cluster.kill9(3)
        let raft = cluster.folder.file("n3/raft")
        var struck = 0
        for name in try FileManager.default.contentsOfDirectory(atPath: raft.path) where name.hasSuffix(".sst") {
            var bytes = try Data(contentsOf: raft.appendingPathComponent(name))
            guard let run = bytes.range(of: Data(value(17).prefix(600).utf8)) else { continue }
            bytes[run.lowerBound + 300] ^= 0xFF
            try bytes.write(to: raft.appendingPathComponent(name))
            struck += 1
        }
        #expect(struck > 0)
        try cluster.start(3)
        try cluster.wait("the replica is named") { cluster.log(3).contains("a replica is damaged") }
        try cluster.wait("it is replaced") { try isWhole(cluster, at: 3) }

        // Each start leaves a file, until they are merged: the rot lies there still.
        func isReplaced() -> Bool { cluster.log(3).contains("was replaced by a copy of what is whole") }
        func isMarked() -> Bool {
            FileManager.default.fileExists(atPath: cluster.folder.file("n3/raft.damaged").path)
        }
        for life in 1...15 where !isMarked() {
            try restart()
            try cluster.wait("it answers in life \(life), or ends") {
                try isMarked() || cluster.ask(3, "kv", "put", "box", "life", "\(life)").status == 0
            }
            usleep(500_000)
        }
        #expect(isMarked(), "the files were never merged")
        try restart()
        try cluster.wait("the store is replaced") { isReplaced() }
        try cluster.wait("it says so") {
            try cluster.ask(3, "status").output.contains("was replaced by a copy of what is whole")
        }
        try cluster.wait("its replicas vote again") { try isWhole(cluster, at: 3) }
        try restart()
        try cluster.wait("all is as before") { try isWhole(cluster, at: 3) }
        #expect(!isMarked())
        #expect(cluster.log(3).components(separatedBy: "was replaced by a copy").count == 2, "more than once")
        #expect(try !cluster.ask(3, "status").output.contains("was replaced by a copy"))
        cluster.kill9(1)
        for i in 0...20 {
            try cluster.wait("k\(i) is there") { try cluster.ask(3, "kv", "get", "box", "k\(i)").output == value(i) }
        }
    }
}
