import ClusterBase
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import Simulator
import Testing

/// What a move may cost, and what it would take, of both drivers.
@Suite(.serialized) struct MoveIntentTests {
    private func probe(_ drivers: Drivers, _ vm: CellVM) throws -> MoveProbe {
        var found: MoveProbe??
        drivers.hosts[0].probe(vm.id, now: drivers.now) { found = .some($0) }
        #expect(drivers.wait(atMost: 10) { found != nil }, "it says something")
        return try #require(found ?? nil)
    }

    private func move(_ drivers: Drivers, _ vm: CellVM, _ epoch: UInt64, _ intent: MoveIntent) {
        drivers.order(1, .receive(vm, epoch: epoch, from: HostID(rawValue: 1)))
        drivers.order(0, .send(vm.id, epoch: 1, target: epoch, to: HostID(rawValue: 2), intent: intent))
    }

    private func counts(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> Bool {
        String(decoding: Files.read(drivers.serial(host, vm)), as: UTF8.self).contains("tick 2")
    }

    @Test(arguments: Drivers.Kind.here)
    func
        `a driver measures what a guest writes, says nothing of one that is not here, and none at all of one that is paused`(
            _ kind: Drivers.Kind
        ) throws
    {
        let drivers = try Drivers.make(kind)
        defer { drivers.end() }
        let still = drivers.vm(1) { $0.annotations.append(Named("sim.dirty-mibps", "0")) }
        let busy = drivers.vm(2) {
            $0.annotations[0] = Named("qemu.append", "console=ttyS0 quiet panic=-1 dirty")
            $0.annotations.append(Named("sim.dirty-mibps", "40"))
        }
        for vm in [still, busy] { drivers.order(0, .start(vm, epoch: 1, isPaused: false)) }
        for vm in [still, busy] { #expect(drivers.wait(0, vm, .running)) }
        if let real = drivers as? QEMUDrivers {
            for vm in [still, busy] { #expect(drivers.wait { self.counts(real, 0, vm) }) }
            _ = drivers.wait(atMost: 2) { false }
        }
        let quiet = try probe(drivers, still)
        let loud = try probe(drivers, busy)
        print("\(kind): at rest \(quiet.dirtyMiBps ?? -1) MiB/s, writing \(loud.dirtyMiBps ?? -1) MiB/s")
        #expect(quiet.problem == "" && loud.problem == "")
        #expect((quiet.dirtyMiBps ?? 99) <= 8)
        #expect((loud.dirtyMiBps ?? 0) >= 4 && (loud.dirtyMiBps ?? 0) > (quiet.dirtyMiBps ?? 99))
        #expect(loud.memoryMiB > 0 && loud.copiesOnce == (kind == .qemu))
        drivers.order(0, .pause(busy.id, epoch: 1))
        #expect(drivers.wait(0, busy, .paused, atMost: 5))
        #expect(try probe(drivers, busy).dirtyMiBps == 0)
        var answers: [MoveProbe?] = []
        drivers.hosts[1].probe(busy.id, now: drivers.now) { answers.append($0) }
        #expect(drivers.wait(atMost: 5) { !answers.isEmpty } && answers == [nil])
    }

    @Test func `a simulated guest is never slowed down gently, and stays with the reason where that is not enough`()
        throws
    {
        let drivers = SimulatedDrivers()
        let vm = drivers.vm { $0.annotations.append(Named("sim.dirty-mibps", "300")) }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        move(drivers, vm, 2, .gentle)
        #expect(drivers.wait(atMost: 600) { drivers.states(0).contains(.copyFailed) })
        let why = drivers.news[0].last { $0.state == .copyFailed }?.message ?? ""
        #expect(why.contains("300 MiB/s") && why.contains("128 MiB/s") && why.contains("balanced or now"), "\(why)")
        #expect(drivers.wait(0, vm, .running, atMost: 5))
        #expect(!drivers.states(0).contains(.copied))
        drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
        #expect(drivers.wait(1, vm, .stopped, atMost: 5))
        var times: [Int64] = []
        for (epoch, intent) in [(3, MoveIntent.balanced), (4, .now)] as [(UInt64, MoveIntent)] {
            let began = drivers.now
            move(drivers, vm, epoch, intent)
            #expect(drivers.wait(0, vm, .copied, atMost: 600))
            times.append((drivers.now - began).milliseconds)
            drivers.order(0, .cancelSend(vm.id, epoch: 1))
            #expect(drivers.wait(0, vm, .running, atMost: 5))
            drivers.order(1, .discard(vm.id, epoch: epoch, forGood: true))
            #expect(drivers.wait(1, vm, .stopped, atMost: 5))
        }
        #expect(times[1] <= times[0], "\(times)")
    }

    @Test(.enabled(if: QEMU.absence == nil, "no QEMU, no kernel or no busybox on this machine"))
    func `a real guest that writes a lot stays gently, with the reason, and goes when it is to go now`() throws {
        let drivers = try QEMUDrivers { settings, _ in settings.bytesPerSecond = 4 << 20 }
        defer { drivers.end() }
        let vm = drivers.vm { $0.annotations[0] = Named("qemu.append", "console=ttyS0 quiet panic=-1 dirty") }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait { self.counts(drivers, 0, vm) })
        // Until it writes what it wrote before.
        _ = drivers.wait(atMost: 2) { false }
        for carrier in drivers.carriers { carrier.network.setBulkRate(4 << 20) }
        let forecast = MoveForecast(try probe(drivers, vm), intent: .gentle)
        print(forecast)
        #expect(forecast.chance == .none || forecast.chance == .poor)
        move(drivers, vm, 2, .gentle)
        #expect(drivers.wait(atMost: 90) { drivers.states(0).contains(.copyFailed) })
        let why = drivers.news[0].last { $0.state == .copyFailed }?.message ?? ""
        print(why)
        #expect(why.contains("gentle move") && why.contains("move it with the intent balanced or now"), "\(why)")
        #expect(drivers.wait(0, vm, .running, atMost: 10))
        let size = Files.size(drivers.serial(0, vm))
        #expect(drivers.wait(atMost: 5) { Files.size(drivers.serial(0, vm)) > size }, "it runs on")
        drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
        #expect(drivers.wait(1, vm, .stopped, atMost: 10))
        move(drivers, vm, 3, .now)
        #expect(drivers.wait(0, vm, .copied, atMost: 90))
        drivers.order(1, .finishArrival(vm.id, epoch: 3))
        #expect(drivers.wait(1, vm, .running, atMost: 10))
        let arrived = Files.size(drivers.serial(1, vm))
        #expect(drivers.wait(atMost: 10) { Files.size(drivers.serial(1, vm)) > arrived })
    }

    @Test(.enabled(if: QEMU.absence == nil, "no QEMU, no kernel or no busybox on this machine"))
    func `a guest that writes little goes gently, in about the time that was foretold`() throws {
        let drivers = try QEMUDrivers { settings, _ in settings.bytesPerSecond = 128 << 20 }
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait { self.counts(drivers, 0, vm) })
        let forecast = MoveForecast(try probe(drivers, vm), intent: .gentle)
        #expect(forecast.chance == .good || forecast.chance == .fair, "\(forecast)")
        let began = drivers.now
        move(drivers, vm, 2, .gentle)
        #expect(drivers.wait(0, vm, .copied, atMost: 60))
        let took = (drivers.now - began).milliseconds
        print("gentle: foretold \(forecast.milliseconds) ms, took \(took) ms")
        #expect(took >= 500, "it does not take all of the bandwidth")
        #expect(took <= 2 * forecast.milliseconds + 5_000)
        drivers.order(1, .finishArrival(vm.id, epoch: 2))
        #expect(drivers.wait(1, vm, .running, atMost: 5))
    }
}

/// The simulated driver's guests end when somebody says so.
@Suite struct CrashOnRequestTests {
    @Test func `a guest crashes once whenever it is told to anew, and not when it starts again`() {
        let drivers = SimulatedDrivers()
        func told(_ word: String?, _ generation: UInt64) -> CellVM {
            var vm = drivers.vm { spec in if let word { spec.annotations.append(Named("sim.crash", word)) } }
            vm.generation = generation
            return vm
        }
        let vm = told(nil, 1)
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        drivers.order(0, .update(told("now", 2), epoch: 1))
        #expect(drivers.wait(0, vm, .crashed, atMost: 1))
        #expect(drivers.last(0, vm)?.message == "crashed, as sim.crash asks for")
        drivers.order(0, .start(told("now", 2), epoch: 2, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        drivers.order(0, .update(told("now", 3), epoch: 2))
        #expect(!drivers.wait(0, vm, .crashed, atMost: 10), "that was said before")
        drivers.order(0, .update(told("again", 4), epoch: 2))
        #expect(drivers.wait(0, vm, .crashed, atMost: 1))
    }
}
