import ClusterBase
import Controllers
import FleetModel
import NodePorts
import Testing

@Suite struct HeldOrdersTests {
    private static let field = SecretField("k", .sealed([1]))
    private static let newer = SecretField("k", .sealed([2]))
    private let now = Instant.origin + .seconds(100)

    private func vm(_ field: SecretField? = field, generation: UInt64 = 1, image: String = "") -> CellVM {
        var vm = HostKeeperTests.vm()
        vm.generation = generation
        vm.spec.secrets = field.map { [$0] } ?? []
        if !image.isEmpty { vm.spec.disks = [.init(name: "d", sizeMiB: 1, kind: .local, image: image)] }
        return vm
    }

    private func digests(_ vm: CellVM) -> [String: String] {
        vm.spec.disks.contains { $0.image == "debian" } ? ["debian": "0a"] : [:]
    }

    private func begun(_ held: inout HeldOrders) {
        #expect(held.take([.start(vm(), epoch: 1, isPaused: false)], now: now, digests).isEmpty)
        #expect(held.takeQuestions(now: now).map(\.fields) == [[Self.field]])
        held.opened(vm().id, [Self.field], [Array("v".utf8)])
        let given = held.takeReady(now: now, digests)
        guard case .start(let told, epoch: 1, isPaused: false)? = given.first, given.count == 1 else {
            Issue.record("\(given.map(\.words))")
            return
        }
        #expect(told.spec.annotations == [Named("k", "v")])
        #expect(held.isEmpty)
    }

    @Test func `a VM whose image is not in the catalogue here begins after that was looked at as it is now`() {
        var held = HeldOrders()
        var catalogue: [String: String] = [:]
        let look = { (_: CellVM) in catalogue }
        let id = vm().id
        #expect(held.take([.start(vm(nil, image: "other"), epoch: 1, isPaused: false)], now: now, look).isEmpty)
        #expect(held.deadline == .origin)
        #expect(held.takeLookups() == [id] && held.takeLookups().isEmpty)
        #expect(held.deadline == Instant(nanoseconds: .max) && held.takeReady(now: now, look).isEmpty)
        // It came there meanwhile, and is fetched.
        catalogue = ["other": "0b"]
        held.looked(id, look)
        #expect(held.imagesWanted(now: now).map(\.digest) == ["0b"] && held.takeReady(now: now, look).isEmpty)
        held.imageIsReady(id, "0b")
        guard case .start(let told, epoch: 1, isPaused: false)? = held.takeReady(now: now, look).first else {
            Issue.record("it does not begin")
            return
        }
        #expect(told.spec.disks.first?.image == CatalogueName.prefix + "0b")
        // One that is not in it is a file of the host's own; one that was stopped meanwhile is not begun by an answer that is late.
        catalogue = [:]
        #expect(held.take([.start(vm(nil, image: "own.img"), epoch: 2, isPaused: false)], now: now, look).isEmpty)
        #expect(held.takeLookups() == [id])
        #expect(held.take([.stop(id, epoch: 2, grace: .zero)], now: now, look).count == 1)
        #expect(held.take([.start(vm(nil, image: "own.img"), epoch: 3, isPaused: false)], now: now, look).isEmpty)
        held.looked(id, look)
        #expect(held.takeReady(now: now, look).isEmpty, "that was the answer to another question")
        #expect(held.takeLookups() == [id])
        held.looked(id, look)
        #expect(held.takeReady(now: now, look).count == 1 && held.isEmpty)
    }

    @Test func `what is behind an update that can't be made ready goes on in its order, and the update alone is off`() {
        var held = HeldOrders()
        begun(&held)
        let id = vm().id
        let update = HypervisorOrder.update(vm(Self.newer, generation: 2), epoch: 1)
        #expect(held.take([update, .pause(id, epoch: 1)], now: now, digests).isEmpty)
        #expect(held.take([.resume(id, epoch: 1)], now: now, digests).isEmpty)
        #expect(held.takeQuestions(now: now).count == 1)
        #expect(held.failed(id, "no key", isFinal: true, now: now) == .passed)
        #expect(held.deadline == .origin)
        #expect(held.takeReady(now: now, digests) == [.pause(id, epoch: 1), .resume(id, epoch: 1)])
        #expect(held.isEmpty)
    }

    @Test func `an update that may still be made ready is tried on and holds nothing else up`() {
        var held = HeldOrders()
        begun(&held)
        let id = vm().id
        var now = now
        let update = HypervisorOrder.update(vm(Self.newer, generation: 2), epoch: 1)
        #expect(held.take([update, .pause(id, epoch: 1)], now: now, digests).isEmpty)
        #expect(held.failed(id, "nobody answers", isFinal: false, now: now) == .waiting)
        now = now + HeldOrders.patience
        #expect(held.failed(id, "nobody answers", isFinal: false, now: now) == .passed)
        #expect(held.takeReady(now: now, digests) == [.pause(id, epoch: 1)])
        #expect(held.take([.resume(id, epoch: 1)], now: now, digests) == [.resume(id, epoch: 1)])
        // For as long as it takes.
        now = now + .seconds(600)
        #expect(held.takeQuestions(now: now).map(\.fields) == [[Self.newer]])
        #expect(held.failed(id, "nobody answers", isFinal: false, now: now) == .waiting)
        now = now + .seconds(1)
        #expect(held.takeQuestions(now: now).count == 1)
        held.opened(id, [Self.newer], [Array("w".utf8)])
        guard case .update(let told, epoch: 1)? = held.takeReady(now: now, digests).first else {
            Issue.record("the update did not come")
            return
        }
        #expect(told.spec.annotations == [Named("k", "w")] && held.isEmpty)
    }

    @Test func `a later update takes the place of one that is tried on`() {
        var held = HeldOrders()
        begun(&held)
        let id = vm().id
        let later = now + HeldOrders.patience
        _ = held.take([.update(vm(Self.newer, generation: 2), epoch: 1)], now: now, digests)
        #expect(held.failed(id, "nobody answers", isFinal: false, now: later) == .passed)
        guard
            case .update(let told, epoch: 1)? = held.take([.update(vm(generation: 3), epoch: 1)], now: later, digests)
                .first
        else {
            Issue.record("its fields are open, so it passes")
            return
        }
        #expect(told.generation == 3 && held.isEmpty)
    }

    @Test func `what was ordered of a copy that did not begin goes with it, and a later copy begins`() {
        var held = HeldOrders()
        let id = vm().id
        let first = vm(nil, image: "debian")
        #expect(held.take([.start(first, epoch: 1, isPaused: false), .pause(id, epoch: 1)], now: now, digests).isEmpty)
        #expect(held.take([.start(vm(nil), epoch: 2, isPaused: true)], now: now, digests).isEmpty)
        #expect(held.imagesWanted(now: now).map(\.digest) == ["0a"])
        let crashed = VMReport(id, epoch: 1, .crashed, message: "no image")
        #expect(held.failed(id, "no image", isFinal: true, now: now) == .ended(.state(crashed)))
        #expect(held.takeReady(now: now, digests) == [.start(vm(nil), epoch: 2, isPaused: true)])
        #expect(held.isEmpty)
    }

    @Test func `a stop drops what waits`() {
        var held = HeldOrders()
        let id = vm().id
        _ = held.take([.start(vm(), epoch: 1, isPaused: false)], now: now, digests)
        let stop = HypervisorOrder.stop(id, epoch: 1, grace: .zero)
        #expect(held.take([stop], now: now, digests) == [stop])
        #expect(held.isEmpty && held.failed(id, "x", isFinal: true, now: now) == .waiting)
    }

    @Test func `a wait that lasts is told of, at intervals, and for the copy that waits`() {
        var held = HeldOrders()
        let about = vm(nil, image: "debian")
        #expect(held.wait(about.id, "coming", now: now) == nil, "nothing waits")
        #expect(held.take([.start(about, epoch: 3, isPaused: false)], now: now, digests).isEmpty)
        #expect(held.wait(about.id, "10 %", now: now) == nil, "it may be here in a moment")
        let later = now + HeldOrders.tellInterval
        #expect(held.wait(about.id, "20 %", now: later) == VMReport(about.id, epoch: 3, .starting, message: "20 %"))
        #expect(held.wait(about.id, "20 %", now: later + .seconds(9)) == nil, "it was said")
        #expect(held.wait(about.id, "21 %", now: later + .seconds(1)) == nil)
        #expect(held.wait(about.id, "50 %", now: later + .seconds(9))?.message == "50 %")
        held.imageIsReady(about.id, "0a")
        #expect(held.wait(about.id, "here", now: later + .seconds(9))?.message == "here", "at once")
    }

    @Test func `what waits begins with the bytes that its image's name meant when it began to wait`() {
        var held = HeldOrders()
        let about = vm(nil, image: "debian")
        #expect(held.take([.start(about, epoch: 3, isPaused: false)], now: now, digests).isEmpty)
        #expect(held.images == ["0a"])
        held.imageIsReady(about.id, "0a")
        #expect(held.images == ["0a"], "its file stays until the driver has the order")
        let given = held.takeReady(now: now) { _ in ["debian": "0b"] }
        guard case .start(let told, epoch: 3, isPaused: false)? = given.first else {
            Issue.record("\(given.map(\.words))")
            return
        }
        #expect(told.spec.disks.map(\.image) == [CatalogueName.prefix + "0a"])
        #expect(held.images.isEmpty)
    }
}
