import ClusterBase
import Reactor
import TLSSession

/// The keys of a small cluster.
enum Keys {
    static let authority = Result { try CertificateAuthority.make(cluster: "test", now: now) }

    static var now: Int64 { SystemClock.wallNanoseconds / 1_000_000_000 }

    static func context(_ side: TLSContext.Side, node: UInt64) throws -> TLSContext {
        let authority = try Keys.authority.get()
        let key = try PrivateKey.make()
        let request = try CertificateRequest(key: key, commonName: "node \(node)")
        let certificate = try authority.issue(request, identity: .node(cluster: "test", node: NodeID(node)), now: now)
        return try TLSContext(
            side: side, identity: TLSIdentity(chain: [certificate], key: key),
            trust: .authorities([authority.certificate]))
    }
}
