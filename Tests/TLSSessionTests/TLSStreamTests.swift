import ClusterBase
import TLSSession
import Testing

@Suite struct TLSStreamTests {
    let house: House
    let client: TLSContext
    let server: TLSContext

    init() throws {
        house = try House()
        client = try TLSContext(side: .client, identity: house.node(1), trust: house.trust)
        server = try TLSContext(side: .server, identity: house.node(2), trust: house.trust)
    }

    @Test(arguments: [1, 7, 1000, Int.max])
    func `two nodes shake hands however the wire cuts their bytes`(bytesPerDelivery: Int) throws {
        var wire = try Wire(client, server)
        wire.bytesPerDelivery = bytesPerDelivery
        wire.run()
        #expect(wire.clientFailure == nil)
        #expect(wire.serverFailure == nil)
        #expect(wire.client.isEstablished && wire.server.isEstablished)
        #expect(wire.client.peerCertificate?.identity == .node(cluster: "c1", node: NodeID(2)))
        #expect(wire.server.peerCertificate?.identity == .node(cluster: "c1", node: NodeID(1)))
        let seen = try #require(wire.server.peerCertificate)
        #expect(seen.notAfter - House.now > 86_000 && seen.notAfter - House.now <= 86_400)
        #expect(seen.serial.count == 32)
    }

    @Test(arguments: [1, 100, 16_384, 16_385, 1_000_000])
    func `plaintext of any size arrives as it was written, in both directions`(count: Int) throws {
        var wire = try Wire(client, server)
        wire.run()
        var random = PRNG(seed: UInt64(count))
        let sent = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        for (from, to) in [(wire.client, wire.server), (wire.server, wire.client)] {
            try from.write(sent)
            #expect(from.outputBytes > count)
            #expect(Wire.carry(from, to, 4_000) == nil)
            #expect(to.hasInput)
            var got: [UInt8] = []
            while case let part = try to.read(10_000), !part.isEmpty { got += part }
            #expect(got == sent)
            #expect(!to.isEnded && !to.hasInput)
        }
    }

    @Test func `ciphertext can be sent in place and in parts`() throws {
        var wire = try Wire(client, server)
        wire.run()
        try wire.client.write([UInt8](repeating: 7, count: 3_000))
        let total = wire.client.outputBytes
        var moved: [UInt8] = []
        while wire.client.hasOutput {
            wire.client.withOutput { waiting in
                moved += waiting.prefix(100)
                return min(100, waiting.count)
            }
        }
        #expect(moved.count == total)
        try wire.server.receive(moved)
        #expect(try wire.server.read() == [UInt8](repeating: 7, count: 3_000))
    }

    @Test func `an end is told apart from nothing being there`() throws {
        var wire = try Wire(client, server)
        wire.run()
        #expect(try wire.server.read().isEmpty)
        #expect(!wire.server.isEnded)
        try wire.client.write([1, 2, 3])
        wire.client.close()
        wire.run()
        #expect(try wire.server.read() == [1, 2, 3])
        #expect(try wire.server.read().isEmpty)
        #expect(wire.server.isEnded)
        #expect(wire.client.isClosed)
        #expect(throws: TLSFailure.self) { try wire.client.write([4]) }
        // The other direction is still open.
        try wire.server.write([5])
        wire.run()
        wire.server.close()
    }

    @Test func `writing before the handshake has ended is refused and takes nothing`() throws {
        var wire = try Wire(client, server)
        let failure = #expect(throws: TLSFailure.self) { try wire.client.write([1]) }
        #expect(failure?.code == .notEstablished)
        wire.run()
        #expect(try wire.server.read().isEmpty)
    }

    @Test func `a writer faster than its socket is told so, and goes on when the output was sent`() throws {
        var wire = try Wire(client, server)
        wire.run()
        let chunk = [UInt8](repeating: 1, count: 1 << 20)
        var written = 0
        let failure = #expect(throws: TLSFailure.self) {
            while true {
                try wire.client.write(chunk)
                written += 1
            }
        }
        #expect(failure?.code == .full)
        #expect(written == 15)
        #expect(wire.client.outputBytes <= TLSLimits.outboundBytesMax)
        var out: [UInt8] = []
        wire.client.takeOutput(into: &out)
        try wire.client.write(chunk)
        #expect(throws: TLSFailure.self) { try wire.server.receive(out) }
        try wire.server.receive(Array(out.prefix(TLSLimits.inboundBytesMax)))
        #expect(try wire.server.read().count == 1 << 16)
    }

    @Test func `one changed byte ends the session for good`() throws {
        var wire = try Wire(client, server)
        wire.run()
        try wire.client.write([1, 2, 3, 4])
        var bytes: [UInt8] = []
        wire.client.takeOutput(into: &bytes)
        bytes[bytes.count - 1] ^= 1
        try wire.server.receive(bytes)
        for _ in 0..<2 {
            let failure = #expect(throws: TLSFailure.self) { try wire.server.read() }
            #expect(failure?.code == .protocolViolated)
        }
        // The alert tells the other side.
        #expect(wire.server.hasOutput)
        wire.run()
        #expect(wire.clientFailure?.code == .refusedByPeer)
    }

    @Test(arguments: 0..<40)
    func `random bytes never make a session`(seed: Int) throws {
        var random = PRNG(seed: UInt64(seed))
        let bytes = (0..<200 + random.below(400)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        for context in [client, server] {
            let session = try TLSStream(context)
            do { try session.receive(bytes) } catch { continue }
            #expect(!session.isEstablished)
        }
    }

    @Test(arguments: ["client", "server"])
    func `TLS 1_2 is refused`(side: String) throws {
        // A client's and a server's first message as TLS 1.2 has them, without the extension that names 1.3.
        let random = [UInt8](repeating: 0x42, count: 32)
        var hello: [UInt8] = [0x03, 0x03] + random + [0]
        hello += side == "client" ? [0, 2, 0xC0, 0x2B, 1, 0] : [0xC0, 0x2B, 0]
        let kind: UInt8 = side == "client" ? 1 : 2
        let message = [kind, 0, 0, UInt8(hello.count)] + hello
        let record: [UInt8] = [0x16, 0x03, 0x03, 0, UInt8(message.count)] + message
        let session = try TLSStream(side == "client" ? server : self.client)
        let failure = #expect(throws: TLSFailure.self) { try session.receive(record) }
        #expect(failure?.code == .protocolViolated, "\(failure?.message ?? "")")
        #expect(failure?.message.contains("version") == true || failure?.message.contains("protocol") == true)
        #expect(session.hasOutput)
        #expect(!session.isEstablished)
    }

    @Test func `protocols are negotiated, and a client with only others is refused`() throws {
        func context(_ side: TLSContext.Side, _ names: [String]) throws -> TLSContext {
            try TLSContext(side: side, identity: house.node(1), trust: house.trust, protocols: names)
        }
        let server = try context(.server, ["http/1.1"])
        var wire = try Wire(context(.client, ["h2", "http/1.1"]), server)
        wire.run()
        #expect(wire.client.negotiatedProtocol == "http/1.1")
        #expect(wire.server.negotiatedProtocol == "http/1.1")
        wire = try Wire(client, server)
        wire.run()
        #expect(wire.server.isEstablished && wire.server.negotiatedProtocol == nil)
        wire = try Wire(context(.client, ["muster-peer/1"]), server)
        wire.run()
        #expect(wire.serverFailure?.code == .protocolViolated)
        #expect(wire.clientFailure?.code == .refusedByPeer)
    }

    @Test func `a frugal session carries the same bytes`() throws {
        let frugal = try TLSContext(side: .server, identity: house.node(2), trust: house.trust, isFrugal: true)
        var wire = try Wire(client, frugal)
        wire.run()
        for size in [1, 100_000, 1] {
            try wire.client.write([UInt8](repeating: 9, count: size))
            wire.run()
            var got = 0
            while case let part = try wire.server.read(), !part.isEmpty { got += part.count }
            #expect(got == size)
        }
    }

    @Test func `a key changes after its number of records, and the other side follows`() throws {
        func written(_ recordsPerKeyMax: Int) throws -> Int {
            let client = try TLSContext(
                side: .client, identity: house.node(1), trust: house.trust, recordsPerKeyMax: recordsPerKeyMax)
            var wire = try Wire(client, server)
            wire.run()
            var total = 0
            for i in 0..<100 {
                try wire.client.write([UInt8(i)])
                total += wire.client.outputBytes
                #expect(Wire.carry(wire.client, wire.server, .max) == nil)
                #expect(try wire.server.read() == [UInt8(i)])
                try wire.server.write([UInt8(i)])
                #expect(Wire.carry(wire.server, wire.client, .max) == nil)
                #expect(try wire.client.read() == [UInt8(i)])
            }
            return total
        }
        // A change is a record of 27 bytes of its own: nine of them in a hundred records, ten to a key.
        #expect(try written(10) == written(1_000) + 9 * 27)
    }
}
