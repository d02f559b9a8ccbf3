package import ClusterBase
internal import Compression
internal import NodePorts
package import RaftCore
internal import Schema
package import StoreLayout

/// One group's state as records of a backup, read piece by piece from a consistent view.
package struct BackupGroupSource<View: OrderedReader> {
    /// Bytes of a piece's rows, or one row.
    package static var pieceBytesMax: Int { 256 << 10 }

    private var source: SnapshotSource<View>
    private let head: BackupRecord.Group
    private var number: UInt64 = 0
    private var isDone = false

    package init(_ group: GroupID, name: String, base: LogBase, _ source: SnapshotSource<View>) {
        self.source = source
        head = BackupRecord.Group(
            group: group.rawValue, name: name, index: base.index.rawValue, term: base.term.rawValue, chain: base.chain)
    }

    /// The next records in their frames; nil when all were given. Throws when the state turns out damaged: nothing of it
    /// is saved then.
    package mutating func next() throws(StoreError) -> [UInt8]? {
        if isDone { return nil }
        var bytes: [UInt8] = []
        if number == 0 { BackupFrame.append(.group(head), to: &bytes) }
        guard let piece = try source.piece(number) else {
            isDone = true
            return nil
        }
        let packed = LZ4Codec.compress(piece.bytes)
        var record = BackupRecord.Piece(
            number: number, bytes: packed ?? piece.bytes, isPacked: packed != nil, checksum: piece.checksum)
        if let manifest = piece.manifest {
            record.total = BackupRecord.Total(keyCount: manifest.keyCount, digest: manifest.digest)
            isDone = true
        }
        BackupFrame.append(.piece(record), to: &bytes)
        number += 1
        return bytes
    }
}
