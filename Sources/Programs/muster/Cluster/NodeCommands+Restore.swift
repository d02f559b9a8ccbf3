import AgentConfig
import BackupFormat
import ClusterBase
import CommandSyntax
import FleetModel
import NodeStorage
import StoreLayout
import TLSSession
import Terminal

extension NodeCommands {
    /// A new cluster's first node, with what a backup holds. The backup is read twice: it is known to be good to its end
    /// before anything is written.
    func restore() throws -> ExitCode {
        try checkAddresses()
        try checkName(settings.nodeName, "node-name")
        let setUp = try SetUp(settings.dataDirectory)
        defer { setUp.end() }
        try checkEmpty()
        let path = invocation.argument("FILE") ?? ""
        let secret = try BackupFile.secret(invocation)
        try checkListening(startsNow: invocation.has("start"))
        let checked = try BackupFile.scan(path, secret) { _ in }
        let node = try BackupRestore.node(checked)
        if let level = checked.cluster?.level, level > Agent.level(settings) {
            throw AgentFailure(
                "The backup is of feature level \(level), and this program knows levels up to \(Agent.level(settings)); use the program "
                    + "that the cluster ran.")
        }
        var sealingKeys: [FieldSealer] = []
        if let path = invocation.text("sealing-key") {
            sealingKeys = try Agent.sealers(text: String(decoding: Muster.read(path), as: UTF8.self), path)
        }
        if let named = checked.cluster?.sealingKey, !named.isEmpty {
            // The first one in the file is named by the restored cluster; the others open what they have sealed.
            let first = sealingKeys.filter { $0.hash == named }
            if !sealingKeys.isEmpty && first.isEmpty {
                throw AgentFailure(
                    "--sealing-key is not the key that the backup's VMs were sealed with; give the sealing.key of a node that "
                        + "voted in its root.")
            }
            sealingKeys = first + sealingKeys.filter { $0.hash != named }
            if sealingKeys.isEmpty {
                Console.complain(
                    "Without --sealing-key the secret fields of the backup's VMs can't be opened: set them again with "
                        + "`muster vm update --secret`.")
            }
        }
        let clusterID = Crypto.randomBytes(16)
        let founded = try Founded(settings, cluster: clusterID, name: checked.cluster?.name ?? "", node: node)
        let directory = try createDirectory(NodeIdentity(cluster: clusterID, node: node))
        defer { directory.stop() }
        var (log, state) = (directory.log, directory.state)
        try BackupRestore.clear(&state)
        let loaded = try BackupFile.scan(path, secret) { step in
            switch step {
            case .none: break
            case .write(let batch): try state.write(batch, isSynced: false)
            case .load(let batch): try state.load(batch)
            }
        }
        try BackupRestore.finish(loaded, as: founded.founding, log: &log, state: &state)
        try keep(founded)
        if !sealingKeys.isEmpty { try Agent.keepSealers(sealingKeys, files) }
        Console.complain(
            "The cluster \(Agent.text(of: clusterID)) begins with this node and what \(path) holds: \(loaded.groups.count) "
                + "groups. Its first operator's certificate is in \(settings.dataDirectory)/operator. "
                + "`muster agent` runs the node.")
        return .success
    }
}
