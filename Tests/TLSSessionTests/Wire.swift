import ClusterBase
import Glibc
import TLSSession

/// Two sessions and the wire between them.
struct Wire {
    let client: TLSStream
    let server: TLSStream
    /// Bytes that one delivery carries at most.
    var bytesPerDelivery = Int.max
    var clientFailure: TLSFailure?
    var serverFailure: TLSFailure?

    init(_ client: TLSContext, _ server: TLSContext, serverName: String? = nil) throws {
        self.client = try TLSStream(client, serverName: serverName)
        self.server = try TLSStream(server)
    }

    /// Carries bytes until both sides have nothing to say.
    mutating func run() {
        while client.hasOutput || server.hasOutput {
            if let failure = Self.carry(client, server, bytesPerDelivery) { serverFailure = serverFailure ?? failure }
            if let failure = Self.carry(server, client, bytesPerDelivery) { clientFailure = clientFailure ?? failure }
        }
        // A client learns from its first read that the server refused it.
        if clientFailure == nil, client.isEstablished {
            var none = [UInt8](repeating: 0, count: 1)
            do throws(TLSFailure) {
                _ = try none.withUnsafeMutableBufferPointer { buffer throws(TLSFailure) in
                    try client.read(into: UnsafeMutableRawBufferPointer(buffer))
                }
            } catch { clientFailure = error }
        }
    }

    static func carry(_ from: TLSStream, _ to: TLSStream, _ atMost: Int) -> TLSFailure? {
        var bytes: [UInt8] = []
        from.takeOutput(into: &bytes)
        var failure: TLSFailure?
        var rest = bytes[...]
        while !rest.isEmpty {
            let part = Array(rest.prefix(atMost))
            rest = rest.dropFirst(part.count)
            do throws(TLSFailure) { try to.receive(part) } catch { failure = failure ?? error }
        }
        return failure
    }
}

extension TLSStream {
    func receive(_ bytes: [UInt8]) throws(TLSFailure) {
        try bytes.withUnsafeBufferPointer { buffer throws(TLSFailure) in try receive(UnsafeRawBufferPointer(buffer)) }
    }

    func write(_ bytes: [UInt8]) throws(TLSFailure) {
        try bytes.withUnsafeBufferPointer { buffer throws(TLSFailure) in try write(UnsafeRawBufferPointer(buffer)) }
    }

    func read(_ count: Int = 1 << 16) throws(TLSFailure) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let count = try bytes.withUnsafeMutableBufferPointer { buffer throws(TLSFailure) -> Int in
            try self.read(into: UnsafeMutableRawBufferPointer(buffer))
        }
        return Array(bytes.prefix(count))
    }
}

/// A cluster's authority and what it signs.
struct House {
    static let cluster = "c1"
    static var now: Int64 { Int64(time(nil)) }
    let authority: CertificateAuthority

    init(now: Int64 = House.now) throws { authority = try .make(cluster: House.cluster, now: now) }

    func identity(
        _ who: CertificateIdentity, dnsNames: [String] = [], addresses: [String] = [], now: Int64 = House.now,
        lifetimeSeconds: Int64? = nil
    ) throws -> TLSIdentity {
        let key = try PrivateKey.make()
        let request = try CertificateRequest(key: key, commonName: "asked for")
        let certificate = try authority.issue(
            request, identity: who, dnsNames: dnsNames, addresses: addresses, now: now, lifetimeSeconds: lifetimeSeconds
        )
        return try TLSIdentity(chain: [certificate, authority.certificate], key: key)
    }

    func node(_ number: UInt64) throws -> TLSIdentity {
        try identity(
            .node(cluster: House.cluster, node: NodeID(number)), dnsNames: ["localhost"], addresses: ["127.0.0.1"])
    }

    var trust: TLSTrust { .authorities([authority.certificate]) }
}
