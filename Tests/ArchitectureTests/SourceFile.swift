/// One Swift file, cut line by line into what the compiler reads and what people read.
struct SourceFile {
    /// Relative to the package, with slashes.
    let path: String
    let lines: [Line]

    struct Line {
        /// The line without its comments, and with every string literal emptied; code inside of `\(…)` stays.
        var code = ""
        /// The text of the line's comments, their slashes taken off.
        var comment = ""

        var hasCode: Bool { code.contains { !$0.isWhitespace } }
        /// Nothing but a comment stands on this line.
        var isComment: Bool { !hasCode && !comment.isEmpty }
    }

    init(path: String, text: String) {
        self.path = path
        var scanner = SourceScanner(text)
        lines = scanner.scan()
    }

    /// The name without folders and `.swift`.
    var stem: String {
        let name = path.split(separator: "/").last ?? ""
        return String(name.hasSuffix(".swift") ? name.dropLast(6) : name)
    }

    /// Written by a program, and marked as that in its first line; rules about size and style of files pass over it.
    var isGenerated: Bool { lines[0].comment.lowercased().contains("generated") }

    /// The comments that speak about `line` (from 0): its own, and those on the lines right above it.
    func explanation(of line: Int) -> String {
        var above = line
        while above > 0, lines[above - 1].isComment { above -= 1 }
        return (above...line).map { lines[$0].comment }.joined(separator: " ")
    }
}
