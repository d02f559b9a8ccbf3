import ClusterBase
import NodePorts
import RaftCore
import StoreLayout

/// Sends one snapshot: pieces of a consistent view, a window of them under way, repeated after a silence.
///
///     acknowledged │ under way: at most `window` │ not sent yet
///
/// The receiver says which piece it wants next, so that a transfer goes on where it stood after any break.
struct SnapshotSending<View: OrderedReader> {
    let group: GroupID
    let to: Peer
    let id: SnapshotID
    let epoch: Epoch
    let term: Term
    let base: LogBase
    private var source: SnapshotSource<View>
    /// Everything below has arrived.
    private var acknowledged: UInt64 = 0
    /// Everything below was sent.
    private var sent: UInt64 = 0
    private var isAllSent = false
    private(set) var retryAt: Instant
    private(set) var givesUpAt: Instant

    init(
        group: GroupID, to: Peer, id: SnapshotID, epoch: Epoch, term: Term, base: LogBase, source: SnapshotSource<View>,
        settings: NodeSettings, now: Instant
    ) {
        self.group = group
        self.to = to
        self.id = id
        self.epoch = epoch
        self.term = term
        self.base = base
        self.source = source
        self.retryAt = now + settings.snapshotRetry
        self.givesUpAt = now + settings.snapshotTimeout
    }

    var deadline: Instant { min(retryAt, givesUpAt) }

    /// The pieces that may leave now.
    mutating func pieces(_ settings: NodeSettings) throws(StoreError) -> [SnapshotPiece] {
        var pieces: [SnapshotPiece] = []
        while !isAllSent && sent < acknowledged + settings.snapshotWindow {
            guard let piece = try source.piece(sent) else { break }
            isAllSent = piece.manifest != nil
            sent += 1
            pieces.append(piece)
        }
        return pieces
    }

    /// The receiver holds everything below `next`, and wants that one. It may have lost some that it held when its process
    /// ended: then it goes on from there.
    mutating func acknowledge(_ next: UInt64, _ settings: NodeSettings, _ now: Instant) {
        guard next != acknowledged else { return }
        if next < acknowledged {
            sent = next
            isAllSent = false
        }
        acknowledged = next
        sent = max(sent, next)
        retryAt = now + settings.snapshotRetry
        givesUpAt = now + settings.snapshotTimeout
    }

    /// No answer for a while: what was under way is sent again.
    mutating func repeatWindow(_ settings: NodeSettings, _ now: Instant) {
        retryAt = now + settings.snapshotRetry
        sent = acknowledged
        isAllSent = false
    }

    func message(from: Peer, _ piece: SnapshotPiece) -> SnapshotMessage {
        SnapshotMessage(
            group: group, from: from, to: to, epoch: epoch, term: term, snapshot: id,
            body: .piece(number: piece.number, bytes: piece.bytes, checksum: piece.checksum, manifest: piece.manifest))
    }
}

/// Takes in one snapshot, into a generation of applied state that nobody reads yet.
struct SnapshotReceiving {
    enum Stage: Equatable {
        case receiving
        /// Complete and verified; waits until the flush with this ticket has made it durable.
        case flushing(ticket: UInt64)
        /// Handed to the core, which switches over to it with a durable log write.
        case installing
    }

    /// Nil after a start until it speaks again.
    var from: Peer?
    var staging: SnapshotStaging
    var manifest: SnapshotManifest?
    var stage = Stage.receiving
    var givesUpAt: Instant

    var group: GroupID { staging.group }
    var id: SnapshotID { staging.snapshot }
    var deadline: Instant { stage == .receiving ? givesUpAt : Instant(nanoseconds: .max) }
}
