package import ClusterBase
package import FleetModel
package import Glibc
package import NodePorts
package import Reactor

/// Runs each VM as a QEMU process of its own, which outlives this one. Belongs to the loop's thread.
///
///     start ─▶ images (qemu-img) ─▶ launching (qemu) ─▶ connecting (QMP) ─▶ up ─▶ ending ─▶ gone
///     found in a directory ─────────────────────────────────────────────▲
///
/// A VM's process is known by an argument that only it has. It is gone when no process with that argument lives: not when
/// a connection ends, not when a file is missing.
package final class QEMUHypervisor: Hypervisor {
    /// Waiting for children, for processes that end, and for sockets that appear.
    static let pollInterval = Nanoseconds.milliseconds(10)
    /// A machine that takes longer to be set up is ended.
    static let launchMax = Nanoseconds.seconds(60)
    static let progressInterval = Nanoseconds.milliseconds(200)

    package let name = "qemu"
    package let outlivesAgent = true
    package let found: [FoundVM]
    /// Nil makes guests this process's own children, for tests of the driver alone.
    let parent: (any GuestParent)?
    let carrier: any MemoryCarrier
    package internal(set) var settings: QEMUSettings
    let loop: EventLoop
    private var guests: [VMID: Guest] = [:]
    // hash order: looked up, or read by sorted keys
    var consoles: [VMID: ConsoleLine] = [:]
    /// Images that disks of VMs without a process were made over.
    private var imagesLeft: [VMID: [String]] = [:]  // hash order: joined
    private var news: [HypervisorNews] = []
    private var probe: KVMProbe?
    /// Nil until it is known.
    private(set) var accelerator: QEMUMachine.Accelerator?
    /// How often a QEMU took the list of written pages in one move, at most.
    package internal(set) var looksAtWritesMax: Int64 = 0
    /// Which accelerator guests get, and why.
    package private(set) var accelerationText = "it is being found out whether KVM runs guests here"
    /// Starts that wait for it.
    private var held: [HypervisorOrder] = []

    package init(
        _ settings: QEMUSettings, loop: EventLoop, carrier: any MemoryCarrier, parent: (any GuestParent)? = nil
    ) {
        self.settings = settings
        self.loop = loop
        self.parent = parent
        self.carrier = carrier
        var found: [FoundVM] = []
        var adopted: [(VMDirectory.Record, VMDirectory, [pid_t])] = []
        let processes = HostProcess.living(below: settings.directory)
        for vm in VMDirectory.all(in: settings.directory) {
            let directory = VMDirectory(vm, in: settings.directory)
            imagesLeft[vm] = directory.images
            let living = processes[directory.path] ?? []
            guard let record = directory.record, record.vm == vm else {
                for pid in living { HostProcess.kill(pid) }
                continue
            }
            found.append(
                FoundVM(
                    vm, epoch: record.epoch,
                    state: living.isEmpty ? .stopped : record.isArriving ? .starting : .running,
                    isArriving: record.isArriving, generation: record.generation, isolation: record.isolation))
            if !living.isEmpty { adopted.append((record, directory, living)) }
        }
        self.found = found
        for (record, directory, living) in adopted {
            let guest = Guest(record, directory, .connecting(until: loop.now + .seconds(5)), self)
            guest.pids = living
            guests[record.vm] = guest
        }
        probe = settings.triesKVM ? KVMProbe(settings) : nil
        if probe == nil { settle(.tcg, "KVM is not tried") }
    }

    /// What storage domains are known by from now on; disks of others are not opened.
    package func know(_ marks: [String: [UInt8]]?) { settings.marks = marks }

    /// What moves from here may take together from now on; of a move under way nothing changes.
    package func know(bytesPerSecond: Int64) { settings.bytesPerSecond = bytesPerSecond }

    private func settle(_ accelerator: QEMUMachine.Accelerator, _ why: String) {
        self.accelerator = accelerator
        accelerationText = "guests run under \(accelerator == .kvm ? "KVM" : "TCG"): \(why)"
        probe = nil
        let orders = held
        held = []
        carryOut(orders, now: loop.now)
    }

    // MARK: The parent

    /// The parent says what it has; `processes` are by VM. Whatever else runs here dies: nobody stops it in time.
    package func parentCame(_ processes: [(vm: VMID, epoch: UInt64, pid: pid_t)]) {
        for (vm, epoch, pid) in processes {
            guard let guest = guests[vm], guest.record.epoch == epoch else {
                parent?.stop(vm, epoch: epoch)
                continue
            }
            if !guest.pids.contains(pid) { guest.pids.append(pid) }
        }
        for vm in guests.keys.sorted() {
            guard let guest = guests[vm], !guest.pids.isEmpty else { continue }
            if processes.contains(where: { $0.vm == vm && $0.epoch == guest.record.epoch }) { continue }
            for pid in guest.pids { HostProcess.kill(pid) }
            guest.isHostsFault = true
            guest.ended(0, QEMUHypervisor.guardsEnd, loop.now)
        }
    }

    private static let guardsEnd = "it ended with the guard that it ran under"

    /// This VM's copy of this epoch is gone; `cause` where the parent stopped it by itself.
    package func guestEnded(
        _ vm: VMID, epoch: UInt64, status: Int32, cause: String?, isHostsFault: Bool = false
    ) {
        guard let guest = guests[vm], guest.record.epoch == epoch else { return }
        guest.isHostsFault = isHostsFault
        guest.ended(status, cause, loop.now)
    }

    /// Images of the catalogue, by their SHA-256, that disks here rest on or are being made of. What their names mean by now does
    /// not matter.
    package var imagesInUse: Set<String> {
        var images = Set(imagesLeft.values.joined())
        for guest in guests.values {
            for disk in (guest.wanted ?? guest.machine?.vm)?.spec.disks ?? []
            where disk.image.hasPrefix(CatalogueName.prefix) {
                images.insert(String(disk.image.dropFirst(CatalogueName.prefix.count)))
            }
        }
        return images
    }

    package var deadline: Instant? {
        if !news.isEmpty { return .origin }
        var next = probe == nil ? nil : loop.now + QEMUHypervisor.pollInterval
        for guest in guests.values {
            guard let at = guest.wakeAt else { continue }
            next = next.map { min($0, at) } ?? at
        }
        return next
    }

    package func takeNews(now: Instant) -> [HypervisorNews] {
        if let probe, let (accelerator, why) = probe.verdict(now) { settle(accelerator, why) }
        for vm in guests.keys.sorted() {
            guard let guest = guests[vm], let at = guest.wakeAt, at <= now else { continue }
            guest.wake(now)
        }
        defer { news = [] }
        return news
    }

    func say(
        _ guest: Guest, _ state: VMReport.State, progressMillis: UInt32 = 0, message: String = "",
        isHostsFault: Bool = false
    ) {
        say(
            guest.record.vm, guest.record.epoch, state, generation: guest.record.generation,
            progressMillis: progressMillis, message: message, isHostsFault: isHostsFault)
    }

    private func say(
        _ vm: VMID, _ epoch: UInt64, _ state: VMReport.State, generation: UInt64 = 0, progressMillis: UInt32 = 0,
        message: String = "", isHostsFault: Bool = false
    ) {
        news.append(
            .state(
                VMReport(
                    vm, epoch: epoch, state, generation: generation, progressMillis: progressMillis,
                    message: String(message.prefix(500)), isHostsFault: isHostsFault)))
    }

    /// Its process does not live any more.
    func isGone(_ guest: Guest) {
        guests[guest.record.vm] = nil
        consoles.removeValue(forKey: guest.record.vm)?.close()
        let complaint = guest.complaint
        guest.directory.clear()
        if guest.isDiscarded { guest.directory.remove() }
        imagesLeft[guest.record.vm] = guest.isDiscarded ? nil : guest.directory.images
        // One that was never committed must not be taken for a VM that was stopped here.
        if guest.record.isArriving && !guest.isDiscarded {
            unlink(guest.directory.path + "/record")
            // What of its disks came is nobody's. An agent that did not begin it can't know that, and waits to be told.
            if guest.source != nil && !guest.diskMove.isCommitted { guest.directory.removeDisks() }
        }
        let wasTold = guest.isToldToStop
        // Its parent took it along, and was not there to say so.
        if let parent, !parent.isUp, guest.endText == nil { guest.isHostsFault = true }
        let text = guest.isHostsFault ? QEMUHypervisor.guardsEnd : "its QEMU process ended: \(complaint)"
        say(
            guest, wasTold ? .stopped : .crashed, message: wasTold ? "" : guest.endText ?? text,
            isHostsFault: !wasTold && guest.isHostsFault)
    }

    package func statistics(of vm: VMID, now: Instant) -> VMStatistics? {
        guard let guest = guests[vm], let pid = guest.pids.first, let usage = HostProcess.usage(of: pid) else {
            return nil
        }
        let uptime = guest.runningSince.map { now - $0 } ?? .zero
        let ticks = Int64(max(1, sysconf(Int32(_SC_CLK_TCK))))
        let last = guest.usageLast ?? (now, usage.cpuTicks)
        guest.usageLast = (now, usage.cpuTicks)
        let milliseconds = max(1, (now - last.0).milliseconds)
        let cpu = (usage.cpuTicks - last.1) * 1_000 / ticks * 1_000 / milliseconds
        return VMStatistics(
            memoryMiB: usage.memoryBytes >> 20, cpuMillis: cpu, uptime: uptime, balloonMiB: guest.memory.balloonMiB,
            guest: guest.memory.said)
    }

    /// Guests that are on their way from here.
    func sending(besides vm: VMID) -> Int {
        guests.values.count { guest in
            if case .none = guest.sending { return false }
            return guest.record.vm != vm
        }
    }

    package func probe(_ vm: VMID, now: Instant, _ done: @escaping (MoveProbe?) -> Void) {
        guard let guest = guests[vm] else { return done(nil) }
        guest.probe(now, done)
    }

    // MARK: Orders

    package func carryOut(_ orders: [HypervisorOrder], now: Instant) {
        for order in orders { carryOut(order, now) }
    }

    private func carryOut(_ order: HypervisorOrder, _ now: Instant) {
        let guest = guests[order.vm]
        switch order {
        case .start(let vm, let epoch, let isPaused): begin(order, vm, epoch, isPaused: isPaused, from: nil, now)
        case .receive(let vm, let epoch, let host): begin(order, vm, epoch, isPaused: false, from: host, now)
        case .stop(let vm, let epoch, let grace):
            if drop(vm, epoch) { return say(vm, epoch, .stopped) }
            guard let guest, guest.record.epoch == epoch else { return guest == nil ? say(vm, epoch, .stopped) : () }
            guest.stop(grace, now)
        case .discard(let vm, let epoch, let isForGood):
            if drop(vm, epoch) { return say(vm, epoch, .stopped) }
            guard let guest else {
                let directory = VMDirectory(vm, in: settings.directory)
                // What an agent before could not finish.
                for mark in directory.marks + directory.tpmMarks {
                    for pid in HostProcess.living(with: mark) { HostProcess.kill(pid) }
                }
                if isForGood {
                    directory.remove()
                    imagesLeft[vm] = nil
                }
                return say(vm, epoch, .stopped)
            }
            guard guest.record.epoch <= epoch else { return }
            guest.isDiscarded = isForGood
            guest.stop(.zero, now)
        case .pause(_, let epoch): if let guest, guest.record.epoch == epoch { guest.setPaused(true) }
        case .resume(_, let epoch): if let guest, guest.record.epoch == epoch { guest.setPaused(false) }
        case .update(let vm, let epoch): if let guest, guest.record.epoch == epoch { guest.update(vm) }
        case .send(_, let epoch, let target, let host, let intent):
            if let guest, guest.record.epoch == epoch { guest.send(target, to: host, intent, now) }
        case .finishArrival(_, let epoch): if let guest, guest.record.epoch == epoch { guest.finishArrival() }
        case .cancelSend(_, let epoch): if let guest, guest.record.epoch == epoch { guest.cancelSend() }
        }
    }

    /// True when the VM's start was still waiting.
    private func drop(_ vm: VMID, _ epoch: UInt64) -> Bool {
        let count = held.count
        held.removeAll { order in
            switch order {
            case .start(let waiting, let its, _), .receive(let waiting, let its, _): waiting.id == vm && its <= epoch
            default: false
            }
        }
        return held.count < count
    }

    private func begin(
        _ order: HypervisorOrder, _ vm: CellVM, _ epoch: UInt64, isPaused: Bool, from source: HostID?, _ now: Instant
    ) {
        if let guest = guests[vm.id] {
            if guest.record.epoch == epoch { return guest.sayState() }
            return say(vm.id, epoch, .crashed, message: "epoch \(guest.record.epoch) is still here")
        }
        guard let accelerator else {
            held.append(order)
            return say(vm.id, epoch, .starting)
        }
        let directory = VMDirectory(vm.id, in: settings.directory)
        if let before = directory.record, before.epoch > epoch {
            return say(vm.id, epoch, .crashed, message: "epoch \(before.epoch) ran here already")
        }
        guard directory.marks.allSatisfy({ HostProcess.living(with: $0).isEmpty }) else {
            return say(vm.id, epoch, .crashed, message: "an earlier QEMU process of it still lives here")
        }
        guard vm.spec.tpm == nil || directory.tpmMarks.allSatisfy({ HostProcess.living(with: $0).isEmpty }) else {
            return say(vm.id, epoch, .crashed, message: "an earlier process of its TPM still lives here")
        }
        let record = VMDirectory.Record(
            vm.id, epoch: epoch, generation: vm.generation, isolation: vm.spec.isolation, isArriving: source != nil)
        directory.clear()
        let user = parent == nil ? nil : settings.users?.user(of: vm.id)
        if let problem = directory.write(record) ?? directory.settle(user) {
            return say(vm.id, epoch, .crashed, message: problem)
        }
        let guest = Guest(record, directory, .images, self)
        guest.user = user
        guest.wanted = vm
        guest.accelerator = accelerator
        guest.isStartedPaused = isPaused
        guest.source = source
        guests[vm.id] = guest
        say(guest, .starting)
        guest.wake(now)
    }
}
