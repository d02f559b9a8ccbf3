import ClusterBase
import FleetModel
import Testing

/// Whom a lowered quota stops, where somebody asks for that.
@Suite struct QuotaExcessTests {
    private func vm(
        _ id: UInt64, cpu: Int64 = 1_000, memory: Int64 = 100, priority: Int32 = 0, at: UInt64 = 0,
        _ change: (inout CellVM) -> Void = { _ in }
    ) -> CellVM {
        var spec = VMDescription(resources: Resources(cpuMillis: cpu, memoryMiB: memory))
        spec.priority = priority
        var vm = CellVM(
            id: VMID(id), name: "v\(id)", tenant: "t", spec: spec, at: LogTime(at == 0 ? id : at), by: "me")
        vm.place = VMPlace(Assignment(host: HostID(1)), epoch: 1)
        change(&vm)
        return vm
    }

    private func stops(_ vms: [CellVM], _ quota: Quota) -> [String] {
        QuotaExcess.stops(vms.compactMap(QuotaExcess.Runner.init), for: quota).map(\.name)
    }

    @Test func `the least important stop first, and of those the newest`() {
        let vms = [vm(1), vm(2, priority: 5), vm(3), vm(4, at: 1), vm(5, priority: -1)]
        #expect(stops(vms, Quota(vmCount: 5)) == [])
        #expect(stops(vms, .unlimited) == [])
        #expect(stops(vms, Quota(vmCount: 4)) == ["v5"])
        #expect(stops(vms, Quota(vmCount: 2)) == ["v5", "v3", "v4"])
        #expect(stops(vms, Quota(cpuMillis: 1_000)) == ["v5", "v3", "v4", "v1"])
        #expect(stops(vms, Quota(memoryMiB: 0)) == ["v5", "v3", "v4", "v1", "v2"])
    }

    @Test func `what is stopped, goes or is another cell's is not among them, and what is paused is`() {
        let vms = [
            vm(1), vm(2) { $0.power = .stopped }, vm(3) { $0.isDeleting = true }, vm(4) { $0.power = .paused },
            vm(5) { $0.departure = .init(number: 1, to: 2, isLeaving: true) }, vm(6) { $0.place = nil },
        ]
        #expect(stops(vms, Quota(vmCount: 3)) == [])
        #expect(stops(vms, Quota(vmCount: 0)) == ["v6", "v4", "v1"])
    }

    @Test
    func `nobody stops for what stopping does not give back, nor who does not matter once larger ones have stopped`() {
        let disk = vm(1) { $0.spec.disks = [.init(name: "d", sizeMiB: 500, kind: .local)] }
        #expect(stops([disk], Quota(diskMiB: 1)) == [])
        // The newest has nothing of what is too much.
        #expect(stops([vm(1), vm(2, cpu: 0)], Quota(cpuMillis: 0)) == ["v1"])
        #expect(stops([vm(1, cpu: 4_000), vm(2, cpu: 500)], Quota(cpuMillis: 1_000)) == ["v1"])
    }

    @Test func `whatever runs, the rest is within the quota, nobody stops in vain, and the order of rows is nothing`() {
        var random = PRNG(seed: 11)
        for _ in 0..<300 {
            var vms = (1...UInt64(2 + random.below(12))).map { id in
                vm(
                    id, cpu: Int64(random.below(5)) * 250, memory: Int64(random.below(4)) * 64,
                    priority: Int32(random.below(3)), at: UInt64(1 + random.below(4)))
            }
            let quota = Quota(
                vmCount: random.below(2) == 0 ? nil : UInt64(random.below(8)),
                cpuMillis: random.below(2) == 0 ? nil : Int64(random.below(3_000)),
                memoryMiB: random.below(2) == 0 ? nil : Int64(random.below(512)))
            let names = stops(vms, quota)
            func isOver(_ kept: [CellVM]) -> Bool {
                UInt64(kept.count) > quota.vmCount ?? .max
                    || kept.reduce(0) { $0 + $1.spec.resources.cpuMillis } > quota.cpuMillis ?? .max
                    || kept.reduce(0) { $0 + $1.spec.resources.memoryMiB } > quota.memoryMiB ?? .max
            }
            let kept = vms.filter { !names.contains($0.name) }
            #expect(!isOver(kept))
            for name in names { #expect(isOver(kept + vms.filter { $0.name == name }), "\(name) stops in vain") }
            vms.reverse()
            #expect(stops(vms, quota) == names)
        }
    }

    @Test func `a plan stops nobody unless it is enforced, and says whom that would stop`() {
        let runners = (1...3).compactMap { QuotaExcess.Runner(vm($0)) }
        let quota = Quota(vmCount: 1)
        let found = QuotaExcess.stops(runners, for: quota)
        func plan(_ isEnforced: Bool) -> CellPlan {
            var plan = CellPlan(
                of: "t", quota, used: .zero, count: 3, through: LogIndex(4), isEnforced: isEnforced)
            plan.add(found, isEnforced: isEnforced) { "h\($0.rawValue)" }
            return plan
        }
        let shown = plan(false)
        #expect(shown.steps.isEmpty && shown.left[0].text.contains("nothing is stopped"))
        #expect(
            shown.notes == [
                "with --enforce 2 VMs would be stopped, the least important and newest first: v3, v2"
            ])
        let enforced = plan(true)
        #expect(enforced.steps.map(\.name) == ["v3", "v2"] && enforced.steps.allSatisfy { $0.kind == .stop })
        #expect(enforced.steps[0].fromName == "h1" && enforced.steps[0].to == nil && enforced.isComplete)
        #expect(!enforced.left[0].text.contains("nothing is stopped"))
        #expect(enforced.digest != shown.digest)
        #expect(enforced.operations(knowsIntents: true).isEmpty)
        let many = (1...UInt64(QuotaExcess.stopsMax + 1)).compactMap { QuotaExcess.Runner(vm($0)) }
        var large = CellPlan(.quota("t"), through: LogIndex(4))
        large.add(many, isEnforced: true) { _ in "" }
        #expect(large.steps.count == QuotaExcess.stopsMax && !large.isComplete)
    }
}
