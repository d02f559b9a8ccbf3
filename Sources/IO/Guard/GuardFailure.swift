/// Why there is no guard, or none that can be reached: one sentence that says what to do.
package struct GuardFailure: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
