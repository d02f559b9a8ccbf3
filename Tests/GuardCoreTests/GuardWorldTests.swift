import ClusterBase
import FleetModel
import GuardCore
import Testing

/// A host, a cell that grants or is silent, a guard that stalls and is killed, and a kernel. Knows nothing of the rules but
/// what they promise.
struct GuardWorld {
    enum Fault: CaseIterable {
        case none
        /// The lease counts from when the answer came.
        case countsFromReceipt
        /// A stopped guard's guests run on.
        case noKernelTimer
        /// A new guard has forgotten which epochs ran.
        case forgetsEpochs
        /// The timer is armed for later than it should be.
        case armsLate
    }

    struct Process {
        var epoch: UInt64
        var isolation: VMDescription.Isolation
        var endsAt: Int64?
    }

    let fault: Fault
    var random: PRNG
    var now: Int64 = 0
    var rules = GuardRules()
    var processes: [UInt64: Process] = [:]
    var timer: Int64?
    var stalledUntil: Int64 = 0
    var silentUntil: Int64 = 0
    var flying: [(arrivesAt: Int64, sentAt: Int64, length: Int64, index: UInt64, set: [UInt64: UInt64])] = []
    var queued: [GuardRules.Input] = []
    var index: UInt64 = 0
    /// What the cell lets the host run.
    var set: [UInt64: UInt64] = [:]
    var everStarted: Set<[UInt64]> = []
    var highest: [UInt64: UInt64] = [:]
    /// The latest end of all that was ever promised, by when requests were sent.
    var promisedUntil: Int64 = 0
    var ticket: UInt64 = 0
    var starts = 0
    var kernelKills = 0
    var violation: String?

    init(seed: UInt64, fault: Fault) {
        self.fault = fault
        random = PRNG(seed: seed)
    }

    func isolation(_ vm: UInt64) -> VMDescription.Isolation { vm % 4 == 0 ? .keep : .stop }

    mutating func run() {
        while now < 60_000, violation == nil { turn() }
    }

    mutating func turn() {
        now += Int64(random.below(40))
        if random.chance(1, in: 200) { stalledUntil = now + Int64(random.below(6_000)) }
        if random.chance(1, in: 300) { silentUntil = now + Int64(random.below(8_000)) }
        if random.chance(1, in: 400) { newGuard() }
        if random.chance(1, in: 20) { changeSet() }
        if random.chance(1, in: 10), now >= silentUntil {
            let length: Int64 = random.chance(1, in: 4) ? 1_500 : 3_000
            promisedUntil = max(promisedUntil, now + length)
            index += 1
            flying.append((now + Int64(random.below(1_500)), now, length, index, set))
        }
        let (arrived, left) = (flying.filter { $0.arrivesAt <= now }, flying.filter { $0.arrivesAt > now })
        flying = left
        for grant in arrived {
            let permits = grant.set.map { RunPermit(VMID($0.key), epoch: $0.value, isolation: isolation($0.key)) }
                .sorted()
            let sentAt = fault == .countsFromReceipt ? now : grant.sentAt
            queued.append(
                .granted(
                    LeaseGrant(
                        sentAt: Bench.at(sentAt), length: .milliseconds(grant.length),
                        generation: LogIndex(grant.index), permits: permits)))
        }
        if random.chance(1, in: 5) {
            ticket += 1
            let vm = UInt64(random.below(6)) + 1
            let epoch = (set[vm] ?? 1) - (random.chance(1, in: 10) ? 1 : 0)
            queued.append(.startAsked(VMID(vm), epoch: epoch, ticket: ticket))
        }
        if let timer, now >= timer, fault != .noKernelTimer {
            kernelKills += 1
            newGuard()
        }
        for vm in processes.keys.sorted() {
            guard let process = processes[vm], let end = process.endsAt, end <= now else { continue }
            processes[vm] = nil
            queued.append(.reaped(VMID(vm), epoch: process.epoch))
        }
        check()
        if now < stalledUntil { return }
        let inputs = queued
        queued = []
        for effect in rules.step(inputs, now: Bench.at(now)) { carryOut(effect) }
        check()
    }

    mutating func changeSet() {
        let vm = UInt64(random.below(6)) + 1
        if random.chance(1, in: 3) { set[vm] = nil } else { set[vm] = (highest[vm] ?? 0) + UInt64(random.below(2)) + 1 }
    }

    /// The guard's process is gone, and what it had with it.
    mutating func newGuard() {
        for vm in processes.keys { processes[vm] = nil }
        rules = GuardRules(highest: fault == .forgetsEpochs ? [:] : rules.highest)
        timer = nil
        queued = []
        stalledUntil = now
    }

    mutating func carryOut(_ effect: GuardRules.Effect) {
        switch effect {
        case .arm(let at): timer = at.map { $0.nanoseconds / 1_000_000 + (fault == .armsLate ? 600 : 0) }
        case .start(let vm, let epoch, _):
            let id = vm.rawValue
            if processes[id] != nil { violation = "a second copy of VM \(id) at \(now)" }
            if everStarted.insert([id, epoch]).inserted == false { violation = "epoch \(epoch) of VM \(id) twice" }
            if epoch <= highest[id] ?? 0 { violation = "epoch \(epoch) of VM \(id) after \(highest[id] ?? 0)" }
            if isolation(id) == .stop, timer == nil { violation = "VM \(id) starts without a timer" }
            highest[id] = max(highest[id] ?? 0, epoch)
            processes[id] = Process(epoch: epoch, isolation: isolation(id))
            starts += 1
            queued.append(.started(vm, epoch: epoch))
        case .kill(let vm, let epoch, _):
            guard processes[vm.rawValue]?.epoch == epoch else { return }
            // A big guest takes its time.
            processes[vm.rawValue]?.endsAt = now + Int64(random.below(300))
        case .refuse, .confirm, .renew: break
        }
    }

    /// Whoever was promised nothing more runs nothing that may run elsewhere.
    mutating func check() {
        guard violation == nil, now >= promisedUntil else { return }
        for vm in processes.keys.sorted() where processes[vm]?.isolation == .stop {
            violation = "VM \(vm) runs at \(now), and the last promise ended at \(promisedUntil)"
        }
    }
}

@Suite struct GuardWorldTests {
    @Test func `no guest that may start elsewhere outlives the last lease, whatever stalls, dies or is late`() {
        var (starts, kernelKills) = (0, 0)
        for seed in 1...60 as ClosedRange<UInt64> {
            var world = GuardWorld(seed: seed, fault: .none)
            world.run()
            #expect(world.violation == nil, "seed \(seed): \(world.violation ?? "")")
            starts += world.starts
            kernelKills += world.kernelKills
        }
        // The world is one in which something happens.
        #expect(starts > 600, "\(starts)")
        #expect(kernelKills > 20, "\(kernelKills)")
    }

    @Test(arguments: GuardWorld.Fault.allCases.filter { $0 != .none })
    func `a guard with a fault is found out`(fault: GuardWorld.Fault) {
        let found = (1...300 as ClosedRange<UInt64>).first { seed in
            var world = GuardWorld(seed: seed, fault: fault)
            world.run()
            return world.violation != nil
        }
        #expect(found != nil, "\(fault)")
    }
}
