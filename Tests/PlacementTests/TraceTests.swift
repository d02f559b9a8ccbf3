import ClusterBase
import FleetModel
import Placement
import Testing

@Suite struct TraceTests {
    static func trace(_ text: String, _ options: TraceOptions = TraceOptions()) throws -> Trace {
        try Trace(csv: Array(text.utf8), options: options)
    }

    @Test func `columns stand in any order, under several names, and strangers are ignored`() throws {
        var options = TraceOptions()
        options.lifetimeMin = 300
        let trace = try TraceTests.trace(
            "\u{FEFF}Mem,batch,CPU,at,dur_hi,Censored\r\n3.5,7,2,1800,60,0\r\n0.75,7,1,1801,600,1\r\n\r\n", options)
        #expect(trace.ignored == ["batch"])
        #expect(trace.rows.count == 2)
        #expect(trace.rows[0].spec.resources == Resources(cpuMillis: 2_000_000, memoryMiB: 3_670_016))
        #expect(trace.rows[0].arrival == 1_800_000_000)
        #expect(trace.rows[0].departure == 2_100_000_000)
        #expect(trace.rows[1].departure == nil)
        let other = try TraceTests.trace("start;end;cpu_milli;memory_mib;count\n0;5;500;1024;3\n")
        #expect(other.rows.count == 3)
        #expect(other.rows[2].spec.resources == Resources(cpuMillis: 500_000, memoryMiB: 1_048_576))
        #expect(other.rows[2].spec.id == VMID(rawValue: 2))
    }

    @Test func `whole and shared GPUs, with and without models`() throws {
        let text =
            "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\n"
            + "a,1000,1,0,0,,0,9\nb,1000,1,1,460,V100|P100,0,9\nc,1000,1,2,1000,,0,9\n"
        let rows = try TraceTests.trace(text).rows
        #expect(rows[0].spec.devices.isEmpty)
        #expect(rows[1].spec.devices.map(\.millis) == [460])
        #expect(rows[1].spec.devices[0].kinds.count == 2)
        #expect(rows[2].spec.devices == [DeviceWish(count: 2)])
        let parts = try TraceTests.trace("cpu,mem,gpu,at,end\n1,1,0.25,0,1\n1,1,4,0,1\n").rows
        #expect(parts[0].spec.devices == [DeviceWish(count: 1, millis: 250)])
        #expect(parts[1].spec.devices == [DeviceWish(count: 4)])
    }

    @Test func `VMs above a size are split and the others sit on one node, unless the file says`() throws {
        var options = TraceOptions()
        options.splitAboveCores = 8
        let rows = try TraceTests.trace("cpu,mem,at,end,numa\n8,1,0,1,\n9,1,0,1,\n1,1,0,1,4\n9,1,0,1,0\n", options).rows
        #expect(rows.map(\.spec.numa) == [.nodes(1), .nodes(2), .nodes(4), .none])
    }

    @Test func `events are read in the order of the file`() throws {
        let rows = try TraceTests.trace(
            "vmid,cpu,memory,time,type\na,4,8,0,0\nb,2,4,1,0\na,,,1,1\na,1,1,1,0\n"
        ).rows
        #expect(rows.count == 3)
        #expect(rows[0].departure == 4)
        #expect(rows[2].arrival == 5)
        #expect(rows[1].departure == nil)
        // The departure frees the place that the VM of the same name then takes.
        var hosts = ServerList()
        try hosts.add("cpu=6,mem=12,count=1")
        #expect(try Replay(hosts: hosts.hosts(open: 0)).run(rows).rejections == 0)
    }

    @Test(
        arguments: [
            ("cpu,mem,at\n1,1,0\n", 1, "departure"),
            ("mem,at,end\n1,0,1\n", 1, "cpu"),
            ("cpu,mem,at,end\n1,1,0,1\nx,1,0,1\n", 3, "'x'"),
            ("cpu,mem,at,end\n1,1,0,1\n1,1,0\n", 3, "3 fields"),
            ("cpu,mem,at,end\n-1,1,0,1\n", 2, "below 0"),
            ("cpu,mem,at,end\n1,1,5,1\n", 2, "before it comes"),
            ("cpu,mem,at,end\n0,0,0,1\n", 2, "nothing"),
            ("cpu,mem,at,end,gpus\n1,1,0,1,1.5\n", 2, "gpus"),
            ("cpu,mem,at,time,end\n1,1,0,0,1\n", 1, "both mean"),
            ("id,cpu,mem,time,event\na,1,1,0,depart\n", 2, "not there"),
            ("id,cpu,mem,time,event\na,1,1,0,arrive\nb,1,1,0,arrives\n", 3, "'arrives'"),
            ("id,cpu,mem,time,event\na,1,1,5,arrive\nb,1,1,4,arrive\n", 3, "in order"),
            ("cpu,mem,at,end\n", 0, "no VM"),
            ("", 0, "empty"),
            ("\u{1F}", 1, "cpu"),
            ("cpu,mem,at,end\n1,\"1,0,1\n", 2, "quote"),
            ("cpu,mem,at,end\n1e300,1,0,1\n", 2, "more than can be counted"),
            ("cpu,mem,at,end,count\n1,1,0,1,0\n", 2, "count"),
            ("cpu,mem,at,end,numa\n1,1,0,1,9\n", 2, "numa"),
            ("cpu,mem,at,end,host\n1,1,0,1,0\n", 2, "host"),
        ] as [(String, Int, String)])
    func `a bad file is refused with its line`(text: String, line: Int, part: String) {
        do {
            _ = try TraceTests.trace(text)
            Issue.record("accepted: \(text)")
        } catch let error as TraceError {
            #expect(error.line == line && error.text.contains(part), "\(error)")
        } catch {
            Issue.record("\(error)")
        }
    }

    @Test func `servers share cores, memory and GPUs out to their nodes`() throws {
        var list = ServerList()
        try list.add("cpu=96,mem=768,numa=2,gpus=8,gpu_model=V100,count=3")
        try list.add(csv: Array("sn,cpu_milli,memory_mib,gpu,model\nx,64000,262144,2,T4\n".utf8))
        let hosts = list.hosts(open: 0)
        #expect(hosts.map(\.id.rawValue) == [1, 2, 3, 4])
        #expect(hosts[0].numaNodes == Array(repeating: NUMANode(cpuMillis: 48_000_000, memoryMiB: 384 << 20), count: 2))
        #expect(hosts[0].devices.map(\.numaNode) == [0, 0, 0, 0, 1, 1, 1, 1])
        #expect(hosts[3].devices.count == 2 && hosts[3].devices[0].kind != hosts[0].devices[0].kind)
        for bad in ["cpu=64", "cpu=64,mem", "cpu=64,mem=1,colour=2", "cpu=64,mem=1,count=0", "cpu=x,mem=1"] {
            #expect(throws: TraceError.self) { try list.add(bad) }
        }
    }

    @Test func `the bound is the peak over what a server offers`() throws {
        let trace = try TraceTests.trace("cpu,mem,at,end\n4,1,0,2\n4,1,1,3\n4,30,3,5\n")
        #expect(trace.peak.vms == 2)
        var list = ServerList()
        try list.add("cpu=5,mem=16")
        #expect(list.bound(trace.peak) == 2)
        let fewest = try Replay.fewestHosts(trace.rows, like: list.kinds[0].host, in: 2...8)
        #expect(fewest == nil, "one VM needs more memory than a server has")
    }

    @Test func `moves never run ahead of the arrivals that pay for them`() throws {
        let rows = ReplayTests.trace(2000)
        var replay = Replay(hosts: ReplayTests.hosts(12))
        for every in [1, 20, 500] {
            replay.arrivalsPerMove = every
            #expect(try replay.run(rows).moves <= 2000 / every)
        }
    }

    @Test func `a replay with a clock decides like one without`() throws {
        let rows = ReplayTests.trace(1000)
        let replay = Replay(hosts: ReplayTests.hosts(20))
        var ticks: Int64 = 0
        let timed = try replay.run(rows) {
            ticks += 5
            return ticks
        }
        #expect(try replay.run(rows).hash == timed.hash)
        #expect(timed.times.count == 1000 && timed.times.median == 5)
        #expect(timed.densityPPM > 500_000 && timed.fragmentationPPM < 500_000)
    }
}

@Suite struct HolesTests {
    @Test func `VMs that take any device leave the kind that is running out to those that need it`() throws {
        var index = PlacementIndex()
        let (rare, common) = (Word(1), Word(2))
        for id in 1...8 as ClosedRange<UInt64> {
            let kind = id <= 4 ? rare : common
            try index.addHost(
                Host(
                    id: HostID(rawValue: id), capacity: Resources(cpuMillis: 64_000, memoryMiB: 65_536),
                    devices: (0..<4).map { _ in Device(kind: kind) }))
        }
        func vm(_ id: UInt64, _ kinds: [Word]) -> VMSpec {
            VMSpec(
                id: VMID(rawValue: id), resources: Resources(cpuMillis: 1000, memoryMiB: 1024),
                devices: [DeviceWish(kinds: kinds)])
        }
        for id in 1...30 as ClosedRange<UInt64> {
            let kinds = id % 5 == 0 ? [common] : id % 5 == 1 ? [rare] : []
            let decision = index.decide(vm(id, kinds))
            let place = try #require(decision.assignment, "VM \(id) of 30 on 32 devices: \(decision)")
            try index.place(vm(id, kinds), place)
            index.setMix(index.mixOfPlacedVMs())
        }
    }

    @Test func `several preempting VMs find places on several hosts and spare each other`() throws {
        var index = try BatchTests.cell(2)
        for id in 1...4 as ClosedRange<UInt64> {
            try index.place(
                VMSpec(id: VMID(rawValue: id), resources: Resources(cpuMillis: 2000, memoryMiB: 100), priority: 1),
                Assignment(host: HostID(rawValue: 1 + id % 2)))
        }
        func vm(_ id: UInt64, _ priority: Int32) -> VMSpec {
            VMSpec(id: VMID(rawValue: id), resources: Resources(cpuMillis: 4000, memoryMiB: 100), priority: priority)
        }
        let before = view(index)
        let answers = index.decidePreemptions([vm(10, 2), vm(11, 9), vm(12, 5)])
        #expect(view(index) == before)
        #expect(answers[0] == nil, "the two of higher priority took both hosts")
        #expect(answers[1]?.victims.count == 2 && answers[2]?.victims.count == 2)
        #expect(answers[1]?.assignment.host != answers[2]?.assignment.host)
    }

    @Test func `hosts with moves under way take no more than their budget`() throws {
        var index = try BatchTests.cell(3)
        for id in 1...6 as ClosedRange<UInt64> {
            try index.place(
                VMSpec(id: VMID(rawValue: id), resources: Resources(cpuMillis: 500, memoryMiB: 100)),
                Assignment(host: HostID(rawValue: 1)))
        }
        let free = index.planRebalance(policy: .balance, budget: RebalanceBudget(movesPerHostMax: 2))
        #expect(free.moves.count == 2)
        let busy = index.planRebalance(
            policy: .balance, budget: RebalanceBudget(movesPerHostMax: 2, busyHosts: [HostID(rawValue: 1)]))
        #expect(busy.moves.count == 1 && !busy.isComplete)
    }

    @Test func `every rule says how many hosts it excludes, and how many it alone`() throws {
        var index = PlacementIndex()
        for id in 1...4 as ClosedRange<UInt64> {
            try index.addHost(
                Host(
                    id: HostID(rawValue: id), capacity: Resources(cpuMillis: 1000 * Int64(id), memoryMiB: 1000),
                    labels: id % 2 == 0 ? [Label(Word(1), Word(2))] : []))
        }
        let spec = VMSpec(
            id: VMID(rawValue: 1), resources: Resources(cpuMillis: 3000, memoryMiB: 10),
            required: [Selector(Word(1), .exists)], zones: [Word.none])
        let why = index.explain(spec)
        #expect(why.candidates == 1)
        let rules = why.rules.map { [$0.rule.code, "\($0.excluded)", "\($0.excludedAlone)"] }
        #expect(
            rules == [
                ["host_state", "0", "0"], ["zone", "0", "0"], ["required_labels", "2", "1"], ["free_cpu", "2", "1"],
                ["free_memory", "0", "0"],
            ])
        let other = VMSpec(id: VMID(rawValue: 2), resources: Resources(cpuMillis: 2000))
        try index.place(other, Assignment(host: HostID(rawValue: 4)))
        let change = try #require(index.explain(spec).nearest)
        #expect(change.code == "free_room")
        #expect(change.text(host: { "h\($0)" }, group: { "g\($0)" }) == "fits on h4 if 1000m CPU more were free")
    }

    @Test func `the smallest go first where that places more`() throws {
        var index = try BatchTests.cell(1)
        let batch = index.decideBatch(BatchTests.specs([3500, 1000, 1000, 1000, 1000]))
        #expect(batch.placed == 4)
    }

    @Test func `classes that come and go leave decisions as they were`() throws {
        var index = PlacementIndex()
        var world = World()
        var random = PRNG(seed: 4)
        for id in 1...90 as ClosedRange<UInt64> {
            world.hosts.append(
                Host(
                    id: HostID(rawValue: id), capacity: Resources(cpuMillis: 8000, memoryMiB: 8192),
                    rack: Word(UInt32(id % 3)), labels: [Label(Word(1), Word(UInt32(id % 40)))]))
            try index.addHost(world.hosts[Int(id) - 1])
        }
        for id in 1...400 as ClosedRange<UInt64> {
            let spec = VMSpec(
                id: VMID(rawValue: id), resources: Resources(cpuMillis: 500, memoryMiB: 256),
                required: random.chance(1, in: 2) ? [Selector(Word(1), .oneOf((0..<20).map { Word($0) }))] : [])
            if let at = index.decide(spec).assignment {
                try index.place(spec, at)
                world.placed.append((spec, at))
            }
            let i = random.below(90)
            world.hosts[i].labels = [Label(Word(1), Word(UInt32(random.below(60))))]
            try index.updateHost(world.hosts[i])
        }
        var fresh = PlacementIndex()
        for host in world.hosts { try fresh.addHost(host) }
        for vm in world.placed { try fresh.place(vm.spec, vm.at) }
        for label in 0..<60 as Range<UInt32> {
            let spec = VMSpec(
                id: VMID(rawValue: 9999), resources: Resources(cpuMillis: 500, memoryMiB: 256),
                required: [Selector(Word(1), .oneOf([Word(label), Word(label + 7)]))])
            #expect(index.decide(spec) == fresh.decide(spec))
        }
    }
}
