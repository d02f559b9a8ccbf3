import Foundation
import Testing

@Suite struct TokenTests {
    private func tokens(_ cluster: LocalCluster, _ kind: String) throws -> [String] {
        let listed = try JSONSerialization.jsonObject(
            with: Data(try cluster.ask(1, "token", "list", "-o", "json").output.utf8))
        let items = listed as? [[String: Any]] ?? []
        return items.filter { $0["kind"] as? String == kind }.compactMap { $0["id"] as? String }
    }

    @Test func `a token that is asked for again under its Idempotency-Key is the same one, and no second is made`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all three hold the authority's key") {
            (1...3).allSatisfy { cluster.holdsKeys($0).authority }
        }
        let before = try tokens(cluster, "join").count
        let key = UUID().uuidString.lowercased()
        let wish = #"{"kind":"join","uses":1,"note":"rack 7"}"#
        let first = try Asked.post("/v1/tokens", wish, key: key, at: 1, of: cluster)
        #expect(first.status == 201, "\(first)")
        // Its answer was lost; another node is asked, and the expiry is what it was.
        sleep(2)
        let second = try Asked.post("/v1/tokens", wish, key: key, at: 2, of: cluster)
        #expect(second.status == 201, "\(second)")
        // Each node names itself first in the token, and all else is the same.
        #expect(second.members["id"] as? String == first.members["id"] as? String)
        #expect(second.members["expires"] as? Int == first.members["expires"] as? Int)
        let once = try Asked.post("/v1/tokens", wish, key: key, at: 1, of: cluster)
        #expect(once.body == first.body, "\(once)")
        #expect(try tokens(cluster, "join").count == before + 1)
        let other = try Asked.post(
            "/v1/tokens", #"{"kind":"join","uses":2,"note":"rack 7"}"#, key: key, at: 2, of: cluster)
        #expect(other.status == 409 && other.body.contains("Idempotency-Key was used before"), "\(other)")
        let fresh = try Asked.post("/v1/tokens", wish, key: UUID().uuidString.lowercased(), at: 1, of: cluster)
        #expect(fresh.status == 201 && fresh.members["id"] as? String != first.members["id"] as? String)
        #expect(try tokens(cluster, "join").count == before + 2)

        // The one that came again lets a host in, once.
        let token = try #require(second.members["token"] as? String)
        let joined = try MusterRun(["join", token] + cluster.options(4))
        #expect(joined.status == 0, "\(joined)")

        let bearerKey = UUID().uuidString.lowercased()
        let bearer = #"{"kind":"api","role":"viewer","ttlSeconds":3600}"#
        let made = try Asked.post("/v1/tokens", bearer, key: bearerKey, at: 3, of: cluster)
        #expect(made.status == 201, "\(made)")
        sleep(2)
        let again = try Asked.post("/v1/tokens", bearer, key: bearerKey, at: 1, of: cluster)
        #expect(again.status == 201 && again.body == made.body, "\(again)")
        #expect(try tokens(cluster, "api").count == 1)
    }
}
