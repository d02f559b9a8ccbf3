import ClusterBase
import FleetModel
import Testing

/// What a move would take, from what was measured; and what an intent is in the state.
@Suite struct MoveForecastTests {
    private func probe(
        memory: Int64 = 4_096, dirty: Int64?, once: Bool = false, mebibytes: Int64 = 128, others: Int = 0
    ) -> MoveProbe {
        MoveProbe(
            memoryMiB: memory, dirtyMiBps: dirty, problem: dirty == nil ? "QEMU did not say" : "", copiesOnce: once,
            bytesPerSecond: mebibytes << 20, others: others)
    }

    @Test func `a guest at rest goes under every intent, and a gentle move takes as much longer as it takes less`() {
        let forecasts = MoveIntent.allCases.map { MoveForecast(probe(dirty: 0), intent: $0) }
        #expect(forecasts.allSatisfy { $0.chance == .good && $0.stopMilliseconds <= 100 })
        #expect((31_000...34_000).contains(forecasts[1].milliseconds), "\(forecasts[1])")
        #expect(forecasts[0].milliseconds > 7 * forecasts[1].milliseconds, "an eighth of the bandwidth")
        #expect(forecasts[2].milliseconds <= forecasts[1].milliseconds)
    }

    @Test func `a guest that writes more than is copied never ends gently, and is told what would help`() {
        let forecasts = MoveIntent.allCases.map { MoveForecast(probe(dirty: 100), intent: $0) }
        #expect(forecasts[0].chance == .none && forecasts[0].stopMilliseconds == 0)
        #expect(forecasts[0].reasons.contains { $0.contains("a gentle move does not slow it down") })
        #expect(forecasts[0].reasons.last?.hasPrefix("with the intent balanced it comes to an end in about") == true)
        #expect([.good, .fair].contains(forecasts[1].chance))
        #expect(forecasts[1].reasons.contains { $0.contains("slowed down by up to") })
        #expect(forecasts[2].milliseconds <= forecasts[1].milliseconds)
    }

    @Test func `where nothing helps, that is said`() {
        let hopeless = probe(memory: 1 << 20, dirty: 1 << 20, mebibytes: 1)
        for intent in MoveIntent.allCases {
            let forecast = MoveForecast(hopeless, intent: intent)
            guard forecast.chance == .none || forecast.chance == .poor else { continue }
            #expect(forecast.reasons.last?.hasPrefix("what helps is") == true || intent != .now)
        }
        #expect(MoveForecast(hopeless, intent: .gentle).chance == .none)
    }

    @Test func `an emulated guest is copied once, and what it wrote meanwhile is its stop`() {
        let forecast = MoveForecast(probe(memory: 128, dirty: 8, once: true), intent: .balanced)
        #expect(forecast.chance == .good)
        #expect((100...200).contains(forecast.stopMilliseconds), "8 MiB/s for a second, at 128: \(forecast)")
        let gentle = MoveForecast(probe(memory: 512, dirty: 400, once: true, mebibytes: 16), intent: .gentle)
        #expect(gentle.chance == .none, "512 MiB at 16 MiB/s are not 2 s: \(gentle)")
        #expect(gentle.reasons.last?.hasPrefix("with the intent balanced") == true)
        #expect(gentle.stopMilliseconds == MoveIntent.gentle.stopMax.milliseconds)
    }

    @Test func `disks go first, moves share, and what could not be measured is not made up`() {
        let bare = MoveForecast(probe(dirty: 0), intent: .balanced)
        let disks = MoveForecast(probe(dirty: 0), diskMiB: 1_280, intent: .balanced)
        #expect((9_500...10_700).contains(disks.milliseconds - bare.milliseconds))
        #expect(disks.reasons.contains { $0.hasPrefix("its disks go first") })
        let shared = MoveForecast(probe(dirty: 0, others: 3), intent: .balanced)
        #expect(shared.milliseconds > 3 * bare.milliseconds)
        let unknown = MoveForecast(probe(dirty: nil), intent: .balanced)
        #expect(unknown.chance == .fair && unknown.stopMilliseconds == 0)
        #expect(unknown.reasons.contains("what it writes is not known: QEMU did not say"))
    }

    @Test func `whatever is measured, a harder intent has no worse chance, and nothing is negative or beyond numbers`()
    {
        var random = PRNG(seed: 7)
        let odd: [Int64] = [0, 1, -1, .min, .max, 1 << 40]
        func draw(_ most: Int64) -> Int64 {
            random.chance(1, in: 8) ? odd[random.below(odd.count)] : random.within(0...most)
        }
        let order = [MoveForecast.Chance.none, .poor, .fair, .good]
        for _ in 0..<20_000 {
            let probe = MoveProbe(
                memoryMiB: draw(1 << 18), dirtyMiBps: random.chance(1, in: 10) ? nil : draw(2_000),
                copiesOnce: random.chance(1, in: 2), bytesPerSecond: draw(1 << 31), others: random.below(4))
            let disk = draw(1 << 20)
            let all = MoveIntent.allCases.map { MoveForecast(probe, diskMiB: disk, intent: $0) }
            for each in all {
                #expect(each.milliseconds >= 0 && each.stopMilliseconds >= 0 && !each.reasons.isEmpty)
            }
            let ranks = all.map { order.firstIndex(of: $0.chance) ?? 0 }
            // What is good may be called fair where the guest is slowed down for it.
            #expect(ranks[1] >= min(ranks[0], 2) && ranks[2] >= min(ranks[1], 2), "\(probe) \(all)")
        }
    }

    @Test func `a move says what it may cost, in its row, its event and to its host, from its level on`() throws {
        var cell = try CellBench(hosts: 2)
        let id = try cell.running("a", on: 1)
        let epoch = try #require(try cell.vm(id).place?.epoch)
        func begin(_ intent: MoveIntent) -> CellCommand.Operation {
            .beginMigration(id, from: epoch, to: Assignment(host: HostID(2)), cause: .asked, intent: intent)
        }
        #expect(try cell.refusal(begin(.gentle)) == .malformed)
        #expect(try cell.refusal(.setSetting(.moveIntent, 1)) == .malformed)
        cell.level = FeatureLevel.moveIntents
        try cell.must(begin(.gentle))
        #expect(try cell.vm(id).migration?.intent == .gentle)
        #expect(try cell.events(vm: id).last?.text == "asked, gentle")
        #expect(try cell.work(1)?.first?.migration?.intent == .gentle)
        try cell.must(.cancelMigration(id, target: epoch + 1))
        for wrong in [0, 4, 9] as [UInt64] {
            #expect(try cell.refusal(.setSetting(.moveIntent, wrong)) == .settingOutOfRange(.moveIntent))
        }
        try cell.must(.setSetting(.moveIntent, 3))
        var spec = try cell.vm(id).spec
        spec.moveIntent = .now
        #expect(CellCommand.Operation.updateVM(id, spec, generation: nil).level == FeatureLevel.moveIntents)
        try cell.must(.updateVM(id, spec, generation: nil))
        #expect(try cell.vm(id).spec.moveIntent == .now)
    }

    @Test func `a balanced move is the same bytes as one of a program that knows no intents`() {
        let plain = CellCommand(
            by: "a", .beginMigration(VMID(7), from: 1, to: Assignment(host: HostID(2)), cause: .asked))
        let balanced = CellCommand(
            by: "a",
            .beginMigration(VMID(7), from: 1, to: Assignment(host: HostID(2)), cause: .asked, intent: .balanced))
        #expect(plain.encoded() == balanced.encoded() && balanced.operation.level == FeatureLevel.oldest)
    }
}
