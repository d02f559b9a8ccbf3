package import AdminAPI

/// A list that is asked for again and again: on a terminal it is drawn anew each time, as ages grow; elsewhere it is written when
/// something in it is another one, an age alone being none.
package struct WatchedList: Sendable {
    private let printer: Printer
    private let columns: [Column]
    private let isTerminal: Bool
    /// As it was at the printer's own time.
    private var last: String?

    package init(_ printer: Printer, _ columns: [Column], isTerminal: Bool) {
        self.printer = printer
        self.columns = columns
        self.isTerminal = isTerminal
    }

    /// What is to be written now; nil where nothing is.
    package mutating func text(_ rows: [JSONValue], now: Int64) -> String? {
        let still = printer.list(rows, columns)
        let isSame = still == last
        last = still
        if isSame && !isTerminal { return nil }
        var printer = printer
        printer.now = now
        return (isTerminal ? "\u{1B}[H\u{1B}[2J" : "") + printer.list(rows, columns)
    }
}
