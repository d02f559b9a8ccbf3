import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import RaftCore
import Schema

// Storage domains, as operators speak of them.

extension AdminPort {
    /// Has a host mark what it has as a storage domain. While others reach the domain that is refused: what is mounted on this
    /// host is then another storage, or none.
    func markStorage(_ name: String, _ wanted: StorageMarking, _ cell: GroupID, _ asker: FleetAsker) {
        if let problem = agent.problem(wanting: FeatureLevel.storageMarks) { return fail(asker, problem) }
        guard let host = hostID(name) else { return fail(asker, AdminPort.noHost(name)) }
        findHosts(reaching: wanted.domain, but: host, cell, after: nil, []) { [self] found in
            switch found {
            case .failure(let problem): return fail(asker, problem)
            case .success(let others):
                if let other = others.first, !wanted.isForced {
                    return fail(
                        asker,
                        Problem(
                            .notPossible,
                            "host \(other) reaches the storage domain \(wanted.domain): mount the same on \(name). If that is to be "
                                + "the domain and what the others have is not, say so with --force"))
                }
            }
            let done = { [self] (refusal: String?) in
                if let refusal { return fail(asker, Problem(.notPossible, refusal)) }
                answer(
                    asker, AdminResponse(Acceptance("what host \(name) has is the storage domain \(wanted.domain) now"))
                )
            }
            let node = NodeID(host.rawValue)
            if node == agent.node { return agent.markDomain(wanted.domain, by: asker.by, done) }
            agent.ask(node, .markDomain(NodeRequest.MarkDomain(domain: wanted.domain, by: asker.by))) { answer in
                done(answer.map { $0.refusal.isEmpty ? nil : $0.refusal } ?? "host \(name) does not answer; is it up?")
            }
        }
    }

    /// Names of hosts, of the cell, that say so.
    private func findHosts(
        reaching domain: String, but host: HostID, _ cell: GroupID, after: [UInt8]?, _ sofar: [String],
        _ done: @escaping (Result<[String], Problem>) -> Void
    ) {
        read(.list(.hosts, after: after, limit: CellLimits.answerCountMax), .linearizable, cell) { [self] result in
            switch result {
            case .failure(let problem): done(.failure(problem))
            case .success(let found):
                let (rows, next) = AdminPort.rows(found.answer)
                let names = rows.compactMap { row -> String? in
                    guard case .host(_, let other?) = row, other.id != host, other.health == .up,
                        other.about.storageDomains.contains(domain)
                    else { return nil }
                    return other.about.name
                }
                if next == nil || !names.isEmpty { return done(.success(sofar + names)) }
                findHosts(reaching: domain, but: host, cell, after: next, sofar + names, done)
            }
        }
    }
}
