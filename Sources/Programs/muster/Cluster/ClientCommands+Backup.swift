import AdminAPI
import AdminHTTP
import AgentConfig
import BackupFormat
import ClusterBase
import CommandSyntax
import FleetModel
import Glibc
import Reactor
import Schema
import TLSSession
import Terminal

// Saving a cluster: the root first, then every group that it names, each from a node that holds it.

extension ClientCommands {
    /// The data directory of the node that is to be asked as, if one was named.
    static func nodeData(_ invocation: Invocation) -> String? {
        invocation.path == "backup save" ? invocation.text("as-node") : nil
    }

    static func asNode(_ data: String, _ invocation: Invocation) throws -> (TLSContext, [Address]) {
        // What an agent starts beside itself gives way to it.
        _ = nice(10)
        let files = NodeFiles(path: data)
        let context = try TLSContext(
            side: .client, identity: files.identity(), trust: .authorities(files.authorities()),
            protocols: AdminSettings.protocols)
        return (context, try invocation.texts("address").map { try Address(parsing: $0, defaultPort: 7470) })
    }

    func saveBackup() throws -> ExitCode {
        let path = word("FILE")
        let save = try BackupSave(self, path, BackupFile.secret(invocation))
        let scan = try save.run()
        if nodeDataIsUsed { return .success }
        return ClientCommands.present(BackupFile.summary(scan).bytes, invocation)
    }

    private var nodeDataIsUsed: Bool { ClientCommands.nodeData(invocation) != nil }

    func scheduleBackups() throws -> ExitCode {
        guard let name = invocation.argument("NAME") else { return try show(.backupSchedules) }
        if invocation.has("remove") {
            if let option = ["every", "keep", "to", "key-file"].first(where: invocation.has) {
                throw UsageMistake("--remove takes \(name) away, and --\(option) sets it; give one of them.")
            }
            return try show(.removeBackupSchedule(name))
        }
        guard let every = invocation.duration("every"), let folder = invocation.text("to"),
            let keyFile = invocation.text("key-file")
        else {
            Console.complain(
                "muster: A schedule needs --every TIME, --to DIR and --key-file FILE; --remove takes one away.")
            return .usage
        }
        for (option, path) in [("to", folder), ("key-file", keyFile)] where !path.hasPrefix("/") {
            Console.complain("muster: --\(option) wants an absolute path on the nodes, not '\(path)'.")
            return .usage
        }
        return try show(
            .setBackupSchedule(
                name,
                BackupSchedule(
                    everySeconds: every.count / 1_000_000_000, keep: Int64(invocation.integer("keep") ?? 7),
                    directory: folder, keyFile: keyFile)))
    }
}

/// One backup on its way into its file.
final class BackupSave {
    private static let attemptsMax = 5
    private let client: ClientCommands
    private let file: BackupFile.Writer
    private var scan = BackupScan()

    init(_ client: ClientCommands, _ path: String, _ secret: StreamSecret) throws {
        self.client = client
        file = try BackupFile.Writer(path, secret)
    }

    func run() throws -> BackupScan {
        let begun = try client.ask(.beginBackup)
        if let problem = begun.problem { throw FleetClient.Refused(problem: problem) }
        // What was held back goes on by itself within an hour, should nobody be there to hear this.
        defer { _ = try? client.ask(.endBackup) }
        let first = try plan()
        guard let root = first.groups.first, let cluster = [UInt8](hexadecimal: first.cluster) else {
            throw AgentFailure("The node does not know its cluster yet; ask again, or ask another node.")
        }
        try emit(
            .head(
                BackupRecord.Head(
                    clusterID: cluster, clusterName: first.name,
                    takenAt: UInt64(max(0, SystemClock.wallNanoseconds / 1_000_000)), programVersion: Agent.version,
                    level: UInt32(clamping: first.level))))
        guard try copy(root) else { throw AgentFailure("Nobody gave the root group; see `muster status`.") }
        var saved: [UInt64] = [root.group]
        // Asked again: what the root's copy names was made before.
        for part in try plan().groups.dropFirst() where try copy(part) { saved.append(part.group) }
        for placement in scan.placements where placement.replicaHighest > ReplicaID(0) {
            let group = placement.group.rawValue
            if saved.contains(group) { continue }
            guard try plan().groups.contains(where: { $0.group == group }) == false else {
                throw AgentFailure("Nobody gave group \(group), which the cluster has; see `muster status`.")
            }
            try emit(.group(BackupRecord.Group(group: group, isGone: true)))
        }
        try emit(.end(BackupRecord.End(groups: UInt64(saved.count))))
        try scan.requireComplete()
        try file.finish()
        return scan
    }

    private func plan() throws -> BackupPlan {
        let answer = try client.ask(.backupPlan)
        if let problem = answer.problem { throw FleetClient.Refused(problem: problem) }
        return try BackupPlan(body: answer.body[...])
    }

    private func emit(_ body: BackupRecord.Body) throws {
        var bytes: [UInt8] = []
        BackupFrame.append(body, to: &bytes)
        _ = try scan.take(body)
        try file.append(bytes)
    }

    /// Takes a group from one node or another. False when it was deleted meanwhile.
    private func copy(_ part: BackupPart) throws -> Bool {
        var reason = "no node holds it yet"
        for attempt in 0..<BackupSave.attemptsMax {
            var addresses = part.addresses
            if attempt > 0 {
                usleep(500_000)
                guard let now = try plan().groups.first(where: { $0.group == part.group }) else { return false }
                addresses = now.addresses
            }
            for text in addresses {
                switch try copy(part.group, from: Address(parsing: text, defaultPort: 7470)) {
                case .whole: return true
                case .nothing(let why): reason = "\(text): \(why)"
                case .part(let why):
                    reason = "\(text): \(why)"
                    try emit(.abandoned(BackupRecord.Abandoned()))
                }
            }
        }
        throw AgentFailure("Group \(part.group) \(part.name) could not be copied: \(reason).")
    }

    private enum Outcome {
        case whole
        case nothing(String)
        case part(String)
    }

    private func copy(_ group: UInt64, from address: Address) throws -> Outcome {
        var frames = BackupFrames()
        var begun = false
        let before = scan.groups.count
        var failure: (any Error)?
        let why = try client.follow(.copyGroup(group), at: address) { [self] bytes in
            if failure != nil { return }
            do {
                frames.append(bytes)
                while let (body, raw) = try frames.next() {
                    switch body {
                    case .group(let head) where head.group == group: begun = true
                    case .piece where begun: break
                    default: throw AgentFailure("\(address) sent what was not asked for; upgrade that node.")
                    }
                    _ = try scan.take(body)
                    try file.append(raw)
                }
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        if scan.groups.count > before && why == nil && frames.isEmpty { return .whole }
        let sentence = why ?? "the copy ended in the middle"
        return begun ? .part(sentence) : .nothing(sentence)
    }
}

extension ClientCommands {
    /// Takes a stream from one node to its end; says why it did not end well.
    func follow(_ request: AdminRequest, at address: Address, _ take: @escaping ([UInt8]) -> Void) throws -> String? {
        let loop = try EventLoop()
        let resolver = Resolver(loop)
        defer {
            resolver.close()
            loop.removeMailboxes()
        }
        var found: Resolver.Outcome?
        resolver.resolve(address) { found = $0 }
        _ = loop.run(atMost: settings.connectTimeout) { found != nil }
        guard case .found(let places)? = found, let place = places.first else { return "the name can't be resolved" }
        var end: String??
        var heard = SystemClock.now
        let client = AdminClient(
            loop, to: place, host: address.description, serverName: address.host, context: context, bearerToken: token,
            settings: settings
        ) { _, event in
            heard = SystemClock.now
            switch event {
            case .streamBegan: break
            case .piece(let bytes): take(bytes)
            case .streamEnded: end = .some(nil)
            case .answer(let answer): end = .some(answer.problem?.detail ?? "an answer of another kind")
            case .failed(let failure): end = .some(failure.description)
            }
        }
        client.send(AdminCall(request))
        while end == nil {
            loop.turn(waitingAtMost: .seconds(1))
            // A stream has no deadline of its own; silence has.
            if SystemClock.now - heard > .seconds(30) { end = .some("\(address) fell silent") }
        }
        client.close()
        return end ?? nil
    }
}
