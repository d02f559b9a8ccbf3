import Testing

/// A rule that the manifest and the compiler can't keep, read from the sources. It says where it found something, why
/// that matters and what to write instead. `TidyRuleTests` plants a bad snippet for every rule.
struct Tidy: CustomTestStringConvertible, Sendable {
    /// What holds when the rule finds nothing.
    let promise: String
    let check: @Sendable (House) -> [Finding]

    var testDescription: String { promise }

    static let rules: [Tidy] = imports + purity + safety + layout + products + documents
}
