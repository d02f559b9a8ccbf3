import ClusterBase
import FleetModel
import Testing

@testable import AdminAPI

/// Plans of changes: what they say of a VM, a cell's settings, and VMs that are made stopped.
@Suite struct DryRunTests {
    private func hostName(_ host: HostID) -> String { "h\(host.rawValue)" }

    private func vm(_ phase: CellVM.Phase = .running, _ change: (inout VMDescription) -> Void = { _ in }) -> CellVM {
        var spec = VMDescription(resources: Resources(cpuMillis: 2_000, memoryMiB: 4_096))
        spec.labels = [Named("env", "test"), Named("team", "a")]
        spec.disks = [
            .init(name: "root", sizeMiB: 10_240, kind: .local, image: "debian"),
            .init(name: "data", sizeMiB: 100, kind: .shared(domain: "ceph"), isKept: true),
            .init(name: "logs", sizeMiB: 50, kind: .shared(domain: "ceph")),
        ]
        change(&spec)
        var vm = CellVM(id: VMID(7), name: "web", tenant: "shop", spec: spec, at: LogTime(5), by: "me")
        vm.phase = phase
        vm.place = VMPlace(Assignment(host: HostID(3)), epoch: 2)
        vm.epochHighest = 2
        return vm
    }

    private func updated(_ old: CellVM, _ change: (inout CellVM) -> Void) -> PlanInfo {
        var new = old
        change(&new)
        return PlanInfo(updating: old, to: new, at: LogIndex(9), hostName: hostName)
    }

    @Test func `an update names each field with its old and new value, and what waits for a restart`() {
        let plan = updated(vm()) { vm in
            vm.spec.resources.memoryMiB = 8_192
            vm.spec.labels = [Named("env", "prod"), Named("tier", "1")]
            vm.spec.zones = ["a", "b"]
            vm.spec.priority = 5
        }
        #expect(
            plan.changes == [
                PlanChange("memoryMiB", before: "4096", after: "8192", text: "at its next start, at the latest"),
                PlanChange("zones", before: "", after: "a,b"), PlanChange("priority", before: "0", after: "5"),
                PlanChange("labels.env", before: "test", after: "prod"),
                PlanChange("labels.team", before: "a", after: ""), PlanChange("labels.tier", before: "", after: "1"),
            ])
        #expect(plan.notes.count == 1 && plan.notes[0].contains("muster vm restart web"))
        #expect(plan.steps.map(\.action) == ["update"] && plan.steps[0].from == "h3" && plan.index == 9)
        let labels = updated(vm()) { $0.spec.labels = [] }
        #expect(labels.notes.isEmpty && labels.changes.map(\.field) == ["labels.env", "labels.team"])
        #expect(labels.digest != plan.digest && !plan.digest.isEmpty)
        let later = PlanInfo(
            updating: vm(), to: vm { $0.labels = [] }, at: LogIndex(99), hostName: hostName)
        #expect(later.digest == labels.digest && later.index == 99)
    }

    @Test func `what a change of a specification waits for is told from its members alone`() throws {
        let old = try JSONParser.parse(
            Array(#"{"cpuMillis":1000,"labels":{"a":"1"},"annotations":{"x":"1"}}"#.utf8)[...])
        func needsRestart(_ new: String) throws -> Bool {
            PlanChange.needsRestart(from: old, to: try JSONParser.parse(Array(new.utf8)[...]))
        }
        #expect(try needsRestart(#"{"cpuMillis":2000,"labels":{"a":"1"},"annotations":{"x":"1"}}"#))
        #expect(try needsRestart(#"{"cpuMillis":1000,"memoryMiB":64,"labels":{"a":"1"},"annotations":{"x":"1"}}"#))
        #expect(try needsRestart(#"{"cpuMillis":1000,"annotations":{"x":"1","qemu.machine":"q35"}}"#))
        #expect(try !needsRestart(#"{"cpuMillis":1000,"labels":{"a":"2"},"priority":3,"annotations":{"x":"2"}}"#))
    }

    @Test func `what stands still needs no restart, and a disk is one field`() {
        let plan = updated(vm(.stopped)) { vm in
            vm.spec.resources.cpuMillis = 1_000
            vm.spec.disks[2].sizeMiB = 60
            vm.spec.disks.removeFirst()
        }
        #expect(plan.notes.isEmpty && plan.changes.allSatisfy(\.text.isEmpty))
        #expect(plan.changes.map(\.field) == ["cpuMillis", "disks.root", "disks.logs"])
        #expect(plan.changes[1].after.isEmpty && plan.changes[2].after.contains("\"sizeMiB\":60"))
        let leaves = updated(vm(.stopped)) { vm in
            vm.spec.numa = .nodes(2)
            vm.place = nil
        }
        #expect(leaves.notes.count == 1 && leaves.notes[0].contains("leaves its place on host h3"))
        let same = updated(vm()) { _ in }
        #expect(same.steps.isEmpty && same.changes.isEmpty && same.notes.count == 1)
    }

    @Test func `who may make a VM may ask what that would come to, and about one tenant's it is one tenant's action`() {
        func creation(_ tenant: String) -> VMCreation { VMCreation(name: "a", tenant: tenant, spec: vm().spec) }
        func action(_ tenants: String...) -> Action {
            FleetRequest.plan(.create(tenants.map(creation), isAtomic: false)).action
        }
        #expect(action("shop") == .planTenant("shop") && action("shop", "shop") == .planTenant("shop"))
        #expect(action("shop", "other") == .planTenant(nil))
        #expect(FleetRequest.plan(.drain("h1")).action == .observe)
        #expect(FleetRequest.plan(.quota(QuotaWish(tenant: "shop", quota: .unlimited))).action == .observe)
    }

    @Test func `another quota shows each bound before and after, and another value of any is another plan`() {
        let bare = PlanInfo(index: 3, digest: "a1", steps: [])
        let old = TenantSettings(quota: Quota(vmCount: 5, cpuMillis: 4_000), tier: "gold")
        let new = TenantSettings(quota: Quota(cpuMillis: 2_000, diskMiB: 10, priorityMax: 7), tier: "iron")
        let plan = bare.changing("shop", from: old, to: new)
        #expect(
            plan.changes == [
                PlanChange("vmCount", before: "5", after: "none"),
                PlanChange("cpuMillis", before: "4000", after: "2000"),
                PlanChange("diskMiB", before: "none", after: "10"), PlanChange("priorityMax", before: "0", after: "7"),
                PlanChange("tier", before: "gold", after: "iron"),
            ])
        #expect(plan.notes.isEmpty && plan.digest != bare.digest)
        var other = new
        other.quota.rto = .none
        let later = bare.changing("shop", from: old, to: other)
        #expect(later.changes.map(\.field).contains("rto") && later.digest != plan.digest)
        var since = old
        since.quota.memoryMiB = 64
        #expect(bare.changing("shop", from: since, to: new).digest != plan.digest)
        // What is not said of a tier leaves it.
        let untold = bare.changing("shop", from: old, to: TenantSettings(quota: old.quota))
        #expect(untold.changes.isEmpty && untold.notes == ["nothing would change: the tenant has this quota"])
        let made = bare.changing("shop", from: nil, to: TenantSettings(quota: Quota(vmCount: 1)))
        #expect(made.changes.first == PlanChange("vmCount", before: "", after: "1"))
        #expect(made.notes == ["the tenant shop would be made"])
    }

    @Test func `another policy of a host shows what of it differs`() {
        let bare = PlanInfo(index: 3, digest: "a1", steps: [])
        var old = HostPolicy(
            reserved: Resources(cpuMillis: 500, memoryMiB: 64), overcommit: .none, labels: [Named("disk", "ssd")],
            taints: [])
        let same = bare.changing(from: old, to: old)
        #expect(same.changes.isEmpty && same.notes == ["nothing would change: the host has this policy"])
        var new = old
        new.reserved.memoryMiB = 128
        new.labels = [Named("disk", "hdd"), Named("gpu", "1")]
        new.taints = [NamedTaint("slow")]
        let plan = bare.changing(from: old, to: new)
        #expect(plan.changes.map(\.field) == ["reserved.memoryMiB", "labels.disk", "labels.gpu", "taints.slow"])
        #expect(plan.changes[0].before == "64" && plan.changes[0].after == "128" && plan.notes.isEmpty)
        #expect(plan.changes[3].before.isEmpty && plan.changes[3].after.contains("slow"))
        old.reserved.cpuMillis = 0
        #expect(bare.changing(from: old, to: new).digest != plan.digest)
    }

    @Test func `a tenant's plan names no other tenant's VMs, says how many make room, and is the same plan`() {
        let own = PlanStep(action: "place", vm: "web", tenant: "shop", to: "h1")
        let others = ["a", "b"].map { PlanStep(action: "preempt", vm: $0, tenant: "dev", from: "h1") }
        let left = PlanLeft(vm: "b", tenant: "dev", cause: "preempted", text: "it is stopped")
        let plan = PlanInfo(index: 4, digest: "ab", steps: others + [own], left: [left], notes: ["x"])
        let seen = plan.seen(by: ["shop"])
        #expect(seen.steps == [own] && seen.left.isEmpty && seen.digest == "ab" && seen.index == 4)
        #expect(seen.notes == ["x", "to make room, 2 VMs of other tenants with a lower priority would be stopped"])
        #expect(!String(decoding: seen.json.bytes, as: UTF8.self).contains("dev"))
        #expect(plan.seen(by: ["shop", "dev"]) == plan)
    }

    @Test func `of a secret it is said that it is another one, and no more`() {
        let old = vm { $0.secrets = [SecretField("vnc", .sealed([1])), SecretField("kept", .sealed([2]))] }
        let plan = updated(old) { vm in
            vm.spec.secrets = [
                SecretField("vnc", .sealed([9])), SecretField("kept", .sealed([2])), SecretField("new", .sealed([3])),
            ]
        }
        let marker = SecretField.marker
        #expect(plan.changes.map(\.field) == ["secrets.new", "secrets.vnc"])
        #expect(plan.changes.allSatisfy { $0.after == marker } && plan.changes[0].before.isEmpty)
    }

    @Test func `a deletion names every disk, and whether it goes`() {
        let plan = PlanInfo(deleting: vm(), isAtOnce: false, at: LogIndex(9), hostName: hostName)
        #expect(plan.changes.map(\.field) == ["disks.root", "disks.data", "disks.logs"])
        #expect(plan.changes[0].before == "10240 MiB, local, of image debian" && plan.changes[0].after.isEmpty)
        #expect(plan.changes[1].after == plan.changes[1].before && plan.changes[1].text.contains("muster remains list"))
        #expect(
            plan.changes[2].after.isEmpty && plan.changes[2].text.contains("its file goes from storage domain ceph"))
        #expect(
            plan.steps.map(\.action) == ["delete"]
                && plan.notes == [
                    "it is stopped on host h3 first, and goes when that has confirmed it"
                ])
        var never = vm(.stopped)
        (never.place, never.epochHighest) = (nil, 0)
        let gone = PlanInfo(deleting: never, isAtOnce: true, at: LogIndex(9), hostName: hostName)
        #expect(gone.changes.allSatisfy { $0.text == "was never made" } && gone.notes[0].contains("at once"))
        never.isDeleting = true
        let twice = PlanInfo(deleting: never, isAtOnce: false, at: LogIndex(9), hostName: hostName)
        #expect(twice.steps.isEmpty && twice.changes.isEmpty && twice.notes == ["the VM is being deleted already"])
    }

    @Test func `a move says where from, where to, and what is copied`() {
        let plan = PlanInfo(migrating: vm(), to: HostID(4), at: LogIndex(9), hostName: hostName)
        #expect(
            plan.steps == [
                PlanStep(action: "migrate", vm: "web", tenant: "shop", from: "h3", to: "h4", cost: 4_096 + 10_240)
            ])
        for intent in MoveIntent.allCases {
            let plan = PlanInfo(migrating: vm(), to: HostID(4), intent: intent, at: LogIndex(9), hostName: hostName)
            #expect(plan.notes.contains { $0.hasPrefix("its intent is \(intent.word)") })
        }
        let away = PlanInfo(
            moving: vm(), to: "north", isCold: false, forecast: "cell north has room", at: LogIndex(9),
            hostName: hostName)
        #expect(away.steps[0].action == "move" && away.steps[0].to == "north" && away.notes.count == 2)
        #expect(away.notes[0].hasPrefix(vm().goesLive ? "it goes while it runs once" : "it stops once"))
        let cold = PlanInfo(
            moving: vm(), to: "north", isCold: true, forecast: "", at: LogIndex(9), hostName: hostName)
        #expect(cold.notes[0].hasPrefix("it stops once"))
        let still = PlanInfo(
            moving: vm(.stopped), to: "north", isCold: false, forecast: "", at: LogIndex(9), hostName: hostName)
        #expect(still.notes == ["it goes once cell north has kept room for it"])
    }

    @Test func `settings are shown in their words, as they are and as they would be`() {
        let plan = PlanInfo(
            settings: [(.policy, 1, 3), (.leaseLength, 9_000, 9_000), (.migrationsMax, 5, 6)], at: LogIndex(9))
        #expect(
            plan.changes == [
                PlanChange("policy", before: "pack", after: "spread"),
                PlanChange("migrationsMax", before: "5", after: "6"),
            ])
        #expect(plan.steps.isEmpty && plan.notes.isEmpty)
        #expect(PlanInfo(settings: [(.policy, 1, 1)], at: LogIndex(9)).notes.count == 1)
    }

    @Test func `a VM that is made stopped is in the plan, without a place`() {
        var plan = CellPlan(.create, through: LogIndex(9))
        plan.steps = [CellPlan.Step(.create, vm: VMID(0), item: 0, name: "a", tenant: "t", to: nil, toName: "")]
        let info = PlanInfo(plan)
        #expect(info.steps == [PlanStep(action: "create", vm: "a", tenant: "t")])
        #expect(info.notes == ["1 VM is created stopped, and gets a place when it is started"])
    }

    @Test func `a plan of new VMs leaves out those whose names others have, and all of them where it is all or none`() {
        func creation(_ name: String) -> VMCreation {
            VMCreation(name: name, tenant: "t", spec: VMDescription(resources: .zero))
        }
        let all = ["a", "b", "c"].map(creation)
        let step = PlanStep(action: "place", vm: "a", tenant: "t", to: "h1")
        let full = PlanLeft(vm: "c", tenant: "t", cause: "noHostFits", text: "no host fits")
        let plan = PlanInfo(index: 9, digest: "1f", steps: [step], left: [full])
        let taken = [(creation: all[1], text: "b is taken")]
        let some = plan.refusing(taken, of: all, isAtomic: false)
        #expect(some.steps == [step] && some.left.map(\.vm) == ["c", "b"] && some.left.last?.text == "b is taken")
        #expect(some.digest != plan.digest && some == plan.refusing(taken, of: all, isAtomic: false))
        let other = plan.refusing([(creation: all[2], text: "c is taken")], of: all, isAtomic: false)
        #expect(other.digest != some.digest && other.left.map(\.cause) == ["invalid"])
        let none = plan.refusing(taken, of: all, isAtomic: true)
        #expect(none.steps.isEmpty && none.left.map(\.vm) == ["a", "c", "b"])
        #expect(none.left.map(\.cause) == ["anotherItem", "noHostFits", "invalid"])
        #expect(plan.refusing([], of: all, isAtomic: true) == plan)
    }

    @Test func `whoever may not change it may not ask what the change would do, and a plan stands for itself`() {
        let reference = VMReference.named("web", tenant: "shop")
        for change: FleetRequest in [
            .deleteVM(reference, generation: nil), .migrateVM(reference, MigrationWish()),
            .changeSettings(CellSettingsBody([(.policy, 2)])),
        ] {
            #expect(FleetRequest.dryRun(change).action == change.action && change.canBeDryRun)
            #expect(!FleetRequest.dryRun(change).canBeDryRun && !FleetRequest.dryRun(change).isStream)
        }
        #expect(!FleetRequest.stopVM(reference, generation: nil).canBeDryRun)
    }

    @Test func `a plan over several cells has each VM once, in the first that takes it without stopping others`() {
        func item(_ name: String) -> VMCreation {
            VMCreation(name: name, tenant: "shop", spec: VMDescription(resources: Resources(cpuMillis: 1)))
        }
        func step(_ action: String, _ name: String, _ host: String) -> PlanStep {
            PlanStep(action: action, vm: name, tenant: "shop", to: host)
        }
        let none = PlanLeft(vm: "b", tenant: "shop", cause: "noHostFits", text: "no host fits")
        let north = PlanInfo(
            index: 7, digest: "7",
            steps: [step("place", "a", "n1"), step("preempt", "old", ""), step("place", "c", "n1")],
            left: [none])
        let first = north.part(of: ["a", "b", "c"].map(item), in: "north")
        #expect(first.taken.map(\.name) == ["a"] && first.rest.map(\.name) == ["b", "c"])
        #expect(first.plan.left.isEmpty, "another cell is asked first")
        let south = PlanInfo(index: 9, digest: "9", steps: [step("place", "b", "s1"), step("place", "c", "s1")])
        let second = south.part(of: first.rest, in: "south")
        #expect(second.rest.isEmpty)
        let whole = PlanInfo(creatingIn: [first, second])
        #expect(whole.steps.map(\.vm) == ["a", "b", "c"] && whole.left.isEmpty && whole.index == 0)
        #expect(whole.notes == ["1 VM in cell north", "2 VMs in cell south"])
        #expect(whole.digest != PlanInfo(creatingIn: [second, first]).digest)
        let alone = PlanInfo(creatingIn: [second])
        #expect(alone.digest == "9" && alone.index == 9)
    }

    @Test func `a dry run that is refused for a quota says that other cells were not asked`() {
        let refusal = CellRefusal.quotaExceeded(
            tenant: "shop", resource: "cpuMillis", limit: 1_000, used: 900, asked: 200)
        let problem = Problem(refusal)
        #expect(problem.ofDryRun(overCells: 2).detail.hasSuffix("asks other cells for what they do not use"))
        #expect(problem.ofDryRun(overCells: 2).members == problem.members)
        #expect(problem.ofDryRun(overCells: 1).detail == problem.detail)
        let other = Problem(CellRefusal.unknownGroup("web"))
        #expect(other.ofDryRun(overCells: 2).detail == other.detail)
    }
}
