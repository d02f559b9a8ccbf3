/// How answers are printed.
package enum OutputFormat: String, Hashable, Sendable, CaseIterable {
    /// For people: the columns that most want to see.
    case table
    /// All columns.
    case wide
    case json
    case yaml
    /// Names alone, one a line, for scripts.
    case name
}
