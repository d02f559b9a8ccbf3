package import ClusterBase
internal import Schema

/// How much of something is allowed, as it is declared: `auto`, `none` or a time such as `5s`.
package enum Objective: Hashable, Sendable {
    /// As the cell's other settings have it.
    case auto
    case none
    case within(Nanoseconds)

    package static let longest = Nanoseconds.seconds(7 * 24 * 3_600)
    /// Of the values by which settings hold it.
    package static let valueMax = UInt64(longest.milliseconds) + 2

    /// Nil for a value that no objective has.
    package init?(value: UInt64) {
        switch value {
        case 0: self = .auto
        case 1: self = .none
        case 2...Objective.valueMax: self = .within(.milliseconds(Int64(value - 2)))
        default: return nil
        }
    }

    package var value: UInt64 {
        switch self {
        case .auto: 0
        case .none: 1
        case .within(let time): UInt64(clamping: time.milliseconds) + 2
        }
    }

    private static let units: [(name: String, milliseconds: UInt64)] = [
        ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]

    /// Whole numbers with a unit: `0s`, `500ms`, `5s`, `10m`, `2h`. Nil for anything else, and for more than a week.
    package init?(text: String) {
        if text == "auto" || text == "none" {
            self = text == "auto" ? .auto : .none
            return
        }
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = UInt64(digits),
            let unit = Objective.units.first(where: { $0.name == text[digits.endIndex...] })
        else { return nil }
        let (sum, isTooMuch) = number.multipliedReportingOverflow(by: unit.milliseconds)
        guard !isTooMuch, sum <= UInt64(Objective.longest.milliseconds) else { return nil }
        self = .within(.milliseconds(Int64(sum)))
    }

    package var text: String {
        switch self {
        case .auto: return "auto"
        case .none: return "none"
        case .within(let time):
            let milliseconds = UInt64(clamping: time.milliseconds)
            if milliseconds == 0 { return "0s" }
            let unit = Objective.units.last { milliseconds % $0.milliseconds == 0 } ?? Objective.units[0]
            return "\(milliseconds / unit.milliseconds)\(unit.name)"
        }
    }
}

/// A promise that a cell does not keep as it is, found out before anything is lost.
package struct CellRisk: Hashable, Sendable {
    package enum Kind: UInt32, Hashable, Sendable, CaseIterable {
        /// More of what was acknowledged would be lost with a zone, or with a region, than is declared.
        case rpoZone = 1
        case rpoRegion
        /// Without a zone or a region that it is to survive it would have no majority.
        case survival
        /// VMs that were lost do not run again within the time that is declared.
        case rto
        /// What is kept free for losses is not there.
        case reserve = 55

        /// In events and metrics.
        package var name: String {
            switch self {
            case .rpoZone: "rpo-zone"
            case .rpoRegion: "rpo-region"
            case .survival: "survival"
            case .rto: "rto"
            case .reserve: "failover-reserve"
            }
        }
    }

    package static let textBytesMax = 512
    package static let countMax = Kind.allCases.count

    package var kind: Kind
    /// Since when it is told, by the cell's time.
    package var since: LogTime
    package var text: String
    package init(_ kind: Kind, since: LogTime, _ text: String) {
        self.kind = kind
        self.since = since
        self.text = text
    }

    init?(_ wire: WireCellRisk) {
        guard let kind = Kind(rawValue: wire.kind) else { return nil }
        self.init(kind, since: LogTime(wire.since), wire.text)
    }
    var wire: WireCellRisk { WireCellRisk(kind: kind.rawValue, since: since.rawValue, text: text) }
}
