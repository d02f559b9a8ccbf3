internal import AdminAPI
import ClusterBase
internal import FleetModel
internal import Glibc
internal import NodePorts
internal import Reactor

// A guest's memory as it sees it itself, and what it is left of it: its balloon says both.

/// What a guest last said of its memory, asked for as long as its QEMU is there.
final class MemoryWatch {
    /// A guest is asked by its QEMU, and that by its driver.
    static let pause = Nanoseconds.seconds(10)
    static let guestPauseSeconds: Int64 = 5
    /// What was said longer ago counts no more: the guest has no driver for its balloon any more, stands still, or hangs.
    static let goodSeconds: Int64 = 60

    private(set) var balloonMiB: Int64?
    private var memory: GuestMemory?
    private var saidAt: Int64 = 0

    var said: GuestMemory? { Int64(time(nil)) - saidAt <= MemoryWatch.goodSeconds ? memory : nil }

    /// Until the line ends. The next round begins when the last one was answered.
    func follow(_ guest: Guest, _ line: QMPConnection) {
        let path = JSONMember("path", .string("/machine/peripheral/balloon0"))
        line.execute(
            "qom-set",
            [
                path, JSONMember("property", .string("guest-stats-polling-interval")),
                JSONMember("value", .integer(MemoryWatch.guestPauseSeconds)),
            ])
        line.execute("qom-get", [path, JSONMember("property", .string("guest-stats"))]) { [weak self] answer in
            if case .success(let said) = answer { self?.take(said) }
        }
        line.execute("query-balloon") { [weak self, weak guest, weak line] answer in
            if case .success(let said) = answer { self?.hear(balloon: said["actual"]?.integer) }
            guard let guest else { return }
            ProbeTimer.start(guest.driver.loop, after: MemoryWatch.pause) { [weak self, weak guest, weak line] in
                guard let self, let guest, let line, line.isOpen else { return }
                follow(guest, line)
            }
        }
    }

    func hear(balloon bytes: Int64?) { balloonMiB = bytes.map { $0 >> 20 } ?? balloonMiB }

    private func take(_ said: JSONValue) {
        func mebibytes(_ name: String) -> Int64? {
            said["stats"]?["stat-" + name]?.integer.flatMap { $0 < 0 ? nil : $0 >> 20 }
        }
        guard let at = said["last-update"]?.integer, at > 0, let total = mebibytes("total-memory"),
            let available = mebibytes("available-memory"), let free = mebibytes("free-memory")
        else { return }
        saidAt = at
        memory = GuestMemory(
            totalMiB: total, availableMiB: available, freeMiB: free, cachesMiB: mebibytes("disk-caches") ?? 0)
    }
}

extension Guest {
    /// Leaves the guest what its specification says. Of one that an earlier agent started that is not known, and stays.
    func setBalloon() {
        guard let spec = (wanted ?? machine?.vm)?.spec else { return }
        let mebibytes = QEMUMachine.balloonMiB(spec) ?? spec.resources.memoryMiB
        line?.execute("balloon", [JSONMember("value", .integer(mebibytes << 20))])
    }
}
