import ClusterBase

@testable import RaftCore

/// What is wrong with a scenario file, as opposed to what is wrong with the core.
struct ScenarioMistake: Error, CustomStringConvertible {
    var description: String
}

// The commands. Replicas are named by their ids; the node of replica n is node n.
//
//   quiet <command>                  without its output
//   cluster nodes=1,2,3 [learners=4] [blank=5] [key=value …]   settings: see `set`
//   boot 1 log=1,1,2 [term=2] [vote=1] [commit=0]              a replica with a log of these terms, instead
//   time +50ms | run 50ms            move the clock and tick who is due; `run` also delivers and persists
//   campaign 1 | tick 1 [+60ms]      go to the replica's deadline and tick it | tick it;
//                                  elect 1 also stabilizes, win 1 stabilizes until it leads
//   deliver 1->2 [count] [at=k]      arrive in order, or the k-th first;  drop, dup likewise
//   hold 1->2 | release 1->2         `stabilize` leaves these messages in flight
//   cut 1-2 | cut 1->2 | heal [1-2]  messages sent are lost;  partition 1,2 | 3  also makes both sides suspect
//   stabilize [1,2,3]                persist and deliver until nothing moves
//   persist 2 [count]                end writes;  hold-disk, hold-apply, hold-fetch 2 and release-… 2
//   propose, read, change, transfer, step-down, stall, resume, compact, capture, snapshot, snapshot-sent,
//   fetched, fetch-failed, crash, restart, force-recovery, suspect, alive, restarted, link-broken, deny, suspicion
//   status [1] | log 1 | queue
extension ScenarioHarness {
    mutating func execute(_ command: String) throws -> [String] {
        output = []
        var words = command.split(separator: " ").map(String.init)
        let isQuiet = words.first == "quiet"
        if isQuiet { words.removeFirst() }
        guard let verb = words.first else { throw ScenarioMistake(description: "no command") }
        try dispatch(verb, Arguments(Array(words.dropFirst())))
        return isQuiet ? output.filter { $0.hasPrefix("VIOLATION") } : output
    }

    struct Arguments {
        var words: [String] = []
        var named: [String: String] = [:]

        init(_ all: [String]) {
            for word in all {
                if let equals = word.firstIndex(of: "=") {
                    named[String(word[..<equals])] = String(word[word.index(after: equals)...])
                } else {
                    words.append(word)
                }
            }
        }

        func word(_ i: Int) throws -> String {
            guard i < words.count else { throw ScenarioMistake(description: "argument \(i + 1) is missing") }
            return words[i]
        }

        func id(_ i: Int) throws -> UInt64 { try Arguments.number(word(i)) }

        func count(_ i: Int) throws -> Int { i < words.count ? Int(try id(i)) : .max }

        static func number(_ text: String) throws -> UInt64 {
            guard let number = UInt64(text) else { throw ScenarioMistake(description: "\(text) is no number") }
            return number
        }

        static func list(_ text: String) throws -> [UInt64] {
            try text.split(separator: ",").map { try number(String($0)) }
        }

        func list(_ key: String) throws -> [UInt64] { try named[key].map { try Arguments.list($0) } ?? [] }

        static func length(_ text: String) throws -> Nanoseconds {
            let digits = text.drop { $0 == "+" }
            if digits.hasSuffix("ms") { return .milliseconds(Int64(try number(String(digits.dropLast(2))))) }
            if digits.hasSuffix("us") { return .microseconds(Int64(try number(String(digits.dropLast(2))))) }
            if digits.hasSuffix("s") { return .seconds(Int64(try number(String(digits.dropLast())))) }
            throw ScenarioMistake(description: "\(text) is no length of time")
        }

        /// `1->2` or `1-2`, the latter both ways.
        static func links(_ text: String) throws -> [Link] {
            let isOneWay = text.contains("->")
            let ends = text.split { $0 == "-" || $0 == ">" }.map(String.init)
            guard ends.count == 2 else { throw ScenarioMistake(description: "\(text) is no link") }
            let link = Link(from: try number(ends[0]), to: try number(ends[1]))
            return isOneWay ? [link] : [link, Link(from: link.to, to: link.from)]
        }

        func link(_ i: Int) throws -> Link { try Arguments.links(word(i))[0] }
    }

    private mutating func dispatch(_ verb: String, _ arguments: Arguments) throws {
        switch verb {
        case "cluster": try cluster(arguments)
        case "set": try set(arguments)
        case "boot": try boot(arguments)
        case "time": run(try Arguments.length(arguments.word(0)), delivers: false)
        case "run": run(try Arguments.length(arguments.word(0)), delivers: true)
        case "tick":
            if arguments.words.count > 1 { now += try Arguments.length(arguments.word(1)) }
            step(try arguments.id(0), .tick)
        case "campaign", "elect", "win":
            let id = try arguments.id(0)
            guard let raft = replicas[id]?.raft, let deadline = raft.electionDeadline ?? raft.deadline else {
                return line("\(id) has no deadline")
            }
            now = max(now, deadline)
            step(id, .tick)
            if verb == "elect" { stabilize(ids) }
            if verb == "win" { stabilize(ids) { $0.replicas[id]?.raft?.isLeader == true } }
        case "deliver", "drop", "dup", "hold", "release", "cut", "heal", "partition", "queue":
            try network(verb, arguments)
        case "stabilize": stabilize(arguments.words.isEmpty ? ids : try Arguments.list(arguments.word(0)))
        case "propose", "read", "change", "transfer", "step-down", "force-recovery": try client(verb, arguments)
        case "suspect", "alive", "restarted", "link-broken", "deny", "suspicion": try liveness(verb, arguments)
        case "status":
            for id in arguments.words.isEmpty ? ids : [try arguments.id(0)] { for text in status(id) { line(text) } }
        case "log":
            let id = try arguments.id(0)
            guard let raft = replicas[id]?.raft else { return line("\(id) is down") }
            line("after \(raft.base.term)/\(raft.base.index) \(text(raft.base.configuration))")
            var index = raft.base.index.next
            while index <= raft.lastIndex {
                line(
                    raft.cachedEntry(at: index).map { text($0) }
                        ?? "\(raft.term(at: index)?.rawValue ?? 0)/\(index) on disk")
                index = index.next
            }
        default: try storage(verb, arguments)
        }
    }

    // MARK: Set-up

    private mutating func cluster(_ arguments: Arguments) throws {
        try set(arguments)
        var members: [Member] = []
        let priorities = try arguments.list("priorities")
        for (i, id) in try arguments.list("nodes").enumerated() {
            let priority = i < priorities.count ? Int8(priorities[i]) : 0
            members.append(Member(peer: Self.peer(id), role: .voter, priority: priority))
        }
        for id in try arguments.list("learners") { members.append(Member(peer: Self.peer(id), role: .learner)) }
        let configuration = Configuration(members: members)
        for member in members { start(member.peer.replica.rawValue, configuration) }
        let epoch = Epoch(try arguments.named["epoch"].map { try Arguments.number($0) } ?? 0)
        for id in try arguments.list("blank") { start(id, Configuration(members: [], epoch: epoch)) }
    }

    private mutating func set(_ arguments: Arguments) throws {
        func int(_ key: String, _ current: Int) throws -> Int {
            try arguments.named[key].map { Int(try Arguments.number($0)) } ?? current
        }
        settings.inflightMessagesMax = try int("window", settings.inflightMessagesMax)
        settings.appendEntriesMax = try int("append-entries", settings.appendEntriesMax)
        settings.uncommittedBytesMax = try int("uncommitted-bytes", settings.uncommittedBytesMax)
        settings.proposalBytesMax = try int("proposal-bytes", settings.proposalBytesMax)
        settings.cacheBytesMax = try int("cache-bytes", settings.cacheBytesMax)
        settings.readsMax = try int("reads", settings.readsMax)
        settings.promotionLagMax = try int("promotion-lag", settings.promotionLagMax)
        if let length = arguments.named["promotion-stability"] {
            settings.promotionStability = try Arguments.length(length)
        }
        if let forwards = arguments.named["forwards"] { settings.forwardsProposals = forwards == "yes" }
    }

    private mutating func boot(_ arguments: Arguments) throws {
        let id = try arguments.id(0)
        guard var disk = replicas[id]?.disk else { throw ScenarioMistake(description: "no replica \(id)") }
        disk.entries = []
        var chain = disk.base.chain
        for term in try arguments.list("log") {
            let index = disk.last.next
            // Same index and term: same entry.
            let content = EntryContent.command(Array("x".utf8))
            let entry = Entry(index: index, term: Term(term), after: chain, content: content)
            chain = entry.chain
            disk.entries.append(entry)
        }
        disk.hardState.term =
            try arguments.named["term"].map { Term(try Arguments.number($0)) } ?? disk.entries.last?.term ?? .zero
        disk.hardState.votedFor = try arguments.named["vote"].map { ReplicaID(try Arguments.number($0)) }
        disk.hardState.commit = LogIndex(try arguments.named["commit"].map { try Arguments.number($0) } ?? 0)
        replicas[id]?.disk = disk
        boot(id)
    }

    // MARK: Network

    private mutating func network(_ verb: String, _ arguments: Arguments) throws {
        switch verb {
        case "queue":
            for sent in queue { line(text(sent.message)) }
        case "hold": for link in try Arguments.links(arguments.word(0)) { held.insert(link) }
        case "release": for link in try Arguments.links(arguments.word(0)) { held.remove(link) }
        case "cut": for link in try Arguments.links(arguments.word(0)) { cut.insert(link) }
        case "heal":
            let links = arguments.words.isEmpty ? Array(cut) : try Arguments.links(arguments.word(0))
            let isAll = arguments.words.isEmpty
            cut.subtract(links)
            for link in (isAll ? Array(suspicions) : links).sorted()
            where suspicions.remove(link) != nil && replicas[link.to]?.raft != nil && replicas[link.from]?.raft != nil {
                step(link.to, .nodeAlive(NodeID(link.from)))
            }
        case "partition": try partition(arguments)
        default: try move(verb, arguments)
        }
    }

    private mutating func partition(_ arguments: Arguments) throws {
        let sides = try arguments.words.joined().split(separator: "|").map { try Arguments.list(String($0)) }
        for (i, side) in sides.enumerated() {
            for (j, other) in sides.enumerated() where i != j {
                for from in side { for to in other { cut.insert(Link(from: from, to: to)) } }
            }
        }
        queue.removeAll {
            cut.contains(Link(from: $0.message.from.replica.rawValue, to: $0.message.to.replica.rawValue))
        }
        for link in cut.sorted() where suspicions.insert(link).inserted && replicas[link.to]?.raft != nil {
            step(link.to, .nodeSuspected(NodeID(link.from)))
        }
    }

    private mutating func move(_ verb: String, _ arguments: Arguments) throws {
        let link = try arguments.link(0)
        func waiting() -> [Sent] {
            queue.filter {
                $0.message.from.replica.rawValue == link.from && $0.message.to.replica.rawValue == link.to
            }
        }
        var chosen = Array(waiting().prefix(try arguments.count(1)))
        if let at = arguments.named["at"] {
            let position = Int(try Arguments.number(at)) - 1
            let all = waiting()
            guard position < all.count else { throw ScenarioMistake(description: "only \(all.count) are in flight") }
            chosen = [all[position]]
        }
        if chosen.isEmpty { throw ScenarioMistake(description: "nothing is in flight from \(link.from) to \(link.to)") }
        for sent in chosen {
            switch verb {
            case "deliver": deliver(sent)
            case "drop": queue.removeAll { $0.number == sent.number }
            default:
                sentCount += 1
                queue.append(Sent(number: sentCount, message: sent.message))
            }
        }
    }

    // MARK: Clients and operators

    private mutating func client(_ verb: String, _ arguments: Arguments) throws {
        let id = try arguments.id(0)
        switch verb {
        case "propose":
            if let bytes = arguments.named["bytes"] {
                return step(id, .propose([[UInt8](repeating: 120, count: Int(try Arguments.number(bytes)))]))
            }
            step(id, .propose(arguments.words.dropFirst().map { Array($0.utf8) }))
        case "read": for i in 1..<arguments.words.count { step(id, .read(ticket: try arguments.id(i))) }
        case "change": step(id, .changeMembership(try steps(arguments)))
        case "transfer":
            step(id, .transferLeadership(to: arguments.words.count > 1 ? ReplicaID(try arguments.id(1)) : nil))
        case "step-down": step(id, .stepDown)
        default: step(id, .forceRecovery)
        }
    }

    private func steps(_ arguments: Arguments) throws -> [MembershipStep] {
        var steps: [MembershipStep] = []
        var i = 1
        while i < arguments.words.count {
            let number = try arguments.id(i + 1)
            switch try arguments.word(i) {
            case "add-learner": steps.append(.addLearner(Self.peer(number), promotesItself: false, priority: 0))
            case "add-auto-learner": steps.append(.addLearner(Self.peer(number), promotesItself: true, priority: 0))
            case "add-voter": steps.append(.addVoter(Self.peer(number), priority: 0))
            case "promote": steps.append(.promote(ReplicaID(number)))
            case "demote": steps.append(.demote(ReplicaID(number)))
            case "remove": steps.append(.remove(ReplicaID(number)))
            default: throw ScenarioMistake(description: "\(arguments.words[i]) is no membership step")
            }
            i += 2
        }
        return steps
    }

    // MARK: Liveness

    private mutating func liveness(_ verb: String, _ arguments: Arguments) throws {
        if verb == "suspicion" {
            settings.suspicion = try Arguments.length(arguments.word(0))
            for id in ids { step(id, .suspicion(settings.suspicion)) }
            return
        }
        let subject = try arguments.id(0)
        // `suspect 1 at 2,3`; without `at` every other replica hears of it.
        let observers = arguments.words.count > 2 ? try Arguments.list(arguments.word(2)) : ids.filter { $0 != subject }
        for id in observers where replicas[id]?.raft != nil {
            let node = NodeID(subject)
            switch verb {
            case "suspect":
                suspicions.insert(Link(from: subject, to: id))
                step(id, .nodeSuspected(node))
            case "alive":
                suspicions.remove(Link(from: subject, to: id))
                step(id, .nodeAlive(node))
            case "restarted": step(id, .nodeRestarted(node))
            case "link-broken": step(id, .linkBroken(node))
            default: step(id, .leadershipDenied(node, term: replicas[id]?.raft?.term ?? .zero))
            }
        }
    }

    // MARK: Storage

    private mutating func storage(_ verb: String, _ arguments: Arguments) throws {
        switch verb {
        case "snapshot", "snapshot-sent": return try snapshot(verb, arguments)
        default: break
        }
        let id = try arguments.id(0)
        switch verb {
        case "persist": persist(id, try arguments.count(1))
        case "hold-disk": replicas[id]?.isDiskHeld = true
        case "release-disk": replicas[id]?.isDiskHeld = false
        case "hold-apply": replicas[id]?.isApplyHeld = true
        case "release-apply":
            replicas[id]?.isApplyHeld = false
            apply(id)
        case "hold-fetch": replicas[id]?.areFetchesHeld = true
        case "release-fetch": replicas[id]?.areFetchesHeld = false
        case "fetched": answerFetch(id)
        case "fetch-failed":
            guard let fetch = replicas[id]?.fetches.first else { return line("\(id) has no fetch to answer") }
            replicas[id]?.fetches.removeFirst()
            step(id, .fetchFailed(fetch.peer.replica))
        case "compact":
            let index = LogIndex(try arguments.id(1))
            guard let chain = replicas[id]?.disk.entry(at: index)?.chain else {
                throw ScenarioMistake(description: "\(index) is not on the disk of \(id)")
            }
            step(id, .compact(through: index, chain: chain))
        case "capture":
            let captured = capture(id)
            replicas[id]?.captured = captured
        case "stall": step(id, .storageStalled(true))
        case "resume": step(id, .storageStalled(false))
        case "crash": crash(id)
        case "restart":
            if let applied = arguments.named["applied"] {
                replicas[id]?.disk.applied = LogIndex(try Arguments.number(applied))
            }
            boot(id)
            step(id, .tick)
        default: throw ScenarioMistake(description: "\(verb) is no command")
        }
    }

    private func capture(_ id: UInt64) -> LogBase? {
        guard let replica = replicas[id], let raft = replica.raft else { return nil }
        let index = replica.applied
        guard let term = raft.term(at: index), let chain = replica.disk.entry(at: index)?.chain ?? raft.chain(at: index)
        else { return nil }
        return LogBase(index: index, term: term, chain: chain, configuration: raft.configuration(at: index))
    }

    /// A transfer that went well: the receiver holds a verified snapshot of what the sender captured, or has applied.
    private mutating func snapshot(_ verb: String, _ arguments: Arguments) throws {
        let link = try arguments.link(0)
        guard verb == "snapshot" else {
            let isInstalled = try arguments.word(1) != "failed"
            let installed = isInstalled ? LogIndex(try arguments.id(1)) : nil
            return step(link.from, .snapshotSent(ReplicaID(link.to), installed: installed))
        }
        guard let base = replicas[link.from]?.captured ?? capture(link.from) else {
            throw ScenarioMistake(description: "\(link.from) has nothing to make a snapshot of")
        }
        replicas[link.from]?.captured = nil
        snapshotCount += 1
        let id = SnapshotID(
            source: ReplicaID(link.from), incarnation: Incarnation(replicas[link.from]?.incarnation ?? 0),
            number: snapshotCount)
        line("snapshot \(snapshotCount) of \(base.term)/\(base.index) \(text(base.configuration))")
        step(link.to, .snapshotReceived(id, base: base, from: Self.peer(link.from)))
    }
}
