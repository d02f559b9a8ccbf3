import Foundation
import Testing

/// What every node says of spaces, wherever their replicas are.
@Suite struct SpaceTests {
    @Test func `each node names the leaders of groups that it has no replica of, and waits for none`() throws {
        let cluster = try LocalCluster()
        try cluster.grow(to: 4)
        let spaces = ["one", "two", "three", "four"]
        for space in spaces {
            #expect(try cluster.ask(1, "space", "create", space, "--replicas", "1").status == 0)
        }
        func leaders(_ noun: String, _ asked: Int) throws -> [String: String] {
            let run = try cluster.ask(asked, noun, "list", "--output", "json")
            guard run.status == 0 else { return [:] }
            let listed = try JSONSerialization.jsonObject(with: Data(run.output.utf8))
            var leaders: [String: String] = [:]
            for item in listed as? [[String: Any]] ?? [] {
                leaders[item["name"] as? String ?? ""] = item["leader"] as? String ?? ""
            }
            return leaders
        }
        func isComplete(_ leaders: [String: String]) -> Bool {
            spaces.allSatisfy { !(leaders[$0] ?? "").isEmpty }
        }
        try cluster.wait("all have leaders") { try isComplete(leaders("space", 1)) }
        #expect(try cluster.ask(1, "space", "move", "two", "--to", "n2").status == 0)
        #expect(try cluster.ask(1, "space", "move", "three", "--to", "n3").status == 0)
        try cluster.wait("all nodes name all leaders") {
            try (1...4).allSatisfy {
                let named = try leaders("space", $0)
                return isComplete(named) && named["two"] == "n2" && named["three"] == "n3"
            }
        }
        // Who is busy is not waited for, and is named the next time.
        var named: [String: String] = [:]
        try cluster.wait("all say the same of spaces") {
            named = try leaders("space", 1)
            return try isComplete(named) && (2...4).allSatisfy { try leaders("space", $0) == named }
        }
        try cluster.wait("all say the same of cells") {
            let cells = try leaders("cell", 1)
            return try cells["default"]?.isEmpty == false && (2...4).allSatisfy { try leaders("cell", $0) == cells }
        }

        // One that hangs is not waited for.
        let (frozen, asked) = (3, 2)
        cluster.signal(frozen, SIGSTOP)
        defer { cluster.signal(frozen, SIGCONT) }
        try cluster.wait("the others are named") {
            let since = Date()
            let now = try leaders("space", asked)
            return !now.isEmpty && Date().timeIntervalSince(since) < 3
                && spaces.allSatisfy { named[$0] == "n\(frozen)" || named[$0] == now[$0] }
        }
    }
}
