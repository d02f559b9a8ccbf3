import AdminAPI
import AgentConfig
import ClusterBase
import Controllers
import FleetModel
import Hypervisor
import NodePorts
import Reactor
import Schema
import TLSSession

// Storage domains of this host: what is mounted where each should be, and what the cell is told of that.

extension Agent {
    /// Looks after what this host's storage domains are. What a storage is asked is asked on a thread.
    func tendStorage() {
        guard let cluster = view.cluster else { return }
        let root = StorageKeeper.Root(
            cluster: cluster.id, domains: cluster.domains, isOpen: cluster.level >= FeatureLevel.storageMarks)
        for order in host.storage.plan(root, now: loop.now) { carryOut(order) }
        tellStorage()
        if cluster.level >= min(FeatureLevel.tpm, FeatureLevel.guestUsers) { tellMachine(cluster.level) }
    }

    /// Whom VMs run as, and whether they can have a TPM here, looked after now and then: somebody may install what it takes.
    private func tellMachine(_ level: UInt32) {
        guard loop.now >= host.looksForTPMAt else { return }
        host.looksForTPMAt = loop.now + AgentHost.looksForTPMInterval
        let machines = (host.driver as? QEMUHypervisor)?.settings
        var about = host.about
        if level >= FeatureLevel.tpm { about.hasTPM = machines?.hasTPM ?? true }
        if level >= FeatureLevel.guestUsers { about.guestUser = machines?.usersText ?? "" }
        if about == host.about { return }
        host.about = about
        host.inputs.append(.described(host.about))
    }

    /// The cell hears of every change, and so does the driver.
    private func tellStorage() {
        let (reached, problems) = (host.storage.reached, host.storage.problems)
        (host.driver as? QEMUHypervisor)?.know(host.storage.marks)
        guard host.storage.isSettled(loop.now),
            reached != host.about.storageDomains || problems != host.about.storageProblems
        else { return }
        for problem in problems where !host.about.storageProblems.contains(problem) {
            log.warning("a storage domain is not offered to VMs", ["domain": problem.key, "reason": problem.value])
        }
        for domain in reached where host.about.storageProblems.contains(where: { $0.key == domain }) {
            log.info("a storage domain is reached", ["domain": domain])
        }
        (host.about.storageDomains, host.about.storageProblems) = (reached, problems)
        host.inputs.append(.described(host.about))
    }

    private func carryOut(_ order: StorageKeeper.Order) {
        switch order {
        case .look(let domain): look(domain) { [self] in follow(host.storage.found(domain, $0, now: loop.now)) }
        case .search(let domain):
            searchVMs(domain, view.cells.map(\.group)[...], after: nil) { [self] isUsed in
                follow(host.storage.searched(domain, isUsed: isUsed, now: loop.now))
            }
        case .begin(let domain):
            write(newMark(domain), isNew: true) { [self] problem in
                host.storage.done(domain, problem, now: loop.now)
                tellStorage()
            }
        case .name(let domain, let mark): name(domain, mark, before: [], by: settings.nodeName) { _ in }
        }
    }

    private func follow(_ order: StorageKeeper.Order?) {
        if let order { carryOut(order) }
        tellStorage()
    }

    private func newMark(_ domain: String) -> StorageMark {
        StorageMark(
            domain: domain, cluster: view.cluster?.id ?? [], mark: Crypto.randomBytes(StorageMark.markBytes))
    }

    private func look(_ domain: String, _ done: @escaping (StorageFinding) -> Void) {
        let place = StorageDirectory(domain, in: settings.storageDirectory)
        let found = Guarded<StorageFinding?>(nil)
        blocking.start("storage") {
            let finding = place.look()
            found.withLock { $0 = finding }
            return nil
        } done: { problem in
            done(found.withLock { $0 } ?? .unreadable(problem ?? "it was not looked at"))
        }
    }

    private func write(_ mark: StorageMark, isNew: Bool, _ done: @escaping (String?) -> Void) {
        let place = StorageDirectory(mark.domain, in: settings.storageDirectory)
        log.info("a storage domain is marked", ["domain": mark.domain, "isNew": "\(isNew)"])
        blocking.start("storage") {
            place.write(mark, isNew: isNew)
        } done: {
            done($0)
        }
    }

    /// Has the root know a mark, and waits until it is known here.
    private func name(
        _ domain: String, _ mark: [UInt8], before: [UInt8], by: String, _ done: @escaping (String?) -> Void
    ) {
        func end(_ problem: String?) {
            host.storage.done(domain, problem, now: loop.now)
            tellStorage()
            done(problem)
        }
        change(.markDomain(name: domain, mark: mark, before: before), by: by) { [self] result in
            if case .failure(let problem) = result { return end(problem.detail) }
            refreshView { end($0?.detail) }
        }
    }

    /// Whether a VM of a cell has a disk in a domain, page by page; nil where that can't be told.
    private func searchVMs(
        _ domain: String, _ cells: ArraySlice<GroupID>, after: [UInt8]?, _ done: @escaping (Bool?) -> Void
    ) {
        guard let cell = cells.first else { return done(false) }
        request(.query(cell, .cell(.list(.vms, after: after, limit: CellLimits.answerCountMax)))) { [self] outcome in
            guard case .read(.cell(let answer)) = outcome else { return done(nil) }
            let (rows, next) = AdminPort.rows(answer)
            for row in rows {
                guard case .vm(_, let vm?) = row else { continue }
                if vm.spec.sharedDomains.contains(domain) && vm.epochHighest > 0 {
                    return done(true)
                }
            }
            searchVMs(domain, next == nil ? cells.dropFirst() : cells, after: next, done)
        }
    }

    /// Somebody says that what this host has in a domain's directory is that domain from now on. Says why not.
    func markDomain(_ domain: String, by: String, _ done: @escaping (String?) -> Void) {
        if let problem = problem(wanting: FeatureLevel.storageMarks) { return done(problem.detail) }
        guard host.driver is QEMUHypervisor else { return done("its driver keeps no disks in storage domains") }
        guard settings.storageDomains.contains(domain) else {
            return done("host.storage-domains of host \(settings.nodeName) does not name '\(domain)'; add it there")
        }
        refreshView { [self] problem in
            if let problem { return done(problem.detail) }
            let known = view.cluster?.mark(of: domain)
            look(domain) { [self] finding in
                switch finding {
                case .missing:
                    return done("\(settings.storageDirectory)/\(domain) is no directory on host \(settings.nodeName)")
                case .marked(let mark) where mark.domain == domain && mark.mark == known:
                    host.storage.done(domain, nil, now: loop.now)
                    return done(nil)
                case .bare, .marked, .unreadable: break
                }
                // Whatever else has the mark before this one, such as the place where it is not mounted, is the domain no more.
                let mark = newMark(domain)
                write(mark, isNew: false) { [self] problem in
                    if let problem { return done(problem) }
                    name(domain, mark.mark, before: known ?? [], by: by, done)
                }
            }
        }
    }
}
