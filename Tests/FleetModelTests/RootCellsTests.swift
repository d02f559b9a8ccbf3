import ClusterBase
import FleetModel
import Testing

@Suite struct RootCellsTests {
    private static let first = GroupID(.cell, number: 1)
    private static let second = GroupID(.cell, number: 2)

    /// A cluster of one node with two cells, the second in the region `north`.
    private func bench() throws -> RootBench {
        var root = try RootBench()
        root.level = FeatureLevel.cells
        _ = try root.apply(.createCell(name: "default", replicas: 0))
        _ = try root.apply(.createCell(name: "north", replicas: 0, region: "north", survives: .zone))
        return root
    }

    @Test func `a cell has a region and what it survives, and the map goes on with every one`() throws {
        let root = try bench()
        let view = try root.view()
        let north = try #require(view.cell("north"))
        #expect(north.region == "north" && north.survives == .zone && north.group == Self.second)
        #expect(try #require(view.cell("default")).epoch < north.epoch && view.cluster?.mapEpoch == north.epoch)
        #expect(view.firstCell?.name == "default")
    }

    @Test func `what a cell's controller proposes is in its report, within a bound, and is news`() throws {
        var root = try bench()
        var report = CellReport(group: Self.first)
        report.advice = "1 move would raise the score from 1 to 2: a from h1 to h2"
        #expect(try root.apply(.reportCell(report)) == .done)
        let known = try #require(try root.view().report(of: Self.first))
        #expect(known.advice == report.advice && !report.isNews(to: known))
        report.advice = ""
        #expect(report.isNews(to: known))
        for wrong in ["a\nb", String(repeating: "a", count: CellReport.adviceBytesMax + 1)] {
            report.advice = wrong
            #expect(try root.apply(.reportCell(report)) == .refused(.invalid(.note)))
        }
        #expect(try root.view().report(of: Self.first) == known)
    }

    @Test func `before the level is open a cell has no region, and no row says more than it did`() throws {
        var root = try RootBench()
        let outcome = try root.apply(.createCell(name: "north", replicas: 0, region: "north"))
        #expect(outcome == .refused(.malformed))
        #expect(try root.apply(.createCell(name: "default", replicas: 0)) == .done)
        #expect(try root.apply(.createCell(name: "other", replicas: 0)) == .done)
        let node = try root.node("n2")
        #expect(try root.view().cluster?.mapEpoch == 0 && root.node(node).cell == nil)
        let move = RootCommand.Operation.moveHost(node, to: Self.second, epoch: 0, .begin)
        #expect(try root.apply(move) == .refused(.malformed))
        #expect(try root.apply(.retireCell(name: "other")) == .refused(.malformed))
    }

    @Test func `a storage domain is known by the first mark, and by another only for who knows that one`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.storageMarks
        func mark(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }
        func ask(_ name: String, _ new: UInt8, before: [UInt8] = []) throws -> RootResult.Outcome {
            try root.apply(.markDomain(name: name, mark: mark(new), before: before))
        }
        #expect(try root.apply(.markDomain(name: "fast", mark: [1], before: [])) == .refused(.invalid(.hash)))
        #expect(try ask("", 1) == .refused(.invalid(.name)))
        #expect(try ask("slow", 1) == .done && ask("fast", 2) == .done && ask("fast", 2) == .done)
        #expect(try ask("fast", 3) == .refused(.domainMarked("fast")))
        #expect(try ask("fast", 3, before: mark(9)) == .refused(.domainMarked("fast")))
        #expect(try ask("fast", 3, before: mark(2)) == .done)
        let cluster = try #require(try root.view().cluster)
        #expect(cluster.domains.map(\.name) == ["fast", "slow"])
        #expect(cluster.mark(of: "fast") == mark(3) && cluster.mark(of: "other") == nil)
        for i in 2..<RootLimits.domainsMax { #expect(try ask("d\(i)", 1) == .done) }
        #expect(try ask("one-more", 1) == .refused(.tooMany(.domains)))
    }

    @Test func `the first sealing key that is named is the cluster's, and no older program names one`() throws {
        var old = try RootBench()
        #expect(try old.apply(.nameSealingKey([UInt8](repeating: 1, count: 32))) == .refused(.malformed))
        var root = try bench()
        #expect(try root.apply(.nameSealingKey([1, 2])) == .refused(.invalid(.hash)))
        let first = [UInt8](repeating: 1, count: 32)
        #expect(try root.apply(.nameSealingKey(first)) == .done)
        #expect(try root.apply(.nameSealingKey(first)) == .done)
        #expect(try root.apply(.nameSealingKey([UInt8](repeating: 2, count: 32))) == .refused(.sealingKeyNamed))
        #expect(try root.view().cluster?.sealingKey == first)
    }

    @Test func `a new node gets the cell of its region with the fewest hosts, and else the first`() throws {
        var root = try bench()
        _ = try root.apply(.createCell(name: "north-2", replicas: 0, region: "north"))
        var cells: [GroupID?] = []
        for (name, region) in [("a", "north"), ("b", "north"), ("c", "north"), ("d", "south"), ("e", "")] {
            let id = try root.node(name, region: region)
            cells.append(try root.view().assignment(of: id)?.cell)
        }
        let third = GroupID(.cell, number: 3)
        #expect(cells == [Self.second, third, Self.second, Self.first, Self.first])
        let epochs = try root.view().nodes.map(\.cellEpoch).filter { $0 > 0 }
        #expect(epochs == epochs.sorted() && Set(epochs).count == 3, "each assignment is under an epoch of its own")
    }

    @Test func `a host moves in two steps, planned for its assignment, and every step may be said again`() throws {
        var root = try bench()
        let node = NodeID(1)
        func move(_ step: RootCommand.MoveStep, _ epoch: UInt64, to: GroupID = Self.second) -> RootCommand.Operation {
            .moveHost(node, to: to, epoch: epoch, step)
        }
        #expect(try root.apply(move(.finish, 0)) == .refused(.assignmentChanged(0)), "nobody began it")
        #expect(
            try root.apply(move(.begin, 0, to: GroupID(.cell, number: 9)))
                == .refused(.unknownGroup(GroupID(.cell, number: 9))))
        for _ in 0..<2 { #expect(try root.apply(move(.begin, 0)) == .done) }
        #expect(try root.view().assignment(of: node)?.cell == Self.first, "until its cell has let it go")
        for _ in 0..<2 { #expect(try root.apply(move(.finish, 0)) == .done) }
        let (cell, epoch) = try #require(try root.view().assignment(of: node))
        #expect(cell == Self.second && epoch > 0)
        #expect(try root.node(node).movesTo == nil)
        #expect(try root.apply(move(.begin, 0, to: Self.first)) == .refused(.assignmentChanged(epoch)), "late")
        #expect(
            try root.apply(.moveHost(NodeID(7), to: Self.first, epoch: 0, .begin)) == .refused(.unknownNode(NodeID(7))))
    }

    @Test func `a move that is called off leaves the host where it was under a later epoch, and no late step counts`()
        throws
    {
        var root = try bench()
        let node = NodeID(1)
        _ = try root.apply(.moveHost(node, to: Self.second, epoch: 0, .begin))
        #expect(try root.apply(.moveHost(node, to: Self.first, epoch: 0, .cancel)) == .done)
        let (cell, epoch) = try #require(try root.view().assignment(of: node))
        #expect(cell == Self.first && epoch > 0)
        #expect(
            try root.apply(.moveHost(node, to: Self.second, epoch: 0, .finish)) == .refused(.assignmentChanged(epoch)))
    }

    @Test func `a cell that keeps a region's names for several others stays until there is one of them`() throws {
        var root = try bench()
        // `north` keeps them.
        for name in ["north-2", "north-3"] {
            #expect(try root.apply(.createCell(name: name, replicas: 0, region: "north")) == .done)
        }
        #expect(try root.apply(.retireCell(name: "north")) == .refused(.cellKeepsNames("north")))
        #expect(try root.apply(.retireCell(name: "north-3")) == .group(GroupID(.cell, number: 4)))
        #expect(try root.apply(.retireCell(name: "north")) == .group(Self.second))
        #expect(try root.view().cells.map(\.name) == ["default", "north-2"])
    }

    @Test func `a cell is retired without hosts, the first one never, and its number is not given out again`() throws {
        var root = try bench()
        #expect(try root.apply(.retireCell(name: "default")) == .refused(.firstCell("default")))
        #expect(try root.apply(.retireCell(name: "south")) == .refused(.unknownCell("south")))
        let node = try root.node("n2", region: "north")
        #expect(try root.apply(.retireCell(name: "north")) == .refused(.cellHasHosts("north")))
        let epoch = try root.node(node).cellEpoch
        _ = try root.apply(.moveHost(node, to: Self.first, epoch: epoch, .begin))
        #expect(try root.apply(.retireCell(name: "north")) == .refused(.cellHasHosts("north")), "it may come back")
        _ = try root.apply(.moveHost(node, to: Self.first, epoch: epoch, .finish))
        #expect(try root.apply(.retireCell(name: "north")) == .group(Self.second))
        #expect(try root.view().placement(Self.second) == nil && root.view().cells.count == 1)
        _ = try root.apply(.createCell(name: "north", replicas: 0, region: "north"))
        #expect(try root.view().cell("north")?.group == GroupID(.cell, number: 3))
    }

    @Test func `what a cell has room for is kept with the root's time, and goes with the cell`() throws {
        var root = try bench()
        var report = CellReport(group: Self.second)
        report.hosts = 2
        report.free = Resources(cpuMillis: 5, memoryMiB: 6, diskMiB: 7, networkMbps: 8)
        report.zones = ["a", "b"]
        report.at = LogTime(1)
        #expect(try root.apply(.reportCell(report)) == .done)
        let kept = try #require(try root.view().report(of: Self.second))
        #expect(kept.at == root.time && kept.free == report.free && kept.zones == ["a", "b"])
        let unknown = GroupID(.cell, number: 7)
        #expect(try root.apply(.reportCell(CellReport(group: unknown))) == .refused(.unknownGroup(unknown)))
        _ = try root.apply(.retireCell(name: "north"))
        #expect(try root.view().report(of: Self.second) == nil)
    }

    @Test func `after a forced recovery of the root assignments have epochs that lost history has not given out`()
        throws
    {
        var root = try bench()
        let before = try #require(try root.view().cluster?.mapEpoch)
        let record = RecoveryRecord(group: .root, epoch: Epoch(1), possibleLossAfter: LogIndex(1), reason: "")
        _ = try root.apply(.recordRecovery(record))
        let node = try root.node("n2", region: "north")
        #expect(try root.node(node).cellEpoch > before + 1_000_000)
    }

    @Test func `a report's rooms hold what any of its hosts holds, and nothing else while they are few`() throws {
        var random = PRNG(seed: 7)
        for hosts in [3, 40] {
            for _ in 0..<200 {
                func draw() -> Resources {
                    Resources(
                        cpuMillis: Int64(random.below(100)), memoryMiB: Int64(random.below(100)),
                        diskMiB: Int64(random.below(3)), networkMbps: Int64(random.below(2)))
                }
                let frees = (0..<hosts).map { _ in draw() }
                var report = CellReport(group: Self.first)
                for free in frees {
                    report.hosts += 1
                    report.largest.vector = pointwiseMax(report.largest.vector, free.vector)
                    report.add(room: free)
                }
                #expect(report.rooms.count <= CellReport.roomsMax)
                let demand = draw()
                let isHeld = frees.contains { $0.holds(demand) }
                if hosts <= CellReport.roomsMax {
                    #expect(report.takesOne(demand) == isHeld)
                } else if isHeld {
                    #expect(report.takesOne(demand))
                }
                let command = RootCommand(by: "c", .reportCell(report))
                #expect(try RootCommand.decode(command.encoded(), level: 3).get() == command)
                #expect(!report.isNews(to: report))
            }
        }
    }

    @Test func `it is news that a host has free what none had together before`() {
        func report(_ rooms: [Resources]) -> CellReport {
            var report = CellReport(group: Self.first)
            report.hosts = 2
            report.offered = Resources(cpuMillis: 32_000, memoryMiB: 65_536)
            report.free = Resources(cpuMillis: 8_000, memoryMiB: 8_192)
            report.largest = report.free
            report.rooms = rooms
            return report
        }
        let apart = report([Resources(cpuMillis: 8_000), Resources(memoryMiB: 8_192)])
        #expect(report([Resources(cpuMillis: 8_000, memoryMiB: 8_192)]).isNews(to: apart))
        #expect(!report([Resources(cpuMillis: 7_500), Resources(memoryMiB: 8_000)]).isNews(to: apart))
    }
}
