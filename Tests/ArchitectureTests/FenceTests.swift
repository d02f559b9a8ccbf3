import Foundation
import Testing

/// The manifest refuses what the table of rooms must never say. Each test breaks a copy of it in one place.
@Suite struct FenceTests {
    private func manifest() throws -> String {
        try String(contentsOf: House.root.appendingPathComponent("Package.swift"), encoding: .utf8)
    }

    private func row(_ name: String, _ imports: String, in text: String) throws -> String {
        let whole = "Room(name: \"ClusterBase\", layer: .base, imports: [\"CProcessor\"])"
        let old = try #require(text.ranges(of: whole).first)
        return text.replacingCharacters(in: old, with: "Room(name: \"\(name)\", layer: .base, imports: [\(imports)])")
    }

    @Test func `the manifest as it is passes its own fence`() throws {
        let rooms = try Manifest.rooms(try Manifest.dump(try manifest()).get())
        #expect(rooms.contains { $0.name == "ClusterBase" })
    }

    @Test func `a pure target that depends on an impure one fails the manifest`() throws {
        let broken = try row("ClusterBase", "\"muster\"", in: try manifest())
        guard case .failure(let refused) = try Manifest.dump(broken) else {
            Issue.record("ClusterBase was allowed to depend on muster")
            return
        }
        #expect(refused.description.contains("ClusterBase is pure and may not depend on muster"))
    }

    @Test func `an arrow to a target that is not there fails the manifest`() throws {
        let broken = try row("ClusterBase", "\"Cellar\"", in: try manifest())
        guard case .failure(let refused) = try Manifest.dump(broken) else {
            Issue.record("ClusterBase was allowed to depend on Cellar")
            return
        }
        #expect(refused.description.contains("Cellar, which is no room of this house"))
    }
}
