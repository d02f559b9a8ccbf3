import Foundation
import Testing

/// A standby that is to vote, and comes and goes.
@Suite(.serialized) struct UnstableStandbyTests {
    @Test func `a standby that ends or hangs again and again does not vote, and does when it stays`() throws {
        let cluster = try LocalCluster()
        try cluster.grow(to: 4)
        // Of the root's members as its own group has them, which is who counts.
        func votes(_ node: Int) throws -> Bool {
            let status =
                try JSONSerialization.jsonObject(
                    with: Data(try cluster.ask(1, "status", "--output", "json").output.utf8)) as? [String: Any]
            let groups = status?["groups"] as? [[String: Any]] ?? []
            let root = groups.first { $0["name"] as? String == "root" }
            return (root?["voters"] as? [String] ?? []).contains("n\(node)")
        }
        let standby = try #require(try (2...4).first { try cluster.role($0) != "voter" })
        let other = standby == 4 ? 3 : 4
        #expect(try cluster.ask(1, "setting", "set", "stable-for", "6s").status == 0)
        #expect(try cluster.ask(1, "node", "demote", "n\(other)").status == 0)
        // Never there for as long as the setting says, and for longer than that in all.
        for round in 0..<3 {
            if round.isMultiple(of: 2) {
                cluster.kill9(standby)
                try cluster.start(standby)
            } else {
                cluster.signal(standby, SIGSTOP)
                sleep(1)
                cluster.signal(standby, SIGCONT)
            }
            sleep(3)
            #expect(try !votes(standby), "after round \(round)")
        }
        #expect(try votes(other))
        let since = Date()
        try cluster.wait("it votes now that it stays") { try votes(standby) && !votes(other) }
        #expect(Date().timeIntervalSince(since) < 15)
        #expect(try cluster.role(standby) == "voter")
    }
}
