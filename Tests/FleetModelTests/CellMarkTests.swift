import ClusterBase
import FleetModel
import Testing

/// Lists of VMs of one phase, one group or one label.
@Suite struct CellMarkTests {
    /// Counts what is read.
    private final class Count { var rows = 0 }
    private struct Counted: OrderedReader {
        let state: NaiveState
        let count: Count
        func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
            count.rows += 1
            return try state.value(for: key)
        }
        func scan(_ range: KeyRange, _ body: ([UInt8], [UInt8]) -> Bool) throws(StoreError) {
            try state.scan(range) { key, value in
                count.rows += 1
                return body(key, value)
            }
        }
    }

    private func read(_ query: CellQuery, _ state: NaiveState) throws -> (ids: [VMID], rows: Int) {
        let count = Count()
        let answer = try Cell.read(query, Counted(state: state, count: count))
        guard case .rows(let rows, _) = answer.body else { return ([], count.rows) }
        let ids = rows.compactMap { if case .vm(let id, _?)? = $0.content { id } else { nil } }
        return (ids, count.rows)
    }

    private func bench(level: UInt32 = FeatureLevel.newest) throws -> (cell: CellBench, ids: [VMID]) {
        var cell = try CellBench(hosts: 8)
        cell.level = level
        for name in ["web", "db"] {
            try cell.must(
                .putGroup(
                    CellGroup(
                        name: name, tenant: "t", rule: .antiAffinity(perDomainMax: 50), scope: .host, isHard: false)))
        }
        var ids: [VMID] = []
        for part in 0..<5 {
            let items = (0..<100).map { i in
                var spec = CellBench.spec(0, memory: 16)
                spec.resources.cpuMillis = 10
                let n = part * 100 + i
                if n % 100 == 7 { spec.groups = ["web"] }
                spec.labels = [Named("env", n % 50 == 3 ? "prod" : "test"), Named("n", "\(n)")]
                return VMCreation(name: "v\(n)", tenant: "t", spec: spec)
            }
            guard case .items(let made) = try cell.apply(.createVMs(items, isAtomic: false)) else { continue }
            ids += made.compactMap { if case .vm(let id) = $0 { id } else { nil } }
        }
        for (n, id) in ids.enumerated() where n % 125 != 0 { try cell.place(id, on: UInt64(n % 8 + 1)) }
        return (cell, ids)
    }

    @Test func `a list of few reads few rows`() throws {
        var (cell, ids) = try bench()
        #expect(ids.count == 500)
        for (mark, wanted) in [
            (CellMark.phase(.waiting), ids.enumerated().filter { $0.offset % 125 == 0 }),
            (.group("web"), ids.enumerated().filter { $0.offset % 100 == 7 }),
            (.label("env", "prod"), ids.enumerated().filter { $0.offset % 50 == 3 }),
            (.label("n", "77"), [(offset: 77, element: ids[77])]), (.label("n", "none"), []), (.group("db"), []),
        ] {
            let found = try read(.vmsMarked(mark, after: nil, limit: 0), cell.state)
            #expect(found.ids == wanted.map(\.element), "\(mark)")
            // The summary, and of each its row in the index and its own.
            #expect(found.rows <= 2 * wanted.count + 3, "\(mark): \(found.rows) rows")
            // Page by page it is the same.
            var pages: [VMID] = []
            while true {
                let page = try read(.vmsMarked(mark, after: pages.last, limit: 3), cell.state).ids
                if page.isEmpty { break }
                pages += page
            }
            #expect(pages == found.ids)
        }
        #expect(try read(.list(.vms, after: nil, limit: 0), cell.state).rows > 500)
        // It follows what changes.
        var spec = try cell.vm(ids[7]).spec
        spec.groups = ["db"]
        spec.labels = [Named("env", "prod")]
        try cell.must(.updateVM(ids[7], spec, generation: nil))
        try cell.must(.deleteVM(ids[0], generation: nil))
        #expect(try !read(.vmsMarked(.group("web"), after: nil, limit: 0), cell.state).ids.contains(ids[7]))
        #expect(try read(.vmsMarked(.group("db"), after: nil, limit: 0), cell.state).ids == [ids[7]])
        #expect(try read(.vmsMarked(.label("env", "prod"), after: nil, limit: 0), cell.state).ids.contains(ids[7]))
        #expect(try read(.vmsMarked(.label("n", "7"), after: nil, limit: 0), cell.state).ids.isEmpty)
        #expect(try !read(.vmsMarked(.phase(.waiting), after: nil, limit: 0), cell.state).ids.contains(ids[0]))
    }

    @Test func `what was there before level 3 is found before and after it has its marks`() throws {
        var (cell, ids) = try bench(level: FeatureLevel.conditionalDeletes)
        let query = CellQuery.vmsMarked(.phase(.waiting), after: nil, limit: 0)
        let waiting = ids.enumerated().filter { $0.offset % 125 == 0 }.map(\.element)
        // All are given, for a filter to look at.
        #expect(try read(query, cell.state).ids == ids)
        cell.level = FeatureLevel.newest
        var entries = 0
        while try read(query, cell.state).ids.count > waiting.count {
            // Meanwhile VMs come, go and change on both sides of where it is.
            try cell.must(.setPower(ids[entries % 2 == 0 ? 30 - entries : 499 - entries], .paused, generation: nil))
            entries += 1
            try #require(entries < 40)
        }
        #expect(entries == (500 + CellLimits.markedAtOnceMax) / CellLimits.markedAtOnceMax)
        #expect(try read(query, cell.state).ids == waiting)
        #expect(try read(.vmsMarked(.group("web"), after: nil, limit: 0), cell.state).ids.count == 5)
    }
}
