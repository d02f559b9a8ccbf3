import RaftCore

/// What a peer or a disk may claim. Each bound is far above what a correct node sends and far below what would trap or
/// exhaust memory; beyond it the value is refused with a `DecodeError`.
public enum WireLimits {
    /// Of one frame between two nodes, without the transport's header.
    public static let frameBytesMax = 4 << 20
    /// A frame of this many messages inside each other and beside each other can't be honest: the smallest entry takes
    /// 17 bytes and is two messages.
    public static let frameMessagesMax = frameBytesMax / 8
    /// Entries of one append: as many of the smallest as a frame holds.
    public static let entriesMax = frameBytesMax / 16
    /// Raft messages of one frame; the smallest takes 13 bytes.
    public static let groupMessagesMax = frameBytesMax / 13
    /// Leadership changes of one beat; the smallest takes 4 bytes.
    public static let changesMax = Beat.changesMax
    /// Commands of one forwarded proposal; the smallest takes 2 bytes.
    public static let commandsMax = frameBytesMax / 2
    /// Snapshot messages of one frame; the smallest takes 12 bytes.
    public static let snapshotMessagesMax = frameBytesMax / 12
    /// Forwarded requests, or answers, of one frame; the smallest takes 6 bytes.
    public static let forwardsMax = 65_536
    /// Bytes of one forwarded command, query, result or answer: a frame without what stands around it.
    public static let forwardBytesMax = frameBytesMax - 4_096
    /// Bytes of one snapshot piece: a frame without what stands around the piece.
    public static let pieceBytesMax = frameBytesMax - 4_096

    /// Terms, indices, epochs and every other number that is counted up. Sums and successors of such numbers can't
    /// overflow, neither as UInt64 nor as Int.
    public static let numberMax: UInt64 = 1 << 61
    /// Points and lengths of time, either sign: 73 years of nanoseconds. Sums and differences can't overflow.
    public static let nanosecondsMax: Int64 = 1 << 61
}

/// The versions that this program writes. It reads them and all before; see `Proto/README.md`.
public enum WireVersions {
    public static let peerFrame: UInt32 = 1
    public static let logEntry: UInt32 = 1
    public static let hardState: UInt32 = 1
    public static let logBase: UInt32 = 1
    public static let snapshot: UInt32 = 1
    public static let applied: UInt32 = 1
    public static let replica: UInt32 = 1
    public static let node: UInt32 = 1
    public static let generation: UInt32 = 1
    /// Of the frame around a stored record.
    public static let storedFrame: UInt8 = 1
}
