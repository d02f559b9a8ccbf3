internal import ClusterBase

/// What a VM's host knows before it moves: measured, not promised.
package struct MoveProbe: Hashable, Sendable {
    /// That its guest uses, or that it takes of its host.
    package var memoryMiB: Int64
    /// Different memory that its guest wrote to in a second; nil where that was not measured.
    package var dirtyMiBps: Int64?
    /// Why not.
    package var problem: String
    /// Its memory is copied once while it runs, and the rest while it stands still: of guests under emulation.
    package var copiesOnce: Bool
    /// What moves from its host may take together, and how many others do now.
    package var bytesPerSecond: Int64
    package var others: Int
    package init(
        memoryMiB: Int64, dirtyMiBps: Int64?, problem: String = "", copiesOnce: Bool, bytesPerSecond: Int64,
        others: Int = 0
    ) {
        self.memoryMiB = memoryMiB
        self.dirtyMiBps = dirtyMiBps
        self.problem = problem
        self.copiesOnce = copiesOnce
        self.bytesPerSecond = bytesPerSecond
        self.others = others
    }
}

/// What a live migration would take, how long its guest would stand still, and whether it comes to an end.
package struct MoveForecast: Hashable, Sendable {
    package enum Chance: String, Hashable, Sendable, CaseIterable {
        case good, fair, poor, none
    }

    package var intent: MoveIntent
    package var chance: Chance
    /// Of all of it, the disks first. Where it does not come to an end, until it is given up.
    package var milliseconds: Int64
    /// So long the guest stands still.
    package var stopMilliseconds: Int64
    /// In sentences without an end: what the rest follows from, and what would help.
    package var reasons: [String]

    /// Passes over the memory of a guest that runs, before it is stopped whatever it writes.
    package static let passesMax = 40
    /// What ends it besides the copying: the commit, and the guest's first steps.
    static let overheadMilliseconds: Int64 = 50

    /// `diskMiB`: of disks on its host, which move along.
    package init(_ probe: MoveProbe, diskMiB: Int64 = 0, intent: MoveIntent) {
        self.init(MoveModel(probe, diskMiB, intent))
        if chance == .poor || chance == .none { advise(probe, diskMiB) }
    }

    private init(_ model: MoveModel) {
        var model = model
        intent = model.intent
        let end = model.run()
        (milliseconds, stopMilliseconds) = (end.milliseconds, end.stopMilliseconds)
        (chance, reasons) = (end.chance, model.reasons)
    }

    /// What would help.
    private mutating func advise(_ probe: MoveProbe, _ diskMiB: Int64) {
        var intent = intent
        while intent.harder != intent {
            intent = intent.harder
            let other = MoveForecast(MoveModel(probe, diskMiB, intent))
            guard other.chance == .good || other.chance == .fair else { continue }
            reasons.append(
                "with the intent \(intent.word) it comes to an end in about \(MoveForecast.text(other.milliseconds)), "
                    + "with a stop of about \(MoveForecast.text(other.stopMilliseconds))")
            return
        }
        reasons.append(
            "what helps is a time when it writes less, fewer moves at once, or a higher peer.bulk-rate and bulk-rate")
    }

    /// As people say it.
    package static func text(_ milliseconds: Int64) -> String {
        if milliseconds < 1_000 { return "\(milliseconds) ms" }
        if milliseconds < 10_000 { return "\(milliseconds / 1_000).\(milliseconds / 100 % 10) s" }
        return milliseconds < 600_000 ? "\(milliseconds / 1_000) s" : "\(milliseconds / 60_000) min"
    }
}

/// A guest's copying as it would go: kibibytes and milliseconds.
struct MoveModel {
    struct End {
        var chance: MoveForecast.Chance
        var milliseconds: Int64
        var stopMilliseconds: Int64
    }

    let intent: MoveIntent
    private(set) var reasons: [String] = []
    private let memory: Int64
    private let disks: Int64
    private let dirty: Int64?
    private let problem: String
    private let copiesOnce: Bool
    /// While the guest runs, and while it stands still, per millisecond; at least 1.
    private let pace: Int64
    private let paceStopped: Int64
    private let givesUpAt: Int64?

    init(_ probe: MoveProbe, _ diskMiB: Int64, _ intent: MoveIntent) {
        self.intent = intent
        let bytesPerSecond = max(1, probe.bytesPerSecond)
        let bound: Int64 = 1 << 40
        memory = max(1, min(probe.memoryMiB, bound)) << 10
        disks = max(0, min(diskMiB, bound)) << 10
        dirty = probe.dirtyMiBps.map { max(0, min($0, 1 << 30)) << 10 }
        problem = probe.problem
        copiesOnce = probe.copiesOnce
        let share = max(1, bytesPerSecond / Int64(max(0, min(probe.others, 1_000)) + 1))
        pace = max(1, min(intent.bandwidth(of: bytesPerSecond), share) / 1_024_000)
        paceStopped = max(1, share / 1_024_000)
        givesUpAt = intent.copyingMax(memoryMiB: memory >> 10, bytesPerSecond: bytesPerSecond)?.milliseconds
    }

    /// Kibibytes in a second, for people.
    private func rate(_ kibibytes: Int64) -> String { "\(kibibytes >> 10) MiB/s" }
    private var paceText: String { rate(pace * 1_000) }

    mutating func run() -> End {
        let ahead = disks / pace
        reasons.append("it gets \(paceText) of its host's rate for bulk while it runs")
        if disks > 0 { reasons.append("its disks go first, in about \(MoveForecast.text(ahead))") }
        let first = memory / pace
        guard let dirty else {
            reasons.append("what it writes is not known: \(problem)")
            return End(chance: .fair, milliseconds: ahead + first, stopMilliseconds: 0)
        }
        reasons.append("it uses \(memory >> 10) MiB of memory, and wrote to \(dirty >> 10) MiB of it in a second")
        var end = copiesOnce ? once(first, dirty) : passes(first, dirty)
        end.milliseconds += ahead
        return end
    }

    /// Written again in a time, of what there is.
    private func written(_ dirty: Int64, in milliseconds: Int64) -> Int64 {
        let product = dirty.multipliedReportingOverflow(by: milliseconds)
        return product.overflow ? memory : min(memory, product.partialValue / 1_000)
    }

    private mutating func once(_ first: Int64, _ dirty: Int64) -> End {
        let stop = written(dirty, in: first) / paceStopped + MoveForecast.overheadMilliseconds
        reasons.append(
            "it runs under emulation: what it writes while it is copied goes over while it stands still; that is less where it writes "
                + "to the same memory again")
        if intent == .gentle, stop > intent.stopMax.milliseconds {
            reasons.append(
                "that is at most \(MoveForecast.text(intent.stopMax.milliseconds)) for gentle moves, and "
                    + "\(MoveForecast.text(stop)) would be needed if it writes elsewhere all the time")
            return End(
                chance: stop > 4 * intent.stopMax.milliseconds ? .none : .poor,
                milliseconds: first + intent.stopMax.milliseconds, stopMilliseconds: intent.stopMax.milliseconds)
        }
        let isNear = intent == .gentle && stop > intent.stopMax.milliseconds / 2
        return End(chance: isNear ? .fair : .good, milliseconds: first + stop, stopMilliseconds: stop)
    }

    private mutating func passes(_ first: Int64, _ dirty: Int64) -> End {
        let planned = intent.stopPlanned.milliseconds
        var (time, passed, writes, left) = (first, first, dirty, memory)
        var slowed: Int64 = 0
        for pass in 1...MoveForecast.passesMax {
            left = written(writes, in: passed)
            if left / paceStopped <= planned {
                if slowed > 0 { reasons.append("it is slowed down by up to \(slowed) % meanwhile") }
                let stop = left / paceStopped + MoveForecast.overheadMilliseconds
                let isLate = givesUpAt.map { time > $0 } ?? false
                if isLate { break }
                let isGood = slowed < 50 && pass < MoveForecast.passesMax / 2
                return End(chance: isGood ? .good : .fair, milliseconds: time + stop, stopMilliseconds: stop)
            }
            // As QEMU does it: a fifth less first, and each time a tenth more.
            let isSlowed = intent.slowdown == .atOnce || (intent.slowdown == .later && pass >= 3)
            if isSlowed { slowed = min(99, slowed == 0 ? intent.slowdownFirst : slowed + intent.slowdownFirst / 2) }
            writes = dirty * (100 - slowed) / 100
            passed = max(1, left / pace)
            time += passed
            if let givesUpAt, time > givesUpAt { break }
        }
        let ends = min(time, givesUpAt ?? time)
        reasons.append(
            "each pass leaves \(left >> 10) MiB that it wrote meanwhile"
                + (intent.slowdown == .never ? ", and a gentle move does not slow it down" : ""))
        return End(chance: dirty / 1_000 >= pace ? .none : .poor, milliseconds: ends, stopMilliseconds: 0)
    }
}
