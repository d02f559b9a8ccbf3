import AgentConfig
import ClusterBase
import Controllers
import FleetModel
import Glibc
import Guard
import Hypervisor
import Reactor

/// The host's guard, as its agent's driver and keeper use it.
final class HostGuard: GuestParent {
    private var linkMade: GuardLink?
    weak var driver: QEMUHypervisor?
    /// The guard that was there last.
    private var last: UInt64?
    private let loop: EventLoop
    private lazy var resolver = Resolver(loop)
    private var endpoints: [Endpoint] = []
    /// In the order of `endpoints`; nil until it is resolved.
    private var addresses: [String?] = []

    init(
        _ loop: EventLoop, _ dataDirectory: String, _ incarnation: Incarnation, priority: Int, watchdog: String,
        _ log: AgentLog
    ) throws(AgentFailure) {
        self.loop = loop
        do throws(GuardFailure) {
            linkMade = try GuardLink(
                loop, nodeDirectory: dataDirectory, incarnation: incarnation.rawValue, priority: priority,
                watchdog: watchdog
            ) { [unowned self] in heard($0, log) }
        } catch {
            throw AgentFailure(error.description)
        }
    }

    private var link: GuardLink {
        guard let linkMade else { preconditionFailure("the line to the guard is not made yet") }
        return linkMade
    }

    private func heard(_ event: GuardLink.Event, _ log: AgentLog) {
        switch event {
        case .up(let incarnation, let guests):
            let isSame = last == incarnation
            last = incarnation
            log.info(
                isSame ? "the host's guard is there again, with its guests" : "the host's guard is there",
                ["guard": "\(incarnation)", "guests": "\(guests.count)"])
            if !link.groupsProblem.isEmpty && !isSame { log.warning(link.groupsProblem) }
            driver?.parentCame(guests.map { (vm: $0.vm, epoch: $0.epoch, pid: $0.process) })
        case .down:
            log.warning(
                "the line to the host's guard ended: it becomes this agent's program, or it ended with its guests and another is "
                    + "started")
        case .problem(let text): log.error(text)
        case .ended(let vm, let epoch, let status, let cause):
            if let cause {
                log.warning("the guard ended a VM", ["vm": "\(vm)", "epoch": "\(epoch)", "reason": cause.text])
            }
            driver?.guestEnded(
                vm, epoch: epoch, status: status, cause: cause?.text, isHostsFault: cause?.isHostsFault ?? false)
        }
    }

    // MARK: The keeper's side

    func give(_ grant: HostKeeper.Grant) {
        link.give(sentAt: grant.sentAt, length: grant.length, generation: grant.generation, grant.permits)
    }

    /// Where the guard can renew the lease without this agent, best first.
    func setNodes(_ wanted: [Endpoint]) {
        if wanted == endpoints { return }
        endpoints = wanted
        addresses = wanted.map { SocketAddress(digits: $0.host, port: $0.port)?.description }
        tellNodes()
        for endpoint in wanted where SocketAddress(digits: endpoint.host, port: endpoint.port) == nil {
            resolver.resolve(Address(host: endpoint.host, port: endpoint.port)) { [weak self] outcome in
                guard let self, case .found(let places) = outcome, let at = endpoints.firstIndex(of: endpoint) else {
                    return
                }
                addresses[at] = places.first?.description
                tellNodes()
            }
        }
    }

    private func tellNodes() { link.setNodes(addresses.compactMap { $0 }) }

    /// The guard and its guests stay.
    func close() {
        link.close()
        if addresses.contains(nil) { resolver.close() }
    }

    // MARK: The driver's side

    var isUp: Bool { link.isUp }

    func start(
        _ vm: VMID, epoch: UInt64, program: String, _ arguments: [String], errorPath: String,
        limits: GuestLimits, output: String?, companion: GuestCompanion?, user: GuestUser?,
        _ done: @escaping (Result<pid_t, GuestRefusal>) -> Void
    ) {
        link.start(
            vm, epoch: epoch, program: program, arguments, errorPath: errorPath, cpuMillis: limits.cpuMillis,
            memoryMiB: limits.memoryMiB, output: output ?? "",
            companion: companion.map { GuardLink.Companion(program: $0.program, words: $0.words) },
            user: user.map { GuardLink.User(user: $0.user, group: $0.group, moreGroups: $0.moreGroups) }
        ) { answer in
            done(answer.mapError { GuestRefusal($0.description) })
        }
    }

    func stop(_ vm: VMID, epoch: UInt64) { link.stop(vm, epoch: epoch) }
}
