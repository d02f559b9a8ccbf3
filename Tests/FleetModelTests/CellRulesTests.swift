import ClusterBase
import FleetModel
import Testing

/// What a place is judged by.
@Suite struct CellRulesTests {
    private typealias Spec = VMDescription

    private func spec(_ change: (inout VMDescription) -> Void) -> VMDescription {
        var spec = CellBench.spec()
        change(&spec)
        return spec
    }

    private func isMisfit(_ refusal: CellRefusal?, _ word: String) -> Bool {
        guard case .doesNotFit(_, let rule)? = refusal else { return false }
        return rule.contains(word)
    }

    @Test func `a VM is created, placed, started, and everybody sees it`() throws {
        var cell = try CellBench(hosts: 2)
        let id = try cell.create("web")
        #expect(id == VMID(1 << 40 | 1))
        #expect(try cell.vm(id).phase == .waiting)
        #expect(try cell.rows(.waitingVMs(limit: 0)).count == 1)
        try cell.place(id, on: 1)
        #expect(try cell.rows(.waitingVMs(limit: 0)).isEmpty)
        #expect(try cell.vm(id).place?.epoch == 1)
        #expect(try cell.work(1)?.map(\.id) == [id] && cell.work(2) == [])
        try cell.report(id, .running)
        let vm = try cell.vm(id)
        #expect(vm.phase == .running && vm.runningGeneration == vm.generation)
        #expect(try cell.host(1).used == vm.spec.demand && cell.host(1).vmCount == 1)
        for query in [CellQuery.vmNamed(tenant: "t", name: "web"), .vmsOfTenant("t", after: nil, limit: 0)] {
            #expect(try cell.rows(query) == [.vm(id, vm)])
        }
        #expect(try cell.rows(.vmsOnHost(HostID(1), after: nil, limit: 0)) == [.vm(id, vm)])
        #expect(try cell.events(vm: id).map(\.kind) == ["vm.created", "vm.placed", "vm.running"])
    }

    @Test func `a host is never promised more than it offers, overcommit and reservation included`() throws {
        var cell = try CellBench(hosts: 1)
        let policy = HostPolicy(
            reserved: Resources(cpuMillis: 2_000), overcommit: Overcommit(cpuMilli: 1_500, memoryMilli: 1_000))
        try cell.must(.setHostPolicy(HostID(1), policy, generation: nil))
        for i in 0..<5 { try cell.place(cell.create("v\(i)", CellBench.spec(2)), on: 1) }
        let last = try cell.create("last", CellBench.spec(1))
        #expect(isMisfit(try cell.refusal(last, on: 1), "cpu"))
        try cell.must(.setHostPolicy(HostID(1), HostPolicy(overcommit: Overcommit(cpuMilli: 2_000)), generation: nil))
        try cell.place(last, on: 1)
        let big = try cell.create("big", CellBench.spec(1, memory: 11_000))
        #expect(isMisfit(try cell.refusal(big, on: 1), "memory"))
        let disk = try cell.create("disk", spec { $0.disks = [.init(name: "d", sizeMiB: 100_001, kind: .ephemeral)] })
        #expect(isMisfit(try cell.refusal(disk, on: 1), "disk"))
    }

    @Test func `NUMA nodes have room of their own`() throws {
        var cell = CellBench()
        var about = CellBench.about(1)
        about.numaNodes = [NUMANode(cpuMillis: 4_000, memoryMiB: 8_192), NUMANode(cpuMillis: 4_000, memoryMiB: 8_192)]
        try cell.register(1, about)
        func on(_ nodes: [UInt8]) -> Assignment { Assignment(host: HostID(1), numaNodes: nodes) }
        let one = try cell.create(
            "one",
            spec {
                $0.resources.cpuMillis = 3_000; $0.numa = .nodes(1)
            })
        #expect(isMisfit(try cell.refusal(one, on: on([])), "asks for 1"))
        #expect(isMisfit(try cell.refusal(one, on: on([2])), "no NUMA node 2"))
        #expect(try cell.place(one, on: on([0])) == .items([.vm(one)]))
        let wide = try cell.create(
            "wide",
            spec {
                $0.resources.cpuMillis = 3_000; $0.numa = .nodes(2)
            })
        #expect(isMisfit(try cell.refusal(wide, on: on([0, 1])), "node 0"))
        let other = try cell.create(
            "other",
            spec {
                $0.resources.cpuMillis = 3_000; $0.numa = .fewest(max: 2)
            })
        #expect(isMisfit(try cell.refusal(other, on: on([0])), "node 0"))
        #expect(try cell.place(other, on: on([1])) == .items([.vm(other)]))
        #expect(try cell.host(1).numaUsed.map(\.cpuMillis) == [3_000, 3_000])
        #expect(isMisfit(try cell.refusal(cell.create("plain"), on: on([0])), "asks for none"))
    }

    @Test func `devices are of the kind asked for, and no part is promised twice`() throws {
        var cell = CellBench()
        var about = CellBench.about(1)
        about.numaNodes = [NUMANode(cpuMillis: 4_000, memoryMiB: 8_192), NUMANode(cpuMillis: 4_000, memoryMiB: 8_192)]
        about.devices = [
            NamedDevice(kind: "a100", numaNode: 0), NamedDevice(kind: "t4", numaNode: 1),
            NamedDevice(kind: "t4", numaNode: 1),
        ]
        try cell.register(1, about)
        func on(_ uses: [(UInt8, Int32)], nodes: [UInt8] = []) -> Assignment {
            Assignment(host: HostID(1), numaNodes: nodes, devices: uses.map { DeviceUse(device: $0.0, millis: $0.1) })
        }
        let part = try cell.create("part", spec { $0.devices = [.init(kinds: ["t4"], count: 1, millis: 600)] })
        #expect(isMisfit(try cell.refusal(part, on: on([(0, 600)])), "not those"))
        #expect(isMisfit(try cell.refusal(part, on: on([(1, 500)])), "not those"))
        #expect(isMisfit(try cell.refusal(part, on: on([])), "asks for 1"))
        #expect(isMisfit(try cell.refusal(part, on: on([(7, 600)])), "no device 7"))
        #expect(try cell.place(part, on: on([(1, 600)])) == .items([.vm(part)]))
        let two = try cell.create("two", spec { $0.devices = [.init(kinds: ["t4"], count: 2, millis: 500)] })
        #expect(isMisfit(try cell.refusal(two, on: on([(1, 500), (2, 500)])), "device 1"))
        let mixed = try cell.create(
            "mixed",
            spec {
                $0.devices = [.init(kinds: [], count: 1, millis: 300), .init(kinds: ["t4"], count: 1, millis: 300)]
            })
        #expect(isMisfit(try cell.refusal(mixed, on: on([(0, 300), (0, 300)])), "not those"))
        #expect(try cell.place(mixed, on: on([(1, 300), (2, 300)])) == .items([.vm(mixed)]))
        let near = try cell.create(
            "near",
            spec {
                $0.numa = .nodes(1)
                $0.devices = [.init(kinds: ["a100"])]
                $0.devicesOnSameNodes = true
            })
        #expect(isMisfit(try cell.refusal(near, on: on([(0, 1_000)], nodes: [1])), "not those"))
        #expect(try cell.place(near, on: on([(0, 1_000)], nodes: [0])) == .items([.vm(near)]))
        #expect(try cell.host(1).devicesUsed == [1_000, 900, 300])
    }

    @Test func `labels, taints, zones, storage and networks are hard`() throws {
        var cell = try CellBench(hosts: 2)
        try cell.must(
            .setHostPolicy(
                HostID(1), HostPolicy(labels: [Named("disk", "ssd")], taints: [NamedTaint("gpu", "yes")]),
                generation: nil))
        let tolerant = VMDescription.NamedToleration("gpu")
        let cases: [(String, VMDescription, UInt64, UInt64)] = [
            (
                "label",
                spec {
                    $0.required = [.init("disk", .oneOf(["ssd"]))]; $0.tolerations = [tolerant]
                }, 2, 1
            ),
            ("taint", spec { $0.tolerations = [.init("gpu", value: "no")] }, 1, 2),
            ("zone", spec { $0.zones = ["b"] }, 1, 2),
            (
                "label",
                spec {
                    $0.required = [.init("disk", .absent)]; $0.tolerations = [tolerant]
                }, 1, 2
            ),
        ]
        for (i, (word, spec, bad, good)) in cases.enumerated() {
            let id = try cell.create("v\(i)", spec)
            #expect(isMisfit(try cell.refusal(id, on: bad), word), "\(word)")
            try cell.place(id, on: good)
        }
        let stored = try cell.create(
            "s", spec { $0.disks = [.init(name: "d", sizeMiB: 9, kind: .shared(domain: "nfs"))] })
        #expect(isMisfit(try cell.refusal(stored, on: 2), "nfs"))
        let net = try cell.create("n", spec { $0.networks = ["dmz"] })
        #expect(isMisfit(try cell.refusal(net, on: 2), "dmz"))
    }

    @Test func `a VM with a TPM goes where there is one, and stays where it remembers`() throws {
        var cell = CellBench()
        cell.level = FeatureLevel.tpm
        for id in 1...2 as ClosedRange<UInt64> {
            var about = CellBench.about(id)
            about.hasTPM = id == 2
            try cell.register(id, about)
        }
        let local = try cell.create("l", spec { $0.tpm = .local })
        #expect(isMisfit(try cell.refusal(local, on: 1), "swtpm"))
        try cell.place(local, on: 2)
        #expect(try cell.vm(local).boundTo == HostID(2))
        let shared = try cell.create("s", spec { $0.tpm = .shared(domain: "ceph") })
        try cell.place(shared, on: 2)
        #expect(try cell.vm(shared).boundTo == nil)
        let far = try cell.create("f", spec { $0.tpm = .shared(domain: "nfs") })
        #expect(isMisfit(try cell.refusal(far, on: 2), "nfs"))
        try cell.report(shared, .running)
        guard
            case .invalid(_, let why) = try cell.refusal(.updateVM(shared, spec { $0.tpm = nil }, generation: nil))
        else {
            Issue.record("it runs with one")
            return
        }
        #expect(why.contains("TPM"))
        // What it remembered is left like a shared disk, under a name that no disk has.
        try cell.must(.deleteVM(shared, generation: nil))
        try cell.report(shared, .stopped)
        let left = try cell.rows(.all(.remains)).compactMap {
            if case .remains(_, let left?) = $0 { left } else { nil }
        }
        #expect(
            left.map(\.disks) == [
                [.init(name: VMDescription.tpmName, domain: "ceph", hasImage: false, isKept: false)]
            ])
    }

    @Test func `a TPM waits for its feature level, with the VM and with the host`() throws {
        let wanted = spec { $0.tpm = .ephemeral }
        var about = CellBench.about(1)
        about.hasTPM = true
        let commands = [
            CellCommand(
                by: "a",
                .createVMs(
                    [VMCreation(name: "v", tenant: "t", spec: wanted, power: .running)], isAtomic: false)),
            CellCommand(by: "a", .registerHost(HostID(1), Incarnation(1), about, running: [])),
        ]
        for command in commands {
            #expect(command.level == FeatureLevel.tpm)
            #expect(CellCommand.decode(command.encoded(), level: 2) == .failure(.malformed))
            #expect(CellCommand.decode(command.encoded(), level: 3) == .success(command))
        }
        for kind in [.local, .ephemeral, .shared(domain: "fast")] as [VMDescription.NamedDisk.Kind] {
            let command = CellCommand(by: "a", .updateVM(VMID(7), spec { $0.tpm = kind }, generation: nil))
            #expect(CellCommand.decode(command.encoded(), level: 3) == .success(command))
        }
    }

    @Test func `whom a host's VMs run as waits for its feature level, and is a sentence of a bounded length`() throws {
        var about = CellBench.about(1)
        about.guestUser = "guests run as the user 997"
        let command = CellCommand(by: "a", .registerHost(HostID(1), Incarnation(1), about, running: []))
        #expect(command.level == FeatureLevel.guestUsers)
        #expect(CellCommand.decode(command.encoded(), level: 2) == .failure(.malformed))
        #expect(CellCommand.decode(command.encoded(), level: 3) == .success(command))
        var cell = try CellBench(hosts: 1)
        cell.level = FeatureLevel.guestUsers
        try cell.must(.registerHost(HostID(1), Incarnation(2), about, running: []))
        #expect(try cell.host(1).about.guestUser == "guests run as the user 997")
        about.guestUser = String(repeating: "u", count: CellLimits.problemBytesMax + 1)
        let refusal = try cell.refusal(.registerHost(HostID(1), Incarnation(3), about, running: []))
        guard case .invalid("guestUser", _) = refusal else {
            Issue.record("\(refusal)")
            return
        }
    }

    @Test func `a host takes VMs only in service and up`() throws {
        var cell = try CellBench(hosts: 3)
        let id = try cell.create("v")
        for duty in [CellHost.Duty.cordoned, .draining, .maintenance] {
            try cell.must(.setHostDuty(HostID(1), duty))
            #expect(try cell.refusal(id, on: 1) == .hostTakesNone(HostID(1), cell.host(1).state))
        }
        try cell.must(.declareDown(HostID(2), Incarnation(1)))
        #expect(try cell.refusal(id, on: 2) == .hostTakesNone(HostID(2), .down))
        #expect(try cell.refusal(id, on: 9) == .unknownHost(HostID(9)))
        try cell.place(id, on: 3)
    }

    @Test func `a VM with a local disk stays on its host for ever where disks don't move`() throws {
        var cell = try CellBench(hosts: 2)
        let id = try cell.running("db", on: 1, spec { $0.disks = [.init(name: "d", sizeMiB: 10, kind: .local)] })
        let epoch = try #require(try cell.vm(id).place?.epoch)
        #expect(
            try cell.refusal(.releaseVMs([Release(id, epoch: epoch, reason: "")], cause: .drain)) == .boundToHost(id))
        #expect(
            try cell.refusal(.beginMigration(id, from: epoch, to: Assignment(host: HostID(2)), cause: .asked))
                == .boundToHost(id))
        try cell.must(.declareDown(HostID(1), Incarnation(1)))
        #expect(try cell.vm(id).phase == .unknown && cell.vm(id).place?.assignment.host == HostID(1))
        try cell.register(1, incarnation: 2)
        #expect(try cell.vm(id).phase == .starting && cell.vm(id).place?.epoch == epoch + 1)
    }

    @Test func `a VM that runs takes its local disk along, and its source keeps what it has until it runs there`()
        throws
    {
        var cell = try CellBench(hosts: 3)
        cell.level = FeatureLevel.diskMoves
        let id = try cell.running("db", on: 1, spec { $0.disks = [.init(name: "d", sizeMiB: 10, kind: .local)] })
        let epoch = try #require(try cell.vm(id).place?.epoch)
        func say(_ host: UInt64, _ epoch: UInt64, _ state: VMReport.State) throws {
            try cell.must(
                .reportVMs(
                    HostID(host), Incarnation(1), [VMReport(id, epoch: epoch, state, generation: 1)]))
        }
        #expect(
            try cell.refusal(.releaseVMs([Release(id, epoch: epoch, reason: "")], cause: .drain)) == .boundToHost(id))
        let diskBefore = try cell.host(2).used.diskMiB
        try cell.must(.beginMigration(id, from: epoch, to: Assignment(host: HostID(2)), cause: .asked))
        #expect(try cell.host(2).used.diskMiB == diskBefore + 10, "its room is kept before a byte moves")
        #expect(try cell.vm(id).boundTo == HostID(1))
        try say(1, epoch, .copied)
        try cell.must(.commitMigration(id, target: epoch + 1))
        #expect(try cell.vm(id).boundTo == HostID(2) && cell.vm(id).awaitsArrival)
        // Nothing of it runs at the source, which keeps the disk nevertheless.
        try say(1, epoch, .stopped)
        #expect(try cell.vm(id).migration?.phase == .leaving)
        try say(2, epoch + 1, .running)
        #expect(try cell.vm(id).migration?.hasArrived == true && !cell.vm(id).awaitsArrival)
        try say(1, epoch, .stopped)
        #expect(try cell.vm(id).migration == nil)
        #expect(try cell.host(1).used.diskMiB == 0)
        // From there it goes on like any other that is bound.
        #expect(
            try cell.refusal(.releaseVMs([Release(id, epoch: epoch + 1, reason: "")], cause: .drain))
                == .boundToHost(id))
        try cell.must(.beginMigration(id, from: epoch + 1, to: Assignment(host: HostID(3)), cause: .asked))
        try cell.must(.cancelMigration(id, target: epoch + 2))
        #expect(try cell.vm(id).boundTo == HostID(2))
    }

    @Test func `a VM that ends at its destination before it ran there is no reason to keep its disk at the source`()
        throws
    {
        var cell = try CellBench(hosts: 2)
        cell.level = FeatureLevel.diskMoves
        let id = try cell.running("db", on: 1, spec { $0.disks = [.init(name: "d", sizeMiB: 10, kind: .local)] })
        let epoch = try #require(try cell.vm(id).place?.epoch)
        func say(_ host: UInt64, _ epoch: UInt64, _ state: VMReport.State) throws {
            try cell.must(
                .reportVMs(
                    HostID(host), Incarnation(1), [VMReport(id, epoch: epoch, state, generation: 1)]))
        }
        try cell.must(.beginMigration(id, from: epoch, to: Assignment(host: HostID(2)), cause: .asked))
        try say(1, epoch, .copied)
        try cell.must(.commitMigration(id, target: epoch + 1))
        try say(2, epoch + 1, .crashed)
        #expect(try !cell.vm(id).awaitsArrival && cell.vm(id).boundTo == HostID(2))
        try say(1, epoch, .stopped)
        #expect(try cell.vm(id).migration == nil)
        try cell.must(.retryVM(id, epoch: epoch + 1))
        #expect(try cell.vm(id).place?.assignment.host == HostID(2))
    }

    // MARK: Groups

    private func group(_ name: String, _ rule: PlacementGroup.Rule, _ scope: PlacementGroup.Scope, isHard: Bool = true)
        -> CellCommand.Operation
    {
        .putGroup(CellGroup(name: name, tenant: "t", rule: rule, scope: scope, isHard: isHard))
    }

    @Test func `anti-affinity counts members in hosts, racks and zones`() throws {
        var cell = try CellBench(hosts: 8)
        try cell.must(group("hosts", .antiAffinity(perDomainMax: 1), .host))
        try cell.must(group("racks", .antiAffinity(perDomainMax: 2), .rack))
        try cell.must(group("soft", .antiAffinity(perDomainMax: 1), .host, isHard: false))
        let a = try cell.running("a", on: 1, spec { $0.groups = ["hosts", "soft"] })
        let b = try cell.create("b", spec { $0.groups = ["hosts"] })
        #expect(isMisfit(try cell.refusal(b, on: 1), "group hosts"))
        try cell.place(b, on: 2)
        try cell.place(cell.create("c", spec { $0.groups = ["soft"] }), on: 1)
        // h1 and h3 are rack r0 of zone a.
        for (i, host) in [1, 3].enumerated() {
            try cell.running("r\(i)", on: UInt64(host), spec { $0.groups = ["racks"] })
        }
        let r = try cell.create("r", spec { $0.groups = ["racks"] })
        #expect(isMisfit(try cell.refusal(r, on: 1), "group racks"))
        try cell.place(r, on: 2)
        try cell.must(.deleteVM(a, generation: nil))
        try cell.report(a, .stopped)
        try cell.place(cell.create("again", spec { $0.groups = ["hosts"] }), on: 1)
    }

    @Test func `a hard spread keeps every domain that takes VMs nearly as full as the fullest`() throws {
        var cell = try CellBench(hosts: 4)
        try cell.must(group("even", .spread(skewMax: 1), .zone))
        try cell.must(group("flat", .spread(skewMax: 1), .host))
        func create(_ name: String, _ group: String) throws -> VMID {
            try cell.create(name, spec { $0.groups = [group] })
        }
        try cell.place(create("a", "even"), on: 1)
        let b = try create("b", "even")
        #expect(isMisfit(try cell.refusal(b, on: 3), "group even"))
        try cell.place(b, on: 2)
        try cell.place(create("c", "even"), on: 3)
        for host in [1, 2, 3] as [UInt64] { try cell.place(create("f\(host)", "flat"), on: host) }
        let f = try create("f", "flat")
        #expect(isMisfit(try cell.refusal(f, on: 1), "group flat"))
        // Whoever takes none does not hold the others back.
        try cell.must(.setHostDuty(HostID(4), .cordoned))
        try cell.place(f, on: 1)
    }

    @Test func `a hard affinity keeps members together, wherever the first one is`() throws {
        var cell = try CellBench(hosts: 4)
        try cell.must(group("near", .affinity, .zone))
        let first = try cell.running("a", on: 2, spec { $0.groups = ["near"] })
        let second = try cell.create("b", spec { $0.groups = ["near"] })
        #expect(isMisfit(try cell.refusal(second, on: 1), "group near"))
        try cell.place(second, on: 4)
        try cell.must(.deleteVM(second, generation: nil))
        try cell.report(second, .stopped)
        let epoch = try #require(try cell.vm(first).place?.epoch)
        try cell.must(.beginMigration(first, from: epoch, to: Assignment(host: HostID(1)), cause: .asked))
    }

    @Test func `a group with members is not deleted, and its scope stays`() throws {
        var cell = try CellBench(hosts: 1)
        #expect(
            try cell.refusal(
                .createVMs([VMCreation(name: "v", tenant: "t", spec: spec { $0.groups = ["g"] })], isAtomic: false))
                == .unknownGroup("g"))
        try cell.must(group("g", .antiAffinity(perDomainMax: 1), .host))
        try cell.create("v", spec { $0.groups = ["g"] })
        #expect(try cell.refusal(.deleteGroup(tenant: "t", name: "g")) == .groupInUse("g"))
        #expect(try cell.refusal(group("g", .antiAffinity(perDomainMax: 1), .zone)) == .groupInUse("g"))
        try cell.must(group("g", .antiAffinity(perDomainMax: 3), .host))
        guard case .group(_, let kept?)? = try cell.rows(.groupNamed(tenant: "t", name: "g")).first else {
            Issue.record("no group")
            return
        }
        #expect(kept.rule == .antiAffinity(perDomainMax: 3) && kept.memberCount == 1)
    }

    // MARK: Quota

    @Test func `a quota holds for all VMs of a tenant, placed or not, and an old slice is not taken`() throws {
        var cell = try CellBench(hosts: 1)
        try cell.must(.setSlice(tenant: "t", revision: Revision(20), Quota(vmCount: 3, cpuMillis: 5_000, diskMiB: 100)))
        let a = try cell.create("a", CellBench.spec(2))
        try cell.create("b", CellBench.spec(2))
        let big = VMCreation(name: "c", tenant: "t", spec: CellBench.spec(2))
        #expect(
            try cell.refusal(.createVMs([big], isAtomic: false))
                == .quotaExceeded(tenant: "t", resource: "cpu", limit: 5_000, used: 4_000, asked: 2_000))
        #expect(try cell.refusal(.updateVM(a, CellBench.spec(4), generation: nil)) != nil)
        let fat = spec { $0.disks = [.init(name: "d", sizeMiB: 101, kind: .shared(domain: "ceph"))] }
        #expect(try cell.refusal(.createVMs([VMCreation(name: "d", tenant: "t", spec: fat)], isAtomic: false)) != nil)
        try cell.create("e", CellBench.spec(1))
        try cell.create("f", CellBench.spec(4), tenant: "other")
        try cell.must(.setSlice(tenant: "t", revision: Revision(19), .unlimited))
        #expect(
            try cell.refusal(.createVMs([VMCreation(name: "g", tenant: "t", spec: CellBench.spec())], isAtomic: false))
                != nil)
        try cell.must(.setSlice(tenant: "t", revision: Revision(21), Quota(vmCount: 1)))
        #expect(try cell.slice("t")?.usedCount == 3 && cell.events().last?.kind == "tenant.exceeded")
        try cell.must(.deleteVM(a, generation: nil))
        #expect(try cell.slice("t")?.used.cpuMillis == 3_000)
    }

    @Test func `a deleted tenant gives its slice back, and a later one of that name keeps its own`() throws {
        var cell = try CellBench(hosts: 1)
        try cell.must(.setSlice(tenant: "t", revision: Revision(20), Quota(vmCount: 1)))
        let id = try cell.create("a", CellBench.spec(1))
        // What the root said before the slice was lent takes nothing back.
        try cell.must(.returnSlice(tenant: "t", revision: Revision(19)))
        #expect(try cell.slice("t")?.quota == Quota(vmCount: 1))
        // With VMs of it the row stays, since it counts them.
        try cell.must(.returnSlice(tenant: "t", revision: Revision(21)))
        #expect(try cell.slice("t")?.quota == .unlimited && cell.slice("t")?.usedCount == 1)
        try cell.must(.deleteVM(id, generation: nil))
        #expect(try cell.slice("t") == nil)
        try cell.must(.setSlice(tenant: "t", revision: Revision(30), Quota(vmCount: 2)))
        try cell.must(.returnSlice(tenant: "t", revision: Revision(29)))
        #expect(try cell.slice("t")?.quota == Quota(vmCount: 2))
        try cell.must(.returnSlice(tenant: "t", revision: Revision(31)))
        #expect(try cell.slice("t") == nil)
    }

    @Test func `what an outside change makes exceed stays, is told, and lets nothing more in`() throws {
        var cell = try CellBench(hosts: 1)
        let id = try cell.running(
            "v", on: 1,
            spec {
                $0.resources.cpuMillis = 4_000; $0.required = [.init("a", .absent)]
            })
        var about = CellBench.about(1, cores: 2)
        about.labels = [Named("a", "b")]
        try cell.register(1, about, incarnation: 2, running: [RunningVM(id, epoch: 1)])
        #expect(try cell.vm(id).phase == .running && cell.vm(id).place?.epoch == 1)
        let kinds = try cell.events(host: 1).map(\.kind)
        #expect(kinds.contains("host.exceeded") && kinds.contains("vm.misplaced"))
        #expect(isMisfit(try cell.refusal(cell.create("w"), on: 1), "cpu"))
    }

    @Test(arguments: [
        ("name", VMCreation(name: "Not a name", tenant: "t", spec: CellBench.spec())),
        ("tenant", VMCreation(name: "v", tenant: "", spec: CellBench.spec())),
        ("resources", VMCreation(name: "v", tenant: "t", spec: VMDescription(resources: .zero))),
    ]) func `a specification that makes no sense is refused by its field`(field: String, creation: VMCreation) throws {
        var cell = try CellBench(hosts: 1)
        guard case .invalid(field, let text)? = try cell.refusal(.createVMs([creation], isAtomic: false)) else {
            Issue.record("not refused for its \(field)")
            return
        }
        #expect(text.count > 10)
    }

    @Test func `what is sealed for one VM is let into no other, however that is called`() throws {
        var cell = try CellBench(hosts: 1)
        cell.level = FeatureLevel.secrets
        let (one, two) = ([UInt8](0..<16), [UInt8](1..<17))
        func creation(_ mark: [UInt8]) -> VMCreation {
            VMCreation(
                name: "db", tenant: "t",
                spec: spec {
                    $0.secrets = [SecretField("k", .sealed([1]))]
                    $0.sealMark = mark
                })
        }
        func create(_ mark: [UInt8], _ request: [UInt8]) throws -> CellResult.Outcome {
            let command = CellCommand(request: request, by: "x", .createVMs([creation(mark)], isAtomic: false))
            return try cell.apply([command])[0].outcome
        }
        guard case .items(let refused) = try create(one, two),
            case .refused(.invalid(field: "secrets", _))? = refused.first
        else {
            Issue.record("a mark of another request was taken")
            return
        }
        guard case .items(let made) = try create(two, [UInt8](2..<18)), case .refused? = made.first else {
            Issue.record("and once more")
            return
        }
        let third = [UInt8](3..<19)
        guard case .items(let items) = try create(third, third), case .vm(let id)? = items.first else {
            Issue.record("its own was not taken")
            return
        }
        // Changes leave the mark, or it is no change of this VM.
        var changed = creation(third).spec
        changed.priority = 5
        #expect(try cell.apply(.updateVM(id, changed, generation: nil)) == .done)
        changed.sealMark = one
        guard case .invalid(field: "secrets", _)? = try cell.refusal(.updateVM(id, changed, generation: nil)) else {
            Issue.record("another mark was taken")
            return
        }
        changed.secrets = []
        changed.sealMark = []
        #expect(try cell.apply(.updateVM(id, changed, generation: nil)) == .done)
        #expect(try cell.vm(id).spec.sealMark == third)
        // One that had no fields gets its own number as its mark.
        let plain = try cell.create("plain")
        var sealed = try cell.vm(plain).spec
        sealed.secrets = [SecretField("k", .sealed([1]))]
        sealed.sealMark = VMDescription.sealMark(of: id)
        guard case .invalid(field: "secrets", _)? = try cell.refusal(.updateVM(plain, sealed, generation: nil)) else {
            Issue.record("another VM's mark was taken")
            return
        }
        sealed.sealMark = VMDescription.sealMark(of: plain)
        #expect(try cell.apply(.updateVM(plain, sealed, generation: nil)) == .done)
    }

    @Test func `boxes are replaced where they are those that were seen, and the VM stays what it was`() throws {
        var cell = try CellBench(hosts: 1)
        cell.level = FeatureLevel.secrets
        let id = try cell.running("v", on: 1)
        var sealed = try cell.vm(id).spec
        sealed.secrets = [SecretField("a", .sealed([1])), SecretField("b", .sealed([2]))]
        sealed.sealMark = VMDescription.sealMark(of: id)
        #expect(try cell.apply(.updateVM(id, sealed, generation: nil)) == .done)
        let before = try cell.vm(id)
        let work = try cell.host(1).workIndex
        let boxes = [
            Resealed(key: "a", from: [1], to: [7]), Resealed(key: "b", from: [9], to: [8]),
            Resealed(key: "c", from: [2], to: [8]),
        ]
        #expect(try cell.apply(.resealVM(id, boxes)) == .done)
        let after = try cell.vm(id)
        #expect(after.spec.secrets == [SecretField("a", .sealed([7])), SecretField("b", .sealed([2]))])
        #expect(after.generation == before.generation && after.revision > before.revision)
        #expect(try cell.host(1).workIndex == work, "the host has nothing new to do")
        let revision = after.revision
        #expect(try cell.apply(.resealVM(id, boxes)) == .done)
        #expect(try cell.vm(id).revision == revision, "nothing changed")
        #expect(try cell.refusal(.resealVM(VMID(99), boxes)) == .unknownVM(VMID(99)))
    }

    @Test func `every list and amount of a specification has a bound`() throws {
        var cell = try CellBench(hosts: 1)
        cell.level = FeatureLevel.secrets
        let bad: [(String, VMDescription)] = [
            ("numa", spec { $0.numa = .nodes(9) }), ("devices", spec { $0.devices = [.init(kinds: [], count: 0)] }),
            ("disks", spec { $0.disks = [.init(name: "d", sizeMiB: 0, kind: .local)] }),
            ("disks", spec { $0.disks = (0..<65).map { .init(name: "d\($0)", sizeMiB: 1, kind: .local) } }),
            ("groups", spec { $0.groups = ["g", "g"] }), ("networks", spec { $0.networks = ["\u{1}"] }),
            ("preferred", spec { $0.preferred = [.init(.init("k", .exists), weight: 101)] }),
            ("required", spec { $0.required = [.init("k", .oneOf([]))] }),
            ("secrets", spec { $0.secrets = [SecretField("k", .sealed([]))] }),
            ("secrets", spec { $0.secrets = [SecretField("b", .sealed([1])), SecretField("a", .sealed([1]))] }),
            (
                "secrets",
                spec {
                    $0.annotations = [Named("k", "clear")]
                    $0.secrets = [SecretField("k", .sealed([1]))]
                }
            ),
            (
                "secrets",
                spec { $0.secrets = [SecretField("k", .sealed([UInt8](repeating: 1, count: 12_289)))] }
            ),
            ("annotations", spec { $0.annotations = [Named("k", String(repeating: "x", count: 4_097))] }),
            ("labels", spec { $0.labels = [Named("k", "1"), Named("k", "2")] }),
            ("restartsMax", spec { $0.restartsMax = 1_001 }),
            ("resources", spec { $0.resources.memoryMiB = Resources.amountMax + 1 }),
        ]
        for (field, spec) in bad {
            guard
                case .invalid(field, _)? = try cell.refusal(
                    .createVMs([VMCreation(name: "v", tenant: "t", spec: spec)], isAtomic: false))
            else {
                Issue.record("not refused for \(field)")
                continue
            }
        }
        let long = spec { $0.annotations = (0..<5).map { Named("k\($0)", String(repeating: "x", count: 4_000)) } }
        #expect(
            try cell.refusal(.createVMs([VMCreation(name: "v", tenant: "t", spec: long)], isAtomic: false))
                == .tooMany(.specBytes))
    }
}
