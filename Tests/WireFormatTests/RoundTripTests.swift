import BinaryCoding
import ClusterBase
import NodePorts
import RaftCore
import Schema
import Testing
import WireFormat

/// The value comes back, and the direct encoding is the one that the generated message has.
private func expectRoundTrip<Value: WireMapped & Equatable>(_ value: Value) throws {
    let bytes = value.serialized()
    #expect(bytes == value.wire.serialized())
    #expect(try Value(serialized: bytes) == value)
}

@Suite struct RoundTripTests {
    @Test func `every kind of message comes back, and is written directly as its generated type writes it`() throws {
        var values = RandomValues(seed: 1)
        for kind in 0..<RandomValues.bodyKinds {
            for _ in 0..<100 {
                try expectRoundTrip(
                    Message(
                        from: values.peer(), to: values.peer(), epoch: values.identity(), term: values.identity(),
                        body: values.body(kind)))
            }
        }
    }

    @Test func `entries of every content and size come back, and are written directly as their type writes them`()
        throws
    {
        var values = RandomValues(seed: 2)
        for _ in 0..<500 { try expectRoundTrip(values.entry()) }
        // Around the sizes where a length takes one byte more, of the entry and of what stands around it.
        for count in Array(90...140) + Array(16_340...16_400) {
            let entry = Entry(
                index: LogIndex(5), term: Term(6), chain: 7, content: .command([UInt8](repeating: 8, count: count)))
            try expectRoundTrip(entry)
            try expectRoundTrip(
                Append(
                    previousIndex: LogIndex(4), previousTerm: Term(6), previousChain: 9, commit: .zero, entries: [entry]
                ))
        }
    }

    @Test func `beats, snapshot messages and whole frames come back`() throws {
        var values = RandomValues(seed: 3)
        for _ in 0..<300 {
            try expectRoundTrip(values.beat())
            try expectRoundTrip(values.snapshotMessage())
            try expectRoundTrip(values.frame())
        }
    }

    @Test func `what is stored comes back under its key and under no other`() throws {
        var values = RandomValues(seed: 4)
        for i in 0..<300 {
            let key = values.bytes(below: 30) + [0]
            let other = key.dropLast() + [1]

            let entry = values.entry()
            let record = entry.sealed(under: key)
            #expect(record == LogEntryRecord(version: 1, entry: entry.wire).sealed(under: key))
            #expect(try Entry(sealed: record, under: key) == entry)
            #expect(throws: DecodeError.self) { try Entry(sealed: record, under: Array(other)) }

            let last: LogIndex = values.identity()
            let state = HardState(
                term: values.identity(), votedFor: values.maybe { $0.identity() }, commit: i % 2 == 0 ? last : .zero)
            let sealed = HardStateRecord(state, last: last).sealed(under: key)
            #expect(try HardStateRecord(sealed: sealed, under: key).content() == (state, last))

            let base = values.base()
            let log = try LogBaseRecord(sealed: LogBaseRecord(base).sealed(under: key), under: key).content()
            #expect(log == base)

            let id = values.snapshotID()
            #expect(try SnapshotRecord(serialized: SnapshotRecord(id).serialized()).content() == id)
        }
    }
}
