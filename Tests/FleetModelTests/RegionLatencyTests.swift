import ClusterBase
import Testing

@testable import FleetModel

/// Round trips between regions: measured by nodes, set by people.
@Suite struct RegionLatencyTests {
    /// Node 1 in north, 2 in south, 3 in east.
    private func root() throws -> (RootBench, [NodeID]) {
        var root = try RootBench()
        root.level = FeatureLevel.nearness
        _ = try root.apply(.reportNode(NodeID(1), RootBench.about("n1", region: "north")))
        #expect(try root.node(NodeID(1)).about.locality.region == "north")
        let nodes = [NodeID(1), try root.node("n2", region: "south"), try root.node("n3", region: "east")]
        return (root, nodes)
    }

    @Test func `what nodes measure counts in both directions, the latest of it, and what is set before it`() throws {
        var (root, nodes) = try self.root()
        #expect(try root.apply(.reportLatencies(nodes[0], [RegionRoundTrip("south", micros: 20_000)])) == .done)
        var known = try root.view().latencies
        #expect(known.micros("north", "south") == 20_000 && known.micros("south", "north") == 20_000)
        #expect(
            known.micros("north", "east") == nil && known.micros("north", "north") == 0 && known.micros("", "") == nil)
        #expect(known.farthest("north", from: ["south", "north"]) == 20_000)
        #expect(known.farthest("north", from: ["south", "east"]) == nil)
        root.time = root.time.advanced(by: 1_000)
        #expect(try root.apply(.reportLatencies(nodes[1], [RegionRoundTrip("north", micros: 30_000)])) == .done)
        known = try root.view().latencies
        #expect(known.micros("north", "south") == 30_000)
        #expect(try root.apply(.setLatency("south", "north", micros: 5_000)) == .done)
        #expect(try root.view().latencies.micros("north", "south") == 5_000)
        #expect(try root.apply(.setLatency("north", "south", micros: 0)) == .done)
        #expect(try root.view().latencies.micros("north", "south") == 30_000)
    }

    @Test func `what makes no sense is refused, and a region without nodes is forgotten unless somebody set it`() throws
    {
        var (root, nodes) = try self.root()
        #expect(
            try root.apply(.reportLatencies(NodeID(99), [RegionRoundTrip("south", micros: 1)]))
                == .refused(.unknownNode(NodeID(99))))
        for micros in [0, RegionRoundTrip.microsMax + 1] {
            #expect(
                try root.apply(.reportLatencies(nodes[0], [RegionRoundTrip("south", micros: micros)]))
                    == .refused(.invalid(.region)))
        }
        #expect(try root.apply(.setLatency("north", "north", micros: 9)) == .refused(.invalid(.region)))
        #expect(try root.apply(.setLatency("north", "west", micros: 9)) == .refused(.unknownRegion("west")))
        // Of a region that nobody is in, nothing is kept.
        #expect(try root.apply(.reportLatencies(nodes[0], [RegionRoundTrip("west", micros: 9)])) == .done)
        #expect(try root.view().latencies.micros("north", "west") == nil)
        #expect(
            try root.apply(
                .reportLatencies(
                    nodes[0], [RegionRoundTrip("east", micros: 9_000), RegionRoundTrip("south", micros: 8_000)]))
                == .done)
        #expect(try root.apply(.reportLatencies(nodes[2], [RegionRoundTrip("south", micros: 7_000)])) == .done)
        #expect(try root.apply(.setLatency("north", "east", micros: 6_000)) == .done)
        #expect(try root.apply(.removeNode(nodes[2], isForced: true)) == .node(nodes[2]))
        #expect(try root.apply(.reportLatencies(nodes[0], [RegionRoundTrip("south", micros: 8_000)])) == .done)
        let known = try root.view().latencies
        #expect(known.micros("east", "south") == nil, "its row went with its nodes")
        #expect(known.micros("north", "east") == 6_000 && known.micros("north", "south") == 8_000)
    }

    @Test func `commands and rows are read as they were written, and want feature level 3`() throws {
        for operation in [
            RootCommand.Operation.reportLatencies(
                NodeID(300), [RegionRoundTrip("south", micros: 300), RegionRoundTrip("west", micros: 9)]),
            .setLatency("north", "south", micros: 20_000),
        ] {
            let bytes = RootCommand(by: "ada", operation).encoded()
            #expect(try RootCommand.decode(bytes, level: 3).get().operation == operation)
            #expect(operation.level == 3 && RootCommand.decode(bytes, level: 2) == .failure(.malformed))
        }
        var links = RegionLinks("north")
        links.change("west") { ($0.micros, $0.node, $0.at, $0.setMicros) = (7, NodeID(3), LogTime(9), 8) }
        links.change("east") { $0.setMicros = 1 }
        #expect(links.links.map(\.region) == ["east", "west"] && RegionLinks.decode(links.encoded()) == links)
    }

    @Test func `a VM says near what it is to be, and a bound without a region is refused`() throws {
        var spec = VMDescription(resources: Resources(cpuMillis: 100, memoryMiB: 64))
        #expect(spec.level == FeatureLevel.oldest)
        (spec.near, spec.nearWithin, spec.cellChoice) = (["north", "south"], 20, .cheap)
        #expect(spec.level == FeatureLevel.nearness && VMDescription(spec.wire) == spec)
        #expect(CellCheck.refusal(of: spec) == nil)
        spec.near = []
        let refusal = try #require(CellCheck.refusal(of: spec))
        #expect("\(refusal)".contains("name some there"), "\(refusal)")
    }
}
