package import ClusterBase
package import FleetModel
package import NodePorts

/// A VM's orders wait here while its secret fields are being opened and its images fetched; all others pass.
///
///     start, receive, update that are not ready ──▶ wait, and what is ordered of the VM after them ──▶ driver
///     stop, discard ──▶ driver at once; what waits is dropped, since the driver never had it
///     start, receive that can't be made ready ──▶ crashed; what was ordered of that epoch goes with it, and no more
///     update that can't ──▶ what was ordered after it goes on; it is tried again unless that can't help
///
/// Opened values are annotations of what the driver gets. They are in this process's memory, and nowhere else here.
package struct HeldOrders {
    /// How long a VM waits before it is said to have failed.
    package static let patience = Nanoseconds.seconds(15)
    package static let retry = Nanoseconds.milliseconds(300)
    /// Between looks at images that are coming.
    package static let look = Nanoseconds.milliseconds(50)
    /// VMs whose values are remembered, so that one that crashed starts again without anybody's help.
    static let openMax = 4_096

    private struct Wait {
        var fields: [SecretField]
        var isOpen: Bool
        /// By their SHA-256; those that are not here yet.
        var images: [String]
        /// What its images were by their names when it began to wait, which it keeps.
        // hash order: looked up
        var digests: [String: String]
        /// False while a name that the catalogue here does not have may be one that this node has not heard of yet.
        var isSure: Bool
        var isLooking = false
        var orders: [HypervisorOrder]
        var since: Instant
        /// Since when it waits, whatever came meanwhile.
        var firstAt: Instant
        var askAt: Instant
        var isAsking = false
        /// What was said last of the wait, and when.
        var told: (text: String, at: Instant)?
        /// An update that is tried again, and holds nothing else up.
        var isRetry = false
        var isReady: Bool { isOpen && isSure && images.isEmpty }
    }

    // hash order: looked up, or read by sorted keys
    private var waits: [VMID: Wait] = [:]
    // hash order: looked up only
    private var open: [VMID: (fields: [SecretField], values: [Named])] = [:]

    /// What waited behind what is not tried again; the driver gets it next.
    private var released: [HypervisorOrder] = []

    package init() {}

    /// Of the catalogue, by their SHA-256: what waits here begins with them.
    // hash order: looked up
    package var images: Set<String> { Set(waits.values.flatMap(\.digests.values)) }
    package var isEmpty: Bool { waits.isEmpty && released.isEmpty }
    /// When the next question is due.
    package var deadline: Instant? {
        if !released.isEmpty { return .origin }
        return waits.values.map { wait in
            if wait.isReady || !wait.isSure && !wait.isLooking { return .origin }
            return (wait.isAsking || wait.isLooking) && wait.images.isEmpty ? Instant(nanoseconds: .max) : wait.askAt
        }.min()
    }

    /// What the driver knows a VM's images of the catalogue by: by their names in its specification.
    // hash order: looked up only
    package typealias Digests = (CellVM) -> [String: String]

    /// Gives back what the driver is to be told now.
    package mutating func take(
        _ orders: [HypervisorOrder], now: Instant, _ digests: Digests
    ) -> [HypervisorOrder] {
        var passed: [HypervisorOrder] = []
        let all = released + orders
        released = []
        for order in all {
            let vm = order.vm
            switch order {
            case .stop: waits[vm] = nil
            case .discard:
                waits[vm] = nil
                open[vm] = nil
            default:
                if let wait = waits[vm] {
                    guard wait.isRetry else {
                        if !wait.orders.contains(order) { waits[vm]?.orders.append(order) }
                        continue
                    }
                    // A later one takes the place of the update, and what is none passes it.
                    if order.about != nil { waits[vm] = nil }
                }
                guard let about = order.about else { break }
                let isOpen = isOpen(about)
                // An image is looked at before every start, and not for a change of what runs.
                let named = digests(about)
                // hash order: sorted
                let images = order.beginning == nil ? [] : Set(named.values).sorted()
                let isSure = order.beginning == nil || HeldOrders.knowsAll(about, named)
                guard isOpen && isSure && images.isEmpty else {
                    waits[vm] = Wait(
                        fields: about.spec.secrets, isOpen: isOpen, images: images, digests: named, isSure: isSure,
                        orders: [order],
                        since: now,
                        firstAt: now, askAt: now)
                    continue
                }
                passed.append(order.with(open[vm]?.values ?? [], named))
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
    package mutating func takeReady(now: Instant, _ digests: Digests) -> [HypervisorOrder] {
        var passed = take([], now: now, digests)
        for vm in waits.keys.sorted() {
            guard let wait = waits[vm], wait.isReady else { continue }
            waits[vm] = nil
            var rest = wait.orders
            let first = rest.removeFirst()
            if let about = first.about {
                let values = about.spec.secrets.isEmpty ? [] : open[vm]?.values ?? []
                passed.append(first.with(values, wait.digests))
            } else {
                passed.append(first)
            }
            passed += take(rest, now: now, digests)
        }
        return passed
    }

    // MARK: Secrets

    /// Fields to be opened now.
    package mutating func takeQuestions(now: Instant) -> [(vm: VMID, fields: [SecretField])] {
        var questions: [(vm: VMID, fields: [SecretField])] = []
        for vm in waits.keys.sorted() {
            guard let wait = waits[vm], !wait.isOpen, !wait.isAsking, wait.askAt <= now else { continue }
            waits[vm]?.isAsking = true
            questions.append((vm, wait.fields))
        }
        return questions
    }

    package mutating func opened(_ vm: VMID, _ fields: [SecretField], _ values: [[UInt8]]) {
        if open.count >= HeldOrders.openMax { open = [:] }
        open[vm] = (
            fields, zip(fields, values).map { Named($0.key, String(decoding: $1, as: UTF8.self)) }
        )
        waits[vm]?.isAsking = false
        if waits[vm]?.fields == fields { waits[vm]?.isOpen = true }
    }

    // MARK: Images

    // hash order: looked up only
    private static func knowsAll(_ vm: CellVM, _ named: [String: String]) -> Bool {
        vm.spec.disks.allSatisfy { $0.image.isEmpty || named[$0.image] != nil }
    }

    /// VMs that begin with a name which the catalogue here does not have: it may have come to the catalogue a moment ago, or be a
    /// file of the host's own. The catalogue is to be looked at as it is now, and `looked` says that it was.
    package mutating func takeLookups() -> [VMID] {
        let unsure = waits.keys.sorted().filter { waits[$0].map { !$0.isSure && !$0.isLooking } ?? false }
        for vm in unsure { waits[vm]?.isLooking = true }
        return unsure
    }

    /// What is still not in the catalogue is the host's own.
    package mutating func looked(_ vm: VMID, _ digests: Digests) {
        guard let wait = waits[vm], wait.isLooking, let about = wait.orders.first?.about else { return }
        let named = digests(about)
        waits[vm]?.isLooking = false
        waits[vm]?.isSure = true
        waits[vm]?.digests = named
        // hash order: sorted
        waits[vm]?.images = Set(named.values).sorted()
    }

    /// Those that VMs wait for.
    package func imagesWanted(now: Instant) -> [(vm: VMID, digest: String)] {

        waits.keys.sorted().flatMap { vm -> [(vm: VMID, digest: String)] in
            guard let wait = waits[vm], wait.askAt <= now || wait.isAsking else { return [] }
            return wait.images.map { (vm, $0) }
        }
    }

    package mutating func imageIsReady(_ vm: VMID, _ digest: String) { waits[vm]?.images.removeAll { $0 == digest } }

    /// As long as something comes, patience begins anew.
    package mutating func imageIsComing(_ vm: VMID, now: Instant) {
        waits[vm]?.since = now
        waits[vm]?.askAt = now + HeldOrders.look
    }

    /// Between two words about one wait.
    package static let tellInterval = Nanoseconds.seconds(2)

    /// What its cell is to be told of a VM that waits to begin; nil while nothing new is to be said.
    package mutating func wait(_ vm: VMID, _ text: String, now: Instant) -> VMReport? {
        guard let wait = waits[vm], case .start(_, let epoch, _)? = wait.orders.first else { return nil }
        // What takes no time is nobody's concern.
        let told = wait.told ?? ("", wait.firstAt)
        guard told.text != text, now - told.at >= HeldOrders.tellInterval || wait.isReady && !told.text.isEmpty else {
            return nil
        }
        waits[vm]?.told = (text, now)
        return VMReport(vm, epoch: epoch, .starting, message: text)
    }

    package enum Failing: Hashable, Sendable {
        /// It is tried again, and nothing has changed.
        case waiting
        /// The update is off, or tried again beside what was ordered after it.
        case passed
        /// The VM did not begin.
        case ended(HypervisorNews)
    }

    /// What becomes of the VM's orders when it can't be made ready now, or ever.
    package mutating func failed(_ vm: VMID, _ reason: String, isFinal: Bool, now: Instant) -> Failing {
        guard let wait = waits[vm], let first = wait.orders.first else { return .waiting }
        waits[vm]?.isAsking = false
        waits[vm]?.askAt = now + HeldOrders.retry
        guard isFinal || (now - wait.since >= HeldOrders.patience && !wait.isRetry) else { return .waiting }
        waits[vm] = nil
        let rest = wait.orders.dropFirst()
        if let epoch = first.beginning {
            // What was ordered of a copy that did not begin is about nothing; a later one is another matter.
            if let next = rest.firstIndex(where: { ($0.beginning ?? 0) > epoch }) { released += rest[next...] }
            return .ended(.state(VMReport(vm, epoch: epoch, .crashed, message: reason)))
        }
        released += rest
        if !isFinal, !rest.contains(where: { $0.about != nil }) {
            var again = wait
            again.orders = [first]
            again.isAsking = false
            again.askAt = now + HeldOrders.retry
            again.isRetry = true
            waits[vm] = again
        }
        return .passed
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

    // hash order: looked up only
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
    package var words: String {
        switch self {
        case .start(_, let epoch, let isPaused): "start epoch \(epoch)\(isPaused ? ", paused" : "")"
        case .update(let vm, let epoch): "update epoch \(epoch) to generation \(vm.generation)"
        case .receive(_, let epoch, let from): "receive epoch \(epoch) from host \(from)"
        default: "\(self)"
        }
    }
}
