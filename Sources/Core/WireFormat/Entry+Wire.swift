package import BinaryCoding
internal import ClusterBase
package import RaftCore
package import Schema

extension Entry: WireMapped {
    package init(wire: RaftEntry) throws(DecodeError) {
        let content: EntryContent
        switch wire.content {
        case .noop: content = .noop
        case .command(let payload): content = .command(payload)
        case .configuration(let configuration): content = .configuration(try Configuration(wire: configuration))
        case nil: throw DecodeError(.missing, field: "Entry.content")
        }
        self.init(
            index: try identity(wire.index, "Entry.index"), term: try identity(wire.term, "Entry.term"),
            chain: wire.chain, content: content)
    }

    package var wire: RaftEntry {
        let content: RaftEntry.Content =
            switch self.content {
            case .noop: .noop(RaftNothing())
            case .command(let payload): .command(payload)
            case .configuration(let configuration): .configuration(configuration.wire)
            }
        return RaftEntry(index: index.rawValue, term: term.rawValue, chain: chain, content: content)
    }

    package func encode(into writer: inout ByteWriter) {
        writer.number(1, index.rawValue)
        writer.number(2, term.rawValue)
        writer.fixed(3, chain)
        switch content {
        case .noop:
            writer.tag(4 << 3 | 2)
            writer.byte(0)
        case .command(let payload):
            writer.tag(5 << 3 | 2)
            writer.lengthDelimited(payload)
        case .configuration(let configuration):
            writer.nested(6, configuration)
        }
    }

    /// At least about what `encode` appends; right enough that the entry's length rarely needs more bytes than guessed.
    @inline(__always) var encodedBytesExpected: Int {
        guard case .command(let payload) = content else { return 16 }
        return payload.count + 16
    }
}

extension Append: WireMapped {
    package init(wire: RaftAppend) throws(DecodeError) {
        self.init(
            previousIndex: try identity(wire.previousIndex, "Append.previous_index"),
            previousTerm: try identity(wire.previousTerm, "Append.previous_term"),
            previousChain: wire.previousChain, commit: try identity(wire.commit, "Append.commit"),
            entries: try mapped(wire.entries, max: WireLimits.entriesMax, "Append.entries"))
    }

    package var wire: RaftAppend {
        RaftAppend(
            previousIndex: previousIndex.rawValue, previousTerm: previousTerm.rawValue, previousChain: previousChain,
            commit: commit.rawValue, entries: entries.map(\.wire))
    }

    package func encode(into writer: inout ByteWriter) {
        writer.number(1, previousIndex.rawValue)
        writer.number(2, previousTerm.rawValue)
        writer.fixed(3, previousChain)
        writer.number(4, commit.rawValue)
        for entry in entries { writer.nested(5, entry, expecting: entry.encodedBytesExpected) }
    }

    /// See `Entry.encodedBytesExpected`.
    var encodedBytesExpected: Int {
        var sum = 32
        for entry in entries { sum += entry.encodedBytesExpected + 3 }
        return sum
    }
}
