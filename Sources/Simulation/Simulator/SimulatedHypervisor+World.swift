import ClusterBase
import FleetModel
package import NodePorts

// What the simulated world does to guests without asking their agent.

extension SimulatedHypervisor {
    /// Harm that comes from the guest, its process or the network.
    package enum Mishap: UInt8, CaseIterable, Sendable {
        /// Its process ends, whatever it was doing.
        case crash
        /// The copying of its memory fails.
        case copyFails
        /// The copying goes on for ever, until it is told to stop.
        case copyHangs
    }

    /// What is left of the guests for the next agent. Of what the last one was told but had not heard, nothing is known.
    package var found: [FoundVM] {
        guests.keys.sorted().compactMap { id in
            guard let guest = guests[id] else { return nil }
            var isArriving = false
            let state: VMReport.State
            switch guest.state {
            case .booting: state = .starting
            case .running, .stopping: state = .running
            case .paused: state = .paused
            case .arriving: (state, isArriving) = (.starting, true)
            case .copying: state = .copying
            case .copied: state = .copied
            }
            return FoundVM(
                id, epoch: guest.epoch, state: state, isArriving: isArriving, generation: guest.generation,
                isolation: guest.vm.spec.isolation)
        }
    }

    func describe(_ id: VMID) -> String {
        guests[id].map { "epoch \($0.epoch) \($0.state)" } ?? "no guest"
    }

    /// All guests, ascending.
    var guestIDs: [VMID] { guests.keys.sorted() }

    /// Lets what is due by then happen; the news of it wait.
    func settle(_ now: Instant) { advance(to: now) }

    /// The process that led it ended: nobody hears what it had to say, and guests that don't outlive it are gone.
    func agentEnded(_ now: Instant) {
        advance(to: now)
        news = []
        if !outlivesAgent { guests = [:] }
    }

    /// The machine lost power.
    func losePower() {
        guests = [:]
        news = []
    }

    /// What the guard does when the lease ends: all that may start elsewhere stops. Returns what it ended.
    func endWithoutLease(_ now: Instant) -> [VMID] {
        advance(to: now)
        var ended: [VMID] = []
        for id in guestIDs {
            guard let guest = guests[id], guest.vm.spec.isolation == .stop else { continue }
            guests[id] = nil
            say(id, guest.epoch, .crashed, message: "stopped by the guard, at the end of the lease")
            ended.append(id)
        }
        return ended
    }

    /// Whether the harm can come to it as it is.
    func isOpen(to mishap: Mishap, _ id: VMID) -> Bool {
        guard let guest = guests[id] else { return false }
        switch (mishap, guest.state) {
        case (.crash, _): return true
        case (.copyFails, .copying), (.copyHangs, .copying): return true
        case (.copyFails, _), (.copyHangs, _): return false
        }
    }

    func strike(_ mishap: Mishap, _ id: VMID, _ now: Instant) {
        advance(to: now)
        guard var guest = guests[id] else { return }
        switch mishap {
        case .crash:
            guests[id] = nil
            return say(id, guest.epoch, .crashed, message: "its process ended")
        case .copyFails:
            guard case .copying = guest.state else { return }
            goOn(&guest, now)
            guests[id] = guest
            say(id, guest.epoch, .copyFailed, message: "copying failed: the connection broke")
        case .copyHangs:
            guard case .copying(var copying) = guest.state else { return }
            copying.end = now + .seconds(86_400)
            guest.state = .copying(copying)
            guests[id] = guest
        }
        schedule(id)
    }

    /// A copying that hung goes on.
    func release(_ now: Instant) {
        for id in guestIDs {
            guard var guest = guests[id], case .copying(var copying) = guest.state, copying.end - now > .seconds(3_600)
            else { continue }
            copying.end = now + .milliseconds(100)
            guest.state = .copying(copying)
            guests[id] = guest
            schedule(id)
        }
    }

    /// Whether it has a guest of this epoch, running or not.
    func holds(_ id: VMID, _ epoch: UInt64) -> Bool { guests[id]?.epoch == epoch }

    /// Whether it receives this VM under this epoch.
    func receives(_ id: VMID, _ epoch: UInt64) -> Bool {
        guard let guest = guests[id], guest.epoch == epoch else { return false }
        return guest.state == .arriving
    }
}
