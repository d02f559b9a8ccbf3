internal import AdminAPI
import ClusterBase
internal import FleetModel
internal import NodePorts
internal import Reactor

// What a move may cost, as it is asked of QEMU and held to here; and what a move would cost, measured before.

/// How a guest is sent, and when that is given up.
struct MovePace {
    private(set) var intent = MoveIntent.balanced
    /// Of a gentle move: the end of its copying, and of its stop.
    private(set) var copiesUntil: Instant?
    private(set) var stopsUntil: Instant?
    /// What the carrier had carried when the guest stood still.
    private(set) var bytesAtStop: UInt64 = 0
    /// That QEMU found written in a second, under KVM.
    var dirtyPages: Int64 = 0

    init(_ intent: MoveIntent = .balanced) { self.intent = intent }

    /// QEMU is copying, and has said how much there is.
    mutating func begin(_ now: Instant, memoryMiB: Int64, _ bytesPerSecond: Int64) {
        guard copiesUntil == nil else { return }
        copiesUntil = intent.copyingMax(memoryMiB: memoryMiB, bytesPerSecond: bytesPerSecond).map { now + $0 }
    }

    mutating func stop(_ now: Instant, carried: UInt64) {
        guard intent == .gentle, stopsUntil == nil else { return }
        stopsUntil = now + intent.stopMax
        bytesAtStop = carried
    }

    func wake(before moment: Instant) -> Instant { stopsUntil.map { min($0, moment) } ?? moment }
}

extension Guest {
    /// Before a move begins: what an earlier one set is set anew.
    func setPace(stopsForDisks: Bool) {
        let intent = pace.intent
        var capabilities = [Guest.capability("auto-converge", intent.slowdown != .never)]
        if stopsForDisks { capabilities.append(Guest.capability("pause-before-switchover")) }
        line?.execute("migrate-set-capabilities", [JSONMember("capabilities", .array(capabilities))])
        let isAtOnce = intent.slowdown == .atOnce
        let bandwidth = intent == .gentle ? intent.bandwidth(of: driver.settings.bytesPerSecond) : Guest.bandwidthMax
        line?.execute(
            "migrate-set-parameters",
            [
                JSONMember("downtime-limit", .integer(isEmulated ? 0 : intent.stopPlanned.milliseconds)),
                JSONMember("max-bandwidth", .integer(bandwidth)),
                // In percent: of what is copied, that a guest may write; of its time, that it loses first, and more each time.
                JSONMember("throttle-trigger-threshold", .integer(isAtOnce ? 10 : 50)),
                JSONMember("cpu-throttle-initial", .integer(intent.slowdownFirst)),
                JSONMember("cpu-throttle-increment", .integer(intent.slowdownFirst / 2)),
            ])
    }

    /// The end of its move is held up by nothing but what it wrote.
    func standStill() {
        pace.stop(driver.loop.now, carried: stream?.bytesCarried ?? 0)
        if let until = pace.stopsUntil { wakeAt = min(wakeAt ?? until, until) }
    }

    /// Why a gentle move is given up now. Its stream is closed then: QEMU hears nothing else while it writes the rest.
    func overrun(_ now: Instant) -> String? {
        let help = "move it with the intent balanced or now, or when it writes less"
        switch sending {
        case .copying, .settling, .written:
            if let until = pace.stopsUntil, now >= until {
                let stop = pace.intent.stopMax.milliseconds / 1_000
                let carried = ((stream?.bytesCarried ?? 0) - min(pace.bytesAtStop, stream?.bytesCarried ?? 0)) >> 20
                return
                    "a gentle move stops it for \(stop) s at most, in which \(carried) MiB of what it had written went over, "
                    + "and not all; \(help)"
            }
            guard let until = pace.copiesUntil, pace.stopsUntil == nil, now >= until else { return nil }
            let written = pace.dirtyPages > 0 ? " (it writes \(pace.dirtyPages >> 8) MiB/s)" : ""
            return "its gentle move did not come to an end in its time\(written); \(help)"
        case .none, .mirroring, .reaching, .marking, .copied, .returning: return nil
        }
    }
}

/// Who waits for what a guest writes in a second.
struct Probing {
    /// Who asks at one time; more get no answer of their own.
    static let askersMax = 16
    static let interval = Nanoseconds.milliseconds(100)
    static let patience = Nanoseconds.seconds(4)
    /// Of a GiB of memory, looked at twice.
    static let samplePages: Int64 = 4_096

    var askers: [(MoveProbe?) -> Void] = []
    var until = Instant.origin
    /// Of the guest's memory, as its QEMU says; its process has more.
    var memoryBytes: Int64?
}

extension Guest {
    func probe(_ now: Instant, _ done: @escaping (MoveProbe?) -> Void) {
        guard case .up = phase, !record.isArriving, let line, probing.askers.count < Probing.askersMax else {
            return done(nil)
        }
        probing.askers.append(done)
        if probing.askers.count > 1 { return }
        probing.until = now + Probing.patience
        line.execute("query-memory-size-summary") { [weak self] answer in
            guard let self else { return }
            if case .success(let sizes) = answer { probing.memoryBytes = sizes["base-memory"]?.integer }
            if isPaused { endProbe(found(dirty: 0)) } else { measure() }
        }
    }

    private func measure() {
        guard let line else { return endProbe(nil) }
        line.execute(
            "calc-dirty-rate",
            [JSONMember("calc-time", .integer(1)), JSONMember("sample-pages", .integer(Probing.samplePages))]
        ) { [weak self] answer in
            guard let self else { return }
            switch answer {
            case .failure(let failure): endProbe(found(dirty: nil, failure.message))
            case .success: lookLater()
            }
        }
    }

    private func lookLater() {
        ProbeTimer.start(driver.loop, after: Probing.interval) { [weak self] in self?.look() }
    }

    private func look() {
        guard case .up = phase, let line else { return endProbe(nil) }
        if driver.loop.now >= probing.until {
            return endProbe(found(dirty: nil, "QEMU did not say in time what it writes"))
        }
        line.execute("query-dirty-rate") { [weak self] answer in
            guard let self else { return }
            guard case .success(let rate) = answer, rate["status"]?.text == "measured" else { return lookLater() }
            endProbe(found(dirty: rate["dirty-rate"]?.integer))
        }
    }

    private func found(dirty: Int64?, _ problem: String = "") -> MoveProbe? {
        guard let pid = pids.first, let usage = HostProcess.usage(of: pid) else { return nil }
        return MoveProbe(
            memoryMiB: min(usage.memoryBytes, probing.memoryBytes ?? .max) >> 20, dirtyMiBps: dirty, problem: problem,
            copiesOnce: isEmulated,
            bytesPerSecond: driver.settings.bytesPerSecond, others: driver.sending(besides: record.vm))
    }

    /// With nothing where its line ended.
    func endProbe(_ probe: MoveProbe?) {
        let askers = probing.askers
        probing.askers = []
        for asker in askers { asker(probe) }
    }
}

/// Calls once, later.
final class ProbeTimer: TimerHandler {
    private let body: () -> Void
    private var own: ProbeTimer?
    private init(_ body: @escaping () -> Void) { self.body = body }

    static func start(_ loop: EventLoop, after pause: Nanoseconds, _ body: @escaping () -> Void) {
        let timer = ProbeTimer(body)
        timer.own = timer
        _ = loop.setTimer(at: loop.now + pause, timer, tag: 0)
    }
    func timerFired(_ tag: Int) {
        own = nil
        body()
    }
}
