import ClusterBase
import FleetModel
import Foundation
import Schema
import Testing

@Suite struct SpaceWireTests {
    /// The bytes of `Proto/golden/<name>.hex`.
    func golden(_ name: String, file: String = #filePath) throws -> [UInt8] {
        let root = URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let path = root.appendingPathComponent("Proto/golden/\(name).hex")
        let digits = try String(contentsOf: path, encoding: .utf8).filter { !$0.isWhitespace }.map { $0 }
        return try stride(from: 0, to: digits.count, by: 2).map {
            try #require(UInt8(String(digits[$0..<$0 + 2]), radix: 16))
        }
    }

    let commands: [SpaceCommand] = {
        func inSession(_ operation: SpaceCommand.Operation) -> SpaceCommand {
            SpaceCommand(client: ClientID(.max - 1), sequence: 300, acknowledged: 299, born: LogIndex(12), operation)
        }
        return [
            SpaceCommand(put("key", "value")), inSession(put("k", "")), inSession(cas("k", .absent, "v")),
            inSession(cas("k", .revision(.zero), "v")),
            SpaceCommand(cas("k", .value([]), String(repeating: "v", count: 300))), SpaceCommand(delete("k")),
            inSession(delete("k", Revision(1 << 40))),
        ]
    }()

    @Test func `a pack is as another implementation of protobuf has it`() throws {
        let bytes = try golden("space-pack-v1")
        #expect(Space.pack(commands) == bytes)
        let wire = try SpaceWireCommandPack(serialized: bytes)
        #expect(try wire.commands.map { try SpaceCommand.decode($0).get() } == commands)
    }

    @Test func `a pack of level 2 is as another implementation of protobuf has it`() throws {
        let bytes = try golden("space-pack-v2")
        let later = [
            SpaceCommand(.compareAndDelete(key: Array("k".utf8), expected: [])),
            SpaceCommand(
                client: ClientID(.max - 1), sequence: 300, acknowledged: 299, born: LogIndex(12),
                .compareAndDelete(key: Array("key".utf8), expected: [UInt8](repeating: 0x76, count: 300))),
        ]
        #expect(Space.pack(commands + later, level: 2) == bytes)
        let wire = try SpaceWireCommandPack(serialized: bytes)
        #expect(try wire.commands.map { try SpaceCommand.decode($0).get() } == commands + later)
        let last = [
            SpaceCommand(.end),
            SpaceCommand(
                client: ClientID(.max - 1), sequence: 300, acknowledged: 299, born: LogIndex(12),
                .acquire(lock: "job", owner: "host-1", lease: .seconds(15))),
            SpaceCommand(.release(lock: "job", owner: "host-1", token: Revision(1 << 40))),
            SpaceCommand(.expire(lock: "job", renewed: Revision(1 << 40))),
            SpaceCommand(fence: SpaceFence("job", Revision(1 << 40)), put("k", "v")),
        ]
        #expect(try Space.pack(commands + later + last, level: 3) == golden("space-pack-v3"))
        let newest = try SpaceWireCommandPack(serialized: golden("space-pack-v3"))
        #expect(try newest.commands.suffix(5).map { try SpaceCommand.decode($0).get() } == last)
        #expect(last.allSatisfy { $0.level == 3 })
        // Packed while the level was closed, they were unknown.
        for command in last {
            var bench = Bench()
            let results = try Space.apply(
                pack: Space.pack([command], level: 2), index: LogIndex(1), access: &bench.state)
            #expect(results.map(\.outcome) == [.refused(.malformed)])
        }
    }

    @Test func `a result is as another implementation of protobuf has it`() throws {
        let result = SpaceResult(revision: Revision(230_600), outcome: .conflict(modified: Revision(77)))
        #expect(try result.encoded() == golden("space-result-v1"))
        #expect(try SpaceResult.decode(golden("space-result-v1")) == result)
    }

    @Test func `what is written by hand has the bytes of the generated code`() throws {
        var random = PRNG(seed: 6)
        func name() -> String {
            String(decoding: (0..<random.below(40)).map { _ in UInt8(97 + random.below(26)) }, as: UTF8.self)
        }
        func text() -> [UInt8] { (0..<random.below(200)).map { _ in UInt8(random.below(256)) } }
        for _ in 0..<300 {
            let operation: SpaceCommand.Operation =
                switch random.below(10) {
                case 0: .put(key: text(), value: text())
                case 1: .compareAndSet(key: text(), expected: .absent, value: text())
                case 2: .compareAndSet(key: text(), expected: .revision(Revision(random.next())), value: text())
                case 3: .compareAndSet(key: text(), expected: .value(text()), value: text())
                case 4: .compareAndDelete(key: text(), expected: text())
                case 5: .end
                case 6: .acquire(lock: name(), owner: name(), lease: .milliseconds(Int64(random.below(5_000_000))))
                case 7:
                    .release(
                        lock: name(), owner: name(), token: random.chance(1, in: 2) ? Revision(random.next()) : nil)
                case 8: .expire(lock: name(), renewed: Revision(random.next()))
                default: .delete(key: text(), revision: random.chance(1, in: 2) ? Revision(random.next()) : nil)
                }
            let command = SpaceCommand(
                client: ClientID(random.next() >> UInt64(random.below(64))), sequence: random.next() >> 3,
                acknowledged: random.next() >> 60, born: LogIndex(random.next() >> 40),
                fence: random.chance(1, in: 3) ? SpaceFence(name(), Revision(random.next())) : nil, operation)
            let bytes = command.encoded()
            let wire = try SpaceWireCommand(serialized: bytes)
            #expect(wire.unknownFields.isEmpty)
            #expect(wire.serialized() == bytes)
            #expect(wire.client == command.client.rawValue && wire.sequence == command.sequence)
            #expect(try SpaceCommand.decode(bytes).get() == command)
        }
    }

    @Test func `queries and answers come back from their bytes`() throws {
        let record = SpaceRecord(
            key: bytes("k"), value: bytes("v"), created: Revision(256), modified: Revision(513), version: 2)
        let queries: [SpaceQuery] = [
            .get(key: bytes("k")), .list(prefix: [], after: nil, limit: 0),
            .list(prefix: bytes("p"), after: bytes("p/1"), limit: 10),
            .lock(name: "a"), .locks(prefix: "", after: nil, limit: 0), .locks(prefix: "p", after: "p1", limit: 3),
            .renewals(after: Revision(7), limit: 9),
            .changes(since: .zero, prefix: [], limit: 0), .changes(since: Revision(99), prefix: bytes("p"), limit: 7),
        ]
        for query in queries { #expect(SpaceQuery.decode(query.encoded()) == query) }
        let bodies: [SpaceAnswer.Body] = [
            .record(nil), .record(record), .page([], resumeAfter: nil),
            .page([record, record], resumeAfter: bytes("k")),
            .changes([], through: Revision(8)),
            .changes([.written(record), .deleted(key: bytes("x"), Revision(700))], through: Revision(700)),
            .locks([], resumeAfter: nil),
            .locks(
                [
                    SpaceLock(
                        name: "a", owner: "me", token: Revision(256), renewed: Revision(300), lease: .seconds(2))
                ], resumeAfter: "a"),
            .compacted(Revision(300)), .refused(.keyTooLong(1_025)), .refused(.keyEmpty), .refused(.ended),
        ]
        for body in bodies {
            let answer = SpaceAnswer(revision: Revision(1_000), body: body)
            #expect(SpaceAnswer.decode(answer.encoded()) == answer)
            let encoded = answer.encoded()
            for cut in 0..<encoded.count { _ = SpaceAnswer.decode(Array(encoded[..<cut])) }
        }
        #expect(SpaceQuery.decode([]) == nil)
        #expect(SpaceAnswer.decode([]) == nil)
    }
}
