import RaftCore

/// What a peer or a disk may claim. Each bound is far above what a correct node sends and far below what would trap or
/// exhaust memory; beyond it the value is refused with a `DecodeError`.
package enum WireLimits {
    /// Of one frame between two nodes, without the transport's header.
    package static let frameBytesMax = 4 << 20
    /// A frame of this many messages inside each other and beside each other can't be honest: the smallest entry takes
    /// 17 bytes and is two messages.
    package static let frameMessagesMax = frameBytesMax / 8
    /// Entries of one append: as many of the smallest as a frame holds.
    package static let entriesMax = frameBytesMax / 16
    /// Raft messages of one frame; the smallest takes 13 bytes.
    package static let groupMessagesMax = frameBytesMax / 13
    /// Leadership changes of one beat; the smallest takes 4 bytes.
    package static let changesMax = Beat.changesMax
    /// Commands of one forwarded proposal; the smallest takes 2 bytes.
    package static let commandsMax = frameBytesMax / 2
    /// Snapshot messages of one frame; the smallest takes 12 bytes.
    package static let snapshotMessagesMax = frameBytesMax / 12
    /// Forwarded requests, or answers, of one frame; the smallest takes 6 bytes.
    package static let forwardsMax = 65_536
    /// Bytes of one forwarded command, query, result or answer: a frame without what stands around it.
    package static let forwardBytesMax = frameBytesMax - 4_096
    /// Bytes of one snapshot piece: a frame without what stands around the piece.
    package static let pieceBytesMax = frameBytesMax - 4_096

    /// Terms, indices, epochs and every other number that is counted up. Sums and successors of such numbers can't
    /// overflow, neither as UInt64 nor as Int.
    package static let numberMax: UInt64 = 1 << 61
    /// Points and lengths of time, either sign: 73 years of nanoseconds. Sums and differences can't overflow.
    package static let nanosecondsMax: Int64 = 1 << 61
}

/// The versions that this program writes. It reads them and all before; see `Proto/README.md`.
package enum WireVersions {
    package static let peerFrame: UInt32 = 1
    package static let logEntry: UInt32 = 1
    package static let hardState: UInt32 = 1
    package static let logBase: UInt32 = 1
    package static let snapshot: UInt32 = 1
    package static let applied: UInt32 = 1
    package static let replica: UInt32 = 1
    package static let node: UInt32 = 1
    package static let generation: UInt32 = 1
    /// Of the frame around a stored record.
    package static let storedFrame: UInt8 = 1
}
