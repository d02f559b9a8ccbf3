import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import RaftCore
import Reactor
import TLSSession

/// A node that was away past the end of its certificate: nobody lets it in with that, so that it gets another before it runs.
///
/// A node that holds the authority's key signs for itself; the root hears of it when there is one again. Any other asks the
/// members that it last knew, over their admin ports, and proves itself with its registered key. A whole cluster that was off
/// for longer than its certificates live comes back in this way: first those that vote in the root, then the others.
struct CertificateRevival {
    let settings: AgentSettings
    let files: NodeFiles
    let log: AgentLog
    let cluster: String
    let node: NodeID

    /// How long to wait before everybody is asked again.
    static let pause = Nanoseconds.seconds(2)

    private var now: Int64 { SystemClock.wallNanoseconds / 1_000_000_000 }

    /// Whether the node's certificate has ended.
    func isNeeded() throws(AgentFailure) -> Bool {
        guard let own = try files.identity().chain.first else { return true }
        return own.notAfter <= now
    }

    /// One attempt: true when the node has a certificate again.
    func attempt() throws(AgentFailure) -> Bool {
        let key = try files.nodeKey()
        let names = CertificateNames(settings)
        do throws(TLSFailure) {
            let request = try CertificateRequest(
                key: key, commonName: settings.nodeName, dnsNames: names.dnsNames, addresses: names.addresses)
            if let certificate = try signed(request, names) { return keep(certificate) }
            guard let certificate = try asked(request) else { return false }
            return keep(certificate)
        } catch {
            throw AgentFailure("The node's certificate has ended, and no other can be asked for: \(error.message)")
        }
    }

    private func keep(_ certificate: Certificate) -> Bool {
        do throws(AgentFailure) {
            try files.write("node.pem", certificate.pem)
        } catch {
            log.error(error.description)
            return false
        }
        log.info("the node's certificate had ended and is replaced")
        return true
    }

    /// By the authority's key, where it is here. An authority that has ended itself signs nothing that anybody would take.
    private func signed(_ request: CertificateRequest, _ names: CertificateNames) throws(TLSFailure) -> Certificate? {
        let authority: CertificateAuthority?
        do throws(AgentFailure) {
            authority = try files.authority()
        } catch {
            log.error(error.description)
            return nil
        }
        guard let authority, authority.certificate.notAfter > now else { return nil }
        return try authority.issue(
            request, identity: .node(cluster: cluster, node: node), dnsNames: names.dnsNames,
            addresses: names.addresses, now: now)
    }

    /// By the members that this node last knew.
    private func asked(_ request: CertificateRequest) throws(TLSFailure) -> Certificate? {
        let trust: [Certificate]
        do throws(AgentFailure) {
            trust = try files.authorities()
        } catch {
            log.error(error.description)
            return nil
        }
        let context = try TLSContext(
            side: .client, identity: nil, trust: .authorities(trust), protocols: AdminSettings.protocols)
        // An address that can't be read is one that can't be asked.
        let addresses = files.peers("admins").compactMap { try? Address(parsing: $0.address) }
        let wanted = JoinRequest(renewing: settings.nodeName, request.der)
        do {
            let answer = try AdminClient.ask(AdminCall(.join(wanted)), at: addresses, context: context)
            if let problem = answer.problem {
                log.warning("no member gives this node a certificate", ["why": problem.detail])
                return nil
            }
            return try Certificate(der: JoinAnswer(body: answer.body[...]).certificate)
        } catch {
            log.warning("no member can be asked for a certificate", ["why": "\(error)"])
            return nil
        }
    }
}
