import AdminAPI
import AgentConfig
import BackupFormat
import BinaryCoding
import ClusterBase
import Compression
import FleetModel
import NodePorts
import PeerTransport
import Schema
import TLSSession
import WireFormat

/// Everything that reads bytes from a disk or from another node. The first byte of an input chooses the reader, so that
/// one corpus serves all; a new reader goes to the end of the table, so that old inputs keep their meaning.
enum Readers {
    private static let table: [@Sendable ([UInt8]) -> Void] = [
        message(RaftPeerFrame.self),
        message(RaftMessage.self),
        message(RaftSnapshotMessage.self),
        message(RaftBeat.self),
        message(RaftEntry.self),
        message(RaftConfiguration.self),
        message(LogEntryRecord.self),
        message(HardStateRecord.self),
        message(LogBaseRecord.self),
        message(SnapshotRecord.self),
        message(ReplicaRecord.self),
        message(NodeRecord.self),
        message(AppliedRecord.self),
        message(GenerationRecord.self),
        message(SpaceWireRecord.self),
        message(SpaceWireQuery.self),
        message(SpaceWireAnswer.self),
        storedRecord,
        spaceCommand,
        spaceResult,
        joinToken,
        configFile,
        certificate,
        certificateRequest,
        httpRequest,
        httpResponse,
        json,
        rootCommand,
        rootRecord,
        cellCommand,
        cellRecord,
        cellRow,
        watchLine,
        filter,
        message(BackupRecord.self),
        message(NodeRequest.self),
        message(NodeAnswer.self),
        backupFrames,
        peerFrame,
        lz4,
        message(PeerHello.self),
        message(PeerHelloAnswer.self),
        message(PeerRequest.self),
        message(PeerAnswer.self),
        message(PeerSign.self),
        message(PeerStreamWord.self),
        coreFrame,
    ]

    /// Ends the process when a reader breaks its promise; input that is merely wrong is refused in silence.
    static func read(_ input: [UInt8]) {
        guard let choice = input.first else { return }
        table[Int(choice) % table.count](Array(input.dropFirst()))
    }

    /// Whatever decodes must encode to bytes that decode to the same value, and encode to the same bytes again: members
    /// compare digests of what they encoded.
    private static func message<Message: WireMessage>(_ type: Message.Type) -> @Sendable ([UInt8]) -> Void {
        return { bytes in
            guard let value = try? Message(serialized: bytes) else { return }
            let encoded = value.serialized()
            guard let again = try? Message(serialized: encoded) else {
                fatalError("\(Message.messageName) refuses what it wrote: \(encoded)")
            }
            precondition(again == value, "\(Message.messageName) reads back another value: \(encoded)")
            precondition(again.serialized() == encoded, "\(Message.messageName) has two encodings: \(encoded)")
        }
    }

    /// A record that opens under one key must not open under another one.
    private static func storedRecord(_ bytes: [UInt8]) {
        guard let split = bytes.first.map({ Int($0) % 16 }), bytes.count > split else { return }
        let key = Array(bytes[1..<split + 1])
        let sealed = StoredRecord.seal(version: 1, payload: Array(bytes[(split + 1)...]), key: key)
        guard let opened = try? StoredRecord.open(sealed, key: key, versions: 1...1) else {
            fatalError("a sealed record does not open: \(sealed)")
        }
        precondition(opened.version == 1, "a record of version 1 opened as \(opened.version)")
        precondition(
            (try? StoredRecord.open(sealed, key: key + [0], versions: 1...1)) == nil, "opened under another key")
        _ = try? StoredRecord.open(bytes, key: key, versions: 0...255)
    }

    private static func spaceCommand(_ bytes: [UInt8]) {
        guard case .success(let command) = SpaceCommand.decode(bytes) else { return }
        let encoded = command.encoded()
        guard case .success(let again) = SpaceCommand.decode(encoded) else {
            fatalError("a command is refused after it was encoded: \(command)")
        }
        precondition(again.encoded() == encoded, "a command has two encodings: \(encoded)")
    }

    private static func rootCommand(_ bytes: [UInt8]) {
        guard case .success(let command) = RootCommand.decode(bytes) else { return }
        precondition(command.encoded() == bytes, "a command has two encodings: \(bytes)")
    }

    private static func rootRecord(_ bytes: [UInt8]) {
        func check<Record: RootCoded>(_ type: Record.Type) {
            guard let record = Record.decode(bytes) else { return }
            precondition(Record.decode(record.encoded()) == record, "a row reads back as another one: \(record)")
        }
        check(RootNode.self)
        check(JoinToken.self)
        check(GroupPlacement.self)
        check(Operator.self)
        check(BackupSchedule.self)
        check(RootCluster.self)
        check(RootResult.self)
        check(RootQuery.self)
        check(RootAnswer.self)
    }

    private static func cellCommand(_ bytes: [UInt8]) {
        guard case .success(let command) = CellCommand.decode(bytes) else { return }
        let encoded = command.encoded()
        guard case .success(let again) = CellCommand.decode(encoded) else {
            fatalError("a command is refused after it was encoded: \(command)")
        }
        precondition(again == command, "a command reads back as another: \(command)")
        precondition(again.encoded() == encoded, "a command has two encodings: \(encoded)")
    }

    private static func cellRecord(_ bytes: [UInt8]) {
        func check<Record: CellCoded>(_ type: Record.Type) {
            guard let record = Record.decode(bytes) else { return }
            precondition(Record.decode(record.encoded()) == record, "a row reads back as another one: \(record)")
        }
        check(CellHost.self)
        check(CellVM.self)
        check(CellGroup.self)
        check(TenantSlice.self)
        check(CellTombstone.self)
        check(CellResult.self)
        check(CellQuery.self)
        check(CellAnswer.self)
    }

    /// A row of a snapshot or of an answer, whatever its key and value are.
    private static func cellRow(_ bytes: [UInt8]) {
        guard let split = bytes.first.map({ Int($0) % 32 }), bytes.count > split else { return }
        let row = CellRow(key: Array(bytes[1..<split + 1]), value: Array(bytes[(split + 1)...]))
        _ = row.content
    }

    private static func watchLine(_ bytes: [UInt8]) {
        // What is no line is refused.
        guard let line = try? WatchLine.parse(bytes[...]) else { return }
        var written: [UInt8] = []
        guard let revision = Revision(line.revision) else { return }
        WatchLine.write(line.kind, revision: revision, id: line.id, item: line.item, asEvents: false, into: &written)
        guard let again = try? WatchLine.parse(written[...]) else { fatalError("a line is refused: \(written)") }
        precondition(again.kind == line.kind && again.item == line.item, "a line reads back as another: \(written)")
    }

    private static func filter(_ bytes: [UInt8]) {
        let text = String(decoding: bytes, as: UTF8.self)
        for kind in FleetKind.allCases {
            // What is no filter is refused.
            guard let filter = try? FilterExpression(text, fields: kind.fields) else { continue }
            _ = filter.matches { _ in .text("a") }
            _ = filter.matches { _ in .number(7) }
            _ = filter.matches { _ in .none }
        }
    }

    /// A frame around the bytes opens to them, packed or not; and with a good checksum over whatever flags and payload the
    /// bytes are, a frame is opened or refused.
    private static func peerFrame(_ bytes: [UInt8]) {
        let codec = FuzzCodec()
        for packsFrom in [Int.max, 1] {
            var stream: [UInt8] = []
            _ = FrameCoder.append(.request, to: &stream, codec: codec, compressFrom: packsFrom) { writer in
                writer.raw(bytes)
            }
            precondition(opened(stream, codec) == bytes, "a frame opens to other bytes: \(bytes)")
        }
        guard let flags = bytes.first else { return }
        var stream: [UInt8] = []
        _ = FrameCoder.append(.request, to: &stream) { writer in
            writer.raw(bytes.dropFirst())
        }
        stream[9] = flags
        var crc = CRC32C()
        crc.add(stream.span.extracting(8..<stream.count))
        for i in 0..<4 { stream[4 + i] = UInt8(truncatingIfNeeded: crc.value >> UInt32(8 * i)) }
        _ = opened(stream, codec)
        // As it came.
        _ = opened(bytes, codec)
    }

    private static func opened(_ stream: [UInt8], _ codec: FuzzCodec) -> [UInt8]? {
        do throws(FrameDamage) {
            guard
                let header = try FrameCoder.header(
                    stream, from: 0, to: stream.count, payloadMax: FrameCoder.payloadBytesMax),
                stream.count >= FrameCoder.headerBytes + header.count
            else { return nil }
            return try FrameCoder.open(stream, from: 0, header, codec: codec) { $0.rest() }
        } catch {
            return nil
        }
    }

    /// What the core is handed of a frame goes out as a frame that hands it the same, by both ways of writing it.
    private static func coreFrame(_ bytes: [UInt8]) {
        guard let frame = try? PeerFrame(serialized: bytes) else { return }
        var writer = ByteWriter()
        frame.encode(into: &writer)
        let encoded = writer.bytes
        precondition(frame.wire.serialized() == encoded, "a frame has two encodings: \(bytes)")
        precondition((try? PeerFrame(serialized: encoded)) == frame, "a frame reads back as another: \(bytes)")
    }

    /// Whatever is unpacked stays within what is allowed, and what was packed comes back.
    private static func lz4(_ bytes: [UInt8]) {
        if let found = try? LZ4Codec.decompress(bytes, byteCountMax: 1 << 20) {  // What is no block is refused.
            precondition(found.count <= 1 << 20, "\(found.count) bytes where fewer are allowed")
        }
        guard let packed = LZ4Codec.compress(bytes) else { return }
        let again = try? LZ4Codec.decompress(packed, byteCountMax: bytes.count)  // Nil is the finding.
        precondition(again == bytes, "packed bytes come back as others: \(bytes)")
    }

    /// Records, each behind a byte with its length: framed with their checksums, they must be found again however the stream is
    /// cut, and whatever they say is taken or refused.
    private static func backupFrames(_ bytes: [UInt8]) {
        var stream: [UInt8] = []
        var count = 0
        var rest = bytes[...]
        while let length = rest.popFirst() {
            let part = Array(rest.prefix(Int(length)))
            rest = rest.dropFirst(Int(length))
            guard let record = try? BackupRecord(serialized: part), let body = record.body else { continue }
            BackupFrame.append(body, to: &stream)
            count += 1
        }
        precondition(records(in: stream, pieceBytes: max(1, stream.count)) == count, "records are lost")
        precondition(records(in: stream, pieceBytes: 1) == count, "records are lost, cut into bytes")
        // As it came, without good checksums.
        _ = records(in: bytes, pieceBytes: max(1, bytes.count))
    }

    private static func records(in stream: [UInt8], pieceBytes: Int) -> Int {
        var frames = BackupFrames()
        var scan: BackupScan? = BackupScan()
        var found = 0
        for from in stride(from: 0, to: stream.count, by: pieceBytes) {
            frames.append(stream[from..<min(from + pieceBytes, stream.count)])
            // A stream ends where it is damaged, and a scan where the record has no place.
            while let next = try? frames.next() {
                found += 1
                do throws(BackupFailure) { _ = try scan?.take(next.body) } catch { scan = nil }
            }
        }
        return found
    }

    private static func spaceResult(_ bytes: [UInt8]) {
        guard let result = SpaceResult.decode(bytes) else { return }
        let encoded = result.encoded()
        guard let again = SpaceResult.decode(encoded) else {
            fatalError("a result is refused after it was encoded: \(result)")
        }
        precondition(again.encoded() == encoded, "a result has two encodings: \(encoded)")
    }

    /// A token that reads must write itself as it was, but for the white space around it.
    private static func joinToken(_ bytes: [UInt8]) {
        let text = String(decoding: bytes, as: UTF8.self)
        guard let token = try? JoinToken(text) else { return }
        precondition(text.contains(token.text), "a token has two texts: \(text)")
    }

    /// Settings that load must load again from the file that says them.
    private static func configFile(_ bytes: [UInt8]) {
        let file = ("x", String(decoding: bytes, as: UTF8.self))
        do throws(SettingsFailure) {
            let loaded = try AgentSettings.load(file: file, hostName: "n")
            let written = AgentSettings.table.map { "\($0.key) = \($0.text(in: loaded.settings))" }
            let again = try AgentSettings.load(file: ("y", written.joined(separator: "\n")))
            precondition(again.settings == loaded.settings, "settings read back as others: \(written)")
        } catch {
            precondition(!error.problems.isEmpty && error.problems.allSatisfy { !$0.hasPrefix("y") }, "\(error)")
        }
    }

    private static func certificate(_ bytes: [UInt8]) {
        guard let certificate = try? Certificate(der: bytes) else { return }
        guard let again = try? Certificate(pem: certificate.pem) else {
            fatalError("a certificate is refused after it was written: \(certificate.pem)")
        }
        precondition(again == certificate, "a certificate reads back as another: \(certificate.pem)")
    }

    private static func certificateRequest(_ bytes: [UInt8]) {
        guard let request = try? CertificateRequest(der: bytes) else { return }
        precondition((try? CertificateRequest(der: request.der)) == request, "a request reads back as another")
    }

    /// Requests must be found alike however the bytes are cut, and a call that is routed must be routed again from the
    /// bytes that it is written as.
    private static func httpRequest(_ bytes: [UInt8]) {
        let whole = requests(in: bytes, pieceBytes: max(1, bytes.count))
        precondition(requests(in: bytes, pieceBytes: 1) == whole, "cut into bytes it reads as something else")
        precondition(requests(in: bytes, pieceBytes: 7) == whole, "cut into sevens it reads as something else")
    }

    private static let router = Router()

    private static func requests(in bytes: [UInt8], pieceBytes: Int) -> [String] {
        var parser = RequestParser()
        var found: [String] = []
        var from = 0
        while from < bytes.count {
            let to = min(from + pieceBytes, bytes.count)
            parser.append(contentsOf: bytes[from..<to])
            from = to
            reading: while true {
                switch parser.next() {
                case .needsMore: break reading
                case .expectsContinue: continue
                case .fault(let fault): return found + ["\(fault)"]
                case .request(let head):
                    do throws(Router.Refusal) {
                        let call = try router.call(parser, head)
                        found.append("\(call)")
                        goAround(call)
                    } catch {
                        found.append("\(error)")
                    }
                }
            }
        }
        return found
    }

    private static func goAround(_ call: AdminCall) {
        // An item that could not be read is not written again.
        if case .fleet(.createVMs(let batch)) = call.request, batch.items.contains(where: { (try? $0.get()) == nil }) {
            return
        }
        var bytes: [UInt8] = []
        RequestWriter(host: "h").write(call, into: &bytes)
        var parser = RequestParser()
        parser.append(contentsOf: bytes)
        // What is longer written than it was read may be over a bound.
        guard case .request(let head) = parser.next() else { return }
        do throws(Router.Refusal) {
            let again = try router.call(parser, head)
            precondition(again == call, "a call reads back as another: \(call)")
        } catch {
            fatalError("a call is refused after it was written: \(call): \(error)")
        }
    }

    private static func httpResponse(_ bytes: [UInt8]) {
        var parser = ResponseParser()
        parser.append(contentsOf: bytes)
        for _ in 0...bytes.count {
            switch parser.next() {
            case .needsMore, .fault: return
            case .head(let head): _ = parser.value(of: "muster-index", in: head)
            case .body(let range): precondition(!parser.bytes(range).isEmpty, "an empty piece of a body")
            case .end: break
            }
        }
    }

    /// What reads must be written so that it reads alike.
    private static func json(_ bytes: [UInt8]) {
        guard let value = try? JSONParser.parse(bytes[...]) else { return }
        guard let again = try? JSONParser.parse(value.bytes[...], depthMax: 16, valuesMax: 4_096) else {
            fatalError("a value is refused after it was written: \(value)")
        }
        precondition(again == value, "a value reads back as another: \(value)")
    }
}

/// Packs every frame that it is given.
private final class FuzzCodec: FrameCodec {
    func compress(_ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]) -> Bool {
        guard let packed = LZ4Codec.compress(Array(bytes)) else { return false }
        output += packed
        return true
    }

    func expand(_ bytes: UnsafeRawBufferPointer, count: Int) -> [UInt8]? {
        try? LZ4Codec.decompress(Array(bytes), byteCountMax: count)  // What does not unpack is refused.
    }
}
