import AdminAPI
import AdminHTTP
import CommandSyntax
import Reactor
import Terminal

// A forced recovery, and what it would keep before anybody asks for one.

extension ClientCommands {
    /// Asks one node, once: a second one that did it too would be a second group that goes on by itself.
    func recover() throws -> ExitCode {
        guard addresses.count == 1, let address = addresses.first else {
            Console.complain(
                "muster: The node that is asked goes on alone, so name just one: the one with the newest log, which `muster "
                    + "recover` without --accept-loss shows, with --address.")
            return .usage
        }
        guard let group = try number(ofGroup: word("GROUP")) else {
            Console.complain(
                "muster: The node that is asked holds no group '\(word("GROUP"))'; see `muster status`.")
            return .notFound
        }
        let wanted = Recovery(group: group, reason: invocation.text("reason") ?? "", acceptsLoss: true)
        do {
            return try show(
                AdminClient.ask(
                    AdminCall(.recover(wanted)), at: [address], context: context, bearerToken: token, settings: settings
                ))
        } catch let failure as AdminClientFailure where failure.mayHaveHappened {
            Console.complain(
                "muster: \(failure) It may have done it all the same: look with `muster status --address \(address)` who leads "
                    + "the group, before you ask again, and ask no other node.")
            return ClientCommands.code(ofFailure: failure)
        }
    }

    /// More nodes than this are not asked what they hold.
    private static var recoveryAskedMax: Int { 64 }

    /// Shows what every node that can be reached holds of the group, the one to go on with first: those that are named, and
    /// those that they know. Changes nothing.
    func explainRecovery() throws -> ExitCode {
        var found: [(address: Address, status: ClusterStatus, group: GroupInfo)] = []
        var asked: [Address] = []
        var waiting = addresses
        while !waiting.isEmpty && asked.count < ClientCommands.recoveryAskedMax {
            let address = waiting.removeFirst()
            if asked.contains(address) { continue }
            asked.append(address)
            do {
                let answer = try AdminClient.ask(
                    AdminCall(.status), at: [address], context: context, bearerToken: token, settings: settings)
                guard answer.isSuccess else { continue }
                let status = try ClusterStatus(body: answer.body[...])
                // An address that can't be read is one that can't be asked, and the others are.
                waiting += status.addresses.compactMap { try? Address(parsing: $0, defaultPort: 7470) }
                // One node may have several addresses.
                if found.contains(where: { $0.status.node == status.node }) { continue }
                let wanted = word("GROUP")
                if let group = status.groups.first(where: { $0.name == wanted || "\($0.group)" == wanted }) {
                    found.append((address, status, group))
                }
            } catch {
                Console.complain("muster: \(address) says nothing: \(error)")
            }
        }
        found.sort { $0.group.isNewer(than: $1.group) }
        guard let best = found.first else {
            Console.complain(
                "muster: No node that was asked holds the group '\(word("GROUP"))'; name the nodes that are left with --address."
            )
            return .notFound
        }
        let rows = found.map { item in
            JSONValue.object([
                JSONMember("address", .string("\(item.address)")), JSONMember("node", .string(item.status.node)),
                JSONMember("last", .integer(Int64(clamping: item.group.last))),
                JSONMember("lastTerm", .integer(Int64(clamping: item.group.lastTerm))),
                JSONMember("committed", .integer(Int64(clamping: item.group.committed))),
                JSONMember("leader", .string(item.group.leader)),
                JSONMember("voters", .string(item.group.voters.joined(separator: ","))),
            ])
        }
        _ = ClientCommands.present(JSONValue.object([JSONMember("items", .array(rows))]).bytes, invocation)
        if !best.group.leader.isEmpty {
            Console.complain(
                "muster: The group is led by \(best.group.leader): its quorum is not lost, and nothing is to be done.")
            return .refused
        }
        Console.complain(
            "muster: \(best.status.node) has the newest log of these. What was acknowledged after entry \(best.group.last) and "
                + "only the lost voters held is gone for good when the group goes on with it. If no other node that is left has more, "
                + "say so with: --accept-loss --address \(best.address)")
        return .usage
    }
}
