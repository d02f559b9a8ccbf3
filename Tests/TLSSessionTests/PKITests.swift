import ClusterBase
import TLSSession
import Testing

@Suite struct PKITests {
    @Test func `a certificate carries what the authority decided and nothing that was asked for`() throws {
        let house = try House()
        let key = try PrivateKey.make()
        let request = try CertificateRequest(
            key: key, commonName: "n7", dnsNames: ["n7.example", "evil.example"], addresses: ["10.0.0.7", "fe80::7"])
        let sent = try CertificateRequest(der: request.der)
        #expect(sent.commonName == "n7")
        #expect(sent.dnsNames == ["n7.example", "evil.example"])
        #expect(sent.addresses == ["10.0.0.7", "fe80::7"])
        let made = try house.authority.issue(
            sent, identity: .node(cluster: "c1", node: NodeID(7)), dnsNames: ["n7.example"], addresses: sent.addresses,
            now: House.now, lifetimeSeconds: 600)
        #expect(made.uris == ["spiffe://c1/node/7"])
        #expect(made.dnsNames == ["n7.example"])
        #expect(made.addresses == ["10.0.0.7", "fe80::7"])
        #expect(made.commonName == "node 7")
        #expect(made.issuerName == house.authority.certificate.commonName)
        #expect(!made.isAuthority && house.authority.certificate.isAuthority)
        #expect(made.notAfter - made.notBefore <= 900)
        #expect(made.isSigned(by: house.authority.certificate))
        #expect(!made.isSigned(by: try House().authority.certificate))
        #expect(key.belongs(to: made))
        #expect(try !PrivateKey.make().belongs(to: made))
    }

    @Test func `a certificate does not outlive its authority`() throws {
        let authority = try CertificateAuthority.make(cluster: "c1", now: House.now, lifetimeSeconds: 1_000)
        let request = try CertificateRequest(key: .make(), commonName: "x")
        let made = try authority.issue(request, identity: .node(cluster: "c1", node: NodeID(1)), now: House.now)
        #expect(made.notAfter == authority.certificate.notAfter)
        let after = House.now + 2_000
        #expect(throws: TLSFailure.self) {
            try authority.issue(request, identity: .node(cluster: "c1", node: NodeID(1)), now: after)
        }
    }

    @Test func `serial numbers differ and times are as given`() throws {
        let house = try House(now: 1_700_000_000)
        #expect(house.authority.certificate.notBefore == 1_700_000_000 - CertificateAuthority.backdateSeconds)
        #expect(house.authority.certificate.notAfter == 1_700_000_000 + CertificateAuthority.lifetimeSeconds)
        let request = try CertificateRequest(key: .make(), commonName: "x")
        let who = CertificateIdentity.operator(cluster: "c1", name: "ann")
        let a = try house.authority.issue(request, identity: who, now: 1_700_000_000)
        let b = try house.authority.issue(request, identity: who, now: 1_700_000_000)
        #expect(a.serial != b.serial && a.fingerprint != b.fingerprint)
    }

    @Test func `PEM goes out and comes in`() throws {
        let house = try House()
        let node = try house.node(1)
        let text = node.chain.map(\.pem).joined(separator: "# a comment between\n")
        #expect(try Certificate.list(pem: text) == node.chain)
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= 64 })
        let key = try PrivateKey(pem: node.key.pem())
        #expect(key.belongs(to: node.chain[0]))
        _ = try TLSIdentity(chain: text, key: node.key.pem())
        let other = try PrivateKey.make().pem()
        #expect(throws: TLSFailure.self) { try TLSIdentity(chain: text, key: other) }
        #expect(Fingerprint("\(node.chain[0].fingerprint)") == node.chain[0].fingerprint)
    }

    @Test(arguments: [
        "", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
    ])
    func `text that is no PEM is refused with a sentence`(text: String) {
        let one = #expect(throws: TLSFailure.self) { try Certificate.list(pem: text) }
        #expect(one?.code == .malformed)
        let two = #expect(throws: TLSFailure.self) { try PrivateKey(pem: text) }
        #expect(two?.code == .malformed)
    }

    @Test func `a damaged second certificate spoils the whole text`() throws {
        let house = try House()
        let good = house.authority.certificate.pem
        let bad = good.replacing("MII", with: "MIJ")
        #expect(throws: TLSFailure.self) { try Certificate.list(pem: good + bad) }
        #expect(throws: TLSFailure.self) {
            try Certificate.list(pem: String(repeating: good, count: TLSLimits.certificatesMax + 1))
        }
    }

    @Test func `a request whose signature or key was changed is refused`() throws {
        let request = try CertificateRequest(key: .make(), commonName: "n1", dnsNames: ["a.example"])
        var refused = 0
        for i in request.der.indices {
            var der = request.der
            der[i] ^= 1
            if (try? CertificateRequest(der: der)) == nil { refused += 1 }
        }
        #expect(refused == request.der.count)
        #expect(throws: TLSFailure.self) { try CertificateRequest(der: request.der + [0]) }
        #expect(throws: TLSFailure.self) { try CertificateRequest(der: []) }
    }

    @Test(arguments: [
        "spiffe://c1/node/7", "spiffe://c1/operator/ann", "spiffe://9f-a.b_c/node/18446744073709551615",
    ])
    func `an identity is the same after it was written and read`(uri: String) throws {
        let identity = try #require(CertificateIdentity(uri: uri))
        #expect(identity.uri == uri)
    }

    @Test(arguments: [
        "", "spiffe://", "http://c1/node/7", "spiffe://c1/node/07", "spiffe://c1/node/-7", "spiffe://c1/node/7/",
        "spiffe://c1/node/+7", "spiffe://C1/node/7", "spiffe:///node/7", "spiffe://c1/operator/", "spiffe://c1/guest/x",
        "spiffe://c1/operator/a b", "spiffe://c1/node/18446744073709551616", "spiffe://c1/operator/ä",
    ])
    func `what is no identity reads as none`(uri: String) { #expect(CertificateIdentity(uri: uri) == nil) }

    @Test func `names that could mean something else are not signed`() throws {
        let house = try House()
        let request = try CertificateRequest(key: .make(), commonName: "x")
        let who = CertificateIdentity.node(cluster: "c1", node: NodeID(1))
        #expect(throws: TLSFailure.self) {
            try house.authority.issue(request, identity: .operator(cluster: "c1", name: "a/b"), now: House.now)
        }
        for name in ["", "a b", "*.example", "a\0b"] {
            #expect(throws: TLSFailure.self) {
                try house.authority.issue(request, identity: who, dnsNames: [name], now: House.now)
            }
        }
        for address in ["", "1.2.3", "1.2.3.256", "01.2.3.4", "::1::", "fe80::1%eth0", "1:2:3:4:5:6:7:8:9", "12345::"] {
            #expect(throws: TLSFailure.self) {
                try house.authority.issue(request, identity: who, addresses: [address], now: House.now)
            }
        }
    }

    @Test func `a certificate has the hash of the key that was asked for, and of no other`() throws {
        let house = try House()
        let request = try CertificateRequest(key: .make(), commonName: "x")
        let who = CertificateIdentity.node(cluster: "c", node: NodeID(1))
        let (first, second) = (
            try house.authority.issue(request, identity: who, now: House.now),
            try house.authority.issue(request, identity: who, now: House.now)
        )
        #expect(try first.keyHash() == request.keyHash() && second.keyHash() == request.keyHash())
        #expect(try house.authority.certificate.keyHash() != request.keyHash())
    }

    @Test(arguments: ["1.2.3.4", "::", "::1", "fe80::1:0:0:7", "1:2:3:4:5:6:7:8", "2001:db8::", "0:1::"])
    func `addresses are the same after they were signed and read`(address: String) throws {
        let request = try CertificateRequest(key: .make(), commonName: "x", addresses: [address])
        let expected = address == "0:1::" ? ["0:1::"] : [address]
        #expect(try CertificateRequest(der: request.der).addresses == expected)
    }
}
