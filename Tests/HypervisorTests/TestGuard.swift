import ClusterBase
import FleetModel
import Glibc
import Guard
import Hypervisor
import Reactor

/// A real guard of one host, as the driver's parent. It is granted what the test orders, until the test ends.
final class TestGuard: GuestParent {
    let directory: String
    private let loop: EventLoop
    private var link: GuardLink?
    weak var driver: QEMUHypervisor?
    private var permits: [VMID: UInt64]
    private var generation: UInt64
    private var grantedAt = Instant.origin
    /// As one of a program that knows of no users.
    var isOld = false

    /// `before` is the agent's before, whose guard is there.
    init(_ loop: EventLoop, directory: String, after before: TestGuard? = nil) throws {
        self.loop = loop
        self.directory = directory
        permits = before?.permits ?? [:]
        generation = before?.generation ?? 0
        before?.close()
        link = try GuardLink(loop, nodeDirectory: directory, program: TestGuard.program(), incarnation: 1) {
            [unowned self] in heard($0)
        }
    }

    func close() {
        link?.close()
        link = nil
    }

    private func heard(_ event: GuardLink.Event) {
        switch event {
        case .up(_, let guests): driver?.parentCame(guests.map { (vm: $0.vm, epoch: $0.epoch, pid: $0.process) })
        case .ended(let vm, let epoch, let status, let cause):
            driver?.guestEnded(
                vm, epoch: epoch, status: status, cause: cause?.text, isHostsFault: cause?.isHostsFault ?? false)
        case .down, .problem: break
        }
    }

    func permit(_ vm: VMID, epoch: UInt64) {
        permits[vm] = epoch
        grantedAt = .origin
    }

    /// Renews the lease.
    func tend() {
        if loop.now - grantedAt < .milliseconds(500) { return }
        grantedAt = loop.now
        generation += 1
        link?.give(
            sentAt: SystemClock.now, length: .seconds(10), generation: LogIndex(generation),
            permits.map { RunPermit($0.key, epoch: $0.value, isolation: .stop) }.sorted())
    }

    /// The guard's own process.
    var process: Int32? {
        ((try? Files.names(in: "/proc")) ?? []).compactMap { Int32($0) }.first { pid in
            let words = Files.read("/proc/\(pid)/cmdline").split(separator: 0)
            return words.count >= 3 && words[1].elementsEqual("guard".utf8)
                && words[2].elementsEqual(directory.utf8)
        }
    }

    // MARK: The driver's side

    var isUp: Bool { link?.isUp ?? false }

    func start(
        _ vm: VMID, epoch: UInt64, program: String, _ arguments: [String], errorPath: String, limits: GuestLimits,
        output: String?, companion: GuestCompanion?, user: GuestUser?,
        _ done: @escaping (Result<pid_t, GuestRefusal>) -> Void
    ) {
        link?.start(
            vm, epoch: epoch, program: program, arguments, errorPath: errorPath, cpuMillis: limits.cpuMillis,
            memoryMiB: limits.memoryMiB, output: output ?? "",
            companion: companion.map { GuardLink.Companion(program: $0.program, words: $0.words) },
            user: isOld ? nil : user.map { GuardLink.User(user: $0.user, group: $0.group, moreGroups: $0.moreGroups) }
        ) { answer in
            done(answer.mapError { GuestRefusal($0.description) })
        }
    }

    func stop(_ vm: VMID, epoch: UInt64) { link?.stop(vm, epoch: epoch) }

    /// The program, which lies beside the tests' bundle.
    private static func program() throws -> String {
        var buffer = [CChar](repeating: 0, count: 4_096)
        guard realpath(CommandLine.arguments[0], &buffer) != nil else { throw Files.Failure() }
        var path = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        for _ in 0..<4 {
            path = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
            if access(path + "/muster", X_OK) == 0 { return path + "/muster" }
        }
        throw Files.Failure()
    }
}
