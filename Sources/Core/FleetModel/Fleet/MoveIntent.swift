package import ClusterBase

/// What a live migration may cost the guest and the network: in place of a hypervisor's knobs.
package enum MoveIntent: Int32, Hashable, Sendable, CaseIterable {
    /// The guest is never slowed down, others keep most of the bandwidth, and the stop is short. Where that is not enough the
    /// move ends with the reason, and the guest runs on where it was.
    case gentle = 1
    /// A guest that writes more than is copied is slowed down after a while.
    case balanced
    /// The guest is slowed down from the beginning, and may stand still for longer.
    case now

    package var word: String {
        switch self {
        case .gentle: "gentle"
        case .balanced: "balanced"
        case .now: "now"
        }
    }

    package init?(word: String) {
        guard let found = MoveIntent.allCases.first(where: { $0.word == word }) else { return nil }
        self = found
    }

    /// The next that gets more done.
    package var harder: MoveIntent {
        switch self {
        case .gentle: .balanced
        case .balanced, .now: .now
        }
    }

    // MARK: What it means

    package enum Slowdown: Hashable, Sendable { case never, later, atOnce }

    /// When a guest is slowed down that writes more than is copied.
    package var slowdown: Slowdown {
        switch self {
        case .gentle: .never
        case .balanced: .later
        case .now: .atOnce
        }
    }

    /// Of its time, in percent, what a guest loses first that is slowed down; half as much more each time that does not do.
    package var slowdownFirst: Int64 { self == .now ? 40 : 20 }

    /// Of a host's rate for bulk, in bytes per second, what one move takes at most while its guest runs.
    package func bandwidth(of rate: Int64) -> Int64 {
        self == .gentle ? min(rate, max(rate / 8, MoveIntent.gentleBandwidthMin)) : rate
    }
    package static let gentleBandwidthMin: Int64 = 16 << 20

    /// The stop for the last copying that is planned for, where it can be planned.
    package var stopPlanned: Nanoseconds { self == .now ? .milliseconds(500) : .milliseconds(50) }

    /// A guest that stands still for so long while the last of it is copied goes on where it was, and the move has failed. Of
    /// those that are not gentle, what the destination takes to read it in.
    package var stopMax: Nanoseconds {
        switch self {
        case .gentle: .seconds(2)
        case .balanced: .seconds(10)
        case .now: .seconds(30)
        }
    }

    /// After so long the copying of so much memory is given up; nil for never.
    package func copyingMax(memoryMiB: Int64, bytesPerSecond: Int64) -> Nanoseconds? {
        guard self == .gentle else { return nil }
        let mebibytes = max(1, bandwidth(of: bytesPerSecond) >> 20)
        return .seconds(60 + min(86_400, 4 * max(0, memoryMiB) / mebibytes))
    }
}
