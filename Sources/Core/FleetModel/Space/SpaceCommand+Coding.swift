internal import BinaryCoding
import ClusterBase

// Space's commands and packs as bytes, as Proto/space.proto describes them. Written by hand for one reason: a pack is read
// command by command without copying each out first, which is a third of the cost of applying a small one.

extension Space {
    /// Joins encoded commands to one entry's payload. They must fit: see `fits`.
    package static func pack(_ commands: [[UInt8]], level: UInt32 = FeatureLevel.oldest) -> [UInt8] {
        var writer = ByteWriter(capacity: commands.reduce(8) { $0 + $1.count + 4 })
        writer.tag(1 << 3)
        writer.varint(UInt64(level))
        for command in commands {
            writer.tag(2 << 3 | 2)
            writer.lengthDelimited(command)
        }
        return writer.finish()
    }

    package static func pack(_ commands: [SpaceCommand], level: UInt32 = FeatureLevel.oldest) -> [UInt8] {
        pack(commands.map { $0.encoded() }, level: level)
    }

    /// Whether one more command of this many bytes may join `count` commands of `bytes` bytes together.
    package static func fits(_ more: Int, count: Int, bytes: Int) -> Bool {
        if count == 0 { return more <= SpaceLimits.commandBytesMax }
        return count < SpaceLimits.packCommandsMax
            && bytes + more + (count + 1) * 4 + 8 <= SpaceLimits.packBytesMax
    }

    /// A pack's level, and where its commands lie in it; or why none of them is carried out.
    static func commands(
        in pack: [UInt8], knows: UInt32
    ) throws(StoreError) -> Result<(level: UInt32, ranges: [Range<Int>]), SpaceRefusal> {
        var reader = ByteReader(pack)
        var version: UInt64 = 0
        var ranges: [Range<Int>] = []
        do throws(DecodeError) {
            // Whatever else is in it may be of a form that this program doesn't know.
            if try reader.nextTag() == 1 << 3 { version = try reader.varint() }
        } catch {
            return .failure(.malformed)
        }
        guard let level = try FeatureLevel.check(version, knows: knows) else {
            return .failure(.unknownVersion(version))
        }
        do throws(DecodeError) {
            while true {
                switch try reader.nextTag() {
                case 0:
                    if ranges.count > 1 && pack.count > SpaceLimits.packBytesMax {
                        return .failure(.packTooLarge(UInt64(pack.count)))
                    }
                    return ranges.isEmpty ? .failure(.malformed) : .success((level, ranges))
                case 2 << 3 | 2:
                    if ranges.count == SpaceLimits.packCommandsMax {
                        return .failure(.packTooLarge(UInt64(ranges.count) + 1))
                    }
                    let outer = try reader.enter()
                    ranges.append(reader.offset..<reader.offset + reader.remaining)
                    reader.skipRest()
                    reader.leave(outer)
                // A field that this version doesn't know could change what the commands mean.
                default: return .failure(.malformed)
                }
            }
        } catch {
            return .failure(.malformed)
        }
    }
}

extension ByteReader {
    fileprivate mutating func skipRest() { _ = rest() }
}

extension SpaceCommand {
    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: byteCountEstimate)
        if client.rawValue != 0 {
            writer.tag(1 << 3 | 1)
            writer.fixed64(client.rawValue)
        }
        writer.number(2, sequence)
        writer.number(3, acknowledged)
        writer.number(4, born.rawValue)
        switch operation {
        case .put(let key, let value):
            writer.tag(5 << 3 | 2)
            let mark = writer.begin(expecting: key.count + value.count + 8)
            writer.field(1, key)
            writer.field(2, value)
            writer.end(mark)
        case .compareAndSet(let key, let expected, let value):
            writer.tag(6 << 3 | 2)
            let mark = writer.begin(expecting: key.count + value.count + 16)
            writer.field(1, key)
            writer.field(2, value)
            switch expected {
            case .absent:
                writer.tag(3 << 3)
                writer.varint(1)
            case .revision(let revision):
                writer.tag(4 << 3)
                writer.varint(revision.rawValue)
            case .value(let value):
                writer.tag(5 << 3 | 2)
                writer.lengthDelimited(value)
            }
            writer.end(mark)
        case .delete(let key, let revision):
            writer.tag(7 << 3 | 2)
            let mark = writer.begin(expecting: key.count + 16)
            writer.field(1, key)
            writer.number(2, revision?.rawValue ?? 0)
            writer.end(mark)
        case .compareAndDelete(let key, let expected):
            writer.tag(8 << 3 | 2)
            let mark = writer.begin(expecting: key.count + expected.count + 8)
            writer.field(1, key)
            writer.field(2, expected)
            writer.end(mark)
        case .end:
            writer.tag(9 << 3 | 2)
            writer.lengthDelimited([])
        case .acquire(let lock, let owner, let lease):
            writer.tag(10 << 3 | 2)
            let mark = writer.begin(expecting: lock.utf8.count + owner.utf8.count + 16)
            writer.field(1, Array(lock.utf8))
            writer.field(2, Array(owner.utf8))
            writer.number(3, UInt64(max(lease.milliseconds, 0)))
            writer.end(mark)
        case .release(let lock, let owner, let token):
            writer.tag(11 << 3 | 2)
            let mark = writer.begin(expecting: lock.utf8.count + owner.utf8.count + 8)
            writer.field(1, Array(lock.utf8))
            writer.field(2, Array(owner.utf8))
            writer.number(3, token?.rawValue ?? 0)
            writer.end(mark)
        case .expire(let lock, let renewed):
            writer.tag(12 << 3 | 2)
            let mark = writer.begin(expecting: lock.utf8.count + 16)
            writer.field(1, Array(lock.utf8))
            writer.number(2, renewed.rawValue)
            writer.end(mark)
        }
        if let fence {
            writer.tag(13 << 3 | 2)
            let mark = writer.begin(expecting: fence.lock.utf8.count + 16)
            writer.field(1, Array(fence.lock.utf8))
            writer.number(2, fence.token.rawValue)
            writer.end(mark)
        }
        return writer.finish()
    }

    private var byteCountEstimate: Int {
        switch operation {
        case .put(let key, let value), .compareAndSet(let key, .absent, let value),
            .compareAndSet(let key, .revision, let value):
            key.count + value.count + 72
        case .compareAndSet(let key, .value(let expected), let value): key.count + value.count + expected.count + 72
        case .delete(let key, _): key.count + 64
        case .compareAndDelete(let key, let expected): key.count + expected.count + 64
        case .end: 64
        case .acquire(let lock, let owner, _), .release(let lock, let owner, _): lock.utf8.count + owner.utf8.count + 80
        case .expire(let lock, _): lock.utf8.count + 80
        }
    }

    /// Reads one command. Fields that are not known are refused, not skipped: a replica that skipped what another one
    /// understands would end in another state.
    package static func decode(_ bytes: [UInt8]) -> Result<SpaceCommand, SpaceRefusal> {
        decode(bytes, 0..<bytes.count, level: FeatureLevel.newest)
    }

    /// What a command means at a level: what came later is as unknown as it was then.
    static func decode(_ bytes: [UInt8], _ range: Range<Int>, level: UInt32) -> Result<SpaceCommand, SpaceRefusal> {
        var reader = ByteReader(bytes, from: range.lowerBound, to: range.upperBound)
        do throws(DecodeError) {
            guard let command = try read(&reader, level) else { return .failure(.malformed) }
            return .success(command)
        } catch {
            return .failure(.malformed)
        }
    }

    private static func read(_ reader: inout ByteReader, _ level: UInt32) throws(DecodeError) -> SpaceCommand? {
        let last: UInt32 = level >= FeatureLevel.locks ? 13 : level >= FeatureLevel.conditionalDeletes ? 8 : 7
        var client: UInt64 = 0
        var sequence: UInt64 = 0
        var acknowledged: UInt64 = 0
        var born: UInt64 = 0
        var operation: Operation?
        var fence: SpaceFence?
        while true {
            switch try reader.nextTag() {
            case 0:
                guard let operation else { return nil }
                return SpaceCommand(
                    client: ClientID(client), sequence: sequence, acknowledged: acknowledged, born: LogIndex(born),
                    fence: fence, operation)
            case 1 << 3 | 1: client = try reader.fixed64()
            case 2 << 3: sequence = try reader.varint()
            case 3 << 3: acknowledged = try reader.varint()
            case 4 << 3: born = try reader.varint()
            case 13 << 3 | 2 where last == 13 && fence == nil:
                let outer = try reader.enter()
                guard let words = try LockWords.read(&reader), words.owner == nil, words.number3 == 0 else {
                    return nil
                }
                fence = SpaceFence(words.lock, Revision(words.revision))
                reader.leave(outer)
            case let tag where tag >= 10 << 3 | 2 && tag <= 12 << 3 | 2 && tag & 7 == 2 && last == 13:
                if operation != nil { return nil }
                let outer = try reader.enter()
                guard let words = try LockWords.read(&reader) else { return nil }
                operation = words.operation(number: tag >> 3)
                if operation == nil { return nil }
                reader.leave(outer)
            case let tag where tag >= 5 << 3 | 2 && tag <= min(last, 9) << 3 | 2 && tag & 7 == 2:
                if operation != nil { return nil }
                let outer = try reader.enter()
                guard let read = try Fields.read(&reader, isConditional: tag == 6 << 3 | 2) else { return nil }
                operation = read.operation(number: tag >> 3)
                if operation == nil { return nil }
                reader.leave(outer)
            default: return nil
            }
        }
    }

    /// What operations on locks, and a fence, have between them. Text that is none is refused: two names must not be one.
    private struct LockWords {
        var lock = ""
        var owner: String?
        var revision: UInt64 = 0
        /// A lease in milliseconds, or a token.
        var number3: UInt64 = 0

        static func read(_ reader: inout ByteReader) throws(DecodeError) -> LockWords? {
            var words = LockWords()
            while true {
                switch try reader.nextTag() {
                case 0: return words
                case 1 << 3 | 2:
                    guard let text = String(validating: try reader.bytes(), as: UTF8.self) else { return nil }
                    words.lock = text
                case 2 << 3 | 2:
                    guard let text = String(validating: try reader.bytes(), as: UTF8.self) else { return nil }
                    words.owner = text
                case 2 << 3: words.revision = try reader.varint()
                case 3 << 3: words.number3 = try reader.varint()
                default: return nil
                }
            }
        }

        func operation(number: UInt32) -> Operation? {
            switch number {
            case 10:
                guard let lease = Int64(exactly: number3), lease <= 1 << 40, revision == 0 else { return nil }
                return .acquire(lock: lock, owner: owner ?? "", lease: .milliseconds(lease))
            case 11:
                let token = number3 == 0 ? nil : Revision(number3)
                return revision == 0 ? .release(lock: lock, owner: owner ?? "", token: token) : nil
            default: return owner == nil && number3 == 0 ? .expire(lock: lock, renewed: Revision(revision)) : nil
            }
        }
    }

    /// What the operations have between them.
    private struct Fields {
        var key: [UInt8] = []
        var value: [UInt8]?
        var expected: Expectation?
        var revision: Revision?

        static func read(_ reader: inout ByteReader, isConditional: Bool) throws(DecodeError) -> Fields? {
            var fields = Fields()
            while true {
                switch try reader.nextTag() {
                case 0: return fields
                case 1 << 3 | 2: fields.key = try reader.bytes()
                case 2 << 3 | 2: fields.value = try reader.bytes()
                case 2 << 3: fields.revision = Revision(try reader.varint())
                case 3 << 3 where isConditional && fields.expected == nil:
                    if try reader.varint() != 1 { return nil }
                    fields.expected = .absent
                case 4 << 3 where isConditional && fields.expected == nil:
                    fields.expected = .revision(Revision(try reader.varint()))
                case 5 << 3 | 2 where isConditional && fields.expected == nil:
                    fields.expected = .value(try reader.bytes())
                default: return nil
                }
            }
        }

        func operation(number: UInt32) -> Operation? {
            switch number {
            case 5:
                return revision == nil ? .put(key: key, value: value ?? []) : nil
            case 6:
                guard let expected, revision == nil else { return nil }
                return .compareAndSet(key: key, expected: expected, value: value ?? [])
            case 7:
                if value != nil { return nil }
                return .delete(key: key, revision: revision)
            case 8:
                return revision == nil ? .compareAndDelete(key: key, expected: value ?? []) : nil
            default:
                return key.isEmpty && value == nil && revision == nil ? .end : nil
            }
        }
    }
}

extension SpaceResult {
    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 24)
        let (code, detail) = outcome.stored
        writer.number(1, revision.rawValue)
        writer.number(2, code)
        writer.number(3, detail)
        return writer.finish()
    }

    /// Nil when the bytes are no result that this version knows.
    package static func decode(_ bytes: [UInt8]) -> SpaceResult? {
        var reader = ByteReader(bytes)
        var numbers: (UInt64, UInt64, UInt64) = (0, 0, 0)
        do throws(DecodeError) {
            while true {
                switch try reader.nextTag() {
                case 0:
                    guard let outcome = Outcome(code: numbers.1, detail: numbers.2) else { return nil }
                    return SpaceResult(revision: Revision(numbers.0), outcome: outcome)
                case 1 << 3: numbers.0 = try reader.varint()
                case 2 << 3: numbers.1 = try reader.varint()
                case 3 << 3: numbers.2 = try reader.varint()
                default: return nil
                }
            }
        } catch {
            return nil
        }
    }
}

extension ByteWriter {
    /// A number, left out when it is 0.
    fileprivate mutating func number(_ field: UInt32, _ value: UInt64) {
        if value == 0 { return }
        tag(field << 3)
        varint(value)
    }

    /// Bytes, left out when there are none.
    fileprivate mutating func field(_ field: UInt32, _ bytes: [UInt8]) {
        if bytes.isEmpty { return }
        tag(field << 3 | 2)
        lengthDelimited(bytes)
    }
}
