import AgentConfig
import CommandSyntax
import Glibc
import Reactor
import TLSSession
import Terminal

/// Another certificate for the cluster's administrator, signed on a host that holds the authority's key: the way back in for
/// whoever lost theirs, or let it end. Whoever may read that key could sign anything.
enum OperatorCertificate {
    /// Whose certificate `muster init` makes.
    static let name = "admin"
    /// An operator is told so long before the certificate ends.
    static let warnedSeconds: Int64 = 30 * 86_400

    static func run(_ invocation: Invocation) -> ExitCode {
        do {
            return try make(invocation)
        } catch {
            return ClientCommands.code(ofFailure: error)
        }
    }

    private static func make(_ invocation: Invocation) throws -> ExitCode {
        let data = invocation.text("node-data") ?? AgentSettings().dataDirectory
        let folder = invocation.text("to") ?? ""
        let (node, made) = (NodeFiles(path: data), NodeFiles(path: folder))
        guard node.has("node.pem"), case .node(let cluster, _)? = try node.identity().chain.first?.identity else {
            throw AgentFailure("There is no node in \(data); name its directory with --node-data.")
        }
        guard let authority = try node.authority() else {
            throw AgentFailure(
                "The node in \(data) does not hold the authority's key, which only nodes that vote in the root group do; run this "
                    + "on the host of one that votes.")
        }
        if let name = ["key.pem", "cert.pem"].first(where: made.has) {
            throw AgentFailure("\(folder)/\(name) is there already; name another folder.")
        }
        let key = try PrivateKey.make()
        let certificate = try authority.issue(
            CertificateRequest(key: key, commonName: name), identity: .operator(cluster: cluster, name: name),
            now: SystemClock.wallNanoseconds / 1_000_000_000)
        try NodeFiles.makeFolder(folder, isSecret: true)
        try made.write("ca.pem", node.authorities().map(\.pem).joined())
        try made.write("address", addresses(node).map { $0 + "\n" }.joined())
        try made.write("key.pem", key.pem(), isSecret: true)
        try made.write("cert.pem", certificate.pem)
        Console.complain(
            "\(folder) holds a certificate of the operator \(name), good until \(date(certificate.notAfter)); use it with --identity "
                + "or MUSTER_IDENTITY.")
        return .success
    }

    /// Where the cluster may be asked, as far as the node knows.
    private static func addresses(_ node: NodeFiles) throws -> [String] {
        var all: [String] = []
        if node.has("operator/address") {
            all = try node.text("operator/address").split(separator: "\n").map(String.init)
        }
        for other in node.peers("admins") where !all.contains(other.address) { all.append(other.address) }
        return all.isEmpty ? ["127.0.0.1:7470"] : all
    }

    private static func date(_ seconds: Int64) -> String {
        String(AgentLog.text(wallNanoseconds: seconds * 1_000_000_000).prefix(10))
    }

    /// What is to be done about a certificate that ended or soon will.
    static func warn(of certificate: Certificate, in folder: String) {
        let left = certificate.notAfter - SystemClock.wallNanoseconds / 1_000_000_000
        if left > warnedSeconds { return }
        Console.complain(
            left > 0
                ? "muster: the certificate in \(folder) ends on \(date(certificate.notAfter)); `muster cert renew` makes it good for "
                    + "another year"
                : "muster: the certificate in \(folder) ended on \(date(certificate.notAfter)), and nobody is let in with it; on the "
                    + "host of a node that votes in the root group, `muster cert issue --to FOLDER` makes another")
    }
}
