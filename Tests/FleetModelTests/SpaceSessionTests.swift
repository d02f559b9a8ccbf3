import ClusterBase
import FleetModel
import Testing

/// Raft §8: "clients assign unique serial numbers to every command. Then, the state machine tracks the latest serial number
/// processed for each client, along with the associated response."
@Suite struct SpaceSessionTests {
    @Test func `a retry takes effect once and gets the first answer`() throws {
        var bench = Bench()
        let first = try bench.apply(client: 7, 1, put("a", "1"))
        _ = try bench.apply(put("a", "2"))
        let retry = try bench.apply(client: 7, 1, put("a", "1"))
        #expect(retry == first)
        #expect(try bench.value("a") == "2")
        // Also a conflict is an answer that stays.
        let conflict = try bench.apply(client: 7, 2, cas("a", .value(bytes("1")), "3"))
        #expect(conflict.outcome.isConflict)
        _ = try bench.apply(put("a", "1"))
        #expect(try bench.apply(client: 7, 2, cas("a", .value(bytes("1")), "3")) == conflict)
        #expect(try bench.value("a") == "1")
    }

    @Test func `a command and its retry in one entry take effect once`() throws {
        var bench = Bench()
        let command = SpaceCommand(client: ClientID(7), sequence: 1, put("a", "1"))
        let results = try bench.apply([command, command])
        #expect(results[0] == results[1])
        #expect(try bench.get("a")?.version == 1)
    }

    @Test func `commands under way together take effect in any order, each once`() throws {
        for seed in 0..<50 as Range<UInt64> {
            var random = PRNG(seed: seed)
            var bench = Bench()
            _ = try bench.apply(client: 7, 1, put("first", ""))
            // Every command three times, shuffled.
            var order = (2...12 as ClosedRange<UInt64>).flatMap { [$0, $0, $0] }
            for i in order.indices.reversed() { order.swapAt(i, random.below(i + 1)) }
            var answers: [UInt64: SpaceResult] = [:]
            for sequence in order {
                let result = try bench.apply(client: 7, sequence, put("k\(sequence)", "x"))
                if let before = answers[sequence] { #expect(before == result) }
                answers[sequence] = result
            }
            for sequence in 2...12 { #expect(try bench.get("k\(sequence)")?.version == 1) }
        }
    }

    @Test func `a command that is too far behind is refused, not executed`() throws {
        var bench = Bench()
        let window = UInt64(SpaceLimits.sessionWindow)
        for sequence in 1...window + 5 where sequence != 4 {
            _ = try bench.apply(client: 7, sequence, put("k", "\(sequence)"))
        }
        // Neither one that ran and is forgotten, nor one that never ran: the space can't tell them apart any more.
        for sequence in [1, 4, 5] as [UInt64] {
            #expect(
                try bench.apply(client: 7, sequence, put("k", "old")).outcome == .refused(.sequenceTooOld(through: 5)))
        }
        #expect(try bench.value("k") == "\(window + 5)")
        #expect(try bench.apply(client: 7, 6, put("k", "old")).outcome == .written(version: 5))
    }

    @Test func `an acknowledged result is given up, and its command is not executed again`() throws {
        var bench = Bench()
        _ = try bench.apply(client: 7, 1, put("a", "1"))
        let large = bench.state.rows.map(\.value.count).reduce(0, +)
        _ = try bench.apply(client: 7, 2, put("a", "2"))
        _ = try bench.apply(client: 7, 3, acknowledged: 2, put("a", "3"))
        #expect(bench.state.rows.map(\.value.count).reduce(0, +) < large + 2 * 60)
        #expect(try bench.apply(client: 7, 2, put("a", "2")).outcome == .refused(.sequenceTooOld(through: 2)))
        #expect(try bench.value("a") == "3")
        #expect(try bench.apply(client: 7, 3, acknowledged: 3, put("a", "4")).outcome == .refused(.sequenceInvalid))
        #expect(try bench.apply(client: 0, 3, put("a", "4")).outcome == .refused(.sequenceInvalid))
        #expect(try bench.apply(client: 7, 0, put("a", "4")).outcome == .refused(.sequenceInvalid))
    }

    @Test func `a client without a session must begin with its first command`() throws {
        var bench = Bench()
        #expect(
            try bench.apply(client: 7, 2, put("a", "1")).outcome == .refused(.sessionUnknown(bornAtLeast: .zero)))
        #expect(try bench.get("a") == nil)
    }

    /// A bench with as many sessions as there may be, client 1 the oldest.
    func fullBench() throws -> Bench {
        var bench = Bench()
        var client: UInt64 = 0
        while client < UInt64(SpaceLimits.sessionsMax) {
            let commands = (0..<64).map { i in
                SpaceCommand(client: ClientID(client + 1 + UInt64(i)), sequence: 1, delete("k"))
            }
            _ = try bench.apply(commands)
            client += 64
        }
        return bench
    }

    @Test func `the session used longest ago expires, and a retry of its commands is refused whatever they are`() throws
    {
        var bench = try fullBench()
        let indexOfUse = LogIndex(1)
        // One more than there may be.
        let newcomer = try bench.apply(client: 1_000_000, 1, put("new", "1"))
        #expect(newcomer.outcome == .written(version: 1))
        #expect(
            try bench.apply(client: 1, 2, put("a", "1")).outcome == .refused(.sessionUnknown(bornAtLeast: indexOfUse)))
        // The dangerous one: a retry of the first command looks like a new client's first.
        #expect(
            try bench.apply(client: 1, 1, put("a", "1")).outcome == .refused(.sessionUnknown(bornAtLeast: indexOfUse)))
        #expect(try bench.get("a") == nil)
        // A client that knows it was born later is surely new.
        #expect(try bench.apply(client: 2_000_000, 1, born: 1, put("a", "2")).outcome == .written(version: 1))
        // The others still have theirs.
        #expect(try bench.apply(client: 4_000, 1, put("a", "3")).outcome == .notFound)
    }

    @Test func `a session in use does not expire, and there are never more than the bound`() throws {
        var bench = try fullBench()
        for i in 0..<400 as Range<UInt64> {
            // Client 64 works on while others come; `born` keeps the newcomers welcome.
            #expect(
                try bench.apply(client: 64, 2 + i, acknowledged: 1 + i, delete("k")).outcome == .notFound)
            #expect(
                try bench.apply(client: 10_000 + i, 1, born: bench.index.rawValue, delete("k")).outcome == .notFound)
        }
        #expect(bench.state.rows.count { $0.key[0] == 0x12 } == SpaceLimits.sessionsMax)
        #expect(bench.state.rows.count { $0.key[0] == 0x13 } == SpaceLimits.sessionsMax)
    }

    @Test func `it is always the session used longest ago that expires`() throws {
        var random = PRNG(seed: 2)
        var bench = try fullBench()
        // The clients in the order of their last use, as a list tells it.
        var order = (1...UInt64(SpaceLimits.sessionsMax)).map { $0 }
        var sequences: [UInt64: UInt64] = [:]
        var next: UInt64 = 100_000
        for _ in 0..<300 {
            if random.chance(1, in: 2) {
                let at = random.below(2) == 0 ? random.below(200) : random.below(order.count)
                let client = order.remove(at: at)
                let sequence = (sequences[client] ?? 1) + 1
                sequences[client] = sequence
                #expect(
                    try bench.apply(client: client, sequence, acknowledged: sequence - 1, delete("k")).outcome
                        == .notFound)
                order.append(client)
            } else {
                next += 1
                _ = try bench.apply(client: next, 1, born: bench.index.rawValue, delete("k"))
                order.append(next)
                // Those of one entry were used at the same time: the one that goes is of the oldest entry.
                let gone = order.prefix(64).filter { client in
                    var key: [UInt8] = [0x12]
                    key.appendBigEndian(client)
                    return !bench.state.place(key).isFound
                }
                #expect(gone.count == 1)
                order.removeAll { gone.contains($0) }
            }
        }
    }

    @Test func `no command takes effect twice under retries, reordering and expiry`() throws {
        let full = try fullBench()
        for seed in 0..<3 as Range<UInt64> {
            var random = PRNG(seed: seed)
            var bench = full
            var sent: [SpaceCommand] = []
            var newest: [UInt64: UInt64] = [:]
            for round in 0..<400 as Range<UInt64> {
                var pack: [SpaceCommand] = []
                for _ in 0..<1 + random.below(6) {
                    if !sent.isEmpty && random.chance(1, in: 2) {
                        pack.append(sent[max(0, sent.count - 1 - random.below(80))])
                    } else {
                        let client = 50_000 + (random.chance(1, in: 3) ? round / 20 : UInt64(random.below(8)))
                        let sequence = (newest[client] ?? 0) + 1
                        newest[client] = sequence
                        let command = SpaceCommand(
                            client: ClientID(client), sequence: sequence, born: bench.index,
                            .put(key: bytes("\(client).\(sequence)"), value: []))
                        sent.append(command)
                        pack.append(command)
                    }
                }
                // Strangers push old sessions out.
                for i in 0..<random.below(40) {
                    pack.append(
                        SpaceCommand(
                            client: ClientID(1_000_000 + round * 100 + UInt64(i)), sequence: 1, born: bench.index,
                            delete("k")))
                }
                _ = try bench.apply(pack)
            }
            var applied = 0
            for command in sent {
                guard case .put(let key, _) = command.operation,
                    case .record(let record?) = try Space.read(.get(key: key), bench.state).body
                else { continue }
                applied += 1
                #expect(record.version == 1, "seed \(seed): \(command) took effect \(record.version) times")
            }
            #expect(applied > sent.count / 3)
        }
    }
}
