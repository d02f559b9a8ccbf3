package import ClusterBase

/// Who a certificate of a cluster speaks for: the SPIFFE-style URI in it, as a value.
package enum CertificateIdentity: Hashable, Sendable, CustomStringConvertible {
    case node(cluster: String, node: NodeID)
    case `operator`(cluster: String, name: String)

    /// Characters that a name may have.
    package static let nameBytesMax = 63

    /// Nil unless the URI is exactly what `uri` would give for some identity.
    package init?(uri: String) {
        guard uri.utf8.count <= 256, uri.hasPrefix("spiffe://") else { return nil }
        let parts = uri.dropFirst(9).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3 else { return nil }
        let cluster = String(parts[0])
        switch parts[1] {
        case "node":
            guard let number = UInt64(parts[2]) else { return nil }
            self = .node(cluster: cluster, node: NodeID(rawValue: number))
        case "operator": self = .operator(cluster: cluster, name: String(parts[2]))
        default: return nil
        }
        guard isValid, self.uri == uri else { return nil }
    }

    package var uri: String {
        switch self {
        case .node(let cluster, let node): "spiffe://\(cluster)/node/\(node.rawValue)"
        case .operator(let cluster, let name): "spiffe://\(cluster)/operator/\(name)"
        }
    }

    package var cluster: String {
        switch self {
        case .node(let cluster, _), .operator(let cluster, _): cluster
        }
    }

    package var description: String {
        switch self {
        case .node(_, let node): "node \(node.rawValue)"
        case .operator(_, let name): "operator \(name)"
        }
    }

    /// True when the cluster and the name are of allowed characters and length.
    package var isValid: Bool {
        switch self {
        case .node(let cluster, _): Self.isName(cluster)
        case .operator(let cluster, let name): Self.isName(cluster) && Self.isName(name)
        }
    }

    /// 1 to 63 lower-case letters, digits, dots, dashes and underscores; the first is a letter or a digit.
    package static func isName(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard (1...nameBytesMax).contains(bytes.count) else { return false }
        func isPlain(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte) }
        return isPlain(bytes[0]) && bytes.allSatisfy { isPlain($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F }
    }
}
