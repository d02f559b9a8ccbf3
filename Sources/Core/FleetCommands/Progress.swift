/// What a command that waits says while it does: a bar that is drawn again on a terminal, plain lines elsewhere.
package struct Progress: Sendable {
    private let count: Int
    /// What those that are done are, such as `running`.
    private let what: String
    private let isTerminal: Bool
    private var last = ""
    private static let barWidth = 30
    /// Of a line on a terminal, which must not wrap: it could not be drawn over.
    private static let lineWidth = 100

    package init(_ count: Int, _ what: String, isTerminal: Bool) {
        self.count = count
        self.what = what
        self.isTerminal = isTerminal
    }

    /// What is to be written now; nil where nothing is new. `note` is about one of those that are not done.
    package mutating func text(done: Int, note: String = "") -> String? {
        let isEnd = done >= count
        var line = "\(done) of \(count) \(what)"
        if !isEnd && !note.isEmpty { line += "; \(note)" }
        if line == last { return nil }
        last = line
        guard isTerminal else { return line + "\n" }
        let filled = count > 0 ? max(0, min(done, count)) * Progress.barWidth / count : Progress.barWidth
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: Progress.barWidth - filled)
        let shown = "[\(bar)] \(line)"
        return "\r\u{1B}[K"
            + (shown.count > Progress.lineWidth ? String(shown.prefix(Progress.lineWidth - 1)) + "…" : shown)
            + (isEnd ? "\n" : "")
    }

    /// Leaves the line of the bar, before something else is written.
    package var leave: String { isTerminal && !last.isEmpty ? "\n" : "" }
}
