import AgentConfig
import ClusterBase
import Controllers
import FleetModel
import Hypervisor
import NodePorts
import NodeRuntime
import PeerTransport
import Reactor
import Schema

// Shared disks that VMs left. The cell notes them at the entry by which the VM goes, or by which a disk is taken off it, when no copy
// that has them can run any more. Ids are given out once, and a VM gets no disk of the name of one that goes: whatever is
// removed is nobody else's, however often and by whomever.
//
//     cell: disks noted ─▶ its leader picks a host that has the domains ─▶ host reads the note from the cell itself
//            ▲                                                                              │ removes the files
//            └─────────── the note is dropped ◀────────── (removed, or not there) ◀─────────┘ other host: asked next

/// What a cell's leader knows of disks that are to go.
struct RemainsWork {
    /// Asked about at one time.
    static let askedMax = 16
    static let interval = Nanoseconds.seconds(2)

    var at = Instant.origin
    // hash order: looked up only
    var asked: Set<VMID> = []
    /// How often each was asked for in vain.
    // hash order: looked up only
    var attempts: [VMID: Int] = [:]
    /// Where the next look goes on, of each cell that has more of them than one look sees.
    // hash order: looked up only
    var after: [GroupID: [UInt8]] = [:]
}

extension Agent {
    /// Looks after what VMs of the cells that are led here left behind.
    func tendRemains() {
        guard loop.now >= remains.at else { return }
        remains.at = loop.now + RemainsWork.interval
        guard problem(wanting: FeatureLevel.images) == nil else { return }
        for group in engine.groups where group.kind == .cell && leads(group) { tendRemains(group) }
    }

    private func tendRemains(_ cell: GroupID) {
        var open: [CellRemains] = []
        var after = remains.after[cell]
        // Those that people keep are passed over, a bounded number of them at a time.
        for _ in 0..<8 {
            guard let answer = rows(.list(.remains, after: after, limit: 0), cell) else { return }
            open += answer.rows.compactMap { if case .remains(_, let left?) = $0 { left } else { nil } }
                .filter { left in !left.leaving.isEmpty && !remains.asked.contains(left.vm) }
            after = answer.resumeAfter
            if after == nil || open.count >= RemainsWork.askedMax { break }
        }
        remains.after[cell] = after
        if open.isEmpty { return }
        // A page of hosts is enough wherever hosts of a domain are many; else the rest is looked at too.
        var hosts: [CellHost] = []
        after = nil
        repeat {
            guard let answer = rows(.list(.hosts, after: after, limit: 0), cell) else { return }
            hosts += answer.rows.compactMap { if case .host(_, let host?) = $0 { host } else { nil } }
                .filter { $0.health == .up && !$0.about.storageDomains.isEmpty }
            after = answer.resumeAfter
        } while after != nil && open.contains { Agent.able($0, hosts).isEmpty }
        for left in open.prefix(RemainsWork.askedMax - remains.asked.count) { ask(left, hosts, cell) }
    }

    private func rows(_ query: CellQuery, _ cell: GroupID) -> (rows: [CellRowContent], resumeAfter: [UInt8]?)? {
        guard case .cell(let answer)? = engine.readHere(cell, .cell(query)) else { return nil }
        return AdminPort.rows(answer)
    }

    /// Who reaches all that is to go.
    private static func able(_ left: CellRemains, _ hosts: [CellHost]) -> [CellHost] {
        hosts.filter { host in
            left.leaving.allSatisfy { host.about.storageDomains.contains($0.domain) }
        }
    }

    private func ask(_ left: CellRemains, _ hosts: [CellHost], _ cell: GroupID) {
        let able = Agent.able(left, hosts)
        guard !able.isEmpty else { return }
        let attempt = remains.attempts[left.vm] ?? 0
        let host = able[attempt % able.count]
        remains.asked.insert(left.vm)
        func answered(_ refusal: String?) {
            remains.asked.remove(left.vm)
            guard let refusal else {
                remains.attempts[left.vm] = nil
                // The host saw these, and perhaps more: those are for another time.
                let gone = CellRemains.Left(left.vm, left.leaving)
                let command = CellCommand(by: settings.nodeName, .dropRemains([gone]))
                return request(.command(cell, command.encoded())) { _ in }
            }
            if remains.attempts.count > 4_096 { remains.attempts = [:] }
            remains.attempts[left.vm] = attempt + 1
            log.warning(
                "shared disks that a VM left could not be removed, and another host is asked",
                ["vm": left.name, "host": host.about.name, "reason": refusal])
        }
        let other = NodeID(host.id.rawValue)
        if other == node { return removeDisks(cell, left.vm) { answered($0) } }
        ask(other, .removeDisks(NodeRequest.RemoveDisks(cell: cell.number, vm: left.vm.rawValue))) { answer in
            answered(answer.map { $0.refusal.isEmpty ? nil : $0.refusal } ?? "it does not answer")
        }
    }

    /// As a host: removes what the cell says, now, is left of a VM. Says why not.
    func removeDisks(_ cell: GroupID, _ vm: VMID, _ done: @escaping (String?) -> Void) {
        guard cell == host.cell else { return done("it is no host of this cell") }
        request(.query(cell, .cell(.one(.remains, key: AdminPort.bytes(vm.rawValue))))) { [self] outcome in
            guard case .read(.cell(let answer)) = outcome else { return done("the cell can't be read now") }
            // Somebody else was faster.
            guard case .remains(_, let left?)? = AdminPort.rows(answer).rows.first else { return done(nil) }
            // A copy here that may have one of them would be one that the cell knows nothing of: it goes first.
            if let epoch = host.keeper.epoch(of: vm), left.epoch == 0 || epoch <= left.epoch {
                return done("the VM has a copy here still")
            }
            // The simulated driver has no files.
            guard host.driver is QEMUHypervisor else { return done(nil) }
            let files = SharedDisks(settings.storageDirectory, marks: host.storage.marks)
            let list = left.leaving.map { SharedDisks.Disk(name: $0.name, domain: $0.domain, hasImage: $0.hasImage) }
            blocking.start("disks", { files.remove(list, of: vm) }, done: done)
        }
    }
}
