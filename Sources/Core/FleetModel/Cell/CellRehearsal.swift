package import ClusterBase

/// What would become of a cell's VMs if a region were lost (its hosts silent all at once, and declared lost), or what a plan for it
/// does. Played through in a
/// copy of what the cell's leader plans with, by the functions that it plans with; nothing of it happens.
package struct CellRehearsal: Hashable, Sendable {
    /// What is rehearsed.
    package enum Kind: String, Hashable, Sendable, CaseIterable { case loss, evacuation, `return` }

    package enum Fate: String, Hashable, Sendable, CaseIterable {
        /// It starts on another host of its cell.
        case restart
        /// It goes to a host of its cell in another region, and runs meanwhile.
        case migrate
        /// It goes to a cell of another region.
        case away
        case wait
    }

    /// Why a VM would wait.
    package enum Cause: String, Hashable, Sendable, CaseIterable {
        /// Its cell has no majority without the region.
        case cellHasNoMajority
        /// A local disk ties it to its host.
        case localDisk
        /// Its isolation policy is `keep`.
        case isolationKeep
        /// Its restart policy is `never`.
        case neverRestarts
        /// Its `regionLoss` is `home-only`.
        case homeOnly
        /// It waits for its first place together with others.
        case gang
        /// No cell in another region is one that it may go to.
        case noRegion
        /// None of these has room for it.
        case noRoom
        /// Those that were asked said no, and it is tried again.
        case refused
        /// It would go in its turn: the rehearsal ended before.
        case inTurn
        /// It starts, stops or moves, and goes when that is over.
        case busy
        /// The plan for its region is paused.
        case paused
        /// It is not to go home.
        case returnPolicy
    }

    package struct Step: Hashable, Sendable {
        package var vm: VMID
        package var name: String
        package var tenant: String
        package var fate: Fate
        /// The name of the host or the cell that it goes to; empty for one that waits.
        package var to: String
        /// The other cell's; empty for one that goes to none.
        package var region: String
        /// The first is 1; 0 for one that goes to no other cell.
        package var wave: Int
        package var cause: Cause?
        /// It ran elsewhere, and was stopped to make room.
        package var isPreempted: Bool
        package var text: String
        package init(
            _ vm: CellVM, _ fate: Fate, to: String = "", region: String = "", wave: Int = 0, cause: Cause? = nil,
            isPreempted: Bool = false, text: String = ""
        ) {
            self.vm = vm.id
            name = vm.name
            tenant = vm.tenant
            self.fate = fate
            self.to = to
            self.region = region
            self.wave = wave
            self.cause = cause
            self.isPreempted = isPreempted
            self.text = text
        }
    }

    /// A cell that VMs go to, by what it said of itself last.
    package struct Target: Hashable, Sendable {
        package var cell: UInt64
        package var name: String
        package var region: String
        package var vms = 0
        package var demand = Resources.zero
        package var free: Resources
        /// When it said so.
        package var at: LogTime
        package init(cell: UInt64, name: String, region: String, free: Resources, at: LogTime) {
            self.cell = cell
            self.name = name
            self.region = region
            self.free = free
            self.at = at
        }
    }

    package struct Wait: Hashable, Sendable {
        package var cause: Cause
        package var vms: Int
        package init(cause: Cause, vms: Int) {
            self.cause = cause
            self.vms = vms
        }
    }

    package var kind = Kind.loss
    package var region: String
    /// The state that it rests on.
    package var through: LogIndex
    /// Its group has a majority without the region.
    package var goesOn = true
    /// Hosts of the region in the cell, and VMs on them that are meant to run.
    package var hosts = 0
    package var vms = 0
    /// VMs that wait already, which a lost region lets go elsewhere too.
    package var waitedBefore = 0
    /// Of a plan: VMs that have left the region by it and are in this cell, and those that are on their way from here.
    package var moved = 0
    package var moving = 0
    /// VMs on other hosts that would be stopped to make room.
    package var preempted = 0
    package var restarted = 0
    package var migrated = 0
    package var away = 0
    package var waiting = 0
    /// How long a host of it is silent at most until it is given up.
    package var silence = Nanoseconds.zero
    package var waves = 0
    /// Of each fate at most `stepsOfFateMax`.
    package var steps: [Step] = []
    /// By cell.
    package var targets: [Target] = []
    /// By cause.
    package var waits: [Wait] = []
    /// False when a bound ended it.
    package var isComplete = true
    /// How many go in one wave.
    package var pace = 1
    /// How long a VM lately took to another cell, and to another host of its cell, on an average; nil where none went.
    package var wayTime: Nanoseconds?
    package var moveTime: Nanoseconds?

    /// VMs that would go in their turn, in waves behind those that were played through.
    package var beyond: Int { isComplete ? 0 : waits.first { $0.cause == .inTurn }?.vms ?? 0 }
    package var wavesBeyond: Int { (beyond + max(1, pace) - 1) / max(1, pace) }

    /// How long all of it takes by what moves took lately, from its beginning or, of a plan that is under way, from now; nil where
    /// nothing of the kind has moved lately. Waves go one after the other, none sooner than `interval` after the one before;
    /// `detection` is how long a lost region is silent before VMs go away.
    package func expected(interval: Nanoseconds, detection: Nanoseconds) -> Nanoseconds? {
        func waves(_ vms: Int) -> Int64 { Int64((vms + max(1, pace) - 1) / max(1, pace)) }
        if kind == .loss {
            if away + beyond == 0 { return nil }
            guard let wayTime else { return nil }
            return max(silence, detection) + max(wayTime, interval) * Int64(self.waves + wavesBeyond)
        }
        // Those that are on their way have the first wave.
        let ways = waves(away + beyond)
        let hops = waves(migrated)
        if ways + hops == 0 { return .zero }
        var sum = Nanoseconds.zero
        for (count, time) in [(ways, wayTime), (hops, moveTime)] where count > 0 {
            guard let time else { return nil }
            // They share one budget.
            sum += max(time, interval) * count
        }
        return sum
    }

    package init(region: String, through: LogIndex) {
        self.region = region
        self.through = through
    }

    package static let stepsOfFateMax = 256

    /// Counts a VM's way, and tells it while there is room for that.
    package mutating func add(_ step: Step) {
        let told: Int
        switch step.fate {
        case .restart:
            told = restarted
            restarted += 1
        case .migrate:
            told = migrated
            migrated += 1
        case .away:
            told = away
            away += 1
        case .wait:
            told = waiting
            waiting += 1
            if let cause = step.cause { count(cause) }
        }
        if told < CellRehearsal.stepsOfFateMax { steps.append(step) }
    }

    private mutating func count(_ cause: Cause) {
        if let at = waits.firstIndex(where: { $0.cause == cause }) {
            waits[at].vms += 1
        } else {
            waits.append(Wait(cause: cause, vms: 1))
        }
    }
}
