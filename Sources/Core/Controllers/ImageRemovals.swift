package import ClusterBase
package import FleetModel

/// Ends removals of images that nobody ends: whoever began one may be gone, and the image would stay as one that no VM may
/// name. The root's leader looks at them; a new leader begins to count anew.
package struct ImageRemovals: Sendable {
    /// Longer than a look at all VMs of all cells takes.
    package static let patience = Nanoseconds.seconds(120)

    private struct Key: Hashable {
        var tenant: String
        var name: String
        var removal: UInt64
    }

    // hash order: looked up only
    private var since: [Key: Instant] = [:]
    package init() {}

    package mutating func forget() { since = [:] }

    /// What calls off those that have been under way for too long.
    package mutating func step(_ images: [RootImage], now: Instant) -> [RootCommand.Operation] {
        // hash order: looked up only
        var seen: [Key: Instant] = [:]
        var operations: [RootCommand.Operation] = []
        for image in images where image.isLeaving {
            let key = Key(tenant: image.tenant, name: image.name, removal: image.removal)
            let began = since[key] ?? now
            let isLate = now - began >= ImageRemovals.patience
            // Asked once more after the same time, should this be lost.
            seen[key] = isLate ? now : began
            if isLate {
                operations.append(
                    .removeImage(tenant: image.tenant, name: image.name, .cancel, removal: image.removal))
            }
        }
        since = seen
        return operations
    }
}
