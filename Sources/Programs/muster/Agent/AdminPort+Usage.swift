import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor

// What VMs use of their hosts: nobody but the host knows, and it is asked.

extension AdminPort {
    func showUsage(_ reference: VMReference, _ cell: GroupID, _ asker: FleetAsker) {
        withVM(reference, cell, asker) { [self] vm in
            guard let place = vm.place else {
                return fail(
                    asker, Problem(.notPossible, "the VM has no place, and uses nothing; see `muster vm explain`"))
            }
            let node = NodeID(place.assignment.host.rawValue)
            if node == agent.node { return answer(asker, usage(of: vm.id)) }
            relay(.usage(.id(vm.id)), cell, to: [node], asker) { [self] in answer(asker, $0) }
        }
    }

    func showUsage(ofHost name: String, _ cell: GroupID, _ asker: FleetAsker) {
        guard let id = hostID(name) else { return fail(asker, AdminPort.noHost(name)) }
        read(.host(id), .linearizable, cell) { [self] result in
            switch result {
            case .failure(let problem): fail(asker, problem)
            case .success(let found):
                guard case .host(_, let host?)? = AdminPort.rows(found.answer).rows.first, host.health != .removed
                else {
                    return fail(asker, AdminPort.noHost(name))
                }
                if host.health != .up {
                    return fail(
                        asker, Problem(.notPossible, "host \(name) is down, and nobody else knows what it runs"))
                }
                let node = NodeID(id.rawValue)
                if node == agent.node { return answer(asker, usageHere) }
                relay(.hostUsage(name), cell, to: [node], asker) { [self] in answer(asker, $0) }
            }
        }
    }

    func usage(of vm: VMID) -> AdminResponse {
        guard let found = agent.usage.first(where: { $0.id == vm.rawValue }) else {
            return AdminResponse(
                Problem(.notPossible, "the VM does not run on \(agent.settings.nodeName) now; see `muster vm show`"))
        }
        return AdminResponse(found)
    }

    var usageHere: AdminResponse { AdminResponse(Listing(agent.usage)) }
}

extension Agent {
    /// Of each VM that runs here, as its driver says.
    var usage: [VMUsage] {
        // hash order: looked up only
        var known: [VMID: CellVM] = [:]
        for vm in host.keeper.known { known[vm.id] = vm }
        return host.keeper.vms.compactMap { id in
            guard let found = host.driver.statistics(of: id, now: loop.now) else { return nil }
            var usage = VMUsage(
                id: id.rawValue, name: known[id]?.name ?? "\(id)", tenant: known[id]?.tenant ?? "",
                host: settings.nodeName, memoryMiB: found.memoryMiB, cpuMillis: found.cpuMillis,
                uptimeSeconds: max(0, found.uptime.milliseconds / 1_000))
            usage.balloonMiB = found.balloonMiB
            usage.guestTotalMiB = found.guest?.totalMiB
            usage.guestAvailableMiB = found.guest?.availableMiB
            usage.guestFreeMiB = found.guest?.freeMiB
            usage.guestCachesMiB = found.guest?.cachesMiB
            return usage
        }
    }

    func addUsage(_ metrics: inout Metrics) {
        let usage = usage
        func gauge(_ name: String, _ help: String, _ value: (VMUsage) -> Int64?) {
            for vm in usage {
                guard let value = value(vm) else { continue }
                metrics.add(
                    name, .gauge, help, Double(value),
                    [Metrics.Label("vm", vm.name), Metrics.Label("tenant", vm.tenant), Metrics.Label("id", "\(vm.id)")])
            }
        }
        gauge("muster_vm_memory_bytes", "Memory that a VM takes of this host.") { $0.memoryMiB << 20 }
        gauge("muster_vm_balloon_bytes", "What its balloon leaves a VM of this host of its memory.") {
            $0.balloonMiB.map { $0 << 20 }
        }
        gauge("muster_vm_guest_memory_bytes", "Memory of a VM of this host, as its guest counts it.") {
            $0.guestTotalMiB.map { $0 << 20 }
        }
        gauge("muster_vm_guest_available_bytes", "What programs of a VM's guest could still have of its memory.") {
            $0.guestAvailableMiB.map { $0 << 20 }
        }
        gauge("muster_vm_cpu_millis", "Thousandths of processors that a VM of this host uses.", \.cpuMillis)
        gauge("muster_vm_uptime_seconds", "Since a VM of this host began to run.", \.uptimeSeconds)
    }
}
