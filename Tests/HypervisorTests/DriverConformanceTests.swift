import ClusterBase
import FleetModel
import NodePorts
import Testing

/// What every driver does alike.
@Suite(.serialized) struct DriverConformanceTests {
    @Test(arguments: Drivers.Kind.here)
    func `a VM starts, says so, and is gone when its stop is said`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 3, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        #expect(drivers.states(0).first == .starting)
        #expect(drivers.last(0, vm)?.epoch == 3)
        #expect(drivers.last(0, vm)?.generation == vm.generation)
        #expect(drivers.hosts[0].statistics(of: vm.id, now: drivers.now)?.memoryMiB ?? 0 > 0)
        drivers.order(0, .stop(vm.id, epoch: 3, grace: .milliseconds(300)))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        #expect(drivers.hosts[0].statistics(of: vm.id, now: drivers.now) == nil)
    }

    @Test(arguments: Drivers.Kind.here)
    func `an order that comes again is harmless`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let vm = drivers.vm()
        for _ in 0..<3 { drivers.order(0, .start(vm, epoch: 1, isPaused: false)) }
        #expect(drivers.wait(0, vm, .running))
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        #expect(!drivers.states(0).contains(.crashed))
        for _ in 0..<3 { drivers.order(0, .stop(vm.id, epoch: 1, grace: .zero)) }
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        drivers.order(0, .stop(vm.id, epoch: 1, grace: .zero))
        drivers.order(0, .discard(vm.id, epoch: 1, forGood: true))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        #expect(!drivers.states(0).contains(.crashed))
    }

    @Test(arguments: Drivers.Kind.here)
    func `what is not here is said to be stopped`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let (a, b) = (drivers.vm(1), drivers.vm(2))
        drivers.order(0, .stop(a.id, epoch: 1, grace: .seconds(5)))
        drivers.order(0, .discard(b.id, epoch: 1, forGood: true))
        #expect(drivers.wait(0, a, .stopped, atMost: 2))
        #expect(drivers.wait(0, b, .stopped, atMost: 2))
    }

    @Test(arguments: Drivers.Kind.here)
    func `an order of another epoch changes nothing`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 2, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        drivers.order(0, .stop(vm.id, epoch: 1, grace: .zero))
        drivers.order(0, .pause(vm.id, epoch: 3))
        drivers.order(0, .discard(vm.id, epoch: 1, forGood: true))
        _ = drivers.wait(atMost: 1) { false }
        #expect(drivers.hosts[0].statistics(of: vm.id, now: drivers.now) != nil)
        #expect(!drivers.news[0].contains { $0.epoch == 2 && [.stopped, .crashed, .paused].contains($0.state) })
    }

    @Test(arguments: Drivers.Kind.here)
    func `a VM is paused and goes on, and can start paused`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let (a, b) = (drivers.vm(1), drivers.vm(2))
        drivers.order(0, .start(a, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, a, .running))
        drivers.order(0, .pause(a.id, epoch: 1))
        #expect(drivers.wait(0, a, .paused))
        drivers.order(0, .resume(a.id, epoch: 1))
        #expect(drivers.wait(0, a, .running))
        drivers.order(0, .start(b, epoch: 1, isPaused: true))
        #expect(drivers.wait(0, b, .paused))
        drivers.order(0, .resume(b.id, epoch: 1))
        #expect(drivers.wait(0, b, .running))
    }

    @Test(arguments: Drivers.Kind.here)
    func `a VM that can't start says why`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let vm = drivers.vm { spec in
            spec.annotations = [Named("qemu.kernel", "absent"), Named("sim.start-fails", "its kernel is absent")]
        }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .crashed, atMost: 5))
        #expect(drivers.last(0, vm)?.message.contains("absent") == true)
    }

    @Test(arguments: Drivers.Kind.here)
    func `only a change that needs no other machine is taken at once`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        var vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        vm.generation = 2
        vm.spec.labels = [Named("team", "web")]
        drivers.order(0, .update(vm, epoch: 1))
        #expect(drivers.wait(atMost: 2) { drivers.last(0, vm)?.generation == 2 })
        vm.generation = 3
        vm.spec.resources.memoryMiB = 256
        drivers.order(0, .update(vm, epoch: 1))
        let count = drivers.news[0].count
        #expect(drivers.wait(atMost: 2) { drivers.news[0].count > count || drivers.last(0, vm)?.generation == 2 })
        #expect(drivers.last(0, vm)?.generation == 2)
    }

    @Test(arguments: Drivers.Kind.here)
    func `a VM moves, waits for its commit, and goes on at its new host`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        drivers.order(1, .receive(vm, epoch: 2, from: HostID(rawValue: 1)))
        drivers.order(0, .send(vm.id, epoch: 1, target: 2, to: HostID(rawValue: 2)))
        #expect(drivers.wait(0, vm, .copied))
        _ = drivers.wait(atMost: 1) { false }
        #expect(drivers.last(0, vm)?.state == .copied, "it waits")
        #expect(!drivers.states(1).contains(.running), "nobody has committed")
        drivers.order(1, .finishArrival(vm.id, epoch: 2))
        #expect(drivers.wait(1, vm, .running, atMost: 5))
        #expect(drivers.last(1, vm)?.epoch == 2)
        drivers.order(0, .discard(vm.id, epoch: 1, forGood: true))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        #expect(drivers.hosts[0].statistics(of: vm.id, now: drivers.now) == nil)
        #expect(drivers.hosts[1].statistics(of: vm.id, now: drivers.now) != nil)
    }

    @Test(arguments: Drivers.Kind.here)
    func `a VM moves with the disks of its host, which count in its progress`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let vm = drivers.vm { spec in
            spec.disks = [
                .init(name: "data", sizeMiB: 2_048, kind: .local), .init(name: "tmp", sizeMiB: 64, kind: .ephemeral),
            ]
        }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        drivers.order(1, .receive(vm, epoch: 2, from: HostID(rawValue: 1)))
        drivers.order(0, .send(vm.id, epoch: 1, target: 2, to: HostID(rawValue: 2)))
        #expect(drivers.wait(0, vm, .copied, atMost: 60))
        #expect(drivers.news[0].contains { $0.state == .copying && $0.progressMillis > 500 })
        drivers.order(1, .finishArrival(vm.id, epoch: 2))
        #expect(drivers.wait(1, vm, .running, atMost: 5))
        drivers.order(0, .discard(vm.id, epoch: 1, forGood: true))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
    }

    @Test(arguments: Drivers.Kind.here.filter { $0 == .simulated || QEMU.hasTPM })
    func `a VM moves with its TPM, wherever that remembers`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        for (number, tpm) in [.local, .ephemeral, .shared(domain: "fast")].enumerated()
            as EnumeratedSequence<[VMDescription.NamedDisk.Kind]>
        {
            let vm = drivers.vm(UInt64(number + 1)) { $0.tpm = tpm }
            drivers.order(0, .start(vm, epoch: 1, isPaused: false))
            #expect(drivers.wait(0, vm, .running), "\(drivers.last(0, vm)?.message ?? "")")
            drivers.order(1, .receive(vm, epoch: 2, from: HostID(rawValue: 1)))
            drivers.order(0, .send(vm.id, epoch: 1, target: 2, to: HostID(rawValue: 2)))
            #expect(drivers.wait(0, vm, .copied))
            drivers.order(1, .finishArrival(vm.id, epoch: 2))
            #expect(drivers.wait(1, vm, .running, atMost: 5))
            drivers.order(0, .discard(vm.id, epoch: 1, forGood: true))
            #expect(drivers.wait(0, vm, .stopped, atMost: 5))
            drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
            #expect(drivers.wait(1, vm, .stopped, atMost: 5))
        }
    }

    @Test(arguments: Drivers.Kind.here)
    func `a move that is called off when all is copied leaves the VM where it was`(_ kind: Drivers.Kind) throws {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        drivers.order(1, .receive(vm, epoch: 2, from: HostID(rawValue: 1)))
        drivers.order(0, .send(vm.id, epoch: 1, target: 2, to: HostID(rawValue: 2)))
        #expect(drivers.wait(0, vm, .copied))
        drivers.order(0, .cancelSend(vm.id, epoch: 1))
        drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
        #expect(drivers.wait(0, vm, .running, atMost: 5))
        #expect(drivers.wait(1, vm, .stopped, atMost: 5))
        // And it can go another time.
        drivers.order(1, .receive(vm, epoch: 3, from: HostID(rawValue: 1)))
        drivers.order(0, .send(vm.id, epoch: 1, target: 3, to: HostID(rawValue: 2)))
        #expect(drivers.wait(0, vm, .copied))
        drivers.order(1, .finishArrival(vm.id, epoch: 3))
        #expect(drivers.wait(1, vm, .running, atMost: 5))
    }
}
