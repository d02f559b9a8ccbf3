import BinaryCoding
import ClusterBase
import NodePorts
import RaftCore
import Schema
import Testing
import WireFormat

@Suite struct HostileBytesTests {
    @Test func `a frame cut at any byte is an error or a shorter frame, never a trap`() throws {
        let frame = try PeerFrame(serialized: golden("peer-frame-v1"))
        let bytes = frame.serialized()
        for count in 0..<bytes.count {
            let cut = Array(bytes.prefix(count))
            if let shorter = try? PeerFrame(serialized: cut) {
                #expect(shorter != frame)
            }
        }
    }

    @Test func `a damaged frame is an error or a frame that comes back, never a trap`() throws {
        var values = RandomValues(seed: 11)
        var accepted = 0
        for _ in 0..<3_000 {
            var bytes = values.frame().serialized()
            for _ in 0...values.random.below(4) {
                bytes[values.random.below(bytes.count)] = UInt8(values.random.below(256))
            }
            guard let frame = try? PeerFrame(serialized: bytes) else { continue }
            accepted += 1
            #expect(try PeerFrame(serialized: frame.serialized()) == frame)
            // What the core does with any number it is given.
            for message in frame.messages {
                guard case .append(let append) = message.message.body else { continue }
                _ = append.previousIndex.next.advanced(by: append.entries.count) - append.commit
                for entry in append.entries { _ = (entry.index.next, entry.term.next, entry.byteCount) }
            }
            if let beat = frame.beat { _ = beat.sentAt + beat.enginePulseAge - .origin }
        }
        #expect(accepted > 0)
    }

    @Test func `a stored entry cut or changed at any byte is refused`() throws {
        let entry = Entry(index: LogIndex(1), term: Term(1), chain: 5, content: .command([1, 2, 3]))
        let record = entry.sealed(under: [9])
        for i in 0..<record.count {
            #expect(throws: DecodeError.self) { try Entry(sealed: Array(record.prefix(i)), under: [9]) }
            var changed = record
            changed[i] ^= 0x10
            #expect(throws: DecodeError.self) { try Entry(sealed: changed, under: [9]) }
        }
    }

    @Test func `a frame beyond the size of frames is refused before it is read`() {
        let error = #expect(throws: DecodeError.self) {
            try PeerFrame(serialized: [UInt8](repeating: 0, count: WireLimits.frameBytesMax + 1))
        }
        #expect(
            error?.reason == .tooMany(count: WireLimits.frameBytesMax + 1, max: WireLimits.frameBytesMax))
    }

    @Test func `a frame of empty messages can't fill the memory`() {
        // Two bytes each on the wire: group messages without content.
        let count = WireLimits.frameBytesMax / 2 - 8
        var writer = ByteWriter(capacity: WireLimits.frameBytesMax)
        for _ in 0..<count { writer.raw([5 << 3 | 2, 0]) }
        let error = #expect(throws: DecodeError.self) { try PeerFrame(serialized: writer.bytes) }
        #expect(error?.reason == .tooManyMessages(max: WireLimits.frameMessagesMax))
    }
}

/// One change to a good message each, and the error that names it.
@Suite struct BadValueTests {
    let good = RaftMessage(
        from: RaftPeer(replica: 1, node: 1), to: RaftPeer(replica: 2, node: 2), epoch: 1, term: 3,
        body: .campaignNow(RaftNothing()))
    let member = RaftMember(peer: RaftPeer(replica: 1, node: 1), role: .voter)

    private func expectRefusal<Value: WireMapped>(
        _ type: Value.Type, _ wire: Value.Wire, _ reason: DecodeError.Reason, _ field: String,
        _ location: SourceLocation = #_sourceLocation
    ) {
        // Through bytes, so that the refusal is the one that a peer's bytes meet.
        #expect(throws: DecodeError(reason, field: field), sourceLocation: location) {
            try Value(serialized: wire.serialized())
        }
    }

    @Test func `a message lacks its sender, receiver or body`() {
        #expect(throws: Never.self) { try Message(wire: good) }
        var wire = good
        wire.from = nil
        expectRefusal(Message.self, wire, .missing, "Message.from")
        wire = good
        wire.to = nil
        expectRefusal(Message.self, wire, .missing, "Message.to")
        wire = good
        wire.body = nil
        expectRefusal(Message.self, wire, .missing, "Message.body")
    }

    @Test func `a body that only a newer program knows is a message without a body`() {
        var wire = good
        wire.body = nil
        wire.unknownFields = [0xA2, 0x06, 0x00]
        expectRefusal(Message.self, wire, .missing, "Message.body")
    }

    @Test func `numbers beyond the bound that keeps sums from overflowing`() {
        var wire = good
        wire.term = WireLimits.numberMax
        #expect(throws: Never.self) { try Message(wire: wire) }
        wire.term += 1
        expectRefusal(Message.self, wire, .valueOutOfRange, "Message.term")
        wire = good
        wire.epoch = .max
        expectRefusal(Message.self, wire, .valueOutOfRange, "Message.epoch")
        expectRefusal(Peer.self, RaftPeer(replica: .max), .valueOutOfRange, "Peer.replica")
        expectRefusal(
            Entry.self, RaftEntry(index: .max, content: .command([])), .valueOutOfRange, "Entry.index")
        expectRefusal(Beat.self, RaftBeat(sentAt: .min), .valueOutOfRange, "Beat.sent_at")
        expectRefusal(Beat.self, RaftBeat(enginePulseAge: -1), .valueOutOfRange, "Beat.engine_pulse_age")
        expectRefusal(Beat.self, RaftBeat(storagePulseAge: .max), .valueOutOfRange, "Beat.storage_pulse_age")
    }

    @Test func `a role that is missing or unknown`() {
        var wire = member
        wire.role = .unspecified
        expectRefusal(Member.self, wire, .missing, "Member.role")
        wire.role = .unrecognized(6)
        expectRefusal(Member.self, wire, .badValue(6), "Member.role")
        wire = member
        wire.priority = 128
        expectRefusal(Member.self, wire, .valueOutOfRange, "Member.priority")
    }

    @Test func `a configuration with a replica or a node twice, out of order, or too large`() {
        func configuration(_ peers: [(UInt64, UInt64)], highest: UInt64 = 100) -> RaftConfiguration {
            RaftConfiguration(
                members: peers.map { RaftMember(peer: RaftPeer(replica: $0.0, node: $0.1), role: .voter) },
                replicaHighest: highest)
        }
        #expect(throws: Never.self) { try Configuration(wire: configuration([(1, 1), (2, 2)])) }
        let members = "Configuration.members"
        expectRefusal(Configuration.self, configuration([(1, 1), (1, 2)]), .badValue(1), members)
        expectRefusal(Configuration.self, configuration([(2, 1), (1, 2)]), .badValue(1), members)
        expectRefusal(Configuration.self, configuration([(1, 5), (2, 6), (3, 5)]), .badValue(5), members)
        expectRefusal(
            Configuration.self, configuration((1...16).map { ($0, $0) }), .tooMany(count: 16, max: 15), members)
        expectRefusal(
            Configuration.self, configuration([(1, 1), (7, 2)], highest: 6), .badValue(6),
            "Configuration.replica_highest")
    }

    @Test func `an entry without content and an answer without a verdict`() {
        expectRefusal(Entry.self, RaftEntry(index: 1), .missing, "Entry.content")
        expectRefusal(AppendAnswer.self, RaftAppendAnswer(commit: 1), .missing, "AppendAnswer.verdict")
    }

    @Test func `a version that this program does not read`() {
        expectRefusal(PeerFrame.self, RaftPeerFrame(), .unsupportedVersion(0), "PeerFrame.version")
        expectRefusal(PeerFrame.self, RaftPeerFrame(version: 2), .unsupportedVersion(2), "PeerFrame.version")
        #expect(throws: DecodeError(.unsupportedVersion(2), field: "HardStateRecord.version")) {
            try HardStateRecord(version: 2).content()
        }
        expectRefusal(NodeMark.self, NodeRecord(version: 2), .unsupportedVersion(2), "NodeRecord.version")
    }

    @Test func `stored records that contradict themselves`() {
        #expect(throws: DecodeError(.badValue(5), field: "HardStateRecord.commit")) {
            try HardStateRecord(version: 1, commit: 5, last: 4).content()
        }
        #expect(throws: DecodeError(.badValue(9), field: "ReplicaRecord.standing")) {
            try ReplicaRecord(replica: ReplicaID(1), standing: .unrecognized(9)).content()
        }
        let node = NodeRecord(version: 1, clusterID: [1, 2], nodeID: 1, incarnation: 1, formatVersion: 1)
        expectRefusal(NodeMark.self, node, .badValue(2), "NodeRecord.cluster_id")
    }
}
