package import ClusterBase
package import FleetModel
package import NodePorts

/// A driver without guests: boots, stops and migrations take their time, memory fills, VMs crash on request. For trying
/// Muster out, and for the Simulator. What it runs ends with its process, unless its settings say otherwise.
///
///     start ─▶ booting ─▶ running ◀─▶ paused            receive ─▶ arriving ─(finishArrival)─▶ running
///                │          │  ▲
///                │          │  └──(cancelSend, copying failed)──┐
///                │          └─(send)─▶ copying ─▶ copied ───────┘
///                └──────────┴──(stop, crash)──▶ gone
///
/// Annotations of a VM that it heeds:
///
/// | annotation | meaning | without it |
/// | --- | --- | --- |
/// | `sim.boot-ms` | from start to running | 300 ms and 1 ms per 8 MiB, at most 5 s |
/// | `sim.stop-ms` | what its guest takes to end when asked | 200 ms |
/// | `sim.crash-after-ms` | it crashes after running so long | never |
/// | `sim.crash` | a guest that runs crashes once whenever this is set to another value | never |
/// | `sim.expects` | `KEY:CRC`: its guest was told this, by the CRC-32C of the annotation's bytes, or does not start | nothing |
/// | `sim.start-fails` | it can't start, and this is why | it can |
/// | `sim.dirty-mibps` | memory that its guest changes per second | a 64th of its memory |
/// | `sim.migration-fails` | copying fails half way, and this is why | it does not |
package final class SimulatedHypervisor: Hypervisor {
    package struct Settings: Hashable, Sendable {
        /// What one migration gets of the network.
        package var bandwidthMiBps: Int64 = 1_024
        /// The pause that is accepted for the last copying.
        package var pauseMax = Nanoseconds.milliseconds(50)
        package var progressInterval = Nanoseconds.milliseconds(200)
        /// A source that finds nobody at the other end gives up after this long.
        package var linkPatience = Nanoseconds.seconds(2)
        /// The Simulator's: a gentle move is given up after so long; without it, as its intent says.
        package var gentleMax: Nanoseconds?
        /// The Simulator's: guests go on when their agent ends, and the next one finds them.
        package var outlivesAgent = false
        package init() {}
    }

    /// Rounds of copying before the guest is paused, whatever it still changes.
    package static let roundsMax = 30

    package let name = "simulated"
    package var outlivesAgent: Bool { settings.outlivesAgent }
    private let settings: Settings
    /// Whether the other end of a migration is there and receives the VM under the target's epoch; without it, it always is.
    var link: ((_ vm: VMID, _ target: UInt64, _ to: HostID) -> Bool)?

    enum State: Hashable {
        case booting(until: Instant)
        case running
        case paused
        case stopping(until: Instant)
        case arriving
        case copying(Copying)
        case copied
    }
    struct Copying: Hashable {
        var begin: Instant
        var end: Instant
        var tick: Instant
        var target: UInt64
        var to: HostID
        /// It comes to no end: at `end` it is given up for this reason.
        var problem: String?
    }
    struct Guest {
        var vm: CellVM
        var epoch: UInt64
        var state: State
        var generation: UInt64
        var startsPaused = false
        /// Before it was copied.
        var wasPaused = false
        var runningSince: Instant?
        var crashAt: Instant?
        var stamp: UInt64 = 0
    }
    private struct Due: Comparable {
        var at: Instant
        var vm: VMID
        var stamp: UInt64
        static func < (a: Due, b: Due) -> Bool { (a.at, a.vm, a.stamp) < (b.at, b.vm, b.stamp) }
    }

    // hash order: looked up, or read by sorted keys
    var guests: [VMID: Guest] = [:]
    private var due = Heap<Due>()
    private var stampLast: UInt64 = 0
    var news: [HypervisorNews] = []

    package init(_ settings: Settings = Settings()) { self.settings = settings }

    package var deadline: Instant? { news.isEmpty ? due.first?.at : .origin }

    /// What has memory here and may run, for checkers, ascending. A copy that waits for its commit does not run.
    package var running: [RunningVM] {
        guests.keys.sorted().compactMap { vm in
            guard let guest = guests[vm] else { return nil }
            switch guest.state {
            case .booting, .running, .paused, .stopping, .copying: return RunningVM(vm, epoch: guest.epoch)
            case .arriving, .copied: return nil
            }
        }
    }

    package func takeNews(now: Instant) -> [HypervisorNews] {
        advance(to: now)
        defer { news = [] }
        return news
    }

    package func statistics(of vm: VMID, now: Instant) -> VMStatistics? {
        guard let guest = guests[vm] else { return nil }
        let cpu = guest.vm.spec.resources.cpuMillis
        let isActive: Bool
        switch guest.state {
        case .running, .copying: isActive = true
        default: isActive = false
        }
        let uptime = guest.runningSince.map { now - $0 } ?? .zero
        return VMStatistics(memoryMiB: memory(of: guest, now), cpuMillis: isActive ? cpu / 5 : 0, uptime: uptime)
    }

    /// A seventh at the start, and nearly all after some minutes.
    private func memory(of guest: Guest, _ now: Instant) -> Int64 {
        let all = guest.vm.spec.resources.memoryMiB
        guard let since = guest.runningSince else { return all / 7 }
        let seconds = max(0, (now - since).count / 1_000_000_000)
        return all / 7 + (all - all / 7) * seconds / (seconds + 60)
    }

    // MARK: Orders

    package func carryOut(_ orders: [HypervisorOrder], now: Instant) {
        advance(to: now)
        for order in orders { carryOut(order, now) }
    }

    private func carryOut(_ order: HypervisorOrder, _ now: Instant) {
        switch order {
        case .start(let vm, let epoch, let isPaused):
            guard admits(vm, epoch) else { return }
            if let why = vm.spec.annotation("sim.start-fails") {
                return say(vm.id, epoch, .crashed, message: "can't start: \(why)")
            }
            if let problem = vm.spec.missing { return say(vm.id, epoch, .crashed, message: problem) }
            var guest = Guest(
                vm: vm, epoch: epoch, state: .booting(until: now + bootTime(vm)), generation: vm.generation)
            guest.startsPaused = isPaused
            guests[vm.id] = guest
            say(vm.id, epoch, .starting)
        case .receive(let vm, let epoch, _):
            guard admits(vm, epoch) else { return }
            guests[vm.id] = Guest(vm: vm, epoch: epoch, state: .arriving, generation: vm.generation)
            say(vm.id, epoch, .starting)
        case .stop(let vm, let epoch, let grace): stop(vm, epoch, grace, now)
        case .pause(let vm, let epoch):
            change(vm, epoch) { guest in if guest.state == .running { guest.state = .paused } }
            sayState(vm, epoch)
        case .resume(let vm, let epoch):
            change(vm, epoch) { guest in if guest.state == .paused { resume(&guest, now) } }
            sayState(vm, epoch)
        case .update(let vm, let epoch):
            // A machine of another size needs a restart.
            change(vm.id, epoch) { guest in
                guard guest.vm.spec.resources == vm.spec.resources else { return }
                let wish = vm.spec.annotation("sim.crash")
                if let wish, wish != guest.vm.spec.annotation("sim.crash") { guest.crashAt = now }
                (guest.vm, guest.generation) = (vm, vm.generation)
            }
            sayState(vm.id, epoch)
        case .send(let vm, let epoch, let target, let to, let intent):
            change(vm, epoch) { guest in beginCopying(&guest, target, to, intent, now) }
            sayState(vm, epoch)
        case .finishArrival(let vm, let epoch):
            change(vm, epoch) { guest in
                guard guest.state == .arriving else { return }
                guest.runningSince = now
                guest.crashAt = crashTime(guest.vm, now)
                guest.state = .running
            }
            sayState(vm, epoch)
        case .cancelSend(let vm, let epoch):
            change(vm, epoch) { guest in goOn(&guest, now) }
            sayState(vm, epoch)
        case .discard(let vm, let epoch, _):
            if let guest = guests[vm], guest.epoch > epoch { return }
            guests[vm] = nil
            say(vm, epoch, .stopped)
        }
        schedule(order.vm)
    }

    /// False for what it has already; its state is said again then.
    private func admits(_ vm: CellVM, _ epoch: UInt64) -> Bool {
        guard let guest = guests[vm.id] else { return true }
        precondition(
            guest.epoch == epoch, "VM \(vm.id) runs under epoch \(guest.epoch), and was to start under \(epoch)")
        sayState(vm.id, epoch)
        return false
    }

    private func change(_ vm: VMID, _ epoch: UInt64, _ body: (inout Guest) -> Void) {
        guard var guest = guests[vm], guest.epoch == epoch else { return }
        body(&guest)
        guests[vm] = guest
    }

    private func stop(_ vm: VMID, _ epoch: UInt64, _ grace: Nanoseconds, _ now: Instant) {
        guard let guest = guests[vm] else { return say(vm, epoch, .stopped) }
        guard guest.epoch == epoch else { return }
        var until = now
        switch guest.state {
        case .booting(let booted): until = max(now, booted) + stopTime(guest.vm)
        case .running, .copying: until = now + stopTime(guest.vm)
        case .stopping(let before): until = before
        case .paused, .arriving, .copied: break
        }
        until = min(until, now + grace)
        guard until > now else {
            guests[vm] = nil
            return say(vm, epoch, .stopped)
        }
        guests[vm]?.state = .stopping(until: until)
    }

    private func resume(_ guest: inout Guest, _ now: Instant) {
        guest.state = .running
        if let crashAt = guest.crashAt { guest.crashAt = max(crashAt, now) }
    }

    func goOn(_ guest: inout Guest, _ now: Instant) {
        switch guest.state {
        case .copying, .copied: if guest.wasPaused { guest.state = .paused } else { resume(&guest, now) }
        case .booting, .running, .paused, .stopping, .arriving: break
        }
    }

    /// Its disks on its host first, once. Then pre-copy in rounds: each sends what the guest changed during the one before. A guest
    /// that changes more than the network takes is slowed down from the third round on, or from the first one, or never and given
    /// up, as it is to be moved.
    private func beginCopying(
        _ guest: inout Guest, _ target: UInt64, _ to: HostID, _ intent: MoveIntent, _ now: Instant
    ) {
        guard guest.state == .running || guest.state == .paused else { return }
        guest.wasPaused = guest.state == .paused
        let all = memory(of: guest, now)
        var dirty = guest.wasPaused ? 0 : dirtyRate(guest.vm)
        var left = max(1, all) << 10
        let bandwidth = max(1, intent.bandwidth(of: max(1, settings.bandwidthMiBps) << 20) >> 20)
        let pauseMax = max(settings.pauseMax, intent == .now ? intent.stopPlanned : .zero)
        var microseconds = guest.vm.spec.diskMiBOnHost * 1_000_000 / bandwidth
        var isDone = false
        for round in 1...SimulatedHypervisor.roundsMax {
            let time = left * 1_000_000 / 1_024 / bandwidth
            microseconds += time
            left = min(all << 10, dirty * time / 1_000 * 1_024 / 1_000)
            isDone = Nanoseconds.microseconds(left * 1_000_000 / 1_024 / bandwidth) <= pauseMax
            if isDone { break }
            switch intent.slowdown {
            case .never: break
            case .later: if round >= 3 { dirty -= dirty * 3 / 10 }
            case .atOnce: dirty -= dirty * 4 / 10
            }
        }
        microseconds += left * 1_000_000 / 1_024 / bandwidth
        var copying = Copying(
            begin: now, end: now + .microseconds(max(1, microseconds)), tick: now + settings.progressInterval,
            target: target, to: to)
        if let most = intent.copyingMax(memoryMiB: all, bytesPerSecond: max(1, settings.bandwidthMiBps) << 20) {
            let until = now + (settings.gentleMax ?? most)
            if !isDone || copying.end > until {
                copying.end = min(copying.end, until)
                copying.problem =
                    "it writes \(dirty) MiB/s, and a gentle move gets \(bandwidth) MiB/s; move it with the intent balanced or now"
            }
        }
        guest.state = .copying(copying)
    }

    package func probe(_ vm: VMID, now: Instant, _ done: @escaping (MoveProbe?) -> Void) {
        advance(to: now)
        guard let guest = guests[vm] else { return done(nil) }
        let isRunning: Bool
        switch guest.state {
        case .running, .copying: isRunning = true
        case .paused, .copied: isRunning = false
        case .booting, .stopping, .arriving: return done(nil)
        }
        done(
            MoveProbe(
                memoryMiB: memory(of: guest, now), dirtyMiBps: isRunning ? dirtyRate(guest.vm) : 0, copiesOnce: false,
                bytesPerSecond: max(1, settings.bandwidthMiBps) << 20))
    }

    // MARK: Time

    func schedule(_ vm: VMID) {
        guard let guest = guests[vm] else { return }
        var at: Instant?
        func consider(_ moment: Instant?) { if let moment { at = at.map { min($0, moment) } ?? moment } }
        switch guest.state {
        case .booting(let until), .stopping(let until): consider(until)
        case .running: consider(guest.crashAt)
        case .copying(let copying):
            consider(min(copying.tick, copying.end))
            consider(guest.crashAt)
        case .paused, .arriving, .copied: break
        }
        guard let at else { return }
        stampLast += 1
        guests[vm]?.stamp = stampLast
        due.insert(Due(at: at, vm: vm, stamp: stampLast))
    }

    func advance(to now: Instant) {
        while let next = due.first, next.at <= now {
            _ = due.popFirst()
            guard let guest = guests[next.vm], guest.stamp == next.stamp else { continue }
            happen(next.vm, guest, next.at)
            schedule(next.vm)
        }
    }

    private func happen(_ vm: VMID, _ guest: Guest, _ now: Instant) {
        var guest = guest
        switch guest.state {
        case .booting:
            guest.state = guest.startsPaused ? .paused : .running
            guest.runningSince = now
            guest.crashAt = crashTime(guest.vm, now)
        case .stopping:
            guests[vm] = nil
            return say(vm, guest.epoch, .stopped)
        case .running: return crash(vm, guest)
        case .copying(var copying):
            if let crashAt = guest.crashAt, crashAt <= now { return crash(vm, guest) }
            let isLinked = link?(vm, copying.target, copying.to) ?? true
            var why = guest.vm.spec.annotation("sim.migration-fails")
            if why != nil, now - copying.begin < (copying.end - copying.begin) / 2 { why = nil }
            if !isLinked, now - copying.begin >= settings.linkPatience { why = "nobody receives it" }
            if now >= copying.end, let problem = copying.problem { why = problem }
            if let why {
                goOn(&guest, now)
                guests[vm] = guest
                say(vm, guest.epoch, .copyFailed, message: "copying failed: \(why)")
            } else if now >= copying.end, isLinked {
                guest.state = .copied
            } else {
                copying.tick = now + settings.progressInterval
                // All is sent, and the other end does not say that it has it.
                if now >= copying.end { copying.end = copying.tick }
                guest.state = .copying(copying)
                guests[vm] = guest
                let millis = (now - copying.begin).count * 1_000 / max(1, (copying.end - copying.begin).count)
                return say(vm, guest.epoch, .copying, progressMillis: UInt32(clamping: min(999, millis)))
            }
        case .paused, .arriving, .copied: return
        }
        guests[vm] = guest
        sayState(vm, guest.epoch)
    }

    private func crash(_ vm: VMID, _ guest: Guest) {
        guests[vm] = nil
        let asked = guest.vm.spec.annotation("sim.crash-after-ms") == nil ? "sim.crash" : "sim.crash-after-ms"
        say(vm, guest.epoch, .crashed, message: "crashed, as \(asked) asks for")
    }

    // MARK: News

    func say(
        _ vm: VMID, _ epoch: UInt64, _ state: VMReport.State, generation: UInt64 = 0, progressMillis: UInt32 = 0,
        message: String = ""
    ) {
        let report = VMReport(
            vm, epoch: epoch, state, generation: generation, progressMillis: progressMillis, message: message)
        news.append(.state(report))
    }

    private func sayState(_ vm: VMID, _ epoch: UInt64) {
        guard let guest = guests[vm], guest.epoch == epoch else { return }
        switch guest.state {
        case .booting, .arriving: say(vm, epoch, .starting, generation: guest.generation)
        case .running: say(vm, epoch, .running, generation: guest.generation)
        case .paused: say(vm, epoch, .paused, generation: guest.generation)
        case .copying: say(vm, epoch, .copying, generation: guest.generation)
        case .copied: say(vm, epoch, .copied, generation: guest.generation, progressMillis: 1_000)
        case .stopping: break
        }
    }

    // MARK: What annotations say

    private func bootTime(_ vm: CellVM) -> Nanoseconds {
        let standard = min(5_000, 300 + vm.spec.resources.memoryMiB / 8)
        return .milliseconds(vm.spec.number("sim.boot-ms") ?? standard)
    }
    private func stopTime(_ vm: CellVM) -> Nanoseconds { .milliseconds(vm.spec.number("sim.stop-ms") ?? 200) }
    private func crashTime(_ vm: CellVM, _ now: Instant) -> Instant? {
        vm.spec.number("sim.crash-after-ms").map { now + .milliseconds($0) }
    }
    private func dirtyRate(_ vm: CellVM) -> Int64 {
        vm.spec.number("sim.dirty-mibps") ?? vm.spec.resources.memoryMiB / 64
    }
}

extension VMDescription {
    /// An annotation's value.
    /// What the guest wants to be told, and was not: `sim.expects` is `KEY:CRC`, the CRC-32C of the annotation's bytes, in hex.
    fileprivate var missing: String? {
        guard let wish = annotation("sim.expects"), let colon = wish.lastIndex(of: ":") else { return nil }
        let key = wish[..<colon]
        guard let value = annotation(String(key)) else { return "the guest was not told \(key)" }
        var crc = CRC32C()
        crc.add(Array(value.utf8))
        let isMeant = String(crc.value, radix: 16) == wish[wish.index(after: colon)...]
        return isMeant ? nil : "the guest was told another \(key)"
    }
    fileprivate func annotation(_ key: String) -> String? { annotations.first { $0.key == key }?.value }
    /// A number up to an hour of milliseconds; others are as if absent.
    fileprivate func number(_ key: String) -> Int64? {
        guard let text = annotation(key), let number = Int64(text), (0...3_600_000).contains(number) else { return nil }
        return number
    }
}
