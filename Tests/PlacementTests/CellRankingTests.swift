import ClusterBase
import FleetModel
import Placement
import Testing

@Suite struct CellRankingTests {
    private func report(
        _ number: UInt64, hosts: UInt64 = 4, cores: Int64 = 32, free: Int64, largest: Int64 = 8, waiting: UInt64 = 0,
        zones: [String] = ["a"]
    ) -> CellReport {
        var report = CellReport(group: GroupID(.cell, number: number))
        report.hosts = hosts
        report.offered = Resources(cpuMillis: cores * 1_000, memoryMiB: cores * 1_024)
        report.free = Resources(cpuMillis: free * 1_000, memoryMiB: free * 1_024)
        report.largest = Resources(cpuMillis: largest * 1_000, memoryMiB: largest * 1_024)
        report.waiting = waiting
        report.zones = zones
        return report
    }

    private func order(_ wish: CellWish, _ reports: [CellReport], regions: [String] = []) -> [UInt64] {
        let offers = reports.enumerated().map { i, report in
            CellOffer(group: report.group, region: i < regions.count ? regions[i] : "", report: report)
        }
        return CellRanking.order(wish, offers).map(\.number)
    }

    private func wish(_ cores: Int64 = 1, count: Int = 1) -> CellWish {
        CellWish(demand: Resources(cpuMillis: cores * 1_000, memoryMiB: 512), count: count)
    }

    @Test func `the emptiest comes first, and of equals the first made`() {
        #expect(order(wish(), [report(1, free: 10), report(2, free: 20), report(3, free: 15)]) == [2, 3, 1])
        #expect(order(wish(), [report(2, free: 10), report(1, free: 10)]) == [1, 2])
    }

    @Test func `room for one on some host comes before room that no host has, and room for all before both`() {
        let reports = [report(1, free: 30, largest: 2), report(2, free: 6, largest: 6), report(3, free: 12)]
        #expect(order(wish(4), reports) == [3, 2, 1])
        #expect(order(wish(4, count: 3), reports) == [3, 2, 1])
        #expect(order(wish(2, count: 7), reports) == [1, 3, 2])
        #expect(order(wish(1, count: .max), reports).count == 3, "more than there can be is no more than all")
    }

    @Test func `the region comes before emptiness, and room before the region`() {
        var near = wish(4)
        near.region = "north"
        let reports = [report(1, free: 30), report(2, free: 10), report(3, free: 2, largest: 1)]
        #expect(order(near, reports, regions: ["south", "north", "north"]) == [2, 1, 3])
    }

    @Test func `where others wait, in no zone that is allowed, without hosts or unheard of comes later, and all come`()
    {
        #expect(order(wish(), [report(1, free: 30, waiting: 3), report(2, free: 10)]) == [2, 1])
        var inB = wish()
        inB.zones = ["b"]
        #expect(order(inB, [report(1, free: 30), report(2, free: 10, zones: ["a", "b"])]) == [2, 1])
        #expect(order(wish(), [report(1, hosts: 0, free: 0, largest: 0), report(2, free: 1, largest: 1)]) == [2, 1])
        let unheard = CellOffer(group: GroupID(.cell, number: 9), region: "", report: nil)
        let full = CellOffer(group: GroupID(.cell, number: 1), region: "", report: report(1, free: 0, largest: 0))
        let roomy = CellOffer(group: GroupID(.cell, number: 2), region: "", report: report(2, free: 9))
        #expect(CellRanking.order(wish(), [full, unheard, roomy]).map(\.number) == [2, 9, 1])
    }

    /// North and south are 40 ms apart, south and east 10, and of west nobody knows anything.
    private let latencies: RegionLatencies = {
        var south = RegionLinks("south")
        south.links = [RegionLinks.Link("east"), RegionLinks.Link("north")]
        (south.links[0].micros, south.links[1].micros) = (10_000, 40_000)
        return RegionLatencies([south])
    }()

    private func ordered(_ wish: CellWish, _ regions: [String], costs: [UInt64] = []) -> [String] {
        let offers = regions.enumerated().map { i, region in
            var known = report(UInt64(i + 1), free: Int64(10 + i))
            if i < costs.count { known.cost = costs[i] }
            return CellOffer(group: known.group, region: region, report: known)
        }
        return CellRanking.order(wish, offers, latencies).map { regions[Int($0.number) - 1] }
    }

    @Test func `near a region comes before emptiness and the own region, the shortest way first, an unknown one last`()
    {
        var near = wish()
        (near.near, near.region) = (["south"], "west")
        #expect(ordered(near, ["west", "north", "east", "south"]) == ["south", "east", "north", "west"])
        // Near two: the longer of both ways counts, and of north and east to each other none is known.
        near.near = ["south", "east"]
        #expect(ordered(near, ["north", "south", "east"]) == ["east", "south", "north"])
        // Room comes first.
        let full = CellOffer(group: GroupID(.cell, number: 1), region: "south", report: report(1, free: 0, largest: 0))
        let far = CellOffer(group: GroupID(.cell, number: 2), region: "north", report: report(2, free: 9))
        near.near = ["south"]
        #expect(CellRanking.order(near, [full, far], latencies).map(\.number) == [2, 1])
    }

    @Test func `a bound on the way rules out what is farther, and what nobody knows; without one nothing is`() {
        var near = wish()
        near.near = ["south"]
        let regions = ["south", "east", "north", "west", ""]
        #expect(regions.allSatisfy { !near.isTooFar($0, latencies) })
        near.nearWithin = 10
        #expect(regions.filter { near.isTooFar($0, latencies) } == ["north", "west", ""])
        near.nearWithin = 9
        #expect(!near.isTooFar("south", latencies) && near.isTooFar("east", latencies))
    }

    @Test func `VMs that are spread over regions go round them, the region of the best cell first`() {
        let order = [(1, "a"), (2, "b"), (3, "a"), (4, "c")].map { (group: GroupID(.cell, number: $0.0), region: $0.1) }
        func turns(_ isHard: Bool) -> [[UInt64]] { CellRanking.turns(order, isHard: isHard).map { $0.map(\.number) } }
        #expect(turns(true) == [[1, 3], [2], [4]])
        #expect(turns(false) == [[1, 3, 2, 4], [2, 1, 3, 4], [4, 1, 2, 3]])
    }

    @Test func `the cost tells apart what is as near, and comes first for what is to be cheap; nobody's comes last`() {
        var cheap = wish()
        #expect(ordered(cheap, ["a", "b", "c"], costs: [0, 7, 5]) == ["c", "b", "a"])
        cheap.near = ["south"]
        #expect(ordered(cheap, ["east", "south", "north"], costs: [3, 9, 1]) == ["south", "east", "north"])
        cheap.choice = .cheap
        #expect(
            ordered(cheap, ["east", "south", "north", "west"], costs: [3, 9, 1]) == ["north", "east", "south", "west"])
        #expect(ordered(cheap, ["east", "south"], costs: [3, 3]) == ["south", "east"])
    }

    @Test func `a report is news when somebody would choose another way by it`() {
        let known = report(1, free: 20)
        #expect(!report(1, free: 20).isNews(to: known))
        var less = known
        less.free.cpuMillis -= 900
        #expect(!less.isNews(to: known))
        less.free.cpuMillis -= 200
        #expect(less.isNews(to: known))
        #expect(report(1, hosts: 3, free: 20).isNews(to: known))
        #expect(report(1, free: 20, waiting: 1).isNews(to: known))
        #expect(!report(1, free: 20, waiting: 2).isNews(to: report(1, free: 20, waiting: 1)))
        #expect(report(1, free: 20, zones: ["a", "b"]).isNews(to: known))
    }
}
