import Glibc

/// By how many steps of niceness a guard comes before other work: its agent's `node.priority`, which it is told by a variable
/// when it starts, and tells itself when it becomes another program.
package enum GuardPriority {
    /// As the setting is where nobody sets it.
    package static let standard = 10
    private static let variable = "MUSTER_GUARD_PRIORITY"

    /// All that a guard's environment holds.
    static func environment(_ steps: Int) -> [String] {
        ["PATH=/usr/bin:/bin", "LC_ALL=C", "\(variable)=\(steps)"]
    }

    /// What this process was told; what is no such number is none.
    static var told: Int {
        guard let text = getenv(variable), let steps = Int(String(cString: text)), (0...19).contains(steps) else {
            return standard
        }
        return steps
    }
}
