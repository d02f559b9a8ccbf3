import ClusterBase
import Controllers
import FleetModel
import Glibc
import Testing

/// Times of the keeper alone, at a size that every run bears; `MUSTER_SCALE=1` is for figures: 1,000 hosts, 50,000 VMs.
@Suite struct CellKeeperScaleTests {
    @Test func `a large cell is placed, drained and explained without looking at all of it`() throws {
        let isFull = getenv("MUSTER_SCALE").map { String(cString: $0) } == "1"
        let hosts = isFull ? 1_000 : 40
        let vms = isFull ? 50_000 : 1_000
        let world = CellWorld()
        for i in 0..<hosts {
            try world.addHost(cpu: 128_000, memory: 512 << 10, zone: "z\(i % 5)", rack: "r\(i % 20)")
        }
        try world.follow(&world.keeper)
        var random = PRNG(seed: 1)
        var clock = Stopwatch()
        var made = 0
        while made < vms {
            var items: [VMCreation] = []
            for i in 0..<min(256, vms - made) {
                let size = Int64(1 << random.below(3))
                let spec = CellWorld.spec(cpu: 1_000 * size, memory: 4_096 * size)
                items.append(VMCreation(name: "v\(made + i)", tenant: "default", spec: spec))
            }
            made += items.count
            try world.create(items)
            try world.work(&clock)
        }
        #expect(world.keeper.counts.placed == UInt64(vms) && world.refused.isEmpty)
        clock.report("placing and following", per: vms)
        // All of them run; the keeper hears of it.
        try world.tick(2)
        clock = Stopwatch()
        world.changeLeader()
        try world.work(&clock)
        clock.report("taking over", per: vms)
        clock = Stopwatch()
        for i in 0..<hosts / 10 { try world.apply(.setHostDuty(HostID(UInt64(i * 10 + 1)), .draining)) }
        try world.apply(.setSetting(.migrationsMax, 1_000))
        try world.apply(.setSetting(.migrationsPerHostMax, 100))
        let before = world.keeper.counts.migrationsBegun
        try world.work(&clock)
        clock.report("beginning \(world.keeper.counts.migrationsBegun - before) migrations of a drain", per: 1)
        clock = Stopwatch()
        var steps = 0
        clock.start()
        for i in 0..<hosts / 10 {
            let plan = try #require(world.planDrain(HostID(UInt64(i * 10 + 1))))
            steps += plan.steps.count
            #expect(plan.left.isEmpty)
        }
        clock.stop()
        clock.report("planning a drain of \(hosts / 10) hosts, \(steps) moves", per: max(1, steps))
        clock = Stopwatch()
        clock.start()
        let id = try #require(world.keeper.view.vms.keys.min())
        #expect(world.explain(id) != nil)
        clock.stop()
        clock.report("an explanation", per: 1)
        clock = Stopwatch()
        clock.start()
        _ = world.keeper.planRebalance()
        clock.stop()
        clock.report("planning a rebalancing", per: 1)
    }
}

struct Stopwatch {
    private var began = ContinuousClock.now
    private(set) var sum = Duration.zero
    private(set) var longest = Duration.zero
    mutating func start() { began = .now }
    mutating func stop() {
        let part = ContinuousClock.now - began
        sum += part
        longest = max(longest, part)
    }
    func report(_ what: String, per count: Int) {
        guard getenv("MUSTER_SCALE") != nil else { return }
        print("\(what): \(sum) in all, \(sum / count) each, longest step \(longest)")
    }
}

extension CellWorld {
    /// As `lead`, with the time that the keeper takes.
    func work(_ clock: inout Stopwatch) throws {
        for _ in 0..<10_000 {
            while (keeper.view.through ?? .zero) < index {
                let answer = try Cell.read(keeper.nextQuery, state)
                clock.start()
                keeper.take(answer, now: now)
                clock.stop()
            }
            if now < keeper.deadline { return }
            clock.start()
            let operations = keeper.plan(now: now) { watch }
            clock.stop()
            for operation in operations {
                let result = try apply([operation], by: "controller")[0]
                clock.start()
                keeper.take(.applied(result), of: operation, now: now)
                clock.stop()
            }
        }
    }
}
