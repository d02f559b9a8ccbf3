import ClusterBase
import FleetModel

/// VMs that wait for a place, in order of priority and then of time, those that arrived together by size, the largest first; and
/// by kind: of VMs that ask for exactly the same, none is tried after one was refused until room may have appeared.
///
///     kind open ──(its first VM is refused)──▶ closed ──(room may have appeared)──▶ open
///
/// VMs that get their first places together are a kind of their own, a gang, and are tried all at once; nothing is kept for one
/// that does not fit.
///
/// Room appears where a VM left or shrank, for kinds with groups also where a member came or went, and anywhere when a host
/// or a rule changed. These events are numbered; a closed kind remembers the number at which it was refused and looks only at
/// the hosts that had events since.
struct WaitingQueue: Sendable {
    /// A VM's turn.
    struct Turn: Hashable, Comparable, Sendable {
        var queuedAt: LogTime
        var vm: VMID
        static func < (a: Turn, b: Turn) -> Bool { a.queuedAt == b.queuedAt ? a.vm < b.vm : a.queuedAt < b.queuedAt }
    }

    struct Key: Hashable, Sendable {
        /// Its id is zero.
        var spec: VMSpec
        /// The host that has the VM's local disks.
        var boundTo: HostID?
        /// Of VMs that get their places together; these are one kind whatever they ask for.
        var gang: UInt64 = 0
        /// It was lost with its host: what is kept free for losses is for it.
        var isLost = false

        init(_ spec: VMSpec, boundTo: HostID?, gang: UInt64, isLost: Bool = false) {
            self.spec = gang == 0 ? spec : VMSpec(id: spec.id, resources: .zero)
            self.spec.id = VMID(rawValue: 0)
            self.boundTo = gang == 0 ? boundTo : nil
            self.gang = gang
            self.isLost = gang == 0 && isLost
        }
    }

    struct Kind: Sendable {
        var key: Key
        var spec: VMSpec { key.spec }
        /// What it takes of an average host.
        var size: Int64
        /// Of a gang: the least of its VMs'.
        var priority: Int32
        var groups: [PlacementGroupID]
        /// What the VMs of a gang ask for; of the others it is in the key.
        // hash order: looked up only
        var members: [VMID: VMSpec] = [:]
        /// Some of a gang went since its priority and groups were worked out.
        var isOutdated = false
        /// A gang is not tried again before, whatever room appears.
        var pausesUntil = Instant.origin
        /// Ascending from `first` on; what is before has gone.
        var turns: [Turn] = []
        var first = 0
        var isOpen = true
        /// Refused when the events had this number; nil when never.
        var refusedAt: Int?
        /// It was refused by the cell, or must not be tried for another reason, until then.
        var restsUntil: Instant?
        /// Why no host takes it, and when and of which version that was found out.
        var text = ""
        var explainedAt: (time: Instant, version: Int)?
        var closedSince: Instant?
        /// Nothing was found that could be stopped for it.
        var isSought = false
        /// VMs whose rows may not have the text yet, from this position on.
        var toldUpTo = 0

        init(key: Key, size: Int64) {
            self.key = key
            self.size = size
            priority = key.spec.priority
            groups = key.spec.groups
        }

        var isGang: Bool { key.gang > 0 }
        var count: Int { turns.count - first }
        var head: Turn? { first < turns.count ? turns[first] : nil }
    }

    private struct Ready: Comparable, Sendable {
        var priority: Int32
        var turn: Turn
        var size: Int64
        var kind: Int
        static func < (a: Ready, b: Ready) -> Bool {
            if a.priority != b.priority { return a.priority > b.priority }
            if a.turn.queuedAt != b.turn.queuedAt { return a.turn.queuedAt < b.turn.queuedAt }
            // VMs of one command have one time: large ones find room more easily while there is much of it, and those of a
            // kind one after the other are cheap to place.
            return a.size == b.size ? a.turn.vm < b.turn.vm : a.size > b.size
        }
    }

    private static let freedMax = 4_096
    /// Looking at more hosts than these one by one is dearer than asking for the best of all.
    private static let hostsOneByOneMax = 32

    private(set) var kinds: [Kind] = []
    private var unused: [Int] = []
    // hash order: looked up only
    private var numbers: [Key: Int] = [:]
    // hash order: looked up only
    private var places: [VMID: (kind: Int, turn: Turn)] = [:]
    private var ready = Heap<Ready>()
    private(set) var closedCount = 0
    private(set) var gangCount = 0

    /// The number of the last event.
    private(set) var event = 0
    /// Higher with every event, and with every VM that came somewhere: texts of an older one may be untrue.
    private(set) var version = 0
    /// Hosts where room may have appeared, and the events' numbers, ascending.
    private var freed: [(event: Int, host: HostID)] = []
    /// Events up to this one are no longer in `freed`.
    private var freedBase = 0
    /// The last event that may have made room anywhere.
    private var anywhereAt = 0
    // hash order: looked up only
    private var groupsAt: [PlacementGroupID: Int] = [:]
    /// Up to which event closed kinds have been looked at.
    private var reviewedAt = 0
    /// When a kind that rests may be tried again.
    private var resting = Instant(nanoseconds: .max)
    /// After changes it is looked again, now and then and for a few kinds at a time, for what could be stopped for them.
    private var seekAt = Instant.origin
    private var seekNext = 0
    /// The version from which all kinds were looked at, and that from which they are now.
    private var soughtVersion = 0
    private var seekingVersion = 0
    private static let seekInterval = Nanoseconds.seconds(10)
    private static let soughtAtOnceMax = 8
    private static let gangPauseMax = Nanoseconds.seconds(60)
    /// When the next text is due.
    var explainAt = Instant(nanoseconds: .max)

    var count: Int { places.count }
    var deadline: Instant {
        let seek = closedCount > 0 && soughtVersion != version ? seekAt : Instant(nanoseconds: .max)
        return min(resting, explainAt, seek)
    }
    func isWaiting(_ vm: VMID) -> Bool { places[vm] != nil }
    func kind(of vm: VMID) -> Int? { places[vm]?.kind }

    // MARK: VMs

    /// Queues a VM or changes its turn or kind. `spec` has its id; the size is asked for where it is the first of its kind.
    mutating func insert(
        _ spec: VMSpec, boundTo: HostID?, gang: UInt64 = 0, isLost: Bool = false, queuedAt: LogTime,
        size: @autoclosure () -> Int64
    ) {
        let turn = Turn(queuedAt: queuedAt, vm: spec.id)
        let key = Key(spec, boundTo: boundTo, gang: gang, isLost: isLost)
        if let known = places[spec.id] {
            let isSame = gang == 0 || kinds[known.kind].members[spec.id] == spec
            if known.turn == turn && kinds[known.kind].key == key && isSame { return }
            remove(spec.id)
        }
        let number = number(key, size)
        places[spec.id] = (number, turn)
        let at = position(turn, in: number)
        kinds[number].turns.insert(turn, at: at)
        kinds[number].toldUpTo = min(kinds[number].toldUpTo, at)
        if gang > 0 { join(spec, number) }
        if kinds[number].isOpen && kinds[number].head == turn { push(number) }
    }

    mutating func remove(_ vm: VMID) {
        guard let (number, turn) = places.removeValue(forKey: vm) else { return }
        let at = position(turn, in: number)
        precondition(
            at < kinds[number].turns.count && kinds[number].turns[at] == turn, "VM \(vm) is not where it waits")
        if at == kinds[number].first {
            kinds[number].first += 1
            if kinds[number].first > 64 && kinds[number].first > kinds[number].turns.count / 2 {
                let gone = kinds[number].first
                kinds[number].turns.removeFirst(gone)
                kinds[number].first = 0
                kinds[number].toldUpTo = max(0, kinds[number].toldUpTo - gone)
            }
            if kinds[number].isOpen { push(number) }
        } else {
            kinds[number].turns.remove(at: at)
            if kinds[number].toldUpTo > at { kinds[number].toldUpTo -= 1 }
        }
        if kinds[number].isGang {
            kinds[number].members[vm] = nil
            kinds[number].isOutdated = true
            // What is left of it may fit.
            if !kinds[number].isOpen && kinds[number].count > 0 { open(number) }
        }
        if kinds[number].count == 0 { drop(number) }
    }

    // MARK: Gangs

    private mutating func join(_ spec: VMSpec, _ number: Int) {
        let isFirst = kinds[number].members.isEmpty
        kinds[number].members[spec.id] = spec
        kinds[number].priority = isFirst ? spec.priority : min(kinds[number].priority, spec.priority)
        for group in spec.groups where !kinds[number].groups.contains(group) { kinds[number].groups.append(group) }
        if !kinds[number].isOpen { open(number) }
    }

    /// What the VMs of a gang ask for, in their order; nil where its turn is another one, since some of it went.
    mutating func gang(_ number: Int) -> [VMSpec]? {
        let specs = members(number)
        if !kinds[number].isOutdated { return specs }
        kinds[number].isOutdated = false
        kinds[number].groups = []
        for spec in specs {
            for group in spec.groups where !kinds[number].groups.contains(group) {
                kinds[number].groups.append(group)
            }
        }
        let priority = specs.map(\.priority).min() ?? 0
        if priority == kinds[number].priority { return specs }
        kinds[number].priority = priority
        _ = ready.popFirst()
        push(number)
        return nil
    }

    /// What the VMs of a gang ask for, in their order.
    func members(_ number: Int) -> [VMSpec] {
        let kind = kinds[number]
        return kind.turns[kind.first...].compactMap { kind.members[$0.vm] }
    }

    /// Whether some of a gang wait.
    func waits(gang: UInt64) -> Bool {
        numbers[Key(VMSpec(id: VMID(rawValue: 0), resources: .zero), boundTo: nil, gang: gang)] != nil
    }

    /// How many VMs are before this one.
    func before(_ vm: VMID) -> Int {
        guard let (number, turn) = places[vm] else { return 0 }
        let own = Ready(priority: kinds[number].priority, turn: turn, size: kinds[number].size, kind: number)
        var sum = 0
        for (other, kind) in kinds.enumerated() where kind.count > 0 {
            if kind.priority > own.priority {
                sum += kind.count
            } else if kind.priority == own.priority {
                sum += kind.turns[kind.first...].count {
                    Ready(priority: own.priority, turn: $0, size: kind.size, kind: other) < own
                }
            }
        }
        return sum
    }

    /// Those of a priority that arrived at one time and are tied to no host, largest kind first; nil where they are more than
    /// `most`. O(kinds).
    func together(_ priority: Int32, _ queuedAt: LogTime, most: Int) -> [VMID]? {
        var found: [Ready] = []
        for (number, kind) in kinds.enumerated()
        where kind.count > 0 && kind.priority == priority && kind.key.boundTo == nil && kind.restsUntil == nil
            && !kind.isGang
        {
            var at = position(Turn(queuedAt: queuedAt, vm: VMID(rawValue: 0)), in: number)
            while at < kind.turns.count, kind.turns[at].queuedAt == queuedAt {
                if found.count == most { return nil }
                found.append(Ready(priority: priority, turn: kind.turns[at], size: kind.size, kind: number))
                at += 1
            }
        }
        return found.sorted().map(\.turn.vm)
    }

    /// The first of all that wait.
    func inOrder(most: Int) -> [VMID] {
        var heads = Heap<Ready>()
        // hash order: looked up only
        var next: [Int: Int] = [:]
        func ready(_ number: Int, _ at: Int) -> Ready? {
            let kind = kinds[number]
            if at >= kind.turns.count { return nil }
            return Ready(priority: kind.priority, turn: kind.turns[at], size: kind.size, kind: number)
        }
        for (number, kind) in kinds.enumerated() where kind.count > 0 {
            next[number] = kind.first + 1
            if let head = ready(number, kind.first) { heads.insert(head) }
        }
        var found: [VMID] = []
        while found.count < most, let head = heads.popFirst() {
            found.append(head.turn.vm)
            if let at = next[head.kind], let other = ready(head.kind, at) {
                next[head.kind] = at + 1
                heads.insert(other)
            }
        }
        return found
    }

    private mutating func number(_ key: Key, _ size: () -> Int64) -> Int {
        if let number = numbers[key] { return number }
        let number: Int
        if let reused = unused.popLast() {
            number = reused
            kinds[number] = Kind(key: key, size: size())
        } else {
            number = kinds.count
            kinds.append(Kind(key: key, size: size()))
        }
        numbers[key] = number
        if key.gang > 0 { gangCount += 1 }
        return number
    }

    private mutating func drop(_ number: Int) {
        if !kinds[number].isOpen { closedCount -= 1 }
        numbers[kinds[number].key] = nil
        if kinds[number].isGang { gangCount -= 1 }
        kinds[number].turns = []
        kinds[number].first = 0
        kinds[number].isOpen = true
        unused.append(number)
    }

    private func position(_ turn: Turn, in number: Int) -> Int {
        var low = kinds[number].first
        var high = kinds[number].turns.count
        while low < high {
            let middle = (low + high) / 2
            if kinds[number].turns[middle] < turn { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private mutating func push(_ number: Int) {
        guard let head = kinds[number].head else { return }
        let kind = kinds[number]
        ready.insert(Ready(priority: kind.priority, turn: head, size: kind.size, kind: number))
    }

    // MARK: Turns

    /// The VM whose turn it is, and its kind; it stays queued. Nil when all open kinds have been tried.
    mutating func next(_ now: Instant) -> (vm: VMID, kind: Int)? {
        while let entry = ready.first {
            guard kinds[entry.kind].isOpen, kinds[entry.kind].head == entry.turn else {
                _ = ready.popFirst()
                continue
            }
            if let rests = kinds[entry.kind].restsUntil {
                if now < rests {
                    // It is pushed again when its time comes.
                    close(entry.kind, now)
                    _ = ready.popFirst()
                    continue
                }
                kinds[entry.kind].restsUntil = nil
            }
            return (entry.turn.vm, entry.kind)
        }
        return nil
    }

    /// The hosts to look at for a kind; nil for all.
    func hosts(for number: Int) -> [HostID]? {
        if let bound = kinds[number].key.boundTo { return [bound] }
        guard let refusedAt = kinds[number].refusedAt, refusedAt >= freedBase, anywhereAt <= refusedAt,
            !kinds[number].spec.groups.contains(where: { groupsAt[$0, default: 0] > refusedAt })
        else { return nil }
        var hosts: [HostID] = []
        for entry in freed.reversed() {
            if entry.event <= refusedAt { break }
            if hosts.contains(entry.host) { continue }
            if hosts.count == WaitingQueue.hostsOneByOneMax { return nil }
            hosts.append(entry.host)
        }
        return hosts
    }

    /// Whether what no host took at `event` may be taken by one now.
    func mayFit(_ groups: [PlacementGroupID], since event: Int) -> Bool {
        anywhereAt > event || (freed.last?.event ?? freedBase) > event
            || groups.contains { groupsAt[$0, default: 0] > event }
    }

    mutating func refused(_ number: Int, _ now: Instant) {
        kinds[number].refusedAt = event
        if kinds[number].isGang {
            // Trying it costs as much as trying each of its VMs: however many gangs wait, that is a small part of the time.
            let pause = Nanoseconds.milliseconds(Int64(kinds[number].count)) * Int64(gangCount)
            kinds[number].pausesUntil = now + min(pause, WaitingQueue.gangPauseMax)
        }
        close(number, now)
    }

    /// Its VMs are not tried before `until`.
    mutating func rest(_ number: Int, until: Instant) {
        kinds[number].restsUntil = until
    }

    /// The cell refused what was planned for a VM, so many times in a row: the next try comes after a time that doubles.
    mutating func lostRace(_ vm: VMID, times: Int, _ now: Instant) {
        guard let number = places[vm]?.kind else { return }
        rest(number, until: now + Nanoseconds.milliseconds(20) * Int64(1 << min(times, 9)))
    }

    private mutating func close(_ number: Int, _ now: Instant) {
        if !kinds[number].isOpen { return }
        kinds[number].isOpen = false
        closedCount += 1
        if kinds[number].closedSince == nil { kinds[number].closedSince = now }
        if let rests = kinds[number].restsUntil { resting = min(resting, rests) }
    }

    mutating func sought(_ number: Int) { kinds[number].isSought = true }

    /// A VM of it found a place.
    mutating func found(_ number: Int) { kinds[number].closedSince = nil }

    /// Opens the closed kinds for which room may have appeared. O(kinds) when there were events, else nothing.
    mutating func review(_ now: Instant, victimsFrom lowest: Int32?) {
        if soughtVersion != version && now >= seekAt { seek(now, lowest) }
        if reviewedAt == event && now < resting { return }
        reviewedAt = event
        resting = Instant(nanoseconds: .max)
        if closedCount > 0 {
            for number in kinds.indices where !kinds[number].isOpen {
                if let rests = kinds[number].restsUntil, now < rests {
                    resting = min(resting, rests)
                    continue
                }
                let wasResting = kinds[number].restsUntil != nil
                kinds[number].restsUntil = nil
                if let refusedAt = kinds[number].refusedAt, !wasResting,
                    !mayFit(kinds[number].groups, since: refusedAt)
                {
                    continue
                }
                if now < kinds[number].pausesUntil {
                    resting = min(resting, kinds[number].pausesUntil)
                    continue
                }
                open(number)
            }
        }
        if freed.count > WaitingQueue.freedMax {
            let cut = freed.count / 2
            freedBase = freed[cut - 1].event
            freed.removeFirst(cut)
        }
    }

    private mutating func open(_ number: Int) {
        kinds[number].isOpen = true
        closedCount -= 1
        push(number)
    }

    private mutating func seek(_ now: Instant, _ lowest: Int32?) {
        seekAt = now + WaitingQueue.seekInterval
        if seekNext == 0 { seekingVersion = version }
        var opened = 0
        while seekNext < kinds.count, opened < WaitingQueue.soughtAtOnceMax {
            let number = seekNext
            seekNext += 1
            let kind = kinds[number]
            if kind.isOpen || (kind.isGang && kind.count > CellKeeper.nominationsMax) { continue }
            // hash order: the greatest of all
            let highest = kind.isGang ? kind.members.values.map(\.priority).max() ?? .min : kind.priority
            guard let lowest, lowest < highest else { continue }
            kinds[number].isSought = false
            opened += 1
            open(number)
        }
        if seekNext < kinds.count { return }
        seekNext = 0
        soughtVersion = seekingVersion
    }

    // MARK: Events

    mutating func roomAppeared(on host: HostID) {
        event += 1
        version += 1
        freed.append((event, host))
    }

    mutating func roomAppearedAnywhere() {
        event += 1
        version += 1
        anywhereAt = event
    }

    mutating func groupTouched(_ id: PlacementGroupID) {
        event += 1
        version += 1
        groupsAt[id] = event
    }

    mutating func roomTaken() { version += 1 }

    mutating func forget(_ id: PlacementGroupID) { groupsAt[id] = nil }

    mutating func explained(_ number: Int, _ text: String, _ now: Instant) {
        if kinds[number].text != text {
            kinds[number].text = text
            kinds[number].toldUpTo = 0
        }
        kinds[number].explainedAt = (now, version)
    }

    mutating func told(_ number: Int, upTo position: Int) { kinds[number].toldUpTo = position }
}
