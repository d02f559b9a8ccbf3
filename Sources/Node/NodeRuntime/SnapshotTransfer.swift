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
    /// How long to wait for an answer before what is under way is sent again. On a slow path a piece takes its time, and what is
    /// sent again there takes the place of what is new.
    private var patience: Nanoseconds
    /// When the receiver last wanted another piece.
    private var answeredAt: Instant

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
        self.patience = settings.snapshotRetry
        self.answeredAt = now
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
        guard next != acknowledged else {
            // Something that was sent twice has arrived, and before it all that went before: nothing is lost yet.
            retryAt = max(retryAt, now + patience)
            return
        }
        if next < acknowledged {
            sent = next
            isAllSent = false
        }
        acknowledged = next
        sent = max(sent, next)
        // Answers come in bursts, after all that lay between.
        wait(max((now - answeredAt) * 3, patience - patience / 8), settings)
        answeredAt = now
        retryAt = now + patience
        givesUpAt = now + settings.snapshotTimeout
    }

    /// No answer for a while: what was under way is sent again.
    mutating func repeatWindow(_ settings: NodeSettings, _ now: Instant) {
        wait(patience * 2, settings)
        retryAt = now + patience
        sent = acknowledged
        isAllSent = false
    }

    /// A lost piece is sent again some times before the transfer is given up.
    private mutating func wait(_ length: Nanoseconds, _ settings: NodeSettings) {
        patience = max(settings.snapshotRetry, min(length, settings.snapshotTimeout / 4))
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
