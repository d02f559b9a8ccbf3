import Foundation
import Testing

/// The day on which a majority is gone, with real processes.
@Suite(.serialized) struct RecoveryTests {
    private struct Status: Decodable {
        struct Group: Decodable {
            var group: UInt64
            var name: String
            var leader: String
            var voters: [String]
        }
        var groups: [Group]
    }

    private func groups(_ cluster: LocalCluster, at node: Int) throws -> [Status.Group] {
        let said = try cluster.ask(node, "status", "-o", "json")
        guard said.status == 0 else { return [] }
        return try JSONDecoder().decode(Status.self, from: Data(said.output.utf8)).groups
    }

    @Test func `after a forced recovery the cluster serves at once, and takes in whoever comes back with old replicas`()
        throws
    {
        let cluster = try LocalCluster()
        // A node asks for a leader for five seconds before it answers with what it knows itself.
        cluster.patience = "15s"
        try cluster.grow()
        try cluster.wait("all groups have three voters") {
            let known = try groups(cluster, at: 1)
            return known.count >= 2 && known.allSatisfy { $0.voters.count == 3 }
        }
        #expect(
            try cluster.ask(1, "vm", "create", "before", "--cpu", "100m", "--memory", "64MiB", "--wait").status == 0)
        for node in [2, 3] { cluster.kill9(node) }
        var known: [Status.Group] = []
        try cluster.wait("nobody leads any more") {
            known = try groups(cluster, at: 1)
            return !known.isEmpty && known.allSatisfy { $0.leader.isEmpty }
        }
        let explained = try cluster.ask(1, "recover", "root", "--reason", "test")
        #expect(explained.status == 2 && explained.complaint.contains("--accept-loss"), "\(explained)")
        for group in known.sorted(by: { $0.group < $1.group }) {
            let done = try cluster.ask(1, "recover", "\(group.group)", "--reason", "test", "--accept-loss")
            #expect(done.status == 0, "\(group.name): \(done.complaint)")
        }
        try cluster.wait("the node that is left leads every group") {
            let all = try groups(cluster, at: 1)
            return all.count == known.count && all.allSatisfy { $0.leader == "n1" && $0.voters == ["n1"] }
        }
        let listed = try cluster.ask(1, "vm", "list", "-o", "name")
        #expect(listed.output == "before\n", "\(listed)")
        let created = try cluster.ask(1, "vm", "create", "after", "--cpu", "100m", "--memory", "64MiB")
        #expect(created.status == 0, "\(created)")

        // Together they would be a majority of the members of before, so the second comes when the first has given its up.
        try cluster.start(2)
        try cluster.wait("n2 has given up what it held") {
            cluster.log(2).components(separatedBy: "a replica was removed").count > known.count
        }
        try cluster.start(3)
        try cluster.wait("all groups have three voters again") {
            let all = try groups(cluster, at: 1)
            return all.count == known.count && all.allSatisfy { $0.voters.count == 3 }
        }
        // What was recovered bears a loss again.
        cluster.kill9(1)
        try cluster.wait("the others go on") {
            try cluster.ask(2, "vm", "create", "last", "--cpu", "100m", "--memory", "64MiB").status == 0
        }
        let last = try cluster.ask(3, "vm", "list", "-o", "name", "--sort", "name")
        #expect(last.output == "after\nbefore\nlast\n", "\(last)")
    }
}
