import Foundation
import Testing

/// A snapshot whose receiver ends in the middle of it.
@Suite(.serialized) struct SnapshotResumeTests {
    @Test func `a receiver that is killed in the middle of a snapshot goes on with what it has, and installs it`()
        throws
    {
        let cluster = try LocalCluster { _, _ in
            ["--peer-bulk-rate", "3MiB", "--storage-trailing-entries", "0", "--storage-flush-interval", "1s"]
        }
        try cluster.grow()
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready at all three") {
            try (1...3).allSatisfy { try cluster.ask($0, "kv", "put", "box", "k", "1").status == 0 }
        }
        let leader = try #require(try cluster.leader(of: "box"))
        let away = leader == 3 ? 2 : 3
        cluster.kill9(away)
        // More than a log keeps. Each is in the state twice, for the space's history has it, too, and nothing compresses them:
        // seven seconds of the rate.
        let values = 12
        let script = """
            C="curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem"
            for i in $(seq 1 \(values)); do
                head -c 900000 /dev/urandom | $C -o /dev/null -X PUT --data-binary @- "https://$MUSTER_ADDRESS/v1/kv/box/k$i"
            done
            $C -o /dev/null -X PUT --data-binary small "https://$MUSTER_ADDRESS/v1/kv/box/small[1-120]"
            sleep 1
            $C -o /dev/null -X PUT --data-binary last "https://$MUSTER_ADDRESS/v1/kv/box/k"
            sleep 4
            """
        _ = try cluster.shell(script, at: leader)
        func sent() throws -> Int {
            // By whoever leads: on a busy machine another one may do so meanwhile.
            try (1...3).filter { $0 != away }.map { node in
                try cluster.metric("muster_peer_pieces_sent_total", at: node).map { Int($0) } ?? 0
            }.reduce(0, +)
        }
        #expect(try sent() == 0)
        try cluster.start(away)
        // Half of it, and more than two seconds.
        try cluster.wait("much of the snapshot is on its way") { try sent() >= 13 }
        cluster.kill9(away)
        let first = try sent()
        #expect(!cluster.log(away).contains("a snapshot is the state now"))
        try cluster.start(away)
        try cluster.wait("the snapshot is installed") { cluster.log(away).contains("a snapshot is the state now") }
        let resumed = try #require(cluster.log(away).components(separatedBy: "a snapshot that had begun").last)
        let number = try #require(resumed.firstRange(of: try Regex("pieces=\"?[0-9]+")).map { resumed[$0] })
        let pieces = try #require(Int(number.filter(\.isNumber)))
        // It takes them in their order: none before these was sent to it again with any use.
        #expect(pieces >= 4 && pieces <= first, "\(number)")
        try cluster.wait("it has all") {
            try cluster.ask(away, "kv", "get", "box", "k").output == "last"
                && cluster.ask(away, "kv", "list", "box", "-o", "json").output.contains("\"k\(values)\"")
        }
    }
}

extension LocalCluster {
    /// The value of a node's metric that has no labels.
    func metric(_ name: String, at node: Int) throws -> Double? {
        let lines = try Asked.get("/metrics", at: node, of: self).body.split(separator: "\n")
        return lines.first { $0.hasPrefix(name + " ") }.flatMap { Double($0.dropFirst(name.count + 1)) }
    }

    /// The number of the node that leads a space.
    func leader(of space: String) throws -> Int? {
        try (1...3).first { node in
            try Asked.get("/metrics", at: node, of: self).body.split(separator: "\n").contains {
                $0.hasPrefix("muster_group_leader{") && $0.contains("name=\"\(space)\"") && $0.hasSuffix(" 1")
            }
        }
    }
}
