package import AdminAPI

/// An explanation as a person reads it: what is so, what would help, and the tables behind it. What it does not know it leaves out.
package enum ExplainText {
    private static let verdicts = [
        Column("RULE", "rule"), Column("EXCLUDES", "excluded", .integer), Column("ALONE", "excludedAlone", .integer),
    ]
    private static let candidates = [
        Column("HOST", "host"), Column("SCORE", "score", .integer), Column("SOFT RULES", "softRules", .integer),
        Column("FREE CPU", "free.cpuMillis", .cores), Column("FREE MEMORY", "free.memoryMiB", .mebibytes),
        Column("NUMA", "numaNodes"), Column("GROUPS", "groups"),
        Column("WORTH", "worthBefore", .integer, isWide: true), Column("AFTER", "worthAfter", .integer, isWide: true),
    ]
    private static let asked = [
        Column("HOST", "host"), Column("EXCLUDED BY", "excludedBy"), Column("SHORT OF", "shortages"),
        Column("SCORE", "score", .integer), Column("SOFT RULES", "softRules", .integer),
        Column("FREE CPU", "free.cpuMillis", .cores), Column("FREE MEMORY", "free.memoryMiB", .mebibytes),
    ]

    package static func text(_ found: ExplainInfo, _ printer: Printer) -> String {
        let name = Column.plain(.string(found.vm))
        var text = "\(name) \(standing(found)).\n"
        for (word, sentence) in [
            ("It can't be judged", found.invalid), ("What would let it in", found.nearest),
            ("Kept free", found.reserve),
            ("Its region", found.region),
        ] where !sentence.isEmpty {
            text += "\(word): \(Column.plain(.string(sentence)))\n"
        }
        if let gang = found.gang {
            text +=
                "It gets its place with all of \(gang.count) VMs or not at all; \(gang.fitting) of them would fit now.\n"
            for missing in gang.missing {
                text += "  \(Column.plain(.string(missing.vm))): \(Column.plain(.string(missing.text)))\n"
            }
        }
        if !found.rules.isEmpty { text += "\n" + printer.list(found.rules.map(\.json), verdicts) }
        text += "\n\(found.candidates) of \(found.hosts) hosts can take it"
        if found.candidates > 0 {
            text += ", judged by \(found.policy); "
            text +=
                found.tied > 1
                ? "\(found.tied) of them are equally good, and what decides is \(found.tieBreak)" : "one is the best"
        }
        text += ".\n"
        if !found.best.isEmpty { text += "\n" + printer.list(found.best.map(\.json), candidates) }
        if !found.asked.isEmpty { text += "\nAsked about:\n" + printer.list(found.asked.map(\.json), asked) }
        return text + "\nOn the state at index \(found.index); -o json has all of it.\n"
    }

    private static func standing(_ found: ExplainInfo) -> String {
        let host = Column.plain(.string(found.host))
        switch found.standing {
        case "placed": return "is on \(host)"
        case "nominated": return "waits while room is made for it on \(host)"
        case "waiting":
            return switch found.before {
            case 0: "waits for a place, as the first"
            case 1: "waits for a place, behind 1 other"
            default: "waits for a place, behind \(found.before) others"
            }
        default: return "is not meant to have a place now"
        }
    }
}
