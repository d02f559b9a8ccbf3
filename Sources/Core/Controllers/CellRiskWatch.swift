package import ClusterBase
package import FleetModel

/// Which promises a cell is told not to keep. What comes and goes within seconds is told to nobody:
///
///     kept ──(not kept for `raisedAfter` without a break)──▶ at risk ──(kept for `endedAfter` without a break)──▶ kept
package struct CellRiskWatch: Hashable, Sendable {
    /// A promise that is not kept at this moment.
    package struct Found: Hashable, Sendable {
        package var kind: CellRisk.Kind
        package var text: String
        package init(_ kind: CellRisk.Kind, _ text: String) {
            self.kind = kind
            self.text = text
        }
    }

    package struct Change: Hashable, Sendable {
        package var kind: CellRisk.Kind
        package var isOver: Bool
        package var text: String
    }

    package static let raisedAfter = Nanoseconds.seconds(5)
    package static let endedAfter = Nanoseconds.seconds(15)

    /// Those that are told, in the order of their kinds. Texts are those of the last look.
    package private(set) var told: [CellRisk]
    /// Since when it is the other way than it is told.
    private var turning: [Turn] = []

    private struct Turn: Hashable, Sendable {
        var kind: CellRisk.Kind
        var since: Instant
    }

    /// `told` is what a leader before has told.
    package init(told: [CellRisk] = []) { self.told = told }

    /// A change is to come if it stays as it is.
    package var isTurning: Bool { !turning.isEmpty }

    /// Takes in what is not kept now, one of a kind; gives what is to be told. `time` is the cell's.
    package mutating func look(_ found: [Found], time: LogTime, now: Instant) -> [Change] {
        var changes: [Change] = []
        for kind in CellRisk.Kind.allCases {
            let risk = found.first { $0.kind == kind }
            let at = told.firstIndex { $0.kind == kind }
            if let risk, let at { told[at].text = risk.text }
            guard (risk == nil) != (at == nil) else {
                turning.removeAll { $0.kind == kind }
                continue
            }
            guard let since = turning.first(where: { $0.kind == kind })?.since else {
                turning.append(Turn(kind: kind, since: now))
                continue
            }
            if now - since < (at == nil ? CellRiskWatch.raisedAfter : CellRiskWatch.endedAfter) { continue }
            turning.removeAll { $0.kind == kind }
            if let at {
                told.remove(at: at)
                changes.append(Change(kind: kind, isOver: true, text: "it is kept again"))
            } else if let risk {
                told.append(CellRisk(kind, since: time, risk.text))
                changes.append(Change(kind: kind, isOver: false, text: risk.text))
            }
        }
        told.sort { $0.kind.rawValue < $1.kind.rawValue }
        return changes
    }
}
