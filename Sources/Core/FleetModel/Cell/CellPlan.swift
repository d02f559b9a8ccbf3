package import ClusterBase

/// What one may ask a cell's leader before anything is done. Asking changes nothing.
package enum CellQuestion: Hashable, Sendable {
    /// Why a VM is where it is, or why it waits; with a report on each of the hosts named.
    case explain(VMID, hosts: [HostID])
    /// Where VMs that don't exist yet would go. Some are refused by those who know more than where there is room.
    case create([VMCreation], isAtomic: Bool, refused: [CellPlan.Refused] = [])
    /// What leaves a host that is drained, and what can't.
    case drain(HostID)
    /// What of those that left a host by a drain would come back to it, and what can't.
    case returns(HostID)
    /// The moves that make the cell better.
    case rebalance
    /// Which of the bounds on moves at one time is used up for a move to each of these hosts.
    case budgets(from: HostID, to: [HostID])
    /// What becomes of the VMs when these hosts are lost at once.
    case loss([HostID])
    /// What becomes of VMs when a host has this policy, and what may not stay there is moved away, or not.
    case capacity(HostID, HostPolicy, isEnforced: Bool = false)
    /// What becomes of its VMs when a host is taken out of the cell.
    case remove(HostID)
    /// What becomes of its VMs when a host is declared dead.
    case declareDead(HostID)
    /// Of each host, rack or zone: what its loss would leave down.
    case losses(PlacementGroup.Scope)
}

/// The leader's answer to a `CellQuestion`.
package enum CellReply: Hashable, Sendable {
    case explanation(CellExplanation)
    case plan(CellPlan)
    case losses([LossReport])
    /// For each host that was named; nil where a move there may begin.
    case budgets([String?])
    /// The question itself is wrong.
    case refused(CellRefusal)
    /// It has just become leader and still reads the state; ask again in a moment.
    case notReady
}

/// Everything that moves something, before it is done: a create, a drain, a rebalancing, a loss, another capacity or quota.
package struct CellPlan: Hashable, Sendable {
    package enum Purpose: Hashable, Sendable {
        case create
        case drain(HostID)
        case returns(HostID)
        case rebalance
        case loss([HostID])
        case capacity(HostID)
        case remove(HostID)
        case declareDead(HostID)
        case quota(String)
    }

    /// One VM's way.
    package struct Step: Hashable, Sendable {
        package enum Kind: String, Hashable, Sendable, CaseIterable {
            /// It has no place and gets one.
            case place
            /// It goes while it runs.
            case migrate
            /// It stops where it is and starts there.
            case restart
            /// It stops and waits, to make room for one of a higher priority.
            case preempt
            /// It is made, and gets no place, since it is to be stopped.
            case create
            /// It is to run no more, since a quota that is to be enforced has no room for it.
            case stop
            /// It is stopped, and gives up a place that it may not have; it gets another one when it is started.
            case release
        }
        package var kind: Kind
        /// Zero for a VM that does not exist yet; then `item` says which of those asked about it is.
        package var vm: VMID
        package var item: Int?
        package var name: String
        package var tenant: String
        /// The epoch of the place that it leaves; zero when it has none.
        package var epoch: UInt64
        package var from: HostID?
        package var fromName: String
        /// Nil for one that is only stopped, or made.
        package var to: Assignment?
        package var toName: String
        /// Of a rebalancing: how much better the cell's score gets.
        package var gain: Int64
        /// What moving it takes, in MiB of memory, and of disks on its host, to copy.
        package var cost: Int64
        package init(
            _ kind: Kind, vm: VMID, item: Int? = nil, name: String, tenant: String, epoch: UInt64 = 0,
            from: HostID? = nil, fromName: String = "", to: Assignment?, toName: String, gain: Int64 = 0,
            cost: Int64 = 0
        ) {
            self.kind = kind
            self.vm = vm
            self.item = item
            self.name = name
            self.tenant = tenant
            self.epoch = epoch
            self.from = from
            self.fromName = fromName
            self.to = to
            self.toName = toName
            self.gain = gain
            self.cost = cost
        }
    }

    /// A VM for which there is no way.
    package struct Left: Hashable, Sendable {
        package enum Cause: String, Hashable, Sendable, CaseIterable {
            /// No host has room for it, or every one that has is excluded by a rule.
            case noHostFits
            /// A local disk ties it to its host.
            case localDisk
            /// Its isolation policy is `keep`: it starts nowhere else without its host's word.
            case isolationKeep
            /// Its restart policy is `never`.
            case neverRestarts
            /// It would use what is kept free for losses.
            case reserve
            /// Its tenant's quota.
            case quota
            /// Its specification.
            case invalid
            /// Another one of an all-or-nothing batch.
            case anotherItem
            /// It is stopped for one of a higher priority, and no other host takes it.
            case preempted
            /// It ended by itself, and elsewhere it would start again.
            case notRunning
        }
        package var vm: VMID
        package var item: Int?
        package var name: String
        package var tenant: String
        package var cause: Cause
        /// One sentence, with the nearest change that would help where there is one.
        package var text: String
        package init(
            vm: VMID, item: Int? = nil, name: String, tenant: String, cause: Cause, text: String
        ) {
            self.vm = vm
            self.item = item
            self.name = name
            self.tenant = tenant
            self.cause = cause
            self.text = text
        }
    }

    /// A VM that is not made.
    package struct Refused: Hashable, Sendable {
        /// Its place among those that were asked about.
        package var item: Int
        package var cause: Left.Cause
        package var text: String
        package init(_ item: Int, _ refusal: CellRefusal) {
            self.item = item
            cause = .invalid
            if case .quotaExceeded = refusal { cause = .quota }
            text = "\(refusal)"
        }
        package init(_ item: Int, invalid text: String) {
            self.item = item
            cause = .invalid
            self.text = text
        }
    }

    package var purpose: Purpose
    /// The state that it rests on.
    package var through: LogIndex
    /// In the order in which they are made.
    package var steps: [Step] = []
    package var left: [Left] = []
    /// What else there is to say, in sentences; no part of the digest.
    package var notes: [String] = []
    /// Of a rebalancing: higher is better, comparable within one plan only.
    package var scoreBefore: Int64?
    package var scoreAfter: Int64?
    /// Of what is to be changed: plans of other values differ though they move the same.
    package var change: UInt64 = 0
    /// False when a bound ended the search; planning again after it is carried out finds more.
    package var isComplete = true

    package init(_ purpose: Purpose, through: LogIndex) {
        self.purpose = purpose
        self.through = through
    }

    /// Equal for plans that do the same: who was shown a plan and names this number gets that plan or a refusal.
    package var digest: UInt64 {
        var sum: UInt64 = 0
        func add(_ value: UInt64) { sum = mix64(sum ^ value) }
        func add(_ text: String.UTF8View) { for byte in text { add(UInt64(byte)) } }
        switch purpose {
        case .create: add(1)
        case .drain(let host):
            add(2)
            add(host.rawValue)
        case .returns(let host):
            add(9)
            add(host.rawValue)
        case .rebalance: add(3)
        case .loss(let hosts):
            add(4)
            for host in hosts { add(host.rawValue) }
        case .capacity(let host):
            add(5)
            add(host.rawValue)
        case .remove(let host):
            add(6)
            add(host.rawValue)
        case .declareDead(let host):
            add(8)
            add(host.rawValue)
        case .quota(let tenant):
            add(7)
            add(tenant.utf8)
        }
        add(change)
        for step in steps {
            add(UInt64(Step.Kind.allCases.firstIndex(of: step.kind) ?? 0))
            add(step.vm.rawValue)
            add(UInt64(step.item ?? 0))
            add(step.epoch)
            add(step.from?.rawValue ?? 0)
            guard let to = step.to else { continue }
            add(to.host.rawValue)
            for node in to.numaNodes { add(UInt64(node)) }
            for use in to.devices { add(UInt64(use.device) << 32 | UInt64(UInt32(bitPattern: use.millis))) }
        }
        for vm in left {
            add(vm.vm.rawValue ^ UInt64(vm.item ?? 0) << 48)
            // What is left of a quota is no VM, and says how much.
            if case .quota = purpose { add(vm.text.utf8) }
        }
        return sum
    }

    /// The commands that carry it out. A drain's and a create's are one command, after which controllers do the rest; what a
    /// loss brings is done by itself.
    /// `knowsIntents`: `FeatureLevel.moveIntents` is open.
    package func operations(
        creations: [VMCreation] = [], isAtomic: Bool = false, knowsIntents: Bool
    ) -> [CellCommand.Operation] {
        switch purpose {
        case .create: [.createVMs(creations, isAtomic: isAtomic)]
        case .drain(let host): [.setHostDuty(host, .draining)]
        case .rebalance:
            releases
                + steps.compactMap { step in
                    step.to.map {
                        .beginMigration(
                            step.vm, from: step.epoch, to: $0, cause: .rebalance,
                            intent: knowsIntents ? .gentle : .balanced)
                    }
                }
        // A change of what a host or a tenant may have is a command of its own, and controllers do the rest.
        case .returns(let host): [.careForHost(host, .resume(.all))]
        case .loss, .capacity, .remove, .declareDead, .quota: []
        }
    }
}

extension CellPlan {
    package static let releaseReason = "it may not stay where it is"

    /// Of those that give up their places.
    private var releases: [CellCommand.Operation] {
        let all = steps.filter { $0.kind == .release }.map { step in
            Release(step.vm, epoch: step.epoch, reason: CellPlan.releaseReason)
        }
        return stride(from: 0, to: all.count, by: CellLimits.itemsMax).map { start in
            .releaseVMs(Array(all[start..<min(start + CellLimits.itemsMax, all.count)]), cause: .rebalance)
        }
    }

    /// What another quota would do: what would be in use beyond it. It stops nothing by itself.
    package init(
        of tenant: String, _ quota: Quota, used: Resources, count: UInt64, through: LogIndex, isEnforced: Bool = false
    ) {
        self.init(.quota(tenant), through: through)
        let pairs: [(String, Int64?, Int64)] = [
            ("VMs", quota.vmCount.map { Int64(clamping: $0) }, Int64(clamping: count)),
            ("thousandths of cores", quota.cpuMillis, used.cpuMillis),
            ("MiB of memory", quota.memoryMiB, used.memoryMiB), ("MiB of disk", quota.diskMiB, used.diskMiB),
        ]
        for (what, limit, used) in pairs {
            change = mix64(change ^ UInt64(bitPattern: limit ?? -1))
            guard let limit, used > limit else { continue }
            left.append(
                Left(
                    vm: VMID(0), name: "", tenant: tenant, cause: .quota,
                    text:
                        "\(used) \(what) are in use, \(used - limit) more than it would allow: "
                        + (isEnforced ? "" : "nothing is stopped, and ")
                        + "nothing more is made until they are given back"))
        }
    }
}

extension HostPolicy {
    /// The same for equal policies.
    package var digest: UInt64 { RequestDigest.of(encoded()) }
}

/// What the loss of a host, a rack or a zone would leave down.
package struct LossReport: Hashable, Sendable {
    package var scope: PlacementGroup.Scope
    /// The host's name, `zone/rack`, or the zone.
    package var name: String
    package var hosts: [HostID]
    /// VMs that would start elsewhere, among them some of those that are stopped for others.
    package var restarted: Int
    /// VMs of other hosts that would be stopped for those of a higher priority.
    package var preempted: Int
    /// VMs that would be down until it is back, or until there is room.
    package var down: [CellPlan.Left]
    /// False when a bound ended the search for whom VMs would have stopped: fewer of the urgent ones may be down.
    package var isComplete: Bool
    package init(
        scope: PlacementGroup.Scope, name: String, hosts: [HostID], restarted: Int, preempted: Int,
        down: [CellPlan.Left], isComplete: Bool
    ) {
        self.scope = scope
        self.name = name
        self.hosts = hosts
        self.restarted = restarted
        self.preempted = preempted
        self.down = down
        self.isComplete = isComplete
    }
}

/// Why a VM is, or is not, where it could be: every rule in counts, the best hosts, and the way out. In names, for people.
package struct CellExplanation: Hashable, Sendable {
    package enum Standing: Hashable, Sendable {
        case placed(HostID)
        /// So many wait before it, of its own kind and of others; `reason` as its state has it.
        case waiting(before: Int)
        /// Room is being made by stopping others.
        case nominated(HostID)
        /// It is not meant to have a place now.
        case idle
    }
    package struct RuleCount: Hashable, Sendable {
        /// `free cpu`, `taint`, `group web`, …
        package var rule: String
        package var hosts: Int
        package init(rule: String, hosts: Int) {
            self.rule = rule
            self.hosts = hosts
        }
    }
    /// How one rule judged all hosts, whatever the other rules do.
    package struct RuleVerdict: Hashable, Sendable {
        package var rule: String
        /// Hosts that it excludes; zero for one that was asked for and excludes none.
        package var excluded: Int
        /// Of these, hosts that nothing else excludes.
        package var excludedAlone: Int
        package init(rule: String, excluded: Int, excludedAlone: Int) {
            self.rule = rule
            self.excluded = excluded
            self.excludedAlone = excludedAlone
        }
    }
    package struct Shortage: Hashable, Sendable {
        package var resource: ResourceKind
        package var amount: Int64
        package init(resource: ResourceKind, amount: Int64) {
            self.resource = resource
            self.amount = amount
        }
    }
    package struct GroupTerm: Hashable, Sendable {
        package var group: String
        package var weight: Int64
        package init(group: String, weight: Int64) {
            self.group = group
            self.weight = weight
        }
    }
    /// The terms of a candidate's score; lower is better, and the first outweighs the second.
    package struct Score: Hashable, Sendable {
        package var softRules: Int64
        package var policy: Int64
        /// Soft groups within `softRules`.
        package var groups: [GroupTerm]
        /// For `pack`: the worth of the host's free room before and after.
        package var worthBefore: Int64
        package var worthAfter: Int64
        package init(softRules: Int64, policy: Int64, groups: [GroupTerm], worthBefore: Int64, worthAfter: Int64) {
            self.softRules = softRules
            self.policy = policy
            self.groups = groups
            self.worthBefore = worthBefore
            self.worthAfter = worthAfter
        }
    }
    package struct Candidate: Hashable, Sendable {
        package var host: HostID
        package var name: String
        /// Every rule that excludes it; empty for a candidate.
        package var excludedBy: [String]
        package var shortages: [Shortage]
        package var free: Resources
        /// Where on the host it would be, and its score; nil when a rule excludes the host.
        package var assignment: Assignment?
        package var score: Score?
        package init(
            host: HostID, name: String, excludedBy: [String], shortages: [Shortage], free: Resources,
            assignment: Assignment?, score: Score?
        ) {
            self.host = host
            self.name = name
            self.excludedBy = excludedBy
            self.shortages = shortages
            self.free = free
            self.assignment = assignment
            self.score = score
        }
    }

    /// VMs that get their first places all or none.
    package struct Gang: Hashable, Sendable {
        package struct Missing: Hashable, Sendable {
            package var vm: VMID
            package var name: String
            package var text: String
            package init(vm: VMID, name: String, text: String) {
                self.vm = vm
                self.name = name
                self.text = text
            }
        }
        /// All of them.
        package var count: Int
        /// Those that would fit together now; all of them while they wait for their turn.
        package var fitting: Int
        /// Why some of the others don't, when those are there.
        package var missing: [Missing]
        package init(count: Int, fitting: Int, missing: [Missing]) {
            self.count = count
            self.fitting = fitting
            self.missing = missing
        }
    }

    package var vm: VMID
    package var name: String
    package var tenant: String
    package var standing: Standing
    /// Of a VM that waits together with others.
    package var gang: Gang?
    /// What a lost region has to do with it, in words; empty for nothing.
    package var region = ""
    /// Of one that waits: what of the cell's reserve it would break; empty for nothing.
    package var reserve = ""
    /// The state that it is true of.
    package var through: LogIndex
    package var policy: PlacementPolicy
    package var tieBreak: String
    /// All hosts; together with the rules' counts the candidates are all of them.
    package var hosts: Int
    package var candidates: Int
    /// Hosts by the first rule that excludes them.
    package var rules: [RuleCount] = []
    /// Every rule that the VM or a host brings up, by itself.
    package var verdicts: [RuleVerdict] = []
    /// Best first, at most five.
    package var best: [Candidate] = []
    package var asked: [Candidate] = []
    /// Candidates that share the best score.
    package var tied: Int
    /// The smallest single change that lets it in: `fits on h4 if 3072 MiB of memory more were free`.
    package var nearest: String?
    /// Why it can't be judged at all.
    package var invalid: String?
    package init(
        vm: VMID, name: String, tenant: String, standing: Standing, through: LogIndex, policy: PlacementPolicy,
        tieBreak: String, hosts: Int, candidates: Int, tied: Int
    ) {
        self.vm = vm
        self.name = name
        self.tenant = tenant
        self.standing = standing
        self.through = through
        self.policy = policy
        self.tieBreak = tieBreak
        self.hosts = hosts
        self.candidates = candidates
        self.tied = tied
    }
}

/// Times, counted by upper bound.
package struct LatencyCounts: Hashable, Sendable {
    package static let boundsMilliseconds: [Int64] = [1, 2, 5, 10, 20, 50, 100, 250, 500, 1_000, 2_500, 5_000]
    /// One more than there are bounds: those above all of them.
    package private(set) var counts = [UInt64](repeating: 0, count: boundsMilliseconds.count + 1)
    package private(set) var sum = Nanoseconds(0)
    package init() {}

    package mutating func add(_ time: Nanoseconds) {
        let milliseconds = LatencyCounts.boundsMilliseconds
        let at = milliseconds.firstIndex { time <= Nanoseconds.milliseconds($0) } ?? milliseconds.count
        counts[at] += 1
        sum = sum + time
    }
}

/// What the controller of the balance found last: what it makes by itself, or only proposes.
package struct RebalanceAdvice: Hashable, Sendable {
    /// The state that it rests on.
    package var through: LogIndex
    package var scoreBefore: Int64
    package var scoreAfter: Int64
    /// In the order in which they would be made.
    package var steps: [CellPlan.Step]
    package init(through: LogIndex, scoreBefore: Int64, scoreAfter: Int64, steps: [CellPlan.Step]) {
        self.through = through
        self.scoreBefore = scoreBefore
        self.scoreAfter = scoreAfter
        self.steps = steps
    }

    /// `3 moves would raise the score from 10 to 20: a from h1 to h2, b from h1 to h3, and 1 more`.
    package var text: String {
        if steps.isEmpty { return "no move would make the cell better; its score is \(scoreBefore)" }
        let named = steps.prefix(RebalanceAdvice.namedMax).map { step in
            "\(step.name) \(step.kind == .release ? "off" : "from") \(step.fromName)"
                + (step.toName.isEmpty ? "" : " to \(step.toName)")
        }
        let rest = steps.count > named.count ? ", and \(steps.count - named.count) more" : ""
        let moves = steps.count == 1 ? "1 move" : "\(steps.count) moves"
        let verb = scoreAfter > scoreBefore ? "raise" : "bring back what may not stay where it is, and change"
        return "\(moves) would \(verb) the score from \(scoreBefore) to \(scoreAfter): "
            + named.joined(separator: ", ") + rest
    }
    private static let namedMax = 8
}

/// What a cell's controllers did since this node leads it, and what is before them. Counts only; the shell adds times.
package struct CellKeeperCounts: Hashable, Sendable {
    /// VMs that wait, and how many kinds of them no host takes now.
    package var waiting = 0
    package var refusedClasses = 0
    package var nominated = 0
    package var migrating = 0
    package var draining = 0
    /// Hosts on which more is in use than they offer.
    package var exceeded = 0
    package var crashed = 0
    /// Commands whose outcome is not known yet.
    package var underWay = 0
    package var plans: UInt64 = 0
    package var decisions: UInt64 = 0
    package var refusals: UInt64 = 0
    package var placed: UInt64 = 0
    /// Placings that the state machine refused: lost races.
    package var takenBack: UInt64 = 0
    /// Times that VMs which arrived together were decided together, and VMs that have a place because of that.
    package var batches: UInt64 = 0
    package var batchGains: UInt64 = 0
    /// Gangs of which all have a place.
    package var gangsPlaced: UInt64 = 0
    package var preemptions: UInt64 = 0
    package var migrationsBegun: UInt64 = 0
    /// Of the last time that moves for a better balance were looked for; nil while none were.
    package var advice: RebalanceAdvice?
    package var migrationsCancelled: UInt64 = 0
    package var restarts: UInt64 = 0
    package var hostsDeclaredDown: UInt64 = 0
    package var brakeHeld: UInt64 = 0
    /// VMs of a lost region that no host of the cell takes; those that were sent to other regions, and home again.
    package var regionWaiting = 0
    package var regionAway: UInt64 = 0
    package var regionHome: UInt64 = 0
    package var regionEvacuated: UInt64 = 0
    /// Rows that could not be brought into the index as they are; zero in a healthy cell.
    package var misfits: UInt64 = 0
    /// Those that decide, beside placement.
    package enum Controller: String, Hashable, Sendable, CaseIterable {
        /// VMs off hosts that drain, and off those where others need room; drains that end.
        case drain
        case restarts
        /// Moves that begin: of drains and of a better balance.
        case moves
        /// Moves that end.
        case migrations
        case health, quotas, reasons, regions, housekeeping
    }
    /// From a decision to its outcome; those without one yet are left out.
    // hash order: looked up only
    package var controllerTimes: [Controller: LatencyCounts] = [:]
    /// From a placing's decision to its outcome.
    package var placingTimes = LatencyCounts()
    package init() {}
}
