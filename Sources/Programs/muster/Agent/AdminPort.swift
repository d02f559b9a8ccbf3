import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import StoreLayout
import TLSSession

/// The admin port of a running node: carries out what the server hands on, with the engine's help.
final class AdminPort: AdminHandler, AdminAuthority {
    unowned let agent: Agent
    private var serverMade: AdminServer?
    /// Streams of changes, by ticket.
    var watches: [Watch] = []
    /// Streams of groups' states, for backups.
    var copies: [Copy] = []
    /// For requests that other nodes hand on.
    let router = Router()
    /// The same of a cell.
    var fleetWatches: [FleetWatch] = []
    private var isDrained = false
    var refusals = RefusalBudget()
    /// Who waits for a look at the root.
    private var lookers: [(Bool) -> Void] = []
    private var isLooking = false
    private var lookAt = Instant(nanoseconds: .min)
    /// Requests to spaces whose replicas are still to be made, with when each tries again; no more than requests may wait.
    private var retries: [(at: Instant, again: () -> Void)] = []

    // What every request asks of the root's view, until the view changes: a look at the view copies it.
    private var groupsOfSpaces: [String: GroupID] = [:]
    /// All groups here had leaders once, or there was long enough time for it.
    private var hasServed = false
    private var grants: [Principal: Grant] = [:]
    private var isMetricsOpen = false
    private struct Grant {
        var roles: [AdminAPI.Role]
        var expiresAt: LogTime?
    }
    /// Principals that are remembered; all are forgotten beyond it.
    private static let grantsMax = 1_024
    var leaderNamed: (node: NodeID, name: String)?
    private var cellsKnown: [RootCell]?
    /// Ascending by group.
    var cells: [RootCell] {
        if let cellsKnown { return cellsKnown }
        let known = agent.view.cells.sorted { $0.group < $1.group }
        cellsKnown = known
        return known
    }

    init(_ agent: Agent) throws(AgentFailure) {
        self.agent = agent
        isMetricsOpen = agent.settings.metricsAreOpen
        let context = try AdminPort.context(agent)
        var settings = AdminSettings()
        settings.version = Agent.version
        settings.limits.drainTimeout = agent.settings.drainTime
        settings.requestRateMax = agent.settings.requestRate
        settings.strangerRateMax = agent.settings.strangerRate
        _ = try Agent.listen(agent.settings.adminListen, for: "the admin port") { address throws(SystemError) in
            let server = try AdminServer(
                agent.loop, on: address, context: context, authority: self, handler: self, settings: settings)
            serverMade = server
            return server.address
        }
    }

    /// Made at the end of `init`, since it has this port as its handler.
    var server: AdminServer {
        guard let serverMade else { preconditionFailure("the admin port's server is not made yet") }
        return serverMade
    }

    private static func context(_ agent: Agent) throws(AgentFailure) -> TLSContext {
        do throws(TLSFailure) {
            return try TLSContext(
                side: .server,
                identity: TLSIdentity(chain: agent.identity.chain + agent.signers, key: agent.identity.key),
                trust: .authorities(agent.authorities), clientCertificate: .optional, protocols: AdminSettings.protocols
            )
        } catch {
            throw AgentFailure("TLS of the admin port can't be set up: \(error.message)")
        }
    }

    func renewContext() throws(AgentFailure) { server.context = try AdminPort.context(agent) }
    func close() { server.close() }
    func drain() { server.drain { [unowned self] in isDrained = true } }
    var isIdle: Bool { isDrained }
    var counters: AdminCounters { server.counters }
    var connectionCount: Int { server.connectionCount }

    // MARK: Who asks

    var cluster: String { agent.cluster }
    var metricsAreOpen: Bool { isMetricsOpen }
    var knowsRoles: Bool { agent.view.through != nil }

    /// Forgets what it knows of the view, which has changed.
    func viewChanged() {
        groupsOfSpaces = [:]
        grants = [:]
        leaderNamed = nil
        cellsKnown = nil
        isMetricsOpen = agent.settings.metricsAreOpen || agent.view.settings[.metricsAuthorized] == 0
    }

    func roles(of principal: Principal) -> [AdminAPI.Role] {
        let grant: Grant
        if let known = grants[principal] {
            grant = known
        } else {
            grant = look(for: principal)
            if grants.count >= AdminPort.grantsMax { grants = [:] }
            grants[principal] = grant
        }
        return grant.expiresAt.map { $0 <= agent.wallTime } ?? false ? [] : grant.roles
    }

    private func look(for principal: Principal) -> Grant {
        switch principal {
        case .anonymous: return Grant(roles: [])
        case .node(let node):
            // Before this node knows the root, its own kind may ask for the health and nothing else.
            return Grant(roles: agent.view.node(node).map { $0.state != .removed } ?? false ? [.node] : [])
        case .operator(let name), .token(let name):
            guard let known = agent.view.operators.first(where: { $0.name == name }) else { return Grant(roles: []) }
            return Grant(roles: [AdminPort.role(of: known)], expiresAt: known.expiresAt)
        }
    }

    static func role(of known: Operator) -> AdminAPI.Role {
        switch known.role {
        case .reader: .viewer
        case .writer: .operator
        case .administrator: .admin
        case .tenantReader: .tenant(known.scope, mayWrite: false)
        case .tenantWriter: .tenant(known.scope, mayWrite: true)
        case .spaceReader: .space(known.scope, mayWrite: false)
        case .spaceWriter: .space(known.scope, mayWrite: true)
        }
    }

    /// The other way round: a role as the root keeps it. Nobody is given a node's.
    static func kept(_ role: AdminAPI.Role) -> (Operator.Role, scope: String)? {
        switch role {
        case .viewer: (.reader, "")
        case .operator: (.writer, "")
        case .admin: (.administrator, "")
        case .tenant(let name, let mayWrite): (mayWrite ? .tenantWriter : .tenantReader, name)
        case .space(let name, let mayWrite): (mayWrite ? .spaceWriter : .spaceReader, name)
        case .node: nil
        }
    }

    private func hasExpired(_ known: Operator) -> Bool { known.expiresAt.map { $0 <= agent.wallTime } ?? false }

    func principal(ofToken token: ArraySlice<UInt8>) -> Principal? {
        let hash = Crypto.sha256(Array(token))
        let known = agent.view.operators.first { $0.kind == .bearer && Crypto.isEqual($0.credential, hash) }
        return known.flatMap { hasExpired($0) ? nil : .token($0.name) }
    }

    /// More of them are answered by what is known here.
    private static let lookersMax = 1_024
    /// One look is for all that asked before it, so that strangers cost the root this often one read, however many they are.
    private static let lookPause = Nanoseconds.milliseconds(50)

    func learn(_ done: @escaping (_ isNewest: Bool) -> Void) {
        guard lookers.count < AdminPort.lookersMax else { return done(false) }
        lookers.append(done)
        tendLooks()
    }

    var lookDeadline: Instant {
        min(retries.first?.at ?? Instant(nanoseconds: .max), rootLookDeadline)
    }

    private var rootLookDeadline: Instant { lookers.isEmpty || isLooking ? Instant(nanoseconds: .max) : lookAt }

    func tendLooks() {
        while let first = retries.first, first.at <= agent.loop.now {
            retries.removeFirst()
            first.again()
        }
        guard rootLookDeadline <= agent.loop.now else { return }
        isLooking = true
        lookAt = agent.loop.now + AdminPort.lookPause
        let served = lookers
        lookers = []
        agent.refreshView { [self] problem in
            isLooking = false
            for done in served { done(problem == nil) }
        }
    }

    // MARK: Requests

    func handle(_ call: AdminCall, from principal: Principal, _ ticket: Ticket) {
        switch call.request {
        case .write(let space, let command): write(space, command, ticket)
        case .read(let space, let key, let mode): read(space, .get(key: key), mode, ticket)
        case .list(let space, let prefix, let after, let limit, let mode):
            read(space, .list(prefix: prefix, after: after, limit: limit), mode, ticket)
        case .lock(let space, let name, let mode): read(space, .lock(name: name), mode, ticket)
        case .locks(let space, let prefix, let after, let limit, let mode):
            read(space, .locks(prefix: prefix, after: after, limit: limit), mode, ticket)
        case .watch(let space, let prefix, let from): beginWatch(space, prefix, from, principal, ticket)
        case .health: answer(ticket, AdminResponse(.text, .bytes(Array("alive\n".utf8))))
        case .ready: answer(ticket, readiness)
        case .metrics:
            let metrics = agent.metrics(self)
            answer(ticket, AdminResponse(.metrics, .bytes(metrics.bytes)))
        default: manage(call, principal, ticket)
        }
    }

    func answer(_ ticket: Ticket, _ response: AdminResponse) { server.answer(ticket, response) }

    private var readiness: AdminResponse {
        if let unready { return AdminResponse(Problem(.unavailable, unready.text)) }
        let count = leaderlessCount
        let but = count == 0 ? "" : "; groups without a leader here: \(count), see GET /v1/status"
        return AdminResponse(.text, .bytes(Array("ready\(but)\n".utf8)))
    }

    private var leaderlessCount: Int {
        agent.engine.groups.count { agent.engine.inspect($0) { raft, _ in raft.leader == nil } ?? false }
    }

    /// After this long a node serves what it can, though a group has no leader yet.
    private static let leadersAwaitedMax = Nanoseconds.seconds(30)

    /// Why this node does not serve; nil when it does. One that starts waits for the leaders of all its groups. Later a group that
    /// has lost its majority says so in its own answers, and is no reason to take this node away from all others.
    var unready: (text: String, isRoot: Bool)? {
        if agent.isShuttingDown { return ("this node is about to end; ask another one", false) }
        guard agent.view.cluster != nil else {
            return ("this node has not heard of the root yet; see that a majority of its voters is up", true)
        }
        if agent.engine.inspect(.root, { raft, _ in raft.leader == nil }) ?? false {
            return ("the root has no leader that this node knows; see that a majority of its voters is up", true)
        }
        if hasServed { return nil }
        let count = leaderlessCount
        if count > 0 && agent.loop.now < agent.startedAt + AdminPort.leadersAwaitedMax {
            return ("groups without a leader here: \(count)", false)
        }
        hasServed = true
        return nil
    }

    private func group(of space: String) -> GroupID? {
        if let known = groupsOfSpaces[space] { return known }
        guard let found = agent.view.space(space)?.group else { return nil }
        groupsOfSpaces[space] = found
        return found
    }

    /// It may have been made a moment ago, by another node's doing.
    private func learn(of space: String, _ ticket: Ticket, _ again: @escaping () -> Void) {
        agent.refreshView { [self] problem in
            if let problem { return answer(ticket, AdminResponse(problem)) }
            if group(of: space) == nil { return answer(ticket, AdminResponse(Problem.noSpace(space))) }
            again()
        }
    }

    /// How long a request waits for a space that was made a moment ago to have replicas.
    private static let newSpacePatience = Nanoseconds.seconds(3)
    private static let newSpacePause = Nanoseconds.milliseconds(20)

    /// A group that is not there, or takes nothing any more, was another one's of that name, is still to be made, or was deleted:
    /// only the root as it is now says which.
    private func lookAgain(
        _ space: String, after group: GroupID, hasEnded: Bool, since began: Instant, _ ticket: Ticket,
        _ again: @escaping () -> Void
    ) {
        learn(of: space, ticket) { [self] in
            guard self.group(of: space) == group else { return again() }
            if hasEnded { return answer(ticket, AdminResponse(Problem(.ended))) }
            if !retry(since: began, again) {
                fail(ticket, .unavailable, "the space \(space) has no replicas yet; ask again")
            }
        }
    }

    /// Whether it will be tried once more, in a moment.
    func retry(since began: Instant, _ again: @escaping () -> Void) -> Bool {
        let now = agent.loop.now
        guard now < began + AdminPort.newSpacePatience, retries.count < AdminPort.lookersMax else { return false }
        retries.append((now + AdminPort.newSpacePause, again))
        return true
    }

    private func write(_ space: String, _ command: SpaceCommand, _ ticket: Ticket, since: Instant? = nil) {
        let began = since ?? agent.loop.now
        guard let group = group(of: space) else {
            return learn(of: space, ticket) { [self] in write(space, command, ticket, since: began) }
        }
        if let problem = agent.problem(wanting: command.level) { return answer(ticket, AdminResponse(problem)) }
        agent.request(.command(group, command.encoded())) { [self] outcome in
            let hasEnded =
                if case .applied(.space(let result)) = outcome { result.outcome == .refused(.ended) } else { false }
            if hasEnded || outcome == .refused(.noSuchGroup) {
                return lookAgain(space, after: group, hasEnded: hasEnded, since: began, ticket) { [self] in
                    write(space, command, ticket, since: began)
                }
            }
            if case .applied(.space(let result)) = outcome, result.outcome == .refused(.malformed),
                command.level > FeatureLevel.oldest
            {
                return answer(ticket, AdminResponse(Agent.levelUnheard(command.level)))
            }
            if case .release(let lock, _, _) = command.operation, case .applied(.space(let result)) = outcome,
                result.outcome == .notFound
            {
                return answer(ticket, AdminResponse(Problem.lockFree(lock)))
            }
            answer(ticket, AdminResponse(outcome))
        }
    }

    private func read(
        _ space: String, _ query: SpaceQuery, _ mode: ReadMode, _ ticket: Ticket, since: Instant? = nil
    ) {
        let began = since ?? agent.loop.now
        guard let group = group(of: space) else {
            return learn(of: space, ticket) { [self] in read(space, query, mode, ticket, since: began) }
        }
        if case .stale(let within) = mode, let here = readHere(group, .space(query), within: within),
            case .space(let found) = here.answer, found.body != .refused(.ended)
        {
            return answer(ticket, AdminPort.response(query, found, age: here.age))
        }
        agent.request(.query(group, .space(query))) { [self] outcome in
            let hasEnded = if case .read(.space(let found)) = outcome { found.body == .refused(.ended) } else { false }
            if hasEnded || outcome == .refused(.noSuchGroup) {
                return lookAgain(space, after: group, hasEnded: hasEnded, since: began, ticket) { [self] in
                    read(space, query, mode, ticket, since: began)
                }
            }
            guard case .read(.space(let found)) = outcome else { return answer(ticket, AdminResponse(outcome)) }
            answer(ticket, AdminPort.response(query, found))
        }
    }

    private static func response(_ query: SpaceQuery, _ found: SpaceAnswer, age: Nanoseconds? = nil) -> AdminResponse {
        if case .lock(let name) = query { return AdminResponse(lock: name, found, age: age) }
        return AdminResponse(found, age: age)
    }

    /// By the clock as it is now: the loop's stands still while this process does.
    func readHere(
        _ group: GroupID, _ query: Query, within bound: Nanoseconds
    ) -> (answer: MachineAnswer, age: Nanoseconds)? {
        agent.engine.readHere(group, query, within: bound, now: SystemClock.now)
    }

    // MARK: Watches

    /// One client's stream of a space's changes.
    struct Watch {
        let ticket: Ticket
        let principal: Principal
        let space: String
        let group: GroupID
        let prefix: [UInt8]
        /// Everything up to here was sent; nil until the beginning is known.
        var through: Revision?
        var isAsking = false
        var isFull = false
        var askAt: Instant
        /// The copy here had this applied when it was last asked.
        var seen = LogIndex.zero
        var toldAt: Instant
    }

    /// Of keys, at one time: each may have a send buffer full of bytes that wait.
    private static let watchesMax = 4_096
    static let watchPoll = Nanoseconds.milliseconds(100)
    /// A stream that nothing happens on says how far it is, so that its client can tell a quiet space from a dead node.
    static let progressEvery = Nanoseconds.seconds(5)

    private func beginWatch(
        _ space: String, _ prefix: [UInt8], _ from: Revision?, _ principal: Principal, _ ticket: Ticket
    ) {
        guard let group = group(of: space) else {
            return learn(of: space, ticket) { [self] in beginWatch(space, prefix, from, principal, ticket) }
        }
        guard watches.count < AdminPort.watchesMax else {
            return answer(
                ticket,
                AdminResponse(
                    Problem(
                        .overloaded,
                        "\(AdminPort.watchesMax) watches are open here, which is the bound; ask another node")))
        }
        let now = agent.loop.now
        watches.append(
            Watch(
                ticket: ticket, principal: principal, space: space, group: group, prefix: prefix, through: from,
                askAt: now, toldAt: now))
        if from != nil { answer(ticket, .stream(.jsonLines)) }
    }

    var watchDeadline: Instant {
        if copies.contains(where: { !$0.isFull }) { return agent.loop.now }
        return watches.reduce(fleetWatchDeadline) { earliest, watch in
            watch.isAsking || watch.isFull ? earliest : min(earliest, watch.askAt)
        }
    }

    /// Goes on with every watch whose space may have changed.
    func tendWatches() {
        tendCopies()
        tendFleetWatches()
        for i in watches.indices where !watches[i].isAsking && !watches[i].isFull {
            let here = agent.engine.standing(of: watches[i].group)?.applied
            guard agent.loop.now >= watches[i].askAt || (here ?? .zero) > watches[i].seen else { continue }
            watches[i].seen = here ?? .zero
            watches[i].isAsking = true
            watches[i].askAt = agent.loop.now + (here == nil ? AdminPort.watchPoll : AdminPort.progressEvery)
            let query: SpaceQuery =
                watches[i].through.map { .changes(since: $0, prefix: watches[i].prefix, limit: 1_000) }
                ?? .list(prefix: watches[i].prefix, after: nil, limit: 1)
            let ticket = watches[i].ticket
            agent.request(.query(watches[i].group, .space(query))) { [self] outcome in watchAnswered(ticket, outcome) }
        }
    }

    private func watchAnswered(_ ticket: Ticket, _ outcome: ClientAnswer) {
        guard let i = watches.firstIndex(where: { $0.ticket == ticket }) else { return }
        watches[i].isAsking = false
        if case .refused(.noSuchGroup) = outcome { return endIfGone(i) }
        guard case .read(.space(let read)) = outcome else {
            // No leader now; the watch goes on where it stood.
            watches[i].askAt = agent.loop.now + AdminPort.watchPoll
            return
        }
        switch read.body {
        case .page:
            // It begins now.
            watches[i].through = read.revision
            watches[i].askAt = agent.loop.now
            answer(ticket, .stream(.jsonLines, index: read.revision.index))
        case .changes(let changes, let through): sendChanges(i, changes, through)
        case .compacted(let revision):
            var line: [UInt8] = []
            SpaceJSON.writeCompacted(revision, into: &line)
            _ = server.send(ticket, line)
            server.endStream(ticket)
            watches.remove(at: i)
        case .record, .locks, .refused:
            server.endStream(ticket, isWhole: false)
            watches.remove(at: i)
        }
    }

    /// Ends a watch of a space that is gone: who asks again is told so. One of a space that was made a moment ago goes on.
    private func endIfGone(_ i: Int) {
        let (ticket, space, group) = (watches[i].ticket, watches[i].space, watches[i].group)
        watches[i].isAsking = true
        agent.refreshView { [self] problem in
            guard let i = watches.firstIndex(where: { $0.ticket == ticket }) else { return }
            watches[i].isAsking = false
            watches[i].askAt = agent.loop.now + AdminPort.watchPoll
            if problem == nil, self.group(of: space) != group {
                server.endStream(ticket, isWhole: false)
                watches.remove(at: i)
            }
        }
    }

    private func sendChanges(_ i: Int, _ changes: [SpaceChange], _ through: Revision) {
        let watch = watches[i]
        // A role that was taken back, or is over, gives nothing more; who asks again is told why.
        guard Access.judge(.readSpace(watch.space), watch.principal, roles: roles(of: watch.principal)) == .allowed
        else {
            server.endStream(watch.ticket, isWhole: false)
            watches.remove(at: i)
            return
        }
        let now = agent.loop.now
        let isNews = through > (watches[i].through ?? .zero)
        watches[i].through = max(through, watches[i].through ?? .zero)
        guard !changes.isEmpty || now - watches[i].toldAt >= AdminPort.progressEvery else { return }
        if !changes.isEmpty && isNews { watches[i].askAt = now }
        var lines: [UInt8] = []
        for change in changes { SpaceJSON.writeLine(change, into: &lines) }
        SpaceJSON.writeProgress(watches[i].through ?? through, into: &lines)
        watches[i].toldAt = now
        switch server.send(watches[i].ticket, lines) {
        case .open: break
        case .full: watches[i].isFull = true
        case .gone: watches.remove(at: i)
        }
    }

    func streamHasRoom(_ ticket: Ticket) {
        if let i = copies.firstIndex(where: { $0.ticket == ticket }) { copies[i].isFull = false }
        if let i = watches.firstIndex(where: { $0.ticket == ticket }) {
            watches[i].isFull = false
            watches[i].askAt = agent.loop.now
        }
        fleetWatchHasRoom(ticket)
    }

    /// A watch's reader learns how far it is; a copy just breaks off.
    func streamIsOverdue(_ ticket: Ticket) {
        var line: [UInt8] = []
        if let watch = watches.first(where: { $0.ticket == ticket }) {
            SpaceJSON.writeOverdue(watch.through ?? .zero, into: &line)
        } else if let watch = fleetWatches.first(where: { $0.ticket == ticket }) {
            WatchLine.write(.overdue, revision: watch.through ?? .zero, asEvents: watch.asEvents, into: &line)
        }
        cancelled(ticket)
        if !line.isEmpty { _ = server.send(ticket, line) }
        server.endStream(ticket, isWhole: !line.isEmpty)
    }

    func cancelled(_ ticket: Ticket) {
        watches.removeAll { $0.ticket == ticket }
        copies.removeAll { $0.ticket == ticket }
        fleetWatches.removeAll { $0.ticket == ticket }
    }
}
