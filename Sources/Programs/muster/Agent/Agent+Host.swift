import AdminAPI
import AgentConfig
import ClusterBase
import Controllers
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import Simulator
import StoreLayout
import TLSSession

/// This node as a host of its cell: its driver, and the keeper that leads it.
final class AgentHost {
    /// Between steps that nothing but news asks for, so that one step takes in many.
    static let stepInterval = Nanoseconds.milliseconds(5)
    let driver: any Hypervisor
    var keeper: HostKeeper
    var inputs: [HostKeeper.Input] = []
    /// Orders of VMs whose secret fields are not open yet.
    var held = HeldOrders()
    var steppedAt = Instant.origin
    /// The cell that the root's map puts it into; nil until that is heard.
    var cell: GroupID?
    /// The epoch of the root's map under which its cell said that it went to another one with its VMs: the root hears of that, too.
    var redirectedUnder: UInt64?
    /// Of the cell's replica here.
    var applied = LogIndex.zero
    var problem: String?
    /// Where VMs run under one.
    let guardian: HostGuard?
    /// How their memory moves.
    let carrier: HostCarrier
    /// Which of its storage domains it reaches.
    var storage: StorageKeeper
    static let looksForTPMInterval = Nanoseconds.seconds(10)
    var looksForTPMAt = Instant.origin
    /// As the cell is told of it.
    var about: HostDescription

    init(
        _ settings: AgentSettings, node: NodeID, incarnation: Incarnation, driver: any Hypervisor,
        guardian: HostGuard?, carrier: HostCarrier, directory: String
    ) {
        self.driver = driver
        self.carrier = carrier
        self.guardian = guardian
        var about = HostMachine(diskAt: directory).description(settings, driver: driver.name)
        storage = StorageKeeper(
            settings.storageDomains, host: settings.nodeName, directory: settings.storageDirectory,
            opensFiles: driver is QEMUHypervisor)
        about.storageDomains = storage.reached
        self.about = about
        keeper = HostKeeper(
            host: HostID(rawValue: node.rawValue), incarnation: incarnation, about: about, found: driver.found,
            isGuarded: guardian != nil)
    }

    var deadline: Instant {
        if keeper.isEnded(steppedAt) { return Instant(nanoseconds: .max) }
        var next = keeper.deadline
        if let due = driver.deadline { next = min(next, due) }
        if let due = held.deadline { next = min(next, due) }
        if !inputs.isEmpty { next = .origin }
        return max(next, steppedAt + AgentHost.stepInterval)
    }
}

// What the cell wants of this host, and what becomes of it.

extension Agent {
    static func vmDirectory(_ settings: AgentSettings) -> String {
        settings.vmDirectory.isEmpty ? settings.dataDirectory + "/vms" : settings.vmDirectory
    }

    static func makeHost(
        _ settings: AgentSettings, node: NodeID, incarnation: Incarnation, loop: EventLoop, log: AgentLog
    ) throws(AgentFailure) -> AgentHost {
        let directory = vmDirectory(settings)
        try NodeFiles.makeFolder(directory)
        let driver: any Hypervisor
        var guardian: HostGuard?
        let carrier = HostCarrier(loop, log)
        switch settings.hypervisor {
        case .simulated: driver = SimulatedHypervisor()
        case .qemu:
            var qemu = QEMUSettings(
                directory: directory, images: settings.imageDirectory, storage: settings.storageDirectory)
            qemu.cache = imageFolder(settings)
            for bridge in settings.bridges { qemu.bridges[bridge.key] = bridge.value }
            if let problem = qemu.problem { throw AgentFailure(problem + ".") }
            for problem in qemu.bridgeProblems { log.warning(problem) }
            guard access(qemu.program, X_OK) == 0 else {
                throw AgentFailure(
                    "\(qemu.program) is not there; install QEMU (Debian: qemu-system-x86 and qemu-utils), or set "
                        + "hypervisor.driver to simulated.")
            }
            try NodeFiles.makeFolder(settings.storageDirectory)
            try setUsers(&qemu, settings, log)
            let made = try HostGuard(
                loop, settings.dataDirectory, incarnation, priority: settings.priority, watchdog: settings.watchdog, log
            )
            let machines = QEMUHypervisor(qemu, loop: loop, carrier: carrier, parent: made)
            made.driver = machines
            (driver, guardian) = (machines, made)
        }
        return AgentHost(
            settings, node: node, incarnation: incarnation, driver: driver, guardian: guardian, carrier: carrier,
            directory: directory)
    }

    /// Whom guests run as, and what of the agent's directories they have to get through for that.
    private static func setUsers(
        _ qemu: inout QEMUSettings, _ settings: AgentSettings, _ log: AgentLog
    ) throws(AgentFailure) {
        defer { log.info(qemu.usersText) }
        if settings.guestUser.isEmpty { return }
        let users: GuestUsers
        do throws(GuestRefusal) {
            users = try GuestUsers(settings.guestUser)
        } catch {
            throw AgentFailure("hypervisor.user \(error.message).")
        }
        if let problem = GuestUsers.problem {
            qemu.usersProblem = problem
            return log.warning(
                "hypervisor.user is '\(settings.guestUser)', and guests don't run as that", ["reason": problem])
        }
        qemu.users = users
        try NodeFiles.makeFolder(qemu.cache, isSecret: true)
        for path in [settings.dataDirectory, qemu.directory, qemu.cache, qemu.storage] { GuestUsers.letIn(to: path) }
    }

    /// Once per turn: takes in what the driver and the cell said, and acts on it.
    func tendHost() {
        let host = self.host
        let applied = host.cell.flatMap { engine.standing(of: $0)?.applied } ?? .zero
        if applied != host.applied {
            host.applied = applied
            host.inputs.append(.stirred)
        }
        guard loop.now >= host.deadline else { return }
        // A node that is no member yet, or whose cell is not there yet, has nobody to ask.
        let isPlaced = host.cell != nil && view.node(node)?.state == .active
        guard view.through != nil, isPlaced || isShuttingDown else {
            host.steppedAt = loop.now + .milliseconds(100)
            return
        }
        tendStorage()
        // What it has is told once and whole: a domain that it seems not to reach would have VMs begin elsewhere.
        guard host.storage.isSettled(loop.now) || isShuttingDown else {
            host.steppedAt = loop.now + .milliseconds(20)
            return
        }
        host.steppedAt = loop.now
        let news = host.driver.takeNews(now: loop.now)
        for case .state(let report) in news where report.state == .crashed || report.state == .copyFailed {
            log.warning(
                "a VM \(report.state == .crashed ? "crashed" : "could not be moved")",
                ["vm": "\(report.vm)", "epoch": "\(report.epoch)", "reason": report.message])
        }
        let inputs = news.map { HostKeeper.Input.news($0) } + host.inputs
        host.inputs.removeAll(keepingCapacity: true)
        let output = host.keeper.step(inputs, now: loop.now)
        for order in output.orders { log.debug(order.words, ["vm": "\(order.vm)"]) }
        let images = { [self] (vm: CellVM) in imageDigests(of: vm) }
        let orders =
            host.held.take(output.orders, now: loop.now, images) + host.held.takeReady(now: loop.now, images)
        if !orders.isEmpty { host.driver.carryOut(orders, now: loop.now) }
        if !host.held.isEmpty {
            openSecrets()
            lookUpImages()
            fetchImages()
        }
        if let grant = output.grant { host.guardian?.give(grant) }
        if let number = output.wentTo { redirect(to: GroupID(.cell, number: number)) }
        noteProblem(host)
        guard let cell = host.cell else { return }
        for question in output.questions { ask(question.number, question.query, cell) }
        if let (number, command) = output.command { tell(number, command, cell) }
    }

    /// The host belongs to the cell that the root says, and to one at a time: it comes to another only after the one before
    /// has let it go, which the root has heard by then.
    func followAssignment() {
        guard let (cell, epoch) = view.assignment(of: node), host.redirectedUnder != epoch else { return }
        host.redirectedUnder = nil
        let isOther = host.cell.map { $0 != cell } ?? false
        if isOther { log.info("this host belongs to another cell now", ["cell": view.cell(cell)?.name ?? "\(cell)"]) }
        host.cell = cell
        host.inputs.append(.assigned(epoch: epoch, isOtherCell: isOther))
    }

    /// The cell where it was has handed it on with its VMs: it goes there at once, before the root has heard of it. Its lease goes on.
    private func redirect(to cell: GroupID) {
        guard let (home, epoch) = view.assignment(of: node), home != cell, view.cell(cell) != nil, host.cell != cell
        else {
            return
        }
        log.info("this host goes to another cell with its VMs", ["cell": view.cell(cell)?.name ?? "\(cell)"])
        host.redirectedUnder = epoch
        host.cell = cell
        host.applied = .zero
        host.inputs.append(.assigned(epoch: epoch, isOtherCell: true))
    }

    /// Goes on with the move of a host to another cell, whoever began it. Its cell lets it go if it is empty, then the root puts it
    /// into the other one; else the cells hand it over with its VMs, and tell the root. All of it may be repeated.
    func moveHost(_ host: RootNode, by: String, _ done: @escaping (Problem?) -> Void) {
        guard let target = host.movesTo, let (cell, epoch) = view.assignment(of: host.id) else { return done(nil) }
        if target == cell { return keepHost(host, in: cell, epoch, by: by, nil, done) }
        let release = CellCommand(by: by, .releaseHost(HostID(rawValue: host.id.rawValue), assignment: epoch))
        sendOwn(release, to: cell) { [self] answer in
            guard case .applied(.cell(let result)) = answer else { return done(Problem(answer)) }
            switch result.outcome {
            case .refused(.hostInUse): return hand(host, from: cell, to: target, epoch, by: by, done)
            // It is on its way already, or has gone: the cells bring that to its end.
            case .refused(.hostLeaves): return done(nil)
            case .refused(let refusal): return keepHost(host, in: cell, epoch, by: by, refusal, done)
            case .done, .kept, .items: break
            }
            change(.moveHost(host.id, to: target, epoch: epoch, .finish), by: by) { result in
                if case .failure(let problem) = result { done(problem) } else { done(nil) }
            }
        }
    }

    /// Its VMs go along. From here on the leader of the cell that it leaves looks after it.
    private func hand(
        _ host: RootNode, from cell: GroupID, to target: GroupID, _ epoch: UInt64, by: String,
        _ done: @escaping (Problem?) -> Void
    ) {
        guard let home = view.cell(cell), let there = view.cell(target) else { return done(nil) }
        if home.region != there.region {
            let problem = Agent.otherRegion(host.name, there.name)
            return keepHost(host, in: cell, epoch, by: by, nil) { done($0 ?? problem) }
        }
        let send = CellCommand.Operation.sendHost(
            HostID(rawValue: host.id.rawValue), to: target.number, assignment: epoch,
            keepsNames: view.cells.filter { $0.region == home.region }.map(\.group).min() == cell,
            company: view.company(of: host.id, from: cell, to: target))
        sendOwn(CellCommand(by: by, send), to: cell) { [self] answer in
            guard case .applied(.cell(let result)) = answer else { return done(Problem(answer)) }
            guard case .refused(let refusal) = result.outcome else { return done(nil) }
            keepHost(host, in: cell, epoch, by: by, refusal, done)
        }
    }

    static func otherRegion(_ host: String, _ cell: String) -> Problem {
        Problem(
            .notPossible,
            "host \(host) has VMs, and cell \(cell) is in another region; drain the host first with `muster host drain`"
        )
    }

    /// It stays: its cell says first that it does, whatever is said later of this assignment, and then the root hears of it.
    private func keepHost(
        _ host: RootNode, in cell: GroupID, _ epoch: UInt64, by: String, _ refusal: CellRefusal?,
        _ done: @escaping (Problem?) -> Void
    ) {
        let why = refusal.map { Problem($0) }
        let stay = CellCommand.Operation.sendHost(
            HostID(rawValue: host.id.rawValue), to: cell.number, assignment: epoch, keepsNames: false)
        sendOwn(CellCommand(by: by, stay), to: cell) { [self] answer in
            guard case .applied(.cell(let result)) = answer else { return done(Problem(answer)) }
            switch result.outcome {
            // One that its cell does not know has no VMs there.
            case .done, .kept, .items, .refused(.unknownHost), .refused(.hostRemoved):
                change(.moveHost(host.id, to: cell, epoch: epoch, .cancel), by: by) { _ in done(why) }
            case .refused(let refusal): done(why ?? Problem(refusal))
            }
        }
    }

    /// Goes on when the root has heard where the host is, or has not for long.
    func awaitAssignment(of node: NodeID, after epoch: UInt64, _ done: @escaping () -> Void) {
        hostWaits.append((node, epoch, loop.now + .seconds(8), done))
    }

    func tendHostWaits() {
        if hostWaits.isEmpty { return }
        let isReady = { [self] (wait: (node: NodeID, epoch: UInt64, until: Instant, done: () -> Void)) in
            loop.now >= wait.until || view.assignment(of: wait.node).map { $0.epoch != wait.epoch } ?? true
        }
        let ready = hostWaits.filter(isReady)
        if ready.isEmpty { return }
        hostWaits.removeAll(where: isReady)
        for wait in ready { wait.done() }
    }

    /// Whoever began to move this host may be gone.
    func finishOwnMove(_ own: RootNode) {
        guard own.movesTo != nil else {
            moveSeenAt = nil
            return
        }
        let since = moveSeenAt ?? loop.now
        moveSeenAt = since
        guard loop.now - since >= .seconds(5) else { return }
        moveSeenAt = loop.now
        moveHost(own, by: settings.nodeName) { [self] problem in
            if let problem { log.warning("this host did not come to its other cell: \(problem.detail)") }
        }
    }

    /// Whatever became of who asked for it.
    func retireMergedCells() {
        guard !isRetiringCell, loop.now >= retiresCellAt else { return }
        let done = view.cells.first { cell in
            guard let plan = cell.plan, plan.kind == .merge, plan.retires, plan.state == .done else { return false }
            return leads(cell.group)
        }
        guard let done else { return }
        isRetiringCell = true
        admin.retireMerged(done) { [self] problem in
            isRetiringCell = false
            retiresCellAt = loop.now + .seconds(10)
            if let problem { log.warning("the merged cell \(done.name) is not retired yet: \(problem.detail)") }
        }
    }

    private func noteProblem(_ host: AgentHost) {
        guard host.keeper.problem != host.problem else { return }
        host.problem = host.keeper.problem
        if let problem = host.problem {
            log.warning("the cell does not take this host, which is tried again", ["reason": problem])
        } else {
            log.info("the cell takes this host")
        }
    }

    private func ask(_ number: UInt64, _ query: CellQuery, _ cell: GroupID) {
        request(.query(cell, .cell(query))) { [self] answer in
            if case .read(.cell(let answer)) = answer {
                host.inputs.append(.answered(question: number, answer))
            } else {
                host.inputs.append(.questionFailed(question: number))
            }
        }
    }

    private func tell(_ number: UInt64, _ command: CellCommand, _ cell: GroupID) {
        request(.command(cell, command.encoded())) { [self] answer in
            if case .applied(.cell(let result)) = answer {
                host.inputs.append(.commandDone(number: number, result))
            } else {
                host.inputs.append(.commandFailed(number: number))
            }
        }
    }
}
