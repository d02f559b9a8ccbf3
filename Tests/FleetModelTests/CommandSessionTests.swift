import ClusterBase
import FleetModel
import Glibc
import Testing

/// Commands that processes number, and those under ids of people's own when there are many of them.
@Suite struct CommandSessionTests {
    private static let id = CommandOrigin.Session(node: 3, mark: 77)

    private func bench() throws -> CellBench {
        var cell = try CellBench(hosts: 1)
        cell.level = FeatureLevel.sessions
        return cell
    }

    private func creation(_ name: String) -> CellCommand.Operation {
        .createVMs([VMCreation(name: name, tenant: "t", spec: CellBench.spec())], isAtomic: false)
    }

    @Test func `a numbered command takes effect once, also in one pack, and its result goes when it is settled`() throws
    {
        var cell = try bench()
        var session = CommandSession(Self.id)
        let origin = session.next()
        let command = CellCommand(origin: origin, by: "a", creation("a"))
        let first = try cell.apply([command])[0]
        #expect(try cell.apply([command, command]) == [first, first])
        let rows = cell.state.rows.count
        session.settle(origin)
        let second = try cell.apply([CellCommand(origin: session.next(), by: "a", .noteTime)])[0]
        #expect(second.outcome == .done)
        // One result came and one went.
        #expect(cell.state.rows.count == rows)
        #expect(try cell.apply([command])[0].outcome == .refused(.commandSettled))
        #expect(try cell.rows(.all(.vms)).count == 1 && cell.slice("t")?.requestCount == 0)
    }

    @Test func `commands come in any order, and only those under way have results`() throws {
        var cell = try bench()
        var session = CommandSession(Self.id)
        let origins = (0..<4).map { _ in session.next() }
        for at in [2, 0, 3, 1, 2, 0] {
            let result = try cell.apply([CellCommand(origin: origins[at], by: "a", creation("v\(at)"))])[0]
            #expect(result.outcome == .items([.vm(VMID(1 << 40 | UInt64([2, 4, 1, 3][at])))]))
        }
        for at in [1, 3, 0] { session.settle(origins[at]) }
        // The third is under way, so that only the two before it are settled.
        _ = try cell.apply([CellCommand(origin: session.next(), by: "a", .noteTime)])
        #expect(
            try cell.apply([CellCommand(origin: origins[1], by: "a", creation("v1"))])[0].outcome
                == .refused(.commandSettled))
        #expect(
            try cell.apply([CellCommand(origin: origins[2], by: "a", creation("v2"))])[0].outcome
                == .items([.vm(VMID(1 << 40 | 1))]))
    }

    @Test func `before the feature level, and with numbers that are none, nothing is carried out`() throws {
        var cell = try CellBench(hosts: 1)
        let origin = CommandOrigin(session: Self.id, sequence: 1, settled: 0, born: .zero)
        #expect(
            try cell.apply([CellCommand(origin: origin, by: "a", creation("a"))])[0].outcome == .refused(.malformed))
        cell.level = FeatureLevel.sessions
        for (sequence, settled) in [(0, 0), (3, 3), (3, 9)] as [(UInt64, UInt64)] {
            let odd = CommandOrigin(session: Self.id, sequence: sequence, settled: settled, born: .zero)
            guard
                case .refused(.invalid(field: "origin", _)) =
                    try cell.apply([CellCommand(origin: odd, by: "a", creation("a"))])[0].outcome
            else {
                Issue.record("\(odd) was taken")
                continue
            }
        }
        #expect(try cell.rows(.all(.vms)).isEmpty)
    }

    @Test func `a session that was not used for long is forgotten, and its commands are never carried out again`()
        throws
    {
        var cell = try bench()
        var old = CommandSession(Self.id)
        let origin = old.next()
        let command = CellCommand(origin: origin, by: "a", creation("a"))
        _ = try cell.apply([command])
        let rows = cell.state.rows.count
        cell.time = cell.time.advanced(by: SessionLimits.lifetime + 1)
        try cell.must(.collectGarbage)
        // Its row and its result are gone; the deletion of the VM shows that nothing is made anew.
        #expect(cell.state.rows.count == rows - 2)
        let used = LogIndex(cell.index.rawValue - 1)
        #expect(try cell.apply([command])[0].outcome == .refused(.sessionUnknown(bornAtLeast: used)))
        var next = CommandSession(CommandOrigin.Session(node: 3, mark: 78), born: used)
        #expect(try cell.apply([CellCommand(origin: next.next(), by: "a", .noteTime)])[0].outcome == .done)
    }

    @Test func `the command that forgets old sessions may be of one of them`() throws {
        var cell = try bench()
        var sessions = [CommandSession(Self.id), CommandSession(CommandOrigin.Session(node: 4, mark: 78))]
        _ = try cell.apply([CellCommand(origin: sessions[0].next(), by: "a", .noteTime)])
        for i in 0...1 {
            cell.time = cell.time.advanced(by: SessionLimits.lifetime + 1)
            let command = CellCommand(origin: sessions[i].next(), by: "a", .collectGarbage)
            let first = try cell.apply([command])[0]
            #expect(first.outcome == .done)
            #expect(try cell.apply([command])[0] == first)
        }
    }

    @Test func `where there are too many sessions the one that was used the longest ago goes`() throws {
        var cell = try bench()
        func command(_ number: UInt64) -> CellCommand {
            let session = CommandOrigin.Session(node: number, mark: 1)
            return CellCommand(
                origin: CommandOrigin(session: session, sequence: 1, settled: 0, born: cell.index), by: "a", .noteTime)
        }
        for number in 1...SessionLimits.sessionsMax {
            #expect(try cell.apply([command(number)])[0].outcome == .done)
        }
        let rows = cell.state.rows.count
        let repeated = CellCommand(
            origin: CommandOrigin(
                session: CommandOrigin.Session(node: 1, mark: 1), sequence: 2, settled: 1, born: .zero), by: "a",
            .noteTime)
        #expect(try cell.apply([repeated])[0].outcome == .done)
        #expect(try cell.apply([command(5_000)])[0].outcome == .done)
        #expect(cell.state.rows.count == rows)
        #expect(try cell.apply([repeated])[0].outcome == .done, "the first was used since")
        var second = CellCommand(by: "a", .noteTime)
        second.origin = CommandOrigin(
            session: CommandOrigin.Session(node: 2, mark: 1), sequence: 2, settled: 0, born: .zero)
        guard case .refused(.sessionUnknown) = try cell.apply([second])[0].outcome else {
            Issue.record("the second is known")
            return
        }
    }

    @Test func `however many commands agents send, a cell refuses none and keeps those under way`()
        throws
    {
        var cell = try bench()
        var sessions = (0..<3).map { CommandSession(CommandOrigin.Session(node: UInt64($0), mark: 9)) }
        let begin = cell.state.rows.count
        var most = 0
        var sent = 0
        var underWay: [[CommandOrigin]] = [[], [], []]
        var late: [[CommandOrigin]] = [[], [], []]
        // `MUSTER_SCALE=1` sends all of them; a tenth fills what is kept, too.
        let wanted = getenv("MUSTER_SCALE").map { String(cString: $0) } == "1" ? 300_000 : 30_000
        while sent < wanted {
            var commands: [CellCommand] = []
            for node in 0..<3 {
                // What was answered a pack ago is settled; every seventh answer comes a pack later.
                for origin in late[node] { sessions[node].settle(origin) }
                late[node] = []
                let answered = underWay[node]
                underWay[node] = []
                for origin in answered {
                    if origin.sequence % 7 == 0 {
                        late[node].append(origin)
                    } else {
                        sessions[node].settle(origin)
                    }
                }
                for _ in 0..<80 where !sessions[node].isFull {
                    let origin = sessions[node].next()
                    underWay[node].append(origin)
                    commands.append(
                        CellCommand(
                            origin: origin, by: "n\(node) from 10.0.0.1", .setPower(VMID(9), .running, generation: nil))
                    )
                }
            }
            cell.log.removeAll()
            cell.time = cell.time.advanced(by: 10)
            let results = try cell.apply(commands)
            sent += commands.count
            let isDone = results.allSatisfy { $0.outcome == .refused(.unknownVM(VMID(9))) }
            #expect(isDone)
            if !isDone { return }
            most = max(most, cell.state.rows.count)
        }
        #expect(most - begin < 1_500, "\(most - begin) rows more than at the beginning")
    }

    private func results(_ cell: CellBench) -> (count: Int, bytes: Int) {
        let rows = cell.state.rows.filter { $0.key.first == 0x84 }
        return (rows.count, rows.reduce(0) { $0 + $1.value.count })
    }

    @Test func `results of a process that is gone go after minutes, and its commands are not carried out again`() throws
    {
        var cell = try bench()
        var gone = CommandSession(Self.id)
        let commands = (0..<300).map { CellCommand(origin: gone.next(), by: "a", creation("v\($0)")) }
        for start in stride(from: 0, to: 300, by: 100) { _ = try cell.apply(Array(commands[start..<(start + 100)])) }
        #expect(results(cell).count == 300)
        var other = CommandSession(CommandOrigin.Session(node: 4, mark: 1))
        cell.time = cell.time.advanced(by: SessionLimits.resultLifetime - 1)
        _ = try cell.apply([CellCommand(origin: other.next(), by: "b", .noteTime)])
        #expect(results(cell).count == 301, "they may be asked for still")
        cell.time = cell.time.advanced(by: SessionLimits.sweepInterval)
        _ = try cell.apply([CellCommand(origin: other.next(), by: "b", .noteTime)])
        #expect(results(cell).count == 2)
        #expect(try cell.apply([commands[7]])[0].outcome == .refused(.commandSettled))
        // It was slow, not gone: what it asks next is carried out once, as ever.
        let next = CellCommand(origin: gone.next(), by: "a", creation("next"))
        let first = try cell.apply([next])[0]
        #expect(try first.outcome != .refused(.commandSettled) && cell.apply([next]) == [first])
        #expect(try cell.rows(.all(.vms)).count == 301)
    }

    @Test func `large results of one session make room for its newer ones`() throws {
        var cell = try bench()
        let name = String(repeating: "n", count: CellLimits.nameBytesMax)
        try cell.create(name)
        let items = (0..<CellLimits.itemsMax).map { _ in
            VMCreation(name: name, tenant: "t", spec: CellBench.spec())
        }
        var session = CommandSession(Self.id)
        var commands: [CellCommand] = []
        var most = 0
        for _ in 0..<90 {
            commands.append(CellCommand(origin: session.next(), by: "a", .createVMs(items, isAtomic: false)))
            cell.log.removeAll()
            _ = try cell.apply([commands[commands.count - 1]])
            most = max(most, results(cell).bytes)
        }
        let one = results(cell).bytes / results(cell).count
        #expect(one * 90 > Int(SessionLimits.sessionBytesMax), "what is sent is more than is kept")
        #expect(most > Int(SessionLimits.sessionBytesMax) / 2 && most <= Int(SessionLimits.sessionBytesMax) + one)
        #expect(try cell.apply([commands[0]])[0].outcome == .refused(.commandSettled))
        guard case .items(let again) = try cell.apply([commands[89]])[0].outcome else {
            Issue.record("the newest result is gone")
            return
        }
        #expect(again.count == CellLimits.itemsMax)
    }

    @Test func `ids of people's own never fill a cell: the tenant's oldest result makes room`() throws {
        var cell = try bench()
        func request(_ number: Int) -> [UInt8] {
            var bytes = [UInt8](repeating: 7, count: 8)
            bytes.appendBigEndian(UInt64(number))
            return bytes
        }
        func command(_ number: Int, _ tenant: String) -> CellCommand {
            CellCommand(request: request(number), by: "a", .deleteGroup(tenant: tenant, name: "g\(number)"))
        }
        func apply(_ numbers: Range<Int>, _ tenant: String) throws {
            for start in stride(from: numbers.lowerBound, to: numbers.upperBound, by: 250) {
                let end = min(start + 250, numbers.upperBound)
                cell.log.removeAll()
                cell.time = cell.time.advanced(by: 1)
                for result in try cell.apply((start..<end).map { command($0, tenant) }) {
                    if case .refused(.unknownGroup) = result.outcome { continue }
                    Issue.record("\(result)")
                    return
                }
            }
        }
        let most = Int(CellLimits.requestsPerTenantMax)
        // The first of them at a level that knows no order of a tenant's.
        cell.level = FeatureLevel.oldest
        try apply(0..<1_000, "u")
        try apply(1_000..<1_500, "t")
        cell.level = FeatureLevel.sessions
        try apply(1_500..<1_500 + 2 * most, "t")
        #expect(try cell.slice("t")?.requestCount == UInt64(most))
        #expect(try cell.slice("u")?.requestCount == 1_000, "another tenant's stay")
        let last = 1_499 + 2 * most
        let before = cell.state
        let other = CellCommand(request: request(last), by: "a", .deleteGroup(tenant: "t", name: "other"))
        #expect(
            try cell.apply([other])[0].outcome == .refused(.requestReused), "what is remembered is no other command's")
        cell.state = before
        let again = try cell.apply([command(last, "t")])[0]
        #expect(again.revision.index < cell.index, "it was carried out before")
        let kept = cell.state.rows.count
        cell.time = cell.time.advanced(by: CellLimits.requestLifetime + 1)
        for _ in 0...(most + 1_000) / CellLimits.requestsDroppedMax { try cell.must(.collectGarbage) }
        #expect(try (cell.slice("t")?.requestCount ?? 0) == 0)
        #expect(cell.state.rows.count <= kept - 3 * most, "each has three rows")
    }

    @Test func `the root knows sessions too, and drops the oldest results of people's own`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.sessions
        var session = CommandSession(Self.id)
        let command = RootCommand(origin: session.next(), by: "a", .createSpace(name: "s", replicas: 1))
        let first = try root.apply([command])[0]
        #expect(first.outcome == .group(GroupID(1)))
        #expect(try root.apply([command, command]) == [first, first])
        session.settle(CommandOrigin(session: Self.id, sequence: 1, settled: 0, born: .zero))
        _ = try root.apply([RootCommand(origin: session.next(), .noteTime)])
        #expect(try root.apply([command])[0].outcome == .refused(.commandSettled))
        #expect(try root.all(RootSpace.self).count == 1)
        var bytes = RootBench.request(9)
        // In packs, as a leader makes them: one at a time a debug build takes minutes.
        let packs = Int(RootLimits.requestsMax) / 128 + 1
        for pack in 0..<packs {
            let commands = (0..<128).map { place in
                let number = pack * 128 + place
                bytes[0] = UInt8(truncatingIfNeeded: number)
                bytes[1] = UInt8(truncatingIfNeeded: number >> 8)
                bytes[2] = UInt8(truncatingIfNeeded: number >> 16)
                return RootCommand(request: bytes, .revokeToken(hash: RootBench.hash(3)))
            }
            root.time = root.time.advanced(by: 1)
            let results = try root.apply(commands)
            if let other = results.first(where: { $0.outcome != .refused(.unknownToken) }) {
                Issue.record("\(other)")
                return
            }
        }
        #expect(root.state.rows.count { $0.key.first == 0x43 } == Int(RootLimits.requestsMax))
    }
}
