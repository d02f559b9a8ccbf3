import Foundation
import Testing

/// A space that more clients have written to than it remembers.
@Suite struct ForgottenClientsTests {
    @Test func `a command line writes to a space that has forgotten clients, and lists all keys of it`() throws {
        let cluster = try LocalCluster()
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(1, "kv", "put", "box", "warm", "1").status == 0 }
        // One more than are remembered, each under a key of its own.
        let identity = cluster.folder.file("n1/operator").path
        let lines = (0..<4_100).map { number in
            """
            url = "https://\(cluster.address(1))/v1/kv/box/k\(number)"
            request = PUT
            header = "Idempotency-Key: \(UUID().uuidString)"
            header = "Content-Type: application/octet-stream"
            data = v
            cert = \(identity)/cert.pem
            key = \(identity)/key.pem
            insecure
            silent
            output = /dev/null
            write-out = "%{http_code}\\n"
            """
        }
        let file = cluster.folder.file("puts")
        try lines.joined(separator: "\nnext\n").write(to: file, atomically: true, encoding: .utf8)
        let said = try cluster.shell("curl -K \(file.path)", at: 1)
        let codes = said.output.split(separator: "\n")
        #expect(codes.count == 4_100)
        // The last ones are told what key they must have; nobody knows whether theirs was used before.
        #expect(codes.prefix(4_000).allSatisfy { $0.hasPrefix("2") } && codes.last == "409", "\(codes.suffix(3))")
        for word in ["one", "two"] {
            let put = try cluster.ask(1, "kv", "put", "box", word, "v")
            #expect(put.status == 0, "\(put.complaint)")
        }
        let removed = try cluster.ask(1, "kv", "delete", "box", "two")
        #expect(removed.status == 0, "\(removed.complaint)")
        let kept = codes.count { $0.hasPrefix("2") }
        let listed = try cluster.ask(1, "kv", "list", "box", "-o", "json")
        let page = try JSONSerialization.jsonObject(with: Data(listed.output.utf8)) as? [String: Any]
        #expect((page?["keys"] as? [Any])?.count == kept + 2, "\(kept)")
        #expect(page?["next"] == nil)
        let some = try cluster.ask(1, "kv", "list", "box", "--limit", "1500", "-o", "json")
        let part = try JSONSerialization.jsonObject(with: Data(some.output.utf8)) as? [String: Any]
        #expect((part?["keys"] as? [Any])?.count == 1_500)
        #expect(part?["next"] is String)
    }
}
