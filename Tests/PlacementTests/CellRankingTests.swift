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
