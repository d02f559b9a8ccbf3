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
        cluster.kill9(leader)
        try cluster.wait("another node leads") {
            try cluster.ask(other, "kv", "put", "box", "after", "kill").status == 0
        }
        for i in 1...5 { #expect(try cluster.ask(other, "kv", "get", "box", "key-\(i)").output == "value-\(i)") }

        try cluster.start(leader)
        try cluster.wait("the killed node answers") {
            try cluster.ask(leader, "kv", "get", "box", "after").output == "kill"
        }
        // A put on a condition that does not hold any more is refused, and says so by its exit code.
        let conflict = try cluster.ask(other, "kv", "put", "box", "after", "twice", "--revision", "0")
        #expect(conflict.status == 4)
        #expect(conflict.complaint.contains("decide again"))
        #expect(try cluster.ask(other, "kv", "get", "box", "nobody").status == 3)

        // A node that was removed is refused and ends.
        #expect(try cluster.ask(1, "leader", "transfer", "--to", "n1").status == 0)
        #expect(try cluster.ask(1, "node", "remove", "n3").status == 0)
        try cluster.wait("the removed node ends") { cluster.log(3).contains("was removed from the cluster") }
        #expect(cluster.terminate(1) == 0)
    }

    @Test
    func `a token that is used up, a directory in use and a wrong setting each get a sentence that says what to do`()
        throws
    {
        let cluster = try LocalCluster()
        let again = try MusterRun(["init", "--no-start"] + cluster.options(1))
        #expect(again.status == 1)
        #expect(again.complaint.contains("in use by a node already"))
        let second = try MusterRun(["agent"] + cluster.options(1))
        #expect(second.status == 1)
        #expect(second.complaint.contains("stop it first"))
        let revoked = try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
        let id = try cluster.ask(1, "token", "list", "--output", "json").output
        let word = try #require(id.components(separatedBy: "\"id\":\"").last?.prefix(12), "\(id)")
        #expect(try cluster.ask(1, "token", "revoke", String(word)).status == 0)
        let join = try MusterRun(["join", revoked] + cluster.options(2))
        #expect(join.status == 1)
        #expect(join.complaint.contains("create one with `muster token create`"))
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n2/FORMAT").path))
        let wrong = try MusterRun(["agent", "--check-config", "--liveness-beat-interval", "3 parsecs"])
        #expect(wrong.status == 2)
    }
}
