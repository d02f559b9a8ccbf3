import ClusterBase
import FleetModel
import NodePorts

/// A VM's orders wait here while its secret fields are being opened and its images fetched; all others pass.
///
///     start, receive, update that are not ready ──▶ wait, and what is ordered of the VM after them ──▶ driver
///     stop, discard ──▶ driver at once; what waits is dropped, since the driver never had it
///
/// Opened values are annotations of what the driver gets. They are in this process's memory, and nowhere else here.
struct HeldOrders {
    /// How long a VM waits before it is said to have failed.
    static let patience = Nanoseconds.seconds(15)
    static let retry = Nanoseconds.milliseconds(300)
    /// Between looks at images that are coming.
    static let look = Nanoseconds.milliseconds(50)
    /// VMs whose values are remembered, so that one that crashed starts again without anybody's help.
    static let openMax = 4_096

    struct Wait {
        var fields: [SecretField]
        var isOpen: Bool
        /// By their SHA-256; those that are not here yet.
        var images: [String]
        var orders: [HypervisorOrder]
        var since: Instant
        var askAt: Instant
        var isAsking = false
        var isReady: Bool { isOpen && images.isEmpty }
    }

    // hash order: looked up, or read by sorted keys
    private var waits: [VMID: Wait] = [:]
    private var open: [VMID: (fields: [SecretField], values: [Named])] = [:]

    var isEmpty: Bool { waits.isEmpty }
    /// When the next question is due.
    var deadline: Instant? {
        waits.values.map { wait in
            if wait.isReady { return .origin }
            return wait.isAsking && wait.images.isEmpty ? Instant(nanoseconds: .max) : wait.askAt
        }.min()
    }

    /// What the driver knows a VM's images of the catalogue by: by their names in its specification.
    typealias Digests = (CellVM) -> [String: String]

    /// Gives back what the driver is to be told now.
    mutating func take(
        _ orders: [HypervisorOrder], now: Instant, _ digests: Digests
    ) -> [HypervisorOrder] {
        var passed: [HypervisorOrder] = []
        for order in orders {
            let vm = order.vm
            switch order {
            case .stop: waits[vm] = nil
            case .discard:
                waits[vm] = nil
                open[vm] = nil
            default:
                if waits[vm] != nil {
                    if waits[vm]?.orders.contains(order) == false { waits[vm]?.orders.append(order) }
                    continue
                }
                guard let about = order.about else { break }
                let isOpen = isOpen(about)
                // An image is looked at before every start, and not for a change of what runs.
                let images = order.beginning == nil ? [] : Set(digests(about).values).sorted()
                guard isOpen && images.isEmpty else {
                    waits[vm] = Wait(
                        fields: about.spec.secrets, isOpen: isOpen, images: images, orders: [order], since: now,
                        askAt: now)
                    continue
                }
                passed.append(order.with(open[vm]?.values ?? [], digests(about)))
                continue
            }
            passed.append(order)
        }
        return passed
    }

    private func isOpen(_ vm: CellVM) -> Bool {
        vm.spec.secrets.isEmpty || open[vm.id]?.fields == vm.spec.secrets
    }

    /// What is ready for the driver by now, after what was ordered last: what was stopped meanwhile is not among it.
    mutating func takeReady(now: Instant, _ digests: Digests) -> [HypervisorOrder] {
        var passed: [HypervisorOrder] = []
        for vm in waits.keys.sorted() {
            guard let wait = waits[vm], wait.isReady else { continue }
            waits[vm] = nil
            var rest = wait.orders
            let first = rest.removeFirst()
            if let about = first.about {
                let values = about.spec.secrets.isEmpty ? [] : open[vm]?.values ?? []
                passed.append(first.with(values, digests(about)))
            } else {
                passed.append(first)
            }
            passed += take(rest, now: now, digests)
        }
        return passed
    }

    // MARK: Secrets

    /// Fields to be opened now.
    mutating func takeQuestions(now: Instant) -> [(vm: VMID, fields: [SecretField])] {
        var questions: [(vm: VMID, fields: [SecretField])] = []
        for vm in waits.keys.sorted() {
            guard let wait = waits[vm], !wait.isOpen, !wait.isAsking, wait.askAt <= now else { continue }
            waits[vm]?.isAsking = true
            questions.append((vm, wait.fields))
        }
        return questions
    }

    mutating func opened(_ vm: VMID, _ fields: [SecretField], _ values: [[UInt8]]) {
        if open.count >= HeldOrders.openMax { open = [:] }
        open[vm] = (
            fields, zip(fields, values).map { Named($0.key, String(decoding: $1, as: UTF8.self)) }
        )
        waits[vm]?.isAsking = false
        if waits[vm]?.fields == fields { waits[vm]?.isOpen = true }
    }

    // MARK: Images

    /// Those that VMs wait for.
    func imagesWanted(now: Instant) -> [(vm: VMID, digest: String)] {
        waits.keys.sorted().flatMap { vm -> [(vm: VMID, digest: String)] in
            guard let wait = waits[vm], wait.askAt <= now || wait.isAsking else { return [] }
            return wait.images.map { (vm, $0) }
        }
    }

    mutating func imageIsReady(_ vm: VMID, _ digest: String) { waits[vm]?.images.removeAll { $0 == digest } }

    /// As long as something comes, patience begins anew.
    mutating func imageIsComing(_ vm: VMID, now: Instant) {
        waits[vm]?.since = now
        waits[vm]?.askAt = now + HeldOrders.look
    }

    /// Says what became of the VM when it is not tried again.
    mutating func failed(_ vm: VMID, _ reason: String, isFinal: Bool, now: Instant) -> HypervisorNews? {
        guard let wait = waits[vm] else { return nil }
        guard isFinal || now - wait.since >= HeldOrders.patience else {
            waits[vm]?.isAsking = false
            waits[vm]?.askAt = now + HeldOrders.retry
            return nil
        }
        waits[vm] = nil
        guard let epoch = wait.orders.first?.beginning else { return nil }
        return .state(VMReport(vm, epoch: epoch, .crashed, message: reason))
    }
}

extension HypervisorOrder {
    fileprivate var about: CellVM? {
        switch self {
        case .start(let vm, _, _), .update(let vm, _), .receive(let vm, _, _): vm
        default: nil
        }
    }

    /// Of an order that brings a VM to the driver: its epoch.
    fileprivate var beginning: UInt64? {
        switch self {
        case .start(_, let epoch, _), .receive(_, let epoch, _): epoch
        default: nil
        }
    }

    fileprivate func with(_ values: [Named], _ digests: [String: String]) -> HypervisorOrder {
        func opened(_ vm: CellVM) -> CellVM {
            var vm = vm
            vm.spec.annotations += values
            for i in vm.spec.disks.indices {
                if let digest = digests[vm.spec.disks[i].image] {
                    vm.spec.disks[i].image = CatalogueName.prefix + digest
                }
            }
            return vm
        }
        switch self {
        case .start(let vm, let epoch, let isPaused): return .start(opened(vm), epoch: epoch, isPaused: isPaused)
        case .update(let vm, let epoch): return .update(opened(vm), epoch: epoch)
        case .receive(let vm, let epoch, let from): return .receive(opened(vm), epoch: epoch, from: from)
        default: return self
        }
    }

    /// For the log, which no specification belongs into.
    var words: String {
        switch self {
        case .start(_, let epoch, let isPaused): "start epoch \(epoch)\(isPaused ? ", paused" : "")"
        case .update(let vm, let epoch): "update epoch \(epoch) to generation \(vm.generation)"
        case .receive(_, let epoch, let from): "receive epoch \(epoch) from host \(from)"
        default: "\(self)"
        }
    }
}
