import Foundation
import Testing

/// Who votes, who stands by, and what comes and goes with it.
@Suite struct RoleTests {
    @Test
    func
        `a fourth node votes for one that is demoted, which gives up the authority's key, and no removal costs a quorum`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow(to: 4)
        try cluster.wait("the voters hold the keys") {
            try (1...4).allSatisfy {
                try cluster.holdsKeys($0) == (cluster.role($0) == "voter", cluster.role($0) == "voter")
            }
        }
        let demoted = try #require(try (2...4).first { try cluster.role($0) == "voter" })
        #expect(try cluster.ask(1, "node", "demote", "n\(demoted)").status == 0)
        try cluster.wait("the fourth votes instead, and holds the key") {
            try (1...4).allSatisfy {
                try (cluster.role($0) == "voter") == ($0 != demoted)
                    && ($0 == demoted || cluster.holdsKeys($0) == (true, true))
            }
        }
        try cluster.wait("who votes no more has no key") { cluster.holdsKeys(demoted) == (false, false) }
        #expect(try cluster.ask(demoted, "cert", "list").status == 0)

        // One voter is down: without another there is no majority, until somebody else votes in its place.
        let voters = (2...4).filter { $0 != demoted }
        cluster.kill9(voters[1])
        try cluster.wait("its loss is noticed") {
            try cluster.ask(1, "node", "show", "n\(voters[1])").output.contains("not reachable")
        }
        let refused = try cluster.ask(1, "node", "remove", "n\(voters[0])")
        #expect(refused.status != 0 && refused.complaint.contains("would lose its quorum"), "\(refused.complaint)")
        #expect(try cluster.ask(1, "node", "remove", "n\(voters[1])").status == 0)
        // Who was removed a moment ago still counts; a promotion puts another in its place.
        #expect(try cluster.ask(1, "node", "promote", "n\(demoted)").status == 0)
        try cluster.wait("the other votes again") { try cluster.role(demoted) == "voter" }
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the cluster goes on") { try cluster.ask(demoted, "kv", "put", "box", "k", "1").status == 0 }
    }

    @Test
    func `a voter that stays away is replaced by a standby after the time that is set, and follows when it is back`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow(to: 4)
        #expect(try cluster.ask(1, "setting", "set", "replace-after", "20s").status == 0)
        let standby = try #require(try (2...4).first { try cluster.role($0) != "voter" })
        let lost = standby == 4 ? 3 : 4
        cluster.kill9(lost)
        let since = Date()
        try cluster.wait("its loss is noticed") {
            try cluster.ask(1, "node", "show", "n\(lost)").output.contains("not reachable")
        }
        #expect(try cluster.role(lost) == "voter")
        try cluster.wait("the standby votes in its place") {
            try cluster.role(standby) == "voter" && cluster.role(lost) != "voter"
        }
        #expect(Date().timeIntervalSince(since) >= 20)
        try cluster.start(lost)
        try cluster.wait("it answers") { try cluster.ask(lost, "token", "list").status == 0 }
        try cluster.wait("it is reached") {
            try !cluster.ask(1, "node", "show", "n\(lost)").output.contains("not reachable")
        }
        #expect(try cluster.role(lost) != "voter" && cluster.role(standby) == "voter")
    }
}
