import BinaryCoding
import ClusterBase
import Schema
import Testing

/// What `Tools/protogen-golden` builds under the name "kinds".
private let everything: Kinds = {
    var kinds = Kinds(
        aDouble: -2.5, aFloat: 1.5, anInt32: -1, anInt64: .min, aUint32: .max, aUint64: .max, aSint32: .min,
        aSint64: .min, aFixed32: 1, aFixed64: 2, aSfixed32: -3, aSfixed64: -4, aBool: true, aString: "größer ∞",
        someBytes: [0, 0x80], colour: .negative, inner: Kinds.Inner(), maybeUint64: 0, maybeString: "",
        maybeColour: Colour.none, numbers: [0, 1, 127, 128, 1 << 63] + [UInt64](repeating: 3, count: 130))
    kinds.unpacked = [-1, 0, 1]
    kinds.texts = ["", "a"]
    kinds.inners = [
        Kinds.Inner(vmID: 1, deeper: [Kinds.Inner(payload: [UInt8](repeating: 0x78, count: 300))]), Kinds.Inner(),
    ]
    kinds.colours = [.red, .unrecognized(77), .far]
    kinds.doubles = [0.5, -2.0]
    kinds.choice = .nested(Kinds.Inner(vmID: 9))
    kinds.repeat = true
    return kinds
}()

@Suite struct GeneratedMessageTests {
    @Test func `every kind of field is as another implementation of protobuf has it`() throws {
        let bytes = try golden("kinds")
        let decoded = try Kinds(serialized: bytes)
        #expect(decoded == everything)
        #expect(everything.serialized() == bytes)
    }

    @Test func `minus zero and not-a-number are not the default value`() throws {
        #expect(try Kinds(serialized: Kinds(aDouble: -0.0).serialized()).aDouble.sign == .minus)
        #expect(try Kinds(serialized: Kinds(aFloat: .nan).serialized()).aFloat.isNaN)
    }

    @Test func `a message of default values is empty`() throws {
        #expect(Kinds().serialized().isEmpty)
        #expect(try Kinds(serialized: []) == Kinds())
    }

    @Test func `a truncated message is an error or another message, never a trap`() throws {
        let bytes = everything.serialized()
        var refused = 0
        for count in 0..<bytes.count {
            do {
                #expect(try Kinds(serialized: Array(bytes.prefix(count))) != everything)
            } catch {
                refused += 1
            }
        }
        #expect(refused > bytes.count / 2)
    }

    @Test func `damaged bytes are an error or a message that comes back, never a trap`() throws {
        var random = PRNG(seed: 2)
        let bytes = everything.serialized()
        var accepted = 0
        for _ in 0..<5_000 {
            var damaged = bytes
            for _ in 0...random.below(3) { damaged[random.below(damaged.count)] = UInt8(random.below(256)) }
            guard let decoded = try? Kinds(serialized: damaged) else { continue }
            accepted += 1
            // NaN is unequal to itself, so bytes are compared.
            let once = decoded.serialized()
            #expect(try Kinds(serialized: once).serialized() == once)
        }
        #expect(accepted > 0)
    }

    @Test func `random bytes are never a trap`() {
        var random = PRNG(seed: 3)
        for _ in 0..<20_000 {
            let bytes = (0..<random.below(40)).map { _ in UInt8(random.below(256)) }
            _ = try? Kinds(serialized: bytes)
            _ = try? RaftPeerFrame(serialized: bytes)
        }
    }

    @Test func `fields of a newer program survive, at every level and of every wire type`() throws {
        var unknown = ByteWriter()
        unknown.tag(1_000 << 3)
        unknown.varint(300)
        unknown.tag(1_001 << 3 | 1)
        unknown.fixed64(5)
        unknown.tag(1_002 << 3 | 2)
        unknown.lengthDelimited("new")
        unknown.tag(1_003 << 3 | 5)
        unknown.fixed32(6)
        // A known number with another wire type is a field that we don't know.
        unknown.tag(2 << 3)
        unknown.varint(1)

        var inner = ByteWriter()
        inner.raw(Kinds.Inner(vmID: 4).serialized())
        inner.raw(unknown.bytes)
        var outer = ByteWriter()
        outer.raw(unknown.bytes)
        outer.tag(17 << 3 | 2)
        outer.lengthDelimited(inner.bytes)

        let decoded = try Kinds(serialized: outer.bytes)
        #expect(decoded.inner?.vmID == 4)
        #expect(decoded.unknownFields == unknown.bytes)
        #expect(decoded.inner?.unknownFields == unknown.bytes)
        #expect(try Kinds(serialized: decoded.serialized()) == decoded)
        #expect(decoded.serialized().count == outer.count)
    }

    @Test func `packed and unpacked numbers are both read`() throws {
        var writer = ByteWriter()
        writer.tag(21 << 3)
        writer.varint(5)
        writer.tag(21 << 3 | 2)
        writer.lengthDelimited([6, 7])
        writer.tag(22 << 3 | 2)
        writer.lengthDelimited([1, 2])
        let decoded = try Kinds(serialized: writer.bytes)
        #expect(decoded.numbers == [5, 6, 7])
        #expect(decoded.unpacked == [-1, 1])
    }

    @Test func `a field that occurs twice replaces a number and merges a message, and a oneof keeps its last`() throws {
        let first = Kinds(anInt32: 1, inner: Kinds.Inner(vmID: 1, payload: [1]), choice: .small(3))
        let second = Kinds(anInt32: 2, inner: Kinds.Inner(payload: [2]), choice: .nested(Kinds.Inner(vmID: 4)))
        let third = Kinds(choice: .nested(Kinds.Inner(payload: [5])))
        let decoded = try Kinds(serialized: first.serialized() + second.serialized() + third.serialized())
        #expect(decoded.anInt32 == 2)
        #expect(decoded.inner == Kinds.Inner(vmID: 1, payload: [2]))
        #expect(decoded.choice == .nested(Kinds.Inner(vmID: 4, payload: [5])))
    }

    @Test func `messages inside each other are bounded`() throws {
        func nested(_ depth: Int) -> Kinds.Inner {
            var value = Kinds.Inner()
            for _ in 0..<depth { value = Kinds.Inner(deeper: [value]) }
            return value
        }
        let deepest = nested(ByteReader.nestingMax)
        #expect(try Kinds.Inner(serialized: deepest.serialized()) == deepest)
        let error = #expect(throws: DecodeError.self) {
            try Kinds.Inner(serialized: nested(ByteReader.nestingMax + 1).serialized())
        }
        #expect(error?.reason == .nestedTooDeep(max: ByteReader.nestingMax))
    }

    @Test func `messages in one value are bounded`() {
        let many = Kinds(inners: [Kinds.Inner](repeating: Kinds.Inner(), count: 11))
        var enough = ByteReader(many.serialized(), messagesMax: 11)
        #expect(throws: Never.self) { try Kinds(from: &enough) }
        var tooFew = ByteReader(many.serialized(), messagesMax: 10)
        let error = #expect(throws: DecodeError.self) { try Kinds(from: &tooFew) }
        #expect(error?.reason == .tooManyMessages(max: 10))
    }

    @Test(
        arguments: [
            ([0x00, 0x01], .badFieldNumber), ([0x07, 0x01], .badFieldNumber),
            ([0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0x01], .badFieldNumber), ([0x0B], .badWireType(3)),
            ([0x0F], .badWireType(7)),
            ([0x72, 0x01, 0xFF], .invalidUTF8), ([0x28, 0x80, 0x80, 0x80, 0x80, 0x10], .valueOutOfRange),
            ([0x7A, 0x05, 0x00], .lengthBeyondEnd(5)), ([0x09, 0x00], .truncated),
        ] as [([UInt8], DecodeError.Reason)])
    func `bytes that are no message are refused with the reason`(_ bytes: [UInt8], _ reason: DecodeError.Reason) {
        let error = #expect(throws: DecodeError.self) { try Kinds(serialized: bytes) }
        #expect(error?.reason == reason)
    }

    @Test func `an error says which field in which message, and where`() {
        var writer = ByteWriter()
        writer.tag(24 << 3 | 2)
        let inners = writer.begin()
        writer.tag(3 << 3 | 2)
        let deeper = writer.begin()
        writer.tag(2 << 3 | 2)
        writer.varint(9)
        writer.end(deeper)
        writer.end(inners)
        let error = #expect(throws: DecodeError.self) { try Kinds(serialized: writer.bytes) }
        #expect(error == DecodeError(.lengthBeyondEnd(9), field: "Kinds.inners.deeper.payload", offset: 7))
        #expect(
            error?.description
                == "Kinds.inners.deeper.payload at byte 7: its length of 9 reaches beyond the end")
    }

    @Test func `an enum's unknown number is kept`() throws {
        let decoded = try Kinds(serialized: Kinds(colour: .unrecognized(123_456)).serialized())
        #expect(decoded.colour == .unrecognized(123_456))
        #expect(Colour(rawValue: 1) == .red)
    }
}
