/// A rule that does not hold at one place: where, why it matters, and what to write instead.
struct Finding: CustomStringConvertible, Equatable {
    let path: String
    /// From 1; nil when the finding is about the file or folder as a whole.
    let line: Int?
    let reason: String
    let replacement: String

    init(_ path: String, line: Int? = nil, _ reason: String, instead replacement: String) {
        self.path = path
        self.line = line
        self.reason = reason
        self.replacement = replacement
    }

    var description: String {
        let place = line.map { "\(path):\($0)" } ?? path
        return "\(place): \(reason). Instead: \(replacement)."
    }
}
