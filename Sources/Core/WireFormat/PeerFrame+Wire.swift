package import BinaryCoding
internal import ClusterBase
package import NodePorts
internal import RaftCore
package import Schema

extension GroupMessage: WireMapped {
    package init(wire: RaftGroupMessage) throws(DecodeError) {
        self.init(
            group: try identity(wire.group, "GroupMessage.group"),
            message: try mapped(wire.message, "GroupMessage.message"))
    }

    package var wire: RaftGroupMessage { RaftGroupMessage(group: group.rawValue, message: message.wire) }

    package func encode(into writer: inout ByteWriter) {
        writer.number(1, group.rawValue)
        writer.nested(2, message, expecting: message.encodedBytesExpected)
    }
}

extension SnapshotManifest: WireMapped {
    package init(wire: RaftSnapshotManifest) throws(DecodeError) {
        self.init(
            base: try mapped(wire.base, "SnapshotManifest.base"),
            keyCount: try number(wire.keyCount, "SnapshotManifest.key_count"), digest: wire.digest)
    }

    package var wire: RaftSnapshotManifest {
        RaftSnapshotManifest(base: base.wire, keyCount: keyCount, digest: digest)
    }
}

extension SnapshotMessage.Body {
    init(wire: RaftSnapshotMessage.Body) throws(DecodeError) {
        switch wire {
        case .piece(let piece):
            try checkCount(piece.bytes.count, max: WireLimits.pieceBytesMax, "SnapshotMessage.Piece.bytes")
            var manifest: SnapshotManifest?
            if let value = piece.manifest { manifest = try SnapshotManifest(wire: value) }
            self = .piece(
                number: try number(piece.number, "SnapshotMessage.Piece.number"), bytes: piece.bytes,
                checksum: piece.checksum, manifest: manifest)
        case .received(let next): self = .received(next: try number(next, "SnapshotMessage.received"))
        case .done: self = .done
        case .abandoned: self = .abandoned
        }
    }

    var wire: RaftSnapshotMessage.Body {
        switch self {
        case .piece(let number, let bytes, let checksum, let manifest):
            .piece(
                RaftSnapshotMessage.Piece(
                    number: number, bytes: bytes, checksum: checksum, manifest: manifest?.wire))
        case .received(let next): .received(next)
        case .done: .done(RaftNothing())
        case .abandoned: .abandoned(RaftNothing())
        }
    }
}

extension SnapshotMessage: WireMapped {
    package init(wire: RaftSnapshotMessage) throws(DecodeError) {
        self.init(
            group: try identity(wire.group, "SnapshotMessage.group"),
            from: try mapped(wire.from, "SnapshotMessage.from"), to: try mapped(wire.to, "SnapshotMessage.to"),
            epoch: try identity(wire.epoch, "SnapshotMessage.epoch"),
            term: try identity(wire.term, "SnapshotMessage.term"),
            snapshot: try mapped(wire.snapshot, "SnapshotMessage.snapshot"),
            body: try Body(wire: required(wire.body, "SnapshotMessage.body")))
    }

    package var wire: RaftSnapshotMessage {
        RaftSnapshotMessage(
            group: group.rawValue, from: from.wire, to: to.wire, epoch: epoch.rawValue, term: term.rawValue,
            snapshot: snapshot.wire, body: body.wire)
    }
}

extension PeerFrame: WireMapped {
    package init(wire: RaftPeerFrame) throws(DecodeError) {
        try checkVersion(wire.version, current: WireVersions.peerFrame, "PeerFrame.version")
        var beat: Beat?
        if let value = wire.beat { beat = try Beat(wire: value) }
        self.init(
            from: try identity(wire.from, "PeerFrame.from"),
            incarnation: try identity(wire.incarnation, "PeerFrame.incarnation"), beat: beat,
            messages: try mapped(wire.messages, max: WireLimits.groupMessagesMax, "PeerFrame.messages"),
            snapshots: try mapped(wire.snapshots, max: WireLimits.snapshotMessagesMax, "PeerFrame.snapshots"),
            requests: try mapped(wire.requests, max: WireLimits.forwardsMax, "PeerFrame.requests"),
            answers: try mapped(wire.answers, max: WireLimits.forwardsMax, "PeerFrame.answers"))
    }

    /// Reads a frame that a peer sent, of at most `WireLimits.frameBytesMax`.
    package init(serialized bytes: [UInt8]) throws(DecodeError) {
        try checkCount(bytes.count, max: WireLimits.frameBytesMax, "PeerFrame")
        var reader = ByteReader(bytes, messagesMax: WireLimits.frameMessagesMax)
        try self.init(wire: RaftPeerFrame(from: &reader))
    }

    package var wire: RaftPeerFrame {
        RaftPeerFrame(
            version: WireVersions.peerFrame, from: from.rawValue, incarnation: incarnation.rawValue, beat: beat?.wire,
            messages: messages.map(\.wire), snapshots: snapshots.map(\.wire),
            requests: requests.map(\.wire), answers: answers.map(\.wire))
    }

    package func encode(into writer: inout ByteWriter) {
        writer.number(1, UInt64(WireVersions.peerFrame))
        writer.number(2, from.rawValue)
        writer.number(3, incarnation.rawValue)
        if let beat { writer.nested(4, beat) }
        for message in messages { writer.nested(5, message, expecting: message.message.encodedBytesExpected + 6) }
        for snapshot in snapshots { writer.nested(6, snapshot) }
        for request in requests { writer.nested(7, request) }
        for answer in answers { writer.nested(8, answer) }
    }
}
