import ClusterBase
import FleetModel
import NodePorts

/// A VM's orders wait here while its secret fields are being opened; all others pass.
///
///     start, receive, update with fields that are not open ──▶ wait, and what is ordered of the VM after them ──▶ driver
///     stop, discard ──▶ driver at once; what waits is dropped, since the driver never had it
///
/// Opened values are annotations of what the driver gets. They are in this process's memory, and nowhere else here.
struct HeldOrders {
    /// How long a VM waits before it is said to have failed.
    static let patience = Nanoseconds.seconds(15)
    static let retry = Nanoseconds.milliseconds(300)
    /// VMs whose values are remembered, so that one that crashed starts again without anybody's help.
    static let openMax = 4_096

    struct Wait {
        var fields: [SecretField]
        var orders: [HypervisorOrder]
        var since: Instant
        var askAt: Instant
        var isAsking = false
    }

    // hash order: looked up, or read by sorted keys
    private var waits: [VMID: Wait] = [:]
    private var open: [VMID: (fields: [SecretField], values: [Named])] = [:]
    private var ready: [VMID] = []

    var isEmpty: Bool { waits.isEmpty }
    /// When the next question is due.
    var deadline: Instant? {
        if !ready.isEmpty { return .origin }
        return waits.values.filter { !$0.isAsking }.map(\.askAt).min()
    }

    /// Gives back what the driver is to be told now.
    mutating func take(_ orders: [HypervisorOrder], now: Instant) -> [HypervisorOrder] {
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
                guard let spec = order.spec, !spec.secrets.isEmpty else { break }
                guard let known = open[vm], known.fields == spec.secrets else {
                    waits[vm] = Wait(fields: spec.secrets, orders: [order], since: now, askAt: now)
                    continue
                }
                passed.append(order.with(known.values))
                continue
            }
            passed.append(order)
        }
        return passed
    }

    /// What is ready for the driver by now, after what was ordered last: what was stopped meanwhile is not among it.
    mutating func takeReady(now: Instant) -> [HypervisorOrder] {
        var passed: [HypervisorOrder] = []
        for vm in ready { if let wait = waits.removeValue(forKey: vm) { passed += take(wait.orders, now: now) } }
        ready = []
        return passed
    }

    /// Fields to be opened now.
    mutating func takeQuestions(now: Instant) -> [(vm: VMID, fields: [SecretField])] {
        var questions: [(vm: VMID, fields: [SecretField])] = []
        for vm in waits.keys.sorted() {
            guard let wait = waits[vm], !wait.isAsking, wait.askAt <= now, !ready.contains(vm) else { continue }
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
        guard waits[vm] != nil else { return }
        waits[vm]?.isAsking = false
        ready.append(vm)
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
        let message = "its secret fields could not be opened: \(reason)"
        return .state(VMReport(vm, epoch: epoch, .crashed, message: message))
    }
}

extension HypervisorOrder {
    fileprivate var spec: VMDescription? {
        switch self {
        case .start(let vm, _, _), .update(let vm, _), .receive(let vm, _, _): vm.spec
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

    fileprivate func with(_ values: [Named]) -> HypervisorOrder {
        func opened(_ vm: CellVM) -> CellVM {
            var vm = vm
            vm.spec.annotations += values
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
