package import FleetModel

/// Has the name of a VM held that comes to a region with several cells: by the first of them, which keeps the region's names.
///
///     hold ──(free, or this one's)──▶ held
///       │ held for another creation
///       ▼
///     look in all cells of the region ──(a VM has the name)──▶ taken
///       │ none has it
///       ▼
///     use up that creation's request id ─▶ look again ─▶ hold in its place
///
/// One question at a time; whatever is left undone is begun anew by somebody else, and does no harm.
package struct NameClaim: Sendable {
    package enum Ask: Hashable, Sendable {
        case command(UInt64, CellCommand.Operation, request: [UInt8]?)
        case query(UInt64, CellQuery)
    }
    package enum Verdict: Hashable, Sendable {
        case held
        case refused(CellRefusal)
        /// Nobody knows: later again.
        case unknown
    }
    /// What was said to the last question; nil where nothing came.
    package enum Answer: Hashable, Sendable {
        case outcome(CellResult.Outcome?)
        case rows([CellRowContent]?)
    }

    private enum Stage: Hashable {
        case hold(replaces: [UInt8])
        case look(left: [UInt64], isUsedUp: Bool)
        case useUp
    }

    private static let hopsMax = 4

    private let tenant: String
    private let name: String
    private let vm: VMID
    private let target: UInt64
    private let siblings: [UInt64]
    package let request: [UInt8]
    private var stage: Stage
    /// Whoever has it: another creation, and the cell that it is for.
    private var holder: (cell: UInt64, request: [UInt8]) = (0, [])
    /// Cells where VMs of that name went, which are asked too.
    private var hops: [UInt64] = []
    private var hopsLeft = NameClaim.hopsMax
    private var rounds = 0

    /// `siblings` are all cells of the region, ascending: the first keeps its names.
    package init(tenant: String, name: String, vm: VMID, to target: UInt64, of siblings: [UInt64], request: [UInt8]) {
        self.tenant = tenant
        self.name = name
        self.vm = vm
        self.target = target
        self.siblings = siblings
        self.request = request
        stage = .hold(replaces: [])
    }

    package var next: Ask {
        switch stage {
        case .hold(let replaces):
            .command(
                siblings[0],
                .holdName(tenant: tenant, name: name, cell: target, request: request, replaces: replaces), request: nil)
        case .look(let left, _): .query(left[0], .vmNamed(tenant: tenant, name: name))
        case .useUp: .command(holder.cell, .noteTime, request: holder.request)
        }
    }

    /// Takes in what was said to `next`; nil while there is something to ask.
    package mutating func heard(_ answer: Answer) -> Verdict? {
        switch (stage, answer) {
        case (.hold, .outcome(.done?)): return .held
        case (.hold, .outcome(.refused(.nameHeld(let cell, let other))?)):
            rounds += 1
            if rounds > 2 { return .refused(.vmNameTaken(name)) }
            holder = (cell, other)
            look(isUsedUp: !siblings.contains(cell))
            return nil
        case (.hold, .outcome(.refused(let refusal)?)): return .refused(refusal)
        case (.look(let left, let isUsedUp), .rows(let rows?)):
            if let verdict = found(rows, in: left[0]) { return verdict }
            let rest = Array(left.dropFirst()) + hops
            hops = []
            if !rest.isEmpty {
                stage = .look(left: rest, isUsedUp: isUsedUp)
            } else {
                stage = isUsedUp ? .hold(replaces: holder.request) : .useUp
            }
            return nil
        case (.useUp, .outcome(.some)):
            // It was used up now, or before: then what came of it is there to see.
            look(isUsedUp: true)
            return nil
        default: return .unknown
        }
    }

    private mutating func look(isUsedUp: Bool) {
        hopsLeft = NameClaim.hopsMax
        stage = .look(left: siblings, isUsedUp: isUsedUp)
    }

    private mutating func found(_ rows: [CellRowContent], in cell: UInt64) -> Verdict? {
        for row in rows {
            switch row {
            case .vm(_, .some) where siblings.contains(cell): return .refused(.vmNameTaken(name))
            // The one that the name is for may have been here before.
            case .tombstone(let id, let gone?) where gone.movedTo > 0 && id != vm:
                hopsLeft -= 1
                if hopsLeft < 0 { return .unknown }
                hops.append(gone.movedTo)
            default: break
            }
        }
        return nil
    }
}
