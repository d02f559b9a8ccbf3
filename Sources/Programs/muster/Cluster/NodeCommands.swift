import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import CommandSyntax
import FleetModel
import Glibc
import NodeStorage
import RaftCore
import Reactor
import StoreLayout
import TLSSession
import Terminal

/// Commands about this host's own node: making it, adding it to a cluster, running it.
struct NodeCommands {
    let invocation: Invocation
    let loaded: LoadedSettings
    var settings: AgentSettings { loaded.settings }

    static func run(_ invocation: Invocation) -> ExitCode {
        do {
            let commands = try NodeCommands(invocation)
            switch invocation.path {
            case "init": return try commands.initialize()
            case "join": return try commands.join()
            case "backup restore":
                let code = try commands.restore()
                return invocation.has("start") ? try commands.runAgent() : code
            default: return try commands.agent()
            }
        } catch let failure as SettingsFailure {
            for problem in failure.problems { Console.complain("muster: \(problem)") }
            return .usage
        } catch let failure as AgentFailure where failure.isFinal {
            Console.complain("muster: \(failure)")
            return .refused
        } catch {
            return ClientCommands.code(ofFailure: error)
        }
    }

    private init(_ invocation: Invocation) throws {
        self.invocation = invocation
        var file: (name: String, text: String)?
        if let path = invocation.text("config") {
            file = (path, String(decoding: try NodeFiles.read(path), as: UTF8.self))
        }
        loaded = try AgentSettings.load(
            file: file, variables: NodeCommands.variables,
            otherVariables: [
                "MUSTER_CONFIG", "MUSTER_ADDRESS", "MUSTER_IDENTITY", "MUSTER_TOKEN", "MUSTER_TENANT", "MUSTER_CONTEXT",
                "MUSTER_CONTEXTS",
            ],
            flags: AgentSettings.flags(of: invocation), hostName: NodeCommands.hostName)
        for warning in loaded.warnings { Console.complain("muster: \(warning)") }
    }

    private static var variables: [(name: String, text: String)] {
        var found: [(name: String, text: String)] = []
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            if text.hasPrefix("MUSTER_"), let end = text.firstIndex(of: "=") {
                found.append((String(text[..<end]), String(text[text.index(after: end)...])))
            }
            next += 1
        }
        return found
    }

    static var hostName: String {
        var bytes = [CChar](repeating: 0, count: 256)
        guard gethostname(&bytes, 255) == 0 else { return "" }
        let name = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return String(name.lowercased().prefix { $0 != "." })
    }

    private var directorySettings: DirectorySettings {
        var directory = DirectorySettings()
        directory.blockCacheBytes = settings.cacheBytes
        // Of a small disk the default is too much; who names a number means it.
        let isNamed = loaded.isSet("storage.low-space")
        directory.space = SpaceThreshold(
            permille: isNamed ? 1_000 : SpaceThreshold().permille, freeBytesMin: UInt64(settings.lowSpaceBytes))
        return directory
    }

    var files: NodeFiles { NodeFiles(path: settings.dataDirectory) }

    /// Others must be able to reach what this node calls itself.
    func checkAddresses() throws {
        for (key, advertised, listened) in [
            ("peer", settings.peerAdvertise, settings.peerListen),
            ("admin", settings.adminAdvertise, settings.adminListen),
        ] {
            let called = advertised ?? listened
            let place = loaded.place(of: "\(key).\(advertised == nil ? "listen" : "advertise")")
            if called.isWildcard {
                throw UsageMistake(
                    "\(place) is '\(called)', which other hosts can't connect to; name this host's address with "
                        + "--\(key)-advertise.")
            }
            if called.port == 0 {
                throw UsageMistake(
                    "\(place) is '\(called)', without a port that others could connect to; name one in --\(key)-listen."
                )
            }
        }
    }

    /// As the root judges them: a cluster that can't be founded must not be begun.
    func checkName(_ name: String, _ option: String) throws {
        if !RootCheck.isName(name) {
            throw UsageMistake(
                "'\(name)' is no name: it has 1 to 63 lower-case letters, digits, dashes and dots, and begins and ends "
                    + "with a letter or a digit; name another with --\(option).")
        }
    }

    /// Where the agent listens is written in digits.
    private func checkDigits() throws {
        for (key, endpoint) in [("peer.listen", settings.peerListen), ("admin.listen", settings.adminListen)] {
            do throws(AgentFailure) {
                _ = try Agent.place(endpoint)
            } catch {
                throw UsageMistake("\(loaded.place(of: key)): \(error)")
            }
        }
    }

    /// A host that can't listen founds nothing. Where no agent starts yet, another one may still have the ports: the addresses
    /// alone must be this machine's.
    func checkListening(startsNow: Bool) throws {
        try checkDigits()
        let loop = try EventLoop()
        for (endpoint, whom) in [(settings.peerListen, "peers"), (settings.adminListen, "the admin port")] {
            // Any port is as good as another to see whose the address is.
            let tried = startsNow ? endpoint : Endpoint(host: endpoint.host, port: 0) ?? endpoint
            try Agent.listen(tried, for: whom) { address throws(SystemError) in
                try Listener(loop, on: address) { _, _ in }
            }.close()
        }
    }

    /// Under the lock of the set-up: what an earlier one has left is removed. What is no part of a node stops it.
    func checkEmpty() throws {
        // A set-up leaves its mark until the node's key is there; stores beside the mark never held a node.
        if !files.has("node.key") && files.has("set-up") { try files.removeStores() }
        for name in ["node.key", "FORMAT", "raft", "state"] where files.has(name) {
            throw AgentFailure(
                "\(settings.dataDirectory) is in use by a node already; name an empty directory with --node-data, or run "
                    + "`muster agent` for that node.", isFinal: true)
        }
        do throws(DataDirectoryRefusal) {
            try NodeDirectory.checkVacant(settings.dataDirectory, besides: NodeFiles.namesAndRests)
        } catch {
            throw AgentFailure("\(error)", isFinal: error.isFinal)
        }
    }

    // MARK: init

    private func initialize() throws -> ExitCode {
        try checkAddresses()
        try checkName(invocation.text("cluster-name") ?? "muster", "cluster-name")
        try checkName(settings.nodeName, "node-name")
        let setUp = try SetUp(settings.dataDirectory)
        defer { setUp.end() }
        try checkEmpty()
        try checkListening(startsNow: invocation.text("start") != "no")
        let clusterID = Crypto.randomBytes(16)
        let node = NodeID(1)
        let founded = try Founded(
            settings, cluster: clusterID, name: invocation.text("cluster-name") ?? "muster", node: node)
        let members = Configuration(members: [Member(peer: Peer(replica: ReplicaID(1), node: node), role: .voter)])
        try makeDirectory(NodeIdentity(cluster: clusterID, node: node), root: members)
        try files.write(
            "founding", RootCommand(request: Crypto.randomBytes(16), by: "init", .found(founded.founding)).encoded())
        try keep(founded)
        Console.complain(
            "The cluster \(Agent.text(of: clusterID)) begins with this node. The first operator's certificate is in "
                + "\(settings.dataDirectory)/operator; use it with --identity or MUSTER_IDENTITY.")
        setUp.end()
        return invocation.text("start") == "no" ? .success : try runAgent()
    }

    /// Writes what a founder holds; the node's key comes last.
    func keep(_ founded: Founded) throws {
        try NodeFiles.makeFolder(settings.dataDirectory + "/operator", isSecret: true)
        let operatorFiles = NodeFiles(path: settings.dataDirectory + "/operator")
        try operatorFiles.write("ca.pem", founded.authority.certificate.pem)
        try operatorFiles.write("cert.pem", founded.administrator.pem)
        try operatorFiles.write("key.pem", founded.administratorKey.pem(), isSecret: true)
        try operatorFiles.write("address", (settings.adminAdvertise ?? settings.adminListen).description + "\n")
        try files.keep(founded.authority)
        try writeIdentity(founded.key, founded.certificate, [founded.authority.certificate])
    }

    /// Makes the stores, with a first replica of the root if wanted. They are closed when this returns.
    private func makeDirectory(_ identity: NodeIdentity, root members: Configuration? = nil) throws {
        let directory = try createDirectory(identity)
        if let members {
            var log = directory.log
            try StoredLog.createReplica(.root, ReplicaID(1), RestoredLog(firstMembers: members), in: &log)
        }
        directory.stop()
    }

    func createDirectory(_ identity: NodeIdentity) throws -> NodeDirectory {
        try NodeFiles.makeFolder(settings.dataDirectory, isSecret: true)
        try files.write("set-up", "A node is being set up here; the same command may be repeated.\n")
        do throws(DataDirectoryRefusal) {
            return try NodeDirectory.create(
                settings.dataDirectory, identity, directorySettings, besides: NodeFiles.namesAndRests)
        } catch {
            throw AgentFailure("\(error)")
        }
    }

    /// The key comes last: a directory with a key is a node's.
    private func writeIdentity(_ key: PrivateKey, _ certificate: Certificate, _ authorities: [Certificate]) throws {
        try files.write("authorities.pem", authorities.map(\.pem).joined())
        try files.write("node.pem", certificate.pem)
        try files.write("node.key", key.pem(), isSecret: true)
        files.remove("set-up")
    }

    // MARK: join

    private func join() throws -> ExitCode {
        let token: AgentConfig.JoinToken
        do throws(JoinTokenFailure) {
            token = try AgentConfig.JoinToken(invocation.argument("TOKEN") ?? "")
        } catch {
            Console.complain("muster: \(error)")
            return .usage
        }
        try checkAddresses()
        try checkName(settings.nodeName, "node-name")
        let setUp = try SetUp(settings.dataDirectory)
        defer { setUp.end() }
        try checkEmpty()
        guard let fingerprint = Fingerprint(bytes: token.fingerprint) else {
            throw AgentFailure("The token is damaged; copy it again.")
        }
        let context = try TLSContext(
            side: .client, identity: nil, trust: .pinnedAuthority(fingerprint), protocols: AdminSettings.protocols)
        let isRepeated = files.has("joining.key")
        let key = try joiningKey()
        let names = CertificateNames(settings)
        let request = try CertificateRequest(
            key: key, commonName: settings.nodeName, dnsNames: names.dnsNames, addresses: names.addresses)
        let about = Agent.description(settings, key: [])
        var wanted = JoinRequest(
            secret: Agent.text(of: token.secret), name: about.name, region: about.locality.region,
            zone: about.locality.zone, rack: about.locality.rack, address: about.peerAddress,
            adminAddress: about.adminAddress, certificateRequest: request.der, version: Agent.version,
            level: Int64(about.level), clock: SystemClock.wallNanoseconds / 1_000_000, isCheck: true)
        let addresses = token.addresses.map { Address(host: $0.host, port: $0.port) }
        try check(wanted, addresses, context, key, request)
        // Written down before the cluster takes it, so that trying again is the same node.
        try files.write("joining.key", key.pem(), isSecret: true)
        wanted.isCheck = false
        let answer = try AdminClient.ask(AdminCall(.join(wanted)), at: addresses, context: context)
        if let problem = answer.problem {
            // Somebody else took the token's last use, for example. Where it may have been taken before, the key stays.
            if !isRepeated && !problem.kind.isWorthRetrying { files.remove("joining.key") }
            throw AgentFailure("The cluster said no: \(problem.detail).", isFinal: !problem.kind.isWorthRetrying)
        }
        let joined = try JoinAnswer(body: answer.body[...])
        guard let cluster = [UInt8](hexadecimal: joined.cluster), cluster.count == 16 else {
            throw AgentFailure("The cluster's answer can't be read; use the same version of muster on both hosts.")
        }
        let certificate = try Certificate(der: joined.certificate)
        let authorities = try joined.authorities.map { try Certificate(pem: $0) }
        try makeDirectory(NodeIdentity(cluster: cluster, node: NodeID(joined.node)))
        try files.write("peers", joined.peers.map { $0 + "\n" }.joined())
        try writeIdentity(key, certificate, authorities)
        files.remove("joining.key")
        Console.complain("This host is node \(joined.node) of cluster \(joined.cluster) now; `muster agent` runs it.")
        setUp.end()
        return invocation.has("start") ? try runAgent() : .success
    }

    private func joiningKey() throws -> PrivateKey {
        files.has("joining.key") ? try PrivateKey(pem: files.text("joining.key")) : try PrivateKey.make()
    }

    /// Everything that would stand in the way, judged by the cluster and from here, before anything is changed.
    private func check(
        _ wanted: JoinRequest, _ addresses: [Address], _ context: TLSContext, _ key: PrivateKey,
        _ request: CertificateRequest
    ) throws {
        let check = try JoinCheck(settings, key, request)
        defer { check.close() }
        try check.reach(check.ask(wanted, at: addresses, context))
    }

    // MARK: agent

    private func agent() throws -> ExitCode {
        if invocation.has("example-config") {
            Console.write(AgentSettings.exampleFile, to: 1)
            return .success
        }
        if invocation.has("check-config") {
            Console.write(
                invocation.text("output") == "json" ? loaded.listing.json() : loaded.listing.table(), to: 1)
            try checkDigits()
            try checkAddresses()
            return .success
        }
        guard invocation.has("supervise") else { return try runAgent() }
        var supervisor = Supervisor()
        return try supervisor.run()
    }

    func runAgent() throws -> ExitCode {
        guard files.has("node.key") else {
            throw AgentFailure(
                "There is no node in \(settings.dataDirectory); run `muster init` or `muster join` on this host first, or name "
                    + "the right directory with --node-data.", isFinal: true)
        }
        // All would learn it, and nobody find this node again.
        do { try checkAddresses() } catch { throw AgentFailure("\(error)", isFinal: true) }
        let (open, known) = (try files.openLevel(), Agent.level(settings))
        if open > known {
            Console.complain(
                "muster: The cluster of the node in \(settings.dataDirectory) has opened feature level \(open), and this program "
                    + "\(settings.featureLevel == 0 ? "knows" : "is set to act by") levels up to \(known); "
                    + (settings.featureLevel == 0
                        ? "install the newer program." : "leave node.feature-level out."))
            return .refused
        }
        signal(SIGPIPE, SIG_IGN)
        let log = AgentLog(level: settings.logLevel, format: settings.logFormat)
        if let problem = CoreDumps.prevent() {
            log.warning("a crash of this process may write its secrets to a disk: \(problem)")
        }
        // While the process is small: the other one begins as its copy.
        if let problem = Farewell.arrange(steps: settings.priority) {
            log.info("other nodes will learn of a crash some milliseconds later: \(problem)")
        }
        let loop = try EventLoop()
        var running: Agent?
        var isAskedToEnd = false
        try loop.handleSignals([SIGTERM, SIGINT]) { _ in
            isAskedToEnd = true
            running?.shutDown()
            if running == nil { loop.stop() }
        }
        // What must come first is tried until it works, or nobody wants it any more.
        func wait(_ time: Nanoseconds) -> Bool {
            ServiceManager.tell(ServiceManager.moreTime, "STATUS=not running yet; see the log")
            if !isAskedToEnd { _ = loop.run(atMost: time) { isAskedToEnd } }
            return !isAskedToEnd
        }
        // Reading long logs takes its time.
        ServiceManager.tell(ServiceManager.moreTime, "STATUS=opens its data directory")
        let agent: Agent
        do {
            guard let directory = try openDirectory(log, wait) else {
                log.info("asked to end before the node ran")
                return .success
            }
            try checkCertificate(directory)
            guard try reviveCertificate(log, directory, wait) else {
                log.info("asked to end before the node ran")
                return .success
            }
            agent = try Agent(settings: settings, files: files, log: log, directory: directory, loop: loop)
        } catch let failure as AgentFailure {
            if failure.isStorage {
                log.error(failure.description)
                exit(Agent.End.storage.rawValue)
            }
            // A manager starts it again at once; what is in its way, such as a port that is taken, may need a while to go.
            if ServiceManager.isThere && !failure.isFinal {
                log.error(failure.description)
                _ = wait(NodeCommands.managedPause)
            }
            throw failure
        }
        running = agent
        let end = agent.run()
        running = nil
        if end == .storage { exit(Agent.End.storage.rawValue) }
        return end == .asked ? .success : .refused
    }

    private static let managedPause = Nanoseconds.seconds(10)

    /// A full disk is waited for: the node comes back by itself when there is space. Nil when it is to end.
    private func openDirectory(_ log: AgentLog, _ wait: (Nanoseconds) -> Bool) throws -> NodeDirectory? {
        repeat {
            do throws(DataDirectoryRefusal) {
                return try NodeDirectory.open(settings.dataDirectory, nil, directorySettings)
            } catch {
                if error.mayPass && !error.isNoSpace {
                    log.error("\(error)")
                    exit(Agent.End.storage.rawValue)
                }
                guard error.isNoSpace else { throw AgentFailure("\(error)", isFinal: error.isFinal) }
                log.warning("the disk is full; the agent waits for space", ["directory": settings.dataDirectory])
            }
        } while wait(.seconds(1))
        return nil
    }

    /// False when it is to end before there is one.
    /// Whether the certificate is that of the node whose stores lie beside it.
    private func checkCertificate(_ directory: NodeDirectory) throws(AgentFailure) {
        let cluster = Agent.text(of: directory.identity.cluster)
        guard let found = try files.identity().chain.first?.identity,
            found != .node(cluster: cluster, node: directory.identity.node)
        else { return }
        throw AgentFailure(
            "\(settings.dataDirectory) mixes files of two nodes: its stores are those of node \(directory.identity.node) of "
                + "cluster \(cluster), and node.pem names \(found). Put the right files back; if they are gone, remove the node "
                + "from its cluster, and join again with an empty directory.", isFinal: true)
    }

    private func reviveCertificate(
        _ log: AgentLog, _ directory: NodeDirectory, _ wait: (Nanoseconds) -> Bool
    ) throws -> Bool {
        let revival = CertificateRevival(
            settings: settings, files: files, log: log, cluster: Agent.text(of: directory.identity.cluster),
            node: directory.identity.node)
        while try revival.isNeeded() {
            if try revival.attempt() { break }
            log.warning(
                "the node's certificate has ended, and nobody gives it another yet; it goes on asking. If no other member runs, "
                    + "start those that vote in the root")
            if !wait(CertificateRevival.pause) { return false }
        }
        return true
    }
}

/// What a cluster begins with: an authority, and what it signed for the first node and the first operator.
struct Founded {
    let founding: RootCommand.Founding
    let authority: CertificateAuthority
    let key: PrivateKey
    let certificate: Certificate
    let administratorKey: PrivateKey
    let administrator: Certificate

    init(_ settings: AgentSettings, cluster id: [UInt8], name: String, node: NodeID) throws {
        let now = SystemClock.wallNanoseconds / 1_000_000_000
        let cluster = Agent.text(of: id)
        authority = try CertificateAuthority.make(cluster: cluster, now: now)
        key = try PrivateKey.make()
        let names = CertificateNames(settings)
        let request = try CertificateRequest(
            key: key, commonName: settings.nodeName, dnsNames: names.dnsNames, addresses: names.addresses)
        certificate = try authority.issue(
            request, identity: .node(cluster: cluster, node: node), dnsNames: names.dnsNames,
            addresses: names.addresses, now: now)
        administratorKey = try PrivateKey.make()
        administrator = try authority.issue(
            CertificateRequest(key: administratorKey, commonName: "admin"),
            identity: .operator(cluster: cluster, name: "admin"), now: now)
        let issuer = authority.certificate.fingerprint.bytes
        founding = RootCommand.Founding(
            cluster: id, name: name, node: Agent.description(settings, key: try request.keyHash()),
            certificate: NodeCertificate(
                fingerprint: certificate.fingerprint.bytes, issuer: issuer,
                expiresAt: LogTime(UInt64(certificate.notAfter) * 1_000)),
            authority: Authority(
                fingerprint: issuer, certificate: authority.certificate.der, signs: true,
                since: LogTime(UInt64(now) * 1_000)),
            administrator: Operator(
                name: "admin", role: .administrator, kind: .certificate, credential: administrator.fingerprint.bytes))
    }
}
