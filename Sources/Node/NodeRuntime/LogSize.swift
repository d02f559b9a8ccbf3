import ClusterBase
import RaftCore

/// About how many bytes of a replica's log lie where: marks every few megabytes, counted since this start.
struct LogSize {
    /// One mark per so many bytes of applied entries.
    static let step = 4 << 20

    private var bytes = 0
    private var marks: [(index: LogIndex, bytes: Int)] = []

    mutating func applied(_ entry: Entry) {
        bytes += entry.byteCount
        if bytes - (marks.last?.bytes ?? 0) >= LogSize.step { marks.append((entry.index, bytes)) }
    }

    /// The last mark that leaves `kept` bytes behind it, when it frees at least `freed`; nil when there is none.
    func cut(through bound: LogIndex, keeping kept: Int, freeing freed: Int) -> LogIndex? {
        guard let mark = marks.last(where: { $0.index <= bound && bytes - $0.bytes >= kept }) else { return nil }
        return mark.bytes - (marks.first?.bytes ?? 0) + LogSize.step >= freed ? mark.index : nil
    }

    /// The log begins after `base` now.
    mutating func wasCut(at base: LogIndex) { marks.removeAll { $0.index <= base } }
}
