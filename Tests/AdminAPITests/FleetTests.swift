import ClusterBase
import FleetModel
import Testing

@testable import AdminAPI

private let vm = VMReference.named("web-1", tenant: "shop")
private let plain = VMReference.named("a", tenant: "default")

/// A specification in which everything is said.
let fullSpec: VMDescription = {
    var spec = VMDescription(resources: Resources(cpuMillis: 2_000, memoryMiB: 4_096, diskMiB: 5, networkMbps: 100))
    spec.numa = .fewest(max: 2)
    spec.devices = [.init(kinds: ["a100", "h100"], count: 2, millis: 500)]
    spec.devicesOnSameNodes = true
    spec.required = [
        .init("disk", .oneOf(["ssd", "nvme"])), .init("old", .absent), .init("new", .exists),
        .init("x", .noneOf(["y"])),
    ]
    spec.preferred = [.init(.init("rack", .oneOf(["r1"])), weight: 10)]
    spec.tolerations = [.init("gpu", value: "yes"), .init("any")]
    spec.disks = [
        .init(name: "root", sizeMiB: 10_240, kind: .shared(domain: "ceph"), image: "debian-12"),
        .init(name: "swap", sizeMiB: 1, kind: .ephemeral), .init(name: "data", sizeMiB: 9, kind: .local),
    ]
    spec.networks = ["lan"]
    spec.zones = ["z1", "z2"]
    spec.priority = -7
    spec.groups = ["web"]
    spec.policy = .spread
    spec.restart = .onFailure
    spec.restartsMax = 9
    spec.isolation = .keep
    spec.moveIntent = .gentle
    spec.labels = [Named("env", "prod"), Named("team", "a b")]
    spec.annotations = [Named("sim.boot-ms", "200")]
    return spec
}()

private let smallSpec = VMDescription(resources: Resources(cpuMillis: 1, memoryMiB: 1))

private func filter(_ text: String, _ kind: FleetKind = .vms) -> FilterExpression? {
    // A test asks whether it is one.
    try? FilterExpression(text, fields: kind.fields)
}

/// Requests about a cell of every kind, with and without what is optional.
let fleetSamples: [FleetRequest] = [
    .list(FleetList(.hosts)), .list(FleetList(.groups, tenant: "shop")), .list(FleetList(.tenants)),
    .list(FleetList(.migrations, mode: .atLeast(LogIndex(7)))),
    .list(
        FleetList(
            .vms, filter: filter("phase=running and label.env in (a,'b c')"), fields: ["name", "spec.labels"],
            sort: .init("priority", isDescending: true), limit: 7, after: "3:1099511627777", tenant: "shop",
            mode: .stale(within: .seconds(2)))),
    .list(FleetList(.vms, watch: .init())),
    .list(FleetList(.vms, filter: filter("name~web"), watch: .init(from: .end(of: LogIndex(9)), asEvents: true))),
    .list(FleetList(.events, limit: 3, after: "9.2", vm: "a", host: "h1")),
    .list(FleetList(.events, sort: .init("revision", isDescending: true))),
    .list(FleetList(.events, watch: .init(from: Revision(index: LogIndex(9), slot: 2)))),
    .audit(FleetList(.events)), .host("h1", .linearizable), .host("h1", .atLeast(LogIndex(3))),
    .setDuty("h1", .cordoned), .setDuty("h1", .draining), .setDuty("h1", .maintenance), .setDuty("h1", .inService),
    .setHostPolicy("h1", HostPolicy(), generation: nil),
    .setHostPolicy(
        "h1",
        HostPolicy(
            reserved: Resources(cpuMillis: 1_000, memoryMiB: 512), overcommit: Overcommit(cpuMilli: 2_000),
            labels: [Named("disk", "ssd")], taints: [NamedTaint("gpu", "yes", effect: .avoid), NamedTaint("k")]),
        generation: 4),
    .markStorage("h1", StorageMarking("fast")), .markStorage("h1", StorageMarking("fast", isForced: true)),
    .careForHost("h1", .pauseDrain), .careForHost("h1", .resumeDrain), .plan(.declareDead("h1")),
    .careForHost("h1", .goAway(HostAbsence(seconds: 600))), .careForHost("h1", .comeBack),
    .careForHost("h1", .declareDead), .careForHost("h1", .drain(.lazy)), .careForHost("h1", .resume(.all)),
    .careForHost("h1", .resume(.none)), .careForHost("h1", .pauseReturn), .careForHost("h1", .resumeReturn),
    .plan(.returns("h1")),
    .removeHost("h1", isForced: false), .removeHost("h1", isForced: true),
    .vm(vm, .linearizable), .vm(plain, .stale(within: .milliseconds(5))), .vm(.id(VMID(1 << 40 + 7)), .linearizable),
    .createVM(VMCreation(name: "web-1", tenant: "shop", spec: fullSpec, power: .stopped)),
    .createVM(VMCreation(name: "a", tenant: "default", spec: smallSpec)),
    .createVMs(VMBatch([VMCreation(name: "a", tenant: "default", spec: smallSpec)], isAtomic: true)),
    .updateVM(vm, fullSpec, generation: 3), .updateVM(plain, smallSpec, generation: nil),
    .deleteVM(vm, generation: nil), .deleteVM(vm, generation: 2), .startVM(vm, generation: 1),
    .stopVM(plain, generation: nil), .pauseVM(vm, generation: nil), .resumeVM(vm, generation: nil), .restartVM(vm),
    .migrateVM(vm, MigrationWish()), .migrateVM(vm, MigrationWish(host: "h2")), .cancelMigration(vm),
    .migrateVM(vm, MigrationWish(intent: .gentle)), .migrateVM(plain, MigrationWish(host: "h2", intent: .now)),
    .forecast(vm), .forecast(plain),
    .explain(vm, hosts: []), .explain(plain, hosts: ["h1", "h2"]), .history(vm, after: .zero, limit: 1_000),
    .history(vm, after: Revision(index: LogIndex(3), slot: 1), limit: 10), .logs(vm, bytes: VMLogs.bytesStandard),
    .logs(plain, bytes: 1), .console(vm, ConsoleTurn(session: "a1")),
    .console(plain, ConsoleTurn(session: "a1", typedBefore: 3, typed: [13, 0, 255], from: 7)),
    .group("web", tenant: "shop", .linearizable),
    .createGroup(CellGroup(name: "web", tenant: "shop", rule: .spread(skewMax: 2), scope: .rack, isHard: false)),
    .createGroup(CellGroup(name: "web", tenant: "default", rule: .pack)), .deleteGroup("web", tenant: "default"),
    .tenant("shop", .linearizable), .setTenant("shop", TenantSettings()),
    .setTenant("shop", TenantSettings(quota: Quota(vmCount: 3, cpuMillis: 1, memoryMiB: 2, diskMiB: 0), tier: "gold")),
    .deleteTenant("shop"), .plan(.create([VMCreation(name: "a", tenant: "default", spec: smallSpec)], isAtomic: false)),
    .plan(.create([VMCreation(name: "a", tenant: "default", spec: smallSpec)], isAtomic: true)),
    .images(tenant: nil), .images(tenant: "shop"), .image("debian", tenant: "shop"),
    .addImagePart(
        ImagePart(tenant: "shop", digest: String(repeating: "0a", count: 32), offset: 7, bytes: [0, 255, 1])),
    .addImagePart(ImagePart(tenant: "", digest: String(repeating: "0a", count: 32), offset: 0, bytes: [])),
    .addImage(ImageCreation(name: "debian", tenant: "", digest: String(repeating: "0a", count: 32))),
    .addImage(ImageCreation(name: "debian", tenant: "shop", digest: String(repeating: "0a", count: 32))),
    .remains(tenant: nil), .remains(tenant: "shop"), .forgetRemains(VMID(7), tenant: "shop"),
    .removeImage("debian", tenant: "shop"), .removeImage("debian", tenant: ""),
    .plan(.drain("h1")), .plan(.rebalance), .plan(.loss(["h1", "h2"])), .rebalance, .startRebalance(RebalanceStart()),
    .startRebalance(RebalanceStart(digest: "8f")), .settings(.linearizable),
    .rehearse(region: "north", of: .loss, returns: nil), .recovery(cell: "north"),
    .changeSettings(CellSettingsBody([(.rpoZone, 2), (.rpoRegion, 5_002), (.rto, 1)])),
    .changeSettings(CellSettingsBody([(.failoverReserve, FailoverReserve(.rack, 2).value)])),
    .rehearse(region: "north", of: .return, returns: .all), .rehearse(region: "north", of: .evacuation, returns: nil),
    .renewLease(LeaseWish(host: HostID(3))), .renewLease(LeaseWish(host: HostID(3), digest: .max)),
    .changeSettings(CellSettingsBody([(.policy, 2), (.leaseLength, 5_000), (.rebalance, 1)])),
    .dryRun(.changeSettings(CellSettingsBody([(.policy, 2)]))), .dryRun(.updateVM(vm, fullSpec, generation: 3)),
    .losses(.host), .losses(.zone), .usage(vm), .usage(plain), .hostUsage("h1"),
    .onlyAt(generation: 3, .restartVM(vm)), .onlyAt(generation: 4, .migrateVM(plain, MigrationWish(host: "h2"))),
    .onlyAt(generation: 5, .cancelMigration(vm)), .onlyAt(generation: 6, .setDuty("h1", .cordoned)),
    .onlyAt(generation: 7, .removeHost("h1", isForced: true)),
    .onlyAt(generation: 8, .careForHost("h1", .pauseDrain)),
    .onlyAt(generation: 8, .dryRun(.migrateVM(vm, MigrationWish()))),
    .dryRun(.deleteVM(plain, generation: nil)), .dryRun(.migrateVM(vm, MigrationWish(cell: "north"))),
]

private func parsed(_ text: String, _ shape: Shape) throws -> ShapedObject {
    try ShapedObject(JSONParser.parse(Array(text.utf8)[...]), shape, isStrict: true)
}

private func cellVM() -> CellVM {
    var vm = CellVM(
        id: VMID(1 << 40 + 1), name: "web-1", tenant: "shop", spec: fullSpec, at: LogTime(1_700_000_000_123),
        by: "operator anna from 10.0.0.9")
    vm.place = VMPlace(
        Assignment(host: HostID(3), numaNodes: [0, 1], devices: [DeviceUse(device: 2, millis: 500)]), epoch: 2)
    vm.migration = Migration(
        phase: .copying, cause: .drain, target: VMPlace(Assignment(host: HostID(4)), epoch: 3),
        source: VMPlace(Assignment(host: HostID(3)), epoch: 2), since: LogTime(1_700_000_100_000))
    vm.phase = .running
    vm.message = "all is well"
    return vm
}

private func hostName(_ host: HostID) -> String { "h\(host.rawValue)" }

@Suite struct FleetBodyTests {
    func holds<T: Shaped>(_ value: T) throws {
        let known = T.shape.fields
        for member in value.members {
            let field = known.first { $0.name == member.name }
            #expect(field?.accepts(member.value) == true, "\(T.self).\(member.name) = \(member.value)")
        }
        for field in known where field.isRequired {
            #expect(value.members.contains { $0.name == field.name }, "\(T.self) lacks \(field.name)")
        }
        #expect(try T(body: value.json.bytes[...]) == value, "\(T.self)")
    }

    @Test func `every body of the fleet is written as its shape says and read back`() throws {
        var host = CellHost(
            id: HostID(3),
            about: HostDescription(
                name: "h3", locality: Locality(region: "r", zone: "z", rack: "k"),
                capacity: Resources(cpuMillis: 8_000, memoryMiB: 16_384, diskMiB: 1, networkMbps: 1),
                numaNodes: [NUMANode(cpuMillis: 4_000, memoryMiB: 8_192)],
                devices: [NamedDevice(kind: "a100", numaNode: 0), NamedDevice(kind: "a100")],
                labels: [Named("disk", "ssd")], storageDomains: ["ceph"], networks: ["lan"], driver: "simulated"),
            incarnation: Incarnation(1), since: LogTime(5_000))
        host.used = Resources(cpuMillis: 9_000)
        try holds(HostInfo(host))
        #expect(HostInfo(host).free.amount.cpuMillis == -1_000)
        #expect(HostInfo(host).devices.map(\.usedMillis) == [0, 0])
        host.devicesUsed = [500]
        host.numaUsed = [NUMANode(cpuMillis: 1_000, memoryMiB: 128)]
        #expect(HostInfo(host).devices.map(\.usedMillis) == [500, 0])
        #expect(HostInfo(host).numaNodes.map(\.used) == host.numaUsed)
        try holds(HostInfo(host))
        try holds(VMInfo(cellVM(), hostName: hostName))
        var moved = VMInfo(cellVM(), hostName: hostName)
        moved.origin = "h4"
        try holds(moved)
        try holds(fullSpec)
        try holds(smallSpec)
        try holds(VMCreation(name: "a", tenant: "t", spec: fullSpec, power: .paused))
        try holds(CreatedVM(id: VMID(9), name: "a", tenant: "t"))
        try holds(
            VMBatchResult([.init(name: "a", id: VMID(1)), .init(name: "b", Problem(.malformed, "no", field: "x"))]))
        try holds(CellGroup(id: PlacementGroupID(1), name: "g", tenant: "t", rule: .antiAffinity(perDomainMax: 2)))
        try holds(TenantInfo(name: "t", tier: "gold", quota: Quota(vmCount: 5), usedCount: 1, isPending: true))
        try holds(
            EventInfo(
                CellEvent(
                    revision: Revision(index: LogIndex(5), slot: 1), time: LogTime(1_234), kind: "vm.created",
                    tenant: "t", vm: "a", host: "h", by: "me", text: "made")))
        try holds(
            ExplainInfo(
                vm: "a", standing: "waiting", host: "", before: 4, index: 9, hosts: 3, candidates: 1,
                excluded: [RuleCount(rule: "taint", hosts: 2)],
                rules: [RuleVerdict(rule: "taint", excluded: 2, excludedAlone: 1)],
                best: [
                    HostVerdict(
                        host: "h1", free: Resources(cpuMillis: 1), softRules: 7, score: 3,
                        groups: [GroupWeight(group: "web", weight: 7)], worthBefore: 9, worthAfter: 4, numaNodes: [0])
                ],
                asked: [
                    HostVerdict(host: "h2", excludedBy: ["taint"], shortages: ["1 MiB of memory"], free: .zero)
                ], policy: "pack", tieBreak: "the lowest host id", tied: 1, nearest: "", invalid: ""))
        try holds(GangInfo(count: 3, fitting: 2, missing: [.init(vm: "web-3", text: "no host fits: 3 by free cpu")]))
        try holds(
            PlanInfo(
                index: 7, digest: "ab",
                steps: [PlanStep(action: "migrate", vm: "a", tenant: "t", from: "h1", to: "h2", cost: 3, gain: 4)],
                left: [PlanLeft(vm: "b", tenant: "t", cause: "localDisk", text: "tied")], scoreBefore: 1, scoreAfter: 5,
                isComplete: false, changes: [PlanChange("policy", before: "pack", after: "spread", text: "x")],
                notes: ["nothing else"]))
        let probe = MoveProbe(memoryMiB: 1_024, dirtyMiBps: 300, copiesOnce: false, bytesPerSecond: 128 << 20)
        let outlook = MoveOutlook(probe, diskMiB: 5, host: "h1")
        try holds(outlook)
        #expect(outlook.forecasts.map(\.intent) == ["gentle", "balanced", "now"])
        var moving = PlanInfo(index: 7, digest: "", steps: [])
        moving.forecast = outlook.forecasts[0]
        try holds(moving)
        var played = CellRehearsal(region: "north", through: LogIndex(7))
        played.targets = [
            CellRehearsal.Target(
                cell: 2, name: "south", region: "south", free: Resources(cpuMillis: 1_000), at: LogTime(4_000))
        ]
        played.targets[0].vms = 1
        played.targets[0].demand = Resources(cpuMillis: 700)
        played.add(CellRehearsal.Step(cellVM(), .away, to: "south", region: "south", wave: 1))
        played.add(CellRehearsal.Step(cellVM(), .wait, cause: .homeOnly, text: "it waits"))
        played.waves = 3
        played.silence = .seconds(11)
        let part = RegionRehearsal(
            played, cell: "c", leaderIsThere: true, pace: .seconds(1), detection: .seconds(60), now: LogTime(9_000))
        #expect(part.cells[0].atLeastMillis == 13_000 && part.targets[0].ageMillis == 5_000)
        #expect(part.waits == [RehearsalWait(cell: "c", cause: "homeOnly", vms: 1)])
        var whole = RegionRehearsal(region: "north", nodes: 3, reached: 2)
        whole.add(part)
        #expect(!whole.targets[0].isOverbooked)
        whole.add(part)
        #expect(whole.targets.count == 1 && whole.targets[0].vms == 2 && whole.targets[0].isOverbooked)
        #expect(whole.cells.count == 2 && whole.steps.count == 4)
        whole.unanswered = ["d: it has no leader"]
        try holds(whole)
        try holds(CellSettingsBody(CellSetting.shown.map { ($0, $0.standard) }))
    }

    @Test func `a batch judges each item for itself, and an atomic one all together`() throws {
        let items =
            #"{"name":"a","spec":{"cpuMillis":1,"memoryMiB":1}},{"name":"b","spec":{"cpuMillis":0,"memoryMiB":1}}"#
        let batch = try VMBatch(parsed(#"{"items":[\#(items)]}"#, VMBatch.shape))
        #expect(batch.items.count == 2 && (try? batch.items[0].get())?.name == "a" && batch.names == ["a", "b"])
        guard case .failure(let problem) = batch.items[1] else {
            Issue.record("an item without CPU passed")
            return
        }
        #expect(problem.members.first?.value == .string("items[1].spec.cpuMillis"))
        #expect(throws: Problem.self) {
            try VMBatch(parsed(#"{"atomic":true,"items":[\#(items)]}"#, VMBatch.shape))
        }
        #expect(throws: Problem.self) { try VMBatch(parsed(#"{"items":[]}"#, VMBatch.shape)) }
    }

    /// The field that the problem of this body names.
    @Test(
        arguments: [
            (#"{"name":"a"}"#, "spec"), (#"{"name":"7","spec":{"cpuMillis":1,"memoryMiB":1}}"#, "name"),
            (#"{"name":"batch","spec":{"cpuMillis":1,"memoryMiB":1}}"#, "name"),
            (#"{"name":"a","spec":{"cpuMillis":1}}"#, "spec.memoryMiB"),
            (#"{"name":"a","spec":{"cpuMillis":1,"memoryMiB":-1}}"#, "spec.memoryMiB"),
            (#"{"name":"a","spec":{"cpuMillis":1,"memoryMiB":1.5}}"#, "spec.memoryMiB"),
            (#"{"name":"a","spec":{"cpuMillis":1,"memoryMiB":1,"x":2}}"#, "spec.x"),
            (#"{"name":"a","power":"off","spec":{"cpuMillis":1,"memoryMiB":1}}"#, "power"),
            (#"{"name":"a","spec":{"cpuMillis":1,"memoryMiB":1,"labels":{"a":1}}}"#, "spec.labels"),
            (#"{"name":"a","spec":{"cpuMillis":1,"memoryMiB":1,"numaExactly":1,"numaAtMost":1}}"#, "spec.numaAtMost"),
            (
                #"{"name":"a","spec":{"cpuMillis":1,"memoryMiB":1,"disks":[{"name":"d","sizeMiB":1,"kind":"shared"}]}}"#,
                "spec.disks[0].domain"
            ),
            (
                #"{"name":"a","spec":{"cpuMillis":1,"memoryMiB":1,"required":[{"key":"k"}]}}"#, "spec.required[0].key"
            ),
            (#"{"name":"-a","spec":{"cpuMillis":1,"memoryMiB":1}}"#, "name"),
        ])
    func `a problem names the member that is wrong`(_ body: String, _ field: String) {
        let problem = #expect(throws: Problem.self) { try VMCreation(parsed(body, VMCreation.shape)) }
        #expect([.malformed, .invalid].contains(problem?.kind) && problem?.members.first?.value == .string(field))
        #expect(problem?.members.first?.name == "field")
    }

    @Test func `what a request leaves out is as the page says`() throws {
        let creation = try VMCreation(
            parsed(#"{"name":"a","spec":{"cpuMillis":2.0,"memoryMiB":1,"zones":null}}"#, VMCreation.shape))
        #expect(
            creation
                == VMCreation(
                    name: "a", tenant: "default",
                    spec: {
                        var spec = smallSpec
                        spec.resources.cpuMillis = 2
                        return spec
                    }()))
    }

    @Test func `a secret field goes in as it is and comes out as a marker, and the marker leaves it as it was`() throws
    {
        let body =
            #"{"cpuMillis":1,"memoryMiB":1,"annotations":{"cloud-init.user-data":"hunter2","sim.boot-ms":"1"},"#
            + #""secrets":{"vnc":"hunter3"}}"#
        let spec = try VMDescription(parsed(body, VMDescription.shape))
        #expect(spec.annotations == [Named("sim.boot-ms", "1")] && spec.hasOpenSecrets)
        #expect(
            spec.secrets == [
                SecretField("cloud-init.user-data", .clear(Array("hunter2".utf8))),
                SecretField("vnc", .clear(Array("hunter3".utf8))),
            ])
        let json = JSONValue.object(spec.members)
        let shown = String(decoding: json.bytes, as: UTF8.self) + "\(spec) \(spec.secrets) \(spec.secrets[0].value)"
        #expect(!shown.contains("hunter") && shown.contains(#""vnc":"(secret)""#), "\(shown)")
        var dumped = ""
        dump(spec, to: &dumped)
        #expect(!dumped.contains("hunter") && !dumped.contains("104"), "\(dumped)")

        let again = try VMDescription(parsed(String(decoding: json.bytes, as: UTF8.self), VMDescription.shape))
        #expect(again.secrets.allSatisfy { $0.value == .kept })
        #expect(again.keepingSecrets(of: spec) == spec)
        // What an older program kept in the open is shown no more, and becomes a secret field with the next change.
        var old = spec
        (old.secrets, old.annotations) = ([], [Named("cloud-init.user-data", "hunter2")])
        #expect(!String(decoding: JSONValue.object(old.members).bytes, as: UTF8.self).contains("hunter"))
        #expect(again.keepingSecrets(of: old).secrets[0].value == .clear(Array("hunter2".utf8)))
        #expect(again.keepingSecrets(of: old).secrets[1].value == .kept)
        #expect(throws: Problem.self) {
            try VMDescription(
                parsed(
                    #"{"cpuMillis":1,"memoryMiB":1,"annotations":{"cloud-init.user-data":"a"},"secrets":{"cloud-init.user-data":"b"}}"#,
                    VMDescription.shape))
        }
        #expect(throws: Problem.self) {
            try VMDescription(parsed(#"{"cpuMillis":1,"memoryMiB":1,"secrets":{"a":1}}"#, VMDescription.shape))
        }
    }

    @Test func `while programs are about that know no secret fields, values stay annotations and are shown as such`()
        throws
    {
        let body =
            #"{"cpuMillis":1,"memoryMiB":1,"annotations":{"cloud-init.user-data":"hunter2","a":"b"},"secrets":{"vnc":"x"}}"#
        let spec = try VMDescription(parsed(body, VMDescription.shape))
        let kept = spec.withAnnotatedSecrets
        #expect(kept.annotations == [Named("a", "b"), Named("cloud-init.user-data", "hunter2")])
        #expect(kept.secrets == [SecretField("vnc", .clear(Array("x".utf8)))], "what they know no place for is refused")
        // What one reads here and sends through an older program is the value, and no marker in its place.
        var vm = CellVM(id: VMID(7), name: "a", tenant: "t", spec: kept, at: LogTime(0), by: "x")
        vm.spec.secrets = []
        var info = VMInfo(vm) { "\($0)" }
        #expect(!String(decoding: info.json.bytes, as: UTF8.self).contains("hunter2"))
        info.showsAnnotations = true
        #expect(String(decoding: info.json.bytes, as: UTF8.self).contains(#""cloud-init.user-data":"hunter2""#))
        // And what is sent back as a marker keeps the value where it was.
        let marked = try VMDescription(
            parsed(String(decoding: JSONValue.object(vm.spec.members).bytes, as: UTF8.self), VMDescription.shape))
        #expect(marked.keepingSecrets(of: vm.spec).withAnnotatedSecrets.annotations == kept.annotations)
    }

    @Test func `chosen members are shown and no others`() {
        let json = VMInfo(cellVM(), hostName: hostName).json.only(["name", "spec.labels", "migration.to"])
        #expect(
            String(decoding: json.bytes, as: UTF8.self)
                == #"{"name":"web-1","migration":{"to":"h4"},"spec":{"labels":{"env":"prod","team":"a b"}}}"#)
        #expect(VMInfo.shape.fields.count > 20)
    }

    @Test func `a watch's lines are JSON lines or server-sent events`() throws {
        let revision = Revision.end(of: LogIndex(7))
        var lines: [UInt8] = []
        WatchLine.write(
            .put, revision: revision, item: .object([JSONMember("name", .string("a\n"))]), asEvents: false, into: &lines
        )
        WatchLine.write(.delete, revision: revision, id: 9, asEvents: false, into: &lines)
        WatchLine.write(.progress, revision: revision, asEvents: false, into: &lines)
        let read = try lines.split(separator: 10).map { try WatchLine.parse($0) }
        #expect(read.map(\.kind) == [.put, .delete, .progress] && read[1].id == 9)
        #expect(read.allSatisfy { $0.revision == "7.255" })
        var events: [UInt8] = []
        WatchLine.write(.put, revision: revision, asEvents: true, into: &events)
        WatchLine.write(.progress, revision: revision, asEvents: true, into: &events)
        #expect(
            String(decoding: events, as: UTF8.self)
                == "event: put\ndata: {\"type\":\"put\",\"revision\":\"7.255\"}\n\n"
                + "id: 7.255\nevent: progress\ndata: {\"type\":\"progress\",\"revision\":\"7.255\"}\n\n")
    }
}

@Suite struct FilterTests {
    @Test(
        arguments: [
            ("phase=running", true), ("phase = running and host = h3", true), ("phase!=running", false),
            ("name~web", true), ("name!~web", false), ("label.env in (dev, prod)", true),
            ("label.env not in (dev,prod)", false), ("label.env", true), ("label.none", false),
            ("not label.none", true),
            ("label.none!=x", true), ("label.team='a b'", true), (#"label.team="a \b""#, true),
            ("cpuMillis>=2000 and cpuMillis<2001", true), ("priority=-7", true), ("priority in (1,-7)", true),
            ("priority>-7", false), ("group=web", true), ("group in (a,b)", false), ("group!=web", false),
            ("phase=stopped or name=web-1", true), ("phase=stopped or name=x and host=h3", false),
            ("(phase=stopped or name=web-1) and host=h3", true), ("not (phase=running)", false),
            ("not not phase=running", true), ("annotation.sim.boot-ms=200", true), ("tenant=='shop'", true),
            ("id=1099511627777", true), ("network=lan", true),
        ])
    func `a filter lets through what it says`(_ text: String, _ expected: Bool) throws {
        let expression = try FilterExpression(text, fields: FleetKind.vms.fields)
        let vm = cellVM()
        #expect(expression.matches { vm.field($0, hostName: hostName) } == expected)
    }

    @Test(arguments: [
        "", " ", "phase", "and", "phase=", "phase=running and", "(phase=running", "phase=running)", "colour=red",
        "label=x", "label.=x", "phase in running", "phase in ()", "phase in (a", "cpuMillis=much", "cpuMillis~1",
        "name<b", "phase=running host=h1", "name='a", "name=a|b", "phase not running", "phase=(a)", "=a",
        String(repeating: "(", count: 40) + "phase=a" + String(repeating: ")", count: 40),
        "name=" + String(repeating: "a", count: 3_000), Array(repeating: "name=a", count: 65).joined(separator: " or "),
    ])
    func `what is no filter is refused with its place`(_ text: String) {
        if text == "phase" {
            #expect(throws: Never.self) { try FilterExpression(text, fields: FleetKind.vms.fields) }
            return
        }
        let problem = #expect(throws: Problem.self) { try FilterExpression(text, fields: FleetKind.vms.fields) }
        #expect(problem?.kind == .invalid && problem?.members.first?.value == .string("filter"))
        #expect(problem?.detail.isEmpty == false)
    }

    @Test func `a value that a field must have is found for the index`() {
        #expect(filter("tenant=a")?.required("tenant") == "a")
        #expect(filter("host=h1 and tenant=a")?.required("tenant") == "a")
        #expect(filter("host=h1 or tenant=a")?.required("tenant") == nil)
        #expect(filter("not tenant=a")?.required("tenant") == nil)
        #expect(filter("tenant!=a")?.required("tenant") == nil)
    }

    @Test func `what all VMs of a list have in common is read from its index, where that is few`() {
        func mark(_ text: String, _ kind: FleetKind = .vms) -> CellMark? {
            FleetList(kind, filter: filter(text, kind)).mark
        }
        #expect(mark("phase=waiting") == .phase(.waiting))
        #expect(mark("cpuMillis>5 and phase=crashed") == .phase(.crashed))
        #expect(mark("group=web and phase=waiting") == .group("web"))
        #expect(mark("label.env=prod") == .label("env", "prod"))
        #expect(mark("host=h1 and label.a.b=c") == .label("a.b", "c"))
        for text in [
            "phase=running", "phase!=waiting", "phase=waiting or group=web", "not group=web", "group~web", "group!=web",
            "label.env", "label.env in (a,b)", "phase in (waiting,crashed)", "name=a and group=web",
            "group=''", "not label.env=a",
        ] {
            #expect(filter(text) != nil && mark(text) == nil, "\(text)")
        }
        #expect(mark("label.disk=ssd", .hosts) == nil && FleetList(.vms).mark == nil)
    }

    @Test func `every field that a list's filter knows is one that its things have`() {
        let vm = cellVM()
        for field in FleetKind.vms.fields where field.kind != .map {
            #expect(vm.field(field.name, hostName: hostName) != .none, "\(field.name)")
        }
        let host = CellHost(
            id: HostID(1), about: HostDescription(name: "h", capacity: .zero), incarnation: Incarnation(1),
            since: .zero)
        for field in FleetKind.hosts.fields where field.kind != .map {
            #expect(host.field(field.name) != .none, "\(field.name)")
        }
        let group = CellGroup(name: "g", tenant: "t", rule: .pack)
        for field in FleetKind.groups.fields { #expect(group.field(field.name) != .none, "\(field.name)") }
        let tenant = TenantInfo(name: "t", quota: .unlimited)
        for field in FleetKind.tenants.fields { #expect(tenant.field(field.name) != .none, "\(field.name)") }
    }
}

private func call(_ text: String) -> Result<AdminCall, Router.Refusal>? {
    var parser = RequestParser()
    parser.append(contentsOf: Array(text.utf8))
    guard case .request(let head) = parser.next() else { return nil }
    do throws(Router.Refusal) { return .success(try Router().call(parser, head)) } catch { return .failure(error) }
}

@Suite struct FleetRoutingTests {
    @Test func `only a batch may have a body that is larger than a value`() {
        let size = AdminLimits.standard.bodyBytesMax + 1
        for (path, isTaken) in [("/v1/vms/batch", true), ("/v1/vms", false), ("/v1/kv/s/a", false)] {
            var parser = RequestParser()
            parser.append(contentsOf: Array("POST \(path) HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n".utf8))
            #expect(parser.next() == (isTaken ? .needsMore : .fault(.bodyTooLarge)), "\(path)")
        }
        var parser = RequestParser()
        let most = AdminLimits.standard.batchBodyBytesMax
        parser.append(
            contentsOf: Array("POST /v1/vms/batch HTTP/1.1\r\nHost: a\r\nContent-Length: \(most + 1)\r\n\r\n".utf8))
        #expect(parser.next() == .fault(.batchTooLarge))
        #expect(RequestFault.batchTooLarge.detail(.standard).contains("\(most) bytes"))
        #expect(RequestFault.batchTooLarge.kind == .bodyTooLarge)
    }

    @Test(arguments: [("\"7\"", 7), ("7", 7), ("*", nil)] as [(String, UInt64?)])
    func `If-Match is a generation`(_ field: String, _ generation: UInt64?) throws {
        let answer = try #require(call("POST /v1/vms/a/stop HTTP/1.1\r\nHost: a\r\nIf-Match: \(field)\r\n\r\n"))
        #expect(try answer.get().request == .fleet(.stopVM(plain, generation: generation)))
    }

    @Test func `If-Match is refused where no generation is judged`() throws {
        for line in [
            "PUT /v1/tenants/a", "DELETE /v1/tenants/a", "DELETE /v1/groups/a", "POST /v1/rebalance",
            "DELETE /v1/spaces/a", "PUT /v1/kv/s/k", "DELETE /v1/kv/s/k",
        ] {
            let json = line.hasPrefix("PUT /v1/tenants") || line.contains("rebalance") ? "{}" : ""
            let body = json.isEmpty ? "\r\n" : "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            let answer = try #require(call("\(line) HTTP/1.1\r\nHost: a\r\nIf-Match: 3\r\n\(body)"))
            guard case .failure(let refusal) = answer else {
                Issue.record("\(line) was taken")
                continue
            }
            #expect(refusal.problem.kind == .malformed && refusal.problem.field == "If-Match", "\(line): \(refusal)")
        }
        // Whoever only looks may say what it wants.
        let read = try #require(call("GET /v1/tenants/a HTTP/1.1\r\nHost: a\r\nIf-Match: 3\r\n\r\n"))
        #expect((try? read.get()) != nil)
    }

    @Test func `a value that a field never has is refused with those that it has`() {
        for (text, kind) in [
            ("state=foo", FleetKind.hosts), ("duty!=foo", .hosts), ("health in (up,foo)", .hosts),
            ("phase=foo", .vms), ("power not in (foo)", .vms), ("cause=foo", .migrations), ("rule=foo", .groups),
            ("scope=foo", .groups),
            ("phase=running", .migrations),
        ] {
            do throws(Problem) {
                _ = try FilterExpression(text, fields: kind.fields)
                Issue.record("\(text) was taken")
            } catch {
                #expect(error.kind == .invalid && error.detail.contains("which it never is; use "), "\(error.detail)")
            }
        }
        #expect(filter("state=ready", .hosts) != nil && filter("phase~run") != nil && filter("name=foo") != nil)
    }

    @Test func `If-Match with anything else is refused and names itself`() throws {
        for field in ["x", "\"\"", "\"7", "W/\"7\"", "7, 8"] {
            let answer = try #require(call("POST /v1/vms/a/stop HTTP/1.1\r\nHost: a\r\nIf-Match: \(field)\r\n\r\n"))
            guard case .failure(let refusal) = answer else {
                Issue.record("\(field) is taken")
                continue
            }
            #expect(refusal.problem.members == [JSONMember("field", .string("If-Match"))])
        }
    }

    @Test func `a browser's stream goes on behind its last event`() throws {
        let fields = "Accept: text/event-stream\r\nLast-Event-ID: 9.255\r\n"
        let answer = try #require(call("GET /v1/events?watch=1 HTTP/1.1\r\nHost: a\r\n\(fields)\r\n"))
        let wanted = FleetList(.events, watch: .init(from: .end(of: LogIndex(9)), asEvents: true))
        #expect(try answer.get().request == .fleet(.list(wanted)))
    }

    @Test(arguments: [
        "/v1/vms?sort=colour", "/v1/vms?sort=group", "/v1/vms?fields=colour", "/v1/vms?fields=", "/v1/vms?limit=0",
        "/v1/vms?limit=1001", "/v1/vms?filter=", "/v1/vms?index=x", "/v1/vms?index=1&stale=1s", "/v1/vms?from=3",
        "/v1/vms?watch=1&limit=3", "/v1/vms?watch=1&sort=name", "/v1/vms?tenant=-", "/v1/events?after=x",
        "/v1/vms/a?tenant=", "/v1/vms/a/explain?hosts=a,,b", "/v1/tenants?tenant=a",
    ])
    func `a wrong parameter of a list is refused`(_ target: String) throws {
        let answer = try #require(call("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n"))
        guard case .failure(let refusal) = answer else {
            Issue.record("\(target) is taken")
            return
        }
        #expect([.malformed, .invalid].contains(refusal.problem.kind))
    }

    @Test func `roles say whose things are reached`() {
        let own: [Role] = [.tenant("a", mayWrite: true), .tenant("b", mayWrite: false)]
        #expect(Access.tenants(own, toWrite: false) == ["a", "b"] && Access.tenants(own, toWrite: true) == ["a"])
        #expect(Access.tenants([.viewer], toWrite: false) == nil && Access.tenants([.viewer], toWrite: true) == [])
        #expect(Access.tenants([.operator] + own, toWrite: true) == nil)
        #expect(
            Access.tenants(own, for: .planTenant("a")) == ["a"]
                && Access.tenants(own, for: .readTenant(nil)) == ["a", "b"])
        #expect(Access.tenants([.viewer], for: .planTenant("a")) == nil)
    }
}
