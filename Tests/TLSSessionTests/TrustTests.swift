import ClusterBase
import TLSSession
import Testing

@Suite struct TrustTests {
    let house: House

    init() throws { house = try House() }

    func server(
        _ identity: TLSIdentity? = nil, _ trust: TLSTrust? = nil, _ asked: ClientCertificate = .required
    ) throws -> TLSContext {
        try TLSContext(
            side: .server, identity: identity ?? house.node(2), trust: trust ?? house.trust, clientCertificate: asked)
    }

    func client(_ identity: TLSIdentity?, _ trust: TLSTrust? = nil) throws -> TLSContext {
        try TLSContext(side: .client, identity: identity, trust: trust ?? house.trust)
    }

    @Test func `a server of another authority is refused, and told so`() throws {
        let stranger = try House()
        var wire = try Wire(client(house.node(1)), server(stranger.node(2)))
        wire.run()
        #expect(wire.clientFailure?.code == .certificateRefused)
        #expect(wire.serverFailure?.code == .refusedByPeer)
        #expect(wire.client.peerCertificate == nil)
    }

    @Test func `a client of another authority is refused, and told so`() throws {
        let stranger = try House()
        var wire = try Wire(client(stranger.node(1)), server())
        wire.run()
        #expect(wire.serverFailure?.code == .certificateRefused)
        #expect(wire.clientFailure?.code == .refusedByPeer)
        #expect(!wire.server.isEstablished)
    }

    @Test func `a client without a certificate is refused where one is required, and known as nobody where it is not`()
        throws
    {
        var wire = try Wire(client(nil), server())
        wire.run()
        #expect(wire.serverFailure?.code == .certificateRefused)
        #expect(wire.clientFailure?.code == .refusedByPeer)
        for asked in [ClientCertificate.optional, .notAsked] {
            wire = try Wire(client(nil), server(nil, nil, asked))
            wire.run()
            #expect(wire.server.isEstablished && wire.clientFailure == nil)
            #expect(wire.server.peerCertificate == nil && wire.server.peerChain.isEmpty)
        }
        wire = try Wire(client(house.node(1)), server(nil, nil, .optional))
        wire.run()
        #expect(wire.server.peerCertificate?.identity == .node(cluster: "c1", node: NodeID(1)))
        let stranger = try House()
        wire = try Wire(client(stranger.node(1)), server(nil, nil, .optional))
        wire.run()
        #expect(wire.serverFailure?.code == .certificateRefused)
    }

    @Test func `certificates out of their time are refused on either side`() throws {
        let who = CertificateIdentity.node(cluster: "c1", node: NodeID(3))
        let old = try House(now: House.now - 400_000)
        let expired = try old.identity(who, now: House.now - 100_000, lifetimeSeconds: 60)
        let early = try old.identity(who, now: House.now + 100_000)
        let good = try old.identity(who)
        for (bad, word) in [(expired, "expired"), (early, "not yet valid")] {
            var wire = try Wire(client(bad, old.trust), server(good, old.trust))
            wire.run()
            #expect(wire.serverFailure?.code == .certificateUntimely)
            #expect(wire.serverFailure?.message.contains(word) == true)
            wire = try Wire(client(good, old.trust), server(bad, old.trust))
            wire.run()
            #expect(wire.clientFailure?.code == .certificateUntimely)
            #expect(wire.clientFailure?.message.contains(word) == true)
        }
    }

    @Test func `an operator's certificate does not make a server`() throws {
        let ann = try house.identity(.operator(cluster: "c1", name: "ann"))
        var wire = try Wire(client(ann), server())
        wire.run()
        #expect(wire.server.peerCertificate?.identity == .operator(cluster: "c1", name: "ann"))
        wire = try Wire(client(house.node(1)), server(ann))
        wire.run()
        #expect(wire.clientFailure?.code == .certificateRefused)
    }

    @Test func `a node's certificate signs nothing`() throws {
        let node = try house.node(2)
        // Signed by the node's key and shown with the whole chain.
        let forger = try House()
        let key = try PrivateKey.make()
        let request = try CertificateRequest(key: key, commonName: "x")
        let forged = try forger.authority.issue(
            request, identity: .node(cluster: "c1", node: NodeID(9)), now: House.now)
        let shown = try TLSIdentity(chain: [forged] + node.chain, key: key)
        var wire = try Wire(client(house.node(1)), server(shown))
        wire.run()
        #expect(wire.clientFailure?.code == .certificateRefused)
        #expect(throws: TLSFailure.self) { try CertificateAuthority(certificate: node.chain[0], key: node.key) }
    }

    @Test(arguments: [
        ("localhost", true), ("127.0.0.1", true), ("127.0.0.2", false), ("example.org", false), ("::1", false),
    ])
    func `a server is checked for the name or the address that was asked for`(name: String, isGood: Bool) throws {
        var wire = try Wire(client(house.node(1)), server(), serverName: name)
        wire.run()
        #expect(wire.client.isEstablished == isGood)
        #expect((wire.clientFailure?.code == .certificateRefused) == !isGood)
    }

    @Test func `a joining node takes the authority of its token and no other`() throws {
        let pin = house.authority.certificate.fingerprint
        var wire = try Wire(client(nil, .pinnedAuthority(pin)), server(nil, nil, .optional))
        wire.run()
        #expect(wire.clientFailure == nil && wire.client.isEstablished)
        #expect(wire.client.peerChain.count == 2)
        #expect(wire.client.peerChain.last == house.authority.certificate)

        let stranger = try House()
        wire = try Wire(client(nil, .pinnedAuthority(pin)), server(stranger.node(2), stranger.trust, .optional))
        wire.run()
        #expect(wire.clientFailure?.code == .certificateRefused)

        // The right authority shown beside a certificate that it did not sign.
        let node = try stranger.node(2)
        let mixed = try TLSIdentity(chain: node.chain + [house.authority.certificate], key: node.key)
        wire = try Wire(client(nil, .pinnedAuthority(pin)), server(mixed, stranger.trust, .optional))
        wire.run()
        #expect(wire.clientFailure?.code == .certificateRefused)

        // The fingerprint of the server's own certificate is no authority's.
        let mine = try house.node(2)
        wire = try Wire(
            client(nil, .pinnedAuthority(mine.chain[0].fingerprint)), server(mine, nil, .optional))
        wire.run()
        #expect(wire.clientFailure?.code == .certificateRefused)
    }

    @Test func `a server that keeps its authority to itself can't be joined`() throws {
        let node = try house.node(2)
        let short = try TLSIdentity(chain: [node.chain[0]], key: node.key)
        let pin = house.authority.certificate.fingerprint
        var wire = try Wire(client(nil, .pinnedAuthority(pin)), server(short, nil, .optional))
        wire.run()
        #expect(wire.clientFailure?.code == .certificateRefused)
        // Who knows the authority needs no chain.
        wire = try Wire(client(house.node(1)), server(short))
        wire.run()
        #expect(wire.client.isEstablished && wire.server.isEstablished)
    }

    @Test func `two authorities are trusted while one replaces the other, and the old one no more afterwards`() throws {
        let next = try House()
        let both = TLSTrust.authorities([house.authority.certificate, next.authority.certificate])
        for (a, b) in try [(house.node(1), next.node(2)), (next.node(1), house.node(2)), (next.node(1), next.node(2))] {
            var wire = try Wire(client(a, both), server(b, both))
            wire.run()
            #expect(wire.server.isEstablished && wire.clientFailure == nil)
        }
        var wire = try Wire(client(house.node(1), both), server(next.node(2), next.trust))
        wire.run()
        #expect(wire.serverFailure?.code == .certificateRefused)
    }
}
