import ClusterBase
package import FleetModel

/// Shared disks that a VM left behind, as a list shows them.
package struct RemainsInfo: Hashable, Sendable, Shaped {
    package var vm: UInt64
    package var name: String
    package var tenant: String
    package var cell: String
    package var since: Int64
    /// `DOMAIN/NAME`, of those that are to be kept.
    package var kept: [String]
    /// The same, of those that are to go.
    package var leaving: [String]

    package init(_ remains: CellRemains, cell: String) {
        vm = remains.vm.rawValue
        name = remains.name
        tenant = remains.tenant
        self.cell = cell
        since = Int64(clamping: remains.since.rawValue / 1_000)
        kept = remains.disks.filter(\.isKept).map { "\($0.domain)/\($0.name)" }
        leaving = remains.disks.filter { !$0.isKept }.map { "\($0.domain)/\($0.name)" }
    }

    package static let shape = Shape(
        "Remains",
        [
            Field("vm", .integer, "the number of the VM, which is gone or goes on without them"),
            Field("name", .string, "what it was called"),
            Field("tenant", .string, "whose it was"), Field("cell", .string, "the cell that it was of"),
            Field("since", .integer, "when it left the last of them, in seconds since 1970"),
            Field("kept", .strings, "shared disks that are to be kept, as DOMAIN/NAME"),
            Field("leaving", .strings, "shared disks that a host is to remove as soon as one reaches them"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("vm", vm), JSONMember("name", name), JSONMember("tenant", tenant), JSONMember("cell", cell),
            JSONMember("since", since), JSONMember("kept", kept), JSONMember("leaving", leaving),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        vm = UInt64(clamping: object.integer("vm"))
        name = object.text("name")
        tenant = object.text("tenant")
        cell = object.text("cell")
        since = object.integer("since")
        kept = object.strings("kept")
        leaving = object.strings("leaving")
    }
}
