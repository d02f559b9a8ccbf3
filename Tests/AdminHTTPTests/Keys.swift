import AdminHTTP
import ClusterBase
import Reactor
import TLSSession

/// The keys of a small cluster.
enum Keys {
    static let authority = Result { try CertificateAuthority.make(cluster: "test", now: now) }
    static let other = Result { try CertificateAuthority.make(cluster: "other", now: now) }

    static var now: Int64 { SystemClock.wallNanoseconds / 1_000_000_000 }

    static func server() throws -> TLSContext {
        let authority = try authority.get()
        let key = try PrivateKey.make()
        let request = try CertificateRequest(key: key, commonName: "node 1")
        let certificate = try authority.issue(
            request, identity: .node(cluster: "test", node: NodeID(1)), addresses: ["127.0.0.1"], now: now)
        return try TLSContext(
            side: .server, identity: TLSIdentity(chain: [certificate], key: key),
            trust: .authorities([authority.certificate]), clientCertificate: .optional,
            protocols: AdminSettings.protocols)
    }

    /// A client that shows a certificate with this identity, or none.
    static func client(_ identity: CertificateIdentity?, of cluster: CertificateAuthority? = nil, seconds: Int64? = nil)
        throws -> TLSContext
    {
        var shown: TLSIdentity?
        if let identity {
            let key = try PrivateKey.make()
            let request = try CertificateRequest(key: key, commonName: "client")
            let issuer = try cluster ?? authority.get()
            shown = try TLSIdentity(
                chain: [issuer.issue(request, identity: identity, now: now, lifetimeSeconds: seconds)], key: key)
        }
        return try TLSContext(
            side: .client, identity: shown, trust: .authorities([authority.get().certificate]),
            protocols: AdminSettings.protocols)
    }
}
