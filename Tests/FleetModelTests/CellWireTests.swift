import ClusterBase
import FleetModel
import Schema
import Testing

@Suite struct CellWireTests {
    /// The bytes of `Proto/golden/<name>.hex`.
    private func golden(_ name: String) throws -> [UInt8] { try SpaceWireTests().golden(name) }

    private static let size = Resources(cpuMillis: 2_000, memoryMiB: 4_096, diskMiB: 10, networkMbps: 100)
    private static let about = HostDescription(
        name: "h1", locality: Locality(region: "eu", zone: "a", rack: "7"), capacity: size,
        numaNodes: [NUMANode(cpuMillis: 1_000, memoryMiB: 2_048)],
        devices: [NamedDevice(kind: "gpu", numaNode: 0), NamedDevice(kind: "fpga")], labels: [Named("disk", "ssd")],
        storageDomains: ["ceph"], networks: ["lan"], driver: "qemu")
    private static let policy = HostPolicy(
        reserved: size, overcommit: Overcommit(cpuMilli: 2_000), labels: [Named("a", "")],
        taints: [NamedTaint("gpu", "yes", effect: .avoid)])
    private static var spec: VMDescription {
        var spec = VMDescription(resources: size)
        spec.numa = .fewest(max: 2)
        spec.devices = [.init(kinds: ["gpu"], count: 1, millis: 500)]
        spec.devicesOnSameNodes = true
        spec.required = [.init("disk", .oneOf(["ssd", ""]))]
        spec.preferred = [.init(.init("a", .exists), weight: 7)]
        spec.tolerations = [.init("gpu"), .init("x", value: "")]
        spec.disks = [
            .init(name: "root", sizeMiB: 10, kind: .shared(domain: "ceph"), image: "i"),
            .init(name: "tmp", sizeMiB: 5, kind: .ephemeral),
        ]
        spec.networks = ["lan"]
        spec.zones = ["a"]
        spec.priority = -5
        spec.groups = ["web"]
        spec.policy = .spread
        spec.restart = .onFailure
        spec.isolation = .keep
        spec.labels = [Named("app", "web")]
        spec.annotations = [Named("n", "v")]
        return spec
    }
    private static let assignment = Assignment(
        host: HostID(7), numaNodes: [0, 1], devices: [DeviceUse(device: 2, millis: 500)])
    private static let group = CellGroup(
        id: PlacementGroupID(3), name: "web", tenant: "t", rule: .spread(skewMax: 2), scope: .rack)
    private static let vm = VMID(1 << 40)

    private static let operations: [CellCommand.Operation] = [
        .registerHost(HostID(7), Incarnation(2), about, running: [RunningVM(vm, epoch: 3)]),
        .reportVMs(
            HostID(7), Incarnation(2),
            [VMReport(vm, epoch: 3, .copying, generation: 2, progressMillis: 300, message: "m")]),
        .setHostDuty(HostID(7), .draining), .setHostPolicy(HostID(7), policy, generation: 0),
        .removeHost(HostID(7), isForced: true),
        .createVMs([VMCreation(name: "v", tenant: "t", spec: spec, power: .paused)], isAtomic: true),
        .updateVM(vm, spec, generation: nil), .setPower(vm, .stopped, generation: 4), .restartVM(vm),
        .deleteVM(vm, generation: 4), .putGroup(group), .deleteGroup(tenant: "t", name: "web"), .setSetting(.policy, 3),
        .placeVMs([Placing(vm, generation: 1, assignment)], isAtomic: true),
        .explainWaiting([WaitingReason(vm, "no room")]),
        .releaseVMs([Release(vm, epoch: 3, reason: "r")], cause: .preemption), .retryVM(vm, epoch: 3),
        .giveUpVM(vm, epoch: 3), .beginMigration(vm, from: 3, to: assignment, cause: .drain),
        .commitMigration(vm, target: 3), .cancelMigration(vm, target: 3), .declareDown(HostID(7), Incarnation(2)),
        .finishDrain(HostID(7)),
        .setSlice(tenant: "t", revision: Revision(513), Quota(vmCount: 9, cpuMillis: 0, diskMiB: 7)), .collectGarbage,
        .returnSlice(tenant: "t", revision: Revision(514)),
        .noteTime,
    ]

    @Test func `every command is as another implementation of protobuf has it`() throws {
        let bytes = try golden("cell-pack-v1")
        let commands = CellWireTests.operations.map { CellCommand(request: [UInt8](0..<16), by: "admin", $0) }
        #expect(Cell.pack(commands.map { $0.encoded() }, time: LogTime(1_700_000_000_000)) == bytes)
        let wire = try WireCellPack(serialized: bytes)
        #expect(try wire.commands.map { try CellCommand.decode($0).get() } == commands)
    }

    @Test func `the commands of level 3 are as another implementation of protobuf has them`() throws {
        var sealed = VMDescription(resources: Resources(cpuMillis: 1, memoryMiB: 1))
        sealed.secrets = [SecretField("a", .sealed([1, 2])), SecretField("b", .sealed([3]))]
        sealed.sealMark = [UInt8](0..<16)
        let later: [CellCommand.Operation] = [
            .registerHost(
                HostID(7), Incarnation(2), HostDescription(name: "h7", capacity: .zero), running: [], assignment: 300),
            .registerHost(HostID(7), Incarnation(2), CellWireTests.apart, running: []),
            .releaseHost(HostID(7), assignment: 300), .closeCell,
            .holdName(tenant: "t", name: "x", cell: 2, request: [UInt8](0..<16), replaces: [UInt8](1..<17)),
            .lendQuota(tenant: "t", to: 2, QuotaShare(vms: 1, cpuMillis: 2, memoryMiB: 3, diskMiB: 4)),
            .takeQuota(tenant: "t", from: 1, number: 300, QuotaShare(vms: 1)),
            .settleLoan(tenant: "t", to: 2, number: 300, isTaken: true),
            .updateVM(VMID(7), sealed, generation: nil),
            .resealVM(VMID(7), [Resealed(key: "a", from: [1], to: [2])]),
            .moveVM(CellWireTests.vm, to: 2, request: [UInt8](0..<16)), .advanceMove(300, .commit, reason: "r"),
            .prepareArrival(CellWireTests.arrival),
            .endArrival(CellWireTests.vm, from: 1, number: 300, isCommitted: true, epoch: 3, floor: 299),
        ]
        let commands =
            CellWireTests.operations.map { CellCommand(request: [UInt8](0..<16), by: "admin", $0) }
            + later.map { CellCommand(by: "admin", $0) } + [
                CellCommand(
                    by: "admin", imagesAt: LogIndex(9), .releaseImage(tenant: "t", name: "i", at: LogIndex(300))),
                CellCommand(
                    by: "admin",
                    .dropRemains([CellRemains.Left(VMID(7), [CellWireTests.disk]), CellRemains.Left(VMID(300), [])])),
                CellCommand(by: "admin", .confirmMove(VMID(7), from: 2, number: 300)),
                CellCommand(by: "admin", .moveVM(VMID(7), to: 2, request: [], keepsName: true)),
                CellCommand(by: "admin", .noteRegion(CellRegion(name: "north", epoch: 300, isLost: true))),
                CellCommand(
                    by: "admin",
                    .moveVM(
                        VMID(7), to: 2, request: [], home: CellVM.Home(cell: 1, region: "north", epoch: 300),
                        cause: .regionLost)),
                CellCommand(by: "admin", .updateVM(VMID(7), CellWireTests.going, generation: nil)),
                CellCommand(
                    by: "admin",
                    .setSlice(
                        tenant: "t", revision: Revision(513), Quota(vmCount: 9, priorityMax: -5), through: LogIndex(300)
                    )),
                CellCommand(by: "admin", isBounded: true, .deleteVM(VMID(7), generation: nil)),
                CellCommand(
                    by: "admin",
                    .beginMigration(
                        CellWireTests.vm, from: 3, to: CellWireTests.assignment, cause: .drain, intent: .gentle)),
                CellCommand(by: "admin", .setSetting(.moveIntent, 3)),
            ]
            + [CellCommand(origin: CellWireTests.origin, by: "admin", .noteTime)]
        let bytes = try golden("cell-pack-v3")
        #expect(Cell.pack(commands.map { $0.encoded() }, level: 3, time: LogTime(1_700_000_000_000)) == bytes)
        let wire = try WireCellPack(serialized: bytes)
        #expect(try wire.commands.map { try CellCommand.decode($0, level: 3).get() } == commands)
        #expect(later.allSatisfy { $0.level == FeatureLevel.cells })
        #expect(wire.commands.suffix(26).allSatisfy { CellCommand.decode($0, level: 2) == .failure(.malformed) })
    }

    static let origin = CommandOrigin(
        session: .init(node: 3, mark: 1 << 63), sequence: 300, settled: 299, born: LogIndex(77))

    private static var going: VMDescription {
        var spec = VMDescription(resources: Resources(cpuMillis: 1))
        (spec.regionLoss, spec.returnsHome, spec.regions) = (.mustMove, true, ["north"])
        return spec
    }
    private static let disk = CellRemains.Disk(name: "d", domain: "fast", hasImage: true, isKept: true)
    private static var apart: HostDescription {
        var about = HostDescription(name: "h7", capacity: .zero)
        about.storageProblems = [Named("fast", "away")]
        return about
    }

    private static var arrival: CellArrival {
        var move = CellMove(
            number: 300, vm: vm, tenant: "t", to: 2, share: QuotaShare(vms: 1, cpuMillis: 2), request: [UInt8](0..<16),
            since: LogTime(7))
        move.phase = .committed
        move.epoch = 5
        var row = CellVM(id: vm, name: "v", tenant: "t", spec: spec, at: LogTime(5), by: "a")
        row.power = .paused
        row.generation = 2
        row.droppedDisks = [disk]
        return move.preparation(of: row, from: 1)
    }

    private static var host: CellHost {
        var host = CellHost(id: HostID(7), about: about, incarnation: Incarnation(2), since: LogTime(4))
        host.policy = policy
        host.duty = .cordoned
        host.health = .down
        host.generation = 3
        host.workIndex = LogIndex(5)
        host.used = size
        host.vmCount = 1
        host.numaUsed = [NUMANode(cpuMillis: 1, memoryMiB: 2)]
        host.devicesUsed = [0, 500]
        return host
    }

    private static var row: CellVM {
        var row = CellVM(id: VMID(7), name: "v", tenant: "t", spec: spec, at: LogTime(5), by: "a")
        var place = VMPlace(assignment, epoch: 3)
        place.isReleasing = true
        row.generation = 2
        row.isDeleting = true
        row.place = place
        row.migration = Migration(
            phase: .leaving, cause: .rebalance, target: place, source: VMPlace(Assignment(host: HostID(8)), epoch: 2),
            since: LogTime(9))
        row.migration?.progressMillis = 1_000
        row.phase = .running
        row.since = LogTime(3)
        row.message = "m"
        row.runningGeneration = 1
        row.epochHighest = 3
        row.restarts = 2
        row.restartsSince = LogTime(1)
        row.queuedAt = LogTime(4)
        row.revision = Revision(513)
        row.boundTo = HostID(7)
        row.held = size
        row.events = [LogIndex(1), LogIndex(300)]
        return row
    }

    @Test func `every row is as another implementation of protobuf has it`() throws {
        let bytes = try golden("cell-answer-v1")
        let answer = try #require(CellAnswer.decode(bytes))
        #expect(answer.encoded() == bytes)
        guard case .rows(let rows, _) = answer.body else { return }
        var group = CellWireTests.group
        group.id = PlacementGroupID(7)
        group.memberCount = 4
        let stone = CellTombstone(
            id: VMID(7), name: "v", tenant: "t", deletedAt: LogTime(4), deletedBy: "a", events: [LogIndex(1)])
        #expect(
            rows.map(\.content) == [
                .host(HostID(7), CellWireTests.host), .vm(VMID(7), CellWireTests.row),
                .group(PlacementGroupID(7), group), .tombstone(VMID(7), stone),
            ])
        #expect(
            rows.map(\.value) == [
                CellWireTests.host.encoded(), CellWireTests.row.encoded(), group.encoded(), stone.encoded(),
            ])
    }

    @Test func `a result is as another implementation of protobuf has it`() throws {
        let bytes = try golden("cell-result-v1")
        let refusal = CellRefusal.quotaExceeded(tenant: "t", resource: "cpu", limit: 1, used: 2, asked: 3)
        let result = CellResult(revision: Revision(230_600), outcome: .items([.vm(VMID(1 << 40)), .refused(refusal)]))
        #expect(result.encoded() == bytes && CellResult.decode(bytes) == result)
    }

    @Test func `every query and every kind of answer is read back as it was`() {
        let queries: [CellQuery] = [
            .list(.tombstones, after: [1], limit: 3), .one(.slices, key: [2]), .vmNamed(tenant: "t", name: "n"),
            .groupNamed(tenant: "t", name: "n"), .hostNamed("h"), .vmsOfTenant("t", after: VMID(3), limit: 1),
            .vmsOnHost(HostID(4), after: nil, limit: 0), .waitingVMs(limit: 9),
            .vmsMarked(.phase(.unknown), after: VMID(7), limit: 3), .vmsMarked(.group("web"), after: nil, limit: 0),
            .vmsMarked(.label("env", ""), after: VMID(0), limit: 1),
            .hostWork(HostID(5), since: LogIndex(6)), .hostWork(HostID(5), since: LogIndex(6), takesChanges: true),
            .changes(since: LogIndex(7), limit: 8),
            .rows(after: [], limit: 1), .events(after: Revision(300), vm: VMID(1), host: HostID(0), limit: 2),
            .rehearsal([[1, 2], []], cell: 300, level: 3), .rehearsal([], cell: 0, level: 0),
        ]
        var waiting = CellVM(id: VMID(7), name: "v", tenant: "t", spec: CellWireTests.row.spec, at: LogTime(5), by: "a")
        waiting.gang = 513
        waiting.home = CellVM.Home(cell: 300, region: "north", epoch: 4)
        waiting.spec.moveIntent = .now
        waiting.migration = CellWireTests.row.migration
        waiting.migration?.intent = .gentle
        #expect(CellVM.decode(waiting.encoded()) == waiting)
        for query in queries { #expect(CellQuery.decode(query.encoded()) == query) }
        var event = CellEvent(revision: Revision(300), time: LogTime(4), kind: "k", vm: "v", by: "b", text: "x")
        event.isAudit = true
        event.vmID = VMID(3)
        let bodies: [CellAnswer.Body] = [
            .rows([CellRow(key: [1], value: nil)], resumeAfter: nil), .work(nil, workIndex: LogIndex(3), lease: 4),
            .workChanges(
                WorkChanges(vms: [CellWireTests.row], ids: [VMID(3), VMID(1 << 50)], digest: .max),
                workIndex: LogIndex(9),
                lease: 5),
            .work([], workIndex: LogIndex(3), lease: 0), .work([CellWireTests.row], workIndex: .zero, lease: 1),
            .changes([CellRow(key: [1], value: [2])], through: LogIndex(9)), .compacted(LogIndex(8)),
            .events([event], resumeAfter: Revision(300)), .refused(.malformed), .refused(.gangIncomplete(VMID(7))),
            .refused(.regionOutdated(300)),
        ]
        for body in bodies {
            let answer = CellAnswer(index: LogIndex(5), time: LogTime(6), body: body)
            #expect(CellAnswer.decode(answer.encoded()) == answer)
        }
    }
}
